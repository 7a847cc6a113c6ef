//! Slots, publications, and `rowcast dev`.

use std::os::unix::fs::PermissionsExt;

use rowcast::config::Config;
use rowcast::server::connect_settings;
use serde_json::{Value, json};

use super::{on, service, shorts, subscriber};
use crate::support::{Client, Database, OwnCluster, Program, Server, Version, eventually, version};

pub(super) async fn a_development_server_needs_no_wal2json(major: u32) {
    let open = std::fs::Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new()
        .prefix("rowcast-dev")
        .permissions(open)
        .tempdir()
        .expect("a folder");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rowcast"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROWCAST_") {
            command.env_remove(name);
        }
    }
    command.args(["dev", "--port", "0", "--postgres"]);
    command.arg(version::installation(major).bin);
    command.arg("--data-dir").arg(folder.path());
    let mut dev = Program::start("rowcast dev", command, &[]);
    dev.expect("text", |line| {
        line["text"].as_str().is_some_and(|text| text.contains("URL"))
    })
    .await;
    let announced = std::fs::read_to_string(folder.path().join("dev.json")).expect("dev.json");
    let running: Value = serde_json::from_str(&announced).expect("JSON");
    let text = |key: &str| running[key].as_str().expect("a text").to_owned();
    let config = Config::from_pairs(&[("database.url", &*text("database_url"))]).expect("a URL");
    let db = Database::open("dev".to_owned(), connect_settings(&config)).await;
    db.execute(
        "create table notes (id int primary key); alter publication supabase_realtime add table notes",
    )
    .await;
    let client = Client::try_connect_to(&text("url"), Version::V2, &text("anon_key")).await;
    let mut client = client.expect("a connection");
    client.subscribe("notes", on("notes")).await;
    db.execute("insert into notes values (1)").await;
    assert_eq!(client.data().await["record"], json!({"id": 1}));
    let running_on = db
        .text("select current_setting('server_version_num') || plugin from pg_replication_slots")
        .await;
    assert!(running_on.starts_with(&major.to_string()), "{running_on}");
    assert!(running_on.ends_with("pgoutput"), "{running_on}");
    dev.signal(rustix::process::Signal::INT);
    let (status, told) = dev.ended().await;
    assert!(status.success(), "{status}: {told:#?}");
}

pub(super) async fn the_stream_is_made_of_slot_and_publications(major: u32) {
    let db = Database::on_version(major).await;
    db.execute(
        "create table keyed (id int primary key); create table keyless (n int);
         alter publication supabase_realtime set (publish = 'insert');
         alter publication supabase_realtime add table keyed, keyless",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = subscriber(&server, &service(), json!([{"event": "*", "schema": "public"}])).await;
    let slot = format!("rowcast_{}", db.name);
    assert_eq!(
        db.text(&format!(
            "select plugin || ' ' || wal_status || ' ' || coalesce(invalidation_reason, 'valid') from pg_replication_slots
              where slot_name = '{slot}'"
        ))
        .await,
        "pgoutput reserved valid"
    );
    let published = |name: &str| {
        format!(
            "select coalesce(string_agg(t.tablename, ' ' order by t.tablename), '')
               from pg_publication_tables t where t.pubname = '{slot}_{name}' and t.schemaname = 'public'"
        )
    };
    assert_eq!(db.text(&published("stream")).await, "keyed");
    assert_eq!(db.text(&published("stream_inserts")).await, "keyless");
    db.execute("insert into keyless values (1); insert into keyed values (2)")
        .await;
    assert_eq!(
        shorts(&mut client, &db, &server).await,
        [
            r#"INSERT {} ["Error 400: Bad Request, no primary key"]"#,
            r#"INSERT {"id":2}"#
        ]
    );
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("rowcast_slot"), "{metrics}");
    server.stop().await;
    // The doctor has nothing to object to.
    let check = crate::support::process::run(&db.settings, &["check", "--replication-slot", &slot]).await;
    let report = String::from_utf8_lossy(&check.stdout);
    assert!(report.contains(&format!("PostgreSQL {major}")), "{report}");
    assert!(!report.contains("newer than the versions"), "{report}");
    assert_eq!(check.status.code(), Some(0), "{report}");
}

/// A slot that is lost: each version has its own ways and words for that, and what an operator is told says what to raise.
pub(super) async fn a_slot_that_postgres_gave_up_is_told_of(major: u32) {
    let cluster = OwnCluster::start_with(|options| {
        options.installation = Some(version::installation(major));
        let lost = match major {
            18.. => [("idle_replication_slot_timeout", "1s"), ("min_wal_size", "32MB")],
            _ => [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB")],
        };
        let settings = lost.map(|(name, value)| (name.to_owned(), value.to_owned()));
        options.settings.extend(settings);
    })
    .await;
    let db = cluster.database().await;
    db.execute(
        "create table t (id int primary key); alter publication supabase_realtime add table t;
         grant select on t to service_role",
    )
    .await;
    let first = Server::start(&db).await;
    let mut client = subscriber(&first, &service(), on("t")).await;
    db.execute("insert into t values (1)").await;
    assert_eq!(client.data().await["record"]["id"], 1);
    first.stop().await;
    let lost = "select coalesce(max(invalidation_reason), 'none') from pg_replication_slots";
    eventually("the slot is given up", || async {
        let fill = "select pg_logical_emit_message(false, '', repeat('x', 1000000))";
        db.execute(&format!("{fill} from generate_series(1, 20)")).await;
        db.execute("select pg_switch_wal()").await;
        db.execute("checkpoint").await;
        (db.text(lost).await != "none").then_some(())
    })
    .await;
    let why = match major {
        18.. => "idle_replication_slot_timeout",
        _ => "max_slot_wal_keep_size",
    };
    let second = Server::launch(&db, |config| config.replication.recreate_lost_slot = false).await;
    eventually("the server says why rows do not flow", || async {
        let (status, text) = second.get("/readyz").await;
        (status == 503 && text.contains("is lost") && text.contains(why)).then_some(())
    })
    .await;
    second.stop().await;
    let third = Server::start_with(&db, |config| config.replication.recreate_lost_slot = true).await;
    let mut client = subscriber(&third, &service(), on("t")).await;
    db.execute("insert into t values (2)").await;
    assert_eq!(client.data().await["record"]["id"], 2);
    third.stop().await;
}
