//! One seed: a store, a model, and cycles that follow each other.

use super::choose;
use super::compare::Past;
use super::cycle::cycle;
use super::image::{Image, KEYS};
use super::reach::{CYCLES, Reach};
use hedgerow::{CompactionRule, Store, StoreParams};
use hedgerow_testkit::Model;
use hedgerow_testkit::generate::{BlockGen, GenShape};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Cycles of one session.
pub const CYCLES_PER_SESSION: u64 = 20;

/// A store that is crashed over and over.
pub struct Session {
    pub(super) rng: SplitMix64,
    pub(super) rule: CompactionRule,
    pub(super) blocks: BlockGen,
    /// At the height that opened last.
    pub(super) model: Model,
    pub(super) past: Past,
    pub(super) disk: PowerLossDisk,
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
    /// What the disk saw in the lives that were in step: the same seed gives the same digests.
    pub digests: Vec<u64>,
}

/// Where the store lies: below directories that it makes itself.
pub(crate) fn dir() -> PathBuf {
    Path::new("/data/node/store").to_owned()
}

impl Session {
    /// Runs the session of `seed`, from creation on.
    pub fn run(seed: u64) -> Outcome {
        let mut rng = SplitMix64::new(seed);
        let rule = choose::rule(&mut rng);
        let blocks = BlockGen::new(rng.next_u64(), choose::shape(&mut rng));
        let mut session = Self {
            disk: PowerLossDisk::new(rng.next_u64()),
            rng,
            rule,
            blocks,
            model: Model::without_history(rule),
            past: Past::default(),
            reach: Reach::default(),
            notes: Vec::new(),
            digests: Vec::new(),
        };
        let ran = catch_unwind(AssertUnwindSafe(|| session.go()));
        let result = ran.unwrap_or_else(|_| Err("a panic".into())).map_err(|what| {
            let notes = session.notes.join("\n  ");
            let recent: Vec<_> = session.disk.trace().recent.into();
            format!("{what}\n  {notes}\nlast calls:\n  {}", recent.join("\n  "))
        });
        Outcome { reach: session.reach, result, digests: session.digests }
    }

    fn go(&mut self) -> Result<(), String> {
        self.notes.push(format!("{:?}", self.rule));
        if self.rule.threshold() == 1 && self.rng.below(4) > 0 {
            self.take_image()?;
        } else {
            self.create()?;
            let root = self.model.state_root();
            self.past.rows.insert(0, (root, Vec::new()));
        }
        for number in 0..CYCLES_PER_SESSION {
            self.notes.clear();
            self.notes.push(format!("{:?}, cycle {number}", self.rule));
            cycle(self)?;
            self.reach.count(CYCLES);
        }
        Ok(())
    }

    /// Begins with a store that has lived for a while.
    fn take_image(&mut self) -> Result<(), String> {
        let image = Image::of(self.rule).map_err(|error| format!("making an image: {error}"))?;
        let Image { disk, model, mut blocks, root } = image;
        let shape = choose::shape(&mut self.rng);
        blocks.go_on(self.rng.next_u64(), GenShape { keys: KEYS, ..shape });
        self.disk = disk.settled_copy(self.rng.next_u64());
        self.past.kept_from = model.height();
        self.past.rows.insert(model.height(), (root, Vec::new()));
        (self.model, self.blocks) = (model, blocks);
        Ok(())
    }

    /// Creates the store; in half of the sessions the first attempts are cut short.
    fn create(&mut self) -> Result<(), String> {
        let params = StoreParams::default().with_compaction(self.rule);
        let mut attempts = self.rng.below(4);
        loop {
            let settings = choose::Settings::random(&mut self.rng);
            let options = settings.options(&self.disk).map_err(|error| error.to_string())?;
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
            self.reach.note_trace(&trace);
            if trace.failed.is_empty() {
                created.map_err(|error| format!("creating: {error}"))?;
                return Ok(());
            }
            attempts = attempts.saturating_sub(1);
            let power = self.rng.below(2) == 0;
            self.notes.push(format!("{:?}, then power loss: {power}", created.err()));
            self.disk = if power {
                self.disk.power_cycle(self.rng.next_u64())
            } else {
                self.disk.process_death()
            };
        }
    }
}
