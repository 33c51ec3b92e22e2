//! What happened how often, and what must have happened at least once.

use hedgerow_vfs::VfsOp;
use hedgerow_vfs::power_loss::{Failed, FaultKind, Trace};
use std::collections::BTreeMap;
use std::fmt;

/// Counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    counts: BTreeMap<String, u64>,
}

/// Names of counters that other code asks for.
pub(super) const CYCLES: &str = "cycles";
pub(super) const TIERED_CYCLES: &str = "cycles with an index in files";

/// What a long run must have met, beside every named point.
const WANTED: &[&str] = &[
    "blocks",
    "blocks durable when the cycle ended",
    "blocks published and lost",
    "recovered: the durable height",
    "recovered: beyond the durable height",
    "several blocks under one sync",
    "opened again without power loss",
    "opened again after a sync that failed",
    "opening took blocks in again",
    "closed, then the power went",
    "crash while opening",
    "crash while creating",
    "crash inside a pruning",
    "crash inside a commit of the manifest's database",
    "crash after a new segment's creation, before its name was synced",
    "crash while a segment was removed",
    "crash with a torn last record",
    "recovered from a checkpoint",
    "recovered from the log",
    "crash while a checkpoint was written",
    "full: checkpoints",
    "recovered from a checkpoint that names files of the index",
    "crash while the index was written",
    "full: index",
    "rollbacks",
    "blocks taken back",
    "a rollback that failed: the lower height came back",
    "a rollback that failed: the height before it came back",
    "opening cut the log",
    "opening made twig records again",
    "pruned",
    "a store that failed still answered",
    "earlier heights: values",
    "earlier heights: proofs against their roots",
    "earlier heights: proofs of the past",
    "full: log",
    "full: manifest",
    "full: twigs",
    "eio: log sync",
    "eio: manifest sync",
    "eio: log write",
    "eio: manifest write",
    "eio: directory sync",
];

impl Reach {
    pub(crate) fn count(&mut self, what: impl Into<String>) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: impl Into<String>, times: u64) {
        if times > 0 {
            *self.counts.entry(what.into()).or_default() += times;
        }
    }

    pub(super) fn greatest(&mut self, what: &str, value: u64) {
        let held = self.counts.entry(format!("most {what}")).or_default();
        *held = value.max(*held);
    }

    /// How often `what` happened.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Cycles that were run.
    pub fn cycles(&self) -> u64 {
        self.of(CYCLES)
    }

    /// Cycles of these whose index was in files.
    pub fn tiered_cycles(&self) -> u64 {
        self.of(TIERED_CYCLES)
    }

    /// Adds what happened to `other`.
    pub fn merge(&mut self, other: &Self) {
        for (what, times) in &other.counts {
            if what.starts_with("most ") {
                let held = self.counts.entry(what.clone()).or_default();
                *held = (*times).max(*held);
            } else {
                self.add(what.clone(), *times);
            }
        }
    }

    /// What never happened and should have in a run of thousands of cycles.
    pub fn missing(&self) -> Vec<String> {
        let points = hedgerow::disk::POINTS.iter().map(|point| crash_at(point));
        let wanted = WANTED.iter().map(|&what| what.to_owned()).chain(points);
        wanted.filter(|what| self.of(what) == 0).collect()
    }

    /// Notes what a disk has seen in one life of the store.
    pub(crate) fn note_trace(&mut self, trace: &Trace) {
        self.add("calls", trace.calls);
        self.add("calls that changed the disk", trace.changes);
        self.add("calls failed", trace.failed.len() as u64);
        self.add("points reached", trace.points.values().sum());
        for failed in &trace.failed {
            self.note_failed(failed, trace);
        }
    }

    fn note_failed(&mut self, failed: &Failed, trace: &Trace) {
        let Failed { op, path, kind, point } = failed;
        let path = path.to_string_lossy();
        let part = ["log", "meta", "twigs", "checkpoints", "index"]
            .into_iter()
            .find(|part| path.ends_with(part) || path.contains(&format!("/{part}/")));
        if *op == VfsOp::Point {
            // What a point tells about where this happened, its own name says.
            self.count(crash_at(&path));
            self.note_crash(*op, None, &path, trace);
            return;
        }
        let part_name = match part {
            Some("meta") => "manifest",
            Some(part) => part,
            None => "directory",
        };
        let what = match op {
            VfsOp::Sync => "sync",
            VfsOp::Write => "write",
            VfsOp::SetLen => "length",
            VfsOp::SyncDir => "directory sync",
            VfsOp::Create => "creation",
            VfsOp::RemoveFile => "removal",
            _ => "other call",
        };
        match kind {
            FaultKind::Full => self.count(format!("full: {part_name}")),
            FaultKind::Eio => {
                self.count(format!("eio: {part_name} {what}"));
                if *op == VfsOp::SyncDir {
                    self.count("eio: directory sync");
                }
            }
            FaultKind::Denied if *op == VfsOp::LockDir => self.count("denied: lock"),
            FaultKind::Denied => self.count(format!("denied: {part_name}")),
            FaultKind::Interrupted => self.count(format!("interrupted: {what}")),
            FaultKind::Missing => self.count(format!("missing: {part_name}")),
            FaultKind::PowerOff => {
                self.count(format!("power off: {part_name} {what}"));
                self.note_crash(*op, part, point.as_deref().unwrap_or(""), trace);
            }
        }
    }

    fn note_crash(&mut self, op: VfsOp, part: Option<&str>, point: &str, trace: &Trace) {
        if point.starts_with("create") {
            self.count("crash while creating");
        }
        if point.starts_with("open") && point != "open: done" {
            self.count("crash while opening");
        }
        if point.starts_with("prune") && point != "prune: done" {
            self.count("crash inside a pruning");
        }
        if part == Some("meta") && matches!(op, VfsOp::Write | VfsOp::Sync | VfsOp::SetLen) {
            self.count("crash inside a commit of the manifest's database");
        }
        if part == Some("checkpoints") && matches!(op, VfsOp::Write | VfsOp::Sync | VfsOp::Create) {
            self.count("crash while a checkpoint was written");
        }
        if part == Some("index") && matches!(op, VfsOp::Write | VfsOp::Sync | VfsOp::Create) {
            self.count("crash while the index was written");
        }
        if op == VfsOp::RemoveFile {
            self.count("crash while a segment was removed");
        }
        let since_sync = trace.recent.iter().rev().skip(1);
        let since_sync = since_sync.take_while(|line| !line.starts_with("syncing directory"));
        let created = |line: &String| line.starts_with("creating ") && line.contains(".log ");
        if part == Some("log") && since_sync.clone().any(created) {
            self.count("crash after a new segment's creation, before its name was synced");
        }
        if part == Some("log") && matches!(op, VfsOp::Write | VfsOp::Sync) {
            self.count("crash with a torn last record");
        }
    }
}

fn crash_at(point: &str) -> String {
    format!("at point {point:?}")
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in &self.counts {
            writeln!(f, "{times:>10}  {what}")?;
        }
        Ok(())
    }
}
