//! What a URL asks for: `?table=todos&filter=done=eq.false`, `?topic=room&presence=true`, `?join={…}`.
//!
//! Parameters are read in order: `table` begins a subscription to rows, and what is about rows behind it is about that one;
//! `topic` begins a channel, and tables behind it are of that channel. Tables in front of the first `topic` make a channel of
//! their own, which takes no place in any room. Nothing is guessed: what is not understood is refused by its name.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Number, Value, json};

use crate::change::Since;
use crate::hub::Lane;
use crate::topic;

/// What a request asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// At least one; no two have one topic or one tag.
    pub(super) joins: Vec<Join>,
    /// From where it wants to go on, if it says so.
    pub(super) since: Option<String>,
    /// How long a poll may wait.
    pub(super) wait: Option<Duration>,
    /// Which join has a tag: one request may name thousands.
    tags: HashMap<u32, usize>,
}

/// One channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Join {
    /// `realtime:…`.
    pub(super) topic: String,
    /// The payload of its `phx_join`, with a `config`.
    pub(super) payload: Map<String, Value>,
}

/// A parameter that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {problem}")]
pub(super) struct BadParameter {
    pub(super) parameter: String,
    pub(super) problem: String,
}

/// Longest name that is repeated in an error, in characters.
const LONGEST_NAME: usize = 64;

impl BadParameter {
    fn new(parameter: &str, problem: impl Into<String>) -> Self {
        Self {
            parameter: parameter.chars().take(LONGEST_NAME).collect(),
            problem: problem.into(),
        }
    }
}

type Outcome<T = ()> = Result<T, BadParameter>;

/// A channel that is being read.
#[derive(Default)]
struct Draft {
    topic: Option<String>,
    config: Map<String, Value>,
    /// What was said about rows in front of the first table.
    early: Map<String, Value>,
    items: Vec<Map<String, Value>>,
}

impl Asked {
    /// Reads decoded parameters.
    pub(super) fn read(parameters: &[(String, String)]) -> Outcome<Self> {
        let mut asked = Self::default();
        let mut draft = Draft::default();
        for (name, value) in parameters {
            match name.as_str() {
                // Read by whoever lets requests in.
                "apikey" | "access_token" => {}
                "topic" | "channel" => {
                    asked.add(std::mem::take(&mut draft).join()?)?;
                    if value.is_empty() {
                        return Err(BadParameter::new(name, "a name is missing"));
                    }
                    draft.topic = Some(full_topic(value));
                }
                "join" => asked.add(Some(whole(value)?))?,
                "private" | "presence" => draft.flag(name, value)?,
                "table" => draft.table(value)?,
                "schema" | "filter" | "select" | "event" | "transitions" | "snapshot" | "truncate"
                | "conflate" | "max_rate" => {
                    draft.about_rows(name, value)?;
                }
                "since" | "cursor" | "last_event_id" => once(name, &mut asked.since, since(name, value)?)?,
                "wait" => once(name, &mut asked.wait, wait(value)?)?,
                _ => return Err(BadParameter::new(name, "is not known here")),
            }
        }
        asked.add(draft.join()?)?;
        match asked.joins.is_empty() {
            true => Err(BadParameter::new(
                "table",
                "name at least one table, topic or join",
            )),
            false => Ok(asked),
        }
    }

    fn add(&mut self, join: Option<Join>) -> Outcome {
        let Some(join) = join else { return Ok(()) };
        let before = self.tags.insert(Lane::tag(&join.topic), self.joins.len());
        if let Some(other) = before.and_then(|before| self.joins.get(before)) {
            let problem = match other.topic == join.topic {
                true => "is there twice",
                // Places name channels by their tags.
                false => "cannot be told from another channel of this request: use two requests",
            };
            return Err(BadParameter::new("topic", format!("{} {problem}", join.topic)));
        }
        self.joins.push(join);
        Ok(())
    }
}

impl Draft {
    fn table(&mut self, value: &str) -> Outcome {
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() && !self.items.is_empty() {
            return Err(ambiguous(&early));
        }
        let mut item = early;
        // A name with a dot in it takes a `schema` of its own.
        match value.split_once('.').filter(|_| !item.contains_key("schema")) {
            Some((schema, table)) if !schema.is_empty() && !table.is_empty() => {
                item.insert("schema".to_owned(), schema.into());
                item.insert("table".to_owned(), table.into());
            }
            _ if value.is_empty() => return Err(BadParameter::new("table", "a name is missing")),
            _ => drop(item.insert("table".to_owned(), value.into())),
        }
        self.items.push(item);
        Ok(())
    }

    fn about_rows(&mut self, name: &str, value: &str) -> Outcome {
        let value = match name {
            "event" => event(value)?,
            "select" => select(value)?,
            "transitions" | "snapshot" | "truncate" | "conflate" => boolean(name, value)?.into(),
            "max_rate" => number(name, value)?,
            _ if value.trim().is_empty() => return Err(BadParameter::new(name, "is empty")),
            _ => Value::from(value),
        };
        let item = self.items.last_mut().unwrap_or(&mut self.early);
        match item.insert(name.to_owned(), value) {
            Some(_) => Err(BadParameter::new(name, "is there twice for one table")),
            None => Ok(()),
        }
    }

    fn flag(&mut self, name: &str, value: &str) -> Outcome {
        if self.topic.is_none() {
            return Err(BadParameter::new(
                name,
                "belongs behind the topic that it is about",
            ));
        }
        let value = boolean(name, value)?;
        let value = match name {
            "presence" => json!({ "enabled": value }),
            _ => value.into(),
        };
        match self.config.insert(name.to_owned(), value) {
            Some(_) => Err(BadParameter::new(name, "is there twice for one topic")),
            None => Ok(()),
        }
    }

    fn join(mut self) -> Outcome<Option<Join>> {
        if !self.early.is_empty() {
            return Err(ambiguous(&self.early));
        }
        for item in &mut self.items {
            item.entry("event").or_insert_with(|| "*".into());
            item.entry("schema").or_insert_with(|| "public".into());
        }
        let topic = match (self.topic, self.items.first()) {
            (None, None) => return Ok(None),
            (Some(topic), _) => topic,
            (None, Some(item)) => {
                self.config
                    .insert("broadcast".to_owned(), json!({ "enabled": false }));
                let name = |key| item.get(key).and_then(Value::as_str).unwrap_or_default();
                format!("{}{}:{}", topic::PREFIX, name("schema"), name("table"))
            }
        };
        let items = self.items.into_iter().map(Value::Object).collect();
        self.config
            .insert("postgres_changes".to_owned(), Value::Array(items));
        let payload = [("config".to_owned(), Value::Object(self.config))];
        Ok(Some(Join {
            topic,
            payload: payload.into_iter().collect(),
        }))
    }
}

/// Said in front of a table, where it is not told which one it is about.
fn ambiguous(early: &Map<String, Value>) -> BadParameter {
    let name = early.keys().next().map_or("table", String::as_str);
    BadParameter::new(name, "belongs behind the table that it is about")
}

/// The name of a channel, as `supabase.channel()` takes it, or as events say it.
fn full_topic(name: &str) -> String {
    match topic::sub_topic(name) {
        Some(_) => name.to_owned(),
        None => format!("{}{name}", topic::PREFIX),
    }
}

/// `{"topic": …, "config": {…}}`: anything that a join can say.
fn whole(text: &str) -> Outcome<Join> {
    let problem = |problem: &str| BadParameter::new("join", problem);
    let mut payload: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| problem(&format!("is not a JSON object: {error}")))?;
    let topic = match payload.remove("topic") {
        Some(Value::String(name)) if !name.is_empty() => full_topic(&name),
        _ => return Err(problem("has no topic")),
    };
    match payload.get("config") {
        Some(Value::Object(_)) => Ok(Join { topic, payload }),
        _ => Err(problem("has no config")),
    }
}

fn event(value: &str) -> Outcome<Value> {
    let name = value.to_ascii_uppercase();
    match name.as_str() {
        "*" | "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" => Ok(name.into()),
        _ => Err(BadParameter::new(
            "event",
            "is none of INSERT, UPDATE, DELETE, TRUNCATE and *",
        )),
    }
}

fn select(value: &str) -> Outcome<Value> {
    let columns: Vec<&str> = value.split(',').map(str::trim).collect();
    match columns.iter().any(|column| column.is_empty()) {
        true => Err(BadParameter::new("select", "is not a list of columns, a,b,c")),
        false => Ok(columns.into()),
    }
}

fn boolean(name: &str, value: &str) -> Outcome<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(BadParameter::new(name, "is neither true nor false")),
    }
}

fn number(name: &str, value: &str) -> Outcome<Value> {
    let number = value.parse::<f64>().ok().and_then(Number::from_f64);
    match number {
        Some(number) => Ok(number.into()),
        None => Err(BadParameter::new(name, "is not a number")),
    }
}

/// Any text is taken: what it means is found out later, and a wrong one is answered with a resynchronisation.
fn since(name: &str, value: &str) -> Outcome<String> {
    match value.len() > 2 * Since::LONGEST {
        true => Err(BadParameter::new(name, "is too long")),
        false => Ok(value.to_owned()),
    }
}

/// Seconds.
fn wait(value: &str) -> Outcome<Duration> {
    let seconds = value.strip_suffix('s').unwrap_or(value).parse().ok();
    let duration = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| BadParameter::new("wait", "is not a number of seconds"))
}

fn once<T>(name: &str, slot: &mut Option<T>, value: T) -> Outcome {
    match slot.replace(value) {
        Some(_) => Err(BadParameter::new(name, "is there twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
