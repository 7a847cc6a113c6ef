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
    nulls: Vec<SlotId>,
    values: Vec<SlotId>,
}

impl Lookup {
    pub(super) fn new(by: By) -> Self {
        Self {
            by,
            equal: HashMap::new(),
            ranges: IntervalMap::new(),
            nulls: Vec::new(),
            values: Vec::new(),
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
            Path::Null { null, .. } => self.regardless(*null).push(slot),
        }
    }

    /// Those who want it whatever its value is, as long as it is NULL, or is not.
    fn regardless(&mut self, null: bool) -> &mut Vec<SlotId> {
        match null {
            true => &mut self.nulls,
            false => &mut self.values,
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
            Path::Null { null, .. } => take_out(self.regardless(*null), slot),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let regardless = [&self.nulls, &self.values];
        self.equal.is_empty() && self.ranges.is_empty() && regardless.iter().all(|slots| slots.is_empty())
    }

    /// Adds the slots that a row can concern.
    pub(super) fn find(&self, row: &RowView<'_>, found: &mut Vec<SlotId>) {
        match self.value(row) {
            Ok(Some(value)) => {
                found.extend(&self.values);
                if !(self.equal.is_empty() && self.ranges.is_empty()) {
                    self.find_by(&value, found);
                }
            }
            Ok(None) => found.extend(&self.nulls),
            // Without a value to look up by, each has to be looked at.
            Err(_) => {
                found.extend(self.nulls.iter().chain(&self.values));
                self.find_all(found);
            }
        }
    }

    /// The values of the expressions; `None` where one is NULL.
    fn value(&self, row: &RowView<'_>) -> Result<Option<Vec<Datum>>, Stop> {
        let mut value = Vec::with_capacity(self.by.of.len());
        for expr in &self.by.of {
            match expr.evaluate(row)? {
                None => return Ok(None),
                Some(datum) => value.push(datum),
            }
        }
        Ok(Some(value))
    }

    fn find_by(&self, value: &[Datum], found: &mut Vec<SlotId>) {
        let Ok(keys) = self.keys(value) else {
            return self.find_all(found);
        };
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

    fn find_all(&self, found: &mut Vec<SlotId>) {
        found.extend(self.equal.values().flatten());
        found.extend(self.ranges.unsorted_values().flatten());
    }

    /// What is looked up: the value, or each element of it that is not NULL.
    fn keys(&self, value: &[Datum]) -> Result<Vec<Vec<Key>>, Stop> {
        let typed = value.iter().zip(&self.by.of);
        let mut key = Vec::with_capacity(value.len());
        for (datum, expr) in typed {
            if let (true, Datum::Array(array)) = (self.by.each, datum) {
                let Ty::Array(element) = &expr.ty else {
                    return Err(Stop::ask("an array of unknown elements"));
                };
                let elements = array.elements.iter().flatten();
                return elements.map(|datum| Ok(vec![datum.key(element)?])).collect();
            }
            key.push(datum.key(&expr.ty)?);
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
