//! What can be written, what a write undoes with, and what a flush hands down.
//!
//! ```text
//!   Vec<(key, Op)> ── Cache::write ──► Undo          takes the write back, while its epoch is open
//!                         │
//!                     open epoch ── close ──► NetEffect of (key, Effect) ──► Backing::apply
//! ```

use crate::state::Event;

/// One operation of a write ([`Cache::write`](crate::Cache::write)).
///
/// Put and delete take whatever was there. The others say what must be there, and refuse the whole write if it is
/// not so. What the cache does not know, insert and remove ask the backing; create believes.
///
/// ```
/// use hedgerow_cache::{Cache, CacheOptions, Error, MapBacking, Op};
/// use std::sync::Arc;
///
/// let cache = Cache::new(Arc::new(MapBacking::default()), None, CacheOptions::default()).unwrap();
/// cache.write(&mut vec![(1, Op::Insert("coin".to_string()))]).unwrap();
///
/// // Spent twice: nothing of the write is done, and it is still there.
/// let mut twice = vec![(1, Op::Remove), (1, Op::Remove)];
/// assert!(matches!(cache.write(&mut twice), Err(Error::Missing { at: 1 })));
/// assert_eq!(twice.len(), 2);
/// assert!(cache.get(&1).unwrap().is_some());
/// # cache.flush(1).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<V> {
    /// The key has this value from now on, whatever it had.
    Put(V),
    /// The key, which the caller vouches is absent, has this value. Refused if the cache knows better; if neither
    /// knows better than to believe it, and the key is below all the same, a later deletion within the epoch
    /// leaves the value that is below. (Bitcoin Core's `AddCoin` without `possible_overwrite`.)
    Create(V),
    /// The key, which must be absent, has this value.
    Insert(V),
    /// The key has no value from now on, whatever it had.
    Delete,
    /// The key, which must have a value, has none from now on.
    Remove,
}

impl<V> Op<V> {
    /// The column of the table of states ([`State::after`](crate::State::after)).
    #[must_use]
    pub const fn event(&self) -> Event {
        match self {
            Self::Put(_) => Event::Put,
            Self::Create(_) => Event::Create,
            Self::Insert(_) => Event::Insert,
            Self::Delete => Event::Delete,
            Self::Remove => Event::Remove,
        }
    }

    /// The value that it writes.
    #[must_use]
    pub const fn value(&self) -> Option<&V> {
        match self {
            Self::Put(value) | Self::Create(value) | Self::Insert(value) => Some(value),
            Self::Delete | Self::Remove => None,
        }
    }

    pub(crate) fn into_value(self) -> Option<V> {
        match self {
            Self::Put(value) | Self::Create(value) | Self::Insert(value) => Some(value),
            Self::Delete | Self::Remove => None,
        }
    }

    /// The operation of this kind with the value that was taken back.
    pub(crate) fn again(event: Event, value: Option<V>) -> Self {
        match (event, value) {
            (Event::Create, Some(value)) => Self::Create(value),
            (Event::Insert, Some(value)) => Self::Insert(value),
            (_, Some(value)) => Self::Put(value),
            (Event::Remove, None) => Self::Remove,
            (_, None) => Self::Delete,
        }
    }
}

/// What an epoch did to a key, all in all: what the backing must do.
///
/// ```
/// use hedgerow_cache::Effect;
///
/// let born = Effect::Put { value: 5, fresh: true };
/// assert_eq!(born.value(), Some(&5));
/// assert_eq!(Effect::<i32>::Delete { old: None }.value(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<V> {
    /// The key has this value.
    Put {
        /// The value.
        value: V,
        /// The backing has no value for the key. If not, it may have one, the same one too.
        fresh: bool,
    },
    /// The key has no value. The backing may have had none.
    Delete {
        /// The value that the backing has, where it is known and [`CacheOptions::keep_deleted`] is set.
        ///
        /// [`CacheOptions::keep_deleted`]: crate::CacheOptions::keep_deleted
        old: Option<V>,
    },
}

impl<V> Effect<V> {
    /// The value that the key has now.
    #[must_use]
    pub const fn value(&self) -> Option<&V> {
        match self {
            Self::Put { value, .. } => Some(value),
            Self::Delete { .. } => None,
        }
    }
}

/// What takes a write back exactly ([`Cache::undo`](crate::Cache::undo)): afterwards the cache is as if it had never
/// been, so that a flush has the same net effect. It holds the values that the write replaced; the cache does not
/// count them.
///
/// ```
/// use hedgerow_cache::{Cache, CacheOptions, MapBacking, Op, State};
/// use std::sync::Arc;
///
/// let cache = Cache::new(Arc::new(MapBacking::default()), None, CacheOptions::default()).unwrap();
/// let block = cache.write(&mut vec![(1, Op::Create("coin"))]).unwrap();
/// let next = cache.write(&mut vec![(1, Op::Remove), (2, Op::Create("change"))]).unwrap();
///
/// // The newest first: the other way round is refused, and what was refused comes back.
/// let block = cache.undo(block).unwrap_err().undo;
/// cache.undo(next).unwrap();
/// assert_eq!(cache.get(&1).unwrap(), Some("coin"));
/// cache.undo(block).unwrap();
/// assert_eq!(cache.state(&1), State::Unknown);
/// # cache.flush(1).unwrap();
/// ```
#[derive(Debug)]
pub struct Undo<K, V> {
    /// The sequence number of the write.
    pub(crate) seq: u64,
    /// In the order of its operations.
    pub(crate) steps: Vec<Step<K, V>>,
}

impl<K, V> Undo<K, V> {
    /// The sequence number of the write: a later write has a greater one.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.seq
    }

    /// The keys that were written, in the order of the operations.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.steps.iter().map(|step| &step.key)
    }

    /// The keys that were written, in the order of the operations, each with the value that it had before: always of
    /// [`Op::Remove`]. None where there was none, and where a put or a delete did not ask the backing.
    ///
    /// ```
    /// use hedgerow_cache::{Cache, CacheOptions, MapBacking, Op};
    /// use std::sync::Arc;
    ///
    /// let below = Arc::new(MapBacking::default());
    /// below.insert(1, "stored");
    /// let cache = Cache::new(below, None, CacheOptions::default()).unwrap();
    /// cache.write(&mut vec![(2, Op::Create("new"))]).unwrap();
    /// let undo = cache.write(&mut vec![(2, Op::Remove), (1, Op::Remove), (3, Op::Create("newer"))]).unwrap();
    /// let replaced: Vec<_> = undo.replaced().map(|(_, value)| value.copied()).collect();
    /// assert_eq!(replaced, [Some("new"), Some("stored"), None]);
    /// # cache.flush(1).unwrap();
    /// ```
    pub fn replaced(&self) -> impl Iterator<Item = (&K, Option<&V>)> {
        self.steps.iter().map(|Step { key, previous: Previous { was, value, .. }, .. }| match was {
            // The value that lies below.
            Was::Slot(Kind::Deleted) => (key, None),
            _ => (key, value.as_ref()),
        })
    }
}

/// What one operation did.
#[derive(Debug)]
pub(crate) struct Step<K, V> {
    pub(crate) key: K,
    pub(crate) event: Event,
    pub(crate) previous: Previous<V>,
    /// It left something of the open epoch.
    pub(crate) left: bool,
}

/// What an operation found of its key in the open epoch.
#[derive(Debug)]
pub(crate) struct Previous<V> {
    pub(crate) was: Was,
    /// The value of that slot; where there was nothing, the value that is being flushed.
    pub(crate) value: Option<V>,
    pub(crate) seq: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// The operation changed nothing.
    Untouched,
    /// Nothing of this epoch.
    Nothing,
    /// A slot of this kind.
    Slot(Kind),
}

/// What a slot is, beside the epoch in which it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Clean,
    Dirty,
    Fresh,
    Deleted,
}
