//! Joining, leaving and what a channel answers, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rowcast::postgres::Connection;
use serde_json::{Value, json};

use crate::support::token::service;
use crate::support::{Client, Database, Server, Version, client::Message, token};

const TABLE: &str = "create table n (id int primary key); alter publication supabase_realtime add table n";

fn rows() -> Value {
    json!([{"event": "*", "schema": "public", "table": "n"}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_join_replaces_the_first() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &service()).await;
        client.subscribe("room", rows()).await;
        let first = client.last_join_ref();
        client.subscribe("room", rows()).await;
        let second = client.last_join_ref();
        let closed = client.expect("phx_close", |m| m.event == "phx_close").await;
        assert_eq!(
            (&closed.topic[..], &closed.payload),
            ("realtime:room", &json!({}))
        );
        assert_eq!(closed.reference, first);
        if version == Version::V2 {
            assert_eq!(closed.join_ref, first);
        }
        // One channel is left: one message for a row.
        db.execute("insert into n values (1)").await;
        client.data().await;
        db.execute("delete from n").await;
        assert_eq!(client.data().await["type"], "DELETE");
        // The old join's leave comes too late; the new one's counts.
        client
            .send(first, json!("stale"), "realtime:room", "phx_leave", json!({}))
            .await;
        client.round_trip().await;
        assert!(client.pending().is_empty(), "{:?}", client.pending());
        client
            .send(
                second.clone(),
                json!("leave"),
                "realtime:room",
                "phx_leave",
                json!({}),
            )
            .await;
        let ok = json!({"status": "ok", "response": {}});
        assert_eq!(client.reply("leave").await, ok);
        let closed = client.expect("phx_close", |m| m.event == "phx_close").await;
        assert_eq!(closed.reference, second);
        db.execute("insert into n values (2); delete from n").await;
        server.passed(&db).await;
        client.round_trip().await;
        assert!(client.pending().is_empty(), "{:?}", client.pending());
        // Leaving what is not joined is no mistake.
        let again = client.push("room", "phx_leave", json!({})).await;
        assert_eq!(client.reply(&again).await, ok);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_that_overtake_each_other_leave_one_channel() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let payload = json!({"config": {"postgres_changes": rows()}});
    let mut last = String::new();
    for _ in 0..20 {
        last = client.push("room", "phx_join", payload.clone()).await;
    }
    assert_eq!(client.reply(&last).await["status"], "ok");
    let live = client
        .expect("the last join to be live", |m| {
            m.event == "system" && m.join_ref == json!(last)
        })
        .await;
    assert_eq!(live.payload["message"], "Subscribed to PostgreSQL");
    let closed = client.pending().iter().filter(|m| m.event == "phx_close").count();
    assert_eq!(closed, 19);
    db.execute("insert into n values (1)").await;
    client.data().await;
    server.passed(&db).await;
    client.round_trip().await;
    assert!(client.pending().iter().all(|m| m.event != "postgres_changes"));
    assert_eq!(server.metric("rowcast_subscriptions").await, 1.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_answered_with_or_without_a_ref() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &service()).await;
        for reference in [Value::Null, json!("7"), json!(7)] {
            client
                .send(Value::Null, reference.clone(), "phoenix", "heartbeat", json!({}))
                .await;
            let expected = Message {
                join_ref: Value::Null,
                reference,
                topic: "phoenix".to_owned(),
                event: "phx_reply".to_owned(),
                payload: json!({"status": "ok", "response": {}}),
            };
            assert_eq!(client.expect("a reply", |_| true).await, expected);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_waits_is_answered_when_its_rows_are_live() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let waiting =
        |changes: Value| json!({"postgres_changes": changes, "postgres_changes_options": {"wait": true}});
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &service()).await;
        let reply = client.join("room", waiting(rows())).await;
        assert_eq!(reply["response"]["postgres_changes"][0]["table"], "n", "{reply}");
        db.execute("insert into n values (1)").await;
        assert_eq!(client.data().await["record"]["id"], 1);
        assert_eq!(client.system("room").await["message"], "Subscribed to PostgreSQL");
        db.execute("delete from n").await;
        client.data().await;

        let refusals = [
            (
                json!([{"event": "INSERT", "schema": "public", "table": "nowhere"}]),
                "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
                 connect parameters: [event: INSERT, schema: public, table: nowhere, filters: [], select: nil]",
            ),
            (
                json!([{"event": "*", "schema": "public", "table": "n", "filter": "id=hey"}]),
                "Error parsing `filter` params: [\"id\", \"hey\"]",
            ),
        ];
        for (changes, text) in refusals {
            let reply = client.join("bad", waiting(changes)).await;
            assert_eq!(reply["status"], "error", "{reply}");
            assert_eq!(
                reply["response"]["reason"],
                format!("RealtimeDisabledForConfiguration: {text}")
            );
            // Such a join has failed: there is no channel.
            let push = client.push("bad", "broadcast", json!({})).await;
            assert_eq!(client.reply(&push).await["response"]["reason"], "unmatched topic");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_up_yet_is_waited_for() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let holder = Server::start(&db).await;
    let mut first = Client::connect(&holder, Version::V2, &service()).await;
    first.subscribe("room", rows()).await;
    // Its slot is taken, so it cannot follow the database.
    let server = Server::launch(&db, |config| {
        config.session.join_wait = Duration::from_millis(300);
    })
    .await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let waits =
        json!({"postgres_changes": rows(), "postgres_changes_options": {"wait": true, "timeout": 250}});
    let reply = client.join("waits", waits).await;
    assert_eq!(
        reply["response"]["reason"],
        "PostgresChangesSubscribeTimeout: Timed out after 250ms waiting for the postgres_changes subscription"
    );
    let reply = client.join("room", json!({ "postgres_changes": rows() })).await;
    assert_eq!(reply["status"], "ok");
    assert_eq!(server.get("/healthcheck").await.0, 503);
    client.round_trip().await;
    assert!(client.pending().is_empty(), "{:?}", client.pending());
    holder.stop().await;
    assert_eq!(client.system("room").await["message"], "Subscribed to PostgreSQL");
    db.execute("insert into n values (1)").await;
    assert_eq!(client.data().await["record"]["id"], 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_channel_without_policies_is_refused_and_nothing_leaks() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    for version in [Version::V1, Version::V2] {
        let token = token::token("authenticated", json!({}));
        let mut client = Client::connect(&server, version, &token).await;
        for private in [json!(true), json!("TRUE")] {
            let config = json!({"private": private, "postgres_changes": rows()});
            let reply = client.join("secret", config).await;
            let reason = "Unauthorized: You do not have permissions to read from this Channel topic: secret";
            assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}));
        }
        assert_eq!(client.join("plain", json!({})).await["status"], "ok");
        // Nobody waits for an answer to these.
        let hello = json!({"type": "broadcast", "event": "hello", "payload": {}});
        client.push("plain", "broadcast", hello).await;
        client.push("plain", "no such event", json!({})).await;
        client.round_trip().await;
        assert!(client.pending().is_empty(), "{:?}", client.pending());
        // The private channel's rows would come if it had been joined.
        db.execute("insert into n values (1); delete from n").await;
        server.passed(&db).await;
        client.round_trip().await;
        assert!(client.pending().is_empty(), "{:?}", client.pending());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_so_to_everybody() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let mut clients = Vec::new();
    for version in [Version::V1, Version::V2, Version::V2] {
        let mut client = Client::connect(&server, version, &service()).await;
        client.subscribe("rows", rows()).await;
        client.join("plain", json!({})).await;
        clients.push(client);
    }
    let mut idle = Client::connect(&server, Version::V2, &service()).await;
    let stopping = tokio::spawn(server.stop());
    for client in &mut clients {
        for topic in ["rows", "plain"] {
            let expected =
                json!({"extension": "system", "status": "ok", "message": "Server requested disconnect"});
            assert_eq!(client.system(topic).await, expected);
        }
        assert_eq!(client.close_code().await, Some(1012));
    }
    assert_eq!(idle.close_code().await, Some(1012));
    stopping.await.expect("a clean end");
}

/// Inserts rows one after the other, each in a transaction, until told to stop. `committed` is the last id known to be
/// committed.
fn write_on(
    connection: Connection,
    committed: &Arc<AtomicI64>,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<()> {
    let (committed, stop) = (Arc::clone(committed), Arc::clone(stop));
    tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            let next = committed.load(Ordering::SeqCst) + 1;
            let insert = format!("insert into n values ({next})");
            connection.batch_execute(&insert).await.expect("a writer");
            committed.store(next, Ordering::SeqCst);
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_then_subscribed_then_every_row_under_a_writer_that_never_stops() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let (committed, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = write_on(db.connection().await, &committed, &stop);
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &service()).await;
        for _ in 0..25 {
            let name = "room".to_owned();
            let topic = format!("realtime:{name}");
            let payload = json!({"config": {"postgres_changes": rows()}});
            let reference = client.push(&name, "phx_join", payload).await;
            let mut next = async || client.expect("the next message", |m| m.topic == topic).await;
            let reply = next().await;
            assert_eq!(
                (&reply.event[..], &reply.reference),
                ("phx_reply", &json!(reference))
            );
            let live = next().await;
            assert_eq!(
                (&live.event[..], &live.payload["message"]),
                ("system", &json!("Subscribed to PostgreSQL"))
            );
            // One more may have been committed that the writer has not counted yet.
            let first_owed = committed.load(Ordering::SeqCst) + 2;
            let mut last = None;
            while last.is_none_or(|last| last < first_owed + 20) {
                let change = next().await;
                assert_eq!(change.event, "postgres_changes");
                let id = id_of(&change);
                match last {
                    None => assert!(
                        id <= first_owed,
                        "{id} came first, {first_owed} was committed after Subscribed"
                    ),
                    Some(last) => assert_eq!(id, last + 1),
                }
                last = Some(id);
            }
            let leave = client.push(&name, "phx_leave", json!({})).await;
            client.reply(&leave).await;
            // What came before the reply may be rows; nothing behind it may, or a rejoin would take them for its own.
            client.forget("postgres_changes");
            client.round_trip().await;
            client.forget("phx_close");
            assert_eq!(client.pending(), [], "after the leave");
        }
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.expect("the writer");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_subscriber_never_gets_half_a_transaction() {
    /// More than the stream hands over at once.
    const SIZE: i64 = 1_200;
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| {
        config.limits.outbox_frames = 100_000;
        config.limits.outbox_bytes = 1 << 30;
    })
    .await;
    let mut client = Client::connect(&server, Version::V2, &service()).await;
    let writing = async {
        let mut last = 0;
        loop {
            // A few at a time, so that joins fall between and into them and the server keeps up.
            for _ in 0..4 {
                let (first, end) = (last + 1, last + SIZE);
                let rows = format!("insert into n select g from generate_series({first}, {end}) g");
                db.execute(&rows).await;
                last = end;
            }
            server.passed(&db).await;
        }
    };
    let joining = async {
        for round in 0..40 {
            let name = format!("room-{round}");
            client.subscribe(&name, rows()).await;
            let topic = format!("realtime:{name}");
            let first = client
                .expect("a change", |m| m.event == "postgres_changes" && m.topic == topic)
                .await;
            let id = id_of(&first);
            assert_eq!(id % SIZE, 1, "row {id} is in the middle of its transaction");
            let leave = client.push(&name, "phx_leave", json!({})).await;
            client.reply(&leave).await;
            client.forget("postgres_changes");
            client.forget("phx_close");
        }
    };
    tokio::select! {
        () = writing => {}
        () = joining => {}
    }
    server.stop().await;
}

fn id_of(change: &Message) -> i64 {
    change.payload["data"]["record"]["id"].as_i64().expect("an id")
}
