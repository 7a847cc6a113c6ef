//! A session id in the hands of another user, and clients whose user changes.

use super::*;
use crate::session::TopicPlace;

const TOPIC: &str = "realtime:a";
const RESUMED: &str = "resumed: nothing was missed";
const ANOTHERS: &str = "resync: the session was another user's";
const UNKNOWN: &str = "resync: this server does not know the session: it is new, or was away for too long";

fn of(sub: &str) -> Arc<Claims> {
    Arc::new(Claims {
        sub: Some(sub.into()),
        ..(*claims("authenticated")).clone()
    })
}

fn at(sub: &str, topic: &str) -> Stay {
    Stay {
        topic: topic.into(),
        user: of(sub).user(),
    }
}

fn known(rows: &str, room: u64) -> TopicPlace {
    TopicPlace {
        private: false,
        shape: None,
        rows: rows.parse().ok(),
        room: Some(crate::room::Since {
            instance: 1,
            number: room,
            stream: None,
        }),
    }
}

fn place<const N: usize>(channels: [(Stay, TopicPlace); N]) -> Place {
    Place {
        channels: channels.into(),
    }
}

fn cursor(text: &str) -> Option<Cursor> {
    Some(text.parse().unwrap())
}

impl Client {
    /// A connection of a session that was there.
    fn comes_back(place: Option<Place>) -> Self {
        let mut client = Self::new();
        client.session.returns(Returning {
            who: 7,
            place,
            ..Returning::default()
        });
        *client.position.lock().unwrap() = cursor("5-100");
        client
    }

    /// Joins as somebody.
    fn admit_as(&mut self, sub: &str, topic: &str, config: Value) -> Vec<Effect> {
        let ticket = ticket(&self.join(topic, "1", config));
        self.session.verified(ticket, Ok(of(sub)), self.now)
    }

    /// Gives a channel another token.
    fn becomes(&mut self, sub: &str) -> Vec<Effect> {
        let message = json!(["1", "9", TOPIC, "access_token", { "access_token": format!("of {sub} {}", self.session.tickets) }]);
        let ticket = ticket(&self.send(message));
        self.session.verified(ticket, Ok(of(sub)), self.now)
    }

    /// What was said of the past.
    fn told(&self) -> Vec<String> {
        let frames = self.frames();
        let resume = frames.iter().filter(|frame| frame[4]["extension"] == "resume");
        resume
            .map(|frame| frame[4]["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn whoever_uses_the_id_of_another_takes_nothing_and_moves_nothing() {
    let before = place([(at("ann", TOPIC), known("5-10", 3))]);
    let mut thief = Client::comes_back(Some(before.clone()));
    let request = request(thief.admit_as("ben", TOPIC, one_binding()));
    assert_eq!(request.since, None);
    thief.go_live(&request);
    assert_eq!(thief.told(), [ANOTHERS]);
    let after = thief.session.place();
    assert_eq!(after.channels[&at("ann", TOPIC)], known("5-10", 3));
    assert_eq!(after.channels[&at("ben", TOPIC)].rows, cursor("5-100"));
    thief.send(json!(["1", "2", TOPIC, "phx_leave", {}]));
    assert_eq!(thief.session.place(), before, "it leaves a channel of its own");
    // And who was robbed goes on.
    let mut owner = Client::comes_back(Some(after));
    let request = self::request(owner.admit_as("ann", TOPIC, one_binding()));
    assert_eq!(
        request.since.map(|since| since.to_string()).as_deref(),
        Some("5-10")
    );
}

#[test]
fn who_is_not_known_in_a_session_of_others_is_told_in_every_channel() {
    let others = || Some(place([(at("ben", TOPIC), known("5-10", 3))]));
    for (place, why) in [
        (others(), ANOTHERS),
        (Some(Place::default()), UNKNOWN),
        (None, UNKNOWN),
    ] {
        let mut client = Client::comes_back(place);
        for topic in [TOPIC, "realtime:b", "realtime:c"] {
            client.admit_as("ann", topic, json!({}));
            assert_eq!(client.told(), [why], "{topic}");
        }
    }
    // One who is begins new channels as ever.
    let mut client = Client::comes_back(others());
    client.admit_as("ben", "realtime:b", json!({}));
    assert!(client.told().is_empty());
    client.send(json!(["1", "2", "realtime:b", "phx_leave", {}]));
    let request = request(client.admit_as("ben", TOPIC, one_binding()));
    client.go_live(&request);
    client.send(json!(["1", "2", TOPIC, "phx_leave", {}]));
    client.frames();
    client.admit_as("ben", "realtime:c", json!({}));
    assert!(
        client.told().is_empty(),
        "also once it has left all that was known"
    );
}

#[test]
fn what_somebody_else_says_under_the_id_is_news_to_its_owner() {
    let mut thief = Client::comes_back(None);
    thief.admit_as("ben", TOPIC, json!({}));
    let rooms = thief.rooms.clone();
    let start = thief.session.place_in_room(TOPIC).unwrap();
    thief.broadcast(TOPIC, &json!({"type": "broadcast", "event": "forged"}));
    let hear = |sub: &str| {
        let outbox = Outbox::new(Bounds {
            frames: 10,
            bytes: 10_000,
        });
        let returning = Returning {
            who: 7,
            ..Returning::default()
        };
        let name = crate::room::RoomName {
            topic: TOPIC.into(),
            private: false,
        };
        let entry = crate::room::Entry {
            returns: Some(crate::room::Return {
                who: Some(returning.who(of(sub).user())),
                since: Some(start),
                cursors: false,
            }),
            ..crate::room::testing::listener(&outbox)
        };
        let _member = rooms.enter(name, entry);
        outbox.drain().now_or_never().is_some()
    };
    assert!(hear("ann") && !hear("ben"));
}

#[test]
fn a_channel_whose_user_changes_has_no_place_before_that_ones_rows_come() {
    let mut client = Client::comes_back(Some(place([(at("anon", TOPIC), known("5-10", 3))])));
    let request = request(client.admit_as("anon", TOPIC, one_binding()));
    client.go_live(&request);
    client.session.take_turns();
    client.frames();
    let replacing = client.becomes("ann");
    assert!(matches!(replacing[..], [Effect::ReplaceClaims { .. }]));
    let turns = client.session.take_turns();
    assert_eq!(turns[0], (at("anon", TOPIC), Turn::Left));
    assert!(
        turns[1].0 == at("ann", TOPIC) && matches!(&turns[1].1, Turn::Begun(here) if here.rows.is_none())
    );
    let rows = |client: &Client| {
        let place = client.session.place();
        assert!(!place.channels.contains_key(&at("anon", TOPIC)));
        place.channels[&at("ann", TOPIC)].rows
    };
    *client.position.lock().unwrap() = cursor("5-200");
    assert_eq!(rows(&client), None, "those of the other one may still come");
    client
        .session
        .claims_replaced(request.subscriber.id, Ok(()), client.now);
    *client.position.lock().unwrap() = cursor("5-300");
    assert_eq!(rows(&client), cursor("5-300"));
    assert!(client.told().is_empty(), "it hears that it is subscribed");
    // Another token of the same user changes nothing.
    client.becomes("ann");
    assert_eq!(rows(&client), cursor("5-300"));
    assert!(client.session.take_turns().is_empty());
}

#[test]
fn who_comes_before_what_another_missed_has_come_is_told() {
    for live in [false, true] {
        let mut client = Client::comes_back(Some(place([(at("ann", TOPIC), known("5-10", 3))])));
        let request = request(client.admit_as("ann", TOPIC, one_binding()));
        if live {
            // The feed is faster than the news of it.
            client.feed_sends(&request);
        }
        client.becomes("ben");
        client.go_live(&request);
        let told = client.told();
        assert_eq!(
            told.iter().filter(|text| *text == ANOTHERS).count(),
            1,
            "{told:?}"
        );
        assert!(!told.contains(&RESUMED.to_owned()));
    }
}

#[test]
fn a_channel_that_was_begun_as_somebody_else_is_told() {
    // The connection was lost before the token of its user was heard of.
    let known = place([
        (at("anon", TOPIC), known("5-10", 3)),
        (at("ann", "realtime:b"), known("5-10", 3)),
    ]);
    let mut client = Client::comes_back(Some(known));
    let request = request(client.admit_as("ann", TOPIC, one_binding()));
    client.go_live(&request);
    assert_eq!(client.told(), [ANOTHERS]);
}
