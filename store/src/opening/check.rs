//! The full check: everything that can be derived from the log is derived again, on the CPU, and
//! compared with what the store has in memory, in its twig file and in its manifest.
//!
//! ```text
//!   manifest        compared with                                                       where
//!   height, log end the last record; heights without a gap; the end of the open log     rebuild, here
//!   next, active    the entries, and what they deactivate                               rebuild
//!   oldest active   no entry of the log below it is active                              rebuild
//!   roots, edges    the tree over the entries, the edges left of it                     rebuild
//!   log start       the first segment                                                   here
//!   all of it       the history row of its height; rows without a gap up to it          here
//!   (undo records   their checksums: the damaged ones are made again at the next opening)
//! ```
//!
//! Twig records are compared as they are made, and of an index in files the log makes sums, no second index: a check
//! takes the memory of a second tree and a second set of active bits, and only where the index is in memory that of
//! a second one.

use crate::Error;
use crate::hasher::Hashers;
use crate::opening::progress::Meter;
use crate::opening::rebuild::{IndexPlace, Keys, Source, Sums, rebuild};
use crate::shared::{Shared, missing_row};
use hedgerow_entryfile::Journal;
use hedgerow_metadb::Manifest;
use hedgerow_types::{Digest, Height};
use rayon::prelude::*;
use std::sync::Arc;

/// What [`Store::check`](crate::Store::check) went through.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let report = store.check()?;                 // every hash again, from the log
/// assert_eq!(report.height, store.height());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CheckReport {
    /// The height that was checked.
    pub height: Height,
    /// The state root: recomputed, and the same as recorded.
    pub root: Digest,
    /// Bytes of log that were read and hashed.
    pub log_bytes: u64,
    /// Keys that have a value.
    pub keys: u64,
    /// Twig records that were compared.
    pub twigs: u64,
    /// Twig records that are missing or unreadable: derived data, made again when the store opens.
    pub twigs_missing: u64,
    /// History rows that were read, from the first kept one to that of the height.
    pub history_rows: u64,
}

pub(crate) fn check(shared: &Shared) -> Result<CheckReport, Error> {
    let Some(manifest) = shared.with_meta(|meta| meta.manifest())? else {
        return Err(Error::Corrupt("the manifest is gone".into()));
    };
    let journal = Journal { end: manifest.log_end, height: manifest.height };
    // From here on, what is read is read from what the names lead to.
    shared.log.check_files()?;
    shared.twigs.file.check_files()?;
    let progress = Meter::new(shared.options.progress.as_ref());
    let index = match &shared.tiers {
        Some(tiers) => IndexPlace::Summed {
            index: tiers.index.clone(),
            keys: Arc::new(Keys::default()),
            mark: tiers.mark.clone(),
        },
        None => IndexPlace::Memory,
    };
    let rebuilt = shared.pool.install(|| {
        rebuild(&Source {
            log: &shared.log,
            twigs: None,
            manifest: &manifest,
            journal,
            hasher: &Hashers::all_cpu(shared.hasher.cpu.clone()),
            progress: progress.as_deref(),
            checkpoint: None,
            index: &index,
            undo: None,
            compared: Some(&shared.twigs),
        })
    })?;
    check_log(shared, &manifest)?;
    // Derived: what is damaged is made again by the next opening.
    if !shared.undo.check()? {
        tracing::warn!("undo records are damaged; the next opening makes them again");
    }
    let history_rows = check_history(shared, &manifest)?;
    if let Some((shard, twig)) = rebuilt.compared.different {
        return Err(Error::Corrupt(format!(
            "the record of twig {twig} of shard {shard} differs from its entries"
        )));
    }
    let state = shared.published.current();
    if state.height != manifest.height || state.roots() != rebuilt.forest.roots() {
        return Err(Error::RootMismatch {
            height: manifest.height,
            computed: rebuilt.forest.roots().state,
            recorded: state.roots().state,
        });
    }
    if rebuilt.sums.is_empty() {
        let different = shared.published.differs(rebuilt.index)?;
        if let Some(shard) = different {
            let reason = format!("the index of shard {shard} differs from the log");
            return Err(Error::Corrupt(reason));
        }
    } else {
        let compare = |sums: &Sums| sums.compare(&shared.log, &manifest);
        shared.pool.install(|| rebuilt.sums.par_iter().try_for_each(compare))?;
    }
    let active: u64 = manifest.shards.iter().map(|part| part.active).sum();
    Ok(CheckReport {
        height: manifest.height,
        root: manifest.state_root,
        log_bytes: manifest.log_end.0 - manifest.log_start.0 - shared.log.stats().dead_bytes,
        keys: active - manifest.shards.len() as u64 * hedgerow_types::SENTRIES_PER_SHARD,
        twigs: rebuilt.compared.same,
        twigs_missing: rebuilt.compared.missing,
        history_rows,
    })
}

/// Compares the log's bounds with the manifest's.
fn check_log(shared: &Shared, manifest: &Manifest) -> Result<(), Error> {
    // Segments that are not deleted yet may lie below the start; it is where one begins.
    let begins = shared.log.prunable(manifest.log_start) == Some(manifest.log_start);
    let (start, end) = (shared.log.start(), shared.log.end());
    if end != manifest.log_end || !(begins || start == manifest.log_start) {
        let (said_start, said_end) = (manifest.log_start, manifest.log_end);
        return Err(Error::Corrupt(format!(
            "the log reaches from {start} to {end}, the manifest says from {said_start} to {said_end}"
        )));
    }
    Ok(())
}

/// Reads every history row, and compares the last one with the manifest. Returns their number.
fn check_history(shared: &Shared, manifest: &Manifest) -> Result<u64, Error> {
    let last = manifest.height;
    let first = manifest.history_from;
    for height in (first.0..=last.0).map(Height) {
        let Some(row) = shared.with_meta(|meta| meta.history(height))? else {
            return Err(Error::Corrupt(missing_row(height, &(first..=last))));
        };
        let same_shards = manifest.shards.iter().enumerate().all(|(shard, part)| {
            row.shard_roots[shard] == part.root && row.oldest_active[shard] == part.oldest_active
        });
        if height == last && (row.root != manifest.state_root || !same_shards) {
            return Err(Error::Corrupt(format!(
                "the history row of height {last} and the manifest tell different states"
            )));
        }
    }
    Ok(last.0 - first.0 + 1)
}
