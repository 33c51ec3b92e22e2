//! A block of the user's API: puts and deletes that become the change sets of one task.

use crate::commit::writer::Writer;
use crate::store::Store;
use crate::ticket::{Receipt, Ticket};
use crate::{Durability, Error, Refused};
use hashbrown::{DefaultHashBuilder, HashTable};
use hedgerow_state::{BlockOps, Kind, check_key, check_value};
use hedgerow_types::Height;
use std::fmt;
use std::hash::BuildHasher;

/// The next block, being collected. Dropping it abandons it.
///
/// Within one change set, what counts is the net effect per key: the last put or delete of a key
/// wins, and becomes a create, an update, a delete or nothing according to whether the key is
/// present before the change set. Change sets take effect one after the other and have versions of
/// their own ([spec 6.2](hedgerow_types::spec)); most blocks need only the first.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let mut block = store.next_block()?;
/// block.put("alice", "100")?;
/// block.put("alice", "90")?;                   // the last one counts
/// assert_eq!(block.get("alice")?, Some(b"90".to_vec()));
/// block.next_change_set()?;                    // from here on, what came before is there
/// block.delete("alice")?;
/// let receipt = block.commit()?;
/// assert_eq!((receipt.created, receipt.updated, receipt.deleted), (1, 0, 1));
/// # Ok(())
/// # }
/// ```
pub struct Block<'s> {
    store: &'s mut Store,
    height: Height,
    collected: Collected,
}

/// Bytes of memory that a block leaves to the next one at most.
const MOST_SPARE: usize = 32 << 20;

/// What was put into a block and deleted.
pub(crate) struct Collected {
    pub(crate) ops: BlockOps,
    /// Each key's last operation.
    last: HashTable<Last>,
    hashes: DefaultHashBuilder,
    pub(crate) extra: Vec<u8>,
    max_value_bytes: usize,
}

impl<'s> Block<'s> {
    pub(crate) fn begin(store: &'s mut Store, height: Height) -> Result<Self, Error> {
        store.writer.check_begin(height)?;
        let collected = match store.spare.take() {
            Some(spare) => spare,
            None => Collected::new(store.writer.max_value_bytes())?,
        };
        Ok(Self { store, height, collected })
    }

    /// The block's height.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Gives `key` a value: a create or an update, whichever the state asks for.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Refused::KeyLength`], [`Refused::ValueLength`] or [`Refused::SentryShape`] for
    /// what can never be valid, or [`Refused::BlockTooLarge`]. The block stays as it was.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.collected.put(key.as_ref(), value.as_ref())
    }

    /// Removes `key`. Removing an absent key changes nothing and is counted.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Refused::KeyLength`] or [`Refused::BlockTooLarge`]. The block stays as it was.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<(), Error> {
        self.collected.delete(key.as_ref())
    }

    /// The value of `key` as this block leaves it so far, over the last accepted block.
    ///
    /// # Errors
    /// [`Refused::KeyLength`], or a failed read.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        let key = key.as_ref();
        if let Some(value) = self.collected.get(key)? {
            return Ok(value.map(<[u8]>::to_vec));
        }
        Ok(self.store.writer.get(key)?.map(|entry| entry.get().value().to_vec()))
    }

    /// Begins the next change set: what follows takes effect after what came before.
    ///
    /// # Errors
    /// [`Refused::TooManyChangeSets`] beyond 2^24.
    pub fn next_change_set(&mut self) -> Result<(), Error> {
        self.collected.next_change_set()
    }

    /// Attaches opaque data that is kept with the block's history row and hashed into nothing;
    /// replaces what was attached before.
    ///
    /// # Errors
    /// [`Error::ExtraTooLarge`] above 1 MiB.
    pub fn set_extra(&mut self, extra: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.collected.set_extra(extra.into())
    }

    /// Hands the block in, which is then spent. Does not wait for hashing or the disk, except while
    /// [`Options::max_in_flight`](crate::Options::max_in_flight) blocks are on their way; whatever the
    /// [`Durability`], it is the ticket that says when the block is durable.
    ///
    /// # Errors
    /// A failed read of an old entry, or [`Refused::BlockTooLarge`]: store and block are as they were. So
    /// a block whose read failed may be handed in again. [`Error::WrongHeight`] if the block was
    /// accepted before; [`Error::Poisoned`].
    pub fn submit(&mut self) -> Result<Ticket, Error> {
        self.store.writer.say_that_nobody_waits();
        self.hand_in(Writer::submit)
    }

    fn hand_in(
        &mut self,
        way: fn(&mut Writer, &BlockOps, &mut Vec<u8>) -> Result<Ticket, Error>,
    ) -> Result<Ticket, Error> {
        self.store.locks.check_process()?;
        self.store.writer.check_begin(self.height)?;
        let Collected { ops, extra, .. } = &mut self.collected;
        let ticket = way(&mut self.store.writer, ops, extra)?;
        let empty = Collected::new(self.store.writer.max_value_bytes())?;
        self.store.spare = std::mem::replace(&mut self.collected, empty).emptied();
        Ok(ticket)
    }

    /// Hands the block in and waits for its root; under [`Durability::EachBlock`] also until it is
    /// durable.
    ///
    /// # Errors
    /// As [`Block::submit`] and [`Ticket::root`].
    pub fn commit(&mut self) -> Result<Receipt, Error> {
        let ticket = match self.store.shared.options.durability {
            Durability::EachBlock => self.hand_in(Writer::commit)?,
            Durability::Pipelined => self.hand_in(Writer::submit)?,
        };
        ticket.receipt()
    }
}

impl Collected {
    /// Nothing yet; values may be this long.
    pub(crate) fn new(max_value_bytes: usize) -> Result<Self, Error> {
        let mut ops = BlockOps::default();
        ops.begin_change_set()?;
        let (last, hashes) = (HashTable::new(), DefaultHashBuilder::default());
        Ok(Self { ops, last, hashes, extra: vec![], max_value_bytes })
    }

    /// See [`Block::put`].
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        check_key(key)?;
        check_value(key, value, self.max_value_bytes)?;
        Ok(self.record(Kind::Put, key, value)?)
    }

    /// See [`Block::delete`].
    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        check_key(key)?;
        Ok(self.record(Kind::Remove, key, &[])?)
    }

    /// What the block makes of a key: its value, or that it has none; `None` if it does not name it.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Option<&[u8]>>, Error> {
        check_key(key)?;
        let Some(number) = self.find(key) else { return Ok(None) };
        let op = &self.ops.ops()[number as usize];
        Ok(Some((op.kind == Kind::Put).then(|| self.ops.value(op))))
    }

    /// See [`Block::next_change_set`].
    pub(crate) fn next_change_set(&mut self) -> Result<(), Error> {
        Ok(self.ops.begin_change_set()?)
    }

    /// See [`Block::set_extra`].
    pub(crate) fn set_extra(&mut self, extra: Vec<u8>) -> Result<(), Error> {
        if extra.len() > crate::MAX_EXTRA_BYTES {
            return Err(Error::ExtraTooLarge(extra.len()));
        }
        self.extra = extra;
        Ok(())
    }

    /// Without operations, and with the memory that these had, for the next block; `None` if it is too much to keep, or much
    /// more than they needed.
    fn emptied(mut self) -> Option<Self> {
        let used = self.ops.ops().len();
        let most = (4 * used).max(1024);
        if self.last.capacity() > most || self.ops.heap_bytes() > MOST_SPARE {
            return None;
        }
        self.ops.clear();
        self.last.clear();
        self.extra.clear();
        self.ops.begin_change_set().ok()?;
        Some(self)
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let (ops, tag) = (&self.ops, self.tag_of(key));
        let last = self.last.find(Last::hash(tag), |last| last.is_of(tag, key, ops))?;
        Some(last.number)
    }

    fn tag_of(&self, key: &[u8]) -> u32 {
        self.hashes.hash_one(key) as u32
    }

    fn record(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), Refused> {
        let tag = self.tag_of(key);
        let ops = &mut self.ops;
        let change_set = ops.current_change_set();
        match self.last.find_mut(Last::hash(tag), |last| last.is_of(tag, key, ops)) {
            Some(last) if ops.ops()[last.number as usize].change_set == change_set => {
                ops.replace(last.number, kind, value)
            }
            Some(last) => {
                last.number = ops.push(kind, key, value)?;
                Ok(())
            }
            None => {
                let number = ops.push(kind, key, value)?;
                let hash = |last: &Last| Last::hash(last.tag);
                self.last.insert_unique(Last::hash(tag), Last { tag, number }, hash);
                Ok(())
            }
        }
    }
}

/// The last operation on a key.
struct Last {
    /// Half of the key's hash: a table that grows looks at no key again.
    tag: u32,
    number: u32,
}

impl Last {
    /// What the table orders them by, which uses the lowest bits and the highest.
    fn hash(tag: u32) -> u64 {
        u64::from(tag) << 32 | u64::from(tag)
    }

    fn is_of(&self, tag: u32, key: &[u8], ops: &BlockOps) -> bool {
        let op = || ops.ops().get(self.number as usize);
        self.tag == tag && op().is_some_and(|op| ops.key(op) == key)
    }
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected")
            .field("operations", &self.ops.ops().len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("height", &self.height)
            .field("operations", &self.collected.ops.ops().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(keys: u32, value: &[u8]) -> Collected {
        let mut collected = Collected::new(64 << 20).unwrap();
        for number in 0..keys {
            collected.put(&number.to_be_bytes(), value).unwrap();
        }
        collected.set_extra(b"extra".to_vec()).unwrap();
        collected
    }

    /// The next block gets the memory of the last one, and nothing of what was in it.
    #[test]
    fn what_goes_to_the_next_block_is_empty() {
        let spare = collected(1_000, b"value").emptied().unwrap();
        assert!(spare.ops.ops().is_empty() && spare.last.is_empty() && spare.extra.is_empty());
        assert_eq!(spare.ops.current_change_set(), 0);
        assert_eq!(spare.get(&0_u32.to_be_bytes()).unwrap(), None);
        assert!(spare.ops.heap_bytes() > 1_000 && spare.last.capacity() >= 1_000);
        // Not after a block that needed far less, nor more than there is a bound for.
        let mut large = collected(100_000, b"").emptied().unwrap();
        large.put(b"key", b"value").unwrap();
        assert!(large.emptied().is_none());
        assert!(collected(1, &vec![0; MOST_SPARE + 1]).emptied().is_none());
    }
}
