//! Broadcasts and presence on public channels, and their limits.

use super::*;
use crate::room::{Entry, Hears, Member, RoomName};

const TOPIC: &str = "realtime:a";

fn said(event: &str) -> Value {
    json!({"type": "broadcast", "event": event, "payload": {"x": 1}})
}

fn ok(reference: &str) -> Value {
    json!(["1", reference, TOPIC, "phx_reply", {"status": "ok", "response": {}}])
}

fn error(response: Value) -> Value {
    json!(["1", "9", TOPIC, "phx_reply", {"status": "error", "response": response}])
}

/// A client that has joined [`TOPIC`], and has nothing unread.
fn joined(config: Value) -> Client {
    joined_with(Client::new(), config)
}

fn joined_with(mut client: Client, config: Value) -> Client {
    client.admit(TOPIC, "1", config);
    client.frames();
    client
}

/// Somebody else in the room, and what it gets.
fn neighbour(client: &Client, private: bool, version: Version) -> (Member, Outbox) {
    let outbox = Outbox::new(Bounds {
        frames: 1_000,
        bytes: 10_000_000,
    });
    let name = RoomName {
        topic: TOPIC.into(),
        private,
    };
    let entry = Entry {
        lane: crate::hub::Lane::new(&outbox),
        version,
        join_ref: None,
        hears: Hears {
            broadcasts: true,
            presence: true,
        },
        wants_state: false,
        own: false,
        key: "neighbour".into(),
        reply: None,
        replayed: None,
        returns: None,
    };
    (client.rooms.enter(name, entry), outbox)
}

fn heard(outbox: &Outbox) -> Vec<Frame> {
    match outbox.drain().now_or_never() {
        Some(Drained::Frames(frames)) => frames.into_iter().collect(),
        _ => Vec::new(),
    }
}

fn texts(outbox: &Outbox) -> Vec<Value> {
    let text = |frame| match frame {
        Frame::Text(text) => serde_json::from_str(&text).unwrap(),
        Frame::Binary(bytes) => json!({ "binary": bytes.to_vec() }),
    };
    heard(outbox).into_iter().map(text).collect()
}

#[test]
fn a_channel_that_is_there_for_its_rows_is_in_no_room() {
    let mut client = joined(json!({"broadcast": {"enabled": false, "ack": true}}));
    let (member, neighbour) = neighbour(&client, false, Version::V2);
    client.broadcast(TOPIC, &said("e"));
    let refused = error(json!({"reason": "unmatched topic"}));
    assert_eq!(client.frames(), [refused]);
    member.publish(&crate::protocol::Broadcast {
        content: crate::protocol::Content::Envelope(said("e").to_string().into()),
        id: None,
    });
    assert!(client.frames().is_empty() && texts(&neighbour).is_empty());
}

#[test]
fn a_broadcast_reaches_the_others_and_only_who_wants_its_own() {
    for (own, ack) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut client = joined(json!({"broadcast": {"self": own, "ack": ack}}));
        let (_member, neighbour) = neighbour(&client, false, Version::V2);
        client.broadcast(TOPIC, &said("e"));
        let frame = json!([null, null, TOPIC, "broadcast", said("e")]);
        assert_eq!(texts(&neighbour), std::slice::from_ref(&frame));
        let mut expected = Vec::new();
        expected.extend(own.then_some(frame));
        expected.extend(ack.then(|| ok("9")));
        assert_eq!(client.frames(), expected, "self {own}, ack {ack}");
    }
}

#[test]
fn rooms_of_public_and_private_channels_are_apart() {
    let mut client = joined(json!({}));
    let (_member, neighbour) = neighbour(&client, true, Version::V2);
    client.broadcast(TOPIC, &said("e"));
    assert_eq!(texts(&neighbour), [] as [Value; 0]);
}

#[test]
fn a_binary_push_goes_to_each_version_in_its_way() {
    let mut client = joined(json!({"broadcast": {"ack": true}}));
    let (_one, v1) = neighbour(&client, false, Version::V1);
    let (_two, v2) = neighbour(&client, false, Version::V2);
    client.send_binary(TOPIC, "e", "", true, br#"{"x":1}"#);
    client.send_binary(TOPIC, "e", "not json", false, &[0, 255]);
    assert_eq!(client.frames(), [ok("9"), ok("9")]);
    let payload = json!({"event": "e", "payload": {"x": 1}, "type": "broadcast"});
    assert_eq!(
        texts(&v1),
        [json!({"topic": TOPIC, "event": "broadcast", "payload": payload, "ref": null})]
    );
    let frames = heard(&v2);
    let kind_four = |encoding: u8, payload: &[u8]| {
        let head = [4, 10, 1, 0, encoding];
        Frame::Binary([&head[..], b"realtime:ae", payload].concat().into())
    };
    assert_eq!(frames, [kind_four(1, br#"{"x":1}"#), kind_four(0, &[0, 255])]);
}

#[test]
fn what_is_no_broadcast_is_refused_where_an_answer_is_wanted() {
    for ack in [false, true] {
        let mut client = joined(json!({"broadcast": {"ack": ack}}));
        let (_member, neighbour) = neighbour(&client, false, Version::V2);
        client.broadcast(TOPIC, &json!([1]));
        let expected = error(json!({"reason": "Broadcast payload must be a map"}));
        assert_eq!(
            client.frames(),
            ack.then_some(expected).into_iter().collect::<Vec<_>>()
        );
        assert_eq!(texts(&neighbour), [] as [Value; 0]);
    }
}

#[test]
fn nothing_is_said_before_the_join_is_answered() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", one_binding()));
    let (_member, neighbour) = neighbour(&client, false, Version::V2);
    client.broadcast(TOPIC, &said("early"));
    let reply = client.frames();
    assert_eq!(reply[0][4]["response"]["reason"], "unmatched topic");
    // The feed has answered; that the session does not know it yet makes no difference.
    client.feed_sends(&request);
    client.broadcast(TOPIC, &said("e"));
    assert_eq!(texts(&neighbour).len(), 1);
}

#[test]
fn what_is_said_once_the_feed_has_answered_is_heard() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", one_binding()));
    let (neighbour, _outbox) = neighbour(&client, false, Version::V2);
    let say = |event: &str| {
        neighbour.publish(&crate::protocol::Broadcast {
            content: crate::protocol::Content::Envelope(said(event).to_string().into()),
            id: None,
        })
    };
    say("before");
    client.feed_sends(&request);
    say("after");
    let frames = client.frames();
    let events: Vec<&Value> = frames.iter().map(|frame| &frame[3]).collect();
    assert_eq!(events, ["phx_reply", "system", "broadcast"]);
    assert_eq!(frames[2][4], said("after"));
}

#[test]
fn a_channel_that_is_left_hears_and_says_nothing() {
    let mut client = joined(json!({}));
    let (neighbour, outbox) = neighbour(&client, false, Version::V2);
    client.send(json!(["1", "2", TOPIC, "phx_leave", {}]));
    client.frames();
    let broadcast = crate::protocol::Broadcast {
        content: crate::protocol::Content::Envelope(said("e").to_string().into()),
        id: None,
    };
    assert_eq!(neighbour.publish(&broadcast), 0);
    client.broadcast(TOPIC, &said("e"));
    assert_eq!(client.frames(), [error(json!({"reason": "unmatched topic"}))]);
    assert_eq!(texts(&outbox), [] as [Value; 0]);
}

#[test]
fn too_large_is_said_with_a_string() {
    for ack in [false, true] {
        let limits = Limits {
            payload_bytes: said("e").to_string().len(),
            ..Limits::default()
        };
        let client = Client::with(limits, Version::V2);
        let mut client = joined_with(client, json!({"broadcast": {"ack": ack}}));
        client.broadcast(TOPIC, &said("e"));
        assert_eq!(client.frames().len(), usize::from(ack), "as large as may be");
        client.broadcast(TOPIC, &said("ee"));
        let expected = error(json!("payload_size_exceeded"));
        assert_eq!(
            client.frames(),
            ack.then_some(expected).into_iter().collect::<Vec<_>>()
        );
    }
}

fn closes_with(client: &Client, message: &str) {
    assert_eq!(
        client.frames(),
        [
            system("1", TOPIC, "system", "error", message),
            phx_close("1", TOPIC)
        ]
    );
    assert_eq!(client.metrics.channels.get(), 0);
}

#[test]
fn more_than_the_server_takes_closes_the_channel_that_sends_it() {
    for (events, bytes) in [(2, 0), (0, 40)] {
        let rates = Rates {
            joins: SharedRate::new(0),
            traffic: Arc::new(Traffic::new(events, bytes)),
            presence: SharedRate::new(0),
        };
        let client = Client::limited(Limits::default(), rates, Version::V2);
        let mut client = joined_with(client, json!({"broadcast": {"self": true}}));
        // Each is said once and heard once.
        client.broadcast(TOPIC, &said("e"));
        client.broadcast(TOPIC, &said("e"));
        assert_eq!(client.frames().len(), 2);
        client.broadcast(TOPIC, &said("e"));
        closes_with(&client, "Too many messages per second");
    }
}

#[test]
fn who_sends_too_fast_is_not_read_for_a_while() {
    let limits = Limits {
        messages_per_second: 10,
        bytes_per_second: 0,
        ..Limits::default()
    };
    let mut client = Client::with(limits, Version::V2);
    for _ in 0..19 {
        client.session.received(100, client.now);
    }
    assert_eq!(client.session.paused_until(), None);
    client.session.received(100, client.now);
    let until = client.session.paused_until().unwrap();
    assert_eq!(until - client.now.instant, Duration::from_millis(100));
    assert_eq!(client.session.next_wake(client.now), until);
    // Whoever looks too late is told to come at once, not never.
    let late = Now {
        instant: until + Duration::from_millis(1),
        ..client.now
    };
    assert_eq!(client.session.next_wake(late), until);
    client.pass(Duration::from_millis(100));
    assert_eq!(client.session.paused_until(), None);
}

#[test]
fn many_bytes_count_as_well() {
    let limits = Limits {
        messages_per_second: 0,
        bytes_per_second: 1_000,
        ..Limits::default()
    };
    let mut client = Client::with(limits, Version::V2);
    client.session.received(1_999, client.now);
    assert_eq!(client.session.paused_until(), None);
    client.session.received(501, client.now);
    assert!(client.session.paused_until().is_some());
}

#[test]
fn track_is_answered_and_seen() {
    let mut client = joined(json!({"presence": {"enabled": true, "key": "me"}}));
    let (_member, neighbour) = neighbour(&client, false, Version::V2);
    client.presence(
        TOPIC,
        &json!({"type": "presence", "event": "TRACK", "payload": {"a": 1}}),
    );
    let frames = client.frames();
    assert!(frames.contains(&ok("9")), "{frames:?}");
    let diff = &texts(&neighbour)[0];
    assert_eq!(diff[3], "presence_diff");
    assert_eq!(diff[4]["joins"]["me"]["metas"][0]["a"], 1);
    client.presence(TOPIC, &json!({"type": "presence", "event": "untrack"}));
    let diff = &texts(&neighbour)[0];
    assert_eq!(diff[4]["leaves"]["me"]["metas"][0]["a"], 1);
}

#[test]
fn the_state_of_presence_follows_the_reply() {
    for (config, told) in [
        (json!({"presence": {"enabled": true}}), true),
        (json!({"presence": {"enabled": false}}), false),
        (json!({}), false),
    ] {
        let mut client = Client::new();
        client.admit(TOPIC, "1", config.clone());
        let mut expected = vec![ok_reply("1", TOPIC)];
        expected.extend(told.then(|| json!(["1", null, TOPIC, "presence_state", {}])));
        assert_eq!(client.frames(), expected, "{config}");
    }
    let limits = Limits {
        presence_enabled: true,
        ..Limits::default()
    };
    let mut client = Client::with(limits, Version::V2);
    client.admit(TOPIC, "1", json!({}));
    assert_eq!(client.frames()[1][3], "presence_state");
}

#[test]
fn odd_presence_messages() {
    let mut client = joined(json!({}));
    for (payload, response) in [
        (json!({"type": "presence"}), ok("9")),
        (json!([]), ok("9")),
        (json!({"event": 7}), ok("9")),
        (json!({"event": "dance"}), error(json!({}))),
        (json!({"event": "untrack", "payload": 5}), ok("9")),
        (
            json!({"event": "track", "payload": [1]}),
            error(json!({"reason": "Presence track payload must be a map"})),
        ),
    ] {
        client.presence(TOPIC, &payload);
        let frames = client.frames();
        assert_eq!(frames, [response], "{payload}");
    }
    client.presence(TOPIC, &json!({"event": "track"}));
    assert!(client.frames().contains(&ok("9")), "an empty payload");
}

#[test]
fn presence_calls_are_counted_by_channel_and_together() {
    let limits = Limits {
        presence_calls: 3,
        ..Limits::default()
    };
    let mut client = joined_with(Client::with(limits, Version::V2), json!({}));
    for _ in 0..3 {
        client.presence(TOPIC, &json!({"event": "untrack"}));
    }
    client.pass(Duration::from_secs(30));
    for _ in 0..3 {
        client.presence(TOPIC, &json!({"event": "untrack"}));
    }
    assert_eq!(client.frames(), vec![ok("9"); 6]);
    client.presence(TOPIC, &json!({"event": "untrack"}));
    closes_with(&client, "Client presence rate limit exceeded");

    let rates = Rates {
        joins: SharedRate::new(0),
        traffic: Arc::new(Traffic::new(0, 0)),
        presence: SharedRate::new(1),
    };
    let client = Client::limited(Limits::default(), rates, Version::V2);
    let mut client = joined_with(client, json!({}));
    for _ in 0..2 {
        client.presence(TOPIC, &json!({"event": "untrack"}));
    }
    client.frames();
    client.presence(TOPIC, &json!({"event": "untrack"}));
    closes_with(&client, "Too many presence messages per second");
}

#[test]
fn a_track_that_is_too_large_closes_the_channel() {
    let limits = Limits {
        presence_bytes: 20,
        ..Limits::default()
    };
    let mut client = joined_with(Client::with(limits, Version::V2), json!({}));
    client.presence(
        TOPIC,
        &json!({"event": "track", "payload": {"a": "a".repeat(20)}}),
    );
    closes_with(&client, "Track message size exceeded");
}

#[test]
fn public_channels_can_be_forbidden_and_cannot_be_replayed() {
    let limits = Limits {
        private_only: true,
        join_error_delay: Duration::ZERO,
        ..Limits::default()
    };
    let mut client = Client::with(limits, Version::V2);
    client.join(TOPIC, "1", json!({}));
    let reason = "PrivateOnly: This project only allows private channels";
    assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);

    for replay in [json!(null), json!({}), json!({"since": 1})] {
        let mut client = Client::new();
        client.admit(TOPIC, "1", json!({"broadcast": {"replay": replay}}));
        let reason = "UnableToReplayMessages: Replay is not allowed for public channels";
        assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);
    }
}

#[test]
fn readiness_is_told_when_the_stream_flows_and_given_up_after_a_minute() {
    let config = json!({"broadcast": {"replication_ready": true}, "presence": {"enabled": true}});
    let ready = system("1", TOPIC, "system", "ok", "Replication connection established");
    let mut client = Client::new();
    client.admit(TOPIC, "1", config.clone());
    let frames = client.frames();
    assert_eq!(frames[..2], [ok_reply("1", TOPIC), ready.clone()]);
    assert_eq!(frames[2][3], "presence_state");
    assert!(!client.session.follows_stream());

    let mut client = Client::new();
    client.streaming.store(false, Ordering::Relaxed);
    client.admit(TOPIC, "1", config.clone());
    client.frames();
    assert!(client.session.follows_stream());
    client.streaming.store(true, Ordering::Relaxed);
    client.session.stream(&crate::change::StreamState::Live.into());
    assert_eq!(client.frames(), [ready]);

    let mut client = Client::new();
    client.streaming.store(false, Ordering::Relaxed);
    client.admit(TOPIC, "1", config);
    client.frames();
    client.pass(Duration::from_secs(59));
    client.session.heard(client.now);
    client.pass(Duration::from_secs(1));
    closes_with(&client, "Replication connection was not established in time");
}

#[test]
fn expiry_is_told_a_minute_ahead() {
    let mut client = joined(json!({}));
    client.now.unix_seconds = EXP - 61;
    let wake = client.session.next_wake(client.now) - client.now.instant;
    assert_eq!(wake, Duration::from_secs(1));
    client.pass(wake);
    let warning = system("1", TOPIC, "system", "ok", "Token expires in 60 seconds");
    assert_eq!(client.frames(), [warning]);
    client.session.heard(client.now);
    client.pass(Duration::from_secs(59));
    client.session.heard(client.now);
    assert_eq!(client.frames(), [] as [Value; 0], "once");
    client.pass(Duration::from_secs(1));
    closes_with(&client, "Token has expired 0 seconds ago");
}
