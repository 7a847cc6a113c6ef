//! Private channels: what is asked, and what the answers do.

use super::*;
use crate::feed::AuthorityError;
use crate::messages::{MessagesError, Stored};
use crate::protocol::Content;

const TOPIC: &str = "realtime:a";

fn said() -> Value {
    json!({"type": "broadcast", "event": "e", "payload": {}})
}

fn private(more: Value) -> Value {
    let mut config = json!({"private": true, "broadcast": {"ack": true}});
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

/// A client whose join waits for an answer.
fn asking(config: Value) -> (Client, Vec<Effect>) {
    let mut client = Client::new();
    let effects = client.admit(TOPIC, "1", private(config));
    (client, effects)
}

/// A client with these rights to read, and the id of its channel.
fn joined(config: Value, granted: Rights) -> (Client, SubscriberId) {
    let (mut client, effects) = asking(config);
    let (ticket, seeker, _) = question(&effects);
    let effects = client.session.judged(ticket, Ok(granted), client.now);
    let id = seeker.id.unwrap();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::FollowRights(followed) if *followed == id)),
        "{effects:?}"
    );
    assert_eq!(client.frames()[0][4]["status"], "ok");
    (client, id)
}

fn answer(client: &mut Client, effects: &[Effect], granted: Rights) -> Vec<Effect> {
    let (ticket, ..) = question(effects);
    client.session.judged(ticket, Ok(granted), client.now)
}

fn reply(status: &str, response: Value) -> Value {
    json!(["1", "9", TOPIC, "phx_reply", {"status": status, "response": response}])
}

fn denied() -> Value {
    reply(
        "error",
        json!({"reason": "You do not have permissions to write to this Channel topic: a"}),
    )
}

fn closes_with(client: &Client, effects: &[Effect], message: &str) {
    assert_eq!(
        client.frames(),
        [
            system("1", TOPIC, "system", "error", message),
            phx_close("1", TOPIC)
        ]
    );
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::ForgetRights(_))),
        "{effects:?}"
    );
}

#[test]
fn a_join_asks_what_may_be_read_with_topic_and_headers() {
    for (config, wanted) in [
        (json!({}), Rights::READ_BROADCAST),
        (json!({"presence": {"enabled": true}}), Rights::READ),
    ] {
        let (client, effects) = asking(config);
        let (_, seeker, asked) = question(&effects);
        assert_eq!(asked, wanted);
        let scope = seeker.claims.scope.as_ref().unwrap();
        assert_eq!((&*scope.topic, &*scope.headers), ("a", r#"{"x-team":"red"}"#));
        assert_eq!(client.frames(), [] as [Value; 0]);
    }
}

#[test]
fn either_right_to_read_is_enough() {
    for granted in [Rights::READ, Rights::READ_BROADCAST, Rights::READ_PRESENCE] {
        joined(json!({"presence": {"enabled": true}}), granted);
    }
    let (mut client, effects) = asking(json!({"presence": {"enabled": true}}));
    let effects = answer(&mut client, &effects, Rights::NONE);
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic: a";
    assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);
    assert!(matches!(effects[..], [Effect::ForgetRights(_)]));
}

#[test]
fn a_join_that_cannot_be_judged_says_why() {
    for (error, reason) in [
        (
            AuthorityError::Unavailable("gone".to_owned()),
            "UnableToConnectToProject: Realtime was unable to connect to the project database",
        ),
        (
            AuthorityError::Canceled,
            "QueryCanceled: Query was cancelled, please try again",
        ),
        (
            AuthorityError::Busy,
            "IncreaseConnectionPool: Please increase your connection pool size",
        ),
    ] {
        let (mut client, effects) = asking(json!({}));
        let (ticket, ..) = question(&effects);
        client.session.judged(ticket, Err(error), client.now);
        assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);
    }
}

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
fn who_is_present_stays_so_by_the_rights_of_the_last_token() {
    let (mut client, _) = joined(json!({"presence": {"enabled": true}}), Rights::READ);
    let effects = client.presence(TOPIC, &json!({"event": "track", "payload": {}}));
    answer(&mut client, &effects, Rights::WRITE_PRESENCE);
    client.frames();
    let mut asked = Vec::new();
    for token in ["one", "two"] {
        let effects = client.send(json!(["1", "2", TOPIC, "access_token", { "access_token": token }]));
        asked = client
            .session
            .verified(ticket(&effects), Ok(claims(token)), client.now);
        let (_, _, wanted) = question(&asked);
        assert_eq!(wanted, Rights::READ | Rights::WRITE_PRESENCE);
    }
    answer(&mut client, &asked, Rights::READ);
    let frames = client.frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert!(frames[0][4]["leaves"]["made-up"].is_object(), "{frames:?}");
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
fn a_new_token_judges_reading_anew_and_writing_when_it_is_wanted() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    client.frames();
    let effects = client.send(json!(["1", "2", TOPIC, "access_token", {"access_token": "other"}]));
    let effects = client
        .session
        .verified(ticket(&effects), Ok(claims("other")), client.now);
    let (_, seeker, wanted) = question(&effects);
    assert_eq!((wanted, &*seeker.claims.role), (Rights::READ_BROADCAST, "other"));
    // Said while the new rights are asked for: waits for them.
    assert!(client.broadcast(TOPIC, &said()).is_empty());
    let effects = answer(&mut client, &effects, Rights::READ_BROADCAST);
    let (_, _, wanted) = question(&effects);
    assert_eq!(wanted, Rights::WRITE_BROADCAST);
    answer(&mut client, &effects, Rights::NONE);
    assert_eq!(client.frames(), [denied()]);
}

#[test]
fn what_is_said_behind_a_new_token_waits_for_it() {
    let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    client.frames();
    let verifying = client.send(json!(["1", "2", TOPIC, "access_token", {"access_token": "other"}]));
    assert!(client.broadcast(TOPIC, &said()).is_empty());
    assert_eq!(client.frames(), [] as [Value; 0]);
    let effects = client
        .session
        .verified(ticket(&verifying), Ok(claims("other")), client.now);
    let effects = answer(&mut client, &effects, Rights::READ_BROADCAST);
    answer(&mut client, &effects, Rights::NONE);
    assert_eq!(client.frames(), [denied()]);
}

#[test]
fn a_new_token_that_may_read_nothing_or_less_closes() {
    let refresh = |client: &mut Client| {
        let effects = client.send(json!(["1", "2", TOPIC, "access_token", {"access_token": "other"}]));
        client
            .session
            .verified(ticket(&effects), Ok(claims("other")), client.now)
    };
    let enabled = json!({"presence": {"enabled": true}});
    for (granted, message) in [
        (
            Rights::NONE,
            "You do not have permissions to read from this Channel topic: a",
        ),
        (
            Rights::READ_PRESENCE,
            "You no longer have permission to read from this Channel topic: a",
        ),
    ] {
        let (mut client, _) = joined(enabled.clone(), Rights::READ);
        client.frames();
        let effects = refresh(&mut client);
        let effects = answer(&mut client, &effects, granted);
        closes_with(&client, &effects, message);
    }
    for (error, message) in [
        (
            AuthorityError::Unavailable("gone".to_owned()),
            "Realtime was unable to connect to the project database",
        ),
        (AuthorityError::Canceled, "Query was cancelled, please try again"),
    ] {
        let (mut client, _) = joined(json!({}), Rights::READ_BROADCAST);
        let effects = refresh(&mut client);
        let (ticket, ..) = question(&effects);
        let effects = client.session.judged(ticket, Err(error), client.now);
        closes_with(&client, &effects, message);
    }
}

#[test]
fn what_the_policies_say_later_holds_at_once() {
    let enabled = json!({"presence": {"enabled": true}});
    let (mut client, id) = joined(enabled.clone(), Rights::READ_BROADCAST);
    client.frames();
    let effects = client.session.rights_changed(id, Rights::READ, client.now);
    assert!(matches!(effects[..], [Effect::FollowRights(_)]));
    assert_eq!(
        client.frames()[0][3],
        "presence_state",
        "more is heard from now on"
    );
    let effects = client
        .session
        .rights_changed(id, Rights::READ_BROADCAST, client.now);
    closes_with(
        &client,
        &effects,
        "You no longer have permission to read from this Channel topic: a",
    );
    let (mut client, id) = joined(enabled, Rights::READ);
    client.frames();
    let effects = client.session.rights_changed(id, Rights::NONE, client.now);
    closes_with(
        &client,
        &effects,
        "You do not have permissions to read from this Channel topic: a",
    );
}

#[test]
fn what_was_revoked_from_a_writer_is_refused_from_then_on() {
    let (mut client, id) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.broadcast(TOPIC, &said());
    answer(&mut client, &effects, Rights::WRITE_BROADCAST);
    client.frames();
    client
        .session
        .rights_changed(id, Rights::READ_BROADCAST, client.now);
    assert!(client.broadcast(TOPIC, &said()).is_empty());
    assert_eq!(client.frames(), [denied()]);
}

#[test]
fn what_is_revoked_while_something_else_is_asked_counts() {
    let (mut client, id) = joined(json!({}), Rights::READ_BROADCAST);
    let asked = client.broadcast(TOPIC, &said());
    let effects = client.session.rights_changed(id, Rights::NONE, client.now);
    closes_with(
        &client,
        &effects,
        "You do not have permissions to read from this Channel topic: a",
    );
    assert!(answer(&mut client, &asked, Rights::WRITE_BROADCAST).is_empty());
}

#[test]
fn an_answer_to_an_earlier_question_does_not_count() {
    let (mut client, effects) = asking(json!({}));
    let (first, ..) = question(&effects);
    let effects = client.send(json!(["1", "2", TOPIC, "access_token", {"access_token": "other"}]));
    let effects = client
        .session
        .verified(ticket(&effects), Ok(claims("other")), client.now);
    assert!(
        client
            .session
            .judged(first, Ok(Rights::READ), client.now)
            .is_empty()
    );
    assert_eq!(client.frames(), [] as [Value; 0]);
    answer(&mut client, &effects, Rights::NONE);
    assert_eq!(client.frames()[0][4]["status"], "error");
}

#[test]
fn a_channel_that_is_left_is_forgotten() {
    let (mut client, id) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.send(json!(["1", "2", TOPIC, "phx_leave", {}]));
    assert!(matches!(effects[..], [Effect::ForgetRights(forgotten)] if forgotten == id));
    assert!(
        client
            .session
            .rights_changed(id, Rights::NONE, client.now)
            .is_empty()
    );

    let (mut client, id) = joined(json!({}), Rights::READ_BROADCAST);
    let effects = client.session.end();
    assert!(matches!(effects[..], [Effect::ForgetRights(forgotten)] if forgotten == id));
}

#[test]
fn the_past_comes_right_behind_the_reply() {
    let config = json!({"broadcast": {"ack": true, "replay": {"since": 7, "limit": 2}}, "presence": {"enabled": true}});
    let (mut client, effects) = asking(config);
    let effects = answer(&mut client, &effects, Rights::READ);
    let [
        Effect::Replay {
            id,
            topic,
            since_ms,
            limit,
        },
        Effect::FollowRights(_),
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!((&**topic, *since_ms, *limit), ("a", 7, 2));
    assert_eq!(client.frames(), [] as [Value; 0]);
    let row = uuid::Uuid::from_u128(7);
    let stored = Stored {
        id: row,
        content: Content::Json {
            event: "e".into(),
            payload: "{}".into(),
            meta: Some(r#"{"replayed":true}"#.into()),
        },
    };
    client.session.replayed(*id, Ok(vec![stored]), client.now);
    let frames = client.frames();
    let events: Vec<&str> = frames.iter().map(|frame| frame[3].as_str().unwrap()).collect();
    assert_eq!(events, ["phx_reply", "broadcast", "presence_state"]);
    assert_eq!(
        frames[1],
        json!(["1", null, TOPIC, "broadcast",
            {"event": "e", "payload": {}, "type": "broadcast", "meta": {"replayed": true}}])
    );
}

#[test]
fn a_replay_that_fails_or_is_not_allowed_ends_the_join() {
    let replay = |replay: Value| json!({"broadcast": {"replay": replay}, "presence": {"enabled": true}});
    let (mut client, effects) = asking(replay(json!({"since": 7})));
    let effects = answer(&mut client, &effects, Rights::READ);
    let Effect::Replay { id, .. } = effects[0] else {
        panic!("{effects:?}");
    };
    client
        .session
        .replayed(id, Err(MessagesError::Canceled), client.now);
    let reason = "UnableToReplayMessages: Realtime was unable to replay messages";
    assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);

    for (wanted, granted, reason) in [
        (
            json!({"since": "x"}),
            Rights::READ,
            "UnableToReplayMessages: Replay params are not valid",
        ),
        (
            json!({"since": 7}),
            Rights::READ_PRESENCE,
            "Unauthorized: You do not have permissions to read from this Channel topic: a",
        ),
    ] {
        let (mut client, effects) = asking(replay(wanted));
        answer(&mut client, &effects, granted);
        assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);
    }
    let (mut client, effects) = asking(replay(json!(null)));
    answer(&mut client, &effects, Rights::READ);
    assert_eq!(client.frames()[0][4]["status"], "ok", "as if there were none");
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
