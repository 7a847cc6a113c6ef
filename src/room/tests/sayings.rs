use super::*;

#[tokio::test]
async fn others_hear_it_and_the_sender_only_if_it_asked_to() {
    let house = House::new();
    let boxes: Vec<Outbox> = (0..3).map(|_| outbox()).collect();
    let quiet = house.enter("realtime:a", entry(&boxes[0], "0"));
    let echo = house.enter(
        "realtime:a",
        Entry {
            own: true,
            ..entry(&boxes[1], "1")
        },
    );
    // The same connection twice: it is the membership that is left out.
    let twice = house.enter("realtime:a", entry(&boxes[0], "0"));
    let elsewhere = house.enter("realtime:b", entry(&boxes[2], "2"));
    assert_eq!(quiet.publish(&said("one")), 2);
    assert_eq!(echo.publish(&said("two")), 3);
    assert_eq!(
        house
            .rooms
            .publish(&name("realtime:a"), &said("three"), Origin::Client(None)),
        3
    );
    assert_eq!(heard(&boxes[0]), ["one", "two", "two", "three", "three"]);
    assert_eq!(
        texts(&boxes[1])[1],
        json!([null, null, "realtime:a", "broadcast", {"type": "broadcast", "event": "two"}])
    );
    assert_eq!(heard(&boxes[2]), Vec::<String>::new());
    assert_eq!(house.metrics.broadcasts.get(), 3);
    assert_eq!(house.metrics.broadcast_deliveries.get(), 8);
    drop((quiet, echo, twice, elsewhere));
    house.close().await;
}

#[tokio::test]
async fn public_and_private_are_different_rooms() {
    let house = House::new();
    let (open, closed) = (outbox(), outbox());
    let private = RoomName {
        private: true,
        ..name("realtime:a")
    };
    let members = [
        house.enter("realtime:a", entry(&open, "0")),
        house.rooms.enter(private.clone(), entry(&closed, "1")),
    ];
    assert_eq!(house.metrics.rooms.get(), 2);
    assert_eq!(
        house
            .rooms
            .publish(&private, &said("secret"), Origin::Client(None)),
        1
    );
    assert_eq!(members[0].publish(&said("alone")), 0);
    assert_eq!(
        (heard(&open), heard(&closed)),
        (Vec::new(), vec!["secret".to_owned()])
    );
    drop(members);
    assert_eq!(
        house
            .rooms
            .publish(&private, &said("to nobody"), Origin::Client(None)),
        0
    );
    house.close().await;
}

#[tokio::test]
async fn each_serialiser_gets_its_own_frame_and_shares_its_bytes() {
    let house = House::new();
    let boxes: Vec<Outbox> = (0..4).map(|_| outbox()).collect();
    let version = |at: usize| if at < 2 { Version::V1 } else { Version::V2 };
    let enter = |(at, outbox)| {
        let version = version(at);
        house.enter(
            "realtime:a",
            Entry {
                version,
                ..entry(outbox, "k")
            },
        )
    };
    let _members: Vec<Member> = boxes.iter().enumerate().map(enter).collect();
    let event = || "e".into();
    let (json, bytes) = (
        Content::Json {
            event: event(),
            payload: "{}".into(),
            meta: None,
        },
        Content::Binary {
            event: event(),
            payload: vec![0, 255].into(),
            meta: None,
        },
    );
    let publish = |content| {
        house.rooms.publish(
            &name("realtime:a"),
            &Broadcast { content, id: None },
            Origin::Client(None),
        )
    };
    assert_eq!(publish(json), 4);
    assert_eq!(publish(bytes), 2, "version 1 has no frame for bytes");
    let frames: Vec<Vec<Frame>> = boxes.iter().map(frames).collect();
    assert_eq!((frames[0].len(), frames[2].len()), (1, 2));
    assert_eq!(
        text(&frames[0][0]),
        json!({"topic": "realtime:a", "event": "broadcast", "ref": null,
            "payload": {"event": "e", "payload": {}, "type": "broadcast"}})
    );
    for (one, other) in [(0, 1), (2, 3)] {
        let address = |frame: &Frame| match frame {
            Frame::Text(text) => text.as_str().as_ptr(),
            Frame::Binary(bytes) => bytes.as_ptr(),
        };
        assert_eq!(frames[one], frames[other]);
        assert_eq!(address(&frames[one][0]), address(&frames[other][0]));
    }
}

#[tokio::test]
async fn who_may_not_hear_or_is_gone_is_passed_over() {
    let house = House::new();
    let (deaf, gone, ended) = (outbox(), outbox(), outbox());
    let lane = Lane::new(&ended);
    let members = [
        house.enter(
            "realtime:a",
            Entry {
                hears: Hears::default(),
                ..entry(&deaf, "0")
            },
        ),
        house.enter("realtime:a", entry(&gone, "1")),
        house.enter(
            "realtime:a",
            Entry {
                lane: lane.clone(),
                ..entry(&ended, "2")
            },
        ),
    ];
    gone.close();
    lane.end();
    assert_eq!(
        house
            .rooms
            .publish(&name("realtime:a"), &said("one"), Origin::Client(None)),
        0
    );
    members[0].hear(ALL);
    assert_eq!(
        house
            .rooms
            .publish(&name("realtime:a"), &said("two"), Origin::Client(None)),
        1
    );
    assert_eq!(heard(&deaf), ["two"]);
    assert_eq!(frames(&ended), []);
}

#[tokio::test]
async fn everybody_hears_everything_in_one_order() {
    let house = House::new();
    let listeners: Vec<Outbox> = (0..3).map(|_| outbox()).collect();
    let enter = |outbox| house.enter("realtime:a", entry(outbox, "k"));
    let _members: Vec<Member> = listeners.iter().map(enter).collect();
    std::thread::scope(|scope| {
        for speaker in 0..3 {
            let house = &house;
            scope.spawn(move || {
                let member = house.enter("realtime:a", entry(&outbox(), "s"));
                for nth in 0..300 {
                    member.publish(&said(&format!("{speaker}:{nth}")));
                }
            });
        }
    });
    let heard: Vec<Vec<String>> = listeners.iter().map(heard).collect();
    assert!(heard.iter().all(|one| one.len() == 900 && *one == heard[0]));
    for speaker in 0..3 {
        let own = |event: &&String| event.starts_with(&format!("{speaker}:"));
        let expected: Vec<String> = (0..300).map(|nth| format!("{speaker}:{nth}")).collect();
        assert!(heard[0].iter().filter(own).eq(&expected));
    }
}

#[tokio::test]
async fn rooms_come_and_go_under_those_who_speak() {
    let house = House::new();
    let stays = outbox();
    let member = house.enter("realtime:stays", entry(&stays, "s"));
    std::thread::scope(|scope| {
        for nth in 0..4 {
            let house = &house;
            scope.spawn(move || {
                for round in 0..500 {
                    let own = outbox();
                    let topic = if round % 2 == 0 {
                        "realtime:a"
                    } else {
                        "realtime:stays"
                    };
                    let member = house.enter(
                        topic,
                        Entry {
                            own: true,
                            ..entry(&own, "k")
                        },
                    );
                    member.track(&payload(&json!({ "nth": nth }))).unwrap();
                    assert!(member.publish(&said("mine")) > 0);
                    house
                        .rooms
                        .publish(&name("realtime:a"), &said("from outside"), Origin::Client(None));
                    assert!(heard(&own).contains(&"mine".to_owned()));
                    drop(member);
                    frames(&own);
                    house
                        .rooms
                        .publish(&name(topic), &said("to those who stay"), Origin::Client(None));
                    assert_eq!(frames(&own), []);
                }
            });
        }
    });
    let mine = heard(&stays).iter().filter(|event| *event == "mine").count();
    assert_eq!(mine, 4 * 250);
    drop(member);
    house.close().await;
}

#[tokio::test]
async fn who_comes_while_the_last_one_leaves_is_in_the_next_room() {
    let house = House::new();
    let registry = &house.rooms.0;
    let (first, second) = (outbox(), outbox());
    let (closing, at, _) = registry.enter(&name("realtime:a"), Seat::new(entry(&first, "a")));
    assert!(closing.leave(at), "the last one");
    let member = house.enter("realtime:a", entry(&second, "b"));
    registry.forget(&closing);
    assert_eq!(
        house
            .rooms
            .publish(&name("realtime:a"), &said("here"), Origin::Client(None)),
        1
    );
    assert_eq!(
        (heard(&second), frames(&first)),
        (vec!["here".to_owned()], vec![])
    );
    drop(member);
    house.close().await;
}
