//! Who is in a room: keys, their metas, and what changed since it was last told.
//!
//! Pure: no member, no socket, no clock. The shapes are those of Phoenix: `{"<key>":{"metas":[{"phx_ref":…,…}]}}`.
//!
//! What members have been told and what is so are held apart. A state is always what has been told, so whoever gets it
//! and then every diff from there on knows exactly who is present, however much happened between two diffs.

mod meta;
#[cfg(test)]
pub(crate) mod model;
mod render;
#[cfg(test)]
mod tests;

pub use meta::Payload;

use std::collections::HashMap;
use std::sync::Arc;

use meta::Meta;
use render::Line;

/// Names a member of the room; never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// Who is present in one room.
#[derive(Debug, Default)]
pub struct Presence {
    /// Those that are present, and those that were when it was last told.
    members: HashMap<MemberId, Standing>,
    /// Whose standing may differ from what was told, each once.
    changed: Vec<MemberId>,
    present: usize,
    /// The state as text, until it changes.
    state: Option<Arc<str>>,
}

#[derive(Debug)]
struct Standing {
    key: Arc<str>,
    /// What the others know.
    told: Option<Arc<Meta>>,
    /// What is so.
    now: Option<Arc<Meta>>,
    /// Whether it is among the changed.
    changed: bool,
}

impl Presence {
    /// This member is present with this payload, which takes the place of the one before. An equal payload changes
    /// nothing; going back to what the others know takes back what they have not been told. `key` counts the first time.
    pub fn track(&mut self, who: MemberId, key: &Arc<str>, payload: Payload) {
        let standing = self.members.entry(who).or_insert_with(|| Standing {
            key: Arc::clone(key),
            told: None,
            now: None,
            changed: false,
        });
        let says = |meta: &&Arc<Meta>| meta.says(&payload);
        match &standing.now {
            Some(now) if now.says(&payload) => return,
            Some(_) => {}
            None => self.present += 1,
        }
        let known = standing.told.as_ref().filter(says).map(Arc::clone);
        standing.now = Some(known.unwrap_or_else(|| Arc::new(Meta::new(payload))));
        mark(&mut self.changed, who, standing);
    }

    /// This member is not present any more.
    pub fn untrack(&mut self, who: MemberId) {
        if let Some(standing) = self.members.get_mut(&who)
            && standing.now.take().is_some()
        {
            self.present -= 1;
            mark(&mut self.changed, who, standing);
        }
    }

    /// How many members are present, told or not.
    pub fn present(&self) -> usize {
        self.present
    }

    /// Whether [`Presence::take_diff`] has something to look at.
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The payload of a `presence_diff` with everything that has not been told, which counts as told from here on; `None`
    /// where it comes to nothing. What came and went in between is not mentioned.
    pub fn take_diff(&mut self) -> Option<String> {
        let mut diff = Vec::new();
        for who in std::mem::take(&mut self.changed) {
            let Some(standing) = self.members.get_mut(&who) else {
                continue;
            };
            standing.changed = false;
            let key = Arc::clone(&standing.key);
            let before = std::mem::replace(&mut standing.told, standing.now.clone());
            let after = standing.now.clone();
            if after.is_none() {
                self.members.remove(&who);
            }
            match (&before, &after) {
                (None, None) => {}
                (Some(before), Some(after)) if Arc::ptr_eq(before, after) => {}
                _ => diff.push((key, who, before, after)),
            }
        }
        if diff.is_empty() {
            return None;
        }
        self.state = None;
        let joins = diff.iter().filter_map(|(key, who, before, after)| {
            let previous = before.as_deref();
            Some(Line::new(key, *who, after.as_deref()?, previous))
        });
        let leaves = diff
            .iter()
            .filter_map(|(key, who, before, _)| Some(Line::new(key, *who, before.as_deref()?, None)));
        Some(render::diff(joins.collect(), leaves.collect()))
    }

    /// The payload of a `presence_state`: what has been told.
    pub fn state(&mut self) -> Arc<str> {
        if let Some(state) = &self.state {
            return Arc::clone(state);
        }
        let lines = self.members.iter().filter_map(|(who, standing)| {
            let told = standing.told.as_deref()?;
            Some(Line::new(&standing.key, *who, told, None))
        });
        let state: Arc<str> = render::state(lines.collect()).into();
        self.state = Some(Arc::clone(&state));
        state
    }
}

fn mark(changed: &mut Vec<MemberId>, who: MemberId, standing: &mut Standing) {
    if !standing.changed {
        standing.changed = true;
        changed.push(who);
    }
}
