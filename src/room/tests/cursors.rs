//! Members that keep their place themselves are told it with everything they hear.

use super::*;
use crate::change::{Cursor, Epoch, Lineage, Lsn, Position};

fn keeping(outbox: &Outbox, since: Option<Since>) -> Entry {
    Entry {
        returns: Some(Return {
            who: None,
            since,
            cursors: true,
        }),
        ..entry(outbox, "k")
    }
}

fn publish(house: &House, event: &str) {
    house
        .rooms
        .publish(&name("realtime:a"), &said(event), Origin::Client(None));
}

/// Events with their places.
fn placed(outbox: &Outbox) -> Vec<(String, Option<Since>)> {
    let one = |frame: &Value| {
        let cursor = frame[4]["meta"]["cursor"].as_str();
        let event = frame[4]["event"].as_str().unwrap().to_owned();
        (event, cursor.map(|text| text.parse().unwrap()))
    };
    texts(outbox).iter().map(one).collect()
}

fn events(outbox: &Outbox) -> Vec<String> {
    placed(outbox).into_iter().map(|(event, _)| event).collect()
}

fn notice() -> Frame {
    frame(r#"[null,null,"t","system",{"event":"notice"}]"#)
}

fn at(commit: u64) -> Cursor {
    Cursor {
        epoch: Epoch(1),
        position: Position::behind(Lsn(commit)),
    }
}

#[tokio::test]
async fn who_heard_live_ones_only_goes_on_behind_the_last() {
    let house = House::new();
    let (own, other) = (outbox(), outbox());
    let member = house.enter("realtime:a", keeping(&own, None));
    let beside = house.enter("realtime:a", entry(&other, "k"));
    publish(&house, "one");
    publish(&house, "two");
    let heard = placed(&own);
    assert_eq!(heard.len(), 2);
    let last = heard[1].1.expect("a place");
    assert_eq!(last.number, heard[0].1.expect("a place").number + 1);
    assert!(
        placed(&other).iter().all(|(_, place)| place.is_none()),
        "it has not asked"
    );
    drop(member);
    publish(&house, "three");
    let back = house.enter("realtime:a", keeping(&own, Some(last)));
    publish(&house, "four");
    assert_eq!(
        (back.missed(), events(&own)),
        (None, vec!["three".to_owned(), "four".to_owned()])
    );
    drop((back, beside));
}

#[tokio::test]
async fn those_with_places_share_one_frame_of_each_kind() {
    let house = House::new();
    let versions = [Version::V1, Version::V2, Version::V2Text];
    let outboxes: Vec<Outbox> = (0..12).map(|_| outbox()).collect();
    let members: Vec<Member> = outboxes
        .iter()
        .enumerate()
        .map(|(n, outbox)| {
            let version = versions[n % 3];
            let entry = match n < 6 {
                true => keeping(outbox, None),
                false => entry(outbox, "k"),
            };
            house.enter("realtime:a", Entry { version, ..entry })
        })
        .collect();
    let content = Content::Json {
        event: "e".into(),
        payload: "{}".into(),
        meta: None,
    };
    let broadcast = Broadcast { content, id: None };
    house
        .rooms
        .publish(&name("realtime:a"), &broadcast, Origin::Client(None));
    let data = |outbox: &Outbox| match frames(outbox).remove(0) {
        Frame::Text(text) => (text.as_ptr(), text.to_string()),
        Frame::Binary(bytes) => (bytes.as_ptr(), String::from_utf8_lossy(&bytes).into_owned()),
    };
    let got: Vec<_> = outboxes.iter().map(data).collect();
    for n in 0..3 {
        assert_eq!(got[n].0, got[n + 3].0, "encoded once with its place");
        assert_eq!(got[n + 6].0, got[n + 9].0, "and once without");
        assert!(got[n].1.contains("cursor") && !got[n + 6].1.contains("cursor"));
    }
    assert!(
        got[1].1.starts_with('\u{4}'),
        "a binary frame has metadata as well"
    );
    drop(members);
}

#[tokio::test]
async fn who_begins_has_a_place_before_it_hears_anything() {
    let house = House::new();
    let own = outbox();
    publish(&house, "before");
    let reply = HeldFrame::new(frame(r#"[null,null,"t","e",{"event":"reply"}]"#));
    let member = house.enter(
        "realtime:a",
        Entry {
            reply: Some(reply.clone()),
            ..keeping(&own, None)
        },
    );
    member.announce(notice());
    publish(&house, "meanwhile");
    reply.send(&own);
    publish(&house, "too early");
    assert_eq!(member.open(), None);
    let order = ["reply", "notice", "meanwhile", "too early"];
    assert_eq!(events(&own), order);
    let began = member.entered();
    drop(member);
    let back = house.enter("realtime:a", keeping(&own, Some(began)));
    assert_eq!(
        (back.missed(), events(&own)),
        (None, vec!["meanwhile".to_owned(), "too early".to_owned()])
    );
}

#[tokio::test]
async fn what_became_of_the_past_is_told_behind_it() {
    let house = House::new();
    let own = outbox();
    let member = house.enter("realtime:a", keeping(&own, None));
    let left = member.entered();
    drop(member);
    publish(&house, "missed");
    let reply = HeldFrame::new(frame(r#"[null,null,"t","e",{"event":"reply"}]"#));
    let back = house.enter(
        "realtime:a",
        Entry {
            reply: Some(reply.clone()),
            ..keeping(&own, Some(left))
        },
    );
    back.announce(notice());
    publish(&house, "new");
    reply.send(&own);
    back.open();
    let heard = placed(&own);
    let order: Vec<&str> = heard.iter().map(|(event, _)| &**event).collect();
    assert_eq!(order, ["reply", "missed", "notice", "new"]);
    assert_eq!(
        heard[1].1,
        Some(back.entered()),
        "the place behind what was missed"
    );
}

#[tokio::test]
async fn what_it_says_itself_has_a_place_as_well() {
    let house = House::new();
    let own = outbox();
    let member = house.enter(
        "realtime:a",
        Entry {
            own: true,
            ..keeping(&own, None)
        },
    );
    member.publish(&said("mine"));
    assert!(matches!(&placed(&own)[..], [(event, Some(_))] if event == "mine"));
}

#[tokio::test]
async fn a_place_says_how_far_the_database_was_to_the_next_server() {
    let (old, new) = (House::new(), House::new());
    for house in [&old, &new] {
        house.rooms.follow(Arc::new(Lineage::new(Epoch(1))));
    }
    let reached = Arc::new(std::sync::Mutex::new(5));
    let position = Arc::clone(&reached);
    old.rooms.locate(move || Some(at(*position.lock().unwrap())));
    let say = |house: &House, event: &str, commit, again| {
        let origin = Origin::Stream {
            commit: Lsn(commit),
            again,
        };
        house.rooms.publish(&name("realtime:a"), &said(event), origin);
    };
    let own = outbox();
    let member = old.enter("realtime:a", keeping(&own, None));
    say(&old, "heard", 10, false);
    *reached.lock().unwrap() = 10;
    publish(&old, "said");
    let heard = placed(&own);
    let streams: Vec<_> = heard.iter().map(|(_, place)| place.unwrap().stream).collect();
    assert_eq!(streams, [Some(at(5)), Some(at(10))]);
    drop(member);
    // What is given again tells the same.
    let from_first = old.enter("realtime:a", keeping(&own, heard[0].1));
    assert_eq!(placed(&own), heard[1..]);
    drop(from_first);
    say(&new, "heard", 10, true);
    say(&new, "missed", 20, true);
    let back = new.enter("realtime:a", keeping(&own, heard[1].1));
    assert_eq!(
        (back.missed(), events(&own)),
        (Some(Missed::Instance), vec!["missed".to_owned()])
    );
}
