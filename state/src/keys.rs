//! Keys of entries: their hashes, and whose entry it is.

use hedgerow_hasher_api::hash_message;
use hedgerow_types::KeyHash;
use hedgerow_types::entry::EntryRef;

/// The key hash of an entry: its key if it is a sentry, else SHA-256 of the key (spec 4.3).
pub fn key_hash_of(entry: EntryRef<'_>) -> KeyHash {
    entry.sentry_key_hash().unwrap_or_else(|| KeyHash(hash_message(entry.key()).0))
}

/// Whether a stored entry is the user entry of `key`.
pub fn is_entry_of(entry: EntryRef<'_>, key: &[u8]) -> bool {
    entry.key() == key && !entry.is_sentry()
}
