//! What lies below a cache.
//!
//! ```text
//!   Cache ── get_many(keys) ──────────────────► Backing    a store, a database, another cache
//!         ◄── values, or an error ─────────────
//!         ── apply(NetEffect { tag, effects }) ►           all of it or nothing, durable on return
//! ```

use crate::heap::HeapBytes;
use crate::op::Effect;
use crate::part::{Part, Which};
use crate::parts::Parts;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

/// What a cache writes back to, and reads what it does not know from.
///
/// ```
/// use hedgerow_cache::{Backing, MapBacking, NetEffect};
/// use std::io;
///
/// /// A map that takes nothing more.
/// struct Full(MapBacking<u64, u64, u32>);
///
/// impl Backing for Full {
///     type Key = u64;
///     type Value = u64;
///     type Tag = u32;
///     type Error = io::Error;
///
///     fn get_many(&self, keys: &[u64]) -> io::Result<Vec<Option<u64>>> {
///         self.0.get_many(keys).map_err(|never| match never {})
///     }
///
///     fn apply(&self, _: &NetEffect<'_, Self>) -> io::Result<()> {
///         Err(io::ErrorKind::StorageFull.into())
///     }
/// }
/// # assert_eq!(Full(MapBacking::default()).get_many(&[1]).unwrap(), [None]);
/// ```
pub trait Backing: Send + Sync + 'static {
    /// Names a value. Clones are equal and hash alike.
    type Key: Hash + Eq + Clone + HeapBytes + Send + Sync + 'static;
    /// Never changes while the cache holds it. Every read clones it.
    type Value: Clone + HeapBytes + Send + Sync + 'static;
    /// What an epoch is known by: a height, with whatever must be durable in one step with the epoch. Tags ascend.
    type Tag: Ord + Clone + Send + Sync + 'static;
    /// "Could not": never "not found".
    type Error: std::error::Error + Send + Sync + 'static;

    /// The values of `keys`, in their order; `None` where there is none. It may be called while [`Self::apply`] is
    /// under way, and then has every key as before or as after it.
    ///
    /// # Errors
    /// If any of them could not be read.
    fn get_many(&self, keys: &[Self::Key]) -> Result<Vec<Option<Self::Value>>, Self::Error>;

    /// Writes what an epoch did, and its tag: all of it or nothing, durable when this returns. Never called twice
    /// at once. It may read the cache above, but must not wait for it: nothing is durable before it returns. After an error it may be called again with the same epoch ([`Cache::retry`](crate::Cache::retry)),
    /// also if the first time did write it.
    ///
    /// # Errors
    /// If nobody can be sure that it is durable.
    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), Self::Error>;
}

/// What one epoch did, all in all: each key once, whatever happened to it on the way.
///
/// ```
/// use hedgerow_cache::{Cache, CacheOptions, Effect, MapBacking, Op};
/// use std::sync::Arc;
///
/// let map = Arc::new(MapBacking::default());
/// let cache = Cache::new(Arc::clone(&map), None, CacheOptions::default()).unwrap();
/// cache.write(&mut vec![(1, Op::Create("one")), (2, Op::Create("two"))]).unwrap();
/// cache.write(&mut vec![(1, Op::Remove)]).unwrap();
/// cache.flush(7).unwrap();
///
/// // What the map was told with tag 7.
/// assert_eq!(map.last_effects(), [(2, Effect::Put { value: "two", fresh: true })]);
/// assert_eq!(map.tag(), Some(7));
/// ```
pub struct NetEffect<'a, B: Backing + ?Sized> {
    pub(crate) parts: &'a Parts<B::Key, B::Value>,
    pub(crate) tag: &'a B::Tag,
    pub(crate) epoch: Epoch,
    pub(crate) len: u64,
    pub(crate) backing: PhantomData<fn(&B)>,
}

impl<'a, B: Backing + ?Sized> NetEffect<'a, B> {
    /// What the epoch is known by.
    #[must_use]
    pub const fn tag(&self) -> &'a B::Tag {
        self.tag
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Keys.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the epoch leaves everything as it was. It is applied all the same, for its tag.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every key with what happened to it, each once, in no order that means anything. Keys and values are cloned some
    /// hundreds at a time, with no lock held in between.
    #[must_use]
    pub fn iter(&self) -> Effects<'a, B> {
        Effects::new(self.parts, Which::OldestClosed)
    }
}

impl<'a, B: Backing + ?Sized> IntoIterator for &NetEffect<'a, B> {
    type Item = (B::Key, Effect<B::Value>);
    type IntoIter = Effects<'a, B>;

    fn into_iter(self) -> Effects<'a, B> {
        self.iter()
    }
}

impl<B: Backing + ?Sized> fmt::Debug for NetEffect<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetEffect")
            .field("epoch", &self.epoch)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The effects of an epoch, one by one ([`NetEffect::iter`], [`Cache::open_effects`](crate::Cache::open_effects)).
///
/// ```
/// use hedgerow_cache::{Backing, NetEffect};
///
/// fn deletions<B: Backing>(net: &NetEffect<'_, B>) -> usize {
///     net.iter().filter(|(_, effect)| effect.value().is_none()).count()
/// }
/// ```
pub struct Effects<'a, B: Backing + ?Sized> {
    parts: &'a Parts<B::Key, B::Value>,
    of: Which,
    part: usize,
    /// The last key that was taken from the part.
    after: Option<B::Key>,
    ready: std::vec::IntoIter<(B::Key, Effect<B::Value>)>,
}

/// Effects that are cloned at once.
const AT_ONCE: usize = 256;

impl<'a, B: Backing + ?Sized> Effects<'a, B> {
    pub(crate) fn new(parts: &'a Parts<B::Key, B::Value>, of: Which) -> Self {
        Self { parts, of, part: 0, after: None, ready: Vec::new().into_iter() }
    }
}

impl<B: Backing + ?Sized> Iterator for Effects<'_, B> {
    type Item = (B::Key, Effect<B::Value>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(effect) = self.ready.next() {
                return Some(effect);
            }
            let take = |part: &Part<_, _>| {
                let after = self.after.as_ref().map(|key| (self.parts.hash(key), key));
                part.effects(self.of, after, AT_ONCE)
            };
            let effects = take(&*self.parts.lock(self.part)?);
            match effects.last() {
                Some((key, _)) => self.after = Some(key.clone()),
                None => (self.part, self.after) = (self.part + 1, None),
            }
            self.ready = effects.into_iter();
        }
    }
}

impl<B: Backing + ?Sized> fmt::Debug for Effects<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects").field("part", &self.part).finish_non_exhaustive()
    }
}

/// Number of an epoch, from 1 in the life of a cache.
///
/// ```
/// use hedgerow_cache::{Cache, CacheOptions, MapBacking, Op};
/// use std::sync::Arc;
///
/// let cache = Cache::new(Arc::new(MapBacking::default()), None, CacheOptions::default()).unwrap();
/// cache.write(&mut vec![(1, Op::Put(1))]).unwrap();
/// let first = cache.close_epoch(10).unwrap();
/// cache.write(&mut vec![(1, Op::Put(2))]).unwrap();
/// let second = cache.close_epoch(20).unwrap();
/// assert!(first < second);
/// cache.wait(second).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A map in memory as a backing: for tests, and for a cache with nothing below it.
///
/// ```
/// use hedgerow_cache::{Backing, MapBacking};
///
/// let map = MapBacking::<u8, u8, u64>::default();
/// map.insert(1, 10);
/// assert_eq!(map.get_many(&[1, 2]), Ok(vec![Some(10), None]));
/// assert_eq!((map.len(), map.tag()), (1, None));
/// ```
#[derive(Debug)]
pub struct MapBacking<K, V, T>(Mutex<MapState<K, V, T>>);

#[derive(Debug)]
struct MapState<K, V, T> {
    values: HashMap<K, V>,
    tag: Option<T>,
    last: Vec<(K, Effect<V>)>,
}

impl<K, V, T> Default for MapBacking<K, V, T> {
    fn default() -> Self {
        Self(Mutex::new(MapState { values: HashMap::new(), tag: None, last: Vec::new() }))
    }
}

impl<K: Hash + Eq + Clone, V: Clone, T: Clone> MapBacking<K, V, T> {
    fn with<R>(&self, look: impl FnOnce(&mut MapState<K, V, T>) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives a key a value, behind the back of a cache that may lie above: only before there is one.
    pub fn insert(&self, key: K, value: V) {
        self.with(|state| state.values.insert(key, value));
    }

    /// Values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|state| state.values.len())
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tag of the last epoch that was applied.
    #[must_use]
    pub fn tag(&self) -> Option<T> {
        self.with(|state| state.tag.clone())
    }

    /// What the last epoch did.
    #[must_use]
    pub fn last_effects(&self) -> Vec<(K, Effect<V>)> {
        self.with(|state| state.last.clone())
    }
}

impl<K, V, T> Backing for MapBacking<K, V, T>
where
    K: Hash + Eq + Clone + HeapBytes + Send + Sync + 'static,
    V: Clone + HeapBytes + Send + Sync + 'static,
    T: Ord + Clone + Send + Sync + 'static,
{
    type Key = K;
    type Value = V;
    type Tag = T;
    type Error = Infallible;

    fn get_many(&self, keys: &[K]) -> Result<Vec<Option<V>>, Infallible> {
        Ok(self.with(|state| keys.iter().map(|key| state.values.get(key).cloned()).collect()))
    }

    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), Infallible> {
        // Taken before the map is locked: whoever reads it holds no lock of the cache, but nobody should wait.
        let effects: Vec<_> = net.iter().collect();
        self.with(|state| {
            for (key, effect) in &effects {
                match effect.value() {
                    Some(value) => state.values.insert(key.clone(), value.clone()),
                    None => state.values.remove(key),
                };
            }
            state.tag = Some(net.tag().clone());
            state.last = effects;
        });
        Ok(())
    }
}
