//! What can go wrong, for the person who reads it.

use hedgerow_entryfile::LogError;
use hedgerow_hasher_api::HashError;
use hedgerow_hashers::BackendError;
use hedgerow_merkle::MerkleError;
use hedgerow_metadb::MetaError;
use hedgerow_state::Refused;
use hedgerow_state::checkpoint::CheckpointError;
use hedgerow_types::{Digest, Height, ShardId};
use hedgerow_vfs::VfsError;
use std::path::PathBuf;
use std::sync::Arc;

/// What can go wrong with a store.
///
/// A call that is refused ([`Error::Refused`], [`Error::WrongHeight`], [`Error::Option`] and their like)
/// changes nothing: the store goes on as if it had not been made. After [`Error::Poisoned`] the store takes
/// no more blocks, but what was published stays readable and what was durable survives.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// use hedgerow::{Error, Refused};
/// let mut block = store.next_block()?;
/// match block.put("", "no key") {
///     Err(Error::Refused(Refused::KeyLength(0))) => {} // the block is as it was
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key, a value, an operation or a whole block is refused, whatever the disk does.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A block has another height than the next one.
    #[error("this block has height {given}, the next height is {expected}")]
    WrongHeight {
        /// The height given.
        given: Height,
        /// The height of the next block.
        expected: Height,
    },
    /// A speculative block follows a state that is no longer the last accepted one, nor one before it among
    /// speculative blocks: another block was accepted meanwhile. Or it is one of another store.
    #[error(
        "the speculative block at height {height} follows a state that is no longer to be followed"
    )]
    Stale {
        /// The height that it would have had.
        height: Height,
    },
    /// Speculative blocks would take more memory than
    /// [`Options::speculation_bytes`](crate::Options::speculation_bytes). Dropping some of them makes room.
    #[error(
        "speculative blocks take {used} bytes, and one more takes {needed}; option speculation_bytes allows {limit}"
    )]
    SpeculationFull {
        /// Bytes that those take that there are.
        used: u64,
        /// Bytes that the one takes for which there is no room, as far as they are known.
        needed: u64,
        /// Bytes that all may take.
        limit: u64,
    },
    /// Extra data above 1 MiB.
    #[error("extra data of {0} bytes; at most 1048576 are kept per block")]
    ExtraTooLarge(usize),
    /// An option has a value that cannot work.
    #[error("option {option}: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no store in the directory.
    #[error("there is no store in {0}")]
    NoStore(PathBuf),
    /// The directory holds a store whose creation did not finish; `open_or_create` starts it again.
    #[error("the creation of the store in {0} did not finish; open_or_create begins it again")]
    Unfinished(PathBuf),
    /// The directory holds a copy of a store that is not whole: a backup, a restoring of one, or an import,
    /// that was cut short. To begin it again replaces it.
    #[error(
        "the copy of a store in {} is not finished; begin the backup, restore or import into it again, or \
         remove the directory: what it was made of is untouched", .0.display()
    )]
    UnfinishedCopy(PathBuf),
    /// `create` found a directory that is not empty.
    #[error("{0} is not empty; a store is created in an empty directory only")]
    NotEmpty(PathBuf),
    /// The store is open already, in this process or another.
    #[error("the store in {} is in use{}", dir.display(), by(*holder))]
    InUse {
        /// The directory that is locked.
        dir: PathBuf,
        /// The process that has it open, where the system tells.
        holder: Option<u32>,
    },
    /// A store that another process writes to changed faster than it could be read.
    #[error("the store in {} changed while it was read, {attempts} times: {source}", dir.display())]
    Unsteady {
        /// The directory.
        dir: PathBuf,
        /// How often it was tried.
        attempts: u32,
        /// What was wrong the last time.
        source: Arc<Error>,
    },
    /// A store that is looked at while another process writes needs a file which that one has deleted, and
    /// which there was no room to hold open. [`refresh`](crate::ReadOnlyStore::refresh) leads to a newer
    /// height.
    #[error("what height {height} needs was pruned since it was opened: {source}")]
    Pruned {
        /// The height that is shown.
        height: Height,
        /// Which file is gone.
        source: Arc<Error>,
    },
    /// The store's directory cannot be written to.
    #[error(
        "the store in {} cannot be opened for writing: {source}; the option read_only opens it for \
         reading", dir.display()
    )]
    NotWritable {
        /// The directory.
        dir: PathBuf,
        /// What the disk said.
        source: VfsError,
    },
    /// The store was opened only to be read.
    #[error("the store was opened for reading only (option read_only)")]
    ReadOnly,
    /// The store was opened by another process, of which this one is a forked copy without its
    /// threads. Readers go on here.
    #[error("the store belongs to process {0}, of which this one is a fork")]
    Forked(u32),
    /// The store was created with other parameters.
    #[error("the store has other parameters: {0}")]
    Params(String),
    /// A height lies ahead, or what was asked of it is not kept any more.
    #[error(
        "height {height} is not available; the store keeps {kept} of heights {first} to {last}"
    )]
    HeightUnavailable {
        /// The height asked for.
        height: Height,
        /// First height of which that is kept.
        first: Height,
        /// Last published height.
        last: Height,
        /// What of it was asked for.
        kept: Kept,
    },
    /// A view shows a height that was taken back by [`Store::rollback`](crate::Store::rollback).
    #[error("height {height} was taken back; a view of it has no answers any more")]
    RolledBack {
        /// The height of the view.
        height: Height,
    },
    /// There have been so many rollbacks, each apart from the others, that the manifest names no more of them. They
    /// end when what they took back is pruned.
    #[error("{most} parts of the log were taken back and are not pruned yet; no more can be")]
    TooManyRollbacks {
        /// How many there can be.
        most: usize,
    },
    /// The serial number was pruned, or its shard has not come that far.
    #[error("serial number {sn} of shard {shard} is not available: {reason}")]
    SerialUnavailable {
        /// The shard.
        shard: ShardId,
        /// The serial number.
        sn: hedgerow_types::SerialNumber,
        /// Why.
        reason: String,
    },
    /// The store was closed. Its readers still answer from the last published state if all of it was
    /// durable, but history is no longer available.
    #[error("the store is closed")]
    Closed,
    /// An earlier failure stopped the store. It takes no more blocks; reads go on.
    #[error("the store stopped after a failure: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// What is on disk contradicts itself.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The index in files is damaged, or differs from the log. It is derived from the log: where the text says so, the
    /// next opening makes it anew; else whoever removes the directory `index/` of the closed store has it made anew.
    #[error("{0}")]
    Index(String),
    /// The recomputed root differs from the recorded one.
    #[error("the state at height {height} hashes to {computed}, the manifest says {recorded}")]
    RootMismatch {
        /// The height.
        height: Height,
        /// What the entries hash to.
        computed: Digest,
        /// What the manifest says.
        recorded: Digest,
    },
    /// A repair would lead to another root than the operator expects; nothing was changed.
    #[error(
        "the log leads to root {computed}, not to the expected {expected}; nothing was changed"
    )]
    UnexpectedRoot {
        /// What the entries hash to.
        computed: Digest,
        /// What the operator said.
        expected: Digest,
    },
    /// The entry log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The metadata engine failed.
    #[error(transparent)]
    Meta(Arc<MetaError>),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] VfsError),
    /// The hashing backend failed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The tree refused what it was given.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    /// A limit of the process leaves too little for a store.
    #[error("{needed} bytes are needed and {left} are left of the {limit}")]
    Limit {
        /// What is limited, and how it is called.
        limit: &'static str,
        /// Bytes that are left.
        left: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// The system gave no random numbers for a new store's id.
    #[error("no random numbers for the id of the store: {0}")]
    Random(String),
    /// A thread could not be started, or ended in a panic.
    #[error("thread {name}: {reason}")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What happened.
        reason: String,
    },
}

/// What a store keeps of its heights: of some less than of others. See [`Error::HeightUnavailable`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let store = Store::create("/state", StoreParams::default(), options)?;
/// use hedgerow::{Error, Height, Kept};
/// let Err(Error::HeightUnavailable { last, kept, .. }) = store.reader().at(Height(7)) else { panic!() };
/// assert_eq!((last, kept), (Height(0), Kept::Roots));      // it is not there yet
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// Roots and extra data: see [`Options::keep_history`](crate::Options::keep_history).
    Roots,
    /// The entries: see [`Options::keep_heights`](crate::Options::keep_heights).
    State,
    /// What proofs against their roots need: see [`Options::proof_window`](crate::Options::proof_window).
    Proofs,
    /// What going back to them needs: see [`Options::rollback_window`](crate::Options::rollback_window).
    Rollback,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Roots => "the roots",
            Self::State => "the state",
            Self::Proofs => "what proofs need",
            Self::Rollback => "what a rollback needs",
        })
    }
}

/// Says who uses a store.
fn by(holder: Option<u32>) -> String {
    match holder {
        Some(holder) if holder == std::process::id() => " by this process".into(),
        Some(holder) => format!(" by process {holder}"),
        None => String::new(),
    }
}

impl From<MetaError> for Error {
    fn from(error: MetaError) -> Self {
        Self::Meta(Arc::new(error))
    }
}

impl From<hedgerow_index::IndexError> for Error {
    fn from(error: hedgerow_index::IndexError) -> Self {
        crate::read::published::in_index(error)
    }
}

impl From<CheckpointError> for Error {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Disk(error) => error.into(),
            other => Self::Corrupt(other.to_string()),
        }
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Self {
        Self::Option { option: "hasher", reason: error.to_string() }
    }
}

impl From<hedgerow_state::Error> for Error {
    fn from(error: hedgerow_state::Error) -> Self {
        use hedgerow_state::Error as Failed;
        match error {
            Failed::Refused(refused) => Self::Refused(refused),
            Failed::Corrupt(what) => Self::Corrupt(what),
            Failed::Log(error) => Self::Log(error),
            Failed::Hash(error) => Self::Hash(error),
            Failed::Index(error) => crate::read::published::in_index(error),
        }
    }
}

impl Error {
    /// Whether what is on disk is damaged: neither an error of the disk, nor of the caller. What to do then
    /// is in `docs/operations.md`.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::Index(_) | Self::RootMismatch { .. } => true,
            Self::Log(LogError::Failed(error)) => is_log_damage(error),
            Self::Log(error) => is_log_damage(error),
            Self::Meta(error) => {
                matches!(**error, MetaError::Manifest { .. } | MetaError::History { .. })
            }
            Self::Poisoned { cause } => cause.is_damage(),
            _ => false,
        }
    }

    /// Whether files contradict each other, or what they should: not that one could not be read.
    pub(crate) fn is_contradiction(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::Index(_) | Self::RootMismatch { .. } => true,
            Self::Log(error) => !matches!(error, LogError::Io { .. } | LogError::Failed(_)),
            Self::Merkle(error) => !matches!(error, MerkleError::Hash(_)),
            _ => false,
        }
    }
}

fn is_log_damage(error: &LogError) -> bool {
    matches!(
        error,
        LogError::Corrupt { .. }
            | LogError::Short { .. }
            | LogError::NoSegment { .. }
            | LogError::Overlap { .. }
            | LogError::Bounds { .. }
    )
}
