//! Clients that another server knew.

use super::*;
use crate::session::{Place, TopicPlace};

const TOPIC: &str = "realtime:a";

fn known(rows: Option<&str>, private: bool) -> Place {
    let room = crate::room::Since {
        instance: 1,
        number: 2,
        stream: None,
    };
    let topic = TopicPlace {
        private,
        shape: None,
        rows: rows.map(|cursor| cursor.parse().unwrap()),
        room: Some(room),
    };
    Place {
        channels: [(stay(TOPIC), topic)].into(),
    }
}

/// What a join to `topic` is told of the past.
fn told(place: Place, recalled: bool, topic: &str, config: Value) -> Vec<String> {
    let mut client = Client::new();
    client.session.returns(Returning {
        place: Some(place),
        recalled,
        ..Returning::default()
    });
    let request = request(client.admit(topic, "1", config));
    client.go_live(&request);
    let resume = |frame: &Value| frame[4]["extension"] == "resume";
    let frames = client.frames();
    let told = frames.iter().filter(|frame| resume(frame));
    told.map(|frame| frame[4]["message"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_another_server_may_not_have_written_any_more_is_told() {
    let place = || known(Some("5-10"), false);
    let lost = |told: &[String]| {
        let is = |text: &String| text.starts_with("resync: the server was replaced, and this channel");
        told.iter().filter(|text| is(text)).count() == 1
    };
    assert!(!lost(&told(place(), true, TOPIC, one_binding())), "it is known");
    assert!(lost(&told(place(), true, "realtime:b", one_binding())));
    assert!(
        !lost(&told(place(), false, "realtime:b", one_binding())),
        "it began on this server"
    );
    assert!(
        lost(&told(known(None, false), true, TOPIC, one_binding())),
        "its rows are not"
    );
    let nowhere = told(known(None, false), false, TOPIC, one_binding());
    assert!(
        nowhere[0].starts_with("resync: where the session was in this channel"),
        "its connection was lost before rows flowed: {nowhere:?}"
    );
    assert!(
        lost(&told(known(Some("5-10"), true), true, TOPIC, one_binding())),
        "another channel of the name is"
    );
    let mut says = one_binding();
    says["since"] = json!("5-20");
    says["broadcast"] = json!({"since": "1-2"});
    assert!(
        !lost(&told(place(), true, "realtime:b", says)),
        "it knows by itself"
    );
}

/// Where its rows go on from, should the connection be lost now.
fn rows_of(client: &Client) -> Option<String> {
    let place = client.session.place();
    Some(place.channels.get(&stay(TOPIC))?.rows?.to_string())
}

#[test]
fn whoever_is_given_what_it_missed_comes_further_by_it() {
    let mut client = Client::new();
    client.session.returns(Returning {
        place: Some(known(Some("5-10"), false)),
        ..Returning::default()
    });
    let request = request(client.admit(TOPIC, "1", one_binding()));
    let lane = &request.subscriber.outbox;
    if let Some(reply) = &request.reply {
        reply.send(lane.outbox());
    }
    assert_eq!(rows_of(&client).as_deref(), Some("5-10"));
    lane.reach("5-20-1-0".parse().unwrap());
    assert_eq!(rows_of(&client).as_deref(), Some("5-20-1-0"));
    // Some of that is not in the outbox.
    let mut gathered = crate::hub::Hold::new(lane);
    let first = "5-18-1-1".parse::<crate::change::Cursor>().unwrap();
    gathered.set(1, 1, Some(first.position)).unwrap();
    lane.reach("5-30-1-0".parse().unwrap());
    assert_eq!(rows_of(&client).as_deref(), Some("5-18-1-0"));
    gathered.set(0, 0, None).unwrap();
    assert_eq!(rows_of(&client).as_deref(), Some("5-30-1-0"));
    // Nothing more is known of its room by that.
    let place = client.session.place();
    assert_eq!(
        place.channels[&stay(TOPIC)].room,
        known(None, false).channels[&stay(TOPIC)].room
    );
    client
        .session
        .subscribed(request.subscriber.id, Ok(Subscribed::Live), client.now);
    assert_ne!(
        rows_of(&client).as_deref(),
        Some("5-30-1-0"),
        "it is where the feed is"
    );
}
