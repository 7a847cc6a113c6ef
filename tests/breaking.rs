//! Attempts to see what one may not, to lose what one should get, and to spoil it for others.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::told;
use crate::support::{Client, Database, OwnCluster, Server, Version, eventually, token, version};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// A table `d(id, owner, name)` under row-level security, without a policy yet.
const TABLE: &str = "
    create table d (id int primary key, owner uuid, name text);
    grant select on d to authenticated, anon;
    alter table d enable row level security;
    alter publication supabase_realtime add table d;
";

fn all() -> Value {
    json!([{"event": "*", "schema": "public", "table": "d"}])
}

fn filtered(filter: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": "d", "filter": filter}])
}

async fn subscriber(server: &Server, token: &str, changes: Value) -> Client {
    let mut client = Client::connect(server, Version::V2, token).await;
    client.subscribe("d", changes).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permissive_policy_without_using_shows_nothing() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute("create policy writers on d for all with check (true); create policy odd on d as restrictive for all with check (true)").await;
    let server = Server::start(&db).await;
    let mut alice = subscriber(&server, &token::user(ALICE), all()).await;
    db.execute("insert into d values (1); update d set name = 'x'; delete from d")
        .await;
    assert_eq!(told(&mut alice, &db, &server).await, [Value::Null; 0]);
    // A restrictive one without USING restricts nothing.
    db.execute("create policy readers on d for select using (true); insert into d values (2)")
        .await;
    assert_eq!(told(&mut alice, &db, &server).await.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_raises_tells_nothing_of_rows_that_are_hidden() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    // NULL, not false, for rows without an owner and for readers without an id.
    db.execute("create policy own on d using (owner = auth.uid())")
        .await;
    let server = Server::start(&db).await;
    // Raises only where the pattern matches as far as its end.
    let mut anon = subscriber(
        &server,
        &token::token("anon", json!({})),
        filtered(r"name=like.\s\e\c\"),
    )
    .await;
    db.execute("insert into d values (1, null, 'secret'), (2, null, 'other')")
        .await;
    assert_eq!(told(&mut anon, &db, &server).await, [Value::Null; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_may_use_functions_in_a_schema_that_readers_may_not_enter() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(
        "create schema private;
         create table private.friends (id uuid primary key);
         create function private.is_friend() returns bool language sql stable security definer set search_path = ''
             as 'select exists (select from private.friends where id = auth.uid())';
         create type private.mood as enum ('sad', 'happy');
         alter table d add mood private.mood;
         create policy friends on d using (private.is_friend() and mood = 'happy')",
    )
    .await;
    db.execute(&format!("insert into private.friends values ('{ALICE}')"))
        .await;
    let server = Server::start(&db).await;
    let mut alice = subscriber(&server, &token::user(ALICE), all()).await;
    let mut bob = subscriber(&server, &token::user(BOB), all()).await;
    db.execute("insert into d values (1, null, 'x', 'happy'), (2, null, 'x', 'sad')")
        .await;
    let got = told(&mut alice, &db, &server).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(
        (&got[0]["record"]["id"], &got[0]["errors"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(told(&mut bob, &db, &server).await, [Value::Null; 0]);
    // What readers may not execute stays closed to them, whoever it is that judges.
    db.execute("revoke execute on function private.is_friend() from public; insert into d values (3, null, 'x', 'happy')")
        .await;
    let got = told(&mut alice, &db, &server).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0]["record"], json!({}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_compare_by_their_own_collation() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(
        "create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         alter table d add email text collate nocase, add code text collate \"C\";
         create policy p on d using (email <> 'BANNED' and code < 'a')",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = subscriber(&server, &token::user(ALICE), all()).await;
    let mut picky = subscriber(&server, &token::user(BOB), filtered("email=eq.ME")).await;
    db.execute(
        "insert into d (id, email, code) values (1, 'banned', 'B'), (2, 'me', 'B'), (3, 'you', 'B'), (4, 'you', 'b')",
    )
    .await;
    let ids = |told: Vec<Value>| told.iter().map(|d| d["record"]["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(told(&mut alice, &db, &server).await), [2, 3]);
    assert_eq!(ids(told(&mut picky, &db, &server).await), [2]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_assertion_harms_no_other() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(
        "create function fussy() returns bool language plpgsql stable as
             'begin assert auth.jwt() ->> ''plan'' is distinct from ''bad''; return true; end';
         create policy p on d using (fussy())",
    )
    .await;
    let server = Server::start(&db).await;
    let user = |claims: Value| token::token("authenticated", claims);
    let mut fine = subscriber(&server, &user(json!({"sub": ALICE})), all()).await;
    let mut bad = subscriber(&server, &user(json!({"sub": ALICE, "plan": "bad"})), all()).await;
    db.execute("insert into d values (1), (2)").await;
    for id in [1, 2] {
        let data = fine.data().await;
        assert_eq!(
            (&data["record"]["id"], &data["errors"]),
            (&json!(id), &Value::Null),
            "{data}"
        );
    }
    for data in told(&mut bad, &db, &server).await {
        assert_eq!(
            (&data["record"], data["errors"].is_array()),
            (&json!({}), true),
            "{data}"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_slow_has_nobody_else_shut_out() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(
        "create function slow() returns bool language plpgsql stable as
             'begin if auth.jwt() ->> ''slow'' = ''yes'' then perform pg_sleep(60); end if; return true; end';
         create policy p on d using (slow())",
    )
    .await;
    let server = Server::start_with(&db, |config| {
        config.policy.timeout = Duration::from_secs(4);
        config.policy.pool_size = 1;
    })
    .await;
    let slow = token::token("authenticated", json!({"slow": "yes"}));
    let mut slow = subscriber(&server, &slow, all()).await;
    let mut quick = Vec::new();
    for n in 0..8 {
        let token = token::token("authenticated", json!({"n": n}));
        quick.push(subscriber(&server, &token, all()).await);
    }
    for id in 1..=2 {
        db.execute(&format!("insert into d (id) values ({id})")).await;
        for client in &mut quick {
            let data = client.data().await;
            assert_eq!(
                (&data["record"]["id"], &data["errors"]),
                (&json!(id), &Value::Null),
                "{data}"
            );
        }
        assert_eq!(slow.data().await["record"], json!({}));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_key_of_a_hidden_row_stays_hidden() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute("create policy p on d using (id > 10); insert into d values (1), (11)")
        .await;
    let server = Server::start(&db).await;
    let mut alice = subscriber(&server, &token::user(ALICE), all()).await;
    db.execute("update d set id = 21 where id = 1; update d set id = 31 where id = 11")
        .await;
    let got = told(&mut alice, &db, &server).await;
    let shown: Vec<_> = got
        .iter()
        .map(|d| (&d["record"]["id"], &d["old_record"]))
        .collect();
    assert_eq!(
        shown,
        [(&json!(21), &json!({})), (&json!(31), &json!({"id": 11}))]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_look_like_ours_are_only_names() {
    // Two of the names are of generated columns.
    if !version::streams_generated() {
        return;
    }
    let db = Database::new().await;
    db.execute(
        r#"create table asked (n int primary key, value text, "$1" int, "a""b'c\d" text, asked int, gone int);
           alter table asked drop column gone;
           create domain "Odd ""Type" as int check (value < 100);
           alter table asked add "é" "Odd ""Type" generated always as (n * 2) stored;
           create table "q""t" (id int primary key, n int);
           grant select on asked, "q""t" to authenticated;
           alter table asked enable row level security; alter table "q""t" enable row level security;
           create function whole(a asked) returns bool language sql stable as 'select a.n < 10 and a.asked = 1';
           create policy p on asked using ("$1" = 1 and "a""b'c\d" = value and asked = 1 and whole(asked.*) and "é" > 1
               and exists (select from asked_by asked where asked.n = asked.who and asked.who = n));
           create policy q on "q""t" using (exists (select from asked_by n where n.n = "q""t".n));
           alter publication supabase_realtime add table asked, "q""t""#
            .replace(
                "grant select on asked,",
                "create table asked_by (n int primary key, who int); insert into asked_by values (1, 1), (2, 2);
                 grant select on asked_by to authenticated; grant select on asked,",
            )
            .as_str(),
    )
    .await;
    let server = Server::start(&db).await;
    let tables = json!([
        {"event": "*", "schema": "public", "table": "asked", "filter": "a\"b'c\\d=match.^x"},
        {"event": "*", "schema": "public", "table": "q\"t"},
    ]);
    let mut alice = subscriber(&server, &token::user(ALICE), tables).await;
    db.execute(
        r#"insert into asked (n, value, "$1", "a""b'c\d", asked) values
               (1, 'x', 1, 'x', 1), (2, 'x', 2, 'x', 1), (20, 'x', 1, 'x', 1), (2, 'y', 1, 'y', 1)
               on conflict do nothing;
           insert into "q""t" values (7, 2), (8, 3)"#,
    )
    .await;
    let got = told(&mut alice, &db, &server).await;
    let shown: Vec<_> = got.iter().map(|d| d["record"].clone()).collect();
    assert_eq!(shown.len(), 2, "{got:?}");
    assert_eq!((&shown[0]["n"], &shown[1]["id"]), (&json!(1), &json!(7)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_for_its_standby_is_waited_for() {
    let cluster = OwnCluster::start(&[]).await;
    let db = cluster.database().await;
    db.execute(TABLE).await;
    db.execute("create policy p on d using (owner = auth.uid())")
        .await;
    let server = Server::start_with(&db, |config| {
        config.policy.timeout = Duration::from_secs(2);
        config.policy.in_memory = false;
    })
    .await;
    let mut alice = subscriber(&server, &token::user(ALICE), all()).await;
    db.execute("alter system set synchronous_standby_names = 'nobody'")
        .await;
    db.execute("select pg_reload_conf()").await;
    let waiting = db.connection().await;
    eventually("commits wait for the standby", || async {
        let names = waiting
            .query_one("show synchronous_standby_names", &[])
            .await
            .ok()?;
        (names.get::<_, String>(0) == "nobody").then_some(())
    })
    .await;
    let insert = format!("set synchronous_commit = on; insert into d values (1, '{ALICE}')");
    let insert = tokio::spawn(async move { waiting.batch_execute(&insert).await });
    eventually("the judge has waited longer than it may take", || async {
        let (_, metrics) = server.get("/metrics").await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("rowcast_policy_judge_calls_total "))?;
        (line.parse::<u64>().ok()? >= 3).then_some(())
    })
    .await;
    assert!(!insert.is_finished());
    db.execute("alter system reset synchronous_standby_names").await;
    db.execute("select pg_reload_conf()").await;
    insert.await.expect("no panic").expect("a commit");
    let data = alice.data().await;
    assert_eq!(
        (&data["record"]["id"], &data["errors"]),
        (&json!(1), &Value::Null),
        "{data}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_judge_was_asked_when_its_connection_ended_is_asked_again() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(
        "create function patient() returns bool language plpgsql volatile as
             'begin perform pg_advisory_lock_shared(7); perform pg_advisory_unlock_shared(7); return true; end';
         create policy p on d using (patient() and owner = auth.uid())",
    )
    .await;
    let server = Server::start_with(&db, |config| config.policy.timeout = Duration::from_secs(60)).await;
    let mut alice = subscriber(&server, &token::user(ALICE), all()).await;
    let judging =
        "from pg_stat_activity where datname = current_database() and application_name = 'rowcast_judge'
                   and wait_event_type = 'Lock'";
    db.execute("select pg_advisory_lock(7)").await;
    db.execute(&format!("insert into d values (1, '{ALICE}')")).await;
    eventually("the judge is asked", || async {
        (db.text(&format!("select count(*)::text {judging}")).await == "1").then_some(())
    })
    .await;
    db.execute(&format!("select pg_terminate_backend(pid) {judging}"))
        .await;
    db.execute("select pg_advisory_unlock(7)").await;
    let data = alice.data().await;
    assert_eq!(
        (&data["record"]["id"], &data["errors"]),
        (&json!(1), &Value::Null),
        "{data}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_database_change_no_verdict() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(&format!(
        "create table friends (id uuid primary key); grant select on friends to authenticated;
         alter table friends enable row level security; create policy self on friends using (id = auth.uid());
         insert into friends values ('{ALICE}');
         create policy p on d using (exists (select from friends));
         alter database {0} set row_security = off; alter database {0} set transform_null_equals = on;
         alter database {0} set default_transaction_isolation = 'serializable'",
        db.name
    ))
    .await;
    let server = Server::start(&db).await;
    let mut alice = subscriber(&server, &token::user(ALICE), all()).await;
    let mut bob = subscriber(&server, &token::user(BOB), all()).await;
    db.execute("insert into d values (1)").await;
    let got = told(&mut alice, &db, &server).await;
    assert_eq!((got.len(), &got[0]["record"]["id"]), (1, &json!(1)), "{got:?}");
    assert_eq!(told(&mut bob, &db, &server).await, [Value::Null; 0]);
    server.stop().await;
}
