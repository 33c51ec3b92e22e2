//! What is due, and how the budget is shared: pure functions of sizes.
//!
//! ```text
//!   tier 0     ▪ ▪ ▪ ▪        spilled; four of them ─► one of tier 1
//!   tier 1     ▪▪▪▪ ▪▪▪▪      four of them ─► one of tier 2 ..
//!   lowest     ▪▪▪▪▪▪▪▪▪▪▪▪   one; all others ─► into it, when together they are half of it
//!
//!   budget     bits, directories │ mutable 1/8 │ frozen 1/8 │ filters │ pages that are kept
//!                                └────────────── shares of the rest ──────────────────────┘
//! ```

use super::age::{AGE_BYTES, RECORD_BYTES};

/// The tier of the segment that all others are merged into in the end.
pub const LOWEST_TIER: u8 = u8::MAX;
/// Segments of a tier that make one of the next.
pub(crate) const FAN_IN: usize = 4;
/// Bits of filter for each record above the lowest tier.
pub(crate) const UPPER_BITS: u32 = 12;
/// Bits of filter for each record of the lowest tier, at most. Fewer than 3 are not worth it.
const LOWEST_BITS: u64 = 10;
/// Records of an age at the least, so that a useless budget makes a slow index and not a broken one.
const MIN_RECORDS: usize = 256;
/// Bytes of filters above the lowest tier at the least: else every spill would be merged down at once.
const MIN_FILTERS: usize = 16 << 10;

/// What the policy sees of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) tier: u8,
    pub(crate) records: u64,
    pub(crate) filter_bytes: usize,
}

/// A merge that is due: which of the segments, into which tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) inputs: Vec<usize>,
    pub(crate) tier: u8,
}

/// How the budget is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Records of the mutable age, and of the frozen ones together.
    pub(crate) age_records: usize,
    /// Bytes of the filters above the lowest tier.
    pub(crate) upper_filters: usize,
    /// Bytes of the filter of the lowest tier.
    pub(crate) lowest_filter: usize,
    /// Bytes of everything but bits, directories and ages.
    pub(crate) left: usize,
}

impl Shares {
    /// Of a budget, of which so much is taken by what has no choice.
    pub(crate) fn new(budget: usize, taken: usize) -> Self {
        let rest = budget.saturating_sub(taken).max(budget / 4);
        let age = rest / 8;
        let age_records = (age.saturating_sub(AGE_BYTES) / RECORD_BYTES).max(MIN_RECORDS);
        let ages = 2 * (AGE_BYTES + age_records * RECORD_BYTES);
        // The lowest filter is there twice while a new one is made.
        Self {
            age_records,
            upper_filters: (rest / 6).max(MIN_FILTERS),
            lowest_filter: rest / 6,
            left: rest.saturating_sub(ages),
        }
    }

    /// Bits for each of so many records of the lowest tier.
    pub(crate) fn lowest_bits(&self, records: u64) -> u32 {
        let bits = (self.lowest_filter as u64 * 8 / records.max(1)).min(LOWEST_BITS);
        if bits < 3 { 0 } else { bits as u32 }
    }
}

/// The merge that is due, if one is; `live` records count.
pub(crate) fn choose(sizes: &[Size], shares: &Shares, live: u64) -> Option<Choice> {
    let down = || Some(Choice { inputs: (0..sizes.len()).collect(), tier: LOWEST_TIER });
    let lowest: u64 = sizes.iter().filter(|it| it.tier == LOWEST_TIER).map(|it| it.records).sum();
    let uppers: Vec<&Size> = sizes.iter().filter(|it| it.tier != LOWEST_TIER).collect();
    let upper: u64 = uppers.iter().map(|it| it.records).sum();
    let filters: usize = uppers.iter().map(|it| it.filter_bytes).sum();
    if upper > 0 && filters > shares.upper_filters {
        return down();
    }
    // The budget has become smaller: one that fits comes with a new segment.
    let lowest_filter: usize =
        sizes.iter().filter(|it| it.tier == LOWEST_TIER).map(|it| it.filter_bytes).sum();
    if lowest_filter > 2 * shares.lowest_filter {
        return down();
    }
    // Deletions alone leave the lowest tier full of what is dead.
    if lowest + upper > 3 * live + 4 * shares.age_records as u64 {
        return down();
    }
    let full = (0..LOWEST_TIER)
        .find(|tier| uppers.iter().filter(|it| it.tier == *tier).count() >= FAN_IN)?;
    if 2 * upper >= lowest {
        return down();
    }
    let inputs = (0..sizes.len()).filter(|i| sizes.get(*i).is_some_and(|it| it.tier == full));
    Some(Choice { inputs: inputs.collect(), tier: full.saturating_add(1).min(LOWEST_TIER - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: Shares =
        Shares { age_records: 1000, upper_filters: 1 << 30, lowest_filter: 1 << 30, left: 0 };

    fn sizes(list: &[(u8, u64)]) -> Vec<Size> {
        let size = |&(tier, records): &(u8, u64)| Size { tier, records, filter_bytes: 1000 };
        list.iter().map(size).collect()
    }

    #[test]
    fn runs_of_a_tier_make_one_of_the_next() {
        let list = sizes(&[(0, 10), (1, 40), (LOWEST_TIER, 10_000), (0, 10), (0, 10), (0, 10)]);
        let choice = Choice { inputs: vec![0, 3, 4, 5], tier: 1 };
        assert_eq!(choose(&list, &MANY, 10_000), Some(choice));
        assert_eq!(choose(&list[..5], &MANY, 10_000), None);
    }

    #[test]
    fn half_of_the_lowest_goes_into_it() {
        let list = sizes(&[(0, 10), (1, 40), (LOWEST_TIER, 130), (0, 10), (0, 10), (0, 10)]);
        let all = Choice { inputs: (0..6).collect(), tier: LOWEST_TIER };
        assert_eq!(choose(&list, &MANY, 10_000), Some(all.clone()));
        // The lowest alone, when its filter is too large by far: there is room for two, since a new one is made beside it.
        let [fits, few] = [500, 499].map(|lowest_filter| Shares { lowest_filter, ..MANY });
        let alone = sizes(&[(LOWEST_TIER, 10_000)]);
        assert_eq!(choose(&alone, &fits, 10_000), None);
        let down = Choice { inputs: vec![0], tier: LOWEST_TIER };
        assert_eq!(choose(&alone, &few, 10_000), Some(down));
        // All go when their filters are too large, whether a tier is full or not.
        let few = Shares { upper_filters: 4999, ..MANY };
        let list = sizes(&[(0, 1), (1, 1), (LOWEST_TIER, 10_000), (2, 1), (2, 1), (3, 1)]);
        assert_eq!(choose(&list, &few, 10_000), Some(all.clone()));
        assert_eq!(choose(&list, &MANY, 10_000), None);
        // And when most is dead.
        assert_eq!(choose(&list, &MANY, 1_000), Some(all));
        assert_eq!(choose(&sizes(&[(LOWEST_TIER, 10_000)]), &MANY, 10_000), None);
        assert_eq!(choose(&[], &MANY, 0), None);
    }

    #[test]
    fn shares_stay_within_the_budget_and_none_is_nothing() {
        for budget in [0, 1 << 10, 1 << 20, 4 << 20, 16 << 20, 1 << 30] {
            for taken in [0, budget / 3, budget, 2 * budget] {
                let shares = Shares::new(budget, taken);
                assert!(shares.age_records >= MIN_RECORDS);
                let ages = 2 * (AGE_BYTES + RECORD_BYTES * shares.age_records);
                let used = ages + shares.upper_filters + 2 * shares.lowest_filter;
                if budget >= 4 << 20 {
                    assert!(used <= budget - taken.min(3 * budget / 4), "{budget} {taken}");
                }
            }
        }
        assert_eq!(MANY.lowest_bits(1000), LOWEST_BITS as u32);
        let small = Shares { lowest_filter: 1000, ..MANY };
        assert_eq!([small.lowest_bits(2000), small.lowest_bits(4000)], [4, 0]);
    }
}
