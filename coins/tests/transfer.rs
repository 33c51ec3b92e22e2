//! Snapshots out of a store of coins and into one: the same bytes as Bitcoin Core's, the same set, the same root; and of
//! what ends badly nothing is left that is taken for a set.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod chains;

use chains::{Chain, Set, check, connect};
use hedgerow::disk::{MemDisk, Vfs};
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::hex::DisplayHex;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    BlockEffect, Coin, CoinOptions, CoinStore, CoinStoreError, Flush, SetDigest, SnapshotDefect,
    SnapshotError, SnapshotHeader, SnapshotImport, SnapshotReader, SnapshotWriter, TransferError,
    TransferProgress, regtest,
};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/coins";
const COPY: &str = "/some/copy";

fn memory() -> Arc<dyn Vfs> {
    Arc::new(MemDisk::new())
}

/// With a cache that holds all that a test makes.
fn roomy(disk: Arc<dyn Vfs>, flush: Flush) -> CoinOptions {
    chains::options(disk, flush).cache_bytes(16 << 20)
}

fn open(disk: &Arc<dyn Vfs>, flush: Flush) -> CoinStore {
    CoinStore::open(DIR, roomy(Arc::clone(disk), flush).network(Magic::REGTEST)).unwrap()
}

fn exported(store: &CoinStore) -> Vec<u8> {
    store.view().unwrap().export(Vec::new(), Magic::REGTEST).unwrap().0
}

/// Imports what has this hash.
fn import(disk: &Arc<dyn Vfs>, file: &[u8], hash: SetDigest) -> Result<CoinStore, TransferError> {
    let options = roomy(Arc::clone(disk), Flush::WhenFull);
    SnapshotImport::new().hash_serialized(hash).run(COPY, options, SnapshotReader::new(file)?)
}

#[test]
fn the_published_snapshot_out_and_in() {
    let disk = memory();
    let mut store = open(&disk, Flush::WhenFull);
    let mut blocks = (1..).zip(regtest::chain());
    for (height, block) in blocks.by_ref().take(100) {
        store.connect_block(height, &block).unwrap();
    }
    // Bitcoin Core 31.99, test/functional/rpc_dumptxoutset.py: before and after the flush.
    let file = exported(&store);
    assert_eq!(store.durable(), None);
    store.flush().unwrap();
    assert_eq!(exported(&store), file);
    let sha256 = "e8c59b1bc1f19061c67eb7a392f4ea17eea83af58646ea2909e270546699c36c";
    assert_eq!((file.len(), Sha256::digest(&file).as_hex().to_string().as_str()), (5_788, sha256));

    let hash: SetDigest =
        "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d".parse().unwrap();
    let mut copy = import(&disk, &file, hash).unwrap();
    assert_eq!(copy.root(), store.root());
    assert_eq!(
        (copy.digest().unwrap(), copy.network()),
        (store.digest().unwrap(), store.network())
    );
    assert_eq!((copy.hash_serialized().unwrap(), copy.durable()), (hash, Some(100)));
    assert_eq!(exported(&copy), file);
    // What the snapshot does not tell cannot be undone.
    let refused = copy.disconnect(100).unwrap_err();
    assert!(matches!(refused, CoinStoreError::TooDeep { height: 100 }), "{refused}");

    // From here on they are the same store: also when they go back to where the copy began.
    for (height, block) in blocks.take(30) {
        for store in [&mut store, &mut copy] {
            store.connect_block(height, &block).unwrap();
            if height % 7 == 0 {
                store.flush().unwrap();
            }
        }
        assert_eq!(store.root(), copy.root());
    }
    for height in (101..=130).rev() {
        store.disconnect(height).unwrap();
        copy.disconnect(height).unwrap();
        assert_eq!(store.root(), copy.root(), "{height}");
    }
    assert_eq!(store.digest().unwrap(), copy.digest().unwrap());
    let refused = copy.disconnect(100).unwrap_err();
    assert!(matches!(refused, CoinStoreError::TooDeep { height: 100 }), "{refused}");
    copy.close().unwrap();
    let copy = CoinStore::open(COPY, roomy(disk, Flush::WhenFull)).unwrap();
    assert_eq!((copy.digest().unwrap(), copy.root()), (store.digest().unwrap(), store.root()));
}

/// A block of so many coins, several of a transaction.
fn many(seed: u64, coins: u64) -> (BlockHash, BlockEffect) {
    let mut rng = SplitMix64::new(seed);
    let mut effect = BlockEffect::default();
    let mut txid = [0; 32];
    for number in 0..coins {
        if number == 0 || rng.below(3) == 0 {
            txid = std::array::from_fn(|_| rng.next_u64() as u8);
        }
        let outpoint = OutPoint { txid: Txid::from_byte_array(txid), vout: number as u32 };
        let script = ScriptBuf::from_bytes(vec![0x51; rng.below(90) as usize]);
        let coin = Coin::new(1, false, Amount::from_sat(rng.below(1 << 36)), script).unwrap();
        effect.created.push((outpoint, coin));
    }
    (BlockHash::from_byte_array([7; 32]), effect)
}

/// More coins than the memory for their order holds, in blocks of the store as a flush makes them.
#[test]
fn sets_that_do_not_fit_into_memory() {
    for (seed, coins, flush) in [(1, 9_000, Flush::WhenFull), (2, 4_096, Flush::Every(1))] {
        let disk = memory();
        let mut store = open(&disk, flush);
        let (block, effect) = many(seed, coins);
        store.connect(1, block, &effect).unwrap();
        store.flush().unwrap();
        let hash = store.hash_serialized().unwrap();
        let file = exported(&store);
        let mut reports = Vec::new();
        let copy = SnapshotImport::new()
            .muhash(store.digest().unwrap().muhash.unwrap())
            .memory_bytes(0)
            .run_with(
                COPY,
                roomy(Arc::clone(&disk), flush),
                SnapshotReader::new(&file[..]).unwrap(),
                |progress| {
                    reports.push(progress);
                    ControlFlow::Continue(())
                },
            )
            .unwrap();
        assert_eq!(copy.root(), store.root(), "seed {seed}");
        assert_eq!(copy.digest().unwrap(), store.digest().unwrap(), "seed {seed}");
        assert_eq!(copy.hash_serialized().unwrap(), hash, "seed {seed}");
        let percent: Vec<u64> = reports.iter().map(TransferProgress::percent).collect();
        assert!(percent.is_sorted() && percent.len() >= 2, "{percent:?}");

        // With less memory there are several blocks, of which the last one says what the set is.
        let small = chains::options(Arc::clone(&disk), flush);
        let reader = SnapshotReader::new(&file[..]).unwrap();
        let mut copy = SnapshotImport::new()
            .hash_serialized(hash)
            .run("/small", small.clone(), reader)
            .unwrap();
        assert!(copy.root().0.0 > if coins > 8_000 { 1 } else { 0 }, "{:?}", copy.root());
        for _ in 0..2 {
            assert_eq!(copy.digest().unwrap(), store.digest().unwrap(), "seed {seed}");
            let (name, coin) = &effect.created[7];
            assert_eq!(copy.get(name).unwrap().as_ref(), Some(coin));
            let next = BlockHash::from_byte_array([8; 32]);
            let spend = BlockEffect { spent: vec![*name], ..BlockEffect::default() };
            copy.connect(2, next, &spend).unwrap();
            copy.flush().unwrap();
            assert_eq!(copy.get(name).unwrap(), None);
            copy.disconnect(2).unwrap();
            let refused = copy.disconnect(1).unwrap_err();
            assert!(matches!(refused, CoinStoreError::TooDeep { height: 1 }), "{refused}");
            copy.close().unwrap();
            copy = CoinStore::open("/small", small.clone()).unwrap();
        }
    }
}

/// Of random chains, while blocks go on, from any height.
#[test]
fn a_view_is_exported_while_blocks_go_on() {
    for seed in 0..20 {
        let disk = memory();
        let flush = if seed % 2 == 0 { Flush::Every(3) } else { Flush::WhenFull };
        let mut store = open(&disk, flush);
        let mut chain = Chain::new(seed);
        for _ in 0..1 + chain.below(20) {
            connect(&mut store, &chain.grow());
        }
        let (tip, set) = (chain.tip().unwrap(), chain.set_at(chain.height()));
        let view = store.view().unwrap();
        for _ in 0..chain.below(10) {
            connect(&mut store, &chain.grow());
            store.flush().unwrap();
        }
        let (file, hash) = view.export(Vec::new(), Magic::REGTEST).unwrap();
        assert_eq!(file, snapshot_of(tip.block, &set), "seed {seed}");
        assert_eq!(hash, view.hash_serialized().unwrap());
        let options = roomy(Arc::clone(&disk), flush);
        let reader = SnapshotReader::new(&file[..]).unwrap();
        let import = SnapshotImport::new().height(tip.height).hash_serialized(hash);
        let mut copy = import.run(COPY, options, reader).unwrap();
        check(&copy, Some(tip), &set, &format!("seed {seed}"));
        for made in &chain.blocks[tip.height as usize..] {
            connect(&mut copy, made);
        }
        let last = chain.blocks.last().unwrap();
        check(&copy, Some(last.tip), &last.set, &format!("seed {seed}, and on"));
    }
}

fn snapshot_of(block: BlockHash, set: &Set) -> Vec<u8> {
    let header = SnapshotHeader { network: Magic::REGTEST, block, coins: set.len() as u64 };
    let mut writer = SnapshotWriter::new(Vec::new(), header).unwrap();
    for (outpoint, coin) in set {
        writer.push(outpoint, coin).unwrap();
    }
    writer.finish().unwrap()
}

/// A store of many coins, their snapshot, and its hash.
fn made(coins: u64) -> (CoinStore, Vec<u8>, SetDigest) {
    let mut store = open(&memory(), Flush::WhenFull);
    let (block, effect) = many(3, coins);
    store.connect(1, block, &effect).unwrap();
    store.flush().unwrap();
    let (file, hash) = (exported(&store), store.hash_serialized().unwrap());
    (store, file, hash)
}

#[test]
fn what_ends_badly_leaves_nothing() {
    let (store, file, hash) = made(5_000);
    let SetDigest(mut bytes) = hash;
    bytes[9] ^= 1;
    let other = SetDigest(bytes);
    for empty in [false, true] {
        let disk = memory();
        if empty {
            disk.create_dir_all(Path::new(COPY)).unwrap();
        }
        let nothing = |context: &str| {
            assert_eq!(disk.exists(Path::new(COPY)).unwrap(), empty, "{context}");
            if empty {
                assert!(disk.read_dir(Path::new(COPY)).unwrap().is_empty(), "{context}");
            }
        };
        let refused = import(&disk, &file, other).unwrap_err();
        assert!(
            matches!(refused, TransferError::Differs { found, expected, what: "hash_serialized_3" }
                if found == hash && expected == other),
            "{refused}"
        );
        nothing("another hash");
        for cut in [SNAPSHOT_HEADER, 60, 5_000, file.len() - 1] {
            let refused = import(&disk, &file[..cut], hash).unwrap_err();
            assert!(matches!(refused, TransferError::Snapshot(_)), "{cut}: {refused}");
            nothing(&format!("cut at {cut}"));
        }
        // Ended by whoever is told how far it is: while it is read, while it is written.
        for last in [0, 1] {
            let mut reports = 0;
            let ended = SnapshotImport::new().hash_serialized(hash).run_with(
                COPY,
                roomy(Arc::clone(&disk), Flush::WhenFull),
                SnapshotReader::new(&file[..]).unwrap(),
                |_| {
                    reports += 1;
                    if reports > last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            );
            assert!(matches!(ended, Err(TransferError::Stopped)));
            assert_eq!(reports, last + 1);
            nothing(&format!("ended at report {last}"));
        }
        let with = |import: SnapshotImport, file: &[u8]| {
            let options = roomy(Arc::clone(&disk), Flush::WhenFull);
            import.run(COPY, options, SnapshotReader::new(file).unwrap()).unwrap_err()
        };
        let refused = with(SnapshotImport::new().hash_serialized(hash).muhash(hash), &file);
        assert!(matches!(refused, TransferError::Differs { what: "muhash", .. }), "{refused}");
        let refused = with(SnapshotImport::new().hash_serialized(hash).height(0), &file);
        let low = |error: &TransferError| {
            matches!(error, TransferError::Snapshot(SnapshotError::Format { what, .. })
                if *what == SnapshotDefect::Height(1))
        };
        assert!(low(&refused), "{refused}");
        let refused = with(SnapshotImport::new(), &file);
        let option = |error: &TransferError| {
            matches!(error, TransferError::Store(CoinStoreError::Option { .. }))
        };
        assert!(option(&refused), "{refused}");
        let none = snapshot_of(BlockHash::from_byte_array([7; 32]), &Set::new());
        let refused = with(SnapshotImport::new().hash_serialized(hash), &none);
        assert!(matches!(refused, TransferError::NoHeight), "{refused}");
        nothing("refused");

        let options = roomy(Arc::clone(&disk), Flush::WhenFull).network(Magic::BITCOIN);
        let reader = SnapshotReader::new(&file[..]).unwrap();
        let refused = SnapshotImport::new().hash_serialized(hash).run(COPY, options, reader);
        assert!(matches!(refused, Err(TransferError::Store(CoinStoreError::Network { .. }))));
        nothing("another network");

        let copy = import(&disk, &file, hash).unwrap();
        assert_eq!((copy.root(), copy.digest().unwrap()), (store.root(), store.digest().unwrap()));
        copy.close().unwrap();
        let refused = import(&disk, &file, hash).unwrap_err();
        let full = |error: &TransferError| {
            matches!(
                error,
                TransferError::Store(CoinStoreError::Store(hedgerow::Error::NotEmpty(_)))
            )
        };
        assert!(full(&refused), "{refused}");
        let options = roomy(Arc::clone(&disk), Flush::WhenFull);
        let copy = CoinStore::open(COPY, options).unwrap();
        assert_eq!(copy.digest().unwrap(), store.digest().unwrap());
    }
}

const SNAPSHOT_HEADER: usize = hedgerow_coins::SNAPSHOT_HEADER_LEN;

/// A set without coins, whose height somebody knows.
#[test]
fn a_set_without_coins() {
    let disk = memory();
    let file = snapshot_of(BlockHash::from_byte_array([7; 32]), &Set::new());
    let nothing = hedgerow_coins::SerializedHash::new().digest();
    let import = SnapshotImport::new().hash_serialized(nothing).height(9);
    let options = roomy(Arc::clone(&disk), Flush::WhenFull);
    let reader = SnapshotReader::new(&file[..]).unwrap();
    let copy = import.run(COPY, options, reader).unwrap();
    assert_eq!((copy.height(), copy.digest().unwrap().coins), (Some(9), 0));
    assert_eq!(copy.hash_serialized().unwrap(), nothing);
}

/// What an interrupted import left: no set, an empty one, or all of it. Says whether it was all.
fn judge(disk: &Arc<dyn Vfs>, whole: &CoinStore, context: &str) -> bool {
    match CoinStore::open(COPY, roomy(Arc::clone(disk), Flush::WhenFull)) {
        Ok(left) if left.tip().is_none() => {
            assert_eq!(left.digest().unwrap().coins, 0, "{context}");
            false
        }
        Ok(left) => {
            assert_eq!(left.digest().unwrap(), whole.digest().unwrap(), "{context}");
            assert_eq!(left.root(), whole.root(), "{context}");
            true
        }
        Err(CoinStoreError::Store(
            hedgerow::Error::UnfinishedCopy(_) | hedgerow::Error::Unfinished(_),
        )) => false,
        Err(error) => panic!("{context}: {error}"),
    }
}

#[test]
fn whatever_interrupts_an_import_leaves_no_other_set() {
    let (whole, file, hash) = made(1_500);
    for kind in [FaultKind::PowerOff, FaultKind::Eio, FaultKind::Full] {
        let mut calls = 0;
        for after in (0..).step_by(3) {
            let context = format!("{kind:?} at call {after}");
            let failing = PowerLossDisk::new(after);
            failing.plan(Fault::once(Calls::Changes, after, kind));
            let disk: Arc<dyn Vfs> = Arc::new(failing.clone());
            let options = roomy(Arc::clone(&disk), Flush::WhenFull);
            let import_here = SnapshotImport::new().hash_serialized(hash).memory_bytes(0);
            let ran = import_here.run(COPY, options, SnapshotReader::new(&file[..]).unwrap());
            let failed = ran.is_err();
            drop(ran);
            if failing.trace().failed.is_empty() {
                assert!(!failed, "{context}");
                calls = after;
                break;
            }
            if kind != FaultKind::PowerOff && failed && !disk.exists(Path::new(COPY)).unwrap() {
                continue;
            }
            let cycled = |seed| -> Arc<dyn Vfs> { Arc::new(failing.power_cycle(seed)) };
            judge(&cycled(after), &whole, &context);
            // And once more, unless it is all there.
            let disk = cycled(after);
            match import(&disk, &file, hash) {
                Ok(copy) => assert_eq!(copy.root(), whole.root(), "{context}"),
                Err(_) => assert!(judge(&disk, &whole, &context), "{context}"),
            }
        }
        assert!(calls > 30, "{kind:?}: {calls}");
    }
}
