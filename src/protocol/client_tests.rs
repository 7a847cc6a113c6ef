use proptest::prelude::*;

use super::*;

fn json<'a>(message: &ClientMessage<'a>) -> &'a str {
    match message.payload {
        Payload::Json(raw) => raw.get(),
        _ => panic!("not JSON"),
    }
}

#[test]
fn v1_takes_an_object_with_all_keys() {
    let text = r#"{"topic":"realtime:a","event":"phx_join","payload":{"x":1},"ref":"1","join_ref":"1"}"#;
    let message = decode_text(Version::V1, text).unwrap();
    assert_eq!(message.topic, "realtime:a");
    assert_eq!(message.event, "phx_join");
    assert_eq!(json(&message), r#"{"x":1}"#);
    assert_eq!(message.reference, Some(Ref::text("1")));
    assert_eq!(message.join_ref, Some(Ref::text("1")));
}

#[test]
fn v1_ref_may_be_null_but_not_missing() {
    let heartbeat = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#;
    assert_eq!(decode_text(Version::V1, heartbeat).unwrap().reference, None);
    for missing in [
        r#"{"topic":"phoenix","event":"heartbeat","payload":{}}"#,
        r#"{"topic":"phoenix","event":"heartbeat","ref":null}"#,
        r#"{"topic":"phoenix","payload":{},"ref":null}"#,
        r#"["phoenix","heartbeat",{},null]"#,
        r#"{"topic":"#,
        "",
    ] {
        assert!(decode_text(Version::V1, missing).is_err(), "{missing}");
    }
}

#[test]
fn v2_takes_five_items_and_ignores_more() {
    let text = r#"["4","5","realtime:a","access_token",{"access_token":"x"},"more",[1]]"#;
    let message = decode_text(Version::V2, text).unwrap();
    assert_eq!(message.join_ref, Some(Ref::text("4")));
    assert_eq!(message.reference, Some(Ref::text("5")));
    assert_eq!(message.event, "access_token");
    assert_eq!(json(&message), r#"{"access_token":"x"}"#);
    let bare = decode_text(Version::V2, r#"[null,null,"phoenix","heartbeat",{}]"#).unwrap();
    assert_eq!((bare.join_ref, bare.reference), (None, None));
}

#[test]
fn v2_refuses_other_shapes_and_says_where_without_repeating_them() {
    for wrong in [
        r#"["1","2","t","e"]"#,
        "{}",
        "[]",
        "7",
        r#"[1,2,3,"e",{}]"#,
        r#"["1","2","t","e",{"#,
    ] {
        assert!(decode_text(Version::V2, wrong).is_err(), "{wrong}");
    }
    let error = decode_text(Version::V2, r#"["1","2","t",["secret"],{}]"#).unwrap_err();
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn escaped_names_are_unescaped() {
    let message = decode_text(Version::V2, r#"[null,"1","realtime:\"\u00e4","e",{}]"#).unwrap();
    assert_eq!(message.topic, "realtime:\"ä");
}

#[test]
fn kind_3_is_a_broadcast() {
    let mut frame = vec![3, 1, 2, 10, 4, 13, 1];
    frame.extend_from_slice(b"910realtime:amove{\"persist\":1}{\"x\":1}");
    let message = decode_binary(Version::V2, &frame).unwrap();
    assert_eq!(message.join_ref, Some(Ref::text("9")));
    assert_eq!(message.reference, Some(Ref::text("10")));
    assert_eq!(message.topic, "realtime:a");
    assert_eq!(message.event, "broadcast");
    let Payload::Broadcast {
        event,
        metadata,
        payload: BroadcastPayload::Json(payload),
    } = message.payload
    else {
        panic!("{message:?}")
    };
    assert_eq!(
        (event, metadata, payload.get()),
        ("move", Some(r#"{"persist":1}"#), r#"{"x":1}"#)
    );
}

#[test]
fn kind_3_without_refs_and_with_bytes() {
    let mut frame = vec![3, 0, 0, 1, 1, 0, 0];
    frame.extend_from_slice(&[b't', b'e', 0xff, 0xfe]);
    let message = decode_binary(Version::V2, &frame).unwrap();
    assert_eq!((message.join_ref, message.reference), (None, None));
    assert!(matches!(
        message.payload,
        Payload::Broadcast {
            metadata: None,
            payload: BroadcastPayload::Binary([0xff, 0xfe]),
            ..
        }
    ));
}

#[test]
fn kind_0_is_a_push() {
    let message = decode_binary(Version::V2, b"\x00\x01\x01\x01\x0112te\x00\x01").unwrap();
    assert_eq!((message.topic.as_ref(), message.event.as_ref()), ("t", "e"));
    assert!(matches!(message.payload, Payload::Binary([0, 1])));
}

#[test]
fn rubbish_bytes_are_named() {
    let cases: [(&[u8], Malformed); 6] = [
        (b"", Malformed::Truncated),
        (b"\x03\x01\x00", Malformed::Truncated),
        (b"\x03\x05\x00\x00\x00\x00\x00ab", Malformed::Truncated),
        (b"\x03\x00\x00\x01\x00\x00\x00\xff", Malformed::NotUtf8),
        (b"\x03\x00\x00\x00\x00\x00\x01{", Malformed::BroadcastNotJson),
        (b"\x04\x00", Malformed::UnknownKind(4)),
    ];
    for (frame, expected) in cases {
        assert_eq!(
            decode_binary(Version::V2, frame).unwrap_err(),
            expected,
            "{frame:?}"
        );
    }
    assert_eq!(
        decode_binary(Version::V1, b"\x03").unwrap_err(),
        Malformed::BinaryOnV1
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}|[\\[\\]{}\",:a-z0-9 ]{0,120}") {
        let _ = decode_text(Version::V1, &text);
        let _ = decode_text(Version::V2, &text);
    }

    #[test]
    fn no_bytes_panic(kind in 0u8..5, frame in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_binary(Version::V2, &frame);
        let mut frame = frame;
        frame.insert(0, kind);
        let _ = decode_binary(Version::V2, &frame);
    }

    #[test]
    fn what_v2_encodes_it_decodes(topic in "\\PC{0,40}", event in "\\PC{0,20}", reference in "\\PC{0,20}") {
        let text = serde_json::json!([null, reference, topic, event, {}]).to_string();
        let message = decode_text(Version::V2, &text).unwrap();
        prop_assert_eq!(message.topic, topic);
        prop_assert_eq!(message.event, event);
        prop_assert_eq!(message.reference, Some(Ref::text(&reference)));
    }
}
