//! What a flush says of itself: the extra data of its block of the store, durable in one step with its coins.
//!
//! ```text
//!   ┌──────┬───────────┬─────────┬───────────┬────────────┬──────────┬──────────┬──────────┬────────────┬───────────┐
//!   │ HGCF │ version   │ has a   │ flush u32 │ height u32 │ block 32 │ coins    │ amount   │ records    │ MuHash    │
//!   │      │ u16 (1)   │ MuHash  │ every; 0: │            │ as hashed│ u64      │ u64      │ segment,   │ 768, if   │
//!   │      │           │ u8      │ when full │            │          │          │ satoshi  │ offset u64 │ it has one│
//!   └──────┴───────────┴─────────┴───────────┴────────────┴──────────┴──────────┴──────────┴────────────┴───────────┘
//! ```
//!
//! Numbers are little-endian. The history row that it is a part of has a checksum.

use super::Flush;
use super::records::Position;
use crate::coin::MAX_HEIGHT;
use crate::digest::{MUHASH_LEN, MuHash, MuHashError};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash};

const MAGIC: [u8; 4] = *b"HGCF";
const VERSION: u16 = 1;

/// The block at which a set of coins stands.
///
/// ```
/// use hedgerow_coins::{Tip, regtest};
///
/// let block = regtest::chain().next().ok_or("no block")?;
/// let tip = Tip { height: 1, block: block.block_hash() };
/// assert_eq!(tip.to_string(), format!("1 {}", block.block_hash()));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tip {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub block: BlockHash,
}

impl std::fmt::Display for Tip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.height, self.block)
    }
}

/// What is known of the set of coins at a flush.
///
/// It is the extra data of the flush's block of the store below. Whoever fills a store otherwise, from a snapshot, hands
/// the set in with it.
///
/// ```
/// use hedgerow_coins::{Flush, FlushPoint, FlushPointError, MuHash, Tip, regtest};
/// use hedgerow_coins::bitcoin::Amount;
///
/// let block = regtest::chain().next().ok_or("no block")?.block_hash();
/// let mut point = FlushPoint::new(Tip { height: 1, block });
/// (point.coins, point.total_amount) = (1, Amount::from_int_btc(50));
/// point.muhash = Some(MuHash::new());
/// assert_eq!(FlushPoint::decode(&point.encode())?, point);
/// assert_eq!(FlushPoint::decode(&[]), Err(FlushPointError::Length(0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushPoint {
    /// The last block that it holds.
    pub tip: Tip,
    /// Coins.
    pub coins: u64,
    /// All their amounts together.
    pub total_amount: Amount,
    /// How all flushes so far were timed: if all were [`Flush::Every`] of one number that, else [`Flush::WhenFull`].
    pub flush: Flush,
    /// The product of the set, if it is kept.
    pub muhash: Option<MuHash>,
    /// Up to where records of blocks were durable before it.
    pub records: Position,
}

impl FlushPoint {
    /// A set without coins at a block, with roots of its own.
    pub const fn new(tip: Tip) -> Self {
        Self {
            tip,
            coins: 0,
            total_amount: Amount::ZERO,
            flush: Flush::WhenFull,
            muhash: None,
            records: Position::START,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let every = match self.flush {
            Flush::Every(number) => number,
            Flush::WhenFull => 0,
        };
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.push(self.muhash.is_some().into());
        out.extend_from_slice(&every.to_le_bytes());
        out.extend_from_slice(&self.tip.height.to_le_bytes());
        out.extend_from_slice(self.tip.block.as_byte_array());
        out.extend_from_slice(&self.coins.to_le_bytes());
        out.extend_from_slice(&self.total_amount.to_sat().to_le_bytes());
        out.extend_from_slice(&self.records.segment.to_le_bytes());
        out.extend_from_slice(&self.records.offset.to_le_bytes());
        if let Some(muhash) = &self.muhash {
            out.extend_from_slice(&muhash.to_bytes());
        }
        out
    }

    /// From its bytes, all of them.
    ///
    /// # Errors
    /// [`FlushPointError`] if they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, FlushPointError> {
        let mut fields = Fields { left: bytes, len: bytes.len() };
        if fields.array()? != MAGIC {
            return Err(FlushPointError::Magic);
        }
        let version = u16::from_le_bytes(fields.array()?);
        if version != VERSION {
            return Err(FlushPointError::Version(version));
        }
        let [has_muhash] = fields.array()?;
        let flush = match u32::from_le_bytes(fields.array()?) {
            0 => Flush::WhenFull,
            number => Flush::Every(number),
        };
        let height = u32::from_le_bytes(fields.array()?);
        let block = BlockHash::from_byte_array(fields.array()?);
        let coins = u64::from_le_bytes(fields.array()?);
        let total_amount = Amount::from_sat(u64::from_le_bytes(fields.array()?));
        let segment = u64::from_le_bytes(fields.array()?);
        let offset = u64::from_le_bytes(fields.array()?);
        if height > MAX_HEIGHT {
            return Err(FlushPointError::Field("height"));
        }
        if total_amount > Amount::MAX_MONEY {
            return Err(FlushPointError::Field("amount"));
        }
        let muhash = match has_muhash {
            0 => None,
            1 => Some(MuHash::from_bytes(&fields.array::<MUHASH_LEN>()?)?),
            _ => return Err(FlushPointError::Field("MuHash flag")),
        };
        if !fields.left.is_empty() {
            return Err(FlushPointError::Length(bytes.len()));
        }
        let (tip, records) = (Tip { height, block }, Position { segment, offset });
        Ok(Self { tip, coins, total_amount, flush, muhash, records })
    }
}

/// Bytes that are taken field by field.
struct Fields<'a> {
    left: &'a [u8],
    len: usize,
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FlushPointError> {
        let (first, rest) =
            self.left.split_first_chunk::<N>().ok_or(FlushPointError::Length(self.len))?;
        self.left = rest;
        Ok(*first)
    }
}

/// Why bytes are no [`FlushPoint`].
///
/// ```
/// use hedgerow_coins::{FlushPoint, FlushPointError};
///
/// assert_eq!(FlushPoint::decode(b"something else"), Err(FlushPointError::Magic));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushPointError {
    /// There are none: blocks of the store that no coins were flushed with, such as an import that was not finished.
    #[error("{0} bytes are not as long as what a flush says of itself")]
    Length(usize),
    /// They begin otherwise.
    #[error("it does not begin as what a flush says of itself")]
    Magic,
    /// Another format.
    #[error("format version {0} is not known here")]
    Version(u16),
    /// A field cannot be so.
    #[error("its {0} cannot be")]
    Field(&'static str),
    /// The product is none.
    #[error(transparent)]
    MuHash(#[from] MuHashError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(muhash: Option<MuHash>) -> FlushPoint {
        FlushPoint {
            tip: Tip { height: 91_842, block: BlockHash::from_byte_array([7; 32]) },
            coins: 1 << 40,
            total_amount: Amount::from_sat(1_234),
            flush: Flush::Every(100),
            muhash,
            records: Position { segment: 3, offset: 77 },
        }
    }

    #[test]
    fn bytes_decode_to_what_they_were_and_to_nothing_else() {
        let mut product = MuHash::new();
        product.insert(b"coin");
        for point in [point(None), point(Some(product))] {
            let bytes = point.encode();
            assert_eq!(FlushPoint::decode(&bytes), Ok(point));
            for len in 0..bytes.len() {
                assert_eq!(FlushPoint::decode(&bytes[..len]), Err(FlushPointError::Length(len)));
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(FlushPoint::decode(&longer), Err(FlushPointError::Length(longer.len())));
        }
        let change = |at: usize, byte: u8| {
            let mut bytes = point(None).encode();
            bytes[at] = byte;
            FlushPoint::decode(&bytes)
        };
        assert_eq!(change(0, 0), Err(FlushPointError::Magic));
        assert_eq!(change(4, 2), Err(FlushPointError::Version(2)));
        assert_eq!(change(6, 2), Err(FlushPointError::Field("MuHash flag")));
        assert_eq!(change(14, 0x80), Err(FlushPointError::Field("height")));
        assert_eq!(change(62, 0xff), Err(FlushPointError::Field("amount")));
    }
}
