//! Append-only files that together make one space of byte positions.
//!
//! ```text
//!  position   base_0            base_1 = base_0 + len_0     base_2
//!             │                 │                           │                     end
//!             ┌────────┬────────┬────────┬──────────────────┬────────┬────────────┐
//!             │ header │ ...    │ header │ ...              │ header │ ...        │  ◄── appended
//!             └────────┴────────┴────────┴──────────────────┴────────┴────────────┘
//!  file       <base_0>.log      <base_1>.log                <base_2>.log
//! ```
//!
//! Both the entry log and the twig file are made of these; what lies between the headers is theirs
//! to define. Which files there are is decided by the directory when they are opened (`listing`),
//! and by the table here from then on.
//!
//! # Invariants
//!
//! * A header lies in the position space like everything else: position minus base is the offset
//!   in the file.
//! * A byte that was synced is never written again. Files only grow, except that bytes beyond the
//!   end are cut when they are opened.
//! * A position becomes readable only after all bytes up to it were written: the table's end moves
//!   last.
//! * The first error of writing or syncing is latched. What a failed write or sync left on disk is
//!   unknown, so everybody who wants to write or sync later gets that error; reading goes on.
//! * Only a bounded number of files is open at a time (`handles`); the others are opened when they
//!   are read, and their headers are checked each time: a name may lead elsewhere by then.
//! * What is mapped is a segment that is not the last one, so that nothing is written to it or cut from it as long as
//!   it is open here: files are cut before they are opened to be read. The newest are mapped, as many as have
//!   room together; one that no longer has, or that was removed, is closed, which ends its mapping.
//! * Nothing is made or removed in a directory that is not the one that was opened.

use crate::segments::batch::Batch;
use crate::segments::handles::{Handle, Handles, Pin};
use crate::segments::header::{Format, HEADER, StoreId};
use crate::segments::segment::{Extent, IoCounters, id_of, new_file, open_segment};
use crate::segments::table::Table;
use crate::{Damage, LogError};
use arc_swap::Guard;
use hedgerow_types::LogPosition;
use hedgerow_vfs::{FileId, OpenMode, ReadAt, Vfs, VfsErrorKind, VfsFile};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// Files with bytes that were not synced; when there are more, the oldest is synced and closed.
pub(crate) const UNSYNCED_FILES: usize = 4;

/// A segment that is kept open to be read.
pub(crate) struct Pinned<'s> {
    base: u64,
    file: Arc<Arc<dyn VfsFile>>,
    _pin: Pin<'s>,
}

impl Pinned<'_> {
    /// The segment's base.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn file(&self) -> &dyn VfsFile {
        &**self.file
    }
}

/// What it means that a segment's file, not the last one's, is longer than the segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Longer {
    /// It reaches into the next one: an error.
    Overlaps,
    /// What follows was damaged and is ignored.
    Ignored,
}

/// The segments of one directory, open.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) format: &'static Format,
    pub(crate) id: StoreId,
    table: Table,
    /// What `dir` was when it was opened, if the disk can tell.
    dir_id: Option<FileId>,
    files: Handles,
    /// Most bytes of segments that are mapped.
    map_at_most: u64,
    /// Whether that is any, and the disk maps files.
    maps: bool,
    /// What the segments' files were when they were opened or made, by base.
    ids: Mutex<BTreeMap<u64, FileId>>,
    writer: Mutex<Writer>,
    doomed: Mutex<Doomed>,
    /// Held while syncing, so that no sync returns before one that took its work.
    syncing: Mutex<()>,
    failed: OnceLock<LogError>,
    pub(crate) counters: IoCounters,
}

/// Segments that are no longer in the table and whose files are still there.
#[derive(Debug, Default)]
struct Doomed {
    extents: Vec<Extent>,
    /// Bytes of those that went in calls that failed.
    freed: u64,
}

/// What the appending thread owns.
#[derive(Debug)]
struct Writer {
    /// The last segment's file.
    file: Arc<dyn VfsFile>,
    last: Extent,
    /// Files with bytes that were not synced.
    unsynced: Vec<Arc<dyn VfsFile>>,
    /// Bases of segments that were found when opening, and of which nobody says that they are synced.
    inherited: Vec<u64>,
    /// Whether a file was created whose name was not synced.
    new_names: bool,
    /// Gathers small pieces; kept for its allocation.
    gathered: Vec<u8>,
}

impl Segments {
    /// Makes the first segment in `dir`, at position 0. Not durable before [`Segments::sync`].
    pub(crate) fn create(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        format: &'static Format,
        id: StoreId,
    ) -> Result<Self, LogError> {
        let counters = IoCounters::default();
        let (file, last) = new_file(&*vfs, dir, format, id, 0, &counters)?;
        let this = Self::new(vfs, dir, format, id, vec![last], Arc::clone(&file), BTreeMap::new())?;
        this.note(last.base, &*file)?;
        {
            let mut writer = this.writer.lock();
            writer.unsynced.push(file);
            writer.new_names = true;
        }
        Ok(Self { counters, ..this })
    }

    /// Segments that were found and checked; `file` is that of the last one, open for writing.
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        format: &'static Format,
        id: StoreId,
        extents: Vec<Extent>,
        file: Arc<dyn VfsFile>,
        ids: BTreeMap<u64, FileId>,
    ) -> Result<Self, LogError> {
        let dir_id = vfs.file_id(dir).map_err(LogError::io("opening a directory of segments"))?;
        let last = extents.last().copied().unwrap_or(Extent { base: 0, end: HEADER });
        Ok(Self {
            files: Handles::new(&*vfs),
            map_at_most: 0,
            maps: false,
            vfs,
            dir: dir.to_owned(),
            dir_id,
            ids: Mutex::new(ids),
            format,
            id,
            table: Table::new(&extents),
            writer: Mutex::new(Writer {
                file,
                last,
                unsynced: vec![],
                inherited: vec![],
                new_names: false,
                gathered: vec![],
            }),
            doomed: Mutex::default(),
            syncing: Mutex::new(()),
            failed: OnceLock::new(),
            counters: IoCounters::default(),
        })
    }

    /// Maps so many bytes of segments at most.
    pub(crate) fn mapping(mut self, bytes: u64) -> Self {
        self.map_at_most = bytes;
        self.maps = bytes > 0 && self.vfs.maps_files();
        // They may be mapped when they are read again.
        self.files.clear();
        self
    }

    /// Whether segments are mapped, as far as they have room.
    pub(crate) fn maps(&self) -> bool {
        self.maps
    }

    /// The next sync is also of everything that was found when opening: a process that died may have
    /// left it in the cache of the system, bytes and names.
    pub(crate) fn sync_inherited(self) -> Self {
        {
            let mut writer = self.writer.lock();
            writer.inherited = self.extents().iter().map(|extent| extent.base).collect();
            writer.new_names = true;
        }
        self
    }

    /// The file of the segment at `base`.
    pub(crate) fn path(&self, base: u64) -> PathBuf {
        self.dir.join(self.format.file_name(base))
    }

    /// Base of the first segment.
    pub(crate) fn start(&self) -> u64 {
        self.table.look().start()
    }

    /// End of what is written.
    pub(crate) fn end(&self) -> u64 {
        self.last().end
    }

    /// The last segment.
    pub(crate) fn last(&self) -> Extent {
        self.table.look().last()
    }

    /// All segments, in order.
    pub(crate) fn extents(&self) -> Vec<Extent> {
        self.table.look().extents().collect()
    }

    /// The segment that covers `at`.
    pub(crate) fn find(&self, at: u64) -> Option<Extent> {
        self.table.look().find(at).map(|(extent, _)| extent)
    }

    /// The greatest base at or below `upto`, unless it is the first.
    pub(crate) fn boundary(&self, upto: u64) -> Option<u64> {
        self.table.look().boundary(upto)
    }

    /// Fills `buf` with what was written at `at`, which with all of `buf` must lie in `extent`.
    pub(crate) fn read(&self, extent: Extent, at: u64, buf: &mut [u8]) -> Result<(), LogError> {
        match self.table.look().find(extent.base) {
            Some((_, handle)) => self.read_file(extent.base, handle, at, buf),
            // It was removed meanwhile; its file may still be there.
            None => self.read_file(extent.base, &Arc::default(), at, buf),
        }
    }

    /// Fills as much of `buf` as the segment that covers `at` has from there on, and returns that part
    /// and the segment; `None` if no segment does.
    pub(crate) fn read_some<'b>(
        &self,
        at: u64,
        buf: &'b mut [u8],
    ) -> Result<Option<(Extent, &'b [u8])>, LogError> {
        let table = self.table.look();
        let Some((extent, handle)) = table.find(at) else { return Ok(None) };
        let buf = extent.part_of(at, buf);
        self.read_file(extent.base, handle, at, buf)?;
        Ok(Some((extent, buf)))
    }

    /// Reads from the segment at `base`.
    fn read_file(
        &self,
        base: u64,
        handle: &Arc<Handle>,
        at: u64,
        buf: &mut [u8],
    ) -> Result<(), LogError> {
        let file = self.files.get(handle);
        let read = match &*file {
            Some(file) => file.read_exact_at(buf, at - base),
            None => self.open_to_read(base, handle)?.read_exact_at(buf, at - base),
        };
        read.map_err(LogError::io("reading a segment"))?;
        self.counters.reads.count_read(buf.len());
        Ok(())
    }

    /// Keeps the segment at `base` open, to read it, for a batch that keeps `others` open already. `None` if
    /// it should read those first.
    pub(crate) fn pin(&self, base: u64, others: usize) -> Result<Option<Pinned<'_>>, LogError> {
        let Some(pin) = self.files.pin(others) else { return Ok(None) };
        let table = self.table.look();
        let none = Arc::default();
        // If it was removed meanwhile, its file may still be there.
        let handle = table.find(base).map_or(&none, |(_, handle)| handle);
        let file = match Guard::into_inner(self.files.get(handle)) {
            Some(file) => file,
            None => Arc::new(self.open_to_read(base, handle)?),
        };
        Ok(Some(Pinned { base, file, _pin: pin }))
    }

    /// Fills `buf` with what was written at `at` of a segment that is kept open.
    pub(crate) fn read_pinned(
        &self,
        segment: &Pinned<'_>,
        at: u64,
        buf: &mut [u8],
    ) -> Result<(), LogError> {
        let read = segment.file().read_exact_at(buf, at - segment.base);
        read.map_err(LogError::io("reading a segment"))?;
        self.counters.reads.count_read(buf.len());
        Ok(())
    }

    /// Makes these reads of segments, and says how each went, in their order.
    pub(crate) fn read_batch(
        &self,
        mut reads: Vec<ReadAt<'_>>,
    ) -> impl Iterator<Item = Result<(), LogError>> + use<> {
        let how = self.vfs.read_batch(&mut reads);
        let (mut made, mut bytes) = (0, 0);
        for read in &reads {
            if matches!(read.result(), Some(Ok(()))) {
                made += 1;
                bytes += read.len() as u64;
            }
        }
        self.counters.reads.count_batch(how, made, bytes);
        let results: Vec<_> = reads.into_iter().map(ReadAt::into_result).collect();
        results.into_iter().map(|result| result.map_err(LogError::io("reading a segment")))
    }

    /// Opens the segment at `base` and keeps it open. It is mapped if it is one of those that are.
    fn open_to_read(&self, base: u64, handle: &Arc<Handle>) -> Result<Arc<dyn VfsFile>, LogError> {
        let (file, _) = self.open(base)?;
        let mapped = self.table.look().mappable(base, self.map_at_most);
        if let Some(len) = mapped {
            file.map(len);
        }
        // What was removed from the table meanwhile must not stay open.
        let wanted = || {
            let table = self.table.look();
            table.find(base).is_some_and(|(_, now)| Arc::ptr_eq(now, handle))
        };
        self.files.insert(handle, &file, wanted);
        // A segment was begun meanwhile, and whoever did that may have come too early to close this file.
        if self.table.look().mappable(base, self.map_at_most) != mapped {
            self.files.remove(handle);
        }
        Ok(file)
    }

    /// Closes what is open of segments that were completed, to be mapped when they are read again, and of those
    /// that now have no room to be mapped.
    fn map_anew(&self, closed: &[(Extent, Option<Arc<dyn VfsFile>>)]) {
        if self.map_at_most == 0 || closed.is_empty() {
            return;
        }
        let table = self.table.look();
        for (extent, handle) in table.handles() {
            let is_new = closed.iter().any(|(new, _)| new.base == extent.base);
            let has_room = table.mappable(extent.base, self.map_at_most).is_some();
            if is_new || !has_room && self.files.mapped_bytes(handle) > 0 {
                self.files.remove(handle);
            }
        }
    }

    /// Bytes of segments that are mapped.
    pub(crate) fn mapped_bytes(&self) -> u64 {
        if self.map_at_most == 0 {
            return 0;
        }
        let table = self.table.look();
        table.handles().map(|(_, handle)| self.files.mapped_bytes(handle)).sum()
    }

    /// Opens a segment by its name. Returns its length too.
    pub(crate) fn open(&self, base: u64) -> Result<(Arc<dyn VfsFile>, u64), LogError> {
        let Self { vfs, dir, format, id, .. } = self;
        let opened =
            self.with_room(|| open_segment(&**vfs, dir, format, *id, base, OpenMode::Read))?;
        // A copy of the store has the same headers, and may have gone another way since.
        let id = id_of(&*opened.0)?;
        match (id, self.ids.lock().get(&base)) {
            (Some(found), Some(noted)) if found != *noted => Err(LogError::Moved(self.path(base))),
            _ => Ok(opened),
        }
    }

    /// Notes which file the segment at `base` is.
    pub(crate) fn note(&self, base: u64, file: &dyn VfsFile) -> Result<(), LogError> {
        if let Some(id) = id_of(file)? {
            self.ids.lock().insert(base, id);
        }
        Ok(())
    }

    /// Opens something; if that fails because too many files are open, once more with none that are
    /// kept open for reading, by this or another store.
    pub(crate) fn with_room<T>(
        &self,
        open: impl Fn() -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        match open() {
            Err(LogError::Io { source, .. }) if source.kind() == VfsErrorKind::TooManyFiles => {
                Handles::clear_all();
                open()
            }
            other => other,
        }
    }

    /// Checks that the directory is still the one that was opened.
    pub(crate) fn check_dir(&self) -> Result<(), LogError> {
        match self.vfs.file_id(&self.dir) {
            Ok(id) if id == self.dir_id => Ok(()),
            Err(error) if error.kind() != VfsErrorKind::NotFound => {
                Err(LogError::io("looking for the directory of segments")(error))
            }
            _ => Err(LogError::Moved(self.dir.clone())),
        }
    }

    /// Checks that every name leads to the file that it led to before, of the right length. What is
    /// read from here on is read from what the names lead to now.
    pub(crate) fn check_files(&self, longer: Longer) -> Result<(), LogError> {
        self.check_dir()?;
        self.files.clear();
        for extent in self.extents() {
            let found = self.open(extent.base);
            // Its end may have moved on, and it may have been removed.
            let Some(extent) = self.find(extent.base) else { continue };
            let (_, len) = found?;
            let path = || self.path(extent.base);
            let is_last = extent.base == self.last().base;
            if let Some(missing) = extent.len().checked_sub(len).filter(|&bytes| bytes > 0) {
                return Err(LogError::Short { path: path(), missing });
            }
            if len > extent.len() && !is_last && longer == Longer::Overlaps {
                return Err(LogError::Overlap { path: path(), excess: len - extent.len() });
            }
        }
        Ok(())
    }

    /// The error for what is wrong at `at`.
    pub(crate) fn corrupt(&self, at: u64, what: Damage) -> LogError {
        let base = self.find(at).map_or_else(|| self.last().base, |extent| extent.base);
        LogError::Corrupt {
            path: self.path(base),
            offset: at.saturating_sub(base),
            at: LogPosition(at),
            what,
        }
    }

    /// Appends what `write` puts into the batch; it becomes readable all at once, when `write` has
    /// returned `Ok`. Any error, `write`'s own included, closes the segments for writing.
    pub(crate) fn append<T>(
        &self,
        write: impl FnOnce(&mut Batch<'_>) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut writer = self.writer.lock();
        self.check_writable()?;
        let file = Arc::clone(&writer.file);
        let gathered = std::mem::take(&mut writer.gathered);
        let mut batch = Batch::new(self, writer.last, file, gathered);
        let result = write(&mut batch).and_then(|result| batch.flush().map(|()| result));
        let result = result.map_err(|error| self.fail(error))?;
        let Batch { last, file, closed, gathered, .. } = batch;

        let changed = closed.iter().filter_map(|(_, file)| file.as_ref()).chain([&file]);
        for file in changed {
            if !writer.unsynced.iter().any(|other| Arc::ptr_eq(other, file)) {
                writer.unsynced.push(Arc::clone(file));
            }
        }
        while writer.unsynced.len() > UNSYNCED_FILES {
            let oldest = writer.unsynced.remove(0);
            self.sync_file(&*oldest)?;
        }
        self.table.grow(closed.iter().map(|(extent, _)| *extent).chain([last]));
        self.map_anew(&closed);
        writer.new_names |= !closed.is_empty();
        writer.file = file;
        writer.last = last;
        writer.gathered = gathered;
        Ok(result)
    }

    /// Makes everything that was appended before the call durable, names included.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        let _one_at_a_time = self.syncing.lock();
        self.check_writable()?;
        let (files, inherited, new_names) = {
            let mut writer = self.writer.lock();
            let files = std::mem::take(&mut writer.unsynced);
            let inherited = std::mem::take(&mut writer.inherited);
            (files, inherited, std::mem::take(&mut writer.new_names))
        };
        for base in inherited {
            // Those that were pruned meanwhile need no sync.
            if self.find(base).is_some() {
                let opened = self.vfs.open(&self.path(base), OpenMode::ReadWrite);
                let opened = opened.map_err(LogError::io("opening a segment to sync it"));
                self.sync_file(&*opened.map_err(|error| self.fail(error))?)?;
            }
        }
        for file in files {
            self.sync_file(&*file)?;
        }
        if new_names {
            let synced = self.vfs.sync_dir(&self.dir);
            synced
                .map_err(LogError::io("syncing the names of segments"))
                .map_err(|e| self.fail(e))?;
        }
        Ok(())
    }

    pub(crate) fn sync_file(&self, file: &dyn VfsFile) -> Result<(), LogError> {
        file.sync().map_err(LogError::io("syncing a segment")).map_err(|e| self.fail(e))?;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the segments for which `goes` says so out of the table and then removes their files,
    /// with those that earlier calls could not remove; the last segment always stays. Returns the
    /// bytes freed since the last call that went well. After an error some files are left: the next
    /// call tries again, and so does opening.
    pub(crate) fn remove(&self, goes: impl Fn(&Extent) -> bool) -> Result<u64, LogError> {
        let mut doomed = self.doomed.lock();
        for (extent, handle) in self.table.remove(goes) {
            self.files.remove(&handle);
            doomed.extents.push(extent);
        }
        if doomed.extents.is_empty() {
            return Ok(std::mem::take(&mut doomed.freed));
        }
        self.check_dir()?;
        let mut failed = None;
        let mut left = vec![];
        for extent in std::mem::take(&mut doomed.extents) {
            match self.vfs.remove_file(&self.path(extent.base)) {
                Err(error) if error.kind() != VfsErrorKind::NotFound => {
                    left.push(extent);
                    failed.get_or_insert(error);
                }
                _ => {
                    self.ids.lock().remove(&extent.base);
                    doomed.freed += extent.len();
                }
            }
        }
        doomed.extents = left;
        if let Some(error) = failed {
            return Err(LogError::io("removing a pruned segment")(error));
        }
        let synced = self.vfs.sync_dir(&self.dir);
        synced.map_err(LogError::io("syncing the removal of pruned segments"))?;
        Ok(std::mem::take(&mut doomed.freed))
    }

    /// Latches `error` if it is the first, and returns it.
    fn fail(&self, error: LogError) -> LogError {
        let _ = self.failed.set(error.clone());
        error
    }

    /// # Errors
    /// The latched error.
    pub(crate) fn check_writable(&self) -> Result<(), LogError> {
        match self.failed.get() {
            Some(error) => Err(LogError::Failed(Arc::new(error.clone()))),
            None => Ok(()),
        }
    }
}
