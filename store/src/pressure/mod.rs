//! How scarce the machine's memory is, and what the index gives up for it.
//!
//! ```text
//!   figures      available, of a limit      the machine's, its cgroup's, or what somebody says
//!      │
//!   level        none ─► elevated ─► critical ─► emergency       up at once, as far as need be
//!                     ◄─          ◄─          ◄─                 down one at a look, and later than it went up
//!      │
//!   budget       the part of the index's budget that is left to it
//! ```
//!
//! | level | begins below | ends at | budget | what goes |
//! |---|---|---|---|---|
//! | none | | | all of it | nothing |
//! | elevated | 1/5 available | 1/4 | 3/4 | pages that are kept, at once |
//! | critical | 1/10 | 3/20 | 1/2 | more pages; memory ages are spilled when they are half as large |
//! | emergency | 1/20 | 3/40 | 1/4 | all pages but a few; filters of the lowest tier that do not fit are made anew, smaller ones |
//!
//! Never less than the least budget of an index. A level is a number of bytes and nothing else: which records are in
//! which tier, what is merged with what and which answer is given do not depend on it, and nothing is refused for it.

mod machine;

use crate::options::LEAST_INDEX_BYTES;
use machine::Machine;
use std::fmt;
use std::sync::Arc;

/// How much memory there is.
///
/// ```
/// use hedgerow::{MemoryFigures, MemoryWatch};
/// let all_is_there = MemoryFigures { limit: 8 << 30, available: 8 << 30 };
/// let watch = MemoryWatch::new(move || Some(all_is_there));
/// # let _ = watch;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Bytes in all.
    pub limit: u64,
    /// Bytes of these that can be had without harm to anybody.
    pub available: u64,
}

/// How scarce memory is.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{IndexMode, Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let options = options.index(IndexMode::Tiered { memory_bytes: 64 << 20 });
/// # let store = Store::create("/state", StoreParams::default(), options)?;
/// use hedgerow::MemoryLevel;
/// let index = store.stats().index.expect("it is in files");
/// assert_eq!(index.memory_level, MemoryLevel::None);   // nobody looks: see Options::watch_memory
/// assert_eq!(index.budget_now, index.budget);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum MemoryLevel {
    /// There is enough, or nobody looks.
    #[default]
    None,
    /// Less than a fifth is available.
    Elevated,
    /// Less than a tenth.
    Critical,
    /// Less than a twentieth.
    Emergency,
}

use MemoryLevel::{Critical, Elevated, Emergency, None as Enough};

/// The levels, with the fortieths of the limit that are available where each begins and where it ends, and the
/// quarters of the budget that are left in it.
const LEVELS: [(MemoryLevel, u64, u64, u64); 4] =
    [(Enough, 41, 41, 4), (Elevated, 8, 10, 3), (Critical, 4, 6, 2), (Emergency, 2, 3, 1)];

impl MemoryLevel {
    fn row(self) -> (u64, u64, u64) {
        let row = LEVELS.iter().find(|(level, ..)| *level == self);
        row.map_or((41, 41, 4), |(_, begins, ends, left)| (*begins, *ends, *left))
    }

    /// The level after a look at the memory.
    pub(crate) fn after(self, figures: MemoryFigures) -> Self {
        let below = |fortieths: u64| {
            u128::from(figures.available) * 40 < u128::from(figures.limit) * u128::from(fortieths)
        };
        let begun = LEVELS.iter().rev().find(|(_, begins, ..)| below(*begins));
        let begun = begun.map_or(Enough, |(level, ..)| *level);
        if begun >= self || below(self.row().1) {
            return begun.max(self);
        }
        LEVELS.iter().rev().map(|(level, ..)| *level).find(|level| *level < self).unwrap_or(Enough)
    }

    /// What is left of a budget.
    pub(crate) fn of_budget(self, bytes: u64) -> u64 {
        let (_, _, quarters) = self.row();
        (bytes / 4 * quarters + bytes % 4 * quarters / 4).max(LEAST_INDEX_BYTES.min(bytes))
    }
}

/// Who says how much memory there is: see [`Options::watch_memory`](crate::Options::watch_memory).
///
/// ```
/// use hedgerow::{IndexMode, MemoryWatch, Options};
/// let index = IndexMode::Tiered { memory_bytes: 1 << 30 };
/// let options = Options::new().index(index).watch_memory(MemoryWatch::of_machine());
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct MemoryWatch(Arc<dyn Fn() -> Option<MemoryFigures> + Send + Sync>);

impl MemoryWatch {
    /// What Linux says: the memory limits of the process's cgroup and of those above it (versions 1 and 2; what files of
    /// the page cache take counts as available), or what the whole machine has available, whichever is less. It is
    /// looked at once a second. On other systems it says nothing.
    pub fn of_machine() -> Self {
        let machine = Machine::default();
        Self(Arc::new(move || machine.figures()))
    }

    /// Whatever `source` says, which is asked before every job of the index and in the midst of long ones, and should
    /// return soon; `None` if it does not know.
    ///
    /// ```
    /// use hedgerow::{IndexMode, MemoryFigures, MemoryWatch, Options};
    /// // A share of a machine that others use as well.
    /// let taken = || 6_u64 << 30;
    /// let watch = MemoryWatch::new(move || {
    ///     let limit = 8 << 30;
    ///     Some(MemoryFigures { limit, available: limit - taken() })
    /// });
    /// let index = IndexMode::Tiered { memory_bytes: 1 << 30 };
    /// let options = Options::new().index(index).watch_memory(watch);
    /// # let _ = options;
    /// ```
    pub fn new(source: impl Fn() -> Option<MemoryFigures> + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// Asks it.
    pub(crate) fn figures(&self) -> Option<MemoryFigures> {
        (self.0)()
    }
}

/// Bytes of memory that this process may take at most, by the machine's and its cgroups' limits; `None` if nobody says.
pub(crate) fn memory_of_process() -> Option<u64> {
    Machine::default().least_limit()
}

impl fmt::Debug for MemoryWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryWatch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(level: MemoryLevel, available: u64) -> MemoryLevel {
        level.after(MemoryFigures { limit: 1000, available })
    }

    #[test]
    fn levels_rise_at_once() {
        let expected = [
            (1000, Enough),
            (200, Enough),
            (199, Elevated),
            (100, Elevated),
            (99, Critical),
            (50, Critical),
            (49, Emergency),
            (0, Emergency),
        ];
        for (available, level) in expected {
            assert_eq!(after(Enough, available), level, "{available}");
            // From wherever it was below.
            for (lower, ..) in LEVELS.iter().filter(|(lower, ..)| *lower < level) {
                assert_eq!(after(*lower, available), level, "{available} {lower:?}");
            }
        }
    }

    #[test]
    fn levels_fall_one_at_a_time_and_late() {
        // Around what made it rise nothing changes any more.
        for (level, stays, falls, next) in [
            (Emergency, [49, 50, 74], 75, Critical),
            (Critical, [99, 100, 149], 150, Elevated),
            (Elevated, [199, 200, 249], 250, Enough),
        ] {
            for available in stays {
                assert_eq!(after(level, available), level, "{available}");
            }
            assert_eq!(after(level, falls), next);
            assert_eq!(after(level, 1000), next, "one at a time");
        }
    }

    #[test]
    fn figures_may_be_anything() {
        for limit in [0, 1, 39, u64::MAX] {
            for available in [0, 1, u64::MAX] {
                let figures = MemoryFigures { limit, available };
                let mut level = Enough.after(figures);
                for _ in 0..4 {
                    level = level.after(figures);
                }
                assert_eq!(level.after(figures), level, "{figures:?}");
            }
        }
        assert_eq!(Enough.after(MemoryFigures { limit: 0, available: 0 }), Enough);
    }

    #[test]
    fn a_level_leaves_a_part_of_the_budget() {
        let parts = |bytes| LEVELS.map(|(level, ..)| level.of_budget(bytes));
        assert_eq!(parts(64 << 20), [64 << 20, 48 << 20, 32 << 20, 16 << 20]);
        assert_eq!(parts(7 << 20), [7 << 20, 21 << 18, 4 << 20, 4 << 20]);
        assert_eq!(parts(4 << 20), [4 << 20; 4]);
        assert_eq!(parts(u64::MAX)[0], u64::MAX);
    }
}
