//! The unmodified client libraries on channels, all at once.

use serde_json::{Value, json};

use crate::support::{Database, Program, Server, token};

pub(super) const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";

/// A library with what it has a choice of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Library {
    /// supabase-js with this `vsn`.
    Js(&'static str),
    /// realtime-py.
    Python,
}

pub(super) const LIBRARIES: [Library; 3] = [Library::Js("1.0.0"), Library::Js("2.0.0"), Library::Python];

impl Library {
    pub(super) fn start(self, server: &Server, topic: &str, more: &[(&str, &str)]) -> Program {
        let (key, url) = (token::token("anon", json!({})), server.url());
        let mut variables = vec![
            ("ROWCAST_URL", url.as_str()),
            ("ROWCAST_KEY", &key),
            ("TOPIC", topic),
        ];
        variables.extend(more);
        match self {
            Self::Js(vsn) => {
                variables.push(("VSN", vsn));
                Program::node("channel.mjs", &variables)
            }
            Self::Python => Program::python("channel_py.py", &variables),
        }
    }

    /// Programs of all libraries, each subscribed.
    pub(super) async fn all(server: &Server, topic: &str, more: &[(&str, &str)]) -> Vec<(Self, Program)> {
        let mut programs: Vec<_> = LIBRARIES
            .iter()
            .map(|library| (*library, library.start(server, topic, more)))
            .collect();
        for (_, program) in &mut programs {
            subscribed(program).await;
        }
        programs
    }
}

pub(super) async fn subscribed(program: &mut Program) {
    program
        .expect("status", |line| line["status"] == "SUBSCRIBED")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hears_each() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for config in [json!({}), json!({"broadcast": {"ack": true, "self": true}})] {
        let text = config.to_string();
        let mut programs = Library::all(&server, "room", &[("CHANNEL_CONFIG", &text)]).await;
        for sender in 0..programs.len() {
            let payload = json!({"from": sender, "text": "é\u{1f600}"});
            let (library, program) = &mut programs[sender];
            let library = *library;
            program
                .tell(json!({"cmd": "send", "event": "e", "payload": payload}))
                .await;
            assert_eq!(program.next("sent").await["result"], "ok", "{library:?}");
            let own = config["broadcast"]["self"] == true;
            for (n, (listener, program)) in programs.iter_mut().enumerate() {
                if n != sender || own {
                    let heard = program.next("broadcast").await;
                    assert_eq!(
                        (&heard["event"], &heard["payload"]),
                        (&json!("e"), &payload),
                        "{library:?} to {listener:?}"
                    );
                }
            }
        }
        for (library, program) in programs {
            let rest = program.exit().await;
            let more: Vec<&Value> = rest.iter().filter(|line| line["kind"] == "broadcast").collect();
            assert!(more.is_empty(), "{library:?}: {more:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_from_js_to_js() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut one = Library::Js("2.0.0").start(&server, "room", &[]);
    let mut two = Library::Js("2.0.0").start(&server, "room", &[]);
    for program in [&mut one, &mut two] {
        subscribed(program).await;
    }
    one.tell(json!({"cmd": "send_bytes", "event": "e", "bytes": [0, 255, 7]}))
        .await;
    assert_eq!(two.next("broadcast").await["bytes"], json!([0, 255, 7]));
    one.tell(json!({"cmd": "http_send", "event": "e", "bytes": [1, 2]}))
        .await;
    assert_eq!(two.next("broadcast").await["bytes"], json!([1, 2]));
    for program in [one, two] {
        program.exit().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_reaches_all_of_them() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut listeners = Library::all(&server, "a room/é", &[]).await;
    for library in LIBRARIES {
        let mut sender = library.start(&server, "a room/é", &[("NOT_JOINED", "1")]);
        sender
            .tell(json!({"cmd": "http_send", "event": "e", "payload": {"by": "http_send"}}))
            .await;
        let sent = sender.next("sent").await;
        assert!(
            sent["result"] == "ok" || sent["result"]["success"] == true,
            "{library:?}: {sent}"
        );
        for (_, listener) in &mut listeners {
            assert_eq!(
                listener.next("broadcast").await["payload"],
                json!({"by": "http_send"})
            );
        }
        // supabase-js sends by REST what it is asked to send before it has joined.
        if library != Library::Python {
            sender
                .tell(json!({"cmd": "send", "event": "e", "payload": {"by": "send"}}))
                .await;
            assert_eq!(sender.next("sent").await["result"], "ok");
            for (_, listener) in &mut listeners {
                assert_eq!(listener.next("broadcast").await["payload"], json!({"by": "send"}));
            }
        }
        sender.exit().await;
    }
    for (_, listener) in listeners {
        listener.exit().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sees_each_present() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    let mut programs = Vec::new();
    for (n, library) in LIBRARIES.into_iter().enumerate() {
        let config = json!({"presence": {"key": format!("key {n}"), "enabled": true}}).to_string();
        let more = [("CHANNEL_CONFIG", config.as_str()), ("PRESENCE", "1")];
        let mut program = library.start(&server, "room", &more);
        subscribed(&mut program).await;
        program.tell(json!({"cmd": "track", "payload": {"n": n}})).await;
        programs.push((library, program));
    }
    let everybody = json!({"key 0": [{"n": 0}], "key 1": [{"n": 1}], "key 2": [{"n": 2}]});
    for (library, program) in &mut programs {
        program.expect("sync", |line| line["state"] == everybody).await;
        if *library != Library::Python {
            assert_eq!(program.next("tracked").await["result"], "ok");
        }
    }
    // Two that go: one by untracking, one by leaving.
    programs[1].1.tell(json!({"cmd": "untrack"})).await;
    let left = json!({"key 0": [{"n": 0}], "key 2": [{"n": 2}]});
    for (_, program) in &mut programs {
        program.expect("sync", |line| line["state"] == left).await;
    }
    let (_, gone) = programs.remove(2);
    gone.exit().await;
    let last = json!({"key 0": [{"n": 0}]});
    for (_, program) in &mut programs {
        program.expect("sync", |line| line["state"] == last).await;
        program.expect("leave", |line| line["key"] == "key 2").await;
    }
    // An update. This supabase-js spoils what it has of a key when another meta of it comes (later ones do not), and then
    // cannot take out what leaves: its own state shows both.
    programs[0]
        .1
        .tell(json!({"cmd": "track", "payload": {"n": 10}}))
        .await;
    for (_, program) in &mut programs {
        let newest = |line: &Value| {
            let metas = line["state"]["key 0"].as_array();
            metas
                .and_then(|metas| metas.last())
                .is_some_and(|meta| meta["n"] == 10)
        };
        program.expect("sync", newest).await;
        program.expect("leave", |line| line["key"] == "key 0").await;
    }
    for (_, program) in programs {
        program.exit().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_channels_by_policy_and_from_the_database() {
    let db = Database::new().await;
    db.execute(
        "create policy read on realtime.messages for select to authenticated
         using (realtime.topic() = 'user:' || auth.uid()::text);
         create policy write on realtime.messages for insert to authenticated
         with check (realtime.topic() = 'user:' || auth.uid()::text and extension = 'broadcast')",
    )
    .await;
    let server = Server::start(&db).await;
    let config = json!({"private": true, "broadcast": {"ack": true, "self": true}}).to_string();
    let user = token::user(ALICE);
    let topic = format!("user:{ALICE}");
    let more = [
        ("CHANNEL_CONFIG", config.as_str()),
        ("ROWCAST_TOKEN", user.as_str()),
    ];
    let mut programs = Library::all(&server, &topic, &more).await;
    db.execute(&format!("select realtime.send('{{\"n\": 1}}', 'e', '{topic}')"))
        .await;
    for (library, program) in &mut programs {
        assert_eq!(program.next("broadcast").await["payload"]["n"], 1, "{library:?}");
    }
    programs[1]
        .1
        .tell(json!({"cmd": "send", "event": "e", "payload": {"n": 2}}))
        .await;
    assert_eq!(programs[1].1.next("sent").await["result"], "ok");
    for (library, program) in &mut programs {
        assert_eq!(program.next("broadcast").await["payload"]["n"], 2, "{library:?}");
    }
    for (_, program) in programs {
        program.exit().await;
    }
    for library in LIBRARIES {
        let mut refused = library.start(&server, "user:somebody-else", &more);
        let status = refused
            .expect("status", |line| line["status"] == "CHANNEL_ERROR")
            .await;
        let message = status["message"].as_str().expect("a message");
        assert!(
            message.contains("You do not have permissions to read from this Channel topic"),
            "{status}"
        );
        refused.exit().await;
    }
    server.stop().await;
}
