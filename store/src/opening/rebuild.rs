//! Rebuilding a store's memory from its files: what `open` does, and `check` does again with less
//! trust.
//!
//! ```text
//!   manifest   next sn, oldest active sn, prune edges, roots             of every shard
//!   twig file  left roots of finished twigs ─┐
//!                                            │ missing or damaged: from the entries
//!   log        one scan, all shards ─────────┼──► shard states    `ShardState::take`, run by run
//!                │ key hashes, in batches    ├──► index           active entries
//!                └ leaf hashes, in batches   └──► youngest twigs, places, compaction cursors
//!                                            ▼
//!                                      Forest::restore ──► roots, compared with the manifest's
//!   journal    records behind the manifest ──► `replay`: the same `read_runs`, and a tree pass for each
//! ```
//!
//! With a checkpoint the first part is read from it, and all records since are the journal's. Without one the
//! shards begin empty, and every record goes through the procedure of the journal, but for the tree: of
//! settled history nobody asks the roots in between, so that it is built once, and leaves are hashed only
//! where no twig record has their root. A tree pass for every block would hash all of the log.
//!
//! Numbers from disk are bounded before anything is sized by them: the manifest's by
//! [`Manifest::validate`], by the length of the log; an entry's serial number by the manifest's.
//!
//! The scan begins at the record that holds the first entry of the oldest twig that any shard still
//! needs. Twigs before the oldest active one need their left root only.

mod entries;
mod index;
mod resume;
mod shard;
mod sums;

pub(crate) use entries::each_entry;
pub(crate) use index::{INDEX, IndexPlace, Indexed};
pub(crate) use shard::{ComparedTwigs, RunWork, ShardScan};
pub(crate) use sums::{Keys, Sums};

use crate::Error;
use crate::commit::pipeline::Unsettled;
use crate::hasher::Hashers;
use crate::history::undo::UndoStore;
use crate::opening::progress::Meter;
use crate::opening::replay::{Contradicted, Ended, Replay};
use hedgerow_entryfile::{EntryLog, Journal, ScannedRecord, TwigRecord};
use hedgerow_hasher_api::{BatchHasher, MessageGroup};
use hedgerow_hashers::CpuHasher;
use hedgerow_merkle::{Forest, ShardRestore};
use hedgerow_metadb::Manifest;
use hedgerow_state::checkpoint::Checkpoint;
use hedgerow_state::{OpenTwig, ShardWriter, TwigStore};
use hedgerow_types::{Height, LogPosition, SHARDS, ShardId};
use rayon::prelude::*;
use std::sync::Arc;

/// What a rebuild is made from.
pub(crate) struct Source<'a> {
    pub(crate) log: &'a EntryLog,
    /// `None`: trust no twig record, hash every entry, follow every deactivation.
    pub(crate) twigs: Option<&'a TwigStore>,
    pub(crate) manifest: &'a Manifest,
    /// What follows the manifest's end and is to be taken in again.
    pub(crate) journal: Journal,
    pub(crate) hasher: &'a Hashers,
    pub(crate) progress: Option<&'a Meter>,
    /// The state to begin with, of a height at or before the manifest's. Needs the twig records.
    pub(crate) checkpoint: Option<&'a Checkpoint>,
    /// Where the index is to be.
    pub(crate) index: &'a IndexPlace,
    /// Where the undo records of the journal's blocks go.
    pub(crate) undo: Option<&'a UndoStore>,
    /// The twig records that those made from the entries are compared with, and then forgotten.
    pub(crate) compared: Option<&'a TwigStore>,
}

/// The memory of a store.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub(crate) forest: Forest,
    /// A copy of it for readers, if one was made.
    pub(crate) published: Option<hedgerow_merkle::Published>,
    /// Empty if there is one already.
    pub(crate) index: Vec<Indexed>,
    /// What the log has to say of one that is there.
    pub(crate) sums: Vec<Sums>,
    pub(crate) writers: Vec<ShardWriter>,
    pub(crate) open: Vec<OpenTwig>,
    /// Records of finished twigs that had to be made from the entries.
    pub(crate) twigs: Vec<Arc<TwigRecord>>,
    /// What comparing such records came to.
    pub(crate) compared: ComparedTwigs,
    /// The state, and what of it the manifest on disk does not know.
    pub(crate) behind: Unsettled,
    /// The roots at the manifest's height.
    pub(crate) settled: hedgerow_merkle::Roots,
    /// The first root that was told and that the log does not lead to; only if any root is good.
    pub(crate) contradicted: Option<Contradicted>,
}

/// Rebuilds the state that the manifest describes, and takes the journal in.
///
/// # Errors
/// [`Error::Corrupt`] or [`Error::RootMismatch`] if the files contradict each other; a failed read.
pub(crate) fn rebuild(source: &Source<'_>) -> Result<Rebuilt, Error> {
    assemble(source, Roots::Recorded)
}

/// The same, whatever the manifest says of roots: they are what comes out.
///
/// # Errors
/// As [`rebuild`], but never [`Error::RootMismatch`].
pub(crate) fn derive(source: &Source<'_>) -> Result<Rebuilt, Error> {
    assemble(source, Roots::Any)
}

/// Which roots are good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Roots {
    Recorded,
    Any,
}

fn assemble(source: &Source<'_>, good: Roots) -> Result<Rebuilt, Error> {
    let (base, mut shards) = match source.checkpoint {
        Some(checkpoint) => resume(source, checkpoint)?,
        None => (source.manifest.clone(), scan(source)?),
    };
    let forest = restore(source, &base, &mut shards, good)?;
    let mut replay = Replay::new(source, base, forest, good, &shards)?;
    for record in source.log.scan(replay.log_end(), source.journal.end) {
        let record = record?;
        replay.take(&mut shards, &record)?;
        source.read_to(record.end());
    }
    finish(source, replay.end(&shards)?, shards)
}

/// Begins with a checkpoint: the manifest that there would have been, and the shards.
fn resume(
    source: &Source<'_>,
    checkpoint: &Checkpoint,
) -> Result<(Manifest, Vec<ShardScan>), Error> {
    let (head, manifest) = (checkpoint.head(), source.manifest);
    let fits = head.height <= manifest.height
        && (manifest.log_start..=manifest.log_end).contains(&head.log_end);
    if !fits {
        return Err(Error::Corrupt("the log does not have what followed the checkpoint".into()));
    }
    source.begin(checkpoint.len(), head.log_end);
    let shards: Vec<_> = ShardId::all().collect();
    let shards = shards.par_iter().map(|shard| ShardScan::resume(source, checkpoint, *shard));
    let shards: Vec<ShardScan> = shards.collect::<Result<_, Error>>()?;
    let mut base = manifest.clone();
    (base.height, base.log_end, base.state_root) = (head.height, head.log_end, head.state_root);
    for (part, scan) in base.shards.iter_mut().zip(&shards) {
        *part = scan.part.clone();
    }
    Ok((base, shards))
}

impl Source<'_> {
    /// So many bytes of the checkpoint are to be read, and the log from `from` on.
    fn begin(&self, checkpoint_bytes: u64, from: LogPosition) {
        if let Some(progress) = self.progress {
            progress.begin(checkpoint_bytes, from, self.journal.end);
        }
    }

    /// The log was read up to `end`.
    fn read_to(&self, end: LogPosition) {
        if let Some(progress) = self.progress {
            progress.log_to(end);
        }
    }
}

/// Reads what the manifest knows.
fn scan(source: &Source<'_>) -> Result<Vec<ShardScan>, Error> {
    let manifest = source.manifest;
    let mut shards = Vec::with_capacity(SHARDS);
    let mut from = manifest.log_end;
    for (shard, part) in ShardId::all().zip(&manifest.shards) {
        let scan = ShardScan::new(source, shard, part)?;
        from = from.min(scan.scan_from(source)?);
        shards.push(scan);
    }
    source.begin(0, from);
    let mut last = None;
    for record in source.log.scan(from, manifest.log_end) {
        let record = record?;
        let (height, at) = (record.height(), record.position());
        if last.is_some_and(|last: Height| last.0.checked_add(1) != Some(height.0)) {
            return Err(Error::Corrupt(format!("the record at {at} is out of order: {height}")));
        }
        last = Some(height);
        scan_record(source, &mut shards, &record)?;
        source.read_to(record.end());
    }
    if last != Some(manifest.height) {
        let (last, said) = (last.unwrap_or_default(), manifest.height);
        let reason = format!("the log ends with height {last}, the manifest says {said}");
        return Err(Error::Corrupt(reason));
    }
    Ok(shards)
}

/// Shards of a record below this length are read one after the other: handing them to threads would
/// cost more.
const PARALLEL_BYTES: u64 = 64 << 10;

/// What a record brings, taken in shard by shard, and its keys hashed: of the settled history and of the
/// journal alike.
pub(crate) fn read_runs(
    cpu: &CpuHasher,
    shards: &mut [ShardScan],
    record: &ScannedRecord,
) -> Result<Vec<RunWork>, Error> {
    let parallel = record.record().bytes_len() >= PARALLEL_BYTES;
    let mut work: Vec<RunWork> = if parallel {
        shards.par_iter_mut().map(|scan| scan.read_run(record)).collect::<Result<_, Error>>()?
    } else {
        shards.iter_mut().map(|scan| scan.read_run(record)).collect::<Result<_, Error>>()?
    };
    let mut keys = Vec::with_capacity(SHARDS);
    for (shard, work) in ShardId::all().zip(&mut work) {
        let arena = record.record().run(shard);
        keys.push(MessageGroup { arena, spans: &work.key_spans, out: &mut work.keys });
    }
    cpu.messages(&mut keys)?;
    if parallel {
        shards.par_iter_mut().zip(&work).try_for_each(|(scan, work)| scan.take_keys(work))?;
    } else {
        shards.iter_mut().zip(&work).try_for_each(|(scan, work)| scan.take_keys(work))?;
    }
    Ok(work)
}

/// A record of the settled history: of the tree there are only the leaves that are not known by their twigs.
fn scan_record(
    source: &Source<'_>,
    shards: &mut [ShardScan],
    record: &ScannedRecord,
) -> Result<(), Error> {
    let mut work = read_runs(&source.hasher.cpu, shards, record)?;
    // The leaves of every shard in one call.
    let mut leaves = Vec::with_capacity(SHARDS);
    for (shard, work) in ShardId::all().zip(&mut work) {
        let arena = record.record().run(shard);
        leaves.push(MessageGroup { arena, spans: &work.leaf_spans, out: &mut work.leaves });
    }
    source.hasher.tree.messages(&mut leaves)?;
    if record.record().bytes_len() >= PARALLEL_BYTES {
        let work = shards.par_iter_mut().zip(work);
        work.try_for_each(|(scan, work)| scan.take_leaves(source, work))
    } else {
        let mut work = shards.iter_mut().zip(work);
        work.try_for_each(|(scan, work)| scan.take_leaves(source, work))
    }
}

/// The tree as `manifest` describes it, which is that of the shards.
fn restore(
    source: &Source<'_>,
    manifest: &Manifest,
    shards: &mut [ShardScan],
    good: Roots,
) -> Result<Forest, Error> {
    let parts: Vec<ShardRestore> =
        shards.par_iter_mut().map(ShardScan::restore).collect::<Result<_, _>>()?;
    let parts: [ShardRestore; SHARDS] =
        parts.try_into().map_err(|_| Error::Corrupt("a store has 16 shards".into()))?;
    let forest = Forest::restore(&*source.hasher.tree, parts)?;
    let roots = forest.roots();
    let same_shards =
        manifest.shards.iter().zip(&roots.shards).all(|(part, root)| part.root == *root);
    if good == Roots::Recorded && (roots.state != manifest.state_root || !same_shards) {
        return Err(Error::RootMismatch {
            height: manifest.height,
            computed: roots.state,
            recorded: manifest.state_root,
        });
    }
    Ok(forest)
}

fn finish(source: &Source<'_>, ended: Ended, mut shards: Vec<ShardScan>) -> Result<Rebuilt, Error> {
    let Ended { forest, behind, published, settled, contradicted } = ended;
    let sums = shards.par_iter_mut().map(ShardScan::sums);
    let sums: Vec<Sums> = sums.filter_map(Result::transpose).collect::<Result<_, Error>>()?;
    let index = if sums.is_empty() {
        shards.par_iter_mut().map(|scan| scan.index(source)).collect::<Result<_, _>>()?
    } else {
        vec![]
    };
    let compared =
        shards.iter().fold(ComparedTwigs::default(), |all, scan| all.and(&scan.compared));
    let parts = behind.manifest.shards.clone();
    let mut rebuilt = Rebuilt {
        forest,
        published,
        index,
        sums,
        compared,
        writers: vec![],
        open: vec![],
        twigs: vec![],
        behind,
        settled,
        contradicted,
    };
    for (scan, part) in shards.into_iter().zip(parts) {
        let Some(cursor) = scan.cursor_at(source, part.oldest_active)? else {
            return Err(scan.corrupt("the oldest active entry is not in the log"));
        };
        rebuilt.open.push(scan.open);
        rebuilt.twigs.extend(scan.twigs);
        rebuilt.writers.push(ShardWriter { state: scan.state, cursor });
    }
    Ok(rebuilt)
}
