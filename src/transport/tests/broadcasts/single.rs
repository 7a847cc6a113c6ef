use super::*;
use crate::protocol::Content;

#[tokio::test]
async fn a_single_message_is_a_binary_frame_with_its_body() {
    let server = Server::start().await;
    let (two, one) = (
        server.listen("a/b:c ü", false, Version::V2),
        server.listen("a/b:c ü", false, Version::V1),
    );
    let frame = |encoding: u8, payload: &[u8]| {
        let topic = "realtime:a/b:c ü".as_bytes();
        let header = [4, u8::try_from(topic.len()).unwrap(), 3, 0, encoding];
        Frame::Binary([&header[..], topic, "e 1".as_bytes(), payload].concat().into())
    };
    let path = "/realtime/v1/api/broadcast/a%2Fb:c%20%C3%BC/events/e%201";
    for (media, body, encoding, payload) in [
        (Some("application/json"), r#" {"x": 1} "#, 1, r#"{"x": 1}"#),
        (
            Some("Application/JSON; charset=utf-8"),
            "[1,2]",
            1,
            r#"{"_json":[1,2]}"#,
        ),
        (None, "null", 1, r#"{"_json":null}"#),
        (None, "", 1, "{}"),
        (Some("application/octet-stream"), "\0\u{1}", 0, "\0\u{1}"),
        (Some("application/octet-stream"), "", 0, ""),
    ] {
        let mut request = server.post(path).header("apikey", "good").body(body);
        if let Some(media) = media {
            request = request.header("content-type", media);
        }
        assert_eq!(answer(request).await, accepted(), "{media:?} {body}");
        assert_eq!(
            two.heard().await,
            [frame(encoding, payload.as_bytes())],
            "{media:?} {body}"
        );
        let heard = one.heard().await;
        assert_eq!(
            heard.len(),
            usize::from(encoding),
            "version 1 has no form of bytes"
        );
        if let Some(Frame::Text(text)) = heard.first() {
            let seen: Value = serde_json::from_str(text).unwrap();
            let payload: Value = serde_json::from_str(payload).unwrap();
            assert_eq!(
                seen["payload"],
                json!({"type": "broadcast", "event": "e 1", "payload": payload})
            );
        }
    }
}

#[tokio::test]
async fn what_cannot_be_sent_by_itself_is_told() {
    let server = Server::start().await;
    let error = |field: &str, text: &str| (422, json!({ "errors": { field: [text] } }).to_string());
    for (path, body, expected) in [
        ("a/events/e", "{", message(400, "The body is not JSON")),
        ("%20/events/e", "{}", error("topic", "can't be blank")),
        ("a/events/%20", "{}", error("event", "can't be blank")),
        ("a%00b/events/e", "{}", error("topic", "is invalid")),
        (
            "%FF/events/e",
            "{}",
            message(400, "The path or the query cannot be read"),
        ),
        (
            "a/events/e?private=%FF",
            "{}",
            message(400, "The path or the query cannot be read"),
        ),
        ("a/events/e?private=1", "{}", error("private", "is invalid")),
        ("a/events/e?private", "{}", error("private", "is invalid")),
        (
            "a/events/e?persist=true",
            "{}",
            error("persist", "is only available on private channels"),
        ),
        (
            "a/events/e?private=true&persist%5Bttl%5D=soon",
            "{}",
            error("persist", "is invalid"),
        ),
        (
            "a/events/e?private=true&persist[ttl]=0",
            "{}",
            error("persist", "is invalid"),
        ),
    ] {
        assert_eq!(server.single(path, body).await, expected, "{path}");
    }
    let topic = "a".repeat(1_016);
    let path = format!("{topic}/events/e");
    let long = error("topic", "should be at most 1015 byte(s)");
    assert_eq!(server.single(&path, "{}").await, long);
    let request = |path: &str, media: &str| {
        let request = server.post(path).bearer_auth("good");
        request.header("content-type", media.to_owned())
    };
    let media = json!({"error": "Unsupported Media Type. Use application/json or application/octet-stream"});
    for unsupported in ["text/plain", "application/jsonp", "", "multipart/form-data"] {
        let request = request("/api/broadcast/a/events/e", unsupported);
        assert_eq!(answer(request).await, (415, media.to_string()), "{unsupported:?}");
    }
    // Frames with bytes have one byte for the length of a name.
    for (path, expected) in [
        (
            format!("/api/broadcast/{}/events/e", "t".repeat(247)),
            error("topic", "should be at most 246 byte(s)"),
        ),
        (
            format!("/api/broadcast/t/events/{}", "e".repeat(256)),
            error("event", "should be at most 255 byte(s)"),
        ),
        (format!("/api/broadcast/{}/events/e", "t".repeat(246)), accepted()),
    ] {
        assert_eq!(
            answer(request(&path, "application/octet-stream")).await,
            expected,
            "{path}"
        );
    }
    let large = request("/api/broadcast/a/events/e", "application/json");
    let large = large.body(format!("\"{}\"", "a".repeat(3_000_500)));
    assert_eq!(
        answer(large).await,
        error("payload", "Payload size exceeds tenant limit")
    );
}

#[tokio::test]
async fn a_single_private_message_is_answered_by_its_right() {
    let server = Server::start().await;
    let listener = server.listen("mine", true, Version::V2);
    for (topic, expected) in [
        ("mine", accepted()),
        ("denied", message(403, "Unauthorized")),
        ("away", message(422, "Tenant database unavailable")),
        ("slow", message(422, "Query canceled")),
        ("busy", message(429, "Connection pool exhausted")),
    ] {
        let path = format!("{topic}/events/e?private=true");
        assert_eq!(server.single(&path, "{}").await, expected, "{topic}");
    }
    assert_eq!(listener.heard().await.len(), 1);
    let asked = server.rights.asked.lock().unwrap().len();
    assert_eq!(
        server.single("denied/events/e?private=FALSE", "{}").await,
        accepted()
    );
    assert_eq!(server.rights.asked.lock().unwrap().len(), asked);
}

#[tokio::test]
async fn what_is_kept_goes_out_with_its_id() {
    let server = Server::start().await;
    let listener = server.listen("kept", true, Version::V2);
    for (query, ttl) in [
        ("persist=true", None),
        ("persist[ttl]=60", Some(60)),
        ("persist%5Bttl%5D=60", Some(60)),
    ] {
        let path = format!("kept/events/e?private=true&{query}");
        let expected = (202, json!({ "id": KEPT.to_string() }).to_string());
        assert_eq!(server.single(&path, r#"{"x":1}"#).await, expected);
        let kept = server.rights.kept.lock().unwrap().pop().unwrap();
        let content = Content::Json {
            event: "e".into(),
            payload: r#"{"x":1}"#.into(),
            meta: None,
        };
        assert_eq!((&*kept.topic, kept.content, kept.ttl), ("kept", content, ttl));
        let heard = listener.heard().await;
        assert_eq!(heard.len(), 1);
        let meta = json!({ "id": KEPT.to_string() }).to_string();
        assert!(
            matches!(&heard[0], Frame::Binary(bytes) if String::from_utf8_lossy(bytes).contains(&meta)),
            "{heard:?}"
        );
    }
    let unavailable = message(422, "Tenant database unavailable");
    for (topic, expected) in [
        ("mine", message(403, "Unauthorized")),
        ("kept%20away", unavailable.clone()),
        ("kept%20wrongly", unavailable),
        ("kept%20slow", message(422, "Query canceled")),
        ("kept%20nowhere", message(422, "Missing messages partition")),
    ] {
        let path = format!("{topic}/events/e?private=true&persist=true");
        assert_eq!(server.single(&path, "{}").await, expected, "{topic}");
    }
    assert_eq!(
        server
            .single("kept/events/e?private=true&persist=false", "{}")
            .await,
        accepted()
    );
}
