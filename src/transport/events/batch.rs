//! What comes out of a session's outbox: some of it is for the one who carries the frames, the rest for the client.

use std::collections::VecDeque;

use futures_util::FutureExt;
use serde_json::Value;

use super::channels::{Channels, Stage};
use super::frames::{self, Event, Reply, System};
use super::refusal::Refusal;
use crate::change::Cursor;
use crate::hub::{At, Drained, Frame, Lane, Placed};
use crate::protocol::Status;
use crate::room;

/// What was in the outbox, in order.
pub(super) struct Batch {
    items: VecDeque<Item>,
    /// Channels whose rows had gone live before.
    lived: Vec<u32>,
    /// How far everything was before.
    before: Before,
}

/// How far everything was before an outbox was emptied.
#[derive(Clone, Default)]
pub(super) struct Before {
    /// The feed.
    pub(super) feed: Option<Cursor>,
    /// Channels for whom changes are gathered, by tag.
    pub(super) held: Vec<(u32, Cursor)>,
}

impl Before {
    /// A channel.
    fn of(&self, tag: u32) -> Option<Cursor> {
        let held = self.held.iter().find(|(other, _)| *other == tag);
        held.map(|(_, at)| *at).or(self.feed)
    }
}

struct Item {
    /// What the client is to see.
    frame: Option<Frame>,
    placed: Option<Placed>,
    says: Option<Says>,
}

/// What a frame says of the rows of a channel, by its tag.
enum Says {
    /// They are live.
    Live(u32),
    /// All of them follow; once more, if the second is true.
    Snapshot(u32, bool),
}

impl Batch {
    /// How many frames the client is to see, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let frames = self.items.iter().filter_map(|item| item.frame.as_ref());
        frames.fold((0, 0), |(count, bytes), frame| (count + 1, bytes + frame.len()))
    }

    /// Where the first row in it stands that came by this lane.
    fn first_row(&self, lane: u32) -> Option<Cursor> {
        let mut places = self.items.iter().filter_map(|item| item.placed.as_ref());
        places.find_map(|placed| match placed.at {
            At::Row(cursor) | At::Ahead(cursor) if placed.lane == lane => Some(cursor),
            _ => None,
        })
    }

    /// The number of the first broadcast in it that came by this lane.
    fn first_said(&self, lane: u32) -> Option<u64> {
        let mut places = self.items.iter().filter_map(|item| item.placed.as_ref());
        places.find_map(|placed| match placed.at {
            At::Room(number) if placed.lane == lane => Some(number),
            _ => None,
        })
    }
}

impl Channels {
    /// Sorts what was taken out of the outbox after everything had been here.
    pub(super) fn sift(&mut self, frames: VecDeque<Frame>, places: Vec<Placed>, before: Before) -> Batch {
        let mut places = places.into_iter().peekable();
        let numbered = frames.into_iter().enumerate();
        let items = numbered.map(|(number, frame)| Item {
            placed: places.next_if(|placed| placed.frame == number),
            says: says(&frame),
            frame: self.show(frame),
        });
        let items = items.collect();
        Batch {
            items,
            lived: std::mem::take(&mut self.lived),
            before,
        }
    }

    /// Where the rooms of the channels that have just been joined begin. `batches` is what has come meanwhile and has not been
    /// taken; whatever else there is gets there as well.
    pub(super) fn begin_rooms(&mut self, batches: &mut Vec<Batch>) {
        let rooms = loop {
            let before = self.before();
            let rooms = self.rooms();
            match self.driver.outbox.drain_placed().now_or_never() {
                Some((Drained::Frames(frames), places)) => {
                    let batch = self.sift(frames, places, before);
                    batches.push(batch);
                }
                Some((Drained::Overflowed, _)) | None => break rooms,
            }
        };
        let stream = batches.first().and_then(|batch| batch.before.feed);
        for (tag, here) in rooms {
            if self.progress.is_in_room(tag) {
                continue;
            }
            let first = batches.iter().find_map(|batch| batch.first_said(tag));
            let at = room::Since {
                number: first.map_or(here.number, |first| first.saturating_sub(1).min(here.number)),
                stream: stream.or(here.stream),
                ..here
            };
            self.progress.room(tag, at);
        }
    }

    /// The next frame of a batch. It and what is in front of it count as told.
    pub(super) fn take(&mut self, batch: &mut Batch) -> Option<Frame> {
        while let Some(item) = batch.items.pop_front() {
            if let Some(placed) = &item.placed {
                let instance = self.driver.server.context.rooms.instance();
                self.progress.frame(placed, instance);
            }
            match item.says {
                Some(Says::Live(tag)) => {
                    let before = batch.before.of(tag);
                    self.progress.subscribed(tag, before, batch.first_row(tag));
                }
                Some(Says::Snapshot(tag, again)) => self.progress.snapshot_begins(tag, again),
                None => {}
            }
            if item.frame.is_some() {
                return item.frame;
            }
        }
        let lived = std::mem::take(&mut batch.lived);
        self.progress
            .drained(&lived, batch.before.feed, &batch.before.held);
        None
    }

    /// What the client is to see of a frame.
    fn show(&mut self, frame: Frame) -> Option<Frame> {
        let event = Event::read(&frame)?;
        match event.name {
            "phx_reply" => {
                let message = event.message()?;
                let reply: Reply = serde_json::from_str(message.payload.get()).ok()?;
                self.answered(&message.topic, reply.outcome())
            }
            "phx_close" => {
                let topic = event.message()?.topic;
                self.close(&topic);
                None
            }
            "presence_diff" if !self.wants_presence => None,
            _ => Some(frame),
        }
    }

    fn answered(&mut self, topic: &str, outcome: Result<Value, String>) -> Option<Frame> {
        let channel = self.joined.iter_mut().find(|channel| *channel.topic == *topic)?;
        let Stage::Asked = channel.stage else { return None };
        match outcome {
            Ok(response) => {
                channel.stage = Stage::Joined;
                if let Some(cursor) = response["snapshot"]["cursor"].as_str() {
                    self.progress.snapshot(channel.tag, cursor);
                }
                channel.response = response;
                None
            }
            Err(reason) => {
                let told = frames::system(topic, "system", Status::Error, &reason);
                channel.stage = Stage::Over(Refusal::Join(reason));
                self.progress.over(channel.tag);
                Some(told)
            }
        }
    }

    /// The session has ended a channel, and said why before.
    fn close(&mut self, topic: &str) {
        if let Some(channel) = self.joined.iter_mut().find(|channel| *channel.topic == *topic) {
            self.progress.over(channel.tag);
            if !matches!(channel.stage, Stage::Over(_)) {
                channel.stage = Stage::Over(Refusal::Closed);
            }
        }
    }
}

fn says(frame: &Frame) -> Option<Says> {
    let event = Event::read(frame).filter(|event| event.name == "system")?;
    let (system, topic) = (System::read(&event)?, event.message()?.topic);
    if system.is_subscribed() {
        return Some(Says::Live(Lane::tag(&topic)));
    }
    let again = system.snapshot_begins()?;
    Some(Says::Snapshot(Lane::tag(&topic), again))
}
