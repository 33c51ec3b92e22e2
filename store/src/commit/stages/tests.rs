//! The hand-offs under shuttle: a writer with back-pressure, three stages, waiters of every kind, a
//! failure somewhere, a drop at the end; thousands of orders of events, each of which can be replayed.
//!
//! ```text
//!   writer ── wait_for_room ► accept ─┬─► run_hash   + Hash     sets the root, lets readers see
//!     │                               └─► run_log    + Log      counts what is on the "disk"
//!     │                                     └► run_commit + Commit   counts what follows it there
//!     ├─ per block: a waiter of Ticket::early_root, root, durable in a random order,
//!     │              as a thread or as a future
//!     └─ now and then: settle, while others wait for all to be durable
//! ```
//!
//! `Flow`, `Ticket`, `Pipeline` and the stages' loops are the real ones; only the work is not. What is
//! random (numbers and places of failures too) comes from shuttle, so a schedule says all of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::commit::flow::Milestone;
use crate::commit::sync::{Condvar, Mutex};
use crate::ticket::Ticket;
use hedgerow_state::Counts;
use hedgerow_testkit::schedules::explore;
use hedgerow_types::Digest;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

/// Most blocks of a schedule.
const BLOCKS: u64 = 4;

struct Toy {
    height: Height,
    root: Arc<OnceLock<Digest>>,
}

impl Block for Toy {
    fn height(&self) -> Height {
        self.height
    }
}

fn root_of(height: Height) -> Digest {
    Digest([height.0 as u8; 32])
}

/// Where a stage fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Before the root of this height is known.
    Hash(u64),
    /// After its early root was told.
    HashLate(u64),
    /// In the append that has this height.
    Append(u64),
    /// In the commit that has this height.
    Commit(u64),
    /// After that commit.
    CleanUp(u64),
    /// In the settling that brings the manifest to this height.
    Settle(u64),
}

impl Fault {
    fn any(blocks: u64) -> Self {
        let height = thread_rng().gen_range(1..=blocks);
        match thread_rng().gen_range(0..6) {
            0 => Self::Hash(height),
            1 => Self::HashLate(height),
            2 => Self::Append(height),
            3 => Self::Commit(height),
            4 => Self::CleanUp(height),
            _ => Self::Settle(height),
        }
    }

    fn error(self) -> Error {
        Error::Corrupt(format!("{self:?}"))
    }

    /// The last height that is published at most, and the last that is durable at most.
    fn bounds(self) -> (u64, u64) {
        match self {
            Self::Hash(height) | Self::HashLate(height) => (height - 1, height - 1),
            Self::Append(height) => (BLOCKS, height - 1),
            Self::Commit(_) | Self::CleanUp(_) | Self::Settle(_) => (BLOCKS, BLOCKS),
        }
    }
}

/// What the stages of one schedule have done, and what is to fail.
#[derive(Debug, Default)]
struct World {
    faults: Vec<Fault>,
    seen_by_readers: AtomicU64,
    appended: AtomicU64,
    committed: AtomicU64,
    /// What was cleaned up after.
    tidied: AtomicU64,
    /// What the manifest on the "disk" says.
    manifest: AtomicU64,
    /// Somebody was told of a failure.
    failed: AtomicBool,
    /// The stages go on only when a block's waiter has what the stage before promised.
    patient: Option<Answers>,
}

/// How many early roots and roots were given.
#[derive(Debug)]
struct Answers {
    given: Mutex<[u64; 2]>,
    more: Condvar,
}

impl Answers {
    /// Block after block, an answer was given.
    fn give(&self, kind: usize) {
        self.given.lock()[kind] += 1;
        self.more.notify_all();
    }

    fn wait_for(&self, kind: usize, count: u64) {
        let mut given = self.given.lock();
        while given[kind] < count {
            self.more.wait(&mut given);
        }
    }
}

impl World {
    fn fail_at(&self, fault: Fault) -> Result<(), Error> {
        if self.faults.contains(&fault) { Err(fault.error()) } else { Ok(()) }
    }

    /// Checks that the error is what a failed store says, with one of the causes that there are.
    fn check_cause(&self, flow: &Flow, error: &Error) {
        self.failed.store(true, Ordering::SeqCst);
        let Error::Poisoned { cause } = error else { panic!("not the latched one: {error}") };
        let causes: Vec<_> = self.faults.iter().map(|fault| fault.error().to_string()).collect();
        assert!(causes.contains(&cause.to_string()), "{cause} is none of {causes:?}");
        let latched = flow.look(|progress| progress.poison.clone()).unwrap();
        assert!(Arc::ptr_eq(&latched, cause), "{cause}, then {latched}");
    }
}

/// Work takes time: others go on meanwhile. Without it shuttle, which lets others go on at locks and
/// channels only, would take what stands between two of them for one step.
fn work() {
    drop(Mutex::new(()).lock());
}

/// Kinds of answers.
const EARLY: usize = 0;
const PUBLISHED: usize = 1;

struct Hash {
    world: Arc<World>,
    flow: Arc<Flow>,
}

impl HashWork<Toy> for Hash {
    type Hashed = Height;

    fn hash(&mut self, block: Arc<Toy>) -> Result<Height, Error> {
        let Height(height) = block.height;
        work();
        self.world.fail_at(Fault::Hash(height))?;
        block.root.get_or_init(|| root_of(block.height));
        self.flow.tell_root();
        if let Some(answers) = &self.world.patient {
            answers.wait_for(EARLY, height);
        }
        work();
        self.world.fail_at(Fault::HashLate(height))?;
        let before = self.world.seen_by_readers.swap(height, Ordering::SeqCst);
        assert_eq!(before + 1, height, "hashed out of order");
        Ok(block.height)
    }
}

struct Log(Arc<World>);

impl LogWork<Toy> for Log {
    fn append(&mut self, blocks: &[Arc<Toy>]) -> Result<(), Error> {
        for block in blocks {
            work();
            let Height(height) = block.height;
            self.0.fail_at(Fault::Append(height))?;
            if let Some(answers) = &self.0.patient {
                answers.wait_for(PUBLISHED, height);
            }
            assert_eq!(self.0.appended.swap(height, Ordering::SeqCst) + 1, height, "appended");
        }
        Ok(())
    }
}

struct Commit {
    world: Arc<World>,
    flow: Arc<Flow>,
}

impl CommitWork<Height> for Commit {
    fn commit(&mut self, hashed: &[Height]) -> Result<(), Error> {
        assert!(!hashed.is_empty());
        work();
        for &Height(height) in hashed {
            self.world.fail_at(Fault::Commit(height))?;
        }
        for &Height(height) in hashed {
            assert!(self.flow.look(|at| at.durable.0) >= height, "committed before it is durable");
            assert_eq!(
                self.world.committed.swap(height, Ordering::SeqCst) + 1,
                height,
                "committed"
            );
        }
        if thread_rng().gen_range(0..4) == 0 {
            // So many blocks or bytes: nobody asked for it, and nobody is told.
            let committed = self.world.committed.load(Ordering::SeqCst);
            self.world.manifest.store(committed, Ordering::SeqCst);
        }
        Ok(())
    }

    fn clean_up(&mut self) -> Result<(), Error> {
        work();
        let committed = self.world.committed.load(Ordering::SeqCst);
        self.world.fail_at(Fault::CleanUp(committed))?;
        self.world.tidied.store(committed, Ordering::SeqCst);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Error> {
        let committed = self.world.committed.load(Ordering::SeqCst);
        for height in self.world.manifest.load(Ordering::SeqCst) + 1..=committed {
            work();
            self.world.fail_at(Fault::Settle(height))?;
        }
        self.world.manifest.store(committed, Ordering::SeqCst);
        Ok(())
    }
}

/// What holds whenever one looks.
fn look(flow: &Flow, world: &World) {
    let seen_before = world.seen_by_readers.load(Ordering::SeqCst);
    flow.look(|at| {
        assert!(at.accepted >= at.published && at.published >= at.durable, "{at:?}");
        assert!(at.published.0 <= world.seen_by_readers.load(Ordering::SeqCst), "{at:?}");
        assert!(at.durable.0 <= world.appended.load(Ordering::SeqCst), "{at:?}");
        assert!(at.durable.0 <= world.seen_by_readers.load(Ordering::SeqCst), "{at:?}");
        assert!(at.tidied <= at.durable && at.settled <= at.tidied, "{at:?}");
        assert!(at.tidied.0 <= world.committed.load(Ordering::SeqCst), "{at:?}");
        assert!(at.accepted.0 >= seen_before, "{at:?}");
        assert!(at.settled.0 <= world.manifest.load(Ordering::SeqCst), "{at:?}");
        assert_eq!(at.bytes.len() as u64, at.accepted.0 - at.durable.0, "{at:?}");
        assert!(!world.failed.load(Ordering::SeqCst) || at.poison.is_some(), "forgotten: {at:?}");
    });
}

/// What a thread waits for, or a future, now this way and now that.
fn either<T, F: Future<Output = T>>(thread: impl Fn() -> T, future: impl Fn() -> F) -> T {
    if thread_rng().gen_range(0..2) == 0 {
        return thread();
    }
    if thread_rng().gen_range(0..4) == 0 {
        // One that somebody loses interest in.
        let mut dropped = Box::pin(future());
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(value) = dropped.as_mut().poll(&mut context) {
            return value;
        }
    }
    block_on(future())
}

/// Waits for everything that a ticket gives, in a random order, and checks each answer.
fn wait_for_all(ticket: &Ticket, flow: &Flow, world: &World) {
    let height = ticket.height();
    let first = if world.patient.is_some() { EARLY } else { thread_rng().gen_range(0..3) };
    for step in 0..3 {
        look(flow, world);
        let published = world.faults.iter().all(|fault| height.0 <= fault.bounds().0);
        let durable = world.faults.iter().all(|fault| height.0 <= fault.bounds().1);
        let failed = flow.check().is_err();
        let kind = (first + step) % 3;
        match kind {
            EARLY => match ticket.early_root() {
                Ok(root) => {
                    assert_eq!(root, root_of(height));
                    assert!(published || !failed, "{height}: {:?}", world.faults);
                }
                Err(error) => world.check_cause(flow, &error),
            },
            PUBLISHED => match either(|| ticket.root(), || ticket.root_async()) {
                Ok(root) => {
                    assert_eq!(root, root_of(height));
                    assert!(published, "{height}: {:?}", world.faults);
                    assert!(world.seen_by_readers.load(Ordering::SeqCst) >= height.0);
                }
                Err(error) => world.check_cause(flow, &error),
            },
            _ => match either(|| ticket.durable(), || ticket.durable_async()) {
                Ok(()) => {
                    assert!(durable, "{height}: {:?}", world.faults);
                    assert!(world.appended.load(Ordering::SeqCst) >= height.0);
                    assert!(world.seen_by_readers.load(Ordering::SeqCst) >= height.0);
                    assert_eq!(ticket.root().unwrap(), root_of(height), "durable, so published");
                }
                Err(error) => world.check_cause(flow, &error),
            },
        }
        if let Some(answers) = world.patient.as_ref().filter(|_| kind <= PUBLISHED) {
            answers.give(kind);
        }
    }
    look(flow, world);
}

/// Settles, as the writer does before it checks the files: nothing else is handed in meanwhile.
fn settle(pipeline: &Pipeline<Toy>, flow: &Flow, world: &World) -> Result<(), Error> {
    let before = flow.look(|at| {
        let in_flight = !at.bytes.is_empty();
        SETTLED[usize::from(in_flight)].fetch_add(1, Ordering::SeqCst);
        at.accepted
    });
    let settled = pipeline.settle();
    match &settled {
        Ok(()) => {
            let (accepted, reached) = flow.look(|at| (at.accepted, at.settled));
            assert_eq!((accepted, reached), (before, before));
            assert_eq!(world.manifest.load(Ordering::SeqCst), before.0, "not what it covers");
        }
        Err(error) => {
            REFUSED.fetch_add(1, Ordering::SeqCst);
            world.check_cause(flow, error);
        }
    }
    look(flow, world);
    settled
}

/// How often somebody settled when nothing was in flight and when something was; how often in vain.
static SETTLED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// How often a block was waited for behind others, and alone.
static WAITED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Waits until all that is accepted is durable and tidied after, as `flush` does, beside the writer.
fn flush(flow: &Flow, world: &World) {
    let accepted = flow.look(|at| at.accepted);
    match flow.wait_for(Milestone::Tidied, |at| (at.tidied >= at.accepted).then_some(())) {
        Ok(()) => assert!(world.tidied.load(Ordering::SeqCst) >= accepted.0),
        Err(error) => world.check_cause(flow, &error),
    }
    look(flow, world);
}

/// What a schedule may contain.
#[derive(Default)]
struct Plan {
    /// Calls that fail.
    faults: usize,
    patient: Option<Answers>,
    /// The writer settles every so many blocks, about; 0 for never.
    settles: u32,
}

/// One schedule: blocks go in until there are no more or one is refused, then the stages are stopped.
fn run(plan: Plan) {
    let Plan { faults, patient, settles } = plan;
    let blocks = thread_rng().gen_range(1..=BLOCKS);
    let in_flight = thread_rng().gen_range(1..=3);
    let faults = (0..faults).map(|_| Fault::any(blocks)).collect();
    let world = Arc::new(World { faults, patient, ..World::default() });
    let flow = Arc::new(Flow::new(Height(0), Height(0)));
    let hash = Hash { world: Arc::clone(&world), flow: Arc::clone(&flow) };
    let log = Log(Arc::clone(&world));
    let commit = Commit { world: Arc::clone(&world), flow: Arc::clone(&flow) };
    // Fewer than may be in flight, too, but for a disk that waits for those who read: it would wait for itself.
    let fewest = if world.patient.is_some() { in_flight } else { 1 };
    let waiting = thread_rng().gen_range(fewest..=4);
    let mut pipeline = Pipeline::start(&flow, waiting, hash, log, commit).unwrap();
    let mut waiters = Vec::new();
    let mut accepted = 0;
    let now = || settles > 0 && thread_rng().gen_range(0..settles) == 0;
    for height in (1..=blocks).map(Height) {
        let told = world.failed.load(Ordering::SeqCst);
        let room = flow.check().and_then(|()| flow.wait_for_room(in_flight, 10));
        assert!(!told || room.is_err(), "a block goes in after a failure");
        if let Err(error) = room {
            world.check_cause(&flow, &error);
            break;
        }
        flow.look(|at| assert!(at.bytes.len() < in_flight, "no room: {at:?}"));
        let root = Arc::default();
        let ticket = Ticket::new(&flow, height, Counts::default(), 0, &root);
        let block = Arc::new(Toy { height, root });
        // Who is patient is answered by those who wait, who begin after it.
        let waits = world.patient.is_none() && thread_rng().r#gen();
        let sent = match waits {
            false => pipeline.accept(&block, 1),
            true => {
                let alone = flow.look(|at| at.durable >= at.accepted);
                WAITED[usize::from(alone)].fetch_add(1, Ordering::SeqCst);
                let sent = pipeline.accept_and_wait(&block, 1);
                let durable = flow.look(|at| at.durable >= height);
                assert!(durable || sent.is_err(), "{height}: {:?}", world.faults);
                sent
            }
        };
        accepted = height.0;
        look(&flow, &world);
        let (flow_of, world_of) = (Arc::clone(&flow), Arc::clone(&world));
        waiters.push(thread::spawn(move || wait_for_all(&ticket, &flow_of, &world_of)));
        if now() {
            let (flow_of, world_of) = (Arc::clone(&flow), Arc::clone(&world));
            waiters.push(thread::spawn(move || flush(&flow_of, &world_of)));
        }
        if let Err(error) = sent {
            world.check_cause(&flow, &error);
            break;
        }
        if now() && settle(&pipeline, &flow, &world).is_err() {
            break;
        }
    }
    if now() {
        // After a failure too: it is an answer, not a wait without end.
        let _ = settle(&pipeline, &flow, &world);
    }
    match thread_rng().gen_range(0..3) {
        0 => drop(pipeline),
        1 => pipeline.stop().unwrap(),
        _ => {
            flush(&flow, &world);
            pipeline.stop().unwrap();
        }
    }
    // Whoever waits has an answer: nothing comes after this.
    for waiter in waiters {
        waiter.join().unwrap();
    }
    look(&flow, &world);
    let (published, durable, settled) =
        flow.look(|at| (at.published.0, at.durable.0, at.settled.0));
    // What says so is believed by the next opening.
    assert_eq!(flow.look(Progress::is_settled), flow.check().is_ok());
    if flow.check().is_ok() {
        assert_eq!((accepted, published, durable, settled), (blocks, blocks, blocks, blocks));
        assert_eq!(world.manifest.load(Ordering::SeqCst), blocks, "the last manifest");
    } else {
        match world.faults[..] {
            [Fault::Hash(height) | Fault::HashLate(height)] => {
                let before = height - 1;
                assert_eq!((published, durable), (before, before), "what came before is finished");
            }
            [Fault::Commit(height) | Fault::CleanUp(height) | Fault::Settle(height)] => {
                assert!(settled < height && durable >= height, "durable needs no manifest");
            }
            _ => {}
        }
    }
}

#[test]
fn all_goes_well() {
    explore(|| run(Plan::default()));
}

/// Whoever waits for a root has it while the disk is slow, and an early root while the nodes are on
/// their way: what wakes the others later is no help.
#[test]
fn nobody_needs_what_comes_later() {
    explore(|| {
        let patient = Some(Answers { given: Mutex::new([0; 2]), more: Condvar::new() });
        run(Plan { patient, settles: 3, ..Plan::default() });
    });
}

#[test]
fn a_stage_fails() {
    explore(|| run(Plan { faults: 1, ..Plan::default() }));
}

#[test]
fn two_failures_race() {
    explore(|| run(Plan { faults: 2, ..Plan::default() }));
}

/// Settling returns when the manifest says all that was accepted: while blocks are on their way, while
/// others wait for them, and when one thing or two fail meanwhile, the settling itself among them.
#[test]
fn the_writer_settles() {
    for faults in [0, 1, 2] {
        match faults {
            0 => explore(|| run(Plan { settles: 2, ..Plan::default() })),
            1 => explore(|| run(Plan { settles: 2, faults: 1, ..Plan::default() })),
            _ => explore(|| run(Plan { settles: 2, faults: 2, ..Plan::default() })),
        }
    }
    let [idle, busy] = [0, 1].map(|number| SETTLED[number].load(Ordering::SeqCst));
    let refused = REFUSED.load(Ordering::SeqCst);
    let [behind, alone] = [0, 1].map(|number| WAITED[number].load(Ordering::SeqCst));
    println!("settled {idle} times idle, {busy} times with blocks in flight; {refused} in vain");
    println!("waited for a block {behind} times behind others, {alone} times alone");
    let replayed = std::env::var_os("HEDGEROW_SCHEDULE").is_some();
    assert!(replayed || (idle > 0 && busy > 0 && refused > 0), "{idle} {busy} {refused}");
    assert!(replayed || (behind > 0 && alone > 0), "{behind} {alone}");
}

/// Takes some blocks, then ends as if all were well: what an error that somebody forgot to hand on
/// looks like.
fn desert<I, C>(stage: &Stage<I, C>, after: u64) -> Result<(), Error> {
    for _ in 0..after {
        if stage.blocks.recv().is_err() {
            break;
        }
    }
    Ok(())
}

/// Nobody waits for a stage that has left without a word, whichever it is and whenever it left.
#[test]
fn a_stage_that_ends_by_itself_stops_the_store() {
    explore(|| {
        let blocks = thread_rng().gen_range(1..=3);
        // Which of the stages leave: at least one.
        let leaves = thread_rng().gen_range(1..8);
        let [hash, log, commit] = [1, 2, 4].map(|stage| leaves & stage != 0);
        let after = thread_rng().gen_range(0..=blocks);
        let world = Arc::new(World::default());
        let flow = Arc::new(Flow::new(Height(0), Height(0)));
        let work = Hash { world: Arc::clone(&world), flow: Arc::clone(&flow) };
        let logging = Log(Arc::clone(&world));
        let committing = Commit { world, flow: Arc::clone(&flow) };
        let pipeline = Pipeline::with(
            &flow,
            // Room for all: who takes blocks and hands none on may otherwise wait for more for ever.
            4,
            Box::new(logging),
            move |stage| match hash {
                true => desert(stage, after),
                false => run_hash(stage, work),
            },
            move |stage| match log {
                true => desert(stage, after),
                false => run_log(stage),
            },
            move |stage| match commit {
                // What came at once is one item.
                true => desert(stage, after.min(1)),
                false => run_commit(stage, committing),
            },
        );
        let mut pipeline = pipeline.unwrap();
        let (mut refused, mut waited) = (None, false);
        for height in (1..=blocks).map(Height) {
            let block = Toy { height, root: Arc::default() };
            let block = Arc::new(block);
            // The last one: a stage that takes blocks and hands none on waits for as many as it takes.
            let may_wait = height == Height(blocks) && !(log && after == blocks);
            waited = may_wait && thread_rng().r#gen();
            refused = match waited {
                true => pipeline.accept_and_wait(&block, 1).err(),
                false => pipeline.accept(&block, 1).err(),
            };
            if refused.is_some() {
                break;
            }
        }
        let settled = thread_rng().r#gen::<bool>().then(|| pipeline.settle());
        assert!(!matches!(settled, Some(Ok(()))), "nothing is settled");
        if thread_rng().r#gen() {
            pipeline.stop().unwrap();
        }
        let all =
            flow.wait_for(Milestone::Settled, |at| (at.settled >= Height(blocks)).then_some(()));
        let settled = settled.and_then(Result::err);
        for error in [refused, settled, all.err()].into_iter().flatten() {
            assert!(error.to_string().contains("ended before its work was done"), "{error}");
        }
        assert!(flow.check().is_err(), "nothing is settled");
        // Who waits writes the log himself, if its stage has not left before.
        assert!(
            !(hash || log && !waited) || flow.look(|at| at.durable < Height(blocks)),
            "nor durable"
        );
    });
}
