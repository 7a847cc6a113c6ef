//! The body of a batch to messages, or to what is wrong with each. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::names;
use crate::protocol::errors::{FieldError, Invalid, RequestError};
use crate::protocol::push_json_string;

/// Most messages of one batch. Far above what any server's rate lets through, and a bound for what an answer says of each.
const MAX_MESSAGES: usize = 10_000;

/// A message to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Without `realtime:`.
    pub(super) topic: Arc<str>,
    pub(super) private: bool,
    /// `{"payload":…,"event":…,"type":"broadcast"}`, with `meta` where the message has an id.
    pub(super) envelope: Box<str>,
}

/// What messages may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes of payload and event.
    pub(super) payload: usize,
    /// Bytes of the topic.
    pub(super) topic: usize,
}

/// Field by field; of those with the same name the last one.
type Object<'a> = BTreeMap<String, &'a RawValue>;

type Wrong = (&'static str, FieldError);

/// Reads `{"messages": [{"topic", "event", "payload", "private", "id"}]}`.
pub(super) fn parse(body: &[u8], bounds: Bounds) -> Result<Vec<Message>, RequestError> {
    let whole = |error| RequestError::Invalid(Invalid::Field("messages", error));
    if body.is_empty() {
        return Err(whole(FieldError::Blank));
    }
    let body: &RawValue = serde_json::from_slice(body).map_err(|_| RequestError::NotJson)?;
    // What is no object has no messages.
    let mut fields: Object<'_> = serde_json::from_str(body.get()).unwrap_or_default();
    let given = present(fields.remove("messages")).ok_or_else(|| whole(FieldError::Blank))?;
    let list: List<'_> = serde_json::from_str(given.get()).map_err(|_| whole(FieldError::Invalid))?;
    if list.entries.is_empty() {
        return Err(whole(FieldError::Blank));
    }
    if list.more {
        return Err(whole(FieldError::TooMany { limit: MAX_MESSAGES }));
    }
    let mut messages = Vec::with_capacity(list.entries.len());
    let mut wrong = Vec::with_capacity(list.entries.len());
    for entry in list.entries {
        let fields = serde_json::from_str(entry.get()).map_err(|_| whole(FieldError::Invalid))?;
        match message(fields, bounds) {
            Ok(message) => {
                messages.push(message);
                wrong.push(Vec::new());
            }
            Err(errors) => wrong.push(errors),
        }
    }
    if messages.len() < wrong.len() {
        return Err(RequestError::Invalid(Invalid::Messages(wrong)));
    }
    Ok(messages)
}

fn message(mut fields: Object<'_>, bounds: Bounds) -> Result<Message, Vec<Wrong>> {
    let mut wrong = Vec::new();
    let topic = noted(&mut wrong, "topic", name(fields.remove("topic"), bounds.topic));
    let event = noted(&mut wrong, "event", name(fields.remove("event"), usize::MAX));
    let size = event.as_ref().map_or(0, String::len);
    let payload = noted(
        &mut wrong,
        "payload",
        payload(fields.remove("payload"), size, bounds),
    );
    let private = noted(&mut wrong, "private", flag(fields.remove("private")));
    let id = match present(fields.remove("id")) {
        None => Ok(None),
        Some(id) => serde_json::from_str(id.get()).map_err(|_| FieldError::Invalid),
    };
    let id: Option<Option<String>> = noted(&mut wrong, "id", id);
    match (topic, event, payload, private, id) {
        (Some(topic), Some(event), Some(payload), Some(private), Some(id)) => Ok(Message {
            topic: topic.into(),
            private,
            envelope: envelope(&event, payload, id.as_deref()),
        }),
        _ => Err(wrong),
    }
}

fn noted<T>(wrong: &mut Vec<Wrong>, field: &'static str, value: Result<T, FieldError>) -> Option<T> {
    value.map_err(|error| wrong.push((field, error))).ok()
}

/// What is there and not null.
fn present(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

fn name(value: Option<&RawValue>, limit: usize) -> Result<String, FieldError> {
    let value = present(value).ok_or(FieldError::Blank)?;
    let name: String = serde_json::from_str(value.get()).map_err(|_| FieldError::Invalid)?;
    names::check(&name, limit)?;
    Ok(name)
}

fn payload(value: Option<&RawValue>, beside: usize, bounds: Bounds) -> Result<&str, FieldError> {
    let payload = present(value).ok_or(FieldError::Blank)?.get();
    if !payload.starts_with('{') {
        Err(FieldError::Invalid)
    } else if payload.len().saturating_add(beside) > bounds.payload {
        Err(FieldError::PayloadTooLarge)
    } else {
        Ok(payload)
    }
}

fn flag(value: Option<&RawValue>) -> Result<bool, FieldError> {
    match present(value).map(RawValue::get) {
        None | Some("false" | "\"false\"") => Ok(false),
        Some("true" | "\"true\"") => Ok(true),
        Some(_) => Err(FieldError::Invalid),
    }
}

fn envelope(event: &str, payload: &str, id: Option<&str>) -> Box<str> {
    let mut out = String::with_capacity(64 + payload.len() + event.len());
    out.push_str("{\"payload\":");
    out.push_str(payload);
    out.push_str(",\"event\":");
    push_json_string(&mut out, event);
    out.push_str(",\"type\":\"broadcast\"");
    if let Some(id) = id {
        out.push_str(",\"meta\":{\"id\":");
        push_json_string(&mut out, id);
        out.push('}');
    }
    out.push('}');
    out.into()
}

/// The entries of a list up to [`MAX_MESSAGES`], so that a long one of nothing does not grow in memory.
struct List<'a> {
    entries: Vec<&'a RawValue>,
    more: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut list = List {
            entries: Vec::new(),
            more: false,
        };
        while list.entries.len() < MAX_MESSAGES {
            match entries.next_element()? {
                Some(entry) => list.entries.push(entry),
                None => return Ok(list),
            }
        }
        while entries.next_element::<IgnoredAny>()?.is_some() {
            list.more = true;
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests;
