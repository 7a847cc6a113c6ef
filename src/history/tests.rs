use std::collections::BTreeSet;

use super::*;
use crate::change::{Action, Cursor, Layout, RowBuilder};

const EPOCH: Epoch = Epoch(7);

fn bounds(bytes: usize) -> Bounds {
    Bounds {
        age: Duration::from_secs(60),
        bytes,
    }
}

/// A window that begins at 100, with the table `public.t`.
fn history(bytes: usize) -> History {
    let mut history = History::new(bounds(bytes));
    history.begin(lineage(EPOCH), Lsn(100));
    history.carry(&tables(&["t"]), Lsn(100));
    history
}

fn lineage(epoch: Epoch) -> Arc<Lineage> {
    Arc::new(Lineage::new(epoch))
}

/// Whether somebody can go on from there.
fn reaches<'t>(
    history: &History,
    since: &Since,
    position: Lsn,
    tables: impl IntoIterator<Item = &'t TableName>,
) -> Result<(), Gap> {
    history.reaches(since, position, tables).map(drop)
}

fn table(name: &str) -> TableName {
    TableName::new("public", name)
}

fn tables(names: &[&str]) -> BTreeSet<TableName> {
    names.iter().map(|name| table(name)).collect()
}

fn transaction(end: u64) -> Arc<Transaction> {
    Arc::new(Transaction {
        xid: u32::try_from(end).unwrap(),
        commit_lsn: Lsn(end - 1),
        end_lsn: Lsn(end),
        commit_micros: 0,
    })
}

fn change(lsn: u64, ordinal: u32) -> Change {
    let layout = Arc::new(Layout { columns: Vec::new() });
    Change {
        lsn: Lsn(lsn),
        ordinal,
        action: Action::Insert,
        table: table("t"),
        new: Some(RowBuilder::default().finish(layout)),
        old: None,
        wire_bytes: 0,
    }
}

fn since(position: Position) -> Since {
    Cursor {
        epoch: EPOCH,
        position,
    }
    .into()
}

/// Pushes changes of a transaction that ends there, behind everything else in the window.
fn push(history: &mut History, end: u64, changes: Vec<Change>, at: Instant) {
    let before = history
        .parts
        .back()
        .map_or(Lsn(100), |part| match part.transaction.end_lsn {
            Lsn(before) if before == end => part.before,
            before => before,
        });
    history.push(&transaction(end), changes, before.max(history.left), at);
}

/// The places of everything behind a place.
fn behind(history: &History, mut place: Position) -> Vec<(u64, u64, u32)> {
    let mut found = Vec::new();
    while let Some((transaction, changes)) = history.next(place) {
        for change in changes {
            place = Position::of(transaction, change);
            found.push((place.commit.0, place.change.0, place.ordinal));
        }
    }
    found
}

#[test]
fn what_comes_behind_a_place_is_found_in_order() {
    let mut history = history(usize::MAX);
    let now = Instant::now();
    // The second transaction began before the first one ended, and comes in two parts.
    push(&mut history, 120, vec![change(110, 0), change(110, 1)], now);
    push(&mut history, 130, vec![change(105, 0), change(111, 0)], now);
    push(&mut history, 130, vec![change(112, 0)], now);
    let all = [
        (120, 110, 0),
        (120, 110, 1),
        (130, 105, 0),
        (130, 111, 0),
        (130, 112, 0),
    ];
    assert_eq!(behind(&history, Position::behind(Lsn(100))), all);
    for (i, (commit, change, ordinal)) in all.into_iter().enumerate() {
        let place = Position {
            commit: Lsn(commit),
            change: Lsn(change),
            ordinal,
        };
        assert_eq!(behind(&history, place), all[i + 1..], "{place:?}");
        assert_eq!(reaches(&history, &since(place), Lsn(130), &[table("t")]), Ok(()));
    }
    assert_eq!(behind(&history, Position::behind(Lsn(120))), all[2..]);
    assert_eq!(behind(&history, Position::behind(Lsn(130))), []);
}

#[test]
fn what_lies_behind_a_place_is_counted() {
    let mut history = history(5 * PER_CHANGE);
    let now = Instant::now();
    let counted = |history: &History| {
        let places = (95..170).map(|lsn| Position::behind(Lsn(lsn)));
        let within = [(120, 110), (130, 105), (140, 131)].map(|(commit, change)| Position {
            commit: Lsn(commit),
            change: Lsn(change),
            ordinal: 0,
        });
        for place in places.chain(within) {
            assert_eq!(history.behind(place), behind(history, place).len(), "{place:?}");
        }
    };
    push(&mut history, 120, vec![change(110, 0), change(110, 1)], now);
    push(&mut history, 130, vec![change(105, 0), change(111, 0)], now);
    push(&mut history, 130, vec![change(112, 0)], now);
    counted(&history);
    history.abandon(&transaction(130));
    counted(&history);
    push(&mut history, 130, vec![change(105, 0)], now);
    push(
        &mut history,
        140,
        vec![change(131, 0), change(132, 0), change(133, 0)],
        now,
    );
    history.settle(now, Lsn(140), u64::MAX);
    assert_eq!(history.changes(), 4, "some have left");
    counted(&history);
    history.fail_over(lineage(Epoch(8)), Lsn(139));
    push(&mut history, 150, vec![change(141, 0)], now);
    counted(&history);
    history.interrupt(Lsn(150));
    push(&mut history, 160, vec![change(151, 0)], now);
    counted(&history);
    assert_eq!(history.behind(Position::default()), 1);
}

#[test]
fn old_changes_leave_and_the_slot_stays_a_window_behind() {
    let mut history = history(usize::MAX);
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    push(&mut history, 120, vec![change(110, 0)], start);
    assert_eq!(history.settle(start, Lsn(120), u64::MAX), Lsn(100));
    push(&mut history, 140, vec![change(130, 0)], later(30));
    assert_eq!(history.settle(later(30), Lsn(150), u64::MAX), Lsn(100));
    assert_eq!(history.settle(later(59), Lsn(160), u64::MAX), Lsn(100));
    assert_eq!(history.settle(later(60), Lsn(160), u64::MAX), Lsn(120));
    let at = |lsn| since(Position::behind(Lsn(lsn)));
    assert_eq!(reaches(&history, &at(110), Lsn(160), []), Err(Gap::TooOld));
    assert_eq!(reaches(&history, &at(120), Lsn(160), []), Ok(()));
    assert_eq!(history.settle(later(90), Lsn(170), u64::MAX), Lsn(150));
    assert_eq!((history.bytes(), history.changes()), (0, 0));
    // Nothing came behind the last change that has left: whoever has it has everything.
    assert_eq!(reaches(&history, &at(139), Lsn(170), []), Err(Gap::TooOld));
    assert_eq!(reaches(&history, &at(140), Lsn(170), []), Ok(()));
}

#[test]
fn a_transaction_that_leaves_in_parts_is_confirmed_when_all_of_it_has_left() {
    let mut history = history(PER_CHANGE + 1);
    let now = Instant::now();
    push(&mut history, 120, vec![change(110, 0)], now);
    push(&mut history, 120, vec![change(111, 0)], now);
    // The rest of it is still to come, and a restart needs all of it.
    assert_eq!(history.settle(now, Lsn(100), 0), Lsn(100));
    let middle = |change| {
        since(Position {
            commit: Lsn(120),
            change: Lsn(change),
            ordinal: 0,
        })
    };
    assert_eq!(reaches(&history, &middle(110), Lsn(120), []), Ok(()));
    push(&mut history, 120, vec![change(112, 0)], now);
    assert_eq!(history.settle(now, Lsn(100), 0), Lsn(100));
    assert_eq!(reaches(&history, &middle(110), Lsn(120), []), Err(Gap::TooOld));
    assert_eq!(reaches(&history, &middle(111), Lsn(120), []), Ok(()));
    push(&mut history, 130, vec![change(125, 0)], now);
    assert_eq!(history.settle(now, Lsn(130), 29), Lsn(120));
}

#[test]
fn postgres_comes_before_the_window() {
    let mut history = history(usize::MAX);
    let now = Instant::now();
    push(&mut history, 120, vec![change(110, 0)], now);
    push(&mut history, 500, vec![change(490, 0)], now);
    assert_eq!(history.settle(now, Lsn(500), 400), Lsn(100));
    assert_eq!(history.settle(now, Lsn(510), 400), Lsn(120));
    assert_eq!(history.changes(), 1);
    assert_eq!(
        history.settle(now, Lsn(600), 400),
        Lsn(600),
        "nothing of it was worth so much WAL"
    );
}

#[test]
fn no_window_keeps_nothing_and_confirms_everything() {
    let mut history = History::new(Bounds {
        age: Duration::ZERO,
        bytes: 1 << 20,
    });
    history.begin(lineage(EPOCH), Lsn(100));
    push(&mut history, 120, vec![change(110, 0)], Instant::now());
    assert_eq!(history.settle(Instant::now(), Lsn(120), u64::MAX), Lsn(120));
    let at = Position::behind(Lsn(119));
    assert_eq!(reaches(&history, &since(at), Lsn(120), []), Err(Gap::TooOld));
}

#[test]
fn what_cannot_be_gone_on_from_is_told_with_its_reason() {
    let mut history = history(usize::MAX);
    let at = |lsn| since(Position::behind(Lsn(lsn)));
    assert_eq!(reaches(&history, &at(100), Lsn(150), &[table("t")]), Ok(()));
    assert_eq!(reaches(&history, &at(99), Lsn(150), []), Err(Gap::TooOld));
    assert_eq!(reaches(&history, &at(151), Lsn(150), []), Err(Gap::Ahead));
    let none = reaches(&history, &at(120), Lsn(150), &[table("u")]);
    assert_eq!(none, Err(Gap::Table(table("u"))));
    history.carry(&tables(&["t", "u"]), Lsn(130));
    assert_eq!(reaches(&history, &at(120), Lsn(150), &[table("t")]), Ok(()));
    assert!(reaches(&history, &at(120), Lsn(150), &[table("u")]).is_err());
    assert_eq!(reaches(&history, &at(130), Lsn(150), &[table("u")]), Ok(()));
    history.replaced(&table("t"), Lsn(140));
    assert!(reaches(&history, &at(130), Lsn(150), &[table("t")]).is_err());
    history.begin(lineage(Epoch(8)), Lsn(100));
    assert_eq!(reaches(&history, &at(120), Lsn(150), []), Err(Gap::Epoch));
}

#[test]
fn an_abandoned_transaction_leaves_no_trace() {
    let mut history = history(usize::MAX);
    let now = Instant::now();
    push(&mut history, 120, vec![change(110, 0)], now);
    push(&mut history, 130, vec![change(111, 0)], now);
    push(&mut history, 130, vec![change(112, 0)], now);
    history.abandon(&transaction(130));
    assert_eq!(behind(&history, Position::default()), [(120, 110, 0)]);
    assert_eq!(history.bytes(), PER_CHANGE);
}

#[test]
fn a_snapshot_that_misses_what_has_left_is_too_late() {
    let now = Instant::now();
    let mut none = History::new(Bounds {
        age: Duration::ZERO,
        bytes: 1,
    });
    none.begin(lineage(EPOCH), Lsn(100));
    let (mut small, mut interrupted) = (history(1), history(usize::MAX));
    for history in [&mut small, &mut interrupted, &mut none] {
        push(history, 120, vec![change(110, 0)], now);
        history.settle(now, Lsn(120), u64::MAX);
    }
    interrupted.interrupt(Lsn(120));
    let at = |seen: &str| Since {
        seen: Some(seen.parse().unwrap()),
        passed: false,
        ..since(Position::behind(Lsn(120)))
    };
    for history in [small, interrupted, none] {
        assert_eq!(reaches(&history, &at("121:121:"), Lsn(120), []), Ok(()));
        let missing = reaches(&history, &at("119:121:120"), Lsn(120), []);
        assert_eq!(missing, Err(Gap::TooOld));
    }
}

#[test]
fn the_window_goes_on_after_a_failover_up_to_where_the_old_history_was_left() {
    let (start, promoted) = (Instant::now(), Epoch(8));
    let descends = |left| Arc::new(Lineage::new(promoted).from(EPOCH, Lsn(left)));
    let filled = || {
        let mut history = history(usize::MAX);
        push(&mut history, 120, vec![change(110, 0)], start);
        push(&mut history, 130, vec![change(111, 0)], start);
        history.settle(start, Lsn(140), u64::MAX);
        history
    };
    // The record of the second commit starts at 129: with 129 it is gone, with 130 it is not.
    for (left, kept) in [(130, 2), (129, 1)] {
        let mut history = filled();
        history.fail_over(descends(left), Lsn(left));
        assert_eq!(behind(&history, Position::default()).len(), kept, "{left}");
        assert_eq!(history.bytes(), kept * PER_CHANGE);
        assert_eq!(history.epoch(), Some(promoted));
        let first = since(Position::behind(Lsn(120)));
        let here = history.reaches(&first, Lsn(left), &[table("t")]).unwrap();
        assert_eq!(
            (here.cursor.epoch, here.cursor.position),
            (promoted, first.cursor.position)
        );
        let second = Position::behind(transaction(130).place());
        let gap = (kept == 1).then_some(Gap::Undone);
        assert_eq!(reaches(&history, &since(second), Lsn(left), []).err(), gap);
        assert_eq!(
            reaches(&history, &since(Position::behind(Lsn(140))), Lsn(left), []),
            Err(Gap::Undone)
        );
    }
}

#[test]
fn a_table_that_came_late_and_what_has_left_count_from_where_the_old_history_was_left() {
    let start = Instant::now();
    let descends = Arc::new(Lineage::new(Epoch(8)).from(EPOCH, Lsn(120)));
    let mut history = history(1);
    push(&mut history, 130, vec![change(111, 0)], start);
    assert_eq!(history.settle(start, Lsn(150), u64::MAX), Lsn(100));
    history.carry(&tables(&["t", "late"]), Lsn(140));
    history.fail_over(descends, Lsn(120));
    let at = |lsn| since(Position::behind(Lsn(lsn)));
    assert_eq!(reaches(&history, &at(120), Lsn(120), &[table("late")]), Ok(()));
    assert_eq!(reaches(&history, &at(119), Lsn(120), []), Err(Gap::TooOld));
    let later = start + Duration::from_secs(61);
    assert_eq!(
        history.settle(later, Lsn(120), u64::MAX),
        Lsn(120),
        "a mark of the old history"
    );
}

#[test]
fn a_snapshot_of_the_old_history_may_have_seen_what_is_gone() {
    let mut history = history(usize::MAX);
    let read = Since {
        seen: Some("119:121:".parse().unwrap()),
        ..since(Position::behind(Lsn(110)))
    };
    assert!(history.reaches(&read, Lsn(120), []).is_ok());
    history.fail_over(Arc::new(Lineage::new(Epoch(8)).from(EPOCH, Lsn(120))), Lsn(120));
    assert_eq!(reaches(&history, &read, Lsn(120), []), Err(Gap::Undone));
}
