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
//! So a block is durable as soon as its record is synced and its root known; what follows the log now and
//! then, the manifest above all, is written while the records of the next blocks are synced and they are
//! hashed. One append covers all blocks that wait for it, and one commit all that became durable with it.
//! What is durable without the manifest saying so is settled now and then by `commit`, and by `settle` at
//! once.
//!
//! Every channel has room for [`WAITING`] items; who finds one full waits. That cannot be for ever: the
//! commit stage waits for nobody. The log stage waits for it, or for the hash stage to hash a block that was
//! handed to both. The hash stage waits for the log stage to take what is hashed, which it does whenever it
//! waits for it. The writer waits for either.
//!
//! Invariant: a stage that fails latches its error, and only then its channels close, so that the other
//! stages end as well, after they have finished what came before the failure. Whoever finds a channel
//! closed finds the cause latched. Ending by a panic is a failure too, and so is ending without having
//! been asked to: nobody waits for a stage that is gone.

use crate::Error;
use crate::commit::flow::{Flow, Milestone, Progress};
use crate::commit::sync::thread::{self, JoinHandle};
use crate::commit::sync::{Receiver, Sender, TryRecvError, bounded};
use crate::opening::limits::{STACK_BYTES, no_thread};
use hedgerow_types::Height;
use std::collections::VecDeque;
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

/// The other ends of the log stage.
type Between<H> = (Receiver<H>, Sender<ToCommit<H>>);

/// The running stages.
#[derive(Debug)]
pub(crate) struct Pipeline<B> {
    flow: Arc<Flow>,
    /// Closed to make the stages end.
    to_hash: Option<Sender<Arc<B>>>,
    to_log: Option<Sender<Item<Arc<B>>>>,
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
            move |stage| run_hash(stage, hash),
            move |stage: &Stage<_, Between<W::Hashed>>| run_log(stage, log),
            move |stage| run_commit(stage, commit),
        )
    }

    /// Starts three threads that run these.
    fn with<H: Send + 'static>(
        flow: &Arc<Flow>,
        waiting: usize,
        hash: impl FnOnce(&Stage<Arc<B>, Sender<H>>) -> Result<(), Error> + Send + 'static,
        log: impl FnOnce(&Stage<Item<Arc<B>>, Between<H>>) -> Result<(), Error> + Send + 'static,
        commit: impl FnOnce(&Stage<ToCommit<H>, ()>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let (to_hash, blocks_to_hash) = bounded(waiting);
        let (to_log, blocks_to_log) = bounded(waiting);
        let (hashed_tx, hashed_rx) = bounded(waiting);
        let (to_commit, blocks_to_commit) = bounded(waiting);
        let mut pipeline = Self {
            flow: Arc::clone(flow),
            to_hash: Some(to_hash),
            to_log: Some(to_log),
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
            others: (hashed_rx, to_commit),
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

    fn send(&self, block: &Arc<B>) -> Result<(), Error> {
        // The log stage first: it knows of every block that comes to it hashed.
        let log = self.to_log.as_ref();
        let log = log.map(|channel| channel.send(Item::Block(Arc::clone(block))));
        let hash = self.to_hash.as_ref().map(|channel| channel.send(Arc::clone(block)));
        if matches!((log, hash), (Some(Ok(())), Some(Ok(())))) {
            return Ok(());
        }
        let reason = "ended before the store was closed".into();
        Err(Error::Thread { name: "hedgerow", reason })
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

/// Turns a panic of the writer, which would be a bug, into a latched failure that waiters see.
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

fn run_log<B: Block, H>(
    stage: &Stage<Item<Arc<B>>, Between<H>>,
    mut work: impl LogWork<B>,
) -> Result<(), Error> {
    let Stage { flow, blocks, others: (hashed, to_commit), .. } = stage;
    // Heights of blocks whose records are synced and whose roots have not come yet.
    let mut synced = VecDeque::new();
    let mut settle = false;
    loop {
        let mut items: Vec<_> = blocks.try_iter().collect();
        if items.is_empty() && synced.is_empty() && !settle {
            // Nothing else is to be done.
            let Ok(item) = blocks.recv() else {
                // The end. If the commit stage is gone, it has said why.
                let _ = to_commit.send(Item::Settle);
                return Ok(());
            };
            items.push(item);
            items.extend(blocks.try_iter());
        }
        let mut batch = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Block(block) => batch.push(block),
                Item::Settle => settle = true,
            }
        }
        if !batch.is_empty() {
            work.append(&batch)?;
            synced.extend(batch.iter().map(|block| block.height()));
        }
        if synced.is_empty() {
            // All of it is handed on, and settling was asked for.
            if to_commit.send(Item::Settle).is_err() {
                return Ok(()); // The commit stage failed and has said so.
            }
            settle = false;
            continue;
        }
        let Ok(first) = hashed.recv() else {
            return Ok(()); // The hash stage failed and has said so.
        };
        // Only blocks that are synced: roots may be ahead of records.
        let more = synced.len() - 1;
        let mut ready = vec![first];
        ready.extend(hashed.try_iter().take(more));
        let last = synced.drain(..ready.len()).next_back();
        if let Some(height) = last {
            flow.persist(height);
            if to_commit.send(Item::Block((height, ready))).is_err() {
                return Ok(()); // The commit stage failed and has said so.
            }
        }
    }
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
