//! Blocks that spend coins and make them, for engines that keep the set of unspent coins: a function of one seed.
//!
//! ```text
//!   seed ─► Spending ─► block 1, 2, ..:  spent   outpoints of coins of earlier blocks
//!              │                         made    outpoints with coins
//!              └── by height, the coins that are left: 4 bytes each; all else is made again from the numbers
//! ```
//!
//! Shaped like a block of mainnet in 2016: 2,000 transactions, 2.2 inputs and 2.4 outputs each on average, paying to
//! hashes of keys and of scripts mostly. How old coins are when they are spent follows [`AGES`]: most are younger than a day of
//! 144 blocks, with a long tail. Coins that a block makes and spends itself are left out: no set sees them.

use crate::workload::Random;

/// Transactions of a block, its first one included, which spends nothing.
pub const TRANSACTIONS: u32 = 2_000;

/// So many in a thousand coins that are spent are at most so many blocks old, which is told apart within a row by the
/// logarithm alone. Ages of which there is no coin left are drawn again.
pub const AGES: [(u32, u64); 8] = [
    (1, 180),
    (6, 450),
    (36, 620),
    (144, 770),
    (1_008, 890),
    (4_320, 940),
    (20_000, 980),
    (200_000, 1_000),
];

/// Of a thousand transactions, so many have so many inputs.
const INPUTS: [(u32, u64); 6] = [(1, 598), (2, 220), (3, 70), (5, 60), (10, 40), (20, 12)];
/// Of a thousand transactions, so many have so many outputs.
const OUTPUTS: [(u32, u64); 6] = [(1, 150), (2, 720), (3, 50), (5, 50), (10, 20), (20, 10)];

/// The name of a coin: the id of its transaction, and which output it is.
pub type Outpoint = ([u8; 32], u32);

/// A coin that a block makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeCoin {
    /// Its name.
    pub outpoint: Outpoint,
    /// Whether the block's first transaction makes it.
    pub coinbase: bool,
    /// In satoshi.
    pub amount: u64,
    /// What it pays to.
    pub script: Vec<u8>,
}

/// What a block does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpendingBlock {
    /// The number of the block, from 1.
    pub height: u32,
    /// Coins of earlier blocks, each once, in no order.
    pub spent: Vec<Outpoint>,
    /// Coins that it makes.
    pub made: Vec<MadeCoin>,
}

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub struct Spending {
    seed: u64,
    transactions: u32,
    random: Random,
    /// By height from 1: the coins that are left, transaction x 256 + output.
    left: Vec<Vec<u32>>,
}

/// A number drawn by its weights, which are thousandths.
fn drawn(random: &mut Random, weights: &[(u32, u64)]) -> u32 {
    let mut at = random.below(1_000).unwrap_or_default();
    for &(number, weight) in weights {
        match at.checked_sub(weight) {
            Some(rest) => at = rest,
            None => return number,
        }
    }
    1
}

impl Spending {
    /// Blocks of [`TRANSACTIONS`].
    pub fn new(seed: u64) -> Self {
        Self::with_transactions(seed, TRANSACTIONS)
    }

    /// Blocks of so many transactions, at most 2^24 and at least one.
    pub fn with_transactions(seed: u64, transactions: u32) -> Self {
        let transactions = transactions.clamp(1, 1 << 24);
        Self { seed, transactions, random: Random::new(seed), left: Vec::new() }
    }

    /// Coins that were made and not spent.
    pub fn coins(&self) -> u64 {
        self.left.iter().map(|left| left.len() as u64).sum()
    }

    /// Those coins: by the height that made them, in no order within one.
    pub fn unspent(&self) -> impl Iterator<Item = (u32, MadeCoin)> + '_ {
        (1_u32..).zip(&self.left).flat_map(move |(height, left)| {
            left.iter().map(move |number| (height, self.coin(height, *number)))
        })
    }

    /// Numbers that only this transaction has.
    fn of_transaction(&self, height: u32, transaction: u32) -> Random {
        let number = u64::from(height) << 32 | u64::from(transaction);
        Random::new(self.seed.rotate_left(17) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn outpoint(&self, height: u32, number: u32) -> Outpoint {
        let mut txid = Vec::with_capacity(32);
        self.of_transaction(height, number >> 8).append_to(&mut txid, 32);
        (txid.try_into().unwrap_or_default(), number & 0xFF)
    }

    fn coin(&self, height: u32, number: u32) -> MadeCoin {
        let (transaction, output) = (number >> 8, number & 0xFF);
        let mut random = self.of_transaction(height, transaction | (output + 1) << 24);
        let kind = random.below(100).unwrap_or_default();
        let (before, hash, after): (&[u8], usize, &[u8]) = match kind {
            0..70 => (&[0x76, 0xA9, 20], 20, &[0x88, 0xAC]), // the hash of a key
            70..96 => (&[0xA9, 20], 20, &[0x87]),            // the hash of a script
            96..98 => (&[0x00, 32], 32, &[]),                // the hash of a witness script
            _ => (&[0x51, 33, 2], 32, &[0x51, 0xAE]),        // one of one key
        };
        let mut script = before.to_vec();
        random.append_to(&mut script, hash);
        script.extend_from_slice(after);
        let digits = random.below(10).unwrap_or_default() as u32;
        let amount = random.below(10_u64.pow(digits + 1)).unwrap_or_default() + 546;
        MadeCoin {
            outpoint: self.outpoint(height, number),
            coinbase: transaction == 0,
            amount,
            script,
        }
    }

    /// How old the next coin to be spent is, in blocks.
    fn age(&mut self) -> u32 {
        let at = self.random.below(1_000).unwrap_or_default();
        let row = AGES.iter().position(|(_, upto)| at < *upto).unwrap_or_default();
        let from = row.checked_sub(1).map_or(1.0, |before| f64::from(AGES[before].0));
        let part = self.random.below(1 << 20).unwrap_or_default() as f64 / f64::from(1 << 20);
        let age = from * (f64::from(AGES[row].0) / from).powf(part);
        age.round() as u32
    }

    /// Takes a coin out of a block of a drawn age; of the newest block that has one if several draws hit none.
    fn spend(&mut self) -> Option<Outpoint> {
        let last = self.left.len();
        let has = |left: &[Vec<u32>], at: usize| left.get(at).is_some_and(|left| !left.is_empty());
        let mut at = None;
        for _ in 0..20 {
            let age = self.age() as usize;
            at = last.checked_sub(age).filter(|at| has(&self.left, *at));
            if at.is_some() {
                break;
            }
        }
        let at = at.or_else(|| (0..last).rev().find(|at| has(&self.left, *at)))?;
        let left = self.left.get_mut(at)?;
        let number = self.random.below(left.len() as u64)? as usize;
        let number = left.swap_remove(number);
        Some(self.outpoint(at as u32 + 1, number))
    }
}

impl Iterator for Spending {
    type Item = SpendingBlock;

    fn next(&mut self) -> Option<SpendingBlock> {
        let height = self.left.len() as u32 + 1;
        let mut block = SpendingBlock { height, ..SpendingBlock::default() };
        let mut left = Vec::new();
        for transaction in 0..self.transactions {
            let inputs = if transaction == 0 { 0 } else { drawn(&mut self.random, &INPUTS) };
            for _ in 0..inputs {
                let Some(spent) = self.spend() else { break };
                block.spent.push(spent);
            }
            let outputs = if transaction == 0 { 1 } else { drawn(&mut self.random, &OUTPUTS) };
            left.extend((0..outputs).map(|output| transaction << 8 | output));
        }
        block.made = left.iter().map(|number| self.coin(height, *number)).collect();
        self.left.push(left);
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn blocks_spend_what_is_there_once_and_are_shaped_as_said() {
        let mut spending = Spending::with_transactions(7, 50);
        let mut set = BTreeMap::new();
        let (mut ages, mut spent, mut made) = (Vec::new(), 0_u64, 0_u64);
        let blocks = 3_000;
        for block in spending.by_ref().take(blocks) {
            for outpoint in &block.spent {
                let height: u32 =
                    set.remove(outpoint).unwrap_or_else(|| panic!("{outpoint:?} again"));
                assert!(height < block.height);
                ages.push(block.height - height);
            }
            spent += block.spent.len() as u64;
            made += block.made.len() as u64;
            for coin in &block.made {
                assert!(set.insert(coin.outpoint, block.height).is_none());
            }
        }
        let transactions = 50 * blocks as u64;
        let ratio = |coins: u64| coins as f64 / transactions as f64;
        assert!((2.0..2.3).contains(&ratio(spent)), "{}", ratio(spent));
        assert!((2.3..2.5).contains(&ratio(made)), "{}", ratio(made));
        ages.sort_unstable();
        let (median, ninth) = (ages[ages.len() / 2], ages[ages.len() * 9 / 10]);
        assert!(median < 36 && ninth > 100, "{median}, {ninth}");
        let left: BTreeMap<_, _> =
            spending.unspent().map(|(at, coin)| (coin.outpoint, at)).collect();
        assert_eq!(left, set);
        assert_eq!(spending.coins(), set.len() as u64);
        let again: Vec<_> = Spending::with_transactions(7, 300).take(3).collect();
        assert_eq!(again, Spending::with_transactions(7, 300).take(3).collect::<Vec<_>>());
        assert_ne!(again, Spending::with_transactions(8, 300).take(3).collect::<Vec<_>>());
    }
}
