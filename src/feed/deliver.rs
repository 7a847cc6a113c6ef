//! From verdicts to frames in outboxes. Each distinct message is encoded once and its bytes shared.

use std::collections::HashMap;
use std::sync::Arc;

use super::assess::{Outcome, Work};
use super::payload::Payload;
use super::pump::Recipients;
use super::shaper::{self, Form, Gathered, Keys, Shaper, Step, step};
use super::{Style, Subscriber};
use crate::change::{Cursor, Position};
use crate::hub::{At, Frame, Lane};
use crate::policy::Verdict;
use crate::protocol::{self, Version};
use crate::subscription::SubscriberId;

/// What a message shows; members with equal views share its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    columns: Arc<[bool]>,
    shown: Outcome,
}

/// One binding that gets a change.
struct Delivery {
    subscriber: SubscriberId,
    view: usize,
    binding: i64,
}

/// Puts a change into the outboxes of those who may have it; returns how many messages that were, and adds the lanes
/// to outboxes that are filling up to `pressed`.
pub(super) fn deliver<'a>(
    work: &Work<'a>,
    verdicts: &[Verdict],
    recipients: &Recipients<'_>,
    pressed: &mut HashMap<SubscriberId, Lane>,
    render: impl FnOnce() -> Payload<'a>,
) -> u64 {
    let mut views: Vec<View> = Vec::new();
    let mut deliveries = deliveries(work, verdicts, &mut views);
    if deliveries.is_empty() {
        return 0;
    }
    deliveries.sort_unstable_by_key(|d| (d.subscriber, d.view, d.binding));
    deliveries.dedup_by_key(|d| (d.subscriber, d.view, d.binding));
    let cursor = Cursor {
        epoch: recipients.epoch,
        position: Position::of(work.transaction, work.change),
    };
    let mut frames = Frames {
        payload: render(),
        cursor,
        views,
        data: HashMap::new(),
        encoded: HashMap::new(),
        keys: None,
        forms: HashMap::new(),
    };
    let mut sent = 0;
    for run in deliveries.chunk_by(|a, b| (a.subscriber, a.view) == (b.subscriber, b.view)) {
        let Some(first) = run.first() else { continue };
        let Some(entry) = recipients.get(first.subscriber, cursor.position, work.transaction) else {
            continue;
        };
        let subscriber = &entry.subscriber;
        let told = subscriber.cursors || recipients.repeat();
        let mut ids: Vec<i64> = run.iter().map(|d| d.binding).collect();
        // Those that hold back what they get take it from here.
        ids.retain(|id| {
            let shaper = entry.shapers.of(*id);
            let gather = |shaper: &Arc<Shaper>| shaper.gather(frames.gathered(work, first.view, told));
            shaper.map(gather).is_none()
        });
        let lane = &subscriber.outbox;
        if !ids.is_empty() {
            let ahead = entry.shapers.hold_back();
            let action = work.change.action.as_str();
            let frame = frames.get(subscriber, ids, first.view, (action, told && !ahead));
            let at = match ahead {
                true => At::Ahead(cursor),
                false => At::Row(cursor),
            };
            // A full or closed outbox has told its owner; nobody else is concerned.
            sent += u64::from(lane.push_at(frame, at).is_ok());
        }
        if lane.outbox().is_pressed() {
            pressed.entry(first.subscriber).or_insert_with(|| lane.clone());
        }
    }
    sent
}

fn deliveries(work: &Work<'_>, verdicts: &[Verdict], views: &mut Vec<View>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for group in &work.groups {
        let Some(shown) = group.outcome(verdicts) else {
            continue;
        };
        let action = shown.action(work.change.action);
        for member in group.members.iter().filter(|member| member.wants(action)) {
            let same = |view: &View| {
                view.shown == shown
                    && (Arc::ptr_eq(&view.columns, &member.columns) || view.columns == member.columns)
            };
            let view = views.iter().position(same).unwrap_or_else(|| {
                views.push(View {
                    columns: Arc::clone(&member.columns),
                    shown,
                });
                views.len() - 1
            });
            deliveries.push(Delivery {
                subscriber: member.subscriber,
                view,
                binding: member.binding,
            });
        }
    }
    deliveries
}

/// A message, but for its bytes.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    topic: Arc<str>,
    version: Version,
    style: Style,
    ids: Vec<i64>,
    view: usize,
    /// With the change's cursor.
    told: bool,
}

struct Frames<'a> {
    payload: Payload<'a>,
    cursor: Cursor,
    views: Vec<View>,
    data: HashMap<usize, Arc<str>>,
    encoded: HashMap<Key, Frame>,
    /// For those who hold back what they get.
    keys: Option<Keys>,
    forms: HashMap<(usize, Form), Arc<str>>,
}

impl Frames<'_> {
    fn get(
        &mut self,
        subscriber: &Subscriber,
        ids: Vec<i64>,
        view: usize,
        (action, told): (&str, bool),
    ) -> Frame {
        let key = Key {
            topic: Arc::clone(&subscriber.topic),
            version: subscriber.version,
            style: subscriber.style,
            ids,
            view,
            told,
        };
        if let Some(frame) = self.encoded.get(&key) {
            return frame.clone();
        }
        let data = self.data(view);
        let text = match key.style {
            Style::Modern => {
                let ids: Vec<String> = key.ids.iter().map(i64::to_string).collect();
                let ids = ids.join(",");
                let payload = match key.told {
                    true => format!(
                        "{{\"ids\":[{ids}],\"data\":{data},\"cursor\":\"{}\"}}",
                        self.cursor
                    ),
                    false => format!("{{\"ids\":[{ids}],\"data\":{data}}}"),
                };
                protocol::fan_out(key.version, &key.topic, "postgres_changes", &payload)
            }
            Style::Legacy => protocol::fan_out(key.version, &key.topic, action, &data),
        };
        let frame = Frame::Text(text.into());
        self.encoded.insert(key, frame.clone());
        frame
    }

    fn data(&mut self, view: usize) -> Arc<str> {
        if let Some(data) = self.data.get(&view) {
            return Arc::clone(data);
        }
        let data: Arc<str> = match self.views.get(view) {
            Some(View { columns, shown }) => match shown {
                Outcome::Row(old) => self.payload.data(columns, *old),
                Outcome::Entered => self.payload.entered(columns),
                Outcome::Left => self.payload.left(columns),
                Outcome::Truncated => self.payload.truncated(),
                Outcome::Problem(problem) => self.payload.problem(*problem),
            }
            .into(),
            None => Arc::from("{}"),
        };
        self.data.insert(view, Arc::clone(&data));
        data
    }
}

impl Frames<'_> {
    /// The change for somebody who holds back what they get.
    fn gathered(
        &mut self,
        work: &Work<'_>,
        view: usize,
        told: bool,
    ) -> Gathered<impl FnOnce(Option<Form>) -> Arc<str>> {
        let keys = self.keys.get_or_insert_with(|| Keys::of(work.table, work.change));
        let step = match self.views.get(view) {
            Some(View { columns, shown }) => step(work.change.action, *shown, keys, || {
                self.payload.shown_columns(columns)
            }),
            None => Step::Apart,
        };
        let own = match &step {
            Step::Put { form, .. } => Some(*form),
            _ => None,
        };
        let at = shaper::At {
            table: work.table.oid,
            cursor: self.cursor,
            told,
        };
        let data = move |form: Option<Form>| match form.filter(|_| form != own) {
            Some(form) => self.formed(view, form),
            None => self.data(view),
        };
        Gathered { at, step, data }
    }

    /// An UPDATE as something else: what came before it was left out.
    fn formed(&mut self, view: usize, form: Form) -> Arc<str> {
        let Some(View { columns, .. }) = self.views.get(view) else {
            return self.data(view);
        };
        let payload = &self.payload;
        let data = self.forms.entry((view, form)).or_insert_with(|| {
            match form {
                Form::Enter => payload.entered(columns),
                Form::Insert | Form::Update => payload.inserted(columns),
            }
            .into()
        });
        Arc::clone(data)
    }
}
