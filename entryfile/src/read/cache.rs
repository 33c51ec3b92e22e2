//! The entry cache: entries that were read from disk one by one and may be wanted again.

use crate::StoredEntry;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Bytes that a cached entry costs beside its own: key and handle (40), the allocation's header and
/// reference count (48), the cache's slot and hash table (about 40).
const OVERHEAD_BYTES: u64 = 128;
/// What an entry is expected to weigh; only sizes the cache's tables.
const TYPICAL_BYTES: u64 = OVERHEAD_BYTES + 160;

#[derive(Clone, Copy, Debug)]
struct RealBytes;

impl Weighter<u64, StoredEntry> for RealBytes {
    fn weight(&self, _: &u64, entry: &StoredEntry) -> u64 {
        entry.hashed_bytes().len() as u64 + OVERHEAD_BYTES
    }
}

/// A cache of entries by position, bounded in bytes, overhead included. Entries never change, so it
/// is never wrong; who asks for a pruned position is refused before it is consulted.
#[derive(Debug)]
pub(crate) struct EntryCache(Option<Cache<u64, StoredEntry, RealBytes>>);

impl EntryCache {
    /// A cache of at most `bytes`; none at all if that is 0.
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / TYPICAL_BYTES).unwrap_or(usize::MAX);
        Self((bytes > 0).then(|| Cache::with_weighter(items, bytes, RealBytes)))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn get(&self, at: u64) -> Option<StoredEntry> {
        self.0.as_ref()?.get(&at)
    }

    /// Keeps `entry`, which must have its bytes to itself: a slice would pin what it is cut from.
    pub(crate) fn insert(&self, at: u64, entry: StoredEntry) {
        if let Some(cache) = &self.0 {
            cache.insert(at, entry);
        }
    }

    /// Bytes held, overhead included.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, Cache::weight)
    }
}
