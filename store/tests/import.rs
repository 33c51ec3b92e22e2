//! A store that was made from a stream is the store to which the same pairs were put, block for block; and of a
//! stream that ends badly nothing is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{TIERED, copy, dir, disk, on};
use hedgerow::disk::Vfs;
use hedgerow::{
    CompactionRule, Error, Height, IMPORT_BLOCK_BYTES, ImportOptions, MAX_EXTRA_BYTES, Options,
    Refused, Store, StoreParams, verify_with_limit,
};
use hedgerow_hasher_api::hash_message;
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::VfsOp;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

type Pair = (Vec<u8>, Vec<u8>);

/// So many pairs in the order of the hashes of their keys, values of so many bytes.
fn pairs(rng: &mut SplitMix64, count: u64, lens: Range<u64>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = (0..count)
        .map(|number| {
            let mut key = format!("{number} ").into_bytes();
            key.resize(key.len() + rng.below(30) as usize, b'k');
            let len = lens.start + rng.below(lens.end - lens.start);
            (key, vec![rng.next_u64() as u8; len as usize])
        })
        .collect();
    pairs.sort_by_cached_key(|(key, _)| hash_message(key).0);
    pairs
}

/// The same as a stream.
fn stream(pairs: &[Pair]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Error>> {
    pairs.iter().map(|(key, value)| Ok((&key[..], &value[..])))
}

fn import(params: StoreParams, options: Options, pairs: &[Pair]) -> Result<Store, Error> {
    Store::import(dir(), params, options, stream(pairs))
}

/// The pairs, cut into blocks as `Store::import` says.
fn blocks(pairs: &[Pair]) -> Vec<&[Pair]> {
    let (mut blocks, mut rest, mut bytes) = (vec![], pairs, 0);
    let mut end = 0;
    for (key, value) in pairs {
        bytes += key.len() + value.len() + 64;
        end += 1;
        if bytes >= IMPORT_BLOCK_BYTES {
            let (block, after) = rest.split_at(end);
            blocks.push(block);
            (rest, bytes, end) = (after, 0, 0);
        }
    }
    blocks.extend((!rest.is_empty()).then_some(rest));
    blocks
}

/// The store that it is to be.
fn by_puts(params: StoreParams, options: Options, pairs: &[Pair]) -> Store {
    let mut store = Store::create(dir(), params, options).unwrap();
    for pairs in blocks(pairs) {
        let mut block = store.next_block().unwrap();
        for (key, value) in pairs {
            block.put(key, value).unwrap();
        }
        block.commit().unwrap();
    }
    store
}

/// The bytes of the log, but for what the headers of segments and records have that is not of the blocks.
fn log_bytes(disk: &dyn Vfs) -> Vec<(String, Vec<u8>)> {
    let folder = dir().join("log");
    let mut names = disk.read_dir(&folder).unwrap();
    names.sort();
    let file = |name: std::ffi::OsString| {
        let mut bytes = hedgerow_vfs::read_file(disk, &folder.join(&name), 1 << 30).unwrap();
        bytes[..64].fill(0);
        for at in (0..bytes.len() - 8).step_by(8) {
            if &bytes[at..at + 8] == b"HgrwRec3" {
                bytes[at + 32..at + 80].fill(0); // what was durable and published
                bytes[at + 344..at + 348].fill(0); // the checksum, with the id
            }
        }
        (name.into_string().unwrap(), bytes)
    };
    names.into_iter().map(file).collect()
}

/// Compares all that can be asked.
fn compare(made: &mut Store, put: &mut Store, pairs: &[Pair], context: &str) {
    put.flush().unwrap();
    let (a, b) = (made.reader(), put.reader());
    assert_eq!(a.root(), b.root(), "{context}");
    assert_eq!(a.durable_height(), made.height(), "{context}");
    let first = made.params().first_height().0 - 1;
    for height in (first..=made.height().0).map(Height) {
        let (a, b) = (a.history(height).unwrap(), b.history(height).unwrap());
        assert_eq!((a.root, a.shard_roots), (b.root, b.shard_roots), "{context}: {height}");
        assert_eq!(a.oldest_active, b.oldest_active, "{context}: {height}");
    }
    let (s, t) = (made.stats(), put.stats());
    assert_eq!((s.keys, s.entries, s.next_sn), (t.keys, t.entries, t.next_sn), "{context}");
    assert_eq!((s.oldest_active, s.log_end), (t.oldest_active, t.log_end), "{context}");
    assert_eq!((s.log_start, s.log.bytes), (t.log_start, t.log.bytes), "{context}");
    if s.replayed_bytes == 0 && s.opened_from.is_none() {
        // One that was opened has other slack.
        assert_eq!(s.tree_bytes, t.tree_bytes, "{context}");
    }
    assert_eq!(s.keys, pairs.len() as u64, "{context}");
    let found: Vec<Pair> = a.iter().map(Result::unwrap).collect();
    assert!(found == pairs, "{context}: the pairs are others");
    let root = a.root().1;
    let absent = (0..20).map(|number| format!("absent {number}").into_bytes());
    let present = pairs.iter().step_by(1 + pairs.len() / 200).map(|(key, _)| key.clone());
    for key in present.chain(absent) {
        let (a, b) = (a.prove(&key).unwrap().proof, b.prove(&key).unwrap().proof);
        assert_eq!(a, b, "{context}");
        verify_with_limit(&root, &key, &a, 20 << 20).unwrap();
    }
    made.check().unwrap_or_else(|error| panic!("{context}: {error}"));
}

/// Some blocks more on both, which meet what the stream made.
fn go_on(made: &mut Store, put: &mut Store, pairs: &[Pair], rng: &mut SplitMix64, context: &str) {
    for _ in 0..3 {
        let changes: Vec<(Vec<u8>, bool)> = (0..50)
            .map(|_| match pairs.len() as u64 {
                0 => (b"0".to_vec(), true),
                len => {
                    let number = rng.below(len + 1).min(len - 1) as usize;
                    let mut key = pairs[number].0.clone();
                    key.resize(key.len() + rng.below(2) as usize, b'!');
                    (key, rng.below(3) > 0)
                }
            })
            .chain(pairs.last().map(|(key, _)| (key.clone(), false)))
            .collect();
        let roots = [&mut *made, &mut *put].map(|store| {
            let mut block = store.next_block().unwrap();
            for (key, is_put) in &changes {
                match is_put {
                    true => block.put(key, "changed").unwrap(),
                    false => block.delete(key).unwrap(),
                }
            }
            block.commit().unwrap().root
        });
        assert_eq!(roots[0], roots[1], "{context}");
    }
    made.check().unwrap_or_else(|error| panic!("{context}: {error}"));
}

/// Rules under which a stream of creates moves nothing, at once, or from somewhere on.
fn rules() -> Vec<(&'static str, CompactionRule)> {
    let rule = |threshold, ratio, div| CompactionRule::new(threshold, ratio, div).unwrap();
    vec![
        ("default", CompactionRule::default()),
        ("qmdb", CompactionRule::QMDB),
        ("always", rule(1, 2, 1)),
        ("later", rule(4_200, 7, 10)),
        ("spread", rule(1 << 40, 1, 2).with_spread(1)),
    ]
}

fn is_same(rule: CompactionRule, options: fn(&Arc<dyn Vfs>) -> Options, seed: u64, count: u64) {
    let rng = &mut SplitMix64::new(seed);
    let pairs = pairs(rng, count, 0..120);
    let params = StoreParams::default().with_compaction(rule);
    let context = format!("{rule:?}, seed {seed}, {count} pairs");
    let (a, b) = (disk(), disk());
    let mut made = import(params, options(&a), &pairs).unwrap();
    let mut put = by_puts(params, options(&b), &pairs);
    compare(&mut made, &mut put, &pairs, &context);
    assert!(log_bytes(&*a) == log_bytes(&*b), "{context}: the logs differ");
    drop(made.close());
    let mut made = Store::open(dir(), options(&a)).unwrap();
    compare(&mut made, &mut put, &pairs, &format!("{context}, opened"));
    // From the log alone.
    let log = Store::open(dir(), options(&copy(&a)).checkpoint_bytes(0)).unwrap();
    assert_eq!(log.reader().root(), made.reader().root(), "{context}");
    go_on(&mut made, &mut put, &pairs, rng, &context);
}

#[test]
fn a_stream_makes_the_store_that_puts_make() {
    let _limit = Limit::new();
    let seed = std::env::var("HEDGEROW_IMPORT_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("HEDGEROW_IMPORT_SEED={seed}");
    for (name, rule) in rules() {
        println!("{name}");
        for count in [0, 1, 2, 17, 1_000, 4_000] {
            is_same(rule, on, seed + count, count);
        }
    }
}

#[test]
fn so_does_one_with_an_index_in_files() {
    let _limit = Limit::new();
    for (name, rule) in rules() {
        println!("{name}");
        is_same(rule, |disk| on(disk).index(TIERED), 7, 3_000);
    }
}

/// One file for each shard, which nobody merged.
#[test]
fn an_index_in_files_is_written_once() {
    let _limit = Limit::new();
    let pairs = pairs(&mut SplitMix64::new(8), 3_000, 0..10);
    let disk = disk();
    let options = || on(&disk).index(TIERED);
    let mut made = import(StoreParams::default(), options(), &pairs).unwrap();
    let index = made.stats().index.unwrap();
    // The sentries, for which there is no room in memory, and what the stream brought: each key, and the sentry
    // before it unless that has another one.
    assert!((16..=32).contains(&index.files) && index.merges == 0, "{index:?}");
    let records = index.file_records + index.memory_records;
    assert!((65_536 + 3_000..65_536 + 6_000).contains(&records), "{index:?}");
    assert!(index.bytes_written == index.file_bytes, "{index:?}");
    made.check().unwrap();
    made.close().unwrap();
    let opened = Store::open(dir(), options()).unwrap();
    assert!(opened.stats().opened_from.is_some() && opened.stats().index.unwrap().files >= 16);
    for (key, value) in &pairs {
        assert_eq!(opened.reader().get(key).unwrap().as_ref(), Some(value));
    }
}

/// Blocks meet in the middle of what lies between two sentries, and elsewhere.
#[test]
fn a_long_stream_is_cut_into_blocks() {
    let _limit = Limit::new();
    for (name, rule) in rules() {
        println!("{name}");
        let rng = &mut SplitMix64::new(3);
        let pairs = pairs(rng, 60, 900_000..(1 << 20));
        let params = StoreParams::default().with_compaction(rule);
        let params = params.with_first_height(Height(1_000)).unwrap();
        let options = |disk: &Arc<dyn Vfs>| on(disk).max_value_bytes(1 << 20);
        let (a, b) = (disk(), disk());
        let mut made = import(params, options(&a), &pairs).unwrap();
        assert_eq!(made.height(), Height(999 + blocks(&pairs).len() as u64));
        assert!(made.height() > Height(1_001));
        let mut put = by_puts(params, options(&b), &pairs);
        compare(&mut made, &mut put, &pairs, name);
        go_on(&mut made, &mut put, &pairs, rng, name);
    }
}

/// All keys between two sentries, more than one block of them.
#[test]
fn blocks_may_end_between_two_sentries() {
    let _limit = Limit::new();
    let mut pairs: Vec<Pair> = vec![];
    for number in 0_u64.. {
        let key = number.to_le_bytes().to_vec();
        if hash_message(&key).0[..2] == [0x12, 0x34] {
            pairs.push((key, vec![number as u8; 1_000_000]));
        }
        if pairs.len() == 40 {
            break;
        }
    }
    pairs.sort_by_cached_key(|(key, _)| hash_message(key).0);
    let options = |disk: &Arc<dyn Vfs>| on(disk).max_value_bytes(1 << 20);
    let (a, b) = (disk(), disk());
    let mut made = import(StoreParams::default(), options(&a), &pairs).unwrap();
    let mut put = by_puts(StoreParams::default(), options(&b), &pairs);
    assert!(made.height() > Height(2));
    compare(&mut made, &mut put, &pairs, "one group");
    go_on(&mut made, &mut put, &pairs, &mut SplitMix64::new(1), "one group");
}

/// What is left of a store that was not made: nothing but the lock file.
fn nothing_is_left(disk: &Arc<dyn Vfs>, context: &str) {
    let mut names = disk.read_dir(&dir()).unwrap();
    names.retain(|name| name != "LOCK");
    assert!(names.is_empty(), "{context}: {names:?}");
    assert!(matches!(Store::open(dir(), on(disk)), Err(Error::NoStore(_))), "{context}");
    Store::create(dir(), StoreParams::default(), on(disk)).unwrap();
}

#[test]
fn a_stream_that_is_not_in_order_leaves_nothing() {
    let _limit = Limit::new();
    let good = pairs(&mut SplitMix64::new(5), 500, 0..50);
    for at in [1, 100, 499] {
        for twice in [false, true] {
            let mut bad = good.clone();
            if twice {
                bad.insert(at, good[at - 1].clone());
            } else {
                bad.swap(at, at - 1);
            }
            let disk = disk();
            let error = import(StoreParams::default(), on(&disk), &bad).unwrap_err();
            match error {
                Error::Refused(Refused::Twice(key)) if twice => assert_eq!(key, good[at - 1].0),
                Error::Refused(Refused::OutOfOrder(key)) if !twice => {
                    assert_eq!(key, good[at - 1].0);
                }
                other => panic!("{at} {twice}: {other}"),
            }
            nothing_is_left(&disk, &format!("{at} {twice}"));
        }
    }
    // The first of the next block, after the last of the one before.
    let mut long = pairs(&mut SplitMix64::new(6), 20, 1_000_000..1_000_001);
    let last = blocks(&long)[0].len();
    let again = long[last - 1].clone();
    long.insert(last, again);
    let disk = disk();
    let options = on(&disk).max_value_bytes(1 << 20);
    let error = import(StoreParams::default(), options, &long).unwrap_err();
    assert!(matches!(error, Error::Refused(Refused::Twice(_))), "{error}");
    nothing_is_left(&disk, "second block");
}

#[test]
fn what_no_put_takes_no_stream_brings() {
    let _limit = Limit::new();
    let good = pairs(&mut SplitMix64::new(5), 30, 0..50);
    let bad = [(vec![], vec![1]), (vec![1; 256], vec![]), (vec![0; 32], vec![])];
    for pair in bad.into_iter().chain([(vec![1], vec![0; 70_000])]) {
        let mut pairs = good.clone();
        pairs.push(pair);
        let disk = disk();
        let error = import(StoreParams::default(), on(&disk), &pairs).unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error}");
        nothing_is_left(&disk, &error.to_string());
    }
}

/// An error of whoever reads the stream, of a type of its own.
#[derive(Debug)]
enum Cut {
    Short(usize),
    Other,
}

impl From<Error> for Cut {
    fn from(_: Error) -> Self {
        Self::Other
    }
}

#[test]
fn a_stream_that_ends_in_an_error_leaves_nothing() {
    let _limit = Limit::new();
    let all = pairs(&mut SplitMix64::new(9), 25, 1_000_000..1_000_001);
    for cut in [0, 1, 18, 25] {
        let disk = disk();
        let pairs = all.iter().take(cut).map(|(key, value)| Ok((key, value)));
        let pairs = pairs.chain([Err(Cut::Short(cut))]);
        let options = on(&disk).max_value_bytes(1 << 20);
        match Store::import(dir(), StoreParams::default(), options, pairs) {
            Err(Cut::Short(at)) => assert_eq!(at, cut),
            other => panic!("{other:?}"),
        }
        nothing_is_left(&disk, &format!("cut at {cut}"));
    }
}

#[test]
fn a_stream_that_panics_leaves_nothing() {
    let _limit = Limit::new();
    let disk = disk();
    let pairs = pairs(&mut SplitMix64::new(9), 100, 0..10);
    let pairs = stream(&pairs).enumerate().map(|(number, pair)| {
        assert!(number < 50, "on purpose");
        pair
    });
    let import = || Store::import(dir(), StoreParams::default(), on(&disk), pairs).map(drop);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(import)).is_err());
    nothing_is_left(&disk, "panic");
}

#[test]
fn a_store_that_is_there_stays() {
    let _limit = Limit::new();
    let disk = disk();
    let pairs = pairs(&mut SplitMix64::new(2), 100, 0..10);
    let store = import(StoreParams::default(), on(&disk), &pairs).unwrap();
    let root = store.reader().root();
    let again = || import(StoreParams::default(), on(&disk), &pairs);
    assert!(matches!(again(), Err(Error::InUse { .. })));
    store.close().unwrap();
    assert!(matches!(again(), Err(Error::NotEmpty(_))));
    assert_eq!(Store::open(dir(), on(&disk)).unwrap().reader().root(), root);
    assert!(matches!(
        import(StoreParams::default(), on(&disk).read_only(), &pairs),
        Err(Error::ReadOnly)
    ));
}

fn on_power_loss(disk: &PowerLossDisk, tiered: bool) -> Options {
    let disk: Arc<dyn Vfs> = Arc::new(disk.clone());
    let options = Options::new().disk(disk).segment_bytes(64 << 10).threads(1);
    let options = options.max_value_bytes(1 << 20);
    if tiered { options.index(TIERED) } else { options }
}

/// A fault at one call of an import. Says whether a whole store was left, and whether the fault came at all.
fn crash(pairs: &[Pair], after: u64, kind: FaultKind, tiered: bool) -> (bool, bool) {
    let seed = after * 31 + kind as u64;
    let disk = PowerLossDisk::new(seed);
    disk.create_dir_all(Path::new("/")).unwrap();
    disk.plan(Fault::once(Calls::Changes, after, kind));
    let made = import(StoreParams::default(), on_power_loss(&disk, tiered), pairs);
    let failed = disk.trace().failed;
    let context = format!("call {after}, {kind:?}, tiered {tiered}, seed {seed}: {failed:?}");
    if failed.is_empty() {
        made.as_ref().unwrap();
    }
    let is_made = made.is_ok();
    drop(made);
    if !is_made && kind != FaultKind::PowerOff {
        // Without a loss of power: all of it is gone, if it could be removed.
        match Store::open(dir(), on_power_loss(&disk, tiered)) {
            Err(Error::NoStore(_) | Error::UnfinishedCopy(_)) => {}
            // Or all of it is there: the mark was removed, and whether that is for good was not known.
            Ok(store) if failed[0].op == VfsOp::SyncDir && failed[0].path == dir() => drop(store),
            other => panic!("{context}: {:?}", other.map(|store| store.height())),
        }
    }
    let disk = disk.power_cycle(seed);
    let options = on_power_loss(&disk, tiered);
    let whole = match Store::open(dir(), options.clone()) {
        Ok(mut store) => {
            let found: Vec<Pair> = store.reader().iter().map(Result::unwrap).collect();
            assert!(found == pairs, "{context}: other pairs");
            store.check().unwrap_or_else(|error| panic!("{context}: {error}"));
            true
        }
        Err(Error::NoStore(_) | Error::UnfinishedCopy(_)) => false,
        Err(error) => panic!("{context}: {error}"),
    };
    assert!(whole || !is_made, "{context}: what was there is gone");
    if !whole {
        // Nobody begins an empty store in its place, and to begin it again replaces it.
        let empty = Store::open_or_create(dir(), StoreParams::default(), options.clone());
        match empty {
            Err(Error::UnfinishedCopy(_)) => {
                import(StoreParams::default(), options, pairs)
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            Ok(store) => assert_eq!(store.stats().keys, 0, "{context}"),
            Err(error) => panic!("{context}: {error}"),
        }
    }
    (whole, !failed.is_empty())
}

/// Of how many calls one is taken. `HEDGEROW_IMPORT_CALLS=1` takes all.
fn step() -> usize {
    std::env::var("HEDGEROW_IMPORT_CALLS").map_or(3, |step| step.parse().unwrap())
}

#[test]
fn when_the_power_goes_there_is_the_whole_store_or_none() {
    let _limit = Limit::new();
    let few = pairs(&mut SplitMix64::new(4), 300, 0..50);
    for tiered in [false, true] {
        let (mut whole, mut none) = (0, 0);
        for after in (u64::from(tiered)..).step_by(step()) {
            let (is_whole, came) = crash(&few, after, FaultKind::PowerOff, tiered);
            if !came {
                assert!(is_whole && after > 30, "{after}");
                println!("tiered {tiered}: {after} calls, {whole} whole stores, {none} times none");
                break;
            }
            if is_whole { whole += 1 } else { none += 1 }
        }
        assert!(none > 5, "{none}");
    }
}

/// More than one block, and manifests in between.
#[test]
fn when_the_power_goes_late_there_is_no_half_store() {
    let _limit = Limit::new();
    let long = pairs(&mut SplitMix64::new(4), 40, 1_000_000..1_000_001);
    let mut none = 0;
    for after in (40..).step_by(5 * step()) {
        let (is_whole, came) = crash(&long, after, FaultKind::PowerOff, false);
        if !came {
            break;
        }
        none += usize::from(!is_whole);
    }
    assert!(none > 1, "{none}");
}

#[test]
fn a_call_that_fails_and_a_full_disk_leave_the_whole_store_or_none() {
    let _limit = Limit::new();
    let few = pairs(&mut SplitMix64::new(4), 300, 0..50);
    for kind in [FaultKind::Eio, FaultKind::Full] {
        let mut after = kind as u64;
        while crash(&few, after, kind, false).1 {
            after += step() as u64;
        }
        println!("{kind:?}: {after} calls");
        assert!(after > 30, "{after}");
    }
}

/// Extra data is the last block's, wherever the stream ends within a block; and a block may be larger, or a pair each.
#[test]
fn extra_data_and_the_size_of_blocks() {
    let _limit = Limit::new();
    let pair = |number: u64| (format!("key {number}").into_bytes(), vec![7; 30]);
    let mut all: Vec<Pair> = (0..40).map(pair).collect();
    all.sort_by_cached_key(|(key, _)| hash_message(key).0);
    let of_four = 4 * (30 + 64 + "key ".len()); // and the digits
    for count in (0..20).chain([40]) {
        let pairs = &all[..count];
        for (block_bytes, pairs_of_block) in [(0, 1), (of_four, 4), (1 << 20, 40)] {
            let context = format!("{count} pairs, blocks of {block_bytes} bytes");
            let import = ImportOptions::new().block_bytes(block_bytes).extra("what it is");
            let options = on(&disk());
            let made =
                Store::import_with(dir(), StoreParams::default(), options, import, stream(pairs));
            let made: Store = made.unwrap_or_else(|error: Error| panic!("{context}: {error}"));

            let options = on(&disk());
            let mut put = Store::create(dir(), StoreParams::default(), options).unwrap();
            let mut blocks: Vec<&[Pair]> = pairs.chunks(pairs_of_block).collect();
            blocks.extend(pairs.is_empty().then_some(pairs));
            for pairs in blocks {
                let mut block = put.next_block().unwrap();
                for (key, value) in pairs {
                    block.put(key, value).unwrap();
                }
                block.commit().unwrap();
            }
            assert_eq!(made.reader().root(), put.reader().root(), "{context}");
            assert_eq!(made.reader().durable_height(), made.height(), "{context}");
            for height in (1..=made.height().0).map(Height) {
                let wanted: &[u8] = if height == made.height() { b"what it is" } else { b"" };
                assert_eq!(&made.reader().history(height).unwrap().extra[..], wanted, "{context}");
            }
        }
    }
    let disk = disk();
    let import = ImportOptions::new().extra(vec![0; MAX_EXTRA_BYTES + 1]);
    let refused =
        Store::import_with(dir(), StoreParams::default(), on(&disk), import, stream(&all));
    assert!(matches!(refused, Err(Error::ExtraTooLarge(_))));
    assert!(!disk.exists(&dir()).unwrap());
}
