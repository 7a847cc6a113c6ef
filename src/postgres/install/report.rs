use std::fmt;

/// What an installation did, object by object, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallReport {
    /// One entry per object.
    pub entries: Vec<Entry>,
}

/// One object's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Kind and name, for example `function realtime.topic()`.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Rowcast cannot serve without it.
    pub essential: bool,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was missing and is there now.
    Created,
    /// It was ours in an older form and is replaced.
    Updated,
    /// It is ours and as it should be.
    Current,
    /// It is somebody else's.
    LeftAlone,
    /// It is missing and could not be made; the text says why.
    Skipped(String),
}

impl InstallReport {
    /// What is missing that Rowcast cannot do without.
    pub fn missing_essentials(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.essential && matches!(entry.outcome, Outcome::Skipped(_)))
    }

    /// Whether a change of the catalog is announced in the replication stream. Where it is not, the catalog has to be
    /// read again from time to time. (Roles and memberships are never announced.)
    pub fn announces_catalog_changes(&self) -> bool {
        let mut triggers = self
            .entries
            .iter()
            .filter(|entry| entry.object.starts_with("event trigger "))
            .peekable();
        triggers.peek().is_some() && triggers.all(|entry| !matches!(entry.outcome, Outcome::Skipped(_)))
    }

    /// The outcome of an object by its title.
    pub fn outcome(&self, object: &str) -> Option<&Outcome> {
        self.entries
            .iter()
            .find(|entry| entry.object == object)
            .map(|entry| &entry.outcome)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Updated => f.write_str("replaced by the current definition"),
            Self::Current => f.write_str("up to date"),
            Self::LeftAlone => f.write_str("exists and is not ours, left alone"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.outcome)
    }
}
