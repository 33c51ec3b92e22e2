//! Damage at rest: bytes flipped, sectors lost or exchanged, files cut, gone or misnamed.
//!
//! ```text
//!   specimen   a small store with everything in it, closed, or left by a process that was killed and
//!      │       with blocks that only the log has; its answers from the model
//!      │ copy: pages are shared
//!      ▼
//!   change     one damage           every byte of the segment headers, the manifest, the last two
//!      │                            blocks; every file missing, misnamed, twice; every page of an index
//!      │                            in files, and those files; and at random
//!      ▼
//!   probe      open ► get of every key ► iter ► history ► prove ► check ► close
//!      │
//!      ▼
//!   unaffected │ reported │ cut: last blocks gone as after a crash │ WRONG: an answer that is not the
//!              │          │                                        │ model's, nobody noticed
//! ```
//!
//! A panic, a hang, and more memory than a multiple of what the store's files have are failures too.
//! Panics inside the metadata engine are caught there and come back as errors: they are counted.

mod cases;
mod change;
pub mod command;
mod layout;
mod panics;
mod probe;
mod report;
mod specimen;

pub use change::Change;
pub use report::Report;

use cases::Case;
use hedgerow_testkit::Limit;
use panics::Panics;
use probe::{Verdict, probe};
use specimen::{Specimens, Which};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than any case takes, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(300);
/// Failures after which a run ends.
const MOST_FAILURES: usize = 10;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// Random damages.
    pub count: u64,
    /// Of what is to be flipped byte by byte, every this many bytes.
    pub stride: usize,
    /// How many cases run at once.
    pub workers: usize,
    /// Only what damages the files of an index.
    pub only_index: bool,
}

/// The allocator that counts, in programs that have one.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes in use now.
    pub now: fn() -> usize,
    /// Most bytes in use at once since the last reset.
    pub peak: fn() -> usize,
    /// Forgets the peak.
    pub reset: fn(),
}

impl Memory {
    /// Runs `work` and says how many bytes more than before were in use at once.
    fn most<T>(self, work: impl FnOnce() -> T) -> (T, usize) {
        (self.reset)();
        let before = (self.now)();
        let result = work();
        (result, (self.peak)().saturating_sub(before))
    }
}

/// Damages a store in all the ways of the plan.
///
/// # Errors
/// If the undamaged store cannot be made, or is not what it should be.
pub fn run(plan: Plan, memory: Memory) -> Result<Report, String> {
    let started = Instant::now();
    let panics = Panics::watch();
    let specimens = Specimens::make()?;
    let (mut one, mut size) = (0, 0);
    for specimen in specimens.all() {
        let (undamaged, most) = memory.most(|| probe(specimen, None, false, plan.seed));
        if undamaged != Verdict::Unaffected {
            return Err(format!("the undamaged store: {undamaged:?}"));
        }
        one = most.max(one);
        size = specimen.files.iter().map(|file| file.bytes.len()).sum::<usize>().max(size);
    }
    let mut cases = cases::all(&specimens, plan.seed, plan.count, plan.stride);
    if plan.only_index {
        cases.retain(|case| case.store == Which::Tiered);
    }
    (memory.reset)();
    let before = (memory.now)();
    // Twice what the undamaged store takes, and a copy of its files.
    let most = plan.workers * (2 * one + size);

    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let report = Mutex::new(Report::new(plan, size, one));
    let suspects = Mutex::new(Vec::new());
    let lock = || report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = || {
        while !stop.load(Ordering::SeqCst) {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(case) = cases.get(number) else { return };
            let verdict = in_a_thread(&specimens, case, plan.seed);
            let mut report = lock();
            report.note(number + 1, case, verdict);
            for panic in panics.take() {
                report.note_panic(number + 1, case, &panic);
            }
            let peak = (memory.peak)().saturating_sub(before);
            report.peak = report.peak.max(peak);
            if peak > most {
                // By this case or one beside it.
                suspects.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(number);
                (memory.reset)();
            }
            if report.failures.len() >= MOST_FAILURES {
                stop.store(true, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.workers.max(1) {
            scope.spawn(work);
        }
    });
    let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Alone, each takes what it takes.
    let mut alone = BTreeSet::new();
    for number in suspects.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        alone.extend(number.saturating_sub(plan.workers)..=number + plan.workers);
    }
    for number in alone {
        let Some(case) = cases.get(number) else { continue };
        let (_, most) = memory.most(|| in_a_thread(&specimens, case, plan.seed));
        if most > 2 * one + size {
            report.note_memory(number + 1, case, most);
        }
    }
    panics.take();
    report.time = started.elapsed();
    Ok(report)
}

/// Runs one case again, and says what came of it and how much memory it took.
///
/// # Errors
/// What was wrong.
fn replay(
    change: &Change,
    while_open: bool,
    must_report: bool,
    store: Which,
    seed: u64,
    memory: Memory,
) -> Result<String, String> {
    let panics = Panics::watch();
    let specimens = Specimens::make()?;
    let change = change.clone();
    let case = Case { class: "replayed".into(), change, while_open, must_report, store };
    let (verdict, most) = memory.most(|| in_a_thread(&specimens, &case, seed));
    let panics = panics.take();
    let text = format!("{verdict:?}, {most} bytes in use at once, panics: {panics:?}");
    let unnoticed = must_report && verdict == Verdict::Unaffected;
    let wrong = unnoticed
        || matches!(verdict, Verdict::Wrong(_))
        || panics.iter().any(|panic| !panic.in_redb);
    if wrong { Err(text) } else { Ok(text) }
}

/// In a thread with the case's name: what ends a hang says it.
fn in_a_thread(specimens: &Specimens, case: &Case, seed: u64) -> Verdict {
    let asked = std::thread::scope(|scope| {
        let body = || {
            let _limit = Limit::of(LIMIT);
            let specimen = specimens.of(case.store);
            probe(specimen, Some(&case.change), case.while_open, seed)
        };
        let name = case.command(seed);
        std::thread::Builder::new().name(name).spawn_scoped(scope, body).map(|thread| thread.join())
    });
    match asked {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => Verdict::Wrong("a panic".into()),
        Err(error) => Verdict::Wrong(format!("no thread: {error}")),
    }
}
