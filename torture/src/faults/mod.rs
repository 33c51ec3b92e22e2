//! Every k-th call fails: one fixed scenario with all features, run again and again, each time with
//! another call of the disk failing in another way.
//!
//! ```text
//!   a store that has lived ► open ► blocks, read back ► close ► open ► all reads, check ► block ► close
//!   an empty disk          ► create ► block ► close
//!                                          ▲
//!                    call k fails: EIO, no space, refused; once, or it and all later ones
//! ```
//!
//! Whatever fails, a call of the store answers `Err` or the truth; after a failed write the store takes
//! no more blocks and still answers what it knew; and what opens afterwards, without the fault, is a
//! state with everything durable in it, from which the scenario ends at the same root.

pub mod command;
mod scenario;

pub use scenario::{Part, Scenario};

use crate::crash::Reach;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind};
use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds that are tried for each call. (Power loss at every call is what `crash` does.)
const KINDS: [FaultKind; 3] = [FaultKind::Eio, FaultKind::Full, FaultKind::Denied];

/// What one run of all calls came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Calls of each part that change the disk, and calls of every kind.
    pub calls: Vec<(Part, u64, u64)>,
    /// Runs of the scenario.
    pub runs: u64,
    /// What failed how often, and what came of it.
    pub reach: Reach,
    /// A line that replays the run, and what was wrong.
    pub failures: Vec<(String, String)>,
}

/// What must have failed at least once.
const WANTED: &[&str] = &[
    "full: manifest",
    "full: log",
    "full: twigs",
    "eio: log sync",
    "eio: manifest sync",
    "eio: log creation",
    "eio: directory sync",
    "eio: log removal",
    "eio: twigs removal",
    "denied: directory",
    "refused and taken again",
    "stopped, and still answered",
];

impl Summary {
    /// What never failed and should have in a run of all calls.
    pub fn missing(&self) -> Vec<&'static str> {
        WANTED.iter().filter(|what| self.reach.of(what) == 0).copied().collect()
    }
}

/// Runs the scenario for every `stride`-th call that changes the disk, and every `read_stride`-th
/// call of any kind, starting at number `first` of these, in all ways.
///
/// # Errors
/// If the scenario fails without a fault.
pub fn run(stride: u64, first: u64, read_stride: u64) -> Result<Summary, String> {
    let scenario = Scenario::new()?;
    let mut summary = Summary::default();
    let mut jobs: Vec<(Part, Fault)> = Vec::new();
    for part in Part::ALL {
        let trace = scenario.calls(part)?;
        summary.calls.push((part, trace.changes, trace.calls));
        for (calls, count, step) in
            [(Calls::Changes, trace.changes, stride), (Calls::All, trace.calls, read_stride)]
        {
            for (number, after) in (first % step..count).step_by(step as usize).enumerate() {
                for kind in KINDS {
                    let fault = if number % 3 == 2 { Fault::from_then_on } else { Fault::once };
                    jobs.push((part, fault(calls.clone(), after, kind)));
                }
            }
        }
    }
    let next = AtomicU64::new(0);
    let work = || {
        let (mut reach, mut failures, mut runs) = (Reach::default(), Vec::new(), 0);
        while let Some((part, fault)) = jobs.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
            runs += 1;
            if let Err(what) = scenario.run(*part, fault, &mut reach) {
                failures.push((replay_line(*part, fault), what));
            }
        }
        (reach, failures, runs)
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok((reach, failures, runs)) => {
                    summary.reach.merge(&reach);
                    summary.failures.extend(failures);
                    summary.runs += runs;
                }
                Err(_) => summary.failures.push(("unknown".into(), "a run panicked".into())),
            }
        }
    });
    Ok(summary)
}

fn replay_line(part: Part, fault: &Fault) -> String {
    let calls = if fault.calls == Calls::All { "all" } else { "changes" };
    let kind = KINDS.iter().position(|kind| *kind == fault.kind).unwrap_or(0);
    let on = if fault.times > 1 { ":on" } else { "" };
    format!("torture faults --replay {}:{calls}:{}:{kind}{on}", part.name(), fault.after)
}

/// Runs one job, as a line of a failure says it: `part:calls:after:kind[:on]`.
///
/// # Errors
/// What is wrong with the line, or with the store.
pub fn replay(line: &str) -> Result<(), String> {
    let unknown = || format!("{line:?} is not part:calls:after:kind[:on]");
    let fields: Vec<&str> = line.split(':').collect();
    let [part, calls, after, kind, rest @ ..] = &fields[..] else { return Err(unknown()) };
    let part = Part::ALL.into_iter().find(|known| known.name() == *part).ok_or_else(unknown)?;
    let calls = if *calls == "all" { Calls::All } else { Calls::Changes };
    let after = after.parse().map_err(|_| unknown())?;
    let kind = kind.parse::<usize>().ok().and_then(|kind| KINDS.get(kind)).ok_or_else(unknown)?;
    let fault = if rest == ["on"] { Fault::from_then_on } else { Fault::once };
    Scenario::new()?.run(part, &fault(calls, after, *kind), &mut Reach::default())
}
