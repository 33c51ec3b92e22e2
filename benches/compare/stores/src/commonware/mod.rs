//! commonware's QMDB in its kinds, all with fixed sizes of keys and values and SHA-256.
//!
//! ```text
//!   current   ordered: proves what is current, and absence
//!   any       a log of operations and its tree; ordered or not: proves what was written once
//!
//!   OpenStore::apply ─► new_batch, write, merkleize, apply_batch ─► commit: one fdatasync of the log
//!                       on the thread that asks        work on a pool of all cores, files on the runtime's threads
//! ```
//!
//! All have a page cache that holds log and tree whole, and what a crash loses of the tree is computed from the log again.

pub mod any;
pub mod current;

use crate::engine::{Failure, Sizing};
use commonware_cryptography::sha256::Digest;
use commonware_parallel::Rayon;
use commonware_runtime::{
    BLOB_PAGE_SIZE, Runner as _, Strategizer as _,
    buffer::paged::{CacheRef, page_size},
    tokio::{Config, Context, Runner},
};
use commonware_storage::{
    journal::contiguous::fixed::Config as LogConfig, merkle::full::Config as MerkleConfig,
};
use std::{
    num::{NonZeroU16, NonZeroU64, NonZeroUsize},
    path::Path,
    sync::mpsc,
    thread::JoinHandle,
};

/// The crate that is measured.
const PACKAGE: &str = "commonware-storage";
/// What holds when a block was applied.
const DURABILITY: &str = "synced: a block survives power loss, by one fdatasync of the log; indexes are built again when opening";
/// How it is set.
const TUNING: &str = "page cache as large as log and tree; a pool of all cores; index of 8-byte prefixes; old entries \
    moved in proportion to the writes";

/// The crate's runtime, on a thread of its own until it is dropped. Futures run on the thread that asks.
struct Runtime {
    handle: tokio::runtime::Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    fn start(engine: &'static str, dir: &Path, sizing: Sizing) -> Result<(Self, Context), Failure> {
        let config =
            Config::new().with_storage_directory(dir).with_worker_threads(sizing.threads.get());
        let (started, starts) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            Runner::new(config).start(async move |context| {
                // Nobody waiting means that opening was given up.
                if started.send((tokio::runtime::Handle::current(), context)).is_ok() {
                    // An error is the other end gone, which is the same request.
                    let _ = stopped.await;
                }
            });
        });
        let (handle, context) =
            starts.recv().map_err(|_| Failure::of(engine)(&"the runtime does not start"))?;
        Ok((Self { handle, stop: Some(stop), thread: Some(thread) }, context))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and there is nobody to return it to.
            let _ = thread.join();
        }
    }
}

const PAGE_SIZE: NonZeroU16 = page_size(BLOB_PAGE_SIZE);
const BUFFER: NonZeroUsize = NonZeroUsize::new(2 << 20).unwrap();
const ITEMS_PER_FILE: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();
/// Keys whose places are remembered while an index is built again.
const INIT_CACHE: NonZeroUsize = NonZeroUsize::new(1 << 18).unwrap();

/// Where a store's tree and log are, and their one page cache, which has room for `bytes_per_write` bytes of each write.
fn configs(
    engine: &'static str,
    context: &Context,
    sizing: Sizing,
    bytes_per_write: u64,
) -> Result<(MerkleConfig<Rayon>, LogConfig), Failure> {
    let pages = sizing.writes.saturating_mul(bytes_per_write) / u64::from(PAGE_SIZE.get()) + 512;
    let pages = usize::try_from(pages).ok().and_then(NonZeroUsize::new);
    let pages = pages.ok_or_else(|| Failure::of(engine)(&"no room for pages"))?;
    let page_cache = CacheRef::new(PAGE_SIZE, pages);
    let merkle = MerkleConfig {
        journal_partition: "tree".into(),
        // The journal has one of its own, which is called like it with "-metadata" behind.
        metadata_partition: "pruned".into(),
        items_per_blob: ITEMS_PER_FILE,
        write_buffer: BUFFER,
        replay_buffer: BUFFER,
        strategy: context.strategy(sizing.threads),
        page_cache: page_cache.clone(),
    };
    let log = LogConfig {
        partition: "log".into(),
        items_per_blob: ITEMS_PER_FILE,
        page_cache,
        write_buffer: BUFFER,
        replay_buffer: BUFFER,
    };
    Ok((merkle, log))
}

fn digest(engine: &'static str, bytes: &[u8]) -> Result<Digest, Failure> {
    let wrong = |_| Failure::of(engine)(&"a key or value that is not of 32 bytes");
    Ok(<[u8; 32]>::try_from(bytes).map_err(wrong)?.into())
}
