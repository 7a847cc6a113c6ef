//! A transaction waits for its commit, and what it did to the tables that policies read counts for all its rows.

use std::collections::HashMap;

use futures_util::FutureExt;

use super::*;
use crate::change::Action;
use crate::change::{Change, Row};
use crate::expression::{Stop, Ty};
use crate::feed::pump::held::MOST_CHANGES;
use crate::hub::Drained;
use crate::policy::{ParamKey, Probe, RelationId, RelationQuery, RelationRequest};
use crate::postgres::catalog::{self, Catalog};

/// A pump with a live subscriber to `t` where `b = 1`, its lane, and a connection.
pub(super) async fn live() -> (Pump, Lane, Connection) {
    let (mut pump, db) = pump().await;
    let (add, _answered) = checked(&pump).await;
    let lane = add.subscriber.outbox.clone();
    pump.command(Command::Add(add)).await;
    pump.streaming = Some(Arc::clone(&pump.snapshot.streamed));
    pump.settle();
    (pump, lane, db)
}

pub(super) fn row(values: &[(&str, &str)]) -> Row {
    let mut row = RowBuilder::default();
    for (_, value) in values {
        row.text(value);
    }
    let columns = values.iter().map(|(name, _)| LayoutColumn {
        name: (*name).into(),
        type_oid: 23,
    });
    row.finish(Arc::new(Layout {
        columns: columns.collect(),
    }))
}

pub(super) fn insert(table: &str, values: &[(&str, &str)]) -> Event {
    Event::Change(Change {
        lsn: Lsn(1),
        ordinal: 0,
        action: Action::Insert,
        table: TableName::new("public", table),
        new: Some(row(values)),
        old: None,
        wire_bytes: 50,
    })
}

pub(super) fn wanted_row() -> Event {
    insert("t", &[("a", "1"), ("b", "1"), ("id", "1")])
}

pub(super) fn transaction(xid: u32) -> Arc<Transaction> {
    Arc::new(Transaction {
        xid,
        commit_lsn: Lsn(100),
        end_lsn: Lsn(100),
        commit_micros: 0,
    })
}

/// Frames that have been delivered since the last look.
pub(super) fn delivered(lane: &Lane) -> usize {
    match lane.outbox().drain().now_or_never() {
        Some(Drained::Frames(frames)) => frames.len(),
        Some(other) => panic!("{other:?}"),
        None => 0,
    }
}

pub(super) async fn batch(pump: &mut Pump, events: Vec<Event>) {
    pump.batch(events, &Shutdown::new()).await;
}

#[tokio::test]
async fn a_transaction_waits_for_its_commit_over_batches_and_connections() {
    let (mut pump, lane, _db) = live().await;
    batch(&mut pump, vec![Event::Begin(transaction(3)), wanted_row()]).await;
    let gone = StreamState::Interrupted("gone".to_owned());
    batch(
        &mut pump,
        vec![Event::Stream(gone), Event::Stream(StreamState::Live)],
    )
    .await;
    batch(&mut pump, vec![wanted_row()]).await;
    assert_eq!(delivered(&lane), 0);
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(0));
    batch(&mut pump, vec![Event::Commit(transaction(3))]).await;
    assert_eq!(delivered(&lane), 2);
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(100));
}

#[tokio::test]
async fn what_comes_again_is_not_delivered_twice() {
    let (mut pump, lane, _db) = live().await;
    batch(&mut pump, vec![Event::Begin(transaction(3)), wanted_row()]).await;
    let reset = StreamState::Reset("came back different".to_owned());
    let again = vec![
        Event::Stream(reset),
        Event::Begin(transaction(3)),
        wanted_row(),
        Event::Commit(transaction(3)),
    ];
    batch(&mut pump, again).await;
    assert_eq!(delivered(&lane), 1);
}

#[tokio::test]
async fn a_reset_is_not_hidden_by_what_follows_it() {
    let (mut pump, _lane, _db) = live().await;
    let looked = pump.parts.stream.subscribe();
    let states = [
        StreamState::Reset("the slot was lost".to_owned()),
        StreamState::Live,
        StreamState::Interrupted("cut".to_owned()),
    ];
    batch(&mut pump, states.map(Event::Stream).into()).await;
    let status = looked.borrow();
    assert_eq!((status.resets, status.flows()), (1, false));
    assert_eq!(status.last_reset.as_deref(), Some("the slot was lost"));
}

#[tokio::test]
async fn a_large_transaction_is_delivered_as_it_comes() {
    let (mut pump, lane, db) = live().await;
    let id = members(&mut pump, &db).await;
    pump.refresh(3).await;
    assert_eq!(orgs(&pump, id), Ok(0));
    // The later part of the transaction, as the database has it.
    db.batch_execute("insert into members values (1, 1)")
        .await
        .expect("a row");
    let other = || insert("t", &[("a", "1"), ("b", "2"), ("id", "1")]);
    let mut events = vec![Event::Begin(transaction(3)), wanted_row()];
    events.extend((2..MOST_CHANGES).map(|_| other()));
    batch(&mut pump, events).await;
    assert_eq!(delivered(&lane), 0);
    batch(&mut pump, vec![wanted_row()]).await;
    assert_eq!(delivered(&lane), 2);
    assert_eq!(orgs(&pump, id), Ok(1), "read before the first row was judged");
    batch(&mut pump, vec![wanted_row()]).await;
    assert_eq!(delivered(&lane), 1, "at the end of a batch");
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(0));
    batch(&mut pump, vec![Event::Commit(transaction(3))]).await;
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(100));
    // The next one is held again.
    batch(&mut pump, vec![Event::Begin(transaction(4)), wanted_row()]).await;
    assert_eq!(delivered(&lane), 0);
}

/// Has the pump watch a table `members(org, person)` that is not published, and holds the organisations of person 1.
async fn members(pump: &mut Pump, db: &Connection) -> RelationId {
    db.batch_execute(
        "create table members (org int, person int, primary key (org, person)); grant select on members to pump_reader;
         create publication q for table members",
    )
    .await
    .expect("a table");
    let mut client = pump.parts.pool.get().await.expect("a connection");
    let read = catalog::load(&mut client, "q").await.expect("a catalog");
    let table = Arc::clone(&read.tables[&TableName::new("public", "members")]);
    let oid = table.oid;
    let old = &pump.snapshot;
    let catalog = Catalog {
        tables: old.catalog.tables.clone(),
        types: Arc::clone(&read.types),
        others: HashMap::from([(oid, table)]),
        ..Catalog::default()
    };
    pump.snapshot = Arc::new(Snapshot::new(catalog, old.roles.clone(), old.generation, true));
    let query = RelationQuery {
        sql: "select m.org from public.members m where m.person = 1".into(),
        columns: vec![Ty::Int4],
        owner: None,
        params: vec![0],
        reads: vec![oid],
        probe: Some(Probe {
            table: oid,
            column: 1,
            ty: Ty::Int4,
            param: 0,
        }),
    };
    let request = RelationRequest {
        query: Arc::new(query),
        params: vec![ParamKey::Text("1".into())],
        claims: claims("pump_reader"),
    };
    let relations = &mut pump.roster.relations;
    relations.watch(pump.snapshot.watched.oids().clone());
    relations.hold(&request, &"pump_reader".into())
}

fn orgs(pump: &Pump, id: RelationId) -> Result<usize, Stop> {
    let relation = pump.roster.relations.get(id)?;
    Ok(relation.rows().len())
}

#[tokio::test]
async fn what_policies_read_is_streamed_and_goes_to_nobody() {
    let (mut pump, lane, db) = live().await;
    members(&mut pump, &db).await;
    let names = Arc::clone(&pump.snapshot.streamed);
    assert!(names.contains(&TableName::new("public", "members")));
    assert!(names.contains(&TableName::new("public", "t")));
    let events = vec![
        Event::Begin(transaction(3)),
        insert("members", &[("org", "1"), ("person", "1")]),
        Event::Commit(transaction(3)),
    ];
    pump.streaming = Some(names);
    batch(&mut pump, events).await;
    assert_eq!(delivered(&lane), 0);
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(100));
}

#[tokio::test]
async fn a_transactions_memberships_count_before_its_first_row() {
    let (mut pump, lane, db) = live().await;
    let id = members(&mut pump, &db).await;
    pump.streaming = Some(Arc::clone(&pump.snapshot.streamed));
    pump.refresh(3).await;
    assert_eq!(orgs(&pump, id), Ok(0));
    let xid: i64 = db
        .query_one(
            "insert into members values (1, 1) returning pg_current_xact_id()::text::bigint",
            &[],
        )
        .await
        .expect("a row")
        .get(0);
    let xid = u32::try_from(xid).expect("32 bits");
    let member = |person: &str| insert("members", &[("org", "1"), ("person", person)]);
    let events = vec![
        Event::Begin(transaction(xid)),
        wanted_row(),
        member("2"),
        member("1"),
        Event::Commit(transaction(xid)),
    ];
    batch(&mut pump, events).await;
    assert_eq!(delivered(&lane), 1);
    assert_eq!(orgs(&pump, id), Ok(1));
    // Another person's is no reason to read it again, and without a row that somebody wants nothing is read.
    let reads = pump.parts.metrics.relation_reads.get();
    let others = vec![
        Event::Begin(transaction(xid)),
        member("2"),
        wanted_row(),
        Event::Commit(transaction(xid)),
        Event::Begin(transaction(xid)),
        member("1"),
        Event::Commit(transaction(xid)),
    ];
    batch(&mut pump, others).await;
    assert_eq!(pump.parts.metrics.relation_reads.get(), reads);
    assert!(
        matches!(orgs(&pump, id), Err(Stop::Ask(_))),
        "but it is out of date"
    );
    let events = vec![
        Event::Begin(transaction(xid)),
        wanted_row(),
        Event::Commit(transaction(xid)),
    ];
    batch(&mut pump, events).await;
    assert_eq!(orgs(&pump, id), Ok(1));
}

#[tokio::test]
async fn a_change_of_the_catalog_makes_everything_out_of_date() {
    let (mut pump, _lane, db) = live().await;
    let id = members(&mut pump, &db).await;
    pump.refresh(3).await;
    assert_eq!(orgs(&pump, id), Ok(0));
    let message = Event::Message {
        lsn: Lsn(1),
        prefix: "rowcast".to_owned(),
        content: String::new(),
    };
    batch(&mut pump, vec![Event::Begin(transaction(3)), message]).await;
    assert!(matches!(orgs(&pump, id), Err(Stop::Ask(_))));
}
