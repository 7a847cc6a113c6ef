//! What the unmodified libraries make of refusals, ends and new beginnings.

use rowcast::config::ApiKeys;
use rowcast::secret::Secret;
use serde_json::{Value, json};

use super::anon;
use super::libraries::{ALICE, LIBRARIES, Library, subscribed};
use crate::support::{Client, Database, Program, Server, Version, token};

/// Everybody reads; who `writes` writes.
const POLICIES: &str = "
    create policy read on realtime.messages for select to authenticated using (auth.jwt() ->> 'out' is null);
    create policy write on realtime.messages for insert to authenticated with check (auth.jwt() ->> 'writes' = 'yes');
";

fn writer() -> String {
    token::token("authenticated", json!({"sub": ALICE, "writes": "yes"}))
}

const CHANNEL: &str =
    r#"{"private": true, "broadcast": {"ack": true}, "presence": {"enabled": true, "key": "me"}}"#;

async fn status(program: &mut Program, status: &str) -> Value {
    program.expect("status", |line| line["status"] == status).await
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_reach_who_sent() {
    let db = Database::new().await;
    db.execute(POLICIES).await;
    let server = Server::start_with(&db, |config| config.limits.payload_bytes = 1_000).await;
    let user = token::user(ALICE);
    let more = [("CHANNEL_CONFIG", CHANNEL), ("ROWCAST_TOKEN", user.as_str())];
    let mut witness = Client::connect(&server, Version::V2, &writer()).await;
    witness.enter("room", json!({"private": true})).await;
    let mut programs = Library::all(&server, "room", &more).await;
    for (library, program) in &mut programs {
        let send = json!({"cmd": "send", "event": "e", "payload": {}});
        let large = json!({"cmd": "send", "event": "e", "payload": {"x": "x".repeat(1_000)}});
        let result = if *library == Library::Python {
            "ok"
        } else {
            "error"
        };
        for send in [send, large.clone()] {
            program.tell(send).await;
            assert_eq!(program.next("sent").await["result"], result, "{library:?}");
        }
        for (send, why) in [
            (json!({"payload": {}}), "Unauthorized"),
            (json!({"bytes": [7]}), "Unauthorized"),
            (json!({"payload": large["payload"]}), "Unprocessable Entity"),
        ] {
            let mut command = send.clone();
            command["cmd"] = json!("http_send");
            command["event"] = json!("e");
            program.tell(command).await;
            let refused = program.next("error").await;
            assert_eq!(refused["message"], why, "{library:?} {send}");
        }
        // It lives on, and may send by the next token.
        program.tell(json!({"cmd": "set_auth", "token": writer()})).await;
        program
            .tell(json!({"cmd": "send", "event": "e", "payload": {"by": "send"}}))
            .await;
        assert_eq!(program.next("sent").await["result"], "ok", "{library:?}");
        assert_eq!(witness.heard("room").await.payload["payload"]["by"], "send");
        program
            .tell(json!({"cmd": "http_send", "event": "e", "payload": {"by": "http_send"}}))
            .await;
        program.next("sent").await;
        assert_eq!(witness.heard("room").await.payload["payload"]["by"], "http_send");
    }
    for (library, program) in programs {
        let rest = program.exit().await;
        let ends = |line: &&Value| line["status"] == "CHANNEL_ERROR";
        assert_eq!(rest.iter().filter(ends).count(), 0, "{library:?} {rest:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_read_ends_the_channel_at_once() {
    let db = Database::new().await;
    db.execute(POLICIES).await;
    let server = Server::start(&db).await;
    let user = writer();
    let more = [("CHANNEL_CONFIG", CHANNEL), ("ROWCAST_TOKEN", user.as_str())];
    let mut programs = Library::all(&server, "room", &more).await;
    let mut speaker = Client::connect(&server, Version::V2, &writer()).await;
    speaker
        .enter("room", json!({"private": true, "broadcast": {"ack": true}}))
        .await;
    let say = async |speaker: &mut Client, n: u32| {
        let reference = speaker.say("room", "e", json!({ "n": n })).await;
        assert_eq!(speaker.reply(&reference).await["status"], "ok");
    };
    for (n, (_, program)) in (0..).zip(&mut programs) {
        // Another good token is nothing that is seen.
        program
            .tell(json!({"cmd": "set_auth", "token": token::user(ALICE)}))
            .await;
        say(&mut speaker, n).await;
        let heard = program
            .expect("broadcast", |line| line["payload"]["n"] == n)
            .await;
        assert_eq!(heard["event"], "e");
        let out = token::token("authenticated", json!({"sub": ALICE, "out": "yes"}));
        program.tell(json!({"cmd": "set_auth", "token": out})).await;
        status(program, "CLOSED").await;
    }
    say(&mut speaker, 100).await;
    for (library, program) in programs {
        let rest = program.exit().await;
        let late = |line: &&Value| line["payload"]["n"] == 100;
        assert_eq!(rest.iter().filter(late).count(), 0, "{library:?}");
        let told = rest.iter().any(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("You do not have permissions to read from this Channel topic: room")
        });
        assert!(told, "{library:?}: {rest:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_removed_hears_nothing_and_is_not_present() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for library in LIBRARIES {
        let more = [
            (
                "CHANNEL_CONFIG",
                r#"{"presence": {"enabled": true, "key": "me"}}"#,
            ),
            ("PRESENCE", "1"),
        ];
        let mut program = library.start(&server, "room", &more);
        subscribed(&mut program).await;
        let mut other = anon(&server, Version::V2).await;
        other.enter("room", json!({"presence": {"enabled": true}})).await;
        program.tell(json!({"cmd": "track", "payload": {"n": 1}})).await;
        program
            .expect("sync", |line| line["state"]["me"][0]["n"] == 1)
            .await;
        program.tell(json!({"cmd": "unsubscribe"})).await;
        assert_eq!(program.next("unsubscribed").await["result"], "ok");
        let left = other
            .expect("its end", |m| {
                m.event == "presence_diff" && m.payload["leaves"]["me"].is_object()
            })
            .await;
        assert_eq!(left.payload["leaves"]["me"]["metas"][0]["n"], 1);
        other.say("room", "e", json!({})).await;
        other.round_trip().await;
        let rest = program.exit().await;
        let heard = |line: &&Value| line["kind"] == "broadcast";
        assert_eq!(rest.iter().filter(heard).count(), 0, "{library:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_private_channels_are_joined_again_and_people_are_back() {
    let db = Database::new().await;
    db.execute(POLICIES).await;
    let server = Server::start(&db).await;
    let address = server.address;
    let user = writer();
    let mut programs = Vec::new();
    for (n, library) in LIBRARIES.into_iter().enumerate() {
        let config = json!({"private": true, "presence": {"enabled": true, "key": format!("key {n}")}});
        let config = config.to_string();
        let more = [
            ("CHANNEL_CONFIG", config.as_str()),
            ("ROWCAST_TOKEN", &user),
            ("PRESENCE", "1"),
        ];
        let mut program = library.start(&server, "room", &more);
        subscribed(&mut program).await;
        programs.push((library, program));
    }
    let everybody = json!({"key 0": [{"n": 0}], "key 1": [{"n": 1}], "key 2": [{"n": 2}]});
    // As applications do: whoever is subscribed says that it is there.
    let track = async |programs: &mut Vec<(Library, Program)>| {
        for (n, (_, program)) in programs.iter_mut().enumerate() {
            program.tell(json!({"cmd": "track", "payload": {"n": n}})).await;
        }
        for (_, program) in programs {
            program.expect("sync", |line| line["state"] == everybody).await;
        }
    };
    track(&mut programs).await;
    server.stop().await;
    for (_, program) in &mut programs {
        status(program, "CHANNEL_ERROR").await;
    }
    let server = Server::start_at(address, &db, |_| {}).await;
    for (_, program) in &mut programs {
        subscribed(program).await;
    }
    track(&mut programs).await;
    let mut speaker = Client::connect(&server, Version::V2, &user).await;
    speaker.enter("room", json!({"private": true})).await;
    speaker.say("room", "e", json!({"back": true})).await;
    for (library, mut program) in programs {
        assert_eq!(
            program.next("broadcast").await["payload"]["back"],
            true,
            "{library:?}"
        );
        program.exit().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_all_that_the_libraries_need() {
    const KEY: &str = "sb_publishable_0123456789abcdef";
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| {
        config.auth.api_keys = ApiKeys(vec![(Secret::new(KEY), "anon".to_owned())]);
    })
    .await;
    let ack = r#"{"broadcast": {"ack": true}}"#;
    let more = [("ROWCAST_KEY", KEY), ("CHANNEL_CONFIG", ack)];
    let mut programs = Library::all(&server, "room", &more).await;
    for sender in 0..programs.len() {
        for command in ["send", "http_send"] {
            let (library, program) = &mut programs[sender];
            let library = *library;
            program
                .tell(json!({"cmd": command, "event": "e", "payload": {"by": sender}}))
                .await;
            let sent = program.next("sent").await;
            assert!(
                sent["result"] == "ok" || sent["result"]["success"] == true,
                "{library:?}: {sent}"
            );
            for (n, (_, listener)) in programs.iter_mut().enumerate() {
                if n != sender || command == "http_send" {
                    assert_eq!(listener.next("broadcast").await["payload"]["by"], sender);
                }
            }
        }
    }
    for (_, program) in programs {
        program.exit().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_is_told_what_was_said() {
    let db = Database::new().await;
    db.execute(POLICIES).await;
    let server = Server::start(&db).await;
    db.execute("select realtime.send(jsonb_build_object('n', n), 'e', 'room') from generate_series(1, 4) n")
        .await;
    server.passed(&db).await;
    let config =
        r#"{"private": true, "broadcast": {"replication_ready": true, "replay": {"since": 0, "limit": 3}}}"#;
    let user = writer();
    let more = [("CHANNEL_CONFIG", config), ("ROWCAST_TOKEN", user.as_str())];
    let mut programs = Library::all(&server, "room", &more).await;
    for (library, program) in &mut programs {
        for n in 2..=4 {
            let heard = program.next("broadcast").await;
            assert_eq!(heard["payload"]["n"], n, "{library:?}");
            assert_eq!(
                heard["meta"],
                json!({"replayed": true, "id": heard["payload"]["id"]}),
                "{library:?}"
            );
        }
        let ready = program.next("system").await;
        assert_eq!(
            (&ready["message"], &ready["status"], &ready["extension"]),
            (
                &json!("Replication connection established"),
                &json!("ok"),
                &json!("system")
            ),
            "{library:?}"
        );
    }
    db.execute("select realtime.send('{\"n\": 5}', 'e', 'room')")
        .await;
    for (library, program) in &mut programs {
        let heard = program.next("broadcast").await;
        assert_eq!(heard["payload"]["n"], 5, "{library:?}");
        assert_eq!(heard["meta"]["replayed"], Value::Null, "{library:?}");
    }
    for (_, program) in programs {
        program.exit().await;
    }
    server.stop().await;
}
