use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const BOUNDS: Bounds = Bounds {
    payload: 100,
    topic: 20,
};

fn parsed(body: &Value) -> Result<Vec<Message>, RequestError> {
    parse(body.to_string().as_bytes(), BOUNDS)
}

/// What is said of a body.
fn refused(body: &str) -> Value {
    let error = parse(body.as_bytes(), BOUNDS).unwrap_err();
    assert_eq!(error.status(), 422, "{body}");
    let body: Value = serde_json::from_str(&error.json()).unwrap();
    body["errors"]["messages"].clone()
}

#[test]
fn messages_become_envelopes_in_their_order() {
    let messages = parsed(&json!({"messages": [
        {"topic": "a:b/c ü", "event": "e\"1", "payload": {"x": [1, null]}, "id": "7", "more": 1},
        {"topic": "b", "event": "e", "payload": {}, "private": true, "id": null},
        {"topic": "c", "event": "e", "payload": {}, "private": "true"},
        {"topic": "c", "event": "e", "payload": {}, "private": null},
    ]}))
    .unwrap();
    let seen: Vec<_> = messages.iter().map(|one| (&*one.topic, one.private)).collect();
    assert_eq!(seen, [("a:b/c ü", false), ("b", true), ("c", true), ("c", false)]);
    let first: Value = serde_json::from_str(&messages[0].envelope).unwrap();
    let expected =
        json!({"type": "broadcast", "event": "e\"1", "payload": {"x": [1, null]}, "meta": {"id": "7"}});
    assert_eq!(first, expected);
    assert_eq!(
        &*messages[1].envelope,
        r#"{"payload":{},"event":"e","type":"broadcast"}"#
    );
}

#[test]
fn payloads_are_not_rewritten_and_the_last_of_equal_names_counts() {
    let body = r#"{"messages": 1, "messages": [{"topic":"x","topic":"a","event":"e",
        "payload": {"big": 9007199254740993.10, "x":1,  "x":2}}]}"#;
    let messages = parse(body.as_bytes(), BOUNDS).unwrap();
    assert_eq!(&*messages[0].topic, "a");
    let kept = r#"{"payload":{"big": 9007199254740993.10, "x":1,  "x":2},"event":"e","type":"broadcast"}"#;
    assert_eq!(&*messages[0].envelope, kept);
}

#[test]
fn the_list_itself_may_be_wrong() {
    let blank = json!(["can't be blank"]);
    for body in [
        "",
        "{}",
        "[]",
        "1",
        "null",
        r#"{"messages":null}"#,
        r#"{"messages":[]}"#,
    ] {
        assert_eq!(refused(body), blank, "{body}");
    }
    for body in [r#"{"messages":{}}"#, r#"{"messages":"a"}"#, r#"{"messages":[1]}"#] {
        assert_eq!(refused(body), json!(["is invalid"]), "{body}");
    }
    let many = format!("{{\"messages\":[{}1]}}", "1,".repeat(MAX_MESSAGES));
    assert_eq!(refused(&many), json!(["should have at most 10000 item(s)"]));
    for body in ["{", "nothing", "{\"messages\":[}", "\u{feff}{}"] {
        assert_eq!(
            parse(body.as_bytes(), BOUNDS),
            Err(RequestError::NotJson),
            "{body}"
        );
    }
    assert_eq!(parse(&[b'"', 0xff, b'"'], BOUNDS), Err(RequestError::NotJson));
}

#[test]
fn every_message_has_its_own_errors() {
    let good = json!({"topic": "a", "event": "e", "payload": {}});
    let with = |field: &str, value: Value| {
        let mut message = good.clone();
        message[field] = value;
        message
    };
    let (blank, invalid) = ("can't be blank", "is invalid");
    for (field, value, text) in [
        ("topic", json!(null), blank),
        ("topic", json!(" \t"), blank),
        ("topic", json!(7), invalid),
        ("topic", json!("a\0b"), invalid),
        ("topic", json!("a".repeat(21)), "should be at most 20 byte(s)"),
        ("event", json!(""), blank),
        ("event", json!(["e"]), invalid),
        ("payload", json!(null), blank),
        ("payload", json!([1]), invalid),
        ("payload", json!("text"), invalid),
        (
            "payload",
            json!({"x": "a".repeat(100)}),
            "Payload size exceeds tenant limit",
        ),
        ("private", json!("perhaps"), invalid),
        ("private", json!(1), invalid),
        ("id", json!(7), invalid),
    ] {
        let body = json!({ "messages": [good, with(field, value.clone()), good] });
        assert_eq!(
            refused(&body.to_string()),
            json!([{}, { field: [text] }, {}]),
            "{field} {value}"
        );
    }
    let all = json!({"topic": [blank], "event": [blank], "payload": [blank]});
    assert_eq!(refused(r#"{"messages":[{}]}"#), json!([all]));
}

#[test]
fn an_event_counts_as_payload() {
    let event = "e".repeat(99);
    let message = |payload| json!({"messages": [{"topic": "a", "event": event, "payload": payload}]});
    let refused = refused(&message(json!({})).to_string());
    assert_eq!(
        refused,
        json!([{"payload": ["Payload size exceeds tenant limit"]}])
    );
}

#[test]
fn deep_nesting_is_no_danger() {
    let bounds = Bounds {
        payload: usize::MAX,
        ..BOUNDS
    };
    let deep = 1_000_000;
    let payload = format!("{{\"x\":{}{}}}", "[".repeat(deep), "]".repeat(deep));
    let body = format!(r#"{{"messages":[{{"topic":"a","event":"e","payload":{payload}}}]}}"#);
    let messages = parse(body.as_bytes(), bounds).unwrap();
    assert!(messages[0].envelope.contains(&payload));
    assert!(parse("[".repeat(deep).as_bytes(), bounds).is_err());
}

proptest! {
    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9\\\\ ]{0,80}") {
        let _ = parse(&body, BOUNDS);
        let _ = parse(text.as_bytes(), BOUNDS);
        let _ = parse(format!(r#"{{"messages":[{{{text}}}]}}"#).as_bytes(), BOUNDS);
    }

    #[test]
    fn what_is_accepted_is_json(topic in "\\PC{1,9}", event in "\\PC{0,20}", text in "\\PC{0,9}") {
        let body = json!({"messages": [{"topic": topic, "event": event, "payload": {"x": text}, "id": text}]});
        if let Ok(messages) = parsed(&body) {
            let envelope: Value = serde_json::from_str(&messages[0].envelope).unwrap();
            prop_assert_eq!(&envelope["event"], &json!(event));
            prop_assert_eq!(&envelope["payload"], &json!({"x": text}));
            prop_assert_eq!(&envelope["meta"]["id"], &json!(text));
        }
    }
}
