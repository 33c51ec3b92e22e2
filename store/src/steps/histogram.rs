//! How long something took, many times: counted in buckets of a fixed number.
//!
//! ```text
//!   nanoseconds   0 1 .. 7 │ 8 9 .. 15 │ 16 18 .. 30 │ 32 36 .. 60 │ .. │ 2^41 .. │ 2^42 and more
//!   a bucket      of one     of one      of 2          of 4          ..   of 2^38    all of it
//!                          └ eight of a size, then twice the size: a bucket is an eighth of its beginning or less
//! ```
//!
//! So what is told of a duration is its bucket, and the middle of that is off by a sixteenth or less. Writers add to
//! counters and wait for nobody; whoever asks takes a copy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of each size, as a power of two.
const SIZE_BITS: u32 = 3;
/// Buckets of each size.
const OF_A_SIZE: u64 = 1 << SIZE_BITS;
/// What takes `2^TOP_BITS` nanoseconds (73 minutes) or more is in the last bucket.
const TOP_BITS: u32 = 42;
/// Buckets.
const BUCKETS: usize = ((TOP_BITS - SIZE_BITS + 1) as usize) * (OF_A_SIZE as usize) + 1;

/// The bucket of so many nanoseconds.
const fn bucket_of(nanos: u64) -> usize {
    if nanos < OF_A_SIZE {
        return nanos as usize;
    }
    let top = u64::BITS - 1 - nanos.leading_zeros();
    if top >= TOP_BITS {
        return BUCKETS - 1;
    }
    let size = top - SIZE_BITS;
    ((size as usize + 1) << SIZE_BITS) + ((nanos >> size) % OF_A_SIZE) as usize
}

/// Where a bucket begins, in nanoseconds.
const fn begin_of(bucket: usize) -> u64 {
    let (size, within) = ((bucket >> SIZE_BITS) as u32, bucket as u64 % OF_A_SIZE);
    match size.checked_sub(1) {
        None => within,
        Some(size) => (OF_A_SIZE + within) << size,
    }
}

/// The last nanosecond of a bucket.
const fn last_of(bucket: usize) -> u64 {
    if bucket + 1 >= BUCKETS { u64::MAX } else { begin_of(bucket + 1) - 1 }
}

/// What durations are added to. Of fixed size; any number of threads.
#[derive(Debug)]
pub(super) struct Recorder {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        let (sum, max) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum, max }
    }
}

impl Recorder {
    /// Something took so long. Their sum is right up to 584 years.
    pub(super) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanos, Ordering::Relaxed);
        self.max.fetch_max(nanos, Ordering::Relaxed);
    }

    /// What was added so far. What is added meanwhile may be in one of its figures and not in another.
    pub(super) fn read(&self) -> Durations {
        let buckets: Box<[u64]> =
            self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count = buckets.iter().sum();
        let (sum, max) = (self.sum.load(Ordering::Relaxed), self.max.load(Ordering::Relaxed));
        Durations { buckets, count, sum, max }
    }
}

/// How long something took, many times: how often, together, at most, and a histogram from which quantiles come.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Step, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let before = store.stats().steps;
/// for _ in 0..10 {
///     store.next_block()?.commit()?;
/// }
/// store.flush()?;
/// let hashing = &store.stats().steps.since(&before)[Step::Hash].durations;
/// assert_eq!(hashing.count(), 10);
/// let (median, most) = (hashing.quantile(0.5).expect("there are ten"), hashing.max());
/// assert!(median <= most && most <= hashing.sum());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations {
    buckets: Box<[u64]>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Durations {
    /// How often.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How long together.
    pub const fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// The longest; zero if there is none. Of a [difference](Self::since) what is known of it: at most an eighth more
    /// than the longest was.
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The mean; zero if there is none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.count).unwrap_or(0))
    }

    /// What the share `p` of them did not exceed: 0.5 gives the median, 0.99 the 99th percentile, 1 the longest. That is
    /// the `ceil(p * count)`-th in ascending order, with an error of a sixteenth of it (6.25 %) at most; what took 73
    /// minutes or longer counts as the longest. `None` if there is none, or `p` is not between 0 and 1.
    pub fn quantile(&self, p: f64) -> Option<Duration> {
        if !(0.0..=1.0).contains(&p) {
            return None;
        }
        let wanted = ((p * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut so_far = 0;
        let (bucket, _) = self.filled().find(|&(_, count)| {
            so_far += count;
            so_far >= wanted
        })?;
        let (begin, last) = (begin_of(bucket), last_of(bucket));
        let middle = if last == u64::MAX { self.max } else { begin.midpoint(last) };
        Some(Duration::from_nanos(middle.min(self.max)))
    }

    /// The buckets in which there is something, ascending: the shortest duration of each, the longest, and how many there are.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, Duration, u64)> {
        self.filled().map(|(bucket, count)| {
            let (begin, last) = (begin_of(bucket), last_of(bucket));
            (Duration::from_nanos(begin), Duration::from_nanos(last), count)
        })
    }

    /// What came after `earlier`, which was told of the same store before.
    pub fn since(&self, earlier: &Self) -> Self {
        let both = self.buckets.iter().zip(&earlier.buckets);
        let buckets: Box<[u64]> = both.map(|(now, then)| now.saturating_sub(*then)).collect();
        let mut new = Self { buckets, count: 0, sum: self.sum.saturating_sub(earlier.sum), max: 0 };
        new.count = new.buckets.iter().sum();
        new.max = match new.filled().last() {
            // Nothing was longer before: it is new.
            _ if self.max > earlier.max => self.max,
            Some((bucket, _)) => last_of(bucket).min(self.max),
            None => 0,
        };
        new
    }

    fn filled(&self) -> impl Iterator<Item = (usize, u64)> {
        self.buckets.iter().copied().enumerate().filter(|&(_, count)| count > 0)
    }
}

/// `{"count", "sum_ns", "max_ns", "buckets": [[first_ns, last_ns, count], ..]}`
#[cfg(feature = "serde")]
impl serde::Serialize for Durations {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let filled = self.filled();
        let buckets: Vec<_> =
            filled.map(|(bucket, count)| (begin_of(bucket), last_of(bucket), count)).collect();
        let mut fields = serializer.serialize_struct("Durations", 4)?;
        fields.serialize_field("count", &self.count)?;
        fields.serialize_field("sum_ns", &self.sum)?;
        fields.serialize_field("max_ns", &self.max)?;
        fields.serialize_field("buckets", &buckets)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Durations of every size, in nanoseconds.
    fn nanos() -> impl Strategy<Value = u64> {
        (0_u32..50, any::<u64>()).prop_map(|(bits, any)| any & ((1 << bits) - 1))
    }

    fn recorded(all: &[u64]) -> Durations {
        let recorder = Recorder::default();
        all.iter().for_each(|&nanos| recorder.add(Duration::from_nanos(nanos)));
        recorder.read()
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let ends: Vec<_> = (0..BUCKETS).map(|bucket| (begin_of(bucket), last_of(bucket))).collect();
        assert_eq!((ends[0].0, ends[BUCKETS - 1]), (0, (1 << TOP_BITS, u64::MAX)));
        for (bucket, &(begin, last)) in ends.iter().enumerate() {
            assert_eq!((bucket_of(begin), bucket_of(last)), (bucket, bucket));
            if let Some(&(next, _)) = ends.get(bucket + 1) {
                assert_eq!(next, last + 1);
                assert!((last - begin) * OF_A_SIZE <= begin.max(1), "bucket {bucket} is too wide");
            }
        }
    }

    proptest! {
        /// Against the sorted list of all: count, sum and maximum exactly, quantiles within what is said of them.
        #[test]
        fn it_says_what_a_sorted_list_says(
            mut all in proptest::collection::vec(nanos(), 0..300),
            shares in proptest::collection::vec(0.0..=1.0_f64, 1..10),
        ) {
            let durations = recorded(&all);
            all.sort_unstable();
            prop_assert_eq!(durations.count(), all.len() as u64);
            prop_assert_eq!(durations.sum(), Duration::from_nanos(all.iter().sum()));
            prop_assert_eq!(durations.max(), Duration::from_nanos(all.last().copied().unwrap_or(0)));
            for p in shares.into_iter().chain([0.0, 0.5, 0.99, 1.0]) {
                let Some(told) = durations.quantile(p) else {
                    prop_assert!(all.is_empty());
                    continue;
                };
                let rank = ((p * all.len() as f64).ceil() as usize).clamp(1, all.len());
                let exact = all[rank - 1];
                if exact >= 1 << TOP_BITS {
                    prop_assert_eq!(told, durations.max());
                } else {
                    let off = (told.as_nanos() as u64).abs_diff(exact);
                    prop_assert!(off * 16 <= exact, "{:?} told of {} at {}", told, exact, p);
                }
            }
            prop_assert_eq!(durations.quantile(-0.1), None);
            prop_assert_eq!(durations.quantile(f64::NAN), None);
        }

        /// What was added later, and nothing else, is in the difference.
        #[test]
        fn a_difference_is_what_came_between(
            before in proptest::collection::vec(nanos(), 0..100),
            after in proptest::collection::vec(nanos(), 0..100),
        ) {
            let both: Vec<u64> = before.iter().chain(&after).copied().collect();
            let (then, now, between) = (recorded(&before), recorded(&both), recorded(&after));
            let new = now.since(&then);
            prop_assert_eq!(&new.buckets, &between.buckets);
            prop_assert_eq!((new.count(), new.sum()), (between.count(), between.sum()));
            prop_assert!(new.max() >= between.max());
            if between.max < 1 << TOP_BITS {
                prop_assert!(new.max <= between.max + between.max / OF_A_SIZE, "{:?} of {:?}", new.max, between.max);
            }
            prop_assert_eq!(now.since(&now).max(), Duration::ZERO);
        }
    }
}
