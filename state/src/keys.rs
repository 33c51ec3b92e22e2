//! Keys of entries: their hashes, and whose entry it is.

use hedgerow_entryfile::StoredEntry;
use hedgerow_hasher_api::{BatchHasher, HashError, MessageGroup, Span, hash_message};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, KeyHash};

/// The key hash of an entry: its key if it is a sentry, else SHA-256 of the key (spec 4.3).
pub fn key_hash_of(entry: EntryRef<'_>) -> KeyHash {
    entry.sentry_key_hash().unwrap_or_else(|| KeyHash(hash_message(entry.key()).0))
}

/// Entries whose keys are hashed in one call: their keys are a megabyte at most.
const TOGETHER: usize = 4096;

/// As [`key_hash_of`], of many.
///
/// # Errors
/// The hasher's.
pub(crate) fn key_hashes_of(
    entries: &[StoredEntry],
    hasher: &dyn BatchHasher,
) -> Result<Vec<KeyHash>, HashError> {
    let mut key_hashes = Vec::with_capacity(entries.len());
    let (mut arena, mut spans, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for entries in entries.chunks(TOGETHER) {
        arena.clear();
        spans.clear();
        for entry in entries {
            let key = if entry.get().is_sentry() { &[] } else { entry.get().key() };
            spans.push(Span { offset: arena.len() as u32, len: key.len() as u32 });
            arena.extend_from_slice(key);
        }
        hashes.resize(spans.len(), Digest::ZERO);
        hasher.messages(&mut [MessageGroup { arena: &arena, spans: &spans, out: &mut hashes }])?;
        let of = |(entry, hash): (&StoredEntry, &Digest)| {
            entry.get().sentry_key_hash().unwrap_or(KeyHash(hash.0))
        };
        key_hashes.extend(entries.iter().zip(&hashes).map(of));
    }
    Ok(key_hashes)
}

/// Whether a stored entry is the user entry of `key`.
pub fn is_entry_of(entry: EntryRef<'_>, key: &[u8]) -> bool {
    entry.key() == key && !entry.is_sentry()
}
