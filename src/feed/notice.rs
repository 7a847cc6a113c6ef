//! What a channel is told of its rows beside them.

use super::Subscriber;
use crate::change::Cursor;
use crate::hub::Frame;
use crate::protocol::errors::Notice;
use crate::protocol::{self, SystemMessage};
use crate::topic;

/// What a subscriber's channel is told, with where its rows go on from if it wants to know that.
pub(super) fn notice(subscriber: &Subscriber, said: &Notice, cursor: Option<Cursor>) -> Frame {
    let text = said.to_string();
    let cursor = cursor
        .filter(|_| subscriber.cursors)
        .map(|cursor| cursor.to_string());
    let message = SystemMessage {
        extension: said.extension(),
        status: said.status(),
        message: &text,
        channel: topic::sub_topic(&subscriber.topic),
        cursor: cursor.as_deref(),
        room: None,
    };
    Frame::Text(protocol::system_fan_out(subscriber.version, &subscriber.topic, message).into())
}
