//! What a submitted block answers: its root, when it is published, and when it is durable.

use crate::Error;
use crate::commit::flow::{Flow, Milestone, Progress};
use hedgerow_state::Counts;
use hedgerow_types::{Digest, Height};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A submitted block. Dropping the ticket does not take the block back. A ticket that is kept keeps
/// nothing of the store in memory. If the block is [taken back](crate::Store::rollback) later, its ticket goes on
/// saying what was true of it: a rollback waits until every block is durable.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let mut block = store.next_block()?;
/// block.put("alice", "100")?;
/// let ticket = block.submit()?;                // accepted: the next block can begin
/// let root = ticket.root()?;                   // published: readers see it
/// assert_eq!(store.reader().root(), (ticket.height(), root));
/// ticket.durable()?;                           // it survives power loss
/// assert!(ticket.is_durable()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Ticket {
    flow: Arc<Flow>,
    height: Height,
    /// Rollbacks before it was accepted.
    rollbacks: u64,
    counts: Counts,
    log_bytes: u64,
    root: Arc<OnceLock<Digest>>,
}

/// The result of a block, and what it cost.
///
/// All of it follows from the blocks and the [`StoreParams`](crate::StoreParams): it is the
/// same in every store with the same blocks, so an application may charge by it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let mut block = store.next_block()?;
/// block.put("alice", "100")?;
/// block.delete("bob")?;
/// let receipt = block.commit()?;
/// assert_eq!((receipt.created, receipt.absent_deletes), (1, 1));
/// assert!(receipt.log_bytes > receipt.neighbour_bytes + receipt.moved_bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Receipt {
    /// The block's height.
    pub height: Height,
    /// The state root after it.
    pub root: Digest,
    /// Keys that had no value before and have one now, counted per change set.
    pub created: u64,
    /// Keys that got a new value, which may equal the old one.
    pub updated: u64,
    /// Keys that were removed.
    pub deleted: u64,
    /// Deletes of keys that were absent: they changed nothing.
    pub absent_deletes: u64,
    /// Bytes of log that the block takes: its entries, and the header of its record.
    pub log_bytes: u64,
    /// Bytes of these that are copies of neighbours' entries: a key that is created or deleted has the
    /// entry before it written again, value included, since that entry names the next key.
    pub neighbour_bytes: u64,
    /// Bytes of these that are entries moved by compaction: up to two for a created key, one for an
    /// updated one, of any owner.
    pub moved_bytes: u64,
}

impl Receipt {
    pub(crate) fn new(height: Height, root: Digest, counts: &Counts, log_bytes: u64) -> Self {
        let Counts { created, updated, deleted, absent_deletes, neighbour_bytes, moved_bytes } =
            *counts;
        Self {
            height,
            root,
            created,
            updated,
            deleted,
            absent_deletes,
            log_bytes,
            neighbour_bytes,
            moved_bytes,
        }
    }
}

impl Ticket {
    pub(crate) fn new(
        flow: &Arc<Flow>,
        height: Height,
        counts: Counts,
        log_bytes: u64,
        root: &Arc<OnceLock<Digest>>,
    ) -> Self {
        let rollbacks = flow.look(|progress| progress.rollbacks);
        Self {
            flow: Arc::clone(flow),
            height,
            rollbacks,
            counts,
            log_bytes,
            root: Arc::clone(root),
        }
    }

    /// The block's height.
    pub fn height(&self) -> Height {
        self.height
    }

    fn is_published(&self, progress: &Progress) -> bool {
        progress.has_published(self.height, self.rollbacks)
    }

    /// Waits until the state root after the block is computed and returns it: as early as it can be
    /// known, while the tree's nodes may still be on their way from a device. Readers see the block
    /// later, and it is not durable. If the device turns out to have computed a wrong root that no
    /// check had caught ([`MerkleError::WrongRoot`](hedgerow_merkle::MerkleError::WrongRoot)), the
    /// store stops and the block never happened; [`root`](Self::root) is not given before that is
    /// known.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before the block was published.
    pub fn early_root(&self) -> Result<Digest, Error> {
        self.flow.wait_for(Milestone::Root, |progress| {
            let stands = progress.poison.is_none() || self.is_published(progress);
            self.root.get().copied().filter(|_| stands)
        })
    }

    /// Waits until the block is published and returns the state root after it.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub fn root(&self) -> Result<Digest, Error> {
        self.flow.wait_for(Milestone::Published, |progress| {
            self.root.get().copied().filter(|_| self.is_published(progress))
        })
    }

    /// Waits until the block is published and returns what it came to.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub fn receipt(&self) -> Result<Receipt, Error> {
        Ok(Receipt::new(self.height, self.root()?, &self.counts, self.log_bytes))
    }

    /// The state root after the block if it is published, without waiting.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub fn try_root(&self) -> Result<Option<Digest>, Error> {
        self.flow.look(|progress| match self.root.get() {
            Some(root) if self.is_published(progress) => Ok(Some(*root)),
            _ => progress.check().map(|()| None),
        })
    }

    /// Whether the block survives power loss already, without waiting.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub fn is_durable(&self) -> Result<bool, Error> {
        self.flow.look(|progress| {
            let durable = progress.has_persisted(self.height, self.rollbacks);
            if durable { Ok(true) } else { progress.check().map(|()| false) }
        })
    }

    /// As [`root`](Self::root), for async code: the future waits without a thread, under any runtime. It
    /// may be dropped at any time, and needs neither the ticket nor the store.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{Options, Store, StoreParams};
    /// # let dir = tempfile::tempdir()?;
    /// # let mut store = Store::create(dir.path().join("s"), StoreParams::default(), Options::new())?;
    /// let mut block = store.next_block()?;
    /// block.put("alice", "100")?;
    /// let ticket = block.submit()?;
    /// let (root, durable) = (ticket.root_async(), ticket.durable_async());
    /// # let root = pollster::block_on(root); // any runtime's `await`
    /// # let durable = pollster::block_on(durable);
    /// assert_eq!(root?, ticket.root()?);
    /// durable?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub fn root_async(&self) -> impl Future<Output = Result<Digest, Error>> + Send + 'static {
        let (height, rollbacks, root) = (self.height, self.rollbacks, Arc::clone(&self.root));
        self.flow.future(height, move |progress| {
            root.get().copied().filter(|_| progress.has_published(height, rollbacks))
        })
    }

    /// As [`durable`](Self::durable), for async code, like [`root_async`](Self::root_async).
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub fn durable_async(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let (height, rollbacks) = (self.height, self.rollbacks);
        self.flow
            .future(height, move |progress| progress.has_persisted(height, rollbacks).then_some(()))
    }

    /// Waits until the block survives power loss.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub fn durable(&self) -> Result<(), Error> {
        self.flow.wait_for(Milestone::Durable, |progress| {
            progress.has_persisted(self.height, self.rollbacks).then_some(())
        })
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("height", &self.height)
            .field("root", &self.root.get())
            .finish_non_exhaustive()
    }
}
