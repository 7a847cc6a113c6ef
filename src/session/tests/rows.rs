use super::*;
use crate::change::{StreamState, StreamStatus};
use crate::feed::SubscribeError;

const TOPIC: &str = "realtime:a";
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_reply_is_the_fence() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", one_binding()));
    assert!(
        client.frames().is_empty(),
        "nothing is said before the subscription is live"
    );
    client.go_live(&request);
    let frames = client.frames();
    assert_eq!(frames[0][4]["status"], "ok");
    assert_eq!(binding_id(&frames[0]), request.bindings[0].id);
    assert_eq!(frames[1..], [subscribed("1", TOPIC)]);
    assert_eq!(client.metrics.channels.get(), 1);
}

#[test]
fn a_slow_subscription_is_answered_in_time_and_subscribed_follows() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", one_binding()));
    client.pass(4 * SECOND);
    let frames = client.frames();
    assert_eq!((frames.len(), &frames[0][4]["status"]), (1, &json!("ok")));
    client.go_live(&request);
    assert_eq!(client.frames(), [subscribed("1", TOPIC)]);
    assert_eq!(client.metrics.channels.get(), 1);
}

#[test]
fn refused_parameters_are_told_and_the_channel_stays() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", one_binding()));
    let refused = Err(SubscribeError::Refused("Unable to subscribe".to_owned()));
    assert!(
        client
            .session
            .subscribed(request.subscriber.id, refused, client.now)
            .is_empty()
    );
    let frames = client.frames();
    assert_eq!(binding_id(&frames[0]), request.bindings[0].id);
    assert_eq!(
        frames[1..],
        [system(
            "1",
            TOPIC,
            "postgres_changes",
            "error",
            "Unable to subscribe"
        )]
    );
    assert_eq!(client.metrics.channels.get(), 1);
}

#[test]
fn what_cannot_be_served_now_is_tried_again() {
    let mut client = Client::new();
    let first = request(client.admit(TOPIC, "1", one_binding()));
    let down = Err(SubscribeError::Unavailable("no database".to_owned()));
    client.session.subscribed(first.subscriber.id, down, client.now);
    assert_eq!(
        client.frames()[1],
        system("1", TOPIC, "postgres_changes", "error", "no database")
    );
    let wake = client.session.next_wake(client.now) - client.now.instant;
    assert!((5 * SECOND..10 * SECOND).contains(&wake), "{wake:?}");
    let second = request(client.pass(wake));
    assert_ne!(second.subscriber.id, first.subscriber.id);
    client.go_live(&second);
    assert_eq!(client.frames(), [subscribed("1", TOPIC)]);
}

fn waiting(timeout: Value) -> Value {
    let mut config = one_binding();
    config["postgres_changes_options"] = json!({"wait": true, "timeout": timeout});
    config
}

#[test]
fn a_client_that_waits_gets_a_join_error_when_refused() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", waiting(json!(2000))));
    let refused = Err(SubscribeError::Refused("Unable to subscribe".to_owned()));
    client
        .session
        .subscribed(request.subscriber.id, refused, client.now);
    let reason = "RealtimeDisabledForConfiguration: Unable to subscribe";
    assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);
    client.go_live(&request);
    assert_eq!(client.frames(), [] as [Value; 0], "nothing follows the refusal");
}

#[test]
fn a_reply_that_is_out_is_never_followed_by_another() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", waiting(json!(2000))));
    client.feed_sends(&request);
    client.frames();
    let refused = Err(SubscribeError::Refused("after all".to_owned()));
    client
        .session
        .subscribed(request.subscriber.id, refused, client.now);
    assert_eq!(
        client.frames(),
        [system("1", TOPIC, "postgres_changes", "error", "after all")]
    );
}

#[test]
fn a_client_that_waits_gets_a_join_error_when_time_is_up() {
    let mut client = Client::new();
    let first = request(client.admit(TOPIC, "1", waiting(json!(2000))));
    let down = Err(SubscribeError::Unavailable("no database".to_owned()));
    client.session.subscribed(first.subscriber.id, down, client.now);
    assert!(client.frames().is_empty());
    let second = request(client.pass(SECOND));
    let effects = client.pass(SECOND);
    assert!(matches!(effects[..], [Effect::Unsubscribe(id)] if id == second.subscriber.id));
    let reason = "PostgresChangesSubscribeTimeout: Timed out after 2000ms waiting for the postgres_changes subscription";
    assert_eq!(client.frames(), [error_reply("1", TOPIC, reason)]);
}

#[test]
fn no_client_waits_longer_than_allowed() {
    let mut client = Client::new();
    client.admit(TOPIC, "1", waiting(json!(99_000_000)));
    assert!(client.pass(19 * SECOND).is_empty());
    assert_eq!(client.pass(SECOND).len(), 1);
}

#[test]
fn a_subscription_that_goes_live_as_time_runs_out_counts() {
    let mut client = Client::new();
    let request = request(client.admit(TOPIC, "1", waiting(json!(2000))));
    client.feed_sends(&request);
    assert!(client.pass(2 * SECOND).is_empty());
    client
        .session
        .subscribed(request.subscriber.id, Ok(Subscribed::Live), client.now);
    let frames = client.frames();
    assert_eq!((frames.len(), &frames[0][4]["status"]), (2, &json!("ok")));
    assert_eq!(client.metrics.channels.get(), 1);
}

#[test]
fn leaving_and_rejoining_while_pending_silence_the_first_reply() {
    let mut client = Client::new();
    let first = request(client.admit(TOPIC, "1", one_binding()));
    let effects = client.join(TOPIC, "2", one_binding());
    assert!(matches!(effects[0], Effect::Unsubscribe(id) if id == first.subscriber.id));
    client.feed_sends(&first);
    let replies = client
        .frames()
        .iter()
        .filter(|frame| frame[3] == "phx_reply")
        .count();
    assert_eq!(replies, 0);
    let second = request(
        client
            .session
            .verified(ticket(&effects), Ok(claims("anon")), client.now),
    );
    let effects = client.send(json!(["2", "3", TOPIC, "phx_leave", {}]));
    assert!(matches!(effects[..], [Effect::Unsubscribe(id)] if id == second.subscriber.id));
    assert_eq!(
        client
            .session
            .subscribed(second.subscriber.id, Ok(Subscribed::Live), client.now)
            .len(),
        0
    );
}

#[test]
fn the_end_of_the_connection_frees_its_subscriptions() {
    let mut client = Client::new();
    let id = client.live(TOPIC, "1");
    assert!(client.session.follows_stream());
    let effects = client.session.end();
    assert!(matches!(effects[..], [Effect::Unsubscribe(ended)] if ended == id));
    assert_eq!(client.metrics.channels.get(), 0);
}

#[test]
fn a_legacy_join_subscribes_to_what_its_topic_names() {
    let mut client = Client::new();
    let ticket = ticket(&client.send(json!(["1", "1", "realtime:public:todos", "phx_join", {}])));
    let request = request(client.session.verified(ticket, Ok(claims("anon")), client.now));
    assert_eq!(request.subscriber.style, crate::feed::Style::Legacy);
    assert_eq!(request.bindings[0].table.as_deref(), Some("todos"));
    client.go_live(&request);
    assert_eq!(client.frames()[0][4], json!({"status": "ok", "response": {}}));
}

#[test]
fn the_stream_is_told_to_those_who_are_subscribed_and_once() {
    let mut client = Client::new();
    client.live(TOPIC, "1");
    client.admit("realtime:b", "2", one_binding());
    client.admit("realtime:c", "3", json!({}));
    client.frames();
    let tell = |client: &mut Client, state: StreamState| {
        client.session.stream(&state.into());
        let frames = client.frames();
        assert!(
            frames.len() <= 1 && frames.iter().all(|frame| frame[2] == TOPIC),
            "{frames:?}"
        );
        frames.first().map(|frame| {
            assert_eq!(frame[4]["status"], "ok", "realtime-py rejoins on an error");
            frame[4]["message"].as_str().unwrap().to_owned()
        })
    };
    assert_eq!(tell(&mut client, StreamState::Live), None);
    let broken = tell(
        &mut client,
        StreamState::Interrupted("host db, port 5432".to_owned()),
    )
    .unwrap();
    assert!(broken.contains("delayed") && !broken.contains("5432"), "{broken}");
    assert_eq!(
        tell(&mut client, StreamState::Interrupted("again".to_owned())),
        None
    );
    assert!(
        tell(&mut client, StreamState::Live)
            .unwrap()
            .contains("flowing again")
    );
    let reset = tell(&mut client, StreamState::Reset("the slot was lost".to_owned())).unwrap();
    assert!(
        reset.contains("may have been missed") && reset.contains("the slot was lost"),
        "{reset}"
    );
}

#[test]
fn a_reset_that_is_over_when_it_is_looked_for_is_told_and_once() {
    let mut status = StreamStatus::from(StreamState::Reset("before it came".to_owned()));
    let mut client = Client::new();
    client.session.stream(&status);
    client.live(TOPIC, "1");
    let tell = |client: &mut Client, status: &StreamStatus| {
        client.session.stream(status);
        let frames = client.frames().into_iter();
        frames
            .map(|frame| frame[4]["message"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    status.becomes(StreamState::Live);
    assert!(tell(&mut client, &status).is_empty());
    // It does not look between these.
    for state in [
        StreamState::Interrupted("cut".to_owned()),
        StreamState::Reset("the slot was lost".to_owned()),
        StreamState::Live,
        StreamState::Interrupted("cut again".to_owned()),
    ] {
        status.becomes(state);
    }
    let told = tell(&mut client, &status);
    assert!(
        told.len() == 2 && told[0].contains("the slot was lost") && told[1].contains("delayed"),
        "{told:?}"
    );
    assert!(tell(&mut client, &status).is_empty());
    status.becomes(StreamState::Live);
    assert_eq!(tell(&mut client, &status).len(), 1);
    status.becomes(StreamState::Reset("the slot was lost".to_owned()));
    assert_eq!(tell(&mut client, &status).len(), 1);
    status.becomes(StreamState::Reset("the slot was lost".to_owned()));
    assert_eq!(
        tell(&mut client, &status).len(),
        1,
        "the same reason, and yet another time"
    );
}
