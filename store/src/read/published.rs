//! What readers see: the newest state, and through it every state that somebody holds.
//!
//! ```text
//!   current ──────────────────────────────────────┐ swapped, once per block
//!                                                 ▼
//!   State h          State h+1          State h+2         height, log end, roots: small, never changed
//!     │ since          │ since            │ since
//!     ▼                ▼                  ▼
//!    Link ─► Change h+1: Link ─► Change h+2: Link ─► not yet
//!            where keys were,    where keys were,
//!            nodes that were     nodes that were
//!                                                 │
//!     all of them share:  index, tree  ◄──────────┘ the newest, edited in place under small locks
//! ```
//!
//! Nobody copies a state, and nobody waits for one. Publishing a block links its [`Change`] to the state
//! before it, then edits index and tree, a few keys at a time, and then swaps `current`. A reader of
//! height h asks the newest index, and then the changes since h: what the index has of later blocks lies
//! behind the end that the log had at h, and what it no longer has is in a change, which was linked before
//! the index was edited. So the answer is that of height h, wherever the edits are.
//!
//! A change is kept alive by the states before it alone: the newest state has none, and when the last
//! state before a change is let go of, the change goes too.
//!
//! Invariants:
//! * Positions at or behind a state's `log_end` were written by later blocks, all others by blocks up to it.
//! * What a change says of a key with an old position before a state's `log_end` is what that state has:
//!   it is the first change of the key since then.
//! * Nothing that a held state needs is pruned: see [`Published::oldest`].
//! * Heights go back in one way: see [`Published::roll_back`], which says why what is held stays right.

use crate::Error;
use crate::commit::tiers::Tiers;
use crate::opening::rebuild::Indexed;
use crate::read::given_up::Mark;
use arc_swap::ArcSwap;
use hedgerow_index::{Edit, GROUPS, Index, IndexError, Stem};
use hedgerow_merkle::{
    Dirty, Forest, MerkleError, PastShard, Published as Tree, Replaced, Roots, TreeHead, TreePath,
    TreeUndo,
};
use hedgerow_types::{
    Digest, Height, KeyHash, LogPosition, SENTRIES_PER_SHARD, SHARDS, SerialNumber, ShardId, TwigId,
};
use parking_lot::Mutex;
use rayon::prelude::*;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Edits below this number go in one after the other: handing them to threads would cost more.
const PARALLEL_EDITS: usize = 2_000;

/// What a block replaced.
#[derive(Debug)]
struct Change {
    /// Where keys were, by shard; ascending.
    index: Vec<Vec<(Stem, LogPosition)>>,
    tree: TreeUndo,
    after: Arc<Link>,
}

/// Leads from a state to what the next block changed of it, once that is known.
#[derive(Debug, Default)]
struct Link(OnceLock<Arc<Change>>);

impl Drop for Link {
    /// One after the other: a chain may be long, and each would drop the next.
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(change) = next {
            let alone = Arc::into_inner(change).and_then(|change| Arc::into_inner(change.after));
            next = alone.and_then(|mut link| link.0.take());
        }
    }
}

/// The state at one height, apart from what all states share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) height: Height,
    /// Where the log ended.
    pub(crate) log_end: LogPosition,
    /// Keys that have a value.
    pub(crate) keys: u64,
    tree: TreeHead,
    since: Arc<Link>,
    /// It was taken back: what is asked of it may find the state of another height.
    rolled_back: AtomicBool,
}

impl State {
    fn new(
        height: Height,
        log_end: LogPosition,
        keys: u64,
        tree: TreeHead,
        since: Arc<Link>,
    ) -> Arc<Self> {
        let rolled_back = AtomicBool::new(false);
        Arc::new(Self { height, log_end, keys, tree, since, rolled_back })
    }

    /// Whether it was taken back. To be asked after index and tree: what they said before is of this height if not.
    pub(crate) fn is_rolled_back(&self) -> bool {
        self.rolled_back.load(Ordering::SeqCst)
    }

    /// What was found, unless the state was taken back meanwhile.
    ///
    /// # Errors
    /// [`Error::RolledBack`].
    pub(crate) fn unless_rolled_back<T>(&self, found: Result<T, Error>) -> Result<T, Error> {
        if self.is_rolled_back() {
            return Err(Error::RolledBack { height: self.height });
        }
        found
    }

    pub(crate) fn roots(&self) -> &Roots {
        self.tree.roots()
    }

    pub(crate) fn next_sn(&self, shard: ShardId) -> SerialNumber {
        self.tree.next_sn(shard)
    }

    pub(crate) fn oldest_active(&self, shard: ShardId) -> SerialNumber {
        self.tree.oldest_active(shard)
    }

    /// The changes since this state, oldest first. Each is looked for when it is asked for, not before:
    /// what was seen in the index until then is among them.
    fn changes(&self) -> impl Iterator<Item = &Change> {
        let mut link = &*self.since;
        std::iter::from_fn(move || {
            let change = link.0.get()?;
            link = &change.after;
            Some(&**change)
        })
    }

    /// Whether what lies at `at` was written by then.
    fn has(&self, at: LogPosition) -> bool {
        at < self.log_end
    }

    /// Where keys of a shard with stems in a range were in this state and are not now, one after the other
    /// of the changes. To be asked after the index.
    fn moved(
        &self,
        shard: ShardId,
        from: Stem,
        to: Stem,
    ) -> impl Iterator<Item = (Stem, LogPosition)> {
        self.changes().flat_map(move |change| {
            let keys = change.index.get(shard.index()).map_or(&[][..], Vec::as_slice);
            let first = keys.partition_point(|(stem, _)| *stem < from);
            let keys = keys.get(first..).unwrap_or_default().iter().copied();
            keys.take_while(move |(stem, _)| *stem <= to).filter(|(_, at)| self.has(*at))
        })
    }
}

/// A state that is about to be published: everything that readers will see of it.
pub(crate) struct Next<'a> {
    pub(crate) height: Height,
    pub(crate) log_end: LogPosition,
    pub(crate) keys: u64,
    /// By shard, in key-hash order.
    pub(crate) edits: &'a [Vec<Edit>],
    pub(crate) forest: &'a Forest,
    pub(crate) dirty: &'a Dirty,
    /// What has room made for edits, if the index is in files.
    pub(crate) tiers: Option<&'a Tiers>,
}

/// Whether a value of [`Published::rollbacks`] is one of while heights go back.
pub(crate) fn going_back(rollbacks: u64) -> bool {
    rollbacks % 2 == 1
}

/// A state that is gone back to: see [`Published::roll_back`].
pub(crate) struct Earlier<'a> {
    pub(crate) height: Height,
    /// Where what was taken back begins in the log.
    pub(crate) dead_from: LogPosition,
    /// Where the log ends now.
    pub(crate) log_end: LogPosition,
    pub(crate) keys: u64,
    /// By shard, in key-hash order: where keys were at that height, and where they are.
    pub(crate) edits: &'a [Vec<Edit>],
    /// By shard, the serial number that the next entry gets.
    pub(crate) cut: &'a [SerialNumber; SHARDS],
    pub(crate) forest: &'a Forest,
    /// What differs in the tree.
    pub(crate) dirty: &'a Dirty,
}

/// Some positions, nearly always one: those that most look-ups find need no allocation.
#[derive(Debug, Default)]
pub(crate) struct Few {
    first: [Option<LogPosition>; 2],
    others: Vec<LogPosition>,
}

impl Few {
    fn push(&mut self, at: LogPosition) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(at),
            None => self.others.push(at),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = LogPosition> {
        self.first.iter().flatten().chain(&self.others).copied()
    }
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Published {
    /// One per shard.
    index: Vec<Box<dyn Index>>,
    tree: Tree,
    current: ArcSwap<State>,
    /// How often index and tree went back, twice; odd while they do.
    rollbacks: AtomicU64,
    /// The states that may still be held, oldest first.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    states: Vec<Weak<State>>,
    /// How many there may be before those that are gone are looked for.
    room: usize,
}

impl Held {
    fn push(&mut self, state: &Arc<State>) {
        if self.states.len() >= self.room {
            self.states.retain(|state| state.strong_count() > 0);
            self.room = 2 * self.states.len() + 16;
        }
        self.states.push(Arc::downgrade(state));
    }
}

impl Published {
    /// The state that a store begins with: its height, where its log ends. An index in files is given up by
    /// `mark`, if it may be. `published` is a copy of the forest for readers, if there is one already.
    pub(crate) fn new(
        height: Height,
        log_end: LogPosition,
        index: Vec<Indexed>,
        mark: Option<&Arc<Mark>>,
        forest: &Forest,
        published: Option<Tree>,
    ) -> Self {
        let tree = forest.head();
        let active: usize = index.iter().map(Indexed::len).sum();
        let keys = (active as u64).saturating_sub(SHARDS as u64 * SENTRIES_PER_SHARD);
        let since = Arc::default();
        let state = State::new(height, log_end, keys, tree, since);
        let mut held = Held::default();
        held.push(&state);
        Self {
            index: index.into_iter().map(|index| index.shared(mark)).collect(),
            tree: published.unwrap_or_else(|| forest.publish()),
            current: ArcSwap::new(state),
            rollbacks: AtomicU64::new(0),
            held: Mutex::new(held),
        }
    }

    /// The newest state. Waits for nothing.
    pub(crate) fn current(&self) -> Arc<State> {
        self.current.load_full()
    }

    /// The newest state, for a single answer. It counts as held meanwhile, as [`Published::current`]'s
    /// does, but nothing is written that other readers look at.
    pub(crate) fn look(&self) -> impl Deref<Target = Arc<State>> {
        self.current.load()
    }

    /// What has another value from when heights begin to go back, and another one when all has gone back. What index,
    /// tree and twig records say belongs together if it is the same before and after, and [even](going_back).
    pub(crate) fn rollbacks(&self) -> u64 {
        self.rollbacks.load(Ordering::SeqCst)
    }

    /// Heights begin to go back, until [`end_rollback`](Self::end_rollback).
    pub(crate) fn begin_rollback(&self) {
        self.rollbacks.fetch_add(1, Ordering::SeqCst);
    }

    /// All has gone back.
    pub(crate) fn end_rollback(&self) {
        self.rollbacks.fetch_add(1, Ordering::SeqCst);
    }

    /// The tree of a state as a forest of its own, if it is the newest one; nobody publishes meanwhile.
    pub(crate) fn forest(&self, state: &State) -> Option<Forest> {
        self.tree.forest(&state.tree)
    }

    /// The newest height.
    pub(crate) fn height(&self) -> Height {
        self.current.load().height
    }

    /// The index of a shard: that of the newest state, or on its way there.
    pub(crate) fn index(&self, shard: ShardId) -> &dyn Index {
        &*self.index[shard.index()] // one per shard
    }

    /// Publishes a state: readers see the one before, and then it. Calls `before_it` with the one before, and what
    /// the block replaced in the tree, when nothing can fail any more and no reader has seen it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if an edit does not fit the index; then readers go on seeing the state before.
    #[inline(never)] // for `.ci/instructions`
    pub(crate) fn publish(
        &self,
        next: &Next<'_>,
        pool: &rayon::ThreadPool,
        before_it: impl FnOnce(&State, &TreeUndo),
    ) -> Result<(), Error> {
        let now = self.current();
        let was = |edit: &Edit| edit.old.map(|old| (Stem::of(&edit.key), old.at));
        let replaced = |edits: &Vec<Edit>| edits.iter().filter_map(was).collect::<Vec<_>>();
        let since = Arc::<Link>::default();
        let change = Arc::new(Change {
            index: next.edits.iter().map(replaced).collect(),
            tree: self.tree.before(next.dirty),
            after: Arc::clone(&since),
        });
        if now.since.0.set(Arc::clone(&change)).is_err() {
            return Err(Error::Corrupt(format!("height {} was published before", next.height)));
        }
        self.apply(next, pool)?;
        self.tree.copy(next.forest, next.dirty);
        let Next { height, log_end, keys, forest, .. } = *next;
        let state = State::new(height, log_end, keys, forest.head(), since);
        before_it(&now, &change.tree);
        // It is kept by the states before it alone.
        drop(change);
        self.held.lock().push(&state);
        self.current.store(state);
        Ok(())
    }

    /// Goes back to an earlier state: readers see the newest, and then the earlier one. Nobody publishes meanwhile.
    ///
    /// ```text
    ///   State g ─► .. ─► State h ─► Change h+1 ─► .. ─► State H ─┐ nothing
    ///                                                            ├─► Link ─► Change h+1' ─► ..
    ///                    bridge: State h ─► keys and nodes of h ─┘ ▲
    ///                    State h, once index and tree are there ───┘
    /// ```
    ///
    /// The *bridge* is a state of `h` as if it had been held all the time: what the index has of dead entries lies at
    /// or behind its end of the log, and what the blocks since replaced hangs on it. It is what readers see while index
    /// and tree go back in place, and it is right before, meanwhile and after.
    ///
    /// States below `h` that are held go on answering: of dead entries nothing lies before their ends, what was
    /// replaced by the blocks up to `H` hangs on them, and each key and node that goes back to what it was at `h` was
    /// replaced by one of those blocks. So the way from `H` back to `h` has nothing to add for them.
    ///
    /// States above `h` are marked before anything goes back. Whoever looked into index or tree after that sees the
    /// mark afterwards.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if an edit does not fit the index: then what readers see of it is lost.
    pub(crate) fn roll_back(
        &self,
        to: &Earlier<'_>,
        pool: &rayon::ThreadPool,
    ) -> Result<(), Error> {
        let Earlier { height, dead_from, log_end, keys, edits, cut, forest, dirty } = *to;
        let now = self.current();
        let was = |edit: &Edit| edit.old.map(|old| (Stem::of(&edit.key), old.at));
        let replaced = |edits: &Vec<Edit>| edits.iter().filter_map(was).collect::<Vec<_>>();
        let after = Arc::<Link>::default();
        let link = |index, tree| {
            let change = Change { index, tree, after: Arc::clone(&after) };
            Link(OnceLock::from(Arc::new(change)))
        };
        let nothing = link(vec![], TreeUndo::default()).0.take();
        if nothing.is_none_or(|nothing| now.since.0.set(nothing).is_err()) {
            return Err(Error::Corrupt(format!("height {} is not the newest", now.height)));
        }
        let since = Arc::new(link(edits.iter().map(replaced).collect(), forest.before(dirty)));
        let bridge = State::new(height, dead_from, keys, forest.head(), since);
        {
            let mut held = self.held.lock();
            held.push(&bridge);
            self.current.store(bridge);
            let states = held.states.iter().filter_map(Weak::upgrade);
            for state in states.filter(|state| state.height > height) {
                state.rolled_back.store(true, Ordering::SeqCst);
            }
        }
        drop(now);
        self.tree.replace(forest);
        let work = self.index.par_iter().zip(edits).zip(cut);
        let work = work.map(|((index, edits), cut)| index.roll_back(edits, *cut));
        let done: Result<(), IndexError> = pool.install(|| work.collect());
        done.map_err(in_index)?;
        let state = State::new(height, log_end, keys, forest.head(), after);
        self.held.lock().push(&state);
        self.current.store(state);
        Ok(())
    }

    /// Applies the edits of every shard: all, or none if one does not fit.
    fn apply(&self, next: &Next<'_>, pool: &rayon::ThreadPool) -> Result<(), Error> {
        let Next { edits, tiers, .. } = *next;
        let one = |shard: usize, index: &dyn Index, edits: &[Edit]| match tiers {
            Some(tiers) => tiers.apply(shard, edits),
            None => index.apply(edits),
        };
        let total: usize = edits.iter().map(Vec::len).sum();
        let results: Vec<Result<(), IndexError>> = if total < PARALLEL_EDITS {
            self.index
                .iter()
                .zip(edits)
                .enumerate()
                .map(|(shard, (index, edits))| one(shard, &**index, edits))
                .collect()
        } else {
            let work = self.index.par_iter().zip(edits).enumerate();
            pool.install(|| {
                work.map(|(shard, (index, edits))| one(shard, &**index, edits)).collect()
            })
        };
        let Some(error) = results.iter().find_map(|result| result.as_ref().err()) else {
            return Ok(());
        };
        // A shard whose edits do not fit has taken none of them; the others give theirs back.
        for ((index, edits), result) in self.index.iter().zip(edits).zip(&results) {
            if result.is_ok() {
                index.take_back(edits).map_err(in_index)?;
            }
        }
        Err(in_index(error.clone()))
    }

    /// Where the entry of a key may be in a state: where the keys with its stem are.
    pub(crate) fn candidates_of(&self, state: &State, key: &KeyHash) -> Result<Few, Error> {
        let (shard, stem) = (key.shard(), Stem::of(key));
        let mut found = Few::default();
        let mut each = |at| {
            if state.has(at) {
                found.push(at);
            }
        };
        self.index(shard).candidates_of(key, &mut each).map_err(in_index)?;
        for (_, at) in state.moved(shard, stem, stem) {
            if !found.iter().any(|other| other == at) {
                found.push(at);
            }
        }
        Ok(found)
    }

    /// Where the entries of keys may be in a state: where the keys with their stems are, with the number
    /// of the key.
    pub(crate) fn candidates(
        &self,
        state: &State,
        keys: &[KeyHash],
    ) -> Result<Vec<(u32, LogPosition)>, Error> {
        let mut numbers: Vec<u32> = (0..).zip(keys).map(|(number, _)| number).collect();
        let key = |number: u32| keys.get(number as usize).copied().unwrap_or(KeyHash([0; 32]));
        // Shard by shard, and neighbours together.
        numbers.sort_unstable_by_key(|&number| key(number).prefix_u64());
        let mut found = Vec::with_capacity(keys.len());
        for numbers in numbers.chunk_by(|a, b| key(*a).shard() == key(*b).shard()) {
            let sorted: Vec<KeyHash> = numbers.iter().map(|&number| key(number)).collect();
            let Some(shard) = sorted.first().map(KeyHash::shard) else { continue };
            let first = found.len();
            self.index(shard).candidates(&sorted, &mut found).map_err(in_index)?;
            let mut kept = first;
            for place in first..found.len() {
                let (at, number) = (found[place].1, numbers[found[place].0 as usize]);
                if state.has(at) {
                    found[kept] = (number, at);
                    kept += 1;
                }
            }
            found.truncate(kept);
            if state.since.0.get().is_none() {
                continue; // it is the newest
            }
            for (key, &number) in sorted.iter().zip(numbers) {
                let stem = Stem::of(key);
                for (_, at) in state.moved(shard, stem, stem) {
                    if !found[first..].contains(&(number, at)) {
                        found.push((number, at));
                    }
                }
            }
        }
        Ok(found)
    }

    /// The greatest stem of a shard at or below `from` that has keys in a state, and where they are.
    pub(crate) fn at_or_below(
        &self,
        state: &State,
        shard: ShardId,
        from: Stem,
    ) -> Result<Option<(Stem, Vec<LogPosition>)>, Error> {
        let mut below = Some(from);
        let mut found: Option<(Stem, Vec<LogPosition>)> = None;
        let mut some = Vec::new();
        while let Some(stem) = below {
            some.clear();
            self.index(shard).at_or_below(&[stem], &mut some).map_err(in_index)?;
            let Some(&(_, stem, _)) = some.first() else { break };
            let places: Vec<_> =
                some.iter().map(|&(_, _, at)| at).filter(|at| state.has(*at)).collect();
            if !places.is_empty() {
                found = Some((stem, places));
                break;
            }
            // All of these came later.
            below = stem.before();
        }
        // Only now: what the index had lost by then is known by now.
        for change in state.changes() {
            let keys = change.index.get(shard.index()).map_or(&[][..], Vec::as_slice);
            let end = keys.partition_point(|(stem, _)| *stem <= from);
            for &(stem, at) in keys.get(..end).unwrap_or_default().iter().rev() {
                if found.as_ref().is_some_and(|(best, _)| stem < *best) {
                    break;
                }
                if !state.has(at) {
                    continue;
                }
                match &mut found {
                    Some((best, places)) if *best == stem => {
                        if !places.contains(&at) {
                            places.push(at);
                        }
                    }
                    _ => found = Some((stem, vec![at])),
                }
            }
        }
        Ok(found)
    }

    /// All keys of a group of a shard in a state, ascending by stem, appended to `out`, which is empty.
    pub(crate) fn group(
        &self,
        state: &State,
        shard: ShardId,
        group: usize,
        out: &mut Vec<(Stem, LogPosition)>,
    ) -> Result<(), Error> {
        self.index(shard).group(group, out).map_err(in_index)?;
        out.retain(|(_, at)| state.has(*at));
        let held = out.len();
        out.extend(state.moved(shard, Stem::first_of(group), Stem::last_of(group)));
        if out.len() > held {
            out.sort_unstable();
            out.dedup();
        }
        Ok(())
    }

    /// The path of a serial number to the root of a state.
    pub(crate) fn path(
        &self,
        state: &State,
        shard: ShardId,
        sn: SerialNumber,
    ) -> Result<TreePath, MerkleError> {
        let undos = state.changes().map(|change| &change.tree);
        self.tree.path(&state.tree, undos, shard, sn)
    }

    /// The path of a serial number to the root of a height before that of a state.
    pub(crate) fn past_path<R: Replaced>(
        &self,
        state: &State,
        past: &PastShard<'_, R>,
        shard: ShardId,
        sn: SerialNumber,
    ) -> Result<TreePath, MerkleError> {
        let undos = state.changes().map(|change| &change.tree);
        self.tree.past_path(past, undos, shard, sn)
    }

    /// See [`Forest::edges`].
    pub(crate) fn edges(
        &self,
        shard: ShardId,
        first_kept: TwigId,
    ) -> Result<Vec<(u8, Digest)>, MerkleError> {
        self.tree.edges(shard, first_kept)
    }

    /// The oldest state that is held; the newest one is, always. What it needs may not be pruned. A state
    /// that is held later is at least as new as the newest one now.
    pub(crate) fn oldest(&self) -> Arc<State> {
        let held = self.held.lock();
        let live = |state: &Weak<State>| state.upgrade().filter(|state| !state.is_rolled_back());
        held.states.iter().find_map(live).unwrap_or_else(|| self.current())
    }

    /// How many states are held, the newest one included.
    pub(crate) fn held(&self) -> usize {
        self.held.lock().states.iter().filter(|state| state.strong_count() > 0).count()
    }

    /// Bytes of heap of the newest index.
    pub(crate) fn index_bytes(&self) -> usize {
        self.index.iter().map(|index| index.heap_bytes()).sum()
    }

    /// Bytes of heap of the newest tree.
    pub(crate) fn tree_bytes(&self) -> usize {
        self.tree.heap_bytes()
    }

    /// The first shard whose index is not that which `other` has; nobody publishes meanwhile.
    pub(crate) fn differs(&self, other: Vec<Indexed>) -> Result<Option<ShardId>, Error> {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for (shard, other) in ShardId::all().zip(other) {
            let other = other.shared(None);
            for group in 0..GROUPS {
                mine.clear();
                theirs.clear();
                self.index(shard).group(group, &mut mine).map_err(in_index)?;
                other.group(group, &mut theirs).map_err(in_index)?;
                if mine != theirs {
                    return Ok(Some(shard));
                }
            }
        }
        Ok(None)
    }
}

/// What the index says, as the store's error.
pub(crate) fn in_index(error: IndexError) -> Error {
    match error {
        IndexError::Disk(error) => error.into(),
        IndexError::Damaged { .. } | IndexError::GivenUp { .. } => Error::Index(error.to_string()),
        other => Error::Corrupt(format!("index: {other}")),
    }
}
