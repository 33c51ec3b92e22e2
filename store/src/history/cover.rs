//! What covered a key hash before: one operation back, and so on.
//!
//! An entry *covers* the key hashes from its own up to, but without, its next key hash. Between operations the
//! active entries of a shard cover every key hash of it once ([spec 4.2](hedgerow_types::spec)). What covers a
//! key hash K says whether K's key is there: it is if the entry is its own.
//!
//! ```text
//!   made by                           entry                        deactivated   before it, K was covered by
//!   update of X                       X'  [X   .. X.next)          X             X
//!   compaction                        X'  [X   .. X.next)          X             X
//!   create of C, after P   1st:       C   [C   .. P.next)          none          P, which the 2nd names
//!                          2nd:       P'  [P   .. C)               P             P
//!   delete of X, after P              P'  [P   .. X.next)          X, P          P if K < P.next (= X), else X
//!   genesis                           S   [S   .. next S)          none          nothing: it is the first
//! ```
//!
//! The second entry of a create has the serial number after the first, in the same block: update appends them
//! together, and compaction only after both ([spec 6.3](hedgerow_types::spec)). Whatever the operation, the
//! entries that it deactivated covered together at least what its own entries cover, and each step leads to
//! one with a smaller serial number; so from any entry that covers K the steps lead through everything that
//! covered K before, operation by operation, also where one block had several for the same key, down to a
//! sentry of the genesis state. Sentries are rewritten and moved like all others.
//!
//! Where to stop, for a height h:
//!
//! * The state at h is that after its last operation, and entries of later blocks have serial numbers from the
//!   shard's next one at h on. So the first entry on the way with a smaller one is what was active at h.
//! * Versions never grow on the way back: an operation writes its own, which is greater than or equal to all
//!   before it, and compaction keeps that of what it moves. So the first entry whose version is not above h
//!   has the key, the value and the next key hash of the one that was active at h: it is that one, or a copy of
//!   it. For what a key's value was this is enough, and it needs no more than the height.
//! * Let E1 be that first entry whose version is not above h, and E2 the entry that names it as deactivated (the
//!   entry before it on the way, or the second of its create). The step to E1 came from a version above h, so E2
//!   has that version too: E2 is a change, no copy. So E1 covered K from some block up to h until E2 came, which
//!   is what a proof of the past shows.

use crate::Error;
use crate::shared::Shared;
use hedgerow_entryfile::{LogError, StoredEntry};
use hedgerow_state::key_hash_of;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{KeyHash, SerialNumber, ShardId};

/// What lies one operation before an entry.
pub(crate) enum Before {
    /// What covered the key hash.
    Entry {
        entry: StoredEntry,
        /// The entry that deactivated it.
        by: StoredEntry,
    },
    /// Nothing: it is of the genesis state.
    Nothing,
    /// It was pruned.
    Pruned,
}

/// An entry that covered a key hash.
pub(crate) struct Covering {
    pub(crate) entry: StoredEntry,
    /// The entry that deactivated it, if a step was made.
    pub(crate) by: Option<StoredEntry>,
}

/// Whether an entry covers a key hash.
pub(crate) fn covers(entry: EntryRef<'_>, key_hash: &KeyHash) -> bool {
    key_hash_of(entry) <= *key_hash && *key_hash < entry.next_key_hash()
}

/// An entry of a shard by its serial number; `None` if it was pruned.
pub(crate) fn read(
    shared: &Shared,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<Option<StoredEntry>, Error> {
    let entry = shared.twigs.read_entry(&shared.log, shard, sn).map_err(Error::from);
    match entry {
        Ok(Some(entry)) => Ok(Some(entry)),
        Ok(None) | Err(Error::Log(LogError::Pruned { .. }))
            if shared.is_pruned(shard, sn.twig()) =>
        {
            Ok(None)
        }
        Ok(None) => Err(Error::Corrupt(format!(
            "the record of twig {} of shard {shard} is damaged; opening the store rebuilds it",
            sn.twig()
        ))),
        Err(error) => Err(error),
    }
}

/// What covered `key_hash` before the operation that made `entry`, which covers it.
///
/// # Errors
/// A failed read; [`Error::Corrupt`] if the entries do not fit together.
pub(crate) fn before(
    shared: &Shared,
    entry: &StoredEntry,
    key_hash: &KeyHash,
) -> Result<Before, Error> {
    let shard = key_hash.shard();
    let corrupt = |sn: SerialNumber, what: &str| {
        Error::Corrupt(format!("entry {sn} of shard {shard} {what}"))
    };
    let here = entry.get();
    let sn = here.serial_number();
    let mut by = entry.clone();
    if here.deactivated().len() == 0 {
        if here.is_sentry() {
            return Ok(Before::Nothing);
        }
        // Its create rewrote the entry before it right after it.
        match read(shared, shard, sn.plus(1))? {
            Some(next) => by = next,
            None => return Ok(Before::Pruned),
        }
    }
    let mut gone: Vec<SerialNumber> = by.get().deactivated().collect();
    let (own, other) = match (gone.pop(), gone.pop(), gone.is_empty()) {
        (Some(own), other, true) => (own, other),
        _ => return Err(corrupt(sn, "names no entry that it replaced, or too many")),
    };
    let mut found = own;
    if let Some(other) = other {
        // A delete: what it replaced first began where the other ends.
        let Some(own) = read_before(shared, shard, sn, own)? else { return Ok(Before::Pruned) };
        if *key_hash < own.get().next_key_hash() {
            return step(own, by, key_hash).ok_or_else(|| corrupt(found, "does not cover its key"));
        }
        found = other;
    }
    let Some(old) = read_before(shared, shard, sn, found)? else { return Ok(Before::Pruned) };
    step(old, by, key_hash).ok_or_else(|| corrupt(found, "does not cover what replaced it"))
}

/// The step to `entry`, if it covers the key hash.
fn step(entry: StoredEntry, by: StoredEntry, key_hash: &KeyHash) -> Option<Before> {
    covers(entry.get(), key_hash).then_some(Before::Entry { entry, by })
}

/// An entry that one with the serial number `later` names: so there is always an end.
fn read_before(
    shared: &Shared,
    shard: ShardId,
    later: SerialNumber,
    sn: SerialNumber,
) -> Result<Option<StoredEntry>, Error> {
    if sn >= later {
        let reason =
            format!("entry {later} of shard {shard} replaces {sn}, which is not before it");
        return Err(Error::Corrupt(reason));
    }
    read(shared, shard, sn)
}

/// The first entry that is `old` on the way back from `entry`, which covers `key_hash`; `None` if the way leads to
/// what was pruned.
///
/// # Errors
/// As [`before`]; [`Error::Corrupt`] if there is none.
pub(crate) fn back_to(
    shared: &Shared,
    entry: StoredEntry,
    key_hash: &KeyHash,
    old: impl Fn(EntryRef<'_>) -> bool,
) -> Result<Option<Covering>, Error> {
    let mut at = Covering { entry, by: None };
    while !old(at.entry.get()) {
        match before(shared, &at.entry, key_hash)? {
            Before::Entry { entry, by } => at = Covering { entry, by: Some(by) },
            Before::Pruned => return Ok(None),
            Before::Nothing => {
                let what = "an entry of the genesis state is not older than everything";
                return Err(Error::Corrupt(format!("key hash {key_hash}: {what}")));
            }
        }
    }
    Ok(Some(at))
}
