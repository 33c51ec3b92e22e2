//! Past heights are what they were: values, iteration, histories of keys, roots.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{apply_any, apply_net, dir, disk, on, params};
use hedgerow::disk::{OpenMode, Vfs};
use hedgerow::{
    Error, Height, Kept, KeyHash, Options, PruneHold, RangeLimit, Reader, Store, StoreParams, View,
};
use hedgerow_entryfile::{EncodedUndo, ShardUndoParts, UndoFile, UndoFileOptions};
use hedgerow_testkit::Limit;
use hedgerow_testkit::generate::{BlockGen, GenShape, SeedNote, adversarial_keys};
use hedgerow_testkit::model::{Model, NetChangeSet};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::rows::NodeRows;
use hedgerow_types::{Digest, SerialNumber, ShardId};
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What there was at a height.
struct Then {
    root: Digest,
    /// In key-hash order.
    pairs: Pairs,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Every height that there was.
#[derive(Default)]
struct All(Vec<Then>);

impl All {
    fn note(&mut self, model: &mut Model) {
        let pairs: Pairs =
            model.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let values = pairs.iter().cloned().collect();
        assert_eq!(model.height(), self.0.len() as u64);
        self.0.push(Then { root: model.state_root(), pairs, values });
    }

    fn at(&self, height: Height) -> &Then {
        &self.0[height.0 as usize]
    }

    fn value(&self, height: Height, key: &[u8]) -> Option<&[u8]> {
        self.at(height).values.get(key).map(Vec::as_slice)
    }

    fn last(&self) -> Height {
        Height(self.0.len() as u64 - 1)
    }

    /// The view shows its height.
    fn check(&self, view: &View, keys: &[Vec<u8>]) {
        let height = view.height();
        let then = self.at(height);
        assert_eq!(view.root(), then.root, "height {height}");
        if let Some(len) = view.len() {
            assert_eq!(len, then.pairs.len() as u64, "height {height}");
        }
        let many = view.get_many(keys).unwrap();
        for (key, found) in keys.iter().zip(many) {
            let (expected, key_shown) = (self.value(height, key), key.escape_ascii());
            assert_eq!(found.as_deref(), expected, "{key_shown} at {height}");
            assert_eq!(view.get(key).unwrap(), found, "{key_shown} at {height}");
        }
        self.check_proofs(view, keys);
    }

    /// Where the view has what proofs need, they prove what was there against the root of then; else it says so.
    fn check_proofs(&self, view: &View, keys: &[Vec<u8>]) {
        let height = view.height();
        let root = self.at(height).root;
        for key in keys {
            let (expected, key_shown) = (self.value(height, key), key.escape_ascii());
            let proven = match view.prove(key) {
                Ok(proven) => proven,
                Err(Error::HeightUnavailable { height: said, first, kept, .. }) => {
                    assert_eq!((said, kept, view.len()), (height, Kept::Proofs, None));
                    assert!(first > height);
                    return;
                }
                Err(error) => panic!("{key_shown} at {height}: {error}"),
            };
            assert!(view.len().is_some());
            assert_eq!((proven.height, proven.root), (height, root));
            let verified = hedgerow_proof::verify(&root, key, &proven.proof);
            assert_eq!(verified.unwrap(), expected, "{key_shown} at {height}");
        }
        self.check_past_proofs(view, keys);
        // Many at once, and ranges.
        if let Some(chosen) = keys.get(..keys.len().min(9)).filter(|keys| !keys.is_empty()) {
            let proven = view.prove_many(chosen).unwrap();
            let verified = hedgerow_proof::verify_many(&root, chosen, &proven.proof).unwrap();
            for (key, answer) in chosen.iter().zip(verified) {
                assert_eq!(answer, self.value(height, key), "{height}");
            }
        }
        let from = KeyHash([(height.0 * 37 % 255) as u8; 32]);
        let limit = RangeLimit { entries: 7, ..RangeLimit::default() };
        let range = view.prove_range(from, limit).unwrap();
        let verified = hedgerow_proof::verify_range(&root, from, &range.proven.proof).unwrap();
        assert_eq!(verified.until(), range.until);
        // Every place of a shard, also one that was not taken yet.
        let shard = ShardId::new(height.0 as usize % 16).unwrap();
        let of_shard = view.roots().shards[shard.index()];
        for sn in (0..9_000).step_by(331).map(SerialNumber) {
            match view.prove_serial(shard, sn) {
                Ok(path) => path.verify(&of_shard).unwrap(),
                Err(Error::SerialUnavailable { .. }) => {}
                Err(error) => panic!("{sn} at {height}: {error}"),
            }
        }
    }

    /// What keys had at earlier heights, under the root of this one.
    fn check_past_proofs(&self, view: &View, keys: &[Vec<u8>]) {
        let newest = view.height();
        for (number, key) in keys.iter().enumerate().take(12) {
            let height = Height(newest.0.saturating_sub(number as u64 * number as u64));
            let key_shown = key.escape_ascii();
            let proven = match view.prove_past(key, height) {
                Ok(proven) => proven,
                Err(Error::HeightUnavailable { .. } | Error::Closed) => continue,
                Err(error) => panic!("{key_shown} at {height} from {newest}: {error}"),
            };
            assert_eq!((proven.height, proven.root), (newest, self.at(newest).root));
            let verified =
                hedgerow_proof::verify_past(&proven.root, key, height, &proven.proof).unwrap();
            assert_eq!(verified.value(), self.value(height, key), "{key_shown} at {height}");
        }
    }

    fn check_pairs(&self, view: &View) {
        let found: Vec<_> = view.iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(found, self.at(view.height()).pairs, "height {}", view.height());
    }

    /// Every height that is to be had shows itself, and they reach to the newest. Returns the first.
    fn check_all(&self, reader: &Reader, keys: &[Vec<u8>], pairs_of: u64, window: u64) -> Height {
        let mut first = None;
        for height in (0..=self.last().0).map(Height) {
            match reader.at(height) {
                Ok(view) => {
                    assert_eq!(view.height(), height);
                    let provable = height.0 + window >= self.last().0;
                    assert!(view.len().is_some() || !provable, "height {height}");
                    self.check(&view, keys);
                    if height.0 % pairs_of == 0 {
                        self.check_pairs(&view);
                    }
                    first.get_or_insert(height);
                }
                Err(Error::HeightUnavailable { height: said, first: from, last, .. }) => {
                    assert_eq!((said, first, last), (height, None, self.last()));
                    assert!(from > height, "{from} of {height}");
                    if from <= last {
                        reader.at(from).unwrap();
                    }
                }
                Err(error) => panic!("height {height}: {error}"),
            }
        }
        first.unwrap()
    }

    /// The history of a key is what it was, as far back as it goes.
    fn check_history(&self, reader: &Reader, key: &[u8], first: Height) {
        let mut expected = vec![];
        for height in (1..=self.last().0).rev().map(Height) {
            let (now, before) = (self.value(height, key), self.value(Height(height.0 - 1), key));
            if now != before {
                expected.push((height, now.map(<[u8]>::to_vec)));
            }
        }
        let found: Vec<_> = reader.key_history(key).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(found.is_sorted_by(|a, b| a.height > b.height));
        for version in &found {
            // A block may also write the value that was there already.
            assert_eq!(version.value.as_deref(), self.value(version.height, key));
            if version.is_exact {
                continue;
            }
            assert_eq!(version, found.last().unwrap());
        }
        for (height, value) in expected.into_iter().filter(|(height, _)| *height > first) {
            let found = found.iter().find(|version| version.height == height);
            assert_eq!(found.unwrap().value, value, "{} at {height}", key.escape_ascii());
        }
    }
}

struct Case {
    seed: u64,
    blocks: u64,
    shape: GenShape,
    params: StoreParams,
    window: u64,
    options: Options,
}

/// Blocks of all kinds; now and then, and at the end, all that is to be had of the past is looked at, then again
/// after reopening.
fn past(case: Case) {
    let Case { seed, blocks: count, shape, params, window, options } = case;
    let options = options.proof_window(window);
    let mut rng = SplitMix64::new(seed);
    let mut blocks = BlockGen::new(seed, shape);
    let mut model = Model::without_history(params.compaction());
    let mut store = Store::create(dir(), params, options.clone()).unwrap();
    let mut all = All::default();
    all.note(&mut model);
    let mut held: Vec<View> = vec![];
    for number in 0..count {
        apply_any(&mut rng, &mut blocks, &mut model, &mut store);
        all.note(&mut model);
        let back = rng.below(all.0.len() as u64);
        if let Ok(view) = store.reader().at(Height(back)) {
            held.push(view);
        }
        while held.len() > 6 {
            held.swap_remove(rng.below(held.len() as u64) as usize);
        }
        let mut keys: Vec<_> = (0..3).map(|_| blocks.any_key()).collect();
        keys.push(b"never there".to_vec());
        held.iter().for_each(|view| all.check(view, &keys));
        if number % 20 == 7 {
            all.check_all(&store.reader(), &keys, 10, window);
        }
        if number % 9 == 4 {
            store = reopen(store, &options);
        }
    }
    let keys = blocks.keys().to_vec();
    let looked = |store: &Store| {
        let first = all.check_all(&store.reader(), &keys, 3, window);
        keys.iter().for_each(|key| all.check_history(&store.reader(), key, first));
    };
    looked(&store);
    store.check().unwrap();
    for view in &held {
        all.check(view, &keys);
        all.check_pairs(view);
    }
    let store = reopen(store, &options);
    looked(&store);
    store.close().unwrap();
    for view in &held {
        all.check(view, &keys);
        all.check_pairs(view);
    }
}

fn reopen(store: Store, options: &Options) -> Store {
    store.close().unwrap();
    Store::open(dir(), options.clone()).unwrap()
}

#[test]
fn past_heights_are_what_they_were() {
    let _limit = Limit::new();
    for seed in 0..6 {
        let _note = SeedNote::new(seed);
        let params = if seed % 2 == 0 { params(1, 1, 1) } else { StoreParams::default() };
        let options =
            on(&disk()).keep_heights(4 + 9 * seed).segment_bytes(40_000).manifest_blocks(1 + seed);
        let shape = GenShape { keys: 110, ..GenShape::default() };
        past(Case {
            seed,
            blocks: 50,
            shape,
            params,
            window: [1, 5, 12, 200, 7, 30][seed as usize],
            options,
        });
    }
}

/// A store of its own whose every height is noted, with blocks made from their heights.
struct Chain {
    disk: Arc<dyn Vfs>,
    options: Options,
    model: Model,
    all: All,
    keys: Vec<Vec<u8>>,
}

const WINDOW: u64 = 16;

impl Chain {
    fn new(disk: Arc<dyn Vfs>, options: Options) -> (Self, Store) {
        let params = params(1, 1, 1);
        let store = Store::create(dir(), params, options.clone()).unwrap();
        let mut model = Model::without_history(params.compaction());
        let mut all = All::default();
        all.note(&mut model);
        let keys = (0..400).map(|key: u32| format!("key {key}").into_bytes()).collect();
        (Self { disk, options, model, all, keys }, store)
    }

    /// The next block: the same of the same height.
    fn changes(&self, height: u64) -> Vec<NetChangeSet> {
        let mut rng = SplitMix64::new(height);
        let set = |rng: &mut SplitMix64| {
            let mut set = NetChangeSet::new();
            for _ in 0..40 {
                let key = self.keys[rng.below(self.keys.len() as u64) as usize].clone();
                let value = (rng.below(4) > 0).then(|| rng.next_u64().to_le_bytes().to_vec());
                set.push((key, value));
            }
            set
        };
        vec![set(&mut rng), set(&mut rng)]
    }

    fn commit(&mut self, store: &mut Store) {
        let height = store.height().0 + 1;
        let changes = self.changes(height);
        if self.all.last().0 < height {
            self.model.apply_net(height, &changes);
            self.all.note(&mut self.model);
        }
        apply_net(store, height, &changes).unwrap();
    }

    fn open(&self) -> Store {
        Store::open(dir(), self.options.clone()).unwrap()
    }

    /// How many of the heights in the window have proofs against their own roots. Those that have show what was
    /// there; nothing else comes out.
    fn proofs(&self, store: &Store) -> u64 {
        let reader = store.reader();
        let newest = reader.height().0;
        let mut heights = 0;
        for height in (newest.saturating_sub(WINDOW)..newest).map(Height) {
            let Ok(view) = reader.at(height) else { continue };
            let then = self.all.at(height);
            assert_eq!(view.root(), then.root);
            let mut proven = 0;
            for key in self.keys.iter().step_by(23) {
                assert_eq!(view.get(key).unwrap().as_deref(), self.all.value(height, key));
                match view.prove(key) {
                    Ok(proof) => {
                        let verified = hedgerow_proof::verify(&then.root, key, &proof.proof);
                        assert_eq!(verified.unwrap(), self.all.value(height, key));
                        proven += 1;
                    }
                    Err(Error::HeightUnavailable { kept: Kept::Proofs, .. }) => {}
                    Err(error) => panic!("{height}: {error}"),
                }
            }
            heights += u64::from(proven > 0);
        }
        heights
    }
}

fn small(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).proof_window(WINDOW).segment_bytes(30_000).manifest_blocks(3).tail_bytes(20_000)
}

fn undo_files(disk: &Arc<dyn Vfs>) -> Vec<PathBuf> {
    common::forge::files(disk, "undo")
}

/// Keys whose stems tie, that come and go several times in a block.
#[test]
fn the_past_tells_tied_keys_apart() {
    let _limit = Limit::new();
    let keys = adversarial_keys();
    let params = params(1, 1, 1);
    let mut model = Model::without_history(params.compaction());
    let mut all = All::default();
    let options = on(&disk()).segment_bytes(60_000).keep_heights(30);
    let mut store = Store::create(dir(), params, options).unwrap();
    all.note(&mut model);
    let mut rng = SplitMix64::new(1);
    for height in 1..=30 {
        let mut sets = vec![NetChangeSet::new(); 3];
        for set in &mut sets {
            for key in &keys {
                match rng.below(4) {
                    0 => set.push((key.clone(), None)),
                    1 => {
                        set.push((key.clone(), Some(vec![height as u8; 1 + rng.below(9) as usize])))
                    }
                    _ => {}
                }
            }
        }
        model.apply_net(height, &sets);
        apply_net(&mut store, height, &sets).unwrap();
        all.note(&mut model);
    }
    let first = all.check_all(&store.reader(), &keys, 4, 128);
    assert_eq!(first, Height(0));
    keys.iter().for_each(|key| all.check_history(&store.reader(), key, first));
}

/// Pruning waits for a past height as for any view, and says so; what is pruned is said to be.
#[test]
fn what_a_past_height_needs_is_not_pruned() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).keep_heights(1).segment_bytes(50_000).manifest_blocks(1);
    let mut store = Store::create(dir(), params(1, 1, 1), options.proof_window(4)).unwrap();
    let put_all = |store: &mut Store| {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for key in 0..2_000 {
            block.put(format!("key {key}"), format!("at {height}")).unwrap();
        }
        block.submit().unwrap().durable().unwrap();
        store.flush().unwrap();
    };
    while store.stats().pruned_bytes == 0 {
        put_all(&mut store);
    }
    let height = Height(store.height().0 - 1);
    let view = store.reader().at(height).unwrap();
    assert_eq!(store.stats().views, 2);
    for _ in 0..40 {
        put_all(&mut store);
    }
    assert_eq!(store.stats().prune_hold, Some(PruneHold::View { height }), "{:?}", store.stats());
    let then = format!("at {height}").into_bytes();
    for key in (0..2_000).step_by(7).map(|key| format!("key {key}")) {
        assert_eq!(view.get(&key).unwrap().as_ref(), Some(&then));
        // Also what its proofs need.
        let proven = view.prove(&key).unwrap();
        let value = hedgerow_proof::verify(&view.root(), key.as_bytes(), &proven.proof).unwrap();
        assert_eq!(value, Some(&then[..]));
        let newest = store.reader().prove_past(&key, height).unwrap();
        let past = hedgerow_proof::verify_past(&newest.root, key.as_bytes(), height, &newest.proof);
        assert_eq!(past.unwrap().value(), Some(&then[..]));
    }
    assert_eq!(view.iter().count(), 2_000);
    let before = store.stats().pruned_bytes;
    drop(view);
    put_all(&mut store);
    put_all(&mut store);
    let stats = store.stats();
    assert!(stats.pruned_bytes > before && stats.views == 1, "{stats:?}");
    match store.reader().at(height) {
        Err(Error::HeightUnavailable { first, kept: Kept::State, .. }) => {
            assert!(first > height);
            store.reader().at(first).unwrap();
            assert!(store.reader().at(Height(first.0 - 1)).is_err());
        }
        other => panic!("{other:?}"),
    }
    let history = store.reader().key_history("key 7").unwrap();
    let history: Vec<_> = history.collect::<Result<_, _>>().unwrap();
    assert!(history.len() > 2 && history.iter().rev().skip(1).all(|version| version.is_exact));
    for version in history {
        assert_eq!(version.value, Some(format!("at {}", version.height).into_bytes()));
    }
}

/// Undo records are derived data: whatever happens to them, the store opens and answers, and what proofs it makes
/// are right. What is missing is made again when it opens; what turns out to be damaged later, at the next opening.
#[test]
fn damaged_and_missing_undo_records_are_made_again() {
    let _limit = Limit::new();
    let disk = disk();
    let (mut chain, mut store) = Chain::new(Arc::clone(&disk), small(&disk));
    (0..30).for_each(|_| chain.commit(&mut store));
    assert_eq!(chain.proofs(&store), WINDOW);
    store.close().unwrap();
    let mut rng = SplitMix64::new(3);
    let mark = dir().join("undo").join("GIVEN_UP");
    let mut met = 0;
    for round in 0..24 {
        let files = undo_files(&chain.disk);
        assert!(files.len() > 1, "{files:?}");
        let path = files[rng.below(files.len() as u64) as usize].clone();
        let flips = round % 4 > 1;
        match round % 4 {
            0 if round == 0 => chain.disk.remove_dir_all(&dir().join("undo")).unwrap(),
            0 => chain.disk.remove_file(&path).unwrap(),
            kind => {
                let file = chain.disk.open(&path, OpenMode::ReadWrite).unwrap();
                let at = rng.below(file.len().unwrap());
                if kind == 1 {
                    file.set_len(at).unwrap();
                } else {
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, at).unwrap();
                    file.write_all_at(&[byte[0] ^ 1 << rng.below(8)], at).unwrap();
                }
            }
        }
        if round == 0 {
            // Who only looks makes nothing.
            let store = Store::open(dir(), chain.options.clone().read_only()).unwrap();
            assert_eq!(chain.proofs(&store), 0);
            store.close().unwrap();
        }
        let mut store = chain.open();
        let left = chain.proofs(&store);
        if flips {
            // What was met while reading is known, and all of it after a check.
            assert!(chain.proofs(&store) <= left);
            store.check().unwrap();
            let damaged = chain.proofs(&store) < WINDOW;
            assert_eq!(disk.exists(&mark).unwrap(), damaged);
            met += u64::from(damaged);
            store.close().unwrap();
            store = chain.open();
        }
        assert!(!disk.exists(&mark).unwrap());
        assert_eq!(chain.proofs(&store), WINDOW, "round {round}");
        (0..rng.below(4)).for_each(|_| chain.commit(&mut store));
        assert_eq!(chain.proofs(&store), WINDOW);
        store.check().unwrap();
        assert!(!disk.exists(&mark).unwrap());
        store.close().unwrap();
        let store = chain.open();
        assert_eq!(chain.proofs(&store), WINDOW);
        store.close().unwrap();
    }
    assert!(met > 0, "no damage was met");
}

/// A fault at every call of an opening that makes the records again: what opens, then or later, has what it should have.
#[test]
fn a_fault_while_undo_records_are_made_again_costs_nothing_but_them() {
    let _limit = Limit::new();
    let step = std::env::var("HEDGEROW_PAST_CALLS").map_or(3, |step| step.parse().unwrap());
    let whole = PowerLossDisk::new(7);
    let on_whole: Arc<dyn Vfs> = Arc::new(whole.clone());
    let (mut chain, mut store) = Chain::new(Arc::clone(&on_whole), small(&on_whole));
    (0..24).for_each(|_| chain.commit(&mut store));
    store.close().unwrap();
    on_whole.remove_dir_all(&dir().join("undo")).unwrap();
    let lost = whole.settled_copy(7);
    let open = |disk: &PowerLossDisk| {
        let disk: Arc<dyn Vfs> = Arc::new(disk.clone());
        Store::open(dir(), small(&disk).threads(1))
    };
    let trial = lost.settled_copy(7);
    let before = trial.trace().changes;
    open(&trial).unwrap().close().unwrap();
    let calls = (trial.trace().changes - before) as usize;
    let (mut opened, mut without) = (0, 0);
    for call in (0..calls).step_by(step) {
        for kind in [FaultKind::PowerOff, FaultKind::Full, FaultKind::Eio] {
            let disk = lost.settled_copy(7);
            disk.plan(Fault::once(Calls::Changes, call as u64, kind));
            if let Ok(mut store) = open(&disk) {
                opened += 1;
                let proofs = chain.proofs(&store);
                without += u64::from(proofs < WINDOW);
                if kind != FaultKind::PowerOff && proofs == 0 {
                    // What could not be made does not keep blocks from being written.
                    chain.commit(&mut store);
                    assert_eq!(chain.proofs(&store), 1, "{kind:?} at call {call}");
                    continue;
                }
            }
            let after = disk.power_cycle(call as u64);
            let store = open(&after).unwrap();
            assert_eq!(chain.proofs(&store), WINDOW, "{kind:?} at call {call} of {calls}");
        }
    }
    println!("{calls} calls, {opened} opened, {without} of them without all proofs");
    assert!(opened > 0 && without > 0);
}

/// A record with the right checksums that says something else: an error, and no proof.
#[test]
fn a_wrong_undo_record_is_an_error() {
    let _limit = Limit::new();
    let disk = disk();
    let (mut chain, mut store) = Chain::new(Arc::clone(&disk), small(&disk));
    (0..20).for_each(|_| chain.commit(&mut store));
    store.close().unwrap();
    let id = common::forge::store_id(&disk);
    let (height, end) = common::forge::with_meta(&disk, |meta| {
        let manifest = meta.manifest().unwrap().unwrap();
        (manifest.height, manifest.log_end)
    });
    let options = UndoFileOptions::default();
    let file =
        UndoFile::open(disk.clone(), &dir().join("undo"), id, &options, height, end).unwrap();
    // The last block once more, as if it had replaced nothing.
    let head = file.head(height).unwrap().unwrap();
    let none = NodeRows::default();
    let parts =
        head.next_sn.map(|next_sn| ShardUndoParts { next_sn, deactivated: &[], upper: &none });
    let place = (head.position, head.end);
    let made = EncodedUndo::new(id, height, place, head.keys, &parts).unwrap();
    file.append(&[Arc::new(made)]).unwrap();
    drop(file);
    let store = chain.open();
    let view = store.reader().at(Height(height.0 - 1)).unwrap();
    let mut refused = 0;
    for key in &chain.keys {
        assert_eq!(view.get(key).unwrap().as_deref(), chain.all.value(view.height(), key));
        match view.prove(key) {
            Err(Error::Corrupt(what)) => {
                assert!(what.contains("undo"), "{what}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, chain.keys.len());
}

/// A smaller window, none, and a larger one again.
#[test]
fn the_window_may_change() {
    let _limit = Limit::new();
    let disk = disk();
    let (mut chain, mut store) = Chain::new(Arc::clone(&disk), small(&disk));
    (0..30).for_each(|_| chain.commit(&mut store));
    store.close().unwrap();
    chain.options = small(&disk).proof_window(5);
    let mut store = chain.open();
    assert_eq!(chain.proofs(&store), 5);
    (0..9).for_each(|_| chain.commit(&mut store));
    store.flush().unwrap();
    // What is behind the window goes with a manifest.
    assert!((5..8).contains(&chain.proofs(&store)));
    store.close().unwrap();
    chain.options = small(&disk).proof_window(0);
    let mut store = chain.open();
    assert_eq!(chain.proofs(&store), 0);
    chain.commit(&mut store);
    store.close().unwrap();
    assert!(undo_files(&disk).len() <= 1, "{:?}", undo_files(&disk));
    chain.options = small(&disk);
    let mut store = chain.open();
    // Made again from the log.
    assert_eq!(chain.proofs(&store), WINDOW, "{:?}", undo_files(&disk));
    (0..WINDOW).for_each(|_| chain.commit(&mut store));
    assert_eq!(chain.proofs(&store), WINDOW);
    // Who only looks sees them too.
    store.flush().unwrap();
    let beside = Store::open_read_only(dir(), chain.options.clone()).unwrap();
    let height = Height(beside.height().0 - WINDOW + 1);
    let view = beside.reader().at(height).unwrap();
    for key in chain.keys.iter().step_by(9) {
        let proven = view.prove(key).unwrap();
        let verified = hedgerow_proof::verify(&chain.all.at(height).root, key, &proven.proof);
        assert_eq!(verified.unwrap(), chain.all.value(height, key));
    }
    store.close().unwrap();
    let store = Store::open(dir(), chain.options.clone().read_only()).unwrap();
    assert_eq!(chain.proofs(&store), WINDOW);
}

/// The power goes at calls all through a life: what opens has the past, and its proofs.
#[test]
fn the_past_survives_a_loss_of_power() {
    let _limit = Limit::new();
    let step = std::env::var("HEDGEROW_PAST_CALLS").map_or(23, |step| step.parse().unwrap());
    let seed = 31;
    let empty = PowerLossDisk::new(seed);
    let created: Arc<dyn Vfs> = Arc::new(empty.clone());
    let (mut chain, mut store) = Chain::new(Arc::clone(&created), small(&created));
    store.close().unwrap();
    const BLOCKS: u64 = 24;
    let live = |disk: &Arc<dyn Vfs>, chain: &Chain| {
        let Ok(mut store) = Store::open(dir(), small(disk).threads(1)) else { return 0 };
        let mut write = || {
            for height in 1..=BLOCKS {
                apply_net(&mut store, height, &chain.changes(height))?;
            }
            store.flush()
        };
        let written = write();
        let durable = store.reader().durable_height().0;
        if written.and_then(|()| store.close()).is_ok() { BLOCKS } else { durable }
    };
    // All heights, once.
    let whole = empty.settled_copy(seed);
    chain.options = small(&(Arc::new(whole.clone()) as Arc<dyn Vfs>));
    store = chain.open();
    (0..BLOCKS + WINDOW).for_each(|_| chain.commit(&mut store));
    store.close().unwrap();
    let whole = empty.settled_copy(seed);
    assert_eq!(live(&(Arc::new(whole.clone()) as Arc<dyn Vfs>), &chain), BLOCKS);
    let calls = whole.trace().changes as usize;
    let (mut cycles, mut proofs) = (0, 0);
    for call in (0..calls).step_by(step) {
        let disk = empty.settled_copy(seed);
        disk.plan(Fault::once(Calls::Changes, call as u64, FaultKind::PowerOff));
        let durable = live(&(Arc::new(disk.clone()) as Arc<dyn Vfs>), &chain);
        let on_disk: Arc<dyn Vfs> = Arc::new(disk.power_cycle(call as u64));
        chain.options = small(&on_disk);
        let mut store = chain.open();
        let height = store.height().0;
        assert!((durable..=BLOCKS).contains(&height), "call {call}: {durable}, {height}");
        // What was synced with the manifest, and what is made again: all of the window.
        assert_eq!(chain.proofs(&store), height.min(WINDOW), "call {call} of {calls}");
        (0..3).for_each(|_| chain.commit(&mut store));
        assert_eq!(chain.proofs(&store), (height + 3).min(WINDOW), "call {call} of {calls}");
        store.close().unwrap();
        cycles += 1;
        proofs += height.min(WINDOW);
    }
    println!("{cycles} of {calls} calls, {proofs} heights with proofs");
    assert!(cycles > 5 && proofs > 20);
}

/// Readers of past heights, while blocks go on.
#[test]
fn the_past_is_read_while_blocks_go_on() {
    let _limit = Limit::new();
    let disk = disk();
    let options = small(&disk).keep_heights(24).manifest_blocks(1);
    let (mut chain, mut store) = Chain::new(Arc::clone(&disk), options);
    const BLOCKS: u64 = 120;
    let mut ahead = std::mem::take(&mut chain.all);
    let mut model = Model::without_history(params(1, 1, 1).compaction());
    for height in 1..=BLOCKS {
        model.apply_net(height, &chain.changes(height));
        ahead.note(&mut model);
    }
    let done = AtomicBool::new(false);
    let looked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (reader, keys, all) = (store.reader(), &chain.keys, &ahead);
            let (done, looked) = (&done, &looked);
            scope.spawn(move || {
                let mut rng = SplitMix64::new(seed);
                while !done.load(Ordering::SeqCst) {
                    let back = rng.below(WINDOW);
                    let height = Height(reader.height().0.saturating_sub(back));
                    let view = match reader.at(height) {
                        Ok(view) => view,
                        Err(Error::HeightUnavailable { .. }) => continue,
                        Err(error) => panic!("{height}: {error}"),
                    };
                    let key = &keys[rng.below(keys.len() as u64) as usize];
                    all.check(&view, std::slice::from_ref(key));
                    if rng.below(20) == 0 {
                        all.check_pairs(&view);
                    }
                    for version in reader.key_history(key).unwrap() {
                        let version = version.unwrap();
                        let then = all.value(version.height, key);
                        assert_eq!(version.value.as_deref(), then);
                    }
                    looked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for height in 1..=BLOCKS {
            apply_net(&mut store, height, &chain.changes(height)).unwrap();
        }
        while looked.load(Ordering::SeqCst) < 50 {
            std::thread::yield_now();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(looked.load(Ordering::SeqCst) >= 50);
    store.check().unwrap();
}
