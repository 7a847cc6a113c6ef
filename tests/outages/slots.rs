//! The slot is taken, dropped, or cannot be made: a sentence that says what to do, and recovery without a restart.

use rowcast::config::Plugin;
use rowcast::dev::Installation;
use serde_json::json;

use super::{ROWS, Writer, inserts, not_ready, numbers, ready, service, told};
use crate::support::{Client, Database, Message, OwnCluster, Process, Server, Version, eventually, process};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_a_slot_waits_and_takes_over() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let first = Server::start(&db).await;
    ready(first.address).await;
    let second = Server::launch(&db, |_| {}).await;
    let pid = db
        .text(&format!(
            "select active_pid::text from pg_replication_slots where slot_name = 'rowcast_{}'",
            db.name
        ))
        .await;
    let words = [
        format!("standby: waits for slot rowcast_{}", db.name),
        format!("in use by process {pid},"),
        "a slot of its own".to_owned(),
    ];
    not_ready(second.address, &words.each_ref().map(String::as_str)).await;
    assert_eq!(
        second.get("/healthcheck").await.0,
        503,
        "it has never been of use"
    );
    assert_eq!(second.get("/livez").await.0, 200);
    let mut client = Client::connect(&second, Version::V2, &service()).await;
    let join = json!({"config": {"postgres_changes": inserts()}});
    let join = client.push("n", "phx_join", join).await;
    client.round_trip().await;
    first.stop().await;
    ready(second.address).await;
    assert_eq!(client.reply(&join).await["status"], "ok");
    told(&mut client, "n", "Subscribed to PostgreSQL").await;
    db.execute("insert into n values (1)").await;
    assert_eq!(numbers(&mut client, 1).await, [1]);
    second.stop().await;
}

/// Making one waits for every transaction that runs; channels may be joined meanwhile, rows are live only then.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_being_made_says_what_it_waits_for() {
    let cluster = OwnCluster::start(&[]).await;
    let db = cluster.database().await;
    db.execute(ROWS).await;
    db.execute("grant select on n to service_role").await;
    let old = db.connection().await;
    old.batch_execute("begin; select txid_current()")
        .await
        .expect("a transaction");
    let server = Server::launch(&db, |_| {}).await;
    not_ready(
        server.address,
        &["is being made", "waits for every transaction", "pg_stat_activity"],
    )
    .await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client.enter("room", json!({})).await;
    let join = json!({"config": {"postgres_changes": inserts()}});
    client.push("n", "phx_join", join).await;
    client.round_trip().await;
    let live = |m: &Message| m.payload["message"] == "Subscribed to PostgreSQL";
    assert!(!client.pending().iter().any(live), "nothing is followed yet");
    old.batch_execute("commit").await.expect("its end");
    ready(server.address).await;
    told(&mut client, "n", "Subscribed to PostgreSQL").await;
    db.execute("insert into n values (1); select realtime.send('{}', 'said', 'room', false)")
        .await;
    assert_eq!(numbers(&mut client, 1).await, [1]);
    assert_eq!(client.heard("room").await.payload["event"], "said");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_slot_is_not_made_again_in_silence() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client.subscribe("n", inserts()).await;
    drop_slot(&db).await;
    not_ready(
        server.address,
        &["was dropped", "Restart, or allow recreate_lost_slot"],
    )
    .await;
    told(&mut client, "n", "Row changes are delayed").await;
    let slots = format!(
        "select count(*)::text from pg_replication_slots where database = '{}'",
        db.name
    );
    assert_eq!(db.text(&slots).await, "0");
    assert_eq!(server.get("/livez").await.0, 200);
    client.round_trip().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_slot_is_made_again_where_that_was_allowed() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    let server = Server::start_with(&db, |config| config.replication.recreate_lost_slot = true).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client.subscribe("n", inserts()).await;
    let writer = Writer::start(&db.settings, 0);
    numbers(&mut client, 5).await;
    drop_slot(&db).await;
    let missed = told(&mut client, "n", "Row changes may have been missed").await;
    assert!(
        missed["message"]
            .as_str()
            .is_some_and(|text| text.contains("was dropped")),
        "{missed}"
    );
    ready(server.address).await;
    writer.stop().await;
    server.passed(&db).await;
    client.round_trip().await;
    client.forget("postgres_changes");
    db.execute("insert into n values (-1), (-2)").await;
    client
        .expect("a row of the new slot", |m| {
            m.payload["data"]["record"]["id"] == json!(-1)
        })
        .await;
    assert_eq!(numbers(&mut client, 1).await, [-2]);
    server.stop().await;
}

async fn drop_slot(db: &Database) {
    let drop = format!(
        "do $$ begin
            perform pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'rowcast_{0}';
            for i in 1..1000 loop
                begin
                    perform pg_drop_replication_slot('rowcast_{0}');
                    return;
                exception when object_in_use then perform pg_sleep(0.001);
                end;
            end loop;
            raise 'the slot is still there';
         end $$",
        db.name
    );
    db.execute(&drop).await;
}

/// An operator who meets this restarts Postgres; a server that had ended would have to be restarted, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_logical_wal_is_waited_for() {
    let cluster = OwnCluster::start(&[("wal_level", "replica")]).await;
    let settings = cluster.settings("postgres");
    let mut server = Process::launch(&settings, "rowcast", &[]).await;
    let words = [
        "wal_level is replica",
        "ALTER SYSTEM SET wal_level = logical",
        "restart Postgres",
    ];
    not_ready(server.address, &words).await;
    assert!(server.is_running());
    let log = server.log();
    let lines = log.iter().filter(|line| line.contains("wal_level is replica"));
    assert_eq!(lines.count(), 1, "{log:#?}");

    let check = process::run(&settings, &["check"]).await;
    let report = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(1), "{report}");
    assert!(report.contains("ALTER SYSTEM SET wal_level"), "{report}");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_not_allowed_is_named_and_used_once_it_is() {
    let mut installation = Installation::find().expect("a Postgres");
    if !installation.lists_plugins {
        return;
    }
    // Not on the command line, which nothing could change.
    installation.lists_plugins = false;
    let cluster = OwnCluster::start_with(|options| options.installation = Some(installation)).await;
    let db = cluster.database().await;
    db.execute(ROWS).await;
    db.execute("grant select on n to service_role").await;
    db.execute("alter system set output_plugin_libraries = 'pgoutput'")
        .await;
    db.execute("select pg_reload_conf()").await;
    eventually("the setting is in force", || async {
        let list = db.text("select current_setting('output_plugin_libraries')").await;
        (list == "pgoutput").then_some(())
    })
    .await;
    let server = Server::launch(&db, |config| config.replication.plugin = Plugin::Wal2json).await;
    let words = ["wal2json", "output_plugin_libraries", "pg_reload_conf"];
    let reason = not_ready(server.address, &words).await;
    let command = reason.split("run: ").nth(1).expect("what to run");
    let command = command
        .trim_end_matches(['"', '}', ',', '\n'])
        .split('"')
        .next()
        .expect("text");
    // Exactly as told.
    for statement in command.split("; ") {
        db.execute(statement.trim_start_matches("and: ")).await;
    }
    ready(server.address).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client.subscribe("n", inserts()).await;
    db.execute("insert into n values (7)").await;
    assert_eq!(numbers(&mut client, 1).await, [7]);
    server.stop().await;
}
