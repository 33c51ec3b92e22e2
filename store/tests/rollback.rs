//! Rollbacks: afterwards a store is what it would be had it never had the blocks that were taken back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{TIERED, dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{
    BackupOptions, Digest, Error, Height, Options, SerialNumber, ShardId, Store, StoreParams,
};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keys that the blocks write to.
const KEYS: u64 = 2500;

/// A chain of blocks: of each the seed that its content follows from, and the root after it.
#[derive(Clone)]
struct Chain {
    params: StoreParams,
    seeds: Vec<u64>,
    /// One more: that of the state before the first.
    roots: Vec<Digest>,
}

impl Chain {
    fn height(&self) -> u64 {
        self.seeds.len() as u64
    }

    fn root(&self) -> Digest {
        self.roots[self.seeds.len()]
    }

    /// The next block, in the store and here.
    fn block(&mut self, store: &mut Store, seed: u64) {
        let root = submit(store, seed).root().unwrap();
        self.seeds.push(seed);
        self.roots.push(root);
    }

    fn roll_back(&mut self, store: &mut Store, height: u64) {
        store.rollback(Height(height)).unwrap();
        self.seeds.truncate(height as usize);
        self.roots.truncate(height as usize + 1);
        assert_eq!(store.height(), Height(height));
        assert_eq!(store.reader().root(), (Height(height), self.root()));
    }

    /// A store that never had any other block.
    fn reference(&self) -> Store {
        let disk = disk();
        let mut store = Store::create(dir(), self.params, Options::new().disk(disk)).unwrap();
        for (seed, root) in self.seeds.iter().zip(&self.roots[1..]) {
            assert_eq!(submit(&mut store, *seed).root().unwrap(), *root);
        }
        store.flush().unwrap();
        store
    }
}

/// Keys that come, change and go.
fn submit(store: &mut Store, seed: u64) -> hedgerow::Ticket {
    let mut rng = SplitMix64::new(seed);
    let mut block = store.next_block().unwrap();
    let ops = [0, 3, 300, 300, 6000][rng.below(5) as usize];
    for _ in 0..ops {
        let key = format!("key {}", rng.below(KEYS));
        match rng.below(4) {
            0 => block.delete(key).unwrap(),
            _ => {
                let value = format!("{seed} {}", rng.next_u64());
                block.put(key, value.repeat(1 + rng.below(3) as usize)).unwrap();
            }
        }
    }
    block.set_extra(format!("extra {seed}")).unwrap();
    block.submit().unwrap()
}

/// Everything that can be asked of the two is the same.
fn compare(store: &Store, reference: &Store, rng: &mut SplitMix64) {
    let (mine, other) = (store.reader(), reference.reader());
    assert_eq!(mine.root(), other.root());
    assert_eq!(mine.view().roots(), other.view().roots());
    let (stats, said) = (store.stats(), reference.stats());
    assert_eq!(
        (stats.keys, stats.entries, stats.next_sn, stats.oldest_active),
        (said.keys, said.entries, said.next_sn, said.oldest_active)
    );
    for number in 0..KEYS + 20 {
        let key = format!("key {number}");
        assert_eq!(mine.get(&key).unwrap(), other.get(&key).unwrap(), "{key}");
        if number % 31 == rng.below(31) {
            let (proven, said) = (mine.prove(&key).unwrap(), other.prove(&key).unwrap());
            assert_eq!(*proven.proof, *said.proof, "{key}");
            hedgerow::verify(&proven.root, key.as_bytes(), &proven.proof).unwrap();
        }
    }
    let all = |store: &Store| store.reader().iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert!(all(store) == all(reference));
    for shard in ShardId::all() {
        let next = stats.next_sn[shard.index()].0;
        let oldest = stats.oldest_active[shard.index()].0;
        for sn in [oldest, next - 1, next, oldest + rng.below(next - oldest)].map(SerialNumber) {
            let (path, said) = (mine.prove_serial(shard, sn), other.prove_serial(shard, sn));
            match (path, said) {
                (Ok(path), Ok(said)) => assert_eq!(path, said, "{shard} {sn}"),
                (path, said) => assert!(path.is_err() && said.is_err(), "{shard} {sn}"),
            }
        }
    }
    let last = mine.height();
    for height in (last.0.saturating_sub(3)..=last.0).map(Height) {
        assert_eq!(mine.history(height).unwrap(), other.history(height).unwrap(), "{height}");
    }
    for height in [last.next(), Height(last.0 + 9)] {
        assert!(matches!(mine.history(height), Err(Error::HeightUnavailable { .. })), "{height}");
    }
}

/// What salvage gives out.
fn salvaged(disk: &Arc<dyn Vfs>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    let report = Store::salvage(dir(), Options::new().disk(Arc::clone(disk)), |key, value| {
        assert!(all.insert(key.to_vec(), value.to_vec()).is_none(), "a key twice");
        true
    });
    let report = report.unwrap();
    assert!(report.is_whole(), "{report:?}");
    all
}

fn random_rollbacks(seed: u64, tiered: bool) {
    println!("seed {seed}, tiered {tiered}");
    let mut rng = SplitMix64::new(seed);
    let disk = disk();
    let rules = [params(1, 4, 5), params(1, 1, 1), params(1 << 40, 4, 5)];
    let params = rules[rng.below(3) as usize];
    let window = 1 + rng.below(12);
    let manifest_blocks = 1 + rng.below(9);
    let checkpoint_bytes = [0, 30_000, 200_000][rng.below(3) as usize];
    let segment_bytes = [1, 60_000, 4 << 20][rng.below(3) as usize];
    let keep = [1, 1000][rng.below(2) as usize];
    let options = || {
        let options = on(&disk).threads(1).keep_heights(keep).rollback_window(window);
        let options = options.segment_bytes(segment_bytes).manifest_blocks(manifest_blocks);
        let options = options.checkpoint_bytes(checkpoint_bytes);
        if tiered { options.index(TIERED) } else { options }
    };
    let mut store = Store::create(dir(), params, options()).unwrap();
    let roots = vec![store.reader().root().1];
    let mut chain = Chain { params, seeds: vec![], roots };
    // As low as this it was gone back to: below, what is needed may be pruned by now.
    let mut least = 0;
    for step in 0..60 {
        match rng.below(12) {
            0..8 => chain.block(&mut store, rng.next_u64()),
            8..10 => {
                let height = chain.height();
                let back = rng.below(window + 1).min(height);
                if height - back < least {
                    // Whatever is answered, the store goes on.
                    let was = store.reader().root();
                    if store.rollback(Height(height - back)).is_err() {
                        assert_eq!(store.reader().root(), was);
                        continue;
                    }
                    least = height - back;
                }
                chain.roll_back(&mut store, height - back);
            }
            10 => {
                let height = chain.height();
                let error = store.rollback(Height(height + 1)).unwrap_err();
                assert!(matches!(error, Error::HeightUnavailable { .. }), "{error}");
                if height > window {
                    let error = store.rollback(Height(height - window - 1)).unwrap_err();
                    assert!(matches!(error, Error::HeightUnavailable { .. }), "{error}");
                }
            }
            _ => {
                if rng.below(2) == 0 {
                    store.close().unwrap();
                } else {
                    store.flush().unwrap();
                    drop(store);
                }
                store = Store::open(dir(), options()).unwrap();
            }
        }
        least = least.max(chain.height().saturating_sub(window));
        assert_eq!(store.reader().root(), (Height(chain.height()), chain.root()), "step {step}");
    }
    let reference = chain.reference();
    compare(&store, &reference, &mut rng);
    store.check().unwrap();
    let beside = Store::open_read_only(dir(), options()).unwrap();
    assert!(beside.height() <= store.height());
    store.backup("/copy", BackupOptions::new()).unwrap();
    let mut copy = Store::open("/copy", options()).unwrap();
    compare(&copy, &reference, &mut rng);
    copy.check().unwrap();
    copy.close().unwrap();
    store.close().unwrap();

    let expected: BTreeMap<_, _> = reference.reader().iter().map(Result::unwrap).collect();
    assert!(salvaged(&disk) == expected);
    let bare = common::copy(&disk);
    bare.remove_dir_all(&dir().join("meta")).unwrap();
    assert!(salvaged(&bare) == expected, "rollback records alone tell what is dead");

    for without in [None, Some("checkpoints"), Some("twigs")] {
        if let Some(folder) = without
            && disk.exists(&dir().join(folder)).unwrap()
        {
            disk.remove_dir_all(&dir().join(folder)).unwrap();
        }
        let read_only = Store::open_read_only(dir(), options()).unwrap();
        assert_eq!(read_only.reader().root(), reference.reader().root(), "{without:?}");
        let mut store = Store::open(dir(), options()).unwrap();
        compare(&store, &reference, &mut rng);
        store.check().unwrap();
        store.close().unwrap();
    }
}

#[test]
fn random_rollbacks_leave_what_there_would_be_without() {
    let _limit = Limit::new();
    let first = std::env::var("HEDGEROW_ROLLBACK_SEED").map_or(1, |seed| seed.parse().unwrap());
    let count = std::env::var("HEDGEROW_ROLLBACKS").map_or(12, |count| count.parse().unwrap());
    for seed in first..first + count {
        random_rollbacks(seed, seed % 3 == 0);
    }
}

/// A store with blocks above its manifest, twigs that blocks finished, and a checkpoint on some of them.
fn store_on(disk: &PowerLossDisk, options: &dyn Fn(&PowerLossDisk) -> Options) -> Vec<Digest> {
    let mut store = Store::create(dir(), params(1, 2, 1), options(disk)).unwrap();
    let mut roots = vec![store.reader().root().1];
    for height in 1..=12_u64 {
        let mut block = store.next_block().unwrap();
        for key in 0..150_u64 {
            block.put(format!("{}", (key * height) % 400), format!("{height} {key}")).unwrap();
        }
        roots.push(block.commit().unwrap().root);
    }
    store.flush().unwrap();
    drop(store);
    roots
}

/// A fault at a call of a rollback from height 12 to `back`. Says whether it came, and on which side the store is.
fn crash(
    from: &PowerLossDisk,
    roots: &[Digest],
    options: &dyn Fn(&PowerLossDisk) -> Options,
    back: u64,
    after: u64,
    kind: FaultKind,
) -> (bool, bool) {
    let seed = after * 31 + kind as u64;
    let disk = from.settled_copy(seed);
    let mut store = Store::open(dir(), options(&disk)).unwrap();
    assert_eq!(store.height(), Height(12));
    disk.plan(Fault::once(Calls::Changes, after, kind));
    let done = store.rollback(Height(back));
    let failed = disk.trace().failed;
    let context = format!("to {back}, call {after}, {kind:?}, seed {seed}: {failed:?}");
    let published = store.reader().root();
    assert!(
        published == (Height(12), roots[12]) || published == (Height(back), roots[back as usize]),
        "{context}"
    );
    if done.is_ok() {
        assert_eq!(published.0, Height(back), "{context}");
    }
    let came = !failed.is_empty();
    drop(store);
    let reopened = match kind {
        FaultKind::PowerOff => disk.power_cycle(seed),
        _ if seed.is_multiple_of(2) => disk.process_death(),
        _ => disk.power_cycle(seed),
    };
    let mut store =
        Store::open(dir(), options(&reopened)).unwrap_or_else(|error| panic!("{context}: {error}"));
    let (height, root) = store.reader().root();
    assert!(height == Height(12) || height == Height(back), "{height}: {context}");
    assert_eq!(root, roots[height.0 as usize], "{context}");
    assert!(done.is_err() || height == Height(back), "it was durable: {context}");
    store.check().unwrap_or_else(|error| panic!("{context}: {error}"));
    // And it goes on from there, either way.
    if height == Height(12) {
        store.rollback(Height(back)).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    let mut block = store.next_block().unwrap();
    block.put("another", "way").unwrap();
    block.commit().unwrap();
    store.check().unwrap_or_else(|error| panic!("{context}: {error}"));
    store.close().unwrap();
    (came, height == Height(back))
}

#[test]
fn a_crash_at_any_call_leaves_the_one_height_or_the_other() {
    let _limit = Limit::new();
    // Of how many calls one is taken; `HEDGEROW_ROLLBACK_CALLS=1` takes all, for some minutes.
    let step = std::env::var("HEDGEROW_ROLLBACK_CALLS").map_or(5, |step| step.parse().unwrap());
    let plain = |disk: &PowerLossDisk| {
        let disk: Arc<dyn Vfs> = Arc::new(disk.clone());
        let options = on(&disk).segment_bytes(64 << 10).manifest_blocks(5);
        options.checkpoint_bytes(0).threads(1)
    };
    let tiered = |disk: &PowerLossDisk| {
        let options = plain(disk).index(TIERED).segment_bytes(1 << 20);
        options.checkpoint_bytes(150_000)
    };
    let kinds: [&dyn Fn(&PowerLossDisk) -> Options; 2] = [&plain, &tiered];
    for (number, options) in kinds.into_iter().enumerate() {
        let disk = PowerLossDisk::new(1);
        let roots = store_on(&disk, options);
        let (mut old, mut new) = (0, 0);
        for back in [3, 11] {
            for kind in [FaultKind::PowerOff, FaultKind::Eio, FaultKind::Full] {
                for after in (kind as u64 % step as u64..).step_by(step) {
                    let (came, is_new) = crash(&disk, &roots, options, back, after, kind);
                    if is_new {
                        new += 1
                    } else {
                        old += 1
                    }
                    if !came {
                        assert!(is_new && after > 5, "{after}");
                        break;
                    }
                }
            }
        }
        println!("{number}: {old} times the old height, {new} times the new one");
        assert!(old > 6 && new >= 6, "{old} {new}");
    }
}

/// The power goes where the procedure is known to stand.
#[test]
fn the_commit_is_the_moment() {
    let _limit = Limit::new();
    let options = |disk: &PowerLossDisk| {
        let disk: Arc<dyn Vfs> = Arc::new(disk.clone());
        on(&disk).segment_bytes(64 << 10).threads(1)
    };
    let disk = PowerLossDisk::new(3);
    let roots = store_on(&disk, &options);
    for (point, height) in
        [("rollback: begin", 12), ("rollback: recorded", 12), ("rollback: committed", 7)]
    {
        let disk = disk.settled_copy(4);
        let mut store = Store::open(dir(), options(&disk)).unwrap();
        disk.plan(Fault::once(Calls::Point(point.into()), 0, FaultKind::PowerOff));
        assert!(store.rollback(Height(7)).is_err(), "{point}");
        assert!(matches!(store.next_block().map(drop), Err(Error::Poisoned { .. })), "{point}");
        drop(store);
        let disk = disk.power_cycle(5);
        let store = Store::open(dir(), options(&disk)).unwrap();
        assert_eq!(store.reader().root(), (Height(height), roots[height as usize]), "{point}");
    }
}

/// Views of heights that stay go on answering, all others say that they are gone; readers never see anything but
/// whole heights.
#[test]
fn readers_see_whole_heights() {
    let _limit = Limit::new();
    for tiered in [false, true] {
        let disk = disk();
        let options = on(&disk).segment_bytes(100_000).keep_heights(40);
        let options = if tiered { options.index(TIERED) } else { options };
        let mut store = Store::create(dir(), params(1, 2, 1), options).unwrap();
        let block = |store: &mut Store, number: u64| {
            let mut block = store.next_block().unwrap();
            // All keys say in which block they were written, and how many there are.
            for key in 0..120 + number % 60 {
                block.put(format!("{key}"), format!("{number}")).unwrap();
            }
            for key in 120 + number % 60..180 {
                block.delete(format!("{key}")).unwrap();
            }
            block.submit().unwrap()
        };
        let mut number = 1;
        let mut numbers = vec![0];
        for _ in 0..20 {
            block(&mut store, number).durable().unwrap();
            numbers.push(number);
            number += 1;
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|thread| {
                    let (reader, stop) = (store.reader(), &stop);
                    scope.spawn(move || {
                        let mut rng = SplitMix64::new(thread);
                        let (mut whole, mut gone) = (0_u64, 0_u64);
                        while !stop.load(Ordering::SeqCst) {
                            // A reader has always an answer.
                            let key = format!("{}", rng.below(200));
                            reader.get(&key).unwrap();
                            let proven = reader.prove(&key).unwrap();
                            hedgerow::verify(&proven.root, key.as_bytes(), &proven.proof).unwrap();
                            let view = reader.view();
                            let first = match view.get("0") {
                                Ok(first) => first.unwrap(),
                                Err(Error::RolledBack { height }) => {
                                    assert_eq!(height, view.height());
                                    gone += 1;
                                    continue;
                                }
                                Err(error) => panic!("{error}"),
                            };
                            // Ten answers for each look at everything.
                            (0..10).for_each(|_| drop(reader.get(&key).unwrap()));
                            let mut pairs = 0;
                            let mut check = || {
                                for pair in view.iter() {
                                    let (_, value) = pair?;
                                    assert_eq!(value, first, "of one block");
                                    pairs += 1;
                                }
                                let proven = view.prove("7")?;
                                let value = hedgerow::verify(&view.root(), b"7", &proven.proof);
                                assert_eq!(value.unwrap(), Some(&first[..]));
                                Ok::<(), Error>(())
                            };
                            match check() {
                                Ok(()) => {
                                    let number: u64 =
                                        String::from_utf8(first.clone()).unwrap().parse().unwrap();
                                    assert_eq!(pairs, 120 + number % 60);
                                    assert_eq!(Some(pairs), view.len());
                                    whole += 1;
                                }
                                Err(Error::RolledBack { .. }) => gone += 1,
                                Err(error) => panic!("{error}"),
                            }
                        }
                        (whole, gone)
                    })
                })
                .collect();
            let mut rng = SplitMix64::new(9);
            let mut held: Vec<(u64, hedgerow::View)> = vec![];
            for _ in 0..30 {
                if rng.below(3) > 0 || numbers.len() < 20 {
                    block(&mut store, number).durable().unwrap();
                    numbers.push(number);
                    number += 1;
                } else {
                    let back = numbers.len() as u64 - 1 - rng.below(9);
                    store.rollback(Height(back)).unwrap();
                    numbers.truncate(back as usize + 1);
                }
                let view = store.reader().view();
                held.push((numbers[numbers.len() - 1], view));
                if held.len() > 12 {
                    held.remove(rng.below(12) as usize);
                }
                for (number, view) in &held {
                    let height = view.height().0 as usize;
                    let stays = numbers.get(height) == Some(number);
                    match view.get("0") {
                        Ok(value) => {
                            assert!(stays, "{height} was taken back");
                            assert_eq!(value.unwrap(), number.to_string().into_bytes());
                            let proven = view.prove("170").unwrap();
                            hedgerow::verify(&view.root(), b"170", &proven.proof).unwrap();
                            if rng.below(12) == 0 {
                                assert_eq!(Some(view.iter().count() as u64), view.len());
                            }
                        }
                        Err(Error::RolledBack { height: said }) => {
                            assert!(!stays && said.0 as usize == height);
                            assert!(matches!(view.prove("0"), Err(Error::RolledBack { .. })));
                            assert!(matches!(view.get_many(&["0"]), Err(Error::RolledBack { .. })));
                            let first = view.iter().next();
                            assert!(matches!(first, Some(Err(Error::RolledBack { .. }))));
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            stop.store(true, Ordering::SeqCst);
            for thread in threads {
                let (whole, gone) = thread.join().unwrap();
                println!("tiered {tiered}: {whole} whole heights, {gone} that went meanwhile");
                assert!(whole > 3);
            }
        });
        store.check().unwrap();
    }
}

/// Tickets of blocks that are taken back say what was true; heights go back, and blocks go on.
#[test]
fn tickets_stay_and_heights_go_back() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), params(1, 4, 5), on(&disk)).unwrap();
    let tickets: Vec<_> = (0..6).map(|seed| submit(&mut store, seed)).collect();
    store.rollback(Height(6)).unwrap();
    assert_eq!(store.stats().log.dead_bytes, 0, "it is there already");
    store.rollback(Height(2)).unwrap();
    for (number, ticket) in tickets.iter().enumerate() {
        ticket.durable().unwrap();
        assert!(ticket.is_durable().unwrap());
        assert_eq!(ticket.try_root().unwrap(), Some(ticket.early_root().unwrap()), "{number}");
        assert_eq!(ticket.receipt().unwrap().height, Height(number as u64 + 1));
    }
    let stats = store.stats();
    assert_eq!((stats.accepted, stats.published, stats.durable), (Height(2), Height(2), Height(2)));
    assert!(stats.log.dead_bytes > 0);
    let other = submit(&mut store, 100);
    assert_eq!(other.height(), Height(3));
    other.durable().unwrap();
    let error = store.rollback(Height(4)).unwrap_err();
    let Error::HeightUnavailable { height, first, last, .. } = error else { panic!("{error}") };
    assert_eq!((height, first, last), (Height(4), Height(0), Height(3)));
    store.rollback(Height(0)).unwrap();
    assert_eq!(store.reader().view().is_empty(), Some(true));
    store.check().unwrap();
}

/// What cannot be is refused before anything happens.
#[test]
fn options_bound_how_far_it_goes_back() {
    let _limit = Limit::new();
    let disk = disk();
    let refused = Store::create(dir(), params(1, 4, 5), on(&disk).rollback_window(2049));
    assert!(matches!(refused, Err(Error::Option { option: "rollback_window", .. })));
    let mut store = Store::create(dir(), params(1, 4, 5), on(&disk).rollback_window(3)).unwrap();
    for seed in 0..6 {
        submit(&mut store, seed);
    }
    let error = store.rollback(Height(2)).unwrap_err();
    assert!(matches!(error, Error::HeightUnavailable { first: Height(3), .. }), "{error}");
    store.rollback(Height(3)).unwrap();
    store.close().unwrap();
    let mut store = Store::open(dir(), on(&disk).read_only()).unwrap();
    assert!(matches!(store.rollback(Height(2)), Err(Error::ReadOnly)));
}

/// A manifest names so many dead spans; they are one where they touch, and go where they are pruned.
#[test]
fn there_is_an_end_of_rollbacks_apart_from_each_other() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).threads(1);
    let mut store = Store::create(dir(), params(1, 4, 5), options).unwrap();
    let tiny = |store: &mut Store, number: u64| {
        let mut block = store.next_block().unwrap();
        block.put("key", format!("{number}")).unwrap();
        block.commit().unwrap();
    };
    for number in 0..256 {
        tiny(&mut store, number);
        tiny(&mut store, number);
        let height = store.height();
        store.rollback(Height(height.0 - 1)).unwrap();
    }
    tiny(&mut store, 1000);
    tiny(&mut store, 1001);
    let was = store.reader().root();
    let error = store.rollback(Height(was.0.0 - 1)).unwrap_err();
    assert!(matches!(error, Error::TooManyRollbacks { most: 256 }), "{error}");
    assert_eq!(store.reader().root(), was);
    // It goes on, and a rollback over the last ones is one span with them.
    tiny(&mut store, 1002);
    store.rollback(Height(was.0.0 - 4)).unwrap();
    tiny(&mut store, 1003);
    store.check().unwrap();
    store.close().unwrap();
    let mut store = Store::open(dir(), on(&disk)).unwrap();
    assert_eq!(store.height(), Height(was.0.0 - 3));
    store.check().unwrap();
}

/// Metadata from before a rollback, put back beside the log: what followed is not guessed at.
#[test]
fn older_metadata_are_refused() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), params(1, 4, 5), on(&disk)).unwrap();
    (0..8).for_each(|seed| drop(submit(&mut store, seed)));
    store.close().unwrap();
    let path = dir().join("meta").join("meta.redb");
    let backup = hedgerow_vfs::read_file(&*disk, &path, 1 << 30).unwrap();
    let mut store = Store::open(dir(), on(&disk)).unwrap();
    store.rollback(Height(5)).unwrap();
    submit(&mut store, 50).durable().unwrap();
    store.close().unwrap();
    hedgerow_vfs::write_atomic(&*disk, &path, &backup).unwrap();
    let error = Store::open(dir(), on(&disk)).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("goes back to height 5"), "{error}");
}

/// A store that another one looks at goes back: a refresh follows it.
#[test]
fn who_looks_beside_follows() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), params(1, 4, 5), on(&disk)).unwrap();
    let mut roots = vec![store.reader().root().1];
    (0..8).for_each(|seed| roots.push(submit(&mut store, seed).root().unwrap()));
    store.check().unwrap();
    let mut beside = Store::open_read_only(dir(), on(&disk)).unwrap();
    let before = beside.view();
    assert_eq!(before.height(), Height(8));
    store.rollback(Height(5)).unwrap();
    assert_eq!(beside.refresh().unwrap(), Height(5));
    assert_eq!(beside.view().root(), roots[5]);
    assert_eq!(before.root(), roots[8], "it shows what it showed");
    before.get("key 1").unwrap();
    (20..30).for_each(|seed| drop(submit(&mut store, seed)));
    store.check().unwrap();
    assert_eq!(beside.refresh().unwrap(), Height(15));
}

/// A backup that is being made is finished first.
#[test]
fn a_backup_is_of_a_height_that_was() {
    let _limit = Limit::new();
    let disk = disk();
    let options = || on(&disk).segment_bytes(30_000);
    let mut store = Store::create(dir(), params(1, 4, 5), options()).unwrap();
    let mut roots = vec![store.reader().root().1];
    (0..12).for_each(|seed| roots.push(submit(&mut store, seed).root().unwrap()));
    for round in 0..4 {
        let reader = store.reader();
        let target = format!("/copy {round}");
        let copying = std::thread::spawn(move || reader.backup(target, BackupOptions::new()));
        let height = store.height();
        store.rollback(Height(height.0 - 1)).unwrap();
        let report = copying.join().unwrap().unwrap();
        assert!([height, Height(height.0 - 1)].contains(&report.height));
        assert_eq!(report.root, roots[report.height.0 as usize]);
    }
}

/// A checkpoint of a height that stays is what the store opens from, and one of a height that goes is not.
#[test]
fn checkpoints_of_heights_that_stay_are_opened_from() {
    let _limit = Limit::new();
    for tiered in [false, true] {
        let disk = disk();
        let options = || {
            let options = on(&disk).checkpoint_bytes(100_000).manifest_blocks(3);
            if tiered { options.index(TIERED) } else { options }
        };
        let mut store = Store::create(dir(), params(1, 4, 5), options()).unwrap();
        let params = *store.params();
        let mut chain = Chain { params, seeds: vec![], roots: vec![store.reader().root().1] };
        let whole = |store: &Store| store.stats().checkpoint.map_or(0, |height| height.0);
        let mut seed = 0;
        let mut grow = |chain: &mut Chain, store: &mut Store, until: &dyn Fn(&Store) -> bool| {
            while !until(store) {
                seed += 1;
                chain.block(store, seed);
                store.flush().unwrap();
            }
        };
        grow(&mut chain, &mut store, &|store| whole(store) > 0);
        let first = whole(&store);
        let more = chain.height() + 5;
        grow(&mut chain, &mut store, &|store| store.height().0 >= more);
        // Down to just above it, or to it: then the next opening begins with it.
        for back in [first + 1, first] {
            chain.roll_back(&mut store, back);
            store.close().unwrap();
            store = Store::open(dir(), options()).unwrap();
            // Or with one that was written since.
            let from = store.stats().opened_from.unwrap();
            assert!((Height(first)..=Height(back)).contains(&from), "{tiered} {back}: {from}");
            compare(&store, &chain.reference(), &mut SplitMix64::new(back));
            store.check().unwrap();
        }
        // One that is gone is not named any more, and another takes its place.
        grow(&mut chain, &mut store, &|store| whole(store) > first);
        let second = whole(&store);
        chain.roll_back(&mut store, first.max(second - 1));
        assert!(store.stats().checkpoint.is_none_or(|height| height < Height(second)));
        store.close().unwrap();
        store = Store::open(dir(), options()).unwrap();
        assert!(store.stats().opened_from.is_none_or(|height| height < Height(second)));
        compare(&store, &chain.reference(), &mut SplitMix64::new(1));
        store.check().unwrap();
    }
}
