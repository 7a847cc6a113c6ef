use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::protocol::push_json_string;

/// Names that a meta gives itself, whatever the client says.
const REF: &str = "phx_ref";
const PREVIOUS: &str = "phx_ref_prev";

/// What a client is present with: a JSON object, without the names that are not the client's to give.
#[derive(Debug)]
pub struct Payload {
    /// The members of the object, without its braces. Numbers are as they were sent.
    members: Box<str>,
}

/// A payload and the ref that clients know it by.
#[derive(Debug)]
pub(super) struct Meta {
    reference: [u8; 12],
    payload: Payload,
}

impl Payload {
    /// `None` if this is no object, or one that some client could not read: nested too deeply, with half of a surrogate
    /// pair, or with a number that counts too far. A state of presence with that in it would be lost to that client whole.
    pub fn parse(json: &RawValue) -> Option<Self> {
        let payload: Self = serde_json::from_str(json.get()).ok()?;
        payload.value().is_some().then_some(payload)
    }

    /// Whether both are the same JSON value.
    fn equals(&self, other: &Self) -> bool {
        self.members == other.members
            || matches!((self.value(), other.value()), (Some(own), Some(others)) if own == others)
    }

    /// `None` for what not every client can read.
    fn value(&self) -> Option<Value> {
        serde_json::from_str(&format!("{{{}}}", self.members)).ok()
    }
}

impl Meta {
    /// With a ref of its own.
    pub(super) fn new(payload: Payload) -> Self {
        Self {
            reference: rand::random(),
            payload,
        }
    }

    /// Whether this says the same.
    pub(super) fn says(&self, payload: &Payload) -> bool {
        self.payload.equals(payload)
    }

    /// Appends the meta as JSON, with the ref of the one in whose place it is, if there is one.
    pub(super) fn write(&self, out: &mut String, previous: Option<&Self>) {
        let mut reference = |name: &str, meta: &Self| {
            out.push_str(name);
            URL_SAFE_NO_PAD.encode_string(meta.reference, out);
            out.push('"');
        };
        reference("{\"phx_ref\":\"", self);
        if let Some(previous) = previous {
            reference(",\"phx_ref_prev\":\"", previous);
        }
        if !self.payload.members.is_empty() {
            out.push(',');
            out.push_str(&self.payload.members);
        }
        out.push('}');
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PayloadVisitor;

        impl<'de> Visitor<'de> for PayloadVisitor {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload, A::Error> {
                let mut members = String::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if name == REF || name == PREVIOUS {
                        continue;
                    }
                    if !members.is_empty() {
                        members.push(',');
                    }
                    push_json_string(&mut members, &name);
                    members.push(':');
                    members.push_str(value.get());
                }
                Ok(Payload {
                    members: members.into(),
                })
            }
        }

        deserializer.deserialize_map(PayloadVisitor)
    }
}
