//! Amounts, packed: zeros at the end are counted instead of kept (Bitcoin Core's `CompressAmount`).
//!
//! ```text
//!   amount = (10 n + d) * 10^e,  d = 1..9, e < 9   ──►  1 + 10 (9 n + d - 1) + e
//!   amount = n * 10^9                              ──►  1 + 10 (n - 1) + 9
//!   0                                              ──►  0
//! ```

/// The packed form of an amount in satoshi.
pub(crate) const fn pack_amount(amount: u64) -> u64 {
    if amount == 0 {
        return 0;
    }
    let mut left = amount;
    let mut zeros = 0;
    while zeros < 9 && left.is_multiple_of(10) {
        left /= 10;
        zeros += 1;
    }
    // At most 9/10 of the amount times 10 and a little: no overflow for what there can be of bitcoin.
    if zeros < 9 {
        1 + (left / 10 * 9 + left % 10 - 1) * 10 + zeros
    } else {
        1 + (left - 1) * 10 + 9
    }
}

/// The amount in satoshi of a packed form; none if it has more than 64 bits.
pub(crate) const fn unpack_amount(packed: u64) -> Option<u64> {
    let Some(rest) = packed.checked_sub(1) else { return Some(0) };
    let (zeros, rest) = (rest % 10, rest / 10);
    let digits = if zeros < 9 {
        // At most a ninth of 64 bits times ten: no overflow, since `rest` is a tenth of 64 bits.
        rest / 9 * 10 + rest % 9 + 1
    } else {
        rest + 1
    };
    digits.checked_mul(10_u64.pow(zeros as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Amount;
    use proptest::prelude::*;

    #[test]
    fn known_forms() {
        const COIN: u64 = 100_000_000;
        for (amount, packed) in [
            (0, 0),
            (1, 1),
            (10, 2),
            (COIN / 100, 7),
            (COIN, 9),
            (50 * COIN, 50),
            (21_000_000 * COIN, 21_000_000),
            (Amount::MAX_MONEY.to_sat() - 1, 18_899_999_999_999_991),
        ] {
            assert_eq!(pack_amount(amount), packed, "{amount}");
            assert_eq!(unpack_amount(packed), Some(amount));
        }
        assert_eq!(unpack_amount(u64::MAX), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn amounts_come_back(amount in 0..=Amount::MAX_MONEY.to_sat(), zeros in 0_u32..16) {
            let amount = amount / 10_u64.pow(zeros) * 10_u64.pow(zeros);
            prop_assert_eq!(unpack_amount(pack_amount(amount)), Some(amount));
        }

        #[test]
        fn packed_forms_come_back(packed: u64, shift in 0..64) {
            let packed = packed >> shift;
            if let Some(amount) = unpack_amount(packed)
                && amount <= Amount::MAX_MONEY.to_sat()
            {
                prop_assert_eq!(pack_amount(amount), packed);
            }
        }
    }
}
