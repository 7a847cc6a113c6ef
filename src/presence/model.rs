//! What clients make of states and diffs, for tests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Metas by key, matched by their refs: first what joined and then what left.
#[derive(Default)]
pub(crate) struct Client {
    metas: BTreeMap<String, Vec<Value>>,
}

impl Client {
    pub(crate) fn state(&mut self, state: &Value) {
        self.metas = entries(state).collect();
    }

    pub(crate) fn diff(&mut self, diff: &Value) {
        for (key, joined) in entries(&diff["joins"]) {
            let refs = refs(&joined);
            let known = self.metas.entry(key).or_default();
            known.retain(|meta| !refs.contains(&meta["phx_ref"]));
            known.extend(joined);
        }
        for (key, left) in entries(&diff["leaves"]) {
            let refs = refs(&left);
            let Some(known) = self.metas.get_mut(&key) else {
                continue;
            };
            known.retain(|meta| !refs.contains(&meta["phx_ref"]));
            if known.is_empty() {
                self.metas.remove(&key);
            }
        }
    }

    /// Key, ref and payload of everybody.
    pub(crate) fn everybody(&self) -> BTreeSet<(String, String, String)> {
        let mut everybody = BTreeSet::new();
        for (key, metas) in &self.metas {
            for meta in metas {
                let mut meta = meta.clone();
                let fields = meta.as_object_mut().unwrap();
                fields.remove("phx_ref_prev");
                let reference = fields.remove("phx_ref").unwrap().to_string();
                let new = everybody.insert((key.clone(), reference, meta.to_string()));
                assert!(new, "a meta twice");
            }
        }
        everybody
    }
}

fn entries(presence: &Value) -> impl Iterator<Item = (String, Vec<Value>)> {
    let keys = presence.as_object().unwrap().iter();
    keys.map(|(key, entry)| (key.clone(), entry["metas"].as_array().unwrap().clone()))
}

fn refs(metas: &[Value]) -> Vec<Value> {
    metas.iter().map(|meta| meta["phx_ref"].clone()).collect()
}
