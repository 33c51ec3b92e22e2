//! Segment files that are open for reading: a bounded number of them.
//!
//! ```text
//!   read ──► get(base) ── there ──► the file
//!               │ not there
//!               ▼
//!            open by name, check the header ──► insert ── full: the one that was used least lately goes
//!                                                 │
//!                                                 └─ only if the segment was not removed meanwhile
//! ```
//!
//! How many are kept is a share of what the process may have open: other parts of it need files too.
//! Whoever holds a file keeps it open until it has read. When the process has no more, every set in it
//! gives up its own ([`Handles::clear_all`]).

use hedgerow_vfs::{Vfs, VfsFile};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Most files kept open, whatever the process may have.
const MOST: u64 = 256;
/// Of what the process may have open, one of so many. A store has two sets of segments.
const SHARE: u64 = 8;

type Open = RwLock<BTreeMap<u64, Handle>>;

/// All sets of this process: what is limited is limited for all of them together.
static ALL: Mutex<Vec<Weak<Open>>> = Mutex::new(Vec::new());

#[derive(Debug)]
pub(crate) struct Handles {
    open: Arc<Open>,
    /// Counts what was inserted: the time by which "lately" is meant.
    clock: AtomicU64,
    most: usize,
}

#[derive(Debug)]
struct Handle {
    file: Arc<dyn VfsFile>,
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
        Self { open, clock: AtomicU64::new(0), most: share as usize }
    }

    pub(crate) fn get(&self, base: u64) -> Option<Arc<dyn VfsFile>> {
        let open = self.open.read();
        let handle = open.get(&base)?;
        let now = self.clock.load(Ordering::Relaxed);
        if handle.used.load(Ordering::Relaxed) != now {
            handle.used.store(now, Ordering::Relaxed);
        }
        Some(Arc::clone(&handle.file))
    }

    /// Keeps a file that was opened, if `wanted` still says so. It is asked under the lock: whoever
    /// stops wanting it first says so and then calls [`Handles::remove`].
    pub(crate) fn insert(&self, base: u64, file: &Arc<dyn VfsFile>, wanted: impl Fn() -> bool) {
        let mut gone = None;
        let mut open = self.open.write();
        if !wanted() {
            return;
        }
        let used = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        if open.len() >= self.most && !open.contains_key(&base) {
            let oldest = open.iter().min_by_key(|(_, handle)| handle.used.load(Ordering::Relaxed));
            gone = oldest.map(|(&base, _)| base).and_then(|base| open.remove(&base));
        }
        open.insert(base, Handle { file: Arc::clone(file), used: AtomicU64::new(used) });
        // Closing takes its time; nobody has to wait for it.
        drop(open);
        drop(gone);
    }

    pub(crate) fn remove(&self, base: u64) {
        let gone = self.open.write().remove(&base);
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
    let gone = std::mem::take(&mut *open.write());
    drop(gone);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use hedgerow_vfs::{MemDisk, OpenMode};
    use std::path::Path;

    #[test]
    fn the_least_lately_used_goes() {
        let vfs = MemDisk::new();
        let file = vfs.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        let handles = Handles { most: 3, ..Handles::new(&vfs) };
        for base in 0..3 {
            handles.insert(base, &file, || true);
        }
        assert!(handles.get(0).is_some());
        handles.insert(3, &file, || true);
        assert!(handles.get(1).is_none());
        assert!([0, 2, 3].iter().all(|&base| handles.get(base).is_some()));
        handles.insert(4, &file, || false);
        assert!(handles.get(4).is_none());
        handles.remove(2);
        handles.insert(5, &file, || true);
        assert!([0, 3, 5].iter().all(|&base| handles.get(base).is_some()));
        handles.clear();
        assert!((0..6).all(|base| handles.get(base).is_none()));
        assert_eq!(Arc::strong_count(&file), 1);
    }
}
