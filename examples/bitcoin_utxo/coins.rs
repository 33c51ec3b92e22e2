//! Bitcoin's blocks as changes of the set of unspent coins.
//!
//! ```text
//!   block ─────────┐  transactions, in order          what it creates and spends, net
//!                  ├─► steps ─────────────────────────► Change ─► puts and deletes
//!   undo data ─────┘  and the coins that they spend
//! ```

use bitcoin::consensus::encode::{deserialize, deserialize_partial};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, TxOut};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The blocks beside this file: chain and height.
pub(crate) const BLOCKS: [(&str, u64); 3] =
    [("mainnet", 300_025), ("testnet3", 928_828), ("testnet3", 928_831)];

/// A Bitcoin block, and the coins that its inputs spend.
pub(crate) struct BitcoinBlock {
    pub(crate) chain: &'static str,
    pub(crate) height: u64,
    pub(crate) transactions: usize,
    /// What its transactions do, in their order.
    steps: Vec<Step>,
}

/// What a transaction does to one coin.
enum Step {
    Spend(OutPoint, TxOut),
    Create(OutPoint, TxOut),
}

impl BitcoinBlock {
    pub(crate) fn read(chain: &'static str, height: u64) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bitcoin_utxo");
        let read = |name: String| {
            let path = folder.join(name);
            fs::read(&path).map_err(|error| format!("reading {}: {error}", path.display()))
        };
        let bytes = read(format!("block{height}.raw"))?;
        let undo = read(format!("block{height}-undo.raw"))?;
        Self::parse(chain, height, &bytes, &undo)
            .map_err(|error| format!("block {height} of {chain}: {error}").into())
    }

    fn parse(chain: &'static str, height: u64, bytes: &[u8], undo: &[u8]) -> Result<Self> {
        let block: bitcoin::Block = deserialize(bytes)?;
        if !block.check_merkle_root() {
            return Err("its transactions are not those of its header".into());
        }
        if block.bip34_block_height()? != height {
            return Err("its coinbase names another height".into());
        }
        let mut undo = undo;
        let mut steps = Vec::new();
        for transaction in &block.txdata {
            if !transaction.is_coinbase() {
                for input in &transaction.input {
                    let (coin, len) = deserialize_partial(undo)?;
                    undo = undo.get(len..).unwrap_or_default();
                    steps.push(Step::Spend(input.previous_output, coin));
                }
            }
            let txid = transaction.compute_txid();
            for (vout, output) in (0..).zip(&transaction.output) {
                steps.push(Step::Create(OutPoint { txid, vout }, output.clone()));
            }
        }
        if !undo.is_empty() {
            return Err(format!("{} bytes of spent coins are left over", undo.len()).into());
        }
        Ok(Self { chain, height, transactions: block.txdata.len(), steps })
    }

    /// What the block as a whole does to the set of coins.
    pub(crate) fn change(&self) -> Change {
        let mut change = Change::default();
        for step in &self.steps {
            match step {
                Step::Create(outpoint, coin) => {
                    change.created.insert(*outpoint, coin.clone());
                }
                Step::Spend(outpoint, _) if change.created.remove(outpoint).is_some() => {
                    change.passing += 1;
                }
                Step::Spend(outpoint, _) => {
                    change.spent.insert(*outpoint);
                }
            }
        }
        change
    }
}

/// The net effect of a block on the set of coins.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) created: BTreeMap<OutPoint, TxOut>,
    pub(crate) spent: BTreeSet<OutPoint>,
    /// Coins that were created and spent within the block.
    pub(crate) passing: usize,
}

/// The coins that must be there before the first block: those that are spent and were not created
/// by one of these blocks before. Where they were, the coin spent must be the coin created.
pub(crate) fn seed(blocks: &[BitcoinBlock], changes: &[Change]) -> Result<Change> {
    let mut known: BTreeMap<OutPoint, &TxOut> = BTreeMap::new();
    let mut seed = Change::default();
    for (block, change) in blocks.iter().zip(changes) {
        for step in &block.steps {
            match step {
                Step::Create(outpoint, coin) => {
                    known.insert(*outpoint, coin);
                }
                Step::Spend(outpoint, coin) => match known.get(outpoint) {
                    Some(created) if *created == coin => {}
                    Some(_) => return Err(format!("{outpoint} is spent as another coin").into()),
                    None if change.spent.contains(outpoint) => {
                        seed.created.insert(*outpoint, coin.clone());
                    }
                    None => return Err(format!("{outpoint} is spent before it is created").into()),
                },
            }
        }
    }
    Ok(seed)
}

/// Transaction id and output number.
pub(crate) fn key(outpoint: &OutPoint) -> Vec<u8> {
    [&outpoint.txid.to_byte_array()[..], &outpoint.vout.to_le_bytes()].concat()
}

/// Amount and script. Amounts are 63-bit numbers, so that u64 and i64 have the same bytes.
pub(crate) fn value(coin: &TxOut) -> Vec<u8> {
    [&coin.value.to_sat().to_le_bytes()[..], coin.script_pubkey.as_bytes()].concat()
}

pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

/// A number with commas.
pub(crate) fn grouped(number: u64) -> String {
    let mut text = String::new();
    let digits = number.to_string();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
