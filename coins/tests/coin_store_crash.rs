//! Power goes, or a call fails, at any call of a store of coins that changes the disk: it opens at a height that was
//! durable or above it, with the coins of that height, and goes on from there to the roots of a store that was never
//! interrupted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod chains;

use chains::{Chain, Made, check, connect, options};
use hedgerow::disk::{MemDisk, OpenMode, Vfs};
use hedgerow_coins::bitcoin::BlockHash;
use hedgerow_coins::{CoinOptions, CoinStore, CoinStoreError, Flush};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::VfsOp;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/coins";

/// Of how many calls one is taken. `HEDGEROW_COINS_CALLS=1` takes all.
fn step() -> usize {
    std::env::var("HEDGEROW_COINS_CALLS").map_or(37, |step| step.parse().unwrap())
}

fn on(disk: &PowerLossDisk, flush: Flush) -> CoinOptions {
    options(Arc::new(disk.clone()), flush).undo_blocks(12)
}

/// A chain with a fork: the blocks in the order in which they come, each with what it follows.
struct Script {
    /// Connects, and disconnects (`None`).
    steps: Vec<Option<Made>>,
    /// Every block that ever was.
    known: HashMap<BlockHash, Made>,
    /// The chain in the end.
    last: Vec<Made>,
}

fn script(seed: u64) -> Script {
    let mut chain = Chain::new(seed);
    let mut steps = Vec::new();
    for (blocks, depth) in [(11, 3), (5, 9), (14, 1), (6, 0)] {
        steps.extend((0..blocks).map(|_| Some(chain.grow())));
        steps.extend((0..depth).map(|_| None));
        chain.shrink(depth);
    }
    let known = steps.iter().flatten().map(|made| (made.tip.block, made.clone())).collect();
    Script { steps, known, last: chain.blocks }
}

/// Runs a script on an open store; stops at the first error. `floor` is the height that must be there after a crash.
fn play(
    store: &mut CoinStore,
    steps: &[Option<Made>],
    floor: &mut Option<u32>,
) -> Result<(), CoinStoreError> {
    for (number, step) in steps.iter().enumerate() {
        match step {
            Some(made) => {
                store.connect(made.tip.height, made.tip.block, &made.effect)?;
                if number % 4 == 3 {
                    *floor = store.flush()?.max(*floor);
                }
            }
            None => {
                // The store below may go back to a flush far below.
                let height = store.height().unwrap();
                *floor = None;
                store.disconnect(height)?;
                *floor = store.durable();
            }
        }
    }
    store.flush()?;
    Ok(())
}

/// From wherever the store is to the chain of the script, and there it is as if nothing had happened.
fn finish(
    mut store: CoinStore,
    script: &Script,
    options: CoinOptions,
    flush: Flush,
    expected: &CoinStore,
    context: &str,
) {
    let on_chain = |store: &CoinStore| {
        let tip = store.tip();
        tip.is_none_or(|tip| {
            script.last.get(tip.height as usize - 1).is_some_and(|made| made.tip == tip)
        })
    };
    while !on_chain(&store) {
        let height = store.height().unwrap();
        store.disconnect(height).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    let height = store.height().unwrap_or(0);
    for made in &script.last[height as usize..] {
        connect(&mut store, made);
    }
    store.flush().unwrap_or_else(|error| panic!("{context}: {error}"));
    let last = script.last.last().unwrap();
    check(&store, Some(last.tip), &last.set, context);
    if flush != Flush::WhenFull {
        assert_eq!(store.root(), expected.root(), "{context}");
    }
    store.close().unwrap();
    let store = CoinStore::open(DIR, options).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(store.tip(), Some(last.tip), "{context}");
}

/// A crash after so many calls; says whether it came.
fn crash(script: &Script, flush: Flush, kind: FaultKind, after: u64, expected: &CoinStore) -> bool {
    let context = format!("{flush:?}, call {after}, {kind:?}");
    let disk = PowerLossDisk::new(after);
    disk.plan(Fault::once(Calls::Changes, after, kind));
    let mut floor = None;
    let played = CoinStore::open(DIR, on(&disk, flush)).and_then(|mut store| {
        let played = play(&mut store, &script.steps, &mut floor);
        drop(store);
        played
    });
    let came = !disk.trace().failed.is_empty();
    if !came {
        played.unwrap();
    }
    let disk = disk.power_cycle(after);
    let store = CoinStore::open(DIR, on(&disk, flush))
        .unwrap_or_else(|error| panic!("{context}: {error}: {:?}", disk.trace().recent));
    assert!(store.height() >= floor, "{context}: {:?} < {floor:?}", store.height());
    let nothing = Arc::default();
    let set = store.tip().map_or(&nothing, |tip| &script.known[&tip.block].set);
    check(&store, store.tip(), set, &context);
    finish(store, script, on(&disk, flush), flush, expected, &context);
    came
}

#[test]
fn power_goes_at_any_call() {
    let script = script(1);
    for (flush, kind) in [
        (Flush::Every(4), FaultKind::PowerOff),
        (Flush::WhenFull, FaultKind::PowerOff),
        (Flush::Every(4), FaultKind::Eio),
        (Flush::Every(1), FaultKind::Full),
    ] {
        let mut expected = CoinStore::open(DIR, options(Arc::new(MemDisk::new()), flush)).unwrap();
        for made in &script.last {
            connect(&mut expected, made);
        }
        expected.flush().unwrap();
        let mut calls = 0;
        for after in (0..).step_by(step()) {
            if !crash(&script, flush, kind, after, &expected) {
                calls = after;
                break;
            }
        }
        assert!(calls > 100, "{flush:?}, {kind:?}: {calls}");
    }
}

/// The process ends at any time, the machine does not: no block is lost that was connected.
#[test]
fn a_process_that_dies_loses_no_block() {
    for seed in 0..12_u64 {
        let mut rng = SplitMix64::new(seed);
        let script = script(seed);
        let flush = if seed % 2 == 0 { Flush::Every(7) } else { Flush::WhenFull };
        let disk = PowerLossDisk::new(seed);
        let mut store = CoinStore::open(DIR, on(&disk, flush)).unwrap();
        let steps = 1 + rng.below(script.steps.len() as u64) as usize;
        for step in &script.steps[..steps] {
            match step {
                Some(made) => connect(&mut store, made),
                None => {
                    let height = store.height().unwrap();
                    store.disconnect(height).unwrap();
                }
            }
        }
        let tip = store.tip();
        let disk = disk.process_death();
        drop(store);
        let store = CoinStore::open(DIR, on(&disk, flush)).unwrap();
        let nothing = Arc::default();
        let set = tip.map_or(&nothing, |tip| &script.known[&tip.block].set);
        check(&store, tip, set, &format!("seed {seed}"));
    }
}

/// O-B3: a failed flush keeps everything, tells every waiter, and says so until the store is opened anew.
#[test]
fn o_b3_a_failed_flush_keeps_everything_and_tells_everybody() {
    let script = script(2);
    for part in ["/store/", "/blocks/"] {
        let disk = PowerLossDisk::new(9);
        let mut store = CoinStore::open(DIR, on(&disk, Flush::Every(5))).unwrap();
        for made in &script.last[..9] {
            connect(&mut store, made);
        }
        store.wait_durable(5).unwrap();
        disk.plan(Fault::once(Calls::Of(VfsOp::Sync, part.into()), 0, FaultKind::Eio));
        let waiter = store.reader();
        connect(&mut store, &script.last[9]);
        let waits = std::thread::spawn(move || waiter.wait_durable(10));
        assert!(matches!(waits.join().unwrap(), Err(CoinStoreError::Flush(_))), "{part}");
        assert!(matches!(store.wait_durable(10), Err(CoinStoreError::Flush(_))), "{part}");
        assert_eq!(store.durable(), Some(5));
        let made = &script.last[10];
        let refused = store.connect(made.tip.height, made.tip.block, &made.effect).unwrap_err();
        assert!(refused.is_latched() && !refused.is_damage(), "{part}: {refused}");
        // Everything is readable.
        let (tip, set) = (script.last[9].tip, &script.last[9].set);
        assert_eq!(store.tip(), Some(tip));
        for (name, coin) in &**set {
            assert_eq!(store.get(name).unwrap().as_ref(), Some(coin));
        }
        // Nobody knows what a failed sync has left: it is not made good by another one.
        store.retry().unwrap();
        assert!(matches!(store.wait_durable(10), Err(CoinStoreError::Flush(_))), "{part}");
        assert!(store.close().is_err());
        let disk = disk.power_cycle(3);
        let store = CoinStore::open(DIR, on(&disk, Flush::Every(5))).unwrap();
        assert!(store.height() >= Some(5));
        let set = &script.known[&store.tip().unwrap().block].set;
        check(&store, store.tip(), set, part);
    }
}

/// What a failed sync has left in the system's memory is written once more by the next process before a flush rests on it.
#[test]
fn what_a_failed_sync_has_left_of_records_is_written_once_more() {
    let script = script(5);
    for (seed, after) in (0..2).flat_map(|seed| (0..4).map(move |after| (seed, after))) {
        for op in [VfsOp::Sync, VfsOp::SyncDir] {
            let context = format!("seed {seed}, {op} {after}");
            let disk = PowerLossDisk::new(seed);
            disk.plan(Fault::once(Calls::Of(op, "/blocks".into()), after, FaultKind::Eio));
            if let Ok(mut store) = CoinStore::open(DIR, on(&disk, Flush::Every(3))) {
                for made in &script.last[..16] {
                    if store.connect(made.tip.height, made.tip.block, &made.effect).is_err() {
                        break;
                    }
                    let _ = store.wait_durable(made.tip.height);
                }
            }
            // The process goes, another one comes, flushes, and then the power goes.
            let disk = disk.process_death();
            let mut store = CoinStore::open(DIR, on(&disk, Flush::Every(3))).unwrap();
            let height = store.height().unwrap_or(0);
            let last = (height / 3 + 1) * 3;
            for made in &script.last[height as usize..last as usize] {
                connect(&mut store, made);
            }
            store.wait_durable(last).unwrap();
            let disk = disk.lose_all_unsynced();
            drop(store);
            let store = CoinStore::open(DIR, on(&disk, Flush::Every(3)))
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            let made = &script.last[last as usize - 1];
            check(&store, Some(made.tip), &made.set, &context);
            take_back(store, made, &context);
        }
    }
}

/// The records above the flush before are there.
fn take_back(mut store: CoinStore, last: &Made, context: &str) {
    for height in ((last.tip.height - 2)..=last.tip.height).rev() {
        store.disconnect(height).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

/// A record that cannot be written: the block is refused, and can come again.
#[test]
fn a_full_disk_refuses_a_block_and_takes_it_later() {
    let script = script(4);
    let disk = PowerLossDisk::new(4);
    let mut store = CoinStore::open(DIR, on(&disk, Flush::Every(50))).unwrap();
    for (number, made) in script.last.iter().enumerate() {
        if number % 3 == 1 {
            let before = store.tip();
            disk.plan(Fault::once(Calls::Of(VfsOp::Write, "/blocks/".into()), 0, FaultKind::Full));
            let refused = store.connect(made.tip.height, made.tip.block, &made.effect).unwrap_err();
            assert!(matches!(refused, CoinStoreError::Disk(_)), "{refused}");
            disk.plan_nothing();
            check(&store, before, &script.last[number - 1].set, "refused");
        }
        connect(&mut store, made);
    }
    drop(store);
    let last = script.last.last().unwrap();
    let store = CoinStore::open(DIR, on(&disk, Flush::Every(50))).unwrap();
    check(&store, Some(last.tip), &last.set, "opened again");
}

/// The files of records on a disk.
fn files(disk: &PowerLossDisk) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("blocks");
    disk.read_dir(&dir).unwrap().into_iter().map(|name| dir.join(name)).collect()
}

/// Records that a flush has made durable are whole, or opening says what is wrong; what was not durable is cut.
#[test]
fn damage_of_records_is_said_or_was_never_durable() {
    let script = script(6);
    let disk = PowerLossDisk::new(6);
    let mut store = CoinStore::open(DIR, on(&disk, Flush::Every(8))).unwrap();
    for made in &script.last[..20] {
        connect(&mut store, made);
    }
    store.wait_durable(16).unwrap();
    drop(store);
    let (mut said, mut cut) = (0, 0);
    let all = files(&disk);
    for file in &all {
        let len = disk.open(file, OpenMode::Read).unwrap().len().unwrap();
        for offset in (0..len).step_by(131) {
            let disk = disk.settled_copy(offset);
            disk.flip(file, offset, 0x10).unwrap();
            match CoinStore::open(DIR, on(&disk, Flush::Every(8))) {
                Ok(store) => {
                    cut += 1;
                    assert!(store.height() >= Some(16) && store.height() < Some(20), "{offset}");
                    let set = &script.known[&store.tip().unwrap().block].set;
                    check(&store, store.tip(), set, "cut");
                    // None is lost that a flush had made durable.
                    store.record(16).unwrap();
                }
                Err(error) => {
                    said += 1;
                    assert!(error.is_damage(), "{offset}: {error}");
                    // What there is of them stays for whoever looks into it.
                    assert_eq!(files(&disk).len(), all.len(), "{offset}");
                }
            }
        }
    }
    assert!(said > 5 && cut > 2, "{said} {cut}");
    // A file that is gone, too; all of them together are given up knowingly.
    assert!(all.len() > 2);
    let gone = disk.settled_copy(1);
    gone.remove_file(&all[1]).unwrap();
    let error = CoinStore::open(DIR, on(&gone, Flush::Every(8))).unwrap_err();
    assert!(error.is_damage(), "{error}");
    all.iter().for_each(|file| gone.remove_file(file).unwrap_or_default());
    let mut store = CoinStore::open(DIR, on(&gone, Flush::Every(8))).unwrap();
    check(&store, Some(script.last[15].tip), &script.last[15].set, "without records");
    assert!(matches!(store.disconnect(16), Err(CoinStoreError::TooDeep { height: 16 })));
    connect(&mut store, &script.last[16]);
    store.disconnect(17).unwrap();
}

/// What is kept of records is what disconnecting needs.
#[test]
fn needless_records_are_deleted() {
    let disk = PowerLossDisk::new(7);
    let options = on(&disk, Flush::Every(5)).undo_blocks(10);
    let mut store = CoinStore::open(DIR, options.clone()).unwrap();
    let mut chain = Chain::new(7);
    let mut most = 0;
    for _ in 0..120 {
        connect(&mut store, &chain.grow());
        store.wait_durable(chain.height() / 5 * 5).ok();
        // The last ten, up to the flush before them.
        let kept = store.stats().records;
        assert!(kept <= 10 + 5 + 1, "{kept}");
        most = most.max(files(&disk).len());
    }
    assert!((3..20).contains(&most), "{most}");
    let first = files(&disk).first().cloned().unwrap();
    assert!(!first.ends_with("00000001.rec"));
    drop(store);
    let mut store = CoinStore::open(DIR, options.clone()).unwrap();
    for _ in 0..10 {
        store.disconnect(chain.height()).unwrap();
        chain.shrink(1);
    }
    drop(store);
    let store = CoinStore::open(DIR, options).unwrap();
    check(&store, chain.tip(), &chain.set_at(110), "after as many blocks as may be");
}

/// The coins of a store are those of its tip, or it says that it could not read them; a digest never lies.
fn never_wrong(store: &CoinStore, script: &Script, context: &str) {
    let nothing = Arc::default();
    let set = store.tip().map_or(&nothing, |tip| &script.known[&tip.block].set);
    let names = script.last.iter().flat_map(|made| &made.effect.created).map(|(name, _)| *name);
    let names: Vec<_> = names.collect();
    for name in &names {
        if let Ok(coin) = store.get(name) {
            assert_eq!(coin.as_ref(), set.get(name), "{context}: {name}");
        }
    }
    if let Ok(coins) = store.get_many(&names) {
        assert!(names.iter().zip(&coins).all(|(name, coin)| coin.as_ref() == set.get(name)));
    }
    if let Ok(digest) = store.digest() {
        assert_eq!((digest.tip, digest.coins), (store.tip(), set.len() as u64), "{context}");
        assert_eq!(digest.muhash, Some(chains::muhash_of(set)), "{context}");
    }
}

/// What came of disconnecting while a call failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Came {
    /// It went well all the same.
    well: u32,
    /// It was refused, and nothing had changed.
    nothing: u32,
    /// It was refused on the way back: the tip is where that ended.
    between: u32,
    /// Nothing is written any more.
    stopped: u32,
}

/// Disconnects a flushed block while a call fails; says whether the call came.
fn half_way(
    base: &PowerLossDisk,
    script: &Script,
    flush: Flush,
    fault: &Fault,
    expected: &CoinStore,
    came: &mut Came,
) -> bool {
    let Fault { after, kind, calls, .. } = fault;
    let context = format!("{flush:?}, {calls:?} {after}, {kind:?}");
    let disk = base.settled_copy(*after);
    let mut store = CoinStore::open(DIR, on(&disk, flush)).unwrap();
    assert_eq!((store.height(), store.durable()), (Some(9), Some(8)), "{context}");
    store.disconnect(9).unwrap();
    disk.plan(fault.clone());
    let refused = store.disconnect(8);
    let failed = !disk.trace().failed.is_empty();
    disk.plan_nothing();
    never_wrong(&store, script, &context);
    match (&refused, store.height()) {
        (Ok(_), height) => {
            assert_eq!(height, Some(7), "{context}");
            came.well += 1;
        }
        (Err(error), height) => {
            assert!(failed && !error.is_damage(), "{context}: {error}");
            assert!((Some(4)..=Some(8)).contains(&height), "{context}: {height:?}");
            // Either it goes on at once, or it says that it does not.
            let again = loop {
                match store.height() {
                    _ if disk.is_off() => break Err(CoinStoreError::Stopped),
                    Some(8) => match store.disconnect(8) {
                        Ok(_) => {}
                        Err(error) => break Err(error),
                    },
                    Some(7) => break Ok(()),
                    height => {
                        let made = &script.last[height.unwrap() as usize];
                        let (tip, effect) = (made.tip, &made.effect);
                        if let Err(error) = store.connect(tip.height, tip.block, effect) {
                            break Err(error);
                        }
                    }
                }
                never_wrong(&store, script, &context);
            };
            match again {
                Ok(()) if height == Some(8) => came.nothing += 1,
                Ok(()) => came.between += 1,
                Err(error) => {
                    came.stopped += 1;
                    assert!(error.is_latched() && !error.is_damage(), "{context}: {error}");
                    // And stays so: what memory takes still does not become durable.
                    let (tip, durable) = (store.tip().unwrap(), store.durable());
                    for made in &script.last[tip.height as usize..12] {
                        let (tip, effect) = (made.tip, &made.effect);
                        let connected = store.connect(tip.height, tip.block, effect);
                        let told = |error: CoinStoreError| error.is_latched() || disk.is_off();
                        assert!(connected.map_or_else(told, |_| true), "{context}");
                    }
                    let refused = store.flush();
                    assert!(disk.is_off() || refused.is_err_and(|error| error.is_latched()));
                    assert_eq!(store.durable(), durable, "{context}");
                    never_wrong(&store, script, &context);
                }
            }
        }
    }
    let (durable, highest) = (store.durable(), store.height().max(Some(9)));
    drop(store);
    let disk = if after % 2 == 0 { disk.process_death() } else { disk.power_cycle(*after) };
    let store = CoinStore::open(DIR, on(&disk, flush))
        .unwrap_or_else(|error| panic!("{context}: {error}: {:?}", disk.trace().recent));
    assert!((Some(4)..=highest).contains(&store.height()), "{context}: {:?}", store.height());
    if refused.is_ok() {
        assert_eq!(store.durable(), durable, "{context}");
        // What was never flushed need not be known to be disconnected when the power goes.
        assert!(after % 2 != 0 || store.height() == Some(7), "{context}");
    }
    let set = &script.known[&store.tip().unwrap().block].set;
    check(&store, store.tip(), set, &context);
    finish(store, script, on(&disk, flush), flush, expected, &context);
    failed
}

/// The store below goes back to the flush before, and a call fails on the way, any of them: the block is disconnected, or is
/// there still, or what is between is told; or nothing is written any more, and opening it again makes it whole.
#[test]
fn a_rollback_that_fails_half_way_is_never_a_wrong_answer() {
    let mut chain = Chain::new(13);
    let last: Vec<Made> = (0..14).map(|_| chain.grow()).collect();
    let known = last.iter().map(|made| (made.tip.block, made.clone())).collect();
    let script = Script { steps: Vec::new(), known, last };
    for flush in [Flush::Every(4), Flush::WhenFull] {
        let fill = |store: &mut CoinStore, blocks: &[Made]| {
            for made in blocks {
                connect(store, made);
                if made.tip.height % 4 == 0 {
                    store.flush().unwrap();
                }
            }
        };
        let base = PowerLossDisk::new(13);
        let mut store = CoinStore::open(DIR, on(&base, flush)).unwrap();
        fill(&mut store, &script.last[..9]);
        drop(store);
        let disk = Arc::new(MemDisk::new());
        let mut expected = CoinStore::open(DIR, options(disk, flush)).unwrap();
        fill(&mut expected, &script.last);
        let mut came = Came::default();
        for (calls, kind) in [
            (Calls::Changes, FaultKind::Eio),
            (Calls::Changes, FaultKind::Denied),
            (Calls::Changes, FaultKind::PowerOff),
            (Calls::All, FaultKind::Eio),
        ] {
            let mut all = 0;
            for after in 0.. {
                let fault = Fault::once(calls.clone(), after, kind);
                if !half_way(&base, &script, flush, &fault, &expected, &mut came) {
                    all = after;
                    break;
                }
            }
            println!("{flush:?}, {calls:?}, {kind:?}: {all} calls, {came:?}");
            assert!(all > 5, "{calls:?}: {all}");
        }
        let Came { well, nothing, between, stopped } = came;
        assert!(well > 3 && nothing > 3 && between + stopped > 3, "{came:?}");
    }
}

/// What is left of a file of records that power loss took in its first moment goes, and no number is left out for it: a
/// gap would be damage to whoever opens the store after the next flush.
#[test]
fn a_segment_that_never_had_a_record_leaves_no_gap() {
    let script = script(8);
    for left in [0_usize, 10, 24] {
        let disk = PowerLossDisk::new(8);
        let mut store = CoinStore::open(DIR, on(&disk, Flush::Every(3))).unwrap();
        for made in &script.last[..4] {
            connect(&mut store, made);
        }
        store.wait_durable(3).unwrap();
        drop(store);
        let all = files(&disk);
        let first = hedgerow_vfs::read_file(&disk, &all[0], 1 << 20).unwrap();
        let next = Path::new(DIR).join(format!("blocks/{:08}.rec", all.len() + 1));
        // A beginning of a header, or that of another number.
        disk.open(&next, OpenMode::CreateNew).unwrap().write_all_at(&first[..left], 0).unwrap();
        let mut store = CoinStore::open(DIR, on(&disk, Flush::Every(3))).unwrap();
        for made in &script.last[4..] {
            connect(&mut store, made);
        }
        let last = script.last.last().unwrap();
        store.wait_durable(last.tip.height / 3 * 3).unwrap();
        assert!(files(&disk).len() > all.len() + 1);
        drop(store);
        let store = CoinStore::open(DIR, on(&disk, Flush::Every(3))).unwrap();
        check(&store, Some(last.tip), &last.set, "opened again");
    }
}

/// As many blocks can be disconnected as the option says, at once and after opening, and with a flush for each no more: what
/// they need is kept, and nothing else.
#[test]
fn as_many_blocks_can_be_disconnected_as_was_said() {
    for (every, opened) in [(1, false), (1, true), (4, false), (4, true)] {
        let disk = PowerLossDisk::new(9);
        let options = on(&disk, Flush::Every(every)).undo_blocks(10);
        let mut store = CoinStore::open(DIR, options.clone()).unwrap();
        let mut chain = Chain::new(9);
        for height in 1..=30_u32 {
            connect(&mut store, &chain.grow());
            store.flush().unwrap();
            if every == 1 {
                assert_eq!(store.stats().records, u64::from(height.min(10)));
            }
        }
        if opened {
            store.close().unwrap();
            store = CoinStore::open(DIR, options).unwrap();
        }
        for height in (21..=30).rev() {
            store.disconnect(height).unwrap_or_else(|error| panic!("{every}, {height}: {error}"));
            chain.shrink(1);
        }
        check(&store, chain.tip(), &chain.set_at(20), "as many as was said");
        if every == 1 {
            let refused = store.disconnect(20).unwrap_err();
            assert!(matches!(refused, CoinStoreError::TooDeep { height: 20 }), "{refused}");
        }
    }
}
