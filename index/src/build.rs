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
        Self::from_ascending(
            entries.into_iter().map(|(prefix, at)| Ok((Stem::of_prefix(prefix), at))),
        )
    }

    /// The index of these keys, which ascend by stem and position: as [`build`](Self::build), group by group
    /// and without a list of all.
    ///
    /// # Errors
    /// The first of `entries`; [`IndexError::Position`] if a position cannot be indexed;
    /// [`IndexError::Occupied`] if a key does not follow the one before it.
    pub fn from_ascending<E: From<IndexError>>(
        entries: impl Iterator<Item = Result<(Stem, LogPosition), E>>,
    ) -> Result<Self, E> {
        let mut groups = vec![Group::default(); GROUPS].into_boxed_slice();
        let (mut slots, mut of, mut len) = (Vec::<Slot>::new(), 0, 0);
        let mut fill = |group: usize, slots: &mut Vec<Slot>| {
            if let Some(group) = groups.get_mut(group) {
                *group = Group::from_sorted(slots);
            }
            slots.clear();
        };
        for entry in entries {
            let (stem, at) = entry?;
            let slot = Slot::new(stem.fragment(), Unit::new(at)?);
            let group = stem.group();
            if group > of {
                fill(of, &mut slots);
                of = group;
            }
            if group < of || slots.last().is_some_and(|last| *last >= slot) {
                return Err(IndexError::Occupied { at }.into());
            }
            slots.push(slot);
            len += 1;
        }
        fill(of, &mut slots);
        Ok(Self::from_groups(groups, len))
    }
}
