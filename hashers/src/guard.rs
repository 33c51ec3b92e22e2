//! A device that is not trusted: the CPU takes its place when it fails.
//!
//! ```text
//!  batch ── large enough? ── no ──────────────────────────────► CPU
//!              │ yes                                             ▲
//!              ▼                                                 │ the whole batch again
//!           device ── Err ───────────────────────────────► quarantine
//!              │ Ok                                              ▲
//!              ▼                                                 │
//!           one of n digests hashed again on the CPU ── differs ─┘
//!              │ equal
//!              ▼
//!            done
//! ```
//!
//! A device in quarantine is not asked again for the life of the backend; one that hangs gets there as
//! well, by the error of a wait that took too long. Rows that stay on the device
//! ([`Residency`]) are checked by the tree, which reports here.
//!
//! **Invariant:** as long as the CPU hashes right and wrong digests do not hide between the checked
//! ones, so does this backend; an error of the device is never an error of the caller.

use hedgerow_hasher_api::{
    BatchHasher, Capabilities, HashError, Health, IndexedPairGroup, LEFT_TREE_LEVELS,
    LeftTreeGroup, MessageGroup, PairGroup, Residency, ResidentRows, Span, hash_message, hash_node,
};
use hedgerow_types::Digest;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// One of so many digests of a device is checked if nobody says otherwise: a thousandth of the
/// CPU's work.
pub const CHECK_ONE_OF: u32 = 1000;

/// How a device is used, for those who know better than the defaults. None of it changes a digest.
///
/// ```
/// use hedgerow_hashers::{CHECK_ONE_OF, Tuning};
/// // For an option of a store, and `by_name_tuned`: every digest of the device is hashed again.
/// let careful = Tuning { check_one_of: 1, ..Tuning::default() };
/// assert!(careful.check_one_of < CHECK_ONE_OF);
/// assert_eq!(careful.resident_from, None);     // as measured
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// One of so many digests that come from a device is hashed again on the CPU, and a wrong one
    /// takes the device out of use; 0: none. Default [`CHECK_ONE_OF`].
    pub check_one_of: u32,
    /// Dirty pages of active bits from which a block's tree is hashed in rows that stay on the
    /// device. Default `None`: what was measured, or what the device says.
    pub resident_from: Option<usize>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { check_one_of: CHECK_ONE_OF, resident_from: None }
    }
}

/// Numbers of items from which a device is faster than the CPU, its transfers included.
///
/// ```
/// use hedgerow_hashers::Thresholds;
/// // Smaller batches of nodes stay on the CPU, all messages go to the device.
/// let from = Thresholds { nodes: 2_000, ..Thresholds::ALL };
/// assert_eq!((from.messages, from.resident), (0, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Nodes of a batch.
    pub nodes: usize,
    /// Messages of a batch.
    pub messages: usize,
    /// Dirty pages of a block whose rows are on the device; `None`: what the device says.
    pub resident: Option<usize>,
}

impl Thresholds {
    /// Everything goes to the device.
    pub const ALL: Self = Self { nodes: 0, messages: 0, resident: None };
}

#[derive(Debug, Default)]
struct Counters {
    device_batches: AtomicU64,
    cpu_batches: AtomicU64,
    resident_blocks: AtomicU64,
    checked: AtomicU64,
    failures: AtomicU64,
    /// Digests that came from the device: which of them are checked.
    seen: AtomicU64,
}

/// A backend on a device that is not trusted, and the CPU behind it. An error of the device or a wrong
/// digest in a sampled check puts it into quarantine for the life of the backend; the batch that it
/// failed at is hashed again on the CPU, as are all later ones.
///
/// ```
/// use hedgerow_hasher_api::PairGroup;
/// use hedgerow_hashers::{BatchHasher, Guarded, Thresholds, by_name};
/// use hedgerow_types::Digest;
/// let (device, cpu) = (by_name("scalar")?, by_name("cpu")?);   // a device of one's own, say
/// let hasher = Guarded::new(device, cpu, Thresholds::ALL, 1);
/// let mut out = [Digest::ZERO];
/// hasher.pairs(0, &mut [PairGroup { children: &[Digest::ZERO; 2], out: &mut out }])?;
/// let health = hasher.health();
/// assert_eq!((health.device_batches, health.checked, health.quarantined), (1, 1, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Guarded {
    device: Arc<dyn BatchHasher>,
    cpu: Arc<dyn BatchHasher>,
    from: Thresholds,
    check_one_of: u32,
    counters: Counters,
    quarantined: OnceLock<String>,
}

impl Guarded {
    /// `device` for batches from the thresholds on, `cpu` for the others and if it fails. One of
    /// `check_one_of` digests is checked, 0: none.
    pub fn new(
        device: Arc<dyn BatchHasher>,
        cpu: Arc<dyn BatchHasher>,
        from: Thresholds,
        check_one_of: u32,
    ) -> Self {
        let (counters, quarantined) = (Counters::default(), OnceLock::new());
        Self { device, cpu, from, check_one_of, counters, quarantined }
    }

    fn quarantine(&self, error: &HashError) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        if self.quarantined.set(error.to_string()).is_ok() {
            let device = self.device.capabilities();
            tracing::error!(
                backend = device.name,
                device = device.device,
                %error,
                "the device is out of use, the CPU hashes in its place"
            );
        }
    }

    /// Hashes a batch of `count` items on the device and checks it, or on the CPU.
    fn run<B: ?Sized>(
        &self,
        (count, from): (usize, usize),
        batch: &mut B,
        hash: impl Fn(&dyn BatchHasher, &mut B) -> Result<(), HashError>,
        check: impl FnOnce(&mut Check<'_>, &B),
    ) -> Result<(), HashError> {
        if count == 0 {
            return hash(&*self.cpu, batch);
        }
        if count >= from && self.quarantined.get().is_none() {
            match hash(&*self.device, batch) {
                Ok(()) => {
                    let mut checking = Check { guard: self, wrong: false };
                    check(&mut checking, batch);
                    if !checking.wrong {
                        self.counters.device_batches.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    self.quarantine(&HashError::Device {
                        backend: self.device.capabilities().name,
                        reason: "a digest differs from the CPU's".into(),
                    });
                }
                // The caller's mistake, unless the CPU sees none.
                Err(error @ HashError::Shape(_)) => {
                    self.counters.cpu_batches.fetch_add(1, Ordering::Relaxed);
                    hash(&*self.cpu, batch)?;
                    self.quarantine(&error);
                    return Ok(());
                }
                Err(error) => self.quarantine(&error),
            }
        }
        self.counters.cpu_batches.fetch_add(1, Ordering::Relaxed);
        hash(&*self.cpu, batch)
    }
}

/// The check of one batch.
struct Check<'a> {
    guard: &'a Guarded,
    wrong: bool,
}

impl Check<'_> {
    /// Which of the next `count` digests are checked.
    fn chosen(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let one_of = u64::from(self.guard.check_one_of);
        let seen = &self.guard.counters.seen;
        let before = if one_of == 0 { 0 } else { seen.fetch_add(count as u64, Ordering::Relaxed) };
        // The digests whose number is a multiple of `one_of`.
        let first = before
            .checked_next_multiple_of(one_of)
            .map_or(usize::MAX, |next| (next - before) as usize);
        (first..count).step_by((one_of as usize).max(1))
    }

    /// Compares the chosen of `count` digests: `pair` gives the device's and the right one.
    fn digests(&mut self, count: usize, pair: impl Fn(usize) -> Option<(Digest, Digest)>) {
        for i in self.chosen(count) {
            self.guard.counters.checked.fetch_add(1, Ordering::Relaxed);
            self.wrong |= pair(i).is_none_or(|(device, right)| device != right);
        }
    }

    fn nodes(&mut self, level: u8, children: &[Digest], out: &[Digest]) {
        self.digests(out.len(), |i| Some((*out.get(i)?, node(level, children, i)?)));
    }
}

/// The parent with this number.
fn node(level: u8, children: &[Digest], parent: usize) -> Option<Digest> {
    let [left, right] = children.as_chunks().0.get(parent)?;
    Some(hash_node(level, left, right))
}

fn message(arena: &[u8], span: &Span) -> Option<Digest> {
    Some(hash_message(span.of(arena)?))
}

impl BatchHasher for Guarded {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.device.capabilities();
        if let Some(reason) = self.quarantined.get() {
            capabilities.device = format!("{} (in quarantine: {reason})", capabilities.device);
        }
        capabilities
    }

    fn health(&self) -> Health {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Health {
            device_batches: count(&self.counters.device_batches),
            cpu_batches: count(&self.counters.cpu_batches),
            resident_blocks: count(&self.counters.resident_blocks),
            checked: count(&self.counters.checked),
            failures: count(&self.counters.failures),
            quarantined: self.quarantined.get().cloned(),
        }
    }

    fn residency(&self) -> Option<&dyn Residency> {
        self.device.residency().filter(|_| self.quarantined.get().is_none())?;
        Some(self)
    }

    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        let count = groups.iter().map(|group| group.spans.len()).sum();
        self.run(
            (count, self.from.messages),
            groups,
            |hasher, groups| hasher.messages(groups),
            |check, groups| {
                for MessageGroup { arena, spans, out } in groups {
                    check.digests(out.len(), |i| {
                        Some((*out.get(i)?, message(arena, spans.get(i)?)?))
                    });
                }
            },
        )
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        let count = groups.iter().map(|group| group.out.len()).sum();
        self.run(
            (count, self.from.nodes),
            groups,
            |hasher, groups| hasher.pairs(level, groups),
            |check, groups| {
                groups.iter().for_each(|group| check.nodes(level, group.children, group.out));
            },
        )
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        let count = groups.iter().map(|group| group.parents.len()).sum();
        self.run(
            (count, self.from.nodes),
            groups,
            |hasher, groups| hasher.indexed_pairs(level, groups),
            |check, groups| {
                for IndexedPairGroup { children, parents, out } in groups {
                    check.digests(parents.len(), |i| {
                        let parent = *parents.get(i)? as usize;
                        Some((*out.get(parent)?, node(level, children, parent)?))
                    });
                }
            },
        )
    }

    fn left_trees(&self, groups: &mut [LeftTreeGroup<'_>]) -> Result<(), HashError> {
        // Of a malformed group any number will do: it is refused before anything is hashed.
        let count = groups.iter().map(LeftTreeGroup::nodes).fold(0, usize::saturating_add);
        self.run(
            (count, self.from.nodes),
            groups,
            |hasher, groups| hasher.left_trees(groups),
            |check, groups| {
                for group in groups {
                    for level in 0..LEFT_TREE_LEVELS {
                        let parents = group.changed_at(level + 1);
                        let out = group.levels[level].get(parents).unwrap_or_default();
                        check.nodes(level as u8, group.children_at(level), out);
                    }
                }
            },
        )
    }
}

impl Residency for Guarded {
    fn id(&self) -> u64 {
        self.device.residency().map_or(u64::MAX, Residency::id)
    }

    fn worth_from(&self) -> usize {
        let device = self.device.residency().map_or(usize::MAX, Residency::worth_from);
        self.from.resident.unwrap_or(device)
    }

    fn check_one_of(&self) -> u32 {
        self.check_one_of
    }

    fn open(&self, lens: &[u32]) -> Result<Box<dyn ResidentRows>, HashError> {
        match self.device.residency() {
            Some(device) => device.open(lens),
            None => Err(HashError::Shape("the device keeps no rows")),
        }
    }

    fn condemn(&self, error: &HashError) {
        if let HashError::DoesNotFit { .. } = error {
            tracing::warn!(%error, "the tree's rows do not stay on the device");
        } else {
            self.quarantine(error);
        }
    }

    fn hashed(&self, checked: u64) {
        self.counters.resident_blocks.fetch_add(1, Ordering::Relaxed);
        self.counters.checked.fetch_add(checked, Ordering::Relaxed);
    }
}
