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

use crate::{
    backend::{Backend, Cost, Family, Measured, Opened, PlannedRange, Work},
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

pub(crate) const FAMILY: Family = Family { name: "auto", backends, open, automatic: false };

/// The choice of this process.
static CHOICE: LazyLock<Choice> = LazyLock::new(Choice::measured);

struct Choice {
    /// The device that is faster than the CPU from the lowest number of nodes on, and its name.
    device: Option<(String, Arc<dyn BatchHasher>, Thresholds)>,
    /// What was measured of all devices.
    measured: Vec<Measured>,
}

impl Choice {
    fn measured() -> Self {
        // A thread and a pool of their own: a worker of the caller's pool that waits here might
        // be given another task that asks for the choice.
        let measure = || {
            let pool = ThreadPoolBuilder::new().build().ok()?;
            let cpu = CpuHasher::with_pool(Arc::new(pool));
            let measured = |named| Candidate::measured(named, &cpu);
            Some(crate::devices().filter_map(measured).collect())
        };
        // Without a thread to spare there is nothing to choose: the CPU does it.
        let candidates = thread::scope(|scope| {
            thread::Builder::new().spawn_scoped(scope, measure).ok()?.join().ok().flatten()
        });
        Self::among(candidates.unwrap_or_default())
    }

    /// The fastest of those that are faster than the CPU at something.
    fn among(candidates: Vec<Candidate>) -> Self {
        let measured = candidates.iter().flat_map(Candidate::report).collect();
        let faster = candidates.into_iter().filter(|it| it.calibration.thresholds() != NEVER);
        let best = faster.min_by_key(|it| it.calibration.nodes.device.of(MANY));
        let device = best.map(|it| (it.name, it.device, it.calibration.thresholds()));
        Self { device, measured }
    }

    fn plan(&self) -> Vec<PlannedRange> {
        let range =
            |from: usize, to, backend: &str| PlannedRange { from, to, backend: backend.into() };
        match &self.device {
            Some((name, _, from)) if from.nodes <= 1 => vec![range(1, None, name)],
            Some((name, _, from)) if from.nodes < usize::MAX => {
                vec![range(1, Some(from.nodes - 1), crate::DEFAULT), range(from.nodes, None, name)]
            }
            _ => vec![range(1, None, crate::DEFAULT)],
        }
    }

    fn open(&self, tuning: Tuning) -> Arc<dyn BatchHasher> {
        let cpu = Arc::new(CpuHasher::new());
        match &self.device {
            None => cpu,
            Some((_, device, from)) => {
                let from = Thresholds { resident: tuning.resident_from.or(from.resident), ..*from };
                Arc::new(Guarded::new(Arc::clone(device), cpu, from, tuning.check_one_of))
            }
        }
    }
}

/// A device that was measured.
struct Candidate {
    name: String,
    device: Arc<dyn BatchHasher>,
    calibration: Calibration,
}

impl Candidate {
    fn measured(
        (name, device): (String, Arc<dyn BatchHasher>),
        cpu: &dyn BatchHasher,
    ) -> Option<Self> {
        match Calibration::measured(&*device, cpu) {
            Ok(calibration) => Some(Self { name, device, calibration }),
            Err(error) => {
                tracing::warn!(name, %error, "a device failed while it was measured");
                None
            }
        }
    }

    fn report(&self) -> impl Iterator<Item = Measured> {
        let Calibration { nodes, messages, pages } = self.calibration;
        let all =
            [(Work::Nodes, Some(nodes)), (Work::Messages, Some(messages)), (Work::Pages, pages)];
        all.into_iter().filter_map(|(work, lines)| {
            let lines = lines?;
            Some(Measured {
                backend: self.name.clone(),
                work,
                device: lines.device.cost(),
                cpu: lines.cpu.cost(),
                faster_from: Some(lines.faster_from()).filter(|&from| from != usize::MAX),
            })
        })
    }
}

fn backends() -> Vec<Backend> {
    vec![Backend {
        plan: CHOICE.plan(),
        measured: CHOICE.measured.clone(),
        ..Backend::new(FAMILY.name, "the CPU, or a device where it is faster")
    }]
}

/// The choice of this process, for a device used as `tuning` says.
pub(crate) fn chosen(tuning: Tuning) -> Arc<dyn BatchHasher> {
    CHOICE.open(tuning)
}

fn open(which: Option<&str>, tuning: Tuning) -> Opened {
    match which {
        None => Ok(chosen(tuning)),
        Some(which) => Err(format!("{which:?} is no kind of choosing")),
    }
}

/// A device that is never faster.
const NEVER: Thresholds =
    Thresholds { nodes: usize::MAX, messages: usize::MAX, resident: Some(usize::MAX) };

/// The two batch sizes that tell what a call costs and what an item costs.
const FEW: usize = 1 << 10;
const MANY: usize = 1 << 16;
/// Bytes of a message: an entry with a short key and value.
const MESSAGE_BYTES: u32 = 150;

/// What was measured of a device and of the CPU, per item: nodes, messages, dirty pages.
#[derive(Clone, Copy)]
struct Calibration {
    nodes: Lines,
    messages: Lines,
    /// `None`: no rows stay on the device, or it has too little memory for them.
    pages: Option<Lines>,
}

#[derive(Clone, Copy)]
struct Lines {
    device: Line,
    cpu: Line,
}

impl Lines {
    fn measured(
        device: &dyn BatchHasher,
        cpu: &dyn BatchHasher,
        mut run: impl FnMut(&dyn BatchHasher, usize) -> Result<(), HashError>,
    ) -> Result<Self, HashError> {
        let cpu = Line::measured(|n| run(cpu, n))?;
        let device = Line::measured(|n| run(device, n))?;
        Ok(Self { device, cpu })
    }

    fn faster_from(self) -> usize {
        self.device.faster_from(self.cpu)
    }
}

impl Calibration {
    fn measured(device: &dyn BatchHasher, cpu: &dyn BatchHasher) -> Result<Self, HashError> {
        let children = vec![Digest([0x5a; 32]); 2 * MANY];
        let mut out = vec![Digest::ZERO; MANY];
        let nodes = Lines::measured(device, cpu, |hasher, n| {
            let (children, out) = (&children[..2 * n], &mut out[..n]);
            hasher.pairs(0, &mut [PairGroup { children, out }])
        })?;

        let arena = vec![0xa5; MANY * MESSAGE_BYTES as usize + MESSAGE_SLACK];
        let spans = (0..MANY as u32)
            .map(|i| Span { offset: MESSAGE_BYTES * i, len: MESSAGE_BYTES })
            .collect::<Vec<_>>();
        let messages = Lines::measured(device, cpu, |hasher, n| {
            let (spans, out) = (&spans[..n], &mut out[..n]);
            hasher.messages(&mut [MessageGroup { arena: &arena, spans, out }])
        })?;

        // Above a dirty page there are two dirty nodes, all levels together.
        let cpu = Line { item_picoseconds: 2 * nodes.cpu.item_picoseconds, ..nodes.cpu };
        let pages = match device.residency().map(resident) {
            Some(Ok(device)) => Some(Lines { device, cpu }),
            // Too little memory for rows is no reason against batches.
            Some(Err(HashError::DoesNotFit { .. })) | None => None,
            Some(Err(error)) => return Err(error),
        };
        Ok(Self { nodes, messages, pages })
    }

    /// From where on the device is faster than the CPU.
    fn thresholds(&self) -> Thresholds {
        Thresholds {
            nodes: self.nodes.faster_from(),
            messages: self.messages.faster_from(),
            resident: Some(self.pages.map_or(usize::MAX, Lines::faster_from)),
        }
    }
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

    fn cost(self) -> Cost {
        Cost { call: self.call, item_nanoseconds: self.item_picoseconds as f64 / 1000.0 }
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
    use hedgerow_hasher_api::ScalarHasher;

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

    fn candidate(name: &str, nodes: Line, messages: Line) -> Candidate {
        let cpu = line(10, 20_000);
        let calibration = Calibration {
            nodes: Lines { device: nodes, cpu },
            messages: Lines { device: messages, cpu },
            pages: None,
        };
        Candidate { name: name.into(), device: Arc::new(ScalarHasher), calibration }
    }

    #[test]
    fn the_fastest_device_that_is_ever_faster_is_chosen_and_all_are_told() {
        let (never, early, late) = (line(0, 30_000), line(110, 10_000), line(410, 1000));
        let choice = Choice::among(vec![
            candidate("a", never, never),
            candidate("b", early, never),
            candidate("c", late, early),
        ]);
        let (name, _, from) = choice.device.as_ref().unwrap();
        assert_eq!((name.as_str(), from.nodes, from.messages), ("c", 21_053, 10_001));
        assert_eq!(from.resident, Some(usize::MAX));
        let range = |from, to, backend: &str| PlannedRange { from, to, backend: backend.into() };
        assert_eq!(choice.plan(), [range(1, Some(21_052), "cpu"), range(21_053, None, "c")]);
        let told = |it: &Measured| (it.backend.clone(), it.work, it.faster_from);
        let told: Vec<_> = choice.measured.iter().map(told).collect();
        let expected = [
            ("a", Work::Nodes, None),
            ("a", Work::Messages, None),
            ("b", Work::Nodes, Some(10_001)),
            ("b", Work::Messages, None),
            ("c", Work::Nodes, Some(21_053)),
            ("c", Work::Messages, Some(10_001)),
        ];
        assert_eq!(told, expected.map(|(name, work, from)| (name.to_owned(), work, from)));
        let Measured { device, cpu, .. } = &choice.measured[2];
        let cost = |micros, item_nanoseconds| Cost {
            call: Duration::from_micros(micros),
            item_nanoseconds,
        };
        assert_eq!((*device, *cpu), (cost(110, 10.0), cost(10, 20.0)));
        assert_eq!(choice.open(Tuning::default()).capabilities().name, "scalar");

        let choice = Choice::among(vec![candidate("a", never, never)]);
        assert_eq!((choice.plan(), choice.measured.len()), (vec![range(1, None, "cpu")], 2));
        assert_eq!(choice.open(Tuning::default()).capabilities().name, "cpu");
    }

    #[test]
    fn a_choice_is_made_whatever_there_is() {
        let hasher = crate::auto();
        let named = crate::by_name("auto").unwrap();
        assert_eq!(hasher.capabilities(), named.capabilities());
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
