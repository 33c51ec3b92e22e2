//! A backing that fails, and holds a flush or a read back, on demand.
#![allow(dead_code, reason = "every test program uses another part of it")]

use hedgerow_cache::{Backing, Cache, CacheOptions, Effect, NetEffect, Op};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

pub(crate) type Key = u32;
pub(crate) type Value = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk said no, error {0}")]
pub(crate) struct DiskError(pub(crate) u64);

/// A batch as it came down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) tag: u64,
    pub(crate) effects: BTreeMap<Key, Effect<Value>>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) values: BTreeMap<Key, Value>,
    pub(crate) tag: Option<u64>,
    /// Batches that were written, and tried.
    pub(crate) applied: Vec<Applied>,
    pub(crate) tried: Vec<Applied>,
    /// Fails so many of the next batches; with `late`, after they were written.
    pub(crate) fail_applies: u64,
    pub(crate) late: bool,
    pub(crate) fail_reads: u64,
    pub(crate) panic_in_apply: bool,
    /// Gives one answer too few.
    pub(crate) short: bool,
    pub(crate) reads: Vec<Key>,
    errors: u64,
    hold_applies: bool,
    hold_reads: bool,
    /// Calls that are being held back.
    pub(crate) held: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Below {
    state: Mutex<State>,
    changed: Condvar,
}

impl Below {
    pub(crate) fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn with(values: impl IntoIterator<Item = (Key, Value)>) -> Arc<Self> {
        let below = Self::default();
        below.look().values.extend(values);
        Arc::new(below)
    }

    pub(crate) fn hold_applies(&self, hold: bool) {
        self.look().hold_applies = hold;
        self.changed.notify_all();
    }

    pub(crate) fn hold_reads(&self, hold: bool) {
        self.look().hold_reads = hold;
        self.changed.notify_all();
    }

    /// Waits until a call is held back.
    pub(crate) fn wait_held(&self) {
        let mut state = self.look();
        while state.held == 0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn held_back(&self, held: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.look();
        if held(&state) {
            state.held += 1;
            self.changed.notify_all();
            while held(&state) {
                state = self.changed.wait(state).unwrap();
            }
            state.held -= 1;
        }
        state
    }
}

impl State {
    fn error(&mut self) -> DiskError {
        self.errors += 1;
        DiskError(self.errors)
    }
}

impl Backing for Below {
    type Key = Key;
    type Value = Value;
    type Tag = u64;
    type Error = DiskError;

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, DiskError> {
        let mut state = self.look();
        // What it reads, it reads now; what is held back is the answer.
        let mut values: Vec<_> = keys.iter().map(|key| state.values.get(key).cloned()).collect();
        state.reads.extend(keys);
        drop(state);
        let mut state = self.held_back(|state| state.hold_reads);
        if state.fail_reads > 0 {
            state.fail_reads -= 1;
            return Err(state.error());
        }
        if state.short {
            values.pop();
        }
        Ok(values)
    }

    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), DiskError> {
        let effects = collected(net);
        assert_eq!(effects.len() as u64, net.len());
        self.apply_effects(*net.tag(), effects)
    }
}

/// The effects by key, each of which comes once.
pub(crate) fn collected<B>(net: &NetEffect<'_, B>) -> BTreeMap<Key, Effect<Value>>
where
    B: Backing<Key = Key, Value = Value>,
{
    let mut effects = BTreeMap::new();
    for (key, effect) in net {
        assert_eq!(effects.insert(key, effect), None, "key {key} comes twice");
    }
    effects
}

impl Below {
    pub(crate) fn apply_effects(
        &self,
        tag: u64,
        effects: BTreeMap<Key, Effect<Value>>,
    ) -> Result<(), DiskError> {
        let batch = Applied { tag, effects };
        self.look().tried.push(batch.clone());
        let mut state = self.held_back(|state| state.hold_applies);
        assert!(!state.panic_in_apply, "as asked");
        let fails = state.fail_applies > 0;
        state.fail_applies = state.fail_applies.saturating_sub(1);
        if !fails || state.late {
            // A retry finds what the first try has written.
            let again = state.tag == Some(tag);
            for (key, effect) in &batch.effects {
                let had = match effect.value() {
                    Some(value) => state.values.insert(*key, value.clone()),
                    None => state.values.remove(key),
                };
                match effect {
                    Effect::Put { fresh: true, .. } => {
                        assert!(had.is_none() || again, "{key} was not fresh");
                    }
                    Effect::Delete { old: Some(old) } => {
                        assert!(had.as_ref() == Some(old) || again, "{key} had another value");
                    }
                    _ => {}
                }
            }
            state.tag = Some(tag);
            state.applied.push(batch);
        }
        if fails { Err(state.error()) } else { Ok(()) }
    }
}

pub(crate) type TestCache = Cache<Below>;

pub(crate) const OPTIONS: CacheOptions =
    CacheOptions { limit_bytes: 1 << 20, closed_epochs: 2, keep_deleted: false };

pub(crate) fn cache_over(below: &Arc<Below>) -> TestCache {
    Cache::new(Arc::clone(below), None, OPTIONS).unwrap()
}

/// A value that one can tell from others.
pub(crate) fn value(number: u8) -> Value {
    vec![number; 1 + usize::from(number) % 7]
}

/// One write of one operation.
pub(crate) fn write(cache: &TestCache, key: Key, op: Op<Value>) {
    cache.write(&mut vec![(key, op)]).unwrap();
}
