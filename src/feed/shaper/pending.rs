//! What was gathered and has not left: pure, so that a model can be held against it.
//!
//! Who conflates is promised one thing: whoever keeps rows by their primary key has the same after what leaves as after
//! everything. So a change takes the place of those before it that say nothing of its row that it does not say itself. A row that
//! came is told as one that came, whatever has become of it since; one that went and came back is told as both.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::change::{Cursor, Position};
use crate::feed::payload::Problem;

/// What a change does to somebody who keeps rows by their primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::feed) enum Step {
    /// The row of this key is as the change shows it.
    Put {
        key: Arc<str>,
        form: Form,
        columns: Columns,
    },
    /// There is no row of this key.
    Gone { key: Arc<str> },
    /// There is no row in the table.
    Emptied,
    /// There is a row that cannot be shown.
    Unshown(Problem),
    /// More than one key can tell, as where a row gets another key: what came before stays before it, and what comes, behind.
    Apart,
}

/// As what a row is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::feed) enum Form {
    /// It is new.
    Insert,
    /// It could not be seen before.
    Enter,
    /// It was there.
    Update,
}

/// Which of the columns that may be seen a change shows: values that an UPDATE left as they were may not be in the WAL, and
/// what makes a change too large is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::feed) enum Columns {
    All,
    Some(Box<[bool]>),
}

impl Columns {
    /// Of each column, whether it may be seen and whether it is shown.
    pub(in crate::feed) fn of(columns: impl Iterator<Item = (bool, bool)> + Clone) -> Self {
        match columns.clone().all(|(seen, shown)| seen == shown) {
            true => Self::All,
            false => Self::Some(columns.map(|(_, shown)| shown).collect()),
        }
    }

    fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Some(_), Self::All) => false,
            (Self::Some(these), Self::Some(those)) => {
                these.len() == those.len() && these.iter().zip(those).all(|(this, that)| *this || !that)
            }
        }
    }
}

/// A change that waits to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::feed) struct Item {
    table: u32,
    what: What,
    /// The `data` of the message.
    pub(super) data: Arc<str>,
    /// Where it stands.
    pub(super) cursor: Cursor,
    /// Where the first change does that it stands for.
    pub(super) from: Position,
    /// The message says so.
    pub(super) told: bool,
    /// How many changes before it were left out for it.
    pub(super) conflated: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Row { form: Form, columns: Columns },
    Gone,
    Unshown,
    Other,
}

/// Where a change stands, and whether its message says so.
#[derive(Clone, Copy, Debug)]
pub(in crate::feed) struct At {
    pub(in crate::feed) table: u32,
    pub(in crate::feed) cursor: Cursor,
    pub(in crate::feed) told: bool,
}

/// What an item costs beside its text. Bytes.
const ITEM: usize = 160;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pending {
    conflate: bool,
    /// By when they came, the last of them for those that stand for several.
    items: BTreeMap<u64, Item>,
    came: u64,
    /// By table and key: those that are about this row alone, with nothing between them that is about more.
    rows: HashMap<u32, HashMap<Arc<str>, Vec<u64>>>,
    unshown: HashMap<(u32, Problem), u64>,
    bytes: usize,
    since: Option<Position>,
}

impl Pending {
    pub(super) fn new(conflate: bool) -> Self {
        Self {
            conflate,
            ..Self::default()
        }
    }

    /// Adds a change, whose `data` is made in the form that it leaves in. Returns how many are left out for it that were not
    /// before.
    pub(super) fn gather(&mut self, at: At, step: Step, data: impl FnOnce(Option<Form>) -> Arc<str>) -> u64 {
        let came = self.came;
        self.came += 1;
        self.since.get_or_insert(at.cursor.position);
        let own = match &step {
            Step::Put { form, .. } => Some(*form),
            _ => None,
        };
        let Taken {
            count,
            older,
            form,
            from,
        } = match self.conflate {
            true => self.take_place(at.table, &step, came),
            false => Taken::default(),
        };
        let form = if own == Some(Form::Update) {
            form.or(own)
        } else {
            own
        };
        let item = Item {
            table: at.table,
            data: data(form),
            cursor: at.cursor,
            from: from.unwrap_or(at.cursor.position),
            told: at.told,
            conflated: older,
            what: match step {
                Step::Put { columns, .. } => What::Row {
                    form: form.unwrap_or(Form::Update),
                    columns,
                },
                Step::Gone { .. } => What::Gone,
                Step::Unshown(_) => What::Unshown,
                Step::Emptied | Step::Apart => What::Other,
            },
        };
        self.bytes += item.data.len() + ITEM;
        self.items.insert(came, item);
        count
    }

    /// Takes out what the change stands for as well, and notes its place.
    fn take_place(&mut self, table: u32, step: &Step, came: u64) -> Taken {
        let mut taken = Taken::default();
        match step {
            Step::Put { key, columns, .. } => {
                let mut chain = self.chain(table, key);
                // Told as new, it comes behind what is left: that must not be about the same new row.
                let mut last = true;
                for place in (0..chain.len()).rev() {
                    let covered = |what: &What| match what {
                        What::Row {
                            form,
                            columns: before,
                        } => columns.cover(before) && (last || *form == Form::Update),
                        What::Gone | What::Unshown | What::Other => false,
                    };
                    let before = chain.get(place).copied();
                    if before.is_some_and(|before| self.take_if(before, &mut taken, covered)) {
                        chain.remove(place);
                    } else {
                        last = false;
                    }
                }
                chain.push(came);
                self.set_chain(table, key, chain);
            }
            Step::Gone { key } => {
                for before in self.chain(table, key) {
                    self.take_if(before, &mut taken, |_| true);
                }
                self.set_chain(table, key, vec![came]);
            }
            Step::Emptied => {
                self.rows.remove(&table);
                let of_table = |item: &Item| item.table == table && item.what != What::Unshown;
                let items = self.items.iter().filter(|(_, item)| of_table(item));
                let all: Vec<u64> = items.map(|(before, _)| *before).collect();
                for before in all {
                    self.take_if(before, &mut taken, |_| true);
                }
            }
            Step::Unshown(problem) => {
                if let Some(before) = self.unshown.insert((table, *problem), came) {
                    self.take_if(before, &mut taken, |_| true);
                }
            }
            Step::Apart => drop(self.rows.remove(&table)),
        }
        taken
    }

    fn chain(&mut self, table: u32, key: &Arc<str>) -> Vec<u64> {
        let rows = self.rows.get_mut(&table);
        rows.and_then(|rows| rows.remove(key)).unwrap_or_default()
    }

    fn set_chain(&mut self, table: u32, key: &Arc<str>, chain: Vec<u64>) {
        self.rows.entry(table).or_default().insert(Arc::clone(key), chain);
    }

    fn take_if(&mut self, came: u64, taken: &mut Taken, wanted: impl FnOnce(&What) -> bool) -> bool {
        let Some(item) = self.items.get(&came).filter(|item| wanted(&item.what)) else {
            return false;
        };
        taken.count += 1;
        taken.older += 1 + item.conflated;
        taken.from = Some(taken.from.map_or(item.from, |from| from.min(item.from)));
        if let What::Row {
            form: form @ (Form::Insert | Form::Enter),
            ..
        } = item.what
        {
            taken.form = Some(form);
        }
        self.bytes -= item.data.len() + ITEM;
        self.items.remove(&came);
        true
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The change for which gathering began: everything before it has left.
    pub(super) fn since(&self) -> Option<Position> {
        self.since
    }

    /// Takes all, in the order of the last change of each.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Item> + use<> {
        let conflate = self.conflate;
        std::mem::replace(self, Self::new(conflate)).items.into_values()
    }
}

/// What was left out for a change.
#[derive(Default)]
struct Taken {
    count: u64,
    /// With those that had been left out for them.
    older: u64,
    /// As what the row was told first, if it was new.
    form: Option<Form>,
    /// Where the first of them stands.
    from: Option<Position>,
}

/// Of items that leave one after another, where the first change stands that leaves behind each: with those that stand for it, and
/// with what leaves behind all of them from `rest` on.
pub(super) fn left_behind(items: &[Item], rest: Option<Position>) -> Vec<Option<Position>> {
    let mut first = rest;
    let mut left: Vec<_> = items
        .iter()
        .rev()
        .map(|item| {
            let behind = first.filter(|first| *first <= item.cursor.position);
            first = Some(first.map_or(item.from, |first| first.min(item.from)));
            behind
        })
        .collect();
    left.reverse();
    left
}
