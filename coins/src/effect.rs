//! What a block does to the set of coins.
//!
//! ```text
//!   transactions in order:   inputs spend          outputs create
//!                               │                      │
//!      of earlier blocks ◄──────┤                      ├──► alive after the block ─► created
//!            │                  └── of this block ◄────┘
//!            ▼                          │
//!          spent                     passing: never in the set
//! ```
//!
//! A function of the block and its height alone: whether the coins that it spends are there is for the set to say.

use crate::coin::{Coin, CoinError};
use bitcoin::{Block, BlockHash, OutPoint};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Two blocks of mainnet whose coinbases have the ids of earlier ones that were not spent, and the hashes of the
/// two: Bitcoin Core's `IsBIP30Repeat`.
const REPEATS: [(u32, &str); 2] = [
    (91_842, "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec"),
    (91_880, "00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721"),
];

/// Whether the coinbase of this block may make coins over unspent ones of the same name, which are lost then.
///
/// Only two blocks of mainnet may, 91,842 and 91,880: BIP 30 forbids it since.
///
/// ```
/// use hedgerow_coins::may_overwrite;
///
/// let block = "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec".parse()?;
/// assert!(may_overwrite(91_842, &block));
/// assert!(!may_overwrite(91_843, &block));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn may_overwrite(height: u32, block: &BlockHash) -> bool {
    REPEATS
        .iter()
        .any(|(at, hash)| *at == height && hash.parse().is_ok_and(|hash: BlockHash| hash == *block))
}

/// What a block does to the set: the outpoints that it spends and the coins that it creates.
///
/// ```
/// use hedgerow_coins::{BlockEffect, regtest};
///
/// let block = regtest::chain().next().ok_or("no block")?;
/// let effect = BlockEffect::of(&block, 1)?;
/// assert!(effect.spent.is_empty());
/// // The subsidy; the coinbase's second output, a commitment, cannot be spent.
/// assert_eq!(effect.created.len(), 1);
/// assert_eq!(effect.created[0].1.amount().to_btc(), 50.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockEffect {
    /// Coins of earlier blocks that are spent, in the order of the inputs, each once.
    pub spent: Vec<OutPoint>,
    /// Coins that outlive the block, in the order of the outputs.
    pub created: Vec<(OutPoint, Coin)>,
    /// How many coins were created and spent within the block. They never reach the set.
    pub passing: u64,
}

impl BlockEffect {
    /// The effect of a block at this height. The genesis block, at height 0, has none.
    ///
    /// # Errors
    /// [`EffectError`] if no set could be what this block makes of one.
    pub fn of(block: &Block, height: u32) -> Result<Self, EffectError> {
        if height == 0 {
            return Ok(Self::default());
        }
        match block.txdata.split_first() {
            Some((first, rest))
                if first.is_coinbase() && !rest.iter().any(|tx| tx.is_coinbase()) => {}
            _ => return Err(EffectError::Coinbase),
        }
        let mut created = Vec::new();
        let mut passing = 0;
        // What this block did to an outpoint.
        let mut fates: HashMap<OutPoint, Fate> = HashMap::new();
        let mut spent = Vec::new();
        for (number, transaction) in block.txdata.iter().enumerate() {
            let coinbase = number == 0;
            let inputs = if coinbase { &[] } else { transaction.input.as_slice() };
            for outpoint in inputs.iter().map(|input| input.previous_output) {
                match fates.entry(outpoint) {
                    Entry::Vacant(fate) => {
                        fate.insert(Fate::Spent);
                        spent.push(outpoint);
                    }
                    Entry::Occupied(mut fate) => match fate.insert(Fate::Passed) {
                        Fate::Created => passing += 1,
                        Fate::Spent | Fate::Passed => {
                            return Err(EffectError::SpentTwice(outpoint));
                        }
                        Fate::Unspendable => return Err(EffectError::Unspendable(outpoint)),
                    },
                }
            }
            let txid = transaction.compute_txid();
            for (vout, output) in (0..).zip(&transaction.output) {
                let outpoint = OutPoint { txid, vout };
                let coin = Coin::new(height, coinbase, output.value, output.script_pubkey.clone());
                let fate = match coin {
                    Ok(coin) => {
                        created.push((outpoint, coin));
                        Fate::Created
                    }
                    Err(error) if error.is_unspendable() => Fate::Unspendable,
                    Err(error) => return Err(EffectError::Coin { outpoint, error }),
                };
                match fates.insert(outpoint, fate) {
                    None => {}
                    Some(Fate::Spent) => return Err(EffectError::SpentBefore(outpoint)),
                    Some(_) => return Err(EffectError::CreatedTwice(outpoint)),
                }
            }
        }
        created.retain(|(outpoint, _)| matches!(fates.get(outpoint), Some(Fate::Created)));
        Ok(Self { spent, created, passing })
    }
}

/// What a block did to an outpoint.
enum Fate {
    /// Spent, a coin of an earlier block.
    Spent,
    /// Created.
    Created,
    /// Created and spent.
    Passed,
    /// An output that is no coin.
    Unspendable,
}

/// Why a block can be in no chain, as far as coins go.
///
/// ```
/// use hedgerow_coins::{BlockEffect, EffectError, regtest};
///
/// let mut block = regtest::chain().next().ok_or("no block")?;
/// block.txdata.push(block.txdata[0].clone());
/// assert_eq!(BlockEffect::of(&block, 1), Err(EffectError::Coinbase));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// The first transaction, and only that, must be a coinbase.
    #[error("the first transaction, and no other, must be a coinbase")]
    Coinbase,
    /// Two inputs spend the same coin.
    #[error("{0} is spent twice")]
    SpentTwice(OutPoint),
    /// An input spends the output of a transaction that comes later in the block.
    #[error("{0} is spent before the transaction that creates it")]
    SpentBefore(OutPoint),
    /// An input spends an output of the block that is no coin.
    #[error("{0} is spent, which can never be spent")]
    Unspendable(OutPoint),
    /// Two transactions of the block have the same id.
    #[error("{0} is created twice")]
    CreatedTwice(OutPoint),
    /// An output has an amount that there cannot be, or the height has too many bits.
    #[error("{outpoint}: {error}")]
    Coin {
        /// The output.
        outpoint: OutPoint,
        /// What is wrong with it.
        error: CoinError,
    },
}

#[cfg(test)]
mod tests;
