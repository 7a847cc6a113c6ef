use super::*;
use crate::feed::SubscribeError;

const TOPIC: &str = "realtime:a";
const SECOND: Duration = Duration::from_secs(1);

fn with_rows() -> Value {
    json!({ "postgres_changes": [{ "event": "*", "schema": "public", "table": "todos", "snapshot": true }] })
}

/// The reply of a request that wants rows, and whether some came before.
fn wanted(request: &SubscribeRequest) -> (&SnapshotReply, bool) {
    match &request.snapshot {
        Some(SnapshotStep::Take { reply, again }) => (reply, again.is_some()),
        other => panic!("expected a snapshot to be taken, got {other:?}"),
    }
}

/// The feed has taken the snapshot; what the session asks for then.
fn taken(client: &mut Client, asked: &SubscribeRequest) -> SubscribeRequest {
    client.feed_takes(asked, wanted(asked).0);
    let sending = Ok(Subscribed::Sending(Sending::nothing()));
    let next = client
        .session
        .subscribed(asked.subscriber.id, sending, client.now);
    let next = request(next);
    assert!(matches!(next.snapshot, Some(SnapshotStep::Finish(_))), "{next:?}");
    next
}

#[test]
fn the_reply_names_the_snapshot_and_the_rows_follow_it() {
    let mut client = Client::new();
    let asked = request(client.admit(TOPIC, "1", with_rows()));
    assert!(!wanted(&asked).1 && asked.since.is_none());
    assert!(client.frames().is_empty());
    let next = taken(&mut client, &asked);
    let frames = client.frames();
    assert_eq!(
        (&frames[0][0], &frames[0][1], frames.len()),
        (&json!("1"), &json!("1"), 1)
    );
    let response = &frames[0][4]["response"];
    assert_eq!(response["snapshot"], json!({"cursor": "1-2~3:3:"}));
    assert_eq!(response["postgres_changes"][0]["id"], asked.bindings[0].id);
    // The channel is joined while its rows come.
    assert_eq!(client.metrics.channels.get(), 1);
    assert!(next.reply.is_none());
    assert_eq!(next.subscriber.id, asked.subscriber.id);
    client.go_live(&next);
    assert_eq!(client.frames(), [subscribed("1", TOPIC)]);
}

#[test]
fn a_snapshot_that_takes_its_time_keeps_nobody_from_joining() {
    let mut client = Client::new();
    let asked = request(client.admit(TOPIC, "1", with_rows()));
    client.pass(4 * SECOND);
    let frames = client.frames();
    assert_eq!(frames[0][4]["status"], "ok");
    assert_eq!(frames[0][4]["response"].get("snapshot"), None);
    taken(&mut client, &asked);
    assert!(client.frames().is_empty(), "there is one reply");
}

#[test]
fn rows_that_are_sent_again_are_said_to_be() {
    let mut client = Client::new();
    let asked = request(client.admit(TOPIC, "1", with_rows()));
    let next = taken(&mut client, &asked);
    client.frames();
    let away = Err(SubscribeError::Unavailable("gone".to_owned()));
    assert!(
        client
            .session
            .subscribed(next.subscriber.id, away, client.now)
            .is_empty()
    );
    let told = client.frames();
    assert_eq!(told, [system("1", TOPIC, "postgres_changes", "error", "gone")]);
    let retry = request(client.pass(10 * SECOND));
    assert!(wanted(&retry).1 && retry.reply.is_none());
    assert_ne!(retry.subscriber.id, asked.subscriber.id);

    let next = taken(&mut client, &retry);
    let refused = Err(SubscribeError::Refused("too many".to_owned()));
    client.session.subscribed(next.subscriber.id, refused, client.now);
    assert_eq!(
        client.frames(),
        [system("1", TOPIC, "postgres_changes", "error", "too many")]
    );
    assert!(client.pass(20 * SECOND).is_empty());
}

#[test]
fn what_changes_behind_the_rows_is_judged_by_the_newest_claims() {
    let mut client = Client::new();
    let asked = request(client.admit(TOPIC, "1", with_rows()));
    let effects = client.send(json!(["1", "2", TOPIC, "access_token", {"access_token": "new"}]));
    let effects = client
        .session
        .verified(ticket(&effects), Ok(claims("other")), client.now);
    assert!(effects.is_empty(), "{effects:?}");
    let next = taken(&mut client, &asked);
    assert_eq!(&*next.claims.role, "other");
    assert!(client.go_live(&next).is_empty(), "they are in force already");
    client.frames();
    // A token that comes later needs no rows.
    let effects = client.send(json!(["1", "3", TOPIC, "access_token", {"access_token": "newer"}]));
    let effects = client
        .session
        .verified(ticket(&effects), Ok(claims("third")), client.now);
    assert!(
        matches!(effects[..], [Effect::ReplaceClaims { .. }]),
        "{effects:?}"
    );
}

#[test]
fn whoever_leaves_meanwhile_gets_nothing_more() {
    let mut client = Client::new();
    let asked = request(client.admit(TOPIC, "1", with_rows()));
    let left = client.send(json!(["1", "2", TOPIC, "phx_leave", {}]));
    assert!(matches!(left[..], [Effect::Unsubscribe(_)]), "{left:?}");
    client.frames();
    let sending = Ok(Subscribed::Sending(Sending::nothing()));
    let effects = client
        .session
        .subscribed(asked.subscriber.id, sending, client.now);
    assert!(effects.is_empty(), "{effects:?}");
    assert!(asked.subscriber.outbox.push(Frame::Text("row".into())).is_err());
}

#[test]
fn a_cursor_comes_before_a_snapshot_unless_it_is_none() {
    let mut client = Client::new();
    let mut config = with_rows();
    for (topic, since, rows) in [
        ("realtime:a", json!("1-2"), false),
        ("realtime:b", json!("garbled"), true),
        ("realtime:c", json!(""), true),
        ("realtime:d", Value::Null, true),
    ] {
        config["since"] = since;
        let asked = request(client.admit(topic, "1", config.clone()));
        assert_eq!((asked.snapshot.is_some(), asked.since.is_some()), (rows, !rows));
        assert!(asked.subscriber.cursors);
        if rows {
            assert_eq!(wanted(&asked).1, topic == "realtime:b");
        }
    }
}
