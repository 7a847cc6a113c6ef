//! Nothing is missing between a snapshot and what follows, and nothing comes twice, whatever commits meanwhile.

use serde_json::json;

use super::{Copy, binding, end, selected, service, snapshot};
use crate::support::{Client, Database, OwnCluster, Server, Version, eventually, own};

const TABLE: &str = "
    create table t (id int primary key, v text);
    alter publication supabase_realtime add table t;
";

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_under_way_come_when_they_commit() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute("insert into t values (1, 'before'), (2, 'before')")
        .await;
    let server = Server::start(&db).await;
    let (early, late) = (db.connection().await, db.connection().await);
    for (connection, sql) in [
        (
            &early,
            "begin; insert into t values (3, 'early'); savepoint s; update t set v = 'early' where id = 1",
        ),
        (
            &late,
            "begin; insert into t values (4, 'late'); delete from t where id = 2",
        ),
    ] {
        connection.batch_execute(sql).await.expect("a transaction");
    }
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let (_, rows) = snapshot(&mut client, "room", json!([binding("t")])).await;
    let mut copy = Copy::default();
    rows.iter().for_each(|row| copy.apply(row));
    assert_eq!(copy.0, selected(&db, "select * from t").await);

    // In another order than they began.
    late.batch_execute("commit").await.expect("a commit");
    early.batch_execute("commit").await.expect("a commit");
    for _ in 0..4 {
        copy.apply(&client.data().await);
    }
    assert_eq!(copy.0, selected(&db, "select * from t").await);
    server.stop().await;
}

/// A commit is in the WAL, and others have been told of it, while the snapshot does not see it yet: by positions it would be lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_sees_yet_comes_behind_the_snapshot() {
    let cluster = OwnCluster::start(&[("synchronous_commit", "local")]).await;
    let db = cluster.database().await;
    db.execute(TABLE).await;
    db.execute("grant select on t to service_role; create table probe (n int)")
        .await;
    db.execute("insert into t values (1, 'before'), (2, 'before')")
        .await;
    let server = Server::start(&db).await;
    let mut witness = Client::connect(&server, Version::V2, &service()).await;
    witness
        .subscribe("room", json!([{"event": "*", "schema": "public", "table": "t"}]))
        .await;

    db.execute("alter system set synchronous_standby_names = 'nobody'")
        .await;
    db.execute("select pg_reload_conf()").await;
    let settings = db.settings.clone();
    // Sessions know the setting before it counts: that is for the checkpointer to say.
    let probe = || {
        let settings = settings.clone();
        let sql = "set synchronous_commit = on; insert into probe values (1)";
        tokio::spawn(async move { own::execute(&settings, sql).await })
    };
    let mut probing = probe();
    loop {
        let waits = "select exists (select from pg_stat_activity where wait_event = 'SyncRep')::text";
        if db.text(waits).await == "true" {
            break;
        }
        if probing.is_finished() {
            probing = probe();
        }
    }
    let waiting = tokio::spawn(async move {
        let sql = "set synchronous_commit = on; begin; insert into t values (3, 'unseen');
                   update t set v = 'unseen' where id = 1; delete from t where id = 2; commit";
        own::execute(&settings, sql).await
    });
    for _ in 0..3 {
        witness.data().await;
    }
    db.execute("insert into t values (4, 'seen')").await;
    witness.data().await;
    assert_eq!(
        db.text("select string_agg(id::text, ',' order by id) from t")
            .await,
        "1,2,4"
    );

    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let reply = client
        .join("room", json!({"postgres_changes": [binding("t")]}))
        .await;
    assert_eq!(reply["status"], "ok", "{reply}");
    assert_eq!(end(&mut client, "room").await["message"], "snapshot: 3 rows");
    let mut copy = Copy::default();
    let mut rows = client.rows_before_now();
    while rows.len() < 6 {
        rows.push(client.data().await);
    }
    assert!(rows[..3].iter().all(|row| row["snapshot"] == true), "{rows:#?}");
    rows.iter().for_each(|row| copy.apply(row));

    db.execute("alter system reset synchronous_standby_names").await;
    db.execute("select pg_reload_conf()").await;
    assert!(waiting.await.expect("no panic"), "the commit went through");
    assert_eq!(copy.0, selected(&db, "select * from t").await);
    db.execute("insert into t values (5, 'later')").await;
    assert_eq!(client.data().await["record"]["id"], 5);
    server.stop().await;
}

/// Holds a snapshot up behind a lock, after it was taken and before it has read anything.
struct Lock(rowcast::postgres::Connection);

impl Lock {
    async fn take(db: &Database) -> Self {
        let connection = db.connection().await;
        let sql = "begin; lock table t in access exclusive mode";
        connection.batch_execute(sql).await.expect("a lock");
        Self(connection)
    }

    /// Waits until a snapshot waits for it.
    async fn is_waited_for(&self, db: &Database) {
        eventually("a snapshot waits for the lock", || async {
            let sql = "select count(*)::text from pg_stat_activity
                       where datname = current_database() and application_name = 'rowcast_snapshot' and wait_event_type = 'Lock'";
            (db.text(sql).await != "0").then_some(())
        })
        .await;
    }

    async fn release(self) {
        self.0.batch_execute("rollback").await.expect("an end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_the_window_has_left_behind_begins_again() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(
        "create table other (id int primary key); alter publication supabase_realtime add table other",
    )
    .await;
    db.execute("insert into t values (1, 'one')").await;
    // Nothing stays in it.
    let server = Server::start_with(&db, |config| config.resume.window_bytes = 1).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let lock = Lock::take(&db).await;
    client
        .push(
            "room",
            "phx_join",
            json!({"config": {"postgres_changes": [binding("t")]}}),
        )
        .await;
    lock.is_waited_for(&db).await;
    db.execute("insert into other select generate_series(1, 10)")
        .await;
    let window_moved = || async { (server.metric("rowcast_changes_total").await >= 10.0).then_some(()) };
    eventually("the changes have come down", window_moved).await;
    lock.release().await;

    let mut rows = Vec::new();
    for text in [
        "snapshot: 1 rows",
        "snapshot: begins again: what was missed is older than the replay window",
        "snapshot: 1 rows",
        "Subscribed to PostgreSQL",
    ] {
        assert_eq!(end(&mut client, "room").await["message"], text);
        rows.push(client.rows_before_now().len());
    }
    assert_eq!(rows, [1, 0, 1, 0]);
    db.execute("insert into t values (2, 'two')").await;
    assert_eq!(client.data().await["record"]["id"], 2);
    server.stop().await;
}

/// Whoever knows where it was needs no rows, unless it is too late for the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_takes_the_place_of_a_snapshot() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute("insert into t values (1, 'one')").await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let (reply, rows) = snapshot(&mut client, "room", json!([binding("t")])).await;
    assert_eq!(rows.len(), 1);
    let cursor = reply["response"]["snapshot"]["cursor"].clone();
    db.execute("insert into t values (2, 'two')").await;
    assert_eq!(client.data().await["record"]["id"], 2);

    let mut back = Client::connect(&server, Version::V2, &service()).await;
    let config = json!({"postgres_changes": [binding("t")], "since": cursor});
    let reply = back.join("room", config).await;
    assert_eq!(reply["response"].get("snapshot"), None, "{reply}");
    let missed = back.change().await;
    assert_eq!(missed["data"]["record"]["id"], 2);
    assert_eq!(missed["data"].get("snapshot"), None);
    let cursor = missed["cursor"].clone();
    assert!(cursor.is_string(), "{missed}");
    for text in ["resumed: nothing was missed", "Subscribed to PostgreSQL"] {
        assert_eq!(back.system("room").await["message"], text);
    }

    for (since, why) in [
        (json!("1-1"), "the database was replaced or restored"),
        (json!("garbled"), "the rows that came before may be out of date"),
    ] {
        let mut lost = Client::connect(&server, Version::V2, &service()).await;
        let config = json!({"postgres_changes": [binding("t")], "since": since});
        let reply = lost.join("room", config).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        assert_eq!(
            end(&mut lost, "room").await["message"],
            format!("snapshot: begins again: {why}")
        );
        assert_eq!(end(&mut lost, "room").await["message"], "snapshot: 2 rows");
        let live = end(&mut lost, "room").await;
        assert_eq!(live["message"], "live");
        assert!(live["cursor"].is_string(), "{live}");
        assert_eq!(
            end(&mut lost, "room").await["message"],
            "Subscribed to PostgreSQL"
        );
        assert_eq!(lost.rows_before_now().len(), 2);
    }
    server.stop().await;
}

/// Who asks while a reading is under way is served by the next one, together.
#[tokio::test(flavor = "multi_thread")]
async fn equal_snapshots_are_read_once() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute("insert into t select n, 'x' from generate_series(1, 50) as n")
        .await;
    let server = Server::start_with(&db, |config| config.snapshot.parallel = 1).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let mut old = Client::connect(&server, Version::V1, &service()).await;
    let lock = Lock::take(&db).await;
    let join = json!({"config": {"postgres_changes": [binding("t")]}});
    client.push("first", "phx_join", join.clone()).await;
    lock.is_waited_for(&db).await;
    for n in 0..10 {
        for client in [&mut client, &mut old] {
            client.push(&format!("room {n}"), "phx_join", join.clone()).await;
        }
    }
    // Another filter is another snapshot, and so are other columns.
    for more in [json!({"filter": "id=lt.11"}), json!({"select": ["id"]})] {
        let mut other = binding("t");
        other
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let topic = if more.get("filter").is_some() {
            "filter"
        } else {
            "select"
        };
        client
            .push(
                topic,
                "phx_join",
                json!({"config": {"postgres_changes": [other]}}),
            )
            .await;
    }
    eventually("all of them wait", || async {
        (server.metric("rowcast_snapshots_waiting").await >= 22.0).then_some(())
    })
    .await;
    lock.release().await;
    for n in 0..10 {
        for client in [&mut client, &mut old] {
            assert_eq!(
                end(client, &format!("room {n}")).await["message"],
                "snapshot: 50 rows"
            );
        }
    }
    assert_eq!(end(&mut client, "first").await["message"], "snapshot: 50 rows");
    assert_eq!(end(&mut client, "filter").await["message"], "snapshot: 10 rows");
    assert_eq!(end(&mut client, "select").await["message"], "snapshot: 50 rows");
    assert_eq!(server.metric("rowcast_snapshots_waiting").await, 0.0);
    let (_, metrics) = server.get("/metrics").await;
    for line in [
        "rowcast_snapshots_total{outcome=\"read\"} 4",
        "rowcast_snapshots_total{outcome=\"shared\"} 19",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert_eq!(
        server.metric("rowcast_snapshot_rows_total").await,
        21.0 * 50.0 + 60.0
    );
    server.stop().await;
}
