//! Session ids in the hands of somebody else, and clients that log in.

use serde_json::{Value, json};

use super::{RESUMED, outcome, rows};
use crate::support::{Client, Database, Server, Version, token};

const ANN: &str = "a0000000-0000-4000-8000-000000000001";
const BEN: &str = "b0000000-0000-4000-8000-000000000002";
const ANOTHERS: &str = "resync: the session was another user's";

/// Rows for everybody who is logged in.
const NOTES: &str = "create table n (id int primary key);
    alter table n enable row level security; create policy all_of_them on n for select to authenticated using (true);
    grant select on n to authenticated, anon; alter publication supabase_realtime add table n";

async fn started() -> (Database, Server) {
    let db = Database::new().await;
    db.execute(NOTES).await;
    let server = Server::start_with(&db, |config| {
        config.resume.acknowledge = std::time::Duration::from_millis(10);
    })
    .await;
    (db, server)
}

/// A connection of session `s`, with this token.
async fn connect(server: &Server, token: &str) -> Client {
    Client::connect(server, Version::V2, &format!("{token}&session=s")).await
}

/// Joins the channel of the rows, which is also a room, as the connection's user or another one.
async fn join(client: &mut Client, token: Option<&str>) {
    let rows = json!([{"event": "INSERT", "schema": "public", "table": "n"}]);
    let mut join = json!({"config": {"postgres_changes": rows}});
    if let Some(token) = token {
        join["access_token"] = token.into();
    }
    let reference = client.push("n", "phx_join", join).await;
    assert_eq!(client.reply(&reference).await["status"], "ok");
    live(client).await;
}

async fn live(client: &mut Client) {
    client
        .expect("live", |m| m.payload["message"] == "Subscribed to PostgreSQL")
        .await;
}

/// Until the server knows that the client has everything up to now.
async fn acknowledged(client: &mut Client, server: &Server) {
    let count = async || server.metric("rowcast_places_acknowledged_total").await as u64;
    let before = count().await;
    while count().await <= before + 1 {
        client.round_trip().await;
    }
}

async fn insert(db: &Database, ids: std::ops::RangeInclusive<u32>) {
    let (first, last) = (ids.start(), ids.end());
    db.execute(&format!("insert into n select generate_series({first}, {last})"))
        .await;
}

fn ids(rows: &[(i64, bool)]) -> Vec<i64> {
    rows.iter().map(|(id, _)| *id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_make_another_miss_anything_by_its_session_id() {
    let (db, server) = started().await;
    let (ann, ben) = (token::user(ANN), token::user(BEN));
    let mut client = connect(&server, &ann).await;
    join(&mut client, None).await;
    insert(&db, 1..=3).await;
    assert_eq!(ids(&rows(&mut client, 3).await), [1, 2, 3]);
    acknowledged(&mut client, &server).await;
    drop(client);
    insert(&db, 4..=5).await;

    let mut thief = connect(&server, &ben).await;
    join(&mut thief, None).await;
    assert_eq!(outcome(&thief).as_deref(), Some(ANOTHERS));
    thief.say("n", "said", json!({"number": 1})).await;
    insert(&db, 6..=7).await;
    assert_eq!(
        ids(&rows(&mut thief, 2).await),
        [6, 7],
        "nothing of what another missed"
    );
    acknowledged(&mut thief, &server).await;
    let leave = thief.push("n", "phx_leave", json!({})).await;
    thief.reply(&leave).await;
    acknowledged(&mut thief, &server).await;
    drop(thief);

    let mut client = connect(&server, &ann).await;
    join(&mut client, None).await;
    assert_eq!(outcome(&client).as_deref(), Some(RESUMED));
    assert_eq!(ids(&rows(&mut client, 4).await), [4, 5, 6, 7]);
    let said = client.heard("n").await;
    assert_eq!(
        said.payload["payload"]["number"], 1,
        "what it has not said itself"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_place_was_lost_to_another_is_told() {
    let (db, server) = started().await;
    let (ann, ben) = (token::user(ANN), token::user(BEN));
    let mut client = connect(&server, &ann).await;
    join(&mut client, None).await;
    acknowledged(&mut client, &server).await;
    // Both are there, and both answer: nobody can say who is who, and the place is given up.
    let mut thief = connect(&server, &ben).await;
    thief.enter("elsewhere", json!({})).await;
    acknowledged(&mut client, &server).await;
    drop((client, thief));
    let mut thief = connect(&server, &ben).await;
    thief.enter("elsewhere", json!({})).await;
    acknowledged(&mut thief, &server).await;
    drop(thief);
    insert(&db, 1..=3).await;
    server.passed(&db).await;
    let mut client = connect(&server, &ann).await;
    join(&mut client, None).await;
    assert_eq!(outcome(&client).as_deref(), Some(ANOTHERS));
    server.stop().await;
}

/// As supabase-js does it: the connection has the key, the first join perhaps as well, and the user's token comes later.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_in_goes_on_as_the_user() {
    let (db, server) = started().await;
    let (anon, ann) = (token::token("anon", json!({})), token::user(ANN));
    let mut client = connect(&server, &anon).await;
    join(&mut client, None).await;
    client
        .push("n", "access_token", json!({ "access_token": ann }))
        .await;
    live(&mut client).await;
    insert(&db, 1..=3).await;
    assert_eq!(ids(&rows(&mut client, 3).await), [1, 2, 3]);
    acknowledged(&mut client, &server).await;
    drop(client);
    insert(&db, 4..=5).await;
    let mut client = connect(&server, &anon).await;
    join(&mut client, Some(&ann)).await;
    assert_eq!(outcome(&client).as_deref(), Some(RESUMED));
    assert_eq!(ids(&rows(&mut client, 2).await), [4, 5]);
    // A newer token of the same user.
    let claims = json!({"sub": ANN, "session_id": "another"});
    let newer = token::token("authenticated", claims);
    client
        .push("n", "access_token", json!({ "access_token": newer }))
        .await;
    live(&mut client).await;
    acknowledged(&mut client, &server).await;
    drop(client);
    insert(&db, 6..=6).await;
    let mut client = connect(&server, &anon).await;
    join(&mut client, Some(&newer)).await;
    assert_eq!(outcome(&client).as_deref(), Some(RESUMED));
    assert_eq!(ids(&rows(&mut client, 1).await), [6]);
    acknowledged(&mut client, &server).await;
    drop(client);
    // And logged out, it has not missed the same.
    let mut client = connect(&server, &anon).await;
    join(&mut client, None).await;
    assert_eq!(outcome(&client).as_deref(), Some(ANOTHERS));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_knows_whose_a_place_is() {
    let (db, first) = started().await;
    let (ann, ben) = (token::user(ANN), token::user(BEN));
    let mut client = connect(&first, &ann).await;
    join(&mut client, None).await;
    insert(&db, 1..=2).await;
    assert_eq!(ids(&rows(&mut client, 2).await), [1, 2]);
    acknowledged(&mut client, &first).await;
    first.stop().await;
    insert(&db, 3..=4).await;
    let second = Server::start(&db).await;
    let mut thief = connect(&second, &ben).await;
    join(&mut thief, None).await;
    assert_eq!(outcome(&thief).as_deref(), Some(ANOTHERS));
    drop(thief);
    let mut client = connect(&second, &ann).await;
    join(&mut client, None).await;
    assert_eq!(ids(&rows(&mut client, 2).await), [3, 4]);
    second.stop().await;
    // Of a server that wrote places without their owner.
    let before = db
        .text("select place::text from rowcast.places where id = 's'")
        .await;
    let before: Value = serde_json::from_str(&before).expect("JSON");
    let channel = before["realtime:n"].as_object().expect("users").values().next();
    let old = json!({"realtime:n": channel.expect("a place")});
    db.execute(&format!(
        "update rowcast.places set place = '{old}' where id = 's'"
    ))
    .await;
    let third = Server::start(&db).await;
    let mut client = connect(&third, &ann).await;
    join(&mut client, None).await;
    let told = outcome(&client).expect("an outcome");
    assert!(
        told.starts_with("resync: this server does not know the session"),
        "{told}"
    );
    third.stop().await;
}
