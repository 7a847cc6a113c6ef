//! The server is there before its database is.

use rowcast::config::SslMode;
use rowcast::dev::StopMode;
use rowcast::secret::Secret;
use rowcast::server::ServeError;
use serde_json::json;

use super::{ROWS, inserts, not_ready, numbers, ready, service, told};
use crate::support::{
    Client, Database, OwnCluster, Process, Server, Version, database, eventually, own, server,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_yet_is_waited_for() {
    let cluster = OwnCluster::start(&[]).await;
    let db = cluster.database().await;
    db.execute(ROWS).await;
    db.execute("grant select on n to service_role").await;
    cluster.stop(StopMode::Fast).await;
    let server = Server::launch(&db, |_| {}).await;
    not_ready(server.address, &["nothing answers at that address"]).await;
    let (status, reason) = server.get("/healthcheck").await;
    assert!(
        status == 503 && reason.contains("nothing answers"),
        "{status} {reason}"
    );
    assert_eq!(server.get("/livez").await.0, 200);
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let join = json!({"config": {"postgres_changes": inserts()}});
    let join = client.push("n", "phx_join", join).await;
    client.round_trip().await;

    cluster.start_again().await;
    assert_eq!(client.reply(&join).await["status"], "ok");
    told(&mut client, "n", "Subscribed to PostgreSQL").await;
    assert_eq!(server.get("/healthcheck").await, (200, "ok".to_owned()));
    cluster.execute("insert into n values (1)").await;
    assert_eq!(numbers(&mut client, 1).await, [1]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_waits_can_be_stopped() {
    let cluster = OwnCluster::start(&[]).await;
    let db = cluster.database().await;
    cluster.stop(StopMode::Immediate).await;
    let server = Server::launch(&db, |_| {}).await;
    not_ready(server.address, &["nothing answers"]).await;
    server.stop().await;
}

/// Said once each, however often it is tried.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_database_or_password_is_waited_out_and_logged_once() {
    let cluster = OwnCluster::start_with(|options| options.password = Some(Secret::new("right"))).await;
    let mut settings = cluster.settings("app");
    settings.user = "app".to_owned();
    settings.password = Secret::new("wrong");
    let admin = cluster.settings("postgres");
    assert!(own::execute(&admin, "create role app superuser login password 'other'").await);

    let more = [("ROWCAST_DATABASE_PASSWORD", "wrong")];
    let mut server = Process::launch(&settings, "rowcast", &more).await;
    not_ready(server.address, &["the login was refused", "check user, password"]).await;
    refused(&cluster, "password authentication failed").await;
    assert!(own::execute(&admin, "alter role app password 'wrong'").await);

    not_ready(server.address, &["the database does not exist"]).await;
    refused(&cluster, "database \"app\" does not exist").await;
    assert!(own::execute(&admin, "create database app").await);
    ready(server.address).await;
    assert_eq!(server::get(server.address, "/healthcheck").await.0, 200);
    assert!(server.is_running());
    let log = server.log();
    for reason in ["the login was refused", "the database does not exist"] {
        let lines = log.iter().filter(|line| line.contains(reason)).count();
        assert_eq!(lines, 1, "{reason}: {log:#?}");
    }
    assert!(!log.iter().any(|line| line.contains("wrong")), "{log:#?}");
    // What the server has installed meanwhile is whole.
    database::prepare(&settings).await;
    server.kill().await;
}

/// Waits until Postgres has said no to this at least three times.
async fn refused(cluster: &OwnCluster, words: &str) {
    eventually(words, || async {
        (cluster.log().matches(words).count() >= 3).then_some(())
    })
    .await;
}

/// Waiting would not help.
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_used_end_the_server() {
    let db = Database::new().await;
    let server = Server::launch(&db, |config| {
        config.database.sslmode = SslMode::VerifyFull;
        config.database.sslrootcert = Some("no/such/file.pem".into());
    })
    .await;
    let ended = server.ended().await;
    assert!(matches!(ended, Err(ServeError::Database(_))), "{ended:?}");
}
