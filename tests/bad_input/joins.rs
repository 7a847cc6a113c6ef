//! Topics and joins that make no sense.

use serde_json::{Value, json};

use super::{BOTH, Scene, nested, rows};

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_none() {
    let scene = Scene::new().await;
    let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
    let long = "t".repeat(10_000);
    for version in BOTH {
        let mut client = scene.client(version).await;
        for topic in [
            "room",
            "phoenix",
            "",
            "realtime",
            "Realtime:room",
            "realtime：room",
            " realtime:room",
            &long,
        ] {
            for event in [
                "phx_join",
                "phx_leave",
                "broadcast",
                "access_token",
                "presence",
                "",
                "no such",
            ] {
                client.send(json!("1"), json!("1"), topic, event, json!({})).await;
                let reply = client.expect("a reply", |m| m.event == "phx_reply").await;
                assert_eq!(
                    (&reply.topic[..], reply.payload),
                    (topic, unmatched.clone()),
                    "{topic:.30} {event}"
                );
            }
        }
        // Of ours, but not joined.
        for event in ["broadcast", "access_token", "presence", "", "no such"] {
            let push = client.push("nowhere", event, json!({})).await;
            assert_eq!(client.reply(&push).await, unmatched, "{event}");
        }
        let refused = |reason: &str| json!({"status": "error", "response": {"reason": reason}});
        let empty = refused("TopicNameRequired: You must provide a topic name");
        assert_eq!(client.join("", json!({})).await, empty);
        let too_long = refused("TopicNameTooLong: Topic names can have at most 1024 bytes");
        assert_eq!(client.join(&long, json!({})).await, too_long);
        for topic in [
            " ",
            ":",
            "a:b:c",
            "ключ 🔑",
            "\u{0}",
            "\"\\\n",
            "%",
            &"t".repeat(1_000),
        ] {
            client.subscribe(topic, rows()).await;
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn join_payloads_of_every_wrong_type_are_answered() {
    let mut scene = Scene::new().await;
    let odd = || {
        [
            json!(null),
            json!(true),
            json!(7),
            json!(-1.5e300),
            json!(""),
            json!("text"),
            json!([]),
            json!({}),
            json!([[[]]]),
            json!([null, 1, "x", {}]),
            json!({"a": {"b": [null]}}),
            json!("\u{0}"),
            serde_json::from_str(&nested(100)).expect("nested"),
        ]
    };
    let mut payloads = odd().to_vec();
    for value in odd() {
        payloads.push(json!({ "config": value }));
        payloads.push(json!({"config": {}, "version": value}));
        for key in [
            "broadcast",
            "presence",
            "postgres_changes",
            "postgres_changes_options",
            "private",
        ] {
            payloads.push(json!({"config": { (key): value }}));
        }
        for key in ["ack", "self", "replication_ready", "replay", "unknown"] {
            payloads.push(json!({"config": {"broadcast": { (key): value }}}));
        }
        for key in ["enabled", "key"] {
            payloads.push(json!({"config": {"presence": { (key): value }}}));
        }
        for key in ["event", "schema", "table", "filter", "select", "id"] {
            let mut binding = json!({"event": "*", "schema": "public", "table": "n"});
            binding[key] = value.clone();
            payloads.push(json!({"config": {"postgres_changes": [binding]}}));
        }
        for key in ["wait", "timeout"] {
            let mut options = json!({"wait": true, "timeout": 1_000});
            options[key] = value.clone();
            let config = json!({"postgres_changes": rows(), "postgres_changes_options": options});
            payloads.push(json!({ "config": config }));
        }
    }
    for version in BOTH {
        // A connection for a few, so that no limit is met.
        for payloads in payloads.chunks(40) {
            let mut client = scene.client(version).await;
            let mut pushes = Vec::new();
            for (n, payload) in payloads.iter().enumerate() {
                let topic = format!("room-{n}");
                pushes.push(client.push(&topic, "phx_join", payload.clone()).await);
                client.push(&topic, "access_token", payload.clone()).await;
            }
            for (push, payload) in pushes.iter().zip(payloads) {
                let reply = client.reply(push).await;
                assert!(
                    reply["status"] == "ok" || reply["response"]["reason"].is_string(),
                    "{payload} {reply}"
                );
            }
            client.round_trip().await;
            client.subscribe("fine", rows()).await;
        }
        scene.neighbour_is_served().await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_null_and_too_many_bindings() {
    let mut scene = Scene::new().await;
    let binding = &rows()[0];
    for version in BOTH {
        let mut client = scene.client(version).await;
        let reply = client.subscribe("same", json!([binding, binding, binding])).await;
        let echoed = reply["response"]["postgres_changes"]
            .as_array()
            .expect("bindings")
            .clone();
        assert_eq!(echoed.len(), 3);
        let id = &echoed[0]["id"];
        scene.neighbour_is_served().await;
        assert_eq!(
            client.change().await["ids"],
            json!([id]),
            "one message, the id once"
        );
        assert_eq!(client.data().await["type"], "DELETE");
        let leave = client.push("same", "phx_leave", json!({})).await;
        client.reply(&leave).await;

        let reply = client
            .subscribe("nulls", json!([null, binding, null, 7, "x", []]))
            .await;
        let mut expected = binding.clone();
        expected["id"] = id.clone();
        assert_eq!(reply["response"]["postgres_changes"], json!([expected]));
        for none in [json!(null), json!([]), json!([null, null])] {
            let reply = client.join("none", json!({ "postgres_changes": none })).await;
            assert_eq!(
                reply,
                json!({"status": "ok", "response": {"postgres_changes": []}})
            );
        }
        let many = |count: i32| {
            let filter = |n: i32| json!({"event": "*", "schema": "public", "table": "n", "filter": format!("id=eq.{n}")});
            Value::Array((1..=count).map(filter).collect())
        };
        client.subscribe("hundred", many(100)).await;
        let reply = client
            .join("more", json!({ "postgres_changes": many(101) }))
            .await;
        let reason = "PostgresChangesLimitReached: A channel can have at most 100 postgres_changes entries";
        assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}));
        scene.neighbour_is_served().await;
        let mut got = [client.change().await, client.change().await];
        got.sort_by_key(|change| change["ids"].to_string());
        assert!(
            got.iter().all(|change| change["data"]["type"] == "INSERT"),
            "{got:?}"
        );
    }
    scene.end().await;
}
