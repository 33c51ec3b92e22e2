//! The bytes of a coin of which both digests are made (`TxOutSer` in Bitcoin Core's `kernel/coinstats.cpp`).

use crate::codec::write_compact_size;
use crate::coin::{Coin, key_of};
use bitcoin::OutPoint;

/// Appends the element of a coin: outpoint, `height * 2 + coinbase` as u32, amount as i64, script with its length as a
/// CompactSize; all numbers little-endian.
///
/// ```
/// use hedgerow_coins::{Coin, write_element};
/// use hedgerow_coins::bitcoin::{Amount, OutPoint, ScriptBuf};
///
/// let coin = Coin::new(3, true, Amount::from_sat(9), ScriptBuf::from_bytes(vec![0x51]))?;
/// let mut element = Vec::new();
/// write_element(&OutPoint::null(), &coin, &mut element);
/// assert_eq!(element[32..36], [0xff; 4]);
/// assert_eq!(element[36..], [7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0x51]);
/// # Ok::<(), hedgerow_coins::CoinError>(())
/// ```
pub fn write_element(outpoint: &OutPoint, coin: &Coin, out: &mut Vec<u8>) {
    out.extend_from_slice(&key_of(outpoint));
    out.extend_from_slice(&coin.code().to_le_bytes());
    // At most 21 million bitcoin: u64 and i64 have the same bytes.
    out.extend_from_slice(&coin.amount().to_sat().to_le_bytes());
    write_compact_size(coin.script().len() as u64, out);
    out.extend_from_slice(coin.script().as_bytes());
}
