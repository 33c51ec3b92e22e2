//! Backends with rows, for tests: healthy ones, and one that lies or fails when told to.

use hedgerow_hasher_api::{
    BatchHasher, HashError, HookedHasher, HookedRows, Residency, ResidentRows, RowsCall,
    ScalarHasher,
};
use hedgerow_hasher_device::{DeviceHasher, HostDevice, Limits};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const ROOMY: Limits = Limits { buffer_bytes: 1 << 30, max_count: u32::MAX };
/// Rows fit, but every list of places is cut.
const CUT: Limits = Limits { buffer_bytes: 1 << 30, max_count: 37 };
/// No rows fit.
const SMALL: Limits = Limits { buffer_bytes: Limits::LEAST_BUFFER, max_count: 1000 };

fn device(limits: Limits) -> Arc<DeviceHasher<HostDevice>> {
    Arc::new(DeviceHasher::new(HostDevice::new(limits)).unwrap().resident_from(0))
}

/// Number of backends that [`hasher`] knows.
pub(crate) const HASHERS: usize = 5;

/// The CPU, a device for all blocks, one for large blocks only, one whose calls are cut, one that
/// cannot keep rows.
pub(crate) fn hasher(which: usize) -> Box<dyn BatchHasher> {
    match which {
        0 => Box::new(ScalarHasher),
        1 => Box::new(healthy(ROOMY, 0)),
        2 => Box::new(healthy(ROOMY, 20)),
        3 => Box::new(healthy(CUT, 1)),
        _ => Box::new(healthy(SMALL, 0)),
    }
}

/// When the first digest is wrong, counted from the first block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lie {
    /// In this read and all later ones.
    Reads(usize),
    /// In this write.
    Write(usize),
    /// Not the first one of a list but this one of all that are read.
    Digest(usize),
}

/// Rows on a device that may lie, fail or be of little worth, what they are told and what they hear.
#[derive(Debug)]
pub(crate) struct WatchedRows {
    pub(crate) inner: Arc<DeviceHasher<HostDevice>>,
    check_one_of: u32,
    /// Dirty nodes from which it is worth its while; may change between blocks.
    pub(crate) worth_from: AtomicUsize,
    lie: Option<Lie>,
    /// It must not have given an error when it is no longer needed.
    healthy: bool,
    opened: AtomicUsize,
    condemned: AtomicUsize,
    pub(crate) checked: AtomicU64,
    pub(crate) id: AtomicU64,
    pub(crate) log: Log,
}

/// What was asked of rows: `hash`, `read`, `flush` and `take`, by their first letters.
pub(crate) type Log = Arc<Mutex<String>>;

impl WatchedRows {
    fn on(inner: Arc<DeviceHasher<HostDevice>>, check_one_of: u32, lie: Option<Lie>) -> Self {
        Self {
            inner,
            check_one_of,
            worth_from: AtomicUsize::new(0),
            lie,
            healthy: false,
            opened: AtomicUsize::new(0),
            condemned: AtomicUsize::new(0),
            checked: AtomicU64::new(0),
            log: Log::default(),
            id: AtomicU64::new(1 << 40),
        }
    }

    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn condemned(&self) -> usize {
        self.condemned.load(Ordering::Relaxed)
    }

    /// `hasher` with these rows.
    fn beside(self: &Arc<Self>, hasher: Arc<dyn BatchHasher>) -> HookedHasher {
        let hooked = HookedHasher::new(hasher, |call, inner| call.hash(inner));
        hooked.with_residency(Some(self.clone()))
    }
}

impl Drop for WatchedRows {
    fn drop(&mut self) {
        if self.healthy && !std::thread::panicking() {
            assert_eq!(self.condemned(), 0, "the CPU hid an error of the rows");
        }
    }
}

/// A backend with watched rows. All else is hashed elsewhere, so that the device's calls are theirs.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) hasher: HookedHasher,
    rows: Arc<WatchedRows>,
}

impl Watched {
    pub(crate) fn new(check_one_of: u32, lie: Option<Lie>) -> Self {
        let rows = Arc::new(WatchedRows::on(device(ROOMY), check_one_of, lie));
        Self { hasher: rows.beside(Arc::new(ScalarHasher)), rows }
    }
}

impl Deref for Watched {
    type Target = WatchedRows;

    fn deref(&self) -> &WatchedRows {
        &self.rows
    }
}

/// A device that does everything.
fn healthy(limits: Limits, worth_from: usize) -> HookedHasher {
    let inner = device(limits);
    let mut rows = WatchedRows::on(Arc::clone(&inner), 0, None);
    (rows.healthy, rows.worth_from) = (true, worth_from.into());
    Arc::new(rows).beside(inner)
}

impl Residency for WatchedRows {
    fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    fn worth_from(&self) -> usize {
        self.worth_from.load(Ordering::Relaxed)
    }

    fn check_one_of(&self) -> u32 {
        self.check_one_of
    }

    fn open(&self, lens: &[u32]) -> Result<Box<dyn ResidentRows>, HashError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let rows = self.inner.residency().unwrap().open(lens)?;
        let (mut lie, log) = (self.lie, Arc::clone(&self.log));
        Ok(Box::new(HookedRows::new(rows, move |call, rows| watch(call, rows, &mut lie, &log))))
    }

    fn condemn(&self, error: &HashError) {
        if !matches!(error, HashError::DoesNotFit { .. }) {
            self.condemned.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn hashed(&self, checked: u64) {
        self.checked.fetch_add(checked, Ordering::Relaxed);
    }
}

/// Notes a call of the rows, and tells the lie when its time has come.
fn watch(
    call: &mut RowsCall<'_>,
    rows: &mut dyn ResidentRows,
    lie: &mut Option<Lie>,
    log: &Log,
) -> Result<(), HashError> {
    let note = |what| log.lock().unwrap().push(what);
    match call {
        RowsCall::Write(row, places, digests) => {
            let mut digests = digests.to_vec();
            match lie {
                Some(Lie::Write(0)) => {
                    digests[0].0[7] ^= 0x10;
                    *lie = None;
                }
                Some(Lie::Write(writes)) => *writes -= 1,
                _ => {}
            }
            return rows.write(*row, places, &digests);
        }
        RowsCall::Hash(..) => note('h'),
        RowsCall::Read(..) => note('r'),
        RowsCall::Flush => note('f'),
        RowsCall::Take(_) => note('t'),
        RowsCall::WriteRun(..) | RowsCall::Flip(..) => {}
    }
    call.run(rows)?;
    if let RowsCall::Take(out) = call {
        match lie {
            Some(Lie::Digest(digests)) if *digests < out.len() => {
                out[*digests].0[7] ^= 0x10;
                *lie = None;
            }
            Some(Lie::Digest(digests)) => *digests -= out.len(),
            Some(Lie::Reads(0)) => out[0].0[7] ^= 0x10,
            Some(Lie::Reads(reads)) => *reads -= 1,
            _ => {}
        }
    }
    Ok(())
}
