//! The index of a shard, from the keys of a checkpoint and what the log added since.
//!
//! ```text
//!   checkpoint   a ─ b ─ c ─ c' ─ e ─ ...        stem and position, ascending; c and c' have one stem
//!   log since    entry of a, which replaced an older one   ─► that of a goes
//!                entry of c, which replaced an older one   ─► of c and c' the one that is not active goes
//!                deletion of e, by serial number           ─► where that entry lies, its twig's record says
//!                entry of d, which replaced none           ─► d comes
//!                ▼
//!   index        a ─ b ─ c ─ c' ─ d ─ ...
//! ```
//!
//! An entry names the entries that it replaces by serial number, the checkpoint knows them by stem and
//! position. An entry has the key of the last one that it replaces ([spec 6](hedgerow_types::spec)), so where a stem has as many
//! keys as were replaced under it, all of them go and nothing is read. Only where keys share a stem, their
//! entries are read and asked for their serial numbers; and those that were deleted are looked up.
//!
//! The index must have as many keys in the end as there are active entries.

use super::Source;
use super::entries::{UNKNOWN, each_entry};
use crate::Error;
use hedgerow_index::{ShardIndex, Stem};
use hedgerow_state::checkpoint::{CheckpointError, Keys};
use hedgerow_state::{ActiveBits, OpenTwig, key_hash_of};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{LogPosition, SerialNumber, ShardId};
use std::iter::Peekable;
use std::vec::IntoIter;

type Key = (Stem, LogPosition);

/// What a checkpoint cannot be used for any more is as if it contradicted the log: opening does without.
pub(super) fn unusable(error: CheckpointError) -> Error {
    Error::Corrupt(error.to_string())
}

/// The keys of a shard of a checkpoint, and what became of them since.
#[derive(Debug)]
pub(super) struct Base {
    keys: Keys,
    /// Entries below it are the checkpoint's.
    next_sn: SerialNumber,
    /// Its youngest twig.
    open: OpenTwig,
    /// The stems under which entries of the checkpoint were replaced, once for each.
    pub(super) replaced: Vec<Stem>,
    /// Entries of the checkpoint whose keys were deleted.
    deleted: Vec<SerialNumber>,
}

impl Base {
    pub(super) fn new(keys: Keys, next_sn: SerialNumber, open: &OpenTwig) -> Self {
        Self { keys, next_sn, open: open.clone(), replaced: Vec::new(), deleted: Vec::new() }
    }

    /// Notes the entries that a later one replaced, in stored order. Says whether its own key was the
    /// checkpoint's.
    pub(super) fn note(&mut self, gone: impl ExactSizeIterator<Item = SerialNumber>) -> bool {
        let last = gone.len().saturating_sub(1);
        let mut own = false;
        for (number, sn) in gone.enumerate() {
            if sn < self.next_sn {
                if number == last {
                    own = true;
                } else {
                    self.deleted.push(sn);
                }
            }
        }
        own
    }

    /// The index at the end: of the checkpoint's keys those that are left, and `fresh`, in any order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the checkpoint is damaged, or something that is needed to tell was pruned.
    pub(super) fn index(
        mut self,
        source: &Source<'_>,
        shard: ShardId,
        bits: &ActiveBits,
        mut fresh: Vec<Key>,
    ) -> Result<ShardIndex, Error> {
        fresh.sort_unstable();
        self.replaced.sort_unstable();
        let mut dead = self.places_of_deleted(source, shard)?;
        dead.sort_unstable();
        let start = source.manifest.log_start;
        // Nothing below the start of the log is active.
        let alive = |at: LogPosition| {
            Ok(at >= start && bits.is_active(source.log.read(at)?.get().serial_number()))
        };
        let merge = Merge {
            keys: self.keys.peekable(),
            replaced: self.replaced.into_iter().peekable(),
            dead: dead.into_iter().peekable(),
            start,
            alive,
            fresh: fresh.into_iter().peekable(),
            left: Vec::new(),
            at: 0,
        };
        ShardIndex::from_ascending(merge)
    }

    /// Where the deleted entries lay.
    fn places_of_deleted(
        &mut self,
        source: &Source<'_>,
        shard: ShardId,
    ) -> Result<Vec<Key>, Error> {
        self.deleted.sort_unstable();
        let mut found = Vec::with_capacity(self.deleted.len());
        let note = |at, entry: EntryRef<'_>| {
            found.push((stem_of(entry), at));
            Ok(())
        };
        match source.twigs {
            Some(twigs) => {
                let (log, youngest) = (source.log, self.next_sn.twig());
                each_entry(log, twigs, shard, &self.open, youngest, &self.deleted, note)?;
            }
            None if self.deleted.is_empty() => {}
            None => return Err(Error::Corrupt(format!("shard {shard}: {UNKNOWN}"))),
        }
        Ok(found)
    }
}

fn stem_of(entry: EntryRef<'_>) -> Stem {
    Stem::of(&key_hash_of(entry))
}

/// Ascending keys: those of a checkpoint that are left, and fresh ones. All lists ascend.
struct Merge<K: Iterator<Item = Result<Key, CheckpointError>>, A> {
    keys: Peekable<K>,
    replaced: Peekable<IntoIter<Stem>>,
    dead: Peekable<IntoIter<Key>>,
    start: LogPosition,
    /// Whether the entry at a position is active; it reads it.
    alive: A,
    fresh: Peekable<IntoIter<Key>>,
    /// Of the checkpoint's keys with the last stem, those that are left, from `at` on.
    left: Vec<Key>,
    at: usize,
}

impl<K, A> Merge<K, A>
where
    K: Iterator<Item = Result<Key, CheckpointError>>,
    A: FnMut(LogPosition) -> Result<bool, Error>,
{
    /// Goes on to the checkpoint's next stem, of which nothing may be left. `false` at the end.
    fn next_stem(&mut self) -> Result<bool, Error> {
        let Self { keys, replaced, dead, left, .. } = self;
        left.clear();
        self.at = 0;
        let Some(first) = keys.next() else { return Ok(false) };
        let (stem, at) = first.map_err(unusable)?;
        left.push((stem, at));
        while let Some(next) = keys.next_if(|next| matches!(next, Ok((same, _)) if *same == stem)) {
            left.push(next.map_err(unusable)?);
        }
        while dead.next_if(|(other, _)| *other < stem).is_some() {}
        while let Some(gone) = dead.next_if(|(other, _)| *other == stem) {
            left.retain(|key| *key != gone);
        }
        while replaced.next_if(|other| *other < stem).is_some() {}
        let mut count = 0;
        while replaced.next_if(|other| *other == stem).is_some() {
            count += 1;
        }
        if count == 0 {
            left.retain(|(_, at)| *at >= self.start);
        } else if count == left.len() {
            left.clear();
        } else {
            let mut failed = Ok(());
            left.retain(|(_, at)| match (self.alive)(*at) {
                Ok(alive) => alive,
                Err(error) => {
                    failed = Err(error);
                    false
                }
            });
            failed?;
        }
        Ok(true)
    }
}

impl<K, A> Iterator for Merge<K, A>
where
    K: Iterator<Item = Result<Key, CheckpointError>>,
    A: FnMut(LogPosition) -> Result<bool, Error>,
{
    type Item = Result<Key, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at == self.left.len() {
            match self.next_stem() {
                Ok(true) => {}
                Ok(false) => return self.fresh.next().map(Ok),
                Err(error) => return Some(Err(error)),
            }
        }
        let old = self.left[self.at];
        if let Some(fresh) = self.fresh.next_if(|fresh| *fresh < old) {
            return Some(Ok(fresh));
        }
        self.at += 1;
        Some(Ok(old))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use hashbrown::HashMap;
    use proptest::prelude::*;

    /// What happens to a key of few, which have fewer stems.
    #[derive(Clone, Debug)]
    enum Op {
        Write(u8),
        Delete(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![3 => (0u8..24).prop_map(Op::Write), 1 => (0u8..24).prop_map(Op::Delete)]
    }

    /// Three keys share a stem.
    fn stem(key: u8) -> Stem {
        Stem::new(u64::from(key / 3) << 31).unwrap()
    }

    #[derive(Default)]
    struct State {
        /// Where each key is.
        keys: HashMap<u8, LogPosition>,
        end: u64,
    }

    impl State {
        fn next(&mut self) -> LogPosition {
            self.end += 8;
            LogPosition(self.end)
        }

        fn all(&self) -> Vec<Key> {
            let mut all: Vec<_> = self.keys.iter().map(|(&key, &at)| (stem(key), at)).collect();
            all.sort_unstable();
            all
        }
    }

    proptest! {
        /// Whatever is written and deleted after the checkpoint, and wherever the log begins.
        #[test]
        fn what_is_left_and_what_came_are_the_index(
            before in proptest::collection::vec(op(), 0..60),
            after in proptest::collection::vec(op(), 0..60),
            pruned in any::<bool>(),
        ) {
            let mut state = State::default();
            for op in before {
                match op {
                    Op::Write(key) => { let at = state.next(); state.keys.insert(key, at); }
                    Op::Delete(key) => { state.keys.remove(&key); }
                }
            }
            let (base, base_end) = (state.all(), state.end);
            let (mut replaced, mut dead) = (vec![], vec![]);
            for op in after {
                let old_at = |at: &LogPosition| at.0 <= base_end;
                match op {
                    Op::Write(key) => {
                        let at = state.next();
                        if state.keys.insert(key, at).as_ref().is_some_and(old_at) {
                            replaced.push(stem(key));
                        }
                    }
                    Op::Delete(key) => if let Some(at) = state.keys.remove(&key).filter(old_at) {
                        dead.push((stem(key), at));
                    }
                }
            }
            replaced.sort_unstable();
            dead.sort_unstable();
            let expected = state.all();
            let oldest = expected.iter().map(|(_, at)| *at).min();
            let start = oldest.filter(|_| pruned).unwrap_or(LogPosition(0));
            if pruned {
                // Where pruned entries lay is not known, and need not be.
                dead.retain(|(_, at)| *at >= start);
            }
            let fresh: Vec<_> = expected.iter().copied().filter(|(_, at)| at.0 > base_end).collect();
            let merge = Merge {
                keys: base.into_iter().map(Ok).peekable(),
                replaced: replaced.into_iter().peekable(),
                dead: dead.into_iter().peekable(),
                start,
                alive: |at| Ok(expected.iter().any(|key| key.1 == at)),
                fresh: fresh.into_iter().peekable(),
                left: Vec::new(),
                at: 0,
            };
            let merged: Vec<Key> = merge.collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(merged, expected);
        }
    }
}
