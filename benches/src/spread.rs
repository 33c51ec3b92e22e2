//! The spread of a number of durations.

use std::time::Duration;

/// Median, 99th percentile and maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// At least half of the durations are at most this long.
    pub p50: Duration,
    /// At least 99 % of the durations are at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Spread {
    /// The spread of `durations` by nearest rank: each figure is one of them. `None` of no
    /// durations.
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        let rank = |percent: usize| (durations.len() * percent).div_ceil(100).saturating_sub(1);
        Some(Self {
            p50: *durations.get(rank(50))?,
            p99: *durations.get(rank(99))?,
            max: *durations.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(milliseconds: impl Iterator<Item = u64>) -> Option<[u128; 3]> {
        let spread = Spread::of(milliseconds.map(Duration::from_millis).collect())?;
        Some([spread.p50, spread.p99, spread.max].map(|duration| duration.as_millis()))
    }

    #[test]
    fn ranks() {
        assert_eq!(of(0..0), None);
        assert_eq!(of([7].into_iter()), Some([7, 7, 7]));
        assert_eq!(of([2, 1].into_iter()), Some([1, 2, 2]));
        assert_eq!(of((1..=100).rev()), Some([50, 99, 100]));
        assert_eq!(of(1..=1000), Some([500, 990, 1000]));
    }
}
