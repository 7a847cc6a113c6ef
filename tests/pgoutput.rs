//! Databases without wal2json: the same through pgoutput, and what its publications bring with them.

use rowcast::config::Plugin;
use serde_json::{Value, json};

use crate::support::{Client, Database, Server, Version, eventually, token};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";

const SCHEMA: &str = "
    create table members (team int, member uuid, primary key (team, member));
    grant select on members to authenticated;
    create table notes (id int primary key, team int, body text);
    grant select on notes to authenticated;
    alter table notes enable row level security;
    create policy p on notes using (team in (select m.team from members m where m.member = auth.uid()));
    alter publication supabase_realtime add table notes;
";

async fn start(db: &Database) -> Server {
    Server::start_with(db, |config| config.replication.plugin = Plugin::Pgoutput).await
}

async fn alice(server: &Server) -> Client {
    let token = token::token("authenticated", json!({"sub": ALICE}));
    Client::connect(server, Version::V2, &token).await
}

fn notes() -> Value {
    json!([{"event": "*", "schema": "public", "table": "notes"}])
}

/// The ids of the rows that have come, once everything committed has.
async fn ids(client: &mut Client, server: &Server, db: &Database) -> Vec<i64> {
    server.passed(db).await;
    client.round_trip().await;
    let rows = client
        .pending()
        .iter()
        .filter(|message| message.event == "postgres_changes");
    let ids = rows.map(|row| row.payload["data"]["record"]["id"].as_i64().expect("an id"));
    let ids = ids.collect();
    client.forget("postgres_changes");
    ids
}

/// What is in our publication of this database.
async fn published(db: &Database) -> String {
    db.text(&format!(
        "select coalesce(string_agg(tablename, ' ' order by tablename), '') from pg_publication_tables
          where pubname = 'rowcast_{}_stream' and schemaname = 'public'",
        db.name
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_members_and_broadcasts_come() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = start(&db).await;
    let mut client = alice(&server).await;
    client.subscribe("room", notes()).await;
    let plugin = format!(
        "select plugin::text from pg_replication_slots where slot_name = 'rowcast_{}'",
        db.name
    );
    assert_eq!(db.text(&plugin).await, "pgoutput");
    assert_eq!(published(&db).await, "members notes");

    db.execute(&format!(
        "insert into notes values (1, 1, 'unseen'); insert into members values (1, '{ALICE}')"
    ))
    .await;
    db.execute("insert into notes values (2, 1, 'seen'), (3, 2, 'unseen')")
        .await;
    assert_eq!(
        ids(&mut client, &server, &db).await,
        [1, 2],
        "one transaction, then another"
    );
    db.execute("delete from members").await;
    db.execute("insert into notes values (4, 1, 'unseen')").await;
    assert_eq!(ids(&mut client, &server, &db).await, [0; 0]);

    // From SQL to a channel.
    client.join("news", json!({"broadcast": {"self": true}})).await;
    db.execute("select realtime.send('{\"n\": 1}'::jsonb, 'hello', 'news', false)")
        .await;
    let said = client
        .expect("the broadcast", |message| message.payload["event"] == "hello")
        .await;
    assert_eq!(said.payload["payload"]["n"], 1);
    server.stop().await;
}

/// Tables that are published, made anew or made readable while the server runs.
#[tokio::test(flavor = "multi_thread")]
async fn other_tables_come_in_midstream() {
    let db = Database::new().await;
    let server = start(&db).await;
    let service = token::token("service_role", json!({}));
    let mut client = Client::connect(&server, Version::V2, &service).await;
    for round in 0..3 {
        db.execute(
            "drop table if exists todos; create table todos (id int primary key, title text);
             alter publication supabase_realtime add table todos",
        )
        .await;
        let topic = format!("round {round}");
        client
            .subscribe(
                &topic,
                json!([{"event": "*", "schema": "public", "table": "todos"}]),
            )
            .await;
        db.execute("insert into todos values (7, 'a'); update todos set title = 'b'")
            .await;
        let inserted = client.data().await;
        assert_eq!(
            (&inserted["type"], &inserted["record"]["id"]),
            (&json!("INSERT"), &json!(7))
        );
        let updated = client.data().await;
        assert_eq!(
            (&updated["type"], &updated["record"]["title"]),
            (&json!("UPDATE"), &json!("b"))
        );
        let left = client.push(&topic, "phx_leave", json!({})).await;
        client.reply(&left).await;
    }
    server.stop().await;
}

/// What cannot be published is not watched: who is a member is asked of Postgres then. And nobody is told to be subscribed to
/// what does not come.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_neither_trusted_nor_promised() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    // Adding a table takes this lock; reading and writing it do not.
    let holder = db.connection().await;
    let hold = "begin; lock table members in share update exclusive mode";
    holder.batch_execute(hold).await.expect("a lock");
    let server = start(&db).await;
    let mut client = alice(&server).await;
    client.subscribe("room", notes()).await;
    assert_eq!(published(&db).await, "notes");
    db.execute(&format!("insert into members values (1, '{ALICE}')"))
        .await;
    db.execute("insert into notes values (1, 1)").await;
    assert_eq!(ids(&mut client, &server, &db).await, [1], "let in");
    db.execute("delete from members").await;
    db.execute("insert into notes values (2, 1)").await;
    assert_eq!(ids(&mut client, &server, &db).await, [0; 0], "sent away");

    holder.batch_execute("commit").await.expect("no lock");
    eventually("the table is published", || async {
        (published(&db).await == "members notes").then_some(())
    })
    .await;
    server.passed(&db).await;
    db.execute(&format!("insert into members values (2, '{ALICE}')"))
        .await;
    db.execute("insert into notes values (3, 2)").await;
    assert_eq!(ids(&mut client, &server, &db).await, [3]);
    db.execute("delete from members; insert into notes values (4, 2)")
        .await;
    assert_eq!(ids(&mut client, &server, &db).await, [0; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_table_that_cannot_be_had_is_refused_until_it_can() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(&format!("insert into members values (1, '{ALICE}')"))
        .await;
    let holder = db.connection().await;
    let hold = "begin; lock table notes in share update exclusive mode";
    holder.batch_execute(hold).await.expect("a lock");
    let server = start(&db).await;
    let mut client = alice(&server).await;
    client.join("room", json!({"postgres_changes": notes()})).await;
    let refused = client.system("room").await;
    assert_eq!(refused["status"], "error", "{refused}");
    holder.batch_execute("commit").await.expect("no lock");
    eventually("the table is published", || async {
        (published(&db).await == "members notes").then_some(())
    })
    .await;
    // Whether the server has heard of it yet is a race; what it promises it keeps.
    let mut round = 0;
    loop {
        round += 1;
        let topic = format!("again {round}");
        client.join(&topic, json!({"postgres_changes": notes()})).await;
        if client.system(&topic).await["status"] == "ok" {
            break;
        }
    }
    db.execute("insert into notes values (5, 1)").await;
    assert_eq!(client.data().await["record"]["id"], 5);
    server.stop().await;
}

/// A slot that was made with one plugin goes on with it, and the places in the stream stay what they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_keeps_its_plugin_over_a_restart() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(&format!("insert into members values (1, '{ALICE}')"))
        .await;
    let first = start(&db).await;
    first.stop().await;
    let server = Server::start_with(&db, |config| config.replication.plugin = Plugin::Auto).await;
    let mut client = alice(&server).await;
    client.subscribe("room", notes()).await;
    db.execute("insert into notes values (1, 1)").await;
    assert_eq!(ids(&mut client, &server, &db).await, [1]);
    server.stop().await;
    let server = Server::launch(&db, |config| config.replication.plugin = Plugin::Wal2json).await;
    eventually("the server says why", || async {
        let (_, text) = server.get("/readyz").await;
        text.contains("which replication.plugin does not allow")
            .then_some(())
    })
    .await;
    server.stop().await;
}

/// A row of a table that was published a moment ago comes, or whoever was subscribed to all tables is told that it may not have.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_of_a_new_table_is_missed_in_silence() {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    let server = start(&db).await;
    let service = token::token("service_role", json!({}));
    let mut client = Client::connect(&server, Version::V2, &service).await;
    client
        .subscribe("all", json!([{"event": "*", "schema": "public"}]))
        .await;
    db.execute(
        "create table later (id int primary key); alter publication supabase_realtime add table later",
    )
    .await;
    db.execute("insert into later values (1)").await;
    let told = client.system("all").await;
    assert_eq!(
        (&told["status"], &told["message"]),
        (
            &json!("ok"),
            &json!("resync: table public.later was not followed all the time")
        ),
        "{told}"
    );
    db.execute("insert into later values (2)").await;
    client
        .expect("the second row", |message| {
            message.payload["data"]["record"]["id"] == 2
        })
        .await;
    server.stop().await;
}
