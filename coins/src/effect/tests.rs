//! Blocks made for each rule.

use super::*;
use crate::coin::MAX_SCRIPT_LEN;
use crate::regtest;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};

const HEIGHT: u32 = 7;

/// A transaction; `lock_time` makes its id another one.
fn spending(inputs: &[OutPoint], outputs: &[(u64, Vec<u8>)], lock_time: u32) -> Transaction {
    let input = inputs.iter().map(|outpoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    });
    let output = outputs.iter().map(|(amount, script)| TxOut {
        value: Amount::from_sat(*amount),
        script_pubkey: ScriptBuf::from_bytes(script.clone()),
    });
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::from_consensus(lock_time),
        input: input.collect(),
        output: output.collect(),
    }
}

fn earlier(number: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 1 }
}

fn output_of(transaction: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: transaction.compute_txid(), vout }
}

/// The effect of a block of a coinbase and these.
fn effect(transactions: &[Transaction]) -> Result<BlockEffect, EffectError> {
    let mut block = regtest::chain().next().unwrap();
    block.txdata.extend_from_slice(transactions);
    BlockEffect::of(&block, HEIGHT)
}

#[test]
fn coins_pass_outlive_and_are_spent() {
    let first =
        spending(&[earlier(1), earlier(2)], &[(10, vec![1]), (20, vec![2]), (30, vec![3])], 0);
    let second = spending(&[output_of(&first, 1), earlier(3)], &[(5, vec![4])], 0);
    let third = spending(&[output_of(&second, 0)], &[], 0);
    let effect = effect(&[first.clone(), second, third]).unwrap();
    assert_eq!(effect.spent, [earlier(1), earlier(2), earlier(3)]);
    assert_eq!(effect.passing, 2);
    let created: Vec<_> = effect.created[1..]
        .iter()
        .map(|(outpoint, coin)| (*outpoint, coin.amount().to_sat(), coin.is_coinbase()))
        .collect();
    assert_eq!(created, [(output_of(&first, 0), 10, false), (output_of(&first, 2), 30, false)]);
    let (_, coinbase) = &effect.created[0];
    assert!(coinbase.is_coinbase());
    assert_eq!((coinbase.height(), coinbase.amount()), (HEIGHT, Amount::from_int_btc(50)));
}

#[test]
fn outputs_that_are_no_coins() {
    let mut longest = vec![0x51; MAX_SCRIPT_LEN];
    let scripts = [vec![0x6a], vec![0x6a, 1, 2], vec![0x51, 0x6a], longest.clone(), {
        longest.push(0x51);
        longest
    }];
    let outputs = scripts.map(|script| (1, script));
    let transaction = spending(&[earlier(1)], &outputs, 0);
    let made = effect(std::slice::from_ref(&transaction)).unwrap();
    let numbers: Vec<u32> = made.created[1..].iter().map(|(outpoint, _)| outpoint.vout).collect();
    assert_eq!(numbers, [2, 3]);
    for vout in [0, 1, 4] {
        let outpoint = output_of(&transaction, vout);
        let refused = effect(&[transaction.clone(), spending(&[outpoint], &[], 0)]);
        assert_eq!(refused, Err(EffectError::Unspendable(outpoint)));
    }
}

#[test]
fn the_genesis_block_makes_no_coin() {
    for network in [bitcoin::Network::Bitcoin, bitcoin::Network::Regtest] {
        let genesis = bitcoin::constants::genesis_block(network);
        assert_eq!(BlockEffect::of(&genesis, 0), Ok(BlockEffect::default()));
        // Its height is what says so.
        assert_eq!(BlockEffect::of(&genesis, 1).unwrap().created.len(), 1);
    }
}

#[test]
fn blocks_that_no_set_can_take() {
    let coinbase = regtest::chain().next().unwrap().txdata[0].clone();
    let first = spending(&[earlier(1)], &[(10, vec![1])], 0);
    let of_first = output_of(&first, 0);
    let spender = spending(&[of_first], &[(1, vec![1])], 0);
    let beyond = Amount::MAX_MONEY.to_sat() + 1;
    let too_much = spending(&[earlier(1)], &[(beyond, vec![1])], 0);
    let (twice, other) =
        (spending(&[earlier(1), earlier(1)], &[], 0), spending(&[earlier(1)], &[], 1));
    let of_too_much = output_of(&too_much, 0);
    for (transactions, expected) in [
        (vec![coinbase], EffectError::Coinbase),
        (vec![twice], EffectError::SpentTwice(earlier(1))),
        (vec![first.clone(), other], EffectError::SpentTwice(earlier(1))),
        // A coin of this block, twice.
        (
            vec![first.clone(), spender.clone(), spending(&[of_first], &[], 2)],
            EffectError::SpentTwice(of_first),
        ),
        (vec![spender, first.clone()], EffectError::SpentBefore(of_first)),
        // The same transaction again: what it spends is found first.
        (vec![first.clone(), first.clone()], EffectError::SpentTwice(earlier(1))),
        (
            vec![too_much],
            EffectError::Coin {
                outpoint: of_too_much,
                error: CoinError::Amount(Amount::from_sat(beyond)),
            },
        ),
    ] {
        assert_eq!(effect(&transactions), Err(expected));
    }
    // Without inputs a transaction can have the id of another.
    let none = spending(&[], &[(1, vec![1])], 0);
    let made_twice = effect(&[none.clone(), none.clone()]);
    assert_eq!(made_twice, Err(EffectError::CreatedTwice(output_of(&none, 0))));

    let mut empty = regtest::chain().next().unwrap();
    empty.txdata.clear();
    assert_eq!(BlockEffect::of(&empty, 1), Err(EffectError::Coinbase));
    empty.txdata.push(first);
    assert_eq!(BlockEffect::of(&empty, 1), Err(EffectError::Coinbase));
    let block = regtest::chain().next().unwrap();
    assert!(matches!(BlockEffect::of(&block, 1 << 31), Err(EffectError::Coin { .. })));
}

#[test]
fn two_blocks_may_overwrite() {
    for (height, hash) in REPEATS {
        let hash: BlockHash = hash.parse().unwrap();
        assert!(may_overwrite(height, &hash));
        assert!(!may_overwrite(height + 1, &hash) && !may_overwrite(0, &hash));
        assert!(!may_overwrite(height, &BlockHash::all_zeros()));
    }
}
