//! Places in the stream of changes, and the texts that clients keep of them.
//!
//! A place is told by WAL positions alone, so that it means the same to every server that follows the database, also
//! after a restart. Which WAL is meant is told by the epoch: a database restored from a backup counts on elsewhere.

use std::fmt;
use std::str::FromStr;

use super::{Change, InvalidLsn, Lsn, Transaction};

/// A place between two changes. Ordered as changes are delivered: by commit, then within the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The transaction's [`Transaction::place`], or any position between two transactions.
    pub commit: Lsn,
    /// Position of the last change's own record; the highest there is behind the whole transaction.
    pub change: Lsn,
    /// Which of the changes of that record it was: one record can insert many rows.
    pub ordinal: u32,
}

impl Position {
    /// Behind everything that was committed up to here.
    pub fn behind(commit: Lsn) -> Self {
        Self {
            commit,
            change: Lsn(u64::MAX),
            ordinal: u32::MAX,
        }
    }

    /// In front of everything that the transaction did which did what stands here.
    pub fn before_transaction(self) -> Self {
        Self::behind(Lsn(self.commit.0.saturating_sub(1)))
    }

    /// Right behind a change of this transaction.
    pub fn of(transaction: &Transaction, change: &Change) -> Self {
        Self {
            commit: transaction.place(),
            change: change.lsn,
            ordinal: change.ordinal,
        }
    }

    /// The place right in front of a change that stands here.
    #[must_use]
    pub fn before(&self) -> Self {
        let (change, ordinal) = match self.ordinal.checked_sub(1) {
            Some(ordinal) => (self.change, ordinal),
            None => (Lsn(self.change.0.saturating_sub(1)), u32::MAX),
        };
        Self {
            commit: self.commit,
            change,
            ordinal,
        }
    }

    fn is_whole(&self) -> bool {
        *self == Self::behind(self.commit)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.commit.0)?;
        if self.is_whole() {
            return Ok(());
        }
        write!(f, "-{:x}-{:x}", self.change.0, self.ordinal)
    }

    fn read(numbers: &[u64]) -> Result<Self, InvalidCursor> {
        match *numbers {
            [commit] => Ok(Self::behind(Lsn(commit))),
            [commit, change, ordinal] => Ok(Self {
                commit: Lsn(commit),
                change: Lsn(change),
                ordinal: u32::try_from(ordinal).map_err(|_| InvalidCursor)?,
            }),
            _ => Err(InvalidCursor),
        }
    }
}

/// Which history WAL positions belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Of a database of a system on a timeline, as `IDENTIFY_SYSTEM` names them.
    pub fn of(system: &str, timeline: &str, database: &str) -> Self {
        // FNV-1a: the same on every server of every version, and nobody gains by a collision.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for part in [system, timeline, database] {
            for byte in part.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        Self(hash)
    }
}

/// A place that can be given to a client and taken back later. Its text is opaque to them:
/// `<epoch>-<commit>` or `<epoch>-<commit>-<change>-<ordinal>`, in hexadecimal. That of a [`Mark`] is read as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Of this history.
    pub epoch: Epoch,
    /// There.
    pub position: Position,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-", self.epoch.0)?;
        self.position.write(f)
    }
}

/// Where an event stands, as its client is told. Its text is the cursor's. Where something in front of the event comes behind it, the
/// text is that of the place in front of that, with `_` and the event's own position behind it: so it is the text of this event
/// alone, and whoever goes on from it misses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The event's own place.
    pub cursor: Cursor,
    /// Everything that has not come is behind this, if it is not behind the event.
    pub from: Option<Position>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(from) = self.from else {
            return self.cursor.fmt(f);
        };
        let from = Cursor {
            position: from,
            ..self.cursor
        };
        write!(f, "{from}_")?;
        self.cursor.position.write(f)
    }
}

/// The text is no cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct InvalidCursor;

impl From<InvalidLsn> for InvalidCursor {
    fn from(_: InvalidLsn) -> Self {
        Self
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let numbers = |text: &str| text.split('-').map(hexadecimal).collect::<Result<Vec<u64>, _>>();
        let (place, event) = match text.split_once('_') {
            Some((place, event)) => (place, Some(event)),
            None => (text, None),
        };
        // Only the place counts.
        event.map_or(Ok(Position::default()), |event| Position::read(&numbers(event)?))?;
        match numbers(place)?[..] {
            [epoch, ref position @ ..] => Ok(Self {
                epoch: Epoch(epoch),
                position: Position::read(position)?,
            }),
            [] => Err(InvalidCursor),
        }
    }
}

/// One to sixteen digits. `u64::from_str_radix` alone would take a sign.
fn hexadecimal(text: &str) -> Result<u64, InvalidCursor> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits {
        true => u64::from_str_radix(text, 16).map_err(|_| InvalidCursor),
        false => Err(InvalidCursor),
    }
}

/// What a snapshot of the database sees (manual, "Transaction ID and Snapshot Information Functions").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Every transaction below is over.
    pub xmin: u64,
    /// None from here on is seen.
    pub xmax: u64,
    /// Between them, those that are not seen. In order.
    pub running: Vec<u64>,
}

impl Seen {
    /// Whether it sees what a committed transaction did. The stream tells transactions by 32 bits: the one that is meant is the
    /// nearest to the snapshot.
    pub fn sees(&self, xid: u32) -> bool {
        // Two's complement of the distance to xmax, which is less than 2^31 either way.
        let low = u32::try_from(self.xmax & 0xFFFF_FFFF).unwrap_or_default();
        let distance = xid.wrapping_sub(low).cast_signed();
        let full = self.xmax.wrapping_add_signed(i64::from(distance));
        full < self.xmin || (full < self.xmax && self.running.binary_search(&full).is_err())
    }
}

impl fmt::Display for Seen {
    /// As Postgres prints a `pg_snapshot`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (i, xid) in self.running.iter().enumerate() {
            write!(f, "{}{xid}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Seen {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(running), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidCursor);
        };
        let mut running: Vec<u64> = match running {
            "" => Vec::new(),
            list => list.split(',').map(decimal).collect::<Result<_, _>>()?,
        };
        running.sort_unstable();
        Ok(Self {
            xmin: decimal(xmin)?,
            xmax: decimal(xmax)?,
            running,
        })
    }
}

fn decimal(text: &str) -> Result<u64, InvalidCursor> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match digits {
        true => text.parse().map_err(|_| InvalidCursor),
        false => Err(InvalidCursor),
    }
}

/// From where somebody wants to go on: behind a cursor and, where rows were read in a snapshot first, with what that did
/// not see and without what it did. Its text is the cursor's, and `~` and the snapshot's behind it, with one more `~` between
/// them for somebody who has had some of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// What was committed up to here is known, unless the snapshot says otherwise.
    pub cursor: Cursor,
    /// What was read since is known as well.
    pub seen: Option<Seen>,
    /// Everything up to the cursor has come, also what the snapshot does not see.
    pub passed: bool,
}

impl From<Cursor> for Since {
    fn from(cursor: Cursor) -> Self {
        Self {
            cursor,
            seen: None,
            passed: true,
        }
    }
}

impl Since {
    /// Longest text that is read, in bytes: a snapshot names at most as many transactions as a server has connections.
    pub const LONGEST: usize = 64 * 1024;

    /// Whether a change of this transaction is to come.
    pub fn wants(&self, position: Position, xid: u32) -> bool {
        let unseen = self.seen.as_ref().is_none_or(|seen| !seen.sees(xid));
        unseen && (!self.passed || position > self.cursor.position)
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cursor)?;
        match &self.seen {
            Some(seen) if self.passed => write!(f, "~~{seen}"),
            Some(seen) => write!(f, "~{seen}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Since {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > Self::LONGEST {
            return Err(InvalidCursor);
        }
        let Some((cursor, seen)) = text.split_once('~') else {
            return Ok(text.parse::<Cursor>()?.into());
        };
        let behind = seen.strip_prefix('~');
        Ok(Self {
            cursor: cursor.parse()?,
            seen: Some(behind.unwrap_or(seen).parse()?),
            passed: behind.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(text: &str) -> Cursor {
        text.parse().unwrap()
    }

    #[test]
    fn texts_come_back_as_they_went_out() {
        for text in ["5f-16b3748", "0-0", "ffffffffffffffff-1-a-0", "1-2-3-ffffffff"] {
            assert_eq!(cursor(text).to_string(), text);
        }
        for text in ["1-2~10:12:10,11", "1-2~10:10:", "1-2-3-0~~10:12:11"] {
            let since: Since = text.parse().unwrap();
            assert_eq!(since.to_string(), text);
        }
    }

    #[test]
    fn a_mark_leads_to_in_front_of_what_comes_behind_it() {
        let mark = |cursor_: &str, from: Option<&str>| Mark {
            cursor: cursor(cursor_),
            from: from.map(|from| cursor(from).position),
        };
        for (mark, text, place) in [
            (mark("5f-9-1-0", None), "5f-9-1-0", "5f-9-1-0"),
            (mark("5f-9-1-0", Some("5f-7-2-1")), "5f-7-2-1_9-1-0", "5f-7-2-1"),
            (mark("5f-9-1-0", Some("5f-6")), "5f-6_9-1-0", "5f-6"),
        ] {
            assert_eq!(mark.to_string(), text);
            assert_eq!(cursor(text).to_string(), place);
            assert_eq!(text.parse::<Since>().unwrap(), cursor(place).into());
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in [
            "",
            "1",
            "1-",
            "-1",
            "1-2-3",
            "1-2-3-4-5",
            "1-+2",
            "x-1",
            "1-2-3-100000000",
            "11111111111111111-1",
            "1-2~",
            "1-2~~",
            "1-2~~~1:2:",
            "1-2~1:2",
            "1-2~1:2:x",
            "1-2~1:2:3:4",
            "1 -2",
            "é-1",
            "1-2_",
            "1-2_3-4",
            "1-2_3_4",
            "1_2",
        ] {
            assert!(text.parse::<Since>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn places_are_in_the_order_of_delivery() {
        let places = ["1-5-2-0", "1-5-2-1", "1-5-3-0", "1-5", "1-6-1-0"].map(cursor);
        assert!(places.is_sorted_by(|a, b| a.position < b.position));
    }

    #[test]
    fn a_snapshot_sees_what_was_over_when_it_was_taken() {
        let seen: Seen = "10:15:10,12".parse().unwrap();
        let sees = |xid| seen.sees(xid);
        assert!([9, 11, 13, 14].into_iter().all(sees));
        assert!(![10, 12, 15, 16].into_iter().any(sees));
    }

    #[test]
    fn transactions_are_told_over_the_end_of_32_bits() {
        let seen: Seen = "4294967290:4294967298:4294967297".parse().unwrap();
        assert!(seen.sees(4_294_967_295) && seen.sees(0) && seen.sees(4_294_967_289));
        assert!(!seen.sees(1) && !seen.sees(2));
    }

    #[test]
    fn databases_and_timelines_are_told_apart() {
        let epoch = Epoch::of("1", "1", "app");
        assert_eq!(epoch, Epoch::of("1", "1", "app"));
        for other in [
            ("2", "1", "app"),
            ("1", "2", "app"),
            ("1", "1", "b"),
            ("11", "", "app"),
        ] {
            assert_ne!(epoch, Epoch::of(other.0, other.1, other.2));
        }
    }
}
