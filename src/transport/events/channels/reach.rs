//! How far the reader of some channels has come: what the session knows of that, and what the outbox says.

use super::super::batch::Before;
use super::super::progress::Progress;
use super::{Channel, Channels, Stage};
use crate::room;

impl Channels {
    /// How far everything that is not in the outbox is out of it.
    pub(in crate::transport::events) fn before(&self) -> Before {
        let feed = self.driver.server.rows.position();
        let place = |tag: u32| {
            let channel = self.joined.iter().find(|channel| channel.tag == tag)?;
            let at = self.driver.session.place_of_rows(&channel.topic, feed?)?;
            Some((tag, at))
        };
        Before {
            feed,
            held: self.progress.paced().filter_map(place).collect(),
        }
    }

    /// How far everything that was taken reaches.
    pub(in crate::transport::events) fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Whether the place of every channel is known.
    pub(in crate::transport::events) fn is_placed(&mut self) -> bool {
        self.rest();
        self.progress.is_known()
    }

    /// Where the channels that are joined are in their rooms, by tag.
    pub(in crate::transport::events) fn rooms(&self) -> Vec<(u32, room::Since)> {
        let joined = self.joined.iter();
        let joined = joined.filter(|channel| matches!(channel.stage, Stage::Joined));
        let here = |channel: &Channel| self.driver.session.place_in_room(&channel.topic);
        joined
            .filter_map(|channel| Some((channel.tag, here(channel)?)))
            .collect()
    }

    /// If the outbox is empty, where the feed was before is how far everybody has got. Returns whether it is.
    pub(in crate::transport::events) fn rest(&mut self) -> bool {
        // In this order: what comes meanwhile is in the outbox then.
        let rooms = self.rooms();
        let Before { feed, held } = self.before();
        if !self.driver.outbox.is_empty() {
            return false;
        }
        self.progress
            .drained(&std::mem::take(&mut self.lived), feed, &held);
        for (tag, at) in rooms {
            self.progress.room(tag, at);
        }
        true
    }
}
