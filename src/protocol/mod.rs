//! The wire as clients speak it: frames of both Phoenix serialisers, join configuration, error texts and close codes.
//!
//! Pure: bytes or JSON in, typed value or typed error out. Nothing here panics on input and nothing does I/O.

mod binding;
mod broadcast;
mod client;
pub mod errors;
mod join;
mod reference;
mod server;
mod shaping;

pub use binding::{Binding, EventFilter, Select, Snapshot, Switch};
pub use broadcast::{Broadcast, Content, Encoded};
pub use client::{BroadcastPayload, ClientMessage, Malformed, Payload, decode_binary, decode_text};
pub use join::{
    BroadcastConfig, JoinConfig, PresenceConfig, SnapshotReply, Wait, access_token, presence_call,
};
pub use reference::Ref;
pub use server::{
    Status, SystemMessage, fan_out, phx_close, phx_error, push, push_json_string, reply, system,
    system_fan_out,
};
pub use shaping::{Shape, Shaping};

/// The serialiser a connection chose with `vsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// `1.0.0`: every frame a JSON object.
    V1,
    /// `2.0.0`: JSON arrays, and binary broadcasts.
    V2,
    /// `2.0.0` where the server can send no bytes, which is so with long polling: JSON arrays. The client may send bytes.
    V2Text,
    /// Not chosen with `vsn`: every frame is an event of a `text/event-stream` (HTML Standard, "Server-sent events").
    Events,
}

impl Version {
    /// The serialiser that `vsn` names: any `1.0.n` or `2.0.n`; `1.0.0` when absent.
    pub fn from_vsn(vsn: Option<&str>) -> Option<Self> {
        let Some(vsn) = vsn else { return Some(Self::V1) };
        let (version, patch) = match (vsn.strip_prefix("1.0."), vsn.strip_prefix("2.0.")) {
            (Some(patch), _) => (Self::V1, patch),
            (_, Some(patch)) => (Self::V2, patch),
            _ => return None,
        };
        (!patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit())).then_some(version)
    }

    /// The same, to a client that can be sent text only.
    #[must_use]
    pub fn as_text(self) -> Self {
        match self {
            Self::V2 => Self::V2Text,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vsn_is_one_or_two_with_any_patch() {
        assert_eq!(Version::from_vsn(None), Some(Version::V1));
        assert_eq!(Version::from_vsn(Some("1.0.0")), Some(Version::V1));
        assert_eq!(Version::from_vsn(Some("2.0.7")), Some(Version::V2));
        for wrong in [
            "", "1", "1.0", "1.0.", "1.0.x", "2.1.0", "3.0.0", "2.0.0-rc", " 2.0.0",
        ] {
            assert_eq!(Version::from_vsn(Some(wrong)), None, "{wrong}");
        }
    }
}
