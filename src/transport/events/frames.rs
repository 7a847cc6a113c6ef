//! The frames of [`Version::Events`], read again: requests are not told what answers a join, and polls hand out data alone.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::hub::Frame;
use crate::protocol::errors::Notice;
use crate::protocol::{self, Status, SystemMessage, Version};

/// One event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// `postgres_changes`, `broadcast` and so on.
    pub(super) name: &'a str,
    /// `{"topic":…,"event":…,"payload":…}`.
    pub(super) data: &'a str,
}

impl<'a> Event<'a> {
    /// What a frame says; `None` for one that is of no stream.
    pub(super) fn read(frame: &'a Frame) -> Option<Self> {
        let Frame::Text(text) = frame else { return None };
        let (name, rest) = text.strip_prefix("event: ")?.split_once('\n')?;
        let data = rest.strip_prefix("data: ")?.strip_suffix("\n\n")?;
        Some(Self { name, data })
    }

    /// Taken apart.
    pub(super) fn message(&self) -> Option<Message<'a>> {
        serde_json::from_str(self.data).ok()
    }
}

/// The data of an event.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    pub(super) topic: String,
    #[serde(borrow)]
    pub(super) payload: &'a RawValue,
}

/// The payload of a `phx_reply`.
#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    status: String,
    response: Value,
}

impl Reply {
    /// What is in the reply to a join that was granted, or why it was not.
    pub(super) fn outcome(self) -> Result<Value, String> {
        if self.status == "ok" {
            return Ok(self.response);
        }
        let reason = self.response.get("reason").and_then(Value::as_str);
        Err(reason.unwrap_or("the join failed").to_owned())
    }
}

/// The payload of a `system` event.
#[derive(Debug, Deserialize)]
pub(super) struct System {
    pub(super) extension: String,
    pub(super) status: String,
    pub(super) message: String,
}

/// What begins the message of a resynchronisation.
pub(super) const RESYNC: &str = "resync: ";

impl System {
    /// What a `system` event says.
    pub(super) fn read(event: &Event<'_>) -> Option<Self> {
        serde_json::from_str(event.message()?.payload.get()).ok()
    }

    /// Whether it says that rows are live.
    pub(super) fn is_subscribed(&self) -> bool {
        let notice = Notice::Subscribed;
        self.extension == notice.extension() && self.message == notice.to_string()
    }

    /// Whether it is about the rows that come first.
    pub(super) fn is_of_snapshot(&self) -> bool {
        self.extension == (Notice::SnapshotBegins { again: None }).extension()
    }

    /// If it says that all rows follow: whether some have come before.
    pub(super) fn snapshot_begins(&self) -> Option<bool> {
        let begins = Notice::SnapshotBegins { again: None };
        let rest = self.message.strip_prefix(&begins.to_string())?;
        self.is_of_snapshot().then_some(!rest.is_empty())
    }

    /// Why what was missed cannot be given, if it says that.
    pub(super) fn resync(&self) -> Option<&str> {
        self.message
            .strip_prefix(RESYNC)
            .filter(|_| self.extension == "resume")
    }
}

/// A channel is told something by the one who carries its frames.
pub(super) fn system(topic: &str, extension: &str, status: Status, text: &str) -> Frame {
    let message = SystemMessage {
        extension,
        status,
        message: text,
        channel: crate::topic::sub_topic(topic),
        cursor: None,
        room: None,
    };
    Frame::Text(protocol::system_fan_out(Version::Events, topic, message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let frame = protocol::fan_out(Version::Events, "realtime:a", "broadcast", "{\"x\":\n\"\\n\"}");
        let frame = Frame::Text(frame.into());
        let event = Event::read(&frame).unwrap();
        assert_eq!(event.name, "broadcast");
        assert_eq!(
            event.data,
            r#"{"topic":"realtime:a","event":"broadcast","payload":{"x": "\n"}}"#
        );
        let message = event.message().unwrap();
        assert_eq!(
            (message.topic.as_str(), message.payload.get()),
            ("realtime:a", r#"{"x": "\n"}"#)
        );
    }

    #[test]
    fn replies_say_yes_or_why_not() {
        let outcome = |json: &str| serde_json::from_str::<Reply>(json).unwrap().outcome();
        assert!(outcome(r#"{"status":"ok","response":{"postgres_changes":[]}}"#).is_ok());
        let refused = outcome(r#"{"status":"error","response":{"reason":"Unauthorized: no"}}"#);
        assert_eq!(refused, Err("Unauthorized: no".to_owned()));
    }

    #[test]
    fn resynchronisations_are_told_from_the_rest() {
        let read = |frame: Frame| {
            let event = Event::read(&frame).unwrap();
            let message = event.message().unwrap();
            let system: System = serde_json::from_str(message.payload.get()).unwrap();
            system.resync().map(str::to_owned)
        };
        let resync = crate::protocol::errors::Notice::Resync("gone".to_owned());
        let frame = system(
            "realtime:a",
            resync.extension(),
            resync.status(),
            &resync.to_string(),
        );
        assert_eq!(read(frame).as_deref(), Some("gone"));
        assert_eq!(
            read(system("realtime:a", "system", Status::Ok, "resync: x")),
            None
        );
    }
}
