//! Nothing missed.

use serde_json::{Value, json};

use super::{ALICE, on, service};
use crate::support::{Client, Database, Process, Server, Version, server, token};

const ROWS: &str = "create table n (id int primary key); alter publication supabase_realtime add table n";

const RESUMED: &str = "resumed: nothing was missed";

async fn connect(server: &Process, more: &str) -> Client {
    let url = format!("http://{}", server.address);
    let token = format!("{}{more}", service());
    Client::try_connect_to(&url, Version::V2, &token)
        .await
        .expect("a connection")
}

/// Joins and waits until rows are live; what was told of the past: of the rows, and of what clients said.
async fn join(client: &mut Client, more: Value) -> Vec<String> {
    let mut config = json!({"postgres_changes": on("n")});
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    let reply = client.join("n", config).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    client
        .expect("live", |m| m.payload["message"] == "Subscribed to PostgreSQL")
        .await;
    let told = client
        .pending()
        .iter()
        .filter(|m| m.payload["extension"] == "resume");
    told.filter_map(|m| m.payload["message"].as_str().map(str::to_owned))
        .collect()
}

async fn ids(client: &mut Client, count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.extend(client.data().await["record"]["id"].as_i64());
    }
    ids
}

pub(super) async fn nothing_is_missed_over_a_crash_of_the_server(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let first = Process::serve(&db.settings, &slot, &[]).await;
    let mut client = connect(&first, "").await;
    join(&mut client, json!({"since": null})).await;
    db.execute("insert into n select generate_series(1, 10)").await;
    ids(&mut client, 4).await;
    let change = client.change().await;
    assert_eq!(change["data"]["record"]["id"], 5);
    first.kill().await;
    db.execute("insert into n select generate_series(11, 20)").await;
    let second = Process::serve(&db.settings, &slot, &[]).await;
    let mut client = connect(&second, "").await;
    let told = join(&mut client, json!({"since": change["cursor"]})).await;
    assert!(told.iter().any(|told| told == RESUMED), "{told:?}");
    db.execute("insert into n values (21)").await;
    assert!(ids(&mut client, 16).await.into_iter().eq(6..=21));
    second.kill().await;
}

/// Until the server knows that the client has everything up to now.
async fn acknowledged(client: &mut Client, server: &Process) {
    let places = || server::metric(server.address, "rowcast_places_acknowledged_total");
    let before = places().await.expect("a count");
    loop {
        // Something that is asked about.
        client.round_trip().await;
        if places().await.is_some_and(|now| now > before + 1) {
            return;
        }
    }
}

pub(super) async fn sessions_go_on_at_the_next_server(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(ROWS).await;
    let slot = format!("rowcast_{}", db.name);
    let often = [("ROWCAST_RESUME_ACKNOWLEDGE", "10ms")];
    let first = Process::serve(&db.settings, &slot, &often).await;
    let mut client = connect(&first, "&session=s1").await;
    join(&mut client, json!({})).await;
    db.execute("insert into n values (1), (2)").await;
    ids(&mut client, 2).await;
    acknowledged(&mut client, &first).await;
    first.terminate();
    assert_eq!(client.close_code().await, Some(1012));
    let (status, log) = first.ended().await;
    assert!(status.success(), "{log:#?}");
    db.execute("insert into n values (3)").await;
    let second = Process::serve(&db.settings, &slot, &often).await;
    let mut client = connect(&second, "&session=s1").await;
    let told = join(&mut client, json!({})).await;
    assert!(told.iter().any(|told| told == RESUMED), "{told:?}");
    db.execute("insert into n values (4)").await;
    server::passed(second.address, &db).await;
    client.round_trip().await;
    let mut came: Vec<_> = client
        .rows_before_now()
        .iter()
        .filter_map(|data| data["record"]["id"].as_i64())
        .collect();
    // What was not known to have arrived comes again.
    came.retain(|id| *id > 2);
    assert_eq!(came, [3, 4]);
    // Killed, a server takes its places with it: that is told.
    second.kill().await;
    db.execute("insert into n values (5)").await;
    let third = Process::serve(&db.settings, &slot, &often).await;
    let mut client = connect(&third, "&session=s1").await;
    let told = join(&mut client, json!({})).await;
    assert!(
        told.iter()
            .any(|told| told == RESUMED || told.starts_with("resync: ")),
        "{told:?}"
    );
    third.kill().await;
}

pub(super) async fn rows_come_first_and_changes_follow(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(
        "create table n (id int primary key, owner uuid); alter table n enable row level security;
         create policy own on n using (owner = auth.uid()); grant select on n to authenticated;
         alter publication supabase_realtime add table n",
    )
    .await;
    let server = Server::start(&db).await;
    let writer = db.connection().await;
    let insert = format!(
        "insert into n select n, case when n % 2 = 0 then '{ALICE}'::uuid end from generate_series($a, $b) as n"
    );
    let batch = |k: i32| {
        insert
            .replace("$a", &format!("{}", k * 10 + 1))
            .replace("$b", &format!("{}", k * 10 + 10))
    };
    let mut client = Client::connect(&server, Version::V2, &token::user(ALICE)).await;
    let writing = async {
        for k in 0..30 {
            writer.batch_execute(&batch(k)).await.expect("rows");
        }
    };
    let wanted = json!([{"event": "*", "schema": "public", "table": "n", "snapshot": true}]);
    let joining = client.join("n", json!({"postgres_changes": wanted}));
    let (reply, ()) = tokio::join!(joining, writing);
    assert_eq!(reply["status"], "ok", "{reply}");
    client
        .expect("live", |m| m.payload["message"] == "Subscribed to PostgreSQL")
        .await;
    server.passed(&db).await;
    client.round_trip().await;
    let mut came: Vec<_> = client
        .rows_before_now()
        .iter()
        .filter_map(|data| data["record"]["id"].as_i64())
        .collect();
    came.sort_unstable();
    assert!(
        came.iter().copied().eq((2..=300).step_by(2)),
        "each once: {came:?}"
    );
    server.stop().await;
}

pub(super) async fn broadcasts_come_from_sql(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(
        "create policy p on realtime.messages for select to authenticated using (realtime.topic() = 'room')",
    )
    .await;
    let server = Server::start_with(&db, |config| config.replication.logical_broadcasts = true).await;
    let mut client = Client::connect(&server, Version::V1, &token::user(ALICE)).await;
    let private = json!({"private": true, "broadcast": {"replication_ready": true}});
    let reply = client.join("room", private).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    client.system("room").await;
    for statement in [
        r#"select realtime.send('{"n": 1}', 'e', 'room', true)"#,
        r#"begin; select realtime.send('{"n": 0}', 'e', 'room', true); rollback"#,
        r#"select pg_logical_emit_message(true, 'rowcast.broadcast',
             '{"topic": "room", "event": "e", "payload": {"n": 2}, "private": true}')"#,
    ] {
        db.execute(statement).await;
    }
    for n in 1..=2 {
        let said = client.expect("a broadcast", |m| m.event == "broadcast").await;
        assert_eq!(said.payload["payload"]["n"], n);
    }
    let partitions = "select count(*)::text from pg_inherits where inhparent = 'realtime.messages'::regclass";
    assert_ne!(db.text(partitions).await, "0", "by day");
    // Who comes later has it replayed.
    let mut late = Client::connect(&server, Version::V1, &token::user(ALICE)).await;
    let replay = json!({"private": true, "broadcast": {"replay": {"since": 0, "limit": 5}}});
    let reply = late.join("room", replay).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let said = late.expect("a broadcast", |m| m.event == "broadcast").await;
    assert_eq!(said.payload["payload"]["n"], 1);
    server.stop().await;
}
