//! Coins in the order of their names, within a bound of memory.
//!
//! ```text
//!   coins in the order of key hashes ──► buffer ── full: sorted ──► run 1 │ run 2 │ ..  │      a file without a name
//!                                           │                         │       │
//!                                           └── the last one, sorted ─┤       │
//!                                                                     ▼       ▼
//!   changes since the flush, sorted ──────────────────────────────► the least of all ──► next
//! ```

use super::below::{Change, decode};
use super::{Bytes, CoinStoreError, Key};
use crate::coin::{Coin, KEY_LEN, outpoint_of};
use bitcoin::OutPoint;
use hedgerow::disk::{OpenMode, Vfs, VfsErrorKind, VfsFile};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::vec;

/// Names of files that are there for a moment only.
const PREFIX: &str = "sort-";
const SUFFIX: &str = ".tmp";
/// Least memory for coins that are to be ordered.
const LEAST_BYTES: usize = 64 << 10;
/// Bytes of a run that are read at once; half of the memory at most, for all runs together.
const READ_AT_ONCE: usize = 64 << 10;
const LEAST_READ: usize = 4 << 10;
/// Bytes that are written at once.
const WRITTEN_AT_ONCE: usize = 256 << 10;
/// What a coin takes in the buffer beside its stored form.
const BESIDE: usize = size_of::<Place>();

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
    runs: Vec<Run>,
    /// The next coin of each run, the least first.
    heads: BinaryHeap<Reverse<(OrderKey, usize)>>,
    /// What is changed of the coins of the runs.
    changes: Peekable<vec::IntoIter<(OrderKey, Option<Bytes>)>>,
    expected: u64,
    given: u64,
    ended: bool,
}

/// Coins in order.
#[derive(Debug)]
enum Run {
    /// In memory.
    Memory { bytes: Vec<u8>, places: vec::IntoIter<Place>, head: Option<Place> },
    /// In a file.
    File { file: Arc<dyn VfsFile>, next: u64, end: u64, buffer: Vec<u8>, at: usize, most: usize },
}

/// A coin in a buffer.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: OrderKey,
    from: usize,
    len: u16,
}

impl OrderedCoins {
    /// Puts coins in order, with `changes` done to them; there should be `expected` then.
    pub(super) fn new(
        coins: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), hedgerow::Error>>,
        changes: &[Change],
        expected: u64,
        memory_bytes: usize,
        disk: &dyn Vfs,
        dir: &Path,
    ) -> Result<Self, CoinStoreError> {
        let memory = memory_bytes.max(LEAST_BYTES);
        let mut changes: Vec<_> =
            changes.iter().map(|change| (turned(&change.key), change.new.clone())).collect();
        changes.sort_unstable_by_key(|(key, _)| *key);
        let mut spill = Spill { disk, dir, file: None, len: 0, ends: Vec::new() };
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for coin in coins {
            let (key, value) = coin?;
            let name: Key =
                key.as_slice().try_into().map_err(|_| CoinStoreError::Key(key.len()))?;
            let len = match u16::try_from(value.len()) {
                Ok(len) => len,
                // No coin is so long: decoding says what is wrong.
                Err(_) => {
                    return Err(decode(&name, &value)
                        .map_or_else(|error| error, |_| CoinStoreError::Key(key.len())));
                }
            };
            let takes = bytes.len() + value.len() + (places.len() + 1) * BESIDE;
            if takes > memory && !places.is_empty() {
                spill.write(&bytes, &mut places)?;
                bytes.clear();
            }
            places.push(Place { key: turned(&name), from: bytes.len(), len });
            bytes.extend_from_slice(&value);
        }
        places.sort_unstable_by_key(|place| place.key);
        let mut runs = spill.into_runs(memory);
        runs.push(Run::Memory { bytes, places: places.into_iter(), head: None });
        let (changes, heads) = (changes.into_iter().peekable(), BinaryHeap::new());
        let mut ordered = Self { runs, heads, changes, expected, given: 0, ended: false };
        for run in 0..ordered.runs.len() {
            ordered.advance(run)?;
        }
        Ok(ordered)
    }

    /// Brings the next coin of a run among the heads.
    fn advance(&mut self, run: usize) -> Result<(), CoinStoreError> {
        if let Some(from) = self.runs.get_mut(run)
            && let Some(key) = from.advance()?
        {
            self.heads.push(Reverse((key, run)));
        }
        Ok(())
    }

    /// The next coin in its stored form.
    fn step(&mut self) -> Result<Option<(Key, Bytes)>, CoinStoreError> {
        loop {
            let stored = self.heads.peek().map(|Reverse((key, run))| (*key, *run));
            let changed = self.changes.peek().map(|(key, _)| *key);
            let (key, value) = match (stored, changed) {
                (None, None) => return Ok(None),
                (Some((key, run)), changed) if changed.is_none_or(|changed| key < changed) => {
                    (key, self.take(run)?)
                }
                (stored, _) => {
                    let Some((key, value)) = self.changes.next() else { return Ok(None) };
                    if let Some((_, run)) = stored.filter(|(same, _)| *same == key) {
                        self.take(run)?;
                    }
                    (key, value)
                }
            };
            if let Some(value) = value {
                return Ok(Some((turned(&key), value)));
            }
        }
    }

    /// Takes the coin of a run that is the least of the heads.
    fn take(&mut self, run: usize) -> Result<Option<Bytes>, CoinStoreError> {
        self.heads.pop();
        let value = self.runs.get(run).map(|from| Bytes::from(from.value()));
        self.advance(run)?;
        Ok(value)
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

impl Run {
    /// Goes on to the next coin, and says its key; `None` at the end.
    fn advance(&mut self) -> Result<Option<OrderKey>, CoinStoreError> {
        match self {
            Self::Memory { places, head, .. } => {
                *head = places.next();
                Ok(head.map(|place| place.key))
            }
            Self::File { file, next, end, buffer, at, most } => {
                // Behind the coin that was the head.
                if !buffer.is_empty() {
                    *at += coin_len(buffer, *at);
                }
                loop {
                    let ready = buffer.len().saturating_sub(*at);
                    if ready >= KEY_LEN + 2 && ready >= coin_len(buffer, *at) {
                        let key = buffer.get(*at..).and_then(|left| left.first_chunk::<KEY_LEN>());
                        return Ok(key.copied());
                    }
                    if *next == *end {
                        return Ok(None);
                    }
                    buffer.drain(..*at);
                    *at = 0;
                    let wanted = usize::try_from(*end - *next).unwrap_or(usize::MAX).min(*most);
                    let had = buffer.len();
                    buffer.resize(had + wanted, 0);
                    let into = buffer.get_mut(had..).unwrap_or_default();
                    file.read_exact_at(into, *next)?;
                    *next += wanted as u64;
                }
            }
        }
    }

    /// The coin to which it came last.
    fn value(&self) -> &[u8] {
        let value = match self {
            Self::Memory { bytes, head, .. } => head.and_then(|place| {
                bytes.get(place.from..place.from.saturating_add(usize::from(place.len)))
            }),
            Self::File { buffer, at, .. } => {
                buffer.get(at + KEY_LEN + 2..at + coin_len(buffer, *at))
            }
        };
        value.unwrap_or_default()
    }
}

/// Bytes of the coin at a place in a run, its key and length included.
fn coin_len(buffer: &[u8], at: usize) -> usize {
    let len = buffer.get(at + KEY_LEN..).and_then(|left| left.first_chunk::<2>());
    KEY_LEN + 2 + len.map_or(0, |len| usize::from(u16::from_le_bytes(*len)))
}

/// The file of runs, which has no name as soon as it is open.
struct Spill<'a> {
    disk: &'a dyn Vfs,
    dir: &'a Path,
    file: Option<Arc<dyn VfsFile>>,
    len: u64,
    /// Where each run ends.
    ends: Vec<u64>,
}

impl Spill<'_> {
    /// Writes a run; the places are used up.
    fn write(&mut self, bytes: &[u8], places: &mut Vec<Place>) -> Result<(), CoinStoreError> {
        places.sort_unstable_by_key(|place| place.key);
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = nameless(self.disk, self.dir)?;
                self.file = Some(Arc::clone(&file));
                file
            }
        };
        let mut out = Vec::with_capacity(WRITTEN_AT_ONCE + (64 << 10));
        let mut write = |out: &mut Vec<u8>| {
            let written = file.write_all_at(out, self.len);
            self.len += out.len() as u64;
            out.clear();
            written
        };
        for place in places.drain(..) {
            out.extend_from_slice(&place.key);
            out.extend_from_slice(&place.len.to_le_bytes());
            let end = place.from.saturating_add(usize::from(place.len));
            out.extend_from_slice(bytes.get(place.from..end).unwrap_or_default());
            if out.len() >= WRITTEN_AT_ONCE {
                write(&mut out)?;
            }
        }
        write(&mut out)?;
        self.ends.push(self.len);
        Ok(())
    }

    /// The runs, to be read within half of the memory.
    fn into_runs(self, memory: usize) -> Vec<Run> {
        let Some(file) = self.file else { return Vec::new() };
        let share = memory / 2 / self.ends.len().max(1);
        let most = share.clamp(LEAST_READ, READ_AT_ONCE);
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let run = |(next, &end): (u64, &u64)| Run::File {
            file: Arc::clone(&file),
            next,
            end,
            buffer: Vec::new(),
            at: 0,
            most,
        };
        begins.zip(&self.ends).map(run).collect()
    }
}

/// A new file that is gone when it is closed.
fn nameless(disk: &dyn Vfs, dir: &Path) -> Result<Arc<dyn VfsFile>, CoinStoreError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let path = dir.join(format!("{PREFIX}{number}{SUFFIX}"));
    let file = disk.open(&path, OpenMode::CreateNew)?;
    disk.remove_file(&path)?;
    Ok(file)
}

/// Removes what a process has left that was killed between making such a file and taking its name away.
pub(super) fn remove_leftovers(disk: &dyn Vfs, dir: &Path) -> Result<(), CoinStoreError> {
    let is_one = |name: &OsStr| {
        name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
    };
    for name in disk.read_dir(dir)?.into_iter().filter(|name| is_one(name)) {
        match disk.remove_file(&dir.join(name)) {
            Err(error) if error.kind() != VfsErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
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
                let coins = set.iter().map(|(number, coin)| Ok((key(*number).to_vec(), coin.to_vec())));
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
        let coins = [Ok((vec![0; 35], vec![]))].into_iter();
        let disk = MemDisk::new();
        let refused = OrderedCoins::new(coins, &[], 1, 1, &disk, Path::new("/")).unwrap_err();
        assert!(matches!(refused, CoinStoreError::Key(35)) && refused.is_damage());
    }
}
