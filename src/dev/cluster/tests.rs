use super::super::postmaster::StopMode;
use super::*;

/// A folder that the user Postgres runs as can reach.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix("rowcast-cluster")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap()
}

fn fast(dir: &Path) -> Options {
    Options {
        durability: Durability::Fast,
        ..Options::new(dir)
    }
}

async fn query(url: &str, sql: &str) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let rows = client.query(sql, &[]).await?;
    drop(client);
    let _ = connection.await;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}

fn pid_of(cluster: &PrivateCluster) -> i32 {
    let text = std::fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn starts_keeps_its_data_over_restarts_and_stops_when_dropped() {
    let dir = folder();
    let cluster = PrivateCluster::start(fast(dir.path())).unwrap();
    let url = cluster.url("postgres");
    assert_eq!(query(&url, "show wal_level").await.unwrap(), "logical");
    assert_eq!(query(&url, "show server_encoding").await.unwrap(), "UTF8");
    query(&url, "create table t as select 'kept'::text as t")
        .await
        .unwrap();

    for mode in [StopMode::Fast, StopMode::Immediate] {
        cluster.restart(mode).unwrap();
        assert_eq!(cluster.url("postgres"), url, "the port stays");
        assert_eq!(query(&url, "select t from t").await.unwrap(), "kept");
    }

    let second = PrivateCluster::start(fast(dir.path())).unwrap_err();
    assert!(matches!(second, DevError::AlreadyRunning { .. }), "{second}");

    drop(cluster);
    assert!(query(&url, "select 'x'").await.is_err());
    assert!(!dir.path().join("data/postmaster.pid").exists());
    assert!(!dir.path().join("lock").exists());
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let dir = folder();
    let cluster = PrivateCluster::start(Options {
        password: Some(Secret::new("correct")),
        ..fast(dir.path())
    })
    .unwrap();
    let url = cluster.url("postgres");
    assert_eq!(query(&url, "select 'in'").await.unwrap(), "in");
    assert!(
        query(&url.replace("correct", "wrong"), "select 'in'")
            .await
            .is_err()
    );
    assert!(!dir.path().join("initdb.password").exists());
}

#[tokio::test]
async fn what_a_killed_process_left_running_is_stopped_first() {
    let dir = folder();
    let killed = PrivateCluster::start(fast(dir.path())).unwrap();
    let (url, left_over) = (killed.url("postgres"), pid_of(&killed));
    query(&url, "create table t as select 'kept'::text as t")
        .await
        .unwrap();
    // As if by kill -9: nothing of ours runs on, but Postgres does. The system lets go of the lock then.
    std::mem::forget(killed);
    std::fs::remove_file(dir.path().join("lock")).unwrap();

    let cluster = PrivateCluster::start(fast(dir.path())).unwrap();
    assert_ne!(pid_of(&cluster), left_over);
    assert_eq!(
        query(&cluster.url("postgres"), "select t from t").await.unwrap(),
        "kept"
    );
}

#[test]
fn a_pid_file_that_names_a_stranger_is_not_believed() {
    let dir = folder();
    drop(PrivateCluster::start(fast(dir.path())).unwrap());
    let ourselves = std::process::id();
    let pid_file = dir.path().join("data/postmaster.pid");
    std::fs::write(&pid_file, format!("{ourselves}\n/elsewhere\n1\n1\n\n\n\nready\n")).unwrap();
    PrivateCluster::start(fast(dir.path())).unwrap();
}

#[test]
fn says_why_it_does_not_start() {
    let dir = folder();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = PrivateCluster::start(Options {
        port,
        ..fast(dir.path())
    })
    .unwrap_err();
    assert!(
        matches!(error, DevError::DatabasePort { port: p } if p == port),
        "{error}"
    );

    let error = PrivateCluster::start(Options {
        settings: vec![("shared_buffers".into(), "nonsense".into())],
        ..fast(dir.path())
    })
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("shared_buffers") && error.contains("postgres.log"),
        "{error}"
    );

    std::fs::write(dir.path().join("data/PG_VERSION"), "9\n").unwrap();
    let error = PrivateCluster::start(fast(dir.path())).unwrap_err();
    assert!(matches!(error, DevError::OtherVersion { .. }), "{error}");
}
