//! Arbitrary clients, verifiers and feeds: nothing panics, and no join is answered twice.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::change::{StreamState, StreamStatus};
use crate::feed::{AuthorityError, SubscribeError};
use crate::messages::MessagesError;

#[derive(Clone, Debug)]
enum Step {
    Client {
        topic: usize,
        event: usize,
        payload: usize,
        stale: bool,
    },
    /// Finish the n-th effect under way, well or badly.
    Finish {
        which: usize,
        outcome: usize,
    },
    /// The feed goes live, but the session hears of it later.
    FeedSends {
        which: usize,
    },
    Pass {
        millis: u64,
    },
    Stream {
        state: usize,
    },
}

const TOPICS: [&str; 4] = ["realtime:a", "realtime:b", "realtime:public:t", "phoenix"];
const EVENTS: [&str; 7] = [
    "phx_join",
    "phx_join",
    "phx_leave",
    "access_token",
    "broadcast",
    "presence",
    "heartbeat",
];

fn payloads() -> [Value; 10] {
    [
        json!({"config": {}}),
        json!({"config": one_binding()}),
        json!({"config": {"postgres_changes": [{"table": "t", "snapshot": true}]}}),
        json!({"config": {"postgres_changes": [{"table": "t"}], "postgres_changes_options": {"wait": true, "timeout": 900}}}),
        json!({"access_token": "other"}),
        json!({"config": {"private": true}}),
        json!({}),
        json!({"config": {"private": true, "presence": {"enabled": true}, "broadcast": {"ack": true, "replay": {"since": 1}},
               "postgres_changes": [{"table": "t"}]}}),
        json!({"type": "presence", "event": "track", "payload": {"a": 1}}),
        json!({"type": "broadcast", "event": "e", "payload": {}}),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..TOPICS.len(), 0..EVENTS.len(), 0..10usize, any::<bool>())
            .prop_map(|(topic, event, payload, stale)| Step::Client { topic, event, payload, stale }),
        4 => (any::<usize>(), 0..4usize).prop_map(|(which, outcome)| Step::Finish { which, outcome }),
        1 => any::<usize>().prop_map(|which| Step::FeedSends { which }),
        1 => (0..9_000u64).prop_map(|millis| Step::Pass { millis }),
        1 => (0..4usize).prop_map(|state| Step::Stream { state }),
    ]
}

#[derive(Default)]
struct World {
    under_way: Vec<Effect>,
    replies: HashMap<String, usize>,
    joins: Vec<String>,
}

impl World {
    fn step(&mut self, client: &mut Client, number: usize, step: &Step) {
        let effects = match *step {
            Step::Client {
                topic,
                event,
                payload,
                stale,
            } => {
                let reference = number.to_string();
                let join_ref = if stale {
                    "stale".to_owned()
                } else {
                    reference.clone()
                };
                if EVENTS[event] == "phx_join" {
                    self.joins.push(reference.clone());
                }
                let payload = payloads()[payload].clone();
                client.send(json!([
                    join_ref,
                    reference,
                    TOPICS[topic],
                    EVENTS[event],
                    payload
                ]))
            }
            Step::Finish { which, outcome } => self.finish(client, which, outcome),
            Step::FeedSends { which } => {
                if let Some(Effect::Subscribe(request)) = pick(&self.under_way, which) {
                    client.feed_sends(request);
                }
                Vec::new()
            }
            Step::Pass { millis } => client.pass(Duration::from_millis(millis)),
            Step::Stream { state } => {
                client.session.stream(&StreamStatus::from(
                    [
                        StreamState::Starting,
                        StreamState::Live,
                        StreamState::Interrupted("x".to_owned()),
                        StreamState::Reset("y".to_owned()),
                    ][state]
                        .clone(),
                ));
                Vec::new()
            }
        };
        self.under_way.extend(effects);
        for frame in client.frames() {
            if frame[3] == "phx_reply" {
                *self
                    .replies
                    .entry(frame[1].as_str().unwrap_or("null").to_owned())
                    .or_default() += 1;
            }
        }
    }

    fn finish(&mut self, client: &mut Client, which: usize, outcome: usize) -> Vec<Effect> {
        if self.under_way.is_empty() {
            return Vec::new();
        }
        let result = match outcome {
            0 | 1 => Ok(()),
            2 => Err(SubscribeError::Refused("no".to_owned())),
            _ => Err(SubscribeError::Unavailable("later".to_owned())),
        };
        match self.under_way.remove(which % self.under_way.len()) {
            Effect::Verify { ticket, .. } => {
                let verdict = if outcome == 3 {
                    Err(TokenError::Malformed)
                } else {
                    Ok(claims("r"))
                };
                client.session.verified(ticket, verdict, client.now)
            }
            Effect::Subscribe(request) => {
                let outcome = match (&request.snapshot, result) {
                    (_, Err(error)) => Err(error),
                    (Some(SnapshotStep::Take { reply, .. }), Ok(())) => {
                        client.feed_takes(&request, reply);
                        Ok(Subscribed::Sending(Sending::nothing()))
                    }
                    (_, Ok(())) => {
                        client.feed_sends(&request);
                        Ok(Subscribed::Live)
                    }
                };
                client
                    .session
                    .subscribed(request.subscriber.id, outcome, client.now)
            }
            Effect::Judge { ticket, wanted, .. } => {
                let rights = match outcome {
                    0 => Ok(wanted),
                    1 => Ok(wanted & Rights::READ_BROADCAST),
                    2 => Ok(Rights::NONE),
                    _ => Err(AuthorityError::Canceled),
                };
                client.session.judged(ticket, rights, client.now)
            }
            Effect::FollowRights(id) => {
                let rights = [
                    Rights::READ,
                    Rights::READ_BROADCAST,
                    Rights::NONE,
                    Rights::READ_PRESENCE,
                ];
                client.session.rights_changed(id, rights[outcome], client.now)
            }
            Effect::Replay { id, .. } => {
                let stored = match outcome {
                    0..=2 => Ok(Vec::new()),
                    _ => Err(MessagesError::Canceled),
                };
                client.session.replayed(id, stored, client.now)
            }
            Effect::Persist { id, .. } => {
                let row = match outcome {
                    0..=2 => Ok(uuid::Uuid::nil()),
                    _ => Err(MessagesError::Canceled),
                };
                client.session.persisted(id, row, client.now)
            }
            Effect::ReplaceClaims { id, .. } => client.session.claims_replaced(id, result, client.now),
            Effect::NewerClaims { .. }
            | Effect::Unsubscribe(_)
            | Effect::ForgetRights(_)
            | Effect::Close(_) => Vec::new(),
        }
    }
}

fn pick(effects: &[Effect], which: usize) -> Option<&Effect> {
    effects.get(which.checked_rem(effects.len())?)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_join_is_answered_twice(steps in proptest::collection::vec(step(), 1..60), delay in 0..2u64) {
        let limits = Limits { join_error_delay: Duration::from_secs(delay), ..Limits::default() };
        let mut client = Client::with(limits, Version::V2);
        let mut world = World::default();
        for (number, step) in steps.iter().enumerate() {
            world.step(&mut client, number, step);
            let wake = client.session.next_wake(client.now);
            prop_assert!(wake <= client.now.instant + Duration::from_secs(60));
        }
        for join in &world.joins {
            prop_assert!(world.replies.get(join).copied().unwrap_or(0) <= 1, "join {} of {:?}", join, steps);
        }
        let joined = client.metrics.channels.get();
        prop_assert!((0..=3).contains(&joined));
        client.session.end();
        prop_assert_eq!(client.metrics.channels.get(), 0);
    }
}
