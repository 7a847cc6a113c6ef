//! Whoever has little to catch up with does not wait for those who have much.

use super::resume::{behind, catch_up, come_back, heard, started, transaction};
use super::transactions::{batch, insert};
use super::*;
use crate::change::Change;
use crate::feed::distance::Distance;

/// A transaction that ends there, with rows from 1 to `rows`.
async fn large(pump: &mut Pump, end: u64, rows: u32) {
    let mut events = transaction(end, "0");
    let commit = events.pop().unwrap();
    events.truncate(1);
    events.extend((1..=rows).map(|ordinal| {
        let Event::Change(change) = insert("t", &[("a", "1"), ("b", "1"), ("id", &ordinal.to_string())])
        else {
            panic!("no change");
        };
        Event::Change(Change { ordinal, ..change })
    }));
    events.push(commit);
    batch(pump, events).await;
}

/// Reads until it is live, and returns how many frames there were.
async fn finish(pump: &mut Pump, lane: &Lane) -> usize {
    let mut all = Vec::new();
    while !is_live(&all) {
        assert!(lane.outbox().is_open());
        catch_up(pump).await;
        all.extend(heard(lane));
    }
    all.len()
}

fn is_live(heard: &[String]) -> bool {
    heard.last().is_some_and(|last| last == "live")
}

#[tokio::test]
async fn who_was_away_for_a_moment_does_not_wait_for_those_who_want_everything() {
    let (mut pump, _first, _db) = started().await;
    large(&mut pump, 110, 3_000).await;
    batch(&mut pump, transaction(120, "-1")).await;
    let mut far = Vec::new();
    for id in 10..15 {
        far.push(come_back(&mut pump, id, behind(100), 100_000).await);
    }
    pump.catch_up().await;
    assert!(!heard(&far[0]).is_empty(), "they have begun");
    let near = come_back(&mut pump, 2, behind(110), 100).await;
    let mut steps = 0;
    let mut all = Vec::new();
    while !is_live(&all) {
        pump.catch_up().await;
        steps += 1;
        all.extend(heard(&near));
        // A step is as long as its time, which a busy machine may take away.
        assert!(
            steps < 4 || !all.is_empty(),
            "each of the others has a turn at most"
        );
    }
    assert_eq!(all, ["-1 with its cursor", "resumed: nothing was missed", "live"]);
    assert!(!is_live(&heard(&far[0])), "there is more for them");
    for lane in far {
        finish(&mut pump, &lane).await;
    }
}

#[tokio::test]
async fn who_wants_everything_waits_for_the_pass_under_way_and_for_no_other() {
    let (mut pump, _first, _db) = started().await;
    large(&mut pump, 110, 600).await;
    let mut loops = Vec::new();
    let mut ids = 10..;
    for id in ids.by_ref().take(5) {
        loops.push((id, come_back(&mut pump, id, behind(100), 100_000).await));
    }
    pump.gather(Distance::Middle);
    assert!(pump.catch_up_with_next(Distance::Middle).await, "they have begun");
    let honest = come_back(&mut pump, 2, behind(100), 100_000).await;
    let (mut all, mut passes) = (Vec::new(), 0);
    while !is_live(&all) {
        pump.catch_up().await;
        all.extend(heard(&honest));
        let mut arrived = false;
        for (id, lane) in &mut loops {
            if is_live(&heard(lane)) {
                arrived = true;
                pump.command(Command::Remove(SubscriberId(*id))).await;
                *id = ids.next().unwrap();
                *lane = come_back(&mut pump, *id, behind(100), 100_000).await;
            }
        }
        passes += usize::from(arrived);
        assert!(passes <= 2, "however often the others ask");
    }
    assert_eq!((all.len(), passes), (602, 2));
}

#[tokio::test]
async fn a_cursor_that_nobody_replaces_leaves_the_window_and_begins_no_pass() {
    let (mut pump, _first, _db) = started().await;
    large(&mut pump, 110, 600).await;
    for (id, begins) in [(2, true), (3, false)] {
        let lane = come_back(&mut pump, id, behind(100), 100_000).await;
        assert_eq!(pump.resuming.is_empty(), !begins);
        catch_up(&mut pump).await;
        let told = heard(&lane);
        let expected = match begins {
            true => "resumed: nothing was missed",
            false => "resync: what was missed is older than the replay window",
        };
        assert_eq!(told[told.len() - 2..], [expected, "live"]);
        pump.history.interrupt(Lsn(110));
    }
}

#[tokio::test]
async fn who_is_ahead_of_a_pass_is_taken_along() {
    let (mut pump, _first, _db) = started().await;
    for id in 1..=400_u64 {
        batch(&mut pump, transaction(100 + id, &id.to_string())).await;
    }
    let first = come_back(&mut pump, 2, behind(100), 100_000).await;
    pump.gather(Distance::Near);
    assert!(pump.catch_up_with_next(Distance::Near).await);
    let seen = heard(&first).len();
    assert!((1..300).contains(&seen), "{seen}");
    let ahead = come_back(&mut pump, 3, behind(490), 100_000).await;
    let again = come_back(&mut pump, 4, behind(100), 100_000).await;
    pump.gather(Distance::Near);
    while pump.catch_up_with_next(Distance::Near).await {}
    assert_eq!(heard(&first).len(), 400 - seen);
    let missed: Vec<_> = (391..=400).map(|id| format!("{id} with its cursor")).collect();
    assert_eq!(heard(&ahead), missed);
    assert_eq!(heard(&again), [""; 0], "part of it is over");
    catch_up(&mut pump).await;
    assert_eq!(heard(&again).len(), 402);
    assert!(is_live(&heard(&ahead)) && is_live(&heard(&first)));
}

#[tokio::test]
async fn who_waited_for_long_is_with_those_who_have_as_far_to_go() {
    let (mut pump, _first, _db) = started().await;
    for id in 1..=4_u64 {
        batch(&mut pump, transaction(100 + id, &id.to_string())).await;
    }
    let slow = come_back(&mut pump, 2, behind(100), 4).await;
    catch_up(&mut pump).await;
    for id in 5..=605_u64 {
        batch(&mut pump, transaction(100 + id, &id.to_string())).await;
    }
    assert_eq!(heard(&slow), ["1 with its cursor", "2 with its cursor"]);
    let table = pump.snapshot.catalog.tables[&TableName::new("public", "t")].oid;
    for (distance, is_there) in [(Distance::Near, false), (Distance::Middle, true)] {
        pump.gather(distance);
        let there = pump.roster.behind.at(distance).table(table).is_some();
        assert_eq!(there, is_there, "{distance:?}");
    }
    assert_eq!(finish(&mut pump, &slow).await, 605);
}

#[tokio::test]
async fn those_who_ask_do_not_wait_for_a_step_each() {
    let (mut pump, _first, _db) = started().await;
    large(&mut pump, 110, 3_000).await;
    let far = come_back(&mut pump, 2, behind(100), 100_000).await;
    let (commands, asked) = mpsc::unbounded_channel();
    pump.parts.commands = asked;
    let (_events, incoming) = mpsc::channel(1);
    pump.parts.events = incoming;
    for id in 1_000..1_200 {
        commands.send(Command::Remove(SubscriberId(id))).expect("a pump");
    }
    let (mut calls, shutdown) = (Calls::new(&pump.parts), Shutdown::new());
    let mut turns = 0;
    while !pump.parts.commands.is_empty() {
        pump.turn(&mut calls, &shutdown).await;
        turns += 1;
    }
    assert!(turns < 100, "{turns}");
    finish(&mut pump, &far).await;
}
