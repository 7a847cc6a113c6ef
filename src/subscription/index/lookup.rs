//! From the value of an expression to the slots that want it.

use std::collections::HashMap;

use iset::IntervalMap;

use super::SlotId;
use super::paths::{By, End, Path, Side};
use crate::expression::{Datum, Key, RowView, Stop, Ty};

/// Slots by the values of the same expressions.
#[derive(Debug)]
pub(super) struct Lookup {
    by: By,
    equal: HashMap<Vec<Key>, Vec<SlotId>>,
    ranges: IntervalMap<End, Vec<SlotId>>,
}

impl Lookup {
    pub(super) fn new(by: By) -> Self {
        Self {
            by,
            equal: HashMap::new(),
            ranges: IntervalMap::new(),
        }
    }

    pub(super) fn insert(&mut self, path: &Path, slot: SlotId) {
        match path {
            Path::Equal { key, .. } => self.equal.entry(key.clone()).or_default().push(slot),
            Path::Range { range, .. } => match self.ranges.get_mut(range.clone()) {
                Some(slots) => slots.push(slot),
                None => {
                    self.ranges.insert(range.clone(), vec![slot]);
                }
            },
        }
    }

    pub(super) fn remove(&mut self, path: &Path, slot: SlotId) {
        match path {
            Path::Equal { key, .. } => {
                if let Some(slots) = self.equal.get_mut(key) {
                    take_out(slots, slot);
                    if slots.is_empty() {
                        self.equal.remove(key);
                    }
                }
            }
            Path::Range { range, .. } => {
                if let Some(slots) = self.ranges.get_mut(range.clone()) {
                    take_out(slots, slot);
                    if slots.is_empty() {
                        self.ranges.remove(range.clone());
                    }
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.ranges.is_empty()
    }

    /// Adds the slots that a row can concern.
    pub(super) fn find(&self, row: &RowView<'_>, found: &mut Vec<SlotId>) {
        match self.keys(row) {
            Ok(keys) => {
                for key in keys {
                    if let Some(slots) = self.equal.get(&key) {
                        found.extend(slots);
                    }
                    // A value lies between its two sides.
                    let side = |side| key.first().and_then(|key| End::at(key, side));
                    if let (false, Some(below), Some(above)) =
                        (self.ranges.is_empty(), side(Side::Below), side(Side::Above))
                    {
                        found.extend(self.ranges.values(below..above).flatten());
                    }
                }
            }
            // Without a value to look up by, each has to be looked at.
            Err(_) => {
                found.extend(self.equal.values().flatten());
                found.extend(self.ranges.unsorted_values().flatten());
            }
        }
    }

    /// What the row is looked up by; none where an expression is NULL.
    fn keys(&self, row: &RowView<'_>) -> Result<Vec<Vec<Key>>, Stop> {
        let mut key = Vec::with_capacity(self.by.of.len());
        for expr in &self.by.of {
            match expr.evaluate(row)? {
                None => return Ok(Vec::new()),
                Some(Datum::Array(array)) if self.by.each => {
                    let Ty::Array(element) = &expr.ty else {
                        return Err(Stop::ask("an array of unknown elements"));
                    };
                    let elements = array.elements.iter().flatten();
                    return elements.map(|datum| Ok(vec![datum.key(element)?])).collect();
                }
                Some(datum) => key.push(datum.key(&expr.ty)?),
            }
        }
        Ok(vec![key])
    }
}

/// The newest are the likeliest to go.
fn take_out(slots: &mut Vec<SlotId>, slot: SlotId) {
    if let Some(at) = slots.iter().rposition(|other| *other == slot) {
        slots.swap_remove(at);
    }
}
