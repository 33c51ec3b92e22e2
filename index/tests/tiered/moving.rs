//! Readers while edits and jobs run.

use crate::world::{Keys, Rng, World, create, key, work};
use hedgerow_index::{Edit, GROUPS, Index, Place, Stem, TieredIndex};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use hedgerow_vfs::{HookedDisk, MemDisk, Vfs, VfsOp};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keys that are always there and move all the time: whoever asks finds each of them, once, whatever jobs do.
#[test]
fn a_key_that_moves_is_never_lost() {
    const KEYS: u64 = 1500;
    const ROUNDS: u64 = 60;
    let stem = |i: u64| i * ((1 << 44) / KEYS) + 5;
    let keys: Vec<KeyHash> = (0..KEYS).map(|i| key(stem(i), 0)).collect();
    let place = |round: u64, i: u64| Place {
        at: LogPosition(8 * (round * KEYS + i)),
        sn: SerialNumber(round * KEYS + i),
    };
    let edits = |round: u64| -> Vec<Edit> {
        let old = |i| round.checked_sub(1).map(|before| place(before, i));
        let edit =
            |(i, key): (u64, &KeyHash)| Edit { key: *key, old: old(i), new: Some(place(round, i)) };
        (0..).zip(&keys).map(edit).collect()
    };
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    index.apply(&edits(0)).unwrap();
    let done = AtomicBool::new(false);
    // Each thread does its work at least so often, and until the edits are done.
    let until_done = |each: &mut dyn FnMut(u64)| {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) || count < 5 {
            each(count);
            count += 1;
        }
    };
    let moved = |at: LogPosition, i: u64| at.0.is_multiple_of(8) && at.0 / 8 % KEYS == i;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                until_done(&mut |_| {
                    work(&index, 3).unwrap();
                    std::thread::yield_now();
                });
            });
        }
        scope.spawn(|| {
            until_done(&mut |_| {
                let mut found = vec![];
                index.candidates(&keys, &mut found).unwrap();
                assert_eq!(found.len() as u64, KEYS);
                for (i, (number, at)) in (0..).zip(found) {
                    assert!(u64::from(number) == i && moved(at, i), "{i}: {number} {at}");
                }
            });
        });
        scope.spawn(|| {
            until_done(&mut |count| {
                let mut rng = Rng(count);
                let asked: Vec<u64> = (0..200).map(|_| rng.below(KEYS)).collect();
                let above = |i: &u64| Stem::new(stem(*i) + 1000).unwrap();
                let stems: Vec<Stem> = asked.iter().map(above).collect();
                let mut found = vec![];
                index.at_or_below(&stems, &mut found).unwrap();
                assert_eq!(found.len(), asked.len());
                for ((i, asked), (number, at, place)) in (0..).zip(asked).zip(found) {
                    assert!(number == i && at.get() == stem(asked) && moved(place, asked));
                }
            });
        });
        scope.spawn(|| {
            until_done(&mut |_| {
                let mut found = vec![];
                (0..GROUPS).for_each(|group| index.group(group, &mut found).unwrap());
                assert_eq!(found.len() as u64, KEYS);
                for (i, (at, place)) in (0..).zip(found) {
                    assert!(at.get() == stem(i) && moved(place, i));
                }
            });
        });
        for round in 1..ROUNDS {
            index.apply(&edits(round)).unwrap();
            if index.behind().is_late() {
                work(&index, 2).unwrap();
            }
            if round % 10 == 0 {
                index.set_memory((round as usize % 3) << 19);
                drop(index.snapshot());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let stats = index.stats();
    assert!(stats.spills > 10 && stats.merges > 3, "{stats:?}");
}

/// At the very moment when a look-up reads a page, edits are made and jobs done: the answer is that before or after.
#[test]
fn jobs_and_edits_in_the_middle_of_a_look_up() {
    type Meanwhile = Box<dyn FnMut() + Send>;
    let meanwhile: Arc<Mutex<Option<Meanwhile>>> = Arc::default();
    let hook = {
        let meanwhile = Arc::clone(&meanwhile);
        Arc::new(move |call: &hedgerow_vfs::VfsCall<'_>| {
            if call.op == VfsOp::Read {
                // Taken out while it runs: what it does may read as well.
                let taken = meanwhile.lock().take();
                if let Some(mut act) = taken {
                    act();
                }
            }
            Ok(())
        })
    };
    let vfs: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::new(MemDisk::new()), hook));
    let index = create(&vfs, 0);
    let mut world = World::new(8, Keys::Spread(1200));
    for _ in 0..12 {
        index.apply(&world.block(150, 10)).unwrap();
        work(&index, 2).unwrap();
    }
    let world = Arc::new(Mutex::new(world));
    let mut happened = 0;
    for round in 0..24 {
        let before = world.lock().clone();
        // What is in memory is spilled, merged, and edited again, during the first read.
        let ran = Arc::new(AtomicBool::new(false));
        let act = {
            let (index, world, ran) = (index.clone(), Arc::clone(&world), Arc::clone(&ran));
            move || {
                ran.store(true, Ordering::Relaxed);
                for _ in 0..3 {
                    let block = world.lock().block(100, 10);
                    index.apply(&block).unwrap();
                    work(&index, 4).unwrap();
                }
            }
        };
        index.drop_pages();
        *meanwhile.lock() = Some(Box::new(act));
        let keys: Vec<KeyHash> = before.pool.clone();
        let answer = ask(&index, &keys, round % 3);
        meanwhile.lock().take();
        happened += usize::from(ran.load(Ordering::Relaxed));
        let after = world.lock().clone();
        for (key, found) in keys.iter().zip(answer) {
            let of = |world: &World| -> Vec<LogPosition> {
                let stem = Stem::of(key);
                let ties = world.keys.iter().filter(|(key, _)| Stem::of(key) == stem);
                let mut places: Vec<_> = ties.map(|(_, place)| place.at).collect();
                places.sort_unstable();
                places
            };
            // Three blocks were made meanwhile: a key edited more than once may be seen in between; then it is one of two,
            // and what is told of it is none of these. So only keys that did not change, or are told as they end, count.
            if of(&before) == of(&after) && before.keys.get(key) == after.keys.get(key) {
                assert_eq!(found, of(&before), "{key}, round {round}");
            }
        }
        after.check(&index, 29);
    }
    assert!(happened > 16, "no read was met: {happened}");
}

fn ask(index: &TieredIndex, keys: &[KeyHash], way: usize) -> Vec<Vec<LogPosition>> {
    let mut answer = vec![vec![]; keys.len()];
    match way {
        0 => {
            let mut found = vec![];
            index.candidates(keys, &mut found).unwrap();
            found.into_iter().for_each(|(i, at)| answer[i as usize].push(at));
        }
        1 => {
            for (key, answer) in keys.iter().zip(&mut answer) {
                index.candidates_of(key, &mut |at| answer.push(at)).unwrap();
            }
        }
        _ => {
            let mut all = vec![];
            (0..GROUPS).for_each(|group| index.group(group, &mut all).unwrap());
            for (key, answer) in keys.iter().zip(&mut answer) {
                let ties = all.iter().filter(|(stem, _)| *stem == Stem::of(key));
                answer.extend(ties.map(|(_, at)| *at));
            }
        }
    }
    answer
}
