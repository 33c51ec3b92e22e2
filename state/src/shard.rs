//! The state of one shard, and the one way in which a run of entries changes it.
//!
//! ```text
//!              twig 4          twig 5          twig 6
//!   before   ..1.....1..1....│1.11....1.1.1...│1.111.1..            serial numbers ──►
//!                    ▲ oldest active                   ▲ next
//!
//!   RunChange  first_sn and entries           the run is there, all of it active     ▼
//!              deactivated              - these are not         ▼         ▼       ▼
//!   after    ................│1.11....0.1.1...│1.110.1..1111011111
//!              oldest_active  ▲ what lies before its twig       ▲         ▲ next
//!                               is forgotten
//!
//!   take: before + RunChange ─► after + Undo       undo: after + Undo ─► before
//! ```
//!
//! Whoever changes a shard does it with a [`RunChange`] and [`ShardState::take`]: a new store, a store that is
//! opened, with and without a checkpoint, and what is to come (rollback, drafts, sync). Update alone does
//! not have the run beforehand, since compaction asks the bits while it is made: it goes through the same
//! steps one by one, [`begin`](ShardState::begin), [`retire`](ShardState::retire) and
//! [`push`](ShardState::push) for every entry, [`end`](ShardState::end), and its delta says which
//! `RunChange` that was.
//!
//! A change is refused if it does not fit the state, and then nothing has changed. What it does not say is
//! in the [`Undo`], so that the two of them lead back, past what was forgotten too.
//!
//! A store that is opened does not read all of its log. Then it takes runs in before it knows everything:
//! see [`ShardState::from_twig`].

use crate::Error;
use crate::begins::TwigBegins;
use crate::bits::{ActiveBits, Shape};
use hedgerow_types::{SerialNumber, ShardId, TwigId};

/// What a shard is after a block, beside its keys and its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardState {
    shard: ShardId,
    /// Before this twig nothing is followed: whether those entries are active is not known.
    from: TwigId,
    next_sn: SerialNumber,
    oldest_active: SerialNumber,
    active: u64,
    bits: ActiveBits,
    begins: TwigBegins,
}

/// What a run of entries changes of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunChange<'a> {
    /// Serial number of the first entry.
    pub first_sn: SerialNumber,
    /// How many entries there are.
    pub entries: u64,
    /// The entries that they replace, those of the run among them; each one once.
    pub deactivated: &'a [SerialNumber],
    /// No entry below it is active afterwards.
    pub oldest_active: SerialNumber,
    /// Entries of all shards before the block.
    pub entries_before: u64,
}

/// Takes a run back, with the entries that it deactivated.
#[derive(Clone, Debug)]
pub struct Undo {
    next_sn: SerialNumber,
    oldest_active: SerialNumber,
    active: u64,
    bits: Shape,
    /// What was forgotten of where twigs begin.
    begins: Vec<(TwigId, u64)>,
}

/// Why a run does not fit the state of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It does not begin where the shard ends.
    #[error("a run begins with entry {first_sn}, the next one is {next_sn}")]
    OutOfOrder {
        /// Where it begins.
        first_sn: SerialNumber,
        /// Where the shard ends.
        next_sn: SerialNumber,
    },
    /// An entry that it replaces is not active.
    #[error("entry {sn} is replaced and was not active")]
    NotActive {
        /// Its number among those deactivated.
        number: usize,
        /// The entry.
        sn: SerialNumber,
    },
    /// Not everything below what it calls the oldest active entry is there and inactive.
    #[error("it calls {said} the oldest active entry, which it is not")]
    OldestActive {
        /// What it says.
        said: SerialNumber,
        /// The entry that is active, unless `said` is beyond the end, or less than it was before.
        active: Option<SerialNumber>,
    },
}

impl ShardState {
    /// A shard without entries.
    pub fn empty(shard: ShardId) -> Self {
        Self::from_twig(shard, TwigId(0))
    }

    /// A shard of which nothing is known before the twig `from`: what runs bring before that twig, and what
    /// they replace there, counts for nothing. They may begin with any entry, see
    /// [`skip_to`](Self::skip_to).
    pub fn from_twig(shard: ShardId, from: TwigId) -> Self {
        Self {
            shard,
            from,
            next_sn: SerialNumber(0),
            oldest_active: from.first(),
            active: 0,
            bits: ActiveBits::starting_at(from),
            begins: TwigBegins::default(),
        }
    }

    /// A shard as it was kept: `bits` are the active ones, from the twig of `oldest_active` on.
    pub fn from_parts(
        shard: ShardId,
        next_sn: SerialNumber,
        oldest_active: SerialNumber,
        bits: ActiveBits,
        begins: TwigBegins,
    ) -> Self {
        let active = bits.count();
        Self { shard, from: TwigId(0), next_sn, oldest_active, active, bits, begins }
    }

    /// The runs that are taken begin with the entry `first`, before which none is read.
    pub fn skip_to(&mut self, first: SerialNumber) {
        self.next_sn = first;
    }

    /// From here on all is known: nothing before the twig is active.
    pub fn complete(&mut self) {
        self.from = TwigId(0);
    }

    /// Which one it is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The serial number that the next entry gets.
    pub fn next_sn(&self) -> SerialNumber {
        self.next_sn
    }

    /// No entry below this serial number is active.
    pub fn oldest_active(&self) -> SerialNumber {
        self.oldest_active
    }

    /// Active entries, sentries included.
    pub fn active(&self) -> u64 {
        self.active
    }

    /// The active entry with the smallest serial number.
    pub fn first_active(&self) -> Option<SerialNumber> {
        self.bits.next_active(self.oldest_active)
    }

    /// Which entries are active.
    pub fn bits(&self) -> &ActiveBits {
        &self.bits
    }

    /// Where the twigs begin that may still be needed.
    pub fn begins(&self) -> &TwigBegins {
        &self.begins
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.bits.heap_bytes() + self.begins.heap_bytes()
    }

    /// Takes a run in. What leads back is in the answer, together with `run`.
    ///
    /// # Errors
    /// [`Misfit`] if it does not fit; then the shard is as it was.
    pub fn take(&mut self, run: &RunChange<'_>) -> Result<Undo, Misfit> {
        let RunChange { first_sn, entries, deactivated, oldest_active, entries_before } = *run;
        let mut undo = self.begin();
        let next = first_sn.0.checked_add(entries).map(SerialNumber);
        let (Some(next), true) = (next, first_sn == self.next_sn) else {
            return Err(Misfit::OutOfOrder { first_sn, next_sn: self.next_sn });
        };
        let followed = first_sn.max(self.from.first());
        self.bits.set_range(followed, next);
        self.active += next.0.saturating_sub(followed.0);
        self.next_sn = next;
        for (number, &sn) in deactivated.iter().enumerate() {
            // Whether one that is not followed was active is not known.
            if sn >= self.from.first() && !self.retire(sn) {
                self.undo(undo, &deactivated[..number]);
                return Err(Misfit::NotActive { number, sn });
            }
        }
        if let Err(refused) = self.check_oldest(oldest_active) {
            self.undo(undo, deactivated);
            return Err(refused);
        }
        self.pass(oldest_active.max(self.oldest_active));
        self.end(&mut undo, entries_before);
        Ok(undo)
    }

    fn check_oldest(&self, said: SerialNumber) -> Result<(), Misfit> {
        let old = self.oldest_active;
        if said > self.next_sn || said < old && self.from == TwigId(0) {
            return Err(Misfit::OldestActive { said, active: None });
        }
        if said > old {
            let active = self.bits.next_active(old).filter(|&sn| sn < said);
            if active.is_some() {
                return Err(Misfit::OldestActive { said, active });
            }
        }
        Ok(())
    }

    /// Takes a run back, the last one that is there: `deactivated` are the entries that it deactivated.
    pub fn undo(&mut self, undo: Undo, deactivated: &[SerialNumber]) {
        let Undo { next_sn, oldest_active, active, bits, begins } = undo;
        self.bits.reach_back(bits);
        for &sn in deactivated {
            self.bits.set(sn);
        }
        for sn in next_sn.0..self.next_sn.0 {
            self.bits.clear(SerialNumber(sn));
        }
        self.bits.cut(bits);
        self.begins.restore(next_sn, begins);
        (self.next_sn, self.oldest_active, self.active) = (next_sn, oldest_active, active);
    }

    /// The state of an earlier block: one with the next serial number `next_sn` and nothing active below
    /// `oldest_active`, in which all were active that are now, and those that were `deactivated` since; in any order.
    /// `begins` says where its twigs begin.
    ///
    /// # Errors
    /// [`Misfit`] if that cannot have been: one of these is active, or there was none yet.
    pub fn at(
        &self,
        next_sn: SerialNumber,
        oldest_active: SerialNumber,
        deactivated: impl Iterator<Item = SerialNumber>,
        begins: TwigBegins,
    ) -> Result<Self, Misfit> {
        let mut bits = self.bits.clone();
        bits.take_back(oldest_active.twig(), next_sn);
        for (number, sn) in deactivated.enumerate() {
            let fits = sn < next_sn && sn >= oldest_active && !bits.is_active(sn);
            if !fits || !bits.set(sn) {
                return Err(Misfit::NotActive { number, sn });
            }
        }
        Ok(Self::from_parts(self.shard, next_sn, oldest_active, bits, begins))
    }

    /// Begins a run that is taken in entry by entry: how things are before it.
    pub(crate) fn begin(&self) -> Undo {
        let Self { next_sn, oldest_active, active, .. } = *self;
        Undo { next_sn, oldest_active, active, bits: self.bits.shape(), begins: Vec::new() }
    }

    /// The next entry is there, and active. `false` if its twig is forgotten.
    pub(crate) fn push(&mut self) -> bool {
        let set = self.bits.set(self.next_sn);
        self.next_sn = self.next_sn.plus(1);
        self.active += 1;
        set
    }

    /// An entry is not active any more. `false` if it was not.
    pub(crate) fn retire(&mut self, sn: SerialNumber) -> bool {
        let was = self.bits.clear(sn);
        self.active -= u64::from(was);
        was
    }

    /// Nothing below `oldest` is active.
    pub(crate) fn pass(&mut self, oldest: SerialNumber) {
        self.oldest_active = oldest;
    }

    /// Ends a run, before the block of which there were so many entries of all shards: what lies before the
    /// twig of the oldest active entry is forgotten.
    pub(crate) fn end(&mut self, undo: &mut Undo, entries_before: u64) {
        self.begins.note(undo.next_sn, self.next_sn, entries_before);
        let first = self.oldest_active.twig();
        undo.begins = self.begins.take_before(first, undo.next_sn);
        self.bits.drop_before(first);
    }
}

impl Misfit {
    /// As an error of the shard that it was to change.
    pub fn of(self, shard: ShardId) -> Error {
        Error::Corrupt(format!("shard {shard}: {self}"))
    }
}

#[cfg(test)]
mod tests;
