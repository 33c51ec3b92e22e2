//! `hash_serialized_3`: one hash over all coins in order.

use super::{SetDigest, write_element};
use crate::coin::Coin;
use bitcoin::OutPoint;
use sha2::{Digest, Sha256};

/// SHA-256 twice over the elements of a set, ordered by transaction id (as hashed) and number of the output.
///
/// What Bitcoin Core calls `hash_serialized_3`, and by which it knows a snapshot.
///
/// ```
/// use hedgerow_coins::{BlockEffect, SerializedHash, regtest};
/// # let mut coins = std::collections::BTreeMap::new();
/// # for (height, block) in (1..).zip(regtest::chain().take(100)) {
/// #     coins.extend(BlockEffect::of(&block, height)?.created);
/// # }
/// // The coins of the first 100 blocks of a regtest chain, in order.
/// let mut hash = SerializedHash::new();
/// for (outpoint, coin) in &coins {
///     hash.push(outpoint, coin)?;
/// }
/// let expected = "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d";
/// assert_eq!(hash.digest().to_string(), expected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SerializedHash {
    inner: Sha256,
    last: Option<OutPoint>,
    element: Vec<u8>,
}

impl SerializedHash {
    /// Of no coins yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next coin.
    ///
    /// # Errors
    /// [`OutOfOrder`] if it does not come after the one before; nothing is taken in then.
    pub fn push(&mut self, outpoint: &OutPoint, coin: &Coin) -> Result<(), OutOfOrder> {
        OutOfOrder::check(&mut self.last, outpoint)?;
        self.element.clear();
        write_element(outpoint, coin, &mut self.element);
        self.inner.update(&self.element);
        Ok(())
    }

    /// The digest of the coins so far.
    pub fn digest(&self) -> SetDigest {
        SetDigest(Sha256::digest(self.inner.clone().finalize()).into())
    }
}

/// Coins must come in the order of their outpoints, each once.
///
/// ```
/// use hedgerow_coins::{Coin, OutOfOrder, SerializedHash};
/// use hedgerow_coins::bitcoin::{Amount, OutPoint, ScriptBuf};
///
/// let coin = Coin::new(1, false, Amount::ZERO, ScriptBuf::new())?;
/// let (first, second) = (OutPoint { vout: 255, ..Default::default() }, OutPoint { vout: 256, ..Default::default() });
/// let mut hash = SerializedHash::new();
/// hash.push(&second, &coin)?;
/// assert_eq!(hash.push(&first, &coin), Err(OutOfOrder { before: second, next: first }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{next} comes after {before}: coins must be ordered by transaction id and output, each once"
)]
pub struct OutOfOrder {
    /// The outpoint before.
    pub before: OutPoint,
    /// The one that does not come after it.
    pub next: OutPoint,
}

impl OutOfOrder {
    /// Makes `next` the last, if it comes after it. Transaction ids compare as hashed, not as shown.
    pub(crate) fn check(last: &mut Option<OutPoint>, next: &OutPoint) -> Result<(), Self> {
        match *last {
            Some(before) if before >= *next => Err(Self { before, next: *next }),
            _ => {
                *last = Some(*next);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Txid;
    use bitcoin::hashes::Hash;

    #[test]
    fn outpoints_compare_by_the_bytes_as_hashed_then_by_number() {
        let outpoint = |first: u8, last: u8, vout| {
            let mut txid = [0; 32];
            (txid[0], txid[31]) = (first, last);
            OutPoint { txid: Txid::from_byte_array(txid), vout }
        };
        let ascending = [
            outpoint(0, 9, 3),
            outpoint(1, 0, 255),
            outpoint(1, 0, 256),
            outpoint(1, 1, 0),
            outpoint(2, 0, 0),
        ];
        let mut last = None;
        for next in &ascending {
            OutOfOrder::check(&mut last, next).unwrap();
            OutOfOrder::check(&mut last, next).unwrap_err();
        }
    }
}
