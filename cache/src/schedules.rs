//! The hand-offs under shuttle: writers, readers, a closer, waiters and the flusher, in thousands of orders of events.
//!
//! ```text
//!   writers ── pairs of keys, always both with one number ──► Cache ──► Toy: fails where it is told
//!   readers ── numbers never fall, and the second key's is no older than the first one's
//!   closer  ── epochs ──► waiters: told when the toy has it, or of the failure
//! ```
//!
//! The cache is the real one; what is below it is not. What is random comes from shuttle, so a schedule says all of it.

use crate::sync::{Mutex, thread};
use crate::{Backing, Cache, CacheOptions, Effect, Error, NetEffect, Op, State};
use hedgerow_testkit::schedules::explore;
use shuttle::rand::{Rng, thread_rng};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
#[error("as asked")]
struct Asked;

#[derive(Debug, Default)]
struct Below {
    values: BTreeMap<u32, u64>,
    tag: u64,
    batches: Vec<BTreeMap<u32, Effect<u64>>>,
    /// Fails the flush with this tag; before or after it was written.
    fails: Option<(u64, bool)>,
}

#[derive(Debug)]
struct Toy(Mutex<Below>);

impl Backing for Toy {
    type Key = u32;
    type Value = u64;
    type Tag = u64;
    type Error = Asked;

    fn get_many(&self, keys: &[u32]) -> Result<Vec<Option<u64>>, Asked> {
        // One by one: a flush may come in between, as it may anywhere.
        Ok(keys.iter().map(|key| self.0.lock().values.get(key).copied()).collect())
    }

    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), Asked> {
        let effects: BTreeMap<_, _> = net.iter().collect();
        assert_eq!(effects.len() as u64, net.len());
        let mut below = self.0.lock();
        let fails = below.fails.filter(|(tag, _)| tag == net.tag());
        if fails.is_some() {
            below.fails = None;
        }
        if fails.is_none_or(|(_, late)| late) {
            for (key, effect) in &effects {
                match effect.value() {
                    Some(value) => below.values.insert(*key, *value),
                    None => below.values.remove(key),
                };
            }
            below.tag = *net.tag();
            below.batches.push(effects);
        }
        if fails.is_some() { Err(Asked) } else { Ok(()) }
    }
}

type ToyCache = Cache<Toy>;

fn toy_cache(limit_bytes: u64, fails: Option<(u64, bool)>) -> Arc<ToyCache> {
    let below = Below { values: BTreeMap::from([(0, 0), (1, 0)]), fails, ..Below::default() };
    let options = CacheOptions { limit_bytes, closed_epochs: 1, keep_deleted: false };
    Arc::new(Cache::new(Arc::new(Toy(Mutex::new(below))), None, options).unwrap())
}

const ROOMY: u64 = 3 << 20;
/// Two keys that are written together, of two parts or of one.
const PAIR: [u32; 2] = [0, 1];

fn write_pair(cache: &ToyCache, number: u64) -> Result<(), Error<Asked>> {
    cache.write(&mut PAIR.map(|key| (key, Op::Put(number))).to_vec()).map(|_| ())
}

/// Reads the pair some times.
fn reader(cache: Arc<ToyCache>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut last = 0;
        for _ in 0..3 {
            for key in PAIR {
                if thread_rng().gen_bool(0.3) {
                    cache.evict_clean();
                }
                // Looks that take all the locks there are, with a closer at work.
                let durable = thread_rng().gen_bool(0.2) && cache.is_durable();
                assert!(!durable || last == 0 || cache.stats().durable_epoch > 0);
                let number = cache.get(&key).unwrap().unwrap();
                assert!(number >= last, "{key}: {number} after {last}");
                last = number;
            }
        }
    })
}

/// A write that was refused because a flush has failed is tried again.
fn until_written(cache: &ToyCache, number: u64) {
    while let Err(error) = write_pair(cache, number) {
        assert!(error.is_latched(), "{error}");
        cache.retry().unwrap();
        thread::yield_now();
    }
}

/// Closes an epoch and waits until it is durable, by its number or its tag, whatever fails.
fn until_durable(cache: &ToyCache, tag: u64, by_number: bool) {
    let again = |error: Error<Asked>| {
        assert!(error.is_latched(), "{error}");
        cache.retry().unwrap();
        thread::yield_now();
    };
    let epoch = loop {
        match cache.close_epoch(tag) {
            Ok(epoch) => break epoch,
            Err(error) => again(error),
        }
    };
    while let Err(error) = if by_number { cache.wait(epoch) } else { cache.wait_durable(&tag) } {
        again(error);
    }
}

fn readers_see_the_newest(fails: Option<(u64, bool)>) {
    let cache = toy_cache(ROOMY, fails);
    let writer = thread::spawn({
        let cache = Arc::clone(&cache);
        move || (1..=3).for_each(|number| until_written(&cache, number))
    });
    let closer = thread::spawn({
        let cache = Arc::clone(&cache);
        move || {
            for tag in 1..=2 {
                until_durable(&cache, tag, thread_rng().gen_bool(0.5));
                assert!(cache.backing().0.lock().tag >= tag, "told too early");
            }
        }
    });
    let threads = [reader(Arc::clone(&cache)), reader(Arc::clone(&cache)), writer, closer];
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(cache.get_many(&PAIR).unwrap(), [Some(3); 2]);
    until_durable(&cache, 3, true);
    assert!(cache.is_durable());
    cache.evict_clean();
    assert_eq!(cache.get_many(&PAIR).unwrap(), [Some(3); 2]);
    let below = cache.backing().0.lock();
    for batch in &below.batches {
        assert!(batch.is_empty() || batch.len() == 2 && batch[&0] == batch[&1], "{batch:?}");
    }
}

#[test]
fn readers_see_the_newest_whatever_is_flushed() {
    explore(|| readers_see_the_newest(None));
}

#[test]
fn readers_see_the_newest_when_flushes_fail() {
    explore(|| {
        readers_see_the_newest(Some((thread_rng().gen_range(1..=3), thread_rng().gen_bool(0.5))))
    });
}

/// A key is deleted, flushed and forgotten while others read it from below: nobody brings it back.
#[test]
fn no_reader_brings_a_key_back() {
    explore(|| {
        let cache = toy_cache(ROOMY, None);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let cache = Arc::clone(&cache);
                thread::spawn(move || {
                    for _ in 0..2 {
                        cache.get_many(&PAIR).unwrap();
                    }
                })
            })
            .collect();
        let deleter = thread::spawn({
            let cache = Arc::clone(&cache);
            move || {
                let op = if thread_rng().gen_bool(0.5) { Op::Remove } else { Op::Delete };
                cache.write(&mut vec![(0, op), (1, Op::Put(7))]).unwrap();
                if thread_rng().gen_bool(0.7) {
                    cache.flush(1).unwrap();
                }
                assert_eq!(cache.get_many(&PAIR).unwrap(), [None, Some(7)]);
                cache.evict_clean();
                assert_eq!(cache.get_many(&PAIR).unwrap(), [None, Some(7)]);
            }
        });
        for thread in readers.into_iter().chain([deleter]) {
            thread.join().unwrap();
        }
        assert_eq!(cache.get_many(&PAIR).unwrap(), [None, Some(7)]);
    });
}

/// Two spend the same key, which both have to ask for: one of them is refused.
#[test]
fn nobody_spends_twice() {
    explore(|| {
        let cache = toy_cache(ROOMY, None);
        let spender = |cache: &Arc<ToyCache>, new: u32| {
            let cache = Arc::clone(cache);
            thread::spawn(move || {
                let mut ops =
                    vec![(0, Op::Remove), (new, Op::Insert(1)), (9, Op::Put(u64::from(new)))];
                match cache.write(&mut ops) {
                    Ok(undo) if thread_rng().gen_bool(0.3) => {
                        // If it is closed already it stays so.
                        u64::from(cache.undo(undo).is_err())
                    }
                    Ok(_) => 1,
                    Err(Error::Missing { at: 0 }) => 0,
                    Err(error) => panic!("{error}"),
                }
            })
        };
        let spenders = [spender(&cache, 5), spender(&cache, 6)];
        let closer = thread::spawn({
            let cache = Arc::clone(&cache);
            move || cache.close_epoch(1).map(|_| ()).unwrap()
        });
        let spent: u64 = spenders.into_iter().map(|spender| spender.join().unwrap()).sum();
        closer.join().unwrap();
        assert!(spent <= 1);
        let [coin, five, six] = [0, 5, 6].map(|key| cache.get(&key).unwrap());
        assert_eq!(coin.is_none(), spent == 1);
        assert_eq!(u64::from(five.is_some()) + u64::from(six.is_some()), spent);
        cache.flush(2).unwrap();
        let below = cache.backing().0.lock();
        assert_eq!(below.values.contains_key(&0), spent == 0);
    });
}

/// Writers that do not fit wait for a flush, are told that none is under way, or of its failure; nobody hangs.
#[test]
fn waits_for_room_end() {
    explore(|| {
        let fails = thread_rng().gen_bool(0.3).then_some((1, false));
        let cache = toy_cache(ROOMY, fails);
        let used = cache.stats().used_bytes;
        // Room for some of the keys.
        cache.set_limit(used + 700);
        let writer = |cache: &Arc<ToyCache>, first: u32| {
            let cache = Arc::clone(cache);
            thread::spawn(move || {
                let mut refused = 0;
                for key in first..first + 3 {
                    let mut ops = vec![(key, Op::Put(1))];
                    while let Err(error) = cache.write(&mut ops) {
                        match error {
                            Error::Full { .. } | Error::TooLarge { .. } => refused += 1,
                            error if error.is_latched() => cache.retry().unwrap(),
                            error => panic!("{error}"),
                        }
                        if refused > 2 {
                            break;
                        }
                        thread::yield_now();
                    }
                }
            })
        };
        let writers = [writer(&cache, 10), writer(&cache, 20)];
        let closer = thread::spawn({
            let cache = Arc::clone(&cache);
            move || {
                for tag in 1..=2 {
                    while let Err(error) = cache.close_epoch(tag) {
                        assert!(error.is_latched(), "{error}");
                        cache.retry().unwrap();
                        thread::yield_now();
                    }
                }
            }
        });
        for thread in writers.into_iter().chain([closer]) {
            thread.join().unwrap();
        }
        let _ = cache.retry();
        while cache.wait_durable(&2).is_err() {
            cache.retry().unwrap();
            thread::yield_now();
        }
        assert_eq!(cache.stats().flushing_keys, 0);
        cache.set_limit(ROOMY);
        cache.flush(3).unwrap();
        assert_ne!(cache.state(&10), State::Flushing);
    });
}

/// A cache that is dropped with closed epochs flushes them; a failure does not keep it.
#[test]
fn a_drop_ends() {
    explore(|| {
        let fails = thread_rng().gen_bool(0.5).then_some((1, false));
        let cache = toy_cache(ROOMY, fails);
        let below = Arc::clone(cache.backing());
        write_pair(&cache, 1).unwrap();
        cache.close_epoch(1).unwrap();
        drop(cache);
        assert_eq!(below.0.lock().tag, u64::from(fails.is_none()));
    });
}
