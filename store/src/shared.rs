//! What the writer, the stages and the readers of one store share.
//!
//! ```text
//!            Published                                Flow
//!   index, tree, the states that are held     accepted >= published >= durable, poison
//!         ▲ edited a little at a time, then           ▲ every waiter waits here
//!         │ swapped, once per block                   │
//!   hash stage ───────────────────────────────────────┤
//!   log stage, commit stage ──────────────────────────┘
//! ```

use crate::commit::checkpoint::Checkpoints;
use crate::commit::copies::Copies;
use crate::commit::flow::Flow;
use crate::commit::prune::{PruneHold, Prunings};
use crate::commit::tiers::Tiers;
use crate::error::Kept;
use crate::hasher::Hashers;
use crate::history::pins::Pins;
use crate::history::undo::UndoStore;
use crate::opening::beside::is_of_a_file_that_is_gone;
use crate::read::published::Published;
use crate::speculate::Speculation;
use crate::steps::StepTimes;
use crate::{Error, Options};
use hedgerow_entryfile::EntryLog;
use hedgerow_metadb::{HistoryRow, MetaDb, MetaError};
use hedgerow_state::TwigStore;
use hedgerow_types::{Digest, Height, SHARDS, ShardId, TwigId};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters that `stats` reports.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) proofs: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) pruned_bytes: AtomicU64,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: EntryLog,
    pub(crate) twigs: TwigStore,
    /// `None` once the store is closed: readers and tickets may outlive it, but nothing of theirs may
    /// touch a database that somebody else opens next.
    pub(crate) meta: RwLock<Option<Box<dyn MetaDb>>>,
    pub(crate) published: Published,
    pub(crate) flow: Arc<Flow>,
    /// History rows of published heights whose manifest is not committed yet. Taken for a moment only.
    pub(crate) recent: Mutex<BTreeMap<Height, Arc<HistoryRow>>>,
    pub(crate) hasher: Hashers,
    /// Resolves and updates. Its tasks may read the disk.
    pub(crate) pool: rayon::ThreadPool,
    /// Works for the hash stage alone: the tree pass and the index. Its tasks compute.
    pub(crate) hash_pool: rayon::ThreadPool,
    pub(crate) options: Options,
    /// Twigs below these are pruned on disk, or are about to be; the hash stage drops their nodes.
    pub(crate) first_kept: Mutex<[TwigId; SHARDS]>,
    /// What kept the rest from being pruned when the last manifest was made.
    pub(crate) prune_hold: Mutex<Option<PruneHold>>,
    /// The store was closed with blocks published that were not durable: what the log holds there
    /// may be written anew by whoever opens it next.
    pub(crate) abandoned: AtomicBool,
    pub(crate) counters: Counters,
    /// How long the steps of blocks take.
    pub(crate) steps: StepTimes,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) copies: Copies,
    pub(crate) prunings: Prunings,
    /// What blocks replaced in the tree, for proofs against old roots.
    pub(crate) undo: UndoStore,
    /// Past heights that are held.
    pub(crate) pins: Arc<Pins>,
    /// Which state the next block follows, and what blocks take that are not accepted.
    pub(crate) speculation: Speculation,
    /// The indexes, if they are in files.
    pub(crate) tiers: Option<Tiers>,
}

impl Shared {
    /// The history row of a height, published or durable.
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`] if it is ahead of the published state or was dropped;
    /// [`Error::Corrupt`] if it should be there and is not.
    pub(crate) fn history(&self, height: Height) -> Result<Arc<HistoryRow>, Error> {
        let row = self.recent.lock().get(&height).map(Arc::clone);
        if let Some(row) = row {
            // A block's row is there a moment before readers see the block: so it is looked for first, and
            // the readers' height after it.
            if height <= self.published.height() {
                return Ok(row);
            }
            let first = self.with_meta(|meta| Ok(meta.manifest()?.map(|it| it.history_from)))?;
            let (first, last) = (first.unwrap_or(height), self.published.height());
            return Err(Error::HeightUnavailable { height, first, last, kept: Kept::Roots });
        }
        // Rows leave `recent` only after they are in the engine.
        let row = self.with_meta(|meta| meta.history(height)).map_err(self.read_for(height))?;
        if let Some(row) = row {
            return Ok(Arc::new(row));
        }
        // Whether the row should be there says the manifest, and it must have said so before the look
        // and still say so after it: both ends of what is kept move on, and neither comes back.
        let says = |meta: &dyn MetaDb| {
            Ok::<_, MetaError>(meta.manifest()?.map(|it| it.history_from..=it.height))
        };
        let (before, row, after) =
            self.with_meta(|meta| Ok((says(meta)?, meta.history(height)?, says(meta)?)))?;
        if let Some(row) = row {
            return Ok(Arc::new(row));
        }
        let (Some(before), Some(after)) = (before, after) else {
            return Err(Error::Corrupt("the manifest is gone".into()));
        };
        if before.contains(&height) && after.contains(&height) {
            let missing = Error::Corrupt(missing_row(height, &after));
            if self.options.beside {
                // It may be in a file that there was no room to hold.
                return Err(Error::Pruned { height, source: Arc::new(missing) });
            }
            return Err(missing);
        }
        let last = self.flow.look(|progress| progress.published);
        let first = *after.start();
        Err(Error::HeightUnavailable { height, first, last, kept: Kept::Roots })
    }

    /// Asks the metadata engine.
    ///
    /// # Errors
    /// [`Error::Closed`], or the engine's.
    pub(crate) fn with_meta<T>(
        &self,
        ask: impl FnOnce(&dyn MetaDb) -> Result<T, MetaError>,
    ) -> Result<T, Error> {
        match &*self.meta.read() {
            Some(meta) => Ok(ask(&**meta)?),
            None => Err(Error::Closed),
        }
    }

    /// Whether a twig is pruned on disk.
    pub(crate) fn is_pruned(&self, shard: ShardId, twig: TwigId) -> bool {
        twig < self.first_kept.lock()[shard.index()]
    }

    /// What a failed read means to who looks at `height`: beside a writer, that one may have deleted what was
    /// to be read.
    pub(crate) fn read_for(&self, height: Height) -> impl Fn(Error) -> Error {
        let beside = self.options.beside;
        move |error| {
            if beside && is_of_a_file_that_is_gone(&error) {
                return Error::Pruned { height, source: Arc::new(error) };
            }
            error
        }
    }

    /// To be asked after reading the log on a reader's behalf: whether what was read can be trusted
    /// to be what was published.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn check_not_abandoned(&self) -> Result<(), Error> {
        if self.abandoned.load(Ordering::SeqCst) { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn state_root(&self) -> (Height, Digest) {
        let state = self.published.look();
        (state.height, state.roots().state)
    }
}

/// What is said of a row that the metadata has lost.
pub(crate) fn missing_row(height: Height, kept: &RangeInclusive<Height>) -> String {
    let (first, last) = (kept.start(), kept.end());
    format!(
        "the history row of height {height} is missing between {first} and {last} in the database \
         below meta/"
    )
}

/// One value per shard.
pub(crate) fn per_shard<T>(value: impl Fn(ShardId) -> T) -> [T; SHARDS] {
    // A first byte of 0xS0 belongs to shard S.
    std::array::from_fn(|shard| value(ShardId::from_top_bits((shard as u8) << 4)))
}
