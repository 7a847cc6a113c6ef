use super::*;

fn held(reply: &HeldFrame, outbox: &Outbox) -> Entry {
    Entry {
        reply: Some(reply.clone()),
        ..entry(outbox, "k")
    }
}

fn kept(reply: &HeldFrame, outbox: &Outbox, replayed: &[u128]) -> Entry {
    Entry {
        replayed: Some(replayed.iter().map(|id| Uuid::from_u128(*id)).collect()),
        ..held(reply, outbox)
    }
}

fn reply() -> HeldFrame {
    HeldFrame::new(frame(r#"["7","7","realtime:a","phx_reply",{}]"#))
}

#[tokio::test]
async fn before_the_reply_it_is_passed_over() {
    let house = House::new();
    let (reply, outbox) = (reply(), outbox());
    let member = house.enter("realtime:a", held(&reply, &outbox));
    let say = |event| {
        house
            .rooms
            .publish(&name("realtime:a"), &said(event), Origin::Client(None))
    };
    assert_eq!(say("early"), 0);
    assert!(reply.send(&outbox));
    assert_eq!(say("before the session knows"), 1);
    member.open();
    assert_eq!(say("late"), 1);
    assert_eq!(heard(&outbox), ["phx_reply", "before the session knows", "late"]);
}

#[tokio::test]
async fn who_is_refused_hears_nothing() {
    let house = House::new();
    for keep in [false, true] {
        let (reply, outbox) = (reply(), outbox());
        let entry = Entry {
            wants_state: true,
            ..if keep {
                kept(&reply, &outbox, &[])
            } else {
                held(&reply, &outbox)
            }
        };
        let _member = house.enter("realtime:a", entry);
        let other = house.enter("realtime:a", super::entry(&super::outbox(), "b"));
        assert!(reply.discard());
        other.publish(&said("secret"));
        other.track(&payload(&json!({}))).unwrap();
        assert_eq!(frames(&outbox), []);
    }
}

#[tokio::test]
async fn what_is_kept_comes_behind_what_was_replayed_and_not_again() {
    let house = House::new();
    let (reply, outbox) = (reply(), outbox());
    let member = house.enter(
        "realtime:a",
        Entry {
            wants_state: true,
            ..kept(&reply, &outbox, &[1])
        },
    );
    let publish = |broadcast| {
        house
            .rooms
            .publish(&name("realtime:a"), &broadcast, Origin::Client(None))
    };
    assert_eq!(publish(row("one", 1)), 0);
    assert_eq!(publish(row("two", 2)), 1);
    assert_eq!(publish(said("three")), 1);
    reply.send(&outbox);
    assert_eq!(publish(row("four", 4)), 1);
    member.replayed(vec![Uuid::from_u128(2)]);
    outbox
        .push(frame(
            r#"["7",null,"realtime:a","broadcast",{"event":"replayed"}]"#,
        ))
        .unwrap();
    member.open();
    assert_eq!(
        (
            publish(row("two", 2)),
            publish(row("one", 1)),
            publish(row("five", 5))
        ),
        (0, 0, 1)
    );
    assert_eq!(
        heard(&outbox),
        ["phx_reply", "replayed", "three", "four", "presence_state", "five"]
    );
    assert_eq!(house.metrics.broadcast_deliveries.get(), 3);
}

#[tokio::test]
async fn of_too_much_the_newest_is_kept() {
    let house = House::new();
    let large = "x".repeat(3 << 20);
    let many: Vec<String> = (0..1_030).map(|nth| nth.to_string()).collect();
    let two: Vec<String> = ["one", &large, "two", &large].map(str::to_owned).into();
    for (events, gone) in [(many, 6), (two, 2)] {
        let (reply, outbox) = (reply(), outbox());
        let member = house.enter("realtime:a", kept(&reply, &outbox, &[]));
        let before = house.metrics.broadcasts_dropped.get();
        for event in &events {
            assert_eq!(
                house
                    .rooms
                    .publish(&name("realtime:a"), &said(event), Origin::Client(None)),
                1
            );
        }
        assert_eq!(house.metrics.broadcasts_dropped.get() - before, gone as u64);
        reply.send(&outbox);
        member.open();
        assert_eq!(heard(&outbox)[1..], events[gone..]);
    }
}

#[tokio::test]
async fn what_it_may_not_hear_any_more_is_not_kept_for_it() {
    let house = House::new();
    let (reply, outbox) = (reply(), outbox());
    let member = house.enter("realtime:a", kept(&reply, &outbox, &[]));
    house
        .rooms
        .publish(&name("realtime:a"), &said("secret"), Origin::Client(None));
    member.hear(Hears {
        broadcasts: false,
        presence: true,
    });
    reply.send(&outbox);
    member.open();
    assert_eq!(heard(&outbox), ["phx_reply"]);
}

#[tokio::test]
async fn nothing_comes_before_the_reply_and_nothing_is_missing_after_it() {
    let house = House::new();
    for round in 0..200 {
        let (reply, outbox) = (reply(), outbox());
        let keep = round % 2 == 1;
        let entry = if keep {
            kept(&reply, &outbox, &[])
        } else {
            held(&reply, &outbox)
        };
        let member = house.enter("realtime:a", entry);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for nth in 0..50 {
                    house
                        .rooms
                        .publish(&name("realtime:a"), &said(&nth.to_string()), Origin::Client(None));
                }
            });
            std::thread::yield_now();
            reply.send(&outbox);
            member.open();
        });
        let heard = heard(&outbox);
        assert_eq!(heard[0], "phx_reply");
        let first = if keep { 0 } else { 51 - heard.len() };
        let expected: Vec<String> = (first..50).map(|nth| nth.to_string()).collect();
        assert_eq!(heard[1..], expected);
    }
}
