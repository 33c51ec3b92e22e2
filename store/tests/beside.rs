//! Looking at a store while a writer writes, prunes, writes checkpoints, closes and opens: what is seen is
//! what the writer had at that height, and the writer does not notice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on, params};
use hedgerow::disk::{RealDisk, Vfs};
use hedgerow::{Digest, Error, Height, Options, ReadOnlyStore, Reader, Store, StoreParams, verify};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::{Hook, HookedDisk, OpenMode, VfsCall, VfsOp, read_file};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);
const KEYS: u64 = 200;
/// Blocks that may be in flight.
const IN_FLIGHT: u64 = 3;

fn writers(disk: &Arc<dyn Vfs>) -> Options {
    on(disk)
        .threads(1)
        .segment_bytes(60_000)
        .manifest_blocks(2)
        .checkpoint_bytes(15_000)
        .keep_heights(3)
        .keep_history(8)
        .max_in_flight(IN_FLIGHT as usize)
}

fn lookers(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).threads(1)
}

/// What a writer did, for all who look.
#[derive(Default)]
struct Told {
    /// Content and root by height, from 0 on.
    states: Mutex<Vec<(Arc<Pairs>, Digest)>>,
    more: Condvar,
    reader: Mutex<Option<Reader>>,
    over: AtomicBool,
}

impl Told {
    fn add(&self, pairs: &Pairs, root: Digest) {
        self.states.lock().push((Arc::new(pairs.clone()), root));
        self.more.notify_all();
    }

    /// The state of a height, which is told soon if it is durable.
    fn state(&self, height: Height) -> (Arc<Pairs>, Digest) {
        let mut states = self.states.lock();
        while states.len() <= height.0 as usize {
            assert!(!self.more.wait_for(&mut states, LONG).timed_out(), "{height} never happened");
        }
        states[height.0 as usize].clone()
    }

    fn durable(&self) -> u64 {
        self.reader.lock().as_ref().map_or(0, |reader| reader.durable_height().0)
    }
}

/// A writer, block by block.
struct Writer {
    disk: Arc<dyn Vfs>,
    path: PathBuf,
    options: fn(&Arc<dyn Vfs>) -> Options,
    store: Option<Store>,
    told: Arc<Told>,
    pairs: Pairs,
    random: SplitMix64,
    /// Operations of a block, at most.
    most: u64,
}

impl Writer {
    fn new(
        disk: &Arc<dyn Vfs>,
        path: &Path,
        options: fn(&Arc<dyn Vfs>) -> Options,
        seed: u64,
    ) -> Self {
        println!("seed {seed}");
        let store = Store::create(path, params(1, 1, 1), options(disk)).unwrap();
        let told = Arc::<Told>::default();
        told.add(&Pairs::new(), store.reader().root().1);
        *told.reader.lock() = Some(store.reader());
        Self {
            disk: Arc::clone(disk),
            path: path.to_owned(),
            options,
            store: Some(store),
            told,
            pairs: Pairs::new(),
            random: SplitMix64::new(seed),
            most: 12,
        }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    /// A block of puts and deletes.
    fn block(&mut self) {
        let Self { store, pairs, random, told, most, .. } = self;
        let mut block = store.as_mut().unwrap().next_block().unwrap();
        let height = block.height();
        for _ in 0..1 + random.next_u64() % *most {
            let key = format!("key {}", random.next_u64() % KEYS).into_bytes();
            if random.next_u64() % 4 == 0 {
                block.delete(&key).unwrap();
                pairs.remove(&key);
            } else {
                let value = format!("{height} {}", random.next_u64()).repeat(3).into_bytes();
                block.put(&key, &value).unwrap();
                pairs.insert(key, value);
            }
        }
        let ticket = block.submit().unwrap();
        told.add(pairs, ticket.root().unwrap());
    }

    /// Blocks with puts of other keys until compaction has moved the sentries, which fill the first
    /// segments, and these are gone; then the keys go too. From there on, pruning goes on with the blocks.
    fn until_pruned(&mut self) {
        const BULK: u64 = 2_500;
        let bulk = || (0..BULK).map(|number| format!("bulk {number}").into_bytes());
        for round in 0.. {
            assert!(round < 100, "nothing is pruned");
            let over = self.store().stats().pruned_bytes > 0;
            let Self { store, pairs, told, .. } = self;
            let mut block = store.as_mut().unwrap().next_block().unwrap();
            for key in bulk() {
                if over {
                    block.delete(&key).unwrap();
                    pairs.remove(&key);
                } else {
                    block.put(&key, "1").unwrap();
                    pairs.insert(key, b"1".to_vec());
                }
            }
            told.add(pairs, block.submit().unwrap().root().unwrap());
            self.store().flush().unwrap();
            if over {
                break;
            }
        }
    }

    fn close(&mut self) {
        self.store.take().unwrap().close().unwrap();
    }

    fn open(&mut self) {
        let store = Store::open(&self.path, (self.options)(&self.disk)).unwrap();
        *self.told.reader.lock() = Some(store.reader());
        self.store = Some(store);
    }

    fn look(&self) -> Result<ReadOnlyStore, Error> {
        Store::open_read_only(&self.path, lookers(&self.disk))
    }
}

/// Everything that a view can be asked is what the writer had.
fn compare(told: &Told, beside: &ReadOnlyStore) {
    let (view, reader) = (beside.view(), beside.reader());
    let height = view.height();
    let (pairs, root) = told.state(height);
    assert_eq!((view.root(), view.len().unwrap()), (root, pairs.len() as u64), "height {height}");
    let found: Pairs = view.iter().map(Result::unwrap).collect();
    assert_eq!(found, *pairs, "height {height}");
    let keys: Vec<_> = (0..KEYS).map(|key| format!("key {key}").into_bytes()).collect();
    let values = view.get_many(&keys).unwrap();
    for (key, value) in keys.iter().zip(&values).step_by(7) {
        assert_eq!(value.as_ref(), pairs.get(key), "height {height}");
        assert_eq!(reader.get(key).unwrap(), *value, "height {height}");
        let proven = view.prove(key).unwrap();
        assert!(proven.durable && proven.root == root && proven.height == height);
        let proved = verify(&root, key, proven.proof.as_bytes()).unwrap();
        assert_eq!(proved, value.as_deref(), "height {height}");
    }
    for back in 0..=3.min(height.0) {
        let then = Height(height.0 - back);
        match reader.root_at(then) {
            Ok(found) => assert_eq!(found, told.state(then).1, "{then} seen from {height}"),
            Err(error) => assert!(
                back > 0 && matches!(error, Error::HeightUnavailable { .. }),
                "{then} seen from {height}: {error}"
            ),
        }
    }
    let stats = beside.stats();
    assert_eq!((stats.durable, stats.published), (height, height));
}

/// What is said to be durable is, and lags by no more than what may be in flight.
fn fresh(told: &Told, durable_before: u64, beside: &ReadOnlyStore) {
    let height = beside.height().0;
    let durable = told.durable();
    assert!(height <= durable, "{height} is seen, and {durable} is durable");
    let least = durable_before.saturating_sub(IN_FLIGHT);
    assert!(height >= least, "{height} is seen, and {durable_before} was durable");
}

/// A disk for who looks: what would change anything fails and is counted.
fn watched(inner: &Arc<dyn Vfs>, changes: &Arc<AtomicU64>) -> Arc<dyn Vfs> {
    let changes = Arc::clone(changes);
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        if call.op.changes() || call.op == VfsOp::Point {
            changes.fetch_add(1, Ordering::SeqCst);
            return Err(call.error(io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        Ok(())
    });
    Arc::new(HookedDisk::new(Arc::clone(inner), hook))
}

/// Looks again and again while a writer does all that it does. Returns how often, and in how many of them
/// the writer had gone on between two looks.
fn beside_a_writer(disk: &Arc<dyn Vfs>, path: &Path, seed: u64, looks: u64) -> (u64, u64) {
    let mut writer = Writer::new(disk, path, writers, seed);
    writer.until_pruned();
    // So that it goes on being pruned.
    writer.most = 400;
    let told = Arc::clone(&writer.told);
    let changes = Arc::default();
    let looking = watched(disk, &changes);
    let enough = AtomicBool::new(false);
    let (mut count, mut moved) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Until all has been looked at: a writer that is through would be easy.
            let over = Over(&told.over);
            let mut blocks = 0_u64;
            while !enough.load(Ordering::SeqCst) {
                writer.block();
                blocks += 1;
                if blocks.is_multiple_of(37) {
                    writer.close();
                    writer.open();
                }
            }
            writer.store().check().unwrap();
            writer.close();
            drop(over);
        });
        let _enough = Over(&enough);
        let mut long = Store::open_read_only(path, lookers(&looking)).unwrap();
        let start = long.stats().log_start;
        let mut pruned = 0;
        let mut held: Vec<ReadOnlyStore> = vec![];
        while count < looks {
            assert!(!told.over.load(Ordering::SeqCst), "the writer failed");
            let durable = told.durable();
            let beside = Store::open_read_only(path, lookers(&looking)).unwrap();
            fresh(&told, durable, &beside);
            compare(&told, &beside);
            let (durable, before) = (told.durable(), long.height());
            let height = long.refresh().unwrap();
            assert!(height >= before && height == long.height());
            moved += u64::from(height > before);
            fresh(&told, durable, &long);
            compare(&told, &long);
            held.push(beside);
            // One that has read nothing: what it needs later must be there all the same.
            held.push(Store::open_read_only(path, lookers(&looking)).unwrap());
            // The oldest that is held: its files are long pruned.
            while held.len() > 12 {
                let oldest = held.remove(0);
                pruned += u64::from(oldest.stats().log_start < long.stats().log_start);
                compare(&told, &oldest);
            }
            count += 3;
        }
        assert!(
            long.stats().log_start > start && pruned > 10,
            "{pruned} looked at what was pruned"
        );
    });
    assert_eq!(changes.load(Ordering::SeqCst), 0, "who looks has changed something");
    // And after all of it.
    let last = Store::open_read_only(path, lookers(&looking)).unwrap();
    assert_eq!(last.height().0, told.states.lock().len() as u64 - 1);
    compare(&told, &last);
    (count, moved)
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn what_is_seen_is_what_the_writer_had_in_memory() {
    let _limit = Limit::new();
    let (looks, moved) = beside_a_writer(&disk(), &dir(), 0xBE51DE, 300);
    assert!(moved > looks / 12, "the writer wrote in {moved} of {looks}");
}

#[test]
fn what_is_seen_is_what_the_writer_had_on_a_real_disk() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Vfs> = Arc::new(RealDisk);
    let (looks, moved) = beside_a_writer(&disk, &temp.path().join("store"), 0xD15C, 210);
    assert!(moved > looks / 12, "the writer wrote in {moved} of {looks}");
}

/// Only what a later record or the manifest calls durable.
#[test]
fn what_no_sync_has_reached_is_not_seen() {
    let _limit = Limit::new();
    let inner = disk();
    let held = Arc::new(common::Gate::default());
    let gate = Arc::clone(&held);
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        if call.op == VfsOp::Sync && call.path.parent() == Some(&dir().join("log")) {
            gate.pass();
        }
        Ok(())
    });
    let slow: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::clone(&inner), hook));
    let mut writer = Writer::new(&slow, &dir(), |disk| on(disk).threads(1), 7);
    for _ in 0..5 {
        writer.block();
        writer.store().flush().unwrap();
    }
    // The record of 5 says that 4 was durable. That 5 is, nobody has said.
    let look = || Store::open_read_only(dir(), lookers(&inner)).unwrap();
    assert_eq!(look().height(), Height(4));
    held.close();
    writer.block();
    held.reached();
    // Written, and not synced: it says that 5 is durable, and not that it is itself.
    let beside = look();
    assert_eq!(beside.height(), Height(5));
    compare(&writer.told, &beside);
    held.open();
    writer.close();
    assert_eq!(look().height(), Height(6));
}

/// The database of a store, after each of some commits. Every third was closed in peace, and has in it what
/// the engine believes then without verifying anything.
fn databases(writer: &mut Writer, commits: usize) -> Vec<Vec<u8>> {
    let path = dir().join("meta/meta.redb");
    let mut databases = vec![];
    for number in 0..commits {
        writer.block();
        writer.block();
        let in_peace = number % 3 == 2;
        if in_peace {
            writer.close()
        } else {
            writer.store().flush().unwrap()
        }
        databases.push(read_file(&*writer.disk, &path, 1 << 30).unwrap());
        if in_peace {
            writer.open();
        }
    }
    databases
}

/// Whatever commits a copy is torn between, what is seen is a durable state, or nothing is.
#[test]
fn a_torn_copy_of_the_manifest_is_never_believed() {
    let _limit = Limit::new();
    let inner = disk();
    let keep = |disk: &Arc<dyn Vfs>| on(disk).threads(1).manifest_blocks(2);
    let mut writer = Writer::new(&inner, &dir(), keep, 11);
    let databases = databases(&mut writer, 12);
    let store = common::copy(&inner);
    let path = dir().join("meta/meta.redb");
    let (mut refused, mut seen) = (0, 0);
    let pages = |bytes: &[u8]| bytes.len() / 4096;
    for (older, newer) in [(10, 11), (9, 11), (8, 11), (4, 11), (0, 11), (4, 6)] {
        let (older, newer) = (&databases[older], &databases[newer]);
        let torn_at = (1..pages(older).min(pages(newer))).map(|page| 4096 * page);
        for at in torn_at {
            // Halves of both, and one page of the other commit among those of the one.
            let next = at + 4096;
            let copies = [(older, newer), (newer, older)].map(|(first, rest)| {
                let one = [&first[..at], &rest[at..next], &first[next..]].concat();
                [[&first[..at], &rest[at..]].concat(), one]
            });
            for torn in copies.into_iter().flatten() {
                store.remove_file(&path).unwrap();
                let file = store.open(&path, OpenMode::CreateNew).unwrap();
                file.write_all_at(&torn, 0).unwrap();
                match Store::open_read_only(dir(), lookers(&store)) {
                    Ok(beside) => {
                        seen += 1;
                        compare(&writer.told, &beside);
                        // A page of another commit has other rows, or lacks some.
                        for then in (0..=beside.height().0).map(Height) {
                            let found = beside.reader().root_at(then);
                            let found =
                                found.unwrap_or_else(|error| panic!("torn at {at}: {error}"));
                            assert_eq!(found, writer.told.state(then).1, "torn at {at}: {then}");
                        }
                    }
                    Err(Error::Meta(_)) => refused += 1,
                    Err(error) => panic!("torn at {at}: {error}"),
                }
            }
        }
    }
    println!("{seen} seen, {refused} refused");
    assert!(refused > 20 && seen > 20, "{seen} seen, {refused} refused");
    writer.close();
}

/// A commit, or several, between the first page and the others: the copy is made again.
#[test]
fn a_copy_that_a_commit_tears_is_made_again() {
    let _limit = Limit::new();
    let inner = disk();
    let mut writer = Writer::new(&inner, &dir(), writers, 13);
    for _ in 0..9 {
        writer.block();
    }
    writer.store().flush().unwrap();
    let told = Arc::clone(&writer.told);
    let writer = Arc::new(Mutex::new(writer));
    for blocks in [2, 4, 8, 16] {
        for times in [1, 3, 30] {
            let left = AtomicU64::new(times);
            let meanwhile = Arc::clone(&writer);
            let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
                let is_rest = call.op == VfsOp::Read
                    && call.offset == Some(4096)
                    && call.path.ends_with("meta/meta.redb");
                let some = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(u64::from(is_rest))
                });
                if is_rest && some.is_ok() {
                    let mut writer = meanwhile.lock();
                    (0..blocks).for_each(|_| writer.block());
                    writer.store().flush().unwrap();
                }
                Ok(())
            });
            let torn: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::clone(&inner), hook));
            let durable = told.durable();
            let beside = Store::open_read_only(dir(), lookers(&torn)).unwrap();
            fresh(&told, durable, &beside);
            compare(&told, &beside);
        }
    }
    writer.lock().close();
}

/// A writer that never stops is an error that says so, and no endless loop.
#[test]
fn a_store_that_never_stands_still_is_an_error() {
    let _limit = Limit::new();
    let inner = disk();
    let mut writer = Writer::new(&inner, &dir(), writers, 17);
    for _ in 0..9 {
        writer.block();
    }
    writer.close();
    let number = AtomicU64::new(0);
    let below = Arc::clone(&inner);
    // Another byte of another page is wrong at each look.
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        if call.op == VfsOp::Read
            && call.offset == Some(4096)
            && call.path.ends_with("meta/meta.redb")
        {
            let file = below.open(call.path, OpenMode::ReadWrite).unwrap();
            for page in 1..file.len().unwrap() / 4096 {
                let byte = number.fetch_add(1, Ordering::SeqCst).to_le_bytes();
                file.write_all_at(&byte, page * 4096 + 4).unwrap();
            }
        }
        Ok(())
    });
    let moving: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::clone(&inner), hook));
    let error = Store::open_read_only(dir(), lookers(&moving)).unwrap_err();
    assert!(matches!(error, Error::Unsteady { .. }), "{error}");
    // What is wrong for good is said for what it is.
    let error = Store::open_read_only(dir(), lookers(&inner)).unwrap_err();
    assert!(matches!(error, Error::Meta(_)), "{error}");
}

/// Calls of an opening fail once: an error, or the right answers.
#[test]
fn a_call_that_fails_gives_an_error_or_the_right_answers() {
    let _limit = Limit::new();
    let inner = disk();
    // What is skipped because it could not be read is then seen to be missing.
    let rare = |disk: &Arc<dyn Vfs>| writers(disk).manifest_blocks(1_000).segment_bytes(1 << 20);
    let mut writer = Writer::new(&inner, &dir(), rare, 19);
    for _ in 0..40 {
        writer.block();
    }
    writer.store().flush().unwrap();
    let mut failed = 0;
    // Every sixteenth call, and others with the other reason: an opening reads the whole log here.
    for (first, reason) in [(0, io::ErrorKind::NotFound), (8, io::ErrorKind::Other)] {
        for at in (first..).step_by(16) {
            let calls = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&calls);
            let armed = Arc::new(AtomicBool::new(true));
            let fails = Arc::clone(&armed);
            let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
                let opening = fails.load(Ordering::SeqCst);
                if opening && counted.fetch_add(1, Ordering::SeqCst) == at {
                    return Err(call.error(reason.into()));
                }
                Ok(())
            });
            let failing: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::clone(&inner), hook));
            let opened = Store::open_read_only(dir(), lookers(&failing));
            armed.store(false, Ordering::SeqCst);
            match opened {
                Ok(beside) => {
                    assert!(beside.height().0 + IN_FLIGHT >= writer.told.durable());
                    compare(&writer.told, &beside);
                }
                Err(_) => failed += 1,
            }
            if calls.load(Ordering::SeqCst) <= at {
                break;
            }
        }
    }
    assert!(failed > 10, "{failed}");
    writer.close();
}

/// Names, bytes and times of all below a directory.
fn everything(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        if path.is_dir() {
            found.extend(everything(&path));
            found.insert(path, (vec![], modified));
        } else {
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), modified));
        }
    }
    found
}

/// A store that a process left in the middle, and one that was closed: nothing is locked, made or changed.
#[test]
fn who_looks_leaves_no_trace() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let (one, other) = (temp.path().join("one"), temp.path().join("other"));
    let real: Arc<dyn Vfs> = Arc::new(RealDisk);
    // Without what an idle writer may still do: a checkpoint.
    let quiet = |disk: &Arc<dyn Vfs>| writers(disk).checkpoint_bytes(0);
    let mut writer = Writer::new(&real, &one, quiet, 23);
    (0..50).for_each(|_| writer.block());
    writer.store().flush().unwrap();
    // As it is while somebody writes, and as a crash would leave it.
    copy_tree(&one, &other);
    let torn = std::fs::read_dir(other.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let torn = torn.max().unwrap();
    let mut bytes = std::fs::read(&torn).unwrap();
    bytes.extend([7; 100]);
    std::fs::write(&torn, bytes).unwrap();
    std::fs::remove_dir_all(other.join("twigs")).unwrap();
    for path in [&one, &other] {
        let before = everything(path);
        let mut beside = Store::open_read_only(path, lookers(&real)).unwrap();
        assert!(beside.height().0 + IN_FLIGHT >= 50);
        compare(&writer.told, &beside);
        beside.refresh().unwrap();
        assert!(everything(path) == before, "{}", path.display());
        assert_eq!(path == &one, path.join("LOCK").exists());
    }
    writer.block();
    writer.close();
    let before = everything(&one);
    let beside = Store::open_read_only(&one, lookers(&real)).unwrap();
    assert_eq!(beside.height(), Height(51));
    compare(&writer.told, &beside);
    // A writer is not kept out.
    assert!(everything(&one) == before);
    writer.open();
    writer.block();
    writer.close();
    compare(&writer.told, &beside);
}

/// All but the lock file.
fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &to);
        } else if !path.ends_with("LOCK") {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

#[test]
fn another_store_and_an_older_copy_are_refused_and_the_view_stays() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let real: Arc<dyn Vfs> = Arc::new(RealDisk);
    let mut writer = Writer::new(&real, &path, writers, 29);
    (0..10).for_each(|_| writer.block());
    writer.close();
    copy_tree(&path, &temp.path().join("older"));
    writer.open();
    (0..10).for_each(|_| writer.block());
    writer.close();
    let mut beside = writer.look().unwrap();
    let absent = Store::open_read_only(temp.path().join("none"), lookers(&real));
    assert!(matches!(absent, Err(Error::NoStore(_))));
    std::fs::rename(&path, temp.path().join("newer")).unwrap();
    std::fs::rename(temp.path().join("older"), &path).unwrap();
    let error = beside.refresh().unwrap_err();
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("durable")), "{error}");
    compare(&writer.told, &beside);
    std::fs::remove_dir_all(&path).unwrap();
    assert!(matches!(beside.refresh(), Err(Error::NoStore(_))));
    Store::create(&path, StoreParams::default(), lookers(&real)).unwrap().close().unwrap();
    let error = beside.refresh().unwrap_err();
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("another store")), "{error}");
    compare(&writer.told, &beside);
}

/// What there was no room to hold, and was pruned since, is an error that names the height; the rest is right.
#[test]
fn what_is_not_held_and_pruned_is_an_error_that_names_the_height() {
    let _limit = Limit::new();
    let inner = disk();
    let small = |disk: &Arc<dyn Vfs>| writers(disk).segment_bytes(6_000);
    let mut writer = Writer::new(&inner, &dir(), small, 31);
    (0..60).for_each(|_| writer.block());
    writer.store().flush().unwrap();
    let few: Arc<dyn Vfs> = Arc::new(HookedDisk::with_open_limit(Arc::clone(&inner), 4));
    let beside = Store::open_read_only(dir(), lookers(&few)).unwrap();
    compare(&writer.told, &beside);
    let (pairs, root) = writer.told.state(beside.height());
    writer.close();
    // As if all of it had been pruned.
    let log = dir().join("log");
    for name in inner.read_dir(&log).unwrap() {
        inner.remove_file(&log.join(name)).unwrap();
    }
    let (mut right, mut pruned) = (0, 0);
    let mut is_pruned = |error: &Error| {
        let height = beside.height();
        assert!(
            matches!(error, Error::Pruned { height: named, .. } if *named == height),
            "{error}"
        );
        assert!(
            error.to_string().contains(&format!("height {height} needs was pruned")),
            "{error}"
        );
        pruned += 1;
    };
    let view = beside.view();
    for key in (0..KEYS).map(|key| format!("key {key}").into_bytes()) {
        match view.get(&key) {
            Ok(value) => {
                right += 1;
                assert_eq!(value.as_ref(), pairs.get(&key));
            }
            Err(error) => is_pruned(&error),
        }
        match view.prove(&key) {
            Ok(proven) => {
                let proved = verify(&root, &key, proven.proof.as_bytes()).unwrap();
                assert_eq!(proved, pairs.get(&key).map(Vec::as_slice));
            }
            Err(error) => is_pruned(&error),
        }
    }
    let ended = view.iter().find_map(Result::err);
    is_pruned(&ended.expect("not everything is there any more"));
    is_pruned(&view.get_many(&pairs.keys().collect::<Vec<_>>()).unwrap_err());
    println!("{right} right, {pruned} pruned");
}

#[cfg(any(feature = "rocksdb", feature = "sled"))]
#[test]
fn an_engine_that_lets_nobody_look_says_which_does() {
    use hedgerow::{Engine, MetaError};
    let _limit = Limit::new();
    for engine in Engine::available().iter().filter(|engine| !engine.can_be_copied()) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("store");
        let store = Store::create(&path, StoreParams::default(), Options::new().engine(*engine));
        let error = Store::open_read_only(&path, Options::new()).unwrap_err();
        let is_said = |error: &MetaError| matches!(error, MetaError::NotBeside { .. });
        assert!(matches!(&error, Error::Meta(error) if is_said(error)), "{error}");
        assert!(error.to_string().contains("redb"), "{error}");
        store.unwrap().close().unwrap();
    }
}
