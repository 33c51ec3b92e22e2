//! A speculative block: what it came to, and what is in the state after it.

use super::{Charge, SpeculativeBlock, Stand, Token, prove};
use crate::commit::pipeline::{HashedAhead, ShardPart};
use crate::shared::Shared;
use crate::ticket::Receipt;
use crate::{Error, Proven};
use hedgerow_entryfile::Record;
use hedgerow_merkle::Roots;
use hedgerow_state::{Counts, Layer, Refused, ShardWriter};
use hedgerow_types::{Digest, Height, SENTRIES_PER_SHARD, SHARDS};
use std::fmt;
use std::sync::Arc;

/// A block that may become the next one, or one of those after it. It has its root, and its state can be read and
/// proven from, while the store knows nothing of it: it is in memory alone, and dropping it is all that there is to be
/// done to be rid of it.
///
/// It follows the last accepted state ([`Store::speculate`](crate::Store::speculate) of `None`) or another speculative
/// block, and any number of others can follow it. [`Store::accept`](crate::Store::accept) makes it the next block.
/// Once a block is accepted that is neither this one nor one that it follows, it is stale: all that it is asked
/// then is answered by [`Error::Stale`].
///
/// Cheap to clone, and usable from any thread. What all of them take together is bounded by
/// [`Options::speculation_bytes`](crate::Options::speculation_bytes). When the store is closed, it goes on answering as a
/// [`View`](crate::View) does.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Error, Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let mut one = store.speculate(None)?;
/// one.put("alice", "100")?;
/// let one = one.finish()?;
/// let mut other = store.speculate(None)?;
/// other.put("alice", "7")?;
/// let other = other.finish()?;
/// let mut next = store.speculate(&one)?;       // follows the first of them
/// next.put("bob", "20")?;
/// let next = next.finish()?;
///
/// assert_eq!(next.get("alice")?, Some(b"100".to_vec()));
/// let proven = next.prove("bob")?;             // against the root that the block will have
/// assert_eq!(hedgerow::verify(&next.root(), b"bob", &proven.proof)?, Some(&b"20"[..]));
///
/// let root = one.root();
/// let ticket = store.accept(one)?;
/// assert_eq!(ticket.root()?, root);
/// assert!(matches!(other.get("alice"), Err(Error::Stale { .. })));
/// store.accept(next)?.durable()?;
/// assert_eq!(store.reader().get("bob")?, Some(b"20".to_vec()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Speculative {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// The state after it, this block included.
    pub(super) after: Stand,
    pub(super) record: Arc<Record>,
    pub(super) parts: Arc<Vec<ShardPart>>,
    pub(super) layers: Arc<Vec<Layer>>,
    pub(super) counts: Counts,
    pub(super) ahead: Arc<HashedAhead>,
    /// Of what is not a link's.
    pub(super) charge: Charge,
}

/// What the writer takes over of a speculative block.
pub(crate) struct Accepted {
    pub(crate) token: Token,
    pub(crate) record: Arc<Record>,
    pub(crate) parts: Arc<Vec<ShardPart>>,
    pub(crate) layers: Arc<Vec<Layer>>,
    pub(crate) counts: Counts,
    pub(crate) ahead: Arc<HashedAhead>,
    pub(crate) writers: Vec<Arc<ShardWriter>>,
}

impl Speculative {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The height that the block has if it is accepted.
    pub fn height(&self) -> Height {
        self.inner.after.height
    }

    /// The state root after the block.
    pub fn root(&self) -> Digest {
        self.roots().state
    }

    /// The state root and the roots of the shards after the block.
    pub fn roots(&self) -> &Roots {
        &self.inner.ahead.passed.roots
    }

    /// What the block came to and what it costs: the receipt that it has if it is accepted.
    pub fn receipt(&self) -> Receipt {
        let Inner { record, counts, .. } = &*self.inner;
        Receipt::new(self.height(), self.root(), counts, record.bytes_len())
    }

    /// Number of keys that have a value after the block.
    pub fn len(&self) -> u64 {
        self.inner.after.active().saturating_sub(SHARDS as u64 * SENTRIES_PER_SHARD)
    }

    /// Whether no key has a value after the block.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that dropping this block frees, if nothing that follows it is there: what is counted
    /// against [`Options::speculation_bytes`](crate::Options::speculation_bytes).
    pub fn bytes(&self) -> u64 {
        let Inner { after, charge, .. } = &*self.inner;
        charge.bytes() + after.links.last().map_or(0, |link| link.charge.bytes())
    }

    /// Whether a block was accepted that is neither this one nor one that it follows.
    pub fn is_stale(&self) -> bool {
        self.inner.after.check().is_err()
    }

    /// The value of `key` after the block, or `None` if it is absent.
    ///
    /// # Errors
    /// [`Refused::KeyLength`](crate::Refused::KeyLength), [`Error::Stale`], or a failed read.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        let entry = self.inner.after.entry_of(key.as_ref())?;
        Ok(entry.map(|entry| entry.get().value().to_vec()))
    }

    /// The values of many keys after the block.
    ///
    /// # Errors
    /// As [`Speculative::get`].
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.inner.after.values_of(keys)
    }

    /// A proof of what the state after the block says about `key`: that it has its value, or that it is absent.
    /// It is one against [`Speculative::root`], whether the block is accepted or not.
    ///
    /// # Errors
    /// As [`Speculative::get`].
    pub fn prove(&self, key: impl AsRef<[u8]>) -> Result<Proven, Error> {
        prove::by_key(&self.inner.after, self.root(), key.as_ref())
    }

    /// One proof of what the state after the block says about all of `keys`: see [`View::prove_many`](crate::View::prove_many).
    ///
    /// # Errors
    /// [`Refused::NoKeys`](crate::Refused::NoKeys) for no key; as [`Speculative::get`].
    pub fn prove_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Proven, Error> {
        if keys.is_empty() {
            return Err(Refused::NoKeys.into());
        }
        prove::by_keys(&self.inner.after, self.root(), keys)
    }

    /// The block that follows this one, being collected.
    pub(crate) fn next_block(&self) -> Result<SpeculativeBlock, Error> {
        self.inner.after.check()?;
        SpeculativeBlock::new(self.inner.after.without_published())
    }

    /// # Errors
    /// [`Error::Stale`], also if it is a block of another store.
    pub(crate) fn check_of(&self, shared: &Arc<Shared>) -> Result<(), Error> {
        let Stand { shared: mine, height, .. } = &self.inner.after;
        if !Arc::ptr_eq(mine, shared) {
            return Err(Error::Stale { height: *height });
        }
        self.inner.after.check()
    }

    /// What the writer takes over.
    pub(crate) fn accepted(&self) -> Option<Accepted> {
        let Inner { after, record, parts, layers, counts, ahead, .. } = &*self.inner;
        Some(Accepted {
            token: after.links.last()?.token,
            record: Arc::clone(record),
            parts: Arc::clone(parts),
            layers: Arc::clone(layers),
            counts: *counts,
            ahead: Arc::clone(ahead),
            writers: after.writers.clone(),
        })
    }
}

impl fmt::Debug for Speculative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speculative")
            .field("height", &self.height())
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}
