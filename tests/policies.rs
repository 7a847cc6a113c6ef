//! Who sees what: row-level security, grants and roles, with Postgres' own answer as the measure.

use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// A USING expression over `docs(id, owner, team, level, data, tags)`, tried by every reader below.
const EXPRESSIONS: &[&str] = &[
    "true",
    "false",
    "null",
    "owner = auth.uid()",
    "(select auth.uid()) = owner",
    "owner = auth.uid() or level < 2",
    "auth.role() = 'authenticated'",
    "auth.jwt() ->> 'plan' = 'pro'",
    "(auth.jwt() -> 'app' ->> 'team')::int = team",
    "team in (select m.team from members m where m.member = auth.uid())",
    "exists (select from members m where m.team = docs.team and m.member = auth.uid())",
    "is_member(team)",
    "level between 2 and 3",
    "level is null or level > 2",
    "data ->> 'visible' = 'yes'",
    "data is null",
    "data = 'null'::jsonb",
    "'x' = any (tags)",
    "tags @> array['y']",
    "current_user = 'authenticated'",
    "current_setting('request.jwt.claims', true)::json ->> 'sub' = owner::text",
    "coalesce(auth.jwt() ->> 'plan', 'free') = 'free' and level = 1",
    "docs.* is not null",
    "(docs).id > 2",
];

const DOCS: &str = "
    create table members (team int, member uuid, primary key (team, member));
    grant select on members to authenticated, anon;
    create function is_member(t int) returns bool language sql stable security definer as
        'select exists (select from public.members where team = t and member = auth.uid())';
    create table docs (id int primary key, owner uuid, team int, level int, data jsonb, tags text[]);
    grant select on docs to authenticated, anon;
    alter table docs enable row level security;
    alter publication supabase_realtime add table docs;
";

fn readers() -> Vec<(&'static str, Value)> {
    vec![
        (
            "authenticated",
            json!({"sub": ALICE, "plan": "pro", "app": {"team": 1}}),
        ),
        ("authenticated", json!({"sub": BOB, "app": {"team": 2}})),
        ("authenticated", json!({})),
        ("anon", json!({})),
        ("service_role", json!({})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_gets_what_a_select_as_them_returns() {
    every_reader(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_postgres_is_asked_about_every_row() {
    every_reader(false).await;
}

async fn every_reader(in_memory: bool) {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute("grant select on docs to service_role").await;
    db.execute(&format!(
        "insert into members values (1, '{ALICE}'), (2, '{BOB}'), (3, '{BOB}')"
    ))
    .await;
    let server = Server::start_with(&db, |config| config.policy.in_memory = in_memory).await;
    let mut clients = Vec::new();
    for (i, (role, claims)) in readers().iter().enumerate() {
        let mut client = Client::connect(&server, Version::V2, &token::token(role, claims.clone())).await;
        client
            .subscribe(
                &format!("r{i}"),
                json!([{"event": "INSERT", "schema": "public", "table": "docs"}]),
            )
            .await;
        clients.push(client);
    }
    for expression in EXPRESSIONS {
        db.execute("drop policy if exists p on docs; truncate docs").await;
        db.execute(&format!("create policy p on docs using ({expression})"))
            .await;
        db.execute(&rows("docs")).await;
        for (client, (role, claims)) in clients.iter_mut().zip(readers()) {
            let expected = select_as(&db, role, &claims).await;
            let got = ids_until(client, &db, &server).await;
            assert_eq!(got, expected, "{expression} as {role} {claims}");
        }
    }
    server.stop().await;
}

fn rows(table: &str) -> String {
    format!(
        "insert into {table} values
        (1, '{ALICE}', 1, 1, '{{\"visible\": \"yes\"}}', '{{x,y}}'),
        (2, '{BOB}', 1, 2, null, '{{}}'),
        (3, null, 2, 3, 'null', null),
        (4, '{ALICE}', null, null, '{{\"visible\": \"no\"}}', '{{y}}'),
        (5, '{BOB}', 3, 5, '[]', '{{x}}')"
    )
}

async fn select_as(db: &Database, role: &str, claims: &Value) -> Vec<i64> {
    let mut claims = claims.clone();
    claims["role"] = json!(role);
    let connection = db.connection().await;
    let client = &connection;
    client.batch_execute("begin").await.expect("begin");
    client
        .execute(
            "select set_config('request.jwt.claims', $1, true)",
            &[&claims.to_string()],
        )
        .await
        .expect("claims");
    client
        .batch_execute(&format!("set local role {role}"))
        .await
        .expect("role");
    let rows = client
        .query("select id from docs order by id", &[])
        .await
        .expect("select as the reader");
    rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).collect()
}

/// The ids a client has been sent once a marker behind them has come through a table that everybody sees.
async fn ids_until(client: &mut Client, db: &Database, server: &Server) -> Vec<i64> {
    server.passed(db).await;
    client.round_trip().await;
    let mut ids: Vec<i64> = client
        .pending()
        .iter()
        .filter(|m| m.event == "postgres_changes")
        .map(|m| {
            let data = &m.payload["data"];
            assert_eq!(data["errors"], Value::Null, "{data}");
            data["record"]["id"].as_i64().expect("an id")
        })
        .collect();
    client.forget("postgres_changes");
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_by_membership_owner_force_and_bypass() {
    let db = Database::new().await;
    let prefix = db.name.clone();
    db.execute(&format!(
        "create role {prefix}_owner; create role {prefix}_group; create role {prefix}_member in role {prefix}_group;
         create role {prefix}_loner noinherit in role {prefix}_group; create role {prefix}_all bypassrls;
         create table d (id int primary key); alter table d owner to {prefix}_owner;
         grant select on d to {prefix}_group, {prefix}_all, {prefix}_loner;
         alter table d enable row level security;
         create policy odd on d to {prefix}_group using (id % 2 = 1);
         create policy small on d as restrictive using (id < 10);
         alter publication supabase_realtime add table d"
    ))
    .await;
    let server = Server::start(&db).await;
    let mut got = Vec::new();
    for role in ["owner", "member", "loner", "all"] {
        let role = format!("{prefix}_{role}");
        let mut client = Client::connect(&server, Version::V2, &token::token(&role, json!({}))).await;
        client
            .subscribe(
                "d",
                json!([{"event": "INSERT", "schema": "public", "table": "d"}]),
            )
            .await;
        got.push(client);
    }
    let [owner, member, loner, all] = &mut got[..] else {
        panic!("four clients")
    };
    db.execute("insert into d values (1), (2), (11)").await;
    assert_eq!(ids_until(owner, &db, &server).await, [1, 2, 11]);
    assert_eq!(ids_until(member, &db, &server).await, [1]);
    assert_eq!(ids_until(loner, &db, &server).await, [0i64; 0]);
    assert_eq!(ids_until(all, &db, &server).await, [1, 2, 11]);
    db.execute("alter table d force row level security; insert into d values (3)")
        .await;
    assert_eq!(ids_until(owner, &db, &server).await, [0i64; 0]);
    assert_eq!(ids_until(member, &db, &server).await, [3]);
    db.execute("alter table d disable row level security; insert into d values (4)")
        .await;
    assert_eq!(ids_until(owner, &db, &server).await, [4]);
    assert_eq!(ids_until(member, &db, &server).await, [4]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_in_the_wal_is_judged_not_todays() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute("create policy p on docs using (owner = auth.uid())")
        .await;
    let server = Server::start(&db).await;
    let mut alice = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    alice
        .subscribe("a", json!([{"event": "*", "schema": "public", "table": "docs"}]))
        .await;
    let mut bob = Client::connect(&server, Version::V1, &token::user(BOB)).await;
    bob.subscribe("b", json!([{"event": "*", "schema": "public", "table": "docs"}]))
        .await;
    // One transaction: everything is over before anybody could ask the table.
    db.execute(&format!(
        "begin; insert into docs (id, owner, level) values (1, '{ALICE}', 1);
         update docs set owner = '{BOB}', level = 2; update docs set level = 3; delete from docs; commit"
    ))
    .await;
    let first = alice.data().await;
    assert_eq!(
        (first["type"].as_str(), &first["record"]["level"]),
        (Some("INSERT"), &json!(1))
    );
    let second = bob.data().await;
    assert_eq!(
        (second["type"].as_str(), &second["record"]["level"]),
        (Some("UPDATE"), &json!(2))
    );
    let third = bob.data().await;
    assert_eq!(
        (third["type"].as_str(), &third["record"]["level"]),
        (Some("UPDATE"), &json!(3))
    );
    // Without the old row in the WAL only the key goes out, to both.
    for client in [&mut alice, &mut bob] {
        let deleted = client.data().await;
        assert_eq!(
            (deleted["type"].as_str(), &deleted["old_record"]),
            (Some("DELETE"), &json!({"id": 1}))
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_judged_where_the_wal_carries_them() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute("create policy p on docs using (owner = auth.uid()); alter table docs replica identity full")
        .await;
    let server = Server::start(&db).await;
    let mut alice = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    alice
        .subscribe("a", json!([{"event": "*", "schema": "public", "table": "docs"}]))
        .await;
    let mut bob = Client::connect(&server, Version::V2, &token::user(BOB)).await;
    bob.subscribe("b", json!([{"event": "*", "schema": "public", "table": "docs"}]))
        .await;
    db.execute(&format!(
        "insert into docs (id, owner, level) values (1, '{ALICE}', 1)"
    ))
    .await;
    db.execute("update docs set level = 2").await;
    db.execute(&format!("update docs set owner = '{BOB}', id = 9"))
        .await;
    db.execute("delete from docs").await;
    assert_eq!(alice.data().await["type"], "INSERT");
    let update = alice.data().await;
    assert_eq!(update["old_record"]["level"], 1, "{update}");
    // The row entered Bob's sight: what it was before is not his to see, not even its old key.
    let entered = bob.data().await;
    assert_eq!(
        (&entered["record"]["id"], &entered["old_record"]),
        (&json!(9), &json!({}))
    );
    let deleted = bob.data().await;
    assert_eq!(
        (deleted["type"].as_str(), &deleted["old_record"]["level"]),
        (Some("DELETE"), &json!(2))
    );
    assert_eq!(ids_until(&mut alice, &db, &server).await, [0i64; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_only_the_key_decides_is_judged_on_the_key() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute("create policy p on docs using (id > 1)").await;
    db.execute("insert into docs values (1), (2)").await;
    let server = Server::start(&db).await;
    let mut alice = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    alice
        .subscribe(
            "a",
            json!([{"event": "DELETE", "schema": "public", "table": "docs"}]),
        )
        .await;
    db.execute("delete from docs where id = 1; delete from docs where id = 2")
        .await;
    assert_eq!(alice.data().await["old_record"], json!({"id": 2}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unjudged_deletes_can_be_denied() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute("create policy p on docs using (level = 1)").await;
    db.execute("insert into docs (id, level) values (1, 1), (2, 1)")
        .await;
    let server = Server::start_with(&db, |config| {
        config.policy.unjudged_deletes = rowcast::config::UnjudgedDeletes::Deny;
    })
    .await;
    let mut alice = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    alice
        .subscribe("a", json!([{"event": "*", "schema": "public", "table": "docs"}]))
        .await;
    db.execute("delete from docs where id = 1; insert into docs (id, level) values (3, 1)")
        .await;
    assert_eq!(alice.data().await["type"], "INSERT");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_with_their_transactions() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute(
        "create policy p on docs using (team in (select m.team from members m where m.member = auth.uid()))",
    )
    .await;
    let server = Server::start(&db).await;
    let mut bob = Client::connect(&server, Version::V2, &token::user(BOB)).await;
    bob.subscribe(
        "b",
        json!([{"event": "INSERT", "schema": "public", "table": "docs"}]),
    )
    .await;
    db.execute("insert into docs (id, team) values (1, 1)").await;
    assert_eq!(ids_until(&mut bob, &db, &server).await, [0i64; 0]);
    db.execute(&format!("insert into members values (1, '{BOB}')"))
        .await;
    db.execute("insert into docs (id, team) values (2, 1)").await;
    assert_eq!(ids_until(&mut bob, &db, &server).await, [2]);
    db.execute("delete from members").await;
    db.execute("insert into docs (id, team) values (3, 1)").await;
    assert_eq!(ids_until(&mut bob, &db, &server).await, [0i64; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn column_and_table_grants_hold() {
    let db = Database::new().await;
    db.execute(
        "create table people (id int primary key, name text, salary int); grant select (id, name) on people to anon;
         create table keyless (id int primary key, name text); grant select (name) on keyless to anon;
         create table closed (id int primary key);
         create schema private; create table private.p (id int primary key); grant select on private.p to anon;
         alter table people replica identity full;
         alter publication supabase_realtime add table people, keyless, closed, private.p",
    )
    .await;
    let server = Server::start(&db).await;
    let mut anon = Client::connect(&server, Version::V2, &token::token("anon", json!({}))).await;
    for (topic, schema, table) in [
        ("people", "public", "people"),
        ("keyless", "public", "keyless"),
        ("closed", "public", "closed"),
        ("p", "private", "p"),
    ] {
        anon.subscribe(topic, json!([{"event": "*", "schema": schema, "table": table}]))
            .await;
    }
    db.execute(
        "insert into people values (1, 'Ann', 100); update people set salary = 200; delete from people",
    )
    .await;
    let inserted = anon.data().await;
    assert_eq!(inserted["record"], json!({"id": 1, "name": "Ann"}));
    assert_eq!(
        inserted["columns"],
        json!([{"name": "id", "type": "int4"}, {"name": "name", "type": "text"}])
    );
    let updated = anon.data().await;
    assert_eq!(updated["old_record"], json!({"id": 1, "name": "Ann"}));
    assert_eq!(anon.data().await["old_record"], json!({"id": 1, "name": "Ann"}));

    for table in [
        "keyless (id, name) values (1, 'x')",
        "closed values (1)",
        "private.p values (1)",
    ] {
        db.execute(&format!("insert into {table}")).await;
        let data = anon.data().await;
        assert_eq!(data["errors"], json!(["Error 401: Unauthorized"]), "{table}");
        assert_eq!(
            (&data["record"], &data["columns"], &data["commit_timestamp"]),
            (&json!({}), &json!([]), &Value::Null)
        );
    }
    // Rights that are taken away are gone for the next row.
    db.execute("revoke select (name) on people from anon; insert into people values (2, 'Ben', 1)")
        .await;
    assert_eq!(anon.data().await["record"], json!({"id": 2}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_raises_for_one_subscriber_harms_no_other() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute("create policy p on docs using (10 / (auth.jwt() ->> 'divisor')::int > level)")
        .await;
    let server = Server::start(&db).await;
    let claims =
        |sub: &str, divisor: &str| token::token("authenticated", json!({"sub": sub, "divisor": divisor}));
    let mut fine = Client::connect(&server, Version::V2, &claims(ALICE, "1")).await;
    let mut zero = Client::connect(&server, Version::V2, &claims(BOB, "0")).await;
    let mut rubbish = Client::connect(&server, Version::V2, &claims(BOB, "x'; drop table docs; --")).await;
    for client in [&mut fine, &mut zero, &mut rubbish] {
        client
            .subscribe("d", json!([{"event": "*", "schema": "public", "table": "docs"}]))
            .await;
    }
    db.execute("insert into docs (id, level) values (1, 1), (2, 2)")
        .await;
    for id in [1, 2] {
        assert_eq!(fine.data().await["record"]["id"], id);
        for client in [&mut zero, &mut rubbish] {
            let data = client.data().await;
            assert_eq!(
                data["errors"],
                json!(["Error 500: Policy evaluation failed"]),
                "{data}"
            );
            assert_eq!((&data["record"], &data["columns"]), (&json!({}), &json!([])));
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_policy_is_cut_off_for_those_it_is_slow_for() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute(
        "create function slow() returns bool language plpgsql stable as
             'begin if auth.jwt() ->> ''slow'' = ''yes'' then perform pg_sleep(60); end if; return true; end';
         create policy p on docs using (slow())",
    )
    .await;
    let server = Server::start_with(&db, |config| {
        config.policy.timeout = std::time::Duration::from_secs(4);
    })
    .await;
    let mut quick = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    let slow = token::token("authenticated", json!({"sub": BOB, "slow": "yes"}));
    let mut slow = Client::connect(&server, Version::V2, &slow).await;
    for client in [&mut quick, &mut slow] {
        client
            .subscribe("d", json!([{"event": "*", "schema": "public", "table": "docs"}]))
            .await;
    }
    for id in 1..=2 {
        db.execute(&format!("insert into docs (id) values ({id})")).await;
        assert_eq!(quick.data().await["record"]["id"], id);
        assert_eq!(
            slow.data().await["errors"],
            json!(["Error 503: Policy evaluation unavailable"])
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_over_an_unchanged_toast_value_fails_closed() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute("alter table docs add big text; alter table docs alter big set storage external")
        .await;
    db.execute("create policy p on docs using (starts_with(big, 'x'))")
        .await;
    db.execute("insert into docs (id, level, big) values (1, 1, repeat('x', 10000))")
        .await;
    let server = Server::start(&db).await;
    let mut alice = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    alice
        .subscribe("a", json!([{"event": "*", "schema": "public", "table": "docs"}]))
        .await;
    db.execute("update docs set level = 2").await;
    assert_eq!(
        alice.data().await["errors"],
        json!(["Error 500: Policy evaluation failed"])
    );
    db.execute("update docs set big = 'xy'").await;
    assert_eq!(alice.data().await["record"]["big"], "xy");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_claims_judge_the_next_row() {
    let db = Database::new().await;
    db.execute(DOCS).await;
    db.execute("create policy p on docs using (owner = auth.uid())")
        .await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    client
        .subscribe("a", json!([{"event": "*", "schema": "public", "table": "docs"}]))
        .await;
    let both = |id: i32| {
        format!(
            "insert into docs (id, owner) values ({id}, '{ALICE}'), ({}, '{BOB}')",
            id + 1
        )
    };
    db.execute(&both(1)).await;
    assert_eq!(ids_until(&mut client, &db, &server).await, [1]);
    client
        .push("a", "access_token", json!({"access_token": token::user(BOB)}))
        .await;
    assert_eq!(client.system("a").await["message"], "Subscribed to PostgreSQL");
    db.execute(&both(3)).await;
    assert_eq!(ids_until(&mut client, &db, &server).await, [4]);
    server.stop().await;
}
