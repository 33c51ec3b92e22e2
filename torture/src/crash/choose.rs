//! Random options and plans.

use hedgerow::hasher::by_name;
use hedgerow::{CompactionRule, Durability, Error, Options};
use hedgerow_testkit::generate::GenShape;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::VfsOp;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};

/// One of `choices`.
pub(super) fn pick<T: Clone>(rng: &mut SplitMix64, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u64) as usize].clone()
}

/// A compaction rule; most compact all the time, so that twigs die and are pruned.
pub(super) fn rule(rng: &mut SplitMix64) -> CompactionRule {
    let (threshold, ratio, div) = pick(
        rng,
        &[
            (1, 1, 1),
            (1, 1, 1),
            (1, 1, 1),
            (1, 4, 5),
            (1, 1, 2),
            (4097, 7, 10),
            (20_000_000, 7, 10),
        ],
    );
    // Ratio and div are not 0.
    let rule = CompactionRule::new(threshold, ratio, div).unwrap_or_default();
    rule.with_spread(pick(rng, &[0, 0, 1, 3]))
}

pub(super) fn shape(rng: &mut SplitMix64) -> GenShape {
    GenShape {
        keys: pick(rng, &[60, 150, 600]),
        keys_per_change_set: pick(rng, &[4, 30, 200]),
        change_sets: pick(rng, &[1, 3]),
        max_value_len: pick(rng, &[300, 5_000, 60_000]),
    }
}

/// How one life of the store is run.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Blocks wait for each other so that the order of calls is always the same.
    pub(super) in_step: bool,
    pub(super) threads: usize,
    pub(super) durability: Durability,
    pub(super) max_in_flight: usize,
    pub(super) keep_history: Option<u64>,
    pub(super) keep_heights: Option<u64>,
    pub(super) rollback_window: Option<u64>,
    pub(super) segment_bytes: u64,
    pub(super) tail_bytes: u64,
    pub(super) entry_cache_bytes: u64,
    pub(super) link_cache_bytes: u64,
    pub(super) mapped_bytes: u64,
    pub(super) hasher: &'static str,
    pub(super) short_calls: u64,
    pub(super) manifest_blocks: u64,
    pub(super) checkpoint_bytes: Option<u64>,
}

impl Settings {
    pub(super) fn random(rng: &mut SplitMix64, in_step: bool) -> Self {
        Self {
            in_step,
            threads: if in_step { 1 } else { pick(rng, &[1, 2, 5]) },
            durability: pick(rng, &[Durability::Pipelined, Durability::EachBlock]),
            max_in_flight: pick(rng, &[1, 2, 3, 6]),
            keep_history: pick(rng, &[None, Some(1), Some(3), Some(50)]),
            keep_heights: pick(rng, &[None, Some(1), Some(1), Some(2), Some(10)]),
            rollback_window: pick(rng, &[None, None, Some(2), Some(12)]),
            segment_bytes: pick(rng, &[1, 20_000, 150_000, 1 << 20]),
            tail_bytes: pick(rng, &[0, 10_000, 16 << 20]),
            entry_cache_bytes: pick(rng, &[0, 5_000, 1 << 20]),
            link_cache_bytes: pick(rng, &[0, 20_000, 64 << 20]),
            mapped_bytes: pick(rng, &[0, 200_000, 1 << 30]),
            hasher: pick(rng, &["cpu", "cpu", "scalar", "cpu:portable"]),
            short_calls: pick(rng, &[0, 0, 20]),
            manifest_blocks: pick(rng, &[1, 1, 2, 7, 64]),
            checkpoint_bytes: Self::checkpoints(rng, in_step),
        }
    }

    /// In step, checkpoints are written on closing only: otherwise beside the blocks.
    fn checkpoints(rng: &mut SplitMix64, in_step: bool) -> Option<u64> {
        let chosen = pick(rng, &[None, Some(0), Some(1), Some(1), Some(50_000)]);
        if in_step && chosen != Some(0) { None } else { chosen }
    }

    /// Settings and blocks under which something is pruned within a life.
    pub(super) fn prune_soon(&mut self) {
        self.keep_heights = Some(1);
        self.rollback_window = self.rollback_window.map(|blocks| blocks.min(2));
        self.segment_bytes = 20_000;
        self.manifest_blocks = self.manifest_blocks.min(7);
    }

    /// On the disk of a session, see [`Session::options`](super::Session::options).
    pub(super) fn options(&self, disk: &PowerLossDisk, on: Options) -> Result<Options, Error> {
        disk.short_calls(self.short_calls);
        let mut options = on
            .hasher(by_name(self.hasher)?)
            .threads(self.threads)
            .durability(self.durability)
            .max_in_flight(self.max_in_flight)
            .segment_bytes(self.segment_bytes)
            .tail_bytes(self.tail_bytes)
            .entry_cache_bytes(self.entry_cache_bytes)
            .link_cache_bytes(self.link_cache_bytes)
            .mapped_bytes(self.mapped_bytes)
            .manifest_blocks(self.manifest_blocks)
            .keep_all();
        if let Some(bytes) = self.checkpoint_bytes {
            options = options.checkpoint_bytes(bytes);
        }
        if let Some(heights) = self.keep_history {
            options = options.keep_history(heights);
        }
        if let Some(heights) = self.keep_heights {
            options = options.keep_heights(heights);
        }
        if let Some(blocks) = self.rollback_window {
            options = options.rollback_window(blocks);
        }
        Ok(options)
    }

    /// The first height whose history is kept when `height` is the last that was committed.
    pub(super) fn history_from(&self, height: u64) -> u64 {
        self.history_rows().map_or(0, |rows| (height + 1).saturating_sub(rows))
    }

    /// Heights whose history is kept; `None`: all.
    fn history_rows(&self) -> Option<u64> {
        let window = self.rollback_window.map_or(0, |blocks| blocks + 1);
        let least = self.look_back().map_or(0, |heights| heights + 1).max(window);
        self.keep_history.map(|rows| rows.max(least))
    }

    /// How far pruning looks back; `None`: nothing is pruned.
    fn look_back(&self) -> Option<u64> {
        let least = self.rollback_window.unwrap_or(0).max(self.max_in_flight as u64);
        self.keep_heights.map(|heights| heights.max(least))
    }

    /// Blocks that can be taken back.
    pub(super) fn window(&self) -> u64 {
        let rows = self.history_rows().map(|rows| rows - 1);
        let kept = self.look_back().into_iter().chain(rows).fold(128, u64::min);
        self.rollback_window.unwrap_or(kept)
    }
}

/// What docs/durability.md says is on the medium for certain at each point. Nothing about `meta`:
/// redb shortens its file after a commit without syncing that, and needs not. Where blocks do not wait for
/// each other, records of later ones are written meanwhile, and nothing is said of the log as a whole.
pub(super) fn claim(disk: &PowerLossDisk, in_step: bool) {
    let waiting: &[_] = match in_step {
        true => {
            &[("commit: durable", "/log"), ("commit: done", "/log"), ("manifest: written", "/log")]
        }
        false => &[],
    };
    for &(point, part) in waiting.iter().chain(&[
        ("create: log synced", "/log"),
        ("create: twigs synced", "/twigs"),
        ("create: done", "/log"),
        ("create: done", "/twigs"),
        ("open: log cut", "/log"),
        ("commit: log synced", "/log"),
        ("manifest: written", "/twigs"),
        ("prune: planned", "/twigs"),
        ("close: settled", "/log"),
        ("close: settled", "/twigs"),
    ]) {
        disk.claim(point, part);
    }
}

/// What a life ends by.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// A fault, planned before opening or after it.
    Fault { fault: Fault, while_opening: bool },
    /// The store is closed in peace.
    Close,
}

impl End {
    /// A sync of the manifest that fails, after a few that do not.
    pub(super) fn failed_sync(rng: &mut SplitMix64) -> Self {
        let calls = Calls::Of(VfsOp::Sync, "meta".into());
        let fault = Fault::once(calls, rng.below(8), FaultKind::Eio);
        Self::Fault { fault, while_opening: false }
    }

    /// Whether it comes where only long lives with large blocks come: twigs fill, log is pruned.
    pub(super) fn needs_a_long_life(&self) -> bool {
        let Self::Fault { fault, .. } = self else { return false };
        match &fault.calls {
            Calls::Point(name) => name.starts_with("prune"),
            Calls::Of(op, part) => *op == VfsOp::RemoveFile || part == "twigs",
            Calls::All | Calls::Changes => false,
        }
    }
}

/// What becomes of the machine afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The power goes.
    PowerLoss,
    /// Only the process goes: what it wrote is still in the page cache.
    ProcessDeath,
}

pub(super) fn end(rng: &mut SplitMix64, in_step: bool, tiered: bool) -> End {
    let roll = rng.below(20);
    if roll == 0 {
        return End::Close;
    }
    let while_opening = roll < 4;
    let far = if while_opening { pick(rng, &[2, 8]) } else { pick(rng, &[4, 20, 80, 250]) };
    let after = rng.below(far);
    let fault = match rng.below(10) {
        // The power goes at a named point,
        0..=2 => {
            let opening = |point: &&&str| point.starts_with("open") == while_opening;
            let points: Vec<&str> = hedgerow::disk::POINTS
                .iter()
                .filter(|point| !point.starts_with("create"))
                .filter(|point| tiered || !point.starts_with("index"))
                .filter(opening)
                .copied()
                .collect();
            let point = pick(rng, &points);
            let often = !while_opening && !point.starts_with("prune");
            let times = if often { pick(rng, &[1, 3, 8]) } else { 1 };
            Fault::once(Calls::Point(point.to_owned()), rng.below(times), FaultKind::PowerOff)
        }
        // in a place that is rarely met,
        3 => {
            let index = [
                (VfsOp::Create, "index"),
                (VfsOp::Write, "index"),
                (VfsOp::Sync, "index"),
                (VfsOp::RemoveFile, "index"),
            ];
            let others = [
                (VfsOp::RemoveFile, ""),
                (VfsOp::SyncDir, ""),
                (VfsOp::Create, "log"),
                (VfsOp::SetLen, ""),
                (VfsOp::Sync, "twigs"),
                (VfsOp::Write, "twigs"),
                (VfsOp::Write, "meta"),
                (VfsOp::Sync, "meta"),
            ];
            let at_index = tiered && rng.below(2) == 0;
            let (op, path) = pick(rng, if at_index { &index[..] } else { &others[..] });
            let calls = Calls::Of(op, path.to_owned());
            Fault::once(calls, rng.below(4), FaultKind::PowerOff)
        }
        // at any change,
        4..=6 => Fault::once(Calls::Changes, after, FaultKind::PowerOff),
        // or a call fails.
        _ => {
            let kind = pick(rng, &[FaultKind::Eio, FaultKind::Full, FaultKind::Denied]);
            let places = [
                (VfsOp::Write, "log"),
                (VfsOp::Sync, "log"),
                (VfsOp::Write, "meta"),
                (VfsOp::Sync, "meta"),
                (VfsOp::Write, "twigs"),
                (VfsOp::SyncDir, ""),
                (VfsOp::Create, ""),
                (VfsOp::Write, "index"),
                (VfsOp::Sync, "index"),
            ];
            let there = if tiered { places.len() } else { places.len() - 2 };
            let (op, path) = pick(rng, &places[..there]);
            let calls = match rng.below(4) {
                0 => Calls::Changes,
                // Reads come from several threads: their count is nothing to go by in step.
                1 if !in_step => Calls::All,
                1 => Calls::Changes,
                _ => Calls::Of(op, path.to_owned()),
            };
            let after = if calls == Calls::All { after * 4 } else { after / 4 };
            match rng.below(3) {
                0 => Fault::from_then_on(calls, after, kind),
                _ => Fault::once(calls, after, kind),
            }
        }
    };
    End::Fault { fault, while_opening }
}
