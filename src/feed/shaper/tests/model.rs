//! Two clients follow random changes, one all of them and one what is left of them: after every flush both have the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use crate::change::{Cursor, Epoch, Lsn, Position};
use crate::feed::payload::Problem;
use crate::feed::shaper::pending::{At, Columns, Form, Item, Pending, Step, left_behind};

const COLUMNS: usize = 3;

/// A value of each column that is shown.
type Shown = [Option<u8>; COLUMNS];

#[derive(Clone, Debug)]
enum Change {
    Row(Form, u8, Shown),
    Gone(u8),
    Moved(u8, u8, Shown),
    Emptied,
    Unshown(Problem),
    /// A DELETE whose key is not told.
    Unknown,
}

#[derive(Clone, Debug)]
struct Told {
    table: u32,
    change: Change,
}

impl Told {
    fn step(&self) -> Step {
        let key = |key: u8| Arc::from(key.to_string());
        match &self.change {
            Change::Row(form, of, shown) => Step::Put {
                key: key(*of),
                form: *form,
                columns: Columns::of(shown.iter().map(|value| (true, value.is_some()))),
            },
            Change::Gone(of) => Step::Gone { key: key(*of) },
            Change::Emptied => Step::Emptied,
            Change::Unshown(problem) => Step::Unshown(*problem),
            Change::Moved(..) | Change::Unknown => Step::Apart,
        }
    }
}

/// Keeps rows by their keys.
#[derive(Clone, Debug, Default, PartialEq)]
struct Keeper {
    rows: BTreeMap<(u32, u8), Shown>,
    problems: BTreeSet<String>,
}

impl Keeper {
    fn apply(&mut self, Told { table, change }: &Told) {
        match change {
            Change::Row(Form::Insert | Form::Enter, key, shown) => {
                self.rows.insert((*table, *key), *shown);
            }
            Change::Row(Form::Update, key, shown) => self.merge((*table, *key), *shown),
            Change::Gone(key) => drop(self.rows.remove(&(*table, *key))),
            Change::Moved(old, new, shown) => {
                if let Some(row) = self.rows.remove(&(*table, *old)) {
                    self.rows.insert((*table, *new), row);
                }
                self.merge((*table, *new), *shown);
            }
            Change::Emptied => self.rows.retain(|(of, _), _| of != table),
            Change::Unshown(problem) => drop(self.problems.insert(format!("{table} {problem:?}"))),
            Change::Unknown => {}
        }
    }

    fn merge(&mut self, key: (u32, u8), shown: Shown) {
        let row = self.rows.entry(key).or_default();
        for (kept, new) in row.iter_mut().zip(shown) {
            *kept = new.or(*kept);
        }
    }
}

/// Does what examples on the web do: appends what is inserted, replaces what is updated if it has it, and filters what is deleted.
#[derive(Clone, Debug, Default)]
struct Lister(Vec<((u32, u8), Shown)>);

impl Lister {
    fn apply(&mut self, Told { table, change }: &Told) {
        match change {
            Change::Row(Form::Insert | Form::Enter, key, shown) => self.0.push(((*table, *key), *shown)),
            Change::Row(Form::Update, key, shown) => {
                for (_, row) in self.0.iter_mut().filter(|(of, _)| *of == (*table, *key)) {
                    for (kept, new) in row.iter_mut().zip(shown) {
                        *kept = new.or(*kept);
                    }
                }
            }
            Change::Gone(key) => self.0.retain(|(of, _)| *of != (*table, *key)),
            Change::Emptied => self.0.retain(|((of, _), _)| of != table),
            Change::Moved(..) | Change::Unshown(_) | Change::Unknown => {}
        }
    }

    fn sorted(&self) -> Vec<((u32, u8), Shown)> {
        let mut rows = self.0.clone();
        rows.sort_unstable();
        rows
    }
}

/// Gathers, and tells what leaves.
struct Rig {
    pending: Pending,
    told: Vec<Told>,
    gathered: u64,
}

impl Rig {
    fn new(conflate: bool) -> Self {
        Self {
            pending: Pending::new(conflate),
            told: Vec::new(),
            gathered: 0,
        }
    }

    fn gather(&mut self, told: &Told) {
        let n = self.told.len();
        let cursor = Cursor {
            epoch: Epoch(1),
            position: Position::behind(Lsn(n as u64)),
        };
        let at = At {
            table: told.table,
            cursor,
            told: true,
        };
        self.pending
            .gather(at, told.step(), |form| format!("{n} {form:?}").into());
        self.told.push(told.clone());
        self.gathered += 1;
    }

    /// What leaves, with how many were left out for each.
    fn flush(&mut self) -> Vec<(Told, u64)> {
        let since = self.pending.since();
        let items: Vec<Item> = self.pending.take().collect();
        assert_eq!((self.pending.len(), self.pending.bytes()), (0, 0));
        assert!(items.is_sorted_by(|a, b| a.cursor.position < b.cursor.position));
        assert!(items.iter().all(|item| since <= Some(item.cursor.position)));
        let stood_for: u64 = items.iter().map(|item| 1 + item.conflated).sum();
        assert_eq!(stood_for, std::mem::take(&mut self.gathered));
        items
            .iter()
            .map(|item| (self.read(&item.data), item.conflated))
            .collect()
    }

    fn read(&self, data: &str) -> Told {
        let (n, form) = data.split_once(' ').unwrap();
        let mut told = self.told[n.parse::<usize>().unwrap()].clone();
        if let Change::Row(own, ..) = &mut told.change {
            *own = match form {
                "Some(Insert)" => Form::Insert,
                "Some(Enter)" => Form::Enter,
                "Some(Update)" => Form::Update,
                other => panic!("{other}"),
            };
        }
        told
    }
}

fn told(change: Change) -> Told {
    Told { table: 1, change }
}

fn all(value: u8) -> Shown {
    [Some(value); COLUMNS]
}

/// What leaves of these, in short: type, key, first value, how many were left out.
fn left(changes: &[Change]) -> Vec<String> {
    let mut rig = Rig::new(true);
    for change in changes {
        rig.gather(&told(change.clone()));
    }
    let short = |(told, conflated): (Told, u64)| {
        let text = match told.change {
            Change::Row(form, key, shown) => format!("{form:?} {key} {:?}", shown.map(|v| v.unwrap_or(0))),
            Change::Gone(key) => format!("Delete {key}"),
            other => format!("{other:?}"),
        };
        format!("{text} +{conflated}")
    };
    rig.flush().into_iter().map(short).collect()
}

#[test]
fn the_latest_state_stands_for_those_before() {
    use Change::{Emptied, Gone, Moved, Row, Unshown};
    use Form::{Enter, Insert, Update};
    let partial = |value| [Some(value), None, None];
    let cases: [(&[Change], &[&str]); 10] = [
        (
            &[
                Row(Insert, 1, all(1)),
                Row(Update, 1, all(2)),
                Row(Update, 1, all(3)),
            ],
            &["Insert 1 [3, 3, 3] +2"],
        ),
        (
            &[
                Row(Enter, 1, all(1)),
                Row(Update, 2, all(7)),
                Row(Update, 1, all(2)),
            ],
            &["Update 2 [7, 7, 7] +0", "Enter 1 [2, 2, 2] +1"],
        ),
        (
            &[Row(Insert, 1, all(1)), Row(Update, 1, all(2)), Gone(1)],
            &["Delete 1 +2"],
        ),
        (
            &[
                Row(Update, 1, all(1)),
                Gone(1),
                Row(Insert, 1, all(2)),
                Row(Update, 1, all(3)),
            ],
            &["Delete 1 +1", "Insert 1 [3, 3, 3] +1"],
        ),
        (&[Gone(1), Row(Insert, 1, all(2)), Gone(1)], &["Delete 1 +2"]),
        // Values that did not change are not in the WAL: what has them stays.
        (
            &[
                Row(Insert, 1, all(1)),
                Row(Update, 1, partial(2)),
                Row(Update, 1, partial(3)),
            ],
            &["Insert 1 [1, 1, 1] +0", "Update 1 [3, 0, 0] +1"],
        ),
        (
            &[
                Row(Insert, 1, all(1)),
                Row(Update, 1, partial(2)),
                Row(Update, 1, all(3)),
            ],
            &["Insert 1 [3, 3, 3] +2"],
        ),
        // Nothing is left out across a change of a key.
        (
            &[
                Row(Update, 1, all(1)),
                Moved(1, 2, all(2)),
                Row(Update, 2, all(3)),
                Row(Update, 2, all(4)),
            ],
            &[
                "Update 1 [1, 1, 1] +0",
                "Moved(1, 2, [Some(2), Some(2), Some(2)]) +0",
                "Update 2 [4, 4, 4] +1",
            ],
        ),
        (&[Row(Insert, 1, all(1)), Gone(2), Emptied], &["Emptied +2"]),
        (
            &[
                Unshown(Problem::Policy),
                Row(Insert, 1, all(1)),
                Unshown(Problem::Unavailable),
                Unshown(Problem::Policy),
            ],
            &[
                "Insert 1 [1, 1, 1] +0",
                "Unshown(Unavailable) +0",
                "Unshown(Policy) +1",
            ],
        ),
    ];
    for (changes, expected) in cases {
        assert_eq!(left(changes), expected, "{changes:?}");
    }
}

#[test]
fn without_conflation_everything_leaves() {
    let mut rig = Rig::new(false);
    for value in 0..3 {
        rig.gather(&told(Change::Row(Form::Update, 1, all(value))));
    }
    assert_eq!(rig.flush().len(), 3);
}

fn shown() -> impl Strategy<Value = Shown> {
    let partial = proptest::array::uniform3(proptest::option::of(any::<u8>()));
    prop_oneof![proptest::array::uniform3(any::<u8>().prop_map(Some)), partial,]
}

fn change() -> impl Strategy<Value = Change> {
    let key = || 0..4_u8;
    let form = prop_oneof![
        Just(Form::Insert),
        Just(Form::Enter),
        Just(Form::Update),
        Just(Form::Update)
    ];
    let problem = prop_oneof![Just(Problem::Policy), Just(Problem::Unavailable)];
    prop_oneof![
        12 => (form, key(), shown()).prop_map(|(form, key, shown)| Change::Row(form, key, shown)),
        4 => key().prop_map(Change::Gone),
        1 => (key(), key(), shown()).prop_map(|(old, new, shown)| Change::Moved(old, new, shown)),
        1 => Just(Change::Emptied),
        1 => problem.prop_map(Change::Unshown),
        1 => Just(Change::Unknown),
    ]
}

/// Changes, between some of which what was gathered leaves.
fn stream() -> impl Strategy<Value = Vec<(Told, bool)>> {
    let told = (0..2_u32, change()).prop_map(|(table, change)| Told { table, change });
    proptest::collection::vec((told, proptest::bool::weighted(0.1)), 0..80)
}

/// As somebody is told who sees all of it.
fn sensible(stream: Vec<(Told, bool)>) -> Vec<(Told, bool)> {
    let mut exists = BTreeSet::new();
    let mut makes_sense = |(told, _): &mut (Told, bool)| {
        match &mut told.change {
            Change::Row(form, key, shown) => {
                let new = exists.insert((told.table, *key));
                *form = if new { Form::Insert } else { Form::Update };
                if new {
                    *shown = shown.map(|value| value.or(Some(0)));
                }
            }
            Change::Gone(key) => drop(exists.remove(&(told.table, *key))),
            Change::Emptied => exists.retain(|(table, _)| *table != told.table),
            Change::Moved(..) => return false,
            Change::Unshown(_) | Change::Unknown => {}
        }
        true
    };
    let mut stream = stream;
    stream.retain_mut(|told| makes_sense(told));
    stream
}

proptest! {
    /// Whatever comes: also what makes no sense, as of somebody who sees only some of it.
    #[test]
    fn who_keeps_rows_by_key_has_the_same(stream in stream()) {
        let (mut rig, mut full, mut conflated) = (Rig::new(true), Keeper::default(), Keeper::default());
        for (told, flush) in stream.into_iter().chain([(told(Change::Unknown), true)]) {
            full.apply(&told);
            rig.gather(&told);
            if flush {
                for (told, _) in rig.flush() {
                    conflated.apply(&told);
                }
                prop_assert_eq!(&conflated, &full);
            }
        }
    }

    /// Whoever is cut off between two of what leaves together, and goes on behind the last that leads on.
    #[test]
    fn who_is_cut_off_goes_on_behind_what_leads_on(stream in stream()) {
        let (mut rig, stream) = (Rig::new(true), sensible(stream));
        for (told, _) in &stream {
            rig.gather(told);
        }
        let items: Vec<Item> = rig.pending.take().collect();
        let behind = left_behind(&items, None);
        prop_assert!(behind.last().is_none_or(Option::is_none));
        let rest = |place: Position| {
            let numbered = (0..).zip(&stream);
            numbered.filter_map(move |(n, (told, _))| (Position::behind(Lsn(n)) > place).then_some(told))
        };
        let (mut full, mut list) = (Keeper::default(), Lister::default());
        for (told, _) in &stream {
            full.apply(told);
            list.apply(told);
        }
        let (mut first, mut listed) = (Keeper::default(), Lister::default());
        for (item, behind) in items.iter().zip(behind) {
            let told = rig.read(&item.data);
            first.apply(&told);
            listed.apply(&told);
            let (mut all, mut every) = (first.clone(), listed.clone());
            let place = behind.map_or(item.cursor.position, |behind| behind.before());
            for told in rest(place) {
                all.apply(told);
                every.apply(told);
            }
            prop_assert_eq!(&all, &full);
            if behind.is_none() {
                // Nothing comes twice.
                prop_assert_eq!(every.sorted(), list.sorted());
            }
        }
    }

    /// Of somebody who sees all of it.
    #[test]
    fn who_keeps_a_list_has_the_same(stream in stream()) {
        let (mut rig, mut full, mut conflated) = (Rig::new(true), Lister::default(), Lister::default());
        for (told, flush) in sensible(stream).into_iter().chain([(told(Change::Unknown), true)]) {
            full.apply(&told);
            rig.gather(&told);
            if flush {
                for (told, _) in rig.flush() {
                    conflated.apply(&told);
                }
                prop_assert_eq!(conflated.sorted(), full.sorted());
            }
        }
    }
}
