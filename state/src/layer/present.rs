//! A set of small numbers that finds the greatest one below another.
//!
//! ```text
//!   level 0    ..1....1 │ ........ │ ........ │ .1......     one bit per number, 64 to a word
//!   level 1    1..1                                          one bit per word of the level below: is it not zero
//! ```
//!
//! A question climbs until a word has a bit below, and goes down along the highest ones: two steps per level, of which
//! 50,000 numbers need three.

/// A set of the numbers below a bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Present {
    levels: Vec<Vec<u64>>,
}

impl Present {
    /// The empty set of numbers below `bound`.
    pub(crate) fn none_of(bound: usize) -> Self {
        let mut levels = Vec::new();
        let mut words = bound / 64 + 1; // that of the bound itself too, which may be asked for
        loop {
            levels.push(vec![0; words]);
            if words <= 1 {
                return Self { levels };
            }
            words = words.div_ceil(64);
        }
    }

    /// Puts a number in, which is below the bound.
    pub(crate) fn insert(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / 64) else { return };
            let was = std::mem::replace(word, *word | 1 << (at % 64));
            if was != 0 {
                return; // those above know
            }
            at /= 64;
        }
    }

    /// Takes a number out.
    pub(crate) fn remove(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / 64) else { return };
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    /// The greatest number of the set below `number`.
    pub(crate) fn below(&self, number: usize) -> Option<usize> {
        let mut at = number;
        for (height, level) in self.levels.iter().enumerate() {
            let lower = level.get(at / 64).map_or(0, |word| word & ((1 << (at % 64)) - 1));
            at /= 64;
            if lower == 0 {
                continue;
            }
            let mut found = 64 * at + lower.ilog2() as usize;
            for level in self.levels.get(..height)?.iter().rev() {
                found = 64 * found + level.get(found)?.checked_ilog2()? as usize;
            }
            return Some(found);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_is_a_set_of_numbers() {
        for (seed, bound) in
            [0_usize, 1, 63, 64, 65, 4095, 4096, 4097, 300_000].into_iter().enumerate()
        {
            let mut state = seed as u64 + 1;
            let mut random = |end: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize % end.max(1)
            };
            let (mut set, mut model) = (Present::none_of(bound), BTreeSet::new());
            for step in 0..4_000 {
                let number = random(bound);
                if bound > 0 && random(3) > 0 {
                    set.insert(number);
                    model.insert(number);
                } else if let Some(&one) = model.range(number..).next() {
                    set.remove(one);
                    model.remove(&one);
                }
                for asked in [random(bound + 1), bound] {
                    let expected = model.range(..asked).next_back().copied();
                    assert_eq!(set.below(asked), expected, "bound {bound}, step {step}: {asked}");
                }
            }
            // And when none is left.
            for number in std::mem::take(&mut model) {
                set.remove(number);
            }
            assert_eq!(set.below(bound), None, "{bound}");
        }
    }
}
