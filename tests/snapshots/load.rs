//! Many snapshots while rows change all the time, and large ones for those who read slowly.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{Copy, binding, selected, service};
use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// Inserts, updates and deletes, some of them in larger transactions, some of them rolled back, until told to stop. Rows never
/// change hands.
fn write(db: &Database, number: u64, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (settings, stop) = (db.settings.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let session = rowcast::postgres::Session::new("rowcast_test");
        let connection = rowcast::postgres::connect(&settings, &session)
            .await
            .expect("a connection");
        let sql = format!("select setseed(0.{number})");
        connection.batch_execute(&sql).await.expect("a seed");
        while !stop.load(Ordering::Relaxed) {
            let sql = format!(
                "do $$
                 declare n int := 1 + (random() * 5)::int; k int;
                 begin
                     for i in 1..n loop
                         k := 10 * (random() * 40)::int + {number};
                         case (random() * 2)::int
                             when 0 then
                                 insert into t values (k, case when k / 10 % 2 = 0 then '{ALICE}'::uuid else '{BOB}' end, random())
                                 on conflict do nothing;
                             when 1 then update t set v = random() where id = k;
                             else delete from t where id = k;
                         end case;
                     end loop;
                     if random() < 0.1 then raise exception 'rolled back'; end if;
                     perform pg_sleep(0.05 * random());
                 end $$"
            );
            // Some are meant to fail.
            let _ = connection.batch_execute(&sql).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_missing_and_none_comes_twice() {
    /// Joined by each client one after the other, and as many as stay joined.
    const TOPICS: usize = 40;
    const KEPT: usize = 8;
    let db = Database::new().await;
    db.execute(
        "create table t (id int primary key, owner uuid, v float8);
         alter table t replica identity full; grant select on t to authenticated;
         alter table t enable row level security; create policy own on t for select using (owner = auth.uid());
         alter publication supabase_realtime add table t;",
    )
    .await;
    let server = Server::start(&db).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (1..=4).map(|number| write(&db, number, &stop)).collect();

    let mut readers = tokio::task::JoinSet::new();
    let users = [
        (service(), "true"),
        (token::user(ALICE), "id / 10 % 2 = 0"),
        (token::user(BOB), "id / 10 % 2 = 1"),
    ];
    for (n, (token, shown)) in users.into_iter().cycle().take(6).enumerate() {
        let version = if n % 2 == 0 { Version::V1 } else { Version::V2 };
        let mut client = Client::connect(&server, version, &token).await;
        readers.spawn(async move {
            for n in 0..TOPICS {
                let mut binding = binding("t");
                // Some of them a smaller set.
                if n % 5 == 0 {
                    binding["filter"] = json!("id=lt.200");
                }
                let config = json!({"postgres_changes": [binding]});
                client
                    .push(&n.to_string(), "phx_join", json!({"config": config}))
                    .await;
                // Until it is live: the next one then meets another state.
                let topic = format!("realtime:{n}");
                let live = |m: &crate::support::Message| {
                    m.topic == topic && m.payload["message"] == "Subscribed to PostgreSQL"
                };
                client.expect("a live channel", live).await;
                if let Some(old) = n.checked_sub(KEPT) {
                    client.push(&old.to_string(), "phx_leave", json!({})).await;
                }
            }
            (client, shown)
        });
    }
    let readers = readers.join_all().await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    db.execute("insert into t values (0, gen_random_uuid(), 0)").await;
    server.passed(&db).await;
    for (mut client, shown) in readers {
        client.round_trip().await;
        let mut copies: HashMap<String, Copy> = HashMap::new();
        for message in client.take("postgres_changes") {
            copies
                .entry(message.topic)
                .or_default()
                .apply(&message.payload["data"]);
        }
        let zero = if shown == "true" { "true" } else { "id <> 0" };
        let all = selected(&db, &format!("select * from t where {shown} and {zero}")).await;
        let some = selected(
            &db,
            &format!("select * from t where {shown} and {zero} and id < 200"),
        )
        .await;
        assert!(!some.is_empty() && some.len() < all.len());
        for topic in TOPICS - KEPT..TOPICS {
            let copy = copies.remove(&format!("realtime:{topic}")).unwrap_or_default();
            let expected = if topic % 5 == 0 { &some } else { &all };
            assert_eq!(&copy.0, expected, "{shown} {topic}");
        }
    }
    server.stop().await;
}

/// Far more than an outbox holds, for somebody who does not read for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_snapshot_waits_for_a_slow_reader() {
    const ROWS: usize = 100_000;
    let db = Database::new().await;
    db.execute(&format!(
        "create table t (id int primary key, v text); alter publication supabase_realtime add table t;
         insert into t select n, repeat('x', 50) from generate_series(1, {ROWS}) as n"
    ))
    .await;
    let server = Server::start(&db).await;
    let mut slow = Client::connect_narrow(&server, Version::V2, &service()).await;
    slow.push(
        "room",
        "phx_join",
        json!({"config": {"postgres_changes": [binding("t")]}}),
    )
    .await;
    let sent = || async {
        // As many as half an outbox holds, and what the socket takes.
        let rows = server.metric("rowcast_snapshot_rows_total").await;
        (rows > 4_000.0).then_some(rows)
    };
    let sent = crate::support::eventually("rows wait in the outbox", sent).await;
    assert!(sent < 50_000.0, "{sent}");
    db.execute("update t set v = 'changed' where id = 1; delete from t where id = 2")
        .await;

    let mut seen = vec![false; ROWS + 1];
    let mut rows = 0;
    loop {
        let next = slow
            .expect("rows", |m| {
                m.event == "postgres_changes" || m.payload["message"] == format!("snapshot: {ROWS} rows")
            })
            .await;
        if next.event == "system" {
            break;
        }
        let data = &next.payload["data"];
        let id = data["record"]["id"]
            .as_u64()
            .and_then(|id| usize::try_from(id).ok())
            .expect("a key");
        assert!(
            data["snapshot"] == true && !std::mem::replace(&mut seen[id], true),
            "{data}"
        );
        rows += 1;
    }
    assert_eq!(rows, ROWS);
    for expected in ["UPDATE", "DELETE"] {
        assert_eq!(slow.data().await["type"], expected);
    }
    server.stop().await;
}

/// Who leaves, or goes, in the middle of it leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_is_not_read_for() {
    let db = Database::new().await;
    db.execute(
        "create table t (id int primary key, v text); alter publication supabase_realtime add table t;
         insert into t select n, repeat('x', 200) from generate_series(1, 30000) as n",
    )
    .await;
    let server = Server::start_with(&db, |config| config.snapshot.parallel = 1).await;
    let join = json!({"config": {"postgres_changes": [binding("t")]}});
    let begun = |rows: f64| {
        let server = &server;
        async move { (server.metric("rowcast_snapshot_rows_total").await > rows).then_some(()) }
    };
    let mut gone = Client::connect_narrow(&server, Version::V2, &service()).await;
    gone.push("room", "phx_join", join.clone()).await;
    crate::support::eventually("rows are sent", || begun(1_000.0)).await;
    drop(gone);
    let mut left = Client::connect_narrow(&server, Version::V2, &service()).await;
    left.push("room", "phx_join", join.clone()).await;
    crate::support::eventually("rows are sent", || begun(6_000.0)).await;
    left.push("room", "phx_leave", json!({})).await;
    left.expect("the end of the channel", |m| m.event == "phx_close")
        .await;
    left.forget("postgres_changes");
    left.round_trip().await;
    assert_eq!(left.rows_before_now(), Vec::<Value>::new());
    // Their turn is over: others get theirs, and no transaction stays open.
    let mut other = Client::connect(&server, Version::V2, &service()).await;
    let (_, rows) = super::snapshot(&mut other, "room", json!([binding("t")])).await;
    assert_eq!(rows.len(), 30_000);
    crate::support::eventually("no transaction is open", || async {
        let sql = "select count(*)::text from pg_stat_activity
                   where datname = current_database() and application_name = 'rowcast_snapshot' and xact_start is not null";
        (db.text(sql).await == "0").then_some(())
    })
    .await;
    server.stop().await;
}
