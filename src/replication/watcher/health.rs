//! What one look says. Pure.

/// `pg_replication_slots.wal_status` (manual, "pg_replication_slots").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalStatus {
    /// The WAL it needs is within `max_wal_size`.
    Reserved,
    /// It needs more, and that is kept for it.
    Extended,
    /// What it needs is removed at the next checkpoint.
    Unreserved,
    /// What it needed is gone.
    Lost,
    /// There is no such slot.
    Missing,
    /// Something that newer versions say.
    Unknown,
}

impl WalStatus {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Reserved,
        Self::Extended,
        Self::Unreserved,
        Self::Lost,
        Self::Missing,
        Self::Unknown,
    ];

    pub(super) fn from_postgres(name: Option<&str>) -> Self {
        let known = Self::ALL.into_iter().find(|status| Some(status.name()) == name);
        known.unwrap_or(Self::Unknown)
    }

    /// Postgres' own word for it, where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Extended => "extended",
            Self::Unreserved => "unreserved",
            Self::Lost => "lost",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }

    /// It can be streamed from.
    pub(super) fn is_there(self) -> bool {
        !matches!(self, Self::Lost | Self::Missing)
    }
}

/// How a slot is. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHealth {
    /// What Postgres says of its WAL.
    pub status: WalStatus,
    /// Why Postgres has given it up, if it says so.
    pub invalidated: Option<String>,
    /// WAL that is kept for it.
    pub retained: u64,
    /// WAL between what was confirmed and now.
    pub unconfirmed: u64,
    /// What was confirmed, as a position.
    pub confirmed: u64,
    /// How much can still be written before it is in danger; `None` where nothing limits what is kept, or it is lost.
    pub safe: Option<u64>,
    /// `max_slot_wal_keep_size`; `None` for no limit.
    pub keep_size: Option<u64>,
    /// `replication.wal_budget`.
    pub wal_budget: u64,
    /// The database is a standby of another one.
    pub in_recovery: bool,
}

impl SlotHealth {
    /// How much WAL the replay window may hold back: its budget, no more than half of what Postgres keeps, and no more
    /// than can still be written, so that others that hold WAL back for this slot (a long transaction) make the window
    /// smaller. Nothing once Postgres is about to give the slot up.
    pub fn headroom(&self) -> u64 {
        match self.status {
            WalStatus::Unreserved | WalStatus::Lost => 0,
            _ => self
                .wal_budget
                .min(self.keep_size.map_or(u64::MAX, |size| size / 2))
                .min(self.safe.unwrap_or(u64::MAX)),
        }
    }

    /// At what Postgres gives the slot up, or, where it never does, twice the budget: the window by itself comes half as far.
    pub fn limit(&self) -> u64 {
        self.keep_size.unwrap_or(self.wal_budget.saturating_mul(2))
    }

    /// The share of the limit that is used; more than 1 is possible, since Postgres looks only at checkpoints.
    pub fn used(&self) -> f64 {
        self.retained as f64 / self.limit().max(1) as f64
    }
}

/// How bad it is, mildest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Fine,
    Near,
    Unreserved,
    Lost,
}

/// Share of the limit from which on it is said, and below which it is over.
const NEAR: f64 = 0.8;
const OVER: f64 = 0.7;

/// Says each worsening once.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    told: Level,
}

impl Warnings {
    /// Logs what is worse than at the last look, or well again; the level.
    pub(super) fn look(&mut self, slot: &str, health: &SlotHealth) -> Level {
        let bound = if self.told == Level::Fine { NEAR } else { OVER };
        let level = match health.status {
            WalStatus::Lost => Level::Lost,
            WalStatus::Unreserved => Level::Unreserved,
            _ if health.used() >= bound => Level::Near,
            _ => Level::Fine,
        };
        let (retained_bytes, limit_bytes) = (health.retained, health.limit());
        match level {
            _ if level <= self.told && level != Level::Fine => {}
            Level::Fine if self.told == Level::Fine => {}
            Level::Fine => tracing::info!(slot, retained_bytes, "the replication slot is well again"),
            Level::Near => tracing::warn!(
                slot,
                retained_bytes,
                limit_bytes,
                "postgres keeps much wal for the replication slot; look for old transactions, or a server that does not \
                 read"
            ),
            Level::Unreserved => tracing::warn!(
                slot,
                retained_bytes,
                limit_bytes,
                "the replication slot is about to be lost: postgres removes wal that it needs at the next checkpoint; \
                 raise max_slot_wal_keep_size"
            ),
            Level::Lost => tracing::error!(
                slot,
                reason = health.invalidated.as_deref().unwrap_or("wal_removed"),
                "the replication slot is lost: changes are missing (replication.recreate_lost_slot)"
            ),
        }
        self.told = level;
        level
    }
}
