//! Who comes back hears what was said meanwhile.

use super::*;

fn returning(outbox: &Outbox, who: u64, since: Option<Since>) -> Entry {
    Entry {
        returns: Some(Return {
            who: Some(who),
            since,
            cursors: false,
        }),
        ..entry(outbox, "k")
    }
}

fn place(house: &House, member: &Member) -> Since {
    Since {
        instance: house.rooms.instance(),
        number: member.place(),
        stream: None,
    }
}

fn events(outbox: &Outbox) -> Vec<String> {
    let event = |frame: Value| frame[4]["event"].as_str().unwrap().to_owned();
    texts(outbox).into_iter().map(event).collect()
}

/// Waits until no room is left.
async fn forgotten(house: &House) {
    let gone = async {
        while house.rooms.0.len() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, gone).await.expect("it forgets");
}

fn publish(house: &House, event: &str) {
    house
        .rooms
        .publish(&name("realtime:a"), &said(event), Origin::Client(None));
}

#[tokio::test]
async fn what_was_said_meanwhile_comes_before_what_is_new_and_with_its_place() {
    let house = House::new();
    let outbox = outbox();
    let member = house.enter("realtime:a", returning(&outbox, 1, None));
    publish(&house, "one");
    let at = place(&house, &member);
    drop(member);
    publish(&house, "two");
    publish(&house, "three");
    frames(&outbox);
    let reply = HeldFrame::new(frame("[null,null,\"t\",\"e\",{\"event\":\"reply\"}]"));
    let back = house.enter(
        "realtime:a",
        Entry {
            reply: Some(reply.clone()),
            ..returning(&outbox, 1, Some(at))
        },
    );
    publish(&house, "four");
    reply.send(&outbox);
    back.open();
    publish(&house, "five");
    assert_eq!(back.missed(), None);
    let heard = texts(&outbox);
    let cursor = |i: usize| heard[i][4]["meta"]["cursor"].as_str().map(str::to_owned);
    let of = |number| Since { number, ..at }.to_string();
    assert_eq!(
        (cursor(1), cursor(2), cursor(3)),
        (Some(of(2)), Some(of(3)), None)
    );
    let said: Vec<_> = heard
        .iter()
        .map(|frame| frame[4]["event"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["reply", "two", "three", "four", "five"]);
    assert_eq!(of(3).parse::<Since>().unwrap().number, 3);
}

#[tokio::test]
async fn what_somebody_said_itself_does_not_come_back_to_it() {
    let house = House::new();
    let (first, second) = (outbox(), outbox());
    let one = house.enter("realtime:a", returning(&first, 1, None));
    let two = house.enter("realtime:a", returning(&second, 2, None));
    let (at_one, at_two) = (place(&house, &one), place(&house, &two));
    one.publish(&said("mine"));
    two.publish(&said("yours"));
    drop((one, two));
    frames(&first);
    frames(&second);
    let _one = house.enter("realtime:a", returning(&first, 1, Some(at_one)));
    assert_eq!(events(&first), ["yours"]);
    let own = Entry {
        own: true,
        ..returning(&second, 2, Some(at_two))
    };
    let _two = house.enter("realtime:a", own);
    assert_eq!(events(&second), ["mine", "yours"]);
}

#[tokio::test]
async fn who_stays_away_too_long_is_told_and_nothing_stays_behind() {
    let house = House::keeping(Duration::from_millis(50));
    let outbox = outbox();
    let member = house.enter("realtime:a", returning(&outbox, 1, None));
    let at = place(&house, &member);
    drop(member);
    publish(&house, "one");
    forgotten(&house).await;
    assert_eq!(house.metrics.kept_broadcast_bytes.get(), 0);
    let other = house.enter("realtime:a", entry(&super::outbox(), "k"));
    publish(&house, "two");
    let back = house.enter("realtime:a", returning(&outbox, 1, Some(at)));
    assert_eq!(back.missed(), Some(Missed::TooOld));
    drop((other, back));
    forgotten(&house).await;
    house.close().await;
}

#[tokio::test]
async fn rooms_without_anybody_who_comes_back_keep_nothing() {
    let house = House::new();
    let outbox = outbox();
    let member = house.enter("realtime:a", entry(&outbox, "k"));
    publish(&house, "one");
    assert_eq!(house.metrics.kept_broadcast_bytes.get(), 0);
    drop(member);
    house.close().await;
}

#[tokio::test]
async fn what_the_database_said_is_said_again_by_the_next_server_to_those_who_missed_it() {
    let house = House::new();
    let cursor = |commit| crate::change::Cursor {
        epoch: crate::change::Epoch(1),
        position: crate::change::Position::behind(crate::change::Lsn(commit)),
    };
    let say = |event, commit, again| {
        let origin = Origin::Stream {
            commit: crate::change::Lsn(commit),
            again,
        };
        house.rooms.publish(&name("realtime:a"), &said(event), origin)
    };
    let lineage = crate::change::Lineage::new(cursor(0).epoch);
    house.rooms.follow(std::sync::Arc::new(lineage));
    // The next run reads the window again before anybody is there, and some of it after.
    say("known", 10, true);
    say("missed", 20, true);
    let (old, new) = (outbox(), outbox());
    let since = Since {
        instance: house.rooms.instance() ^ 1,
        number: 7,
        stream: Some(cursor(10)),
    };
    let back = house.enter("realtime:a", returning(&old, 1, Some(since)));
    let fresh = house.enter("realtime:a", entry(&new, "k"));
    say("missed too", 30, true);
    say("new", 40, false);
    assert_eq!(back.missed(), Some(Missed::Instance));
    let heard = texts(&old);
    let placed = |n: usize| heard[n][4]["meta"]["cursor"].is_string();
    let events_heard: Vec<&Value> = heard.iter().map(|frame| &frame[4]["event"]).collect();
    assert_eq!(events_heard, ["missed", "missed too", "new"]);
    assert!(
        placed(0) && placed(1) && !placed(2),
        "the one before may have said it to the same: {heard:?}"
    );
    assert_eq!(events(&new), ["new"]);
    drop((back, fresh));
}

/// The database failed over at 15. Who was behind that saw what is gone, and has everything else up to there.
#[tokio::test]
async fn places_of_a_history_that_the_database_left_are_understood() {
    use crate::change::{Cursor, Epoch, Lineage, Lsn, Position};
    let house = House::new();
    let lineage = Lineage::new(Epoch(2)).from(Epoch(1), Lsn(15));
    house.rooms.follow(std::sync::Arc::new(lineage));
    let outboxes: Vec<_> = [(1, 9), (1, 12), (1, 25), (2, 25), (3, 0)]
        .into_iter()
        .map(|(epoch, commit)| {
            let stream = Cursor {
                epoch: Epoch(epoch),
                position: Position::behind(Lsn(commit)),
            };
            let since = Since {
                instance: house.rooms.instance() ^ 1,
                number: 7,
                stream: Some(stream),
            };
            let outbox = outbox();
            let member = house.enter("realtime:a", returning(&outbox, commit, Some(since)));
            (outbox, member)
        })
        .collect();
    for (event, commit) in [("first", 10), ("second", 20), ("third", 30)] {
        let origin = Origin::Stream {
            commit: Lsn(commit),
            again: true,
        };
        house.rooms.publish(&name("realtime:a"), &said(event), origin);
    }
    let heard: Vec<_> = outboxes.iter().map(|(outbox, _)| events(outbox)).collect();
    assert_eq!(heard[0], ["first", "second", "third"]);
    assert_eq!(heard[1], ["second", "third"]);
    assert_eq!(heard[2], ["second", "third"], "its second one is gone");
    assert_eq!(heard[3], ["third"]);
    assert!(heard[4].is_empty(), "of another database");
}

#[tokio::test]
async fn memory_is_bounded_and_the_oldest_go_first() {
    let house = House::new();
    let outbox = outbox();
    let member = house.enter("realtime:a", returning(&outbox, 1, None));
    let at = place(&house, &member);
    let long = "x".repeat(1000);
    for _ in 0..2000 {
        publish(&house, &long);
    }
    assert!(house.metrics.kept_broadcast_bytes.get() <= 1 << 20);
    let middle = place(&house, &member);
    publish(&house, "last");
    drop(member);
    frames(&outbox);
    let back = house.enter("realtime:a", returning(&outbox, 1, Some(at)));
    assert_eq!(back.missed(), Some(Missed::TooOld));
    assert!(frames(&outbox).len() > 500);
    drop(back);
    let back = house.enter("realtime:a", returning(&outbox, 1, Some(middle)));
    assert_eq!((back.missed(), events(&outbox)), (None, vec!["last".to_owned()]));
}

#[test]
fn places_are_texts() {
    for text in ["1f-0", "0-ffffffffffffffff", "1-2@5-16b3748"] {
        assert_eq!(text.parse::<Since>().unwrap().to_string(), text);
    }
    for text in [
        "", "1", "-", "1-", "x-1", "1-2-3", "1-2@", "1-2@x", "+1-2", "1-+2", "1 -2",
    ] {
        assert!(text.parse::<Since>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_place_in_a_room_that_is_no_more_is_no_place_in_the_next() {
    let house = House::new();
    let outbox = outbox();
    let member = house.enter("realtime:a", entry(&outbox, "k"));
    publish(&house, "one");
    let at = place(&house, &member);
    // Nobody can come back here, so the room ends at once.
    drop(member);
    assert_eq!(house.rooms.0.len(), 0);
    let others = house.enter("realtime:a", entry(&outbox, "k"));
    publish(&house, "two");
    let back = house.enter("realtime:a", returning(&outbox, 1, Some(at)));
    assert_eq!(back.missed(), Some(Missed::TooOld));
    drop((others, back));
}

#[tokio::test]
async fn more_than_is_kept_for_one_who_waits_for_its_reply_is_not_lost() {
    let house = House::new();
    let outbox = outbox();
    let member = house.enter("realtime:a", returning(&outbox, 1, None));
    let at = place(&house, &member);
    drop(member);
    publish(&house, "missed");
    frames(&outbox);
    let reply = HeldFrame::new(frame("[null,null,\"t\",\"e\",{\"event\":\"reply\"}]"));
    let back = house.enter(
        "realtime:a",
        Entry {
            reply: Some(reply.clone()),
            ..returning(&outbox, 1, Some(at))
        },
    );
    let many: Vec<String> = (0..1_500).map(|n| format!("said {n}")).collect();
    for event in &many {
        publish(&house, event);
    }
    reply.send(&outbox);
    assert_eq!(back.open(), None);
    let heard = events(&outbox);
    assert_eq!(heard[..2], ["reply", "missed"]);
    assert_eq!(heard[2..], many);
}
