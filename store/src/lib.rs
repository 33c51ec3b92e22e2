//! Hedgerow: a verifiable key-value store for blockchain state.
//!
//! Block after block of key changes goes in; after each block one 32-byte root commits to everything
//! written so far; and anyone who holds the root can check a proof that a key has a value, or that
//! it is absent.
//!
//! ```
//! use hedgerow::{Options, Store, StoreParams};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("state");
//! let mut store = Store::open_or_create(&path, StoreParams::default(), Options::default())?;
//!
//! let mut block = store.next_block()?;
//! block.put("alice", "100")?;
//! block.put("bob", "20")?;
//! block.delete("carol")?;                      // absent: counted, changes nothing
//! let ticket = block.submit()?;                // or commit(), which waits for the root
//! let root = ticket.root()?;
//! ticket.durable()?;                           // now it survives power loss, and not before
//!
//! let reader = store.reader();                 // Clone + Send + Sync
//! assert_eq!(reader.get("alice")?, Some(b"100".to_vec()));
//! let present = reader.prove("alice")?;
//! let absent = reader.prove("carol")?;
//!
//! // Elsewhere, with nothing but the root (a light client takes the crate hedgerow-proof alone):
//! let value = hedgerow::verify(&root, b"alice", &present.proof)?;
//! assert_eq!(value, Some(&b"100"[..]));
//! assert_eq!(hedgerow::verify(&root, b"carol", &absent.proof)?, None);
//! store.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # When a block is safe
//!
//! [`Block::commit`] waits for the root, not for the disk: by default ([`Durability::Pipelined`]) up to four blocks
//! are on their way to it, and a crash may take them. [`Ticket::durable`] says when a block survives power
//! loss, [`Store::flush`] waits for all, and with [`Durability::EachBlock`] every commit waits. What survives is always
//! the state after some block, whole.
//!
//! # Order
//!
//! Keys are ordered by their SHA-256 hashes. So [`Reader::iter`] visits them in an order that says nothing about
//! them, and there is no scan by prefix or range: an application that needs one keeps a table of its own beside
//! the store.
//!
//! # The way of a block
//!
//! `submit` resolves a block (looks its keys up, reads the old entries) and updates with it (makes the new
//! entries), on the caller's thread and in the pool. Then three threads go on: one hashes the tree
//! and publishes ([`Ticket::early_root`], [`Ticket::root`]), one writes and syncs the log
//! ([`Ticket::durable`]), and one commits the manifest now and then. Meanwhile the next block is resolved
//! and updated. `ARCHITECTURE.md` has the drawing.
//!
//! Accepted ≥ published ≥ durable: readers see the published state, all of one height; after a crash the
//! store opens with some accepted prefix that holds at least everything durable. The root depends on the
//! blocks and the [`StoreParams`] only, never on timing, threads, backends, options or restarts.
//!
//! # Features
//!
//! No feature changes a root or a proof. Those of hashing decide which backends [`hasher::available`] has, those
//! of engines which of them [`Engine::available`] has; one engine at least must be chosen.
//!
//! | feature | what it adds | what it needs to build |
//! |---|---|---|
//! | `redb` | the default engine for the manifest and the history; runs on any [`Vfs`](disk::Vfs) | Rust |
//! | `rocksdb` | RocksDB as engine; on the real disk only | a C++ compiler, libclang, some minutes |
//! | `sled` | sled 0.34 as engine, for compatibility with what runs on it already; on the real disk only | Rust |
//! | `cuda` | hashing on NVIDIA devices: `cuda`, `cuda:ORDINAL` | Rust; the driver is looked for at run time |
//! | `wgpu` | hashing on GPUs through Vulkan: `wgpu`, `wgpu:WHICH` | Rust; adapters are looked for at run time |
//! | `metal` | `wgpu` with Metal; nothing outside Apple's systems | as `wgpu` |
//! | `dx12` | `wgpu` with Direct3D 12; nothing outside Windows | as `wgpu` |
//! | `serde` | `Serialize` for digests, numbers, receipts, figures and reports; `Deserialize` for the first three | |
//! | `metrics` | what blocks do, for the recorder of the crate [`metrics`](https://docs.rs/metrics) that a program installs; `docs/operations.md` lists the names | |
//!
//! `redb` is the only default one. Without it: `default-features = false, features = ["rocksdb"]`.
#![forbid(unsafe_code)]

#[cfg(not(any(feature = "redb", feature = "rocksdb", feature = "sled")))]
compile_error!(
    "a store needs a metadata engine: switch on one of the features redb (default), rocksdb, sled"
);

mod block;
mod commit;
mod error;
pub mod hasher;
mod history;
mod opening;
mod options;
mod points;
mod pressure;
mod read;
mod shared;
mod speculate;
mod stats;
mod steps;
mod store;
mod ticket;

pub use block::Block;
pub use commit::prune::{PruneHold, PruneReport};
pub use commit::waits::{IndexWaits, WaitReason, Waited};
pub use commit::writer::MAX_EXTRA_BYTES;
pub use error::{Error, Kept};
pub use hedgerow_entryfile::{Damage, LogError, LogStats, Stub};
pub use hedgerow_merkle::{MerkleError, Roots};
pub use hedgerow_metadb::{
    DecodeError, Engine, FirstHeightError, HashFunction, HistoryRow, InvalidField, MetaError,
    StoreParams,
};
pub use hedgerow_proof::{
    Answer, ClaimedEntries, ClaimedEntry, ClaimedRoots, EntryPath, Proof, ProofError, ProofRef,
    SerialPath, Sha2, Sha256, Trusted, Verified, VerifiedRange, Verifier, state_root, verify,
    verify_entry, verify_many, verify_past, verify_range, verify_since, verify_with_limit,
};
pub use hedgerow_state::{ChangeSet, Op, OpKind, Refused, Task};
pub use hedgerow_types::entry::{EntryError, EntryRef};
pub use hedgerow_types::{
    CompactionRule, Digest, Height, KeyHash, LogPosition, ParamsError, SerialNumber, ShardId,
    TwigId, Version,
};
pub use history::versions::{KeyHistory, KeyVersion};
pub use opening::backup::{BackupOptions, BackupReport};
pub use opening::beside::ReadOnlyStore;
pub use opening::check::CheckReport;
pub use opening::import::{IMPORT_BLOCK_BYTES, ImportOptions};
pub use opening::repair::{RepairReport, RepairWord};
pub use opening::salvage::{LostPart, SalvageReport};
pub use options::{Durability, IndexMode, Options, Progress};
pub use pressure::{MemoryFigures, MemoryLevel, MemoryWatch};
pub use read::iter::Iter;
pub use read::reader::{Proven, ProvenRange, RangeLimit, Reader};
pub use read::view::View;
pub use speculate::{Speculative, SpeculativeBlock};
pub use stats::{IndexStats, Stats};
pub use steps::{Durations, Step, StepStats, Steps};
pub use store::Store;
pub use ticket::{Receipt, Ticket};

/// Disks: the real one is the default.
pub mod disk {
    /// The named points of creating, opening, committing and pruning, see [`Vfs::at_point`].
    pub use crate::points::ALL as POINTS;
    pub use hedgerow_vfs::{
        DirLock, FileId, HowRead, LOCK_FILE, ManyReads, MemDisk, OneWayDisk, OpenMode, ReadAt,
        ReadOnlyDisk, ReadWay, RealDisk, Sharing, StillDisk, Vfs, VfsError, VfsErrorKind, VfsFile,
        VfsOp,
    };
}
