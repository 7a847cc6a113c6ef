use serde_json::json;

use super::{RESUMED, ROWS, connect, inserts, join, outcome, rows, service};
use crate::support::{Client, Database, Process, Server, Version, server, token};

/// The cursor of the next change.
async fn cursor(client: &mut Client) -> String {
    let change = client.change().await;
    change["cursor"].as_str().expect("a cursor").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_behind_a_cursor_comes_again_and_then_what_is_new() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V1, &service()).await;
    join(&mut client, json!({"since": ""})).await;
    db.execute("insert into n select generate_series(1, 3)").await;
    let _first = cursor(&mut client).await;
    // In the middle of a transaction.
    let second = cursor(&mut client).await;
    drop(client);
    db.execute("insert into n values (4)").await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    join(&mut client, json!({"since": second})).await;
    assert_eq!(outcome(&client).as_deref(), Some(RESUMED));
    db.execute("insert into n values (5)").await;
    let told = |id| (id, true);
    assert_eq!(rows(&mut client, 3).await, [told(3), told(4), told(5)]);
    client.round_trip().await;
    assert!(client.pending().iter().all(|m| m.event != "postgres_changes"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_outlives_the_server_that_gave_it() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let first = Process::serve(&db.settings, &slot, &[]).await;
    let url = format!("http://{}", first.address);
    let mut client = Client::try_connect_to(&url, Version::V2, &service())
        .await
        .expect("a connection");
    join(&mut client, json!({"since": null})).await;
    db.execute("insert into n select generate_series(1, 10)").await;
    let mut last = String::new();
    for _ in 0..5 {
        last = cursor(&mut client).await;
    }
    first.kill().await;
    db.execute("insert into n select generate_series(11, 20)").await;
    let second = Process::serve(&db.settings, &slot, &[]).await;
    let url = format!("http://{}", second.address);
    let mut client = Client::try_connect_to(&url, Version::V2, &service())
        .await
        .expect("a connection");
    join(&mut client, json!({"since": last})).await;
    assert_eq!(outcome(&client).as_deref(), Some(RESUMED));
    let ids: Vec<i64> = rows(&mut client, 15)
        .await
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert!(ids.iter().copied().eq(6..=20), "{ids:?}");
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cursor_or_too_old_is_told_and_harms_nobody() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start_with(&db, |config| {
        config.resume.window_bytes = 1;
    })
    .await;
    let mut first = Client::connect(&server, Version::V2, &service()).await;
    join(&mut first, json!({"since": ""})).await;
    db.execute("insert into n values (1)").await;
    let old = cursor(&mut first).await;
    db.execute("insert into n values (2)").await;
    cursor(&mut first).await;
    server.passed(&db).await;
    let other = if old.starts_with('1') { '2' } else { '1' };
    let foreign = format!("{other}{}", &old[1..]);
    for (since, told) in [
        ("nonsense".to_owned(), "resync: not a cursor"),
        ("1-2-3-4-5".to_owned(), "resync: not a cursor"),
        (foreign, "resync: the database was replaced or restored"),
        (old, "resync: what was missed is older than the replay window"),
    ] {
        let mut client = Client::connect(&server, Version::V2, &service()).await;
        join(&mut client, json!({"since": since})).await;
        assert_eq!(outcome(&client).as_deref(), Some(told), "{since}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_judged_by_the_rights_of_now() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    db.execute(
        "alter table n add owner uuid; alter table n enable row level security;
         create policy own on n for select using (owner = auth.uid()); grant select on n to authenticated",
    )
    .await;
    let server = Server::start(&db).await;
    let (ann, ben) = (
        "a0000000-0000-4000-8000-000000000001",
        "b0000000-0000-4000-8000-000000000002",
    );
    let mut client = Client::connect(&server, Version::V2, &token::user(ann)).await;
    join(&mut client, json!({"since": ""})).await;
    db.execute(&format!("insert into n values (1, '{ann}')")).await;
    let since = cursor(&mut client).await;
    drop(client);
    db.execute(&format!(
        "insert into n values (2, '{ann}'), (3, '{ben}'), (4, '{ann}')"
    ))
    .await;
    let mut again = Client::connect(&server, Version::V2, &token::user(ann)).await;
    join(&mut again, json!({"since": since})).await;
    assert_eq!(rows(&mut again, 2).await, [(2, true), (4, true)]);
    // Somebody else with the same cursor gets what is theirs.
    let mut other = Client::connect(&server, Version::V2, &token::user(ben)).await;
    join(&mut other, json!({"since": since})).await;
    assert_eq!(rows(&mut other, 1).await, [(3, true)]);
    // And nothing where the right is gone.
    db.execute("drop policy own on n; create policy none on n for select using (false)")
        .await;
    let mut revoked = Client::connect(&server, Version::V2, &token::user(ann)).await;
    join(&mut revoked, json!({"since": since})).await;
    db.execute(&format!("insert into n values (5, '{ann}')")).await;
    server.passed(&db).await;
    revoked.round_trip().await;
    assert!(revoked.pending().iter().all(|m| m.event != "postgres_changes"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_not_followed_all_the_time_is_told() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    join(&mut client, json!({"since": ""})).await;
    db.execute("insert into n values (1)").await;
    let since = cursor(&mut client).await;
    db.execute("alter publication supabase_realtime drop table n")
        .await;
    db.execute("insert into n values (2)").await;
    server.passed(&db).await;
    db.execute("alter publication supabase_realtime add table n")
        .await;
    db.execute("insert into n values (3)").await;
    let mut again = connect(&server, "x").await;
    let config = json!({"postgres_changes": inserts(), "since": since});
    assert_eq!(again.join("n", config).await["status"], "ok");
    let told = again.expect("resync", |m| {
        let message = m.payload["message"].as_str().unwrap_or_default();
        message.starts_with("resync: table public.n was not followed")
    });
    told.await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_is_confirmed_behind_the_window() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start_with(&db, |config| {
        config.resume.window = std::time::Duration::from_secs(1);
    })
    .await;
    db.execute("insert into n values (1)").await;
    let written = db.text("select (pg_current_wal_flush_lsn() - '0/0')::text").await;
    let written: u64 = written.parse().expect("a position");
    server.passed(&db).await;
    // Everything leaves the window of a quiet database in time.
    crate::support::eventually("the slot moves on", || async {
        let confirmed = server::metric(server.address, "rowcast_confirmed_lsn_bytes").await?;
        (confirmed >= written).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_had_nothing_yet_knows_where_it_began() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    join(&mut client, json!({"since": ""})).await;
    let began = client
        .expect("where it began", |m| m.payload["message"] == "live")
        .await;
    let cursor = began.payload["cursor"].as_str().expect("a cursor").to_owned();
    drop(client);
    db.execute("insert into n values (1)").await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    join(&mut client, json!({"since": cursor})).await;
    assert_eq!(rows(&mut client, 1).await, [(1, true)]);
    server.stop().await;
}
