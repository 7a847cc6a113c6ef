use super::*;

#[tokio::test]
async fn a_batch_goes_to_its_rooms_as_text() {
    let server = Server::start().await;
    for api in ["/api", "/realtime/v1/api"] {
        let (two, one) = (
            server.listen("a", false, Version::V2),
            server.listen("a", false, Version::V1),
        );
        let (private, other) = (
            server.listen("a", true, Version::V2),
            server.listen("b", false, Version::V2),
        );
        let body = json!({"messages": [
            {"topic": "a", "event": "first", "payload": {"n": 1}},
            {"topic": "a", "event": "second", "payload": {}, "id": "7"},
            {"topic": "a", "event": "hidden", "payload": {}, "private": true},
        ]});
        let request = server.post(&format!("{api}/broadcast")).bearer_auth("good");
        assert_eq!(answer(request.json(&body)).await, accepted());
        let first = json!({"type": "broadcast", "event": "first", "payload": {"n": 1}});
        let second = json!({"type": "broadcast", "event": "second", "payload": {}, "meta": {"id": "7"}});
        assert_eq!(two.payloads().await, [first.clone(), second]);
        let frame = match one.heard().await.remove(0) {
            Frame::Text(text) => serde_json::from_str::<Value>(&text).unwrap(),
            Frame::Binary(_) => panic!("version 1 has no binary frames"),
        };
        let expected = json!({"topic": "realtime:a", "event": "broadcast", "payload": first, "ref": null});
        assert_eq!(frame, expected);
        let hidden = json!({"type": "broadcast", "event": "hidden", "payload": {}});
        assert_eq!(private.payloads().await, [hidden]);
        assert_eq!(other.heard().await, []);
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_told_for_each_message() {
    let server = Server::start().await;
    let listener = server.listen("a", false, Version::V2);
    let errors = |errors: Value| (422, json!({ "errors": { "messages": errors } }).to_string());
    let request = || server.post("/api/broadcast").bearer_auth("good");
    assert_eq!(
        answer(request().json(&json!({}))).await,
        errors(json!(["can't be blank"]))
    );
    assert_eq!(answer(request()).await, errors(json!(["can't be blank"])));
    let wrong = json!([one("a", false), {"topic": "a", "event": "e"}]);
    assert_eq!(
        server.batch(wrong).await,
        errors(json!([{}, {"payload": ["can't be blank"]}]))
    );
    let large = json!([{"topic": "a", "event": "e", "payload": {"x": "a".repeat(3_000_500)}}]);
    assert_eq!(
        server.batch(large).await,
        errors(json!([{"payload": ["Payload size exceeds tenant limit"]}]))
    );
    assert_eq!(
        answer(request().body("{\"messages\":")).await,
        message(400, "The body is not JSON")
    );
    // What goes by another type is read all the same: it is what `navigator.sendBeacon` sends.
    let plain = request()
        .header("content-type", "text/plain")
        .body(json!({ "messages": [one("a", false)] }).to_string());
    assert_eq!(answer(plain).await, accepted());
    assert_eq!(listener.payloads().await, [said()]);
    assert_eq!(server.get("/api/broadcast").await.0, 405);
}

#[tokio::test]
async fn private_messages_of_a_batch_go_where_their_sender_may_write() {
    let server = Server::start().await;
    let listen = |topic| {
        (
            server.listen(topic, true, Version::V2),
            server.listen(topic, false, Version::V2),
        )
    };
    let (may, may_not) = (listen("mine"), listen("denied"));
    let request = server
        .post("/api/broadcast")
        .bearer_auth("good")
        .header("X-Tag", "one")
        .header("x-tag", "two");
    let messages = json!([
        one("mine", true),
        one("denied", true),
        one("denied", false),
        one("mine", true),
        one("denied", true),
    ]);
    assert_eq!(
        answer(request.json(&json!({ "messages": messages }))).await,
        accepted()
    );
    assert_eq!(may.0.payloads().await, [said(), said()]);
    assert_eq!(may.1.heard().await, []);
    assert_eq!(may_not.0.heard().await, []);
    assert_eq!(may_not.1.payloads().await, [said()]);
    let dropped = server
        .metrics
        .requests_refused
        .get_or_create(&[("reason", "denied")])
        .get();
    assert_eq!(dropped, 2);

    let asked = server.rights.asked.lock().unwrap();
    assert_eq!(asked.len(), 2, "once for each topic");
    for (seeker, wanted) in &*asked {
        assert_eq!((seeker.id, *wanted), (None, Rights::WRITE_BROADCAST));
        assert_eq!(&*seeker.claims.role, "anon");
        let headers: Value = serde_json::from_str(&seeker.claims.scope.as_ref().unwrap().headers).unwrap();
        assert_eq!(headers["x-tag"], "one, two");
        assert_eq!(headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn a_batch_waits_for_the_database_as_a_whole() {
    let server = Server::start().await;
    let listener = server.listen("a", false, Version::V2);
    for (topic, expected) in [
        ("away", message(422, "Tenant database unavailable")),
        ("slow", message(422, "Query canceled")),
        ("busy", message(429, "Connection pool exhausted")),
    ] {
        let messages = json!([one("a", false), one(topic, true)]);
        assert_eq!(server.batch(messages).await, expected);
        assert_eq!(server.batch(json!([one(topic, false)])).await, accepted());
    }
    assert_eq!(listener.heard().await, []);
}
