//! Segment files that are open for reading: a bounded number of them.
//!
//! ```text
//!   read ──► get(handle) ── open ──► the file
//!               │ not open
//!               ▼
//!            open by name, check the header ──► insert ── full: the one that was used least lately goes
//!                                                 │
//!                                                 └─ only if the segment was not removed meanwhile
//! ```
//!
//! A handle is in the table of segments, so that who has found the segment has found its file and takes no
//! lock for it. How many are open is a share of what the process may have open: other parts of it need
//! files too. Whoever reads a file keeps that one open until he has read. When the process has no more,
//! every set in it gives up its own ([`Handles::clear_all`]).

use arc_swap::{ArcSwapOption, Guard};
use hedgerow_vfs::{Vfs, VfsFile};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Most files kept open, whatever the process may have.
const MOST: u64 = 256;
/// Of what the process may have open, one of so many. A store has two sets of segments.
const SHARE: u64 = 8;

/// One batch of reads keeps open one of so many of them.
const PINNED_SHARE: usize = 4;

/// Those that are open.
type Open = Mutex<Vec<Arc<Handle>>>;

/// All sets of this process: what is limited is limited for all of them together.
static ALL: Mutex<Vec<Weak<Open>>> = Mutex::new(Vec::new());

#[derive(Debug)]
pub(crate) struct Handles {
    open: Arc<Open>,
    /// Counts what was inserted: the time by which "lately" is meant.
    clock: AtomicU64,
    most: usize,
    /// Files that batches of reads keep open, beyond one each.
    pinned: AtomicUsize,
}

/// Leave to keep a file open while it is read.
pub(crate) struct Pin<'h>(Option<&'h AtomicUsize>);

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if let Some(pinned) = self.0 {
            pinned.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The file of a segment, if it is open.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    /// A pointer to a pointer, since only thin ones can be swapped.
    file: ArcSwapOption<Arc<dyn VfsFile>>,
    used: AtomicU64,
}

impl Handles {
    /// As many as `vfs` can be asked for.
    pub(crate) fn new(vfs: &dyn Vfs) -> Self {
        let share = vfs.open_limit().map_or(MOST, |limit| (limit / SHARE).clamp(1, MOST));
        let open = Arc::new(Open::default());
        let mut all = ALL.lock();
        all.retain(|open| open.strong_count() > 0);
        all.push(Arc::downgrade(&open));
        let (clock, pinned) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { open, clock, most: share as usize, pinned }
    }

    /// Leave to keep one more file open while it is read, for a batch of reads that keeps `others`. A batch
    /// always may have one, as a single read has; all batches together have no more beyond that than this
    /// set keeps open anyway.
    pub(crate) fn pin(&self, others: usize) -> Option<Pin<'_>> {
        if others == 0 {
            return Some(Pin(None));
        }
        if others >= (self.most / PINNED_SHARE).max(1) {
            return None;
        }
        if self.pinned.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.pinned.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Pin(Some(&self.pinned)))
    }

    /// The file, if it is open: for a moment, while it is read.
    pub(crate) fn get(&self, handle: &Handle) -> Guard<Option<Arc<Arc<dyn VfsFile>>>> {
        let now = self.clock.load(Ordering::Relaxed);
        if handle.used.load(Ordering::Relaxed) != now {
            handle.used.store(now, Ordering::Relaxed);
        }
        handle.file.load()
    }

    /// Bytes of the file that are mapped, if it is open.
    pub(crate) fn mapped_bytes(&self, handle: &Handle) -> u64 {
        handle.file.load().as_ref().map_or(0, |file| file.mapped_bytes())
    }

    /// Keeps a file that was opened, if `wanted` still says so. It is asked under the lock: whoever
    /// stops wanting it first says so and then calls [`Handles::remove`].
    pub(crate) fn insert(
        &self,
        handle: &Arc<Handle>,
        file: &Arc<dyn VfsFile>,
        wanted: impl Fn() -> bool,
    ) {
        let mut gone = None;
        let mut open = self.open.lock();
        if !wanted() {
            return;
        }
        let used = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        if !open.iter().any(|other| Arc::ptr_eq(other, handle)) {
            if open.len() >= self.most {
                let used =
                    |(_, handle): &(usize, &Arc<Handle>)| handle.used.load(Ordering::Relaxed);
                let oldest = open.iter().enumerate().min_by_key(used).map(|(place, _)| place);
                gone = oldest.map(|place| open.swap_remove(place).file.swap(None));
            }
            open.push(Arc::clone(handle));
        }
        handle.used.store(used, Ordering::Relaxed);
        handle.file.store(Some(Arc::new(Arc::clone(file))));
        // Closing takes its time; nobody has to wait for it.
        drop(open);
        drop(gone);
    }

    pub(crate) fn remove(&self, handle: &Arc<Handle>) {
        let mut open = self.open.lock();
        open.retain(|other| !Arc::ptr_eq(other, handle));
        let gone = handle.file.swap(None);
        drop(open);
        drop(gone);
    }

    /// Closes them all, except those that somebody is reading.
    pub(crate) fn clear(&self) {
        clear(&self.open);
    }

    /// Closes those of every set in the process.
    pub(crate) fn clear_all() {
        let all: Vec<Arc<Open>> = ALL.lock().iter().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|open| clear(open));
    }
}

fn clear(open: &Open) {
    let mut open = open.lock();
    let gone: Vec<_> = open.drain(..).map(|handle| handle.file.swap(None)).collect();
    drop(open);
    drop(gone);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use hedgerow_vfs::{MemDisk, OpenMode};
    use std::path::Path;

    #[test]
    fn batches_keep_a_bounded_number_open() {
        let handles = Handles { most: 8, ..Handles::new(&MemDisk::new()) };
        let mut held = vec![];
        for _ in 0..100 {
            held.push(handles.pin(0).unwrap());
            held.extend(handles.pin(1));
            assert!(handles.pin(2).is_none());
        }
        assert_eq!((held.len(), handles.pinned.load(Ordering::Relaxed)), (108, 8));
        drop(held);
        assert_eq!(handles.pinned.load(Ordering::Relaxed), 0);
        assert!(handles.pin(1).is_some());
    }

    #[test]
    fn the_least_lately_used_goes() {
        let vfs = MemDisk::new();
        let file = vfs.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        let handles = Handles { most: 3, ..Handles::new(&vfs) };
        let of: [Arc<Handle>; 6] = Default::default();
        let is_open = |number: usize| handles.get(&of[number]).is_some();
        for handle in &of[..3] {
            handles.insert(handle, &file, || true);
        }
        assert!(is_open(0));
        handles.insert(&of[3], &file, || true);
        // Not by looking: that would be a use.
        assert!(of[1].file.load().is_none());
        assert!([0, 2, 3].iter().all(|&number| is_open(number)));
        handles.insert(&of[4], &file, || false);
        assert!(of[4].file.load().is_none());
        handles.remove(&of[2]);
        handles.insert(&of[5], &file, || true);
        assert!([0, 3, 5].iter().all(|&number| is_open(number)));
        // Again, when two have opened it.
        handles.insert(&of[5], &file, || true);
        assert!([0, 3, 5].iter().all(|&number| is_open(number)));
        let read = handles.get(&of[3]);
        handles.clear();
        assert!((0..6).all(|number| !is_open(number)));
        assert_eq!(Arc::strong_count(&file), 2);
        drop(read);
        assert_eq!(Arc::strong_count(&file), 1);
    }
}
