//! Iterating over the state of one height.

use crate::Error;
use crate::shared::{Pin, Shared};
use crate::update::key_hash_of;
use hedgerow_entryfile::StoredEntry;
use hedgerow_types::{Height, KeyHash, LogPosition, ShardId};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Entries read at a time.
const CHUNK: usize = 1024;

/// Keys and values of the state of one height, in key-hash order.
///
/// Every entry names the key hash of the next one; the iterator follows these links and reports a
/// state in which they do not meet as damaged. After an error it ends.
pub struct Iter {
    shared: Arc<Shared>,
    _pin: Pin,
    height: Height,
    /// Positions of each shard in the order of the index's fragments. Keys that share a fragment
    /// are put in order when they are read.
    shards: VecDeque<(ShardId, Vec<LogPosition>)>,
    /// Positions of the first shard that were read.
    read: usize,
    ready: VecDeque<(KeyHash, StoredEntry)>,
    /// The key hash that the last entry leads to.
    next: Option<KeyHash>,
}

impl Iter {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let pin = Pin::new(shared);
        let published = shared.published.read();
        let shards = ShardId::all()
            .zip(&published.index)
            .map(|(shard, index)| (shard, index.positions().collect()))
            .collect();
        Self {
            shared: Arc::clone(shared),
            _pin: pin,
            height: published.height,
            shards,
            read: 0,
            ready: VecDeque::new(),
            next: None,
        }
    }

    /// The height of the state that is iterated over.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Reads more entries into `ready`; `false` at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        while self.ready.is_empty() {
            let Some((shard, positions)) = self.shards.front() else { return Ok(false) };
            let shard = *shard;
            let rest = &positions[self.read.min(positions.len())..];
            if rest.is_empty() {
                if self.next.is_some_and(|next| next != KeyHash::end_of(shard)) {
                    return Err(Error::Corrupt(format!(
                        "shard {shard}: its last entry is missing"
                    )));
                }
                self.shards.pop_front();
                self.read = 0;
                continue;
            }
            // The order within a chunk comes from the key hashes; a fragment that goes on beyond
            // the chunk is completed first.
            let mut count = rest.len().min(CHUNK);
            loop {
                let entries = self.shared.log.read_many(&rest[..count])?;
                let hashed = entries.into_iter().map(|entry| (key_hash_of(entry.get()), entry));
                let mut hashed: Vec<_> = hashed.collect();
                hashed.sort_unstable_by_key(|(key_hash, _)| *key_hash);
                self.shared.check_not_abandoned()?;
                if self.linked(&hashed) || count == rest.len() {
                    self.read += count;
                    self.ready = hashed.into();
                    break;
                }
                count = rest.len().min(2 * count);
            }
        }
        Ok(true)
    }

    /// Whether the entries form an unbroken list that continues what came before.
    fn linked(&self, entries: &[(KeyHash, StoredEntry)]) -> bool {
        let mut next = self.next;
        entries.iter().all(|(key_hash, entry)| {
            let meets = next.is_none_or(|next| next == *key_hash);
            next = Some(entry.get().next_key_hash());
            meets
        })
    }
}

impl Iterator for Iter {
    /// A key and its value.
    type Item = Result<(Vec<u8>, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut step = || {
            loop {
                if self.ready.is_empty() && !self.fill()? {
                    return Ok(None);
                }
                let Some((key_hash, entry)) = self.ready.pop_front() else { return Ok(None) };
                if self.next.is_some_and(|next| next != key_hash) {
                    let reason =
                        format!("the entry before key hash {key_hash} does not lead to it");
                    return Err(Error::Corrupt(reason));
                }
                let entry = entry.get();
                self.next = Some(entry.next_key_hash());
                if !entry.is_sentry() {
                    return Ok(Some((entry.key().to_vec(), entry.value().to_vec())));
                }
            }
        };
        let item = step().transpose();
        if matches!(item, Some(Err(_))) {
            self.shards.clear();
            self.ready.clear();
        }
        item
    }
}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("height", &self.height).finish_non_exhaustive()
    }
}
