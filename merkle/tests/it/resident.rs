//! Rows on a device: the same nodes as on the CPU, whatever the device does.

use crate::world::{Change, apply, apply_announcing, apply_with, shard};
use hedgerow_hasher_api::{
    BatchHasher, Capabilities, HashError, IndexedPairGroup, LeftTreeGroup, MessageGroup, PairGroup,
    Residency, ResidentRows, ScalarHasher, Target,
    device::{DeviceHasher, Failure, HostDevice, Limits},
};
use hedgerow_merkle::{Forest, MerkleError, ShardRestore};
use hedgerow_types::{Digest, SHARDS, SerialNumber, TwigId};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
enum Lie {
    /// In this read and all later ones.
    Reads(usize),
    /// In this write.
    Write(usize),
}

/// What a device that may lie, fail or be of little worth says and hears.
#[derive(Debug)]
struct Watched {
    inner: DeviceHasher<HostDevice>,
    check_one_of: u32,
    /// Dirty nodes from which it is worth its while; may change between blocks.
    worth_from: AtomicUsize,
    lie: Option<Lie>,
    opened: AtomicUsize,
    condemned: AtomicUsize,
    id: AtomicU64,
}

impl Watched {
    fn on(inner: DeviceHasher<HostDevice>, worth_from: usize) -> Self {
        Self { inner, worth_from: AtomicUsize::new(worth_from), ..Self::new(0, None) }
    }

    fn new(check_one_of: u32, lie: Option<Lie>) -> Self {
        Self {
            inner: device(ROOMY, 0),
            check_one_of,
            worth_from: AtomicUsize::new(0),
            lie,
            opened: AtomicUsize::new(0),
            condemned: AtomicUsize::new(0),
            id: AtomicU64::new(1 << 40),
        }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    fn condemned(&self) -> usize {
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
        Ok(Box::new(LyingRows { rows, lie: self.lie }))
    }

    fn condemn(&self, error: &HashError) {
        if !matches!(error, HashError::DoesNotFit { .. }) {
            self.condemned.fetch_add(1, Ordering::Relaxed);
        }
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
        self.rows.hash(level, children, parents, to)
    }

    fn read(&mut self, row: usize, places: &[u32]) -> Result<(), HashError> {
        self.rows.read(row, places)
    }

    fn flush(&mut self) -> Result<(), HashError> {
        self.rows.flush()
    }

    fn take(&mut self, out: &mut [Digest]) -> Result<(), HashError> {
        self.rows.take(out)?;
        match &mut self.lie {
            Some(Lie::Reads(0)) => out[0].0[7] ^= 0x10,
            Some(Lie::Reads(reads)) => *reads -= 1,
            _ => {}
        }
        Ok(())
    }
}

/// A forest whose shards 2 and 9 have many twigs, all of them active.
fn forest(first_kept: u64, twigs: u64) -> Forest {
    let mut parts: [ShardRestore; SHARDS] = std::array::from_fn(|_| ShardRestore {
        active_pages: vec![Digest::ZERO; 8],
        ..ShardRestore::default()
    });
    for i in [2, 9] {
        let levels = 64 - first_kept.leading_zeros();
        parts[i] = ShardRestore {
            first_kept: TwigId(first_kept),
            edges: (0..levels)
                .filter(|row| first_kept >> row & 1 == 1)
                .map(|row| (12 + row as u8, Digest([row as u8; 32])))
                .collect(),
            left_roots: (1..twigs).map(|twig| Digest([twig as u8; 32])).collect(),
            first_active: TwigId(first_kept),
            active_pages: (0..8 * (twigs - 1))
                .map(|page| Digest([page as u8 | 1; 32]))
                .chain([Digest::ZERO; 8])
                .collect(),
            youngest_leaves: vec![],
            oldest_active: TwigId(first_kept).first(),
        };
    }
    Forest::restore(&ScalarHasher, parts).unwrap()
}

/// A block that appends to shard 2 and deactivates an entry of every `step`-th page of shard 9.
fn block(forest: &Forest, appends: u64, step: u64) -> [Change; SHARDS] {
    let mut changes: [Change; SHARDS] = Default::default();
    for (i, change) in changes.iter_mut().enumerate() {
        change.oldest_active = forest.oldest_active(shard(i));
    }
    for n in 0..appends {
        changes[2].push(&(forest.next_sn(shard(2)).0 + n).to_le_bytes());
    }
    let pages = (forest.oldest_active(shard(9)).0..forest.next_sn(shard(9)).0).step_by(256);
    for page in pages.step_by(step as usize) {
        let entries = (page..page + 256).map(SerialNumber);
        // Two of a word, if there are.
        let active = entries.filter(|&sn| forest.is_active(shard(9), sn)).take(2);
        changes[9].deactivated.extend(active);
    }
    changes
}

#[test]
fn rows_follow_a_growing_forest_around_their_ring() {
    // Node indexes far beyond the ring's length, at all places of it.
    for first_kept in [0, 77, 128, 1000, (1 << 39) + 11] {
        let device = Watched::new(1, None);
        let mut ours = forest(first_kept, 70);
        let mut plain = ours.clone();
        for round in 0..12 {
            let changes = block(&ours, 9 * 2048 + 100 * round, 1 + round % 5);
            let applied = apply_with(&device, &mut ours, &changes).unwrap();
            assert_eq!(applied.roots, apply(&mut plain, &changes).unwrap().roots, "{round}");
            assert!(ours == plain, "round {round}");
            if round == 5 {
                let oldest = forest_oldest(&mut ours, &mut plain, 40);
                for forest in [&mut ours, &mut plain] {
                    forest.prune(shard(2), TwigId(oldest)).unwrap();
                }
            }
        }
        assert_eq!(device.condemned(), 0);
        // At first, when the ring is full, and after a block of another backend.
        assert_eq!(device.opened(), 3);
    }
}

/// Deactivates the oldest `twigs` twigs of shard 2 in both forests; returns the first active one.
fn forest_oldest(ours: &mut Forest, plain: &mut Forest, twigs: u64) -> u64 {
    let mut changes = block(ours, 0, u64::MAX);
    changes[9].deactivated.clear();
    let first = ours.oldest_active(shard(2)).0;
    let end = first + 2048 * twigs;
    let active = (first..end).map(SerialNumber).filter(|&sn| ours.is_active(shard(2), sn));
    changes[2].deactivated = active.collect();
    changes[2].oldest_active = SerialNumber(end);
    apply(plain, &changes).unwrap();
    // On the CPU: the device hears of it with the next block, or is loaded anew.
    apply(ours, &changes).unwrap();
    end / 2048
}

#[test]
fn small_blocks_stay_on_the_cpu_and_the_device_catches_up() {
    let device = Watched::new(1, None);
    let mut ours = forest(5, 100);
    let mut plain = ours.clone();
    for round in 0..10_usize {
        // Two small blocks after every large one.
        device.worth_from.store(if round % 3 == 0 { 0 } else { usize::MAX }, Ordering::Relaxed);
        let calls = device.inner.device().calls();
        let changes = block(&ours, 700, 3);
        apply_with(&device, &mut ours, &changes).unwrap();
        apply(&mut plain, &changes).unwrap();
        assert!(ours == plain, "round {round}");
        assert_eq!(device.inner.device().calls() > calls, round % 3 == 0, "round {round}");
    }
    assert_eq!((device.opened(), device.condemned()), (1, 0));
}

#[test]
fn a_device_that_fails_at_any_call_costs_no_root() {
    let start = forest(5, 70);
    let mut plain = start.clone();
    let blocks: Vec<_> = (0..2)
        .map(|round| {
            let changes = block(&plain, 600, 2 + round);
            apply(&mut plain, &changes).unwrap();
            changes
        })
        .collect();
    for failure in [Failure::Once, Failure::Lost] {
        let mut failed_after_root = 0;
        for call in 0.. {
            let device = Watched::new(7, None);
            device.inner.device().fail_at(call, failure);
            let mut ours = start.clone();
            for changes in &blocks {
                let mut announced = vec![];
                let applied = apply_announcing(&device, &mut ours, changes, &mut |roots| {
                    announced.push((roots.clone(), device.condemned()));
                });
                let roots = applied.unwrap().roots;
                let [(early, condemned)] = &announced[..] else { panic!("{announced:?}") };
                assert_eq!(early, &roots, "call {call}");
                failed_after_root += device.condemned() - condemned;
            }
            assert!(ours == plain, "call {call}");
            if device.inner.device().failure_pending() {
                assert!(call > 60, "{call} calls");
                assert_eq!(device.condemned(), 0);
                break;
            }
            // Made once, asked no more.
            assert_eq!(device.opened(), 1);
        }
        // The rows of two blocks, of which those that a root needs came before.
        assert!(failed_after_root >= 10, "{failed_after_root}");
    }
}

#[test]
fn a_wrong_digest_is_found_and_costs_no_root() {
    let start = forest(5, 70);
    let changes = block(&start, 600, 1);
    let mut plain = start.clone();
    apply(&mut plain, &changes).unwrap();
    // Two reads for the samples of every step, then the nodes of every step.
    let reads = (0..).map(Lie::Reads).take_while(|&lie| {
        let device = Watched::new(1, Some(lie));
        let mut ours = start.clone();
        let mut early = None;
        let announce = &mut |roots: &_| early = Some(Clone::clone(roots));
        apply_announcing(&device, &mut ours, &changes, announce).unwrap();
        assert_eq!(early.as_ref(), Some(plain.roots()), "{lie:?}");
        assert!(ours == plain, "{lie:?}");
        // Another device is given a chance.
        device.id.fetch_add(1, Ordering::Relaxed);
        let changes = block(&ours, 10, 1);
        apply_with(&device, &mut ours, &changes).unwrap();
        assert_eq!(device.opened(), 2);
        device.condemned() > 0
    });
    assert!(reads.count() >= 15);
    // Nobody looks: the wrong root shows that the device was believed.
    let device = Watched::new(0, Some(Lie::Reads(0)));
    let mut ours = start.clone();
    let applied = apply_with(&device, &mut ours, &changes).unwrap();
    assert_ne!(&applied.roots, plain.roots());
}

/// What the device was sent arrived wrong: its nodes are hashed right, from wrong children.
#[test]
fn nodes_that_went_wrong_on_their_way_up_are_found() {
    let start = forest(5, 70);
    let writes = (0..).map(Lie::Write).take_while(|&lie| {
        let device = Watched::new(1, Some(lie));
        let mut ours = start.clone();
        let mut plain = start.clone();
        for round in 0..3 {
            let changes = block(&plain, 600, 1 + round);
            apply_with(&device, &mut ours, &changes).unwrap();
            apply(&mut plain, &changes).unwrap();
            assert!(ours == plain, "{lie:?} round {round}");
        }
        device.condemned() > 0
    });
    // New pages and left roots of the second and the third block.
    assert!(writes.count() >= 4);
}

/// The one way to a wrong root: nothing is checked, and the device fails when its root is known.
#[test]
fn a_wrong_root_that_was_announced_stops_the_forest() {
    let start = forest(5, 70);
    let changes = block(&start, 600, 1);
    let calls = {
        let device = Watched::new(0, Some(Lie::Reads(0)));
        apply_with(&device, &mut start.clone(), &changes).unwrap();
        device.inner.device().calls()
    };
    let device = Watched::new(0, Some(Lie::Reads(0)));
    device.inner.device().fail_at(calls - 1, Failure::Once);
    let mut ours = start.clone();
    let mut announced = vec![];
    let result =
        apply_announcing(&device, &mut ours, &changes, &mut |roots| announced.push(roots.state));
    let mut plain = start.clone();
    let right = apply(&mut plain, &changes).unwrap().roots.state;
    assert_eq!(announced.len(), 1);
    let wrong = MerkleError::WrongRoot { announced: announced[0], right };
    assert_eq!(result.unwrap_err(), wrong);
    assert_ne!(announced[0], right);
}

/// A forest that takes another's blocks by copying goes on with its own device.
#[test]
fn rows_follow_a_forest_that_copies_from_another() {
    let device = Watched::new(0, None);
    let mut ours = forest(5, 70);
    let mut plain = ours.clone();
    for round in 0..6 {
        let changes = block(&ours, 300, 2);
        let applied = apply(&mut plain, &changes).unwrap();
        if round % 2 == 0 {
            apply_with(&device, &mut ours, &changes).unwrap();
        } else {
            ours.copy_changes(&plain, &applied.dirty);
        }
        assert!(ours == plain, "round {round}");
    }
    assert_eq!((device.opened(), device.condemned()), (1, 0));
}

/// What has changed beyond a quarter of the pages is loaded anew.
#[test]
fn rows_that_fall_far_behind_are_dropped() {
    let device = Watched::new(1, None);
    let mut ours = forest(5, 70);
    let mut plain = ours.clone();
    for round in 0..6 {
        let large = round % 5 == 0;
        device.worth_from.store(if large { 0 } else { usize::MAX }, Ordering::Relaxed);
        let changes = block(&ours, 700, 1);
        apply_with(&device, &mut ours, &changes).unwrap();
        apply(&mut plain, &changes).unwrap();
        assert!(ours == plain, "round {round}");
    }
    assert_eq!((device.opened(), device.condemned()), (2, 0));
}
