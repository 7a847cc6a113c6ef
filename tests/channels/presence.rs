//! Presence end to end.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{VERSIONS, anon};
use crate::support::{Client, Database, LIMIT, Message, Server, Version};

fn track(payload: Value) -> Value {
    json!({"type": "presence", "event": "track", "payload": payload})
}

fn enabled(key: &str) -> Value {
    json!({"presence": {"enabled": true, "key": key}})
}

/// The next state or difference of a topic.
async fn told(client: &mut Client) -> Message {
    client
        .expect("presence", |m| m.event.starts_with("presence_"))
        .await
}

async fn diff(client: &mut Client) -> Value {
    let message = told(client).await;
    assert_eq!(message.event, "presence_diff");
    message.payload
}

async fn state(client: &mut Client) -> Value {
    let message = told(client).await;
    assert_eq!(message.event, "presence_state");
    message.payload
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_in_a_room() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let topic = format!("{version:?}");
        let mut alice = anon(&server, version).await;
        alice.enter(&topic, enabled("alice")).await;
        assert_eq!(state(&mut alice).await, json!({}));
        let reference = alice
            .push(&topic, "presence", track(json!({"mood": "fine"})))
            .await;
        assert_eq!(
            alice.reply(&reference).await,
            json!({"status": "ok", "response": {}})
        );
        let joined = diff(&mut alice).await;
        assert_eq!(joined["leaves"], json!({}));
        let meta = joined["joins"]["alice"]["metas"][0].clone();
        assert_eq!(meta["mood"], "fine");
        let first = meta["phx_ref"].as_str().expect("a ref").to_owned();
        assert_eq!(first.len(), 16);

        let mut bob = anon(&server, version).await;
        bob.enter(&topic, enabled("bob")).await;
        assert_eq!(state(&mut bob).await, json!({"alice": {"metas": [meta.clone()]}}));

        // The same again is nothing; something else is an update.
        alice
            .push(&topic, "presence", track(json!({"mood": "fine"})))
            .await;
        alice
            .push(&topic, "presence", track(json!({"mood": "better"})))
            .await;
        for client in [&mut alice, &mut bob] {
            let update = diff(client).await;
            let new = &update["joins"]["alice"]["metas"][0];
            assert_eq!(
                (&new["mood"], &new["phx_ref_prev"]),
                (&json!("better"), &json!(first))
            );
            assert_ne!(new["phx_ref"], json!(first));
            assert_eq!(update["leaves"], json!({"alice": {"metas": [meta.clone()]}}));
        }

        // Two with one key.
        let mut second = anon(&server, version).await;
        second.enter(&topic, enabled("alice")).await;
        second
            .push(&topic, "presence", track(json!({"mood": "also here"})))
            .await;
        let joined = diff(&mut bob).await;
        assert_eq!(joined["joins"]["alice"]["metas"][0]["mood"], "also here");
        let mut late = anon(&server, version).await;
        late.enter(&topic, enabled("late")).await;
        let moods: BTreeSet<String> = state(&mut late).await["alice"]["metas"]
            .as_array()
            .expect("metas")
            .iter()
            .map(|meta| meta["mood"].to_string())
            .collect();
        assert_eq!(moods.len(), 2, "{moods:?}");

        // Untracked, left, and cut off: gone at once, each by its own ref.
        alice
            .push(
                &topic,
                "presence",
                json!({"type": "presence", "event": "untrack"}),
            )
            .await;
        let left = diff(&mut bob).await;
        assert_eq!(left["leaves"]["alice"]["metas"][0]["mood"], "better");
        drop(second);
        let left = diff(&mut bob).await;
        assert_eq!(left["leaves"]["alice"]["metas"][0]["mood"], "also here");
        assert_eq!(left["joins"], json!({}));
        alice
            .push(&topic, "presence", track(json!({"mood": "back"})))
            .await;
        assert_eq!(diff(&mut bob).await["joins"]["alice"]["metas"][0]["mood"], "back");
        alice.push(&topic, "phx_leave", json!({})).await;
        assert_eq!(
            diff(&mut bob).await["leaves"]["alice"]["metas"][0]["mood"],
            "back"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_enable_it_gets_differences_and_the_state_once_it_tracks() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let topic = format!("{version:?}");
        let mut plain = anon(&server, version).await;
        plain.enter(&topic, json!({})).await;
        let mut other = anon(&server, version).await;
        other.enter(&topic, enabled("other")).await;
        other.push(&topic, "presence", track(json!({"a": 1}))).await;
        assert_eq!(diff(&mut plain).await["joins"]["other"]["metas"][0]["a"], 1);
        plain.push(&topic, "presence", track(json!({}))).await;
        let state = state(&mut plain).await;
        assert_eq!(state["other"]["metas"][0]["a"], 1);
        let joins = diff(&mut plain).await["joins"].clone();
        // A key of its own: a UUID of version 1.
        let key = joins
            .as_object()
            .expect("joins")
            .keys()
            .next()
            .expect("a key")
            .clone();
        assert_eq!((key.len(), key.as_bytes()[14]), (36, b'1'), "{key}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_close_the_channel() {
    let db = Database::new().await;
    let server = Server::start_with(&db, |config| config.limits.presence_calls = 5).await;
    for version in VERSIONS {
        let mut client = anon(&server, version).await;
        client.enter("room", enabled("me")).await;
        for n in 0..6 {
            client.push("room", "presence", track(json!({ "n": n }))).await;
        }
        let system = client.system("room").await;
        assert_eq!(system["message"], "Client presence rate limit exceeded");
        client.expect("phx_close", |m| m.event == "phx_close").await;
        client.enter("room", enabled("me")).await;
        assert_eq!(state(&mut client).await, json!({}), "it left the room");
        client.forget("presence_diff");
    }
    server.stop().await;
}

/// What a client makes of state and differences, by Phoenix' rules.
#[derive(Default)]
struct Seen(std::collections::BTreeMap<String, BTreeSet<String>>);

impl Seen {
    fn take(&mut self, message: &Message) {
        let refs = |people: &Value| -> Vec<(String, String)> {
            let people = people.as_object().expect("keys");
            people
                .iter()
                .flat_map(|(key, of)| {
                    let metas = of["metas"].as_array().expect("metas").clone();
                    metas
                        .into_iter()
                        .map(move |meta| (key.clone(), meta["phx_ref"].as_str().expect("a ref").to_owned()))
                })
                .collect()
        };
        match &*message.event {
            "presence_state" => {
                self.0.clear();
                for (key, reference) in refs(&message.payload) {
                    self.0.entry(key).or_default().insert(reference);
                }
            }
            "presence_diff" => {
                for (key, reference) in refs(&message.payload["joins"]) {
                    self.0.entry(key).or_default().insert(reference);
                }
                for (key, reference) in refs(&message.payload["leaves"]) {
                    if let Some(of) = self.0.get_mut(&key) {
                        of.remove(&reference);
                        if of.is_empty() {
                            self.0.remove(&key);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_join_and_leave_one_room() {
    const MEMBERS: usize = 1_000;
    let db = Database::new().await;
    // Clients that only listen send nothing here, not even heartbeats.
    let server = Server::start_with(&db, |config| config.session.idle_timeout = LIMIT * 20).await;
    let mut watcher = anon(&server, Version::V2).await;
    watcher.enter("room", enabled("watcher")).await;
    let mut members = Vec::with_capacity(MEMBERS);
    for n in 0..MEMBERS {
        let mut member = anon(&server, VERSIONS[n % 2]).await;
        let key = format!("member {n}");
        member.enter("room", enabled(&key)).await;
        members.push(member);
    }
    for (n, member) in members.iter_mut().enumerate() {
        member.push("room", "presence", track(json!({ "n": n }))).await;
    }
    let mut seen = Seen::default();
    let mut messages = 0;
    while seen.0.len() < MEMBERS {
        seen.take(&told(&mut watcher).await);
        messages += 1;
    }
    assert!(
        messages < MEMBERS / 2,
        "differences are told together: {messages} messages"
    );
    // Each of them sees all of them, whenever it came.
    for member in members.iter_mut().step_by(97) {
        let mut seen = Seen::default();
        while seen.0.len() < MEMBERS {
            seen.take(&told(member).await);
        }
    }
    let stay = members.split_off(MEMBERS - 10);
    drop(members);
    while seen.0.len() > stay.len() {
        seen.take(&told(&mut watcher).await);
    }
    drop(stay);
    while !seen.0.is_empty() {
        seen.take(&told(&mut watcher).await);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_kind_are_answered() {
    let db = Database::new().await;
    let server = Server::start(&db).await;
    for version in VERSIONS {
        let topic = format!("{version:?}");
        let mut other = anon(&server, version).await;
        other.enter(&topic, enabled("other")).await;
        state(&mut other).await;
        let mut client = anon(&server, version).await;
        client.enter(&topic, enabled("me")).await;
        let ok = json!({"status": "ok", "response": {}});
        let failed = json!({"status": "error", "response": {}});
        let no_map = json!({"reason": "Presence track payload must be a map"});
        let no_map = json!({"status": "error", "response": no_map});
        for (call, answer) in [
            (json!({"type": "presence"}), &ok),
            (json!({"event": "dance"}), &failed),
            (json!({"event": "track", "payload": [1]}), &no_map),
            (json!({"event": "track", "payload": "x"}), &no_map),
            (json!({"event": "untrack"}), &ok),
            (json!({"event": "TRACK", "payload": {"n": 1}}), &ok),
            (json!({"event": "track", "payload": {"n": 1}}), &ok),
            (json!({"event": "UnTrack"}), &ok),
            (json!({"event": "untrack", "payload": {}}), &ok),
            (json!({"event": "track"}), &ok),
        ] {
            let reference = client.push(&topic, "presence", call.clone()).await;
            assert_eq!(client.reply(&reference).await, *answer, "{call}");
        }
        // What came of it: here with 1, gone, here with nothing.
        let came = diff(&mut other).await;
        assert_eq!(came["joins"]["me"]["metas"][0]["n"], 1);
        let meta = came["joins"]["me"].clone();
        assert_eq!(
            diff(&mut other).await,
            json!({"joins": {}, "leaves": {"me": meta}})
        );
        let came = diff(&mut other).await;
        assert_eq!(came["leaves"], json!({}));
        let metas = came["joins"]["me"]["metas"][0].as_object().expect("a meta");
        assert_eq!(metas.keys().collect::<Vec<_>>(), ["phx_ref"]);
        // Joining again begins anew: it is not present, under whatever key it has then.
        client.enter(&topic, enabled("again")).await;
        assert_eq!(
            diff(&mut other).await,
            json!({"joins": {}, "leaves": {"me": came["joins"]["me"]}})
        );
        for (key, expected) in [(json!(7), "7"), (json!("é"), "é")] {
            let config = json!({"presence": {"enabled": "true", "key": key}});
            client.enter(&topic, config).await;
            client.push(&topic, "presence", track(json!({}))).await;
            assert!(diff(&mut other).await["joins"][expected].is_object());
            client.push(&topic, "phx_leave", json!({})).await;
            assert!(diff(&mut other).await["leaves"][expected].is_object());
        }
    }
    server.stop().await;
}
