//! The payload of `phx_join`, and of `access_token`.
//!
//! Nothing in it is refused: what cannot be understood counts as not given, as clients of every age expect.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::binding::separate_ids;
use super::{Binding, Ref, Status, Version, reply};
use crate::change::Since;

/// What a client asks for when it joins a channel.
#[derive(Clone, Debug, Default)]
pub struct JoinConfig {
    /// `config.broadcast`.
    pub broadcast: BroadcastConfig,
    /// `config.presence`.
    pub presence: PresenceConfig,
    /// `config.private`: access is decided by policies on `realtime.messages`.
    pub private: bool,
    /// `config.postgres_changes`, in the client's order; one entry for a legacy join.
    pub bindings: Vec<Binding>,
    /// Set if the reply shall wait for the row subscription (`config.postgres_changes_options.wait`).
    pub wait: Option<Wait>,
    /// The join had no `config`: the topic names schema, table and filter, and changes are sent bare.
    pub legacy: bool,
    /// `config.since`: the cursor behind which row changes are to go on. Present even if `null`, empty or no cursor.
    pub since: Option<Box<str>>,
    /// Events carry their cursor: `since` was given.
    pub cursors: bool,
    /// The user's token; `None` means the one the connection was opened with.
    pub token: Option<String>,
}

/// `config.broadcast`.
#[derive(Clone, Debug, Default)]
pub struct BroadcastConfig {
    /// `"enabled": false`: the channel takes no place in the room, neither for broadcasts nor for presence. An extension, for
    /// channels that are there for their rows alone.
    pub off: bool,
    /// Every broadcast is answered.
    pub ack: bool,
    /// `self`: the sender gets its own broadcasts too.
    pub own: bool,
    /// Tell when broadcasts from the database are flowing.
    pub replication_ready: bool,
    /// `replay`, as the client wrote it; present even if `null`.
    pub replay: Option<Box<RawValue>>,
    /// `since`: the place in the room behind which broadcasts are to go on, as for [`JoinConfig::since`].
    pub since: Option<Box<str>>,
}

/// `config.presence`.
#[derive(Clone, Debug, Default)]
pub struct PresenceConfig {
    /// The client wants `presence_state` and diffs.
    pub enabled: bool,
    /// The key it wants to be known by; `None` if missing, null or empty.
    pub key: Option<String>,
}

/// `config.postgres_changes_options` with `wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// `timeout` in milliseconds, if the client gave one.
    pub timeout_ms: Option<u64>,
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

impl JoinConfig {
    /// Reads a join's payload. `sub_topic` is what a legacy join subscribes to.
    pub fn parse(sub_topic: &str, payload: &RawValue) -> Self {
        let payload = object(payload);
        let token = token(&payload);
        let Some(config) = payload.get("config") else {
            return Self {
                bindings: vec![Binding::legacy(sub_topic)],
                legacy: true,
                token,
                ..Self::default()
            };
        };
        let config = object(config);
        Self {
            broadcast: broadcast(&child(&config, "broadcast")),
            presence: presence(&child(&config, "presence")),
            private: flag(&config, "private"),
            bindings: bindings(&config),
            wait: wait(&child(&config, "postgres_changes_options")),
            legacy: false,
            cursors: config.contains_key("since"),
            since: since(&config),
            token,
        }
    }

    /// The `response` of the ok reply. A legacy join's is empty.
    pub fn response(&self) -> String {
        if self.legacy {
            return "{}".to_owned();
        }
        format!("{{\"postgres_changes\":[{}]}}", echoes(&self.bindings))
    }
}

fn echoes(bindings: &[Binding]) -> String {
    let entries: Vec<_> = bindings.iter().map(Binding::echo).collect();
    entries.join(",")
}

/// The ok reply to a join that names the snapshot which the rows behind it are of.
#[derive(Clone, Debug)]
pub struct SnapshotReply {
    /// Serialiser of the connection.
    pub version: Version,
    /// The refs of the join.
    pub join_ref: Option<Ref>,
    /// See `join_ref`.
    pub reference: Option<Ref>,
    /// Full topic.
    pub topic: Arc<str>,
    /// What the join asked for.
    pub bindings: Arc<[Binding]>,
}

impl SnapshotReply {
    /// The frame. Its `response` says from where on changes follow the rows.
    pub fn frame(&self, since: &Since) -> String {
        // The text of a place has nothing in it that JSON escapes.
        let response = format!(
            "{{\"postgres_changes\":[{}],\"snapshot\":{{\"cursor\":\"{since}\"}}}}",
            echoes(&self.bindings)
        );
        reply(
            self.version,
            self.join_ref.as_ref(),
            self.reference.as_ref(),
            &self.topic,
            Status::Ok,
            &response,
        )
    }
}

/// The token of an `access_token` event; `None` if it is to be ignored: null, no string, or an `sb_` key.
pub fn access_token(payload: &RawValue) -> Option<String> {
    string(&object(payload), "access_token").filter(|token| !is_api_key(token))
}

/// The event of a `presence` message, if it has one, and its payload: an empty object where there is none.
pub fn presence_call(payload: &RawValue) -> (Option<String>, Box<RawValue>) {
    let call = object(payload);
    let event = string(&call, "event");
    let payload = call.get("payload").map(|raw| (*raw).to_owned());
    let empty = || RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned());
    (event, payload.unwrap_or_else(empty))
}

fn is_api_key(token: &str) -> bool {
    token.starts_with("sb_")
}

/// Which token counts: `user_token` before `access_token`, and neither where what they say first is an API key.
fn token(payload: &Object<'_>) -> Option<String> {
    let first = ["access_token", "user_token"].into_iter().find(|key| {
        payload
            .get(*key)
            .is_some_and(|raw| !matches!(raw.get(), "null" | "false"))
    })?;
    if string(payload, first).is_some_and(|token| is_api_key(&token)) {
        return None;
    }
    string(payload, "user_token").or_else(|| string(payload, "access_token"))
}

fn broadcast(config: &Object<'_>) -> BroadcastConfig {
    BroadcastConfig {
        off: config.get("enabled").is_some_and(|raw| raw.get() == "false"),
        ack: flag(config, "ack"),
        own: flag(config, "self"),
        replication_ready: flag(config, "replication_ready"),
        replay: config.get("replay").map(|raw| (*raw).to_owned()),
        since: since(config),
    }
}

/// A place to go on from; empty for a new one.
fn since(config: &Object<'_>) -> Option<Box<str>> {
    config
        .contains_key("since")
        .then(|| string(config, "since").unwrap_or_default().into_boxed_str())
}

fn presence(config: &Object<'_>) -> PresenceConfig {
    let key = match string(config, "key") {
        Some(key) => Some(key),
        // Any other value is a key by its JSON text.
        None => config
            .get("key")
            .map(|raw| raw.get().to_owned())
            .filter(|text| text != "null"),
    };
    PresenceConfig {
        enabled: flag(config, "enabled"),
        key: key.filter(|key| !key.is_empty()),
    }
}

fn bindings(config: &Object<'_>) -> Vec<Binding> {
    let entries: Vec<&RawValue> = config
        .get("postgres_changes")
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let mut bindings: Vec<_> = entries.into_iter().filter_map(Binding::parse).collect();
    separate_ids(&mut bindings);
    bindings
}

fn wait(options: &Object<'_>) -> Option<Wait> {
    flag(options, "wait").then(|| Wait {
        timeout_ms: options
            .get("timeout")
            .and_then(|raw| serde_json::from_str(raw.get()).ok()),
    })
}

/// A JSON object's fields, the last one winning; no fields for anything else.
fn object(raw: &RawValue) -> Object<'_> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn child<'a>(parent: &Object<'a>, key: &str) -> Object<'a> {
    parent.get(key).map(|raw| object(raw)).unwrap_or_default()
}

fn string(parent: &Object<'_>, key: &str) -> Option<String> {
    serde_json::from_str(parent.get(key)?.get()).ok()
}

/// `true`, or `"true"` in any case.
fn flag(parent: &Object<'_>, key: &str) -> bool {
    parent.get(key).is_some_and(|raw| match raw.get() {
        "true" => true,
        text => serde_json::from_str::<String>(text).is_ok_and(|text| text.eq_ignore_ascii_case("true")),
    })
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
