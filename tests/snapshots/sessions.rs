//! Clients with a session id, cut off between their rows.

use serde_json::json;

use super::{Copy, binding, selected, service};
use crate::support::{Client, Database, Server, Version};

/// More than half an outbox and a socket hold.
const TABLE: &str = "
    create table t (id int primary key, v text); alter publication supabase_realtime add table t;
    insert into t select n, repeat('x', 200) from generate_series(1, 40000) as n;
";

async fn told(client: &mut Client, message: &str) {
    let fits = |told: &str| told.starts_with(message);
    let what = format!("a message {message}");
    client
        .expect(&what, |m| m.payload["message"].as_str().is_some_and(fits))
        .await;
}

/// The server knows where such a client is, but between rows that is nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_cut_off_between_its_rows_gets_all_of_them() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| {
        config.resume.acknowledge = std::time::Duration::from_millis(20);
    })
    .await;
    let token = format!("{}&session=one", service());
    let join = json!({"config": {"postgres_changes": [binding("t")]}});
    for _ in 0..3 {
        let mut client = Client::connect_narrow(&server, Version::V2, &token).await;
        client.push("room", "phx_join", join.clone()).await;
        told(&mut client, "snapshot: begins").await;
    }
    let mut client = Client::connect(&server, Version::V2, &token).await;
    client.push("room", "phx_join", join.clone()).await;
    told(&mut client, "snapshot: 40000 rows").await;
    let mut copy = Copy::default();
    client.rows_before_now().iter().for_each(|row| copy.apply(row));
    assert!(copy.0 == selected(&db, "select * from t").await);
    told(&mut client, "Subscribed to PostgreSQL").await;

    // From there on it knows.
    let known = server.metric("rowcast_places_acknowledged_total").await;
    while server.metric("rowcast_places_acknowledged_total").await < known + 2.0 {
        // Reading is what answers.
        client.round_trip().await;
    }
    drop(client);
    db.execute("update t set v = 'y' where id = 7").await;
    let mut client = Client::connect(&server, Version::V2, &token).await;
    client.push("room", "phx_join", join).await;
    told(&mut client, "resumed: nothing was missed").await;
    let rows = client.rows_before_now();
    assert_eq!((rows.len(), &rows[0]["record"]["id"]), (1, &json!(7)));
    server.stop().await;
}
