//! How a store is opened. Options may differ at every open and never change a root.

use crate::Error;
use crate::hasher::{self, BatchHasher, Hashers};
use crate::pressure::{MemoryWatch, memory_of_process};
use hedgerow_hashers::{CpuHasher, trusted_beside};
use hedgerow_metadb::Engine;
use hedgerow_types::MAX_VALUE_LEN;
use hedgerow_vfs::{ReadOnlyDisk, RealDisk, Vfs};
use std::fmt;
use std::sync::Arc;

/// When a commit counts as done.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Durability, Options, Store, StoreParams, disk::MemDisk};
/// # let disk = std::sync::Arc::new(MemDisk::new());
/// let careful = Options::new().durability(Durability::EachBlock);
/// # let careful = careful.disk(disk);
/// let mut store = Store::create("/state", StoreParams::default(), careful)?;
/// let receipt = store.next_block()?.commit()?;
/// assert_eq!(store.reader().durable_height(), receipt.height);   // no ticket needed
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// Every block is synced in order in the background, at most
    /// [`Options::max_in_flight`] blocks behind.
    #[default]
    Pipelined,
    /// [`Block::commit`](crate::Block::commit) returns when the block survives power loss.
    EachBlock,
}

/// How far opening a store is.
///
/// ```
/// # fn main() -> Result<(), hedgerow::Error> {
/// use hedgerow::{Options, Progress, Store};
/// use std::sync::{Arc, Mutex};
/// # let disk = Arc::new(hedgerow::disk::MemDisk::new());
/// # let options = Options::new().disk(disk);
/// # Store::create("/state", hedgerow::StoreParams::default(), options.clone())?.close()?;
/// let last = Arc::new(Mutex::new(None));
/// let seen = Arc::clone(&last);
/// let options = options.on_progress(move |progress| *seen.lock().unwrap() = Some(progress));
/// Store::open("/state", options)?;
/// let Progress { scanned_bytes, total_bytes } = last.lock().unwrap().unwrap();
/// assert_eq!(scanned_bytes, total_bytes);      // all of it, in the end
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the checkpoint and of the log read so far. They never decrease, and reach the total.
    pub scanned_bytes: u64,
    /// Bytes to read. They grow if what was read turns out to be damaged and more of the log is read
    /// instead; what was read before still counts.
    pub total_bytes: u64,
}

/// Where the index is, which says where in the log the current entry of each key is.
///
/// ```
/// use hedgerow::{IndexMode, Options};
/// // A quarter of a GiB for the index, however many keys there are.
/// let options = Options::new().index(IndexMode::Tiered { memory_bytes: 256 << 20 });
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IndexMode {
    /// In memory: 11 bytes per key.
    #[default]
    Memory,
    /// The newest part in memory, the rest in files below `index/`, within a budget of bytes. A key that is
    /// asked for costs a read of 4 KiB, unless that page is in the budget's cache or in the system's.
    Tiered {
        /// Bytes of memory: edits, filters, directories of pages, and pages that are kept. Beyond a budget, two to
        /// three bits per key are taken, and 8 bytes for every 255 keys. At least 4 MiB.
        memory_bytes: u64,
    },
}

/// Fewest bytes of memory of a tiered index.
pub(crate) const LEAST_INDEX_BYTES: u64 = 4 << 20;
/// Most blocks that can be taken back: history rows of older ones are in files that never change.
const MOST_TAKEN_BACK: u64 = 2048;
/// Blocks that can be taken back by default.
const WINDOW: u64 = 128;
/// Heights that a store keeps by default.
const KEEP: u64 = 1024;
/// Bytes of files that are mapped by default where nobody says how much memory there is.
const MAPPED_BYTES: u64 = 1 << 30;
/// Otherwise this part of it.
const MAPPED_PART: u64 = 4;

/// How many heights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Default,
    Heights(u64),
    All,
}

/// What hashes.
#[derive(Clone, Debug)]
pub(crate) enum HasherChoice {
    Named(String),
    Given(Arc<dyn BatchHasher>),
}

pub(crate) type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// Options of a store: a builder with defaults. Sizes are in bytes.
///
/// ```
/// use hedgerow::{Durability, Options};
/// let options = Options::new()
///     .durability(Durability::EachBlock)      // a commit returns when it survives power loss
///     .keep_heights(100_000)                  // pruning leaves what these heights need
///     .threads(4);
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) disk: Arc<dyn Vfs>,
    pub(crate) hasher: HasherChoice,
    /// `None`: nobody asked for one.
    pub(crate) tuning: Option<hasher::Tuning>,
    pub(crate) threads: usize,
    pub(crate) durability: Durability,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) max_value_bytes: usize,
    pub(crate) entry_cache_bytes: u64,
    pub(crate) link_cache_bytes: u64,
    pub(crate) tail_bytes: u64,
    /// `None`: nobody asked for an amount.
    pub(crate) mapped_bytes: Option<u64>,
    pub(crate) speculation_bytes: u64,
    /// `None`: segments grow with the log.
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) keep_history: Keep,
    pub(crate) keep_heights: Keep,
    /// `None`: as many as have proofs if that is given, else as many as are kept, up to [`WINDOW`].
    pub(crate) rollback_window: Option<u64>,
    pub(crate) manifest_blocks: u64,
    pub(crate) proof_window: Option<u64>,
    /// `None`: as often as it pays.
    pub(crate) checkpoint_bytes: Option<u64>,
    pub(crate) index: IndexMode,
    pub(crate) watch: Option<MemoryWatch>,
    pub(crate) engine: Option<Engine>,
    pub(crate) progress: Option<ProgressFn>,
    pub(crate) read_only: bool,
    /// Somebody else may be writing.
    pub(crate) beside: bool,
    /// Where copies go, if it is not `disk`.
    pub(crate) copies_to: Option<Arc<dyn Vfs>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            hasher: HasherChoice::Named(hasher::DEFAULT.into()),
            tuning: None,
            threads: 0,
            durability: Durability::default(),
            max_in_flight: 4,
            max_in_flight_bytes: 256 << 20,
            max_value_bytes: 64 << 10,
            entry_cache_bytes: 0,
            link_cache_bytes: 64 << 20,
            tail_bytes: 16 << 20,
            mapped_bytes: None,
            speculation_bytes: 1 << 30,
            segment_bytes: None,
            keep_history: Keep::Default,
            keep_heights: Keep::Default,
            rollback_window: None,
            manifest_blocks: 64,
            proof_window: None,
            checkpoint_bytes: None,
            index: IndexMode::Memory,
            watch: None,
            engine: None,
            progress: None,
            read_only: false,
            beside: false,
            copies_to: None,
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
    /// CPU with the kernels that are fastest here; `cpu:KERNEL` pins one, for keys and proofs too but for single keys. Creating or opening a store
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
    /// are checked, for example. Refused where it would do nothing: for a backend that is no device,
    /// and for one that [exists already](Self::hasher). With `auto` on a machine without a device it is
    /// logged that it does nothing.
    #[must_use]
    pub fn device_tuning(mut self, tuning: hasher::Tuning) -> Self {
        self.tuning = Some(tuning);
        self
    }

    /// Threads that resolve and update blocks, and as many that hash and publish them. Default 0:
    /// as many as there are cores.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// When a commit counts as done. Default [`Durability::Pipelined`]. It is what
    /// [`Block::commit`](crate::Block::commit) waits for. A caller of
    /// [`Block::submit`](crate::Block::submit) or [`Store::submit_tasks`](crate::Store::submit_tasks)
    /// asks the [`Ticket`](crate::Ticket) instead; under [`Durability::EachBlock`] the first such block
    /// is logged.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Blocks that may be accepted and not yet durable, at least 1; beyond it, submitting waits.
    /// Default 4.
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

    /// Longest value that a put accepts, at most 2^24 - 1. Default 64 KiB.
    ///
    /// Large values amplify writes, and not only those of their owner: to create or delete a key is to
    /// write the entry before it again, value included, and compaction moves it later. A user who finds a
    /// key next to a large value (as many trials as there are keys) makes the store write twice this many
    /// bytes with each create and delete, at no cost of their own. That is inherent in the tree. An
    /// application that charges for operations can charge by what they write:
    /// [`Receipt::log_bytes`](crate::Receipt::log_bytes),
    /// [`neighbour_bytes`](crate::Receipt::neighbour_bytes) and
    /// [`moved_bytes`](crate::Receipt::moved_bytes) are the same on every node.
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Size of the cache of entries that readers use. Default 0, which turns it off: entries are read from
    /// the system's cache of files. It is worth its memory where readers ask for the same few keys again and
    /// again (a hit takes less than half the time), or where the system has no memory left for files; all
    /// other reads take half as long again with it.
    #[must_use]
    pub fn entry_cache_bytes(mut self, bytes: u64) -> Self {
        self.entry_cache_bytes = bytes;
        self
    }

    /// Size of the cache of links: what blocks need of the entries that keys have now, of keys that blocks named lately.
    /// A block that names such a key again looks nothing up for it and reads nothing. Default 64 MiB, which are some
    /// 800,000 keys at 80 bytes; it takes memory as it comes to know them. 0 turns it off.
    #[must_use]
    pub fn link_cache_bytes(mut self, bytes: u64) -> Self {
        self.link_cache_bytes = bytes;
        self
    }

    /// Memory for recently written log, what its records take beside their bytes included. Default
    /// 16 MiB: some 9,000 blocks of five operations.
    #[must_use]
    pub fn tail_bytes(mut self, bytes: u64) -> Self {
        self.tail_bytes = bytes;
        self
    }

    /// Most bytes of the store's files that are mapped into memory: old entries are then read without a call of the
    /// system, which takes a third off the time of a read that the system has in memory. Three quarters are for the log,
    /// a quarter is for the twig file; of each the newest segments that grow no more are mapped, whole or not at all,
    /// and the others are read as ever. 0 maps nothing. Default: a quarter of the memory that the machine or the
    /// process's cgroup has (1 GiB where nobody says), or nothing where the process has a limit of address space
    /// (`ulimit -v`) and this was not asked for.
    ///
    /// What is mapped is the system's cache of files, not memory that the store takes: the system gives it up when
    /// others want memory. What of it was read counts as the process's resident memory (RSS) all the same;
    /// `RssFile` in `/proc/PID/status` says how much. [`LogStats::mapped_bytes`](crate::LogStats) says how much is mapped.
    ///
    /// The risk: errors of a mapped file are values when a part of it is first read. Bytes that were read before, that
    /// the system has given up since, and that the device then cannot give again, or that another program has cut from
    /// the file of the open store, end the process by a signal, SIGBUS. What is durable is not at stake: it is a crash
    /// like any other. With 0 such a read is an error instead.
    ///
    /// Disks that map no files ([`Vfs::maps_files`](crate::disk::Vfs::maps_files)) read them as ever, and so do systems
    /// other than Linux, and a store that is only read: if this was asked for, it is logged that it does nothing.
    #[must_use]
    pub fn mapped_bytes(mut self, bytes: u64) -> Self {
        self.mapped_bytes = Some(bytes);
        self
    }

    /// Bytes of the log and of the twig file that are mapped at most.
    pub(crate) fn mapped(&self) -> (u64, u64) {
        let limited = || hedgerow_vfs::limits::address_space_left().is_some();
        let part = || memory_of_process().map_or(MAPPED_BYTES, |bytes| bytes / MAPPED_PART);
        let all = self.mapped_bytes.unwrap_or_else(|| if limited() { 0 } else { part() });
        (all - all / 4, all / 4)
    }

    /// Most memory that all [speculative blocks](crate::Speculative) may take together; one more is then
    /// refused. Default 1 GiB.
    ///
    /// Each takes three times what it writes and, of every shard that it touches, a copy of the tree and of the active
    /// bits: some 0.4 bytes per entry between the oldest active one and the youngest, and 128 KiB for the youngest
    /// leaves. So one that touches all shards takes about 3 MB beside what it writes in a store of a million keys, and
    /// 100 MB in one of a hundred million, however small it is. Nothing is taken from a store without speculative blocks.
    #[must_use]
    pub fn speculation_bytes(mut self, bytes: u64) -> Self {
        self.speculation_bytes = bytes;
        self
    }

    /// Size at which a log segment is full: the unit in which pruning frees disk. Default: a sixteenth
    /// of the log, at least 4 MiB and at most 256 MiB, so that a store of any size has few files and
    /// frees disk.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// Heights whose roots, shard roots and extra data are kept: that of the last durable block and
    /// those before it. Default 1,024. At least one more is kept than
    /// [`keep_heights`](Self::keep_heights) asks for, since pruning uses the history. For an archive
    /// of roots give `u64::MAX`.
    #[must_use]
    pub fn keep_history(mut self, heights: u64) -> Self {
        self.keep_history = Keep::Heights(heights);
        self
    }

    /// Prunes: log and twig records wholly below the oldest entry that was active this many heights
    /// ago are deleted, in whole segments. Default 1,024, or as many as
    /// [`keep_history`](Self::keep_history) keeps if those are fewer. At least as many heights are kept
    /// as blocks may be [in flight](Self::max_in_flight), or [taken back](Self::rollback_window). Pruning cannot be undone: a store that is opened
    /// with fewer heights than before deletes more.
    ///
    /// What keeps the rest from being deleted is in [`Stats::prune_hold`](crate::Stats::prune_hold).
    /// Under a compaction rule whose threshold the store does not reach, such as
    /// [`CompactionRule::QMDB`](crate::CompactionRule::QMDB) below 320 million keys, the oldest entries
    /// stay active and nothing can be pruned; a warning is logged once.
    #[must_use]
    pub fn keep_heights(mut self, heights: u64) -> Self {
        self.keep_heights = Keep::Heights(heights);
        self
    }

    /// Blocks that [`Store::rollback`](crate::Store::rollback) can take back, at most 2,048. Default: as many as have
    /// [proofs](Self::proof_window) if that number is given (none if it is 0); else 128, or as many as
    /// [`keep_heights`](Self::keep_heights) and [`keep_history`](Self::keep_history) leave if those are fewer. What a given
    /// number of blocks needs is not pruned, whatever else is asked. A store that was opened with a smaller window before
    /// may have less.
    #[must_use]
    pub fn rollback_window(mut self, blocks: u64) -> Self {
        self.rollback_window = Some(blocks);
        self
    }

    /// How many blocks can be taken back, as far as the options say.
    pub(crate) fn blocks_to_take_back(&self) -> u64 {
        let rows = self.history_rows().map(|rows| rows.saturating_sub(1));
        let kept = self.look_back().into_iter().chain(rows).fold(WINDOW, u64::min);
        self.asked_to_take_back().unwrap_or(kept)
    }

    /// Blocks after which the manifest is committed, at least 1. Default 64; sooner, when 32 MiB of
    /// log were written since the last time, or [`segment_bytes`](Self::segment_bytes) if those are given
    /// and fewer. Blocks are durable without it; opening
    /// reads again what it does not name. Pruning happens when it is committed.
    #[must_use]
    pub fn manifest_blocks(mut self, blocks: u64) -> Self {
        self.manifest_blocks = blocks;
        self
    }

    /// Of how many of the last heights, beside the newest, there are proofs against the roots of their own:
    /// [`Reader::at`](crate::Reader::at), then [`View::prove`](crate::View::prove). Default 128; 0 for none. Each costs
    /// some 8 bytes of disk per update of a key, and 40 per twig and level that the block changed. What a height needs must not
    /// be pruned either: if the number is given and [`rollback_window`](Self::rollback_window) is not, as many blocks can be
    /// taken back (at most 2,048), and nothing that they need is pruned. What a store that is opened lacks, with a larger window
    /// than before or after a file was lost, is made again from the log as far back as nothing is pruned: opening takes longer
    /// then, in proportion to the blocks of the window. Who [only reads](Options::read_only) has what is there.
    #[must_use]
    pub fn proof_window(mut self, blocks: u64) -> Self {
        self.proof_window = Some(blocks);
        self
    }

    /// How many blocks are to have undo records.
    pub(crate) fn blocks_with_proofs(&self) -> u64 {
        self.proof_window.unwrap_or(WINDOW)
    }

    /// How many blocks can be taken back if that was said, by their own number or by that of proofs.
    fn asked_to_take_back(&self) -> Option<u64> {
        self.rollback_window.or(self.proof_window.map(|blocks| blocks.min(MOST_TAKEN_BACK)))
    }

    /// Bytes of log after which a checkpoint is written in the background, so that opening after a crash
    /// has no more than about that to read again; 0 for no checkpoints. Default 256 MiB, or four times
    /// the length of a checkpoint (12 bytes per key) if that is more. Closing writes one as well, if 1 MiB
    /// of log was written since the last. A checkpoint is a copy of the index and of the youngest parts of
    /// the tree: with none, or a damaged one, opening reads the log instead.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = Some(bytes);
        self
    }

    /// Where the index is. Default [`IndexMode::Memory`]. A store may be opened with another mode than before:
    /// then opening reads all of its log, once. A store that is [only read](Options::read_only) has the index
    /// that its checkpoint was written with, or one in memory.
    #[must_use]
    pub fn index(mut self, mode: IndexMode) -> Self {
        self.index = mode;
        self
    }

    /// Looks how scarce memory is, and leaves a [tiered index](IndexMode::Tiered) less of its budget while it is:
    /// three quarters of it when less than a fifth of the memory is available, half of it below a tenth, a quarter below a
    /// twentieth, but always at least 4 MiB. It gives the rest back step by step, and later than it took it. No answer
    /// depends on it. [`MemoryWatch::of_machine`] looks at the machine and at the cgroup, on Linux; on other systems it
    /// does nothing. Default: nobody looks. An index in memory takes what it needs, and a store that is
    /// [only read](Options::read_only) what it was given.
    #[must_use]
    pub fn watch_memory(mut self, watch: MemoryWatch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Bytes of log after which the manifest is committed.
    pub(crate) fn manifest_bytes(&self) -> u64 {
        self.segment_bytes.unwrap_or(u64::MAX).min(32 << 20)
    }

    /// For an archive: nothing is pruned and all history is kept. Its disk grows with every block.
    #[must_use]
    pub fn keep_all(mut self) -> Self {
        (self.keep_history, self.keep_heights) = (Keep::All, Keep::All);
        self
    }

    /// How many heights behind the last durable one pruning looks for the oldest entries that must
    /// stay; `None`: nothing is pruned.
    pub(crate) fn look_back(&self) -> Option<u64> {
        let keep = match (self.keep_heights, self.keep_history) {
            (Keep::All, _) => return None,
            (Keep::Heights(heights), _) => heights,
            (Keep::Default, Keep::Heights(rows)) => KEEP.min(rows.saturating_sub(1)),
            (Keep::Default, Keep::Default | Keep::All) => KEEP,
        };
        // While a block is resolved, others in flight may become durable: what it reads must stay.
        Some(keep.max(self.max_in_flight as u64).max(self.asked_to_take_back().unwrap_or(0)))
    }

    /// History rows to be kept; `None`: all.
    pub(crate) fn history_rows(&self) -> Option<u64> {
        // Pruning reads the row of the height that it looks back to.
        let pruning = self.look_back().map_or(0, |heights| heights.saturating_add(1));
        // A rollback that of the height that it goes back to.
        let least = self.rollback_window.map_or(0, |blocks| blocks.saturating_add(1)).max(pruning);
        match self.keep_history {
            Keep::All => None,
            Keep::Heights(rows) => Some(rows.max(least)),
            Keep::Default => Some(KEEP.max(least)),
        }
    }

    /// The metadata engine. Default: the first of redb, RocksDB, sled that was compiled in. A store
    /// is opened with the engine it was created with.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Opens a store to read it, and changes nothing on the disk: for a store on a read-only medium,
    /// or one that must stay as it is. What opening would write to repair what a crash left stays
    /// in memory, so it is done again each time. Any number of stores may have the same directory
    /// open this way, but not while one has it open for writing: beside that one it is opened with
    /// [`Store::open_read_only`](crate::Store::open_read_only). Blocks are refused with
    /// [`Error::ReadOnly`], and so is creating. Not for the engines that need a real disk.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Called from time to time while opening reads the checkpoint and the log, by one thread at a time.
    /// Opening waits for it: it should return soon.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Those with which a copy of the store is opened, to be checked: nothing of it goes, and the CPU hashes.
    pub(crate) fn for_a_copy(&self) -> Self {
        let disk = self.copies_to.clone().unwrap_or_else(|| Arc::clone(&self.disk));
        let hasher = HasherChoice::Named(hasher::DEFAULT.into());
        let (tuning, read_only, beside, copies_to) = (None, false, false, None);
        Self { disk, hasher, tuning, read_only, beside, copies_to, ..self.clone() }.keep_all()
    }

    /// These options, with the disk that they ask for.
    pub(crate) fn for_opening(mut self) -> Self {
        if self.read_only {
            self.copies_to = Some(Arc::clone(&self.disk));
            self.disk = Arc::new(ReadOnlyDisk::new(self.disk));
        }
        self
    }

    /// Refuses options that cannot work, and finds the backend that they ask for.
    pub(crate) fn check(&self) -> Result<Hashers, Error> {
        self.check_numbers()?;
        let hasher = match &self.hasher {
            HasherChoice::Named(name) => {
                hasher::by_name_tuned(name, self.tuning.unwrap_or_default())?
            }
            HasherChoice::Given(hasher) => Arc::clone(hasher),
        };
        self.check_tuning(&*hasher)?;
        if self.mapped_bytes > Some(0) && !self.disk.maps_files() {
            tracing::info!("option mapped_bytes: this disk maps no files, so it does nothing");
        }
        if self.watch.is_some() && (self.index == IndexMode::Memory || self.read_only) {
            tracing::info!("option watch_memory: there is no budget here that it could change");
        } else if self.watch.as_ref().is_some_and(|watch| watch.figures().is_none()) {
            tracing::info!(
                "option watch_memory: nothing is known of the memory here, so it does nothing"
            );
        }
        if let (Keep::Heights(asked), Some(kept)) = (self.keep_history, self.history_rows())
            && asked < kept
        {
            tracing::info!(
                asked,
                kept,
                "option keep_history: more heights are kept, since pruning asks their history",
            );
        }
        Ok(Hashers::new(hasher, self.cpu()?))
    }

    /// The CPU, for what no device decides.
    pub(crate) fn cpu(&self) -> Result<CpuHasher, Error> {
        match &self.hasher {
            HasherChoice::Named(name) => Ok(trusted_beside(name)?),
            HasherChoice::Given(_) => Ok(CpuHasher::new()),
        }
    }

    /// Refuses a tuning that would tune nothing.
    fn check_tuning(&self, hasher: &dyn BatchHasher) -> Result<(), Error> {
        if self.tuning.is_none() {
            return Ok(());
        }
        let refuse = |reason: String| Err(Error::Option { option: "device_tuning", reason });
        match &self.hasher {
            HasherChoice::Given(_) => refuse(
                "the backend was given ready-made (option hasher); tune it where it is made, or name \
                 it (option hasher_named)"
                    .into(),
            ),
            HasherChoice::Named(_) if hasher.capabilities().is_device => Ok(()),
            HasherChoice::Named(name) if name == "auto" => {
                tracing::info!("option device_tuning: there is no device here that it could tune");
                Ok(())
            }
            HasherChoice::Named(name) => refuse(format!("the backend {name} is no device")),
        }
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let refuse = |option, reason: &str| Err(Error::Option { option, reason: reason.into() });
        if self.max_in_flight == 0 {
            return refuse("max_in_flight", "at least one block must be in flight");
        }
        if self.rollback_window > Some(MOST_TAKEN_BACK) {
            return refuse("rollback_window", "at most 2048 blocks can be taken back");
        }
        if self.manifest_blocks == 0 {
            return refuse("manifest_blocks", "must be at least 1");
        }
        if self.max_value_bytes > MAX_VALUE_LEN {
            return refuse("max_value_bytes", "the entry format ends at 16777215");
        }
        if self.segment_bytes == Some(0) {
            return refuse("segment_bytes", "must not be 0");
        }
        if matches!(self.index, IndexMode::Tiered { memory_bytes } if memory_bytes < LEAST_INDEX_BYTES)
        {
            return refuse("index", "a tiered index needs 4 MiB of memory");
        }
        if self.keep_heights == Keep::Heights(0) {
            return refuse("keep_heights", "must be at least 1");
        }
        if self.keep_history == Keep::Heights(0) {
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
            .field("link_cache_bytes", &self.link_cache_bytes)
            .field("tail_bytes", &self.tail_bytes)
            .field("speculation_bytes", &self.speculation_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("keep_history", &self.keep_history)
            .field("keep_heights", &self.keep_heights)
            .field("rollback_window", &self.rollback_window)
            .field("manifest_blocks", &self.manifest_blocks)
            .field("proof_window", &self.proof_window)
            .field("checkpoint_bytes", &self.checkpoint_bytes)
            .field("index", &self.index)
            .field("watch", &self.watch)
            .field("engine", &self.engine)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}
