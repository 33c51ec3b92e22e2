//! The cache: reads, writes, undo, epochs.
//!
//! ```text
//!   get, get_many ──► part ── unknown? ──► Backing::get_many ──► part: keep it, unless more is known by now
//!   write         ──► promise of room ──► all its parts locked ──► op by op, or none ──► Undo
//!   close_epoch   ──► all parts locked: the open epoch becomes a closed one ──► flusher
//! ```

use crate::backing::{Backing, Effects, Epoch};
use crate::error::{Error, UndoRefused};
use crate::flow::{Flow, Refused};
use crate::flusher;
use crate::heap::HeapBytes;
use crate::op::{Op, Step, Undo};
use crate::part::{Found, Part, Stop, Which};
use crate::parts::{Locked, Parts, Promise};
use crate::state::{Event, State};
use crate::stats::{CacheStats, Counters, add};
use crate::sync::Mutex;
use crate::sync::thread::{self, JoinHandle};
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// How a [`Cache`] is set up.
///
/// ```
/// use hedgerow_cache::CacheOptions;
///
/// let options = CacheOptions { limit_bytes: 64 << 20, ..CacheOptions::default() };
/// assert_eq!(options.closed_epochs, 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes of memory that keys, values and all that keeps them may take. 512 MiB if not said otherwise.
    pub limit_bytes: u64,
    /// Most epochs that are closed and not durable; closing one more waits. At least 1; 2 if not said otherwise.
    pub closed_epochs: usize,
    /// Whether a deleted key keeps the value that lies below, where it is known, until it is flushed
    /// ([`Effect::Delete`](crate::Effect::Delete)): for whoever keeps a commitment to the set of values. Off if not said
    /// otherwise.
    pub keep_deleted: bool,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { limit_bytes: 512 << 20, closed_epochs: 2, keep_deleted: false }
    }
}

/// A write-back cache over a [`Backing`]. Any number of threads may use it at once.
///
/// See the [crate](crate) for the picture. Dropping it flushes the epochs that are closed, unless a flush has failed, and
/// loses what the open epoch has written.
///
/// ```
/// use hedgerow_cache::{Cache, CacheOptions, MapBacking, Op};
/// use std::sync::Arc;
///
/// let below = Arc::new(MapBacking::default());
/// below.insert("alice", 5);
/// let cache = Cache::new(Arc::clone(&below), Some(99), CacheOptions::default()).unwrap();
///
/// cache.write(&mut vec![("alice", Op::Remove), ("bob", Op::Insert(5))]).unwrap();
/// assert_eq!(cache.get_many(&["alice", "bob"]).unwrap(), [None, Some(5)]);
/// assert_eq!(below.len(), 1); // alice
///
/// cache.flush(100).unwrap();
/// assert_eq!(below.tag(), Some(100));
/// cache.wait_durable(&100).unwrap();
/// ```
pub struct Cache<B: Backing> {
    inner: Arc<Inner<B>>,
    flusher: Option<JoinHandle<()>>,
}

/// What the cache and its flusher share.
pub(crate) struct Inner<B: Backing> {
    pub(crate) backing: Arc<B>,
    pub(crate) parts: Parts<B::Key, B::Value>,
    pub(crate) flow: Flow<B::Tag, B::Error>,
    pub(crate) counters: Counters,
    /// The next sequence number. Taken while the parts of a write are locked.
    sequence: AtomicU64,
    /// Room for the steps of a write, from one that was kept.
    spare_steps: Mutex<Option<Steps<B>>>,
}

/// Most steps for which memory is kept when nothing is written.
const MOST_SPARE_STEPS: usize = 1 << 16;

/// What the backing has of the keys of a write, as far as it was asked.
struct Known<V> {
    /// Numbers of operations, ascending.
    asked: Vec<usize>,
    /// The generation of the part before, and the value.
    answers: Vec<(u64, Option<V>)>,
}

impl<V> Known<V> {
    /// By the numbers of operations, ascending.
    fn in_order(&self) -> impl Iterator<Item = (usize, &(u64, Option<V>))> {
        self.asked.iter().copied().zip(&self.answers)
    }

    fn of(&self, at: usize) -> Option<&(u64, Option<V>)> {
        self.answers.get(self.asked.binary_search(&at).ok()?)
    }

    /// Knows more, in place of what it knew.
    fn learn(&mut self, asked: Vec<(usize, u64)>, values: Vec<Option<V>>) {
        let new = asked
            .into_iter()
            .zip(values)
            .map(|((at, generation), value)| (at, (generation, value)));
        if self.asked.is_empty() {
            (self.asked, self.answers) = new.unzip();
            return;
        }
        for (at, answer) in new {
            match self.asked.binary_search(&at) {
                Ok(place) => {
                    if let Some(old) = self.answers.get_mut(place) {
                        *old = answer;
                    }
                }
                Err(place) => {
                    self.asked.insert(place, at);
                    self.answers.insert(place, answer);
                }
            }
        }
    }
}

/// What came of applying a write. Nothing has changed unless it is done.
enum Tried<K, V, R> {
    Done(Undo<K, V>),
    Unwanted(R),
    Refused(usize, Stop),
}

type Failed<B> = Error<<B as Backing>::Error>;
type Ops<B> = Vec<(<B as Backing>::Key, Op<<B as Backing>::Value>)>;
type UndoOf<B> = Undo<<B as Backing>::Key, <B as Backing>::Value>;
type Steps<B> = Vec<Step<<B as Backing>::Key, <B as Backing>::Value>>;
type Refusal<B> = UndoRefused<<B as Backing>::Key, <B as Backing>::Value, <B as Backing>::Error>;

impl<B: Backing> Cache<B> {
    /// A cache with nothing in it over a backing that stands at the tag `durable`, if at any.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn new(
        backing: Arc<B>,
        durable: Option<B::Tag>,
        options: CacheOptions,
    ) -> Result<Self, Failed<B>> {
        let CacheOptions { limit_bytes, closed_epochs, keep_deleted } = options;
        let inner = Arc::new(Inner {
            backing,
            parts: Parts::new(limit_bytes, keep_deleted),
            flow: Flow::new(durable, closed_epochs),
            counters: Counters::default(),
            sequence: AtomicU64::new(1),
            spare_steps: Mutex::new(None),
        });
        let shared = Arc::clone(&inner);
        let flusher = thread::Builder::new()
            .name("hedgerow-flush".into())
            .spawn(move || flusher::run(&shared))
            .map_err(Error::Thread)?;
        Ok(Self { inner, flusher: Some(flusher) })
    }

    /// What lies below.
    #[must_use]
    pub fn backing(&self) -> &Arc<B> {
        &self.inner.backing
    }

    /// The value of a key: what was written last, whether it is flushed or not; `None` if the key has none.
    ///
    /// # Errors
    /// [`Error::Read`] if the backing had to be asked and could not say, [`Error::Answer`].
    pub fn get(&self, key: &B::Key) -> Result<Option<B::Value>, Failed<B>> {
        let inner = &*self.inner;
        let hash = inner.parts.hash(key);
        let found = inner.parts.lock(inner.parts.part_of(hash)).map(|mut part| part.get(hash, key));
        if let Some(Found::Known(value, state)) = found {
            add(inner.counters.hits(state), 1);
            return Ok(value);
        }
        let values = self.get_many(std::slice::from_ref(key))?;
        Ok(values.into_iter().next().flatten())
    }

    /// The values of many keys, in their order. The backing is asked once for all that are not known here. Each value
    /// is one that the key had during the call.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_many(&self, keys: &[B::Key]) -> Result<Vec<Option<B::Value>>, Failed<B>> {
        let inner = &*self.inner;
        let mut values: Vec<Option<B::Value>> = Vec::new();
        values.resize_with(keys.len(), || None);
        let mut wanted: Vec<_> = (keys.iter().zip(&mut values))
            .map(|(key, value)| {
                let hash = inner.parts.hash(key);
                Wanted { key, value, hash, part: inner.parts.part_of(hash), generation: 0 }
            })
            .collect();
        wanted.sort_by_key(|wanted| wanted.part);
        inner.at_their_parts(&mut wanted, |part, wanted| match part.get(wanted.hash, wanted.key) {
            Found::Unknown(generation) => {
                wanted.generation = generation;
                true
            }
            Found::Known(value, state) => {
                *wanted.value = value;
                add(inner.counters.hits(state), 1);
                false
            }
        });
        if wanted.is_empty() {
            return Ok(values);
        }
        let unknown: Vec<_> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
        for (wanted, value) in wanted.iter_mut().zip(inner.read(&unknown)?) {
            *wanted.value = value;
        }
        let mut evicted = 0;
        inner.at_their_parts(&mut wanted, |part, wanted| {
            match part.get(wanted.hash, wanted.key) {
                // Written or read by somebody else meanwhile: no older than what the backing said.
                Found::Known(value, _) => *wanted.value = value,
                Found::Unknown(_) => {
                    if let Some(value) = &*wanted.value {
                        evicted += part.keep(wanted.hash, wanted.key, value, wanted.generation);
                    }
                }
            }
            false
        });
        add(&inner.counters.evictions, evicted);
        inner.parts.evict_over(|gone| add(&inner.counters.evictions, gone));
        Ok(values)
    }

    /// Does all operations in their order, or none: then they are still in `ops`, which is empty otherwise.
    ///
    /// Everything that is written is of one epoch, and who reads one key of it with its new value reads all of
    /// them so. The backing is asked once if there are [`Op::Insert`] or [`Op::Remove`] of unknown keys. Waits if the
    /// cache is full of what is being flushed.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Missing`], [`Error::Full`], [`Error::TooLarge`]; [`Error::Read`] and
    /// [`Error::Answer`] if the backing was asked; the latched ones.
    pub fn write(&self, ops: &mut Ops<B>) -> Result<UndoOf<B>, Failed<B>> {
        match self.write_if(ops, |_| Ok::<(), Infallible>(()))? {
            Ok(undo) => Ok(undo),
            Err(never) => match never {},
        }
    }

    /// As [`Self::write`], if the caller agrees to what comes of it: `check` sees what would take it back, and so what each
    /// operation replaces ([`Undo::replaced`]), before anybody else sees anything. If it says no, nothing is done.
    ///
    /// `check` must not use the cache, and should be quick: what is written is locked meanwhile. It is not asked if an operation is refused.
    ///
    /// ```
    /// use hedgerow_cache::{Cache, CacheOptions, MapBacking, Op};
    /// use std::sync::Arc;
    ///
    /// let cache = Cache::new(Arc::new(MapBacking::default()), None, CacheOptions::default()).unwrap();
    /// cache.write(&mut vec![("alice", Op::Create(50))]).unwrap();
    ///
    /// // Pays no more than there was.
    /// let mut pays = vec![("alice", Op::Remove), ("bob", Op::Create(60))];
    /// let kept = cache.write_if(&mut pays, |undo| match undo.replaced().next() {
    ///     Some((_, Some(had))) if *had >= 60 => Ok(()),
    ///     other => Err(format!("{other:?}")),
    /// });
    /// assert!(kept.unwrap().is_err());
    /// assert_eq!(pays.len(), 2);
    /// assert_eq!(cache.get_many(&["alice", "bob"]).unwrap(), [Some(50), None]);
    /// # cache.flush(1).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Self::write`]; inside, what `check` says.
    pub fn write_if<R>(
        &self,
        ops: &mut Ops<B>,
        mut check: impl FnMut(&UndoOf<B>) -> Result<(), R>,
    ) -> Result<Result<UndoOf<B>, R>, Failed<B>> {
        let inner = &*self.inner;
        let hashes: Vec<_> = ops.iter().map(|(key, _)| inner.parts.hash(key)).collect();
        let touched = inner.touched(&hashes);
        let mut known = Known { asked: Vec::new(), answers: Vec::new() };
        let mut stopped = None;
        loop {
            let promise = inner.promise(ops, &hashes, &touched)?;
            let unknown = inner.unknown(ops, &hashes, &touched, &known, stopped);
            if !unknown.is_empty() {
                let keys = unknown.iter().filter_map(|&(at, _)| Some(ops.get(at)?.0.clone()));
                let keys: Vec<_> = keys.collect();
                known.learn(unknown, inner.read(&keys)?);
            }
            let tried = inner.apply(ops, &hashes, &touched, &known, &mut check);
            drop(promise);
            match tried {
                Tried::Done(undo) => {
                    inner.parts.evict_over(|gone| add(&inner.counters.evictions, gone));
                    return Ok(Ok(undo));
                }
                Tried::Unwanted(reason) => return Ok(Err(reason)),
                Tried::Refused(at, Stop::Exists) => return Err(Error::Exists { at }),
                Tried::Refused(at, Stop::Missing) => return Err(Error::Missing { at }),
                // The backing may have changed since it was asked, or it must be asked because of what the write itself does.
                Tried::Refused(at, Stop::Ask) => stopped = Some(at),
                Tried::Refused(_, Stop::Places) => return Err(inner.full(ops, &hashes, &touched)),
            }
        }
    }

    /// Takes a write of the open epoch back, exactly: what it replaced is there again, in the same state. Several are
    /// taken back from the newest to the oldest.
    ///
    /// # Errors
    /// [`Error::NotNewest`] if the epoch was closed, or if something that was written later stands on one of the keys.
    /// Nothing is undone then, and the error has the undo.
    pub fn undo(&self, undo: UndoOf<B>) -> Result<(), Refusal<B>> {
        let inner = &*self.inner;
        let hashes: Vec<_> = undo.steps.iter().map(|step| inner.parts.hash(&step.key)).collect();
        let mut locked = inner.lock(&inner.touched(&hashes));
        // Of a key that was written twice, only what the last operation left is there.
        let mut left: HashMap<&B::Key, (u64, bool)> = HashMap::new();
        for (step, &hash) in undo.steps.iter().zip(&hashes) {
            left.insert(&step.key, (hash, step.left));
        }
        let newest = left.iter().all(|(key, &(hash, left))| {
            let part = inner.of(&mut locked, hash);
            part.is_some_and(|part| {
                part.is_of_open_epoch(undo.seq) && part.is_as_left(hash, key, undo.seq, left)
            })
        });
        if !newest {
            return Err(UndoRefused { error: Error::NotNewest, undo });
        }
        for (step, &hash) in undo.steps.into_iter().zip(&hashes).rev() {
            if let Some(part) = inner.of(&mut locked, hash) {
                part.revert(hash, &step.key, step.previous);
            }
        }
        drop(locked);
        add(&inner.counters.undone, 1);
        inner.parts.evict_over(|gone| add(&inner.counters.evictions, gone));
        Ok(())
    }

    /// Says that a write will not be taken back: the next one uses the memory of its undo. Not more than that: an undo may as
    /// well be dropped.
    pub fn keep(&self, undo: UndoOf<B>) {
        let mut steps = undo.steps;
        if steps.capacity() <= MOST_SPARE_STEPS {
            steps.clear();
            *self.inner.spare_steps.lock() = Some(steps);
        }
    }

    /// Closes the open epoch: what it has written will be flushed in one batch with `tag`, while the next epoch takes
    /// writes. Waits while as many epochs as may be are closed and not durable ([`CacheOptions::closed_epochs`]).
    ///
    /// # Errors
    /// [`Error::Order`] if the tag is not greater than the last one; the latched ones.
    pub fn close_epoch(&self, tag: B::Tag) -> Result<Epoch, Failed<B>> {
        let inner = &*self.inner;
        let close = || {
            let start = Instant::now();
            // All writes are before or after this: none is under way while all parts are held.
            let mut parts = inner.parts.lock_all();
            let next = inner.sequence.load(Relaxed);
            let len = parts.iter_mut().map(|part| part.close(next)).sum();
            drop(parts);
            inner.counters.closing.since(start);
            len
        };
        Ok(inner.flow.close(tag, close)?)
    }

    /// Closes the open epoch and waits until it is durable.
    ///
    /// # Errors
    /// As [`Self::close_epoch`] and [`Self::wait`].
    pub fn flush(&self, tag: B::Tag) -> Result<Epoch, Failed<B>> {
        let epoch = self.close_epoch(tag)?;
        self.wait(epoch)?;
        Ok(epoch)
    }

    /// Waits until an epoch is durable.
    ///
    /// # Errors
    /// [`Error::NotClosed`] if it is not closed yet; the latched ones.
    pub fn wait(&self, epoch: Epoch) -> Result<(), Failed<B>> {
        Ok(self.inner.flow.wait(epoch)?)
    }

    /// Waits until an epoch with this tag or a greater one is durable: the commit barrier.
    ///
    /// # Errors
    /// [`Error::NotClosed`] if no epoch with such a tag is closed; the latched ones.
    pub fn wait_durable(&self, tag: &B::Tag) -> Result<(), Failed<B>> {
        Ok(self.inner.flow.wait_tag(tag)?)
    }

    /// The tag at which the backing stands.
    #[must_use]
    pub fn durable_tag(&self) -> Option<B::Tag> {
        self.inner.flow.look().2
    }

    /// Whether everything that was written is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        // From what is held, under its locks, and not from any count of it.
        let parts = self.inner.parts.lock_all();
        let nothing = parts.iter().all(|part| {
            let [open, closed, _] = part.counts();
            open == 0 && closed == 0
        });
        // A closer who holds the flow wants the parts: they are let go first.
        drop(parts);
        nothing && self.inner.flow.look().3 == 0
    }

    /// The latched error, if a flush has failed.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<(), Failed<B>> {
        Ok(self.inner.flow.check()?)
    }

    /// Tries the flush that failed again: the same epoch with the same effects. Only for a backing that still takes
    /// something after the error; waiters that got the error have got it.
    ///
    /// # Errors
    /// [`Error::Stopped`] if there is no thread that would.
    pub fn retry(&self) -> Result<(), Failed<B>> {
        Ok(self.inner.flow.retry()?)
    }

    /// Forgets everything, what the open epoch has written too, once all closed epochs are durable: the backing was
    /// brought to another state, where it stands at `tag`. Undos of before are refused. Nobody may read while
    /// the backing changes, or he may keep what was there before.
    ///
    /// # Errors
    /// The latched ones; nothing is forgotten then.
    pub fn reset(&self, tag: Option<B::Tag>) -> Result<(), Failed<B>> {
        let inner = &*self.inner;
        let reset = || {
            let mut parts = inner.parts.lock_all();
            let next = inner.sequence.load(Relaxed);
            for part in &mut parts {
                part.reset(next);
            }
        };
        Ok(inner.flow.reset(tag, reset)?)
    }

    /// What the open epoch has done so far, against what lies below it, each key once: what closing it now would hand
    /// to the backing. If somebody writes meanwhile, what was written before is not all there.
    ///
    /// ```
    /// use hedgerow_cache::{Cache, CacheOptions, Effect, MapBacking, Op};
    /// use std::sync::Arc;
    ///
    /// let cache = Cache::new(Arc::new(MapBacking::default()), None, CacheOptions::default()).unwrap();
    /// cache.write(&mut vec![(1, Op::Create("one")), (2, Op::Create("two"))]).unwrap();
    /// cache.write(&mut vec![(1, Op::Remove)]).unwrap();
    /// let effects: Vec<_> = cache.open_effects().collect();
    /// assert_eq!(effects, [(2, Effect::Put { value: "two", fresh: true })]);
    /// cache.flush(1).unwrap();
    /// assert_eq!(cache.open_effects().count(), 0);
    /// ```
    #[must_use]
    pub fn open_effects(&self) -> Effects<'_, B> {
        Effects::new(&self.inner.parts, Which::Open)
    }

    /// Sets another limit; evicts at once what is too much, as far as it is clean.
    pub fn set_limit(&self, bytes: u64) {
        let inner = &*self.inner;
        inner.parts.room().set_limit(bytes);
        inner.parts.evict_over(|gone| add(&inner.counters.evictions, gone));
        inner.flow.more_room();
    }

    /// Evicts every clean value.
    pub fn evict_clean(&self) {
        let inner = &*self.inner;
        inner.parts.evict_all(|gone| add(&inner.counters.evictions, gone));
        inner.flow.more_room();
    }

    /// What the cache knows of a key. Nothing is read, and the key is not used by that.
    #[must_use]
    pub fn state(&self, key: &B::Key) -> State {
        let hash = self.inner.parts.hash(key);
        let part = self.inner.parts.lock(self.inner.parts.part_of(hash));
        part.map_or(State::Unknown, |part| part.state(hash, key))
    }

    /// What it has done, and what it holds.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let inner = &*self.inner;
        let (open, durable, _, closed_epochs) = inner.flow.look();
        let mut stats = CacheStats {
            limit_bytes: inner.parts.room().limit(),
            used_bytes: inner.parts.room().used(),
            open_epoch: open.0,
            durable_epoch: durable.0,
            closed_epochs: closed_epochs as u64,
            ..inner.counters.read()
        };
        for part in 0..inner.parts.len() {
            if let Some(part) = inner.parts.lock(part) {
                let [dirty, flushing, clean] = part.counts();
                stats.dirty_keys += dirty;
                stats.flushing_keys += flushing;
                stats.clean_keys += clean;
            }
        }
        stats
    }
}

impl<B: Backing> Drop for Cache<B> {
    fn drop(&mut self) {
        self.inner.flow.stop();
        if let Some(flusher) = self.flusher.take() {
            // A panic of it was latched, and told to whoever waited.
            let _ = flusher.join();
        }
    }
}

impl<B: Backing> fmt::Debug for Cache<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("room", self.inner.parts.room()).finish_non_exhaustive()
    }
}

/// A key that is looked up, and where its value goes.
struct Wanted<'a, K, V> {
    key: &'a K,
    value: &'a mut Option<V>,
    hash: u64,
    part: usize,
    /// Of the part, when it was found that the key is unknown.
    generation: u64,
}

/// Parts that are locked, by their number.
type LockedParts<'a, B> = Vec<(usize, Locked<'a, <B as Backing>::Key, <B as Backing>::Value>)>;

impl<B: Backing> Inner<B> {
    /// Does something for each wanted key with its part locked, each part once; keeps those for which it says so. They
    /// must be sorted by part.
    fn at_their_parts(
        &self,
        wanted: &mut Vec<Wanted<'_, B::Key, B::Value>>,
        mut each: impl FnMut(
            &mut Locked<'_, B::Key, B::Value>,
            &mut Wanted<'_, B::Key, B::Value>,
        ) -> bool,
    ) {
        let mut locked: Option<(usize, Locked<'_, _, _>)> = None;
        wanted.retain_mut(|wanted| {
            if locked.as_ref().is_none_or(|(part, _)| *part != wanted.part) {
                // The one before is let go first.
                locked = None;
                locked = self.parts.lock(wanted.part).map(|part| (wanted.part, part));
            }
            locked.as_mut().is_some_and(|(_, part)| each(part, wanted))
        });
    }

    /// Asks the backing.
    fn read(&self, keys: &[B::Key]) -> Result<Vec<Option<B::Value>>, Failed<B>> {
        let values = match self.backing.get_many(keys) {
            Ok(values) if values.len() == keys.len() => values,
            Ok(values) => {
                add(&self.counters.failed_reads, 1);
                return Err(Error::Answer { asked: keys.len(), got: values.len() });
            }
            Err(error) => {
                add(&self.counters.failed_reads, 1);
                return Err(Error::Read(error));
            }
        };
        let found = values.iter().flatten().count();
        add(&self.counters.misses, keys.len() as u64);
        add(&self.counters.loads, found as u64);
        add(&self.counters.absent, (keys.len() - found) as u64);
        Ok(values)
    }

    /// The parts of these hashes, ascending.
    fn touched(&self, hashes: &[u64]) -> Vec<usize> {
        let mut touched: Vec<_> = hashes.iter().map(|&hash| self.parts.part_of(hash)).collect();
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    fn lock(&self, touched: &[usize]) -> LockedParts<'_, B> {
        touched.iter().filter_map(|&part| Some((part, self.parts.lock(part)?))).collect()
    }

    /// The part of a hash among those that are locked.
    fn of<'a>(
        &self,
        locked: &'a mut LockedParts<'_, B>,
        hash: u64,
    ) -> Option<&'a mut Part<B::Key, B::Value>> {
        let part = self.parts.part_of(hash);
        let at = locked.binary_search_by_key(&part, |(part, _)| *part).ok()?;
        locked.get_mut(at).map(|(_, part)| &mut **part)
    }

    /// Bytes by which a write may make the cache grow.
    fn needed(&self, ops: &Ops<B>, hashes: &[u64], touched: &[usize]) -> u64 {
        let mut parts: Vec<_> = touched.iter().map(|&part| (part, 0_u64, 0_u64)).collect();
        for ((key, op), &hash) in ops.iter().zip(hashes) {
            let part = self.parts.part_of(hash);
            let at = parts.binary_search_by_key(&part, |(part, ..)| *part);
            if let Some((_, slots, heap)) = at.ok().and_then(|at| parts.get_mut(at)) {
                let value = op.value().map_or(0, B::Value::heap_bytes);
                *slots += 1;
                *heap = heap.saturating_add(key.heap_bytes().saturating_add(value) as u64);
            }
        }
        let growth = |(part, slots, heap)| Some(self.parts.lock(part)?.growth(slots, heap));
        parts.into_iter().filter_map(growth).fold(0, u64::saturating_add)
    }

    /// Room for a write, for which it may have to wait.
    fn promise(
        &self,
        ops: &Ops<B>,
        hashes: &[u64],
        touched: &[usize],
    ) -> Result<Promise<'_>, Failed<B>> {
        let mut waiting = None;
        loop {
            let seen = self.flow.rooms()?;
            let needed = self.needed(ops, hashes, touched);
            let evicted = |gone| add(&self.counters.evictions, gone);
            if let Some(promise) = self.parts.promise(needed, evicted) {
                if let Some(start) = waiting {
                    self.counters.waiting_for_room.since(start);
                }
                return Ok(promise);
            }
            waiting = waiting.or_else(|| Some(Instant::now()));
            // No flush makes that much.
            let never = needed > self.parts.room().limit();
            if never || !self.flow.wait_for_room(seen)? {
                return Err(self.full(ops, hashes, touched));
            }
        }
    }

    /// The error of a write for which there is no room.
    fn full(&self, ops: &Ops<B>, hashes: &[u64], touched: &[usize]) -> Failed<B> {
        let (needed, limit) = (self.needed(ops, hashes, touched), self.parts.room().limit());
        let dirty = self.parts.lock_all().iter().map(|part| part.counts()[0]).sum();
        let never = dirty == 0 || needed > limit;
        if never { Error::TooLarge { needed, limit } } else { Error::Full { needed, dirty, limit } }
    }

    /// The operations for which the backing must be asked, with the generations of their keys' parts: those that say what must be
    /// there, of keys that are unknown now, or were when the write `stopped` there.
    fn unknown(
        &self,
        ops: &Ops<B>,
        hashes: &[u64],
        touched: &[usize],
        known: &Known<B::Value>,
        stopped: Option<usize>,
    ) -> Vec<(usize, u64)> {
        let mut unknown = Vec::new();
        let asks = |op: &Op<_>| matches!(op.event(), Event::Insert | Event::Remove);
        if !ops.iter().any(|(_, op)| asks(op)) {
            return unknown;
        }
        let mut locked = self.lock(touched);
        for (at, ((key, op), &hash)) in ops.iter().zip(hashes).enumerate() {
            if asks(op)
                && let Some(part) = self.of(&mut locked, hash)
                && (stopped == Some(at) || part.state(hash, key) == State::Unknown)
            {
                let generation = part.generation();
                match known.of(at) {
                    Some((of, _)) if *of == generation => {}
                    _ => unknown.push((at, generation)),
                }
            }
        }
        unknown
    }

    /// Does all operations, or none.
    fn apply<R>(
        &self,
        ops: &mut Ops<B>,
        hashes: &[u64],
        touched: &[usize],
        known: &Known<B::Value>,
        check: &mut impl FnMut(&UndoOf<B>) -> Result<(), R>,
    ) -> Tried<B::Key, B::Value, R> {
        let mut locked = self.lock(touched);
        let seq = self.sequence.fetch_add(1, Relaxed);
        let mut steps = self.spare_steps.lock().take().unwrap_or_default();
        steps.reserve(ops.len());
        let mut refused = None;
        let mut left_over = ops.drain(..).zip(hashes).enumerate();
        let mut known = known.in_order().peekable();
        for (at, ((key, op), &hash)) in &mut left_over {
            let Some(part) = self.of(&mut locked, hash) else { continue };
            let below = known.next_if(|(of, _)| *of == at).map(|(_, answer)| answer);
            let below = below.filter(|(generation, _)| *generation == part.generation());
            let event = op.event();
            match part.apply(hash, &key, op, seq, below.map(|(_, value)| value.as_ref())) {
                Ok((previous, left)) => steps.push(Step { key, event, previous, left }),
                Err((op, stop)) => {
                    refused = Some((at, key, op, stop));
                    break;
                }
            }
        }
        // Behind what was refused come those that were not tried.
        let rest: Vec<_> = left_over.map(|(_, (op, _))| op).collect();
        let undo = Undo { seq, steps };
        let not = match refused {
            None => match check(&undo) {
                Ok(()) => {
                    let vanished = |step: &&Step<_, _>| {
                        matches!(step.event, Event::Delete | Event::Remove) && !step.left
                    };
                    add(&self.counters.writes, 1);
                    add(&self.counters.operations, undo.steps.len() as u64);
                    let vanished = undo.steps.iter().filter(vanished).count();
                    add(&self.counters.vanished, vanished as u64);
                    return Tried::Done(undo);
                }
                Err(reason) => Tried::Unwanted(reason),
            },
            Some((at, key, op, stop)) => {
                ops.push((key, op));
                ops.extend(rest);
                Tried::Refused(at, stop)
            }
        };
        let undone: Vec<_> = (undo.steps.into_iter().zip(hashes).rev())
            .map(|(Step { key, event, previous, .. }, &hash)| {
                let part = self.of(&mut locked, hash);
                let value = part.and_then(|part| part.revert(hash, &key, previous));
                (key, Op::again(event, value))
            })
            .collect();
        ops.splice(..0, undone.into_iter().rev());
        not
    }
}

impl<K, V> Locked<'_, K, V>
where
    K: std::hash::Hash + Eq + Clone + HeapBytes,
    V: Clone + HeapBytes,
{
    /// Keeps a value that was read from the backing, if there is room for it; returns how many others went for it.
    fn keep(&mut self, hash: u64, key: &K, value: &V, generation: u64) -> u64 {
        let heap = key.heap_bytes().saturating_add(value.heap_bytes()) as u64;
        let mut evicted = 0;
        while !self.keeps_limit(self.growth(1, heap)) {
            // A value that is larger than most would empty the part.
            if evicted == EVICTED_FOR_ONE || !self.evict() {
                return evicted;
            }
            evicted += 1;
        }
        self.load(hash, key, value, generation);
        evicted
    }
}

/// Most clean values that go for one that was read.
const EVICTED_FOR_ONE: u64 = 16;

impl<E: std::error::Error + 'static> From<Refused<E>> for Error<E> {
    fn from(refused: Refused<E>) -> Self {
        match refused {
            Refused::Failed(failure) => failure.into(),
            Refused::Order => Self::Order,
            Refused::NotClosed => Self::NotClosed,
        }
    }
}
