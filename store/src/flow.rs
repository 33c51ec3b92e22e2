//! How far blocks have come, and everybody who waits for it.
//!
//! ```text
//!   submit ──accept──┐    accepted >= published >= durable >= tidied >= settled
//!   hash ───publish──┼──► Progress (Mutex) ── moved (Condvar) ──► whoever waits looks again
//!   log ────persist──┤       first failure
//!   commit ─tidy─────┤
//!          ─settle───┤
//!   any failure ─poison
//! ```
//!
//! Invariants:
//! * It moves only after what it announces is true, under its lock, and tells the waiters after.
//! * The first failure is latched; every waiter sees it.

use crate::Error;
use crate::sync::{Condvar, Mutex};
use hedgerow_types::Height;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far blocks have come.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) accepted: Height,
    pub(crate) published: Height,
    pub(crate) durable: Height,
    /// Up to here, what follows the log is written as far as it has to be, and what the durable blocks
    /// made needless has been deleted.
    pub(crate) tidied: Height,
    /// What everything that follows the log now and then, the manifest above all, has come to.
    pub(crate) settled: Height,
    /// Log bytes of the blocks that are accepted and not yet durable.
    pub(crate) bytes: BTreeMap<Height, u64>,
    pub(crate) poison: Option<Arc<Error>>,
}

impl Progress {
    /// Whether all that was accepted is settled, and nothing failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.poison.is_none() && self.settled >= self.accepted
    }

    fn check(&self) -> Result<(), Error> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Flow {
    progress: Mutex<Progress>,
    moved: Condvar,
}

impl Flow {
    /// Everything up to `height` is durable, up to `settled` the manifest says so.
    pub(crate) fn new(height: Height, settled: Height) -> Self {
        let progress = Progress {
            accepted: height,
            published: height,
            durable: height,
            tidied: height,
            settled,
            bytes: BTreeMap::new(),
            poison: None,
        };
        Self { progress: Mutex::new(progress), moved: Condvar::new() }
    }

    /// Looks at how far things are. Every waiter waits for the end of `look`.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Progress) -> T) -> T {
        look(&self.progress.lock())
    }

    /// # Errors
    /// [`Error::Poisoned`] if the store failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.look(Progress::check)
    }

    /// A block of so many log bytes was accepted. Nobody waits for that.
    pub(crate) fn accept(&self, height: Height, bytes: u64) {
        let mut progress = self.progress.lock();
        progress.accepted = height;
        progress.bytes.insert(height, bytes);
    }

    /// Readers see the state after `height`. Whoever hands a block on before saying so may be overtaken
    /// by [`persist`](Self::persist).
    pub(crate) fn publish(&self, height: Height) {
        {
            let mut progress = self.progress.lock();
            progress.published = progress.published.max(height);
        }
        self.moved.notify_all();
    }

    /// Everything up to `height` is published and survives power loss.
    pub(crate) fn persist(&self, height: Height) {
        {
            let mut progress = self.progress.lock();
            progress.published = progress.published.max(height);
            progress.durable = height;
            progress.bytes = progress.bytes.split_off(&height.next());
        }
        self.moved.notify_all();
    }

    /// What the blocks up to `height` made needless has been deleted, as far as it could be.
    pub(crate) fn tidy(&self, height: Height) {
        {
            let mut progress = self.progress.lock();
            progress.tidied = height;
        }
        self.moved.notify_all();
    }

    /// Everything that is tidied is settled.
    pub(crate) fn settle(&self) {
        {
            let mut progress = self.progress.lock();
            progress.settled = progress.tidied;
        }
        self.moved.notify_all();
    }

    /// Something else that waiters look at was set.
    pub(crate) fn tell(&self) {
        drop(self.progress.lock()); // nobody is between looking and waiting
        self.moved.notify_all();
    }

    /// Latches the first failure and wakes everybody.
    pub(crate) fn poison(&self, error: Error) {
        let cause = match error {
            Error::Poisoned { cause } => cause,
            other => Arc::new(other),
        };
        let first = {
            let mut progress = self.progress.lock();
            let first = progress.poison.is_none();
            progress.poison.get_or_insert_with(|| Arc::clone(&cause));
            first
        };
        self.moved.notify_all();
        if first {
            // Without the lock: whoever listens may ask how far things are.
            tracing::error!(error = %cause, "the store stops");
        }
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub(crate) fn wait_for<T>(
        &self,
        mut ready: impl FnMut(&Progress) -> Option<T>,
    ) -> Result<T, Error> {
        let mut progress = self.progress.lock();
        loop {
            if let Some(value) = ready(&progress) {
                return Ok(value);
            }
            progress.check()?;
            self.moved.wait(&mut progress);
        }
    }

    /// Waits until fewer than `blocks` blocks of less than `bytes` bytes are on their way, or none.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed.
    pub(crate) fn wait_for_room(&self, blocks: usize, bytes: u64) -> Result<(), Error> {
        self.wait_for(|progress| {
            let in_flight = progress.bytes.len();
            let size: u64 = progress.bytes.values().sum();
            let room = in_flight < blocks && size < bytes;
            (progress.poison.is_none() && (in_flight == 0 || room)).then_some(())
        })
    }
}
