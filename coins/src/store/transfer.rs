//! Sets of coins that come from a snapshot and go into one.
//!
//! ```text
//!   out   CoinView ──► in order ──► SnapshotWriter ──► file              blocks go on meanwhile
//!
//!   in    SnapshotReader ──► hash_serialized_3, MuHash, coins, amount ──► as the caller expects? ── no ──► nothing is left
//!              │                                                                   │ yes
//!              └──► sorted by the hash of the key, in a file without a name ───────┴──► Store::import_with
//!                                                                                       { coins; FlushPoint }
//! ```
//!
//! The hash is known at the end of the snapshot, and the store below wants another order anyway: so all coins are read and
//! compared before there is a store. What the store says of itself is durable with the last of its coins.
//!
//! **Invariant:** a directory in which an import ended badly opens as no set, or as an empty one.

use super::coin_store::{MOST_FLUSHED, STORE};
use super::sorting::{Sorted, Sorter, is_leftover, remove_leftovers};
use super::{CoinOptions, CoinStore, CoinStoreError, CoinView, FlushPoint, Position, Tip};
use crate::coin::{Coin, KEY_LEN, key_of};
use crate::digest::{MuHash, OutOfOrder, SerializedHash, SetDigest, write_element};
use crate::snapshot::{SnapshotError, SnapshotHeader, SnapshotReader, SnapshotWriter};
use bitcoin::p2p::Magic;
use bitcoin::{Amount, OutPoint};
use hedgerow::disk::{LOCK_FILE, Vfs, VfsErrorKind};
use hedgerow::{ImportOptions, Store, StoreParams};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Memory by default for coins that are put in order.
const ORDER_BYTES: usize = 64 << 20;
/// Coins, and bytes of their scripts, that are multiplied at once.
const MULTIPLIED_COINS: usize = 1 << 15;
const MULTIPLIED_BYTES: usize = 8 << 20;
/// Coins between two reports of how far it is.
const REPORTED: u64 = 1 << 12;

/// What can go wrong on the way from a snapshot to a store, or back.
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::bitcoin::p2p::Magic;
/// use hedgerow_coins::{CoinOptions, CoinStore, TransferError};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let view = CoinStore::open("/coins", options)?.view()?;
/// let refused = view.export(Vec::new(), Magic::REGTEST).unwrap_err();
/// assert!(matches!(refused, TransferError::NoBlock));    // a snapshot is that after a block
/// # Ok::<(), hedgerow_coins::CoinStoreError>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The set is not the expected one.
    #[error("{what} of the snapshot is {found}, and {expected} was expected")]
    Differs {
        /// Which digest.
        what: &'static str,
        /// That of the snapshot.
        found: SetDigest,
        /// That which the caller expects.
        expected: SetDigest,
    },
    /// The set has no block yet.
    #[error("the set has no block yet, and a snapshot is that after a block")]
    NoBlock,
    /// The snapshot has no coins, so that nothing tells the height of its block.
    #[error(
        "the snapshot has no coins, which would tell the height of its block: it must be given"
    )]
    NoHeight,
    /// Whoever was told how far it is ended it.
    #[error("it was ended")]
    Stopped,
    /// The snapshot cannot be read or written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed, or refused.
    #[error(transparent)]
    Store(#[from] CoinStoreError),
}

impl From<hedgerow::Error> for TransferError {
    fn from(error: hedgerow::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<OutOfOrder> for TransferError {
    fn from(error: OutOfOrder) -> Self {
        Self::Snapshot(error.into())
    }
}

/// How far a set is on its way.
///
/// ```
/// use hedgerow_coins::TransferProgress;
///
/// let progress = TransferProgress { read: 30, written: 10, coins: 100 };
/// assert_eq!(progress.percent(), 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferProgress {
    /// Coins that were read: of an import from the snapshot, of an export from the store.
    pub read: u64,
    /// Coins that were written: of an import into the store, of an export into the snapshot.
    pub written: u64,
    /// Coins of the set.
    pub coins: u64,
}

impl TransferProgress {
    /// How much of it is done, of 100.
    pub fn percent(&self) -> u64 {
        let done = u128::from(self.read) + u128::from(self.written);
        let percent = (done * 50).checked_div(u128::from(self.coins)).unwrap_or(100);
        u64::try_from(percent.min(100)).unwrap_or(100)
    }
}

impl CoinView {
    /// Writes the set as a snapshot, as Bitcoin Core's `dumptxoutset` does (version 2): the same set gives the same bytes.
    /// Blocks may go on meanwhile. Gives back what was written to, and the set's `hash_serialized_3`, by which whoever reads
    /// the snapshot knows it (`txoutset_hash`).
    ///
    /// All of the store is read before the first byte is written; what is more than some 64 MiB waits in a temporary file in
    /// the store's directory.
    ///
    /// # Errors
    /// [`TransferError::NoBlock`]; a failed read or write, or damage.
    pub fn export<W: Write>(
        &self,
        out: W,
        network: Magic,
    ) -> Result<(W, SetDigest), TransferError> {
        self.export_with(out, network, |_| ControlFlow::Continue(()))
    }

    /// As [`export`](Self::export); `progress` is told now and then how far it is, and may end it.
    ///
    /// # Errors
    /// As [`export`](Self::export); [`TransferError::Stopped`].
    pub fn export_with<W: Write>(
        &self,
        out: W,
        network: Magic,
        mut progress: impl FnMut(TransferProgress) -> ControlFlow<()>,
    ) -> Result<(W, SetDigest), TransferError> {
        let Some(Tip { block, .. }) = self.tip() else { return Err(TransferError::NoBlock) };
        let coins = self.coins();
        let mut tell = |read, written| told(progress(TransferProgress { read, written, coins }));
        let mut writer = SnapshotWriter::new(out, SnapshotHeader { network, block, coins })?;
        let mut ordered = self.ordered_with(ORDER_BYTES, |read: u64| match read % REPORTED {
            0 => tell(read, 0),
            _ => Ok(()),
        })?;
        let (mut hash, mut written) = (SerializedHash::new(), 0);
        while let Some((outpoint, coin)) = ordered.next().transpose()? {
            hash.push(&outpoint, &coin)?;
            writer.push(&outpoint, &coin)?;
            written += 1;
            if written % REPORTED == 0 {
                tell(coins, written)?;
            }
        }
        Ok((writer.finish()?, hash.digest()))
    }
}

/// A new store of coins from a snapshot, if that is the one which the caller expects.
///
/// A snapshot is trusted for its hash alone, which comes from elsewhere: from Bitcoin Core's source, from a node of one's own
/// (`gettxoutsetinfo`).
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::bitcoin::p2p::Magic;
/// use hedgerow_coins::{CoinOptions, CoinStore, SnapshotImport, SnapshotReader, TransferError, regtest};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let mut store = CoinStore::open("/coins", options.clone())?;
/// for (height, block) in (1..).zip(regtest::chain().take(100)) {
///     store.connect_block(height, &block)?;
/// }
/// let (snapshot, expected) = store.view()?.export(Vec::new(), Magic::REGTEST)?;
/// assert_eq!(snapshot.len(), 5_788);
///
/// let published = "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d";
/// assert_eq!(expected.to_string(), published);
/// let reader = SnapshotReader::new(&snapshot[..])?;
/// let copy = SnapshotImport::new().hash_serialized(expected).run("/copy", options.clone(), reader)?;
/// assert_eq!((copy.tip(), copy.digest()?), (store.tip(), store.digest()?));
///
/// let reader = SnapshotReader::new(&snapshot[..])?;
/// let other = SnapshotImport::new().muhash(expected).run("/other", options, reader);
/// assert!(matches!(other, Err(TransferError::Differs { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SnapshotImport {
    hash_serialized: Option<SetDigest>,
    muhash: Option<SetDigest>,
    height: Option<u32>,
    memory_bytes: usize,
}

impl Default for SnapshotImport {
    fn default() -> Self {
        Self { hash_serialized: None, muhash: None, height: None, memory_bytes: ORDER_BYTES }
    }
}

impl SnapshotImport {
    /// One that expects nothing yet: it takes at least one of the two digests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects this `hash_serialized_3`, which Bitcoin Core calls `txoutset_hash` of a snapshot too.
    #[must_use]
    pub const fn hash_serialized(mut self, expected: SetDigest) -> Self {
        self.hash_serialized = Some(expected);
        self
    }

    /// Expects this MuHash.
    #[must_use]
    pub const fn muhash(mut self, expected: SetDigest) -> Self {
        self.muhash = Some(expected);
        self
    }

    /// The height of the snapshot's block, which has its hash only.
    ///
    /// Default: that of the youngest coin. A block's coinbase cannot be spent before another 99 blocks, so it is in the set
    /// after the block, unless it paid to nobody: all its outputs begin with OP_RETURN. That of such a block must be given.
    #[must_use]
    pub const fn height(mut self, height: u32) -> Self {
        self.height = Some(height);
        self
    }

    /// Bytes of memory for coins that are put in order. Default 64 MiB; the rest waits in a temporary file in the new
    /// directory.
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Reads the snapshot, compares it, and makes a store of it in a directory that is empty or not there yet, or holds what an
    /// import that was cut short has left.
    ///
    /// The store has the root that it would have if all blocks up to the snapshot's had been connected with one flush, as
    /// long as one flush can hold the set ([`CoinOptions::cache_bytes`] says how much that is); a larger one comes in
    /// several blocks of the store. No block up to the snapshot's can be disconnected.
    ///
    /// # Errors
    /// Nothing is left then of what was not there before, unless it is said; after a power failure what there is opens as no
    /// set, or as an empty one. [`TransferError::Differs`], [`TransferError::Snapshot`], [`TransferError::NoHeight`],
    /// [`CoinStoreError::Option`] if no digest is expected, [`CoinStoreError::Network`],
    /// [`CoinStoreError::TotalAmount`], [`hedgerow::Error::NotEmpty`]; a failed read or write. If the finished store cannot
    /// be opened, it stays.
    pub fn run<R: Read>(
        &self,
        dir: impl AsRef<Path>,
        options: CoinOptions,
        snapshot: SnapshotReader<R>,
    ) -> Result<CoinStore, TransferError> {
        self.run_with(dir, options, snapshot, |_| ControlFlow::Continue(()))
    }

    /// As [`run`](Self::run); `progress` is told now and then how far it is, and may end it.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`TransferError::Stopped`].
    pub fn run_with<R: Read>(
        &self,
        dir: impl AsRef<Path>,
        options: CoinOptions,
        snapshot: SnapshotReader<R>,
        progress: impl FnMut(TransferProgress) -> ControlFlow<()>,
    ) -> Result<CoinStore, TransferError> {
        options.check()?;
        if self.hash_serialized.is_none() && self.muhash.is_none() {
            let reason = "a digest must be expected".into();
            return Err(CoinStoreError::Option { option: "hash_serialized", reason }.into());
        }
        let network = snapshot.header().network;
        if let Some(given) = options.network.filter(|given| *given != network) {
            return Err(CoinStoreError::Network { given, expected: network }.into());
        }
        let options = options.network(network);
        let disk = Arc::clone(&options.disk);
        let dir = disk.absolute(dir.as_ref()).map_err(CoinStoreError::from)?;
        let place = NewPlace::take(&*disk, &dir, &options)?;
        let store = self.fill(&place, &options, snapshot, progress);
        let store = match store {
            Ok(store) => store,
            Err(error) => {
                place.give_up();
                return Err(error);
            }
        };
        Ok(CoinStore::begin(store, dir, options)?)
    }

    /// Makes the store below.
    fn fill<R: Read>(
        &self,
        place: &NewPlace<'_>,
        options: &CoinOptions,
        snapshot: SnapshotReader<R>,
        mut progress: impl FnMut(TransferProgress) -> ControlFlow<()>,
    ) -> Result<Store, TransferError> {
        let header = snapshot.header();
        let coins = header.coins;
        let mut tell = |read, written| told(progress(TransferProgress { read, written, coins }));
        let multiply = options.muhash || self.muhash.is_some();
        let mut seen = Seen::new(multiply);
        let mut sorter: Sorter<'_, 32> = Sorter::new(self.memory_bytes, place.disk, place.dir);
        let snapshot = match self.height {
            Some(height) => snapshot.up_to(height),
            None => snapshot,
        };
        let mut pair = Vec::new();
        for read in snapshot {
            let (outpoint, coin) = read?;
            let key = key_of(&outpoint);
            pair.clear();
            pair.extend_from_slice(&key);
            coin.encode(&mut pair);
            // A coin is never so long that it is not taken.
            sorter.push(Sha256::digest(key).into(), &pair)?;
            seen.see(outpoint, coin)?;
            if seen.coins.is_multiple_of(REPORTED) {
                tell(seen.coins, 0)?;
            }
        }
        let height = self.height.or(seen.youngest).ok_or(TransferError::NoHeight)?;
        let mut point = FlushPoint::new(Tip { height, block: header.block });
        (point.coins, point.total_amount) = (seen.coins, seen.total_amount);
        (point.records, point.network) = (Position::START, Some(header.network));
        let (hash, product) = seen.end();
        let compare = |what, found: SetDigest, expected: Option<SetDigest>| match expected {
            Some(expected) if expected != found => {
                Err(TransferError::Differs { what, found, expected })
            }
            _ => Ok(()),
        };
        compare("hash_serialized_3", hash, self.hash_serialized)?;
        if let Some(product) = &product {
            compare("muhash", product.digest(), self.muhash)?;
        }
        point.muhash = product.filter(|_| options.muhash);

        // As much as a flush takes: what is one flush there is one block here.
        let block_bytes = (options.cache_bytes / 3 * 2).min(MOST_FLUSHED);
        let block_bytes = usize::try_from(block_bytes).unwrap_or(usize::MAX);
        let import = ImportOptions::new().block_bytes(block_bytes).extra(point.encode());
        let pairs = Pairs { sorted: sorter.finish()?, given: 0, tell: |given| tell(coins, given) };
        let dir = place.dir.join(STORE);
        Store::import_with(dir, StoreParams::default(), options.below(), import, pairs)
    }
}

/// What whoever was told how far it is said.
fn told(said: ControlFlow<()>) -> Result<(), TransferError> {
    match said {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(TransferError::Stopped),
    }
}

/// What was seen of a snapshot.
struct Seen {
    coins: u64,
    total_amount: Amount,
    /// The greatest height of a coin.
    youngest: Option<u32>,
    hash: SerializedHash,
    product: Option<MuHash>,
    /// Coins that are not in the product yet, and bytes of their scripts.
    waiting: Vec<(OutPoint, Coin)>,
    bytes: usize,
}

impl Seen {
    fn new(multiply: bool) -> Self {
        Self {
            coins: 0,
            total_amount: Amount::ZERO,
            youngest: None,
            hash: SerializedHash::new(),
            product: multiply.then(MuHash::new),
            waiting: Vec::new(),
            bytes: 0,
        }
    }

    fn see(&mut self, outpoint: OutPoint, coin: Coin) -> Result<(), TransferError> {
        self.hash.push(&outpoint, &coin)?;
        let total = self.total_amount.to_sat().saturating_add(coin.amount().to_sat());
        self.total_amount = Amount::from_sat(total);
        if self.total_amount > Amount::MAX_MONEY {
            return Err(CoinStoreError::TotalAmount(self.total_amount).into());
        }
        self.coins += 1;
        self.youngest = self.youngest.max(Some(coin.height()));
        if self.product.is_some() {
            self.bytes += coin.script().len();
            self.waiting.push((outpoint, coin));
            if self.waiting.len() >= MULTIPLIED_COINS || self.bytes >= MULTIPLIED_BYTES {
                self.multiply();
            }
        }
        Ok(())
    }

    fn multiply(&mut self) {
        if let Some(product) = &mut self.product {
            let element = |(outpoint, coin): &(OutPoint, Coin), out: &mut Vec<u8>| {
                write_element(outpoint, coin, out);
            };
            product.combine(&MuHash::net(&self.waiting, &[], element));
        }
        self.waiting.clear();
        self.bytes = 0;
    }

    fn end(mut self) -> (SetDigest, Option<MuHash>) {
        self.multiply();
        (self.hash.digest(), self.product)
    }
}

/// Keys and values in the order of the hashes of the keys.
struct Pairs<F> {
    /// By hash: key and value.
    sorted: Sorted<32>,
    given: u64,
    tell: F,
}

impl<F: FnMut(u64) -> Result<(), TransferError>> Iterator for Pairs<F> {
    type Item = Result<([u8; KEY_LEN], Vec<u8>), TransferError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = match self.sorted.next() {
            Ok(pair) => pair?.1,
            Err(error) => return Some(Err(error.into())),
        };
        let (key, value) = pair.split_first_chunk::<KEY_LEN>()?;
        self.given += 1;
        if self.given.is_multiple_of(REPORTED)
            && let Err(error) = (self.tell)(self.given)
        {
            return Some(Err(error));
        }
        Some(Ok((*key, value.to_vec())))
    }
}

/// A directory in which there is to be a store of coins.
struct NewPlace<'a> {
    disk: &'a dyn Vfs,
    dir: &'a Path,
    /// It was not there before.
    made: bool,
}

impl<'a> NewPlace<'a> {
    /// Sees to it that the directory is there, and that nothing is in it but what an import has left.
    fn take(
        disk: &'a dyn Vfs,
        dir: &'a Path,
        options: &CoinOptions,
    ) -> Result<Self, CoinStoreError> {
        let made = !disk.exists(dir)?;
        disk.create_dir_all(dir)?;
        let names = disk.read_dir(dir)?;
        let others = names.iter().any(|name| name != STORE && !is_leftover(name));
        let full = || Err(hedgerow::Error::NotEmpty(dir.to_owned()).into());
        if others {
            return full();
        }
        if names.iter().any(|name| name == STORE) {
            // One that is not finished, or only what the lock left.
            match Store::open(dir.join(STORE), options.below()) {
                Err(hedgerow::Error::UnfinishedCopy(_) | hedgerow::Error::NoStore(_)) => {}
                Ok(_) => return full(),
                Err(error) => return Err(error.into()),
            }
        }
        remove_leftovers(disk, dir)?;
        Ok(Self { disk, dir, made })
    }

    /// Removes what an import that failed has left: the store's directory, of which the lock's file is all that there is, and
    /// the directory itself if it was made. If that fails too, what is left is no store, or an empty one.
    fn give_up(&self) {
        let store = self.dir.join(STORE);
        let nothing = match self.disk.read_dir(&store) {
            Ok(names) => names.iter().all(|name| name == LOCK_FILE),
            Err(error) => error.kind() == VfsErrorKind::NotFound,
        };
        // Somebody else's, if there is more in it.
        if nothing {
            let _ = self.disk.remove_dir_all(if self.made { self.dir } else { &store });
        }
    }
}
