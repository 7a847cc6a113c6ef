//! Cursors of what is said in rooms, kept by clients themselves.

use serde_json::{Value, json};

use super::{RESUMED, service};
use crate::support::broadcast::Inner;
use crate::support::{Client, Database, Message, Proxy, Server, Version};

/// Somebody in a room that it goes on in behind `since`.
async fn enter(base: &str, version: Version, since: &str) -> Client {
    let mut client = Client::try_connect_to(base, version, &service())
        .await
        .expect("a connection");
    let config = json!({"broadcast": {"since": since, "self": true}});
    client.enter("room", config).await;
    client
}

/// What the join was told of the room, with the cursor that came along.
async fn outcome(client: &mut Client) -> (String, String) {
    let said = client
        .expect("an outcome", |m| m.payload["extension"] == "resume")
        .await;
    let text = said.payload["message"].as_str().expect("a text");
    (text.to_owned(), cursor(&said))
}

fn cursor(message: &Message) -> String {
    let cursor = message.payload["meta"]["cursor"].as_str();
    cursor
        .unwrap_or_else(|| panic!("no cursor: {message:?}"))
        .to_owned()
}

/// The cursors of the next broadcasts, which say these numbers.
async fn heard(client: &mut Client, numbers: &[u64]) -> Vec<String> {
    let mut cursors = Vec::new();
    for number in numbers {
        let message = client.heard("room").await;
        assert_eq!(message.payload["payload"]["number"], *number, "{message:?}");
        cursors.push(cursor(&message));
    }
    cursors
}

async fn says(client: &mut Client, number: u64) {
    client.say("room", "said", json!({"number": number})).await;
    client.round_trip().await;
}

/// Until `listener` has heard it.
async fn database_says(db: &Database, listener: &mut Client, number: u64) {
    db.execute(&format!(
        "select realtime.send('{{\"number\": {number}}}', 'said', 'room', false)"
    ))
    .await;
    while listener.heard("room").await.payload["payload"]["number"] != number {}
}

#[tokio::test(flavor = "multi_thread")]
async fn who_heard_only_what_was_new_goes_on_behind_it() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    server.passed(&db).await;
    for version in [Version::V1, Version::V2] {
        let proxy = Proxy::start(server.address).await;
        let base = format!("http://{}", proxy.address);
        let mut speaker = Client::connect(&server, Version::V2, &service()).await;
        speaker.enter("room", json!({})).await;
        let mut client = enter(&base, version, "").await;
        let (told, began) = outcome(&mut client).await;
        assert_eq!(told, "live");
        says(&mut speaker, 1).await;
        let json = json!({"number": 2});
        speaker.say_binary("9", "room", "said", Inner::Json(&json)).await;
        speaker.round_trip().await;
        database_says(&db, &mut speaker, 3).await;
        // Its own comes back to it, and counts.
        says(&mut client, 4).await;
        let places = heard(&mut client, &[1, 2, 3, 4]).await;

        proxy.cut_all();
        drop(client);
        says(&mut speaker, 5).await;
        database_says(&db, &mut speaker, 6).await;
        let mut client = enter(&base, version, &places[3]).await;
        let missed = heard(&mut client, &[5, 6]).await;
        let (told, place) = outcome(&mut client).await;
        assert_eq!(
            (&*told, &place.split('@').next()),
            (RESUMED, &missed[1].split('@').next())
        );
        says(&mut speaker, 7).await;
        heard(&mut client, &[7]).await;
        // Who heard nothing goes on from where it began.
        let mut client = enter(&base, version, &began).await;
        heard(&mut client, &[1, 2, 3, 4, 5, 6, 7]).await;
        client.round_trip().await;
        assert!(client.pending().iter().all(|m| m.event != "broadcast"));
        // And who does not ask is not told.
        says(&mut client, 8).await;
        let plain = loop {
            let message = speaker.heard("room").await;
            if message.payload["payload"]["number"] == 8 {
                break message;
            }
        };
        assert_eq!(plain.payload["meta"], Value::Null);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_does_not_know_what_clients_said_and_says_so() {
    let db = Database::new().await;
    let first = Server::start(&db).await;
    first.passed(&db).await;
    let mut client = enter(&first.url(), Version::V2, "").await;
    let mut listener = enter(&first.url(), Version::V2, "").await;
    database_says(&db, &mut listener, 1).await;
    says(&mut client, 2).await;
    let places = heard(&mut client, &[1, 2]).await;
    first.stop().await;
    db.execute("select realtime.send('{\"number\": 3}', 'said', 'room', false)")
        .await;
    let second = Server::start(&db).await;
    second.passed(&db).await;
    let mut client = enter(&second.url(), Version::V2, &places[1]).await;
    // What the database said is in the WAL.
    heard(&mut client, &[3]).await;
    let (told, place) = outcome(&mut client).await;
    assert_eq!(
        told,
        "resync: the server was replaced, and what clients said meanwhile is not known"
    );
    drop(client);
    let mut client = enter(&second.url(), Version::V2, &place).await;
    assert_eq!(outcome(&mut client).await.0, RESUMED);
    says(&mut client, 4).await;
    heard(&mut client, &[4]).await;
    let mut client = enter(&second.url(), Version::V2, "nonsense").await;
    let said = client
        .expect("an outcome", |m| m.payload["extension"] == "resume")
        .await;
    assert_eq!(said.payload["message"], "resync: not a cursor");
    assert_eq!(
        outcome(&mut client).await.0,
        "live",
        "it has a place all the same"
    );
    second.stop().await;
}
