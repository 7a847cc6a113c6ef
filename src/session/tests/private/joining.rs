//! Joins, with the past that comes with them.

use super::*;
use crate::messages::{MessagesError, Stored};
use crate::protocol::Content;

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
