//! A stack of up to three caches against a map, with failures at the bottom.
//!
//! ```text
//!   operations ──► cache ──► cache ──► cache ──► Below: fails, holds back, asserts what it is told
//!        │                                         │
//!        └───────► map ◄──── at every read ────────┘ and after the last flush
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Below, DiskError, Key, Value, collected};
use hedgerow_cache::{Backing, Cache, CacheOptions, Effect, Error, NetEffect, Op, Undo};
use hedgerow_testkit::Limit;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Keys of a run.
const KEYS: Key = 40;
/// Enough for everything.
const ROOMY: u64 = 4 << 20;

/// What a cache of the stack lies on.
enum Level {
    Bottom(Arc<Below>),
    Cache { cache: Cache<Level>, written: Mutex<Option<u64>> },
}

impl Level {
    fn bottom(&self) -> &Below {
        match self {
            Self::Bottom(below) => below,
            Self::Cache { cache, .. } => cache.backing().bottom(),
        }
    }
}

fn disk(error: Error<DiskError>) -> DiskError {
    match error {
        Error::Read(error) => error,
        Error::Flush(error) => (*error).clone(),
        error => panic!("{error}"),
    }
}

impl Backing for Level {
    type Key = Key;
    type Value = Value;
    type Tag = u64;
    type Error = DiskError;

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, DiskError> {
        match self {
            Self::Bottom(below) => below.get_many(keys),
            Self::Cache { cache, .. } => cache.get_many(keys).map_err(disk),
        }
    }

    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), DiskError> {
        let effects = collected(net);
        assert_eq!(effects.len() as u64, net.len());
        let (cache, written) = match self {
            Self::Bottom(below) => return below.apply_effects(*net.tag(), effects),
            Self::Cache { cache, written } => (cache, written),
        };
        cache.retry().unwrap();
        // A retry of what was written already.
        let mut written = written.lock().unwrap();
        if *written != Some(*net.tag()) {
            let op = |(key, effect)| match effect {
                Effect::Put { value, fresh: true } => (key, Op::Create(value)),
                Effect::Put { value, fresh: false } => (key, Op::Put(value)),
                // What is below must be so.
                Effect::Delete { old: Some(_) } => (key, Op::Remove),
                Effect::Delete { old: None } => (key, Op::Delete),
            };
            cache.write(&mut effects.into_iter().map(op).collect()).map_err(disk)?;
            *written = Some(*net.tag());
        }
        // Not every epoch of the cache above is one of this.
        if net.tag().is_multiple_of(3) {
            match cache.close_epoch(*net.tag()) {
                Ok(_) | Err(Error::Order) => cache.wait_durable(net.tag()).map_err(disk)?,
                Err(error) => return Err(disk(error)),
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Action {
    Write(Vec<(Key, Op<Value>)>),
    /// Takes the newest write back that was not.
    Undo,
    /// Takes another one back, if its keys were not written since.
    UndoOlder(usize),
    Read(Vec<Key>),
    Close,
    Flush,
    EvictClean,
    Limit(u64),
    FailApplies {
        count: u64,
        late: bool,
    },
    FailReads(u64),
    Hold(bool),
    Reset,
}

fn op() -> impl Strategy<Value = Op<Value>> {
    let value = (any::<u8>(), 0..200_usize).prop_map(|(byte, len)| vec![byte; len]);
    prop_oneof![
        value.clone().prop_map(Op::Put),
        value.clone().prop_map(Op::Create),
        value.prop_map(Op::Insert),
        Just(Op::Delete),
        Just(Op::Remove),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let keys = proptest::collection::vec(0..KEYS, 1..12);
    prop_oneof![
        8 => proptest::collection::vec((0..KEYS, op()), 1..8).prop_map(Action::Write),
        2 => Just(Action::Undo),
        1 => (0..6_usize).prop_map(Action::UndoOlder),
        4 => keys.prop_map(Action::Read),
        3 => Just(Action::Close),
        1 => Just(Action::Flush),
        1 => Just(Action::EvictClean),
        1 => prop_oneof![Just(15_000), Just(25_000), Just(ROOMY)].prop_map(Action::Limit),
        1 => (1..3_u64, any::<bool>()).prop_map(|(count, late)| Action::FailApplies { count, late }),
        1 => (1..3_u64).prop_map(Action::FailReads),
        2 => any::<bool>().prop_map(Action::Hold),
        1 => Just(Action::Reset),
    ]
}

type Map = BTreeMap<Key, Value>;
/// What the map had for the keys of a write.
type Were = BTreeMap<Key, Option<Value>>;

/// Does the operations in the map, or says which cannot be. A create of what is there becomes an insert: nobody
/// vouches for what is not so.
fn model_write(map: &mut Map, ops: &mut [(Key, Op<Value>)]) -> Result<(), (usize, bool)> {
    let before = map.clone();
    for (at, (key, op)) in ops.iter_mut().enumerate() {
        let exists = map.contains_key(key);
        match op {
            Op::Create(value) if exists => *op = Op::Insert(std::mem::take(value)),
            _ => {}
        }
        let refused = match op {
            Op::Insert(_) => exists,
            Op::Remove => !exists,
            _ => false,
        };
        if refused {
            *map = before;
            return Err((at, exists));
        }
        match op.value() {
            Some(value) => map.insert(*key, value.clone()),
            None => map.remove(key),
        };
    }
    Ok(())
}

struct Run {
    cache: Cache<Level>,
    map: Map,
    /// Of the open epoch: the undo, its keys, and what the map had for them.
    undos: Vec<(Undo<Key, Value>, Were)>,
    tag: u64,
    held: bool,
}

impl Run {
    fn new(depth: usize, keep_deleted: bool) -> Self {
        let first = (0..KEYS / 2).map(|key| (key, vec![key as u8; 3]));
        let below = Below::with(first.clone());
        let options = CacheOptions { limit_bytes: ROOMY, closed_epochs: 2, keep_deleted };
        let mut level = Level::Bottom(below);
        for _ in 1..depth {
            let cache = Cache::new(Arc::new(level), None, options).unwrap();
            level = Level::Cache { cache, written: Mutex::default() };
        }
        let cache = Cache::new(Arc::new(level), None, options).unwrap();
        Self { cache, map: first.collect(), undos: Vec::new(), tag: 0, held: false }
    }

    fn below(&self) -> &Below {
        self.cache.backing().bottom()
    }

    fn hold(&mut self, hold: bool) {
        self.held = hold;
        self.below().hold_applies(hold);
    }

    /// Does something until no failure that was asked for is in the way.
    fn until_done<T>(
        &self,
        mut act: impl FnMut(&Cache<Level>) -> Result<T, Error<DiskError>>,
    ) -> Result<T, Error<DiskError>> {
        loop {
            match act(&self.cache) {
                Err(Error::Read(_)) => {}
                Err(error) if error.is_latched() => self.cache.retry().unwrap(),
                Err(Error::Full { .. } | Error::TooLarge { .. }) => self.cache.set_limit(ROOMY),
                result => return result,
            }
        }
    }

    fn write(&mut self, mut ops: Vec<(Key, Op<Value>)>) {
        let stats = self.cache.stats();
        if stats.used_bytes + 50_000 > stats.limit_bytes {
            // It may have to wait.
            self.hold(false);
        }
        let before = self.map.clone();
        let expected = model_write(&mut self.map, &mut ops);
        let handed = ops.clone();
        let keys: BTreeSet<_> = ops.iter().map(|(key, _)| *key).collect();
        if handed.len().is_multiple_of(3) {
            // Somebody who says no: nothing is done, or it is refused for the reason for which it would be without him.
            let no = |undo: &Undo<Key, Value>| Err::<(), usize>(undo.keys().count());
            match (self.until_done(|cache| cache.write_if(&mut ops, no)), expected) {
                (Ok(Err(keys)), Ok(())) => assert_eq!(keys, handed.len()),
                (Err(Error::Exists { at } | Error::Missing { at }), Err((refused, _))) => {
                    assert_eq!(at, refused)
                }
                (result, expected) => panic!("{handed:?}: {result:?}, not {expected:?}"),
            }
            assert_eq!(ops, handed);
            for (key, value) in keys.iter().map(|key| (key, before.get(key).cloned())) {
                assert_eq!(self.until_done(|cache| cache.get(key)).unwrap(), value, "{handed:?}");
            }
        }
        let result = self.until_done(|cache| cache.write(&mut ops));
        match (result, expected) {
            (Ok(undo), Ok(())) => {
                assert!(ops.is_empty());
                let mut map = before.clone();
                for ((key, op), (of, replaced)) in handed.iter().zip(undo.replaced()) {
                    let was = match op.value() {
                        Some(value) => map.insert(*key, value.clone()),
                        None => map.remove(key),
                    };
                    let must_know = matches!(op, Op::Remove | Op::Insert(_) | Op::Create(_));
                    let unknown = replaced.is_none() && !must_know;
                    assert!(
                        of == key && (replaced == was.as_ref() || unknown),
                        "{handed:?}: {key}"
                    );
                }
                let were = keys.into_iter().map(|key| (key, before.get(&key).cloned()));
                self.undos.push((undo, were.collect()));
            }
            (Err(Error::Exists { at }), Err(expected)) => assert_eq!((at, true), expected),
            (Err(Error::Missing { at }), Err(expected)) => assert_eq!((at, false), expected),
            (result, expected) => panic!("{handed:?}: {result:?}, not {expected:?}"),
        }
        assert!(ops.is_empty() || ops == handed);
    }

    fn undo(&mut self, at: usize) {
        if at >= self.undos.len() {
            return;
        }
        let (undo, were) = self.undos.remove(at);
        let since = || self.undos.iter().skip(at).flat_map(|(_, were)| were.keys());
        if since().any(|key| were.contains_key(key)) {
            self.undos.insert(at, (undo, were));
            return;
        }
        self.cache.undo(undo).unwrap();
        for (key, was) in were {
            match was {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
    }

    fn read(&self, keys: &[Key]) {
        let values = self.until_done(|cache| cache.get_many(keys)).unwrap();
        let expected: Vec<_> = keys.iter().map(|key| self.map.get(key).cloned()).collect();
        assert_eq!(values, expected, "{keys:?}");
    }

    fn close(&mut self) {
        if self.cache.stats().closed_epochs == 2 {
            self.hold(false);
        }
        self.tag += 1;
        let tag = self.tag;
        self.until_done(|cache| cache.close_epoch(tag)).unwrap();
        for (undo, _) in std::mem::take(&mut self.undos) {
            assert!(matches!(self.cache.undo(undo).unwrap_err().error, Error::NotNewest));
        }
    }

    fn flush(&mut self) {
        self.hold(false);
        self.close();
        let tag = self.tag;
        self.until_done(|cache| cache.wait_durable(&tag)).unwrap();
        assert!(self.cache.is_durable());
        assert_eq!(self.cache.durable_tag(), Some(tag));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Write(ops) => self.write(ops),
            Action::Undo => self.undo(self.undos.len().wrapping_sub(1)),
            Action::UndoOlder(at) => self.undo(at),
            Action::Read(keys) => self.read(&keys),
            Action::Close => self.close(),
            Action::Flush => self.flush(),
            Action::EvictClean => self.cache.evict_clean(),
            Action::Limit(bytes) => self.cache.set_limit(bytes),
            Action::FailApplies { count, late } => {
                let mut state = self.below().look();
                (state.fail_applies, state.late) = (count, late);
            }
            Action::FailReads(count) => self.below().look().fail_reads = count,
            Action::Hold(hold) => self.hold(hold),
            Action::Reset => {
                // Nothing of the open epoch is left.
                for at in (0..self.undos.len()).rev() {
                    self.undo(at);
                }
                self.hold(false);
                let tag = Some(self.tag);
                self.until_done(|cache| cache.reset(tag)).unwrap();
                assert_eq!(self.cache.stats().clean_keys, 0);
            }
        }
        let stats = self.cache.stats();
        let cleared = stats.clean_keys == 0;
        assert!(stats.used_bytes <= stats.limit_bytes || cleared, "{stats:?}");
    }

    fn end(mut self) {
        self.read(&(0..KEYS).collect::<Vec<_>>());
        // The tags that caches below flush at.
        self.flush();
        while !self.tag.is_multiple_of(3) {
            self.flush();
        }
        self.read(&(0..KEYS).collect::<Vec<_>>());
        assert_eq!(self.below().look().values, self.map);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_of_caches_is_a_map(
        depth in 1..=3_usize,
        keep_deleted: bool,
        actions in proptest::collection::vec(action(), 1..120),
    ) {
        let _limit = Limit::new();
        let mut run = Run::new(depth, keep_deleted);
        for action in actions {
            run.act(action);
        }
        run.end();
    }
}
