//! What lies below the cache: the store, in which a flush is a block.
//!
//! ```text
//!   get_many ──► Reader, in parallel
//!   apply    ──► records synced ──► net effect against what is stored ──► MuHash ──► block { coins; FlushPoint } ──► durable
//! ```

use super::options::{CoinOptions, Flush};
use super::point::{FlushPoint, Tip};
use super::records::{Position, Records};
use super::{Bytes, CoinStoreError, Key};
use crate::coin::{Coin, outpoint_of};
use crate::digest::{MuHash, write_element};
use bitcoin::Amount;
use bitcoin::p2p::Magic;
use hedgerow::{Height, Op, OpKind, Reader, Refused, Store, Task, View};
use hedgerow_cache::{Backing, Effect, NetEffect};
use parking_lot::Mutex;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

/// Keys that a task looks up at least.
const LOOKED_UP_AT_ONCE: usize = 128;
/// Coins that are held while the product of all is made.
const MULTIPLIED_AT_ONCE: usize = 1 << 16;

/// The store, as what lies below the cache.
#[derive(Debug)]
pub(crate) struct Below {
    /// `None` when it is closed.
    store: Mutex<Option<Store>>,
    reader: Reader,
    stand: Mutex<Stand>,
    records: Option<Arc<Records>>,
    muhash: bool,
    flush: Flush,
    network: Option<Magic>,
}

/// The last flush that is durable.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    /// Its block of the store.
    pub(super) number: Height,
    /// What it said; `None` of the empty store.
    pub(super) point: Option<FlushPoint>,
    /// The product of its set, if one is kept.
    pub(super) muhash: Option<MuHash>,
}

/// What an epoch is known by. They ascend with the height.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub(super) tip: Tip,
    pub(super) coins: u64,
    pub(super) total: Amount,
    /// Up to where records must be durable before.
    pub(super) records: Position,
}

impl Tag {
    /// What stands for a height where tags are compared.
    pub(super) fn at(height: u32) -> Self {
        use bitcoin::hashes::Hash;
        let tip = Tip { height, block: bitcoin::BlockHash::all_zeros() };
        Self { tip, coins: 0, total: Amount::ZERO, records: Position::START }
    }
}

impl Ord for Tag {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tip.height.cmp(&other.tip.height)
    }
}

impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Tag {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Tag {}

/// A flush, or the empty store that was there before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The block at which it stands; the empty store at none.
    pub(super) height: Option<u32>,
    /// Its block of the store.
    pub(super) number: Height,
}

/// What becomes of a coin, against what is stored. Never nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) old: Option<Bytes>,
    pub(super) new: Option<Bytes>,
}

impl Below {
    pub(super) fn new(
        store: Store,
        stand: Stand,
        records: Option<Arc<Records>>,
        options: &CoinOptions,
    ) -> Self {
        let &CoinOptions { muhash, flush, .. } = options;
        let known = stand.point.as_ref().and_then(|point| point.network);
        let network = options.network.or(known);
        let (reader, store, stand) = (store.reader(), Mutex::new(Some(store)), Mutex::new(stand));
        Self { store, reader, stand, records, muhash, flush, network }
    }

    /// The flushes that there are, from the last one on whose block is `blocks` or more below the newest's.
    pub(super) fn marks(
        &self,
        first: Height,
        blocks: u32,
    ) -> Result<VecDeque<Mark>, CoinStoreError> {
        let Stand { number, point, .. } = self.stand();
        let newest = point.map(|point| point.tip.height);
        let enough = newest.and_then(|height| height.checked_sub(blocks));
        let mut marks = VecDeque::from([Mark { height: newest, number }]);
        let mut at = number;
        while let Some(Mark { height: Some(height), .. }) = marks.front()
            && enough.is_none_or(|enough| *height > enough)
            && at >= first
        {
            at = Height(at.0.saturating_sub(1));
            let height = if at < first {
                None
            } else {
                match point_of(&self.reader, at) {
                    Ok(point) => Some(point.tip.height),
                    // Pruned, or blocks of the store that an import has made: there is no going back to them.
                    Err(
                        CoinStoreError::Store(hedgerow::Error::HeightUnavailable { .. })
                        | CoinStoreError::Point { .. },
                    ) => break,
                    Err(error) => return Err(error),
                }
            };
            marks.push_front(Mark { height, number: at });
        }
        Ok(marks)
    }

    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The network, if it is known.
    pub(super) const fn network(&self) -> Option<Magic> {
        self.network
    }

    /// The last durable flush.
    pub(super) fn stand(&self) -> Stand {
        self.stand.lock().clone()
    }

    /// Does something with the store.
    fn with<T>(
        &self,
        act: impl FnOnce(&mut Store) -> Result<T, CoinStoreError>,
    ) -> Result<T, CoinStoreError> {
        match &mut *self.store.lock() {
            Some(store) => act(store),
            None => Err(hedgerow::Error::Closed.into()),
        }
    }

    /// Takes the store back to an earlier flush. Nobody may read meanwhile. If it fails, [`Self::stand`] says
    /// whether it went back all the same: then the store takes nothing more.
    pub(super) fn roll_back(&self, to: Height) -> Result<(), CoinStoreError> {
        self.with(|store| {
            if store.height() == to {
                return Ok(());
            }
            // Before anything changes: whether it can be read is nothing to be found out afterwards.
            let stand = Stand::at(&self.reader, store.params().first_height(), to, self.muhash)?;
            let rolled = store.rollback(to);
            if self.reader.height() == to {
                *self.stand.lock() = stand;
            }
            Ok(rolled?)
        })
    }

    /// Closes the store.
    pub(super) fn close(&self) -> Result<(), CoinStoreError> {
        let store = self.store.lock().take();
        Ok(store.map_or(Ok(()), Store::close)?)
    }

    /// What effects change of what is stored; those that change nothing are left out.
    pub(super) fn changes(
        &self,
        effects: impl Iterator<Item = (Key, Effect<Bytes>)>,
    ) -> Result<Vec<Change>, CoinStoreError> {
        let mut changes = Vec::new();
        // Places of those whose old value the cache does not know: of coins that were spent and are there again, say.
        let mut unknown = Vec::new();
        for (key, effect) in effects {
            let (old, new, known) = match effect {
                Effect::Put { value, fresh } => (None, Some(value), fresh),
                Effect::Delete { old } => (old.clone(), None, old.is_some()),
            };
            if !known {
                unknown.push(changes.len());
            }
            changes.push(Change { key, old, new });
        }
        let at = |place: &usize| changes.get(*place).map(|change: &Change| change.key);
        let keys: Vec<Key> = unknown.iter().filter_map(at).collect();
        for (place, old) in unknown.into_iter().zip(self.get_many(&keys)?) {
            if let Some(change) = changes.get_mut(place) {
                change.old = old;
            }
        }
        changes.retain(|change| change.old != change.new);
        Ok(changes)
    }
}

/// The product of what changes: the new coins in, the old ones out.
pub(super) fn product_of(changes: &[Change]) -> Result<MuHash, CoinStoreError> {
    let of = |value: fn(&Change) -> &Option<Bytes>| -> Vec<(&Key, &Bytes)> {
        changes.iter().filter_map(|change| Some((&change.key, value(change).as_ref()?))).collect()
    };
    let (created, spent) = (of(|change| &change.new), of(|change| &change.old));
    let failed = Mutex::new(None);
    let product = MuHash::net(&created, &spent, |(key, bytes), out| match decode(key, bytes) {
        Ok(coin) => write_element(&outpoint_of(key), &coin, out),
        Err(error) => *failed.lock() = Some(error),
    });
    failed.into_inner().map_or(Ok(product), Err)
}

/// A coin from its stored form.
pub(super) fn decode(key: &Key, bytes: &[u8]) -> Result<Coin, CoinStoreError> {
    Coin::decode(bytes)
        .map_err(|source| CoinStoreError::Coin { outpoint: outpoint_of(key), source })
}

impl Backing for Below {
    type Key = Key;
    type Value = Bytes;
    type Tag = Tag;
    type Error = CoinStoreError;

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, CoinStoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let view = self.reader.view();
        let get = |keys: &[Key]| view.get_many(keys);
        let values = if keys.len() <= LOOKED_UP_AT_ONCE {
            get(keys)?
        } else {
            let chunks = keys.par_chunks(LOOKED_UP_AT_ONCE).map(get);
            chunks.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
        };
        Ok(values.into_iter().map(|value| value.map(Bytes::from)).collect())
    }

    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), CoinStoreError> {
        let &Tag { tip, coins, total, records } = net.tag();
        if let Some(kept) = &self.records {
            kept.sync()?;
        }
        let changes = self.changes(net.iter())?;
        let Stand { point, muhash, .. } = self.stand();
        let muhash = match muhash {
            Some(mut product) if self.muhash => {
                product.combine(&product_of(&changes)?);
                Some(product)
            }
            _ => None,
        };
        let same = point.is_none_or(|before| before.flush == self.flush);
        let flush = if same { self.flush } else { Flush::WhenFull };
        let total_amount = total;
        let (network, kept) = (self.network, muhash.clone());
        let point = FlushPoint { tip, coins, total_amount, flush, muhash: kept, records, network };
        // What the cache believes of what is stored is checked here, before anything changes.
        let ops = changes.into_iter().map(|Change { key, old, new }| {
            let kind = match (&old, &new) {
                (None, _) => OpKind::Create,
                (Some(_), Some(_)) => OpKind::Update,
                (Some(_), None) => OpKind::Delete,
            };
            let value = new.map_or(Vec::new(), |new| new.to_vec());
            Op { kind, key: key.to_vec(), value }
        });
        let task: Task = vec![ops.collect()];
        self.with(|store| {
            let number = store.height().next();
            let submitted = store.submit_tasks(number, &[task], point.encode());
            submitted.map_err(refused)?.durable()?;
            *self.stand.lock() = Stand { number, point: Some(point), muhash };
            Ok(())
        })
    }
}

/// What it means that the store refused a flush.
fn refused(error: hedgerow::Error) -> CoinStoreError {
    if let hedgerow::Error::Refused(Refused::InvalidOp { op: OpKind::Create, key }) = &error
        && let Ok(key) = key.as_slice().try_into()
    {
        return CoinStoreError::Exists(outpoint_of(key));
    }
    error.into()
}

impl Stand {
    /// That of a block of the store, whose first one has the height `first`. If a MuHash is wanted and it has none, it is
    /// made from all coins.
    pub(super) fn at(
        reader: &Reader,
        first: Height,
        number: Height,
        muhash: bool,
    ) -> Result<Self, CoinStoreError> {
        if number < first {
            return Ok(Self { number, point: None, muhash: muhash.then(MuHash::new) });
        }
        let point = point_of(reader, number)?;
        let product = match (&point.muhash, muhash) {
            (_, false) => None,
            (Some(product), true) => Some(product.clone()),
            (None, true) => Some(product_of_all(&reader.at(number)?)?),
        };
        Ok(Self { number, muhash: product, point: Some(point) })
    }
}

/// The product of all coins of a view.
fn product_of_all(view: &View) -> Result<MuHash, CoinStoreError> {
    let mut product = MuHash::new();
    let mut coins = view.iter();
    loop {
        let mut changes = Vec::new();
        for coin in coins.by_ref().take(MULTIPLIED_AT_ONCE) {
            let (key, value) = coin?;
            let key = key.as_slice().try_into().map_err(|_| CoinStoreError::Key(key.len()))?;
            changes.push(Change { key, old: None, new: Some(value.into()) });
        }
        if changes.is_empty() {
            return Ok(product);
        }
        product.combine(&product_of(&changes)?);
    }
}

/// What a block of the store says of itself.
pub(super) fn point_of(reader: &Reader, number: Height) -> Result<FlushPoint, CoinStoreError> {
    let row = reader.history(number)?;
    FlushPoint::decode(&row.extra)
        .map_err(|source| CoinStoreError::Point { flush: number.0, source })
}
