//! What a store keeps on disk and in memory is bounded by what is active and by the heights that it is
//! to keep, not by how often it was written to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{
    CompactionRule, Error, Height, Options, PruneHold, Stats, Store, StoreParams, Ticket,
};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::{OpenMode, VfsErrorKind};
use std::path::Path;
use std::sync::Arc;

/// Log bytes and entries that all shards together have as sentries.
const SENTRIES: u64 = 65_536;

/// Gives each of so many keys a value.
fn put_all(store: &mut Store, keys: u64, word: u64) -> Ticket {
    let height = store.height().next();
    let mut block = store.begin_block(height).unwrap();
    for key in 0..keys {
        block.put(format!("key {key}"), format!("{word} of {key}")).unwrap();
    }
    block.submit().unwrap()
}

/// Updates so many random ones of `keys` keys.
fn update(store: &mut Store, rng: &mut SplitMix64, keys: u64, updates: u64) -> Ticket {
    let height = store.height().next();
    let mut block = store.begin_block(height).unwrap();
    for _ in 0..updates {
        let key = rng.below(keys);
        block.put(format!("key {key}"), rng.next_u64().to_le_bytes()).unwrap();
    }
    block.submit().unwrap()
}

/// Bytes of all files of a folder of the store. One that is pruned meanwhile counts for nothing.
fn bytes_in(disk: &Arc<dyn Vfs>, folder: &str) -> u64 {
    let folder = dir().join(folder);
    let names = disk.read_dir(&folder).unwrap();
    let len = |name: &Path| match disk.open(&folder.join(name), OpenMode::Read) {
        Ok(file) => file.len().unwrap(),
        Err(error) if error.kind() == VfsErrorKind::NotFound => 0,
        Err(error) => panic!("{error}"),
    };
    names.iter().map(|name| len(Path::new(name))).sum()
}

/// Serial numbers from each shard's oldest active entry to its newest, all shards together.
fn span(stats: &Stats) -> u64 {
    stats.next_sn.iter().zip(&stats.oldest_active).map(|(next, oldest)| next.0 - oldest.0).sum()
}

/// The default rule holds in the smallest store too: the span of a shard is at most about twice what it
/// has, and three times while compaction makes its way through genesis, where all is active.
#[test]
fn the_default_rule_bounds_the_span_of_a_store_of_any_size() {
    let _limit = Limit::new();
    for keys in [1, 1_000, 30_000] {
        let disk = disk();
        let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
        let mut rng = SplitMix64::new(keys);
        put_all(&mut store, keys, 0);
        let mut most = [0.0_f64; 2];
        let blocks = 400_000 / keys.clamp(500, 5_000);
        for number in 0..blocks {
            // A block updates a key once only, so one key takes many change sets.
            let height = store.height().next();
            let mut block = store.begin_block(height).unwrap();
            for _ in 0..keys.clamp(500, 5_000) {
                if keys == 1 {
                    block.next_change_set().unwrap();
                }
                let key = rng.below(keys);
                block.put(format!("key {key}"), rng.next_u64().to_le_bytes()).unwrap();
            }
            block.commit().unwrap();
            let stats = store.stats();
            for (shard, next) in stats.next_sn.iter().enumerate() {
                let span = next.0 - stats.oldest_active[shard].0;
                // What is active of one shard is not in the figures; keys spread evenly.
                let active = 4_096.0 + keys as f64 / 16.0;
                let half = usize::from(number > blocks / 4 * 3);
                most[half] = most[half].max(span as f64 / active);
            }
        }
        // Some of the 16 shards have somewhat more keys than the mean.
        let [early, late] = most;
        assert!(early < 3.01, "{keys} keys: the span came to {early} times what is active");
        assert!((1.9..3.01).contains(&late), "{keys} keys: the span stays at {late} times that");
        store.check().unwrap();
    }
}

/// A small store that is updated for long: the log holds at most four times what is active and two
/// segments, the twig file and the memory stay where they are. A million updates;
/// `HEDGEROW_GROWTH_BLOCKS=20000` makes ten million.
#[test]
fn a_small_store_that_is_updated_for_long_does_not_grow() {
    let _limit = Limit::new();
    let blocks = std::env::var("HEDGEROW_GROWTH_BLOCKS").map_or(2_000, |n| n.parse().unwrap());
    let (disk, keys) = (disk(), 1_000);
    let options = || on(&disk).keep_heights(16);
    let mut store = Store::create(dir(), StoreParams::default(), options()).unwrap();
    let mut rng = SplitMix64::new(7);
    put_all(&mut store, keys, 0).durable().unwrap();
    let (mut memory, mut twigs, mut longest) = ([0; 2], [0; 2], 0);
    for block in 0..blocks {
        update(&mut store, &mut rng, keys, 500);
        if block % 20 < 19 || block < 400 {
            continue;
        }
        store.flush().unwrap();
        let stats = store.stats();
        let entry = stats.log_end.0 / stats.entries;
        let active = (SENTRIES + stats.keys) * entry;
        let segment = (stats.log.bytes / 16).max(4 << 20);
        assert!(stats.log.bytes <= 4 * active + 2 * segment, "{stats:?}");
        longest = longest.max(stats.log.bytes);
        let half = usize::from(block >= blocks / 2);
        memory[half] = memory[half].max(stats.tree_bytes + stats.index_bytes);
        twigs[half] = twigs[half].max(bytes_in(&disk, "twigs"));
    }
    store.flush().unwrap();
    let stats = store.stats();
    assert!(stats.log_end.0 > 3 * longest, "{} written, {longest} held", stats.log_end);
    assert!(matches!(stats.prune_hold, Some(PruneHold::OldestEntry { .. })), "{stats:?}");
    assert!(memory[1] <= memory[0] + memory[0] / 10, "memory grew: {memory:?}");
    assert!(twigs[1] <= twigs[0] + twigs[0] / 10, "twig file grew: {twigs:?}");
    assert_eq!(bytes_in(&disk, "log"), stats.log.bytes);
    store.check().unwrap();
    store.close().unwrap();
    let begin = std::time::Instant::now();
    let mut store = Store::open(dir(), options()).unwrap();
    println!(
        "{} entries: {} bytes of log written, {longest} held at most, {twigs:?} of twigs, {memory:?} of \
         index and tree; reopened in {:?}",
        stats.entries,
        stats.log_end,
        begin.elapsed()
    );
    store.check().unwrap();
}

/// A few hot keys among thousands at rest: the log of all shards ends with the oldest active entry of any,
/// so that shards which nothing writes to must move too.
#[test]
fn shards_at_rest_do_not_hold_the_log_of_the_others() {
    let _limit = Limit::new();
    for hot in [1, 10] {
        let (disk, keys) = (disk(), 3_000);
        let options = || on(&disk).keep_heights(16).segment_bytes(4 << 20).manifest_blocks(4);
        let mut store = Store::create(dir(), StoreParams::default(), options()).unwrap();
        put_all(&mut store, keys, 0).durable().unwrap();
        let mut longest = [0; 2];
        let blocks = 800;
        for number in 0..blocks {
            let height = store.height().next();
            let mut block = store.begin_block(height).unwrap();
            for round in 0..1_000 / hot {
                block.next_change_set().unwrap();
                for key in 0..hot {
                    block.put(format!("key {key}"), format!("{number} {round}")).unwrap();
                }
            }
            block.submit().unwrap();
            if number % 10 == 9 {
                store.flush().unwrap();
                let stats = store.stats();
                let active = (SENTRIES + stats.keys) * (stats.log_end.0 / stats.entries);
                // Four times what is active, somewhat more while compaction makes its way through
                // genesis; the heights that are kept; two segments.
                let least = 6 * active + 16 * 300_000 + (8 << 20);
                assert!(stats.log.bytes <= least, "{hot} hot keys: {stats:?}");
                let half = usize::from(number >= blocks / 2);
                longest[half] = longest[half].max(stats.log.bytes);
            }
        }
        let stats = store.stats();
        assert!(stats.log_end.0 > 2 * longest[1], "{hot} hot keys: {stats:?}");
        assert!(longest[1] <= longest[0] + (4 << 20), "{hot} hot keys: the log grew: {longest:?}");
        store.check().unwrap();
        let root = store.reader().root();
        store.close().unwrap();
        let mut store = Store::open(dir(), options()).unwrap();
        assert_eq!(store.reader().root(), root);
        store.check().unwrap();
    }
}

/// Without a word about it, a store keeps 1,024 heights and their history, and an archive says that it
/// is one.
#[test]
fn by_default_heights_are_kept_and_an_archive_says_so() {
    let _limit = Limit::new();
    for archive in [false, true] {
        let disk = disk();
        let options = if archive { on(&disk).keep_all() } else { on(&disk) };
        let options = options.segment_bytes(1 << 20);
        let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
        let mut rng = SplitMix64::new(1);
        put_all(&mut store, 1_000, 0);
        let mut before = 0;
        for height in 2..=1_601 {
            update(&mut store, &mut rng, 1_000, if archive { 100 } else { 500 });
            if height == 1_601 - 1_024 {
                store.flush().unwrap();
                before = store.stats().log_end.0;
            }
        }
        store.flush().unwrap();
        let (stats, last) = (store.stats(), store.height());
        let reader = store.reader();
        let first = match reader.root_at(Height(0)) {
            Ok(_) => Height(0),
            Err(Error::HeightUnavailable { first, .. }) => first,
            Err(error) => panic!("{error}"),
        };
        reader.root_at(first).unwrap();
        if archive {
            assert_eq!((first.0, stats.log_start.0), (0, 0));
            assert_eq!(stats.prune_hold, Some(PruneHold::KeepAll));
        } else {
            // The history is cut when the manifest is committed.
            let kept = last.0 - first.0;
            assert!((1_024..1_024 + 64).contains(&kept), "{kept}");
            // What 1,024 heights wrote, and what was active before them.
            let active = (SENTRIES + stats.keys) * (stats.log_end.0 / stats.entries);
            let written = stats.log_end.0 - before;
            let held = stats.log_end.0 - stats.log_start.0;
            assert!(stats.log_start.0 > 0 && held <= written + 4 * active + (2 << 20), "{stats:?}");
        }
    }
}

/// Fewer heights of history than are kept, or than are in flight, keep nothing from being pruned (C3).
#[test]
fn pruning_needs_no_more_history_than_is_kept() {
    let _limit = Limit::new();
    for (history, heights, in_flight) in [(1, 1, 3), (1, 1, 1), (2, 1, 8), (1, 5, 2), (9, 2, 4)] {
        let disk = disk();
        let options = on(&disk)
            .keep_history(history)
            .keep_heights(heights)
            .max_in_flight(in_flight)
            .segment_bytes(100_000);
        let mut store = Store::create(dir(), params(1, 1, 1), options).unwrap();
        for word in 0..120 {
            put_all(&mut store, 2_000, word).durable().unwrap();
        }
        let stats = store.stats();
        assert!(
            stats.log_start.0 > 0,
            "history {history}, heights {heights}, in flight {in_flight}: {:?}",
            stats.prune_hold
        );
        store.check().unwrap();
    }
}

/// What keeps something from being pruned is in the figures.
#[test]
fn what_holds_pruning_back_is_said() {
    let _limit = Limit::new();
    let disk = disk();
    let options = |heights| {
        let options = on(&disk).keep_history(1).keep_heights(heights).segment_bytes(100_000);
        options.max_in_flight(1).manifest_blocks(1)
    };
    let mut store = Store::create(dir(), params(1, 1, 1), options(3)).unwrap();
    assert_eq!(store.stats().prune_hold, None);
    let next = |store: &mut Store| {
        let height = store.height().0;
        put_all(store, 1_000, height).durable().unwrap();
        store.flush().unwrap(); // the manifest follows
        store.stats().prune_hold
    };
    assert_eq!(next(&mut store), Some(PruneHold::FewHeights));
    for _ in 0..9 {
        next(&mut store);
    }
    // Of every shard, the first sentries are still in genesis.
    let Some(PruneHold::OldestEntry { sn, .. }) = next(&mut store) else {
        panic!("{:?}", store.stats().prune_hold)
    };
    assert!(sn.0 < 2_048, "{sn}");
    // Views hold what they need, and nothing else: the older of two decides.
    let (view, iterator) = (store.reader().view(), store.reader().iter());
    let held = PruneHold::View { height: view.height() };
    let later = |store: &mut Store, hold| (0..100).any(|_| next(store) == Some(hold));
    assert!(later(&mut store, held), "{:?}", store.stats());
    let second = store.reader().view();
    drop(view);
    assert_eq!(next(&mut store), Some(held), "the iterator is of the same height");
    drop(iterator);
    assert!(later(&mut store, PruneHold::View { height: second.height() }), "{:?}", store.stats());
    drop(second);
    assert!(matches!(next(&mut store), Some(PruneHold::OldestEntry { .. })));
    store.close().unwrap();
    // More heights than the history of the one before.
    let mut store = Store::open(dir(), options(8)).unwrap();
    let height = store.height().0 + 1 - 8;
    assert_eq!(next(&mut store), Some(PruneHold::NoHistory { height: Height(height) }));
    for _ in 0..8 {
        next(&mut store);
    }
    assert!(matches!(next(&mut store), Some(PruneHold::OldestEntry { .. })));
    store.close().unwrap();
    let mut store = Store::open(dir(), options(8).keep_all()).unwrap();
    assert_eq!(next(&mut store), Some(PruneHold::KeepAll));
    store.close().unwrap();

    let disk = common::disk();
    let options = Options::default()
        .disk(Arc::clone(&disk))
        .keep_heights(1)
        .segment_bytes(1 << 30)
        .manifest_blocks(1);
    let mut store = Store::create(dir(), params(1, 1, 1), options).unwrap();
    for word in 0..5 {
        put_all(&mut store, 10, word).durable().unwrap();
    }
    store.flush().unwrap();
    assert_eq!(store.stats().prune_hold, Some(PruneHold::OneSegment));
}

/// A rule under which a small store never compacts is one that the caller names.
#[test]
fn a_rule_that_never_compacts_prunes_nothing() {
    let _limit = Limit::new();
    let disk = disk();
    let never = StoreParams::default().with_compaction(CompactionRule::QMDB);
    let options = on(&disk).keep_heights(1).segment_bytes(100_000);
    let mut store = Store::create(dir(), never, options).unwrap();
    let mut rng = SplitMix64::new(3);
    put_all(&mut store, 100, 0);
    for _ in 0..100 {
        update(&mut store, &mut rng, 100, 1_000).durable().unwrap();
    }
    store.flush().unwrap();
    let stats = store.stats();
    assert_eq!((stats.log_start.0, span(&stats)), (0, stats.entries));
    let Some(PruneHold::OldestEntry { sn, .. }) = stats.prune_hold else { panic!("{stats:?}") };
    assert_eq!(sn.0, 0);
}
