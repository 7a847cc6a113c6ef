//! What one client has been told, over all of its connections.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Instant;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A row, by its id.
    Row(i64),
    /// A broadcast, by its number.
    Word(i64),
}

/// One delivery.
#[derive(Clone, Copy)]
pub struct Arrival {
    pub what: What,
    pub at: Instant,
    /// It came with its cursor: it may be a repeat, and this client can tell.
    pub told: bool,
}

/// Rows that a client waits for.
pub struct Goal {
    pub rows: RangeInclusive<i64>,
    /// How many of them have still to come.
    pub left: usize,
    /// When the last one came.
    pub reached: Option<Instant>,
}

#[derive(Default)]
pub struct Log {
    pub arrivals: Vec<Arrival>,
    /// When rows were live, of the connection that is there now.
    pub live: Option<Instant>,
    /// How often it was told that something is missing.
    pub resyncs: usize,
    /// What it was told the first time.
    pub reason: Option<String>,
    /// The last one that came with a row.
    pub cursor: Option<String>,
    /// The last one that came with a broadcast, or that says where the room begins.
    pub room: Option<String>,
    /// Rows behind which an earlier one of the same connection came.
    pub disorder: usize,
    pub goal: Option<Goal>,
    newest: i64,
    visits: usize,
}

/// What a client has of what it should have.
#[derive(Default)]
pub struct Account {
    pub due: usize,
    pub delivered: usize,
    /// Came again, with the cursor that tells so.
    pub repeated: usize,
    /// Came again, and nothing told so.
    pub untold: usize,
    pub missed: usize,
    pub resyncs: usize,
    pub disorder: usize,
}

impl Log {
    /// Another connection begins.
    pub fn begin(&mut self) {
        self.live = None;
        self.newest = 0;
        self.visits += 1;
    }

    /// Takes what a message says, in whatever it is wrapped.
    pub fn take(&mut self, text: &str, at: Instant) {
        let what = if let Some((_, record)) = text.split_once("\"record\":{") {
            let Some(id) = number(record, "\"id\":") else {
                return;
            };
            What::Row(id)
        } else if let Some(word) = number(text, "\"number\":") {
            What::Word(word)
        } else {
            return self.note(text, at);
        };
        let cursor = text.rsplit_once("\"cursor\":\"");
        let cursor = cursor.and_then(|(_, cursor)| cursor.split('"').next());
        if let Some(cursor) = cursor {
            let last = match what {
                What::Row(_) => self.cursor.get_or_insert_default(),
                What::Word(_) => self.room.get_or_insert_default(),
            };
            last.clear();
            last.push_str(cursor);
        }
        let told = cursor.is_some();
        self.arrivals.push(Arrival { what, at, told });
        if let What::Row(id) = what {
            self.disorder += usize::from(id < self.newest);
            self.newest = self.newest.max(id);
            if let Some(goal) = self.goal.as_mut().filter(|goal| goal.rows.contains(&id)) {
                goal.left = goal.left.saturating_sub(1);
                if goal.left == 0 {
                    goal.reached.get_or_insert(at);
                }
            }
        }
    }

    fn note(&mut self, text: &str, at: Instant) {
        let room = text.split_once("\"meta\":{\"cursor\":\"");
        if let Some(room) = room.and_then(|(_, room)| room.split('"').next()) {
            self.room = Some(room.to_owned());
        }
        if text.contains("Subscribed to PostgreSQL") {
            self.live.get_or_insert(at);
        } else if text.contains("\"resync: ") {
            // The first time nobody can know its session.
            if self.visits > 1 || !text.contains("does not know the session") {
                self.resyncs += 1;
                self.reason.get_or_insert_with(|| text.to_owned());
            }
        } else {
            assert!(!text.contains("\"status\":\"error\""), "{text}");
        }
    }

    /// What came, each the first time.
    pub fn first(&self) -> impl Iterator<Item = &Arrival> {
        let mut seen = HashSet::new();
        self.arrivals
            .iter()
            .filter(move |arrival| seen.insert(arrival.what))
    }

    /// Compares with what was due.
    pub fn account(&self, due: impl IntoIterator<Item = What>) -> Account {
        let mut came: HashMap<What, (usize, usize)> = HashMap::new();
        for arrival in &self.arrivals {
            let (all, told) = came.entry(arrival.what).or_default();
            *all += 1;
            *told += usize::from(arrival.told);
        }
        let mut account = Account {
            resyncs: self.resyncs,
            disorder: self.disorder,
            ..Account::default()
        };
        for what in due {
            account.due += 1;
            let Some((all, told)) = came.get(&what) else {
                account.missed += 1;
                continue;
            };
            account.delivered += 1;
            let again = all - 1;
            account.repeated += again.min(*told);
            account.untold += again - again.min(*told);
        }
        account
    }
}

impl Account {
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.delivered += other.delivered;
        self.repeated += other.repeated;
        self.untold += other.untold;
        self.missed += other.missed;
        self.resyncs += other.resyncs;
        self.disorder += other.disorder;
    }
}

/// The number behind a name, found without parsing all of it: the clients share the machine with the server.
fn number(text: &str, name: &str) -> Option<i64> {
    // Postgres prints JSON with spaces.
    let value = text.split_once(name)?.1.trim_start();
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value[..end].parse().ok()
}
