//! Everything at once, and every answer compared with the model at its height.
//!
//! ```text
//!  seed ──► blocks ──► model, ahead of the store ──► Expected: values and root of each height
//!              │                                         ▲ compares
//!              ▼                                         │
//!           writer ──► store ◄── get, get_many, prove, iterate, history: a thread each, random order
//!              │ compaction (1, 1, 1), pruning, small segments and caches
//!              └ closes and opens it again with other options
//! ```
//!
//! An answer that says its height is that of the model at that height; one that does not is the model's
//! at some height between those before and after the question.
//!
//! `HEDGEROW_SOAK_SECONDS` makes it longer, `HEDGEROW_SOAK_SEED` makes a run again, as far
//! as threads allow: the blocks and options are the same, the moments of the questions are not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on, params, tasks};
use hedgerow::hasher::by_name;
use hedgerow::{Digest, Durability, Error, Height, Options, Reader, Store, Ticket};
use hedgerow_testkit::generate::{BlockGen, GenShape, SeedNote};
use hedgerow_testkit::model::{NetChangeSet, key_hash};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_testkit::{Limit, Model};
use hedgerow_types::KeyHash;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Heights whose values are kept: more than a slow reader falls behind.
const WINDOW: u64 = 200;
/// Blocks between two openings.
const BLOCKS: u64 = 150;
/// A height has a root of the model's if it is a multiple of this.
const ROOTS: u64 = 10;
/// Keys that most blocks write.
const HOT: u64 = 6;
/// Least number of openings.
const OPENINGS: u64 = 4;

/// The state after one block, in key-hash order, as iterators give it.
#[derive(Clone)]
struct State(BTreeMap<KeyHash, (Vec<u8>, Vec<u8>)>);

impl State {
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        Some(&self.0.get(&key_hash(key))?.1)
    }
}

/// What the store must answer, by height. Always ahead of what is published.
#[derive(Default)]
struct Expected {
    /// Of every [`ROOTS`]th height, for the model takes long for one; a root says all that came before.
    roots: BTreeMap<u64, Digest>,
    states: BTreeMap<u64, Arc<State>>,
}

impl Expected {
    /// Adds the model's state, which is the last one and these changes, if they are given.
    fn add(&mut self, model: &mut Model, changes: Option<&NetChangeSet>) {
        let height = model.height();
        let state =
            if let (Some(changes), Some((_, last))) = (changes, self.states.last_key_value()) {
                let mut state = State::clone(last);
                for (key, value) in changes {
                    match value {
                        Some(value) => state.0.insert(key_hash(key), (key.clone(), value.clone())),
                        None => state.0.remove(&key_hash(key)),
                    };
                }
                state
            } else {
                // It goes through all sentries for that.
                let pair =
                    |(key, value): (&[u8], &[u8])| (key_hash(key), (key.to_vec(), value.to_vec()));
                State(model.iter().map(pair).collect())
            };
        self.states.insert(height, Arc::new(state));
        self.states = self.states.split_off(&height.saturating_sub(WINDOW));
        if height.is_multiple_of(ROOTS) {
            self.roots.insert(height, model.state_root());
        }
    }
}

/// How many answers were compared.
#[derive(Debug, Default)]
struct Counts {
    gets: AtomicU64,
    get_manys: AtomicU64,
    proofs: AtomicU64,
    iterations: AtomicU64,
    rows: AtomicU64,
    /// Answers that came later than [`WINDOW`] blocks: not compared.
    too_late: AtomicU64,
    /// Proofs of absence.
    absent: AtomicU64,
    pruned: AtomicU64,
}

impl Counts {
    fn all(&self) -> [u64; 5] {
        let all = [&self.gets, &self.get_manys, &self.proofs, &self.iterations, &self.rows];
        all.map(|count| count.load(Ordering::Relaxed))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Somebody who asks.
struct Asker<'a> {
    reader: Reader,
    expected: &'a RwLock<Expected>,
    counts: &'a Counts,
    keys: &'a [Vec<u8>],
    /// No new iterators, for nothing is pruned while there are any.
    quiet: &'a AtomicBool,
    rng: SplitMix64,
}

impl Asker<'_> {
    fn key(&mut self) -> Vec<u8> {
        if self.rng.below(2) == 0 {
            return format!("hot {}", self.rng.below(HOT)).into_bytes();
        }
        self.keys[self.rng.below(self.keys.len() as u64) as usize].clone()
    }

    /// The states of these heights, or `None` if not all are known any more.
    fn states(&self, heights: RangeInclusive<Height>) -> Option<Vec<Arc<State>>> {
        let expected = self.expected.read();
        let heights = heights.start().0..=heights.end().0;
        let states: Option<Vec<_>> =
            heights.map(|height| expected.states.get(&height).cloned()).collect();
        if states.is_none() {
            count(&self.counts.too_late);
        }
        states
    }

    /// Asks, and checks that the answer is right for one of the heights it may be of.
    fn compare<T>(
        &self,
        what: &str,
        ask: impl FnOnce(&Reader) -> T,
        right: impl Fn(&State, &T) -> bool,
    ) {
        let before = self.reader.height();
        let answer = ask(&self.reader);
        let after = self.reader.height();
        assert!(before <= after, "the height fell");
        if let Some(states) = self.states(before..=after) {
            let found = states.iter().any(|state| right(state, &answer));
            assert!(found, "{what}: not the answer of any height from {before} to {after}");
        }
    }

    fn ask(&mut self) {
        match self.rng.below(32) {
            0..14 => {
                let key = self.key();
                let ask = |reader: &Reader| reader.get(&key).unwrap();
                self.compare("get", ask, |state, answer| state.get(&key) == answer.as_deref());
                count(&self.counts.gets);
            }
            14..20 => {
                let keys: Vec<_> = (0..1 + self.rng.below(60)).map(|_| self.key()).collect();
                let ask = |reader: &Reader| reader.get_many(&keys).unwrap();
                self.compare("get_many", ask, |state, answers| {
                    let pairs = keys.iter().zip(answers);
                    pairs.into_iter().all(|(key, value)| state.get(key) == value.as_deref())
                });
                count(&self.counts.get_manys);
            }
            20..28 => self.prove(),
            28 if !self.quiet.load(Ordering::Relaxed) => self.iterate(),
            _ => self.history(),
        }
    }

    fn prove(&mut self) {
        let key = self.key();
        let before = self.reader.height();
        let proven = self.reader.prove(&key).unwrap();
        let after = self.reader.height();
        assert!((before..=after).contains(&proven.height), "{} is not of its time", proven.height);
        assert!(!proven.durable || self.reader.durable_height() >= proven.height);
        assert_eq!(self.reader.root_at(proven.height).unwrap(), proven.root);
        check_root(self.expected, proven.height, proven.root);
        let value = hedgerow_proof::verify(&proven.root, &key, &proven.proof).unwrap();
        if let Some(states) = self.states(proven.height..=proven.height) {
            assert_eq!(value, states[0].get(&key));
        }
        if value.is_none() {
            count(&self.counts.absent);
        }
        count(&self.counts.proofs);
    }

    fn iterate(&self) {
        let all = |reader: &Reader| reader.iter().collect::<Result<Vec<_>, _>>().unwrap();
        self.compare("iter", all, |state, pairs| state.0.values().eq(pairs));
        count(&self.counts.iterations);
    }

    /// Heights that are published have their row; those ahead have it only once readers see them.
    fn history(&mut self) {
        let before = self.reader.height().0;
        let height = self.rng.below(before + 3);
        match self.reader.history(Height(height)) {
            Ok(row) => {
                assert!(height <= self.reader.height().0, "history is ahead of the readers");
                check_root(self.expected, Height(height), row.root);
                assert_eq!(row.extra, extra(height));
            }
            Err(Error::HeightUnavailable { .. }) => {
                assert!(
                    height > before,
                    "the row of height {height} is lost, {before} was published"
                );
            }
            Err(error) => panic!("{error}"),
        }
        count(&self.counts.rows);
    }
}

fn check_root(expected: &RwLock<Expected>, height: Height, root: Digest) {
    if let Some(known) = expected.read().roots.get(&height.0) {
        assert_eq!(root, *known, "the root at height {height}");
    }
}

fn extra(height: u64) -> Vec<u8> {
    if height == 0 { vec![] } else { format!("extra {height}").into_bytes() }
}

/// Options that change nothing but how things happen.
fn options(rng: &mut SplitMix64) -> Options {
    let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
    let durability = if pick(&[0, 1]) == 0 { Durability::Pipelined } else { Durability::EachBlock };
    Options::default()
        .hasher(by_name(if pick(&[0, 1]) == 0 { "cpu" } else { "scalar" }).unwrap())
        .threads(pick(&[1, 2, 3]) as usize)
        .durability(durability)
        .max_in_flight(pick(&[1, 2, 3, 6]) as usize)
        .tail_bytes(pick(&[0, 10_000, 16 << 20]))
        .entry_cache_bytes(pick(&[0, 5_000, 32 << 20]))
        .segment_bytes(pick(&[1, 20_000, 300_000]))
        .keep_heights(pick(&[1, 3, 50]))
}

/// So many puts that compaction has nearly rewritten the sentries, which fill the first segment: what
/// follows makes it go.
fn warm_up(
    store: &mut Store,
    model: &mut Model,
    expected: &RwLock<Expected>,
    blocks: &mut BlockGen,
) {
    while store.stats().oldest_active.iter().any(|oldest| oldest.0 < 3900) {
        let (height, mut change_sets) = blocks.net();
        change_sets.push(bulk(height, 2500));
        submit_net(store, model, expected, height, &change_sets).root().unwrap();
    }
}

/// Blocks without new iterators until the first segments go, should none have gone so far: when one
/// goes depends on when the last iterator ended.
fn until_pruned(
    store: &mut Store,
    model: &mut Model,
    expected: &RwLock<Expected>,
    blocks: &mut BlockGen,
) {
    for _ in 0..50 {
        if store.stats().pruned_bytes > 0 {
            return;
        }
        let (height, mut change_sets) = blocks.net();
        change_sets.push(bulk(height, 1000));
        submit_net(store, model, expected, height, &change_sets);
        store.flush().unwrap();
    }
}

/// A few keys that come and go all the time, in blocks so small that many are published.
fn hot(height: u64) -> NetChangeSet {
    let here = |i: u64| (height >> (i % 3)) & 1 == 0;
    let value = |i: u64| here(i).then(|| height.to_le_bytes().to_vec());
    (0..HOT).map(|i| (format!("hot {i}").into_bytes(), value(i))).collect()
}

/// Puts of keys that only these blocks write.
fn bulk(height: u64, keys: u64) -> NetChangeSet {
    let value = height.to_le_bytes().to_vec();
    (0..keys).map(|i| (format!("bulk {i}").into_bytes(), Some(value.clone()))).collect()
}

/// The writer's part: the next block, into the model first, then into the store.
fn submit(
    store: &mut Store,
    model: &mut Model,
    expected: &RwLock<Expected>,
    blocks: &mut BlockGen,
) -> Ticket {
    if blocks.below(10) != 0 {
        let (height, mut change_sets) = blocks.none();
        change_sets.push(hot(height));
        return submit_net(store, model, expected, height, &change_sets);
    }
    if blocks.below(3) == 0 {
        let block = blocks.strict();
        model.apply(&block);
        expected.write().add(model, None);
        let height = Height(block.height);
        return store.submit_tasks(height, &tasks(&block), extra(block.height)).unwrap();
    }
    let (height, mut change_sets) = blocks.net();
    if blocks.below(5) == 0 {
        change_sets.push(bulk(height, 1000));
    }
    submit_net(store, model, expected, height, &change_sets)
}

fn submit_net(
    store: &mut Store,
    model: &mut Model,
    expected: &RwLock<Expected>,
    height: u64,
    change_sets: &[NetChangeSet],
) -> Ticket {
    model.apply_net(height, change_sets);
    // Any single change set would do; only the small ones come so often.
    let hot_only = change_sets.len() == 1 && change_sets[0].len() as u64 == HOT;
    expected.write().add(model, hot_only.then(|| &change_sets[0]));
    let mut block = store.begin_block(Height(height)).unwrap();
    common::fill(&mut block, change_sets).unwrap();
    block.set_extra(extra(height)).unwrap();
    block.submit().unwrap()
}

fn check_stats(store: &Store, expected: &RwLock<Expected>, before: Height) {
    let stats = store.stats();
    assert_eq!(stats.accepted, store.height());
    assert!(stats.accepted >= stats.published && stats.published >= stats.durable, "{stats:?}");
    assert_eq!(stats.poison, None);
    let expected = expected.read();
    let mut heights = expected.states.range(before.0..=stats.accepted.0);
    assert!(heights.any(|(_, state)| state.0.len() as u64 == stats.keys), "{stats:?}");
}

/// Tells the others to stop, also if the writer fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn every_answer_is_that_of_its_height() {
    let _limit = Limit::new();
    let given = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = given("HEDGEROW_SOAK_SEED").unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    });
    let _note = SeedNote::new(seed);
    let until = given("HEDGEROW_SOAK_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    println!("HEDGEROW_SOAK_SEED={seed}");

    let mut rng = SplitMix64::new(seed);
    let mut blocks = BlockGen::new(seed, GenShape { keys: 250, ..GenShape::default() });
    let keys = blocks.keys().to_vec();
    let params = params(1, 1, 1);
    let mut model = Model::without_history(params.compaction());
    let (expected, counts) = (RwLock::new(Expected::default()), Counts::default());
    expected.write().add(&mut model, None);
    let disk = disk();
    let first = on(&disk).segment_bytes(20_000).keep_heights(3);
    let mut store = Store::create(dir(), params, first).unwrap();
    warm_up(&mut store, &mut model, &expected, &mut blocks);
    assert_eq!(store.stats().pruned_bytes, 0, "the askers are to see it");
    let mut openings = 1;
    loop {
        let reader = store.reader();
        let (stop, quiet) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            let askers: Vec<_> = (0..3)
                .map(|_| {
                    let rng = SplitMix64::new(rng.next_u64());
                    let (reader, expected) = (reader.clone(), &expected);
                    let (counts, keys, stop, quiet) = (&counts, &keys, &stop, &quiet);
                    scope.spawn(move || {
                        let mut asker = Asker { reader, expected, counts, keys, quiet, rng };
                        while !stop.load(Ordering::Relaxed) {
                            asker.ask();
                        }
                    })
                })
                .collect();
            for number in 0..BLOCKS {
                quiet.store(number % 50 >= 25, Ordering::Relaxed);
                let before = reader.height();
                let ticket = submit(&mut store, &mut model, &expected, &mut blocks);
                match rng.below(8) {
                    0 => check_root(&expected, ticket.height(), ticket.early_root().unwrap()),
                    1 => check_root(&expected, ticket.height(), ticket.root().unwrap()),
                    2 => ticket.durable().unwrap(),
                    3 => check_stats(&store, &expected, before),
                    _ => {}
                }
                if askers.iter().any(|asker| asker.is_finished()) {
                    return; // It failed; the end of the scope says why.
                }
            }
            if openings == 1 {
                quiet.store(true, Ordering::Relaxed);
                until_pruned(&mut store, &mut model, &expected, &mut blocks);
            }
        });
        count_pruned(&store, &counts);
        if rng.below(3) == 0 {
            let report = store.check().unwrap();
            assert_eq!((report.root, report.twigs_missing), (model.state_root(), 0));
        }
        store.close().unwrap();
        // A reader that is left answers from the last state.
        let left = Asker {
            reader,
            expected: &expected,
            counts: &counts,
            keys: &keys,
            quiet: &quiet,
            rng: SplitMix64::new(seed),
        };
        assert_eq!(left.reader.root(), (Height(model.height()), model.state_root()));
        left.iterate();
        if openings >= OPENINGS && until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
        store = Store::open(dir(), options(&mut rng).disk(Arc::clone(&disk))).unwrap();
        assert_eq!(store.reader().root(), (Height(model.height()), model.state_root()));
        openings += 1;
    }
    println!("{openings} openings, {} blocks, {counts:?}", model.height());
    assert!(counts.all().iter().all(|&count| count > 0), "{counts:?}");
    assert!(counts.pruned.load(Ordering::Relaxed) > 0, "nothing was pruned: {counts:?}");
    let compared: u64 = counts.all().iter().sum();
    assert!(counts.too_late.load(Ordering::Relaxed) * 10 < compared, "{counts:?}");
}

fn count_pruned(store: &Store, counts: &Counts) {
    counts.pruned.fetch_add(store.stats().pruned_bytes, Ordering::Relaxed);
}
