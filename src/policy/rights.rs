use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

/// What somebody may do on a private channel: a set.
///
/// Each is what the policies on `realtime.messages` say of a row with the channel's topic: reading by those for SELECT,
/// the rest by those for INSERT.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rights(u8);

impl Rights {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// A row with `extension = 'broadcast'` can be read.
    pub const READ_BROADCAST: Self = Self(1);
    /// A row with `extension = 'presence'` can be read.
    pub const READ_PRESENCE: Self = Self(2);
    /// A row with `extension = 'broadcast'` can be inserted.
    pub const WRITE_BROADCAST: Self = Self(4);
    /// A row with `extension = 'presence'` can be inserted.
    pub const WRITE_PRESENCE: Self = Self(8);
    /// A row with `extension = 'persistence'` can be inserted.
    pub const PERSIST: Self = Self(16);
    /// Those that the policies for SELECT decide.
    pub const READ: Self = Self(3);

    /// Each by itself.
    pub const EACH: [Self; 5] = [
        Self::READ_BROADCAST,
        Self::READ_PRESENCE,
        Self::WRITE_BROADCAST,
        Self::WRITE_PRESENCE,
        Self::PERSIST,
    ];

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some of `other` is among these.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of these.
    pub fn iter(self) -> impl Iterator<Item = Self> {
        Self::EACH.into_iter().filter(move |each| self.contains(*each))
    }

    /// The value of the column `extension` that a single right is about.
    pub fn extension(self) -> &'static str {
        if self.intersects(Self::READ_PRESENCE | Self::WRITE_PRESENCE) {
            "presence"
        } else if self.intersects(Self::PERSIST) {
            "persistence"
        } else {
            "broadcast"
        }
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Rights {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Rights {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 5] = [
            "read broadcast",
            "read presence",
            "write broadcast",
            "write presence",
            "persist",
        ];
        let named = Self::EACH.iter().zip(NAMES);
        f.debug_set()
            .entries(
                named
                    .filter(|(right, _)| self.contains(**right))
                    .map(|(_, name)| name),
            )
            .finish()
    }
}
