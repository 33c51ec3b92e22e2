//! The two stages behind `submit` as threads and channels; what they do with a block is given to them.
//!
//! ```text
//!   submit ──Arc<block>──► hash stage     check ► HashWork::hash ► hand over ► say that it is published
//!      │                       │
//!      │                       │ hashed
//!      │                       ▼
//!      └─────Arc<block>──► persist stage  PersistWork::append ► wait for the same blocks hashed
//!                                         ► commit ► say that it is durable ► clean_up
//! ```
//!
//! One append and one commit cover all blocks that wait for them.
//!
//! Invariant: a stage that fails latches its error and ends. Its channels close, so the other stage
//! ends as well, after it has finished what came before the failure. Ending by a panic is a failure
//! too.

use crate::Error;
use crate::flow::Flow;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Receiver, Sender, unbounded};
use hedgerow_types::Height;
use std::collections::VecDeque;
use std::sync::Arc;

#[cfg(test)]
mod tests;

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

/// What the persist stage does with blocks.
pub(crate) trait PersistWork<B, H>: Send + 'static {
    /// Makes the blocks' records survive power loss.
    fn append(&mut self, blocks: &[Arc<B>]) -> Result<(), Error>;

    /// Makes blocks durable whose records were appended and that were hashed.
    fn commit(&mut self, hashed: &[H]) -> Result<(), Error>;

    /// Does what may be done only after the commit, and what nobody has to wait for.
    fn clean_up(&mut self) -> Result<(), Error>;

    /// Everything is done.
    fn finish(&mut self) -> Result<(), Error>;
}

/// The running stages.
#[derive(Debug)]
pub(crate) struct Pipeline<B> {
    flow: Arc<Flow>,
    /// Closed to make the stages end.
    to_hash: Option<Sender<Arc<B>>>,
    to_persist: Option<Sender<Arc<B>>>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl<B: Block> Pipeline<B> {
    /// Starts the stages.
    pub(crate) fn start<W: HashWork<B>>(
        flow: &Arc<Flow>,
        hash: W,
        persist: impl PersistWork<B, W::Hashed>,
    ) -> Result<Self, Error> {
        let (to_hash, blocks_to_hash) = unbounded();
        let (to_persist, blocks_to_persist) = unbounded();
        let (hashed_tx, hashed_rx) = unbounded();
        let mut pipeline = Self {
            flow: Arc::clone(flow),
            to_hash: Some(to_hash),
            to_persist: Some(to_persist),
            threads: Vec::new(),
        };
        // A stage keeps its channels until its failure is latched: whoever finds them closed finds
        // the cause as well.
        pipeline.spawn("hedgerow-hash", move |flow| {
            latch(flow, run_hash(flow, hash, &blocks_to_hash, &hashed_tx));
        })?;
        pipeline.spawn("hedgerow-persist", move |flow| {
            latch(flow, run_persist(flow, persist, &blocks_to_persist, &hashed_rx));
        })?;
        Ok(pipeline)
    }
}

impl<B> Pipeline<B> {
    fn spawn(
        &mut self,
        name: &'static str,
        stage: impl FnOnce(&Flow) + Send + 'static,
    ) -> Result<(), Error> {
        let flow = Arc::clone(&self.flow);
        let body = move || {
            let _guard = PanicGuard { name, flow: &flow };
            stage(&flow);
        };
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(body)
            .map_err(|error| Error::Thread { name, reason: error.to_string() })?;
        self.threads.push((name, thread));
        Ok(())
    }

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
        for channel in [&self.to_persist, &self.to_hash] {
            let sent = channel.as_ref().map(|channel| channel.send(Arc::clone(block)));
            if !matches!(sent, Some(Ok(()))) {
                let reason = "ended before the store was closed".into();
                return Err(Error::Thread { name: "hedgerow", reason });
            }
        }
        Ok(())
    }

    /// Lets the stages finish what they have and joins them.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.to_hash = None;
        self.to_persist = None;
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

fn latch(flow: &Flow, result: Result<(), Error>) {
    if let Err(error) = result {
        flow.poison(error);
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
    flow: &Flow,
    mut work: W,
    blocks: &Receiver<Arc<B>>,
    out: &Sender<W::Hashed>,
) -> Result<(), Error> {
    for block in blocks {
        flow.check()?;
        let height = block.height();
        let hashed = work.hash(block)?;
        // First the hand-over: whoever knows that a block is published knows that the persist stage
        // has it.
        let sent = out.send(hashed);
        flow.publish(height);
        if sent.is_err() {
            return Ok(()); // The persist stage failed and has said so.
        }
    }
    Ok(())
}

fn run_persist<B: Block, H>(
    flow: &Flow,
    mut work: impl PersistWork<B, H>,
    blocks: &Receiver<Arc<B>>,
    hashed: &Receiver<H>,
) -> Result<(), Error> {
    // Heights of blocks whose records are synced and whose roots have not come yet.
    let mut synced = VecDeque::new();
    loop {
        // Wait for a block only if nothing else is to be done.
        let mut batch: Vec<_> = blocks.try_iter().collect();
        if batch.is_empty() && synced.is_empty() {
            match blocks.recv() {
                Ok(block) => batch.push(block),
                Err(_) => return work.finish(),
            }
            batch.extend(blocks.try_iter());
        }
        if !batch.is_empty() {
            work.append(&batch)?;
            synced.extend(batch.iter().map(|block| block.height()));
        }
        let Ok(first) = hashed.recv() else {
            return Ok(()); // The hash stage failed and has said so.
        };
        // Only blocks that are synced: roots may be ahead of records.
        let more = synced.len() - 1;
        let mut ready = vec![first];
        ready.extend(hashed.try_iter().take(more));
        let last = synced.drain(..ready.len()).next_back();
        work.commit(&ready)?;
        if let Some(height) = last {
            flow.persist(height);
        }
        work.clean_up()?;
    }
}
