//! Backups: a copy of a store that is itself a store, made while blocks go on.
//!
//! ```text
//!   source, running                                     target
//!
//!   copies.begin: nothing is pruned                     lock ► COPYING, synced
//!   manifest, as committed last ──────────────────────► meta/        last of all, row by row
//!   the published state, once it is durable:
//!     log up to its end    segments never changed again ► log/       second names (hard links)
//!                          the others                   ► log/       copies, synced
//!     twig records         as they are                  ► twigs/     copies, synced
//!     the checkpoint that the manifest names            ► checkpoints/
//!     files of the index that the checkpoint names      ► index/     second names, or copies
//!   ended: pruning goes on                              names synced
//!                                                       opened and checked, all of it, by the CPU
//!                                                       COPYING goes, synced
//! ```
//!
//! Beside another process that has the store open ([`ReadOnlyStore::backup`]) it is the same procedure with
//! another pin. Nothing holds off that process's pruning, but a file lives as long as somebody has it open,
//! and one that has a second name needs no pin any more:
//!
//! ```text
//!   open_read_only       height H; files held open, the oldest first   ◄── what is pruned next
//!   manifest             synced: may be in the system's cache alone, and what is linked rests on it
//!   as above             full segments come first, linked at once; then what is copied
//!     │ a file that there was no room to hold is gone (Error::Pruned)
//!     └──► what there is of the copy goes; the newest height is opened; again, so many times at most
//! ```
//!
//! What lies behind the manifest's end is the journal, which opening takes in again: so the copy opens at
//! the height that was published when the backup began, with its root.
//!
//! Invariants:
//! * Nothing of the source is changed. A file that gets a second name is one that neither store will ever
//!   write to or cut: see `entryfile`, `segments/parts.rs`, and a checkpoint and the files of an index, which
//!   are written once.
//! * As long as `COPYING` is there, the target is no store: nobody opens it, nor creates one in its place.
//!   It goes last, when everything else is durable, and checked if that was asked for.
//! * The copy has the id of its source. Their logs are the same up to the height of the backup and differ
//!   from then on; a file of the one is not one of the other.

use crate::commit::checkpoint;
use crate::commit::copies::Copying;
use crate::commit::flow::Milestone;
use crate::opening::check::CheckReport;
use crate::opening::limits;
use crate::opening::place::{LOG, Locks, META, Place, TWIGS};
use crate::opening::rebuild::INDEX;
use crate::options::Options;
use crate::read::given_up::Part;
use crate::shared::{Shared, missing_row};
use crate::{Error, ReadOnlyStore, Reader, Store};
use hedgerow_entryfile::{LogError, SegmentPart};
use hedgerow_metadb::{Commit, Engine, HistoryRow, Manifest, MetaDb};
use hedgerow_state::checkpoint::Checkpoint;
use hedgerow_types::{Digest, Height, LogPosition, ShardId};
use hedgerow_vfs::{OpenMode, Vfs, VfsError, VfsErrorKind, VfsFile};
use std::path::Path;
use std::sync::Arc;

/// The thread on which copies are made.
const COPYING: &str = "hedgerow-backup";
/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;
/// History rows that are copied in one commit, and bytes of extra data in them.
const ROWS: usize = 1024;
const ROW_BYTES: usize = 4 << 20;
/// How often a backup beside a writer is begun before that one counts as too fast.
const ATTEMPTS: u32 = 8;

/// How a backup is made: a builder with defaults.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// use hedgerow::BackupOptions;
/// let copies = BackupOptions::new().link(false);   // no file is shared: damage to one is damage to one
/// let report = store.backup("/backup", copies)?;
/// assert_eq!(report.linked_files, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupOptions {
    link: bool,
    check: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self { link: true, check: true }
    }
}

impl BackupOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether files that are never changed again get a second name (a hard link) instead of being copied,
    /// where both places are on one file system. Default: yes. It takes no time and no room, and protects
    /// from mistakes, not from the loss of the disk: damage to such a file is damage to both stores.
    #[must_use]
    pub fn link(mut self, link: bool) -> Self {
        self.link = link;
        self
    }

    /// Whether the copy is opened and [checked](Store::check) before it counts as one. Default: yes. It
    /// reads and hashes all of the log, and takes as much memory as a second store of this size that is
    /// open.
    #[must_use]
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }
}

/// What a backup came to.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// use hedgerow::BackupOptions;
/// let report = store.backup("/backup", BackupOptions::new())?;
/// assert_eq!((report.height, report.root), store.reader().root());
/// assert_eq!(report.checked.map(|check| check.root), Some(report.root));   // read and hashed, all of it
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The height at which it opens.
    pub height: Height,
    /// The state root at that height.
    pub root: Digest,
    /// The first height whose history it has.
    pub history_from: Height,
    /// Files that it shares with the store it was made of.
    pub linked_files: u64,
    /// Bytes of these files.
    pub linked_bytes: u64,
    /// Bytes that were copied, without the metadata.
    pub copied_bytes: u64,
    /// What the check went through, if there was one.
    pub checked: Option<CheckReport>,
}

impl Reader {
    /// Copies the store into the directory `target`, which is empty or not there yet, while blocks go on:
    /// the copy is a store of its own, at the height that is published now, once that is durable, with the
    /// same root and the same history. May be called from any thread; while it copies, nothing is pruned
    /// ([`PruneHold::Backup`](crate::PruneHold::Backup)). It lies on the same [disk](Options::disk).
    ///
    /// The copy goes its own way from then on. It has the same id: never mix files of the two.
    ///
    /// A backup that is cut short leaves a directory that is no store ([`Error::UnfinishedCopy`]): begin it
    /// again, with the same target, or remove that.
    ///
    /// ```
    /// use hedgerow::{BackupOptions, Options, Store, StoreParams};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, copy) = (dir.path().join("state"), dir.path().join("backup"));
    /// let mut store = Store::create(&path, StoreParams::default(), Options::default())?;
    /// let mut block = store.next_block()?;
    /// block.put("alice", "100")?;
    /// let receipt = block.commit()?;
    ///
    /// let reader = store.reader();
    /// let backup = std::thread::spawn(move || reader.backup(copy, BackupOptions::new()));
    /// // ... more blocks ...
    /// let report = backup.join().expect("no panic")?;
    /// assert_eq!((report.height, report.root), (receipt.height, receipt.root));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::InUse`], [`Error::NotWritable`] for the target; [`Error::Closed`] if the
    /// store is closed meanwhile; [`Error::Poisoned`] if it fails before what is published is durable; what
    /// the disk says; what the check of the copy finds.
    pub fn backup(
        &self,
        target: impl AsRef<Path>,
        how: BackupOptions,
    ) -> Result<BackupReport, Error> {
        let (shared, target) = (&*self.shared, target.as_ref());
        limits::on_own_stack(COPYING, || Copied::make(shared, target, how)?.finish(how))
    }
}

impl Store {
    /// Copies this store while it runs: see [`Reader::backup`], which does the same from another thread.
    ///
    /// # Errors
    /// As [`Reader::backup`].
    pub fn backup(
        &self,
        target: impl AsRef<Path>,
        how: BackupOptions,
    ) -> Result<BackupReport, Error> {
        self.reader().backup(target, how)
    }

    /// Copies a store that nobody has open, a backup for example, into the directory `target`, which is
    /// empty or not there yet, or holds what an earlier attempt left. The store in `from` is opened with
    /// these options, to be read, which verifies that its log leads to its root, and stays as it is.
    ///
    /// # Errors
    /// As [`Store::open`] for `from`, and as [`Reader::backup`]. The metadata engine must be one that can
    /// be [only read](Options::read_only).
    pub fn restore(
        from: impl AsRef<Path>,
        target: impl AsRef<Path>,
        options: Options,
        how: BackupOptions,
    ) -> Result<BackupReport, Error> {
        let (from, target) = (from.as_ref(), target.as_ref());
        let store = Self::open(from, options.read_only())?;
        limits::on_own_stack(COPYING, move || {
            let copied = Copied::make(&store.shared, target, how)?;
            // Before the copy is opened: memory need not hold both.
            store.close()?;
            copied.finish(how)
        })
    }
}

impl ReadOnlyStore {
    /// Copies the store into the directory `target`, as [`Reader::backup`] does, while another process has it
    /// open and goes on writing, pruning included. That one does not notice; nothing of it is locked.
    ///
    /// The copy is made of the height that is shown ([`refresh`](Self::refresh) goes to the newest). If a file
    /// that this height needs is pruned before it was copied, and there was no room to hold it open, the
    /// backup begins anew at the newest height, which is shown from then on. What it was made of says the
    /// report.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{BackupOptions, Options, Store, StoreParams};
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, copy) = (dir.path().join("state"), dir.path().join("backup"));
    /// # let mut writer = Store::create(&path, StoreParams::default(), Options::default())?;
    /// # writer.next_block()?.commit()?;
    /// // Another process has the store in `path` open.
    /// let mut beside = Store::open_read_only(&path, Options::default())?;
    /// let report = beside.backup(&copy, BackupOptions::new())?;
    /// assert_eq!((report.height, report.root), beside.reader().root());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Reader::backup`] for the target; as [`Store::open_read_only`] where it is opened anew;
    /// [`Error::Unsteady`] if files went faster than they could be copied, however often it began.
    pub fn backup(
        &mut self,
        target: impl AsRef<Path>,
        how: BackupOptions,
    ) -> Result<BackupReport, Error> {
        let target = target.as_ref();
        let mut last = Error::Closed;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.open_again()?;
            }
            let made = limits::on_own_stack(COPYING, || {
                let how = how.link(how.link && settled(self.place()));
                Copied::make(self.shared(), target, how)?.finish(how)
            });
            last = match made {
                Err(error @ Error::Pruned { .. }) => error,
                other => return other,
            };
            tracing::debug!(error = %last, "the backup begins anew");
        }
        let (dir, source) = (self.place().dir.clone(), Arc::new(last));
        Err(Error::Unsteady { dir, attempts: ATTEMPTS, source })
    }
}

/// Makes durable what was read of the metadata of a store to which another process writes; returns whether it
/// is. Without it, a loss of power may take the writer back to an older manifest, whose journal lies in
/// segments that the newer one calls settled: it would be written again, in files that the copy shares.
fn settled(place: &Place) -> bool {
    let sync = || {
        let (disk, meta) = (&place.vfs, place.path(META));
        for name in disk.read_dir(&meta)? {
            match disk.open(&meta.join(name), OpenMode::Read) {
                Ok(file) => file.sync()?,
                // One of those that are written beside their place.
                Err(error) if error.kind() == VfsErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        disk.sync_dir(&meta)
    };
    let synced: Result<(), VfsError> = sync();
    if let Err(error) = &synced {
        tracing::warn!(%error, "the backup shares no files: the manifest may not be durable");
    }
    synced.is_ok()
}

/// A copy that is durable, and still marked as unfinished.
struct Copied {
    place: Place,
    locks: Locks,
    options: Options,
    report: BackupReport,
}

impl Copied {
    fn make(shared: &Shared, target: &Path, how: BackupOptions) -> Result<Self, Error> {
        let copying = shared.copies.begin()?;
        let Some(manifest) = shared.with_meta(|meta| meta.manifest())? else {
            return Err(Error::Corrupt("the manifest is gone".into()));
        };
        // After the manifest, so that it is at least as new.
        let (height, log_end, root) = {
            let state = shared.published.current();
            (state.height, state.log_end, state.roots().state)
        };
        shared.flow.wait_for(Milestone::Durable, |at| (at.durable >= height).then_some(()))?;
        let engine = shared.with_meta(|meta| Ok(meta.engine()))?;
        let engine = engine
            .parse::<Engine>()
            .map_err(|error| Error::Option { option: "engine", reason: error.to_string() })?;
        let options = shared.options.for_a_copy().engine(engine);

        let (place, locks) = Place::to_be_filled(target, &options, Place::has_copy_mark)?;
        if place.has_copy_mark()? {
            place.remove_copy()?;
        }
        if !place.is_empty()? {
            return Err(Error::NotEmpty(place.dir));
        }
        place.begin_copy(&manifest.store_id)?;
        let history_from = manifest.history_from;
        let report = BackupReport {
            height,
            root,
            history_from,
            linked_files: 0,
            linked_bytes: 0,
            copied_bytes: 0,
            checked: None,
        };
        let (filled, report) = {
            let mut filling = Filling { shared, copying, place: &place, link: how.link, report };
            (filling.fill(manifest, log_end, &options), filling.report)
        };
        match filled {
            Ok(()) => Ok(Self { place, locks, options, report }),
            Err(error) => {
                // A disk that is full is to have room again. Whatever stays is marked.
                if let Err(error) = place.remove_copy() {
                    tracing::warn!(%error, "what there is of a copy that failed stays, marked as unfinished");
                }
                Err(error)
            }
        }
    }

    /// Checks the copy, if that is asked for, and makes it a store.
    fn finish(self, how: BackupOptions) -> Result<BackupReport, Error> {
        let Self { place, mut locks, options, mut report } = self;
        if !how.check {
            place.finish_copy()?;
            return Ok(report);
        }
        let hasher = options.check()?;
        locks.parts = place.hold_parts(&options)?;
        let mut store = place.open(None, options, hasher, locks)?;
        let checked = store.check()?;
        if (checked.height, checked.root) != (report.height, report.root) {
            return Err(Error::Corrupt(format!(
                "the copy has root {} at height {}, it was made of {} at height {}",
                checked.root, checked.height, report.root, report.height
            )));
        }
        store.place.finish_copy()?;
        store.close()?;
        report.checked = Some(checked);
        Ok(report)
    }
}

/// A copy that is being made.
struct Filling<'a> {
    shared: &'a Shared,
    copying: Copying<'a>,
    place: &'a Place,
    link: bool,
    report: BackupReport,
}

impl Filling<'_> {
    /// Copies everything; all of it is durable then.
    fn fill(
        &mut self,
        mut manifest: Manifest,
        log_end: LogPosition,
        options: &Options,
    ) -> Result<(), Error> {
        let Shared { log, twigs, .. } = self.shared;
        let parts = log.parts(manifest.log_start, manifest.log_end, log_end)?;
        self.copy_parts(LOG, &parts, |part| log.open_part(part))?;
        let parts = twigs.file.parts();
        self.copy_parts(TWIGS, &parts, |part| twigs.file.open_part(part))?;
        if !self.copy_checkpoint(&manifest)? {
            manifest.checkpoint = None;
        }
        let place = self.place;
        place.vfs.create_dir_all(&place.path(META))?;
        let meta = place.meta(options, true)?;
        self.copy_metadata(&*meta, &manifest)?;
        drop(meta);
        place.vfs.sync_dir(&place.path(META))?;
        Ok(place.vfs.sync_dir(&place.dir)?)
    }

    fn copy_parts(
        &mut self,
        name: &str,
        parts: &[SegmentPart],
        open: impl Fn(&SegmentPart) -> Result<Arc<dyn VfsFile>, LogError>,
    ) -> Result<(), Error> {
        let disk = &self.place.vfs;
        disk.create_dir_all(&self.place.path(name))?;
        for part in parts {
            let file = open(part).map_err(|error| self.gone(error.into()))?;
            self.put(name, &*file, part.len, part.fixed)?;
        }
        Ok(disk.sync_dir(&self.place.path(name))?)
    }

    /// Returns whether there is one. Opening does without, only longer.
    fn copy_checkpoint(&mut self, manifest: &Manifest) -> Result<bool, Error> {
        let (name, disk) = (checkpoint::CHECKPOINTS, &self.place.vfs);
        let Some((path, bytes)) = self.shared.checkpoints.path_of(manifest) else {
            return Ok(false);
        };
        let file = match self.shared.options.disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            // Another took its place since the manifest was read, or it is lost.
            Err(error) if error.kind() == VfsErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if file.len()? != bytes {
            return Ok(false);
        }
        let store = self.shared.checkpoints.store();
        let found = checkpoint::find(&*self.shared.options.disk, store, manifest);
        let Some(found) = found else { return Ok(false) };
        if found.head().tiered && !self.copy_index(&found)? {
            return Ok(false);
        }
        disk.create_dir_all(&self.place.path(name))?;
        self.put(name, &*file, bytes, true)?;
        disk.sync_dir(&self.place.path(name))?;
        Ok(true)
    }

    /// Copies the files of the index that the checkpoint names, which never change. Returns whether all are there.
    fn copy_index(&mut self, checkpoint: &Checkpoint) -> Result<bool, Error> {
        let (shared, disk) = (self.shared, &*self.shared.options.disk);
        let (Some(tiers), store) = (&shared.tiers, shared.checkpoints.store()) else {
            return Ok(false);
        };
        if Part::Index.is_given_up(disk, store)? {
            return Ok(false);
        }
        self.place.vfs.create_dir_all(&self.place.path(INDEX))?;
        for (shard, index) in ShardId::all().zip(&tiers.index) {
            for segment in checkpoint.tiers(shard)?.0 {
                let file = match disk.open(&index.file(segment.number), OpenMode::Read) {
                    Ok(file) => file,
                    // A later checkpoint does without it. What was copied already goes when the copy is opened.
                    Err(error) if error.kind() == VfsErrorKind::NotFound => return Ok(false),
                    Err(error) => return Err(error.into()),
                };
                if file.len()? != segment.len {
                    return Ok(false);
                }
                self.put(INDEX, &*file, segment.len, true)?;
            }
        }
        self.place.vfs.sync_dir(&self.place.path(INDEX))?;
        Ok(true)
    }

    /// Puts the first `len` bytes of a file into the directory `name` of the copy, under its own name.
    fn put(&mut self, name: &str, file: &dyn VfsFile, len: u64, fixed: bool) -> Result<(), Error> {
        self.copying.go_on()?;
        let Some(file_name) = file.path().file_name() else { return Ok(()) };
        let (disk, to) = (&*self.place.vfs, self.place.path(name).join(file_name));
        if fixed && self.link && file.len()? == len && has_second_name(disk, file, &to)? {
            self.report.linked_files += 1;
            self.report.linked_bytes += len;
            return Ok(());
        }
        let copy = disk.open(&to, OpenMode::CreateNew)?;
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < len {
            self.copying.go_on()?;
            let piece = &mut piece[..(len - at).min(PIECE as u64) as usize];
            file.read_exact_at(piece, at).map_err(|error| self.gone(error.into()))?;
            copy.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        copy.sync()?;
        self.report.copied_bytes += len;
        Ok(())
    }

    /// What a failed read of the source means.
    fn gone(&self, error: Error) -> Error {
        self.shared.read_for(self.report.height)(error)
    }

    /// Commits the manifest and all history rows that go with it.
    fn copy_metadata(&self, meta: &dyn MetaDb, manifest: &Manifest) -> Result<(), Error> {
        let history_from = manifest.history_from;
        let commit = |rows: &[(Height, HistoryRow)]| {
            self.copying.go_on()?;
            Ok::<_, Error>(meta.commit(&Commit { manifest, rows, history_from })?)
        };
        let (mut rows, mut bytes) = (vec![], 0);
        for height in (history_from.0..=manifest.height.0).map(Height) {
            let Some(row) = self.shared.with_meta(|meta| meta.history(height))? else {
                let kept = history_from..=manifest.height;
                return Err(Error::Corrupt(missing_row(height, &kept)));
            };
            bytes += row.extra.len();
            rows.push((height, row));
            if rows.len() == ROWS || bytes >= ROW_BYTES {
                commit(&rows)?;
                (rows, bytes) = (vec![], 0);
            }
        }
        commit(&rows)
    }
}

/// Gives `file` the second name `to`, if that can be; if not, nothing has that name.
fn has_second_name(disk: &dyn Vfs, file: &dyn VfsFile, to: &Path) -> Result<bool, VfsError> {
    let linked = disk.hard_link(file.path(), to);
    // The name may lead elsewhere than to the file that is open.
    if linked.is_ok() && file.id()? == disk.file_id(to)? {
        return Ok(true);
    }
    match disk.remove_file(to) {
        Err(error) if error.kind() != VfsErrorKind::NotFound => Err(error),
        _ => Ok(false),
    }
}
