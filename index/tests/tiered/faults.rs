//! A test for each fault that is known of other indexes of this kind: docs/adr/0003-tiered-index.md has the list.

use crate::world::{Keys, Saved, World, create, files, for_seeds, key, options, work};
use hedgerow_index::{Edit, GROUPS, Index, IndexError, Place, Stem, TieredIndex};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{HookedDisk, MemDisk, OpenMode, Vfs, VfsCall, VfsOp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// A disk on which, once it is told, a number of operations of a kind succeed and all after them fail.
struct Failing {
    left: Arc<AtomicI64>,
    vfs: Arc<dyn Vfs>,
}

impl Failing {
    fn new(op: VfsOp, path: &'static str) -> Self {
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let counted = Arc::clone(&left);
        let hook = Arc::new(move |call: &VfsCall<'_>| {
            let meant = call.op == op && call.path.to_string_lossy().contains(path);
            if meant && counted.fetch_sub(1, SeqCst) <= 0 {
                return Err(call.error(std::io::Error::other("it fails")));
            }
            Ok(())
        });
        Self { left, vfs: Arc::new(HookedDisk::new(Arc::new(MemDisk::new()), hook)) }
    }

    fn fail_after(&self, count: i64) {
        self.left.store(count, SeqCst);
    }

    fn mend(&self) {
        self.left.store(i64::MAX, SeqCst);
    }
}

fn place(n: u64) -> Place {
    Place { at: LogPosition(8 * n), sn: SerialNumber(n) }
}

fn put(key: KeyHash, old: Option<u64>, new: Option<u64>) -> Edit {
    Edit { key, old: old.map(place), new: new.map(place) }
}

fn found(index: &dyn Index, key: KeyHash) -> Vec<u64> {
    let mut found = vec![];
    index.candidates_of(&key, &mut |at| found.push(at.0 / 8)).unwrap();
    found
}

/// Other keys, so that an age is full and a spill is due; their numbers begin with `first`.
fn filling(first: u64) -> Vec<Edit> {
    let stem = |i: u64| (first + i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    (0..300).map(|i| put(key(stem(i), 9), None, Some(first + i))).collect()
}

/// Spills whatever is in memory, and merges nothing.
fn spill(index: &TieredIndex, next: &mut u64) {
    index.apply(&filling(*next)).unwrap();
    *next += 300;
    while let Some(job) = index.work().filter(|job| job.is_spill()) {
        index.install(job.run().unwrap());
    }
}

/// Segments of several tiers, and a merge that is due.
fn grown(vfs: &Arc<dyn Vfs>) -> (TieredIndex, World) {
    let index = create(vfs, 0);
    let mut world = World::new(1, Keys::Spread(2000));
    for _ in 0..20 {
        index.apply(&world.block(150, 10)).unwrap();
        work(&index, 10).unwrap();
    }
    let job = loop {
        index.apply(&world.block(150, 10)).unwrap();
        match index.work() {
            Some(job) if job.is_spill() => index.install(job.run().unwrap()),
            Some(job) => break job,
            None => {}
        }
    };
    drop(job);
    (index, world)
}

#[test]
fn d_b1_a_read_error_is_not_the_end_of_the_input() {
    let disk = Failing::new(VfsOp::Read, ".idx");
    let (index, world) = grown(&disk.vfs);
    let before = (files(&disk.vfs), index.stats().tiers);
    for reads in 0.. {
        let job = index.work().unwrap();
        assert!(!job.is_spill());
        disk.fail_after(reads);
        let ended = job.run();
        disk.mend();
        match ended {
            Ok(done) => {
                assert!(reads > 1, "no read failed");
                index.install(done);
                break;
            }
            Err(error) => assert!(matches!(error, IndexError::Disk(_)), "{error}"),
        }
        assert_eq!((files(&disk.vfs), index.stats().tiers), before, "inputs stay, no output does");
        world.check(&index, 31);
    }
    world.check(&index, 3);
}

#[test]
fn d_b2_a_tier_that_cannot_be_read_is_an_error() {
    // The youngest segment alone fails: what is older must not answer in its place.
    let disk = Failing::new(VfsOp::Read, "03-00000001.idx");
    let index = create(&disk.vfs, 0);
    let mut next = 1000;
    let (kept, gone) = (key(77 << 30, 1), key(78 << 30, 1));
    index.apply(&[put(kept, None, Some(1)), put(gone, None, Some(2))]).unwrap();
    spill(&index, &mut next);
    index.apply(&[put(kept, Some(1), Some(next)), put(gone, Some(2), None)]).unwrap();
    next += 1;
    spill(&index, &mut next);
    disk.fail_after(0);
    let mut told = vec![];
    assert!(index.candidates_of(&kept, &mut |at| told.push(at)).is_err());
    assert!(told.is_empty());
    assert!(index.candidates(&[kept], &mut vec![]).is_err());
    assert!(index.at_or_below(&[Stem::of(&gone)], &mut vec![]).is_err());
    assert!(index.group(Stem::of(&kept).group(), &mut vec![]).is_err());
    disk.mend();
    assert_eq!(found(&index, kept), [next - 301]);
    assert!(found(&index, gone).is_empty());
}

#[test]
fn d_b3_what_is_handed_out_is_durable_and_names_are_new() {
    let disk = PowerLossDisk::new(1);
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let (index, world) = grown(&vfs);
    let saved = Saved::new(&index, &world);
    let after: Arc<dyn Vfs> = Arc::new(disk.lose_all_unsynced());
    world.check(&saved.open(&after, 0).unwrap(), 3);
    // A list that is lost does not let files be overwritten.
    let old = files(&after);
    let lost = create(&after, 0);
    let mut world = World::new(2, Keys::Spread(1000));
    for _ in 0..10 {
        lost.apply(&world.block(150, 10)).unwrap();
        work(&lost, 10).unwrap();
    }
    let new = files(&after);
    assert!(old.iter().all(|name| new.contains(name)));
    let (last, first) = (old.last().unwrap(), new.iter().find(|name| !old.contains(name)).unwrap());
    assert!(first > last, "{first} {last}");
}

#[test]
fn d_b4_a_job_that_is_given_up_is_due_again() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let (index, world) = grown(&vfs);
    let before = files(&vfs);
    let job = index.work().unwrap();
    assert!(index.work().is_none(), "one merge at a time");
    let ended = std::thread::spawn(move || {
        let _job = job;
        panic!("on purpose");
    })
    .join();
    assert!(ended.is_err());
    let job = index.work().unwrap();
    assert!(index.work().is_none());
    let done = job.run().unwrap();
    assert!(index.work().is_none(), "it is not in the list yet");
    drop(done);
    assert_eq!(files(&vfs), before);
    let job = index.work().unwrap();
    index.install(job.run().unwrap());
    world.check(&index, 3);
}

/// Put, deleted, put again, deleted again, in tiers that are merged in every order: what is gone stays gone.
#[test]
fn d_b5_what_is_gone_does_not_come_back_with_a_partial_merge() {
    let (a, b) = (key(5 << 33, 1), key(6 << 33, 1));
    for ends_there in [false, true] {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let index = create(&vfs, 0);
        let mut next = 1000;
        let mut last = None;
        for step in 0..60 {
            let now = (step % 3 != 2).then_some(next);
            index.apply(&[put(a, last, now)]).unwrap();
            last = now.or(last.filter(|_| false));
            next += 1;
            if step == 20 {
                index.apply(&[put(b, None, Some(next))]).unwrap();
                next += 1;
            }
            spill(&index, &mut next);
            if step % 4 == 3 {
                work(&index, 1).unwrap();
            }
            assert_eq!(found(&index, a), last.into_iter().collect::<Vec<_>>(), "step {step}");
        }
        if !ends_there && last.is_some() {
            index.apply(&[put(a, last, None)]).unwrap();
            last = None;
        }
        work(&index, 100).unwrap();
        assert_eq!(found(&index, a), last.into_iter().collect::<Vec<_>>());
        assert_eq!(found(&index, b).len(), 1);
    }
}

/// However many records a segment has, a key is looked for in one page of it; a read that is too short is an error.
#[test]
fn d_b8_one_page_however_large_the_segment() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 16 << 20);
    let mut world = World::new(3, Keys::Spread(150_000));
    let keys = world.pool.clone();
    let edits: Vec<Edit> = keys.iter().map(|key| world.edit(*key, true)).collect();
    index.apply(&edits).unwrap();
    drop(index.snapshot()); // all is frozen
    work(&index, 100).unwrap();
    let saved = Saved::new(&index, &world);
    assert!(saved.records.is_empty() && saved.snapshot.segments.len() == 1, "{:?}", saved.snapshot);
    let index = saved.open(&vfs, 0).unwrap();
    for key in keys.iter().step_by(997) {
        let before = index.stats();
        index.candidates_of(key, &mut |_| {}).unwrap();
        let after = index.stats();
        let pages = after.page_reads + after.cache_hits - before.page_reads - before.cache_hits;
        assert_eq!(pages, 1);
    }
    // The file is cut while it is open.
    let name = options(0).folder.join(&files(&vfs)[0]);
    vfs.open(&name, OpenMode::ReadWrite).unwrap().set_len(4096 * 100 + 17).unwrap();
    let last = *keys.last().unwrap();
    let error = index.candidates_of(&last, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, IndexError::Damaged { file, .. } if *file == name), "{error}");
}

#[test]
fn u_b1_pressure_changes_no_answer() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 8 << 20);
    let mut next = 1000;
    let a = key(5 << 33, 1);
    let mut last = None;
    for step in 0..80_u64 {
        // Spent while an older record of it is anywhere, then created again.
        let now = (step % 4 != 3).then_some(next);
        index.apply(&[put(a, last, now)]).unwrap();
        (last, next) = (now, next + 1);
        index.set_memory([8 << 20, 0, 1 << 20, 0][(step / 3 % 4) as usize]);
        spill(&index, &mut next);
        work(&index, (step % 5) as usize).unwrap();
        assert_eq!(found(&index, a), last.into_iter().collect::<Vec<_>>(), "step {step}");
    }
}

#[test]
fn u_b1_pressure_never_reorders_tiers() {
    for_seeds(0..3, |seed| {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let index = create(&vfs, 0);
        let mut world = World::new(seed, Keys::Spread(2000));
        for _ in 0..60 {
            index.apply(&world.block(200, 20)).unwrap();
            work(&index, world.rng.below(3) as usize).unwrap();
            // What is in which tier is the list's, whatever the budget is, and it stays where it is.
            let before = index.snapshot().segments;
            for bytes in [0, 8 << 20, 300 << 10, 0] {
                index.set_memory(bytes);
                assert_eq!(index.snapshot().segments, before);
            }
            world.check(&index, 7);
        }
        assert!(index.stats().merges > 0 && index.stats().spills > 10, "{:?}", index.stats());
    });
}

#[test]
fn u_b2_a_spill_that_fails_loses_nothing() {
    for op in [VfsOp::Create, VfsOp::Write, VfsOp::Sync, VfsOp::SyncDir] {
        let disk = Failing::new(op, "index");
        let index = create(&disk.vfs, 0);
        let mut world = World::new(1, Keys::Spread(2000));
        for round in 0..10 {
            index.apply(&world.block(200, 10)).unwrap();
            disk.fail_after(round % 2);
            while let Some(job) = index.work() {
                match job.run() {
                    Ok(done) => index.install(done),
                    Err(error) => {
                        assert!(matches!(error, IndexError::Disk(_)), "{error}");
                        break;
                    }
                }
            }
            disk.mend();
            world.check(&index, 11);
        }
        assert_eq!(files(&disk.vfs).len(), index.snapshot().segments.len());
        work(&index, 100).unwrap();
        world.check(&index, 3);
    }
}

/// What moves from memory to a file between the two steps of a scan is in the scan, once. The scan's reads
/// do the moving: `moving.rs` has the same for all ways of asking, with edits.
#[test]
fn u_b3_what_moves_during_a_scan_is_not_missed() {
    let job: Arc<parking_lot::Mutex<Option<TieredIndex>>> = Arc::default();
    let due = Arc::clone(&job);
    let hook = Arc::new(move |call: &VfsCall<'_>| {
        let index = if call.op == VfsOp::Read { due.lock().take() } else { None };
        if let Some(index) = index {
            work(&index, 10).unwrap();
        }
        Ok(())
    });
    let vfs: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::new(MemDisk::new()), hook));
    let index = create(&vfs, 0);
    let mut world = World::new(4, Keys::Spread(1500));
    for round in 0..12 {
        index.apply(&world.block(400, 10)).unwrap();
        let spills = index.stats().spills;
        index.drop_pages();
        *job.lock() = Some(index.clone());
        let mut all = vec![];
        for group in 0..GROUPS {
            index.group(group, &mut all).unwrap();
        }
        let mut expected: Vec<_> =
            world.keys.iter().map(|(key, it)| (Stem::of(key), it.at)).collect();
        expected.sort_unstable();
        assert_eq!(all, expected, "round {round}");
        assert!(round == 0 || index.stats().spills > spills, "nothing moved");
        job.lock().take();
        work(&index, 10).unwrap();
    }
}

#[test]
fn u_b4_operations_of_one_batch_on_one_key_have_an_order() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    let (a, b) = (key(5 << 33, 1), key(6 << 33, 1));
    let mut next = 1000;
    index
        .apply(&[
            put(a, None, Some(1)),
            put(b, None, Some(3)),
            put(a, Some(1), Some(2)),
            put(b, Some(3), None),
            put(a, Some(2), None),
            put(b, None, Some(5)),
        ])
        .unwrap();
    for _ in 0..2 {
        assert!(found(&index, a).is_empty());
        assert_eq!(found(&index, b), [5]);
        assert_eq!(index.len(), 1 + (next as usize - 1000));
        spill(&index, &mut next);
    }
}

#[test]
fn u_b5_a_scan_that_cannot_read_is_an_error() {
    let disk = Failing::new(VfsOp::Read, ".idx");
    let (index, world) = grown(&disk.vfs);
    disk.fail_after(0);
    let mut failed = 0;
    for key in world.keys.keys().step_by(100) {
        let mut out = vec![];
        if index.group(Stem::of(key).group(), &mut out).is_err() {
            failed += 1;
            assert!(out.is_empty());
        }
    }
    assert!(failed > 0);
    disk.mend();
    world.check(&index, 5);
}

#[test]
fn u_b6_all_ways_of_asking_agree_wherever_a_key_lies() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    let a = key(5 << 33, 1);
    index.apply(&[put(a, None, Some(1))]).unwrap();
    let mut next = 1000;
    let mut at = 1;
    for step in 0..12 {
        let stem = Stem::of(&a);
        assert_eq!(found(&index, a), [at], "step {step}");
        let (mut many, mut below, mut group) = (vec![], vec![], vec![]);
        index.candidates(&[a, a], &mut many).unwrap();
        index.at_or_below(&[stem], &mut below).unwrap();
        index.group(stem.group(), &mut group).unwrap();
        let position = LogPosition(8 * at);
        assert_eq!(many, [(0, position), (1, position)]);
        assert_eq!(below, [(0, stem, position)]);
        assert_eq!(group.iter().filter(|(other, _)| *other == stem).count(), 1);
        match step % 4 {
            0 => drop(index.snapshot()),
            1 => spill(&index, &mut next),
            2 => drop(work(&index, 10).unwrap()),
            _ => {
                index.apply(&[put(a, Some(at), Some(next))]).unwrap();
                (at, next) = (next, next + 1);
            }
        }
    }
}

/// Edits go on while a spill and a merge of the same keys are half done.
#[test]
fn u_b7_what_is_written_to_is_never_an_input() {
    use hedgerow_index::Step;
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let (index, mut world) = grown(&vfs);
    let merge = index.work().unwrap();
    index.apply(&world.block(280, 20)).unwrap();
    drop(index.snapshot());
    index.apply(&world.block(280, 20)).unwrap();
    let spill = index.work().unwrap();
    assert!(spill.is_spill() && !merge.is_spill());
    let mut jobs = vec![merge, spill];
    while let Some(job) = jobs.pop() {
        index.apply(&world.block(200, 30)).unwrap();
        match job.step().unwrap() {
            Step::More(job) => jobs.insert(0, *job),
            Step::Done(done) => {
                index.apply(&world.block(200, 30)).unwrap();
                world.check(&index, 17);
                index.install(*done);
                world.check(&index, 17);
            }
        }
    }
    work(&index, 100).unwrap();
    world.check(&index, 1);
}

/// A block is taken back when its records are in memory, frozen, in a segment, or just being merged; its numbers are used
/// anew for other keys.
#[test]
fn u_b8_what_is_taken_back_is_void_everywhere() {
    for stage in 0..5 {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let index = create(&vfs, 0);
        let (kept, new, other) = (key(5 << 33, 1), key(6 << 33, 1), key(7 << 33, 1));
        let mut next = 1000;
        index.apply(&[put(kept, None, Some(1))]).unwrap();
        spill(&index, &mut next);
        work(&index, 10).unwrap();
        let cut = next;
        let mut block = filling(cut + 2);
        block.insert(0, put(kept, Some(1), Some(cut)));
        block.insert(1, put(new, None, Some(cut + 1)));
        index.apply(&block).unwrap();
        assert_eq!([found(&index, kept), found(&index, new)], [[cut], [cut + 1]]);
        let mut running = None;
        match stage {
            0 => {}
            1 => drop(index.snapshot()),
            2 => running = index.work(),
            _ => drop(work(&index, 10).unwrap()),
        }
        let done = running.map(|job| job.run().unwrap());
        index.take_back(&block).unwrap();
        assert_eq!(found(&index, kept), [1], "stage {stage}");
        assert!(found(&index, new).is_empty());
        // The same numbers, for another key.
        index.apply(&[put(other, None, Some(cut)), put(kept, Some(1), Some(cut + 1))]).unwrap();
        if let Some(done) = done {
            index.install(done);
        }
        let check = |index: &TieredIndex| {
            assert_eq!(found(index, other), [cut], "stage {stage}");
            assert_eq!(found(index, kept), [cut + 1]);
            assert!(found(index, new).is_empty());
        };
        check(&index);
        if stage == 4 {
            // A snapshot remembers what is void.
            let snapshot = index.snapshot();
            let live = [cut, cut + 1].into_iter().chain(1000..1300);
            let mut words = std::collections::BTreeMap::new();
            live.for_each(|sn| *words.entry(sn / 64 * 64).or_insert(0) |= 1_u64 << (sn % 64));
            let bits = words.into_iter().map(|(first, word)| (SerialNumber(first), word));
            let records: Vec<_> = snapshot.records().collect();
            let list = &snapshot.segments;
            check(&TieredIndex::open(Arc::clone(&vfs), options(0), list, records, bits).unwrap());
        }
        next = cut + 2;
        spill(&index, &mut next);
        check(&index);
        work(&index, 10).unwrap();
        check(&index);
    }
}

/// Numbers only grow, unless they were taken back: otherwise an old record might count again.
#[test]
fn u_b8_numbers_are_not_used_twice() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    let (a, b) = (key(5 << 33, 1), key(6 << 33, 1));
    index.apply(&[put(a, None, Some(7))]).unwrap();
    index.apply(&[put(a, Some(7), None)]).unwrap();
    let sn = SerialNumber(7);
    assert_eq!(index.apply(&[put(b, None, Some(7))]), Err(IndexError::Number { sn }));
    assert_eq!(
        index.apply(&[put(b, None, Some(1 << 47))]),
        Err(IndexError::Number { sn: SerialNumber(1 << 47) })
    );
    let missing = IndexError::Missing { key: a, at: LogPosition(56) };
    assert_eq!(index.take_back(&[put(a, None, Some(7))]), Err(missing));
    index.apply(&[put(b, None, Some(8))]).unwrap();
    assert_eq!(found(&index, b), [8]);
    assert!(found(&index, a).is_empty());
}
