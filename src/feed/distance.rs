//! How far behind somebody is who comes back: those who are near do not wait for those who are far.

/// How many changes lie between a place and the end of the window, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distance {
    /// Seconds, as after most interruptions.
    Near,
    /// A minute of a busy table.
    Middle,
    /// Anything up to the whole window.
    Far,
}

/// Most changes that are near, and that are in the middle: what a pass over all of them costs grows alike from each to the next.
const NEAR: usize = 512;
const MIDDLE: usize = 16 * NEAR;

impl Distance {
    /// All of them, the nearest first.
    pub(super) const ALL: [Self; 3] = [Self::Near, Self::Middle, Self::Far];

    /// That of a place with so many changes behind it.
    pub(super) fn of(changes: usize) -> Self {
        if changes <= NEAR {
            Self::Near
        } else if changes <= MIDDLE {
            Self::Middle
        } else {
            Self::Far
        }
    }

    /// The one that has its turn behind this one.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Near => Self::Middle,
            Self::Middle => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// One for each distance.
#[derive(Debug, Default)]
pub(super) struct ByDistance<T> {
    near: T,
    middle: T,
    far: T,
}

impl<T> ByDistance<T> {
    pub(super) fn at(&self, distance: Distance) -> &T {
        match distance {
            Distance::Near => &self.near,
            Distance::Middle => &self.middle,
            Distance::Far => &self.far,
        }
    }

    pub(super) fn at_mut(&mut self, distance: Distance) -> &mut T {
        match distance {
            Distance::Near => &mut self.near,
            Distance::Middle => &mut self.middle,
            Distance::Far => &mut self.far,
        }
    }

    pub(super) fn each(&self) -> [&T; 3] {
        [&self.near, &self.middle, &self.far]
    }

    pub(super) fn each_mut(&mut self) -> [&mut T; 3] {
        [&mut self.near, &mut self.middle, &mut self.far]
    }
}
