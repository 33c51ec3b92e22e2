//! What a store of coins must never do, and what the others that were looked at did: the tests bear the names of
//! those defects.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod chains;

use chains::{Chain, Made, Set, check, check_proofs, connect, hash_of, muhash_of, options};
use hedgerow::disk::{MemDisk, Vfs};
use hedgerow_coins::bitcoin::absolute::LockTime;
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::transaction::Version;
use hedgerow_coins::bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid,
};
use hedgerow_coins::{BlockEffect, Coin, CoinStore, CoinStoreError, Flush, MuHash, Tip, regtest};
use hedgerow_vfs::VfsOp;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DIR: &str = "/coins";

fn memory() -> Arc<dyn Vfs> {
    Arc::new(MemDisk::new())
}

fn hash(height: u32) -> BlockHash {
    BlockHash::from_byte_array([height as u8; 32])
}

/// A block that creates coins of its own, and spends those of the block so many before it.
fn wide(height: u32, coins: u32, spends: Option<u32>) -> BlockEffect {
    let name = |height: u32, vout| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&height.to_le_bytes());
        OutPoint { txid: Txid::from_byte_array(id), vout }
    };
    let coin = || Coin::new(height, false, Amount::ONE_SAT, ScriptBuf::new()).unwrap();
    BlockEffect {
        spent: spends.map_or(vec![], |of| (0..coins).map(|vout| name(of, vout)).collect()),
        created: (0..coins).map(|vout| (name(height, vout), coin())).collect(),
        passing: 0,
    }
}

fn muhash_after(blocks: &[BlockEffect]) -> (usize, String) {
    let mut set = BTreeMap::new();
    for block in blocks {
        block.spent.iter().for_each(|name| assert!(set.remove(name).is_some()));
        set.extend(block.created.iter().cloned());
    }
    (set.len(), muhash_of(&set).to_string())
}

/// With no word of the caller, memory is bounded and old blocks become durable.
#[test]
fn a_full_cache_flushes_by_itself() {
    let mut store = CoinStore::open(DIR, options(memory(), Flush::WhenFull)).unwrap();
    let mut blocks = Vec::new();
    for height in 1..=80 {
        let spends = (height > 30 && height % 2 == 0).then(|| height - 30);
        let block = wide(height, 500, spends);
        store.connect(height, hash(height), &block).unwrap();
        blocks.push(block);
        let cache = store.stats().cache;
        assert!(cache.used_bytes <= cache.limit_bytes + cache.limit_bytes / 20);
    }
    let durable = store.durable().unwrap();
    assert!(durable > 10, "{durable}");
    assert!(store.stats().cache.applying.count >= 4);
    let digest = store.digest().unwrap();
    let (coins, muhash) = muhash_after(&blocks);
    assert_eq!((digest.coins, digest.muhash.unwrap().to_string()), (coins as u64, muhash));
    // What came down while others were written can be undone all the same.
    for height in (41..=80).rev() {
        store.disconnect(height).unwrap();
        blocks.pop();
    }
    let digest = store.digest().unwrap();
    let (coins, muhash) = muhash_after(&blocks);
    assert_eq!((digest.coins, digest.muhash.unwrap().to_string()), (coins as u64, muhash));
}

/// Flush points are fixed: a cache that is full before the next one says so, and helps itself with more memory.
#[test]
fn a_cache_that_is_full_before_its_flush_is_an_error() {
    let mut store = CoinStore::open(DIR, options(memory(), Flush::Every(1_000))).unwrap();
    let mut blocks = Vec::new();
    let refused = loop {
        let height = blocks.len() as u32 + 1;
        assert!(height < 200 && store.durable().is_none(), "it flushed before its time");
        let block = wide(height, 500, None);
        match store.connect(height, hash(height), &block) {
            Ok(_) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CoinStoreError::CacheFull { .. }), "{refused}");
    assert!(!refused.is_latched());
    let height = blocks.len() as u32;
    assert_eq!((store.height(), store.durable()), (Some(height), None));
    let digest = store.digest().unwrap();
    assert_eq!(digest.muhash.unwrap().to_string(), muhash_after(&blocks).1);
    store.set_cache_bytes(16 << 20).unwrap();
    store.connect(height + 1, hash(height + 1), &wide(height + 1, 500, None)).unwrap();

    let mut store = CoinStore::open(DIR, options(memory(), Flush::WhenFull)).unwrap();
    let refused = store.connect(1, hash(1), &wide(1, 50_000, None)).unwrap_err();
    assert!(matches!(refused, CoinStoreError::BlockTooLarge { .. }), "{refused}");
    assert_eq!(store.tip(), None);
}

/// U-B16: what a block creates and spends stayed in the set for ever.
#[test]
fn u_b16_what_is_created_and_spent_within_a_block_never_was() {
    let mut store = CoinStore::open(DIR, options(memory(), Flush::Every(2))).unwrap();
    let mut blocks = regtest::chain();
    store.connect_block(1, &blocks.next().unwrap()).unwrap();
    let mut block = blocks.next().unwrap();
    let spend = |previous_output| Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output, ..TxIn::default() }],
        output: vec![TxOut { value: Amount::ONE_SAT, script_pubkey: ScriptBuf::new() }],
    };
    let first = spend(OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 });
    let between = OutPoint { txid: first.compute_txid(), vout: 0 };
    let second = spend(between);
    let last = OutPoint { txid: second.compute_txid(), vout: 0 };
    block.txdata.extend([first, second]);
    let done = store.connect_block(2, &block).unwrap();
    assert_eq!((done.spent, done.created), (0, 1));
    store.wait_durable(2).unwrap();
    for name in [between, OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 }] {
        assert_eq!(store.get(&name).unwrap(), None);
        let names: Vec<_> =
            store.view().unwrap().ordered(1).unwrap().map(|coin| coin.unwrap().0).collect();
        assert!(!names.contains(&name) && names.contains(&last) && names.len() == 2);
    }
    assert_eq!(store.digest().unwrap().coins, 2);
}

/// S-B2 and S-B8: a spent coin is gone at once and for ever: before, while and after its flush is written.
#[test]
fn s_b2_a_spent_coin_is_not_found_while_it_is_flushed() {
    let disk = PowerLossDisk::new(1);
    let options = options(Arc::new(disk.clone()), Flush::Every(2));
    let mut store = CoinStore::open(DIR, options).unwrap();
    let (made, spent) = (wide(1, 5, None), wide(2, 5, Some(1)));
    store.connect(1, hash(1), &made).unwrap();
    store.connect(2, hash(2), &wide(7, 0, None)).unwrap();
    store.wait_durable(2).unwrap();
    let gone: Vec<OutPoint> = made.created.iter().map(|(name, _)| *name).collect();
    let held = disk.hold(Calls::Of(VfsOp::Sync, "/store/".into()));
    let spends = BlockEffect { created: vec![], ..spent };
    store.connect(3, hash(3), &spends).unwrap();
    let is_gone = |store: &CoinStore| {
        assert!(store.get_many(&gone).unwrap().iter().all(Option::is_none));
        assert_eq!(store.get(&gone[0]).unwrap(), None);
    };
    is_gone(&store);
    store.connect(4, hash(4), &BlockEffect::default()).unwrap();
    assert!(held.reached());
    is_gone(&store);
    // And cannot be spent again.
    let refused = store.connect(5, hash(5), &spends).unwrap_err();
    assert!(matches!(refused, CoinStoreError::Missing(_)));
    // S-B4 and S-B5: not durable before the disk has it.
    assert_eq!(store.durable(), Some(2));
    drop(held);
    store.wait_durable(4).unwrap();
    assert_eq!(store.durable(), Some(4));
    is_gone(&store);
}

/// S-B4 to S-B7: with power lost at the moment at which a flush is said to be durable, all of it is there, with its
/// commitment; and before that moment nothing of it.
#[test]
fn s_b5_durable_means_all_of_the_flush_and_its_commitment() {
    let mut chain = Chain::new(11);
    let disk = PowerLossDisk::new(11);
    let on = |disk: &PowerLossDisk| options(Arc::new(disk.clone()), Flush::Every(6)).undo_blocks(0);
    let mut store = CoinStore::open(DIR, on(&disk)).unwrap();
    for _ in 0..12 {
        connect(&mut store, &chain.grow());
    }
    store.wait_durable(12).unwrap();
    let root = store.root();
    let disk = disk.lose_all_unsynced();
    drop(store);
    let store = CoinStore::open(DIR, on(&disk)).unwrap();
    assert_eq!(store.root(), root);
    check(&store, chain.tip(), &chain.set_at(12), "after the loss");
    let point = store.flushed().unwrap();
    assert_eq!(Some(point.tip), chain.tip());
    assert_eq!(point.muhash.unwrap().digest(), muhash_of(&chain.set_at(12)));
    // Without records a restart begins at the flush.
    drop(store);
    let mut store = CoinStore::open(DIR, on(&disk)).unwrap();
    for _ in 0..3 {
        connect(&mut store, &chain.grow());
    }
    assert!(matches!(store.disconnect(15), Err(CoinStoreError::TooDeep { height: 15 })));
    drop(store);
    assert_eq!(CoinStore::open(DIR, on(&disk)).unwrap().height(), Some(12));
}

/// S-B3: a disk that cannot be read looked like a coin that is not there.
#[test]
fn s_b3_could_not_read_is_not_spent() {
    let mut chain = Chain::new(4);
    let disk = PowerLossDisk::new(4);
    let mut store =
        CoinStore::open(DIR, options(Arc::new(disk.clone()), Flush::Every(10))).unwrap();
    for _ in 0..10 {
        connect(&mut store, &chain.grow());
    }
    store.close().unwrap();
    let below = hedgerow::Options::new().tail_bytes(0).checkpoint_bytes(0).threads(1);
    let options = options(Arc::new(disk.clone()), Flush::Every(10)).store(below);
    let mut store = CoinStore::open(DIR, options).unwrap();
    let set = chain.set_at(10);
    let name = *set.keys().next().unwrap();
    let spends = BlockEffect { spent: vec![name], ..BlockEffect::default() };
    disk.plan(Fault::from_then_on(Calls::Of(VfsOp::Read, "/store/".into()), 0, FaultKind::Eio));
    assert!(matches!(store.get(&name), Err(CoinStoreError::Store(_))));
    let refused = store.connect(11, hash(11), &spends).unwrap_err();
    assert!(matches!(refused, CoinStoreError::Store(_)), "{refused}");
    disk.plan_nothing();
    check(&store, chain.tip(), &set, "readable again");
    store.connect(11, hash(11), &spends).unwrap();
}

/// S-B6: a flush that is tried again counted twice in the commitment.
#[test]
fn s_b6_a_flush_that_is_tried_again_counts_once() {
    let disk = PowerLossDisk::new(8);
    let below = hedgerow::Options::new().tail_bytes(0).checkpoint_bytes(0).threads(1);
    let options =
        options(Arc::new(disk.clone()), Flush::Every(2)).store(below).cache_bytes(2 << 20);
    let mut store = CoinStore::open(DIR, options.clone()).unwrap();
    let (first, second) = (wide(1, 50, None), wide(2, 20, None));
    store.connect(1, hash(1), &first).unwrap();
    store.connect(2, hash(2), &second).unwrap();
    store.close().unwrap();
    let mut store = CoinStore::open(DIR, options).unwrap();
    // Spent and restored, so that the flush asks what is stored.
    let fork = BlockEffect { created: vec![], ..wide(3, 50, Some(1)) };
    store.connect(3, hash(33), &fork).unwrap();
    store.disconnect(3).unwrap();
    let third = BlockEffect { created: wide(3, 7, None).created, ..wide(2, 20, Some(2)) };
    store.connect(3, hash(3), &third).unwrap();
    disk.plan(Fault::from_then_on(Calls::Of(VfsOp::Read, "/store/".into()), 0, FaultKind::Eio));
    store.connect(4, hash(4), &BlockEffect::default()).unwrap();
    for _ in 0..3 {
        let refused = store.wait_durable(4).unwrap_err();
        assert!(matches!(refused, CoinStoreError::Flush(_)), "{refused}");
        let refused = store.connect(5, hash(5), &BlockEffect::default()).unwrap_err();
        assert!(refused.is_latched());
        assert_eq!(store.durable(), Some(2));
        store.retry().unwrap();
    }
    // The last retry may be under way still.
    let _ = store.wait_durable(4);
    disk.plan_nothing();
    store.retry().unwrap();
    store.wait_durable(4).unwrap();
    let (coins, muhash) = muhash_after(&[first, second, third]);
    let digest = store.digest().unwrap();
    assert_eq!((digest.coins, digest.muhash.unwrap().to_string()), (coins as u64, muhash));
    store.connect(5, hash(5), &BlockEffect::default()).unwrap();
}

/// A view stays what it was while blocks go on, flushed or not.
#[test]
fn a_view_stays_as_it_was() {
    for flush in [Flush::Every(8), Flush::WhenFull] {
        let mut chain = Chain::new(21);
        let mut store = CoinStore::open(DIR, options(memory(), flush)).unwrap();
        let mut views = Vec::new();
        for _ in 0..60 {
            let block = chain.grow();
            connect(&mut store, &block);
            if block.tip.height.is_multiple_of(7) {
                let mut coins = store.view().unwrap().ordered(1).unwrap();
                // Half of it is read now, half of it later.
                let first: Vec<_> = coins.by_ref().take(20).map(Result::unwrap).collect();
                views.push((block, store.view().unwrap(), first, coins));
            }
        }
        store.flush().unwrap();
        for (block, view, mut first, coins) in views {
            first.extend(coins.map(Result::unwrap));
            let set: Set = first.into_iter().collect();
            assert!(set == *block.set);
            assert_eq!((view.tip(), view.coins()), (Some(block.tip), set.len() as u64));
            assert_eq!(view.hash_serialized().unwrap(), hash_of(&set));
        }
    }
}

/// Readers see what a key had at some time, and never an error, while blocks go back and forth over flushes.
#[test]
fn readers_go_on_during_reorganisations() {
    let mut chain = Chain::new(31);
    let blocks: Vec<Made> = (0..24).map(|_| chain.grow()).collect();
    let mut ever: BTreeMap<OutPoint, HashSet<Option<Vec<u8>>>> = BTreeMap::new();
    let bytes = |coin: &Coin| {
        let mut bytes = Vec::new();
        coin.encode(&mut bytes);
        bytes
    };
    let names: Vec<OutPoint> = blocks
        .iter()
        .flat_map(|block| block.effect.created.iter().map(|(name, _)| *name))
        .collect();
    for set in std::iter::once(&Arc::default()).chain(blocks.iter().map(|block| &block.set)) {
        for name in &names {
            ever.entry(*name).or_default().insert(set.get(name).map(bytes));
        }
    }
    let mut store = CoinStore::open(DIR, options(memory(), Flush::Every(5))).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (reader, done) = (store.reader(), Arc::clone(&done));
            let (names, ever) = (names.clone(), ever.clone());
            std::thread::spawn(move || {
                let mut rounds = 0_u64;
                while !done.load(Ordering::Relaxed) || rounds == 0 {
                    for (name, coin) in names.iter().zip(reader.get_many(&names).unwrap()) {
                        let coin = coin.map(|coin| {
                            let mut bytes = Vec::new();
                            coin.encode(&mut bytes);
                            bytes
                        });
                        assert!(ever[name].contains(&coin), "{name}");
                    }
                    reader.prove(&names[0]).unwrap();
                    rounds += 1;
                }
            })
        })
        .collect();
    for _ in 0..6 {
        for block in &blocks[store.height().unwrap_or(0) as usize..] {
            connect(&mut store, block);
        }
        for height in (8..=24).rev() {
            store.disconnect(height).unwrap();
        }
        check(&store, Some(blocks[6].tip), &blocks[6].set, "back");
    }
    done.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

/// Coins that are created need not be looked up: then the flush sees what was wrong, nothing of it is durable, and a new opening stands
/// before the block.
#[test]
fn an_unchecked_coin_over_an_unspent_one_is_refused_by_the_flush() {
    for (undo_blocks, flush) in
        [(288, Flush::Every(2)), (0, Flush::Every(2)), (288, Flush::WhenFull)]
    {
        let disk = memory();
        let unchecked =
            options(Arc::clone(&disk), flush).undo_blocks(undo_blocks).check_created(false);
        let mut store = CoinStore::open(DIR, unchecked.clone()).unwrap();
        let first = wide(1, 300, None);
        store.connect(1, hash(1), &first).unwrap();
        store.connect(2, hash(2), &wide(2, 5, None)).unwrap();
        store.flush().unwrap();
        let root = store.root();
        // A cache that knows it refuses it at once.
        let again = |height, vout: usize| {
            let (name, coin) = first.created[vout].clone();
            let coin = Coin::new(height, false, coin.amount(), coin.script().clone()).unwrap();
            BlockEffect { created: vec![(name, coin)], ..wide(height, 0, None) }
        };
        store.get(&first.created[7].0).unwrap().unwrap();
        let refused = store.connect(3, hash(3), &again(3, 7)).unwrap_err();
        assert!(matches!(refused, CoinStoreError::Exists(name) if name == first.created[7].0));
        store.close().unwrap();
        // One that does not takes it.
        let mut store = CoinStore::open(DIR, unchecked.clone()).unwrap();
        store.connect(3, hash(3), &wide(3, 4, Some(2))).unwrap();
        store.connect(4, hash(4), &again(4, 9)).unwrap();
        let refused = store.flush().unwrap_err();
        let CoinStoreError::Flush(cause) = &refused else { panic!("{refused}") };
        assert!(matches!(**cause, CoinStoreError::Exists(name) if name == first.created[9].0));
        assert!(store.connect(5, hash(5), &wide(5, 1, None)).is_err());
        assert_eq!((store.durable(), store.root()), (Some(2), root));
        drop(store);
        for checked in [false, true] {
            let options = unchecked.clone().check_created(checked);
            let mut store = CoinStore::open(DIR, options).unwrap();
            let height = if undo_blocks == 0 { 2 } else { 3 };
            assert_eq!((store.height(), store.root()), (Some(height), root));
            assert_eq!(store.digest().unwrap().coins, 305);
            if checked {
                // It is looked up.
                let next = height + 1;
                let refused = store.connect(next, hash(next), &again(next, 9)).unwrap_err();
                assert!(
                    matches!(refused, CoinStoreError::Exists(name) if name == first.created[9].0)
                );
                assert_eq!((store.height(), store.digest().unwrap().coins), (Some(height), 305));
            }
            for height in height + 1..=4 {
                store.connect(height, hash(height), &wide(height, 1, None)).unwrap();
            }
            if undo_blocks == 0 {
                // The flush is there now.
                break;
            }
            store.disconnect(4).unwrap();
        }
    }
}

/// While the store below goes back nobody reads: what is cached and what is stored would be of two states.
#[test]
fn readers_wait_while_the_store_goes_back() {
    let disk = PowerLossDisk::new(32);
    let mut chain = Chain::new(32);
    let options = options(Arc::new(disk.clone()), Flush::Every(4));
    let mut store = CoinStore::open(DIR, options).unwrap();
    for _ in 0..8 {
        connect(&mut store, &chain.grow());
    }
    store.wait_durable(8).unwrap();
    let names: Vec<OutPoint> =
        chain.blocks.iter().flat_map(|block| &block.effect.created).map(|coin| coin.0).collect();
    let held = disk.hold(Calls::Of(VfsOp::Sync, "/store/".into()));
    let reader = store.reader();
    let (answers, answer) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let gone = scope.spawn(|| store.disconnect(8).unwrap());
        assert!(held.reached());
        let asking = names.clone();
        scope.spawn(move || answers.send(reader.get_many(&asking).unwrap()).unwrap());
        // It cannot answer, however long one waits.
        let early = answer.recv_timeout(std::time::Duration::from_millis(200));
        drop(held);
        gone.join().unwrap();
        assert!(early.is_err(), "an answer of two states");
        let set = chain.set_at(7);
        let expected: Vec<_> = names.iter().map(|name| set.get(name).cloned()).collect();
        assert_eq!(answer.recv().unwrap(), expected);
    });
}

/// O-B8: after a restart nothing is forgotten; and a MuHash that was not kept is made again.
#[test]
fn o_b8_a_new_store_over_old_files_knows_everything() {
    let mut chain = Chain::new(41);
    let disk = memory();
    let with = |flush, muhash| options(Arc::clone(&disk), flush).muhash(muhash);
    let mut store = CoinStore::open(DIR, with(Flush::Every(5), false)).unwrap();
    for _ in 0..13 {
        connect(&mut store, &chain.grow());
    }
    assert_eq!(store.digest().unwrap().muhash, None);
    store.close().unwrap();
    let mut store = CoinStore::open(DIR, with(Flush::Every(5), true)).unwrap();
    check(&store, chain.tip(), &chain.set_at(13), "made again");
    assert!(store.digest().unwrap().muhash.is_some());
    assert_eq!(store.flushed().unwrap().flush, Flush::Every(5));
    // Back to a flush that has none.
    for _ in 0..6 {
        store.disconnect(chain.height()).unwrap();
        chain.shrink(1);
    }
    check(&store, chain.tip(), &chain.set_at(7), "back");
    assert!(store.digest().unwrap().muhash.is_some());
    store.close().unwrap();
    // Flushed otherwise once, its roots are its own for good.
    let mut store = CoinStore::open(DIR, with(Flush::WhenFull, true)).unwrap();
    connect(&mut store, &chain.grow());
    store.flush().unwrap();
    check_proofs(&store, &chain.set_at(8), "own roots");
    store.close().unwrap();
    let mut store = CoinStore::open(DIR, with(Flush::Every(5), true)).unwrap();
    while chain.height() < 20 {
        connect(&mut store, &chain.grow());
    }
    store.flush().unwrap();
    assert_eq!(store.flushed().unwrap().flush, Flush::WhenFull);
    check(&store, chain.tip(), &chain.set_at(20), "at last");
}

/// The genesis block may be connected, and is not needed; it makes no flush.
#[test]
fn the_genesis_block_makes_no_difference() {
    let chain: Vec<_> = regtest::chain().take(4).collect();
    let mut roots = Vec::new();
    for genesis in [true, false] {
        let mut store = CoinStore::open(DIR, options(memory(), Flush::Every(2))).unwrap();
        if genesis {
            let done = store.connect(0, chain[0].header.prev_blockhash, &BlockEffect::default());
            assert_eq!(done.unwrap().tip.height, 0);
        }
        for (height, block) in (1..).zip(&chain) {
            store.connect_block(height, block).unwrap();
        }
        for height in [4, 3, 2, 1] {
            store.disconnect(height).unwrap();
        }
        let genesis = Tip { height: 0, block: chain[0].header.prev_blockhash };
        assert!(store.tip().is_none_or(|tip| tip == genesis));
        assert_eq!(store.digest().unwrap().muhash, Some(MuHash::new().digest()));
        for (height, block) in (1..).zip(&chain) {
            store.connect_block(height, block).unwrap();
        }
        store.flush().unwrap();
        roots.push(store.root());
        for height in [4, 3, 2, 1] {
            store.disconnect(height).unwrap();
        }
        if store.tip().is_some() {
            store.disconnect(0).unwrap();
        }
        assert!(matches!(store.disconnect(0), Err(CoinStoreError::NoBlock)));
        store.close().unwrap();
    }
    assert_eq!(roots[0], roots[1]);
}
