use super::*;
use crate::presence::model::Client;
use crate::room::telling::interval;

const CROWD: usize = 1_000;
const LATE: usize = 100;

#[test]
fn large_rooms_are_told_less_often() {
    assert_eq!(interval(6), Duration::ZERO);
    assert_eq!(interval(1_000), Duration::from_millis(50));
    assert_eq!(interval(10_000), Duration::from_millis(500));
    assert_eq!(interval(1_000_000), Duration::from_millis(1_500));
}

/// What a client makes of these frames.
fn view(frames: &[Frame]) -> Client {
    let mut client = Client::default();
    for (nth, frame) in frames.iter().map(text).enumerate() {
        match frame[3].as_str() {
            Some("presence_state") if nth == 0 => client.state(&frame[4]),
            Some("presence_diff") if nth > 0 => client.diff(&frame[4]),
            _ => panic!("not here: {frame}"),
        }
    }
    client
}

/// Waits until somebody knows of so many; returns all frames that it took.
async fn until_present(outbox: &Outbox, mut seen: Vec<Frame>, present: usize) -> Vec<Frame> {
    let told = async {
        while view(&seen).everybody().len() != present {
            match outbox.drain().await {
                Drained::Frames(frames) => seen.extend(frames),
                Drained::Overflowed => panic!("too much for an outbox without bounds"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .expect("everybody is told in the end");
    seen
}

#[tokio::test]
async fn a_thousand_come_and_go_and_all_know_the_same() {
    let house = House::new();
    let boxes: Vec<Outbox> = (0..CROWD).map(|_| outbox()).collect();
    let enter = |nth: usize| {
        let entry = Entry {
            wants_state: true,
            ..entry(&boxes[nth], &format!("k{}", nth / 2))
        };
        house.enter("realtime:a", entry)
    };
    let mut members: Vec<Member> = (0..CROWD - LATE).map(enter).collect();
    for nth in 0..CROWD {
        if nth >= CROWD - LATE {
            members.push(enter(nth));
        }
        members[nth].track(&payload(&json!({ "nth": nth }))).unwrap();
    }
    let seen = until_present(&boxes[0], Vec::new(), CROWD).await;
    members.truncate(CROWD / 2);
    let seen = until_present(&boxes[0], seen, CROWD / 2).await;

    let everybody = view(&seen).everybody();
    let mut alike: HashMap<String, bool> = HashMap::new();
    for outbox in &boxes[1..CROWD / 2] {
        // They came before anybody was present, and their frames are the same.
        assert!(frames(outbox) == seen);
    }
    for (key, _, meta) in &everybody {
        let nth: Value = serde_json::from_str(meta).unwrap();
        let key_of = format!("k{}", nth["nth"].as_u64().unwrap() / 2);
        alike.insert(meta.clone(), *key == key_of);
    }
    assert!(alike.len() == CROWD / 2 && alike.into_values().all(|right| right));
    // Told one by one, 1,500 changes would be more than a million.
    let diffs = house.metrics.presence_diffs.get();
    assert!(diffs < 150_000, "{diffs} diffs");
    drop(members);
    house.close().await;
}

#[tokio::test]
async fn whoever_comes_while_others_change_knows_the_same_in_the_end() {
    let house = House::new();
    let boxes: Vec<Outbox> = (0..120).map(|_| outbox()).collect();
    let members = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for part in boxes.chunks(40) {
            let (house, members) = (&house, &members);
            scope.spawn(move || {
                for (nth, outbox) in part.iter().enumerate() {
                    let entry = Entry {
                        wants_state: true,
                        ..entry(outbox, &format!("k{}", nth % 7))
                    };
                    let member = house.enter("realtime:a", entry);
                    for value in 0..5 {
                        member
                            .track(&payload(&json!({"nth": nth, "value": value})))
                            .unwrap();
                        if (nth + value) % 3 == 0 {
                            member.untrack();
                        }
                    }
                    if nth % 4 != 0 {
                        members.lock().unwrap().push((member, outbox));
                    }
                }
            });
        }
    });
    let members = members.into_inner().unwrap();
    // Who ended with an untrack is not present: (nth + 4) % 3.
    let stay = (0..40).filter(|nth| nth % 4 != 0 && (nth + 4) % 3 != 0).count();
    let present = 3 * stay;
    assert_eq!(house.metrics.present.get(), present as i64);
    // One more change tells that everything before it has been told.
    let last = &members[0];
    last.0.track(&payload(&json!({"last": true}))).unwrap();
    let is_last = |frames: &[Frame]| {
        let everybody = view(frames).everybody();
        everybody.iter().any(|(_, _, meta)| meta.contains("last"))
    };
    let mut seen = frames(last.1);
    let told = async {
        while !is_last(&seen) {
            match last.1.drain().await {
                Drained::Frames(frames) => seen.extend(frames),
                Drained::Overflowed => panic!("too much for an outbox without bounds"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .expect("everybody is told in the end");
    let everybody = view(&seen).everybody();
    for (_, outbox) in &members[1..] {
        assert_eq!(view(&frames(outbox)).everybody(), everybody);
    }
    drop(members);
    house.close().await;
}
