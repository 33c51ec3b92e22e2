//! The store of coins against a map: random blocks, reorganisations, reopening, in both ways of flushing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod chains;
mod common;

use chains::{Chain, Made, check, check_proofs, connect, options};
use hedgerow::disk::{MemDisk, Vfs};
use hedgerow_coins::bitcoin::blockdata::constants::genesis_block;
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    BlockEffect, BlockFiles, Coin, CoinOptions, CoinStore, CoinStoreError, EffectError, Flush,
    SnapshotHeader, SnapshotWriter, regtest,
};
use hedgerow_testkit::generate::SeedNote;
use std::sync::Arc;

const DIR: &str = "/coins";

fn disk() -> Arc<dyn Vfs> {
    Arc::new(MemDisk::new())
}

fn open(options: &CoinOptions) -> CoinStore {
    CoinStore::open(DIR, options.clone()).unwrap()
}

/// A store that connected the chain as it is, and never anything else.
fn straight(blocks: &[Made], flush: Flush) -> CoinStore {
    let mut store = open(&options(disk(), flush));
    for block in blocks {
        connect(&mut store, block);
    }
    store.flush().unwrap();
    store
}

/// Random blocks, reorganisations of up to 20 blocks and reopenings. Returns how often a reorganisation went below a flush.
fn run(seed: u64, flush: Flush, steps: u32) -> u32 {
    let _note = SeedNote::new(seed);
    let mut chain = Chain::new(seed);
    let options = options(disk(), flush).undo_blocks(20);
    let mut store = open(&options);
    let (mut below, mut highest) = (0, 0);
    for step in 0..steps {
        highest = chain.height().max(highest);
        // As deep as the highest tip that there was permits.
        let deepest = chain.height().min((chain.height() + 20).saturating_sub(highest));
        let context = format!("seed {seed}, {flush:?}, step {step}");
        match chain.below(20) {
            0 if deepest > 0 => {
                let depth = 1 + chain.below(u64::from(deepest)) as u32;
                let before = store.root();
                for _ in 0..depth {
                    let height = chain.height();
                    let block = chain.blocks[height as usize - 1].clone();
                    let record = store.disconnect(height).unwrap();
                    assert_eq!((record.tip, record.created), (block.tip, block.effect.created));
                    let spent: Vec<_> = record.spent.iter().map(|(name, _)| *name).collect();
                    assert_eq!(spent, block.effect.spent);
                    chain.shrink(1);
                    assert_eq!(store.tip(), chain.tip(), "{context}");
                    if chain.below(8) == 0 {
                        check(&store, chain.tip(), &chain.set_at(chain.height()), &context);
                    }
                }
                below += u32::from(store.root() != before);
            }
            1 => {
                if chain.below(2) == 0 {
                    store.close().unwrap()
                } else {
                    drop(store)
                }
                store = open(&options);
                assert_eq!(store.tip(), chain.tip(), "{context}");
            }
            2 => {
                let durable = store.flush().unwrap();
                let expected = match flush {
                    Flush::WhenFull => Some(chain.height()).filter(|height| *height > 0),
                    Flush::Every(n) => Some(chain.height() / n * n).filter(|height| *height > 0),
                };
                assert_eq!(durable, expected, "{context}");
                check_proofs(&store, &chain.set_at(durable.unwrap_or(0)), &context);
            }
            3 => check(&store, chain.tip(), &chain.set_at(chain.height()), &context),
            _ => {
                let block = chain.grow();
                connect(&mut store, &block);
            }
        }
    }
    let context = format!("seed {seed}, {flush:?}");
    store.flush().unwrap();
    check(&store, chain.tip(), &chain.set_at(chain.height()), &context);
    let other = straight(&chain.blocks, flush);
    check(&other, chain.tip(), &chain.set_at(chain.height()), &context);
    if flush != Flush::WhenFull {
        assert_eq!(store.root(), other.root(), "{context}");
    }
    store.close().unwrap();
    assert_eq!(open(&options).tip(), chain.tip());
    below
}

#[test]
fn random_reorganisations_leave_no_trace() {
    let mut below = 0;
    for seed in 0..2 {
        for flush in [Flush::Every(1), Flush::Every(7), Flush::Every(30), Flush::WhenFull] {
            below += run(seed, flush, 120);
        }
    }
    assert!(below > 10, "{below}");
}

/// S1 of a reorganisation within a flush period: a coin that was spent and restored is not written again.
#[test]
fn a_coin_that_was_spent_and_restored_is_not_written_again() {
    let mut chain = Chain::new(5);
    let mut store = open(&options(disk(), Flush::Every(10)));
    for _ in 0..10 {
        connect(&mut store, &chain.grow());
    }
    store.flush().unwrap();
    for _ in 0..20 {
        // A fork that is given up, which spends whatever there is.
        for _ in 0..5 {
            connect(&mut store, &chain.grow());
        }
        for height in (11..=15).rev() {
            store.disconnect(height).unwrap();
        }
        chain.shrink(5);
    }
    // Blocks that do nothing: the flush after them writes what it does of a store that had no fork.
    let mut other = straight(&chain.blocks, Flush::Every(10));
    let mut written = Vec::new();
    for store in [&mut store, &mut other] {
        let before = store.stats().store.log.bytes;
        for height in 11..=20 {
            let block = BlockHash::from_byte_array([height as u8; 32]);
            store.connect(height, block, &BlockEffect::default()).unwrap();
        }
        store.flush().unwrap();
        written.push(store.stats().store.log.bytes - before);
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(store.root(), other.root());
    assert_eq!(store.digest().unwrap().muhash, Some(chains::muhash_of(&chain.set_at(10))));
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut chain = Chain::new(3);
    let mut store = open(&options(disk(), Flush::Every(100)));
    for _ in 0..30 {
        connect(&mut store, &chain.grow());
    }
    let set = chain.set_at(30);
    let block = BlockHash::from_byte_array([9; 32]);
    let (there, other) = {
        let mut names = set.keys();
        (*names.next().unwrap(), *names.next().unwrap())
    };
    let missing = OutPoint { txid: Txid::from_byte_array([99; 32]), vout: 7 };
    let coin = |height| Coin::new(height, false, Amount::ONE_SAT, ScriptBuf::new()).unwrap();
    let rich = Coin::new(31, false, Amount::MAX_MONEY, ScriptBuf::new()).unwrap();
    let new = |name: OutPoint, last: Coin| BlockEffect {
        spent: vec![other],
        created: vec![(OutPoint { vout: 1, ..missing }, coin(31)), (name, last)],
        passing: 0,
    };
    let spends = |spent| BlockEffect { spent, ..BlockEffect::default() };
    let mut refuse = |height, effect: &BlockEffect| {
        let refused = store.connect(height, block, effect).unwrap_err();
        assert!(!refused.is_latched() && !refused.is_damage());
        check(&store, chain.tip(), &set, &refused.to_string());
        refused
    };
    use CoinStoreError as Refused;
    let error = refuse(31, &spends(vec![there, missing]));
    assert!(matches!(error, Refused::Missing(name) if name == missing));
    let error = refuse(31, &spends(vec![there, other, there]));
    assert!(matches!(error, Refused::Effect(EffectError::SpentTwice(name)) if name == there));
    let error = refuse(31, &new(there, coin(31)));
    assert!(matches!(error, Refused::Exists(name) if name == there));
    let twice = OutPoint { vout: 1, ..missing };
    let error = refuse(31, &new(twice, coin(31)));
    assert!(matches!(error, Refused::Effect(EffectError::CreatedTwice(name)) if name == twice));
    let error = refuse(31, &new(missing, coin(30)));
    assert!(matches!(error, Refused::CoinHeight { given: 30, .. }));
    let error = refuse(31, &new(missing, rich));
    assert!(matches!(error, Refused::TotalAmount(_)));
    for height in [0, 29, 30, 32] {
        let error = refuse(height, &BlockEffect::default());
        assert!(matches!(error, Refused::Height { expected: 31, given } if given == height));
    }
    let error = store.disconnect(29).unwrap_err();
    assert!(matches!(error, Refused::Height { expected: 30, given: 29 }));
    assert!(matches!(store.wait_durable(30), Err(Refused::NotClosed { height: 30 })));
    assert!(matches!(store.record(31), Err(Refused::NoRecord { height: 31 })));
    let stray = regtest::chain().next().unwrap();
    let error = store.connect_block(31, &stray).unwrap_err();
    assert!(matches!(error, Refused::Parent { height: 31, .. }));
    check(&store, chain.tip(), &set, "at last");
}

/// BIP 30: a coin over an unspent one, which is lost; and back.
#[test]
fn an_overwritten_coin_is_lost_and_comes_back() {
    for flush in [Flush::Every(2), Flush::Every(100), Flush::WhenFull] {
        let options = options(disk(), flush).may_overwrite(|height, _| height == 3);
        let mut store = open(&options);
        let name = OutPoint { txid: Txid::from_byte_array([1; 32]), vout: 0 };
        let block = |height: u32| BlockHash::from_byte_array([height as u8; 32]);
        let coin = |height: u32| {
            let amount = Amount::from_sat(u64::from(height));
            Coin::new(height, true, amount, ScriptBuf::new()).unwrap()
        };
        let make = |height: u32| BlockEffect {
            created: vec![(name, coin(height))],
            ..BlockEffect::default()
        };
        let set = |height: u32| [(name, coin(height))].into_iter().collect();
        let tip = |height: u32| Some(hedgerow_coins::Tip { height, block: block(height) });
        store.connect(1, block(1), &make(1)).unwrap();
        assert!(matches!(store.connect(2, block(2), &make(2)), Err(CoinStoreError::Exists(_))));
        store.connect(2, block(2), &BlockEffect::default()).unwrap();
        let done = store.connect(3, block(3), &make(3)).unwrap();
        assert_eq!((done.spent, done.overwritten, done.created), (0, 1, 1));
        check(&store, tip(3), &set(3), "overwritten");
        store.flush().unwrap();
        check(&store, tip(3), &set(3), "flushed");
        let record = store.disconnect(3).unwrap();
        assert_eq!(record.spent, [(name, coin(1))]);
        check(&store, tip(2), &set(1), "back");
        store.connect(3, block(3), &make(3)).unwrap();
        drop(store);
        check(&open(&options), tip(3), &set(3), "opened again");
    }
}

/// The chain whose digests Bitcoin Core has published.
#[test]
fn the_published_digests_of_regtest() {
    for flush in [Flush::Every(100), Flush::Every(33), Flush::WhenFull] {
        let mut store = open(&options(disk(), flush));
        for (height, block) in (1..).zip(regtest::chain().take(100)) {
            store.connect_block(height, &block).unwrap();
        }
        let digest = store.digest().unwrap();
        let tip = digest.tip.unwrap();
        let expected = "220aee93f0f5409631f35488898258f0930952bd620063cb4d7d87f7c28a8f50";
        assert_eq!(tip.block.to_string(), expected);
        let expected = "e3edb1ec3a51c50591e501fb0cedbd23accd3cfbe4dd057877a46760c20bcab1";
        assert_eq!(digest.muhash.unwrap().to_string(), expected);
        let view = store.view().unwrap();
        let expected = "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d";
        assert_eq!(view.hash_serialized().unwrap().to_string(), expected);
        let network = hedgerow_coins::bitcoin::p2p::Magic::REGTEST;
        let header = SnapshotHeader { network, block: tip.block, coins: view.coins() };
        let mut snapshot = SnapshotWriter::new(Vec::new(), header).unwrap();
        for coin in view.ordered(1 << 20).unwrap() {
            let (name, coin) = coin.unwrap();
            snapshot.push(&name, &coin).unwrap();
        }
        let bytes = snapshot.finish().unwrap();
        let hash = hedgerow_coins::bitcoin::hashes::sha256::Hash::hash(&bytes);
        let expected = "e8c59b1bc1f19061c67eb7a392f4ea17eea83af58646ea2909e270546699c36c";
        assert_eq!((bytes.len(), hash.to_string().as_str()), (5_788, expected));
    }
}

#[test]
fn the_digests_of_real_blocks() {
    /// Height, coins, MuHash, serialized hash.
    type Row = (u32, u64, &'static str, &'static str);
    let files: [(&str, &[Row]); 2] = [
        (
            "blocks1-256.bz2",
            &[
                (
                    170,
                    171,
                    "b497ee695f714fb45632085fda981c5828816d0e181d55be45227654db948e30",
                    "7105b60f83d299f471759ec2c7900a2f15b61573b94dea3c94060e925fcf1417",
                ),
                (
                    255,
                    260,
                    "60e29020ee287387a5b311fa9d665e232d41fb14f6243342cf1bdd967cc82117",
                    "507108bd18e2319f0a7102cfa1c7ffea10c9b1a47ff061d8098bc51a92e40241",
                ),
            ],
        ),
        (
            "regtest206.txt",
            &[(
                206,
                230,
                "99fe6181ed22d50f27486264ed5d1f538c9343042db64a088248bcc9912a869a",
                "6f596a9fb79023e72ac6c2423e9dff4991f49994c0a55d1a2124ce03a98e9d74",
            )],
        ),
    ];
    for (name, expected) in files {
        let Some(path) = common::real(name) else { continue };
        for flush in [Flush::Every(50), Flush::WhenFull] {
            let mut store = open(&options(disk(), flush));
            let files = BlockFiles::open([&path]).unwrap();
            let genesis = genesis_block(files.network().unwrap()).block_hash();
            let mut blocks = (1..).zip(files.chain_after(genesis));
            for (height, coins, muhash, serialized) in expected {
                let wanted = *height - store.height().unwrap_or(0);
                for (height, block) in blocks.by_ref().take(wanted as usize) {
                    store.connect_block(height, &block.unwrap()).unwrap();
                }
                let digest = store.digest().unwrap();
                assert_eq!((store.height(), digest.coins), (Some(*height), *coins));
                assert_eq!(digest.muhash.unwrap().to_string(), *muhash);
                assert_eq!(store.hash_serialized().unwrap().to_string(), *serialized);
            }
        }
    }
}
