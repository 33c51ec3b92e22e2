//! One engine in this process: what creates, updates, reads and proofs cost it.
//!
//! ```text
//!   draw ─► baseline of memory ─► open ─► creates ─► changes ─► look at a sample ─► reads ─► proofs ─► close
//!                                         ▓▓▓▓▓▓▓    ▓▓▓▓▓▓▓                        ▓▓▓▓▓    ▓▓▓▓▓▓
//!     ▓ = a phase with meters of its own                          another process: open ─► look at the sample
//!
//!   a block:   bytes of keys and values made │ submit ................ │ the next one
//!              the driver's: taken off        handed over ─► goes on   └─► durable (a thread waits for it)
//! ```
//!
//! CPU is that of the whole process, less what making the blocks' bytes took on the thread that makes them. A phase ends
//! when all of its blocks are durable.

use crate::{
    engine::{Asking, Change, Engine, Failure, OpenStore, Pending, Prover, Root, Sizing},
    race::{KEY_LEN, VALUE_LEN},
    workload::{Changes, Expected, Plan, Workload},
};
use hedgerow_benches::{
    usage::{self, Cost, Meter, Resident},
    workload::{Generator, Op},
};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// The figures of one run. Sizes in MB are of 10^6 bytes; `None` stands for what was not run or is not known here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The engine.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// What holds of a block that is durable.
    pub durability: String,
    /// How it is set.
    pub tuning: String,
    /// Who allocates memory, of all engines.
    pub allocator: String,
    /// The processor.
    pub cpu: Option<String>,
    /// Its cores, as far as this process may use them.
    pub cores: usize,
    /// Per cent of all cores that other processes had in the two seconds before.
    pub busy_percent: Option<f64>,
    /// Which round of a race this was, from 0.
    pub round: u32,
    /// Keys created.
    pub keys: u64,
    /// Creates of a block.
    pub populate_block_ops: u64,
    /// Blocks of the update phase.
    pub blocks: u64,
    /// Changes of each.
    pub block_ops: u64,
    /// Which.
    pub changes: Changes,
    /// What decides all of it.
    pub seed: u64,
    /// The creates.
    pub create: PhaseFigures,
    /// The changes.
    pub update: Option<PhaseFigures>,
    /// Reads by second, one thread, keys that exist.
    pub reads_s: Option<f64>,
    /// Microseconds of CPU of a read, making its key included.
    pub read_cpu_us: Option<f64>,
    /// Proofs by second, one thread, keys that exist.
    pub proofs_s: Option<f64>,
    /// Microseconds of CPU of a proof.
    pub proof_cpu_us: Option<f64>,
    /// Mean length of a proof, its value included.
    pub proof_bytes: Option<f64>,
    /// The highest resident memory less `driver_mb`.
    pub rss_peak_mb: Option<f64>,
    /// Resident memory before the store was opened.
    pub driver_mb: Option<f64>,
    /// Resident memory after the changes, driver included: not of files.
    pub rss_anon_mb: Option<f64>,
    /// The same, of files that are mapped.
    pub rss_file_mb: Option<f64>,
    /// Bytes of disk that the closed store occupies, by key that exists.
    pub disk_bytes_per_key: f64,
    /// Seconds to close.
    pub close_s: f64,
    /// Seconds of CPU of it.
    pub close_cpu_s: f64,
    /// Opening again, in a process of its own.
    pub reopen: Option<ReopenFigures>,
    /// The root in the end, in hex.
    pub root: Option<String>,
}

/// What a phase of blocks cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseFigures {
    /// Changes by second, until all are durable.
    pub ops_s: f64,
    /// Microseconds of CPU of a change: user and system.
    pub cpu_us: f64,
    /// Of it in user space.
    pub user_us: f64,
    /// Of it in the kernel.
    pub system_us: f64,
    /// Microseconds that making its bytes took, which are not in the others.
    pub driver_us: f64,
    /// Bytes of a change: `write_bytes` of /proc/self/io, pages of files made dirty.
    pub write_bytes: Option<f64>,
    /// Bytes of a change: `wchar` of /proc/self/io, handed to calls that write.
    pub wchar: Option<f64>,
    /// Milliseconds from handing a block over until the next one may follow.
    pub block_ms: Latency,
    /// The same until it is durable.
    pub durable_ms: Latency,
}

/// How long blocks took, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// The shortest, then what 5, 10, 15 ... 100 per cent are at most.
    pub every_5_percent: Vec<f64>,
}

/// What opening cost, in a process that did nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReopenFigures {
    /// Seconds.
    pub seconds: f64,
    /// Seconds of CPU.
    pub cpu_s: f64,
    /// The highest resident memory, in MB.
    pub rss_peak_mb: Option<f64>,
    /// The root, in hex.
    pub root: Option<String>,
}

/// Values that reads and proofs keep, to be looked at beside the clock.
const KEPT: usize = 1000;

fn sizing(plan: &Plan) -> Sizing {
    let updates = plan.blocks.saturating_mul(plan.block_ops);
    let created = match plan.changes {
        Changes::Update => 0,
        Changes::Mixed => updates / 20,
        Changes::Create => updates,
    };
    let sizing = Sizing::new(plan.keys).with_updates(updates);
    Sizing { keys: plan.keys.saturating_add(created), ..sizing }
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn hex(root: Option<Root>) -> Option<String> {
    root.map(|root| root.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs `engine` in `dir`, which is empty, and closes it.
///
/// # Errors
/// The plan cannot be carried out; the engine's; a value or a proof that is not what was written.
pub fn run(engine: &Engine, plan: &Plan, dir: &Path) -> Result<Figures, Failure> {
    let workload = Workload::draw(plan)?;
    let mut driver = Driver::new(engine, plan);
    // Both may fail, where a system does not tell; the figures then say so.
    usage::reset_peak_memory();
    let baseline = usage::memory();
    driver.store = Some((engine.open)(dir, sizing(plan))?);

    let create = |id| Op { id: id as u32, delete: false };
    let created = driver.phase(plan.keys, plan.populate_block_ops, create)?;
    let count = workload.ops.len() as u64;
    let updated = (count > 0)
        .then(|| driver.phase(count, plan.block_ops, |number| workload.ops[number as usize]))
        .transpose()?;
    let after = usage::resident();
    let (generator, store) = (driver.generator, driver.taken()?);
    check(engine, &*store, &generator, &workload.sample, "after the changes")?;
    let reads = reads(engine, &*store, &generator, &workload.reads)?;
    let proofs = match store.prover() {
        Some(prover) => proofs(engine, &*store, prover, &generator, &workload.proofs)?,
        None => None,
    };
    let root = hex(store.root()?);
    let peak = usage::peak_memory();
    let meter = Meter::read()?;
    store.close()?;
    let close = meter.since()?;
    let micros = |cost: &Cost, count: usize| cost.cpu().as_secs_f64() * 1e6 / count as f64;
    let asked = workload.reads.len();
    let proved = workload.proofs.len();
    Ok(Figures {
        engine: engine.name.into(),
        version: engine.version().into(),
        durability: engine.durability.into(),
        tuning: engine.tuning.into(),
        allocator: "the system's".into(),
        cpu: usage::processor(),
        cores: thread::available_parallelism().map_or(1, usize::from),
        busy_percent: None,
        round: 0,
        keys: plan.keys,
        populate_block_ops: plan.populate_block_ops,
        blocks: plan.blocks,
        block_ops: plan.block_ops,
        changes: plan.changes,
        seed: plan.seed,
        create: created,
        update: updated,
        reads_s: reads.as_ref().map(|cost| cost.rate(asked as u64)),
        read_cpu_us: reads.as_ref().map(|cost| micros(cost, asked)),
        proofs_s: proofs.as_ref().map(|(cost, _)| cost.rate(proved as u64)),
        proof_cpu_us: proofs.as_ref().map(|(cost, _)| micros(cost, proved)),
        proof_bytes: proofs.as_ref().map(|(_, bytes)| *bytes as f64 / proved as f64),
        rss_peak_mb: peak.zip(baseline).map(|(peak, own)| mb(peak.saturating_sub(own))),
        driver_mb: baseline.map(mb),
        rss_anon_mb: after.map(|Resident { anon, .. }| mb(anon)),
        rss_file_mb: after.map(|Resident { file, .. }| mb(file)),
        disk_bytes_per_key: usage::disk_bytes(dir)? as f64 / workload.keys as f64,
        close_s: close.wall.as_secs_f64(),
        close_cpu_s: close.cpu().as_secs_f64(),
        reopen: None,
        root,
    })
}

/// Opens what [`run`] left, and looks at the same sample.
///
/// # Errors
/// As [`run`].
pub fn reopen(engine: &Engine, plan: &Plan, dir: &Path) -> Result<ReopenFigures, Failure> {
    let workload = Workload::draw(plan)?;
    let generator = Generator::new(plan.seed, KEY_LEN, VALUE_LEN);
    usage::reset_peak_memory();
    let meter = Meter::read()?;
    let store = (engine.open)(dir, sizing(plan))?;
    let cost = meter.since()?;
    let rss_peak_mb = usage::peak_memory().map(mb);
    check(engine, &*store, &generator, &workload.sample, "after opening again")?;
    let root = hex(store.root()?);
    store.close()?;
    let (seconds, cpu_s) = (cost.wall.as_secs_f64(), cost.cpu().as_secs_f64());
    Ok(ReopenFigures { seconds, cpu_s, rss_peak_mb, root })
}

/// Hands blocks over.
struct Driver {
    engine: Engine,
    store: Option<Box<dyn OpenStore>>,
    generator: Generator,
    /// Changes that were handed over.
    turn: u64,
    /// The keys and values of a block.
    bytes: Vec<u8>,
}

impl Driver {
    fn new(engine: &Engine, plan: &Plan) -> Self {
        let block = plan.block_ops.max(plan.populate_block_ops) as usize;
        // Written now, so that its pages are in the baseline.
        let bytes = vec![1; block.saturating_mul(KEY_LEN + VALUE_LEN)];
        let generator = Generator::new(plan.seed, KEY_LEN, VALUE_LEN);
        Self { engine: *engine, store: None, generator, turn: 0, bytes }
    }

    fn taken(self) -> Result<Box<dyn OpenStore>, Failure> {
        self.store.ok_or(Failure::Plan("no store is open"))
    }

    /// Hands the changes `0..count` over, in blocks of `block_ops`.
    fn phase(
        &mut self,
        count: u64,
        block_ops: u64,
        op: impl Fn(u64) -> Op,
    ) -> Result<PhaseFigures, Failure> {
        let (to_watcher, waiting) = mpsc::channel::<(Instant, Pending)>();
        let watcher = thread::spawn(move || {
            let each = |(start, pending): (Instant, Pending)| {
                pending()?;
                Ok::<_, Failure>(start.elapsed())
            };
            waiting.into_iter().map(each).collect::<Result<Vec<_>, _>>()
        });
        let (mut made, mut handed, mut durable) = (Duration::ZERO, vec![], vec![]);
        let meter = Meter::read()?;
        let mut done = 0;
        while done < count {
            let end = count.min(done + block_ops);
            let (start, pending) = self.block((done..end).map(&op), &mut made)?;
            handed.push(start.elapsed());
            match pending {
                // Failing, the watcher hangs up; joining it tells why.
                Some(pending) => drop(to_watcher.send((start, pending))),
                None => durable.push(start.elapsed()),
            }
            done = end;
        }
        drop(to_watcher);
        let watched = watcher.join().map_err(|_| Failure::of(self.engine.name)(&"panicked"))?;
        durable.extend(watched?);
        let cost = meter.since()?;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        let user = cost.user.saturating_sub(made);
        Ok(PhaseFigures {
            ops_s: cost.rate(count),
            cpu_us: each(user + cost.system),
            user_us: each(user),
            system_us: each(cost.system),
            driver_us: each(made),
            write_bytes: cost.written.map(|written| written.pages as f64 / count as f64),
            wchar: cost.written.map(|written| written.calls as f64 / count as f64),
            block_ms: Latency::of(handed),
            durable_ms: Latency::of(durable),
        })
    }

    /// Hands one block over. Says when that began; what making it took is added to `made`.
    fn block(
        &mut self,
        ops: impl Iterator<Item = Op>,
        made: &mut Duration,
    ) -> Result<(Instant, Option<Pending>), Failure> {
        let begin = thread_time()?;
        let (mut deletes, mut key, mut value) = (vec![], vec![], vec![]);
        self.bytes.clear();
        for op in ops {
            self.generator.key(op.id, &mut key);
            self.generator.value(op.id, self.turn, &mut value);
            self.bytes.extend_from_slice(&key);
            self.bytes.extend_from_slice(&value);
            deletes.push(op.delete);
            self.turn += 1;
        }
        let entries = self.bytes.chunks_exact(KEY_LEN + VALUE_LEN).zip(deletes);
        let block: Vec<Change<'_>> = entries
            .map(|(entry, delete)| {
                let (key, value) = entry.split_at(KEY_LEN);
                Change { key, value: (!delete).then_some(value) }
            })
            .collect();
        *made += thread_time()?.saturating_sub(begin);
        let store = self.store.as_mut().ok_or(Failure::Plan("no store is open"))?;
        let start = Instant::now();
        Ok((start, store.submit(&block)?))
    }
}

/// CPU time of this thread.
fn thread_time() -> std::io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let rank = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let every_5_percent = (0..=20).map(|step| rank(step * 5)).collect();
        Self { p50: rank(50), p99: rank(99), max: rank(100), every_5_percent }
    }
}

/// Looks at keys whose values are known.
fn check(
    engine: &Engine,
    store: &dyn OpenStore,
    generator: &Generator,
    sample: &[Expected],
    when: &'static str,
) -> Result<(), Failure> {
    let (mut key, mut value) = (vec![], vec![]);
    for &Expected { id, turn } in sample {
        generator.key(id, &mut key);
        let expected = turn.map(|turn| {
            generator.value(id, turn, &mut value);
            &value[..]
        });
        if store.get(&key)?.as_deref() != expected {
            return Err(Failure::WrongValue { engine: engine.name, id, when });
        }
    }
    Ok(())
}

/// Reads keys that exist, one after the other.
struct Reads<'a> {
    engine: &'a Engine,
    generator: &'a Generator,
    ids: &'a [u32],
    asked: usize,
    /// One of so many values is kept.
    every: usize,
    kept: Vec<(u32, [u8; VALUE_LEN])>,
}

impl Reads<'_> {
    fn wrong(&self, id: u32) -> Failure {
        Failure::WrongValue { engine: self.engine.name, id, when: "while reading" }
    }
}

impl Asking for Reads<'_> {
    fn next(&mut self, key: &mut Vec<u8>) -> bool {
        let Some(&id) = self.ids.get(self.asked) else { return false };
        self.generator.key(id, key);
        self.asked += 1;
        true
    }

    fn answer(&mut self, value: Option<&[u8]>) -> Result<(), Failure> {
        let id = self.ids.get(self.asked.wrapping_sub(1)).copied().unwrap_or_default();
        let value = value.and_then(|value| <[u8; VALUE_LEN]>::try_from(value).ok());
        let value = value.ok_or_else(|| self.wrong(id))?;
        if self.asked.is_multiple_of(self.every) {
            self.kept.push((id, value));
        }
        Ok(())
    }
}

fn reads(
    engine: &Engine,
    store: &dyn OpenStore,
    generator: &Generator,
    ids: &[u32],
) -> Result<Option<Cost>, Failure> {
    if ids.is_empty() {
        return Ok(None);
    }
    let every = ids.len().div_ceil(KEPT);
    let kept = Vec::with_capacity(KEPT + 1);
    let mut reads = Reads { engine, generator, ids, asked: 0, every, kept };
    let meter = Meter::read()?;
    store.read_each(&mut reads)?;
    let cost = meter.since()?;
    if reads.asked != ids.len() {
        return Err(Failure::of(engine.name)(&"not all keys were asked"));
    }
    for (id, value) in &reads.kept {
        generator.turn_of(*id, value).ok_or_else(|| reads.wrong(*id))?;
    }
    Ok(Some(cost))
}

/// What the proofs cost, and their bytes.
fn proofs(
    engine: &Engine,
    store: &dyn OpenStore,
    prover: &dyn Prover,
    generator: &Generator,
    ids: &[u32],
) -> Result<Option<(Cost, u64)>, Failure> {
    let (Some(proofs), Some(root)) = (engine.proofs, store.root()?) else { return Ok(None) };
    if ids.is_empty() {
        return Ok(None);
    }
    let every = ids.len().div_ceil(KEPT);
    let (mut key, mut bytes, mut kept) = (vec![], 0, vec![]);
    let meter = Meter::read()?;
    for (number, &id) in ids.iter().enumerate() {
        generator.key(id, &mut key);
        let proof = prover.prove(&key)?;
        bytes += proof.len() as u64;
        if number % every == 0 {
            kept.push((id, proof));
        }
    }
    let cost = meter.since()?;
    for (id, proof) in kept {
        generator.key(id, &mut key);
        let value = (proofs.verify)(&root, &key, &proof)?;
        let wrong = Failure::WrongValue { engine: engine.name, id, when: "in a proof" };
        value.and_then(|value| generator.turn_of(id, &value)).ok_or(wrong)?;
    }
    Ok(Some((cost, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{STORES, engine::Answer};

    fn plan(changes: Changes) -> Plan {
        Plan {
            keys: 600,
            populate_block_ops: 250,
            blocks: 5,
            block_ops: 120,
            changes,
            reads: 300,
            proofs: 60,
            seed: 9,
        }
    }

    #[test]
    fn every_engine_runs_every_mix_and_opens_again() {
        for engine in STORES {
            for changes in [Changes::Update, Changes::Mixed, Changes::Create] {
                let dir = tempfile::tempdir().unwrap();
                let (plan, mut last) = (plan(changes), None);
                let figures = run(engine, &plan, dir.path()).unwrap();
                let update = figures.update.as_ref().unwrap();
                assert_eq!(update.durable_ms.every_5_percent.len(), 21, "{engine:?}");
                assert!(update.block_ms.max <= update.durable_ms.max, "{engine:?}");
                assert!(figures.reads_s > Some(0.0), "{engine:?}");
                assert_eq!(figures.proofs_s.is_some(), engine.proofs.is_some(), "{engine:?}");
                // Twice: closing left it whole.
                for _ in 0..2 {
                    let opened = reopen(engine, &plan, dir.path()).unwrap();
                    assert_eq!(opened.root, figures.root, "{engine:?}");
                    last = Some(opened);
                }
                let written = Figures { reopen: last, ..figures };
                let line = serde_json::to_string(&written).unwrap();
                let read: Figures = serde_json::from_str(&line).unwrap();
                let names = |run: &Figures| (run.engine.clone(), run.root.clone(), run.changes);
                assert_eq!(names(&read), names(&written));
                assert!(read.update.is_some() && read.reopen.is_some(), "{line}");
            }
        }
    }

    #[test]
    fn without_changes_reads_and_proofs_there_are_no_figures_of_them() {
        let plan = Plan { blocks: 0, reads: 0, proofs: 0, ..plan(Changes::Update) };
        let figures = run(&STORES[0], &plan, tempfile::tempdir().unwrap().path()).unwrap();
        assert!(figures.update.is_none() && figures.reads_s.is_none());
        assert!(figures.proofs_s.is_none() && figures.create.ops_s > 0.0);
    }

    /// A store that does something wrong.
    struct Wrong {
        store: Box<dyn OpenStore>,
        fault: Fault,
        blocks: u64,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        LosesTheLastBlock,
        AnswersNothing,
        MixesReadsUp,
        FailsLate,
    }

    fn wrong(fault: fn() -> Fault, dir: &Path, sizing: Sizing) -> Box<dyn OpenStore> {
        let store = (STORES[0].open)(dir, sizing).unwrap();
        Box::new(Wrong { store, fault: fault(), blocks: 0 })
    }

    impl OpenStore for Wrong {
        fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
            self.blocks += 1;
            // Three of creates, five of changes.
            if self.fault == Fault::LosesTheLastBlock && self.blocks == 8 {
                return Ok(());
            }
            self.store.apply(block)
        }

        fn submit(&mut self, block: &[Change<'_>]) -> Result<Option<Pending>, Failure> {
            self.apply(block)?;
            if self.fault == Fault::FailsLate && self.blocks == 2 {
                return Ok(Some(Box::new(|| Err(Failure::of("wrong")(&"a sync failed")))));
            }
            Ok(None)
        }

        fn root(&self) -> Result<Option<Root>, Failure> {
            self.store.root()
        }

        fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
            self.store.get(key)
        }

        fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
            let (mut key, mut last) = (vec![], None);
            while asking.next(&mut key) {
                let value = match self.fault {
                    Fault::AnswersNothing => None,
                    Fault::MixesReadsUp => last.take().or(self.get(&key)?),
                    Fault::LosesTheLastBlock | Fault::FailsLate => self.get(&key)?,
                };
                last = self.get(&key)?;
                asking.answer(value.as_deref())?;
            }
            Ok(())
        }

        fn prover(&self) -> Option<&dyn Prover> {
            self.store.prover()
        }
    }

    #[test]
    fn what_is_wrong_ends_the_run() {
        let run = |open| {
            let engine = Engine { name: "wrong", open, ..STORES[0] };
            let dir = tempfile::tempdir().unwrap();
            run(&engine, &plan(Changes::Update), dir.path()).unwrap_err().to_string()
        };
        let lost = run(|dir, sizing| Ok(wrong(|| Fault::LosesTheLastBlock, dir, sizing)));
        assert!(lost.contains("WRONG VALUE") && lost.contains("after the changes"), "{lost}");
        for open in [
            (|dir, sizing| Ok(wrong(|| Fault::AnswersNothing, dir, sizing))) as crate::engine::Open,
            |dir, sizing| Ok(wrong(|| Fault::MixesReadsUp, dir, sizing)),
        ] {
            let failure = run(open);
            assert!(failure.contains("WRONG VALUE") && failure.contains("reading"), "{failure}");
        }
        let late = run(|dir, sizing| Ok(wrong(|| Fault::FailsLate, dir, sizing)));
        assert_eq!(late, "wrong: a sync failed");
    }

    #[test]
    fn another_plan_does_not_open_as_this_one() {
        let dir = tempfile::tempdir().unwrap();
        run(&STORES[0], &plan(Changes::Update), dir.path()).unwrap();
        let other = Plan { seed: 10, ..plan(Changes::Update) };
        let failure = reopen(&STORES[0], &other, dir.path()).unwrap_err().to_string();
        assert!(failure.contains("after opening again"), "{failure}");
    }

    #[test]
    fn latencies_by_nearest_rank() {
        let of =
            |times: &[u64]| Latency::of(times.iter().copied().map(Duration::from_millis).collect());
        let latency = of(&(1..=200).rev().collect::<Vec<_>>());
        assert_eq!([latency.p50, latency.p99, latency.max], [100.0, 198.0, 200.0]);
        let steps = &latency.every_5_percent;
        assert_eq!((steps[0], steps[1], steps[20], steps.len()), (1.0, 10.0, 200.0, 21));
        assert_eq!(of(&[7]).every_5_percent, [7.0; 21]);
        assert_eq!(of(&[]).max, 0.0);
    }
}
