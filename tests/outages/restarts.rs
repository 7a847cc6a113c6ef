//! Postgres goes and comes back, or only a connection does: nothing is lost, nothing repeated.

use std::net::Ipv4Addr;

use rowcast::dev::StopMode;
use serde_json::{Value, json};

use super::{ROWS, Writer, inserts, not_ready, numbers, ready, service, told};
use crate::support::proxy::{End, Fate};
use crate::support::{Client, Database, OwnCluster, Proxy, Server, Version, eventually, server, token};

const DELAYED: &str = "Row changes are delayed";
const FLOWING: &str = "Row changes are flowing again, none were missed";

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_restart_loses_and_repeats_nothing() {
    restart(StopMode::Fast, json!({"wait": true})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_and_repeats_nothing() {
    restart(StopMode::Immediate, json!({})).await;
}

async fn restart(mode: StopMode, how_to_join: Value) {
    let cluster = OwnCluster::start(&[]).await;
    let db = cluster.database().await;
    db.execute(ROWS).await;
    db.execute(
        "grant select on n to service_role, authenticated; alter table n enable row level security;
         create policy p on n using (auth.uid() is not null)",
    )
    .await;
    let server = Server::start(&db).await;
    let user = token::user("a0000000-0000-4000-8000-000000000001");
    let mut judged = Client::connect(&server, Version::V1, &user).await;
    judged.subscribe("n", inserts()).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client.subscribe("n", inserts()).await;
    let writer = Writer::start(&db.settings, 0);
    let mut got = numbers(&mut client, 50).await;

    cluster.stop(mode).await;
    not_ready(server.address, &["row changes do not flow"]).await;
    assert_eq!(server.get("/healthcheck").await.0, 200, "no reason to replace it");
    let delayed = told(&mut client, "n", DELAYED).await;
    assert_eq!(delayed["status"], "ok");
    // Somebody comes while Postgres is away.
    let mut late = Client::connect(&server, Version::V2, &service()).await;
    let config = json!({"postgres_changes": inserts(), "postgres_changes_options": how_to_join});
    let join = late.push("late", "phx_join", json!({"config": config})).await;
    late.round_trip().await;

    cluster.start_again().await;
    told(&mut client, "n", FLOWING).await;
    ready(server.address).await;
    assert_eq!(late.reply(&join).await["status"], "ok");
    told(&mut late, "late", "Subscribed to PostgreSQL").await;
    late.forget("postgres_changes");
    let next = writer.stop().await;
    cluster.execute("insert into n values (1000000)").await;
    let wanted: Vec<i64> = (0..next).chain([1_000_000]).collect();
    got.extend(numbers(&mut client, wanted.len() - got.len()).await);
    assert_eq!(got, wanted);
    rows_or_errors(&mut judged, &wanted).await;
    late.expect("the last row", |m| {
        m.payload["data"]["record"]["id"] == json!(1_000_000)
    })
    .await;
    server.passed(&cluster.database().await).await;
    client.round_trip().await;
    for message in client.pending() {
        // How often the stream breaks while Postgres comes back is not for us to say.
        let text = message.payload["message"].as_str().unwrap_or_default();
        let fine = text.starts_with(DELAYED) || text == FLOWING;
        assert!(fine, "nothing twice, and no talk of missed rows: {message:?}");
    }
    server.stop().await;
}

/// Every row is told once and in order. Where nobody could be asked, what is told is that.
async fn rows_or_errors(client: &mut Client, wanted: &[i64]) {
    for number in wanted {
        let data = client.data().await;
        let row = data["record"]["id"] == json!(number) && data["errors"] == Value::Null;
        let error = data["errors"] == json!(["Error 503: Policy evaluation unavailable"]);
        assert!(row || error, "{number}: {data}");
        assert!(row || *number < 1_000_000, "{data}");
    }
}

/// Of 4.8 MB of pgoutput or more of wal2json, 2 MiB come before the cut: many rows, and not all.
#[tokio::test(flavor = "multi_thread")]
async fn a_walsender_cut_within_a_large_transaction_repeats_nothing() {
    const BEFORE: usize = 2_000;
    const AFTER: usize = 98_000;
    let db = Database::new().await;
    db.execute(ROWS).await;
    let proxy = Proxy::start((Ipv4Addr::LOCALHOST, db.settings.port).into()).await;
    proxy.plan(|_| Fate {
        end: End::Held(2 << 20),
        ..Fate::NONE
    });
    let server = Server::start_with(&db, |config| {
        config.database.port = proxy.address.port();
        config.limits.outbox_frames = usize::MAX;
        config.limits.outbox_bytes = usize::MAX;
    })
    .await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    client.subscribe("n", inserts()).await;
    db.execute("insert into n select generate_series(1, 100000)")
        .await;
    let mut got = numbers(&mut client, BEFORE).await;
    proxy.calm();
    got.extend(numbers(&mut client, AFTER).await);
    assert!(got.into_iter().eq(1..=100_000), "each row once, in order");
    let repeated = server::metric(server.address, "rowcast_changes_repeated_total").await;
    assert!(
        repeated >= Some(2_000),
        "Postgres sent its begin again: {repeated:?}"
    );
    db.execute("insert into n values (0)").await;
    assert_eq!(numbers(&mut client, 1).await, [0]);
    server.stop().await;
}

/// The connection that policies are judged over is cut again and again. Asking twice harms nobody, so that no row is
/// lost to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_judge_cut_off_asks_again() {
    let db = Database::new().await;
    db.execute(ROWS).await;
    db.execute(
        "alter table n enable row level security; grant select on n to authenticated;
         create policy p on n using (auth.uid() is not null)",
    )
    .await;
    let server = Server::start_with(&db, |config| config.policy.in_memory = false).await;
    let user = token::user("a0000000-0000-4000-8000-000000000001");
    let mut client = Client::connect(&server, Version::V1, &user).await;
    client.subscribe("n", inserts()).await;
    let writer = Writer::start(&db.settings, 0);
    let mut got = Vec::new();
    for _ in 0..20 {
        got.extend(numbers(&mut client, 5).await);
        eventually("there is a connection to cut", || async {
            let cut = db.text(
                "select count(pg_terminate_backend(pid))::text from pg_stat_activity
                 where application_name = 'rowcast_judge' and datname = current_database()",
            );
            (cut.await != "0").then_some(())
        })
        .await;
    }
    let next = writer.stop().await;
    let rest = usize::try_from(next).expect("positive") - got.len();
    got.extend(numbers(&mut client, rest).await);
    assert!(got.into_iter().eq(0..next), "every row, once and in order");
    client.round_trip().await;
    assert_eq!(client.pending(), [], "nobody lost a subscription");
    server.stop().await;
}
