//! What the log has to say about an index in files, in little memory: for each group of a shard a sum over the
//! records that count.
//!
//! ```text
//!   log, one pass       entry ─► counts, by the index's own bits? ─► record ─► its group's sum     16 bytes
//!   then                the index's bits = those that the log leads to?   if so, the sums are the log's
//!   index, by groups    records that count, each once ─────────────────► their sum: the same?
//!                       no: the records of that one group are collected from the log, and compared
//! ```
//!
//! An index made from the log to compare with would have to be in memory, of which there is not enough, or in
//! files, for which a store that is only read has no place. The sums take 64 KiB for each shard. A record goes into
//! them as a hash of 128 bits, whose keys are drawn anew each time: no two sets of records are taken for each other
//! by chance, nor made to be.

use crate::Error;
use crate::read::given_up::{Mark, noted};
use hedgerow_entryfile::EntryLog;
use hedgerow_index::{Audited, GROUPS, Index, Record, Stem, TieredIndex};
use hedgerow_metadb::Manifest;
use hedgerow_state::{ActiveBits, key_hash_of};
use hedgerow_types::{SerialNumber, ShardId};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

/// What records are hashed with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys([RandomState; 2]);

impl Keys {
    fn hash(&self, record: &Record) -> u128 {
        let words = (record.stem.get(), record.at.0, record.sn.0);
        let [low, high] = self.0.each_ref().map(|keys| u128::from(keys.hash_one(words)));
        low | high << 64
    }
}

/// The sums of a shard: see the [module documentation](self).
pub(crate) struct Sums {
    shard: ShardId,
    index: TieredIndex,
    keys: Arc<Keys>,
    /// What gives the index up if it differs.
    mark: Option<Arc<Mark>>,
    of_groups: Vec<u128>,
}

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sums").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Sums {
    pub(super) fn new(
        shard: ShardId,
        index: TieredIndex,
        keys: Arc<Keys>,
        mark: Option<Arc<Mark>>,
    ) -> Self {
        Self { shard, index, keys, mark, of_groups: vec![0; GROUPS] }
    }

    fn counts(&self, sn: SerialNumber) -> bool {
        counts(&self.index, sn)
    }

    /// Takes in the record of an entry of the log.
    pub(super) fn take(&mut self, record: &Record) {
        if self.counts(record.sn)
            && let Some(sum) = self.of_groups.get_mut(record.stem.group())
        {
            *sum = sum.wrapping_add(self.keys.hash(record));
        }
    }

    /// Compares the index's bits with those that the log leads to; only then the sums are the log's.
    pub(super) fn agree_on(&self, bits: &ActiveBits) -> Result<(), Error> {
        let shard = self.shard;
        let mut count = 0;
        for (first, word) in bits.words() {
            let said = self.index.word(first);
            count += u64::from(word.count_ones());
            if said != word {
                let bit = u64::from((said ^ word).trailing_zeros());
                let is = if said >> bit & 1 == 1 {
                    "counts though the log has it replaced"
                } else {
                    "does not count though nothing in the log replaced it"
                };
                return Err(
                    self.differs(format!("entry {} of shard {shard} {is}", first.plus(bit)))
                );
            }
        }
        let len = self.index.counting();
        if (len, self.index.len() as u64) != (count, count) {
            let what = format!("{len} entries of shard {shard} count, in the log {count} do");
            return Err(self.differs(what));
        }
        Ok(())
    }

    /// Compares what the index has with the sums.
    ///
    /// # Errors
    /// [`Error::Index`] with what is wrong, and in which file; those of reading it.
    pub(crate) fn compare(&self, log: &EntryLog, manifest: &Manifest) -> Result<(), Error> {
        let noted = |error| noted(self.mark.as_ref(), error);
        self.index.check_files().map_err(noted)?;
        let mut found = Vec::new();
        for (group, said) in self.of_groups.iter().enumerate() {
            found.clear();
            self.index.audit(group, &mut found).map_err(noted)?;
            let sum = |sum: u128, it: &Audited| sum.wrapping_add(self.keys.hash(&it.record));
            if found.iter().fold(0, sum) != *said {
                return Err(self.explain(group, &found, log, manifest)?);
            }
        }
        Ok(())
    }

    /// The error of what is wrong with the index, which is given up.
    fn differs(&self, what: String) -> Error {
        let left = self
            .mark
            .as_ref()
            .is_some_and(|mark| mark.leave(&format!("the index differs from the log: {what}")));
        let then = if left { "; the next opening makes the index anew from the log" } else { "" };
        Error::Index(format!("the index differs from the log: {what}{then}"))
    }

    /// What is wrong with a group.
    fn explain(
        &self,
        group: usize,
        found: &[Audited],
        log: &EntryLog,
        manifest: &Manifest,
    ) -> Result<Error, Error> {
        let mut right = Vec::new();
        let mut places: HashMap<_, _> = found.iter().map(|it| (it.record.sn, None)).collect();
        for record in log.scan(manifest.log_start, manifest.log_end) {
            for (at, entry) in record?.entries(self.shard) {
                let sn = entry.serial_number();
                if let Some(place) = places.get_mut(&sn) {
                    *place = Some(at);
                }
                if self.counts(sn) {
                    let stem = Stem::of(&key_hash_of(entry));
                    right.extend((stem.group() == group).then_some(Record { stem, at, sn }));
                }
            }
        }
        right.sort_unstable();
        let shard = self.shard;
        let is_right = |it: &&Audited| right.binary_search(&it.record).is_ok();
        let has = |it: &&Record| found.binary_search_by_key(*it, |found| found.record).is_ok();
        let what = match (found.iter().find(|it| !is_right(it)), right.iter().find(|it| !has(it))) {
            (Some(Audited { record: Record { at, sn, .. }, file }), _) => {
                let place = match file {
                    Some(number) => self.index.file(*number).display().to_string(),
                    None => "what is in memory".to_owned(),
                };
                match places.get(sn).copied().flatten() {
                    Some(other) if other != *at => format!(
                        "{place} has entry {sn} of shard {shard} at {at}, the log has it at {other}"
                    ),
                    _ => format!(
                        "{place} has entry {sn} of shard {shard}, at {at}, under another key than the log"
                    ),
                }
            }
            (None, Some(Record { at, sn, .. })) => {
                format!("entry {sn} of shard {shard}, which is at {at} in the log, is missing")
            }
            (None, None) => format!("shard {shard} changed while it was compared with the log"),
        };
        Ok(self.differs(what))
    }
}

/// Whether an index says that an entry counts.
fn counts(index: &TieredIndex, sn: SerialNumber) -> bool {
    let first = SerialNumber(sn.0 / 64 * 64);
    index.word(first) >> (sn.0 % 64) & 1 == 1
}
