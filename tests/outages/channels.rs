//! Rooms while Postgres is away: who is in stays in and is heard; what the database has to say is said to be unknown.

use rowcast::dev::StopMode;
use serde_json::{Value, json};

use super::{not_ready, ready};
use crate::support::broadcast::{Inner, KIND_FOUR, kind_three};
use crate::support::{Client, OwnCluster, Server, Version, token};

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
/// In `asked` only Postgres can say, in the others memory can.
const POLICIES: &str = "
    create function only_postgres_knows() returns boolean language plpgsql stable as $$ begin return true; end $$;
    create policy read on realtime.messages for select to authenticated
    using (case when realtime.topic() = 'asked' then only_postgres_knows() else true end);
    create policy write on realtime.messages for insert to authenticated
    with check (case when realtime.topic() = 'asked' then only_postgres_knows() else extension <> 'presence' end);
";

fn private() -> Value {
    json!({"private": true, "broadcast": {"ack": true}})
}

const AWAY: &str = "Realtime was unable to connect to the project database";

/// What only the database knows, asked all at once while it is away.
struct Asked {
    said: String,
    late: Vec<(Client, String, String)>,
    posted: Vec<(u16, String)>,
}

impl Asked {
    async fn all(server: &Server, speaker: &mut Client, listeners: &mut [Client]) -> Self {
        let user = token::user(ALICE);
        let said = speaker.say("asked", "e", json!({})).await;
        let mut late = Vec::new();
        for version in [Version::V1, Version::V2] {
            let mut client = Client::connect(server, version, &user).await;
            client.enter("public", json!({})).await;
            let joined = client
                .push("asked", "phx_join", json!({"config": private()}))
                .await;
            let mut config = private();
            config["broadcast"]["replay"] = json!({"since": 0});
            let replayed = client.push("room", "phx_join", json!({ "config": config })).await;
            late.push((client, joined, replayed));
        }
        let payload = json!({});
        let persist = r#"{"persist":true}"#;
        let kept = kind_three("kept", "realtime:room", "e", persist, Inner::Json(&payload));
        speaker.raw(kept).await;
        let other = token::token("authenticated", json!({"sub": ALICE, "n": 2}));
        listeners[0]
            .push("asked", "access_token", json!({"access_token": other}))
            .await;
        let key = [("apikey", user.as_str())];
        let (kept, asked) = tokio::join!(
            server.post(
                "/api/broadcast/room/events/e?private=true&persist=true",
                &key,
                "{}"
            ),
            server.post("/api/broadcast/asked/events/e?private=true", &key, "{}"),
        );
        Self {
            said,
            late,
            posted: vec![kept, asked],
        }
    }

    async fn answered(self, speaker: &mut Client, listeners: &mut [Client]) {
        let error = |response: Value| json!({"status": "error", "response": response});
        assert_eq!(speaker.reply(&self.said).await, error(json!({"reason": AWAY})));
        for (mut client, joined, replayed) in self.late {
            let reason = format!("UnableToConnectToProject: {AWAY}");
            assert_eq!(client.reply(&joined).await, error(json!({ "reason": reason })));
            let reason = "UnableToReplayMessages: Realtime was unable to replay messages";
            assert_eq!(client.reply(&replayed).await, error(json!({ "reason": reason })));
        }
        let text = "Realtime was unable to persist the message";
        assert_eq!(speaker.reply("kept").await, error(json!({ "error": text })));
        let unavailable = json!({"message": "Tenant database unavailable"}).to_string();
        assert_eq!(self.posted, vec![(422, unavailable); 2]);
        // New claims whose rights cannot be told end the channel, and only that.
        let expected = json!({"extension": "system", "status": "error", "message": AWAY, "channel": "asked"});
        assert_eq!(listeners[0].system("asked").await, expected);
        listeners[0]
            .expect("phx_close", |m| {
                m.event == "phx_close" && m.topic == "realtime:asked"
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_go_on_without_postgres() {
    let cluster = OwnCluster::start(&[]).await;
    let db = cluster.database().await;
    db.execute(POLICIES).await;
    let server = Server::start(&db).await;
    let user = token::user(ALICE);
    let mut speaker = Client::connect(&server, Version::V2, &user).await;
    let mut listeners = Vec::new();
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, &user).await;
        client
            .enter("public", json!({"presence": {"enabled": true}}))
            .await;
        client
            .enter(
                "room",
                json!({"private": true, "broadcast": {"replication_ready": true}}),
            )
            .await;
        client.system("room").await;
        client.enter("asked", private()).await;
        listeners.push(client);
    }
    speaker.enter("public", json!({})).await;
    speaker.enter("room", private()).await;
    speaker.enter("asked", private()).await;
    let reference = speaker.say("room", "e", json!({"n": 0})).await;
    assert_eq!(speaker.reply(&reference).await["status"], "ok");
    for listener in &mut listeners {
        listener.heard("room").await;
    }

    cluster.stop(StopMode::Fast).await;
    not_ready(server.address, &["row changes do not flow"]).await;
    for topic in ["public", "room"] {
        let reference = speaker.say(topic, "e", json!({"n": 1})).await;
        if topic == "room" {
            assert_eq!(speaker.reply(&reference).await["status"], "ok");
        }
        for listener in &mut listeners {
            assert_eq!(listener.heard(topic).await.payload["payload"]["n"], 1);
        }
    }
    let track = json!({"type": "presence", "event": "track", "payload": {}});
    let reference = speaker.push("public", "presence", track).await;
    assert_eq!(speaker.reply(&reference).await["status"], "ok");
    for listener in &mut listeners {
        listener
            .expect("a difference", |m| m.event == "presence_diff")
            .await;
    }
    let away = Asked::all(&server, &mut speaker, &mut listeners).await;
    away.answered(&mut speaker, &mut listeners).await;

    cluster.start_again().await;
    ready(server.address).await;
    listeners[0].enter("asked", private()).await;
    let reference = speaker.say("asked", "back", json!({})).await;
    assert_eq!(speaker.reply(&reference).await["status"], "ok");
    for listener in &mut listeners {
        assert_eq!(listener.heard("asked").await.payload["event"], "back");
    }
    cluster
        .execute("select realtime.send('{}', 'from the database', 'room')")
        .await;
    for listener in &mut listeners {
        assert_eq!(listener.heard("room").await.payload["event"], "from the database");
        let rest = listener.everything(&["broadcast", KIND_FOUR, "phx_close"]).await;
        assert!(rest.is_empty(), "{rest:?}");
    }
    server.stop().await;
}
