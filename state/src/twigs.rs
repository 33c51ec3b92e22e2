//! Finished twigs: where their entries lie, and their records, in memory until the twig file has
//! them.
//!
//! ```text
//!   entries of a shard   │ run of block 7 │ run of block 8 ... │ run of block 9
//!                        ├──16──┼──16──┼──┬───┼──16──┼ ...
//!   groups               ▲      ▲         ▲   ▲ position of every 16th entry
//!   breaks                                └── first entry of a run within the twig
//! ```
//!
//! A record keeps the nodes from level 4 up. A proof reads the 16 entries of its group, whose places
//! follow from the group's first position and the breaks, and hashes them.
//!
//! ```text
//!   reader, entry sn   record of its twig? ─► yes: its place
//!                      the open twig?      ─► yes: its place      noted after the records are there, so that
//!                      record of its twig? ─► yes: its place      whoever comes too late for the open twig
//!                      it was pruned, or is not there yet         finds the record
//! ```

use crate::Error;
use hashbrown::HashMap;
use hedgerow_entryfile::{EntryLog, Record, StoredEntry, TwigFile, TwigGroup, TwigRecord};
use hedgerow_hasher_api::Span;
use hedgerow_merkle::{FinishedTwig, left_path_in};
use hedgerow_types::{Digest, LogPosition, SHARDS, SerialNumber, ShardId, TWIG_LEAVES, TwigId};
use parking_lot::RwLock;
use std::sync::Arc;

/// Entries of a group: what one level-4 node covers.
pub const GROUP: usize = 16;
/// Groups of a twig.
const GROUPS: usize = TWIG_LEAVES / GROUP;

/// Where the entries of a shard's youngest twig lie, as far as there are any.
#[derive(Clone, Debug, Default)]
pub struct OpenTwig {
    record: LogPosition,
    groups: Vec<LogPosition>,
    breaks: Vec<(u16, LogPosition)>,
}

/// Where the entries of a whole twig lie.
#[derive(Debug)]
pub struct TwigPlaces {
    /// The twig.
    pub twig: TwigId,
    places: OpenTwig,
}

impl OpenTwig {
    /// What it is made of: the record of its first entry, the position of every 16th, and the leaves and
    /// positions with which later runs begin.
    pub fn parts(&self) -> (LogPosition, &[LogPosition], &[(u16, LogPosition)]) {
        (self.record, &self.groups, &self.breaks)
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<LogPosition>()
            + self.breaks.capacity() * size_of::<(u16, LogPosition)>()
    }

    /// The inverse of [`parts`](Self::parts).
    pub fn from_parts(
        record: LogPosition,
        groups: Vec<LogPosition>,
        breaks: Vec<(u16, LogPosition)>,
    ) -> Self {
        Self { record, groups, breaks }
    }

    /// Where the group of a leaf begins, and the leaves of it that do not directly follow the one before;
    /// `None` if there is no entry of that group yet.
    fn group(&self, leaf: usize) -> Option<(LogPosition, &[(u16, LogPosition)])> {
        let start = *self.groups.get(leaf / GROUP)?;
        let before = |limit: usize| self.breaks.partition_point(|at| usize::from(at.0) < limit);
        let first = leaf - leaf % GROUP;
        Some((start, self.breaks.get(before(first)..before(first + GROUP))?))
    }

    /// As it was when it had its first `leaves` entries.
    #[must_use]
    pub fn at(&self, leaves: usize) -> Self {
        Self::begun(self.record, &self.groups, &self.breaks, leaves)
    }

    /// The twig of a record as it was when it had its first `leaves` entries.
    pub fn of_record(record: &TwigRecord, leaves: usize) -> Self {
        Self::begun(record.record, &*record.groups, &record.breaks, leaves)
    }

    fn begun(
        record: LogPosition,
        groups: &[LogPosition],
        breaks: &[(u16, LogPosition)],
        leaves: usize,
    ) -> Self {
        if leaves == 0 {
            return Self::default();
        }
        let groups = groups.iter().take(leaves.div_ceil(GROUP)).copied().collect();
        let breaks = breaks.iter().take_while(|(leaf, _)| usize::from(*leaf) < leaves);
        Self { record, groups, breaks: breaks.copied().collect() }
    }

    /// Notes a run of the shard: entries from `first_sn` on, at `spans` of a run that begins at
    /// `run_start` in the record at `record`. Returns the twigs that it filled.
    pub fn note_run(
        &mut self,
        record: LogPosition,
        run_start: LogPosition,
        first_sn: SerialNumber,
        spans: &[Span],
    ) -> Vec<TwigPlaces> {
        let mut filled = Vec::new();
        let mut number = 0;
        while number < spans.len() {
            let sn = first_sn.plus(number as u64);
            let leaf = sn.leaf();
            let at = run_start.plus(u64::from(spans[number].offset));
            if leaf == 0 {
                *self = Self { record, ..Self::default() };
            } else if number == 0 {
                self.breaks.push((leaf as u16, at));
            }
            if leaf.is_multiple_of(GROUP) {
                self.groups.push(at);
            }
            // On to the next group, the end of which may also be the end of the twig.
            number += GROUP - leaf % GROUP;
            if number <= spans.len() && first_sn.plus(number as u64).leaf() == 0 {
                filled.push(TwigPlaces { twig: sn.twig(), places: std::mem::take(self) });
            }
        }
        filled
    }
}

impl TwigPlaces {
    /// The record of the twig, given its nodes.
    pub fn into_record(
        self,
        shard: ShardId,
        nodes: Box<[Digest; 255]>,
    ) -> Result<TwigRecord, Error> {
        let groups: Box<[LogPosition; GROUPS]> =
            self.places.groups.into_boxed_slice().try_into().map_err(|_| {
                Error::Corrupt(format!("shard {shard}: the places of twig {} are lost", self.twig))
            })?;
        Ok(TwigRecord {
            shard,
            twig: self.twig,
            record: self.places.record,
            nodes,
            groups,
            breaks: self.places.breaks,
            leaves: None,
        })
    }
}

/// The twig file, the records on their way to it, and where the entries of the open twigs lie.
#[derive(Debug)]
pub struct TwigStore {
    /// The file that keeps them.
    pub file: TwigFile,
    pending: RwLock<HashMap<(ShardId, TwigId), Arc<TwigRecord>>>,
    /// By shard: the youngest twig of the published state, and where its entries lie.
    open: [RwLock<(TwigId, OpenTwig)>; SHARDS],
}

impl TwigStore {
    /// The records of a file, and none on their way.
    pub fn new(file: TwigFile) -> Self {
        Self { file, pending: RwLock::default(), open: Default::default() }
    }

    /// An entry of a shard, active or not; `None` if its twig has no record and is not the open one: it was
    /// pruned, is damaged, or not there yet.
    pub fn read_entry(
        &self,
        log: &EntryLog,
        shard: ShardId,
        sn: SerialNumber,
    ) -> Result<Option<StoredEntry>, Error> {
        let (twig, leaf) = (sn.twig(), sn.leaf());
        if let Some(entry) = self.read_finished(log, shard, sn)? {
            return Ok(Some(entry));
        }
        let open = self.open.get(shard.index()).and_then(|open| {
            let open = open.read();
            let (start, breaks) = (open.0 == twig).then(|| open.1.group(leaf)).flatten()?;
            Some((start, breaks.to_vec()))
        });
        match open {
            Some((start, breaks)) => Ok(Some(log.read_leaf(twig, (start, &breaks), leaf)?)),
            // Filled meanwhile.
            None => self.read_finished(log, shard, sn),
        }
    }

    fn read_finished(
        &self,
        log: &EntryLog,
        shard: ShardId,
        sn: SerialNumber,
    ) -> Result<Option<StoredEntry>, Error> {
        let Some(record) = self.get(shard, sn.twig())? else { return Ok(None) };
        let Some(group) = record.group(sn.leaf()) else { return Ok(None) };
        Ok(Some(log.read_leaf(sn.twig(), group, sn.leaf())?))
    }

    /// Where the entries of the youngest twig of a shard lie, whose next entry is `next_sn`.
    pub fn set_open(&self, shard: ShardId, next_sn: SerialNumber, open: OpenTwig) {
        if let Some(place) = self.open.get(shard.index()) {
            *place.write() = (next_sn.twig(), open);
        }
    }

    /// Notes a run of a shard for readers, as [`OpenTwig::note_run`] does, after the records of the twigs that
    /// it filled are there.
    pub fn note_open(
        &self,
        shard: ShardId,
        record: LogPosition,
        run_start: LogPosition,
        first_sn: SerialNumber,
        spans: &[Span],
    ) {
        let Some(place) = self.open.get(shard.index()).filter(|_| !spans.is_empty()) else {
            return;
        };
        let mut place = place.write();
        place.1.note_run(record, run_start, first_sn, spans);
        place.0 = first_sn.plus(spans.len() as u64).twig();
    }

    /// Where the entries of the youngest twig of each shard lie.
    pub fn open_twigs(&self) -> Vec<OpenTwig> {
        self.open.iter().map(|open| open.read().1.clone()).collect()
    }

    /// The records of twigs that a block finished are readable from now on; they are to be
    /// [written](Self::write).
    pub fn take(&self, records: &[Arc<TwigRecord>]) {
        let mut pending = self.pending.write();
        for record in records {
            pending.insert((record.shard, record.twig), Arc::clone(record));
        }
    }

    /// Appends records to the file, without syncing it.
    pub fn write(&self, records: &[Arc<TwigRecord>]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.file.append(records)?;
        let mut pending = self.pending.write();
        for record in records {
            pending.remove(&(record.shard, record.twig));
        }
        Ok(())
    }

    /// Forgets the records of the twigs of each shard from the one given on: what finished them was taken back.
    pub fn forget_from(&self, first: &[TwigId; SHARDS]) {
        self.pending.write().retain(|(shard, twig), _| *twig < first[shard.index()]);
        self.file.forget_from(first);
    }

    /// Those of `records` that the file has not got, see [`twig_agrees`].
    pub fn different(&self, records: Vec<Arc<TwigRecord>>) -> Result<Vec<Arc<TwigRecord>>, Error> {
        let mut different = Vec::new();
        for record in records {
            let kept = self.get(record.shard, record.twig)?;
            if !kept.is_some_and(|kept| twig_agrees(&kept, &record)) {
                different.push(record);
            }
        }
        Ok(different)
    }

    /// The record of a finished twig, if there is a good one.
    pub fn get(&self, shard: ShardId, twig: TwigId) -> Result<Option<Arc<TwigRecord>>, Error> {
        if let Some(record) = self.pending.read().get(&(shard, twig)) {
            return Ok(Some(Arc::clone(record)));
        }
        Ok(self.file.get(shard, twig)?)
    }

    /// What the record of a finished twig, if there is a good one, says of the group of `leaf`.
    pub fn group(
        &self,
        shard: ShardId,
        twig: TwigId,
        leaf: usize,
    ) -> Result<Option<TwigGroup>, Error> {
        if let Some(record) = self.pending.read().get(&(shard, twig)) {
            return Ok(record.group_of(leaf));
        }
        Ok(self.file.group(shard, twig, leaf)?)
    }
}

/// The records of finished twigs, those of blocks among them that are not in the log yet.
///
/// ```
/// use hedgerow_entryfile::{StoreId, TwigFile, TwigFileOptions};
/// use hedgerow_state::{TwigStore, TwigView};
/// use hedgerow_types::{ShardId, TwigId};
/// # use hedgerow_vfs::MemDisk;
/// # let (disk, dir) = (std::sync::Arc::new(MemDisk::new()), std::path::Path::new("/twigs"));
/// let file = TwigFile::create(disk, dir, StoreId([7; 16]), TwigFileOptions::default())?;
/// let store = TwigStore::new(file);
/// let shard = ShardId::all().next().expect("there are 16");
/// assert!(TwigView::above(&store, &[]).get(shard, TwigId(0))?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TwigView<'a> {
    store: &'a TwigStore,
    /// By shard and twig.
    above: &'a [Arc<TwigRecord>],
}

impl<'a> From<&'a TwigStore> for TwigView<'a> {
    fn from(store: &'a TwigStore) -> Self {
        Self { store, above: &[] }
    }
}

impl<'a> TwigView<'a> {
    /// The records of `above`, which ascend by shard and twig, and then those of the store.
    pub fn above(store: &'a TwigStore, above: &'a [Arc<TwigRecord>]) -> Self {
        Self { store, above }
    }

    /// The record of a finished twig, if there is a good one.
    ///
    /// # Errors
    /// As [`TwigStore::get`].
    pub fn get(&self, shard: ShardId, twig: TwigId) -> Result<Option<Arc<TwigRecord>>, Error> {
        let place = |record: &Arc<TwigRecord>| (record.shard, record.twig);
        match self.above.binary_search_by_key(&(shard, twig), place) {
            Ok(number) => Ok(self.above.get(number).cloned()),
            Err(_) => self.store.get(shard, twig),
        }
    }

    /// What the record of a finished twig, if there is a good one, says of the group of `leaf`.
    ///
    /// # Errors
    /// As [`TwigFile::group`].
    pub fn group(
        &self,
        shard: ShardId,
        twig: TwigId,
        leaf: usize,
    ) -> Result<Option<TwigGroup>, Error> {
        let place = |record: &Arc<TwigRecord>| (record.shard, record.twig);
        match self.above.binary_search_by_key(&(shard, twig), place) {
            Ok(number) => Ok(self.above.get(number).and_then(|record| record.group_of(leaf))),
            Err(_) => self.store.group(shard, twig, leaf),
        }
    }
}

/// Pairs the nodes of finished twigs with their places.
///
/// # Errors
/// [`Error::Corrupt`] if those of a twig are not there.
pub fn twig_records(
    finished: Vec<FinishedTwig>,
    places: &mut HashMap<(ShardId, TwigId), TwigPlaces>,
) -> Result<Vec<Arc<TwigRecord>>, Error> {
    let mut records = Vec::with_capacity(finished.len());
    for FinishedTwig { shard, twig, nodes } in finished {
        let Some(places) = places.remove(&(shard, twig)) else {
            let reason = format!("shard {shard}: the places of twig {twig} are lost");
            return Err(Error::Corrupt(reason));
        };
        records.push(Arc::new(places.into_record(shard, nodes)?));
    }
    Ok(records)
}

/// Whether a record that was kept is that of the entries which `fresh`, without leaves, was made of. The
/// leaves of one that has them must be those under its nodes.
pub fn twig_agrees(kept: &TwigRecord, fresh: &TwigRecord) -> bool {
    let under_their_node = |first| match kept.group_leaves(first) {
        Some(leaves) => left_path_in(&kept.nodes, leaves, first).is_ok(),
        None => true,
    };
    kept.same_but_leaves(fresh) && (0..TWIG_LEAVES).step_by(GROUP).all(under_their_node)
}

/// Where the run of `shard` begins in a record.
pub fn run_position(record: &Record, shard: ShardId) -> LogPosition {
    let mut lens = [0; SHARDS];
    for (len, shard) in lens.iter_mut().zip(ShardId::all()) {
        *len = record.run(shard).len();
    }
    Record::run_start(record.position(), &lens, shard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any way of cutting a history into runs leads to the same entries.
        #[test]
        fn places_are_found_again(runs in proptest::collection::vec(1usize..1500, 1..12)) {
            let (mut open, mut filled) = (OpenTwig::default(), vec![]);
            let (mut sn, mut at) = (0u64, 64u64);
            let mut truth = vec![];
            for len in runs {
                let record = LogPosition(at);
                at += 136;
                let run_start = LogPosition(at);
                let mut spans = vec![];
                for i in 0..len {
                    truth.push((record, at));
                    spans.push(Span { offset: (at - run_start.0) as u32, len: 60 });
                    at += 64 + 8 * (i as u64 % 5);
                }
                filled.extend(open.note_run(record, run_start, SerialNumber(sn), &spans));
                sn += len as u64;
            }
            prop_assert_eq!(filled.len(), truth.len() / TWIG_LEAVES);
            // The youngest twig as it was with fewer entries is what fewer entries make of it.
            let leaves = truth.len() % TWIG_LEAVES;
            let begun = truth.len() - leaves;
            for kept in [0, leaves / 2, leaves] {
                let now = open.at(kept);
                let (record, groups, breaks) = now.parts();
                let there = &truth[begun..begun + kept];
                prop_assert_eq!(record.0, there.first().map_or(0, |entry| entry.0.0));
                let every_16th = there.iter().step_by(GROUP).map(|entry| entry.1);
                prop_assert!(groups.iter().map(|at| at.0).eq(every_16th));
                let after = |leaf: &usize| there[*leaf].0 != there[*leaf - 1].0;
                let began = (1..kept).filter(after).map(|leaf| (leaf as u16, there[leaf].1));
                prop_assert!(breaks.iter().map(|(leaf, at)| (*leaf, at.0)).eq(began));
            }
            for (number, twig) in filled.into_iter().enumerate() {
                prop_assert_eq!(twig.twig, TwigId(number as u64));
                let truth = &truth[number * TWIG_LEAVES..][..TWIG_LEAVES];
                prop_assert_eq!(twig.places.record, truth[0].0);
                for (group, at) in twig.places.groups.iter().enumerate() {
                    prop_assert_eq!(at.0, truth[group * GROUP].1);
                }
                let breaks: Vec<_> = (1..TWIG_LEAVES)
                    .filter(|&leaf| truth[leaf].0 != truth[leaf - 1].0)
                    .map(|leaf| (leaf as u16, LogPosition(truth[leaf].1)))
                    .collect();
                prop_assert_eq!(twig.places.breaks, breaks);
            }
        }
    }
}
