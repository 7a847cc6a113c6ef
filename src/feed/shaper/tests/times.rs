//! When what was gathered leaves. The clock is the test's own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::change::{Cursor, Epoch, Lsn, Position};
use crate::feed::shaper::pacer::Due;
use crate::feed::shaper::{At, Columns, Form, Gathered, Pacer, Shaper, Shapers, Step};
use crate::feed::{Style, Subscriber, SubscriberId};
use crate::hub::{Bounds, Drained, Frame, Hold, Lane, Outbox};
use crate::protocol::{Shape, Version};
use crate::telemetry::Metrics;

struct Rig {
    shaper: Option<Arc<Shaper>>,
    outbox: Outbox,
    lane: Lane,
    metrics: Arc<Metrics>,
    calls: mpsc::UnboundedReceiver<Due>,
    call: Option<Due>,
    now: Instant,
}

fn rig(interval: Option<u64>, conflate: bool) -> Rig {
    let metrics = Metrics::new();
    let outbox = Outbox::new(Bounds {
        frames: 400,
        bytes: 1 << 20,
    });
    let lane = Lane::new(&outbox);
    let subscriber = Subscriber {
        id: SubscriberId(1),
        topic: "realtime:t".into(),
        version: Version::V2,
        style: Style::Modern,
        cursors: true,
        outbox: lane.clone(),
    };
    let shape = Shape {
        interval: interval.map(Duration::from_millis),
        conflate,
    };
    let (pacer, calls) = Pacer::new(Arc::clone(&metrics));
    Rig {
        shaper: Some(Shaper::new(&subscriber, 7, shape, &pacer)),
        outbox,
        lane,
        metrics,
        calls,
        call: None,
        now: Instant::now(),
    }
}

impl Rig {
    /// A new state of a row, at this place in the stream.
    fn row(&self, key: &str, n: u64) {
        let at = At {
            table: 1,
            cursor: cursor(n),
            told: n.is_multiple_of(2),
        };
        let step = Step::Put {
            key: key.into(),
            form: Form::Update,
            columns: Columns::All,
        };
        let data = |_: Option<Form>| format!("{{\"n\":{n}}}").into();
        let shaper = self.shaper.as_ref().expect("a shaper");
        if shaper.gather(Gathered { at, step, data }, self.now) {
            shaper.leave(self.now);
        }
    }

    fn drained(&self) -> Vec<Value> {
        match self.outbox.drain().now_or_never() {
            Some(Drained::Frames(frames)) => frames.iter().map(payload).collect(),
            _ => Vec::new(),
        }
    }

    /// Lets time pass.
    fn pass(&mut self, milliseconds: u64) {
        let until = self.now + Duration::from_millis(milliseconds);
        loop {
            self.call = self.call.take().or_else(|| self.calls.try_recv().ok());
            let Some(due) = self.call.take_if(|due| due.at <= until) else {
                break;
            };
            self.now = self.now.max(due.at);
            if let Some(shaper) = due.shaper.upgrade() {
                shaper.due(self.now);
            }
        }
        self.now = until;
    }
}

fn payload(frame: &Frame) -> Value {
    let Frame::Text(text) = frame else {
        panic!("{frame:?}")
    };
    let frame: Value = serde_json::from_str(text).unwrap();
    assert_eq!(frame[3], "postgres_changes");
    frame[4].clone()
}

fn numbers(payloads: &[Value]) -> Vec<u64> {
    let number = |payload: &Value| payload["data"]["n"].as_u64();
    payloads.iter().filter_map(number).collect()
}

#[test]
fn events_leave_so_many_times_a_second_and_in_order() {
    let mut rig = rig(Some(200), false);
    rig.row("a", 1);
    rig.row("a", 2);
    assert!(rig.drained().is_empty());
    assert_eq!(rig.lane.held_since(), Some(Position::behind(Lsn(1))));
    // The first at once, with what comes along.
    rig.pass(0);
    assert_eq!(numbers(&rig.drained()), [1, 2]);
    assert_eq!(rig.lane.held_since(), None);
    for n in 3..6 {
        rig.row("a", n);
        rig.pass(50);
    }
    rig.pass(49);
    assert!(rig.drained().is_empty());
    rig.pass(1);
    assert_eq!(numbers(&rig.drained()), [3, 4, 5]);
    // Nothing has come for longer than that.
    rig.pass(1_000);
    assert!(rig.drained().is_empty());
    rig.row("a", 6);
    rig.pass(0);
    assert_eq!(numbers(&rig.drained()), [6]);
    assert_eq!(rig.metrics.deliveries.get(), 6);
}

#[test]
fn what_leaves_says_what_it_stands_for_and_where() {
    let mut rig = rig(Some(200), true);
    for n in 1..=4 {
        rig.row("a", n);
    }
    rig.row("b", 5);
    rig.pass(0);
    let cursor = cursor(4);
    assert_eq!(
        rig.drained(),
        [
            json!({"ids": [7], "data": {"n": 4, "conflated": 3}, "cursor": cursor.to_string()}),
            json!({"ids": [7], "data": {"n": 5}}),
        ]
    );
    assert_eq!(rig.metrics.changes_conflated.get(), 3);
}

#[test]
fn without_a_rate_only_who_is_behind_gets_less() {
    let mut rig = rig(None, true);
    for n in 1..4 {
        rig.row("a", n);
    }
    assert_eq!(numbers(&rig.drained()), [1, 2, 3]);
    // It is written to, but does not read.
    let large = Frame::Text(format!("[0,0,0,\"postgres_changes\",\"{}\"]", "x".repeat(70_000)).into());
    rig.outbox.push(large).unwrap();
    for n in 4..100 {
        rig.row(if n % 2 == 0 { "a" } else { "b" }, n);
    }
    assert_eq!(rig.drained().len(), 1);
    rig.pass(10_000);
    assert_eq!(rig.lane.held_since(), Some(Position::behind(Lsn(4))));
    // Whoever comes for more has written what it took.
    assert!(rig.drained().is_empty());
    rig.pass(1_000);
    assert_eq!(numbers(&rig.drained()), [98, 99]);
    rig.row("a", 100);
    assert_eq!(numbers(&rig.drained()), [100]);
}

fn cursors(payloads: &[Value]) -> Vec<Cursor> {
    let cursor = |payload: &Value| payload["cursor"].as_str()?.parse().ok();
    payloads.iter().filter_map(cursor).collect()
}

fn cursor(n: u64) -> Cursor {
    Cursor {
        epoch: Epoch(1),
        position: Position::behind(Lsn(n)),
    }
}

/// In front of that.
fn before(n: u64) -> Cursor {
    Cursor {
        position: Position::behind(Lsn(n)).before(),
        ..cursor(n)
    }
}

#[test]
fn cursors_lead_to_in_front_of_what_others_have_gathered() {
    let mut quick = rig(Some(100), true);
    // Another item of the same channel.
    let mut slow = Hold::new(&quick.lane);
    slow.set(1, 1, Some(Position::behind(Lsn(3)))).unwrap();
    quick.row("a", 2);
    quick.row("b", 4);
    quick.pass(0);
    assert_eq!(cursors(&quick.drained()), [cursor(2), before(3)]);
    slow.set(0, 0, None).unwrap();
    quick.row("a", 6);
    quick.pass(100);
    assert_eq!(cursors(&quick.drained()), [cursor(6)]);
}

#[test]
fn cursors_lead_to_in_front_of_what_stands_for_more_behind_them() {
    let mut rig = rig(Some(100), true);
    for (key, n) in [("a", 2), ("b", 4), ("c", 6), ("b", 8), ("d", 10)] {
        rig.row(key, n);
    }
    rig.pass(0);
    let left = rig.drained();
    assert_eq!(numbers(&left), [2, 6, 8, 10]);
    assert_eq!(cursors(&left), [cursor(2), before(4), cursor(8), cursor(10)]);
}

/// Items of one channel.
fn channel(rig: &mut Rig, others: &[(Option<u64>, bool)]) -> (Shapers, Vec<i64>) {
    let first = rig.shaper.take().expect("a shaper");
    let mut shapers = vec![first];
    for (number, (interval, conflate)) in others.iter().enumerate() {
        let (subscriber, pacer) = (shapers[0].subscriber.clone(), shapers[0].pacer.clone());
        let shape = Shape {
            interval: interval.map(Duration::from_millis),
            conflate: *conflate,
        };
        let id = 8 + i64::try_from(number).expect("few");
        shapers.push(Shaper::new(&subscriber, id, shape, &pacer));
    }
    let ids = shapers.iter().map(|shaper| shaper.binding).collect();
    let subscriber = shapers[0].subscriber.clone();
    (Shapers::of(&subscriber, shapers), ids)
}

/// A change of one row of ten, to all items that gather it.
fn pass(shapers: &Shapers, ids: &[i64], n: u64, catches_up: bool) {
    let mut passing = shapers
        .pass(Position::behind(Lsn(n)), catches_up)
        .expect("shapers");
    for id in ids {
        if let Some(shaper) = passing.shaper(*id) {
            let at = At {
                table: 1,
                cursor: cursor(n),
                told: true,
            };
            let step = Step::Put {
                key: (n % 10).to_string().into(),
                form: Form::Update,
                columns: Columns::All,
            };
            let data = |_: Option<Form>| format!("{{\"n\":{n}}}").into();
            passing.gather(shaper, Gathered { at, step, data });
        }
    }
    passing.end();
}

#[test]
fn while_a_change_passes_nothing_leads_past_it() {
    let mut rig = rig(None, true);
    let (shapers, ids) = channel(&mut rig, &[(None, true)]);
    let passing = shapers.pass(Position::behind(Lsn(1)), false);
    assert_eq!(rig.lane.held_since(), Some(Position::behind(Lsn(1))));
    passing.expect("shapers").end();
    assert_eq!(rig.lane.held_since(), None);
    // Both let go of it at once; only behind the last of them is it over.
    pass(&shapers, &ids, 2, false);
    assert_eq!(cursors(&rig.drained()), [before(2), cursor(2)]);
}

#[test]
fn what_was_missed_leaves_in_portions_that_grow() {
    let mut rig = rig(Some(3_600_000), true);
    let (shapers, ids) = channel(&mut rig, &[(Some(3_600_000), false)]);
    let mut leads_on = Vec::new();
    let mut frames = 0;
    for n in 1..=1_000 {
        pass(&shapers, &ids, n, true);
        let left = rig.drained();
        frames += left.len();
        if rig.lane.held_since().is_none() {
            leads_on.extend(cursors(&left).last().map(|last| last.position.commit.0));
        }
    }
    // The first at once, then of twice as many frames each time; none once there are as many as there are rows.
    assert_eq!(leads_on, [1, 3, 7, 15]);
    shapers.flush();
    let rest = rig.drained();
    assert_eq!(numbers(&rest), (991..=1_000).collect::<Vec<_>>());
    assert_eq!(frames + rest.len(), 25);
    // Then at its pace.
    pass(&shapers, &ids, 1_001, false);
    assert!(rig.drained().is_empty());
}

#[test]
fn with_a_rate_the_latest_waits_for_who_is_behind() {
    let mut rig = rig(Some(100), true);
    let large = Frame::Text(format!("[0,0,0,\"postgres_changes\",\"{}\"]", "x".repeat(70_000)).into());
    rig.outbox.push(large).unwrap();
    for n in 1..20 {
        rig.row("a", n);
        rig.pass(100);
    }
    assert_eq!(rig.drained().len(), 1);
    assert!(rig.drained().is_empty());
    rig.pass(1_000);
    assert_eq!(numbers(&rig.drained()), [19]);
}

#[test]
fn what_is_gathered_is_bounded_with_the_outbox() {
    let mut rig = rig(Some(60_000), true);
    rig.row("first", 0);
    rig.pass(0);
    assert_eq!(numbers(&rig.drained()), [0]);
    // A quarter of the outbox's frames may be held back; one more lets all of them go.
    for n in 1..=100 {
        rig.row(&n.to_string(), n);
    }
    assert!(rig.drained().is_empty());
    rig.row("one more", 101);
    assert_eq!(rig.drained().len(), 101);
    assert_eq!(rig.lane.held_since(), None);
}

#[test]
fn whoever_has_left_gets_nothing_more() {
    let mut rig = rig(Some(200), false);
    rig.row("a", 1);
    rig.lane.end();
    rig.pass(1_000);
    assert!(rig.drained().is_empty() && rig.lane.held_since().is_none());
    // Or is gone before its time has come.
    rig.row("a", 2);
    assert!(rig.lane.held_since().is_some());
    rig.shaper = None;
    assert_eq!(rig.lane.held_since(), None);
    rig.pass(1_000);
    assert!(rig.drained().is_empty());
}
