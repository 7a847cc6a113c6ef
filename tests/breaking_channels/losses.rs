//! What could be lost, doubled or put out of order.

use serde_json::json;

use super::{ALICE, BOB, private, user};
use crate::support::{Client, Database, Message, Server, Version, eventually};

const ALL: &str = "
    create policy read on realtime.messages for select to authenticated using (true);
    create policy write on realtime.messages for insert to authenticated with check (true);
";

fn number(message: &Message) -> i64 {
    message.payload["payload"]["n"].as_i64().unwrap_or(-1)
}

/// A member who hears broadcasts from the database.
async fn listener(server: &Server, topic: &str) -> Client {
    let mut client = user(server, Version::V2, BOB).await;
    let mut config = private();
    config["broadcast"]["replication_ready"] = json!(true);
    client.enter(topic, config).await;
    client.system(topic).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_much_is_said_hears_each_once_and_in_order() {
    let db = Database::new().await;
    db.execute(ALL).await;
    let server = Server::start(&db).await;
    drop(listener(&server, "tea").await);
    let talking = tokio::spawn({
        let connection = db.connection().await;
        async move {
            for n in 1..=400 {
                let send = format!("select realtime.send('{{\"n\": {n}}}', 'e', 'tea')");
                connection.batch_execute(&send).await.expect("sent");
            }
        }
    });
    let mut comers = Vec::new();
    while !talking.is_finished() {
        let mut comer = user(&server, Version::V2, ALICE).await;
        let mut config = private();
        config["broadcast"]["replay"] = json!({"since": 0, "limit": 25});
        comer.enter("tea", config).await;
        comers.push(comer);
    }
    talking.await.expect("all is said");
    db.execute("select realtime.send('{\"n\": 401}', 'e', 'tea')")
        .await;
    assert!(comers.len() > 3, "{} came", comers.len());
    for mut comer in comers {
        let mut heard = Vec::new();
        while heard.last() != Some(&401) {
            heard.push(number(&comer.heard("tea").await));
        }
        // Where the stream was behind by more than is replayed, what is older than that comes live.
        let first = heard[0];
        let older = heard.extract_if(.., |n| *n < first).is_sorted();
        assert!(older && heard.iter().copied().eq(first..=401), "{heard:?}");
        assert!(comer.everything(&["broadcast", "kind 4"]).await.is_empty());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_again_and_again_loses_and_doubles_nothing() {
    const UNREAD: i64 = 600;
    let db = Database::new().await;
    db.execute(ALL).await;
    let server = Server::start(&db).await;
    let mut bob = listener(&server, "tea").await;
    let breaking = tokio::spawn({
        let connection = db.connection().await;
        let slot = format!("rowcast_{}", db.name);
        async move {
            let mut broken = 0;
            for _ in 0..40 {
                let query = "select pg_terminate_backend(active_pid) from pg_replication_slots
                             where slot_name = $1 and active_pid is not null";
                broken += connection.query(query, &[&slot]).await.expect("an answer").len();
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            broken
        }
    });
    let (mut sent, mut heard) = (0, 0);
    while !breaking.is_finished() {
        // With some that are taken back, and small and large transactions in turn.
        let many = if sent % 3 == 0 { 300 } else { 3 };
        db.execute(&format!(
            "begin;
             savepoint s; select realtime.send('{{\"n\": -5}}', 'e', 'tea'); rollback to s;
             select realtime.send(jsonb_build_object('n', n), 'e', 'tea') from generate_series({}, {}) n;
             commit",
            sent + 1,
            sent + many
        ))
        .await;
        sent += many;
        // Whoever reads nothing meanwhile is closed as too slow.
        while heard + UNREAD < sent {
            heard += 1;
            assert_eq!(number(&bob.heard("tea").await), heard);
        }
    }
    assert!(breaking.await.expect("no panic") > 3);
    for n in heard + 1..=sent {
        assert_eq!(number(&bob.heard("tea").await), n);
    }
    server.passed(&db).await;
    assert!(bob.everything(&["broadcast", "kind 4"]).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_in_one_transaction_arrive_also_where_the_stream_breaks_off() {
    let db = Database::new().await;
    db.execute(ALL).await;
    let server = Server::start(&db).await;
    let mut bob = listener(&server, "tea").await;
    let before = server.metric("rowcast_database_broadcasts_total").await;
    db.execute(
        "begin;
         select realtime.send(jsonb_build_object('n', n), 'e', 'tea') from generate_series(1, 10000) n;
         commit",
    )
    .await;
    eventually("some of them are said", || async {
        let said = server.metric("rowcast_database_broadcasts_total").await;
        (said > before).then_some(())
    })
    .await;
    let kill = format!(
        "select count(pg_terminate_backend(active_pid))::text from pg_replication_slots
         where slot_name = 'rowcast_{}' and active_pid is not null",
        db.name
    );
    db.text(&kill).await;
    for n in 1..=10_000 {
        assert_eq!(number(&bob.heard("tea").await), n);
    }
    server.passed(&db).await;
    assert!(bob.everything(&["broadcast", "kind 4"]).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_made_while_much_is_said_costs_nothing() {
    let db = Database::new().await;
    db.execute(ALL).await;
    let server = Server::start(&db).await;
    let mut bob = listener(&server, "tea").await;
    let far = |n: i64| {
        format!(
            "create table realtime.messages_2099_01_{n:02} partition of realtime.messages
             for values from ('2099-01-{n:02}') to ('2099-01-{:02}')",
            n + 1
        )
    };
    let row = |n: i64, day: i64| {
        format!(
            "insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
             values ('tea', 'broadcast', 'e', '{{\"n\": {n}}}', true, '2099-01-{day:02} 12:00')"
        )
    };
    let send = |n: i64| format!("select realtime.send('{{\"n\": {n}}}', 'e', 'tea')");
    let mut sent = 0;
    for day in 1..=5 {
        let statements = [
            send(sent + 1),
            far(day),
            row(sent + 2, day),
            send(sent + 3),
            // And within one transaction.
            format!("begin; {}; {}; commit", send(sent + 4), row(sent + 5, day)),
        ];
        for statement in statements {
            db.execute(&statement).await;
        }
        sent += 5;
    }
    for n in 1..=sent {
        assert_eq!(number(&bob.heard("tea").await), n);
    }
    server.passed(&db).await;
    assert!(bob.everything(&["broadcast", "kind 4"]).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_falls_between_the_reply_and_the_room() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut talker = user(&server, Version::V2, ALICE).await;
    talker.enter("tea", json!({"broadcast": {"ack": true}})).await;
    for round in 0..50 {
        let mut comer = user(&server, Version::V2, BOB).await;
        let reference = comer.push("tea", "phx_join", json!({"config": {}})).await;
        let mut said = 0;
        let last = loop {
            let reference = talker.say("tea", "e", json!({"n": said})).await;
            talker.reply(&reference).await;
            said += 1;
            comer.round_trip().await;
            if comer.pending().iter().any(|m| m.event == "phx_reply") {
                break said;
            }
        };
        let reply = talker.say("tea", "e", json!({"n": last})).await;
        talker.reply(&reply).await;
        assert_eq!(comer.reply(&reference).await["status"], "ok");
        let mut expected = None;
        loop {
            let heard = number(&comer.heard("tea").await);
            assert_eq!(heard, *expected.get_or_insert(heard), "round {round}");
            expected = Some(heard + 1);
            if heard == last {
                break;
            }
        }
    }
    server.stop().await;
}
