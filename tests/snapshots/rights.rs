//! A snapshot shows what its user may see: by row-level security, policy files, and grants.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{binding, end, selected, snapshot};
use crate::support::{Client, Database, Server, Version, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

async fn rows(client: &mut Client, topic: &str, table: &str) -> BTreeMap<i64, Value> {
    let (_, rows) = snapshot(client, topic, json!([binding(table)])).await;
    let row = |data: Value| {
        (
            data["record"]["id"].as_i64().expect("a key"),
            data["record"].clone(),
        )
    };
    rows.into_iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_their_rows_and_no_others() {
    let db = Database::new().await;
    db.execute(
        "create table members (team int, user_id uuid, primary key (team, user_id));
         create table docs (id int primary key, team int, owner uuid, title text, secret text);
         create function odd(n int) returns bool language plpgsql as $$ begin return n % 2 = 1; end $$;
         grant select on members to authenticated; grant select (id, team, owner, title) on docs to authenticated;
         alter table members enable row level security; create policy own on members using (user_id = auth.uid());
         alter table docs enable row level security;
         create policy own on docs for select using (owner = auth.uid());
         create policy team on docs for select using (team in (select m.team from members m where m.user_id = auth.uid()));
         create policy few on docs as restrictive for select to authenticated using (odd(id) or id > 10);
         alter publication supabase_realtime add table docs, members;",
    )
    .await;
    db.execute(&format!(
        "insert into members values (1, '{ALICE}'), (2, '{BOB}');
         insert into docs select n, n % 4, case when n % 3 = 0 then '{ALICE}'::uuid else '{BOB}' end, 'title ' || n, 'secret'
         from generate_series(1, 30) as n"
    ))
    .await;
    let server = Server::start(&db).await;
    for (user, team) in [(ALICE, 1), (BOB, 2)] {
        let mut client = Client::connect(&server, Version::V2, &token::user(user)).await;
        let shown = format!(
            "select id, team, owner, title from docs
             where (owner = '{user}' or team = {team}) and (id % 2 = 1 or id > 10)"
        );
        let expected = selected(&db, &shown).await;
        assert!(expected.len() > 5);
        assert_eq!(rows(&mut client, "room", "docs").await, expected);
    }
    let mut anon = Client::connect(&server, Version::V2, &token::token("anon", json!({}))).await;
    anon.join("room", json!({"postgres_changes": [binding("docs")]}))
        .await;
    let told = end(&mut anon, "room").await;
    assert_eq!(told["status"], "error", "{told}");

    // A policy that raises has no rows to show, and says so; not what it was about.
    db.execute(
        "create policy broken on docs as restrictive for select to authenticated using (1 / (id - 15) < 100)",
    )
    .await;
    server.passed(&db).await;
    let mut client = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    client
        .join("room", json!({"postgres_changes": [binding("docs")]}))
        .await;
    let told = end(&mut client, "room").await;
    let message = told["message"].as_str().expect("a text");
    assert!(
        told["status"] == "error" && message.contains("SQLSTATE 22012"),
        "{told}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_files_narrow_what_is_shown() {
    let files = tempfile::tempdir().expect("a directory");
    std::fs::write(
        files.path().join("notes.sql"),
        "create policy own on notes for select using (owner = auth.uid());
         create policy shared on notes for select using (id in (select s.note from shares s where s.user_id = auth.uid()));
         create policy asked on notes as restrictive for select using (not hidden(id));
         create policy leveled on docs for select using (level > 1);",
    )
    .expect("a file");
    for in_memory in [true, false] {
        let db = Database::new().await;
        db.execute(
            "create table notes (id int primary key, owner uuid, level int);
             create table docs (id int primary key, level int, extra text);
             create table shares (note int, user_id uuid, primary key (note, user_id));
             create function hidden(n int) returns bool language plpgsql as $$ begin return n = 7; end $$;
             grant select on notes, shares to authenticated; grant select (id) on docs to authenticated;
             grant select (id, level) on docs to anon;
             alter publication supabase_realtime add table notes, docs",
        )
        .await;
        db.execute(&format!(
            "insert into notes select n, case when n % 2 = 0 then '{BOB}'::uuid else '{ALICE}' end, n
             from generate_series(1, 700) as n;
             insert into shares values (2, '{ALICE}'), (600, '{ALICE}'); insert into docs select n, n from generate_series(1, 3) as n"
        ))
        .await;
        let server = Server::start_with(&db, |config| {
            config.policy.directory = Some(files.path().to_owned());
            config.policy.in_memory = in_memory;
        })
        .await;
        let mut client = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
        let shown = format!("select * from notes where (owner = '{ALICE}' or id in (2, 600)) and id <> 7");
        assert_eq!(
            rows(&mut client, "room", "notes").await,
            selected(&db, &shown).await
        );
        let mut anon = Client::connect(&server, Version::V2, &token::token("anon", json!({}))).await;
        let docs = rows(&mut anon, "docs", "docs").await;
        assert_eq!(
            docs,
            selected(&db, "select id, level from docs where level > 1").await
        );
        // What decides has to be readable, since rows are read as the user.
        client
            .join("docs", json!({"postgres_changes": [binding("docs")]}))
            .await;
        let told = end(&mut client, "docs").await;
        let message = told["message"].as_str().expect("a text");
        assert!(
            message.contains("a policy file reads column level of table public.docs"),
            "{told}"
        );
        server.stop().await;
    }
}

/// Those whom policies treat alike share a reading; nobody shares one with somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_see_something_else_reads_for_itself() {
    let db = Database::new().await;
    db.execute(&format!(
        "create table t (id int primary key, owner uuid); grant select on t to authenticated;
         alter table t enable row level security; create policy own on t for select using (owner = auth.uid());
         alter publication supabase_realtime add table t;
         insert into t select n, case when n % 2 = 0 then '{BOB}'::uuid else '{ALICE}' end from generate_series(1, 9) as n"
    ))
    .await;
    let server = Server::start_with(&db, |config| config.snapshot.parallel = 1).await;
    let mut clients = Vec::new();
    for round in 0..4 {
        for (user, count) in [(ALICE, 5), (BOB, 4)] {
            // Other claims, that no policy reads.
            let token = token::token("authenticated", json!({"sub": user, "session": round}));
            let mut client = Client::connect(&server, Version::V2, &token).await;
            client
                .push(
                    "room",
                    "phx_join",
                    json!({"config": {"postgres_changes": [binding("t")]}}),
                )
                .await;
            clients.push((client, user, count));
        }
    }
    for (mut client, user, count) in clients {
        assert_eq!(
            end(&mut client, "room").await["message"],
            format!("snapshot: {count} rows")
        );
        let rows = client.rows_before_now();
        assert!(rows.iter().all(|row| row["record"]["owner"] == user), "{rows:#?}");
    }
    server.stop().await;
}
