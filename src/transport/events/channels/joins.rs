//! The joins of a request: made from its URL, and from the place that it comes with.

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::super::frames::{self, RESYNC};
use super::super::place::Place;
use super::super::progress::{Progress, Wanted};
use super::super::query::{Asked, Join};
use super::{Channel, Channels, Stage};
use crate::hub::Lane;
use crate::protocol::errors::Close;
use crate::protocol::{JoinConfig, Shaping, Snapshot, Status};
use crate::topic;
use crate::transport::driver::{Driver, New};
use crate::transport::{Pending, Server};

/// What is told to whoever comes with a place that cannot be read.
const UNREADABLE: &str = "the cursor cannot be read";

/// What is told to a channel that the place of the others says nothing of.
const NOT_NAMED: &str = "the cursor says nothing of this channel";

impl Channels {
    /// Sends the joins of a request that has been let in.
    pub(in crate::transport::events) fn join(
        server: Arc<Server>,
        new: New,
        asked: &Asked,
    ) -> Result<Self, Close> {
        let drain = server.drain.clone();
        let stopping: Pending<()> = Box::pin(async move { drain.begun().await });
        let mut channels = Self {
            driver: Driver::new(server, new).0,
            joined: Vec::with_capacity(asked.joins.len()),
            progress: Progress::default(),
            notices: Vec::new(),
            lived: Vec::new(),
            wants_presence: false,
            timer: Box::pin(sleep_until(Instant::now())),
            stopping,
            in_line: false,
            stopped: false,
            ended: false,
        };
        let told = asked.since.as_deref().filter(|text| !text.is_empty());
        let place = told.map(str::parse::<Place>);
        for join in &asked.joins {
            channels.start(join, place.as_ref().map(|place| place.as_ref().ok()))?;
        }
        Ok(channels)
    }

    /// `since`: `None` for somebody new, and no place in it for one that cannot be read.
    fn start(&mut self, join: &Join, since: Option<Option<&Place>>) -> Result<(), Close> {
        let tag = Lane::tag(&join.topic);
        let rows = since.flatten().and_then(|place| place.rows_of(tag));
        let room = since.flatten().and_then(|place| place.room(tag));
        let mut payload = join.payload.clone();
        if let Some(Value::Object(config)) = payload.get_mut("config") {
            config.insert("since".to_owned(), rows.unwrap_or_default().into());
            let broadcast = config.entry("broadcast").or_insert_with(|| json!({}));
            if let Value::Object(broadcast) = broadcast {
                broadcast.insert("since".to_owned(), room.unwrap_or_default().into());
            }
        }
        let sub_topic = topic::sub_topic(&join.topic).unwrap_or_default();
        let payload = to_raw_value(&payload).unwrap_or_else(|_| RawValue::NULL.to_owned());
        let config = JoinConfig::parse(sub_topic, &payload);
        if !config.bindings.is_empty() {
            self.progress.rows(Wanted {
                tag,
                several: several(&config),
                paced: config.bindings.iter().any(|b| b.shaping != Shaping::Off),
                since: rows.filter(|rows| !rows.is_empty()),
                snapshot: config.bindings.iter().any(|b| b.snapshot == Snapshot::On),
            });
            let unknown = match since {
                Some(None) => Some(UNREADABLE),
                Some(Some(_)) if rows.is_none() => Some(NOT_NAMED),
                _ => None,
            };
            if let Some(reason) = unknown {
                let text = format!("{RESYNC}{reason}");
                self.notices
                    .push(frames::system(&join.topic, "resume", Status::Ok, &text));
            }
        }
        if let Some(room) = room {
            self.progress.returns(tag, room);
        }
        self.wants_presence |= config.presence.enabled;
        self.joined.push(Channel {
            topic: join.topic.as_str().into(),
            tag,
            stage: Stage::Asked,
            response: Value::Null,
        });
        self.send(&join.topic, "phx_join", &payload)
    }
}

/// Whether two entries of a join may concern one row.
fn several(config: &JoinConfig) -> bool {
    let bindings = &config.bindings;
    let any = |name: &Option<String>| name.as_deref().is_none_or(|name| name == "*");
    let wide = bindings
        .iter()
        .any(|binding| any(&binding.schema) || any(&binding.table));
    let mut tables: Vec<_> = bindings.iter().map(|b| (&b.schema, &b.table)).collect();
    tables.sort_unstable();
    tables.dedup();
    bindings.len() > 1 && (wide || tables.len() < bindings.len())
}
