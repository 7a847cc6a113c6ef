//! Arbitrary frames on real sockets.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Raw;

use super::Scene;
use crate::support::{Version, eventually};

/// What a client might send if a dice wrote it.
fn any_frame() -> impl Strategy<Value = Raw> {
    let word = prop_oneof![
        Just("phx_join"),
        Just("phx_leave"),
        Just("access_token"),
        Just("broadcast"),
        Just("presence"),
        Just("heartbeat"),
        Just("config"),
        Just("postgres_changes"),
        Just("table"),
        Just("n"),
        Just("schema"),
        Just("public"),
        Just("filter"),
        Just("id=eq.1"),
        Just("realtime:a"),
        Just("realtime:b"),
        Just("phoenix"),
        Just("private"),
        Just("wait"),
        Just("select"),
        Just("*"),
    ]
    .prop_map(str::to_owned);
    let text = prop_oneof![4 => word, 1 => "\\PC{0,20}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 4, {
        let text = text.clone();
        move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        }
    });
    let message = (value.clone(), value.clone(), text.clone(), text, value.clone());
    let v1 = message.clone().prop_map(|(join_ref, reference, topic, event, payload)| {
        json!({"join_ref": join_ref, "ref": reference, "topic": topic, "event": event, "payload": payload}).to_string()
    });
    let v2 = message.prop_map(|(join_ref, reference, topic, event, payload)| {
        json!([join_ref, reference, topic, event, payload]).to_string()
    });
    let cut = (v2.clone(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let at = at.index(text.len());
        text.char_indices()
            .take_while(|(i, _)| *i < at)
            .map(|(_, c)| c)
            .collect()
    });
    let binary = (
        prop_oneof![Just(0_u8), Just(3), any::<u8>()],
        prop::collection::vec(0..40_u8, 0..60),
    )
        .prop_map(|(kind, tail)| Raw::binary([&[kind], &tail[..]].concat()));
    prop_oneof![
        4 => v1.prop_map(Raw::text),
        4 => v2.prop_map(Raw::text),
        1 => cut.prop_map(|text: String| Raw::text(text)),
        1 => "\\PC{0,60}".prop_map(Raw::text),
        1 => value.prop_map(|value| Raw::text(value.to_string())),
        2 => binary,
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(|ping| Raw::Ping(ping.into())),
    ]
}

#[test]
fn random_frames_never_end_a_connection() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut scene = runtime.block_on(Scene::new());
    let config = Config {
        cases: 60,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let frames = prop::collection::vec(any_frame(), 1..40);
    let result = TestRunner::new(config).run(&(any::<bool>(), frames), |(first, frames)| {
        runtime.block_on(async {
            let version = if first { Version::V1 } else { Version::V2 };
            let mut client = scene.client(version).await;
            let mut taken = true;
            for frame in frames {
                taken = taken && client.try_raw(frame).await;
            }
            let beat = json!([null, "the end", "phoenix", "heartbeat", {}]);
            let beat = match version {
                Version::V1 => {
                    json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "the end"})
                }
                Version::V2 => beat,
            };
            taken = taken && client.try_raw(Raw::text(beat.to_string())).await;
            let answered = taken && client.try_expect(|m| m.reference == "the end").await;
            prop_assert!(answered, "closed: {:?}", client.closed);
            Ok(())
        })
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    runtime.block_on(async {
        scene.neighbour_is_served().await;
        eventually("nothing is left of them", || async {
            (scene.server.metric("rowcast_subscriptions").await == 1.0).then_some(())
        })
        .await;
        scene.end().await;
    });
}
