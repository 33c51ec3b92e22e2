//! A chain of blocks that follows from rules: for tests, demonstrations, and to compare with Bitcoin Core.
//!
//! ```text
//!   genesis of regtest ─► 1 ─► 2 ─► ..      each: one coinbase of 50 bitcoin to one key, and a commitment;
//!                                           the first nonce whose hash is below 2^255
//! ```
//!
//! The rules are those of Bitcoin Core 31.99's functional test `rpc_dumptxoutset.py`, which publishes what comes out: block
//! 100 is `220aee93f0f5409631f35488898258f0930952bd620063cb4d7d87f7c28a8f50`.

use bitcoin::block::{Header, Version};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::script::{Builder, PushBytes};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction,
    TxIn, TxMerkleNode, TxOut, Witness, absolute, opcodes, transaction,
};
use std::collections::VecDeque;

/// The clock of the node that made them, in seconds since 1970.
const CLOCK: u32 = 1_296_688_603;
/// Blocks whose times a new one must come after the median of.
const MEDIAN_OF: usize = 11;
/// Hash of the public key of `mjTkW3DjgyZck4KbiRusZsqTgaYTxdSz6z`.
const PAYEE: [u8; 20] = [
    0x2b, 0x45, 0x69, 0x20, 0x36, 0x94, 0xfc, 0x99, 0x7e, 0x13, 0xf2, 0xc0, 0xa1, 0x38, 0x3b, 0x9e,
    0x16, 0xc7, 0x7a, 0x0d,
];

/// The blocks after the genesis block of regtest, from height 1, without end.
///
/// Each takes some microseconds: two nonces have to be tried on average. They are whole blocks, with witness.
pub fn chain() -> RegtestChain {
    let genesis = genesis_block(Network::Regtest).header;
    RegtestChain {
        height: 0,
        tip: genesis.block_hash(),
        bits: genesis.bits,
        times: [genesis.time].into(),
    }
}

/// What [`chain`] gives.
///
/// ```
/// let blocks: Vec<_> = hedgerow_coins::regtest::chain().take(100).collect();
/// assert!(blocks.iter().all(|block| block.check_merkle_root() && block.check_witness_commitment()));
/// let tip = "220aee93f0f5409631f35488898258f0930952bd620063cb4d7d87f7c28a8f50";
/// assert_eq!(blocks[99].block_hash().to_string(), tip);
/// ```
#[derive(Clone, Debug)]
pub struct RegtestChain {
    /// Of the block before.
    height: u32,
    tip: BlockHash,
    bits: CompactTarget,
    /// Of the last blocks, the oldest first.
    times: VecDeque<u32>,
}

impl Iterator for RegtestChain {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let height = self.height.checked_add(1)?;
        let mut sorted: Vec<u32> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2)?;
        let time = CLOCK.max(median.checked_add(1)?);
        let coinbase = coinbase(height);
        let mut header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: self.tip,
            // A block of one transaction: its id is the root.
            merkle_root: TxMerkleNode::from_raw_hash(coinbase.compute_txid().to_raw_hash()),
            time,
            bits: self.bits,
            nonce: 0,
        };
        let target = header.target();
        self.tip = loop {
            let hash = header.block_hash();
            if target.is_met_by(hash) {
                break hash;
            }
            header.nonce = header.nonce.checked_add(1)?;
        };
        self.height = height;
        self.times.push_back(time);
        if self.times.len() > MEDIAN_OF {
            self.times.pop_front();
        }
        Some(Block { header, txdata: vec![coinbase] })
    }
}

/// The coinbase of a height: 50 bitcoin, and the commitment to the witness of a block without any other transaction.
fn coinbase(height: u32) -> Transaction {
    let named = Builder::new().push_int(i64::from(height));
    // A script of one byte is too short for a coinbase.
    let script_sig =
        if height <= 16 { named.push_opcode(opcodes::OP_0) } else { named }.into_script();
    let commitment = {
        // The coinbase stands for zeros in the tree of witnesses, and reserves zeros.
        let hash = sha256d::Hash::hash(&[0; 64]).to_byte_array();
        let mut bytes = [0; 36];
        let (head, tail) = bytes.split_at_mut(4);
        head.copy_from_slice(&[0xaa, 0x21, 0xa9, 0xed]);
        tail.copy_from_slice(&hash);
        ScriptBuf::new_op_return(<&PushBytes>::from(&bytes))
    };
    let payee = ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from_byte_array(PAYEE));
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(height - 1),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence(0xffff_fffe),
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output: vec![
            TxOut { value: Amount::from_int_btc(50), script_pubkey: payee },
            TxOut { value: Amount::ZERO, script_pubkey: commitment },
        ],
    }
}
