use std::time::Duration;

use crate::postgres::testing::Cluster;
use crate::postgres::{ConnectSettings, ErrorKind, Pool, PoolOptions, Session, SqlError, connect};
use crate::secret::Secret;

async fn refused(settings: &ConnectSettings) -> SqlError {
    connect(settings, &Session::new("test"))
        .await
        .expect_err("a refusal")
}

#[tokio::test]
async fn a_session_is_what_was_asked_for() {
    let (name, _admin) = Cluster::shared().database().await;
    let mut session = Session::new("an app name");
    session.statement_timeout = Some(Duration::from_millis(50));
    session.read_only = true;
    session.settings.push(("search_path".into(), "\"a b\\\"".into()));
    let db = connect(&Cluster::shared().settings(&name), &session)
        .await
        .expect("a connection");
    for (setting, value) in [
        ("application_name", "an app name"),
        ("statement_timeout", "50ms"),
        ("default_transaction_read_only", "on"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("IntervalStyle", "postgres"),
        ("bytea_output", "hex"),
        ("search_path", "\"a b\\\""),
    ] {
        let row = db
            .query_one("SELECT pg_catalog.current_setting($1)", &[&setting])
            .await
            .expect("a setting");
        assert_eq!(row.get::<_, &str>(0), value, "{setting}");
    }
    let slow = db
        .batch_execute("SELECT pg_sleep(10)")
        .await
        .map_err(SqlError::during("sleeping"));
    assert_eq!(slow.expect_err("a timeout").kind(), ErrorKind::Cancelled);
    let write = db
        .batch_execute("CREATE TABLE t ()")
        .await
        .map_err(SqlError::during("writing"));
    assert_eq!(write.expect_err("a refusal").kind(), ErrorKind::ReadOnly);
    let missing = db
        .batch_execute("SELECT * FROM nowhere")
        .await
        .map_err(SqlError::during("reading"));
    assert_eq!(missing.expect_err("a refusal").kind(), ErrorKind::Undefined);
}

#[tokio::test]
async fn a_unix_socket_is_a_host_that_starts_with_a_slash() {
    let cluster = Cluster::shared();
    let (name, _admin) = cluster.database().await;
    let mut settings = cluster.settings(&name);
    settings.host = cluster.folder.display().to_string();
    settings.ssl_mode = crate::postgres::SslMode::VerifyFull;
    let db = connect(&settings, &Session::new("test"))
        .await
        .expect("a connection");
    let row = db
        .query_one("SELECT inet_client_addr() IS NULL", &[])
        .await
        .expect("a row");
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn every_failure_has_its_kind() {
    let cluster = Cluster::shared();
    let (name, admin) = cluster.database().await;
    let mut settings = cluster.settings("no_such_db");
    assert_eq!(refused(&settings).await.kind(), ErrorKind::DatabaseMissing);
    settings.database = name;
    settings.user = "no_such_user".into();
    assert_eq!(refused(&settings).await.kind(), ErrorKind::Authentication);
    admin
        .batch_execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        .await
        .expect("a role");
    settings.user = "crowded".into();
    assert_eq!(refused(&settings).await.kind(), ErrorKind::TooManyConnections);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    settings.port = listener.local_addr().expect("its address").port();
    settings.connect_timeout = Duration::from_millis(200);
    let silent = refused(&settings).await;
    assert_eq!(silent.kind(), ErrorKind::Timeout);
    assert!(silent.kind().is_transient());
    drop(listener);
    settings.connect_timeout = Duration::from_secs(5);
    let error = refused(&settings).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.chain());
    settings.host = "no-such-host.invalid".into();
    assert_eq!(refused(&settings).await.kind(), ErrorKind::Unreachable);
    settings.host = "/no/such/folder".into();
    assert_eq!(refused(&settings).await.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn no_error_shows_the_password() {
    let mut settings = Cluster::shared().settings("no_such_db");
    settings.password = Secret::new("hunter2");
    let error = refused(&settings).await;
    assert!(!format!("{error:?} {}", error.chain()).contains("hunter2"));
}

#[tokio::test]
async fn a_pool_is_bounded_and_its_connections_come_back_clean() {
    let (name, _admin) = Cluster::shared().database().await;
    let options = PoolOptions {
        size: 1,
        wait: Duration::from_millis(50),
        session: Session::new("pooled"),
    };
    let pool = Pool::new(&Cluster::shared().settings(&name), &options).expect("a pool");
    let mut only = pool.get().await.expect("a connection");
    assert_eq!(
        pool.get().await.expect_err("a refusal").kind(),
        ErrorKind::PoolExhausted
    );
    let transaction = only.transaction().await.expect("a transaction");
    transaction
        .batch_execute("SET LOCAL ROLE pg_monitor")
        .await
        .expect("a role");
    drop(transaction);
    drop(only);
    let only = pool.get().await.expect("a connection");
    let row = only
        .query_one("SELECT current_user::text", &[])
        .await
        .expect("a row");
    assert_eq!(row.get::<_, &str>(0), "postgres");
    // A connection that the server closed is replaced, not handed out again.
    let error = only
        .batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")
        .await;
    assert_eq!(
        error
            .map_err(SqlError::during("ending"))
            .expect_err("an end")
            .kind(),
        ErrorKind::Restarting
    );
    drop(only);
    while !pool.get().await.is_ok_and(|client| !client.is_closed()) {
        tokio::task::yield_now().await;
    }
    pool.close();
    assert!(pool.get().await.is_err());
}
