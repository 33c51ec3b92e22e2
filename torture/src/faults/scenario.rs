//! The scenario, what it must answer, and a run of it with one fault.

use crate::crash::{Image, Reach, check_cause, store_dir, submit_net};
use hedgerow::{CompactionRule, Digest, Error, Height, Options, Reader, Store, StoreParams};
use hedgerow_testkit::generate::GenShape;
use hedgerow_testkit::limit::Limit;
use hedgerow_testkit::model::NetChangeSet;
use hedgerow_vfs::VfsOp;
use hedgerow_vfs::power_loss::{Fault, FaultKind, PowerLossDisk, Trace};
use std::sync::Arc;
use std::time::Duration;

/// A part of the scenario; each begins with a disk of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A store is made on an empty disk.
    Create,
    /// A store that has lived for a while goes on.
    Live,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 2] = [Self::Create, Self::Live];

    /// Its name in a replay line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Live => "live",
        }
    }
}

/// Values of all keys.
type Values = Vec<Option<Vec<u8>>>;

/// What a part does, and what it must answer.
struct Script {
    disk: PowerLossDisk,
    /// Height before the first block.
    base: u64,
    keys: Vec<Vec<u8>>,
    blocks: Vec<Vec<NetChangeSet>>,
    /// Root and values before the first block, and after each.
    states: Vec<(Digest, Values)>,
}

/// See the [module documentation](super).
pub struct Scenario {
    rule: CompactionRule,
    create: Script,
    live: Script,
}

/// Why a part ended early.
enum Stop {
    /// The store said so.
    Failed(Error),
    /// The store said something that is not so.
    Wrong(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Longer than any run takes: one that hangs ends the program.
const LONGEST: Duration = Duration::from_secs(120);

/// Blocks of the living part: enough that something is pruned.
const BLOCKS: usize = 9;

impl Scenario {
    /// Makes the disks to begin with, and the answers, by the model.
    ///
    /// # Errors
    /// If a store cannot be made without a fault.
    pub fn new() -> Result<Self, String> {
        // Ratio and div are not 0.
        let rule = CompactionRule::new(1, 1, 1).unwrap_or_default();
        let image = Image::of(rule, None).map_err(|error| format!("making an image: {error}"))?;
        let Image { disk, mut model, mut blocks, .. } = image;
        let shape = GenShape {
            keys: blocks.keys().len(),
            keys_per_change_set: 600,
            change_sets: 4,
            max_value_len: 20_000,
        };
        blocks.go_on(77, shape);
        let keys = blocks.keys().to_vec();
        let values = |model: &hedgerow_testkit::Model| -> Values {
            keys.iter().map(|key| model.get(key).map(<[u8]>::to_vec)).collect()
        };
        let base = model.height();
        let mut live = Script {
            disk,
            base,
            blocks: Vec::new(),
            states: vec![(model.state_root(), values(&model))],
            keys: keys.clone(),
        };
        for _ in 0..BLOCKS {
            let (height, change_sets) = blocks.net();
            model.apply_net(height, &change_sets);
            live.blocks.push(change_sets);
            live.states.push((model.state_root(), values(&model)));
        }
        let mut model = hedgerow_testkit::Model::without_history(rule);
        let mut create = Script {
            disk: PowerLossDisk::new(1),
            base: 0,
            blocks: Vec::new(),
            states: vec![(model.state_root(), values(&model))],
            keys: keys.clone(),
        };
        let first: NetChangeSet =
            keys.iter().take(20).map(|key| (key.clone(), Some(b"first".to_vec()))).collect();
        model.apply_net(1, std::slice::from_ref(&first));
        create.blocks.push(vec![first]);
        create.states.push((model.state_root(), values(&model)));
        Ok(Self { rule, create, live })
    }

    fn script(&self, part: Part) -> &Script {
        match part {
            Part::Create => &self.create,
            Part::Live => &self.live,
        }
    }

    fn options(disk: &PowerLossDisk) -> Options {
        Options::new()
            .disk(Arc::new(disk.clone()))
            .threads(1)
            .max_in_flight(3)
            .keep_heights(1)
            .keep_history(3)
            .segment_bytes(60_000)
            .tail_bytes(1_000)
            .entry_cache_bytes(5_000)
    }

    /// What the disk sees of a part without a fault.
    ///
    /// # Errors
    /// If the part fails.
    pub fn calls(&self, part: Part) -> Result<Trace, String> {
        let disk = self.script(part).disk.settled_copy(1);
        let mut progress = Progress::default();
        match self.play(part, &disk, &mut progress, &mut Reach::default()) {
            Ok(()) => Ok(disk.trace()),
            Err(Stop::Failed(error)) => Err(format!("without a fault: {error}")),
            Err(Stop::Wrong(what)) => Err(format!("without a fault: {what}")),
        }
    }

    /// Runs a part with a fault, and then to its end without.
    ///
    /// # Errors
    /// What was wrong.
    pub fn run(&self, part: Part, fault: &Fault, reach: &mut Reach) -> Result<(), String> {
        let _limit = Limit::of_work(LONGEST, format!("{part:?} with {fault:?}"));
        let script = self.script(part);
        let disk = script.disk.settled_copy(1);
        disk.plan(fault.clone());
        let mut progress = Progress { durable: script.base };
        let played = self.play(part, &disk, &mut progress, reach);
        let trace = disk.trace();
        reach.note_trace(&trace);
        match played {
            Ok(()) => reach.count("not noticed, and nothing was lost"),
            Err(Stop::Wrong(what)) => return Err(what),
            Err(Stop::Failed(error)) => {
                if trace.failed.is_empty() {
                    return Err(format!("before the fault: {error}"));
                }
                check_cause(&error)?;
                reach.count("an error");
            }
        }
        // A failed sync that the next process believes is mended by the next issue: here the power
        // goes, so that it reads what is there.
        let failed_sync = trace.failed.iter().any(|failed| {
            matches!(failed.op, VfsOp::Sync | VfsOp::SyncDir) && !failed.kind.is_clean()
        });
        let disk = match (failed_sync, fault.kind) {
            (false, _) => disk.process_death(),
            // Of the two ways in which a sync fails, one does not leave to chance what is lost.
            (true, FaultKind::Full) => disk.lose_all_unsynced(),
            (true, _) => disk.power_cycle(fault.after),
        };
        self.finish(part, &disk, &progress)
    }

    /// Opens without a fault and goes on to the end.
    fn finish(&self, part: Part, disk: &PowerLossDisk, before: &Progress) -> Result<(), String> {
        let script = self.script(part);
        if part == Part::Create {
            script.opens_or_refuses(&disk.settled_copy(0))?;
        }
        let params = StoreParams::default().with_compaction(self.rule);
        let opened = Store::open_or_create(store_dir(), params, Self::options(disk));
        let mut store = opened.map_err(|error| format!("opening afterwards: {error}"))?;
        let height = store.reader().height().0;
        if height < before.durable {
            return Err(format!("{} was durable, {height} came back", before.durable));
        }
        let mut progress = Progress::default();
        let rest = |store: &mut Store, progress: &mut Progress| -> Result<(), Stop> {
            script.read_back(store)?;
            for at in store.height().0 + 1..=script.last() {
                script.block(store, at, progress)?;
            }
            store.flush()?;
            script.read_back(store)?;
            store.check()?;
            Ok(())
        };
        match rest(&mut store, &mut progress) {
            Ok(()) => Ok(()),
            Err(Stop::Failed(error)) => Err(format!("afterwards, from height {height}: {error}")),
            Err(Stop::Wrong(what)) => Err(format!("afterwards, from height {height}: {what}")),
        }
    }

    fn play(
        &self,
        part: Part,
        disk: &PowerLossDisk,
        progress: &mut Progress,
        reach: &mut Reach,
    ) -> Result<(), Stop> {
        let script = self.script(part);
        let params = StoreParams::default().with_compaction(self.rule);
        let mut store = match part {
            Part::Create => Store::create(store_dir(), params, Self::options(disk))?,
            Part::Live => Store::open(store_dir(), Self::options(disk))?,
        };
        let wrote = script.write(&mut store, progress, reach, script.last());
        if let Err(Stop::Failed(error)) = wrote {
            // It stopped, or could not read. What it knew it still answers.
            script.still_answers(&mut store, disk, reach)?;
            return Err(Stop::Failed(error));
        }
        wrote?;
        store.flush()?;
        progress.durable = store.reader().durable_height().0;
        store.close()?;
        let mut store = Store::open(store_dir(), Self::options(disk))?;
        script.read_back(&store)?;
        store.check()?;
        store.close()?;
        Ok(())
    }
}

/// How far a run has come.
#[derive(Default)]
struct Progress {
    durable: u64,
}

impl Script {
    fn last(&self) -> u64 {
        self.base + self.blocks.len() as u64
    }

    fn state(&self, height: u64) -> Result<&(Digest, Values), Stop> {
        let state = height.checked_sub(self.base).and_then(|at| self.states.get(at as usize));
        state.ok_or_else(|| Stop::Wrong(format!("height {height} never was")))
    }

    fn write(
        &self,
        store: &mut Store,
        progress: &mut Progress,
        reach: &mut Reach,
        last: u64,
    ) -> Result<(), Stop> {
        for at in store.height().0 + 1..=last {
            if let Err(Stop::Failed(error)) = self.block(store, at, progress) {
                if matches!(error, Error::Poisoned { .. }) || store.height().0 >= at {
                    return Err(Stop::Failed(error));
                }
                // A refused block changes nothing: it is handed in again.
                self.block(store, at, progress)?;
                reach.count("refused and taken again");
            }
            self.read_some(store)?;
        }
        Ok(())
    }

    /// Hands a block in; every third one is waited for.
    fn block(&self, store: &mut Store, at: u64, progress: &mut Progress) -> Result<(), Stop> {
        let Some(block) = self.blocks.get((at - self.base - 1) as usize) else {
            return Err(Stop::Wrong(format!("height {at} is not in the script")));
        };
        let ticket = submit_net(store, at, block, at.to_string().as_bytes())?;
        let root = ticket.root()?;
        if root != self.state(at)?.0 {
            return Err(Stop::Wrong(format!("the root of height {at} is {root}")));
        }
        if at.is_multiple_of(3) {
            ticket.durable()?;
            progress.durable = at;
        }
        Ok(())
    }

    /// Some values and proofs. The blocks of a store that stopped may still be published meanwhile:
    /// what was read then says nothing about either height, and is read again.
    fn read_some(&self, store: &Store) -> Result<(), Stop> {
        let reader = store.reader();
        loop {
            let height = reader.height().0;
            let answer = self.read_at(&reader, height);
            if !matches!(answer, Err(Stop::Wrong(_))) || reader.height().0 == height {
                return answer;
            }
        }
    }

    fn read_at(&self, reader: &Reader, height: u64) -> Result<(), Stop> {
        let (root, values) = self.state(height)?;
        for (key, value) in self.keys.iter().zip(values).skip((height % 7) as usize).step_by(11) {
            let found = reader.get(key)?;
            if found != *value {
                return Err(Stop::Wrong(format!("{key:?} is {found:?} at height {height}")));
            }
            let proven = reader.prove(key)?;
            let proved = hedgerow_proof::verify(root, key, proven.proof.as_bytes());
            if proved.as_ref().ok() != Some(&value.as_deref()) {
                return Err(Stop::Wrong(format!("the proof of {key:?} gives {proved:?}")));
            }
        }
        Ok(())
    }

    /// Everything that readers see.
    fn read_back(&self, store: &Store) -> Result<(), Stop> {
        let reader = store.reader();
        let (height, root) = reader.root();
        let (expected, values) = self.state(height.0)?;
        if root != *expected {
            return Err(Stop::Wrong(format!("height {height} has the root {root}")));
        }
        let found = reader.get_many(&self.keys)?;
        if found != *values {
            return Err(Stop::Wrong(format!("values of height {height} differ")));
        }
        let count = reader.iter().try_fold(0, |count, pair| pair.map(|_| count + 1))?;
        if count != values.iter().flatten().count() {
            return Err(Stop::Wrong(format!("the iterator gives {count} pairs")));
        }
        for at in height.0.saturating_sub(2).max(self.base)..=height.0 {
            let row = reader.history(Height(at))?;
            // What came before the script had extra data of its own.
            let extra_differs = at > self.base && row.extra != at.to_string().as_bytes();
            if row.root != self.state(at)?.0 || extra_differs {
                return Err(Stop::Wrong(format!("the history of height {at} is {row:?}")));
            }
        }
        self.read_some(store)
    }

    /// A creation that was cut short is whole or says what it is; `open` never makes a store of it.
    fn opens_or_refuses(&self, disk: &PowerLossDisk) -> Result<(), String> {
        let read = |store: &Store| match self.read_back(store) {
            Ok(()) => Ok(()),
            Err(Stop::Failed(error)) => Err(format!("opened, but {error}")),
            Err(Stop::Wrong(what)) => Err(format!("opened, but {what}")),
        };
        match Store::open(store_dir(), Scenario::options(disk)) {
            Ok(store) => read(&store),
            Err(Error::NoStore(_) | Error::Unfinished(_)) => Ok(()),
            Err(error) => Err(format!("opening a creation that was cut short: {error}")),
        }
    }

    /// A store that stopped takes no block; while the disk reads, it answers as before.
    fn still_answers(
        &self,
        store: &mut Store,
        disk: &PowerLossDisk,
        reach: &mut Reach,
    ) -> Result<(), Stop> {
        disk.plan_nothing();
        if store.stats().poison.is_none() {
            // A read failed, and nothing else: the store is as good as new.
            return match self.read_back(store) {
                Err(Stop::Failed(error)) if store.stats().poison.is_none() => {
                    Err(Stop::Wrong(format!("after a failed read: {error}")))
                }
                other => {
                    reach.count("a read failed, and the next did not");
                    other
                }
            };
        }
        let next = store.height().next();
        if store.begin_block(next).is_ok() {
            return Err(Stop::Wrong("a store that stopped begins a block".into()));
        }
        match self.read_some(store) {
            Err(Stop::Failed(error)) => {
                Err(Stop::Wrong(format!("a store that stopped no longer answers: {error}")))
            }
            other => {
                reach.count("stopped, and still answered");
                other
            }
        }
    }
}
