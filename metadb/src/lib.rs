//! The manifest and the per-height history: the small part of a store that is committed atomically.
//!
//! ```text
//!   store ── Commit { manifest, rows, history_from } ──► MetaDb::commit ── Ok: durable, all of it
//!                                                            │
//!            Manifest ──► bytes     strict codecs,           │    one transaction of the engine
//!          HistoryRow ──► bytes     checksummed              ▼
//!                                       ┌───────────────────────────────────────┐
//!                                       │ manifest │ history h-2 │ h-1 │ h │ ... │
//!                                       └───────────────────────────────────────┘
//!                                         redb (any Vfs) │ RocksDB │ sled
//!                                       rows that are long past: files of their own (`sealed`)
//! ```
//!
//! The **manifest** says what is durable: how far the log reaches, the roots, and for each shard
//! what cannot be computed from the log that is kept. A **history row** says what was true at one
//! height, so that pruning can keep a number of heights. Both have a byte layout of their own, drawn
//! in [`Manifest`]'s and [`HistoryRow`]'s modules; an engine stores bytes and never looks inside.
//!
//! # Invariants
//!
//! * After `commit` returns `Ok`, its manifest and rows survive power loss; after `Err` the database
//!   holds either all of the commit or nothing of it, and every later commit fails with the same
//!   error: only reopening tells which.
//! * A manifest that cannot be read is an error. `Ok(None)` means that the database was created and
//!   nothing was committed yet.
//! * A database appears under its name complete or not at all: it is made under a temporary name
//!   and renamed. [`open`] creates nothing unless told to.
//! * A row is stored with the height it belongs to; found under another one, it is an error.
//!
//! **Invariant (absence):** nothing here knows the log or the trees, and only `engine.rs` knows
//! which engines were compiled in.
//!
//! # Features
//!
//! | feature | engine | what it needs to build |
//! |---|---|---|
//! | `redb` | the default: on any [`Vfs`](hedgerow_vfs::Vfs) | Rust |
//! | `rocksdb` | RocksDB, on the real disk | a C++ compiler and libclang |
//! | `sled` | sled 0.34, on the real disk, for compatibility with what runs on it already | Rust |
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(feature = "redb", feature = "rocksdb", feature = "sled")),
    allow(dead_code, reason = "without an engine nothing can be opened; the formats remain")
)]

mod codec;
mod copy;
mod database;
mod engine;
mod engines;
mod error;
mod history;
mod manifest;
mod params;
mod renew;
mod sealed;

pub use codec::{DecodeError, InvalidField};
pub use copy::copy;
pub use engine::{Engine, UnknownEngine, exists, open};
pub use error::MetaError;
pub use history::{HistoryRow, MAX_EXTRA_LEN};
pub use manifest::{CheckpointName, MAX_DEAD_SPANS, MAX_EDGES, Manifest, ShardManifest};
pub use params::{FirstHeightError, HashFunction, StoreParams};
pub use renew::{Renew, renew};

use hedgerow_types::Height;
use std::fmt::Debug;

/// A database of one manifest and of history rows by height. Dropping it closes it.
///
/// Reads may run beside a commit; they see what was there before it or after it.
pub trait MetaDb: Send + Sync + Debug {
    /// Name of the engine, as [`Engine`] prints it.
    fn engine(&self) -> &'static str;

    /// The manifest of the last commit, decoded and checked; `None` if there was no commit yet.
    ///
    /// # Errors
    /// [`MetaError::Manifest`] if it is there and unreadable; [`MetaError::Engine`] if the engine
    /// cannot say.
    fn manifest(&self) -> Result<Option<Manifest>, MetaError>;

    /// Makes `commit` durable, all of it or nothing. Commits wait for each other.
    ///
    /// # Errors
    /// [`MetaError::InvalidCommit`] if it holds what can never be valid; nothing has happened then.
    /// [`MetaError::Engine`] if the engine failed; every later commit then fails with a copy of
    /// that error.
    fn commit(&self, commit: &Commit<'_>) -> Result<(), MetaError>;

    /// The row of `height`, decoded and checked; `None` if that height was not recorded or is
    /// below the `history_from` of a commit since.
    ///
    /// # Errors
    /// [`MetaError::History`] if it is there and unreadable; [`MetaError::Engine`] if the engine
    /// cannot say.
    fn history(&self, height: Height) -> Result<Option<HistoryRow>, MetaError>;

    /// The lowest height that a commit's manifest may have: the rows of those below it have left the database for
    /// files that never change. `None` if there was no commit yet.
    ///
    /// # Errors
    /// [`MetaError::Engine`] if the engine cannot say.
    fn first_to_take_back(&self) -> Result<Option<Height>, MetaError>;

    /// The lowest height that has a row.
    ///
    /// # Errors
    /// [`MetaError::Engine`] if the engine cannot say.
    fn first_history(&self) -> Result<Option<Height>, MetaError>;
}

/// What becomes durable together.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The new manifest.
    pub manifest: &'a Manifest,
    /// New rows, heights strictly increasing and at most the manifest's. A row that is there
    /// already is replaced.
    pub rows: &'a [(Height, HistoryRow)],
    /// Rows below this height are removed, those of this commit included. So are rows above the manifest's height,
    /// which are there if that one is lower than the last.
    pub history_from: Height,
}
