//! Hedgerow: a verifiable key-value store for blockchain state.
//!
//! Block after block of key changes goes in; after each block one 32-byte root commits to everything
//! written so far; and anyone who holds the root can check a proof that a key has a value, or that
//! it is absent.
//!
//! ```
//! use hedgerow::{Height, Options, Store, StoreParams};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("state");
//! let mut store = Store::open_or_create(&path, StoreParams::default(), Options::default())?;
//!
//! let mut block = store.begin_block(Height(1))?;
//! block.put("alice", "100")?;
//! block.put("bob", "20")?;
//! block.delete("carol")?;                      // absent: counted, changes nothing
//! let receipt = block.commit()?;               // Receipt { height, root, created, ... }
//!
//! let reader = store.reader();                 // Clone + Send + Sync
//! assert_eq!(reader.get("alice")?, Some(b"100".to_vec()));
//! let present = reader.prove("alice")?;
//! let absent = reader.prove("carol")?;
//!
//! // Elsewhere, with nothing but the root:
//! let value = hedgerow_proof::verify(&receipt.root, b"alice", present.proof.as_bytes())?;
//! assert_eq!(value, Some(&b"100"[..]));
//! assert_eq!(hedgerow_proof::verify(&receipt.root, b"carol", absent.proof.as_bytes())?, None);
//! store.close()?;
//! # Ok(())
//! # }
//! ```
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
//!
//! `redb` is the only default one. Without it: `default-features = false, features = ["rocksdb"]`.
#![forbid(unsafe_code)]

mod block;
mod check;
mod checkpoint;
mod create;
mod error;
mod flow;
mod genesis;
pub mod hasher;
mod iter;
mod limits;
mod open;
mod options;
mod pipeline;
mod place;
mod points;
mod prove;
mod prune;
mod published;
mod reader;
mod rebuild;
mod repair;
mod replay;
mod shared;
mod stages;
mod stats;
mod store;
mod sync;
mod ticket;
mod view;
mod writer;

pub use block::Block;
pub use check::CheckReport;
pub use error::Error;
pub use hedgerow_entryfile::LogStats;
pub use hedgerow_metadb::{Engine, HistoryRow, StoreParams};
pub use hedgerow_proof::{Proof, SerialPath};
pub use hedgerow_state::{ChangeSet, Op, OpKind, Task};
pub use hedgerow_types::{CompactionRule, Digest, Height, KeyHash, SerialNumber, ShardId, Version};
pub use iter::Iter;
pub use options::{Durability, Options, Progress};
pub use prune::PruneHold;
pub use reader::{Proven, Reader};
pub use repair::{RepairReport, RepairWord};
pub use stats::Stats;
pub use store::Store;
pub use ticket::{Receipt, Ticket};
pub use view::View;
pub use writer::MAX_EXTRA_BYTES;

/// Disks: the real one is the default.
pub mod disk {
    /// The named points of creating, opening, committing and pruning, see [`Vfs::at_point`].
    pub use crate::points::ALL as POINTS;
    pub use hedgerow_vfs::{MemDisk, ReadOnlyDisk, RealDisk, Vfs};
}
