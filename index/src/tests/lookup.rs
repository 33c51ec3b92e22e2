//! Looking keys up as those who ask an index do: candidates from the index, their keys from the log.

use crate::ShardIndex;
use crate::iter::{Downwards, Ties};
use crate::slot::Stem;
use hedgerow_types::{KeyHash, LogPosition};

/// Whoever can tell the key hash of the entry at a log position: the store, by reading the entry.
pub(super) trait KeyHashAt {
    /// Why an entry could not be read.
    type Error;

    /// The key hash of the entry at `at`, which is a position that the index holds.
    ///
    /// # Errors
    /// Whatever kept the entry from being read; the index passes it on.
    fn key_hash_at(&self, at: LogPosition) -> Result<KeyHash, Self::Error>;
}

impl ShardIndex {
    /// Where the greatest key less than `key` may be: groups of ties in descending order of their
    /// stems, found one by one as the iterator advances.
    ///
    /// The first is the group of `key`'s own stem if there is one
    /// ([`Ties::share_stem_with`]): some of its keys may be less than `key`, which only their
    /// entries tell. If none is, the predecessor is the greatest key of the next group; every key
    /// of that is less than `key`.
    pub(super) fn predecessor_candidates(&self, key: &KeyHash) -> Downwards<'_> {
        self.downwards(Stem::of(key))
    }

    /// The position of `key`. Reads every candidate up to the right one: equal stems do not make
    /// equal keys. Reads nothing if there is no candidate.
    ///
    /// # Errors
    /// What `keys` answers when it cannot read an entry.
    pub(super) fn get<K: KeyHashAt>(
        &self,
        key: &KeyHash,
        keys: &K,
    ) -> Result<Option<LogPosition>, K::Error> {
        // Of several the youngest is the likeliest.
        for at in self.candidates(key).rev() {
            if keys.key_hash_at(at)? == *key {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The position of the greatest key less than `key`, whether `key` is indexed or not. Reads
    /// entries only where stems tie: those with `key`'s own stem, and those of the predecessor's
    /// if there are several.
    ///
    /// # Errors
    /// What `keys` answers when it cannot read an entry.
    pub(super) fn predecessor<K: KeyHashAt>(
        &self,
        key: &KeyHash,
        keys: &K,
    ) -> Result<Option<LogPosition>, K::Error> {
        for ties in self.predecessor_candidates(key) {
            if !ties.share_stem_with(key)
                && let Some(only) = ties.only()
            {
                return Ok(Some(only));
            }
            if let Some(greatest) = greatest_below(key, &ties, keys)? {
                return Ok(Some(greatest));
            }
        }
        Ok(None)
    }
}

impl Ties<'_> {
    /// The position, if there is one only: then no entry need be read to know the order of the
    /// group's keys.
    pub(super) fn only(&self) -> Option<LogPosition> {
        let mut positions = self.positions();
        positions.next().filter(|_| positions.next().is_none())
    }

    /// Whether `key` (of the index's shard) has the same stem. If so, only the entries tell which
    /// keys of the group are less than, equal to or greater than `key`.
    pub(super) fn share_stem_with(&self, key: &KeyHash) -> bool {
        self.stem() == Stem::of(key)
    }
}

/// Of these ties, the position of the greatest key less than `key`.
fn greatest_below<K: KeyHashAt>(
    key: &KeyHash,
    ties: &Ties<'_>,
    keys: &K,
) -> Result<Option<LogPosition>, K::Error> {
    let mut greatest: Option<(KeyHash, LogPosition)> = None;
    for at in ties.positions() {
        let found = keys.key_hash_at(at)?;
        if found < *key && greatest.is_none_or(|(hash, _)| hash < found) {
            greatest = Some((found, at));
        }
    }
    Ok(greatest.map(|(_, at)| at))
}
