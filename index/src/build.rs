//! Building an index at once, as recovery does.

use crate::group::Group;
use crate::slot::{GROUPS, Slot, Stem, Unit};
use crate::{IndexError, ShardIndex};
use hedgerow_types::LogPosition;

impl ShardIndex {
    /// The index of these keys, in any order: for each the first 8 bytes of its key hash
    /// ([`KeyHash::prefix_u64`](hedgerow_types::KeyHash::prefix_u64)) and its position. It answers
    /// exactly as one that was filled key by key; its buckets are nearly full (1/32 of room).
    ///
    /// # Errors
    /// [`IndexError::Position`] if a position cannot be indexed; [`IndexError::Occupied`] if one
    /// occurs twice with the same stem.
    pub fn build(mut entries: Vec<(u64, LogPosition)>) -> Result<Self, IndexError> {
        entries.sort_unstable_by_key(|&(prefix, at)| (Stem::of_prefix(prefix), at));
        let mut groups = vec![Group::default(); GROUPS].into_boxed_slice();
        let group_of = |&(prefix, _): &(u64, LogPosition)| Stem::of_prefix(prefix).group();
        let mut slots = Vec::new();
        for keys in entries.chunk_by(|a, b| group_of(a) == group_of(b)) {
            slots.clear();
            for &(prefix, at) in keys {
                let slot = Slot::new(Stem::of_prefix(prefix).fragment(), Unit::new(at)?);
                if slots.last() == Some(&slot) {
                    return Err(IndexError::Occupied { at });
                }
                slots.push(slot);
            }
            if let Some(group) = keys.first().and_then(|key| groups.get_mut(group_of(key))) {
                *group = Group::from_sorted(&slots);
            }
        }
        Ok(Self::from_groups(groups, entries.len()))
    }
}
