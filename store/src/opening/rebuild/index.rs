//! Where the index of a store is, and the index of a shard once it is there.
//!
//! ```text
//!   memory   the keys of the checkpoint and the entries since are listed; in the end they are merged
//!   tiered   the segments that the checkpoint names are opened; the entries since go in run after run, so
//!            that opening needs no more memory than the open store, with or without a checkpoint
//!   summed   there is one already, in files, which is compared with the log: see `sums`
//! ```

use super::Source;
use super::resume::unusable;
use super::sums::{Keys, Sums};
use crate::Error;
use crate::options::{IndexMode, Options};
use crate::read::given_up::{Mark, Watched};
use crate::read::published::in_index;
use hedgerow_index::{Index, Record, ShardIndex, SharedIndex, TieredIndex, TieredOptions};
use hedgerow_state::ActiveBits;
use hedgerow_state::checkpoint::Checkpoint;
use hedgerow_types::{SHARDS, ShardId};
use hedgerow_vfs::Vfs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of the index, in the store's.
pub(crate) const INDEX: &str = "index";

/// Where a store's index is to be.
#[derive(Debug)]
pub(crate) enum IndexPlace {
    Memory,
    Tiered {
        disk: Arc<dyn Vfs>,
        folder: PathBuf,
        store: [u8; 16],
        /// Of all shards.
        memory_bytes: u64,
        /// Whether its files may be changed.
        writable: bool,
    },
    /// There are indexes of all shards, with which the log is compared.
    Summed {
        index: Vec<TieredIndex>,
        /// What records are hashed with.
        keys: Arc<Keys>,
        /// What gives the indexes up if they differ.
        mark: Option<Arc<Mark>>,
    },
}

impl IndexPlace {
    /// That of the store in `dir`. Who only reads takes what is there.
    pub(crate) fn new(
        dir: &Path,
        options: &Options,
        store: [u8; 16],
        checkpoint: Option<&Checkpoint>,
    ) -> Self {
        let tiered = checkpoint.is_some_and(|checkpoint| checkpoint.head().tiered);
        let memory_bytes = match options.index {
            IndexMode::Tiered { memory_bytes } if tiered || !options.read_only => memory_bytes,
            IndexMode::Memory if tiered && options.read_only => READERS_BYTES,
            _ => return Self::Memory,
        };
        let (disk, folder) = (Arc::clone(&options.disk), dir.join(INDEX));
        Self::Tiered { disk, folder, store, memory_bytes, writable: !options.read_only }
    }

    /// Whether it has files that may be changed.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self, Self::Tiered { writable: true, .. })
    }

    /// Whether a checkpoint has what this index begins with.
    pub(crate) fn suits(&self, checkpoint: &Checkpoint) -> bool {
        matches!(self, Self::Tiered { .. }) == checkpoint.head().tiered
    }

    /// The index of a shard that takes in run after run, if it is to be such a one: as the checkpoint has it,
    /// or empty.
    pub(super) fn open(
        &self,
        source: &Source<'_>,
        shard: ShardId,
        bits: &ActiveBits,
    ) -> Result<Option<TieredIndex>, Error> {
        let Some((disk, options)) = self.of(shard) else { return Ok(None) };
        let index = match source.checkpoint {
            Some(checkpoint) => {
                let (segments, records) = checkpoint.tiers(shard).map_err(unusable)?;
                let records = records.collect::<Result<Vec<Record>, _>>().map_err(unusable)?;
                TieredIndex::open(disk, options, &segments, records, bits.words())
            }
            None => TieredIndex::create(disk, options),
        };
        let index = index.map_err(in_index)?;
        if self.is_writable() {
            // What the checkpoint does not name was made after it, and is made again.
            index.remove_strays().map_err(in_index)?;
        }
        Ok(Some(index))
    }

    /// The empty index of a store that is created.
    pub(crate) fn create(&self, shard: ShardId) -> Result<Option<TieredIndex>, Error> {
        let Some((disk, options)) = self.of(shard) else { return Ok(None) };
        TieredIndex::create(disk, options).map(Some).map_err(in_index)
    }

    /// What the log has to say of the index of a shard, if that is all that is asked.
    pub(super) fn sums(&self, shard: ShardId) -> Option<Sums> {
        let Self::Summed { index, keys, mark } = self else { return None };
        let index = index.get(shard.index())?.clone();
        Some(Sums::new(shard, index, Arc::clone(keys), mark.clone()))
    }

    /// Where the files of a shard are, if they are to be files.
    fn of(&self, shard: ShardId) -> Option<(Arc<dyn Vfs>, TieredOptions)> {
        let Self::Tiered { disk, folder, store, memory_bytes, .. } = self else { return None };
        let memory_bytes = usize::try_from(memory_bytes / SHARDS as u64).unwrap_or(usize::MAX);
        let (folder, store) = (folder.clone(), *store);
        Some((Arc::clone(disk), TieredOptions { folder, store, shard, memory_bytes }))
    }
}

/// Memory for what a reader keeps of an index in files, unless its options say.
const READERS_BYTES: u64 = 64 << 20;

/// The index of a shard.
#[derive(Debug)]
pub(crate) enum Indexed {
    Memory(ShardIndex),
    Tiered(TieredIndex),
}

impl Indexed {
    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Memory(index) => index.len(),
            Self::Tiered(index) => index.len(),
        }
    }

    /// As the store asks it. One in files is given up by `mark`, if it may be.
    pub(crate) fn shared(self, mark: Option<&Arc<Mark>>) -> Box<dyn Index> {
        match (self, mark.cloned()) {
            (Self::Memory(index), _) => Box::new(SharedIndex::from(index)),
            (Self::Tiered(index), Some(mark)) => Box::new(Watched { index, mark }),
            (Self::Tiered(index), None) => Box::new(index),
        }
    }

    /// A handle of it, if it is in files.
    pub(crate) fn tiered(&self) -> Option<TieredIndex> {
        match self {
            Self::Memory(_) => None,
            Self::Tiered(index) => Some(index.clone()),
        }
    }
}
