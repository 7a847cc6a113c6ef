//! Which history the WAL of a server is: its timeline, and those that it was promoted from. Pure, but for asking.

use super::failure::Failure;
use super::walsender::Walsender;
use crate::change::{Epoch, Lineage, Lsn};

/// A history of WAL (manual, "Timelines", and the commands `IDENTIFY_SYSTEM` and `TIMELINE_HISTORY`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    system: String,
    timeline: u32,
    /// The timelines it came from, oldest first. Empty as well where the server does not know.
    parents: Vec<Parent>,
}

/// A timeline that was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    timeline: u32,
    /// Where the first record of the next one would start.
    left: Lsn,
}

/// How a history relates to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Same,
    /// It came from it, which was left there.
    Descends(Lsn),
    OtherTimeline,
    OtherSystem,
}

impl Identity {
    /// Asks a server.
    pub(super) async fn read(walsender: &mut Walsender) -> Result<Self, Failure> {
        const EMPTY: Failure = Failure::Protocol("empty answer to IDENTIFY_SYSTEM");
        let rows = walsender.query("IDENTIFY_SYSTEM").await?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
        let (system, timeline) = (row.next().flatten(), row.next().flatten());
        let timeline = timeline.and_then(|text| text.parse().ok());
        let (Some(system), Some(timeline)) = (system, timeline) else {
            return Err(EMPTY);
        };
        Ok(Self {
            system,
            timeline,
            parents: parents(walsender, timeline).await?,
        })
    }

    /// What positions of a database mean there.
    pub(super) fn lineage(&self, database: &str) -> Lineage {
        let epoch =
            |parents: &[Parent], timeline| Epoch::of(&self.system, &name(parents, timeline), database);
        let mut lineage = Lineage::new(epoch(&self.parents, self.timeline));
        for (number, parent) in self.parents.iter().enumerate() {
            let before = self.parents.get(..number).unwrap_or_default();
            lineage = lineage.from(epoch(before, parent.timeline), parent.left);
        }
        lineage
    }

    pub(super) fn relation(&self, before: &Self) -> Relation {
        if self.system != before.system {
            return Relation::OtherSystem;
        }
        if self == before {
            return Relation::Same;
        }
        let came_from = self.parents.iter().enumerate().find(|(number, parent)| {
            parent.timeline == before.timeline && self.parents.get(..*number) == Some(&before.parents[..])
        });
        came_from.map_or(Relation::OtherTimeline, |(_, parent)| {
            Relation::Descends(parent.left)
        })
    }
}

/// Two servers that were promoted from one are on timelines of one number: what tells them apart is where each left it.
/// The first timeline of a system has nothing but its number.
fn name(parents: &[Parent], timeline: u32) -> String {
    let mut name = String::new();
    for parent in parents {
        name.push_str(&format!("{}@{},", parent.timeline, parent.left));
    }
    name + &timeline.to_string()
}

/// Without its history file, a timeline is one of its own: whoever comes from another is told to load its rows.
async fn parents(walsender: &mut Walsender, timeline: u32) -> Result<Vec<Parent>, Failure> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let read = walsender.query(&format!("TIMELINE_HISTORY {timeline}")).await;
    let file = match read {
        Ok(rows) => rows.into_iter().next().and_then(|row| row.into_iter().nth(1)?),
        Err(Failure::Server(error)) => {
            tracing::warn!(timeline, %error, "where the database's timeline comes from cannot be read");
            return Ok(Vec::new());
        }
        Err(failure) => return Err(failure),
    };
    let parents = parse(&file.unwrap_or_default(), timeline);
    if parents.is_none() {
        tracing::warn!(timeline, "the history file of the database's timeline is not one");
    }
    Ok(parents.unwrap_or_default())
}

/// A history file: lines of timeline, position and reason, the oldest first, each later than the one before it. Empty lines
/// and those that start with `#` mean nothing. `None` for anything else.
fn parse(file: &str, timeline: u32) -> Option<Vec<Parent>> {
    let mut parents: Vec<Parent> = Vec::new();
    for line in file.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let parent = Parent {
            timeline: words.next()?.parse().ok()?,
            left: words.next()?.parse().ok()?,
        };
        let later = |last: &Parent| parent.timeline > last.timeline && parent.left >= last.left;
        if parent.timeline >= timeline || !parents.last().is_none_or(later) {
            return None;
        }
        parents.push(parent);
    }
    Some(parents).filter(|parents| !parents.is_empty())
}

#[cfg(test)]
impl Identity {
    /// A system on a timeline with these before it.
    pub(super) fn of(system: &str, timeline: u32, parents: &[(u32, u64)]) -> Self {
        let parent = |(timeline, left): &(u32, u64)| Parent {
            timeline: *timeline,
            left: Lsn(*left),
        };
        Self {
            system: system.to_owned(),
            timeline,
            parents: parents.iter().map(parent).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Cursor, Elsewhere, Position};

    #[test]
    fn history_files_are_read() {
        let parents = |file, timeline| {
            let read = parse(file, timeline)?;
            Some(
                read.iter()
                    .map(|parent| (parent.timeline, parent.left.0))
                    .collect::<Vec<_>>(),
            )
        };
        let one = "1\t0/3000148\tno recovery target specified\n";
        assert_eq!(parents(one, 2), Some(vec![(1, 0x300_0148)]));
        let two = "# comment\n1\t0/3000148\tno recovery target specified\n\n3\t1/A0\tbefore 2000-01-01 00:00:00+00\n";
        assert_eq!(parents(two, 4), Some(vec![(1, 0x300_0148), (3, 0x1_0000_00A0)]));
        assert_eq!(parents("  1 0/10", 2), Some(vec![(1, 0x10)]));
    }

    #[test]
    fn what_is_no_history_file_says_nothing() {
        for file in [
            "",
            "\n# 1\t0/1\n",
            "1",
            "1\tx",
            "x\t0/1",
            "-1\t0/1",
            "2\t0/1\tits own number",
            "1\t0/20\n1\t0/30",
            "1\t0/20\n2\t0/10",
            "99999999999\t0/1",
            "é",
        ] {
            assert_eq!(parse(file, 2), None, "{file:?}");
        }
        assert_eq!(parse("1\t0/20\n2\t0/10", 3), None, "backwards");
    }

    #[test]
    fn a_promoted_standby_descends_from_its_primary() {
        let first = Identity::of("7", 1, &[]);
        let second = Identity::of("7", 2, &[(1, 100)]);
        let third = Identity::of("7", 3, &[(1, 100), (2, 200)]);
        assert_eq!(second.relation(&first), Relation::Descends(Lsn(100)));
        assert_eq!(third.relation(&first), Relation::Descends(Lsn(100)));
        assert_eq!(third.relation(&second), Relation::Descends(Lsn(200)));
        assert_eq!(second.relation(&second), Relation::Same);
        assert_eq!(
            first.relation(&second),
            Relation::OtherTimeline,
            "the old primary came back"
        );
        let sibling = Identity::of("7", 2, &[(1, 90)]);
        assert_eq!(second.relation(&sibling), Relation::OtherTimeline);
        assert_eq!(third.relation(&sibling), Relation::OtherTimeline);
        assert_eq!(
            Identity::of("7", 2, &[]).relation(&first),
            Relation::OtherTimeline,
            "no file"
        );
        assert_eq!(
            Identity::of("8", 2, &[(1, 100)]).relation(&first),
            Relation::OtherSystem
        );
    }

    #[test]
    fn cursors_of_parents_are_understood() {
        let first = Identity::of("7", 1, &[]).lineage("app");
        let second = Identity::of("7", 2, &[(1, 100)]).lineage("app");
        let third = Identity::of("7", 3, &[(1, 100), (2, 200)]).lineage("app");
        let at = |of: &Lineage, commit| Cursor {
            epoch: of.epoch(),
            position: Position::behind(Lsn(commit)),
        };
        assert_eq!(first.epoch(), Epoch::of("7", "1", "app"), "as it always was");
        assert_eq!(third.here(at(&first, 100)), Ok(at(&third, 100)));
        assert_eq!(third.here(at(&second, 200)), Ok(at(&third, 200)));
        assert_eq!(third.here(at(&second, 201)), Err(Elsewhere::Undone));
        assert_eq!(second.here(at(&third, 1)), Err(Elsewhere::Unrelated));
        let sibling = Identity::of("7", 2, &[(1, 90)]).lineage("app");
        assert_eq!(third.here(at(&sibling, 1)), Err(Elsewhere::Unrelated));
        assert_eq!(
            second.here(at(&Identity::of("7", 1, &[]).lineage("other"), 1)),
            Err(Elsewhere::Unrelated)
        );
    }
}
