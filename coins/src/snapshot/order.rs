//! In which order the coins of a transaction stand.
//!
//! ```text
//!   by number      0 .. 127      128 .. 255                256 .. 383             ..
//!   in the file    0 .. 127      128 .. 255, 16,512 ..     256 .. 383, 32,896 ..  ..
//! ```
//!
//! Core's database orders keys as bytes, and 16,512 is `80 80 00`, between 255, `80 7F`, and 256, `81 00`.

use crate::codec::write_varint;

/// The first number that is not at its place by number.
const FIRST_OUT: u32 = 16_512;

/// The number's bytes in the key of Core's database: they compare as coins are ordered.
fn place(vout: u32) -> Vec<u8> {
    let mut key = Vec::new();
    write_varint(u64::from(vout), &mut key);
    key
}

/// Whether a coin comes after another in the file.
pub(super) fn comes_after(before: u32, next: u32) -> bool {
    if before < FIRST_OUT && next < FIRST_OUT { before < next } else { place(before) < place(next) }
}

/// Orders what ascends by number as it stands in the file.
pub(super) fn sort<T>(coins: &mut [(u32, T)]) {
    if coins.last().is_some_and(|(last, _)| *last >= FIRST_OUT) {
        coins.sort_by_cached_key(|(vout, _)| place(*vout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::MAX_OUTPUTS;

    #[test]
    fn as_the_keys_of_the_database() {
        let mut coins: Vec<(u32, ())> = (0..MAX_OUTPUTS).map(|vout| (vout, ())).collect();
        sort(&mut coins);
        let at = |vout| coins.iter().position(|(found, ())| *found == vout).unwrap();
        assert_eq!((at(0), at(127), at(255)), (0, 127, 255));
        assert_eq!(at(16_512), 256);
        assert!(at(16_512 + 16_383) < at(256));
        for pair in coins.windows(2) {
            assert!(comes_after(pair[0].0, pair[1].0) && !comes_after(pair[1].0, pair[0].0));
        }
        assert!(!comes_after(5, 5) && !comes_after(20_000, 20_000));

        let mut few: Vec<(u32, ())> = (0..FIRST_OUT).map(|vout| (vout, ())).collect();
        let ascending = few.clone();
        sort(&mut few);
        assert_eq!(few, ascending);
    }
}
