//! Checkpoints of an open store: when one is written, by whom, and what becomes of the one before.
//!
//! ```text
//!   submit           enough log since the last one: this block carries what the writer alone knows
//!     │
//!   hash stage       block published ► copy bits, leaves, left roots ► a thread of its own
//!                                                                        │ streams the keys out of
//!                                                                        │ a view, syncs the file
//!   persist stage    next manifest names it ◄────────────── newest ──────┘
//!     │              afterwards the file that the manifest named before is not needed
//!   close            the stages are done: one more, if opening would have much to take in again
//! ```
//!
//! Of an index in files it has no keys: a snapshot, taken where the copy is made, names the segments and
//! holds what is in memory. Segments that were merged since are deleted when the manifest names a later one.
//!
//! Nothing waits for a checkpoint, and nothing fails for want of one: what goes wrong is logged, and the
//! next opening takes longer. A file is named by a manifest only after it was synced, and deleted only
//! when no manifest names it any more; files that none names are deleted when the store opens, and before
//! another is written.

use crate::commit::tiers::Tiers;
use crate::points;
use crate::read::published::{Published, State};
use crate::shared::Shared;
use crate::{Error, Options};
use hedgerow_index::{Snapshot, TieredIndex};
use hedgerow_merkle::Forest;
use hedgerow_metadb::{CheckpointName, Manifest};
use hedgerow_state::checkpoint::{Checkpoint, CheckpointError, Frozen};
use hedgerow_state::{OpenTwig, TwigBegins};
use hedgerow_types::{Height, LogPosition};
use hedgerow_vfs::{OpenMode, Vfs, VfsErrorKind};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// The directory of the checkpoints, in the store's.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// How the name of a checkpoint's file ends; it begins with the height, in 16 hexadecimal digits.
const SUFFIX: &str = ".checkpoint";
/// Bytes of log that opening takes in again so fast that no checkpoint is written on closing for them.
const WORTH_IT: u64 = 1 << 20;
/// Bytes that a key takes in a checkpoint.
const KEY_BYTES: u64 = 12;
/// Bytes of log after which one is written, unless the options say otherwise.
const INTERVAL: u64 = 256 << 20;
/// Unless the options say otherwise, a checkpoint is written at most once for this many times its own length of log.
const LOG_PER_CHECKPOINT: u64 = 4;

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Checkpoints {
    disk: Arc<dyn Vfs>,
    dir: PathBuf,
    store: [u8; 16],
    /// Bytes of log after which one is written; 0 for never, `None` for as often as is worth while.
    interval: Option<u64>,
    /// The height of the one that the store was opened from.
    opened_from: Option<Height>,
    /// Bytes of log behind it when the store was opened.
    replayed_bytes: u64,
    /// The newest that is whole, and where its log ends.
    newest: Mutex<Option<(CheckpointName, LogPosition)>>,
    /// By shard the files of the index that the newest does not need, and the one before it does.
    retired: Mutex<Option<(CheckpointName, Vec<Vec<String>>)>>,
    /// What the manifest on disk names.
    named: Mutex<Option<CheckpointName>>,
    /// One is being written.
    busy: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What the hash stage had in the end.
    end: Mutex<Option<(Forest, Vec<OpenTwig>)>>,
}

fn file_name(height: Height) -> String {
    format!("{:016x}{SUFFIX}", height.0)
}

/// The checkpoint that a manifest names, if it is whole as far as its head tells. Without one, opening takes
/// longer: why is logged.
pub(crate) fn find(disk: &dyn Vfs, store: &Path, manifest: &Manifest) -> Option<Checkpoint> {
    let CheckpointName { height, bytes } = manifest.checkpoint?;
    let open = || {
        let path = store.join(CHECKPOINTS).join(file_name(height));
        let file = disk.open(&path, OpenMode::Read)?;
        if file.len()? != bytes {
            return Err(CheckpointError::Damaged("it has another length than the manifest says"));
        }
        Checkpoint::open(file, manifest.store_id, height)
    };
    match open() {
        Ok(checkpoint) => Some(checkpoint),
        Err(error) => {
            tracing::warn!(%error, "opening without the checkpoint of height {height}: that takes longer");
            None
        }
    }
}

impl Checkpoints {
    /// Those of a store in `dir`, which was opened from the one that `manifest` names if it says where that
    /// one's log ends. Deletes all others: what could not be opened from is of no use.
    pub(crate) fn new(
        dir: &Path,
        options: &Options,
        manifest: &Manifest,
        opened_from: Option<LogPosition>,
    ) -> Self {
        let newest = manifest.checkpoint.zip(opened_from);
        let start = opened_from.unwrap_or(manifest.log_start);
        let checkpoints = Self {
            disk: Arc::clone(&options.disk),
            dir: dir.join(CHECKPOINTS),
            store: manifest.store_id,
            interval: if options.read_only { Some(0) } else { options.checkpoint_bytes },
            opened_from: newest.map(|(name, _)| name.height),
            replayed_bytes: manifest.log_end.0.saturating_sub(start.0),
            newest: Mutex::new(newest),
            retired: Mutex::new(None),
            named: Mutex::new(manifest.checkpoint),
            busy: AtomicBool::new(false),
            thread: Mutex::new(None),
            end: Mutex::new(None),
        };
        if !options.read_only
            && let Err(error) = checkpoints.sweep()
        {
            tracing::warn!(%error, "could not delete old checkpoints");
        }
        checkpoints
    }

    /// Whether a block is to carry what a checkpoint of it needs, `bytes` of log after the last one, in a
    /// store of so many active entries.
    pub(crate) fn is_due(&self, bytes: u64, active: u64, tiered: bool) -> bool {
        let keys = if tiered { 0 } else { active };
        let rare = keys.saturating_mul(KEY_BYTES * LOG_PER_CHECKPOINT);
        let interval = self.interval.unwrap_or(INTERVAL.max(rare));
        interval > 0 && bytes >= interval && !self.busy.load(Ordering::Acquire)
    }

    /// The name that a manifest of `height` gets.
    pub(crate) fn name_for(&self, height: Height) -> Option<CheckpointName> {
        let (newest, _) = (*self.newest.lock())?;
        if newest.height <= height { Some(newest) } else { *self.named.lock() }
    }

    /// The manifest on disk names this one now: what only those before it needed of the index goes.
    pub(crate) fn note_named(&self, name: Option<CheckpointName>, tiers: Option<&Tiers>) {
        *self.named.lock() = name;
        let retired = self.retired.lock().take_if(|(newest, _)| name == Some(*newest));
        let (Some((_, retired)), Some(tiers)) = (retired, tiers) else { return };
        for (index, retired) in tiers.index.iter().zip(&retired) {
            if let Err(error) = index.unlink(retired) {
                tracing::warn!(%error, "a needless file of the index stays until the store is opened again");
            }
        }
        if retired.iter().any(|files| !files.is_empty()) {
            // Where only the power can go: nothing rests on what was done here.
            let _ = self.disk.at_point(points::INDEX_RETIRED);
        }
    }

    /// The height of the newest that is whole, and of the one that the store was opened from, with the
    /// bytes of log behind that.
    pub(crate) fn figures(&self) -> (Option<Height>, Option<Height>, u64) {
        (self.newest.lock().map(|(name, _)| name.height), self.opened_from, self.replayed_bytes)
    }

    /// The directory of the store.
    pub(crate) fn store(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// The file of the checkpoint that a manifest names, and its length.
    pub(crate) fn path_of(&self, manifest: &Manifest) -> Option<(PathBuf, u64)> {
        let CheckpointName { height, bytes } = manifest.checkpoint?;
        Some((self.dir.join(file_name(height)), bytes))
    }

    /// Keeps what the hash stage ends with.
    pub(crate) fn keep(&self, forest: Forest, open: Vec<OpenTwig>) {
        *self.end.lock() = Some((forest, open));
    }

    /// Takes what the hash stage ended with.
    pub(crate) fn take_end(&self) -> Option<(Forest, Vec<OpenTwig>)> {
        self.end.lock().take()
    }

    /// Whether checkpoints are written at all.
    pub(crate) fn is_wanted(&self) -> bool {
        self.interval != Some(0)
    }

    /// The blocks above a height were taken back, and with them the checkpoints of their states; the manifest on disk
    /// names `named`. Says whether there was one. Files go when the next one is written, or the store opens.
    pub(crate) fn forget_above(
        &self,
        height: Height,
        named: Option<CheckpointName>,
        log_start: LogPosition,
    ) -> bool {
        let mut newest = self.newest.lock();
        let lost = newest.is_some_and(|(newest, _)| newest.height > height);
        if lost {
            // Where the log ended of the one that is left is asked only to find out whether another is worth while.
            *newest = named.map(|named| (named, log_start));
            *self.retired.lock() = None;
        }
        *self.named.lock() = named;
        lost
    }

    /// Deletes all files but the newest that is whole, and the one that is named until the manifest names
    /// that.
    fn sweep(&self) -> Result<(), Error> {
        let names = match self.disk.read_dir(&self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == VfsErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let newest = *self.newest.lock();
        let kept = newest.map(|(newest, _)| [Some(newest), *self.named.lock()]);
        let kept = kept.map(|kept| kept.map(|name| name.map(|name| file_name(name.height))));
        for name in names {
            let Some(name) = name.to_str().filter(|name| name.ends_with(SUFFIX)) else { continue };
            if !kept.iter().flatten().flatten().any(|kept| kept == name) {
                self.disk.remove_file(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint: what was copied, and the keys of the same state, or what snapshots name that were
    /// taken in it.
    fn write(
        &self,
        published: &Published,
        state: &State,
        frozen: &Frozen,
        snapshots: Option<&[Snapshot]>,
    ) -> Result<CheckpointName, Error> {
        self.disk.at_point(points::CHECKPOINT_BEGIN)?;
        self.sweep()?;
        if !self.disk.exists(&self.dir)? {
            self.disk.create_dir_all(&self.dir)?;
            self.disk.sync_dir(self.dir.parent().unwrap_or(&self.dir))?;
        }
        let height = frozen.head().height;
        let path = self.dir.join(file_name(height));
        let file = self.disk.open(&path, OpenMode::CreateNew)?;
        let written = match snapshots {
            Some(snapshots) => frozen.write_tiers(&*file, snapshots).map_err(Error::from),
            None => frozen.write::<Error>(&*file, |shard, group, out| {
                published.group(state, shard, group, out)
            }),
        };
        let written = written.and_then(|bytes| {
            self.disk.sync_dir(&self.dir)?;
            self.disk.at_point(points::CHECKPOINT_WRITTEN)?;
            Ok(bytes)
        });
        match written {
            Ok(bytes) => {
                let name = CheckpointName { height, bytes };
                let retired = |snapshot: &Snapshot| snapshot.retired.clone();
                let retired = snapshots.map(|all| (name, all.iter().map(retired).collect()));
                *self.retired.lock() = retired;
                *self.newest.lock() = Some((name, frozen.head().log_end));
                Ok(name)
            }
            Err(error) => {
                drop(file);
                if let Err(error) = self.disk.remove_file(&path) {
                    tracing::warn!(%error, "what there is of a checkpoint stays until the next");
                }
                Err(error)
            }
        }
    }

    /// Waits until no checkpoint is being written.
    pub(crate) fn wait(&self) {
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a panic while a checkpoint was written");
        }
    }
}

/// What the indexes in files are made of now. Nobody edits them meanwhile.
fn snapshots(shared: &Shared) -> Option<Vec<Snapshot>> {
    let tiers = shared.tiers.as_ref()?;
    Some(tiers.index.iter().map(TieredIndex::snapshot).collect())
}

/// Releases `busy`, whatever happens.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Copies the state that was just published, and writes the checkpoint on a thread of its own. Called by
/// the hash stage.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    log_end: LogPosition,
    forest: &Forest,
    open: &[OpenTwig],
    begins: &[TwigBegins],
) {
    let checkpoints = &shared.checkpoints;
    if checkpoints.busy.swap(true, Ordering::AcqRel) {
        return; // the one before is not done
    }
    let state = shared.published.current();
    let frozen = Frozen::new(checkpoints.store, state.height, log_end, forest, open, begins);
    let snapshots = snapshots(shared);
    let all = Arc::clone(shared);
    let work = move || {
        let checkpoints = &all.checkpoints;
        let _busy = Busy(&checkpoints.busy);
        let written = frozen.map_err(Error::from).and_then(|frozen| {
            checkpoints.write(&all.published, &state, &frozen, snapshots.as_deref())
        });
        match written {
            Ok(name) => tracing::debug!(height = %name.height, bytes = name.bytes, "checkpoint"),
            Err(error) => tracing::warn!(%error, "no checkpoint: the next opening takes longer"),
        }
    };
    checkpoints.wait();
    match thread::Builder::new().name("hedgerow-checkpoint".into()).spawn(work) {
        Ok(thread) => *checkpoints.thread.lock() = Some(thread),
        Err(error) => {
            checkpoints.busy.store(false, Ordering::Release);
            tracing::warn!(%error, "no thread for a checkpoint");
        }
    }
}

/// Writes the checkpoint of a store whose stages have ended, and names it in the manifest, if much of the log
/// came since the newest, or is there at all if there is none.
///
/// # Errors
/// Those of committing the manifest. Without a checkpoint nothing is wrong.
pub(crate) fn at_close(shared: &Shared, begins: &[TwigBegins]) -> Result<(), Error> {
    let checkpoints = &shared.checkpoints;
    let Some((forest, open)) = checkpoints.end.lock().take() else { return Ok(()) };
    let state = shared.published.current();
    let write = || {
        let (store, log_end) = (checkpoints.store, state.log_end);
        let frozen = Frozen::new(store, state.height, log_end, &forest, &open, begins)?;
        checkpoints.write(&shared.published, &state, &frozen, snapshots(shared).as_deref())
    };
    let from = checkpoints.newest.lock().map_or(shared.log.start(), |(_, log_end)| log_end);
    if checkpoints.interval != Some(0)
        && state.log_end.0.saturating_sub(from.0) >= WORTH_IT
        && let Err(error) = write()
    {
        tracing::warn!(%error, "no checkpoint: the next opening takes longer");
    }
    let name = checkpoints.name_for(state.height);
    if name == *checkpoints.named.lock() {
        return Ok(());
    }
    shared.with_meta(|meta| {
        let Some(mut manifest) = meta.manifest()? else { return Ok(()) };
        manifest.checkpoint = name;
        let (rows, history_from) = (&[], manifest.history_from);
        meta.commit(&hedgerow_metadb::Commit { manifest: &manifest, rows, history_from })
    })?;
    checkpoints.note_named(name, shared.tiers.as_ref());
    Ok(())
}
