//! Channels whose place is not that of the rows that they ask for: left, about other rows, or told anew.

use super::*;
use crate::feed::SubscribeError;
use crate::session::TopicPlace;

const TOPIC: &str = "realtime:a";

fn rows_first() -> Value {
    json!({ "postgres_changes": [{ "event": "*", "schema": "public", "table": "todos", "snapshot": true }] })
}

fn of_user(sub: &str) -> Arc<Claims> {
    Arc::new(Claims {
        sub: Some(sub.into()),
        ..(*claims("authenticated")).clone()
    })
}

fn cursor(text: &str) -> Option<Cursor> {
    Some(text.parse().unwrap())
}

/// A connection of a session that was live in a channel with this configuration, up to `5-100`.
fn back(config: &Value) -> Client {
    let mut before = Client::new();
    before.session.returns(Returning::default());
    *before.position.lock().unwrap() = cursor("5-100");
    let asked = request(before.admit(TOPIC, "1", config.clone()));
    before.go_live(&asked);
    again(&before)
}

/// The next connection of a session.
fn again(before: &Client) -> Client {
    let mut client = Client::new();
    client.session.returns(Returning {
        place: Some(before.session.place()),
        ..Returning::default()
    });
    *client.position.lock().unwrap() = cursor("5-200");
    client
}

fn since(request: &SubscribeRequest) -> Option<String> {
    request.since.as_ref().map(ToString::to_string)
}

fn takes_rows(request: &SubscribeRequest) -> bool {
    matches!(request.snapshot, Some(SnapshotStep::Take { .. }))
}

/// What was said of its rows.
fn told(client: &Client) -> Vec<String> {
    let frames = client.frames();
    let resume = frames.iter().filter(|frame| frame[4]["extension"] == "resume");
    let text = |frame: &Value| frame[4]["message"].as_str().unwrap().to_owned();
    let room = |text: &String| text.contains("what clients said");
    resume.map(text).filter(|text| !room(text)).collect()
}

fn rows(client: &Client) -> Option<Cursor> {
    client.session.place().channels.get(&stay(TOPIC))?.rows
}

#[test]
fn the_same_channel_goes_on() {
    for config in [one_binding(), rows_first()] {
        let mut client = back(&config);
        let asked = request(client.admit(TOPIC, "1", config));
        assert_eq!(since(&asked).as_deref(), Some("5-100"));
        assert!(!takes_rows(&asked));
    }
}

#[test]
fn a_channel_about_other_rows_begins_anew_and_is_told_unless_they_come() {
    let filtered = |snapshot: bool| json!({ "postgres_changes": [{ "event": "*", "schema": "public", "table": "todos", "filter": "id=eq.1", "snapshot": snapshot }] });
    let other = "resync: the channel asks for other rows than it did before";
    for (before, now, takes, says) in [
        (rows_first(), filtered(true), true, &[][..]),
        (one_binding(), rows_first(), true, &[][..]),
        (one_binding(), filtered(false), false, &[other][..]),
        (rows_first(), one_binding(), false, &[other][..]),
    ] {
        let mut client = back(&before);
        let asked = request(client.admit(TOPIC, "1", now.clone()));
        assert_eq!((since(&asked), takes_rows(&asked)), (None, takes), "{now}");
        // Before it is live, the next one would begin there as well.
        let begun = (!takes).then(|| cursor("5-200")).flatten();
        assert_eq!(rows(&client), begun, "{now}");
        let mut next = again(&client);
        let asked = request(next.admit(TOPIC, "1", now.clone()));
        assert_eq!(takes_rows(&asked), takes, "{now}");
        assert_eq!(told_once_answered(&mut client), says, "{now}");
    }
}

fn told_once_answered(client: &mut Client) -> Vec<String> {
    client.pass(Duration::from_secs(10));
    told(client)
}

#[test]
fn a_channel_that_was_left_while_there_was_no_connection_is_left() {
    let mut client = back(&rows_first());
    client.send(json!(["7", "8", TOPIC, "phx_leave", {}]));
    assert_eq!(client.session.take_turns(), [(stay(TOPIC), Turn::Left)]);
    assert!(takes_rows(&request(client.admit(TOPIC, "1", rows_first()))));
}

#[test]
fn a_channel_that_is_left_before_its_token_is_good_is_left() {
    let mut client = back(&rows_first());
    client.join(TOPIC, "1", rows_first());
    client.send(json!(["1", "2", TOPIC, "phx_leave", {}]));
    assert!(takes_rows(&request(client.admit(TOPIC, "3", rows_first()))));
}

#[test]
fn who_cannot_go_on_has_no_rows_before_they_are_asked_for() {
    let mut client = back(&rows_first());
    let asked = request(client.admit(TOPIC, "1", rows_first()));
    assert_eq!(since(&asked).as_deref(), Some("5-100"));
    client.session.take_turns();
    let behind = Err(SubscribeError::Behind("it is old".to_owned()));
    let effects = client.session.subscribed(asked.subscriber.id, behind, client.now);
    let taking = request(effects);
    match &taking.snapshot {
        Some(SnapshotStep::Take { again, .. }) => assert_eq!(again.as_deref(), Some("it is old")),
        other => panic!("{other:?}"),
    }
    assert!(taking.reply.is_none(), "it has been answered");
    let turns = client.session.take_turns();
    assert!(
        matches!(&turns[..], [(_, Turn::Begun(here))] if here.rows.is_none()),
        "{turns:?}"
    );
    assert_eq!(rows(&client), None);
    // Also where that fails, it does not go on from where it was.
    let away = Err(SubscribeError::Unavailable("gone".to_owned()));
    client.session.subscribed(taking.subscriber.id, away, client.now);
    let retry = request(client.pass(Duration::from_secs(20)));
    assert!(takes_rows(&retry) && retry.since.is_none());
}

#[test]
fn rows_that_come_for_one_user_are_those_of_no_other() {
    let mut client = back(&rows_first());
    let ticket = ticket(&client.join(TOPIC, "1", rows_first()));
    let asked = request(client.session.verified(ticket, Ok(of_user("ben")), client.now));
    assert!(takes_rows(&asked));
    assert_eq!(rows(&client), None, "they were dropped with the first one of his");
    let of_both = client.session.place();
    assert_eq!(of_both.channels.len(), 2);
    assert!(of_both.channels.values().all(|here| here.rows.is_none()));
}

#[test]
fn what_a_client_says_counts_more_than_what_was_known() {
    let mut client = back(&one_binding());
    let mut says = one_binding();
    says["since"] = json!("5-50");
    let asked = request(client.admit(TOPIC, "1", says));
    assert_eq!(since(&asked).as_deref(), Some("5-50"));
    let turns = client.session.take_turns();
    assert!(
        matches!(&turns[..], [(_, Turn::Begun(TopicPlace { rows, .. }))] if *rows == cursor("5-50")),
        "{turns:?}"
    );
    assert_eq!(
        rows(&client),
        cursor("5-50"),
        "it is not further before that has come"
    );
}

#[test]
fn who_went_on_from_a_place_of_two_is_told() {
    let shared = "resync: the session id is used by two connections at once";
    let mut client = back(&one_binding());
    let asked = request(client.admit(TOPIC, "1", one_binding()));
    client.session.shared();
    assert!(told(&client).is_empty(), "behind the reply");
    client.go_live(&asked);
    assert_eq!(told(&client), [shared]);
    client.session.shared();
    assert!(told(&client).is_empty(), "it has been");
    let mut client = back(&one_binding());
    let asked = request(client.admit(TOPIC, "1", one_binding()));
    client.go_live(&asked);
    client.frames();
    client.session.shared();
    assert_eq!(told(&client), [shared]);
    client.admit("realtime:b", "2", json!({}));
    assert_eq!(told(&client), [shared], "whoever may have been there");
    let mut first = Client::new();
    first.session.returns(Returning::default());
    first.live(TOPIC, "1");
    first.session.shared();
    assert!(told(&first).is_empty(), "it began there");
}
