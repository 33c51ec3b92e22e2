//! `auto`: the CPU, or a device for the batches that it was measured to hash faster.
//!
//! ```text
//!  ns   CPU    c n              ╱
//!                     ╱  ╱ device  a + d n: launches and transfers, then bandwidth
//!        ────────╱──╱
//!             ╱  ╱
//!           ╱  ^ from here on the device, if the CPU is slower per item (c > d)
//! ```
//!
//! The first use of a process measures every usable device, a fraction of a second each, and keeps
//! what it found. Without a usable device nothing is measured.

use super::{
    Backend, Family, Opened, PlannedRange,
    guard::{Guarded, Thresholds, Tuning},
};
use hedgerow_hasher_api::{
    BatchHasher, HashError, MESSAGE_SLACK, MessageGroup, PairGroup, Residency, Span, Target,
};
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_types::Digest;
use rayon::ThreadPoolBuilder;
use std::{
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

pub(super) const FAMILY: Family = Family { name: "auto", backends, open, automatic: false };

/// The choice of this process.
static CHOICE: LazyLock<Choice> = LazyLock::new(Choice::measured);

struct Choice {
    /// The device that is faster than the CPU from the lowest number of nodes on, and its name.
    device: Option<(String, Arc<dyn BatchHasher>, Thresholds)>,
}

impl Choice {
    fn measured() -> Self {
        // A thread and a pool of their own: a worker of the caller's pool that waits here might
        // be given another task that asks for the choice.
        let measure = || {
            let pool = ThreadPoolBuilder::new().build().ok()?;
            let cpu = CpuHasher::with_pool(Arc::new(pool));
            super::devices()
                .filter_map(|named| Candidate::measured(named, &cpu))
                .min_by_key(|candidate| candidate.many_nodes)
        };
        let best = thread::scope(|scope| scope.spawn(measure).join().ok().flatten());
        Self { device: best.map(|best| (best.name, best.device, best.from)) }
    }
}

/// A device that is faster than the CPU at something.
struct Candidate {
    name: String,
    device: Arc<dyn BatchHasher>,
    from: Thresholds,
    /// What it takes for [`MANY`] nodes.
    many_nodes: Duration,
}

impl Candidate {
    fn measured(
        (name, device): (String, Arc<dyn BatchHasher>),
        cpu: &dyn BatchHasher,
    ) -> Option<Self> {
        match thresholds(&*device, cpu) {
            Ok((from, many_nodes)) => {
                (from != NEVER).then_some(Self { name, device, from, many_nodes })
            }
            Err(error) => {
                tracing::warn!(name, %error, "a device failed while it was measured");
                None
            }
        }
    }
}

fn backends() -> Vec<Backend> {
    let mut auto = Backend::new(FAMILY.name, "the CPU, or a device where it is faster");
    let range = |from: usize, to, backend: &str| PlannedRange { from, to, backend: backend.into() };
    auto.plan = match &CHOICE.device {
        Some((name, _, from)) if from.nodes <= 1 => vec![range(1, None, name)],
        Some((name, _, from)) if from.nodes < usize::MAX => {
            vec![range(1, Some(from.nodes - 1), super::DEFAULT), range(from.nodes, None, name)]
        }
        _ => vec![range(1, None, super::DEFAULT)],
    };
    vec![auto]
}

fn open(which: Option<&str>, tuning: Tuning) -> Opened {
    if let Some(which) = which {
        return Err(format!("{which:?} is no kind of choosing"));
    }
    let cpu = Arc::new(CpuHasher::new());
    Ok(match &CHOICE.device {
        None => cpu,
        Some((_, device, from)) => {
            let from = Thresholds { resident: tuning.resident_from.or(from.resident), ..*from };
            Arc::new(Guarded::new(Arc::clone(device), cpu, from, tuning.check_one_of))
        }
    })
}

/// A device that is never faster.
const NEVER: Thresholds =
    Thresholds { nodes: usize::MAX, messages: usize::MAX, resident: Some(usize::MAX) };

/// The two batch sizes that tell what a call costs and what an item costs.
const FEW: usize = 1 << 10;
const MANY: usize = 1 << 16;
/// Bytes of a message: an entry with a short key and value.
const MESSAGE_BYTES: u32 = 150;

/// From where on `device` is faster than `cpu`, measured.
fn thresholds(
    device: &dyn BatchHasher,
    cpu: &dyn BatchHasher,
) -> Result<(Thresholds, Duration), HashError> {
    let children = vec![Digest([0x5a; 32]); 2 * MANY];
    let mut out = vec![Digest::ZERO; MANY];
    let mut nodes = |hasher: &dyn BatchHasher, n: usize| {
        let (children, out) = (&children[..2 * n], &mut out[..n]);
        hasher.pairs(0, &mut [PairGroup { children, out }])
    };
    let cpu_nodes = Line::measured(|n| nodes(cpu, n))?;
    let device_nodes = Line::measured(|n| nodes(device, n))?;

    let arena = vec![0xa5; MANY * MESSAGE_BYTES as usize + MESSAGE_SLACK];
    let spans: Vec<_> =
        (0..MANY as u32).map(|i| Span { offset: MESSAGE_BYTES * i, len: MESSAGE_BYTES }).collect();
    let mut out = vec![Digest::ZERO; MANY];
    let mut messages = |hasher: &dyn BatchHasher, n: usize| {
        let (spans, out) = (&spans[..n], &mut out[..n]);
        hasher.messages(&mut [MessageGroup { arena: &arena, spans, out }])
    };
    let cpu_messages = Line::measured(|n| messages(cpu, n))?;
    let device_messages = Line::measured(|n| messages(device, n))?;

    // Above a dirty page there are two dirty nodes, all levels together.
    let cpu_pages = Line { item_picoseconds: 2 * cpu_nodes.item_picoseconds, ..cpu_nodes };
    let resident = match device.residency() {
        Some(device) => match resident(device) {
            Ok(line) => line.faster_from(cpu_pages),
            // Too little memory for rows is no reason against batches.
            Err(HashError::DoesNotFit { .. }) => usize::MAX,
            Err(error) => return Err(error),
        },
        None => usize::MAX,
    };
    let from = Thresholds {
        nodes: device_nodes.faster_from(cpu_nodes),
        messages: device_messages.faster_from(cpu_messages),
        resident: Some(resident),
    };
    Ok((from, device_nodes.of(MANY)))
}

/// Levels of a block's tree that are hashed in rows, for measuring.
const LEVELS: usize = 12;

/// What a block costs in rows: dirty pages go up, every level above them is hashed and read back.
fn resident(device: &dyn Residency) -> Result<Line, HashError> {
    let lens: Vec<_> = (0..=LEVELS).map(|row| ((2 * MANY) >> row) as u32).collect();
    let mut rows = device.open(&lens)?;
    let pages = vec![Digest([0x5a; 32]); 2 * MANY];
    rows.write_run(0, 0, &pages)?;
    let places: Vec<_> = (0..MANY as u32).collect();
    let mut out = vec![Digest::ZERO; MANY];
    Line::measured(|n| {
        rows.write(0, &places[..n], &pages[..n])?;
        for row in 0..LEVELS {
            rows.hash(0, row, &places[..n >> row], Target::row(row + 1))?;
        }
        for row in 0..LEVELS {
            rows.read(row + 1, &places[..n >> row])?;
        }
        (0..LEVELS).try_for_each(|row| rows.take(&mut out[..n >> row]))
    })
}

/// Time as a function of the number of items.
#[derive(Clone, Copy, Debug)]
struct Line {
    call: Duration,
    item_picoseconds: u128,
}

impl Line {
    /// Through the fastest of some runs of [`FEW`] and of [`MANY`] items. The first run, which may
    /// compile kernels, does not count.
    fn measured(mut run: impl FnMut(usize) -> Result<(), HashError>) -> Result<Self, HashError> {
        run(FEW)?;
        let mut fastest = |items| {
            (0..4).try_fold(Duration::MAX, |fastest, _| {
                let start = Instant::now();
                run(items)?;
                Ok(fastest.min(start.elapsed()))
            })
        };
        let (few, many) = (fastest(FEW)?, fastest(MANY)?);
        Ok(Self::through(few, many))
    }

    fn through(few: Duration, many: Duration) -> Self {
        let item_picoseconds = many.saturating_sub(few).as_nanos() * 1000 / (MANY - FEW) as u128;
        let items = Duration::from_nanos((item_picoseconds * FEW as u128 / 1000) as u64);
        Self { call: few.saturating_sub(items), item_picoseconds }
    }

    fn of(self, items: usize) -> Duration {
        self.call + Duration::from_nanos((self.item_picoseconds * items as u128 / 1000) as u64)
    }

    /// The number of items from which this is faster than `other`; `usize::MAX`: none.
    fn faster_from(self, other: Self) -> usize {
        let Some(gain) = other.item_picoseconds.checked_sub(self.item_picoseconds) else {
            return usize::MAX;
        };
        let behind = self.call.saturating_sub(other.call).as_nanos() * 1000;
        match behind.checked_div(gain) {
            Some(items) => usize::try_from(items).map_or(usize::MAX, |items| items + 1),
            None => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(call_us: u64, item_picoseconds: u128) -> Line {
        Line { call: Duration::from_micros(call_us), item_picoseconds }
    }

    #[test]
    fn lines_cross_where_they_should() {
        let cpu = line(0, 20_000);
        assert_eq!(line(100, 10_000).faster_from(cpu), 10_001);
        assert_eq!(line(0, 10_000).faster_from(cpu), 1);
        assert_eq!(line(100, 20_000).faster_from(cpu), usize::MAX);
        assert_eq!(line(0, 30_000).faster_from(cpu), usize::MAX);
    }

    #[test]
    fn two_points_make_a_line() {
        let at = |n: usize| Duration::from_nanos(50_000 + 7 * n as u64);
        let line = Line::through(at(FEW), at(MANY));
        assert_eq!((line.call, line.item_picoseconds), (Duration::from_micros(50), 7000));
        // A disturbed measurement is no line, but no panic either.
        let line = Line::through(at(MANY), at(FEW));
        assert_eq!(line.item_picoseconds, 0);
    }

    #[test]
    fn a_choice_is_made_whatever_there_is() {
        let hasher = open(None, Tuning::default()).unwrap();
        let mut out = [Digest::ZERO];
        let children = [Digest([1; 32]), Digest([2; 32])];
        hasher.pairs(0, &mut [PairGroup { children: &children, out: &mut out }]).unwrap();
        assert_ne!(out[0], Digest::ZERO);
        assert!(open(Some("x"), Tuning::default()).is_err());
        let [auto] = &backends()[..] else { panic!("one backend") };
        assert_eq!(auto.plan[0].from, 1);
        assert_eq!(auto.plan.last().unwrap().to, None);
    }
}
