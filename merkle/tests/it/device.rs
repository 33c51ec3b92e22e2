//! Backends with rows, for tests: healthy ones, and one that lies or fails when told to.

use hedgerow_hasher_api::{
    BatchHasher, Capabilities, HashError, IndexedPairGroup, LeftTreeGroup, MessageGroup, PairGroup,
    Residency, ResidentRows, ScalarHasher, Target,
    device::{DeviceHasher, HostDevice, Limits},
};
use hedgerow_types::Digest;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const ROOMY: Limits = Limits { buffer_bytes: 1 << 30, max_count: u32::MAX };
/// Rows fit, but every list of places is cut.
const CUT: Limits = Limits { buffer_bytes: 1 << 30, max_count: 37 };
/// No rows fit.
const SMALL: Limits = Limits { buffer_bytes: Limits::LEAST_BUFFER, max_count: 1000 };

fn device(limits: Limits, from: usize) -> DeviceHasher<HostDevice> {
    DeviceHasher::new(HostDevice::new(limits)).unwrap().resident_from(from)
}

/// Number of backends that [`hasher`] knows.
pub(crate) const HASHERS: usize = 5;

/// The CPU, a device for all blocks, one for large blocks only, one whose calls are cut, one that
/// cannot keep rows.
pub(crate) fn hasher(which: usize) -> Box<dyn BatchHasher> {
    match which {
        0 => Box::new(ScalarHasher),
        1 => Box::new(Healthy(Watched::on(device(ROOMY, 0), 0))),
        2 => Box::new(Healthy(Watched::on(device(ROOMY, 0), 20))),
        3 => Box::new(Healthy(Watched::on(device(CUT, 0), 1))),
        _ => Box::new(Healthy(Watched::on(device(SMALL, 0), 0))),
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

/// What a device that may lie, fail or be of little worth says and hears.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: DeviceHasher<HostDevice>,
    check_one_of: u32,
    /// Dirty nodes from which it is worth its while; may change between blocks.
    pub(crate) worth_from: AtomicUsize,
    lie: Option<Lie>,
    opened: AtomicUsize,
    condemned: AtomicUsize,
    pub(crate) checked: AtomicU64,
    pub(crate) id: AtomicU64,
    pub(crate) log: Log,
}

/// What was asked of rows: `hash`, `read`, `flush` and `take`, by their first letters.
pub(crate) type Log = Arc<Mutex<String>>;

impl Watched {
    fn on(inner: DeviceHasher<HostDevice>, worth_from: usize) -> Self {
        Self { inner, worth_from: AtomicUsize::new(worth_from), ..Self::new(0, None) }
    }

    pub(crate) fn new(check_one_of: u32, lie: Option<Lie>) -> Self {
        Self {
            inner: device(ROOMY, 0),
            check_one_of,
            worth_from: AtomicUsize::new(0),
            lie,
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
}

impl BatchHasher for Watched {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn residency(&self) -> Option<&dyn Residency> {
        Some(self)
    }

    // Only the rows are the device's, so that its calls are theirs.
    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        ScalarHasher.messages(groups)
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        ScalarHasher.pairs(level, groups)
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        ScalarHasher.indexed_pairs(level, groups)
    }
}

impl Residency for Watched {
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
        Ok(Box::new(LyingRows { rows, lie: self.lie, log: Arc::clone(&self.log) }))
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

/// A device that must not have given an error when it is no longer needed.
#[derive(Debug)]
struct Healthy(Watched);

impl Drop for Healthy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.0.condemned(), 0, "the CPU hid an error of the rows");
        }
    }
}

impl BatchHasher for Healthy {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn residency(&self) -> Option<&dyn Residency> {
        self.0.residency()
    }

    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        self.0.inner.messages(groups)
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        self.0.inner.pairs(level, groups)
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        self.0.inner.indexed_pairs(level, groups)
    }

    fn left_trees(&self, groups: &mut [LeftTreeGroup<'_>]) -> Result<(), HashError> {
        self.0.inner.left_trees(groups)
    }
}

#[derive(Debug)]
struct LyingRows {
    rows: Box<dyn ResidentRows>,
    lie: Option<Lie>,
    log: Log,
}

impl LyingRows {
    fn note(&self, what: char) {
        self.log.lock().unwrap().push(what);
    }
}

impl ResidentRows for LyingRows {
    fn write_run(&mut self, row: usize, first: u32, digests: &[Digest]) -> Result<(), HashError> {
        self.rows.write_run(row, first, digests)
    }

    fn write(&mut self, row: usize, places: &[u32], digests: &[Digest]) -> Result<(), HashError> {
        let mut digests = digests.to_vec();
        match &mut self.lie {
            Some(Lie::Write(0)) => {
                digests[0].0[7] ^= 0x10;
                self.lie = None;
            }
            Some(Lie::Write(writes)) => *writes -= 1,
            _ => {}
        }
        self.rows.write(row, places, &digests)
    }

    fn flip(&mut self, row: usize, flips: &[(u32, u32)]) -> Result<(), HashError> {
        self.rows.flip(row, flips)
    }

    fn hash(
        &mut self,
        level: u8,
        children: usize,
        parents: &[u32],
        to: Target,
    ) -> Result<(), HashError> {
        self.note('h');
        self.rows.hash(level, children, parents, to)
    }

    fn read(&mut self, row: usize, places: &[u32]) -> Result<(), HashError> {
        self.note('r');
        self.rows.read(row, places)
    }

    fn flush(&mut self) -> Result<(), HashError> {
        self.note('f');
        self.rows.flush()
    }

    fn take(&mut self, out: &mut [Digest]) -> Result<(), HashError> {
        self.note('t');
        self.rows.take(out)?;
        match &mut self.lie {
            Some(Lie::Digest(digests)) if *digests < out.len() => {
                out[*digests].0[7] ^= 0x10;
                self.lie = None;
            }
            Some(Lie::Digest(digests)) => *digests -= out.len(),
            Some(Lie::Reads(0)) => out[0].0[7] ^= 0x10,
            Some(Lie::Reads(reads)) => *reads -= 1,
            _ => {}
        }
        Ok(())
    }
}
