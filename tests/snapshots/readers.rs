//! Readers of different speed: who is slow harms nobody else, and gets all of it as well.

use serde_json::json;

use super::{Copy, binding, end, selected, service};
use crate::support::{Client, Database, Server, Version, eventually};

/// More than half an outbox and a socket hold.
const TABLE: &str = "
    create table t (id int primary key, v text); alter publication supabase_realtime add table t;
    insert into t select n, repeat('x', 200) from generate_series(1, 40000) as n;
";

fn join(filter: Option<&str>) -> serde_json::Value {
    let mut binding = binding("t");
    binding["filter"] = json!(filter);
    json!({"config": {"postgres_changes": [binding]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_far_slower_than_others_goes_on_alone() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| {
        config.snapshot.parallel = 1;
        config.session.write_timeout = std::time::Duration::from_secs(60);
    })
    .await;
    let mut quick = Client::connect(&server, Version::V2, &service()).await;
    let mut stalled = Client::connect_narrow(&server, Version::V2, &service()).await;
    let blocker = db.connection().await;
    let lock = "begin; lock table t in access exclusive mode";
    blocker.batch_execute(lock).await.expect("a lock");
    let mut first = Client::connect(&server, Version::V2, &service()).await;
    first.push("room", "phx_join", join(Some("id=lt.3"))).await;
    eventually("somebody has the turn", || async {
        let sql = "select count(*)::text from pg_stat_activity
                   where datname = current_database() and application_name = 'rowcast_snapshot' and wait_event_type = 'Lock'";
        (db.text(sql).await != "0").then_some(())
    })
    .await;
    stalled.push("room", "phx_join", join(None)).await;
    quick.push("room", "phx_join", join(None)).await;
    eventually("both wait", || async {
        (server.metric("rowcast_snapshots_waiting").await >= 2.0).then_some(())
    })
    .await;
    blocker.batch_execute("rollback").await.expect("an end");
    assert_eq!(end(&mut quick, "room").await["message"], "snapshot: 40000 rows");
    assert_eq!(quick.rows_before_now().len(), 40_000);

    // What it got before does not count; what it gets then is complete.
    let again = stalled.system("room").await;
    assert_eq!(again["message"], "snapshot: begins");
    let again = stalled.system("room").await;
    let message = again["message"].as_str().expect("a text");
    assert_eq!(
        message,
        "snapshot: begins again: it was read too slowly while others waited for the same rows"
    );
    let partly = stalled.rows_before_now().len();
    assert!(partly > 0 && partly < 40_000, "{partly}");
    assert_eq!(end(&mut stalled, "room").await["message"], "snapshot: 40000 rows");
    let mut copy = Copy::default();
    stalled.rows_before_now().iter().for_each(|row| copy.apply(row));
    assert_eq!(copy.0, selected(&db, "select * from t").await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_gives_others_its_turn() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| {
        config.snapshot.parallel = 1;
        config.session.write_timeout = std::time::Duration::from_secs(60);
    })
    .await;
    let mut stalled = Client::connect_narrow(&server, Version::V2, &service()).await;
    stalled.push("room", "phx_join", join(None)).await;
    eventually("its outbox fills up", || async {
        (server.metric("rowcast_snapshot_rows_total").await > 4_000.0).then_some(())
    })
    .await;
    let mut other = Client::connect(&server, Version::V2, &service()).await;
    other.push("room", "phx_join", join(Some("id=lt.3"))).await;
    assert_eq!(end(&mut other, "room").await["message"], "snapshot: 2 rows");
    assert_eq!(end(&mut stalled, "room").await["message"], "snapshot: 40000 rows");
    assert_eq!(stalled.rows_before_now().len(), 40_000);
    server.stop().await;
}
