//! The engine: blocks are connected to the set and disconnected from it.
//!
//! ```text
//!   connect      look up ─► cache.write ─► record ─► the height asks, or the cache: close the epoch ─► flusher
//!   disconnect   above the last flush:  record ─► its inverse ─► cache.write ─► "disconnected" is recorded
//!                else:                  flush before ◄─ Store::rollback; cache.reset; records above it ─► cache.write
//!   open         store ─► its last flush; records above that ─► cache.write
//! ```

use super::below::{Below, Mark, Stand, Tag, product_of};
use super::records::{Draft, Record, Records};
use super::{
    BlockRecord, Bytes, CoinCache, CoinDigest, CoinOptions, CoinReader, CoinStats, CoinStoreError,
    CoinView, Connected, Flush, FlushPoint, Key, Position, Tip, sorting,
};
use crate::coin::{Coin, MAX_HEIGHT, key_of, outpoint_of};
use crate::digest::SetDigest;
use crate::effect::{BlockEffect, EffectError};
use bitcoin::p2p::Magic;
use bitcoin::{Amount, Block, BlockHash, OutPoint};
use hedgerow::{Digest, Height, Proven, Store, StoreParams};
use hedgerow_cache::{Cache, CacheOptions, CacheStats, Op, Undo};
use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of the store below.
pub(super) const STORE: &str = "store";
/// The directory of the records of blocks.
const BLOCKS: &str = "blocks";
/// Most bytes of the cache, by its own count, that one flush takes with [`Flush::WhenFull`]: what the store makes of
/// it is held in memory, some seven times that.
pub(super) const MOST_FLUSHED: u64 = 128 << 20;

/// Most bytes of the cache, by its own count, that may wait for a flush with [`Flush::Every`]: a block of the store has no
/// more than 4 GiB.
const MOST_WAITING: u64 = 2 << 30;

/// A set of unspent coins on a disk, open. It is the single writer; [`CoinStore::reader`] gives readers.
///
/// Dropping it loses nothing that was flushed; [`CoinStore::close`] also flushes what may be flushed, and says whether that
/// went well.
///
/// ```
/// use hedgerow_coins::{CoinOptions, CoinStore, Flush, regtest};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path();
///
/// let mut store = CoinStore::open(path, CoinOptions::new().flush(Flush::Every(50)))?;
/// for (height, block) in (1..).zip(regtest::chain().take(100)) {
///     store.connect_block(height, &block)?;
/// }
/// store.wait_durable(100)?;
///
/// let digest = store.digest()?;
/// assert_eq!((digest.coins, digest.total_amount.to_btc()), (100, 5_000.0));
/// let expected = "e3edb1ec3a51c50591e501fb0cedbd23accd3cfbe4dd057877a46760c20bcab1";
/// assert_eq!(digest.muhash.map(|muhash| muhash.to_string()).as_deref(), Some(expected));
/// let expected = "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d";
/// assert_eq!(store.hash_serialized()?.to_string(), expected);
///
/// store.disconnect(100)?;                              // the chain goes another way
/// assert_eq!(store.tip().map(|tip| tip.height), Some(99));
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CoinStore {
    cache: Arc<CoinCache>,
    /// `None`: no records are kept.
    records: Option<Arc<Records>>,
    options: CoinOptions,
    dir: PathBuf,
    reader: CoinReader,
    /// What the newest state is; `None` before the first block.
    now: Option<Now>,
    /// Closed flushes, from the one that can be gone back to at most up to the newest.
    flushes: VecDeque<Mark>,
    /// The newest height asks for a flush that is not closed yet.
    due: bool,
    counts: Counts,
    memory: Memory,
}

/// Memory that one block leaves to the next.
#[derive(Debug, Default)]
struct Memory {
    ops: Vec<(Key, Op<Bytes>)>,
    created: Vec<u8>,
}

impl Memory {
    /// Unless it is more than most blocks need.
    fn kept(ops: Vec<(Key, Op<Bytes>)>, created: Vec<u8>) -> Self {
        let few = ops.capacity() <= 1 << 15 && created.capacity() <= 4 << 20;
        if few { Self { ops, created } } else { Self::default() }
    }
}

/// The newest state.
#[derive(Clone, Copy, Debug)]
struct Now {
    tip: Tip,
    coins: u64,
    total: Amount,
}

/// What was done since the store was opened.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connected: u64,
    disconnected: u64,
    reconnected: u64,
    created: u64,
    spent: u64,
}

impl CoinStore {
    /// Opens the store of coins in a directory, or makes one in an empty directory, or in one that is not there yet.
    ///
    /// It stands at the last flush that is durable, or above it, if there are whole records of blocks that were
    /// connected after it: they are connected again.
    ///
    /// # Errors
    /// [`CoinStoreError::Option`], [`CoinStoreError::Network`]; what is wrong with the store below, with what its last block says of itself, with the
    /// records of blocks; a failed read or write. Nothing is repaired but by cutting what was never durable.
    pub fn open(dir: impl AsRef<Path>, options: CoinOptions) -> Result<Self, CoinStoreError> {
        options.check()?;
        let disk = Arc::clone(&options.disk);
        let dir = disk.absolute(dir.as_ref())?;
        disk.create_dir_all(&dir)?;
        let store =
            Store::open_or_create(dir.join(STORE), StoreParams::default(), options.below())?;
        Self::begin(store, dir, options)
    }

    /// Begins with the store below, which is open, and the records of blocks.
    pub(super) fn begin(
        store: Store,
        dir: PathBuf,
        options: CoinOptions,
    ) -> Result<Self, CoinStoreError> {
        let disk = Arc::clone(&options.disk);
        // From here on nobody else has the directory.
        sorting::remove_leftovers(&*disk, &dir)?;
        let (reader, first) = (store.reader(), store.params().first_height());
        let stand = Stand::at(&reader, first, store.height(), options.muhash)?;
        let at = stand.point.as_ref().map(|point| point.tip);
        let known = stand.point.as_ref().and_then(|point| point.network);
        if let (Some(given), Some(expected)) = (options.network, known)
            && given != expected
        {
            return Err(CoinStoreError::Network { given, expected });
        }
        let durable = stand.point.as_ref().map_or(Position::START, |point| point.records);
        let blocks = dir.join(BLOCKS);
        let records = match options.undo_blocks {
            0 => {
                Records::remove(&*disk, &blocks)?;
                None
            }
            _ => {
                let (disk, bytes) = (Arc::clone(&disk), options.segment_bytes);
                Some(Arc::new(Records::open(disk, &blocks, bytes, durable, at)?))
            }
        };
        let now = stand.point.as_ref().map(Now::of);
        let below = Below::new(store, stand, records.clone(), &options);
        let flushes = below.marks(first, options.undo_blocks)?;
        let limit_bytes = options.cache_bytes;
        let cache_options = CacheOptions { limit_bytes, keep_deleted: true, ..Default::default() };
        let durable = now.map(|now| now.tag(Position::START));
        let cache = Arc::new(Cache::new(Arc::new(below), durable, cache_options)?);
        let reader = CoinReader::new(&cache);
        let mut opened = Self {
            cache,
            records,
            options,
            dir,
            reader,
            now,
            flushes,
            due: false,
            counts: Counts::default(),
            memory: Memory::default(),
        };
        opened.reconnect(None)?;
        Ok(opened)
    }

    /// The last block that was connected; `None` before the first.
    pub fn tip(&self) -> Option<Tip> {
        self.now.map(|now| now.tip)
    }

    /// The height of [`tip`](Self::tip).
    pub fn height(&self) -> Option<u32> {
        self.tip().map(|tip| tip.height)
    }

    /// The network that the blocks are of, if the [options](CoinOptions::network) or the last flush say it.
    pub fn network(&self) -> Option<Magic> {
        self.cache.backing().network()
    }

    /// Height up to which blocks survive power loss: that of the last flush that is durable.
    pub fn durable(&self) -> Option<u32> {
        self.reader.durable()
    }

    /// What the last flush that is durable says of the set; `None` before the first.
    pub fn flushed(&self) -> Option<FlushPoint> {
        self.cache.backing().stand().point
    }

    /// The root of the last flush, and the flush's block of the store below. Proofs are against it.
    pub fn root(&self) -> (Height, Digest) {
        self.reader.root()
    }

    /// A reader of the newest state, for any thread.
    pub fn reader(&self) -> CoinReader {
        self.reader.clone()
    }

    /// The coin of this name, if it is not spent.
    ///
    /// # Errors
    /// A failed read, or damage: never "not there".
    pub fn get(&self, outpoint: &OutPoint) -> Result<Option<Coin>, CoinStoreError> {
        self.reader.get(outpoint)
    }

    /// The coins of these names, in their order: what a block spends, looked up by all threads at once, ahead of its
    /// validation. They are in the cache then.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_many(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, CoinStoreError> {
        self.reader.get_many(outpoints)
    }

    /// A proof of what the last flush has under this name: a coin ([`Coin::decode`] of the value), or none.
    ///
    /// # Errors
    /// As [`hedgerow::Reader::prove`].
    pub fn prove(&self, outpoint: &OutPoint) -> Result<Proven, CoinStoreError> {
        self.reader.prove(outpoint)
    }

    /// Connects a block: spends coins and creates coins. The first block has height 0, which is the genesis block and
    /// does nothing, or 1; each other one the height after the tip's.
    ///
    /// Returns when the set has it, not when it is durable: that says [`Self::wait_durable`]. Waits while the cache is
    /// full of what is being flushed.
    ///
    /// # Errors
    /// Nothing has changed then. [`CoinStoreError::Height`], [`CoinStoreError::Missing`], [`CoinStoreError::Exists`],
    /// [`CoinStoreError::Effect`] for what is spent or created twice, [`CoinStoreError::CoinHeight`],
    /// [`CoinStoreError::TotalAmount`]; [`CoinStoreError::CacheFull`], [`CoinStoreError::BlockTooLarge`]; a failed read or
    /// write; what is latched since a flush failed.
    pub fn connect(
        &mut self,
        height: u32,
        block: BlockHash,
        effect: &BlockEffect,
    ) -> Result<Connected, CoinStoreError> {
        let expected = self.now.map_or(1, |now| now.tip.height.saturating_add(1));
        let first = self.now.is_none() && height == 0;
        if (height != expected && !first) || height > MAX_HEIGHT {
            return Err(CoinStoreError::Height { given: height, expected });
        }
        self.close_if_due()?;
        if self.options.flush != Flush::WhenFull {
            let (needed, limit) = (dirty_bytes(&self.cache.stats()), MOST_WAITING);
            if needed > limit {
                return Err(CoinStoreError::CacheFull { needed, limit });
            }
        }
        let tip = Tip { height, block };
        let overwritten = self.overwritten(tip, effect)?;
        let Memory { mut ops, created } = std::mem::take(&mut self.memory);
        let mut draft = Draft::new(tip, self.tip(), created);
        ops.clear();
        let gone = effect.spent.iter().map(key_of).chain(overwritten.iter().copied());
        ops.extend(gone.map(|key| (key, Op::Remove)));
        let removed = ops.len();
        for (outpoint, coin) in &effect.created {
            if coin.height() != height {
                let (outpoint, given) = (*outpoint, coin.height());
                return Err(CoinStoreError::CoinHeight { outpoint, given });
            }
            let key = key_of(outpoint);
            let stored = draft.create(&key, coin);
            let create = if self.options.check_created { Op::Insert } else { Op::Create };
            ops.push((key, create(stored)));
        }
        let (undo, spent_amount) = self.put_in(tip, &mut ops, removed, draft.created())?;
        if let Some(records) = &self.records {
            let spent = undo.replaced().take(removed);
            let spent: Vec<_> = spent.filter_map(|(key, coin)| Some((key, coin?))).collect();
            if let Err(error) = records.connect(&draft, spent.into_iter(), spent_amount) {
                // Nothing was written since, and the epoch is open.
                return Err(self.take_back(undo, error));
            }
        }
        self.cache.keep(undo);
        self.stand_at(tip, removed, draft.created(), spent_amount);
        self.memory = Memory::kept(ops, draft.into_memory());
        let overwritten = overwritten.len() as u64;
        let (spent, created) = (effect.spent.len() as u64, effect.created.len() as u64);
        self.counts.connected += 1;
        self.counts.created += created;
        self.counts.spent += spent;
        self.prune_records();
        Ok(Connected { tip: Tip { height, block }, spent, overwritten, created })
    }

    /// Connects a block as it is in a chain: [`BlockEffect::of`] it, which must follow the tip.
    ///
    /// # Errors
    /// [`CoinStoreError::Parent`]; as [`Self::connect`].
    pub fn connect_block(
        &mut self,
        height: u32,
        block: &Block,
    ) -> Result<Connected, CoinStoreError> {
        let given = block.header.prev_blockhash;
        if let Some(Now { tip, .. }) = self.now
            && height == tip.height.saturating_add(1)
            && given != tip.block
        {
            return Err(CoinStoreError::Parent { height, given, expected: tip.block });
        }
        self.connect(height, block.block_hash(), &BlockEffect::of(block, height)?)
    }

    /// Disconnects the tip, which must have this height: its coins are gone, those that it spent are there again. Returns
    /// the block's record.
    ///
    /// At or below a flush the store below goes back to the flush before, durably, and the blocks above that are
    /// connected again: they are durable with the next flush.
    ///
    /// # Errors
    /// [`CoinStoreError::NoBlock`], [`CoinStoreError::Height`], [`CoinStoreError::TooDeep`], what is latched, a failed
    /// read: nothing has changed then. If blocks cannot be connected again, the tip is where that ended.
    pub fn disconnect(&mut self, height: u32) -> Result<BlockRecord, CoinStoreError> {
        let Some(Now { tip, .. }) = self.now else { return Err(CoinStoreError::NoBlock) };
        if tip.height != height {
            return Err(CoinStoreError::Height { given: height, expected: tip.height });
        }
        self.cache.check()?;
        let Some(records) = self.records.clone() else {
            return Err(CoinStoreError::TooDeep { height });
        };
        let record = records.read(height).map_err(|error| match error {
            CoinStoreError::NoRecord { .. } => CoinStoreError::TooDeep { height },
            other => other,
        })?;
        let shown = record.show()?;
        let flushed = self.flushes.back().is_some_and(|flush| flush.height >= Some(height));
        if flushed || !self.take_out(&records, &record)? {
            self.go_back(&records, &record)?;
        }
        self.counts.disconnected += 1;
        Ok(shown)
    }

    /// What a block did, from its record: with what a node keeps to undo it.
    ///
    /// # Errors
    /// [`CoinStoreError::NoRecord`]; a failed read, or damage.
    pub fn record(&self, height: u32) -> Result<BlockRecord, CoinStoreError> {
        match &self.records {
            Some(records) if self.height() >= Some(height) => records.read(height)?.show(),
            _ => Err(CoinStoreError::NoRecord { height }),
        }
    }

    /// Flushes what may be flushed, and waits until it is durable; returns [`Self::durable`] then.
    ///
    /// With [`Flush::WhenFull`] that is everything. With [`Flush::Every`] only what is due: an explicit flush at another
    /// height would give the store roots of its own.
    ///
    /// # Errors
    /// What is latched since a flush failed.
    pub fn flush(&mut self) -> Result<Option<u32>, CoinStoreError> {
        self.close_if_due()?;
        if self.options.flush == Flush::WhenFull {
            self.close_epoch()?;
        }
        self.wait_for_closed()?;
        self.prune_records();
        Ok(self.durable())
    }

    /// Waits until the block of this height survives power loss.
    ///
    /// # Errors
    /// [`CoinStoreError::NotClosed`] if no flush is on its way that holds it; what is latched since a flush failed.
    pub fn wait_durable(&self, height: u32) -> Result<(), CoinStoreError> {
        self.reader.wait_durable(height)
    }

    /// Tries a flush that failed again, where the store below still takes something: after a failed read, say. A store
    /// that stopped ([`hedgerow::Error::Poisoned`]) must be opened anew: it says so again.
    ///
    /// # Errors
    /// [`CoinStoreError::Stopped`].
    pub fn retry(&self) -> Result<(), CoinStoreError> {
        Ok(self.cache.retry()?)
    }

    /// What the newest set is known by, what is not flushed included. Waits for a flush that is under way, and costs a
    /// few microseconds for each coin that is not flushed, if a MuHash is kept.
    ///
    /// # Errors
    /// A failed read; what is latched since a flush failed.
    pub fn digest(&self) -> Result<CoinDigest, CoinStoreError> {
        self.wait_for_closed()?;
        let muhash = match self.cache.backing().stand().muhash {
            Some(mut product) => {
                let changes = self.cache.backing().changes(self.cache.open_effects())?;
                product.combine(&product_of(&changes)?);
                Some(product.digest())
            }
            None => None,
        };
        let (tip, coins, total_amount) = self.figures();
        Ok(CoinDigest { tip, coins, total_amount, muhash })
    }

    /// Bitcoin Core's `hash_serialized_3` of the newest set. Goes through all coins and puts them in order, in a temporary
    /// file in the store's directory.
    ///
    /// # Errors
    /// As [`Self::view`] and [`CoinView::hash_serialized`].
    pub fn hash_serialized(&self) -> Result<SetDigest, CoinStoreError> {
        self.view()?.hash_serialized()
    }

    /// The newest set, what is not flushed included, to be held: it stays as it is while blocks go on. It holds a copy of
    /// what is not flushed. Waits for a flush that is under way.
    ///
    /// # Errors
    /// As [`Self::digest`].
    pub fn view(&self) -> Result<CoinView, CoinStoreError> {
        self.wait_for_closed()?;
        let below = self.cache.backing();
        let changes = below.changes(self.cache.open_effects())?;
        let figures = self.figures();
        let disk = Arc::clone(&self.options.disk);
        Ok(CoinView::new(below.reader().view(), changes, figures, disk, self.dir.clone()))
    }

    /// Gives the cache another limit, in bytes; at least 1 MiB.
    ///
    /// # Errors
    /// [`CoinStoreError::Option`].
    pub fn set_cache_bytes(&mut self, bytes: u64) -> Result<(), CoinStoreError> {
        let options = self.options.clone().cache_bytes(bytes);
        options.check()?;
        self.cache.set_limit(bytes);
        self.options = options;
        Ok(())
    }

    /// Figures.
    pub fn stats(&self) -> CoinStats {
        let Counts { connected, disconnected, reconnected, created, spent } = self.counts;
        let (records, record_bytes) =
            self.records.as_ref().map_or((0, 0), |records| records.figures());
        let cache = self.cache.stats();
        let store = self.cache.backing().reader().stats();
        CoinStats {
            connected,
            disconnected,
            reconnected,
            created,
            spent,
            records,
            record_bytes,
            cache,
            store,
        }
    }

    /// Flushes as [`Self::flush`] does, makes the records of blocks durable, and closes the store. With [`Flush::Every`] blocks
    /// above the last flush are connected again at the next opening, from their records.
    ///
    /// # Errors
    /// What is latched; a failed write. What was durable stays so.
    pub fn close(mut self) -> Result<(), CoinStoreError> {
        self.flush()?;
        if let Some(records) = &self.records {
            records.sync()?;
        }
        self.cache.backing().close()
    }
}

impl CoinStore {
    fn figures(&self) -> (Option<Tip>, u64, Amount) {
        self.now.map_or((None, 0, Amount::ZERO), |now| (Some(now.tip), now.coins, now.total))
    }

    /// The coins that a block creates over unspent ones, which are lost: of a block that [may](CoinOptions::may_overwrite).
    fn overwritten(&self, tip: Tip, effect: &BlockEffect) -> Result<Vec<Key>, CoinStoreError> {
        if !(self.options.may_overwrite)(tip.height, &tip.block) {
            return Ok(Vec::new());
        }
        let mut keys: Vec<Key> =
            effect.created.iter().map(|(outpoint, _)| key_of(outpoint)).collect();
        keys.retain({
            let spent: HashSet<Key> = effect.spent.iter().map(key_of).collect();
            move |key| !spent.contains(key)
        });
        let mut there = self.cache.get_many(&keys)?.into_iter();
        keys.retain(|_| there.next().flatten().is_some());
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// What the set is at a block that removes so many coins with this amount, and adds some.
    fn with(
        &self,
        tip: Tip,
        (removed, removed_amount): (u64, u64),
        (added, added_amount): (u64, u64),
    ) -> Now {
        let (_, coins, total) = self.figures();
        let coins = coins.saturating_add(added).saturating_sub(removed);
        let total = total.to_sat().saturating_add(added_amount).saturating_sub(removed_amount);
        Now { tip, coins, total: Amount::from_sat(total) }
    }

    /// Does to the cache what a block does: the first operations remove coins, so many of them. Returns what undoes it,
    /// and the amount of the coins that it removed. The tip is still the one before.
    fn put_in(
        &mut self,
        tip: Tip,
        ops: &mut Vec<(Key, Op<Bytes>)>,
        removed: usize,
        created: (u64, u64),
    ) -> Result<(Undo<Key, Bytes>, u64), CoinStoreError> {
        loop {
            let mut spent_amount = 0_u64;
            let checked = self.cache.write_if(ops, |undo| {
                spent_amount = 0;
                for (key, coin) in undo.replaced().take(removed) {
                    let amount = Coin::amount_of(coin.map_or(&[][..], |coin| coin));
                    let amount = amount.map_err(|source| {
                        let outpoint = outpoint_of(key);
                        CoinStoreError::Coin { outpoint, source }
                    })?;
                    spent_amount = spent_amount.saturating_add(amount.to_sat());
                }
                let now = self.with(tip, (removed as u64, spent_amount), created);
                if now.total > Amount::MAX_MONEY {
                    return Err(CoinStoreError::TotalAmount(now.total));
                }
                Ok(())
            });
            match checked {
                Ok(undo) => return Ok((undo?, spent_amount)),
                Err(hedgerow_cache::Error::Full { .. })
                    if self.options.flush == Flush::WhenFull && self.is_open() =>
                {
                    self.close_epoch()?;
                }
                Err(error) => return Err(self.refused(ops, error)),
            }
        }
    }

    /// Takes back what was just written, because of an error, which is returned; or the one that is in the way.
    fn take_back(&self, undo: Undo<Key, Bytes>, error: CoinStoreError) -> CoinStoreError {
        match self.cache.undo(undo) {
            Ok(()) => error,
            Err(refused) => refused.error.into(),
        }
    }

    /// A block was connected: it is the tip, and a flush may be due.
    fn stand_at(&mut self, tip: Tip, removed: usize, created: (u64, u64), spent_amount: u64) {
        self.now = Some(self.with(tip, (removed as u64, spent_amount), created));
        self.due = self.options.flush.is_due(tip.height);
        // What fails is latched: the next call that needs it says so.
        let _ = if self.is_large() { self.close_epoch() } else { self.close_if_due() };
    }

    /// Connects a block again, from its record.
    fn connect_again(&mut self, record: Record) -> Result<(), CoinStoreError> {
        let Record { tip, spent, created, created_amount, .. } = record;
        let removed = spent.len();
        let created_are = (created.len() as u64, created_amount);
        let mut ops: Vec<_> = spent.into_iter().map(|(key, _)| (key, Op::Remove)).collect();
        ops.extend(created.into_iter().map(|(key, coin)| (key, Op::Insert(coin))));
        let (_, spent_amount) = self.put_in(tip, &mut ops, removed, created_are)?;
        self.stand_at(tip, removed, created_are, spent_amount);
        Ok(())
    }

    /// Undoes in the cache what a block did that is not flushed; `false` if there is no room for that.
    fn take_out(&mut self, records: &Records, record: &Record) -> Result<bool, CoinStoreError> {
        let mut ops = Vec::with_capacity(record.spent.len() + record.created.len());
        ops.extend(record.created.iter().map(|(key, _)| (*key, Op::Remove)));
        ops.extend(record.spent.iter().map(|(key, value)| (*key, Op::Insert(value.clone()))));
        let undo = match self.cache.write(&mut ops) {
            Ok(undo) => undo,
            Err(hedgerow_cache::Error::Full { .. } | hedgerow_cache::Error::TooLarge { .. }) => {
                return Ok(false);
            }
            Err(error) => return Err(self.refused(&ops, error)),
        };
        if let Err(error) = records.disconnect(record.tip.height) {
            return Err(self.take_back(undo, error));
        }
        let created = (record.created.len() as u64, record.created_amount);
        let spent = (record.spent.len() as u64, record.spent_amount);
        self.now = record.parent.map(|tip| self.with(tip, created, spent));
        self.due = false;
        Ok(true)
    }

    /// Goes back to the flush before a block, and connects what lies between again.
    fn go_back(&mut self, records: &Records, record: &Record) -> Result<(), CoinStoreError> {
        let height = record.tip.height;
        let too_deep = CoinStoreError::TooDeep { height };
        let before = self.flushes.iter().rev().find(|flush| flush.height < Some(height));
        let Some(&to) = before else { return Err(too_deep) };
        if !records.has_all(to.height, record.parent) {
            return Err(too_deep);
        }
        self.wait_for_closed()?;
        let gate = self.reader.gate();
        let alone = gate.write();
        let below = Arc::clone(self.cache.backing());
        let rolled = below.roll_back(to.number);
        let stand = below.stand();
        if stand.number != to.number {
            return rolled;
        }
        let now = stand.point.as_ref().map(Now::of);
        self.cache.reset(now.map(|now| now.tag(Position::START)))?;
        self.now = now;
        self.flushes.retain(|flush| flush.number <= to.number);
        self.due = false;
        let connected = match record.parent {
            Some(parent) if rolled.is_ok() => self.reconnect(Some(parent)),
            _ => rolled,
        };
        drop(alone);
        connected?;
        records.disconnect(height)
    }

    /// Connects what there are records of above the tip, up to a height: the parent's of what is disconnected, or the last.
    fn reconnect(&mut self, up_to: Option<Tip>) -> Result<(), CoinStoreError> {
        let Some(records) = self.records.clone() else { return Ok(()) };
        let last = match up_to {
            Some(tip) => Some(tip.height),
            None => records.last(),
        };
        let first = match self.now {
            Some(now) => Some(now.tip.height.saturating_add(1)),
            None => records.first(),
        };
        let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
        for height in first..=last {
            self.close_if_due()?;
            match self.connect_again(records.read(height)?) {
                Ok(()) => self.counts.reconnected += 1,
                // Connected unchecked, and refused by the flush: it never was, nor were those above it.
                Err(CoinStoreError::Exists(_)) if up_to.is_none() => {
                    return (height..=last).rev().try_for_each(|height| records.disconnect(height));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether there are blocks that no closed flush holds.
    fn is_open(&self) -> bool {
        let closed = self.flushes.back().and_then(|flush| flush.height);
        self.height() > closed
    }

    /// Whether it is time for a flush, as far as memory goes: most of it waits for one, and none is under way.
    fn is_large(&self) -> bool {
        if self.options.flush != Flush::WhenFull {
            return false;
        }
        let stats = self.cache.stats();
        // The other third takes blocks while it is written.
        let most = (self.options.cache_bytes / 3 * 2).min(MOST_FLUSHED);
        stats.closed_epochs == 0 && dirty_bytes(&stats) >= most
    }

    fn close_if_due(&mut self) -> Result<(), CoinStoreError> {
        if self.due { self.close_epoch() } else { Ok(()) }
    }

    /// Closes the open epoch at the tip, unless that is closed.
    fn close_epoch(&mut self) -> Result<(), CoinStoreError> {
        let Some(now) = self.now.filter(|_| self.is_open()) else { return Ok(()) };
        let records = self.records.as_ref().map_or(Position::START, |records| records.end());
        self.cache.close_epoch(now.tag(records))?;
        let number = self.flushes.back().map_or(Height(1), |flush| flush.number.next());
        self.flushes.push_back(Mark { height: Some(now.tip.height), number });
        self.due = false;
        Ok(())
    }

    /// Waits until every closed flush is durable.
    fn wait_for_closed(&self) -> Result<(), CoinStoreError> {
        self.cache.check()?;
        match self.flushes.back().and_then(|flush| flush.height) {
            Some(height) => self.wait_durable(height),
            None => Ok(()),
        }
    }

    /// Forgets records and flushes that no block which may be disconnected needs. What cannot be deleted now is
    /// deleted later.
    fn prune_records(&mut self) {
        let Some(height) = self.height() else { return };
        let Some(kept) = height.checked_sub(self.options.undo_blocks) else { return };
        let kept = self.reader.durable().map_or(0, |durable| durable.min(kept));
        let needless = |flushes: &VecDeque<Mark>| {
            flushes.get(1).is_some_and(|next| next.height.is_some_and(|height| height <= kept))
        };
        let mut gone = false;
        while needless(&self.flushes) {
            self.flushes.pop_front();
            gone = true;
        }
        let below = self.flushes.front().and_then(|flush| flush.height);
        if let (true, Some(records), Some(below)) = (gone, &self.records, below) {
            records.prune(below);
        }
    }

    /// What a refused write means.
    fn refused(
        &self,
        ops: &[(Key, Op<Bytes>)],
        error: hedgerow_cache::Error<CoinStoreError>,
    ) -> CoinStoreError {
        let name = |at: usize| ops.get(at).map_or(OutPoint::null(), |(key, _)| outpoint_of(key));
        // What the same write did before it.
        let twice = |at: usize| {
            let (before, rest) = ops.split_at_checked(at).unwrap_or((ops, &[]));
            rest.first().is_some_and(|(key, op)| {
                before.iter().any(|(other, before)| other == key && before.event() == op.event())
            })
        };
        match error {
            hedgerow_cache::Error::Missing { at } if twice(at) => {
                EffectError::SpentTwice(name(at)).into()
            }
            hedgerow_cache::Error::Exists { at } if twice(at) => {
                EffectError::CreatedTwice(name(at)).into()
            }
            hedgerow_cache::Error::Missing { at } => CoinStoreError::Missing(name(at)),
            hedgerow_cache::Error::Exists { at } => CoinStoreError::Exists(name(at)),
            other => other.into(),
        }
    }
}

/// About how many bytes of the cache the open epoch takes: by its share of the keys.
fn dirty_bytes(stats: &CacheStats) -> u64 {
    let keys = stats.dirty_keys + stats.flushing_keys + stats.clean_keys;
    let dirty = u128::from(stats.used_bytes) * u128::from(stats.dirty_keys);
    u64::try_from(dirty / u128::from(keys.max(1))).unwrap_or(u64::MAX)
}

impl Now {
    fn of(point: &FlushPoint) -> Self {
        Self { tip: point.tip, coins: point.coins, total: point.total_amount }
    }

    const fn tag(&self, records: Position) -> Tag {
        Tag { tip: self.tip, coins: self.coins, total: self.total, records }
    }
}
