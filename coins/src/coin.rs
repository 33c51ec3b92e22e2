//! A coin and its name, as values and as bytes.
//!
//! ```text
//!   key    ┌────────────────────────────┬──────────────┐
//!          │ transaction id, as hashed 32 │ output u32 LE │     36 bytes: the outpoint's consensus encoding
//!          └────────────────────────────┴──────────────┘
//!   value  ┌───────────────────────────┬────────────────────────┬───────────────────┐
//!          │ VARINT height*2 + coinbase │ VARINT packed amount    │ compressed script │   see the module codec
//!          └───────────────────────────┴────────────────────────┴───────────────────┘
//! ```
//!
//! The value is what Bitcoin Core keeps in its database and writes into snapshots: some 25 bytes for the usual coin.

use crate::codec::{self, FormatError, Input, ReadError};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut, Txid};
use std::io::Read;

/// Bytes of a key: transaction id and number of the output.
pub const KEY_LEN: usize = 36;
/// Bytes of the longest script that can be spent (Bitcoin Core's `MAX_SCRIPT_SIZE`).
pub const MAX_SCRIPT_LEN: usize = 10_000;
/// The greatest height that a coin can have: with the coinbase flag it makes 32 bits.
pub const MAX_HEIGHT: u32 = u32::MAX >> 1;

/// An unspent output: all that spending it needs to know.
///
/// ```
/// use hedgerow_coins::{Coin, CoinError};
/// use hedgerow_coins::bitcoin::{Amount, ScriptBuf};
///
/// let script = ScriptBuf::from_hex("76a9142b4569203694fc997e13f2c0a1383b9e16c77a0d88ac")?;
/// let coin = Coin::new(100, true, Amount::from_int_btc(50), script)?;
/// let mut stored = Vec::new();
/// coin.encode(&mut stored);
/// assert_eq!(stored.len(), 2 + 1 + 21);                 // height and flag, amount, P2PKH
/// assert_eq!(Coin::decode(&stored)?, coin);
///
/// let note = ScriptBuf::new_op_return(b"nobody can spend this");
/// assert_eq!(Coin::new(100, false, Amount::ZERO, note), Err(CoinError::OpReturn));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    height: u32,
    coinbase: bool,
    output: TxOut,
}

impl Coin {
    /// The coin that an output of a block makes.
    ///
    /// # Errors
    /// [`CoinError`] if it cannot be in the set.
    pub fn new(
        height: u32,
        coinbase: bool,
        amount: Amount,
        script: ScriptBuf,
    ) -> Result<Self, CoinError> {
        if height > MAX_HEIGHT {
            return Err(CoinError::Height(height));
        }
        if amount > Amount::MAX_MONEY {
            return Err(CoinError::Amount(amount));
        }
        match () {
            () if script.is_op_return() => Err(CoinError::OpReturn),
            () if script.len() > MAX_SCRIPT_LEN => Err(CoinError::Script(script.len())),
            () => Ok(Self {
                height,
                coinbase,
                output: TxOut { value: amount, script_pubkey: script },
            }),
        }
    }

    /// Height of the block that made it.
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// Whether a coinbase made it.
    pub const fn is_coinbase(&self) -> bool {
        self.coinbase
    }

    /// Its amount, at most 21 million bitcoin.
    pub const fn amount(&self) -> Amount {
        self.output.value
    }

    /// The script that spending it must satisfy.
    pub const fn script(&self) -> &ScriptBuf {
        &self.output.script_pubkey
    }

    /// Amount and script as they stood in the transaction.
    pub const fn output(&self) -> &TxOut {
        &self.output
    }

    /// Height and coinbase flag as one number: `height * 2 + coinbase`.
    pub(crate) const fn code(&self) -> u32 {
        self.height << 1 | self.coinbase as u32
    }

    /// Appends its stored form: the value under its key.
    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::write_varint(u64::from(self.code()), out);
        codec::write_varint(codec::pack_amount(self.output.value.to_sat()), out);
        codec::write_script(&self.output.script_pubkey, out);
    }

    /// A coin from its stored form, all of it.
    ///
    /// # Errors
    /// [`FormatError`] if these are not the bytes of a coin that can be in the set.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Input::new(bytes);
        let coin = Self::read(&mut input).map_err(ReadError::into_format)?;
        match bytes.len() as u64 - input.offset() {
            0 => Ok(coin),
            left => Err(FormatError::Trailing(left)),
        }
    }

    /// The amount of a coin in its stored form, of which no more is looked at.
    pub(crate) fn amount_of(bytes: &[u8]) -> Result<Amount, FormatError> {
        let mut input = Input::new(bytes);
        codec::read_varint(&mut input).map_err(ReadError::into_format)?;
        let packed = codec::read_varint(&mut input).map_err(ReadError::into_format)?;
        let amount = codec::unpack_amount(packed).ok_or(FormatError::Amount(packed))?;
        Ok(Amount::from_sat(amount))
    }

    /// A coin from its stored form, which ends where it ends.
    pub(crate) fn read<R: Read>(input: &mut Input<R>) -> Result<Self, ReadError> {
        let code = codec::read_varint(input)?;
        let code = u32::try_from(code).map_err(|_| FormatError::Code(code))?;
        let packed = codec::read_varint(input)?;
        let amount = codec::unpack_amount(packed).ok_or(FormatError::Amount(packed))?;
        let script = codec::read_script(input)?;
        Self::new(code >> 1, code & 1 == 1, Amount::from_sat(amount), script)
            .map_err(|error| FormatError::Coin(error).into())
    }
}

/// Why an output is no coin.
///
/// ```
/// use hedgerow_coins::{Coin, CoinError, MAX_SCRIPT_LEN};
/// use hedgerow_coins::bitcoin::{Amount, ScriptBuf};
///
/// let long = ScriptBuf::from_bytes(vec![0x51; MAX_SCRIPT_LEN + 1]);
/// let refused = Coin::new(7, false, Amount::ZERO, long).unwrap_err();
/// assert!(refused.is_unspendable());                    // no error in a block: there is just no coin
/// let refused = Coin::new(7, false, Amount::MAX, ScriptBuf::new()).unwrap_err();
/// assert!(matches!(refused, CoinError::Amount(_)));     // an error in a block
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoinError {
    /// The height has more than 31 bits.
    #[error("height {0} is beyond {MAX_HEIGHT}")]
    Height(u32),
    /// More than there can be.
    #[error("{0} is more than 21 million bitcoin")]
    Amount(Amount),
    /// The script begins with OP_RETURN: it can never be spent.
    #[error("its script begins with OP_RETURN, so it can never be spent")]
    OpReturn,
    /// The script has more bytes than can be run: it can never be spent.
    #[error("its script has {0} bytes, more than {MAX_SCRIPT_LEN}, so it can never be spent")]
    Script(usize),
}

impl CoinError {
    /// Whether the output is valid in a block and merely never enters the set.
    pub const fn is_unspendable(&self) -> bool {
        matches!(self, Self::OpReturn | Self::Script(_))
    }
}

/// The key of a coin: its outpoint as Bitcoin encodes it.
///
/// ```
/// use hedgerow_coins::{key_of, outpoint_of};
/// use hedgerow_coins::bitcoin::OutPoint;
///
/// let outpoint: OutPoint = "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456:1".parse()?;
/// let key = key_of(&outpoint);
/// assert_eq!(key[32..], [1, 0, 0, 0]);
/// assert_eq!(outpoint_of(&key), outpoint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn key_of(outpoint: &OutPoint) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    let (txid, vout) = key.split_at_mut(32);
    txid.copy_from_slice(outpoint.txid.as_byte_array());
    vout.copy_from_slice(&outpoint.vout.to_le_bytes());
    key
}

/// The outpoint of a key. Every key has one.
pub fn outpoint_of(key: &[u8; KEY_LEN]) -> OutPoint {
    let mut txid = [0; 32];
    let mut vout = [0; 4];
    let (first, last) = key.split_at(32);
    txid.copy_from_slice(first);
    vout.copy_from_slice(last);
    OutPoint { txid: Txid::from_byte_array(txid), vout: u32::from_le_bytes(vout) }
}
