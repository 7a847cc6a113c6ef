//! What the stream says of the tables that it carries: as it was asked to, and by itself.

use super::resume::{behind, catch_up, come_back, heard, started, transaction};
use super::transactions::batch;
use super::*;
use crate::change::Streamed;
use crate::feed::distance::Distance;

const RESYNC: &str = "resync: table public.t was not followed all the time";

/// The stream carries this set, `t` only from 105 on.
fn late(tables: &TableSet) -> Event {
    Event::Tables(Streamed {
        tables: Arc::clone(tables),
        late: Arc::new(BTreeSet::from([TableName::new("public", "t")])),
        from: Lsn(105),
        by_identity: true,
        ..Streamed::default()
    })
}

#[tokio::test]
async fn what_was_asked_for_is_waited_for_whatever_is_told_meanwhile() {
    let (mut pump, lane, _db) = started().await;
    let before = Arc::clone(&pump.snapshot.streamed);
    let wanted = pump.parts.tables.subscribe();
    pump.by_identity = true;
    pump.made_anew = true;
    pump.settle();
    assert!(wanted.has_changed().expect("a pump"), "asked for once more");
    // On its way when that was asked for: what came since has been discarded, and comes again behind what was asked for.
    let mut events = transaction(110, "1");
    events.push(late(&before));
    events.extend(transaction(120, "2"));
    batch(&mut pump, events).await;
    assert_eq!(heard(&lane), [RESYNC]);
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(100));
    let mut again = vec![Event::Tables(Streamed {
        tables: Arc::clone(&wanted.borrow()),
        from: Lsn(105),
        by_identity: true,
        ..Streamed::default()
    })];
    again.extend(transaction(110, "1"));
    again.extend(transaction(120, "2"));
    batch(&mut pump, again).await;
    assert_eq!(heard(&lane), ["1", "2"]);
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(120));
}

#[tokio::test]
async fn a_table_that_is_made_anew_while_it_is_asked_for_is_asked_for_again() {
    let (mut pump, _lane, _db) = started().await;
    let wanted = pump.parts.tables.subscribe();
    pump.by_identity = true;
    pump.made_anew = true;
    pump.settle();
    let first = Arc::clone(&wanted.borrow());
    pump.made_anew = true;
    // It was published before.
    batch(&mut pump, vec![late(&first)]).await;
    assert!(!Arc::ptr_eq(&first, &wanted.borrow()));
    assert!(pump.streaming.is_none());
}

#[tokio::test]
async fn who_is_catching_up_is_told_of_a_table_that_came_late() {
    for (passed, pass) in [(true, false), (true, true), (false, false)] {
        let (mut pump, _first, _db) = started().await;
        batch(&mut pump, transaction(110, "1")).await;
        let since = Since {
            passed,
            ..behind(100)
        };
        let lane = come_back(&mut pump, 2, since, 100).await;
        if pass {
            Distance::ALL
                .into_iter()
                .for_each(|distance| pump.gather(distance));
        }
        let tables = Arc::clone(&pump.snapshot.streamed);
        batch(&mut pump, vec![late(&tables)]).await;
        catch_up(&mut pump).await;
        batch(&mut pump, transaction(120, "2")).await;
        assert_eq!(heard(&lane), [RESYNC, "live", "2"], "{passed} {pass}");
    }
}

#[tokio::test]
async fn who_comes_back_to_a_table_of_which_a_partition_came_late_is_told() {
    let (mut pump, _lane, db) = started().await;
    db.batch_execute(
        "create table parts (id int primary key) partition by range (id);
         create table part partition of parts for values from (0) to (9); alter publication p add table parts",
    )
    .await
    .expect("a partitioned table");
    pump.parts.keeper.refresh().await.expect("a catalog");
    pump.adopt().await;
    pump.settle();
    let [parts, part] = ["parts", "part"].map(|name| TableName::new("public", name));
    let mut told = Streamed {
        tables: Arc::clone(&pump.snapshot.streamed),
        ..Streamed::default()
    };
    batch(
        &mut pump,
        vec![Event::Tables(told.clone()), Event::Position(Lsn(110))],
    )
    .await;
    let reaches = |pump: &Pump| {
        pump.history
            .reaches(&behind(100), pump.position, [&parts])
            .is_ok()
    };
    assert!(reaches(&pump));
    told.late = Arc::new(BTreeSet::from([part]));
    told.from = Lsn(105);
    batch(&mut pump, vec![Event::Tables(told)]).await;
    assert!(!reaches(&pump));
}
