//! What can go wrong.
//!
//! ```text
//!   refused, nothing has changed       Exists, Missing, Full, TooLarge, NotNewest, NotClosed, Order
//!   could not be read, try again       Read, Answer
//!   latched, nothing is written more   Flush, Stopped
//! ```

use std::sync::Arc;

/// Why the cache did not do what it was asked. `E` is the error of the backing.
///
/// ```
/// use hedgerow_cache::Error;
///
/// let refused: Error<std::io::Error> = Error::Missing { at: 3 };
/// assert_eq!(refused.to_string(), "operation 3: the key has no value");
/// assert!(!refused.is_latched());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E: std::error::Error + 'static> {
    /// An operation wanted an absent key, and the key has a value. Nothing of the write is done.
    #[error("operation {at}: the key has a value")]
    Exists {
        /// Its number in the write, from 0.
        at: usize,
    },
    /// An operation wanted a key with a value, and the key has none. Nothing of the write is done.
    #[error("operation {at}: the key has no value")]
    Missing {
        /// Its number in the write, from 0.
        at: usize,
    },
    /// What the open epoch has written leaves no room, and no closed epoch is being flushed that would leave it.
    /// Close the epoch, or raise the limit. Nothing of the write is done.
    #[error(
        "no room for {needed} bytes: {dirty} keys of the open epoch fill most of {limit} bytes"
    )]
    Full {
        /// Bytes that the write may need.
        needed: u64,
        /// Keys that the open epoch has written.
        dirty: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// The write alone is more than the cache may hold. Nothing of it is done.
    #[error("a write of {needed} bytes is more than the cache may hold, {limit} bytes")]
    TooLarge {
        /// Bytes that the write may need.
        needed: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// A later write stands on one of the keys, or the epoch of the write is closed. Nothing is undone.
    #[error(
        "the write cannot be taken back: its epoch is closed, or a later write stands on its keys"
    )]
    NotNewest,
    /// Nobody has closed an epoch that this waits for: it could wait for ever.
    #[error("no such epoch is closed")]
    NotClosed,
    /// The tag is not greater than that of the epoch before.
    #[error("the tag of an epoch must be greater than that of the one before")]
    Order,
    /// The backing could not read. Whether the keys are there is not known.
    #[error("could not read what is below the cache")]
    Read(#[source] E),
    /// The backing answered for another number of keys than it was asked for.
    #[error("the backing answered {got} of {asked} keys")]
    Answer {
        /// Keys asked for.
        asked: usize,
        /// Answers.
        got: usize,
    },
    /// A flush failed: the first error, which everybody gets until [`Cache::retry`](crate::Cache::retry). What
    /// the cache held is still there, dirty.
    #[error("a flush failed; nothing is written any more")]
    Flush(#[source] Arc<E>),
    /// The thread that flushes ended: the backing panicked, or the cache is being dropped.
    #[error("the thread that flushes has ended")]
    Stopped,
    /// The thread that flushes could not be started.
    #[error("could not start the thread that flushes")]
    Thread(#[source] std::io::Error),
}

impl<E: std::error::Error + 'static> Error<E> {
    /// Whether nothing is flushed any more, for everybody.
    #[must_use]
    pub const fn is_latched(&self) -> bool {
        matches!(self, Self::Flush(_) | Self::Stopped)
    }
}

/// What became of an undo that was refused: the error, and the undo, to be tried later.
///
/// ```
/// use hedgerow_cache::{Cache, CacheOptions, Error, MapBacking, Op};
/// use std::sync::Arc;
///
/// let cache = Cache::new(Arc::new(MapBacking::default()), None, CacheOptions::default()).unwrap();
/// let undo = cache.write(&mut vec![(1, Op::Put(1))]).unwrap();
/// cache.flush(1).unwrap();
/// let refused = cache.undo(undo).unwrap_err();
/// assert!(matches!(refused.error, Error::NotNewest));
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UndoRefused<K, V, E: std::error::Error + 'static> {
    /// Why.
    #[source]
    pub error: Error<E>,
    /// What was to be done.
    pub undo: crate::Undo<K, V>,
}
