//! Rows of `realtime.messages` reach their rooms in the place that they have among the row changes.

use super::transactions::{batch, delivered, live, transaction, wanted_row};
use super::*;
use crate::change::{Action, Change};
use crate::hub::Drained;
use crate::postgres::catalog::testing::table as fixture;
use crate::postgres::catalog::{Catalog, Channels, Table};
use crate::room::testing::listener;
use crate::room::{Member, RoomName};

/// Has the pump take these for the tables that broadcasts are stored in.
fn store_in(pump: &mut Pump, stored_in: &[TableName]) {
    let table = Arc::new(Table {
        name: TableName::new("realtime", "messages"),
        rls: true,
        stored_in: stored_in.to_vec(),
        ..fixture(1, "messages")
    });
    let old = &pump.snapshot;
    let catalog = Catalog {
        tables: old.catalog.tables.clone(),
        types: Arc::clone(&old.catalog.types),
        others: old.catalog.others.clone(),
        functions: old.catalog.functions.clone(),
        lookups: old.catalog.lookups.clone(),
        channels: Some(Channels {
            read: Arc::clone(&table),
            write: table,
        }),
        collation: old.catalog.collation,
    };
    pump.snapshot = Arc::new(Snapshot::new(catalog, old.roles.clone(), old.generation, true));
    pump.streaming = Some(Arc::clone(&pump.snapshot.streamed));
}

fn partition() -> TableName {
    TableName::new("realtime", "messages_2026_01_01")
}

/// A row of this table that is a broadcast to the private channel `room`.
fn said_in(table: TableName, event: &str) -> Event {
    let columns = [
        ("a", 23, "1"),
        ("b", 23, "1"),
        ("id", 2950, "00000000-0000-0000-0000-000000000001"),
        ("topic", 25, "room"),
        ("extension", 25, "broadcast"),
        ("event", 25, event),
        ("payload", 3802, "{}"),
        ("private", 16, "t"),
        ("inserted_at", 1114, "2026-01-01 00:00:00"),
    ];
    let mut row = RowBuilder::default();
    for (_, _, value) in columns {
        row.text(value);
    }
    let columns = columns.map(|(name, type_oid, _)| LayoutColumn {
        name: name.into(),
        type_oid,
    });
    Event::Change(Change {
        lsn: Lsn(1),
        ordinal: 0,
        action: Action::Insert,
        table,
        new: Some(row.finish(Arc::new(Layout {
            columns: columns.into(),
        }))),
        old: None,
        wire_bytes: 100,
    })
}

fn said(event: &str) -> Event {
    said_in(partition(), event)
}

/// A member of the private channel `room`, whose frames go into this outbox.
fn listen(pump: &Pump, outbox: &Outbox) -> Member {
    let name = RoomName {
        topic: "realtime:room".into(),
        private: true,
    };
    let member = pump.parts.rooms.enter(name, listener(outbox));
    member.open();
    member
}

/// What has been delivered since the last look: the events of broadcasts, and `row`.
async fn heard(outbox: &Outbox) -> Vec<String> {
    let Drained::Frames(frames) = outbox.drain().await else {
        panic!("the outbox is closed");
    };
    let name = |frame: &Frame| {
        let Frame::Text(text) = frame else {
            panic!("{frame:?}");
        };
        let frame: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let event = frame["payload"]["event"].as_str();
        event.unwrap_or("row").to_owned()
    };
    frames.iter().map(name).collect()
}

/// The rows can be decided by Postgres only.
async fn ask_about_rows(pump: &mut Pump, db: &Connection) {
    db.batch_execute(
        "create function public.ok(int) returns boolean language plpgsql as 'begin return true; end';
         alter table t enable row level security; create policy p on t using (public.ok(id))",
    )
    .await
    .expect("a policy");
    pump.parts.keeper.refresh().await.expect("a catalog");
    pump.adopt().await;
}

#[tokio::test]
async fn broadcasts_and_rows_of_a_transaction_keep_their_order() {
    let (mut pump, lane, db) = live().await;
    for asked in [false, true] {
        if asked {
            ask_about_rows(&mut pump, &db).await;
        }
        store_in(&mut pump, &[partition()]);
        assert!(pump.snapshot.streamed.contains(&partition()));
        let member = listen(&pump, lane.outbox());
        let mut events = vec![Event::Begin(transaction(3)), said("1"), wanted_row()];
        events.extend([said("2"), said("3"), wanted_row(), wanted_row(), said("4")]);
        batch(&mut pump, events).await;
        assert_eq!(delivered(&lane), 0, "not before the commit");
        let calls = pump.parts.metrics.judge_calls.get();
        batch(&mut pump, vec![Event::Commit(transaction(3))]).await;
        assert_eq!(pump.parts.metrics.judge_calls.get() > calls, asked);
        assert_eq!(
            heard(lane.outbox()).await,
            ["1", "row", "2", "3", "row", "row", "4"]
        );
        drop(member);
    }
}

#[tokio::test]
async fn a_transaction_that_does_not_go_on_says_nothing() {
    let (mut pump, lane, _db) = live().await;
    store_in(&mut pump, &[partition()]);
    let _member = listen(&pump, lane.outbox());
    batch(&mut pump, vec![Event::Begin(transaction(3)), said("1")]).await;
    let reset = Event::Stream(StreamState::Reset("came back different".to_owned()));
    batch(&mut pump, vec![reset]).await;
    let again = vec![
        Event::Begin(transaction(3)),
        said("1"),
        Event::Commit(transaction(3)),
    ];
    batch(&mut pump, again).await;
    assert_eq!(heard(lane.outbox()).await, ["1"]);
}

#[tokio::test]
async fn a_followed_table_of_broadcasts_goes_both_ways() {
    let (mut pump, lane, _db) = live().await;
    let table = TableName::new("public", "t");
    store_in(&mut pump, std::slice::from_ref(&table));
    let _member = listen(&pump, lane.outbox());
    let events = vec![
        Event::Begin(transaction(3)),
        said_in(table.clone(), "1"),
        said_in(table, "2"),
        Event::Commit(transaction(3)),
    ];
    batch(&mut pump, events).await;
    assert_eq!(heard(lane.outbox()).await, ["1", "row", "2", "row"]);
}

/// More than is held, and far more than fits into an outbox: whoever reads is waited for.
#[tokio::test]
async fn a_transaction_of_many_broadcasts_reaches_whoever_reads() {
    let (mut pump, _lane, _db) = live().await;
    store_in(&mut pump, &[partition()]);
    let outbox = Outbox::new(Bounds {
        frames: 1000,
        bytes: 1 << 20,
    });
    let _member = listen(&pump, &outbox);
    let all = 5000;
    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        while read.len() < all {
            read.extend(heard(&outbox).await);
        }
        read
    });
    let mut events = vec![Event::Begin(transaction(3))];
    events.extend((0..all).map(|n| said(&n.to_string())));
    events.push(Event::Commit(transaction(3)));
    batch(&mut pump, events).await;
    let expected: Vec<String> = (0..all).map(|n| n.to_string()).collect();
    assert_eq!(reading.await.expect("all of them"), expected);
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(100));
}
