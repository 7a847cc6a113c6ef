//! Broadcasts from SQL.

use serde_json::{Value, json};

use super::{VERSIONS, anon};
use crate::support::broadcast::KIND_FOUR;
use crate::support::{Client, Database, Message, Server, Version, token};

/// A listener whose broadcasts from the database flow.
async fn listener(server: &Server, version: Version, topic: &str) -> Client {
    let mut client = anon(server, version).await;
    client
        .enter(topic, json!({"broadcast": {"replication_ready": true}}))
        .await;
    let system = client.system(topic).await;
    assert_eq!(
        (&system["message"], &system["status"]),
        (&json!("Replication connection established"), &json!("ok"))
    );
    client
}

/// The user's event, payload and metadata, in whichever frame they came.
fn content(message: &Message) -> (Value, Value, Value) {
    let payload = &message.payload;
    (
        payload["event"].clone(),
        payload["payload"].clone(),
        payload["meta"].clone(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_sends_arrives_when_it_commits_in_its_order() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let topic = format!("{version:?}");
        let mut client = listener(&server, version, &topic).await;
        db.execute(&format!(
            "begin;
             select realtime.send('{{\"lost\": true}}', 'e', '{topic}', false);
             rollback;
             begin;
             select realtime.send(jsonb_build_object('n', n), 'e', '{topic}', false) from generate_series(1, 100) as n;
             insert into realtime.messages (topic, extension, event, payload, private)
             values ('{topic}', 'broadcast', 'raw', '{{\"n\": 101}}', false), ('{topic}', 'broadcast', 'raw', '[102]', false);
             commit;"
        ))
        .await;
        for n in 1..=100 {
            let heard = client.heard(&topic).await;
            let (event, payload, meta) = content(&heard);
            assert_eq!((event, &payload["n"]), (json!("e"), &json!(n)));
            // send() puts the row's id into the payload, and the frame has it as metadata.
            assert_eq!(payload["id"], meta["id"]);
            assert_eq!(payload["id"].as_str().map(str::len), Some(36));
            assert_eq!(heard.event == KIND_FOUR, version == Version::V2);
        }
        assert_eq!(content(&client.heard(&topic).await).1, json!({"n": 101}));
        assert_eq!(content(&client.heard(&topic).await).1, json!([102]));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_to_those_who_can_read_them() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut one = listener(&server, Version::V1, "room").await;
    let mut two = listener(&server, Version::V2, "room").await;
    db.execute(r"select realtime.send_binary('\x00ff07', 'bytes', 'room', false)")
        .await;
    db.execute("select realtime.send('{}', 'after', 'room', false)")
        .await;
    let heard = two.heard("room").await;
    assert_eq!(heard.payload["bytes"], json!([0, 255, 7]));
    assert!(heard.payload["meta"]["id"].is_string());
    assert_eq!(two.heard("room").await.payload["event"], "after");
    assert_eq!(one.heard("room").await.payload["event"], "after");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_changes_and_messages_of_a_transaction_keep_their_order() {
    let db = Database::new().await;
    db.execute(
        "create table notes (id int primary key); grant select on notes to anon;
         alter publication supabase_realtime add table notes",
    )
    .await;
    let server = Server::start(&db).await;
    let mut client = anon(&server, Version::V2).await;
    client
        .subscribe(
            "room",
            json!([{"event": "*", "schema": "public", "table": "notes"}]),
        )
        .await;
    let mut sql = String::from("begin;");
    for n in 0..50 {
        sql.push_str(&format!(
            "insert into notes values ({n}); select realtime.send('{{\"n\": {n}}}', 'e', 'room', false);"
        ));
    }
    db.execute(&format!("{sql} commit;")).await;
    for n in 0..50 {
        let row = client
            .expect("a message", |m| {
                m.event == "postgres_changes" || m.event == KIND_FOUR
            })
            .await;
        assert_eq!(row.payload["data"]["record"]["id"], n, "{row:?}");
        let said = client
            .expect("a message", |m| {
                m.event == "postgres_changes" || m.event == KIND_FOUR
            })
            .await;
        assert_eq!(said.payload["payload"]["n"], n, "{said:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_broadcasts_changes_to_those_who_may_read_the_topic() {
    let db = Database::new().await;
    db.execute(
        "create table notes (id int primary key, title text);
         create function tell() returns trigger language plpgsql security definer as $$
         begin
             perform realtime.broadcast_changes('notes', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
             return null;
         end $$;
         create trigger tell after insert or update or delete on notes for each row execute function tell();
         create policy read on realtime.messages for select to authenticated using (realtime.topic() = 'notes');",
    )
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut user = Client::connect(
            &server,
            version,
            &token::user("7d7ab000-0000-4000-8000-000000000000"),
        )
        .await;
        user.enter(
            "notes",
            json!({"private": true, "broadcast": {"replication_ready": true}}),
        )
        .await;
        user.system("notes").await;
        let mut public = anon(&server, version).await;
        public.enter("notes", json!({})).await;
        db.execute("insert into notes values (1, 'a'); update notes set title = 'b'; delete from notes")
            .await;
        let (event, payload, _) = content(&user.heard("notes").await);
        assert_eq!(event, "INSERT");
        assert_eq!(payload["record"], json!({"id": 1, "title": "a"}));
        assert_eq!(
            (&payload["old_record"], &payload["table"]),
            (&Value::Null, &json!("notes"))
        );
        let (event, payload, _) = content(&user.heard("notes").await);
        assert_eq!(
            (event, &payload["old_record"]["title"]),
            (json!("UPDATE"), &json!("a"))
        );
        let (event, payload, _) = content(&user.heard("notes").await);
        assert_eq!((event, &payload["record"]), (json!("DELETE"), &Value::Null));
        assert!(
            public.everything(&["broadcast", KIND_FOUR]).await.is_empty(),
            "a private message"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_no_broadcast_are_passed_over() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.payload_bytes = 1_000).await;
    for version in VERSIONS {
        let topic = format!("{version:?}");
        let mut client = listener(&server, version, &topic).await;
        db.execute(&format!(
            "insert into realtime.messages (topic, extension, event, payload, private) values
                 ('{topic}', 'broadcast', null, '{{}}', false), ('{topic}', 'broadcast', 'e', null, false),
                 ('{topic}', 'broadcast', 'e', '{{}}', null), ('{topic}', 'broadcast', 'private', '{{}}', true),
                 ('{topic}', 'broadcast', 'e', jsonb_build_object('x', repeat('x', 1000)), false);
             update realtime.messages set event = 'updated';
             delete from realtime.messages;
             select realtime.send('{{\"id\": \"mine\"}}', 'e', '{topic}', false);
             select realtime.send('7', 'e', '{topic}', false)"
        ))
        .await;
        // An id of one's own stays in the payload; the metadata has the row's.
        let (_, payload, meta) = content(&client.heard(&topic).await);
        assert_eq!(payload, json!({"id": "mine"}));
        assert_eq!(meta["id"].as_str().map(str::len), Some(36));
        assert_eq!(content(&client.heard(&topic).await).1, json!(7));
        let rest = client.everything(&["broadcast", KIND_FOUR]).await;
        assert!(rest.is_empty(), "{rest:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_insert_broadcasts_and_who_may_not_goes_on_working() {
    let db = Database::new().await;
    db.execute(
        "create table notes (id int primary key); grant all on notes to authenticated;
         create policy write on realtime.messages for insert to authenticated
         with check (realtime.topic() = 'allowed' and extension = 'broadcast')",
    )
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut allowed = listener(&server, version, "allowed").await;
        let mut denied = listener(&server, version, "denied").await;
        db.execute(
            "begin; set local role authenticated;
             insert into notes values (1);
             select realtime.send('{}', 'e', 'denied', false);
             select realtime.send('{}', 'e', 'allowed', false);
             commit;
             select realtime.send('{}', 'last', 'denied', false)",
        )
        .await;
        assert_eq!(allowed.heard("allowed").await.payload["event"], "e");
        assert_eq!(denied.heard("denied").await.payload["event"], "last");
        assert_eq!(
            db.text("select count(*)::text from notes").await,
            "1",
            "it is a warning"
        );
        db.execute("delete from notes").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_and_public_rows_go_to_rooms_of_their_own() {
    let db = Database::new().await;
    db.execute("create policy read on realtime.messages for select to anon using (true)")
        .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut public = listener(&server, version, "room").await;
        let mut private = anon(&server, version).await;
        let config = json!({"private": true, "broadcast": {"replication_ready": true}});
        private.enter("room", config).await;
        private.system("room").await;
        db.execute(
            r"select realtime.send('{}', 'private', 'room'), realtime.send_binary('\x07', 'bytes', 'room'),
                     realtime.send('{}', 'public', 'room', false), realtime.send('{}', 'last', 'room')",
        )
        .await;
        let own: &[&str] = match version {
            Version::V1 => &["private", "last"],
            Version::V2 => &["private", "bytes", "last"],
        };
        for event in own {
            assert_eq!(private.heard("room").await.payload["event"], **event);
        }
        assert_eq!(public.heard("room").await.payload["event"], "public");
        for client in [&mut public, &mut private] {
            assert!(client.everything(&["broadcast", KIND_FOUR]).await.is_empty());
        }
    }
    server.stop().await;
}
