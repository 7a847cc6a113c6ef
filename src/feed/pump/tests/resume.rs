//! Who comes back gets what it missed, in order and once, and then what is new.

use super::transactions::{batch, delivered, insert, live};
use super::*;
use crate::change::{Change, Cursor, Epoch, Lineage, Position, Streamed};
use crate::feed::distance::Distance;
use crate::hub::{Drained, Outbox};
use futures_util::FutureExt;

pub(super) const EPOCH: Epoch = Epoch(9);

/// A transaction that inserts a row with this `id` and ends there.
pub(super) fn transaction(end: u64, id: &str) -> Vec<Event> {
    let transaction = Arc::new(Transaction {
        xid: u32::try_from(end).unwrap(),
        commit_lsn: Lsn(end - 1),
        end_lsn: Lsn(end),
        commit_micros: 0,
    });
    vec![
        Event::Begin(Arc::clone(&transaction)),
        insert("t", &[("a", "1"), ("b", "1"), ("id", id)]),
        Event::Commit(transaction),
    ]
}

/// A pump whose window begins at 100, with a live subscriber.
pub(super) async fn started() -> (Pump, Lane, Connection) {
    let (mut pump, lane, db) = live().await;
    let begin = Event::Epoch {
        lineage: Arc::new(Lineage::new(EPOCH)),
        start: Lsn(100),
    };
    let tables = Event::Tables(Streamed {
        tables: Arc::clone(&pump.snapshot.streamed),
        ..Streamed::default()
    });
    batch(&mut pump, vec![begin, tables, Event::Position(Lsn(100))]).await;
    (pump, lane, db)
}

pub(super) fn behind(commit: u64) -> Since {
    Cursor {
        epoch: EPOCH,
        position: Position::behind(Lsn(commit)),
    }
    .into()
}

/// Somebody comes back; its outbox takes this many frames.
pub(super) async fn come_back(pump: &mut Pump, id: u64, since: Since, frames: usize) -> Lane {
    let (mut add, _answered) = checked(pump).await;
    let lane = Lane::new(&Outbox::new(Bounds {
        frames,
        bytes: 1 << 20,
    }));
    add.subscriber.id = SubscriberId(id);
    add.subscriber.outbox = lane.clone();
    add.since = Some(since);
    add.on_live = vec![Frame::Text("live".into())];
    pump.command(Command::Add(add)).await;
    pump.settle();
    lane
}

/// What has come: ids of rows, or the message of a notice, or what is sent when somebody is live.
pub(super) fn heard(lane: &Lane) -> Vec<String> {
    let Some(Drained::Frames(frames)) = lane.outbox().drain().now_or_never() else {
        return Vec::new();
    };
    frames
        .into_iter()
        .map(|frame| {
            let Frame::Text(text) = frame else {
                panic!("{frame:?}");
            };
            let Ok(frame) = serde_json::from_str::<serde_json::Value>(&text) else {
                return text.to_string();
            };
            let payload = &frame[4];
            let id = &payload["data"]["record"]["id"];
            match (id.as_i64(), payload["cursor"].as_str()) {
                (Some(id), Some(_)) => format!("{id} with its cursor"),
                (Some(id), None) => id.to_string(),
                (None, _) => payload["message"].as_str().unwrap().to_owned(),
            }
        })
        .collect()
}

pub(super) async fn catch_up(pump: &mut Pump) {
    while pump.can_catch_up() {
        pump.catch_up().await;
    }
}

#[tokio::test]
async fn what_was_missed_comes_before_what_is_new() {
    let (mut pump, first, _db) = started().await;
    for (end, id) in [(110, "1"), (120, "2"), (130, "3")] {
        batch(&mut pump, transaction(end, id)).await;
    }
    let lane = come_back(&mut pump, 2, behind(110), 100).await;
    // Between its registration and the end of the pass something new is delivered.
    batch(&mut pump, transaction(140, "4")).await;
    assert_eq!(heard(&lane), [""; 0], "not in front of what it missed");
    catch_up(&mut pump).await;
    batch(&mut pump, transaction(150, "5")).await;
    let all = [
        "2 with its cursor",
        "3 with its cursor",
        "4 with its cursor",
        "resumed: nothing was missed",
        "live",
        "5",
    ];
    assert_eq!(heard(&lane), all);
    assert_eq!(delivered(&first), 5, "the others got everything once");
}

#[tokio::test]
async fn what_is_new_goes_first_while_others_catch_up() {
    const NEW: u64 = 20;
    let (mut pump, first, _db) = started().await;
    for id in 1..=2_000_u64 {
        batch(&mut pump, transaction(100 + id, &id.to_string())).await;
        heard(&first);
    }
    let lane = come_back(&mut pump, 2, behind(100), 100_000).await;
    let (events, incoming) = mpsc::channel(1);
    pump.parts.events = incoming;
    let (mut calls, shutdown) = (Calls::new(&pump.parts), Shutdown::new());
    for id in 1..=NEW {
        let end = 10_000 + id;
        events.try_send(transaction(end, &end.to_string())).expect("room");
        assert!(pump.turn(&mut calls, &shutdown).await);
        assert_eq!(heard(&first), [end.to_string()], "whatever else is to be done");
    }
    let mut all = Vec::new();
    while all.last().is_none_or(|last| last != "live") {
        pump.turn(&mut calls, &shutdown).await;
        all.extend(heard(&lane));
    }
    assert_eq!(all.len(), 2_000 + usize::try_from(NEW).unwrap() + 2);
    assert_eq!(all[all.len() - 2..], ["resumed: nothing was missed", "live"]);
}

#[tokio::test]
async fn a_large_transaction_is_caught_up_with_in_portions() {
    let (mut pump, _first, _db) = started().await;
    let mut events = transaction(110, "0");
    let commit = events.pop().unwrap();
    events.truncate(1);
    events.extend((1..=1_000).map(|ordinal| {
        let Event::Change(change) = insert("t", &[("a", "1"), ("b", "1"), ("id", &ordinal.to_string())])
        else {
            panic!("no change");
        };
        Event::Change(Change { ordinal, ..change })
    }));
    events.push(commit);
    batch(&mut pump, events).await;
    let lane = come_back(&mut pump, 2, behind(100), 100_000).await;
    pump.gather(Distance::Middle);
    let mut all = Vec::new();
    while pump.catch_up_with_next(Distance::Middle).await {
        let some = heard(&lane);
        assert!((1..=512).contains(&some.len()), "{}", some.len());
        all.extend(some);
    }
    assert!(
        all.iter()
            .cloned()
            .eq((1..=1_000).map(|id| format!("{id} with its cursor")))
    );
}

#[tokio::test]
async fn who_reads_slowly_goes_on_when_it_has_read() {
    let (mut pump, _first, _db) = started().await;
    for id in 1..=20_u64 {
        batch(&mut pump, transaction(100 + id, &id.to_string())).await;
    }
    let slow = come_back(&mut pump, 2, behind(100), 4).await;
    let fast = come_back(&mut pump, 3, behind(100), 100).await;
    catch_up(&mut pump).await;
    assert_eq!(heard(&fast).len(), 22);
    let mut all = Vec::new();
    loop {
        let some = heard(&slow);
        if some.is_empty() {
            break;
        }
        all.extend(some);
        catch_up(&mut pump).await;
    }
    assert!(slow.outbox().is_open());
    let rows: Vec<_> = (1..=20).map(|id| format!("{id} with its cursor")).collect();
    assert_eq!(all[..20], rows);
    assert_eq!(all[20..], ["resumed: nothing was missed", "live"]);
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_what_it_has_seen() {
    let (mut pump, _first, _db) = started().await;
    for (end, id) in [(110, "1"), (120, "2"), (130, "3")] {
        batch(&mut pump, transaction(end, id)).await;
    }
    // It was taken behind 120, does not see 110 although that was committed before, and sees 130.
    let since = Since {
        seen: Some("105:131:110".parse().unwrap()),
        passed: false,
        ..behind(120)
    };
    let lane = come_back(&mut pump, 2, since, 100).await;
    catch_up(&mut pump).await;
    assert_eq!(heard(&lane)[0], "1 with its cursor");
    batch(&mut pump, transaction(140, "4")).await;
    assert_eq!(heard(&lane), ["4"]);
}

#[tokio::test]
async fn who_cannot_go_on_is_told_and_gets_what_is_new() {
    let (mut pump, _first, _db) = started().await;
    batch(&mut pump, transaction(110, "1")).await;
    let foreign = Cursor {
        epoch: Epoch(8),
        ..behind(105).cursor
    };
    let cases = [
        (foreign.into(), "resync: the database was replaced or restored"),
        (
            behind(99),
            "resync: what was missed is older than the replay window",
        ),
        (behind(111), "resync: the cursor is ahead of the database"),
    ];
    for (id, (since, told)) in (2..).zip(cases) {
        let lane = come_back(&mut pump, id, since, 100).await;
        catch_up(&mut pump).await;
        assert_eq!(heard(&lane), [told, "live"]);
    }
}

#[tokio::test]
async fn the_window_moves_on_past_who_reads_too_slowly() {
    let (mut pump, _first, _db) = started().await;
    for id in 1..=20_u64 {
        batch(&mut pump, transaction(100 + id, &id.to_string())).await;
    }
    let lane = come_back(&mut pump, 2, behind(100), 4).await;
    catch_up(&mut pump).await;
    pump.history.interrupt(Lsn(120));
    assert_eq!(heard(&lane), ["1 with its cursor", "2 with its cursor"]);
    catch_up(&mut pump).await;
    let told = ["resync: what was missed is older than the replay window", "live"];
    assert_eq!(heard(&lane), told);
}

#[tokio::test]
async fn new_claims_and_leaving_are_heeded_while_catching_up() {
    let (mut pump, _first, _db) = started().await;
    for id in 1..=20_u64 {
        batch(&mut pump, transaction(100 + id, &id.to_string())).await;
    }
    let stays = come_back(&mut pump, 2, behind(100), 4).await;
    let leaves = come_back(&mut pump, 3, behind(100), 4).await;
    catch_up(&mut pump).await;
    assert_eq!((heard(&stays).len(), heard(&leaves).len()), (2, 2));
    let known = pump.parts.keeper.with_role(&"pump_other".into()).await;
    assert!(known.expect("an answer").is_some());
    let (answer, answered) = oneshot::channel();
    pump.command(Command::Replace {
        id: SubscriberId(2),
        claims: claims("pump_other"),
        on_live: Vec::new(),
        answer,
    })
    .await;
    assert_eq!(answered.await, Ok(Ok(())));
    pump.command(Command::Remove(SubscriberId(3))).await;
    let mut rest = Vec::new();
    for _ in 0..20 {
        catch_up(&mut pump).await;
        rest.extend(heard(&stays));
    }
    assert_eq!(rest.len(), 20, "{rest:?}");
    assert_eq!(rest[0], "3 with its cursor");
    assert_eq!(heard(&leaves), [""; 0]);
}

fn newer(role: &str) -> NewerClaims {
    let newer = NewerClaims::default();
    newer.put(claims(role));
    newer
}

#[tokio::test]
async fn newer_claims_hold_for_the_rest_whether_it_has_begun_or_not() {
    let (mut pump, _first, _db) = started().await;
    for id in 1..=20_u64 {
        batch(&mut pump, transaction(100 + id, &id.to_string())).await;
    }
    for role in ["pump_reader", "pump_other"] {
        let known = pump.parts.keeper.with_role(&role.into()).await;
        assert!(known.expect("an answer").is_some());
    }
    let role = |pump: &Pump, id| {
        let entry = pump.roster.get(SubscriberId(id)).expect("it is there");
        entry.claims.role.to_string()
    };
    let stays = come_back(&mut pump, 2, behind(100), 4).await;
    catch_up(&mut pump).await;
    pump.command(Command::Newer {
        id: SubscriberId(2),
        newer: newer("pump_other"),
    })
    .await;
    assert_eq!(role(&pump, 2), "pump_other");
    let mut all = Vec::new();
    for _ in 0..20 {
        all.extend(heard(&stays));
        catch_up(&mut pump).await;
    }
    assert_eq!(all.len(), 22, "each once: {all:?}");
    // It is live: what is said of claims then is said by others.
    pump.command(Command::Newer {
        id: SubscriberId(2),
        newer: newer("pump_reader"),
    })
    .await;
    assert_eq!(role(&pump, 2), "pump_other");
    // They came before the subscription did.
    let (mut add, _answered) = checked(&pump).await;
    add.newer = Some(newer("pump_other"));
    (add.subscriber.id, add.since) = (SubscriberId(3), Some(behind(100)));
    pump.command(Command::Add(add)).await;
    assert_eq!(role(&pump, 3), "pump_other");
    // Those of a role that nobody has end it without a word: it is asked for anew.
    let (mut add, answered) = checked(&pump).await;
    (add.subscriber.id, add.since) = (SubscriberId(4), Some(behind(100)));
    pump.command(Command::Add(add)).await;
    pump.command(Command::Newer {
        id: SubscriberId(4),
        newer: newer("nobody"),
    })
    .await;
    assert!(pump.roster.get(SubscriberId(4)).is_none() && answered.await.is_err());
}

#[tokio::test]
async fn a_large_change_of_one_record_is_gone_on_from_in_its_middle() {
    let (mut pump, _first, _db) = started().await;
    let Event::Change(change) = insert("t", &[("a", "1"), ("b", "1"), ("id", "7")]) else {
        panic!("no change");
    };
    let at = |ordinal| {
        Event::Change(Change {
            ordinal,
            ..change.clone()
        })
    };
    let mut events = transaction(110, "1");
    let commit = events.pop().unwrap();
    events.truncate(1);
    events.extend([at(0), at(1), at(2), commit]);
    batch(&mut pump, events).await;
    let middle = Cursor {
        epoch: EPOCH,
        position: Position {
            commit: Lsn(110),
            change: Lsn(1),
            ordinal: 0,
        },
    };
    let lane = come_back(&mut pump, 2, middle.into(), 100).await;
    catch_up(&mut pump).await;
    assert_eq!(heard(&lane).len(), 4, "two rows, and that it is live");
}
