use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::server::push_json_string;
use super::shaping::Shaping;

/// One entry of `config.postgres_changes` (or of a legacy join), as far as it could be understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The id the client is told and finds in `ids`; never 0, equal for equal parameters.
    pub id: i64,
    /// Which actions; anything unknown is `*`.
    pub event: EventFilter,
    /// Schema, `*` for any; `None` if not given.
    pub schema: Option<String>,
    /// Table, `*` for any; `None` if not given.
    pub table: Option<String>,
    /// Filter text (protocol.md c.4), `None` if not given or blank. Something that is not a string is kept as its
    /// JSON text, so that it is refused as a filter instead of widening what the client gets.
    pub filter: Option<String>,
    /// Selected columns, or why `select` could not be understood.
    pub select: Select,
    /// `"transitions": true`: an UPDATE by which a row comes into or goes out of what the binding shows is told as an
    /// INSERT or DELETE. An extension; not set by clients that do not know it.
    pub transitions: Switch,
    /// `"truncate": true`: TRUNCATE is told beside what `event` asks for. An extension.
    pub truncate: Switch,
    /// How its events are held back.
    pub shaping: Shaping,
    /// `"snapshot": true`: the rows that there are come first, as INSERTs, and then what changes. An extension as well.
    pub snapshot: Snapshot,
    /// The entry as the client wrote it, for error texts.
    pub source: String,
}

/// What a [`Binding`] says of something that it has to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch {
    /// Not asked for.
    Off,
    /// Asked for.
    On,
    /// Given, but neither true nor false.
    Invalid,
}

/// The `snapshot` of a [`Binding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Snapshot {
    /// Not asked for.
    Off,
    /// Asked for.
    On,
    /// Given, but neither true nor false.
    Invalid,
}

/// The `event` of a [`Binding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventFilter {
    /// `*`.
    All,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `TRUNCATE`, which `*` does not include.
    Truncate,
}

/// The `select` of a [`Binding`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// Not given: every readable column.
    All,
    /// These columns, and the primary key.
    Columns(Vec<String>),
    /// Given, but not a list of strings.
    Invalid,
}

impl Binding {
    /// Reads one entry. `None` for anything but a JSON object.
    pub(super) fn parse(entry: &RawValue) -> Option<Self> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(entry.get()).ok()?;
        let text = |key: &str| -> Option<String> { serde_json::from_str(fields.get(key)?.get()).ok() };
        let switch = |key: &str| fields.get(key).map_or(Switch::Off, |raw| Switch::parse(raw));
        Some(Self {
            id: stable_id(entry.get()),
            event: EventFilter::parse(text("event").as_deref()),
            schema: text("schema"),
            table: text("table"),
            filter: fields.get("filter").and_then(|raw| filter(raw)),
            select: fields.get("select").map_or(Select::All, |raw| Select::parse(raw)),
            transitions: switch("transitions"),
            truncate: switch("truncate"),
            shaping: Shaping::parse(fields.get("max_rate").copied(), fields.get("conflate").copied()),
            snapshot: fields
                .get("snapshot")
                .map_or(Snapshot::Off, |raw| Snapshot::parse(raw)),
            source: entry.get().to_owned(),
        })
    }

    /// What a request for the rows of a table asks for: names and filter as they were given, `None` for what was not.
    pub fn rows(schema: Option<&str>, table: &str, filter: Option<&str>, select: Option<&[&str]>) -> Self {
        let mut source = serde_json::Map::new();
        let schema = schema.unwrap_or("public");
        source.insert("schema".to_owned(), schema.into());
        source.insert("table".to_owned(), table.into());
        if let Some(filter) = filter {
            source.insert("filter".to_owned(), filter.into());
        }
        if let Some(select) = select {
            source.insert("select".to_owned(), select.to_vec().into());
        }
        let source = Value::Object(source).to_string();
        Self {
            id: stable_id(&source),
            event: EventFilter::Insert,
            schema: Some(schema.to_owned()),
            table: Some(table.to_owned()),
            filter: filter.filter(|text| !text.trim().is_empty()).map(str::to_owned),
            select: select.map_or(Select::All, |names| {
                Select::Columns(names.iter().map(|name| (*name).to_owned()).collect())
            }),
            transitions: Switch::Off,
            truncate: Switch::Off,
            shaping: Shaping::Off,
            snapshot: Snapshot::On,
            source,
        }
    }

    /// The entry that a join without `config` stands for: `schema[:table[:filter]]` in the topic itself.
    pub(super) fn legacy(sub_topic: &str) -> Self {
        let mut parts = sub_topic.splitn(3, ':').map(str::to_owned);
        let (schema, table, filter) = (parts.next(), parts.next(), parts.next());
        let mut source = String::from("{\"event\":\"*\"");
        for (key, value) in [("schema", &schema), ("table", &table), ("filter", &filter)] {
            if let Some(value) = value {
                source.push(',');
                push_json_string(&mut source, key);
                source.push(':');
                push_json_string(&mut source, value);
            }
        }
        source.push('}');
        Self {
            id: stable_id(&source),
            event: EventFilter::All,
            schema,
            table,
            filter: filter.filter(|text| !text.trim().is_empty()),
            select: Select::All,
            transitions: Switch::Off,
            truncate: Switch::Off,
            shaping: Shaping::Off,
            snapshot: Snapshot::Off,
            source,
        }
    }

    /// The entry as the reply to a join repeats it: the client's own text, and the id. An `id` the client wrote itself
    /// comes first, so that parsers, which keep the last one, see ours.
    pub fn echo(&self) -> String {
        let object = self.source.trim();
        let open = object.strip_suffix('}').unwrap_or(object);
        let comma = if open.trim_end() == "{" { "" } else { "," };
        format!("{open}{comma}\"id\":{}}}", self.id)
    }
}

impl EventFilter {
    fn parse(event: Option<&str>) -> Self {
        match event.map(str::to_ascii_uppercase).as_deref() {
            Some("INSERT") => Self::Insert,
            Some("UPDATE") => Self::Update,
            Some("DELETE") => Self::Delete,
            Some("TRUNCATE") => Self::Truncate,
            _ => Self::All,
        }
    }
}

impl Select {
    fn parse(raw: &RawValue) -> Self {
        match serde_json::from_str::<Option<Vec<String>>>(raw.get()) {
            Ok(None) => Self::All,
            Ok(Some(columns)) => Self::Columns(columns),
            Err(_) => Self::Invalid,
        }
    }
}

impl Switch {
    fn parse(raw: &RawValue) -> Self {
        match serde_json::from_str::<Option<bool>>(raw.get()) {
            Ok(None | Some(false)) => Self::Off,
            Ok(Some(true)) => Self::On,
            Err(_) => Self::Invalid,
        }
    }
}

impl Snapshot {
    fn parse(raw: &RawValue) -> Self {
        match serde_json::from_str::<Option<bool>>(raw.get()) {
            Ok(None | Some(false)) => Self::Off,
            Ok(Some(true)) => Self::On,
            Err(_) => Self::Invalid,
        }
    }
}

fn filter(raw: &RawValue) -> Option<String> {
    let text = match serde_json::from_str::<Option<String>>(raw.get()) {
        Ok(text) => text?,
        Err(_) => raw.get().to_owned(),
    };
    (!text.trim().is_empty()).then_some(text)
}

/// Gives bindings of one channel that differ different ids, whatever their hashes.
pub(super) fn separate_ids(bindings: &mut [Binding]) {
    let mut taken: BTreeMap<i64, String> = BTreeMap::new();
    for binding in bindings {
        let params = canonical_text(&binding.source);
        while taken.get(&binding.id).is_some_and(|other| *other != params) {
            binding.id = binding.id % MAX_ID + 1;
        }
        taken.insert(binding.id, params);
    }
}

/// Ids are `1..=MAX_ID`: the range clients know from upstream, without 0, which JavaScript takes for no id.
const MAX_ID: i64 = (1 << 27) - 1;

/// FNV-1a over the parameters with keys in order: equal parameters, equal id, on every server and after any restart.
fn stable_id(source: &str) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in canonical_text(source).bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let folded = (hash ^ (hash >> 32)) & 0x7fff_ffff;
    i64::try_from(folded).unwrap_or_default() % MAX_ID + 1
}

fn canonical_text(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    match serde_json::from_str(source) {
        Ok(value) => canonical(&value, &mut out),
        Err(_) => out.push_str(source),
    }
    out
}

/// Depth is bounded by the JSON parser (128).
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            for (key, value) in fields {
                push_json_string(out, key);
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::String(text) => push_json_string(out, text),
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
#[path = "binding_tests.rs"]
mod tests;
