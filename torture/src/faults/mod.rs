//! Every k-th call fails: one fixed scenario with all features, run again and again, each time with
//! another call of the disk failing in another way.
//!
//! ```text
//!   a store that has lived ► open ► blocks, read back ► close ► open ► all reads, check ► block ► close
//!   an empty disk          ► create ► block ► close
//!                                          ▲
//!                    call k fails: EIO, no space, refused; once, and with all later ones
//!                    of opens, syncs, renames ...: a signal came; of paths: not there
//! ```
//!
//! Whatever fails, a call of the store answers `Err` or the truth; after a failed write the store takes
//! no more blocks and still answers what it knew; and what opens afterwards, without the fault, is a
//! state with everything durable in it, from which the scenario ends at the same root.

pub mod command;
mod scenario;

pub use scenario::{Part, Scenario};

use crate::crash::Reach;
use hedgerow_vfs::VfsOp;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, Trace};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds that are tried for each call. (Power loss at every call is what `crash` does.)
const KINDS: [FaultKind; 3] = [FaultKind::Eio, FaultKind::Full, FaultKind::Denied];

/// What a signal can end. Reads and writes go on by themselves.
const INTERRUPTIBLE: [VfsOp; 11] = [
    VfsOp::Open,
    VfsOp::Create,
    VfsOp::CreateDirAll,
    VfsOp::ReadDir,
    VfsOp::RemoveFile,
    VfsOp::RemoveDirAll,
    VfsOp::Rename,
    VfsOp::LockDir,
    VfsOp::SyncDir,
    VfsOp::SetLen,
    VfsOp::Sync,
];

/// What can miss its path.
const BY_PATH: [VfsOp; 6] =
    [VfsOp::Open, VfsOp::Create, VfsOp::ReadDir, VfsOp::RemoveFile, VfsOp::Rename, VfsOp::SyncDir];

/// Calls of an operation that are all tried, whatever the stride: among so few each is another case.
const FEW: u64 = 16;

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
    "denied: lock",
    "interrupted: sync",
    "interrupted: directory sync",
    "interrupted: removal",
    "missing: log",
    "missing: manifest",
    "missing: twigs",
    "eio: manifest write",
    "eio: twigs sync",
    "eio: twigs write",
    "refused and taken again",
    "stopped, and still answered",
];

impl Summary {
    /// What never failed and should have in a run of all calls.
    pub fn missing(&self) -> Vec<&'static str> {
        WANTED.iter().filter(|what| self.reach.of(what) == 0).copied().collect()
    }
}

/// One run: a part, and what fails in it.
type Job = (Part, Fault);

/// What is tried in a part of which the disk sees this without a fault.
///
/// Of each call that is chosen: it fails once in each of the [`KINDS`], and once, in one of them, with
/// all later ones. Of the calls of an operation, each that is chosen is interrupted, or misses its path.
fn jobs(part: Part, trace: &Trace, strides: Strides) -> Vec<Job> {
    let chosen = |count: u64, stride: u64| (strides.first % stride..count).step_by(stride as usize);
    let mut jobs = Vec::new();
    for (calls, count, stride) in
        [(Calls::Changes, trace.changes, strides.changes), (Calls::All, trace.calls, strides.all)]
    {
        for after in chosen(count, stride) {
            jobs.extend(KINDS.map(|kind| (part, Fault::once(calls.clone(), after, kind))));
            let kind = KINDS[(after / stride % KINDS.len() as u64) as usize];
            jobs.push((part, Fault::from_then_on(calls.clone(), after, kind)));
        }
    }
    let by_op: [(FaultKind, &[VfsOp]); 2] =
        [(FaultKind::Interrupted, &INTERRUPTIBLE), (FaultKind::Missing, &BY_PATH)];
    for (kind, ops) in by_op {
        for &op in ops {
            let count = trace.by_op.get(&op).copied().unwrap_or(0);
            let calls = Calls::Of(op, String::new());
            let stride = match op.changes() {
                _ if count <= FEW => 1,
                true => strides.changes,
                false => strides.all,
            };
            for after in chosen(count, stride) {
                jobs.push((part, Fault::once(calls.clone(), after, kind)));
            }
        }
    }
    jobs
}

/// Which calls are tried.
#[derive(Clone, Copy, Debug)]
pub struct Strides {
    /// Of the calls that change the disk every so many.
    pub changes: u64,
    /// Of all calls every so many.
    pub all: u64,
    /// Number of the first.
    pub first: u64,
}

/// Runs the scenario again and again, each time with another fault.
///
/// # Errors
/// If the scenario fails without a fault.
pub fn run(strides: Strides) -> Result<Summary, String> {
    let Strides { changes, all, first } = strides;
    let strides = Strides { changes: changes.max(1), all: all.max(1), first };
    let scenario = Scenario::new()?;
    let mut summary = Summary::default();
    let mut all_jobs: Vec<Job> = Vec::new();
    for part in Part::ALL {
        let trace = scenario.calls(part)?;
        summary.calls.push((part, trace.changes, trace.calls));
        all_jobs.extend(jobs(part, &trace, strides));
    }
    let next = AtomicU64::new(0);
    let work = || {
        let (mut reach, mut failures, mut runs) = (Reach::default(), Vec::new(), 0);
        while let Some(job) = all_jobs.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
            let (part, fault) = job;
            runs += 1;
            if let Err(what) = guarded(&scenario, job, &mut reach) {
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

/// A run in which a panic is a failure like any other.
fn guarded(scenario: &Scenario, (part, fault): &Job, reach: &mut Reach) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| scenario.run(*part, fault, reach)))
        .unwrap_or_else(|_| Err("a panic".into()))
}

/// The kinds by name, as a replay line has them.
const NAMES: [(FaultKind, &str); 5] = [
    (FaultKind::Eio, "eio"),
    (FaultKind::Full, "full"),
    (FaultKind::Denied, "denied"),
    (FaultKind::Interrupted, "interrupted"),
    (FaultKind::Missing, "missing"),
];

fn replay_line(part: Part, fault: &Fault) -> String {
    let calls = match &fault.calls {
        Calls::All => "all".to_owned(),
        Calls::Of(op, _) => format!("{op:?}"),
        Calls::Changes | Calls::Point(_) => "changes".to_owned(),
    };
    let kind = NAMES.iter().find(|(kind, _)| *kind == fault.kind).map_or("", |(_, name)| name);
    let on = if fault.times > 1 { ":on" } else { "" };
    format!("torture faults --replay {}:{calls}:{}:{kind}{on}", part.name(), fault.after)
}

/// The job that a line of a failure says.
fn parse(line: &str) -> Option<Job> {
    let fields: Vec<&str> = line.split(':').collect();
    let [part, calls, after, kind, rest @ ..] = &fields[..] else { return None };
    let part = Part::ALL.into_iter().find(|known| known.name() == *part)?;
    let calls = match *calls {
        "all" => Calls::All,
        "changes" => Calls::Changes,
        name => {
            let mut ops = INTERRUPTIBLE.iter().chain(&BY_PATH);
            Calls::Of(*ops.find(|op| format!("{op:?}") == name)?, String::new())
        }
    };
    let (kind, _) = NAMES.iter().find(|(_, name)| name == kind)?;
    let fault = match rest {
        [] => Fault::once,
        ["on"] => Fault::from_then_on,
        _ => return None,
    };
    Some((part, fault(calls, after.parse().ok()?, *kind)))
}

/// Runs one job, as a line of a failure says it: `part:calls:after:kind[:on]`.
///
/// # Errors
/// What is wrong with the line, or with the store.
pub fn replay(line: &str) -> Result<(), String> {
    let job = parse(line).ok_or_else(|| format!("{line:?} is not part:calls:after:kind[:on]"))?;
    guarded(&Scenario::new()?, &job, &mut Reach::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every call fails once in every way, and some time with all later ones; every line that a
    /// failure prints is the job that failed.
    #[test]
    fn every_call_is_tried_and_every_job_can_be_replayed() {
        let mut trace = Trace { calls: 40, changes: 20, ..Trace::default() };
        for op in [VfsOp::Sync, VfsOp::Open, VfsOp::Rename] {
            trace.by_op.insert(op, 3);
        }
        let jobs = jobs(Part::Live, &trace, Strides { changes: 1, all: 1, first: 0 });
        for (calls, count) in [(Calls::Changes, 20), (Calls::All, 40)] {
            for after in 0..count {
                let of_call = |(_, fault): &&Job| fault.calls == calls && fault.after == after;
                let times = |kind| {
                    let of_kind = jobs.iter().filter(of_call).filter(|job| job.1.kind == kind);
                    of_kind.map(|job| job.1.times).collect::<Vec<_>>()
                };
                for kind in KINDS {
                    assert!(times(kind).contains(&1), "{calls:?} {after} {kind:?}");
                }
                assert!(KINDS.iter().any(|kind| times(*kind).contains(&u64::MAX)));
            }
        }
        let of = |kind| jobs.iter().filter(move |job| job.1.kind == kind).count();
        assert_eq!((of(FaultKind::Interrupted), of(FaultKind::Missing)), (9, 6));
        for (part, fault) in jobs {
            let line = replay_line(part, &fault);
            assert_eq!(parse(line.rsplit(' ').next().unwrap()), Some((part, fault)));
        }
        assert_eq!(parse("live:changes:1:eio:off"), None);
    }
}
