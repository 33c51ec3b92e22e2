//! Chains of made-up blocks with the sets that they lead to: what a store of coins must agree with.
#![allow(dead_code, reason = "every test uses its own part")]

use hedgerow::Options;
use hedgerow::disk::Vfs;
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    BlockEffect, Coin, CoinOptions, CoinStore, Flush, MuHash, SerializedHash, SetDigest, Tip,
    key_of, write_element,
};
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type Set = BTreeMap<OutPoint, Coin>;

/// A block, with the set after it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) tip: Tip,
    pub(crate) effect: BlockEffect,
    pub(crate) set: Arc<Set>,
}

/// A chain that grows, and forks. Blocks that were made stay known.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) rng: SplitMix64,
    /// From height 1.
    pub(crate) blocks: Vec<Made>,
    number: u64,
}

impl Chain {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: SplitMix64::new(seed), blocks: Vec::new(), number: 0 }
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.rng.below(n)
    }

    pub(crate) fn height(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// The set after the block of a height.
    pub(crate) fn set_at(&self, height: u32) -> Arc<Set> {
        let block = height.checked_sub(1).map(|at| &self.blocks[at as usize]);
        block.map_or_else(Arc::default, |block| Arc::clone(&block.set))
    }

    pub(crate) fn tip(&self) -> Option<Tip> {
        self.blocks.last().map(|block| block.tip)
    }

    /// Makes the next block, of a few coins, some of which have the names of coins that were spent.
    pub(crate) fn grow(&mut self) -> Made {
        self.number += 1;
        let height = self.height() + 1;
        let mut set = Set::clone(&self.set_at(height - 1));
        let mut effect = BlockEffect::default();
        for _ in 0..self.below(6) {
            if set.is_empty() {
                break;
            }
            // The youngest go first.
            let at = set.len() - 1 - (self.below(set.len() as u64) / 2) as usize;
            let name = *set.keys().nth(at).unwrap();
            set.remove(&name);
            effect.spent.push(name);
        }
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.number.to_le_bytes());
        id[8..16].copy_from_slice(&self.rng.next_u64().to_le_bytes());
        let block = BlockHash::from_byte_array(id);
        for vout in 0..self.below(8) as u32 {
            // Few transaction ids, so that names come again.
            let txid = Txid::from_byte_array([(self.below(40)) as u8; 32]);
            let name = OutPoint { txid, vout };
            let script = vec![0x51; self.below(60) as usize];
            let amount = Amount::from_sat(self.below(1_000_000));
            let coin = Coin::new(height, vout == 0, amount, ScriptBuf::from_bytes(script)).unwrap();
            if !set.contains_key(&name) && !effect.spent.contains(&name) {
                set.insert(name, coin.clone());
                effect.created.push((name, coin));
            }
        }
        let made = Made { tip: Tip { height, block }, effect, set: Arc::new(set) };
        self.blocks.push(made.clone());
        made
    }

    pub(crate) fn shrink(&mut self, depth: u32) {
        self.blocks.truncate((self.height() - depth) as usize);
    }
}

pub(crate) fn muhash_of(set: &Set) -> SetDigest {
    let coins: Vec<_> = set.iter().collect();
    let product = MuHash::net(&coins, &[], |(name, coin), out| write_element(name, coin, out));
    product.digest()
}

pub(crate) fn hash_of(set: &Set) -> SetDigest {
    let mut hash = SerializedHash::new();
    for (name, coin) in set {
        hash.push(name, coin).unwrap();
    }
    hash.digest()
}

/// Options of a small store.
pub(crate) fn options(disk: Arc<dyn Vfs>, flush: Flush) -> CoinOptions {
    let store = Options::new().segment_bytes(64 << 10).checkpoint_bytes(0).threads(1);
    CoinOptions::new().cache_bytes(1 << 20).flush(flush).disk(disk).store(store)
}

pub(crate) fn connect(store: &mut CoinStore, block: &Made) {
    let done = store.connect(block.tip.height, block.tip.block, &block.effect).unwrap();
    assert_eq!(done.created as usize, block.effect.created.len());
}

/// The store is what the set says, in every way in which it can be asked.
pub(crate) fn check(store: &CoinStore, tip: Option<Tip>, set: &Set, context: &str) {
    assert_eq!(store.tip(), tip, "{context}");
    let digest = store.digest().unwrap();
    assert_eq!((digest.tip, digest.coins), (tip, set.len() as u64), "{context}");
    let total: Amount = set.values().map(Coin::amount).sum();
    assert_eq!(digest.total_amount, total, "{context}");
    if let Some(muhash) = digest.muhash {
        assert_eq!(muhash, muhash_of(set), "{context}");
    }
    let view = store.view().unwrap();
    let coins: Set = view.ordered(1).unwrap().map(Result::unwrap).collect();
    assert!(coins == *set, "{context}");
    assert_eq!(view.hash_serialized().unwrap(), hash_of(set), "{context}");
    let names: Vec<OutPoint> = (0..40)
        .flat_map(|id| (0..8).map(move |vout| (id, vout)))
        .map(|(id, vout)| OutPoint { txid: Txid::from_byte_array([id; 32]), vout })
        .collect();
    let found = store.get_many(&names).unwrap();
    for (name, found) in names.iter().zip(found) {
        assert_eq!(found.as_ref(), set.get(name), "{context}: {name}");
    }
    for name in names.iter().step_by(7) {
        assert_eq!(store.get(name).unwrap().as_ref(), set.get(name), "{context}: {name}");
        assert_eq!(view.get(name).unwrap().as_ref(), set.get(name), "{context}: {name}");
    }
}

/// What the last flush proves is what the set of its height says. All closed flushes are durable.
pub(crate) fn check_proofs(store: &CoinStore, set: &Set, context: &str) {
    let (_, root) = store.root();
    for id in (0..40).step_by(5) {
        let name = OutPoint { txid: Txid::from_byte_array([id; 32]), vout: u32::from(id % 8) };
        let proven = store.prove(&name).unwrap();
        assert_eq!(proven.root, root, "{context}");
        let value = hedgerow::verify(&root, &key_of(&name), &proven.proof).unwrap();
        let coin = value.map(|bytes| Coin::decode(bytes).unwrap());
        assert_eq!(coin.as_ref(), set.get(&name), "{context}: {name}");
    }
}
