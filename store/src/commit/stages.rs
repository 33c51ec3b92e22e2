//! The stages behind `submit` as threads and channels; what they do with a block is given to them.
//!
//! ```text
//!   submit ──block──► hash stage     check ► HashWork::hash ► hand over ► say that it is published
//!      │                  │
//!      │                  │ hashed
//!      │                  ▼
//!      └───block────► log stage      LogWork::append (and sync) ► wait for the same blocks hashed
//!   settle ─────────►                ► say that they are durable ► hand over
//!                         │
//!                         │ hashed, settle
//!                         ▼
//!                     commit stage   CommitWork::commit ► clean_up ► say that it is tidy
//!                                    settle, when somebody wants it and at the end
//! ```
//!
//! A writer that waits for its block in any case, and finds nothing on its way before it, does the log stage's part itself
//! ([`Pipeline::accept_and_wait`]): no thread is woken before the disk is asked, and none after it has answered. What the
//! stage needs for that is behind a lock, which its thread holds while it has anything to do. If it fails, the writer latches
//! the error and closes the channels, as the stage does.
//!
//! So a block is durable as soon as its record is synced and its root known; what follows the log now and
//! then, the manifest above all, is written while the records of the next blocks are synced and they are
//! hashed. One append covers all blocks that wait for it, and one commit all that became durable with it.
//! What is durable without the manifest saying so is settled now and then by `commit`, and by `settle` at
//! once.
//!
//! Every channel has room for [`WAITING`] items; who finds one full waits. That cannot be for ever: the
//! commit stage waits for nobody. The log stage waits for it, or for the hash stage to hash a block that was
//! handed to both. The hash stage waits for the log stage to take what is hashed, which it does whenever it
//! waits for it. The writer waits for either, and for the log stage's lock only while its thread hands on what is
//! durable already.
//!
//! Invariant: a stage that fails latches its error, and only then its channels close, so that the other
//! stages end as well, after they have finished what came before the failure. Whoever finds a channel
//! closed finds the cause latched. Ending by a panic is a failure too, and so is ending without having
//! been asked to: nobody waits for a stage that is gone.

use crate::Error;
use crate::commit::flow::{Flow, Milestone, Progress};
use crate::commit::sync::thread::{self, JoinHandle};
use crate::commit::sync::{Mutex, Receiver, Sender, TryRecvError, bounded};
use crate::opening::limits::{STACK_BYTES, no_thread};
use hedgerow_types::Height;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// What may wait in a channel. Of blocks that are not durable there are fewer, by
/// [`Options::max_in_flight`](crate::Options::max_in_flight); this bounds what waits for a manifest.
pub(crate) const WAITING: usize = 64;

/// What goes through the stages.
pub(crate) trait Block: Send + Sync + 'static {
    fn height(&self) -> Height;
}

/// What the hash stage does with a block.
pub(crate) trait HashWork<B>: Send + 'static {
    /// What the persist stage needs of it.
    type Hashed: Send + 'static;

    /// Hashes the block and lets readers see it.
    fn hash(&mut self, block: Arc<B>) -> Result<Self::Hashed, Error>;
}

/// What the log stage does with blocks.
pub(crate) trait LogWork<B>: Send + 'static {
    /// Makes the blocks' records survive power loss.
    fn append(&mut self, blocks: &[Arc<B>]) -> Result<(), Error>;
}

/// What the commit stage does with blocks.
pub(crate) trait CommitWork<H>: Send + 'static {
    /// Writes what follows the log, of blocks that are durable.
    fn commit(&mut self, hashed: &[H]) -> Result<(), Error>;

    /// Does what may be done only after the commit, and what nobody has to wait for.
    fn clean_up(&mut self) -> Result<(), Error>;

    /// Brings everything that follows now and then to the last block that was committed.
    fn settle(&mut self) -> Result<(), Error>;
}

/// What a stage is given: the log stage by the writer, block by block, and the commit stage by it.
#[derive(Debug)]
enum Item<T> {
    Block(T),
    /// Somebody wants everything before this settled.
    Settle,
}

/// What the commit stage is given: the blocks that became durable together, up to this height.
type ToCommit<H> = Item<(Height, Vec<H>)>;

/// What the log stage has, for its thread and for a writer that waits.
struct LogSide<B, H> {
    work: Box<dyn LogWork<B>>,
    hashed: Receiver<H>,
    to_commit: Sender<ToCommit<H>>,
}

impl<B, H> fmt::Debug for LogSide<B, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSide").finish_non_exhaustive()
    }
}

/// The same, until the log stage has ended.
type Logging<B, H> = Arc<Mutex<Option<LogSide<B, H>>>>;

/// The log stage's hold on it. When it is dropped, the channels close.
struct LogEnd<B, H>(Logging<B, H>);

impl<B, H> Drop for LogEnd<B, H> {
    fn drop(&mut self) {
        let ended = self.0.lock().take();
        drop(ended);
    }
}

/// What the log stage does with a block, on the thread that calls.
trait LogsHere<B>: fmt::Debug + Send + Sync {
    /// Returns when the block is durable, or a failure is latched.
    fn log(&self, flow: &Flow, block: &Arc<B>);
}

impl<B: Block, H: Send> LogsHere<B> for Mutex<Option<LogSide<B, H>>> {
    fn log(&self, flow: &Flow, block: &Arc<B>) {
        let mut logging = self.lock();
        // Who held it before may have failed.
        let (Ok(()), Some(side)) = (flow.check(), &mut *logging) else { return };
        let done = side.run(flow, None, vec![Item::Block(Arc::clone(block))]);
        if matches!(done, Ok(true)) {
            return;
        }
        // As if the log stage had failed: first it is latched, then the channels close.
        if let Err(error) = done {
            flow.poison(error);
        }
        let ended = logging.take();
        drop(logging);
        drop(ended);
    }
}

/// The running stages.
#[derive(Debug)]
pub(crate) struct Pipeline<B> {
    flow: Arc<Flow>,
    /// Closed to make the stages end.
    to_hash: Option<Sender<Arc<B>>>,
    to_log: Option<Sender<Item<Arc<B>>>>,
    logging: Arc<dyn LogsHere<B>>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl<B: Block> Pipeline<B> {
    /// Starts the stages.
    pub(crate) fn start<W: HashWork<B>>(
        flow: &Arc<Flow>,
        waiting: usize,
        hash: W,
        log: impl LogWork<B>,
        commit: impl CommitWork<W::Hashed>,
    ) -> Result<Self, Error> {
        Self::with(
            flow,
            waiting,
            Box::new(log),
            move |stage| run_hash(stage, hash),
            run_log,
            move |stage| run_commit(stage, commit),
        )
    }

    /// Starts three threads that run these, of which the one of the log does this work.
    fn with<H: Send + 'static>(
        flow: &Arc<Flow>,
        waiting: usize,
        work: Box<dyn LogWork<B>>,
        hash: impl FnOnce(&Stage<Arc<B>, Sender<H>>) -> Result<(), Error> + Send + 'static,
        log: impl FnOnce(&Stage<Item<Arc<B>>, LogEnd<B, H>>) -> Result<(), Error> + Send + 'static,
        commit: impl FnOnce(&Stage<ToCommit<H>, ()>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let (to_hash, blocks_to_hash) = bounded(waiting);
        let (to_log, blocks_to_log) = bounded(waiting);
        let (hashed_tx, hashed_rx) = bounded(waiting);
        let (to_commit, blocks_to_commit) = bounded(waiting);
        let logging = Arc::new(Mutex::new(Some(LogSide { work, hashed: hashed_rx, to_commit })));
        let end = LogEnd(Arc::clone(&logging));
        let mut pipeline = Self {
            flow: Arc::clone(flow),
            to_hash: Some(to_hash),
            to_log: Some(to_log),
            logging,
            threads: Vec::new(),
        };
        let stage = Stage {
            name: "hedgerow-hash",
            flow: Arc::clone(flow),
            blocks: blocks_to_hash,
            others: hashed_tx,
            goal: |at| at.published,
        };
        pipeline.spawn(stage, hash)?;
        let stage = Stage {
            name: "hedgerow-log",
            flow: Arc::clone(flow),
            blocks: blocks_to_log,
            others: end,
            goal: |at| at.durable,
        };
        pipeline.spawn(stage, log)?;
        let stage = Stage {
            name: "hedgerow-commit",
            flow: Arc::clone(flow),
            blocks: blocks_to_commit,
            others: (),
            goal: |at| at.settled,
        };
        pipeline.spawn(stage, commit)?;
        Ok(pipeline)
    }

    fn spawn<I: Send + 'static, C: Send + 'static>(
        &mut self,
        stage: Stage<I, C>,
        run: impl FnOnce(&Stage<I, C>) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let name = stage.name;
        let body = move || {
            if let Err(error) = run(&stage) {
                stage.flow.poison(error);
            }
        };
        let thread = thread::Builder::new()
            .name(name.into())
            .stack_size(STACK_BYTES)
            .spawn(body)
            .map_err(|error| no_thread(name, error))?;
        self.threads.push((name, thread));
        Ok(())
    }
}

impl<B> Pipeline<B> {
    /// Takes a block of so many log bytes in and hands it to the stages.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if they ended.
    pub(crate) fn accept(&self, block: &Arc<B>, bytes: u64) -> Result<(), Error>
    where
        B: Block,
    {
        self.flow.accept(block.height(), bytes);
        if let Err(error) = self.send(block) {
            self.flow.poison(error);
            self.flow.check()?;
        }
        Ok(())
    }

    /// The same, and waits until the block is durable. It may be, or not, if this fails.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the stages ended, or a failure ended them.
    pub(crate) fn accept_and_wait(&self, block: &Arc<B>, bytes: u64) -> Result<(), Error>
    where
        B: Block,
    {
        let height = block.height();
        let alone = self.flow.look(|at| at.durable >= at.accepted);
        let (true, Some(to_hash)) = (alone, &self.to_hash) else {
            self.accept(block, bytes)?;
            return self
                .flow
                .wait_for(Milestone::Durable, |at| (at.durable >= height).then_some(()));
        };
        self.flow.accept(height, bytes);
        // The hash stage first, which begins meanwhile. What it hands on is this block: all before it is durable.
        match to_hash.send(Arc::clone(block)) {
            Ok(()) => self.logging.log(&self.flow, block),
            Err(_) => self.flow.poison(ended()),
        }
        match self.flow.look(|at| at.durable >= height) {
            true => Ok(()),
            // Whoever ended before has said why.
            false => self.flow.check().and(Err(ended())),
        }
    }

    fn send(&self, block: &Arc<B>) -> Result<(), Error> {
        // The log stage first: it knows of every block that comes to it hashed.
        let log = self.to_log.as_ref();
        let log = log.map(|channel| channel.send(Item::Block(Arc::clone(block))));
        let hash = self.to_hash.as_ref().map(|channel| channel.send(Arc::clone(block)));
        if matches!((log, hash), (Some(Ok(())), Some(Ok(())))) {
            return Ok(());
        }
        Err(ended())
    }

    /// Settles all that was accepted, and waits until that is done.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the stages ended.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        let sent = self.to_log.as_ref().map(|channel| channel.send(Item::Settle));
        if !matches!(sent, Some(Ok(()))) {
            self.flow.check()?;
        }
        self.flow.wait_for(Milestone::Settled, |at| (at.settled >= at.accepted).then_some(()))
    }

    /// In a forked copy of the process, where the threads are not: nothing is asked of them, and no lock
    /// is touched that one of them may have held.
    pub(crate) fn forget(&mut self) {
        std::mem::forget((self.to_hash.take(), self.to_log.take()));
        std::mem::forget(std::mem::take(&mut self.threads));
    }

    /// Lets the stages finish what they have and joins them.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.to_hash = None;
        self.to_log = None;
        let mut result = Ok(());
        for (name, thread) in self.threads.drain(..) {
            if thread.join().is_err() {
                result = Err(Error::Thread { name, reason: "ended in a panic".into() });
            }
        }
        result
    }
}

impl<B> Drop for Pipeline<B> {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "while closing");
        }
    }
}

/// What a running stage has. When it is dropped, which closes the channels, the stage has ended.
struct Stage<I, C> {
    name: &'static str,
    flow: Arc<Flow>,
    blocks: Receiver<I>,
    /// To and from other stages.
    others: C,
    /// What the stage has to bring to the height that is accepted.
    goal: fn(&Progress) -> Height,
}

impl<I, C> Drop for Stage<I, C> {
    /// Latches an end that is a failure and that nobody has latched, before the channels close.
    fn drop(&mut self) {
        // Closed by whoever hands blocks in, and taken from to the end.
        let asked = matches!(self.blocks.try_recv(), Err(TryRecvError::Disconnected));
        let reason = if thread::panicking() {
            "ended in a panic"
        } else if !asked || self.flow.look(|at| (self.goal)(at) < at.accepted) {
            "ended before its work was done"
        } else {
            return;
        };
        self.flow.poison(Error::Thread { name: self.name, reason: reason.into() });
    }
}

/// Turns a panic, which would be a bug, into a latched failure that waiters see.
pub(crate) struct PanicGuard<'a> {
    pub(crate) name: &'static str,
    pub(crate) flow: &'a Flow,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let reason = "ended in a panic".into();
            self.flow.poison(Error::Thread { name: self.name, reason });
        }
    }
}

fn run_hash<B: Block, W: HashWork<B>>(
    stage: &Stage<Arc<B>, Sender<W::Hashed>>,
    mut work: W,
) -> Result<(), Error> {
    let Stage { flow, blocks, others: out, .. } = stage;
    for block in blocks {
        flow.check()?;
        let height = block.height();
        let hashed = work.hash(block)?;
        // First the hand-over: whoever knows that a block is published knows that the log stage has
        // it.
        let sent = out.send(hashed);
        flow.publish(height);
        if sent.is_err() {
            return Ok(()); // The log stage failed and has said so.
        }
    }
    Ok(())
}

fn run_log<B: Block, H>(stage: &Stage<Item<Arc<B>>, LogEnd<B, H>>) -> Result<(), Error> {
    let Stage { flow, blocks, others: LogEnd(logging), .. } = stage;
    for item in blocks {
        let Some(side) = &mut *logging.lock() else { return Ok(()) };
        if !side.run(flow, Some(blocks), vec![item])? {
            return Ok(());
        }
    }
    // The end. If the commit stage is gone, it has said why.
    if let Some(side) = &*logging.lock() {
        let _ = side.to_commit.send(Item::Settle);
    }
    Ok(())
}

impl<B: Block, H> LogSide<B, H> {
    /// Does all that is to be done with these and with what comes in meanwhile. Whether the stages next to it are there: one that
    /// failed has said so.
    fn run(
        &mut self,
        flow: &Flow,
        more: Option<&Receiver<Item<Arc<B>>>>,
        mut items: Vec<Item<Arc<B>>>,
    ) -> Result<bool, Error> {
        // Latched before the lock is free again: a waiter that is woken here runs code of others.
        let _guard = PanicGuard { name: "hedgerow-log", flow };
        // Heights of blocks whose records are synced and whose roots have not come yet.
        let mut synced = VecDeque::new();
        let mut settle = false;
        loop {
            items.extend(more.iter().flat_map(|more| more.try_iter()));
            if items.is_empty() && synced.is_empty() && !settle {
                return Ok(true);
            }
            let mut batch = Vec::with_capacity(items.len());
            for item in items.drain(..) {
                match item {
                    Item::Block(block) => batch.push(block),
                    Item::Settle => settle = true,
                }
            }
            if !batch.is_empty() {
                self.work.append(&batch)?;
                synced.extend(batch.iter().map(|block| block.height()));
            }
            if synced.is_empty() {
                // All of it is handed on, and settling was asked for.
                if self.to_commit.send(Item::Settle).is_err() {
                    return Ok(false);
                }
                settle = false;
                continue;
            }
            let Ok(first) = self.hashed.recv() else { return Ok(false) };
            // Only blocks that are synced: roots may be ahead of records.
            let beside = synced.len() - 1;
            let mut ready = vec![first];
            ready.extend(self.hashed.try_iter().take(beside));
            let last = synced.drain(..ready.len()).next_back();
            if let Some(height) = last {
                flow.persist(height);
                if self.to_commit.send(Item::Block((height, ready))).is_err() {
                    return Ok(false);
                }
            }
        }
    }
}

/// A stage is gone that nobody has ended.
fn ended() -> Error {
    Error::Thread { name: "hedgerow", reason: "ended before the store was closed".into() }
}

fn run_commit<H>(
    stage: &Stage<ToCommit<H>, ()>,
    mut work: impl CommitWork<H>,
) -> Result<(), Error> {
    let Stage { flow, blocks, .. } = stage;
    for item in blocks {
        match item {
            Item::Block((height, hashed)) => {
                work.commit(&hashed)?;
                work.clean_up()?;
                flow.tidy(height);
            }
            Item::Settle => {
                work.settle()?;
                flow.settle();
            }
        }
    }
    Ok(())
}
