//! Policies that are meant to be told wrong: each row that comes is held against a SELECT as the reader.

mod changes;
mod forms;

use serde_json::json;

use crate::support::{Client, Database, Server, Version, eventually, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

const SCHEMA: &str = "
    create table members (team int, member uuid, roles text[], secret text, primary key (team, member));
    grant select (team, member, roles) on members to authenticated;
    create table notes (id int primary key, team int, kind text);
    grant select on notes to authenticated;
    alter table notes enable row level security;
    alter publication supabase_realtime add table notes;
    insert into members values
        (1, 'a0000000-0000-4000-8000-000000000001', '{admin}'), (2, 'a0000000-0000-4000-8000-000000000001', '{}'),
        (2, 'b0000000-0000-4000-8000-000000000002', '{admin,user}'), (3, 'b0000000-0000-4000-8000-000000000002', '{}'),
        (4, 'b0000000-0000-4000-8000-000000000002', null);
";

const ROWS: &str =
    "insert into notes values (1, 1, 'sub'), (2, 2, 'sub'), (3, 3, 'role'), (4, 4, null), (5, null, '')";

async fn subscribed(server: &Server, sub: &str) -> Client {
    subscribed_as(server, "authenticated", sub).await
}

async fn subscribed_as(server: &Server, role: &str, sub: &str) -> Client {
    let token = token::token(role, json!({"sub": sub}));
    let mut client = Client::connect(server, Version::V2, &token).await;
    let changes = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    client.subscribe("room", changes).await;
    client
}

/// The ids of the rows that have come, once everything committed has. What raises brings no row.
async fn ids(client: &mut Client, server: &Server, db: &Database) -> Vec<i64> {
    server.passed(db).await;
    client.round_trip().await;
    let changes = client
        .pending()
        .iter()
        .filter(|message| message.event == "postgres_changes");
    let ids = changes.filter_map(|message| message.payload["data"]["record"]["id"].as_i64());
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    client.forget("postgres_changes");
    ids
}

/// The ids up to 5 that SELECTs as somebody return; none where one raises.
async fn selected(db: &Database, sub: &str) -> Vec<i64> {
    selected_as(db, "authenticated", sub).await
}

async fn selected_as(db: &Database, role: &str, sub: &str) -> Vec<i64> {
    let claims = json!({"sub": sub, "role": role}).to_string();
    let client = db.connection().await;
    client
        .batch_execute(&format!(
            "begin; select set_config('request.jwt.claims', '{claims}', true),
                    set_config('request.jwt.claim.sub', '{sub}', true),
                    set_config('request.jwt.claim.role', '{role}', true);
             set local role {role}"
        ))
        .await
        .expect("claims");
    let mut ids = Vec::new();
    // One by one: what raises for one row is no matter of the others.
    for id in 1..=5 {
        client
            .batch_execute("savepoint one; set local enable_seqscan = off")
            .await
            .expect("a savepoint");
        let query = "select id from public.notes where id = $1";
        let rows = client.query(query, &[&id]).await.unwrap_or_default();
        ids.extend(rows.iter().map(|row| i64::from(row.get::<_, i32>(0))));
        client
            .batch_execute("rollback to one")
            .await
            .expect("a savepoint");
    }
    ids
}

/// Holds policies on `notes` against Postgres, for Alice and Bob.
async fn agrees(schema: &str, policies: &[&str]) {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(schema).await;
    let server = Server::start(&db).await;
    let (mut alice, mut bob) = (subscribed(&server, ALICE).await, subscribed(&server, BOB).await);
    let mut wrong = Vec::new();
    for policy in policies {
        db.execute("drop policy if exists p on notes; truncate notes")
            .await;
        db.execute(&format!("create policy p on notes using ({policy})"))
            .await;
        db.execute(ROWS).await;
        for (client, sub, name) in [(&mut alice, ALICE, "alice"), (&mut bob, BOB, "bob")] {
            let (got, expected) = (ids(client, &server, &db).await, selected(&db, sub).await);
            if got != expected {
                wrong.push(format!(
                    "{policy}: {name} got {got:?}, Postgres shows {expected:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deep_or_long_is_survived() {
    let db = Database::new().await;
    db.execute(
        "create table notes (id int primary key, data jsonb, text json, name text, tags text[]);
         grant select on notes to authenticated;
         alter table notes enable row level security;
         alter publication supabase_realtime add table notes;
         create policy a on notes using (data ->> 'x' = 'y');
         create policy b on notes using ((text -> 'x') ->> 'y' = 'z');
         create policy c on notes using (data @> '{\"a\": [1]}' or name like '%a%a%a%a%a%a%a%a%b');
         create policy d on notes using (name ~ '(a|a)*(b|b)*c' or repeat(name, id) = 'x');
         create policy e on notes using ('x' = any (tags) or id = 7)",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = subscribed(&server, ALICE).await;
    db.execute(
        "insert into notes (id, data) select 1, (repeat('[', 5000) || repeat(']', 5000))::jsonb;
         insert into notes (id, text) select 2, (repeat('{\"x\":', 5000) || '1' || repeat('}', 5000))::json;
         insert into notes (id, name) select 3, repeat('a', 1000000);
         insert into notes (id, name) select 2000000000, repeat('a', 1000);
         insert into notes (id, tags) select 5, array_agg(n::text) from generate_series(1, 100000) n;
         insert into notes (id) values (7)",
    )
    .await;
    eventually("the last row has come", || async {
        let (_, health) = server.get("/healthcheck").await;
        (!health.is_empty()).then_some(())
    })
    .await;
    assert_eq!(ids(&mut alice, &server, &db).await, [7]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enum_may_grow_in_the_middle() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(
        "create type size as enum ('s', 'l'); alter table notes add column size size;
         create policy p on notes using (size < 'l' or size = any (array['l'::size]) and team = 1)",
    )
    .await;
    let server = Server::start(&db).await;
    let mut alice = subscribed(&server, ALICE).await;
    for change in [
        "select 1",
        "alter type size add value 'm' before 'l'",
        "alter type size rename value 's' to 'xl'",
        "alter type size add value 's' after 'l'",
    ] {
        db.execute(change).await;
        db.execute("truncate notes").await;
        db.execute("insert into notes (id, team, size) select row_number() over (), t, s from unnest(enum_range(null::size)) s, generate_series(1, 2) t limit 5").await;
        let got = ids(&mut alice, &server, &db).await;
        assert_eq!(got, selected(&db, ALICE).await, "{change}");
    }
    server.stop().await;
}
