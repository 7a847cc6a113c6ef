//! From verdicts to frames in outboxes. Each distinct message is encoded once and its bytes shared.

use std::collections::HashMap;
use std::sync::Arc;

use super::assess::{Outcome, Work};
use super::payload::Payload;
use super::pump::Recipients;
use super::shaper::{self, Form, Gathered, Keys, Passing, Step, step};
use super::{Style, Subscriber};
use crate::change::{Cursor, Mark, Position};
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
    for of_one in deliveries.chunk_by(|a, b| a.subscriber == b.subscriber) {
        let Some(first) = of_one.first() else { continue };
        let Some(entry) = recipients.get(first.subscriber, cursor.position, work.transaction) else {
            continue;
        };
        let lane = &entry.subscriber.outbox;
        let catches_up = recipients.repeat();
        let told = entry.subscriber.cursors || catches_up;
        let mut passing = entry.shapers.pass(cursor.position, catches_up);
        if let Some(passing) = &mut passing {
            // Those that hold back what they get take it before anything leads past it.
            for delivery in of_one {
                if let Some(shaper) = passing.shaper(delivery.binding) {
                    passing.gather(shaper, frames.gathered(work, delivery.view, told));
                }
            }
        }
        let mut runs = of_one.chunk_by(|a, b| a.view == b.view).peekable();
        while let Some(run) = runs.next() {
            let gathered = |binding| {
                passing
                    .as_ref()
                    .and_then(|passing| passing.shaper(binding))
                    .is_some()
            };
            let bindings = run.iter().map(|delivery| delivery.binding);
            let ids: Vec<i64> = bindings.filter(|binding| !gathered(*binding)).collect();
            let (Some(first), false) = (run.first(), ids.is_empty()) else {
                continue;
            };
            let held = passing.as_ref().and_then(Passing::held);
            let told = match held.or_else(|| runs.peek().map(|_| cursor.position)) {
                _ if !told || (held.is_some() && !catches_up) => Told::Nothing,
                Some(behind) => Told::From(behind.before()),
                None => Told::Here,
            };
            let action = work.change.action.as_str();
            let frame = frames.get(&entry.subscriber, ids, first.view, (action, told));
            let at = match held {
                Some(_) => At::Ahead(cursor),
                None => At::Row(cursor),
            };
            // A full or closed outbox has told its owner; nobody else is concerned.
            sent += u64::from(lane.push_at(frame, at).is_ok());
        }
        if let Some(passing) = passing {
            passing.end();
        }
        if catches_up {
            lane.reach(cursor);
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
    told: Told,
}

/// What a message says of where its change stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Told {
    Nothing,
    /// There; everything in front of it has come.
    Here,
    /// See [`Mark`].
    From(Position),
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
        (action, told): (&str, Told),
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
                let from = match key.told {
                    Told::Nothing => None,
                    Told::Here => Some(None),
                    Told::From(place) => Some(Some(place)),
                };
                let payload = match from {
                    Some(from) => {
                        let cursor = self.cursor;
                        let mark = Mark { cursor, from };
                        format!("{{\"ids\":[{ids}],\"data\":{data},\"cursor\":\"{mark}\"}}")
                    }
                    None => format!("{{\"ids\":[{ids}],\"data\":{data}}}"),
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
