//! How a store is opened. Options may differ at every open and never change a root.

use crate::Error;
use crate::hasher::{self, BatchHasher};
use hedgerow_metadb::Engine;
use hedgerow_types::MAX_VALUE_LEN;
use hedgerow_vfs::{ReadOnlyDisk, RealDisk, Vfs};
use std::fmt;
use std::sync::Arc;

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// Every block is synced in order in the background, at most
    /// [`Options::max_in_flight`] blocks behind.
    #[default]
    Pipelined,
    /// [`Block::commit`](crate::Block::commit) returns when the block survives power loss.
    EachBlock,
}

/// What opening a store is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the log read so far.
    pub scanned_bytes: u64,
    /// Bytes of the log to read.
    pub total_bytes: u64,
}

/// What hashes.
#[derive(Clone, Debug)]
pub(crate) enum HasherChoice {
    Named(String),
    Given(Arc<dyn BatchHasher>),
}

pub(crate) type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// Options of a store: a builder with defaults. Sizes are in bytes.
#[derive(Clone)]
pub struct Options {
    pub(crate) disk: Arc<dyn Vfs>,
    pub(crate) hasher: HasherChoice,
    pub(crate) tuning: hasher::Tuning,
    pub(crate) threads: usize,
    pub(crate) durability: Durability,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) max_value_bytes: usize,
    pub(crate) entry_cache_bytes: u64,
    pub(crate) tail_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) keep_history: Option<u64>,
    pub(crate) keep_heights: Option<u64>,
    pub(crate) engine: Option<Engine>,
    pub(crate) progress: Option<ProgressFn>,
    pub(crate) read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            hasher: HasherChoice::Named(hasher::DEFAULT.into()),
            tuning: hasher::Tuning::default(),
            threads: 0,
            durability: Durability::default(),
            max_in_flight: 2,
            max_in_flight_bytes: 256 << 20,
            max_value_bytes: 64 << 10,
            entry_cache_bytes: 32 << 20,
            tail_bytes: 16 << 20,
            segment_bytes: 256 << 20,
            keep_history: None,
            keep_heights: None,
            engine: None,
            progress: None,
            read_only: false,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk that the store lives on. Default: the real one.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Vfs>) -> Self {
        self.disk = disk;
        self
    }

    /// The hashing backend, one that exists already. Default: see
    /// [`hasher_named`](Self::hasher_named); of the two, the later call counts.
    #[must_use]
    pub fn hasher(mut self, hasher: Arc<dyn BatchHasher>) -> Self {
        self.hasher = HasherChoice::Given(hasher);
        self
    }

    /// The hashing backend by its name, see [`hasher::available`]. Default: [`hasher::DEFAULT`], the
    /// CPU with the kernels that are fastest here; `cpu:KERNEL` pins one. Creating or opening a store
    /// fails with [`Error::Option`] if there is no such backend or this machine cannot run it.
    ///
    /// ```
    /// use hedgerow::{Error, Options, Store, StoreParams, hasher};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("state");
    /// // Whatever hashes, the roots are the same. This kernel runs everywhere.
    /// let pinned = Options::new().hasher_named("cpu:portable");
    /// let store = Store::create(&path, StoreParams::default(), pinned)?;
    /// assert_eq!(store.stats().hasher.name, "cpu:portable");
    /// store.close()?;
    ///
    /// // Of two kernels for different CPUs, one at least cannot run.
    /// let missing = ["cpu:avx512x32", "cpu:armv8x4"]
    ///     .into_iter()
    ///     .find(|name| !hasher::names().iter().any(|usable| usable == name))
    ///     .expect("one of them");
    /// for name in [missing, "cpu:abacus", "abacus"] {
    ///     let refused = Store::open(&path, Options::new().hasher_named(name));
    ///     assert!(matches!(refused, Err(Error::Option { option: "hasher", .. })));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn hasher_named(mut self, name: impl Into<String>) -> Self {
        self.hasher = HasherChoice::Named(name.into());
        self
    }

    /// How a device is used that [`hasher_named`](Self::hasher_named) names: how many of its digests
    /// are checked, for example.
    #[must_use]
    pub fn device_tuning(mut self, tuning: hasher::Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Threads that resolve and update blocks, and as many that hash and publish them. Default 0:
    /// as many as there are cores.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// When a commit counts as done. Default [`Durability::Pipelined`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Blocks that may be accepted and not yet durable, at least 1; beyond it, submitting waits.
    /// Default 2.
    #[must_use]
    pub fn max_in_flight(mut self, blocks: usize) -> Self {
        self.max_in_flight = blocks;
        self
    }

    /// Bytes of log that may be accepted and not yet durable; beyond it, submitting waits, unless
    /// nothing is in flight. Default 256 MiB.
    #[must_use]
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.max_in_flight_bytes = bytes;
        self
    }

    /// Longest value that a put accepts, at most 2^24 - 1. Default 64 KiB. A create rewrites its
    /// neighbour's entry, value included, so that large values amplify writes.
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Size of the cache of entries that readers use. Default 32 MiB, 0 turns it off.
    #[must_use]
    pub fn entry_cache_bytes(mut self, bytes: u64) -> Self {
        self.entry_cache_bytes = bytes;
        self
    }

    /// Recently written log that stays in memory. Default 16 MiB.
    #[must_use]
    pub fn tail_bytes(mut self, bytes: u64) -> Self {
        self.tail_bytes = bytes;
        self
    }

    /// Size at which a log segment is full: the unit in which pruning frees disk. Default 256 MiB.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Heights whose roots, shard roots and extra data are kept. Default: all.
    #[must_use]
    pub fn keep_history(mut self, heights: u64) -> Self {
        self.keep_history = Some(heights);
        self
    }

    /// Prunes: log and twig records wholly below the oldest entry that was active this many heights
    /// ago are deleted, in whole segments. Default: nothing is pruned. History is kept for at least
    /// as many heights.
    #[must_use]
    pub fn keep_heights(mut self, heights: u64) -> Self {
        self.keep_heights = Some(heights);
        self
    }

    /// The metadata engine. Default: the first of redb, RocksDB, sled that was compiled in. A store
    /// is opened with the engine it was created with.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Opens a store to read it, and changes nothing on the disk: for a store on a read-only medium,
    /// or one that must stay as it is. What opening would write to put right what a crash left stays
    /// in memory, and so it is done again each time. Any number of stores may have the same directory
    /// open this way, but not while one has it open for writing. Blocks are refused with
    /// [`Error::ReadOnly`], and so is creating. Not for the engines that need a real disk.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Called from time to time while opening reads the log.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// These options, with the disk that they ask for.
    pub(crate) fn for_opening(mut self) -> Self {
        if self.read_only {
            self.disk = Arc::new(ReadOnlyDisk::new(self.disk));
        }
        self
    }

    /// Refuses options that cannot work, and finds the backend that they ask for.
    pub(crate) fn check(&self) -> Result<Arc<dyn BatchHasher>, Error> {
        self.check_numbers()?;
        match &self.hasher {
            HasherChoice::Named(name) => hasher::by_name_tuned(name, self.tuning),
            HasherChoice::Given(hasher) => Ok(Arc::clone(hasher)),
        }
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let refuse = |option, reason: &str| Err(Error::Option { option, reason: reason.into() });
        if self.max_in_flight == 0 {
            return refuse("max_in_flight", "at least one block must be in flight");
        }
        if self.max_value_bytes > MAX_VALUE_LEN {
            return refuse("max_value_bytes", "the entry format ends at 16777215");
        }
        if self.segment_bytes == 0 {
            return refuse("segment_bytes", "must not be 0");
        }
        if self.keep_heights == Some(0) {
            return refuse("keep_heights", "must be at least 1");
        }
        if self.keep_history == Some(0) {
            return refuse("keep_history", "must be at least 1");
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("disk", &self.disk)
            .field("hasher", &self.hasher)
            .field("threads", &self.threads)
            .field("durability", &self.durability)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_in_flight_bytes", &self.max_in_flight_bytes)
            .field("max_value_bytes", &self.max_value_bytes)
            .field("entry_cache_bytes", &self.entry_cache_bytes)
            .field("tail_bytes", &self.tail_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("keep_history", &self.keep_history)
            .field("keep_heights", &self.keep_heights)
            .field("engine", &self.engine)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}
