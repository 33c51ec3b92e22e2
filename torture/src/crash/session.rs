//! One seed: a store, a model, and cycles that follow each other.

use super::beside::Beside;
use super::choose;
use super::compare::{Past, PastRow};
use super::cycle::cycle;
use super::image::{Image, KEYS};
use super::reach::{CYCLES, Reach, TIERED_CYCLES};
use hedgerow::{CompactionRule, Digest, Engine, IndexMode, Options, Store, StoreParams};
use hedgerow_testkit::Model;
use hedgerow_testkit::generate::{BlockGen, GenShape};
use hedgerow_testkit::limit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk, Trace};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Cycles of one session.
pub const CYCLES_PER_SESSION: u64 = 20;

/// The least memory that an index in files may have.
const TIERED: IndexMode = IndexMode::Tiered { memory_bytes: 4 << 20 };

/// Longer than any session takes: one that hangs ends the program.
const LONGEST: Duration = Duration::from_secs(300);

/// A store that is crashed over and over.
pub struct Session {
    pub(super) rng: SplitMix64,
    /// Blocks wait for each other, so that the disk always sees the same calls in the same order.
    pub(super) in_step: bool,
    /// The index is in files, with next to no memory. Not in step: a thread of its own writes them.
    pub(super) tiered: bool,
    /// Whether it began with a store that had lived for a while, where pruning is near.
    pub(super) has_lived: bool,
    pub(super) rule: CompactionRule,
    pub(super) blocks: BlockGen,
    /// At the height that opened last.
    pub(super) model: Model,
    pub(super) past: Past,
    pub(super) disk: PowerLossDisk,
    /// Where an engine keeps the manifest that opens files itself.
    pub(super) beside: Option<Beside>,
    pub(super) reach: Reach,
    /// What was done, for whoever reads a failure.
    pub(super) notes: Vec<String>,
    /// Digests of what the disk saw, one per life.
    pub(super) digests: Vec<u64>,
}

/// What a session came to.
#[derive(Debug)]
pub struct Outcome {
    /// What happened how often.
    pub reach: Reach,
    /// The first thing that was wrong, with what led to it.
    pub result: Result<(), String>,
    /// What the disk saw, one digest per life. A [seed that is in step](Session::is_in_step) gives
    /// the same ones whenever it is run.
    pub digests: Vec<u64>,
}

/// Where the store lies: below directories that it makes itself.
pub(crate) fn dir() -> PathBuf {
    Path::new("/data/node/store").to_owned()
}

impl Session {
    /// Whether the session of `seed` is in step: whether it makes the same calls whenever it is run.
    pub fn is_in_step(seed: u64) -> bool {
        SplitMix64::new(seed).below(12) < 3
    }

    /// Whether the index of the session of `seed` is in files: most are, since there is more that can go wrong.
    pub fn is_tiered(seed: u64) -> bool {
        SplitMix64::new(seed).below(12) >= 4
    }

    /// Runs the session of `seed`, this many cycles of it.
    pub fn run(seed: u64, cycles: u64) -> Outcome {
        Self::run_with(seed, cycles, None)
    }

    /// The same with the manifest in an engine that opens files itself, in the directory `place`: the
    /// files around it lose what was not synced.
    pub fn run_beside(seed: u64, cycles: u64, engine: Engine, place: &Path) -> Outcome {
        let beside = Beside::new(engine, place.join(format!("{}-{seed}", engine.name())));
        Self::run_with(seed, cycles, Some(beside))
    }

    fn run_with(seed: u64, cycles: u64, beside: Option<Beside>) -> Outcome {
        let _limit = Limit::of_work(LONGEST, format!("torture crash --replay {seed}"));
        let in_step = Self::is_in_step(seed);
        let mut rng = SplitMix64::new(seed.wrapping_add(1));
        let tiered = Self::is_tiered(seed);
        let rule = choose::rule(&mut rng);
        let blocks = BlockGen::new(rng.next_u64(), choose::shape(&mut rng));
        let mut session = Self {
            in_step,
            tiered,
            has_lived: false,
            disk: PowerLossDisk::new(rng.next_u64()),
            beside,
            rng,
            rule,
            blocks,
            model: Model::without_history(rule),
            past: Past::default(),
            reach: Reach::default(),
            notes: Vec::new(),
            digests: Vec::new(),
        };
        let ran = catch_unwind(AssertUnwindSafe(|| session.go(cycles)));
        let result = ran.unwrap_or_else(|_| Err("a panic".into())).map_err(|what| {
            let notes = session.notes.join("\n  ");
            let recent: Vec<_> = session.disk.trace().recent.into();
            format!("{what}\n  {notes}\nlast calls:\n  {}", recent.join("\n  "))
        });
        Outcome { reach: session.reach, result, digests: session.digests }
    }

    fn go(&mut self, cycles: u64) -> Result<(), String> {
        self.notes.push(format!("{:?}", self.rule));
        if let Some(beside) = &self.beside {
            beside.forget().map_err(|error| error.to_string())?;
        }
        if self.rule.threshold() == 1 && self.rng.below(4) > 0 {
            self.take_image()?;
        } else {
            self.create()?;
            let root = self.model.state_root();
            let row = self.first_row(root);
            self.past.rows.insert(0, row);
        }
        for number in 0..cycles {
            self.notes.clear();
            self.notes.push(format!("{:?}, cycle {number}", self.rule));
            cycle(self)?;
            self.reach.count(CYCLES);
            if self.tiered {
                self.reach.count(TIERED_CYCLES);
            }
        }
        Ok(())
    }

    /// Options that say nothing but which disk and which engine; what is promised of the disk is
    /// claimed.
    pub(super) fn base_options(&self) -> Options {
        choose::claim(&self.disk, self.in_step);
        let options = Beside::options(self.beside.as_ref(), &self.disk);
        if self.tiered { options.index(TIERED) } else { options }
    }

    pub(super) fn options(&self, settings: &choose::Settings) -> Result<Options, String> {
        settings.options(&self.disk, self.base_options()).map_err(|error| error.to_string())
    }

    pub(super) fn power_cycle(&mut self, seed: u64) -> Result<(), String> {
        self.disk = self.disk.power_cycle(seed);
        let Some(beside) = &self.beside else { return Ok(()) };
        beside.after_power_loss(&self.disk).map_err(|error| error.to_string())
    }

    /// Notes what the disk saw.
    ///
    /// # Errors
    /// If something was not durable that should have been.
    pub(super) fn note(&mut self, trace: &Trace) -> Result<(), String> {
        self.reach.note_trace(trace);
        // After a sync that failed nothing of this file is certain, and the store has stopped.
        match trace.broken.first() {
            Some(broken) if trace.failed.is_empty() => Err(broken.clone()),
            _ => Ok(()),
        }
    }

    /// What is known of the height at which the model is, of a store that has just been begun with.
    fn first_row(&mut self, root: Digest) -> PastRow {
        PastRow::of(root, &self.model, Vec::new(), self.blocks.keys(), &mut self.rng)
    }

    /// Begins with a store that has lived for a while.
    fn take_image(&mut self) -> Result<(), String> {
        let made = |error: &dyn std::fmt::Display| format!("making an image: {error}");
        let image = Image::of(self.rule, self.beside.as_ref()).map_err(|error| made(&error))?;
        let Image { disk, beside, model, mut blocks, root } = image;
        if let (Some(to), Some(from)) = (&self.beside, beside) {
            to.copy_from(&from).map_err(|error| made(&error))?;
        }
        let shape = choose::shape(&mut self.rng);
        blocks.go_on(self.rng.next_u64(), GenShape { keys: KEYS, ..shape });
        self.disk = disk.settled_copy(self.rng.next_u64());
        (self.model, self.blocks, self.has_lived) = (model, blocks, true);
        self.past.kept_from = self.model.height();
        let row = self.first_row(root);
        self.past.rows.insert(self.model.height(), row);
        Ok(())
    }

    /// Creates the store; in half of the sessions the first attempts are cut short.
    fn create(&mut self) -> Result<(), String> {
        let params = StoreParams::default().with_compaction(self.rule);
        let mut attempts = self.rng.below(4);
        loop {
            let settings = choose::Settings::random(&mut self.rng, self.in_step);
            let options = self.options(&settings)?;
            if attempts > 0 {
                let kind = choose::pick(
                    &mut self.rng,
                    &[FaultKind::PowerOff, FaultKind::PowerOff, FaultKind::Eio, FaultKind::Full],
                );
                let calls = if self.rng.below(2) == 0 {
                    Calls::Changes
                } else {
                    let points: Vec<&str> = hedgerow::disk::POINTS
                        .iter()
                        .filter(|point| point.starts_with("create"))
                        .copied()
                        .collect();
                    Calls::Point(choose::pick(&mut self.rng, &points).to_owned())
                };
                let after = if calls == Calls::Changes { self.rng.below(40) } else { 0 };
                self.notes.push(format!("creating with {calls:?} {after} {kind:?}"));
                self.disk.plan(Fault::once(calls, after, kind));
            }
            let created = Store::open_or_create(dir(), params, options);
            let created = created.and_then(Store::close);
            let trace = self.disk.trace();
            self.note(&trace)?;
            if trace.failed.is_empty() {
                created.map_err(|error| format!("creating: {error}"))?;
                return Ok(());
            }
            attempts = attempts.saturating_sub(1);
            let power = self.rng.below(2) == 0;
            self.notes.push(format!("{:?}, then power loss: {power}", created.err()));
            if power {
                let seed = self.rng.next_u64();
                self.power_cycle(seed)?;
            } else {
                self.disk = self.disk.process_death();
            }
        }
    }
}
