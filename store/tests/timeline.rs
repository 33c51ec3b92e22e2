//! All of time at once: blocks, rollbacks, pruning, compaction, reopening and losses of power in any order, and after
//! each step every height within reach is what the model says it was, by values and by proofs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{TIERED, apply_net, dir, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{
    Error, Height, Iter, Kept, KeyHash, KeyHistory, Options, ProofError, RangeLimit, Reader, Store,
    StoreParams, Verified, View, verify_since,
};
use hedgerow_testkit::Limit;
use hedgerow_testkit::generate::SeedNote;
use hedgerow_testkit::model::{Model, NetChangeSet, key_hash};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::Digest;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What there was at a height.
struct Then {
    root: Digest,
    /// In key-hash order.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The chain as it is now, and what it was at every height.
struct Timeline {
    /// The model at a height below which nothing is cut.
    base: (u64, Model),
    model: Model,
    blocks: Vec<Vec<NetChangeSet>>,
    then: Vec<Arc<Then>>,
}

impl Timeline {
    fn new(params: StoreParams) -> Self {
        let model = Model::without_history(params.compaction());
        let (blocks, then) = (vec![], vec![]);
        let mut timeline = Self { base: (0, model.clone()), model, blocks, then };
        timeline.note();
        timeline
    }

    fn note(&mut self) {
        let pairs: Vec<_> =
            self.model.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let values = pairs.iter().cloned().collect();
        let root = self.model.state_root();
        self.then.push(Arc::new(Then { root, pairs, values }));
    }

    fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    fn at(&self, height: Height) -> &Then {
        &self.then[height.0 as usize]
    }

    fn value(&self, height: Height, key: &[u8]) -> Option<&[u8]> {
        self.at(height).values.get(key).map(Vec::as_slice)
    }

    fn add(&mut self, block: Vec<NetChangeSet>) {
        self.model.apply_net(self.height() + 1, &block);
        self.blocks.push(block);
        self.note();
    }

    /// What is above was not.
    fn cut(&mut self, height: u64) {
        if height == self.height() {
            return;
        }
        self.blocks.truncate(height as usize);
        self.then.truncate(height as usize + 1);
        let (base, model) = &self.base;
        assert!(*base <= height, "{height} is below {base}");
        self.model = model.clone();
        for (number, block) in self.blocks.iter().enumerate().skip(*base as usize) {
            self.model.apply_net(number as u64 + 1, block);
        }
    }

    /// The height of `view`, by all that can be asked. Whether it has proofs of its own.
    fn check(&self, view: &View, keys: &[Vec<u8>], rng: &mut SplitMix64) -> bool {
        let height = view.height();
        let then = self.at(height);
        assert_eq!(view.root(), then.root, "height {height}");
        for (key, found) in keys.iter().zip(view.get_many(keys).unwrap()) {
            let shown = key.escape_ascii();
            assert_eq!(found.as_deref(), self.value(height, key), "{shown} at {height}");
        }
        let proven = match view.prove_many(keys) {
            Ok(proven) => proven,
            Err(Error::HeightUnavailable { kept: Kept::Proofs, .. }) => return false,
            Err(error) => panic!("height {height}: {error}"),
        };
        assert_eq!((proven.height, proven.root), (height, then.root));
        assert_eq!(view.len(), Some(then.pairs.len() as u64), "height {height}");
        let values = hedgerow_proof::verify_many(&then.root, keys, &proven.proof).unwrap();
        let key = &keys[rng.below(keys.len() as u64) as usize];
        let one = view.prove(key).unwrap();
        let value = hedgerow_proof::verify(&then.root, key, &one.proof).unwrap();
        assert_eq!(value, self.value(height, key), "{} at {height}", key.escape_ascii());
        for (key, value) in keys.iter().zip(values) {
            assert_eq!(value, self.value(height, key), "{} at {height}", key.escape_ascii());
        }
        let from = key_hash(key);
        let range = view.prove_range(from, RangeLimit { entries: 60, bytes: 1 << 20 }).unwrap();
        let verified = hedgerow_proof::verify_range(&then.root, from, &range.proven.proof).unwrap();
        let until = verified.until();
        assert_eq!(until, range.until);
        let within = |key: &[u8]| {
            let hash = key_hash(key);
            from <= hash && (hash < until || until == KeyHash::MAX)
        };
        let expected = then.pairs.iter().filter(|(key, _)| within(key));
        let expected: Vec<_> = expected.map(|(key, value)| (&key[..], &value[..])).collect();
        let found: Vec<_> = verified.items().collect();
        assert_eq!(found, expected, "from {from} at {height}");
        true
    }

    /// The heights from `least` on are there with proofs; those below, if they are, are right.
    fn check_reach(
        &self,
        reader: &Reader,
        least: u64,
        all: bool,
        keys: &[Vec<u8>],
        rng: &mut SplitMix64,
    ) {
        let newest = reader.view();
        assert_eq!((newest.height(), newest.root()), (Height(self.height()), self.model_root()));
        for height in (0..=self.height()).map(Height) {
            if !all && rng.below(4) > 0 {
                continue;
            }
            match reader.at(height) {
                Ok(view) => {
                    let proven = self.check(&view, keys, rng);
                    assert!(proven || height.0 < least, "no proofs at {height}, from {least} on");
                    for key in keys {
                        let shown = key.escape_ascii();
                        let past = newest.prove_past(key, height).unwrap();
                        assert_eq!(past.root, newest.root());
                        let verified =
                            hedgerow_proof::verify_past(&past.root, key, height, &past.proof);
                        let value = verified.unwrap();
                        assert_eq!(value.value(), self.value(height, key), "{shown} at {height}");
                        self.check_since(&newest, key, height, &value);
                    }
                }
                Err(Error::HeightUnavailable { height: said, .. }) => {
                    assert!(said == height && height.0 < least, "{height}, from {least} on");
                }
                Err(error) => panic!("height {height}: {error}"),
            }
        }
        let above = Height(self.height() + 1);
        assert!(matches!(reader.at(above), Err(Error::HeightUnavailable { .. })));
    }

    /// What a verified proof of the past, and those that go on from it, say of all heights up to the newest.
    fn check_since(&self, newest: &View, key: &[u8], height: Height, past: &Verified<'_>) {
        let value = self.value(height, key);
        let same = |heights: std::ops::RangeInclusive<u64>| {
            heights.map(Height).all(|height| self.value(height, key) == value)
        };
        let last = past.replaced_at().map_or(self.height(), |height| height.0 - 1);
        // Before the first height, an absent key's sentry says what is so since then.
        assert!(same(past.held_from().0..=last), "{} at {height}", key.escape_ascii());
        let proofs: Vec<_> = newest.proofs_since(key, height).map(Result::unwrap).collect();
        let proofs = proofs.iter().map(|proven| proven.proof.as_bytes());
        let answer = verify_since(&newest.root(), key, height, proofs);
        match answer {
            Ok(answer) => assert!(answer.value() == value && same(height.0..=self.height())),
            Err(ProofError::Changed(at)) => {
                assert!(same(height.0..=at.0 - 1) && self.value(at, key) != value);
            }
            Err(error) => panic!("since {height}: {error}"),
        }
    }

    fn model_root(&self) -> Digest {
        self.at(Height(self.height())).root
    }
}

/// Something of a height that somebody holds.
struct Held {
    view: View,
    then: Arc<Then>,
    iter: Iter,
    /// Pairs that the iterator gave out.
    passed: usize,
    key: Vec<u8>,
    versions: KeyHistory,
    /// The last version.
    last: Option<Height>,
    taken_back: bool,
}

impl Held {
    fn new(timeline: &Timeline, view: View, key: &[u8]) -> Self {
        let then = Arc::clone(&timeline.then[view.height().0 as usize]);
        let (iter, versions) = (view.iter(), view.key_history(key).unwrap());
        let (passed, last, taken_back) = (0, None, false);
        Self { view, then, iter, passed, key: key.to_vec(), versions, last, taken_back }
    }

    /// Goes on a little.
    fn check(&mut self, timeline: &Timeline, keys: &[Vec<u8>], rng: &mut SplitMix64) {
        let height = self.view.height();
        let is_gone = |error: Error| match error {
            Error::RolledBack { height: said } => assert_eq!(said, height),
            error => panic!("{height}, which was taken back: {error}"),
        };
        if self.taken_back {
            let key = &keys[0];
            is_gone(self.view.get(key).unwrap_err());
            is_gone(self.view.get_many(keys).unwrap_err());
            is_gone(self.view.prove(key).unwrap_err());
            is_gone(self.view.prove_many(keys).unwrap_err());
            is_gone(self.view.prove_range(key_hash(key), RangeLimit::default()).unwrap_err());
            is_gone(self.view.key_history(key).map(drop).unwrap_err());
            is_gone(self.view.iter().next().unwrap().unwrap_err());
            // What has come to its end, or to an error, has no more to say.
            self.iter.next().into_iter().for_each(|next| is_gone(next.unwrap_err()));
            self.versions.next().into_iter().for_each(|next| is_gone(next.unwrap_err()));
            return;
        }
        timeline.check(&self.view, keys, rng);
        for _ in 0..rng.below(12) {
            let found = self.iter.next().map(Result::unwrap);
            assert_eq!(found.as_ref(), self.then.pairs.get(self.passed), "height {height}");
            self.passed += usize::from(found.is_some());
        }
        if rng.below(3) == 0
            && let Some(version) = self.versions.next()
        {
            let version = version.unwrap();
            assert!(version.height <= height && self.last.is_none_or(|last| version.height < last));
            let then = timeline.value(version.height, &self.key);
            assert_eq!(version.value.as_deref(), then, "{} of {height}", version.height);
            self.last = Some(version.height);
        }
    }
}

fn keys() -> Vec<Vec<u8>> {
    (0..150).map(|key: u32| format!("key {key}").into_bytes()).collect()
}

/// Keys that come, change, go, and come again.
fn block(keys: &[Vec<u8>], rng: &mut SplitMix64) -> Vec<NetChangeSet> {
    let ops = [0, 4, 40, 120][rng.below(4) as usize];
    let mut sets = vec![NetChangeSet::new(); 1 + rng.below(2) as usize];
    for set in &mut sets {
        for _ in 0..ops {
            let key = keys[rng.below(keys.len() as u64) as usize].clone();
            let value = (rng.below(3) > 0).then(|| rng.next_u64().to_le_bytes().to_vec());
            set.push((key, value));
        }
    }
    sets
}

/// What a run came through.
#[derive(Debug, Default)]
struct Reached {
    rollbacks: u64,
    refused: u64,
    taken_back: u64,
    losses: u64,
    remade: u64,
    pruned: u64,
}

fn timeline(seed: u64, steps: u64, reached: &mut Reached) {
    let _note = SeedNote::new(seed);
    println!("seed {seed}");
    let mut rng = SplitMix64::new(seed);
    let params = [params(1, 1, 1), params(1, 4, 5)][(seed % 4 / 2) as usize];
    let window = 2 + rng.below(9);
    let manifest_blocks = 1 + rng.below(4);
    let checkpoint_bytes = [0, 30_000, 200_000][rng.below(3) as usize];
    let options = |disk: &PowerLossDisk| -> Options {
        let disk: Arc<dyn Vfs> = Arc::new(disk.clone());
        let options = on(&disk).threads(1).keep_heights(1).proof_window(window);
        let options = options.segment_bytes(20_000).manifest_blocks(manifest_blocks);
        let options = options.checkpoint_bytes(checkpoint_bytes).tail_bytes(20_000);
        if seed.is_multiple_of(3) { options.index(TIERED) } else { options }
    };
    let keys = keys();
    let mut disk = PowerLossDisk::new(seed);
    let mut store = Store::create(dir(), params, options(&disk)).unwrap();
    let mut chain = Timeline::new(params);
    let mut held: Vec<Held> = vec![];
    if seed.is_multiple_of(2) {
        // Until the sentries of the beginning are behind what is active, and something is pruned.
        while store.stats().pruned_bytes == 0 {
            let set = (0..3_000).map(|key| {
                let key = format!("other {key}").into_bytes();
                (key, Some(rng.next_u64().to_le_bytes().to_vec()))
            });
            chain.add(vec![set.collect()]);
            apply_net(&mut store, chain.height(), chain.blocks.last().unwrap()).unwrap();
            store.flush().unwrap();
            assert!(chain.height() < 60, "nothing is pruned");
        }
        chain.base = (chain.height(), chain.model.clone());
    }
    // What heights below need may be pruned.
    let mut least = chain.height().saturating_sub(window);
    for step in 0..steps {
        let mut power_off = rng.below(14) == 0;
        if power_off {
            disk.plan(Fault::once(Calls::Changes, rng.below(60), FaultKind::PowerOff));
        }
        let mut lost = None;
        // With a fault planned, until it comes.
        loop {
            match rng.below(12) {
                0..7 => {
                    chain.add(block(&keys, &mut rng));
                    let height = chain.height();
                    if let Err(error) =
                        apply_net(&mut store, height, &chain.blocks[height as usize - 1])
                    {
                        lost = Some((error, height - 1));
                    }
                }
                7..9 => {
                    let target = chain.height().saturating_sub(rng.below(window + 1));
                    let target = target.max(chain.base.0);
                    match store.rollback(Height(target)) {
                        Ok(()) => {
                            reached.rollbacks += 1;
                            chain.cut(target);
                            held.iter_mut().filter(|it| it.view.height().0 > target).for_each(
                                |it| {
                                    reached.taken_back += u64::from(!it.taken_back);
                                    it.taken_back = true;
                                },
                            );
                        }
                        Err(Error::HeightUnavailable { .. }) if target < least => {
                            reached.refused += 1;
                        }
                        Err(error) => lost = Some((error, target)),
                    }
                }
                9 if !power_off => {
                    held.clear();
                    store.close().unwrap();
                    if rng.below(2) == 0 {
                        reached.remade += 1;
                        disk.remove_dir_all(&dir().join("undo")).unwrap();
                    }
                    store = Store::open(dir(), options(&disk)).unwrap();
                }
                10 => {
                    if let Err(error) = store.prune() {
                        lost = Some((error, chain.height()));
                    }
                }
                _ => {
                    if let Err(error) = store.flush() {
                        lost = Some((error, chain.height()));
                    }
                }
            }
            if lost.is_some() || !power_off {
                break;
            }
        }
        if let Some((error, may_be)) = lost {
            assert!(power_off && disk.is_off(), "step {step}: {error}");
            power_off = false;
            reached.losses += 1;
            let durable = store.reader().durable_height().0.min(may_be);
            held.clear();
            drop(store);
            disk = disk.power_cycle(rng.next_u64());
            store = Store::open(dir(), options(&disk)).unwrap();
            let height = store.height().0;
            assert!(
                (durable..=chain.height()).contains(&height),
                "step {step}: {durable}, {height}"
            );
            chain.cut(height);
        }
        assert!(!power_off);
        reached.pruned = reached.pruned.max(store.stats().pruned_bytes);
        least = least.max(chain.height().saturating_sub(window));
        let some: Vec<_> =
            (0..3).map(|_| keys[rng.below(keys.len() as u64) as usize].clone()).collect();
        let some = [&some[..], &[b"never there".to_vec()]].concat();
        let all = step % 8 == 7 || step + 1 == steps;
        chain.check_reach(&store.reader(), least, all, &some, &mut rng);
        held.iter_mut().for_each(|held| held.check(&chain, &some, &mut rng));
        if let Ok(view) = store.reader().at(Height(rng.below(chain.height() + 1))) {
            held.push(Held::new(&chain, view, &some[0]));
        }
        if rng.below(3) == 0 {
            held.push(Held::new(&chain, store.reader().view(), &some[1]));
        }
        while held.len() > 7 {
            held.swap_remove(rng.below(held.len() as u64) as usize);
        }
    }
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn every_height_within_reach_is_what_it_was_whatever_happens() {
    let _limit = Limit::new();
    let number = |name, default| std::env::var(name).map_or(default, |it| it.parse().unwrap());
    let first = number("HEDGEROW_TIMELINE_SEED", 1);
    let count = number("HEDGEROW_TIMELINES", 6);
    let steps = number("HEDGEROW_TIMELINE_STEPS", 50);
    let mut reached = Reached::default();
    for seed in first..first + count {
        timeline(seed, steps, &mut reached);
    }
    println!("{reached:?}");
    if count >= 6 && steps >= 50 {
        let Reached { rollbacks, taken_back, losses, remade, pruned, .. } = reached;
        assert!([rollbacks, taken_back, losses, remade, pruned].iter().all(|&it| it > 0));
    }
}

/// Readers of past heights while blocks and rollbacks go on: whatever they see is one whole state that there was.
#[test]
fn past_heights_are_whole_while_blocks_come_and_go() {
    let _limit = Limit::new();
    let seed = std::env::var("HEDGEROW_TIMELINE_SEED").map_or(5, |it| it.parse().unwrap());
    println!("seed {seed}");
    let mut rng = SplitMix64::new(seed);
    let disk = common::disk();
    let params = params(1, 1, 1);
    const WINDOW: u64 = 8;
    let options = on(&disk).keep_heights(1).proof_window(WINDOW);
    let options = options.segment_bytes(20_000).manifest_blocks(2).tail_bytes(20_000);
    let mut store = Store::create(dir(), params, options).unwrap();
    let mut chain = Timeline::new(params);
    let keys = keys();
    let states = Mutex::new(HashMap::from([(chain.model_root(), Arc::clone(&chain.then[0]))]));
    let (done, looked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (reader, keys, states) = (store.reader(), &keys, &states);
            let (done, looked) = (&done, &looked);
            scope.spawn(move || {
                let mut rng = SplitMix64::new(seed + number + 1);
                while !done.load(Ordering::SeqCst) {
                    let height = Height(reader.height().0.saturating_sub(rng.below(WINDOW)));
                    let key = &keys[rng.below(keys.len() as u64) as usize];
                    let look = || {
                        let view = reader.at(height)?;
                        let root = view.root();
                        let then = states.lock().get(&root).map(Arc::clone);
                        let then = then.unwrap_or_else(|| panic!("no state had {root}"));
                        let value = then.values.get(key).map(Vec::as_slice);
                        assert_eq!(view.get(key)?.as_deref(), value, "{height}");
                        let proven = view.prove(key)?;
                        assert_eq!(proven.root, root);
                        let verified = hedgerow_proof::verify(&root, key, &proven.proof);
                        assert_eq!(verified.unwrap(), value, "{height}");
                        for (found, pair) in view.iter().take(30).zip(&then.pairs) {
                            assert_eq!(found?, *pair, "{height}");
                        }
                        Ok(())
                    };
                    match look() {
                        Ok(()) => _ = looked.fetch_add(1, Ordering::SeqCst),
                        Err(Error::RolledBack { .. } | Error::HeightUnavailable { .. }) => {}
                        Err(error) => panic!("{height}: {error}"),
                    }
                }
            });
        }
        let mut rounds = 0;
        while rounds < 100 || looked.load(Ordering::SeqCst) < 100 {
            rounds += 1;
            if rng.below(4) > 0 || chain.height() < WINDOW {
                chain.add(block(&keys, &mut rng));
                let then = Arc::clone(chain.then.last().unwrap());
                states.lock().insert(then.root, then);
                let height = chain.height();
                apply_net(&mut store, height, chain.blocks.last().unwrap()).unwrap();
            } else {
                // As low as that it may have been once before, and more is pruned.
                let target = chain.height() - rng.below(3);
                match store.rollback(Height(target)) {
                    Ok(()) => chain.cut(target),
                    Err(Error::HeightUnavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    println!("{} looks", looked.load(Ordering::SeqCst));
    chain.check_reach(&store.reader(), chain.height(), true, &keys[..4], &mut rng);
    store.check().unwrap();
}
