//! Coins in the order of their names, within a bound of memory.
//!
//! ```text
//!   coins in the order of key hashes ──► sorting ──────► stored, in order ──┐
//!                                                                           ├─► the least of both ──► next
//!   changes since the flush, sorted ────────────────────────────────────────┘
//! ```

use super::below::{Change, decode};
use super::sorting::{Sorted, Sorter};
use super::{Bytes, CoinStoreError, Key};
use crate::coin::{Coin, KEY_LEN, outpoint_of};
use bitcoin::OutPoint;
use hedgerow::disk::Vfs;
use std::iter::Peekable;
use std::path::Path;
use std::vec;

/// A key whose bytes compare as coins are ordered: the number of the output has its most significant byte first.
type OrderKey = [u8; KEY_LEN];

/// The key of one, or back.
fn turned(key: &Key) -> OrderKey {
    let mut turned = *key;
    if let Some(vout) = turned.last_chunk_mut::<4>() {
        vout.reverse();
    }
    turned
}

/// Coins of a set, ordered by transaction id (as hashed) and number of the output: what
/// [`SerializedHash`](crate::SerializedHash) and [`SnapshotWriter`](crate::SnapshotWriter) take.
///
/// After an error it ends. That there are as many coins as the set has is seen at the end.
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::{CoinOptions, CoinStore, regtest};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let mut store = CoinStore::open("/coins", options)?;
/// for (height, block) in (1..).zip(regtest::chain().take(20)) {
///     store.connect_block(height, &block)?;
/// }
/// let names: Vec<_> = store.view()?.ordered(1 << 20)?.map(|coin| coin.map(|(name, _)| name)).collect::<Result<_, _>>()?;
/// assert_eq!(names.len(), 20);
/// assert!(names.is_sorted());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OrderedCoins {
    stored: Sorted<KEY_LEN>,
    /// What is changed of them.
    changes: Peekable<vec::IntoIter<(OrderKey, Option<Bytes>)>>,
    expected: u64,
    given: u64,
    ended: bool,
}

impl OrderedCoins {
    /// Puts coins in order, with `changes` done to them; there should be `expected` then.
    pub(super) fn new<E: From<CoinStoreError>>(
        coins: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
        changes: &[Change],
        expected: u64,
        memory_bytes: usize,
        disk: &dyn Vfs,
        dir: &Path,
    ) -> Result<Self, E> {
        let mut changes: Vec<_> =
            changes.iter().map(|change| (turned(&change.key), change.new.clone())).collect();
        changes.sort_unstable_by_key(|(key, _)| *key);
        let mut sorter = Sorter::new(memory_bytes, disk, dir);
        for coin in coins {
            let (key, value) = coin?;
            let name: Key =
                key.as_slice().try_into().map_err(|_| CoinStoreError::Key(key.len()))?;
            if !sorter.push(turned(&name), &value)? {
                // No coin is so long: decoding says what is wrong.
                let error = decode(&name, &value).err();
                return Err(error.unwrap_or(CoinStoreError::Key(key.len())).into());
            }
        }
        let (stored, changes) = (sorter.finish()?, changes.into_iter().peekable());
        Ok(Self { stored, changes, expected, given: 0, ended: false })
    }

    /// The next coin in its stored form.
    fn step(&mut self) -> Result<Option<(Key, Bytes)>, CoinStoreError> {
        loop {
            let stored = self.stored.peek().copied();
            let changed = self.changes.peek().map(|(key, _)| *key);
            if stored.is_some_and(|key| changed.is_none_or(|changed| key < changed)) {
                return Ok(self.stored.next()?.map(|(key, value)| (turned(&key), value)));
            }
            let Some((key, value)) = self.changes.next() else { return Ok(None) };
            if stored == Some(key) {
                self.stored.next()?;
            }
            if let Some(value) = value {
                return Ok(Some((turned(&key), value)));
            }
        }
    }
}

impl Iterator for OrderedCoins {
    type Item = Result<(OutPoint, Coin), CoinStoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match self.step() {
            Ok(Some((key, value))) => decode(&key, &value).map(|coin| (outpoint_of(&key), coin)),
            Ok(None) => {
                self.ended = true;
                let (found, expected) = (self.given, self.expected);
                return (found != expected)
                    .then_some(Err(CoinStoreError::Count { found, expected }));
            }
            Err(error) => Err(error),
        };
        self.ended = next.is_err();
        self.given += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{Amount, ScriptBuf};
    use hedgerow::disk::MemDisk;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn stored(number: u64, script: usize) -> Bytes {
        let script = ScriptBuf::from_bytes(vec![0x51; script]);
        let coin = Coin::new(9, false, Amount::from_sat(number), script).unwrap();
        let mut bytes = Vec::new();
        coin.encode(&mut bytes);
        bytes.into()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

        /// As a map orders them, with changes done, however many runs that takes.
        #[test]
        fn coins_come_as_a_map_has_them(
            numbers in prop::collection::vec((0_u32..400, 0_usize..2_000), 0..400),
            changed in prop::collection::btree_map(0_u32..500, any::<bool>(), 0..60),
        ) {
            let key = |number: u32| {
                let mut key = [0; KEY_LEN];
                key[..2].copy_from_slice(&(number % 7 * 5_000).to_le_bytes()[..2]);
                key[32..].copy_from_slice(&(number * 77).to_le_bytes());
                key
            };
            let set: BTreeMap<u32, Bytes> =
                numbers.iter().map(|(number, script)| (*number, stored(u64::from(*number), *script))).collect();
            let mut wanted: BTreeMap<OrderKey, Bytes> =
                set.iter().map(|(number, coin)| (turned(&key(*number)), coin.clone())).collect();
            let mut changes = Vec::new();
            for (&number, &there) in &changed {
                let new = there.then(|| stored(1_000_000, 3));
                match &new {
                    Some(new) => { wanted.insert(turned(&key(number)), new.clone()); }
                    None => { wanted.remove(&turned(&key(number))); }
                }
                changes.push(Change { key: key(number), old: set.get(&number).cloned(), new });
            }
            let disk = MemDisk::new();
            let ordered = |expected| {
                let coins = set.iter().map(|(number, coin)| Ok::<_, CoinStoreError>((key(*number).to_vec(), coin.to_vec())));
                OrderedCoins::new(coins, &changes, expected, 1, &disk, Path::new("/")).unwrap()
            };
            let found: Vec<_> = ordered(wanted.len() as u64).map(Result::unwrap).collect();
            let outpoint = |key: &OrderKey| outpoint_of(&turned(key));
            let wanted: Vec<_> = wanted.iter().map(|(key, coin)| (outpoint(key), Coin::decode(coin).unwrap())).collect();
            prop_assert_eq!(&found, &wanted);
            prop_assert!(found.is_sorted_by_key(|(outpoint, _)| *outpoint));
            prop_assert!(disk.read_dir(Path::new("/")).unwrap().is_empty());
            // A coin too few, or too many.
            let last = ordered(wanted.len() as u64 + 1).last();
            let count = matches!(last, Some(Err(CoinStoreError::Count { .. })));
            prop_assert!(count);
        }
    }

    #[test]
    fn a_key_that_names_no_coin_is_damage() {
        let coins = [Ok::<_, CoinStoreError>((vec![0; 35], vec![]))].into_iter();
        let disk = MemDisk::new();
        let refused = OrderedCoins::new(coins, &[], 1, 1, &disk, Path::new("/")).unwrap_err();
        assert!(matches!(refused, CoinStoreError::Key(35)) && refused.is_damage());
    }
}
