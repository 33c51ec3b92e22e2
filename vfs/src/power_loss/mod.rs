//! A disk that loses power, fails on demand, and forgets what was not synced.
//!
//! ```text
//!                          ┌── reads, look-ups ──► cached content, cached names
//!   caller ──► PowerLossDisk
//!                          ├── writes, set_len ──► cached at once; each 512-byte sector unsynced
//!                          ├── create, rename, link, remove ──► cached at once; each name unsynced
//!                          └── sync, sync_dir ──► durable
//!
//!   plan(Fault)      the n-th call of some kind fails: EIO, ENOSPC, EACCES, or the power goes
//!   process_death()  the machine stays on: the next process finds the cache as it was
//!   power_cycle()    another disk with what survived: all that was durable, and of each unsynced
//!                    sector, length and name one of the states it had, each for itself
//! ```
//!
//! The model is as hostile as POSIX allows, not as kind as a journaling file system is: a file that
//! was synced is gone if its name was not; a name may survive without its bytes; a later write may
//! survive and an earlier one not. Four things it grants: a sector is old or new as a whole, bytes
//! in sectors that nobody writes do not change, a write that stops early stops at the end of a sector,
//! and a rename within a directory happens or does not.
//!
//! A failed sync is believed by nobody: what it did not bring to the medium stays visible, is not
//! dirty any more, and is gone after the power cycle, however often a later sync succeeds. That is
//! what Linux does, and what [`VfsFile::sync`] warns of.
//!
//! Everything random follows from the seed given to [`PowerLossDisk::new`]. Everything is one lock:
//! this disk is for tests of correctness.

mod content;
mod plan;
mod tree;

pub use plan::{Calls, Failed, Fault, FaultKind, Trace};

use crate::rng::Rng;
use crate::{DirLock, LOCK_FILE, OpenMode, Vfs, VfsError, VfsFile, VfsOp, whole};
use content::SECTOR;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tree::{Number, Tree};

/// Longer than any test holds a call back: then the test has failed, and the call fails too.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// See the [module documentation](self). A clone is another handle to the same disk.
#[derive(Clone)]
pub struct PowerLossDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    rng: Rng,
    /// Accidents of reads have draws of their own: threads that read beside one that writes change nothing
    /// of what becomes of the writes.
    of_reads: Rng,
    tree: Tree,
    /// Lock files that are held.
    locks: BTreeSet<Number>,
    plan: Vec<Fault>,
    claims: Vec<(&'static str, &'static str)>,
    short_calls: u64,
    hold: Option<Hold>,
    off: bool,
    trace: Trace,
}

struct Hold {
    calls: Calls,
    waiting: usize,
    /// Of those of one guard, one after the other.
    number: u64,
}

/// While it lives, calls of some kind are held back. See [`PowerLossDisk::hold`].
#[derive(Debug)]
#[must_use = "dropping it lets the calls go on"]
pub struct Held(PowerLossDisk);

impl PowerLossDisk {
    /// An empty disk whose accidents follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with(Tree::new(), seed)
    }

    fn with(tree: Tree, seed: u64) -> Self {
        let state = State {
            rng: Rng::new(seed),
            of_reads: Rng::new(!seed),
            tree,
            locks: BTreeSet::new(),
            plan: Vec::new(),
            claims: Vec::new(),
            short_calls: 0,
            hold: None,
            off: false,
            trace: Trace::default(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// A copy of the disk as reads see it now, with everything durable. Cheap: pages are shared
    /// until one side writes to them.
    #[must_use]
    pub fn settled_copy(&self, seed: u64) -> Self {
        Self::with(self.0.state.lock().tree.settled(), seed)
    }

    /// Lets something go wrong later, in addition to what was planned before.
    pub fn plan(&self, fault: Fault) {
        self.0.state.lock().plan.push(fault);
    }

    /// Forgets what was planned. Power that is off stays off.
    pub fn plan_nothing(&self) {
        self.0.state.lock().plan.clear();
    }

    /// Claims that whenever the named point is reached, everything whose path contains `part` is
    /// durable, names included. What is not is listed in [`Trace::broken`].
    pub fn claim(&self, point: &'static str, part: &'static str) {
        self.0.state.lock().claims.push((point, part));
    }

    /// From now on reads and writes stop early in this many of 256 cases, or before the first byte
    /// because of a signal, as system calls may. No caller can see it, unless by a bug in the loops
    /// around such calls. A write stops at the end of a sector: on Linux the file systems write page
    /// by page, and what is left of a page when the next call comes is that call's.
    pub fn short_calls(&self, of_256: u64) {
        self.0.state.lock().short_calls = of_256;
    }

    /// Holds calls back until the returned guard is dropped: a slow sync, for example, behind which
    /// blocks gather.
    pub fn hold(&self, calls: Calls) -> Held {
        self.0.state.lock().hold = Some(Hold { calls, waiting: 0, number: 0 });
        Held(self.clone())
    }

    /// The power goes now: every later call fails.
    pub fn power_off(&self) {
        self.0.state.lock().off = true;
        self.0.changed.notify_all();
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.0.state.lock().off
    }

    /// What was called so far.
    pub fn trace(&self) -> Trace {
        self.0.state.lock().trace.clone()
    }

    /// The power goes, and comes back: a new disk with what survived. Handles of this one are of no
    /// use any more. The survivors follow from the seed of this disk, the calls so far, and `seed`.
    #[must_use]
    pub fn power_cycle(&self, seed: u64) -> Self {
        // Often everything unsynced is lost or saved together, and as often it is mixed.
        self.survivor(seed, |rng| match rng.below(6) {
            0 => 0,
            1 => 256,
            2 => 26,
            3 => 230,
            _ => 128,
        })
    }

    /// As [`power_cycle`](Self::power_cycle), and nothing survived that was not synced.
    #[must_use]
    pub fn lose_all_unsynced(&self) -> Self {
        self.survivor(0, |_| 0)
    }

    fn survivor(&self, seed: u64, chance: impl FnOnce(&mut Rng) -> u64) -> Self {
        self.power_off();
        let mut state = self.0.state.lock();
        let State { rng, tree, .. } = &mut *state;
        let mut rng = Rng::new(rng.next() ^ seed);
        let chance = chance(&mut rng);
        let survivor = tree.survivor(&mut rng, chance);
        Self::with(survivor, rng.next())
    }

    /// The process goes, the machine stays: a new disk with everything as it was, in the cache as on
    /// the medium, nothing locked and nothing planned. What was not synced can still be lost later.
    /// Handles of this one are of no use any more.
    #[must_use]
    pub fn process_death(&self) -> Self {
        self.power_off();
        let mut state = self.0.state.lock();
        let tree = std::mem::replace(&mut state.tree, Tree::new());
        Self::with(tree, state.rng.next())
    }

    /// Changes a byte of a file at rest by `mask`; beyond its end nothing happens.
    ///
    /// # Errors
    /// As opening the file.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> Result<(), VfsError> {
        let mut state = self.0.state.lock();
        let tree = &mut state.tree;
        let file = tree.open(path).and_then(|number| tree.file(number));
        let file = file.map_err(|reason| VfsError::new(VfsOp::Open, path, None, reason))?;
        file.flip(offset, mask);
        Ok(())
    }

    fn call<'a>(
        &'a self,
        op: VfsOp,
        path: &Path,
        offset: Option<u64>,
        len: Option<u64>,
    ) -> Call<'a> {
        let mut state = self.0.state.lock();
        if state.off {
            return Call { state, fault: Some(FaultKind::PowerOff) };
        }
        if let Some(hold) = state.hold.as_mut().filter(|hold| hold.calls.contain(op, path)) {
            hold.waiting += 1;
            let number = hold.number;
            self.0.changed.notify_all();
            while state.hold.as_ref().is_some_and(|hold| hold.number == number) && !state.off {
                if self.0.changed.wait_for(&mut state, LONGEST_HOLD).timed_out() {
                    return Call { state, fault: Some(FaultKind::Eio) };
                }
            }
        }
        let state_now = &mut *state;
        state_now.trace.note(op, path, offset, len);
        if op == VfsOp::Point && !state_now.off {
            for (point, part) in &state_now.claims {
                if Path::new(point) == path
                    && let Some(unsettled) = state_now.tree.unsettled(part)
                {
                    let broken = format!("at {point:?} this is not durable: {unsettled}");
                    state_now.trace.broken.push(broken);
                }
            }
        }
        let mut fault = state_now.off.then_some(FaultKind::PowerOff);
        for planned in state_now.plan.iter_mut().filter(|planned| planned.calls.contain(op, path)) {
            if planned.after > 0 {
                planned.after -= 1;
            } else if planned.times > 0 {
                planned.times -= 1;
                fault = fault.or(Some(planned.kind));
            }
        }
        if let Some(kind) = fault {
            let point = state_now.trace.last_point().map(str::to_owned);
            let failed = Failed { op, path: path.to_owned(), kind, point };
            state_now.trace.failed.push(failed);
            if kind == FaultKind::PowerOff {
                state_now.off = true;
                self.0.changed.notify_all();
            }
        }
        Call { state, fault }
    }

    /// A call that is not a read or a write.
    fn simple<T>(
        &self,
        op: VfsOp,
        path: &Path,
        perform: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> Result<T, VfsError> {
        self.fallible(op, path, None, perform)
            .map_err(|reason| VfsError::new(op, path, None, reason))
    }

    fn fallible<T>(
        &self,
        op: VfsOp,
        path: &Path,
        len: Option<u64>,
        perform: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut call = self.call(op, path, None, len);
        match call.fault {
            None => perform(&mut call.state),
            Some(kind) => {
                // An error of the medium does not say that nothing happened.
                let happens = kind == FaultKind::Eio
                    && matches!(
                        op,
                        VfsOp::Create | VfsOp::RemoveFile | VfsOp::Rename | VfsOp::HardLink
                    )
                    && call.state.rng.chance(64);
                if happens {
                    perform(&mut call.state)?;
                }
                Err(kind.reason())
            }
        }
    }
}

/// The state, locked for one call, and how it is to fail.
struct Call<'a> {
    state: MutexGuard<'a, State>,
    fault: Option<FaultKind>,
}

impl Held {
    /// Waits until a call was held back, and returns whether one was: false after a minute, or if
    /// the power is off.
    #[must_use]
    pub fn reached(&self) -> bool {
        self.reached_within(LONGEST_HOLD)
    }

    /// Lets the calls that are held back go on, and holds others back, all at once.
    pub fn hold_instead(&self, calls: Calls) {
        let mut state = self.0.0.state.lock();
        let number = state.hold.as_ref().map_or(0, |hold| hold.number) + 1;
        state.hold = Some(Hold { calls, waiting: 0, number });
        drop(state);
        self.0.0.changed.notify_all();
    }

    /// As [`reached`](Self::reached), with another limit.
    #[must_use]
    pub fn reached_within(&self, limit: Duration) -> bool {
        let shared = &self.0.0;
        let mut state = shared.state.lock();
        while state.hold.as_ref().is_some_and(|hold| hold.waiting == 0) && !state.off {
            if shared.changed.wait_for(&mut state, limit).timed_out() {
                return false;
            }
        }
        !state.off
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.state.lock().hold = None;
        self.0.0.changed.notify_all();
    }
}

impl fmt::Debug for PowerLossDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PowerLossDisk").field("off", &self.is_off()).finish_non_exhaustive()
    }
}

/// Releases the lock of a directory when dropped.
struct Unlock {
    disk: PowerLossDisk,
    file: Number,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        self.disk.0.state.lock().locks.remove(&self.file);
    }
}

impl Vfs for PowerLossDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let number = match mode {
            OpenMode::CreateNew => {
                self.simple(VfsOp::Create, path, |state| state.tree.create(path))
            }
            OpenMode::Read | OpenMode::ReadWrite => {
                self.simple(VfsOp::Open, path, |state| state.tree.open(path))
            }
        };
        let (disk, path, writable) = (self.clone(), path.to_owned(), mode != OpenMode::Read);
        Ok(Arc::new(PowerLossFile { disk, number: number?, path, writable }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        self.simple(VfsOp::CreateDirAll, path, |state| state.tree.create_dir_all(path))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        self.simple(VfsOp::ReadDir, path, |state| state.tree.read_dir(path))
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        self.simple(VfsOp::Exists, path, |state| state.tree.exists(path))
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        self.simple(VfsOp::RemoveFile, path, |state| state.tree.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        self.simple(VfsOp::RemoveDirAll, path, |state| state.tree.remove_dir_all(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        self.fallible(VfsOp::Rename, from, None, |state| state.tree.rename(from, to))
            .map_err(|reason| VfsError::renaming(from, to, reason))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        self.fallible(VfsOp::HardLink, from, None, |state| state.tree.hard_link(from, to))
            .map_err(|reason| VfsError::linking(from, to, reason))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        let mut call = self.call(VfsOp::SyncDir, path, None, None);
        let State { rng, tree, .. } = &mut *call.state;
        let done = match call.fault {
            None => tree.sync_dir(path),
            Some(kind @ (FaultKind::Eio | FaultKind::Full)) => {
                tree.fail_sync_dir(path, rng).and(Err(kind.reason()))
            }
            Some(kind) => Err(kind.reason()),
        };
        done.map_err(|reason| VfsError::new(VfsOp::SyncDir, path, None, reason))
    }

    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        let locked = self.simple(VfsOp::LockDir, path, |state| {
            let name = path.join(LOCK_FILE);
            let file = match state.tree.create(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    state.tree.open(&name)?
                }
                created => created?,
            };
            Ok(state.locks.insert(file).then_some(file))
        });
        match locked? {
            Some(file) => Ok(DirLock::new(path, Unlock { disk: self.clone(), file })),
            None => Err(VfsError::in_use(path)),
        }
    }

    fn real_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    fn at_point(&self, point: &'static str) -> Result<(), VfsError> {
        self.simple(VfsOp::Point, Path::new(point), |_| Ok(()))
    }
}

struct PowerLossFile {
    disk: PowerLossDisk,
    number: Number,
    path: PathBuf,
    writable: bool,
}

impl PowerLossFile {
    fn failed(&self, op: VfsOp, offset: Option<u64>, reason: io::Error) -> VfsError {
        VfsError::new(op, &self.path, offset, reason)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading"))
    }

    /// One call of the system: it may stop early.
    fn read_call(&self, state: &mut State, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let len = early(&mut state.of_reads, state.short_calls, buf.len())?;
        state.tree.file(self.number)?.read(&mut buf[..len], at)
    }

    fn write_call(&self, state: &mut State, buf: &[u8], at: u64) -> io::Result<usize> {
        let len = early(&mut state.rng, state.short_calls, buf.len())?;
        // Up to the end of the sector that it stopped in.
        let end = at.saturating_add(len as u64).checked_next_multiple_of(SECTOR as u64);
        let len = end.map_or(len, |end| buf.len().min((end - at) as usize));
        state.tree.file(self.number)?.write(&buf[..len], at)?;
        Ok(len)
    }
}

/// How much of `len` bytes a call of the system does this time.
fn early(rng: &mut Rng, short_calls: u64, len: usize) -> io::Result<usize> {
    if len == 0 || !rng.chance(short_calls) {
        return Ok(len);
    }
    if rng.chance(64) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(1 + rng.below(len as u64) as usize)
}

impl fmt::Debug for PowerLossFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PowerLossFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl VfsFile for PowerLossFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        let len = Some(buf.len() as u64);
        let mut call = self.disk.call(VfsOp::Read, &self.path, Some(offset), len);
        if let Some(kind) = call.fault {
            return Err(self.failed(VfsOp::Read, Some(offset), kind.reason()));
        }
        let state = &mut *call.state;
        let filled = whole::read(buf, offset, |rest, at| self.read_call(state, rest, at));
        filled.map_err(|(at, reason)| self.failed(VfsOp::Read, Some(at), reason))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), VfsError> {
        let len = Some(buf.len() as u64);
        let mut call = self.disk.call(VfsOp::Write, &self.path, Some(offset), len);
        let fault = call.fault;
        let state = &mut *call.state;
        let mut write = || -> Result<(), (u64, io::Error)> {
            self.check_writable().map_err(|reason| (offset, reason))?;
            let done = match fault {
                None => buf.len(),
                Some(kind) if kind.is_clean() => 0,
                Some(_) => state.rng.below(buf.len() as u64 + 1) as usize,
            };
            whole::write(&buf[..done], offset, |rest, at| self.write_call(state, rest, at))?;
            fault.map_or(Ok(()), |kind| Err((offset + done as u64, kind.reason())))
        };
        write().map_err(|(at, reason)| self.failed(VfsOp::Write, Some(at), reason))
    }

    fn len(&self) -> Result<u64, VfsError> {
        self.disk.simple(VfsOp::Len, &self.path, |state| Ok(state.tree.file(self.number)?.len()))
    }

    fn set_len(&self, len: u64) -> Result<(), VfsError> {
        let set = |state: &mut State| {
            self.check_writable()?;
            state.tree.file(self.number)?.set_len(len)
        };
        self.disk
            .fallible(VfsOp::SetLen, &self.path, Some(len), set)
            .map_err(|reason| self.failed(VfsOp::SetLen, Some(len), reason))
    }

    fn sync(&self) -> Result<(), VfsError> {
        let mut call = self.disk.call(VfsOp::Sync, &self.path, None, None);
        let State { rng, tree, .. } = &mut *call.state;
        let mut sync = || -> io::Result<()> {
            let file = tree.file(self.number)?;
            match call.fault {
                None => file.sync(),
                Some(kind @ (FaultKind::Eio | FaultKind::Full)) => {
                    file.fail_sync(rng);
                    return Err(kind.reason());
                }
                Some(kind) => return Err(kind.reason()),
            }
            Ok(())
        };
        sync().map_err(|reason| self.failed(VfsOp::Sync, None, reason))
    }
}
