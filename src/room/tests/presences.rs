use super::*;

fn enabled(outbox: &Outbox, key: &str) -> Entry {
    Entry {
        wants_state: true,
        ..entry(outbox, key)
    }
}

fn track(member: &Member, value: Value) {
    member.track(&payload(&value)).unwrap();
}

/// `joins` and `leaves` of a diff: how many metas each.
fn counts(frame: &Value) -> (usize, usize) {
    let count = |side: &Value| -> usize {
        let keys = side.as_object().unwrap().values();
        keys.map(|entry| entry["metas"].as_array().unwrap().len()).sum()
    };
    assert_eq!(frame[3], "presence_diff");
    (count(&frame[4]["joins"]), count(&frame[4]["leaves"]))
}

#[tokio::test]
async fn the_state_comes_first_and_diffs_in_the_frames_of_each_version() {
    let house = House::new();
    let (a, b) = (outbox(), outbox());
    let first = house.enter("realtime:a", enabled(&a, "a"));
    track(&first, json!({"n": 1}));
    let second = house.enter(
        "realtime:a",
        Entry {
            version: Version::V1,
            ..enabled(&b, "b")
        },
    );
    track(&second, json!({"n": 2}));
    drop(second);
    let a = texts(&a);
    assert_eq!(a[0], json!(["7", null, "realtime:a", "presence_state", {}]));
    assert_eq!(
        (&a[1][0], &a[1][1], &a[1][2]),
        (&Value::Null, &Value::Null, &json!("realtime:a"))
    );
    assert_eq!(
        a[1..].iter().map(counts).collect::<Vec<_>>(),
        [(1, 0), (1, 0), (0, 1)]
    );
    let b: Vec<Value> = frames(&b).iter().map(text).collect();
    assert_eq!(
        (
            &b[0]["event"],
            &b[0]["ref"],
            &b[0]["payload"]["a"]["metas"][0]["n"]
        ),
        (&json!("presence_state"), &Value::Null, &json!(1))
    );
    assert_eq!(b[1]["payload"]["joins"]["b"]["metas"][0]["n"], 2);
    assert_eq!((b.len(), house.metrics.present.get()), (2, 1));
    assert_eq!(house.metrics.presence_diffs.get(), 4);
    drop(first);
    house.close().await;
}

#[tokio::test]
async fn who_did_not_ask_gets_diffs_until_it_tracks_and_then_the_state() {
    let house = House::new();
    let (asks, late) = (outbox(), outbox());
    let first = house.enter("realtime:a", enabled(&asks, "a"));
    let second = house.enter("realtime:a", entry(&late, "b"));
    track(&first, json!({}));
    assert_eq!(heard(&late), ["presence_diff"]);
    track(&second, json!({"n": 1}));
    let frames = texts(&late);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0][3], "presence_state");
    assert_eq!(
        frames[0][4].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["a"],
        "it is told of itself by the diff"
    );
    assert_eq!(counts(&frames[1]), (1, 0));
    track(&second, json!({"n": 1}));
    second.untrack();
    second.untrack();
    assert_eq!(texts(&late).iter().map(counts).collect::<Vec<_>>(), [(0, 1)]);
    assert_eq!(heard(&asks).len(), 4);
}

#[tokio::test]
async fn a_payload_is_an_object() {
    let house = House::new();
    let own = outbox();
    let member = house.enter("realtime:a", enabled(&own, "a"));
    let error = member.track(&payload(&json!([1]))).unwrap_err();
    assert_eq!(error.to_string(), "Presence track payload must be a map");
    // Some libraries would drop the state of the whole room for these.
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for unreadable in [&deep, r#"{"a":"\ud800"}"#, r#"{"\udc00":1}"#, r#"{"a":[1e999]}"#] {
        let unreadable = RawValue::from_string(unreadable.to_owned()).unwrap();
        member.track(&unreadable).unwrap_err();
    }
    assert_eq!(heard(&own), ["presence_state"]);
}

#[tokio::test]
async fn nothing_of_presence_comes_before_the_reply_and_the_state() {
    let house = House::new();
    let reply = HeldFrame::new(frame(r#"["7","7","realtime:a","phx_reply",{}]"#));
    let (own, other) = (outbox(), outbox());
    let member = house.enter(
        "realtime:a",
        Entry {
            reply: Some(reply.clone()),
            ..enabled(&own, "a")
        },
    );
    let other = house.enter("realtime:a", entry(&other, "b"));
    track(&other, json!({"n": 1}));
    assert_eq!(frames(&own), []);
    reply.send(&own);
    track(&other, json!({"n": 2}));
    assert_eq!(heard(&own), ["phx_reply"], "the state is still to come");
    member.open();
    track(&other, json!({"n": 3}));
    let frames = texts(&own);
    assert_eq!(frames[0][4]["b"]["metas"][0]["n"], 2);
    let known = &frames[0][4]["b"]["metas"][0]["phx_ref"];
    assert_eq!(&frames[1][4]["joins"]["b"]["metas"][0]["phx_ref_prev"], known);
    assert_eq!(&frames[1][4]["leaves"]["b"]["metas"][0]["phx_ref"], known);
    member.open();
    assert_eq!(heard(&own), Vec::<String>::new(), "once is enough");
}

#[tokio::test]
async fn who_may_not_hear_it_gets_neither_until_it_may() {
    let house = House::new();
    let (own, other) = (outbox(), outbox());
    let deaf = Hears {
        broadcasts: true,
        presence: false,
    };
    let member = house.enter(
        "realtime:a",
        Entry {
            hears: deaf,
            ..enabled(&own, "a")
        },
    );
    let other = house.enter("realtime:a", entry(&other, "b"));
    track(&member, json!({}));
    track(&other, json!({"n": 1}));
    assert_eq!(frames(&own), []);
    member.hear(ALL);
    track(&other, json!({"n": 2}));
    let told = texts(&own);
    assert_eq!(told[0][4].as_object().unwrap().len(), 2);
    assert_eq!(counts(&told[1]), (1, 1));
    member.hear(ALL);
    member.hear(deaf);
    other.untrack();
    assert_eq!(frames(&own), []);
    member.hear(ALL);
    let told = texts(&own);
    assert_eq!((told.len(), told[0][3].as_str()), (1, Some("presence_state")));
    assert_eq!(told[0][4].as_object().unwrap().len(), 1);
}
