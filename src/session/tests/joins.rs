use super::*;

#[test]
fn heartbeats_are_answered_with_and_without_a_ref() {
    let mut client = Client::new();
    client.send(json!([null, "7", "phoenix", "heartbeat", {}]));
    client.send(json!([null, null, "phoenix", "heartbeat", {}]));
    let reply =
        |reference: Value| json!([null, reference, "phoenix", "phx_reply", {"status": "ok", "response": {}}]);
    assert_eq!(client.frames(), [reply(json!("7")), reply(Value::Null)]);
}

#[test]
fn a_join_without_bindings_is_answered_once_its_token_is_verified() {
    let mut client = Client::new();
    let effects = client.join("realtime:a", "1", json!({}));
    assert!(matches!(&effects[..], [Effect::Verify { token, .. }] if &**token == "connect"));
    assert!(client.frames().is_empty());
    client
        .session
        .verified(ticket(&effects), Ok(claims("anon")), client.now);
    assert_eq!(client.frames(), [ok_reply("1", "realtime:a")]);
    assert_eq!(client.metrics.channels.get(), 1);
}

#[test]
fn v1_gets_v1_frames() {
    let mut client = Client::with(Limits::default(), Version::V1);
    let join = json!({"topic": "realtime:a", "event": "phx_join", "payload": {"config": {}}, "ref": "1", "join_ref": "1"});
    let effects = client.send(join);
    client
        .session
        .verified(ticket(&effects), Ok(claims("anon")), client.now);
    assert_eq!(
        client.frames(),
        [json!({"topic": "realtime:a", "event": "phx_reply", "ref": "1",
            "payload": {"status": "ok", "response": {"postgres_changes": []}}})]
    );
}

#[test]
fn a_bad_token_is_named() {
    let mut client = Client::new();
    let effects = client.join("realtime:a", "1", json!({}));
    client
        .session
        .verified(ticket(&effects), Err(TokenError::Signature), client.now);
    let reason = "JwtSignatureError: Failed to validate JWT signature";
    assert_eq!(client.frames(), [error_reply("1", "realtime:a", reason)]);
    assert_eq!(client.metrics.channels.get(), 0);
}

#[test]
fn a_session_whose_place_in_a_channel_is_not_known_is_told() {
    let mut client = Client::new();
    let place = |private| TopicPlace {
        private,
        shape: None,
        rows: None,
        room: None,
    };
    let topics = [
        ("realtime:rows", false),
        ("realtime:private", true),
        ("realtime:room", false),
    ];
    let channels = topics.map(|(topic, private)| (stay(topic), place(private)));
    client.session.returns(Returning {
        place: Some(Place {
            channels: channels.into(),
        }),
        ..Returning::default()
    });
    let told = |frames: Vec<Value>| {
        let texts = frames.iter().filter_map(|frame| frame[4]["message"].as_str());
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    let nowhere = "resync: where the session was in this channel is not known";
    let effects = client.admit("realtime:rows", "1", one_binding());
    client.feed_sends(&request(effects));
    assert_eq!(told(client.frames()), [nowhere, "Subscribed to PostgreSQL"]);
    client.admit("realtime:private", "2", json!({}));
    assert_eq!(told(client.frames()), [nowhere]);
    client.admit("realtime:room", "3", json!({}));
    assert!(!told(client.frames()).contains(&nowhere.to_owned()));
}

#[test]
fn topics_that_are_none_of_ours() {
    let mut client = Client::new();
    for (event, topic) in [
        ("phx_join", "other"),
        ("phx_leave", "other"),
        ("broadcast", "realtime:a"),
    ] {
        client.send(json!(["1", "1", topic, event, {}]));
        assert_eq!(
            client.frames(),
            [error_reply("1", topic, "unmatched topic")],
            "{event}"
        );
    }
    client.join("realtime:", "1", json!({}));
    let reason = "TopicNameRequired: You must provide a topic name";
    assert_eq!(client.frames(), [error_reply("1", "realtime:", reason)]);
}

#[test]
fn error_replies_are_held_back_and_ok_replies_are_not() {
    let mut client = Client::with(Limits::default(), Version::V2);
    client.join("realtime:", "1", json!({}));
    client.admit("realtime:a", "2", json!({}));
    assert_eq!(client.frames(), [ok_reply("2", "realtime:a")]);
    let due = client.session.next_wake(client.now) - client.now.instant;
    assert_eq!(due, Duration::from_secs(5));
    client.pass(due);
    assert_eq!(client.frames()[0][4]["status"], "error");
}

#[test]
fn what_a_join_has_waited_for_counts_towards_its_delay() {
    let mut client = Client::with(Limits::default(), Version::V2);
    let first = ticket(&client.join("realtime:a", "1", json!({})));
    client.pass(Duration::from_secs(3));
    client.join("realtime:", "2", json!({}));
    client
        .session
        .verified(first, Err(TokenError::Malformed), client.now);
    let last = ticket(&client.join("realtime:b", "3", json!({})));
    let refs = |client: &mut Client| -> Vec<Value> {
        let frames = client.frames();
        frames.iter().map(|frame| frame[1].clone()).collect()
    };
    client.pass(Duration::from_secs(2));
    assert_eq!(refs(&mut client), ["1"]);
    client.pass(Duration::from_secs(3));
    assert_eq!(refs(&mut client), ["2"]);
    client.pass(Duration::from_secs(1));
    client
        .session
        .verified(last, Err(TokenError::Malformed), client.now);
    assert_eq!(refs(&mut client), ["3"], "at once");
}

#[test]
fn a_connection_has_only_so_many_channels() {
    let mut client = Client::with(
        Limits {
            channels_per_connection: 2,
            join_error_delay: Duration::ZERO,
            ..Limits::default()
        },
        Version::V2,
    );
    client.admit("realtime:a", "1", json!({}));
    client.join("realtime:b", "2", json!({}));
    client.frames();
    client.join("realtime:c", "3", json!({}));
    let reason = "ChannelRateLimitReached: Too many channels";
    assert_eq!(client.frames(), [error_reply("3", "realtime:c", reason)]);
    // Joining the same topic again takes no other place.
    let effects = client.join("realtime:b", "4", json!({}));
    assert!(matches!(effects[..], [Effect::Verify { .. }]));
}

#[test]
fn joining_too_fast_closes_the_connection_after_the_reply() {
    let mut client = Client::with(
        Limits {
            joins_per_second: 1,
            ..Limits::default()
        },
        Version::V2,
    );
    client.join("realtime:a", "1", json!({}));
    client.join("realtime:b", "2", json!({}));
    let effects = client.join("realtime:c", "3", json!({}));
    assert_eq!(closed(&effects), Some(Close::JoinRate));
    let reason = "ClientJoinRateLimitReached: Too many joins per second";
    assert_eq!(client.frames(), [error_reply("3", "realtime:c", reason)]);
}

#[test]
fn sizes_are_bounded() {
    let limits = Limits {
        topic_bytes: 20,
        join_payload_bytes: 200,
        bindings_per_channel: 1,
        join_error_delay: Duration::ZERO,
        ..Limits::default()
    };
    let mut client = Client::with(limits, Version::V2);
    client.join("realtime:rather-long-name", "1", json!({}));
    client.join("realtime:a", "2", json!({"x": "y".repeat(300)}));
    client.join(
        "realtime:a",
        "3",
        json!({"postgres_changes": [{}, {"schema": "s"}]}),
    );
    let codes: Vec<_> = client
        .frames()
        .iter()
        .map(|frame| {
            frame[4]["response"]["reason"]
                .as_str()
                .unwrap()
                .split(':')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        codes,
        [
            "TopicNameTooLong",
            "JoinPayloadTooLarge",
            "PostgresChangesLimitReached"
        ]
    );
}

#[test]
fn leaving_is_answered_and_closes() {
    let mut client = Client::new();
    client.admit("realtime:a", "1", json!({}));
    client.frames();
    client.send(json!(["0", "2", "realtime:a", "phx_leave", {}]));
    assert!(
        client.frames().is_empty(),
        "a leave of an earlier join is ignored"
    );
    client.send(json!(["1", "3", "realtime:a", "phx_leave", {}]));
    let ok = |join_ref: &str, reference: &str| json!([join_ref, reference, "realtime:a", "phx_reply", {"status": "ok", "response": {}}]);
    assert_eq!(client.frames(), [ok("1", "3"), phx_close("1", "realtime:a")]);
    assert_eq!(client.metrics.channels.get(), 0);
    client.send(json!(["1", "4", "realtime:a", "phx_leave", {}]));
    assert_eq!(client.frames(), [ok("1", "4")]);
}

#[test]
fn leaving_while_the_join_is_pending_ends_it() {
    let mut client = Client::new();
    let effects = client.join("realtime:a", "1", json!({}));
    client.send(json!(["1", "2", "realtime:a", "phx_leave", {}]));
    client.frames();
    let after = client
        .session
        .verified(ticket(&effects), Ok(claims("anon")), client.now);
    assert!(after.is_empty() && client.frames().is_empty());
}

#[test]
fn a_second_join_replaces_the_first() {
    let mut client = Client::new();
    client.admit("realtime:a", "1", json!({}));
    client.frames();
    client.admit("realtime:a", "2", json!({}));
    assert_eq!(
        client.frames(),
        [phx_close("1", "realtime:a"), ok_reply("2", "realtime:a")]
    );
    assert_eq!(client.metrics.channels.get(), 1);
}

#[test]
fn silence_and_emptiness_close_the_connection() {
    let mut client = Client::new();
    assert_eq!(closed(&client.pass(Duration::from_secs(59))), None);
    assert_eq!(closed(&client.pass(Duration::from_secs(1))), Some(Close::Idle));

    let mut client = Client::new();
    client.admit("realtime:a", "1", json!({}));
    client.send(json!(["1", "2", "realtime:a", "phx_leave", {}]));
    for _ in 0..19 {
        client.pass(Duration::from_secs(30));
        client.session.heard(client.now);
    }
    assert_eq!(
        closed(&client.pass(Duration::from_secs(30))),
        Some(Close::NoChannels)
    );
}

#[test]
fn a_restart_is_told_to_every_channel_and_refuses_joins() {
    let mut client = Client::new();
    client.admit("realtime:a", "1", json!({}));
    client.frames();
    client.session.restarting();
    client.join("realtime:b", "2", json!({}));
    let reason = "RealtimeRestarting: Realtime is restarting, please standby";
    assert_eq!(
        client.frames(),
        [
            json!([null, null, "realtime:a", "system",
                {"extension": "system", "status": "ok", "message": "Server requested disconnect"}]),
            error_reply("2", "realtime:b", reason),
        ]
    );
}
