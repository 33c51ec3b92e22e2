//! A speculative block that is being collected.

use super::{Speculative, Stand};
use crate::Error;
use crate::block::Collected;
use hedgerow_state::{BlockOps, Task};
use hedgerow_types::Height;
use std::fmt;

/// A speculative block, being collected: as a [`Block`](crate::Block), and the store goes on meanwhile.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let store = Store::create("/state", StoreParams::default(), options)?;
/// let mut block = store.speculate(None)?;
/// block.put("alice", "100")?;
/// let without = block.finish()?;
/// block.put("bob", "20")?;                     // the same block and more: another one
/// let with = block.finish()?;
/// assert_ne!(with.root(), without.root());
/// assert_eq!((with.receipt().created, without.receipt().created), (2, 1));
/// # Ok(())
/// # }
/// ```
pub struct SpeculativeBlock {
    stand: Stand,
    collected: Collected,
}

impl SpeculativeBlock {
    pub(crate) fn new(stand: Stand) -> Result<Self, Error> {
        let collected = Collected::new(stand.shared.options.max_value_bytes)?;
        Ok(Self { stand, collected })
    }

    /// The height that the block has if it is accepted.
    pub fn height(&self) -> Height {
        self.stand.height.next()
    }

    /// As [`Block::put`](crate::Block::put).
    ///
    /// # Errors
    /// As [`Block::put`](crate::Block::put).
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.collected.put(key.as_ref(), value.as_ref())
    }

    /// As [`Block::delete`](crate::Block::delete).
    ///
    /// # Errors
    /// As [`Block::delete`](crate::Block::delete).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<(), Error> {
        self.collected.delete(key.as_ref())
    }

    /// The value of `key` as this block leaves it so far, over the state that it follows.
    ///
    /// # Errors
    /// As [`Speculative::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        let key = key.as_ref();
        match self.collected.get(key)? {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => Ok(self.stand.entry_of(key)?.map(|entry| entry.get().value().to_vec())),
        }
    }

    /// As [`Block::next_change_set`](crate::Block::next_change_set).
    ///
    /// # Errors
    /// As [`Block::next_change_set`](crate::Block::next_change_set).
    pub fn next_change_set(&mut self) -> Result<(), Error> {
        self.collected.next_change_set()
    }

    /// As [`Block::set_extra`](crate::Block::set_extra).
    ///
    /// # Errors
    /// As [`Block::set_extra`](crate::Block::set_extra).
    pub fn set_extra(&mut self, extra: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.collected.set_extra(extra.into())
    }

    /// Makes the block and hashes it. What was collected stays, so that more can be added for another one.
    ///
    /// While it is made it takes more memory than it does then, by what its operations need.
    ///
    /// # Errors
    /// [`Error::Stale`]; [`Error::SpeculationFull`]; a failed read of an old entry; a failed hashing backend;
    /// [`Refused::BlockTooLarge`](crate::Refused::BlockTooLarge); [`Error::Poisoned`]. Nothing has changed then.
    pub fn finish(&self) -> Result<Speculative, Error> {
        self.stand.then(&self.collected.ops, &self.collected.extra)
    }

    /// The block of these tasks in place of what was collected.
    pub(crate) fn of_tasks(&self, tasks: &[Task], extra: &[u8]) -> Result<Speculative, Error> {
        let ops = BlockOps::from_tasks(tasks, self.stand.shared.options.max_value_bytes)?;
        self.stand.then(&ops, extra)
    }
}

impl fmt::Debug for SpeculativeBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpeculativeBlock")
            .field("height", &self.height())
            .field("operations", &self.collected.ops.ops().len())
            .finish_non_exhaustive()
    }
}
