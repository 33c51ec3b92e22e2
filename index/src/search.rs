//! Search in a sorted slice, outwards from a guess.

/// Items on either side of the guess that are looked at together. In a uniform bucket of 150 slots
/// they hold the answer in 85 cases of 100, in one of 250 slots in 73.
pub(crate) const REACH: usize = 8;

/// `slice.partition_point(before)`, found from `guess`: cheap if the answer is near, never worse
/// than about twice a binary search. `guess` may be any number.
#[inline]
pub(crate) fn partition_point_near<T>(
    slice: &[T],
    guess: usize,
    before: impl Fn(&T) -> bool,
) -> usize {
    // A window around the guess, counted without branches: its cache lines arrive together.
    let guess = guess.min(slice.len());
    let mut low = guess.saturating_sub(REACH);
    let mut high = slice.len().min(guess + REACH);
    let count = slice.get(low..high).map_or(0, |near| near.iter().filter(|&i| before(i)).count());
    if count > 0 && count < high - low {
        return low + count;
    }
    // The answer is at an end of the window or beyond it: gallop away.
    let mut step = REACH;
    if count == 0 {
        high = low;
        while low > 0 {
            low = low.saturating_sub(step);
            step *= 2;
            if slice.get(low).is_some_and(&before) {
                low += 1;
                break;
            }
            high = low;
        }
    } else {
        low = high;
        high = slice.len();
        while let Some(item) = slice.get(low + step) {
            if !before(item) {
                high = low + step;
                break;
            }
            low += step + 1;
            step *= 2;
        }
    }
    low + slice.get(low..high).map_or(0, |rest| rest.partition_point(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_partition_point_from_every_guess() {
        for len in [0_usize, 1, 2, 7, 8, 9, 10, 15, 16, 17, 18, 40, 100, 300] {
            let slice: Vec<usize> = (0..len).collect();
            for answer in 0..=len {
                for guess in (0..len + 3).chain([usize::MAX]) {
                    let found = partition_point_near(&slice, guess, |&item| item < answer);
                    assert_eq!(found, answer, "length {len}, guess {guess}");
                }
            }
        }
    }
}
