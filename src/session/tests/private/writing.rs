//! Broadcasts, presence and what is to be kept.

use super::*;
use crate::messages::MessagesError;

#[test]
fn writing_is_asked_once_and_what_waits_is_done_in_order() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let first = client.broadcast(TOPIC, &said());
    let (_, _, wanted) = question(&first);
    assert_eq!(wanted, Rights::WRITE_BROADCAST);
    assert!(client.broadcast(TOPIC, &said()).is_empty(), "asked once");
    assert_eq!(client.frames(), [] as [Value; 0]);
    answer(&mut client, &first, Rights::WRITE_BROADCAST);
    assert_eq!(client.frames(), vec![reply("ok", json!({})); 2]);
    assert!(client.broadcast(TOPIC, &said()).is_empty());
    assert_eq!(client.frames(), [reply("ok", json!({}))]);
}

#[test]
fn a_denied_broadcast_says_so_in_the_ack() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    answer(&mut client, &effects, Rights::NONE);
    assert_eq!(client.frames(), [denied()]);
    assert!(client.broadcast(TOPIC, &said()).is_empty(), "it is known by now");
    assert_eq!(client.frames(), [denied()]);

    let (mut client, _) = joined(json!({"broadcast": {"ack": false}}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    answer(&mut client, &effects, Rights::NONE);
    assert_eq!(client.frames(), [] as [Value; 0]);
}

#[test]
fn a_right_that_cannot_be_told_fails_each_and_is_asked_again() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    client.broadcast(TOPIC, &said());
    let (ticket, ..) = question(&effects);
    let effects = client
        .session
        .judged(ticket, Err(AuthorityError::Canceled), client.now);
    let failed = reply(
        "error",
        json!({"reason": "Query was cancelled, please try again"}),
    );
    assert_eq!(client.frames(), [failed]);
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    assert_eq!(client.frames(), [reply("ok", json!({}))]);
}

#[test]
fn what_waits_for_a_right_is_bounded() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    for _ in 0..300 {
        client.broadcast(TOPIC, &said());
    }
    let refused = client.frames();
    assert_eq!(refused.len(), 301 - 256);
    let reason = json!({"reason": "Too many messages per second"});
    assert!(
        refused
            .iter()
            .all(|frame| *frame == reply("error", reason.clone()))
    );
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    assert_eq!(client.frames().len(), 256);
}

#[test]
fn what_waits_on_all_channels_is_bounded_together() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let large = json!({"type": "broadcast", "event": "e", "payload": "x".repeat(2_000_000)});
    let waiting = client.broadcast(TOPIC, &large);
    let mut refused = 0;
    for n in 0..5 {
        let topic = format!("realtime:{n}");
        let effects = client.admit(&topic, "1", private(json!({})));
        answer(&mut client, &effects, Rights::READ_BROADCAST);
        client.frames();
        client.broadcast(&topic, &large);
        refused += client.frames().len();
    }
    assert_eq!(refused, 4);
    // Once there is an answer, there is room, and what needs none goes out in any case.
    answer(&mut client, &waiting, Rights::WRITE_BROADCAST);
    assert_eq!(client.frames(), [reply("ok", json!({}))]);
    client.broadcast(TOPIC, &large);
    assert_eq!(client.frames(), [reply("ok", json!({}))]);
    assert!(!client.broadcast("realtime:4", &large).is_empty());
    assert_eq!(client.frames(), [] as [Value; 0]);
}

#[test]
fn a_database_that_is_away_is_not_asked_about_each() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    client.broadcast(TOPIC, &said());
    client.presence(TOPIC, &json!({"event": "track", "payload": {}}));
    client.presence(TOPIC, &json!({"event": "untrack"}));
    let (ticket, ..) = question(&effects);
    let away = AuthorityError::Unavailable(String::new());
    assert!(client.session.judged(ticket, Err(away), client.now).is_empty());
    let statuses = client.frames();
    let statuses: Vec<&str> = statuses
        .iter()
        .filter_map(|frame| frame[4]["status"].as_str())
        .collect();
    assert_eq!(statuses, ["error", "error", "error", "ok"]);
    // What comes later is.
    question(&client.broadcast(TOPIC, &said()));
}

#[test]
fn tracking_asks_for_both_and_begins_to_hear() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let track = json!({"event": "track", "payload": {"a": 1}});
    let effects = client.presence(TOPIC, &track);
    let (_, _, wanted) = question(&effects);
    assert_eq!(wanted, Rights::WRITE_PRESENCE | Rights::READ_PRESENCE);
    answer(&mut client, &effects, wanted);
    let frames = client.frames();
    let events: Vec<&str> = frames.iter().map(|frame| frame[3].as_str().unwrap()).collect();
    assert!(
        events.contains(&"phx_reply") && events.contains(&"presence_state"),
        "{events:?}"
    );

    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.presence(TOPIC, &track);
    answer(&mut client, &effects, Rights::NONE);
    assert_eq!(client.frames(), [reply("error", json!({}))]);
    client.presence(TOPIC, &json!({"event": "untrack"}));
    assert_eq!(client.frames(), [reply("ok", json!({}))], "that needs no right");
}

#[test]
fn what_shall_be_kept_is_kept_before_it_is_said() {
    let (mut client, id) = joined(json!({}), Rights::READ_BROADCAST);
    let persist = br#"{"x":1}"#;
    let effects = client.send_binary(TOPIC, "e", r#"{"persist":{"ttl":60}}"#, true, persist);
    let (_, _, wanted) = question(&effects);
    assert_eq!(wanted, Rights::WRITE_BROADCAST | Rights::PERSIST);
    let effects = answer(&mut client, &effects, wanted);
    let [Effect::Persist { id: channel, message }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((*channel, &*message.topic, message.ttl), (id, "a", Some(60)));
    assert!(client.broadcast(TOPIC, &said()).is_empty(), "waits its turn");
    assert_eq!(client.frames(), [] as [Value; 0]);
    let row = uuid::Uuid::from_u128(7);
    client.session.persisted(id, Ok(row), client.now);
    assert_eq!(
        client.frames(),
        [
            reply("ok", json!({"id": row.to_string()})),
            reply("ok", json!({}))
        ]
    );

    client.send_binary(TOPIC, "e", r#"{"persist":true}"#, true, persist);
    client
        .session
        .persisted(id, Err(MessagesError::MissingPartition), client.now);
    let failed = json!({"error": "Realtime was unable to persist the message"});
    assert_eq!(client.frames(), [reply("error", failed)]);
}

#[test]
fn what_may_not_be_kept_is_not_said() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.send_binary(TOPIC, "e", r#"{"persist":true}"#, true, b"{}");
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    let denied = json!({"error": "You do not have permissions to persist messages of this Channel"});
    assert_eq!(client.frames(), [reply("error", denied)]);
    client.send_binary(TOPIC, "e", r#"{"persist":{"ttl":-1}}"#, true, b"{}");
    let wrong = json!({"error": "Persist params are not valid"});
    assert_eq!(client.frames(), [reply("error", wrong)]);
    client.send_binary(TOPIC, "e", r#"{"persist":false}"#, true, b"{}");
    assert_eq!(client.frames(), [reply("ok", json!({}))]);

    let mut client = Client::new();
    client.admit(TOPIC, "1", json!({"broadcast": {"ack": true}}));
    client.frames();
    client.send_binary(TOPIC, "e", r#"{"persist":true}"#, true, b"{}");
    let public = json!({"error": "Messages of public channels cannot be persisted"});
    assert_eq!(client.frames(), [reply("error", public)]);
}
