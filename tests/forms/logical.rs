//! Logical messages that are broadcasts.

use serde_json::{Value, json};

use super::service;
use crate::support::broadcast::KIND_FOUR;
use crate::support::{Client, Database, Server, Version, token};

const TABLE: &str = "create table t (id int primary key); alter publication supabase_realtime add table t;";

fn emit(content: &Value) -> String {
    format!("select pg_logical_emit_message(true, 'rowcast.broadcast', $m${content}$m$);")
}

/// What came, in its order: ids of rows, and payloads of broadcasts.
async fn heard(client: &mut Client, db: &Database, server: &Server) -> Vec<Value> {
    server.passed(db).await;
    client.round_trip().await;
    let heard = client.pending().iter().filter_map(|m| match m.event.as_str() {
        "postgres_changes" => Some(m.payload["data"]["record"]["id"].clone()),
        "broadcast" | KIND_FOUR => Some(m.payload["payload"].clone()),
        _ => None,
    });
    let heard = heard.collect();
    for event in ["postgres_changes", "broadcast", KIND_FOUR] {
        client.forget(event);
    }
    heard
}

async fn listener(server: &Server, topic: &str, private: bool, token: &str, version: Version) -> Client {
    let mut client = Client::connect(server, version, token).await;
    let config =
        json!({"private": private, "postgres_changes": [{"event": "*", "schema": "public", "table": "t"}]});
    let reply = client.join(topic, config).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    assert_eq!(client.system(topic).await["message"], "Subscribed to PostgreSQL");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn are_said_at_their_commit_in_their_place() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    db.execute(
        "create policy p on realtime.messages for select to authenticated using (realtime.topic() = 'room')",
    )
    .await;
    let server = Server::start_with(&db, |config| config.replication.logical_broadcasts = true).await;
    let mut public = listener(&server, "room", false, &service(), Version::V1).await;
    let mut private = listener(&server, "room", true, &service(), Version::V2).await;
    let say = |n: i32, private: bool| {
        emit(&json!({"topic": "room", "event": "e", "payload": {"n": n}, "private": private}))
    };
    db.execute(&format!(
        "begin; insert into t values (1); {} insert into t values (2); savepoint a; {} rollback to a; {}
         insert into t values (3); {} commit;
         begin; insert into t values (4); {} rollback; {}",
        say(10, false),
        say(11, false),
        say(12, false),
        say(13, true),
        say(14, false),
        say(15, true),
    ))
    .await;
    let n = |n: i32| json!({ "n": n });
    assert_eq!(
        heard(&mut public, &db, &server).await,
        [json!(1), n(10), json!(2), n(12), json!(3)]
    );
    assert_eq!(
        heard(&mut private, &db, &server).await,
        [json!(1), json!(2), json!(3), n(13), n(15)]
    );
    assert_eq!(server.metric("rowcast_database_broadcasts_total").await, 4.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_counted_and_harms_nothing() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start_with(&db, |config| config.replication.logical_broadcasts = true).await;
    let mut client = listener(&server, "room", false, &service(), Version::V2).await;
    let good = json!({"topic": "room", "event": "e", "private": false, "payload": [1]});
    for (wrong, content) in [
        "''",
        "'{}'",
        "'nothing'",
        "'{\"topic\": \"room\"}'",
        "'{\"topic\": \"\", \"event\": \"e\"}'",
        "'\\xff00fe'::bytea",
        "'\\x7b2200'::bytea",
    ]
    .into_iter()
    .zip(1..)
    .map(|(content, n)| (n, content))
    {
        db.execute(&format!(
            "begin; insert into t values ({wrong}); select pg_logical_emit_message(true, 'rowcast.broadcast', {content});
             {} commit",
            emit(&good)
        ))
        .await;
        assert_eq!(
            heard(&mut client, &db, &server).await,
            [json!(wrong), json!([1])],
            "{content}"
        );
        assert_eq!(
            server.metric("rowcast_logical_broadcasts_malformed_total").await,
            f64::from(wrong)
        );
    }
    // Not transactional: there is no commit for it to wait for.
    db.execute(&format!(
        "select pg_logical_emit_message(false, 'rowcast.broadcast', '{good}'); insert into t values (100)"
    ))
    .await;
    assert_eq!(heard(&mut client, &db, &server).await, [json!(100)]);
    assert_eq!(server.metric("rowcast_changes_undecodable_total").await, 0.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn are_nothing_unless_they_are_asked_for() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let server = Server::start(&db).await;
    let mut client = listener(
        &server,
        "room",
        false,
        &token::token("service_role", json!({})),
        Version::V2,
    )
    .await;
    let said = emit(&json!({"topic": "room", "event": "e", "private": false}));
    db.execute(&format!("begin; insert into t values (1); {said} commit"))
        .await;
    assert_eq!(heard(&mut client, &db, &server).await, [json!(1)]);
    server.stop().await;
}
