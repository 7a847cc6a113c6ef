use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::model::Client;
use super::*;

fn payload(value: &Value) -> Payload {
    Payload::parse(&to_raw_value(value).unwrap()).unwrap()
}

fn parse(text: &str) -> Option<Payload> {
    Payload::parse(&serde_json::from_str::<Box<serde_json::value::RawValue>>(text).unwrap())
}

fn track(presence: &mut Presence, who: u64, key: &str, value: Value) {
    presence.track(MemberId(who), &Arc::from(key), payload(&value));
}

fn diff(presence: &mut Presence) -> Value {
    serde_json::from_str(&presence.take_diff().expect("a diff")).unwrap()
}

fn state(presence: &mut Presence) -> Value {
    serde_json::from_str(&presence.state()).unwrap()
}

fn reference(presence: &Value, key: &str) -> String {
    presence[key]["metas"][0]["phx_ref"].as_str().unwrap().to_owned()
}

#[test]
fn who_comes_and_goes_is_told_and_known_by_one_ref() {
    let mut presence = Presence::default();
    assert_eq!((presence.take_diff(), state(&mut presence)), (None, json!({})));
    track(&mut presence, 1, "ä\"", json!({"at": [1], "on": "x"}));
    assert_eq!(state(&mut presence), json!({}), "not told yet");
    let joined = diff(&mut presence);
    let one = reference(&joined["joins"], "ä\"");
    assert_eq!(one.len(), 16);
    let meta = json!({"ä\"": {"metas": [{"phx_ref": one, "at": [1], "on": "x"}]}});
    assert_eq!(joined, json!({"joins": meta, "leaves": {}}));
    assert_eq!(state(&mut presence), meta);
    assert_eq!(presence.present(), 1);
    presence.untrack(MemberId(1));
    assert_eq!((state(&mut presence), presence.present()), (meta.clone(), 0));
    assert_eq!(diff(&mut presence), json!({"joins": {}, "leaves": meta}));
    assert_eq!(state(&mut presence), json!({}));
    assert!(presence.members.is_empty(), "nothing is remembered of them");
}

#[test]
fn an_update_names_the_ref_that_clients_know() {
    let mut presence = Presence::default();
    track(&mut presence, 1, "a", json!({"n": 1}));
    let first = reference(&diff(&mut presence)["joins"], "a");
    track(&mut presence, 1, "a", json!({"n": 2}));
    track(&mut presence, 1, "a", json!({"n": 3}));
    let update = diff(&mut presence);
    let last = reference(&update["joins"], "a");
    assert_ne!(first, last);
    let expected = json!({
        "joins": {"a": {"metas": [{"phx_ref": last, "phx_ref_prev": first, "n": 3}]}},
        "leaves": {"a": {"metas": [{"phx_ref": first, "n": 1}]}}});
    assert_eq!(update, expected);
    assert_eq!(presence.present(), 1);
}

#[test]
fn what_comes_to_nothing_is_not_told() {
    let mut presence = Presence::default();
    track(&mut presence, 1, "a", json!({"n": 1}));
    presence.untrack(MemberId(1));
    assert!(presence.is_changed());
    assert_eq!(presence.take_diff(), None);
    assert!(!presence.is_changed() && presence.members.is_empty());
    track(&mut presence, 2, "b", json!({"n": 1, "m": {"x": 1, "y": 2}}));
    diff(&mut presence);
    track(&mut presence, 2, "b", json!({"n": 2}));
    track(&mut presence, 2, "b", json!({"m": {"y": 2, "x": 1}, "n": 1}));
    assert_eq!(presence.take_diff(), None, "back to what they know");
    track(&mut presence, 2, "b", json!({"m": {"y": 2, "x": 1}, "n": 1}));
    assert!(!presence.is_changed(), "the same value in another order");
}

#[test]
fn a_shared_key_has_a_meta_for_each() {
    let mut presence = Presence::default();
    track(&mut presence, 2, "k", json!({"n": 2}));
    track(&mut presence, 1, "k", json!({"n": 1}));
    track(&mut presence, 3, "other", json!({}));
    let joined = diff(&mut presence)["joins"].take();
    assert_eq!(
        (&joined["k"]["metas"][0]["n"], &joined["k"]["metas"][1]["n"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(state(&mut presence), joined);
    presence.untrack(MemberId(1));
    let left = diff(&mut presence);
    assert_eq!(left["leaves"]["k"]["metas"].as_array().unwrap().len(), 1);
    assert_eq!(state(&mut presence)["k"]["metas"][0]["n"], 2);
}

#[test]
fn only_objects_are_payloads_and_our_names_are_ours() {
    for wrong in ["null", "[]", "1", "\"x\"", "true"] {
        assert!(parse(wrong).is_none(), "{wrong}");
    }
    let mut presence = Presence::default();
    let text = r#"{"phx_ref":"theirs", "big":12345678901234567890.10, "phx_ref_prev":7,"n":1}"#;
    presence.track(MemberId(1), &Arc::from("a"), parse(text).unwrap());
    let diff = presence.take_diff().unwrap();
    assert!(
        !diff.contains("theirs") && !diff.contains("phx_ref_prev"),
        "{diff}"
    );
    assert!(
        diff.contains(r#","big":12345678901234567890.10,"n":1}"#),
        "{diff}"
    );
    presence.track(MemberId(2), &Arc::from("b"), parse("{ }").unwrap());
    assert_eq!(
        serde_json::from_str::<Value>(&presence.take_diff().unwrap()).unwrap()["joins"]["b"]["metas"][0]
            .as_object()
            .unwrap()
            .len(),
        1
    );
}

#[derive(Clone, Debug)]
enum Step {
    Track(u64, u8),
    Untrack(u64),
    /// Everybody who listens is told.
    Tell,
    /// A client comes in and gets the state. Those that ask late (`true`) have been getting diffs before, keep them until
    /// then, and put them on top of it.
    Enter(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..6u64, 0..3u8).prop_map(|(who, payload)| Step::Track(who, payload)),
        3 => (0..6u64).prop_map(Step::Untrack),
        3 => Just(Step::Tell),
        1 => any::<bool>().prop_map(Step::Enter),
    ]
}

/// Members 0 to 5 share three keys.
fn key(who: u64) -> Arc<str> {
    format!("k{}", who % 3).into()
}

fn everybody_told(diffs: &[Value], clients: &mut [(Client, usize)]) {
    for (client, seen) in clients {
        for diff in &diffs[*seen..] {
            client.diff(diff);
        }
        *seen = diffs.len();
    }
}

proptest! {
    #[test]
    fn a_state_and_the_diffs_after_it_are_who_is_present(steps in prop::collection::vec(step(), 0..60)) {
        let mut presence = Presence::default();
        let mut expected: BTreeMap<u64, u8> = BTreeMap::new();
        let mut diffs = Vec::new();
        let mut clients = vec![(Client::default(), 0)];
        for step in steps {
            match step {
                Step::Track(who, value) => {
                    presence.track(MemberId(who), &key(who), payload(&json!({"who": who, "value": value})));
                    expected.insert(who, value);
                }
                Step::Untrack(who) => {
                    presence.untrack(MemberId(who));
                    expected.remove(&who);
                }
                Step::Tell => diffs.extend(presence.take_diff().map(|text| serde_json::from_str(&text).unwrap())),
                Step::Enter(late) => {
                    let mut client = Client::default();
                    client.state(&state(&mut presence));
                    clients.push((client, if late { 0 } else { diffs.len() }));
                }
            }
            prop_assert_eq!(presence.present(), expected.len());
        }
        diffs.extend(presence.take_diff().map(|text| serde_json::from_str::<Value>(&text).unwrap()));
        for diff in &diffs {
            let both = (diff["joins"].as_object().unwrap(), diff["leaves"].as_object().unwrap());
            prop_assert!(!both.0.is_empty() || !both.1.is_empty());
        }
        everybody_told(&diffs, &mut clients);
        let mut last = Client::default();
        last.state(&state(&mut presence));
        let everybody = last.everybody();
        let values: BTreeSet<(String, String)> = everybody.iter().map(|(key, _, meta)| (key.clone(), meta.clone())).collect();
        let should: BTreeSet<(String, String)> = expected
            .iter()
            .map(|(who, value)| (key(*who).to_string(), json!({"who": who, "value": value}).to_string()))
            .collect();
        prop_assert_eq!(values, should);
        prop_assert_eq!(presence.members.len(), expected.len());
        for (client, _) in &clients {
            prop_assert_eq!(client.everybody(), everybody.clone());
        }
    }
}
