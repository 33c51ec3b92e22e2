//! A group: the keys of a shard that share the 12 bits after the shard's.
//!
//! One bucket, until it would exceed [`MAX_BUCKET_SLOTS`]; then a directory of buckets, which is
//! again a sorted array. It is kept at its exact size: it changes once per some hundred inserts.

use crate::IndexError;
use crate::bucket::{Bucket, MAX_BUCKET_SLOTS, Span};
use crate::search::{REACH, partition_point_near};
use crate::slot::{InBucket, Slot};
use std::mem::{size_of, take};

/// A bucket that removals leave with fewer slots looks for a neighbour to merge with.
const MERGE_BELOW: usize = MAX_BUCKET_SLOTS / 4;
/// Slots that a merged bucket, or one built at once, has at most: it can take some inserts before
/// it splits.
const FILLED: usize = MAX_BUCKET_SLOTS / 4 * 3;

/// The keys of a shard that share the 12 bits after the shard's.
#[derive(Clone)]
pub(crate) enum Group<S = Slot> {
    /// A single bucket, possibly empty.
    One(Bucket<S>),
    /// At least two buckets, none empty. Ascending; `low` of the first is 0.
    Many(Box<[Branch<S>]>),
}

/// A bucket in the directory of its group.
#[derive(Clone)]
pub(crate) struct Branch<S> {
    /// The least fragment that belongs here; those from the next branch's `low` on do not.
    low: u32,
    bucket: Bucket<S>,
}

// 16 x 4096 of them are always there.
const _: () = assert!(size_of::<Group<Slot>>() == 24);

impl<S> Default for Group<S> {
    fn default() -> Self {
        Self::One(Bucket::default())
    }
}

/// The branch for `fragment`, and its span.
#[inline]
fn locate<S>(branches: &[Branch<S>], fragment: u32) -> (usize, Span) {
    let guess = Span::ALL.guess(fragment, branches.len());
    let next = partition_point_near(branches, guess, |branch| branch.low <= fragment);
    let i = next.saturating_sub(1); // `low` of the first is 0, so next > 0
    let low = branches.get(i).map_or(0, |branch| branch.low);
    let end = branches.get(next).map_or(1 << 32, |branch| u64::from(branch.low));
    (i, Span { low, width: end - u64::from(low) })
}

impl<S: InBucket> Group<S> {
    /// A group of these slots, which ascend strictly.
    pub(crate) fn from_sorted(slots: &[S]) -> Self {
        if slots.len() <= MAX_BUCKET_SLOTS {
            return Self::One(Bucket::from_sorted(slots.iter().copied()));
        }
        let buckets = slots.len().div_ceil(FILLED);
        let target = slots.len().div_ceil(buckets);
        let mut branches: Vec<Branch<S>> = Vec::with_capacity(buckets);
        let mut rest = slots;
        while let Some(first) = rest.first() {
            let last = rest.get(target - 1).or(rest.last()).unwrap_or(first).fragment();
            let start = rest.partition_point(|slot| slot.fragment() < last);
            let end = rest.partition_point(|slot| slot.fragment() <= last);
            let cut = if end > MAX_BUCKET_SLOTS && start > 0 { start } else { end };
            let (head, tail) = rest.split_at(cut);
            let low = if branches.is_empty() { 0 } else { first.fragment() };
            branches.push(Branch { low, bucket: Bucket::from_sorted(head.iter().copied()) });
            rest = tail;
        }
        let mut group = Self::Many(branches.into_boxed_slice());
        group.fold_single();
        group
    }

    /// Number of buckets.
    pub(crate) fn buckets(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(branches) => branches.len(),
        }
    }

    /// Number of slots.
    pub(crate) fn len(&self) -> usize {
        (0..self.buckets()).map(|i| self.slots(i).len()).sum()
    }

    /// The slots of bucket `i`, none if there is no such bucket.
    pub(crate) fn slots(&self, i: usize) -> &[S] {
        match self {
            Self::One(bucket) if i == 0 => bucket.slots(),
            Self::One(_) => &[],
            Self::Many(branches) => branches.get(i).map_or(&[], |branch| branch.bucket.slots()),
        }
    }

    /// The bucket for `fragment`: its number, itself, its span.
    #[inline]
    pub(crate) fn bucket(&self, fragment: u32) -> (usize, &Bucket<S>, Span) {
        match self {
            Self::One(bucket) => (0, bucket, Span::ALL),
            Self::Many(branches) => {
                let (i, span) = locate(branches, fragment);
                (i, &branches[i].bucket, span)
            }
        }
    }

    #[inline]
    fn bucket_mut(&mut self, fragment: u32) -> (usize, &mut Bucket<S>, Span) {
        match self {
            Self::One(bucket) => (0, bucket, Span::ALL),
            Self::Many(branches) => {
                let (i, span) = locate(branches, fragment);
                (i, &mut branches[i].bucket, span)
            }
        }
    }

    /// The slots with this fragment.
    #[inline]
    pub(crate) fn run(&self, fragment: u32) -> &[S] {
        let (_, bucket, span) = self.bucket(fragment);
        &bucket.slots()[bucket.run(span, fragment)]
    }

    /// Loads the lines where `fragment` is expected. What it returns has no meaning; it is there so
    /// that the loads are not optimized away.
    #[inline]
    pub(crate) fn touch(&self, fragment: u32) -> u32 {
        let (_, bucket, span) = self.bucket(fragment);
        let slots = bucket.slots();
        let guess = span.guess(fragment, slots.len());
        let load = |i: usize| slots.get(i).map_or(0, |slot| slot.fragment());
        load(guess.saturating_sub(REACH)) ^ load(guess) ^ load(guess.saturating_add(REACH))
    }

    /// Inserts `slot`.
    ///
    /// # Errors
    /// [`IndexError::Occupied`] if it is there already.
    pub(crate) fn insert(&mut self, slot: S) -> Result<(), IndexError> {
        let (i, bucket, span) = self.bucket_mut(slot.fragment());
        let Err(at) = bucket.find(span, slot) else {
            return Err(IndexError::Occupied { at: slot.position() });
        };
        bucket.insert_at(at, slot);
        if bucket.len() > MAX_BUCKET_SLOTS {
            self.split(i);
        }
        Ok(())
    }

    /// Removes `slot`. False if it is not there.
    pub(crate) fn remove(&mut self, slot: S) -> bool {
        let (i, bucket, span) = self.bucket_mut(slot.fragment());
        if !bucket.remove(span, slot) {
            return false;
        }
        if bucket.len() < MERGE_BELOW {
            self.merge(i);
        }
        true
    }

    /// Puts `new`, of the same fragment, in the place of `old`. `Ok(false)` if `old` is not there.
    ///
    /// # Errors
    /// [`IndexError::Occupied`] if `new` is there already.
    pub(crate) fn replace(&mut self, old: S, new: S) -> Result<bool, IndexError> {
        let (_, bucket, span) = self.bucket_mut(old.fragment());
        bucket.replace(span, old, new)
    }

    /// Heap bytes of the group's buckets and directory.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::One(bucket) => bucket.heap_bytes(),
            Self::Many(branches) => {
                let buckets: usize = branches.iter().map(|branch| branch.bucket.heap_bytes()).sum();
                size_of::<Branch<S>>() * branches.len() + buckets
            }
        }
    }

    /// Splits bucket `i`, which is one slot too long, if its fragments differ.
    fn split(&mut self, i: usize) {
        match self {
            Self::One(bucket) => {
                if let Some(upper) = Branch::split_from(bucket) {
                    let lower = Branch { low: 0, bucket: take(bucket) };
                    *self = Self::Many(Box::new([lower, upper]));
                }
            }
            Self::Many(branches) => {
                if let Some(upper) =
                    branches.get_mut(i).and_then(|b| Branch::split_from(&mut b.bucket))
                {
                    let mut grown = take(branches).into_vec();
                    grown.reserve_exact(1);
                    grown.insert(i + 1, upper);
                    *branches = grown.into_boxed_slice();
                }
            }
        }
    }

    /// Merges bucket `i`, which became small or empty, with one beside it, if both fit in one.
    fn merge(&mut self, i: usize) {
        let Self::Many(branches) = self else {
            return;
        };
        let len = |i: usize| branches.get(i).map(|branch| branch.bucket.len());
        let Some(own) = len(i) else {
            return;
        };
        let fits = |other: &usize| len(*other).is_some_and(|len| own == 0 || own + len <= FILLED);
        let Some(other) = i.checked_sub(1).filter(fits).or(Some(i + 1).filter(fits)) else {
            return;
        };
        let mut fewer = take(branches).into_vec();
        let above = fewer.remove(i.max(other)).bucket;
        if let Some(branch) = fewer.get_mut(i.min(other)) {
            branch.bucket.append(above);
        }
        *branches = fewer.into_boxed_slice();
        self.fold_single();
    }

    /// Drops the directory if it has one bucket only.
    fn fold_single(&mut self) {
        if let Self::Many(branches) = self
            && let [only] = &mut branches[..]
        {
            *self = Self::One(take(&mut only.bucket));
        }
    }

    /// Whether what the crate's documentation promises holds; panics with the broken promise.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let all: Vec<S> = (0..self.buckets()).flat_map(|i| self.slots(i)).copied().collect();
        assert!(all.is_sorted_by(|a, b| a < b), "slots do not ascend");
        let Self::Many(branches) = self else {
            let Self::One(bucket) = self else { unreachable!() };
            assert!(bucket.len() <= MAX_BUCKET_SLOTS || bucket.is_one_run());
            return;
        };
        assert!(branches.len() >= 2);
        assert_eq!(branches[0].low, 0);
        for (i, branch) in branches.iter().enumerate() {
            assert!(!branch.bucket.is_empty(), "empty bucket in a directory");
            assert!(branch.bucket.len() <= MAX_BUCKET_SLOTS || branch.bucket.is_one_run());
            let end = branches.get(i + 1).map_or(u64::MAX, |next| u64::from(next.low));
            for slot in branch.bucket.slots() {
                assert!(slot.fragment() >= branch.low && u64::from(slot.fragment()) < end);
            }
        }
    }
}

impl<S: InBucket> Branch<S> {
    /// The upper part of `bucket`, as a branch; `None` if it cannot be split.
    fn split_from(bucket: &mut Bucket<S>) -> Option<Self> {
        let upper = bucket.split()?;
        let low = upper.slots().first()?.fragment();
        Some(Self { low, bucket: upper })
    }
}
