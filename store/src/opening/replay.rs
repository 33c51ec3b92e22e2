//! Taking the journal in: the blocks that are durable and that the manifest does not know.
//!
//! ```text
//!   state of the manifest ─► record h+1 ─► record h+2 ─► ... ─► the newest durable state
//!                              entries ► shard states, index, places of twigs (`rebuild::read_runs`)
//!                              tree pass ► root ► history row
//!                                          what it replaced ► undo record
//! ```
//!
//! A record says how the block left the shards, so nothing is decided anew: no operation is known here,
//! and no compaction rule. What the record says is compared with what its entries come to; and with a
//! root that an earlier block is known to have had.

use crate::Error;
use crate::commit::pipeline::Unsettled;
use crate::opening::makes_undo::MakesUndo;
use crate::opening::rebuild::{Roots, RunWork, ShardScan, Source, read_runs};
use crate::shared::per_shard;
use hashbrown::HashMap;
use hedgerow_entryfile::ScannedRecord;
use hedgerow_merkle::{FinishedTwig, Forest, Published, Roots as TreeRoots, ShardChange};
use hedgerow_metadb::{HistoryRow, Manifest};
use hedgerow_types::{
    Digest, Height, LogPosition, SENTRIES_PER_SHARD, SHARDS, SerialNumber, ShardId,
};
use std::sync::Arc;

/// A root that was told, and what the log leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contradicted {
    pub(crate) height: Height,
    pub(crate) recorded: Digest,
    pub(crate) derived: Digest,
}

/// A state on its way from the manifest's height to the journal's.
pub(crate) struct Replay<'a> {
    source: &'a Source<'a>,
    good: Roots,
    forest: Forest,
    behind: Unsettled,
    /// The roots at the manifest's height, once it is reached.
    settled: Option<TreeRoots>,
    contradicted: Option<Contradicted>,
    undo: Option<MakesUndo<'a>>,
}

/// A block that is taken in, and how things were before it.
struct Taken<'r> {
    scanned: &'r ScannedRecord,
    runs: Vec<RunWork>,
    next_sn: [SerialNumber; SHARDS],
    active: u64,
}

/// What is known once all records were read.
pub(crate) struct Ended {
    pub(crate) forest: Forest,
    pub(crate) behind: Unsettled,
    /// A copy of the forest for readers, if one was made.
    pub(crate) published: Option<Published>,
    /// The roots at the manifest's height.
    pub(crate) settled: TreeRoots,
    pub(crate) contradicted: Option<Contradicted>,
}

impl<'a> Replay<'a> {
    /// Begins with the tree that `base` describes, which is the manifest or one of an earlier height.
    pub(crate) fn new(
        source: &'a Source<'a>,
        base: Manifest,
        forest: Forest,
        good: Roots,
        shards: &[ShardScan],
    ) -> Result<Self, Error> {
        let end = source.journal.height;
        let undo = source.undo.filter(|undo| undo.is_on() && base.height < end).map(|store| {
            let from = store.begin_replay(base.height, source.manifest.height, end);
            MakesUndo::new(store, from, &forest)
        });
        let behind = Unsettled { manifest: base, rows: Vec::new(), bytes: 0 };
        let (settled, contradicted) = (None, None);
        let mut replay = Self { source, good, forest, behind, settled, contradicted, undo };
        replay.note_roots();
        replay.settle(shards)?;
        Ok(replay)
    }

    /// Where the next record begins.
    pub(crate) fn log_end(&self) -> LogPosition {
        self.behind.manifest.log_end
    }

    fn note_roots(&mut self) {
        let (roots, manifest) = (self.forest.roots(), &mut self.behind.manifest);
        manifest.state_root = roots.state;
        for (shard, root) in manifest.shards.iter_mut().zip(roots.shards) {
            shard.root = root;
        }
    }

    /// Where the manifest is reached, it must say what was come to. From there on it is the base.
    fn settle(&mut self, shards: &[ShardScan]) -> Result<(), Error> {
        let (said, here) = (self.source.manifest, &self.behind.manifest);
        if here.height != said.height {
            return Ok(());
        }
        let same = here.shards.iter().zip(&said.shards).all(|(here, said)| here.root == said.root);
        let same = same && here.state_root == said.state_root;
        if self.good == Roots::Recorded && !same {
            let (height, computed, recorded) = (said.height, here.state_root, said.state_root);
            return Err(Error::RootMismatch { height, computed, recorded });
        }
        // Behind it there may be what was taken back.
        let dead = said.dead.iter().find(|span| span.start == here.log_end);
        if dead.map_or(here.log_end, |span| span.end) != said.log_end {
            let (here, said) = (here.log_end, said.log_end);
            let reason =
                format!("the record ends at {here}, the manifest says that it ends at {said}");
            return Err(Error::Corrupt(reason));
        }
        for ((scan, part), here) in shards.iter().zip(&said.shards).zip(&here.shards) {
            let state = &scan.state;
            let comes_to = (state.next_sn(), here.oldest_active, state.active());
            if comes_to != (part.next_sn, part.oldest_active, part.active) {
                return Err(scan.corrupt("the log comes to another state than the manifest has"));
            }
            self.forest.prune(state.shard(), part.first_kept)?;
        }
        self.behind.manifest = said.clone();
        self.note_roots();
        self.settled = Some(self.forest.roots().clone());
        Ok(())
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::RootMismatch`] if it contradicts the state before it.
    pub(crate) fn take(
        &mut self,
        shards: &mut [ShardScan],
        record: &ScannedRecord,
    ) -> Result<(), Error> {
        let (height, expected) = (record.height(), self.behind.manifest.height.next());
        if height != expected {
            let at = record.position();
            let reason = format!("the record at {at} is of height {height}, not {expected}");
            return Err(Error::Corrupt(reason));
        }
        let before: u64 = shards.iter().map(|scan| scan.state.next_sn().0).sum();
        let said = record.record().entries_before();
        if said != before {
            let reason =
                format!("height {height} says that {said} entries precede it: {before} do");
            return Err(Error::Corrupt(reason));
        }
        for (what, known) in
            [("durable", record.record().durable()), ("published", record.record().published().0)]
        {
            if known >= height {
                let reason = format!("height {height} knows of height {known} that it was {what}");
                return Err(Error::Corrupt(reason));
            }
        }
        self.compare_root(record)?;
        let next_sn = per_shard(|shard| shards[shard.index()].state.next_sn());
        let active = shards.iter().map(|scan| scan.state.active()).sum();
        let runs = read_runs(&self.source.hasher.cpu, shards, record)?;
        self.apply(shards, Taken { scanned: record, runs, next_sn, active })
    }

    /// Whether a root that was known when the record was made is what it came to here.
    fn compare_root(&mut self, record: &ScannedRecord) -> Result<(), Error> {
        let (height, recorded) = record.record().published();
        let Unsettled { manifest, rows, .. } = &self.behind;
        // The roots of heights before the manifest's are its own affair.
        let computed = if height == manifest.height {
            Some(manifest.state_root)
        } else {
            rows.iter().rev().find(|(at, _)| *at == height).map(|(_, row)| row.root)
        };
        match computed {
            Some(computed) if computed != recorded => {
                if self.good == Roots::Recorded {
                    return Err(Error::RootMismatch { height, computed, recorded });
                }
                let derived = computed;
                self.contradicted.get_or_insert(Contradicted { height, recorded, derived });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn apply(&mut self, shards: &mut [ShardScan], taken: Taken<'_>) -> Result<(), Error> {
        let Taken { scanned, runs, next_sn, active } = taken;
        let record = scanned.record();
        let oldest_active = *record.oldest_active();
        let change = |shard: ShardId| {
            let run = &runs[shard.index()];
            ShardChange {
                arena: record.run(shard),
                entries: &run.spans,
                deactivated: &run.deactivated,
                oldest_active: oldest_active[shard.index()],
            }
        };
        let changes: [ShardChange<'_>; SHARDS] = per_shard(change);
        let applied = self.forest.apply(&*self.source.hasher.tree, &changes)?;
        if let Some(undo) = &self.undo {
            let keys = active.saturating_sub(SHARDS as u64 * SENTRIES_PER_SHARD);
            let of =
                |shard: ShardId| (next_sn[shard.index()], &runs[shard.index()].deactivated[..]);
            undo.take(scanned, keys, of, &self.forest, &applied.dirty)?;
        }
        let mut places = HashMap::new();
        for (shard, run) in ShardId::all().zip(runs) {
            places.extend(run.filled.into_iter().map(|filled| ((shard, filled.twig), filled)));
        }
        for FinishedTwig { shard, twig, nodes } in applied.finished {
            let scan = &mut shards[shard.index()];
            let Some(places) = places.remove(&(shard, twig)) else {
                return Err(scan.corrupt(format_args!("the places of twig {twig} are lost")));
            };
            scan.twigs.push(Arc::new(places.into_record(shard, nodes)?));
        }
        let row = HistoryRow {
            root: applied.roots.state,
            shard_roots: applied.roots.shards,
            oldest_active,
            extra: record.extra().to_vec(),
        };
        self.advance(scanned, row);
        self.settle(shards)
    }

    fn advance(&mut self, scanned: &ScannedRecord, row: HistoryRow) {
        let Unsettled { manifest, rows, bytes } = &mut self.behind;
        manifest.height = scanned.height();
        manifest.log_end = scanned.end();
        manifest.state_root = row.root;
        for (number, shard) in manifest.shards.iter_mut().enumerate() {
            shard.root = row.shard_roots[number];
            shard.oldest_active = row.oldest_active[number];
        }
        // Earlier ones are in the database, and all of this is.
        if manifest.height > self.source.manifest.height {
            rows.push((manifest.height, Arc::new(row)));
            *bytes += scanned.record().bytes_len();
        }
    }

    /// The state at the end of the journal.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if that is before the manifest's height.
    pub(crate) fn end(mut self, shards: &[ShardScan]) -> Result<Ended, Error> {
        for (scan, part) in shards.iter().zip(&mut self.behind.manifest.shards) {
            part.next_sn = scan.state.next_sn();
            part.active = scan.state.active();
        }
        let Self { forest, behind, settled, contradicted, undo, .. } = self;
        let Some(settled) = settled else {
            return Err(Error::Corrupt("the log ends before the manifest's height".into()));
        };
        let published = undo.map(MakesUndo::end);
        Ok(Ended { forest, behind, published, settled, contradicted })
    }
}
