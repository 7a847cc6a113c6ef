//! What was said before, on private channels, and what clients ask to have kept.

use serde_json::{Value, json};

use super::VERSIONS;
use crate::support::broadcast::{Inner, KIND_FOUR, kind_three};
use crate::support::{Client, Database, Message, Server, Version, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";

async fn user(server: &Server, version: Version) -> Client {
    Client::connect(server, version, &token::user(ALICE)).await
}

fn replay(wanted: &Value) -> Value {
    json!({"private": true, "broadcast": {"ack": true, "replay": wanted}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_cannot_be_given_fails_the_join() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated
         using (extension = 'presence' or realtime.topic() <> 'presence only')",
    )
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut client = user(&server, version).await;
        let mut refused = async |topic: &str, config: Value, reason: &str| {
            let expected = json!({"status": "error", "response": {"reason": reason}});
            assert_eq!(client.join(topic, config.clone()).await, expected, "{config}");
        };
        // On a public channel that it is there at all is an error.
        for wanted in [json!(null), json!({}), json!({"since": 0}), json!(7)] {
            let config = json!({"broadcast": {"replay": wanted}});
            let reason = "UnableToReplayMessages: Replay is not allowed for public channels";
            refused("room", config, reason).await;
        }
        for wanted in [
            json!({}),
            json!({"since": null}),
            json!({"since": "0"}),
            json!({"since": 1.5}),
            json!({"limit": 5}),
        ] {
            let reason = "UnableToReplayMessages: Replay params are not valid";
            refused("room", replay(&wanted), reason).await;
        }
        let mut config = replay(&json!({"since": 0}));
        config["presence"] = json!({"enabled": true});
        let reason =
            "Unauthorized: You do not have permissions to read from this Channel topic: presence only";
        refused("presence only", config.clone(), reason).await;
        config["broadcast"] = json!({});
        client.enter("presence only", config).await;
        // What is no object is as if it were not there.
        for wanted in [json!(null), json!(7), json!([1]), json!("x")] {
            client.enter("room", replay(&wanted)).await;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_is_replayed_has_bounds() {
    let db = Database::new().await;
    db.execute("create policy read on realtime.messages for select to authenticated using (true)")
        .await;
    // Thirty a minute apart, the last one a minute ago; and such as are not replayed.
    db.execute(
        "insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
         select 'room', 'broadcast', 'e', jsonb_build_object('n', n), true,
                timezone('UTC', now()) - (31 - n) * interval '1 minute'
           from generate_series(1, 30) n;
         insert into realtime.messages (topic, extension, event, payload, private)
         values ('room', 'broadcast', 'e', '{}', false), ('room', 'presence', 'e', '{}', true),
                ('hall', 'broadcast', 'e', '{}', true);
         insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
         values ('room', 'broadcast', 'e', '{}', true, timezone('UTC', now()) + interval '1 hour');",
    )
    .await;
    let server = Server::start(&db).await;
    let minutes_ago = |minutes: i64| (token::now() - minutes * 60 + 30) * 1000;
    for version in VERSIONS {
        for (wanted, first) in [
            (json!({"since": 0}), 6),
            (json!({"since": 0, "limit": null}), 6),
            (json!({"since": 0, "limit": 1000}), 6),
            (json!({"since": 0, "limit": 3}), 28),
            (json!({"since": 0, "limit": 0}), 30),
            (json!({"since": 0, "limit": -5}), 30),
            (json!({"since": minutes_ago(5)}), 27),
            (json!({"since": -1, "limit": 1}), 30),
            (json!({"since": i64::MAX}), 31),
        ] {
            let mut client = user(&server, version).await;
            client.enter("room", replay(&wanted)).await;
            for n in first..=30 {
                let heard = client.heard("room").await;
                assert_eq!(heard.payload["payload"]["n"], n, "{wanted}");
                assert_eq!(heard.payload["meta"]["replayed"], true);
            }
            let rest = client.everything(&["broadcast", KIND_FOUR]).await;
            assert!(rest.is_empty(), "{wanted}: {rest:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_replayed_to_those_who_can_read_them() {
    let db = Database::new().await;
    db.execute(
        r"create policy read on realtime.messages for select to authenticated using (true);
          select realtime.send_binary('\x00ff', 'bytes', 'room');
          select realtime.send('{}', 'text', 'room')",
    )
    .await;
    let server = Server::start(&db).await;
    let mut two = user(&server, Version::V2).await;
    two.enter("room", replay(&json!({"since": 0}))).await;
    let heard = two.heard("room").await;
    assert_eq!(
        (&*heard.event, &heard.payload["bytes"]),
        (KIND_FOUR, &json!([0, 255]))
    );
    assert_eq!(heard.payload["meta"]["replayed"], true);
    assert!(heard.payload["meta"]["id"].is_string());
    assert_eq!(two.heard("room").await.payload["event"], "text");
    let mut one = user(&server, Version::V1).await;
    one.enter("room", replay(&json!({"since": 0}))).await;
    assert_eq!(one.heard("room").await.payload["event"], "text");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_join_has_its_order() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (true);
         create table notes (id int primary key); grant select on notes to authenticated;
         alter publication supabase_realtime add table notes;
         select realtime.send('{}', 'e', 'room')",
    )
    .await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let mut client = user(&server, version).await;
        let config = json!({
            "private": true,
            "broadcast": {"replay": {"since": 0}, "replication_ready": true},
            "presence": {"enabled": true},
            "postgres_changes": [{"event": "*", "schema": "public", "table": "notes"}],
        });
        client.push("room", "phx_join", json!({ "config": config })).await;
        let join_ref = match version {
            Version::V1 => Value::Null,
            Version::V2 => client.last_join_ref(),
        };
        let mut came = Vec::new();
        while came.len() < 5 {
            let Message {
                join_ref: of,
                reference,
                event,
                payload,
                ..
            } = client.expect("what follows", |_| true).await;
            assert_eq!(of, join_ref, "{event} {payload}");
            assert_eq!(reference.is_null(), event != "phx_reply");
            came.push(match &*event {
                "system" => payload["message"].as_str().expect("a text").to_owned(),
                other => other.to_owned(),
            });
        }
        came.sort_by_key(|what| what.as_str() == "Subscribed to PostgreSQL");
        assert_eq!(
            came,
            [
                "phx_reply",
                "broadcast",
                "Replication connection established",
                "presence_state",
                // As soon as it is so.
                "Subscribed to PostgreSQL",
            ]
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_told_and_not_said() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated using (true);
         create policy write on realtime.messages for insert to authenticated
         with check (extension = 'broadcast' or realtime.topic() = 'kept')",
    )
    .await;
    let server = Server::start(&db).await;
    let payload = json!({"x": 1});
    let mut two = user(&server, Version::V2).await;
    let mut one = user(&server, Version::V1).await;
    for (topic, metadata, error) in [
        (
            "public",
            r#"{"persist":true}"#,
            "Messages of public channels cannot be persisted",
        ),
        (
            "room",
            r#"{"persist":true}"#,
            "You do not have permissions to persist messages of this Channel",
        ),
        ("kept", r#"{"persist":{"ttl":0}}"#, "Persist params are not valid"),
        (
            "kept",
            r#"{"persist":{"ttl":"long"}}"#,
            "Persist params are not valid",
        ),
        ("kept", r#"{"persist":"yes"}"#, "Persist params are not valid"),
    ] {
        let config = json!({"private": topic != "public", "broadcast": {"ack": true}});
        let mut sender = user(&server, Version::V2).await;
        for client in [&mut one, &mut two, &mut sender] {
            client.enter(topic, config.clone()).await;
        }
        let full = format!("realtime:{topic}");
        sender
            .raw(kind_three("7", &full, "e", metadata, Inner::Json(&payload)))
            .await;
        assert_eq!(
            sender.reply("7").await,
            json!({"status": "error", "response": {"error": error}})
        );
        sender
            .raw(kind_three("8", &full, "after", "", Inner::Json(&payload)))
            .await;
        assert_eq!(sender.reply("8").await, json!({"status": "ok", "response": {}}));
        for client in [&mut one, &mut two] {
            assert_eq!(client.heard(topic).await.payload["event"], "after");
        }
    }
    // With a time to live, and as bytes, and who hears it in the older version.
    let mut sender = user(&server, Version::V2).await;
    sender
        .enter("kept", json!({"private": true, "broadcast": {"ack": true}}))
        .await;
    let ttl = r#"{"persist":{"ttl":3600}}"#;
    sender
        .raw(kind_three("1", "realtime:kept", "e", ttl, Inner::Json(&payload)))
        .await;
    let id = sender.reply("1").await["response"]["id"].clone();
    assert!(id.is_string());
    let expected = json!({"type": "broadcast", "event": "e", "payload": payload, "meta": {"id": id}});
    assert_eq!(one.heard("kept").await.payload, expected);
    sender
        .raw(kind_three(
            "2",
            "realtime:kept",
            "bytes",
            ttl,
            Inner::Bytes(&[0, 255]),
        ))
        .await;
    let id = sender.reply("2").await["response"]["id"].clone();
    two.heard("kept").await;
    let heard = two.heard("kept").await.payload;
    assert_eq!(
        (&heard["bytes"], &heard["meta"]),
        (&json!([0, 255]), &json!({ "id": id }))
    );
    let left = "select string_agg(extract(epoch from expires_at - inserted_at)::int::text, ',')
                  from realtime.messages where skip_broadcast and private and extension = 'broadcast'";
    assert_eq!(db.text(left).await, "3600,3600");
    db.execute("update realtime.messages set expires_at = inserted_at")
        .await;
    let mut late = user(&server, Version::V2).await;
    late.enter("kept", replay(&json!({"since": 0}))).await;
    assert!(late.everything(&["broadcast", KIND_FOUR]).await.is_empty());
    server.stop().await;
}
