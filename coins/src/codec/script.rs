//! Scripts, compressed: the four kinds of which millions are alike but for a hash or a key (`compressor.h`).
//!
//! ```text
//!   76 A9 14 hash 88 AC     DUP HASH160 hash EQUALVERIFY CHECKSIG    ──►  00 hash
//!   A9 14 hash 87           HASH160 hash EQUAL                       ──►  01 hash
//!   21 (02|03) x AC         key CHECKSIG, compressed                 ──►  (02|03) x
//!   41 04 x y AC            key CHECKSIG, a point of the curve       ──►  (04|05) x     by whether y is odd
//!   anything else                                                    ──►  VARINT length + 6, script
//! ```
//!
//! Whether a compressed key is a point of the curve is not asked: its script comes back as it was. An uncompressed one
//! that is none is kept in full, since its y could not be found again.

use super::{FormatError, Input, ReadError, read_varint, write_varint};
use crate::coin::MAX_SCRIPT_LEN;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Script, ScriptBuf};
use std::io::Read;

/// Numbers that stand for special forms; a length has this added.
const SPECIAL: u64 = 6;

const P2PKH: ([u8; 3], [u8; 2]) = ([0x76, 0xa9, 0x14], [0x88, 0xac]);
const P2SH: ([u8; 2], [u8; 1]) = ([0xa9, 0x14], [0x87]);
const CHECKSIG: u8 = 0xac;
const PUSH_33: u8 = 0x21;
const PUSH_65: u8 = 0x41;
/// First byte of an uncompressed key.
const UNCOMPRESSED: u8 = 0x04;

/// The special form of a script, if it has one: its number and what follows it.
fn special(script: &[u8]) -> Option<(u8, &[u8])> {
    let between = |head: &[u8], tail: &[u8]| script.strip_prefix(head)?.strip_suffix(tail);
    if let Some(hash) = between(&P2PKH.0, &P2PKH.1).filter(|hash| hash.len() == 20) {
        return Some((0, hash));
    }
    if let Some(hash) = between(&P2SH.0, &P2SH.1).filter(|hash| hash.len() == 20) {
        return Some((1, hash));
    }
    match between(&[], &[CHECKSIG])?.split_first()? {
        (&PUSH_33, key) if key.len() == 33 => {
            let (&kind @ (2 | 3), x) = key.split_first()? else { return None };
            Some((kind, x))
        }
        (&PUSH_65, key) if key.len() == 65 && key.first() == Some(&UNCOMPRESSED) => {
            PublicKey::from_slice(key).ok()?;
            let odd = key.last()? & 1;
            Some((UNCOMPRESSED | odd, key.get(1..33)?))
        }
        _ => None,
    }
}

/// Appends a script.
pub(crate) fn write_script(script: &Script, out: &mut Vec<u8>) {
    let script = script.as_bytes();
    match special(script) {
        Some((kind, rest)) => {
            out.push(kind);
            out.extend_from_slice(rest);
        }
        None => {
            write_varint(script.len() as u64 + SPECIAL, out);
            out.extend_from_slice(script);
        }
    }
}

/// The next script.
pub(crate) fn read_script<R: Read>(input: &mut Input<R>) -> Result<ScriptBuf, ReadError> {
    let number = read_varint(input)?;
    let script = match (number, number.checked_sub(SPECIAL)) {
        (_, Some(len)) => {
            let len = usize::try_from(len).ok().filter(|len| *len <= MAX_SCRIPT_LEN);
            let len = len.ok_or(FormatError::ScriptLen(number - SPECIAL))?;
            let mut script = vec![0; len];
            input.read_exact(&mut script)?;
            if special(&script).is_some() {
                return Err(FormatError::Script.into());
            }
            script
        }
        (0, None) => [&P2PKH.0[..], &input.array::<20>()?, &P2PKH.1].concat(),
        (1, None) => [&P2SH.0[..], &input.array::<20>()?, &P2SH.1].concat(),
        (kind @ (2 | 3), None) => {
            [&[PUSH_33, kind as u8][..], &input.array::<32>()?, &[CHECKSIG]].concat()
        }
        // 04 and 05: y is even or odd, as with 02 and 03.
        (kind, None) => {
            let compressed = [&[kind as u8 - 2][..], &input.array::<32>()?].concat();
            let key = PublicKey::from_slice(&compressed).map_err(|_| FormatError::Key)?;
            [&[PUSH_65][..], &key.serialize_uncompressed(), &[CHECKSIG]].concat()
        }
    };
    Ok(ScriptBuf::from_bytes(script))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hex::FromHex;
    use proptest::prelude::*;

    fn bytes_of(script: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_script(Script::from_bytes(script), &mut out);
        out
    }

    fn script_of(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
        let script = read_script(&mut Input::new(bytes)).map_err(ReadError::into_format)?;
        Ok(script.into_bytes())
    }

    /// The key of mainnet's genesis coinbase, and the generator of the curve: y odd and even.
    fn keys() -> [Vec<u8>; 2] {
        [
            "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f",
            "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8",
        ]
        .map(|key| Vec::from_hex(key).unwrap())
    }

    fn pay_to(key: &[u8]) -> Vec<u8> {
        [&[key.len() as u8], key, &[CHECKSIG]].concat()
    }

    #[test]
    fn each_form() {
        let hash = [0xab; 20];
        let [odd, even] = keys();
        for (script, kind, rest) in [
            ([&P2PKH.0[..], &hash, &P2PKH.1].concat(), 0, &hash[..]),
            ([&P2SH.0[..], &hash, &P2SH.1].concat(), 1, &hash),
            (pay_to(&[&[2][..], &[7; 32]].concat()), 2, &[7; 32]),
            (pay_to(&[&[3][..], &[0xff; 32]].concat()), 3, &[0xff; 32]),
            (pay_to(&even), 4, &even[1..33]),
            (pay_to(&odd), 5, &odd[1..33]),
            // Segwit has no form of its own.
            ([&[0, 20][..], &hash].concat(), 28, &[&[0, 20][..], &hash].concat()),
            (vec![], 6, &[]),
        ] {
            let bytes = bytes_of(&script);
            assert_eq!(bytes, [&[kind], rest].concat());
            assert_eq!(script_of(&bytes).unwrap(), script);
        }
    }

    #[test]
    fn what_is_nearly_special_is_kept_in_full() {
        let [odd, _] = keys();
        // Not a point: y and -y have two values, this is neither.
        let mut off = odd.clone();
        off[64] ^= 2;
        // The hybrid forms that OpenSSL knew.
        let mut hybrid = odd.clone();
        hybrid[0] = 7;
        let mut other_key = vec![5];
        other_key.extend([1; 32]);
        for script in [
            pay_to(&off),
            pay_to(&hybrid),
            pay_to(&other_key),
            pay_to(&odd[..64]),
            [&P2PKH.0[..], &[1; 19], &P2PKH.1].concat(),
            [&P2PKH.0[..], &[1; 20], &[0x88, 0xad]].concat(),
            [&P2SH.0[..], &[1; 21], &P2SH.1].concat(),
            [&P2SH.0[..], &[1; 20], &[0x88]].concat(),
            vec![CHECKSIG],
        ] {
            let bytes = bytes_of(&script);
            assert!(bytes.ends_with(&script) && bytes.len() > script.len());
            assert_eq!(script_of(&bytes).unwrap(), script);
        }
    }

    #[test]
    fn refused() {
        // In full, where there is a form.
        let long = [&[25 + 6][..], &P2PKH.0, &[1; 20], &P2PKH.1].concat();
        assert_eq!(script_of(&long), Err(FormatError::Script));
        // x = 5 is on no point: 5^3 + 7 is no square.
        let mut x = vec![4];
        x.extend([0; 31]);
        x.push(5);
        assert_eq!(script_of(&x), Err(FormatError::Key));
        let mut len = Vec::new();
        write_varint(MAX_SCRIPT_LEN as u64 + 1 + SPECIAL, &mut len);
        assert_eq!(script_of(&len), Err(FormatError::ScriptLen(MAX_SCRIPT_LEN as u64 + 1)));
        let mut len = Vec::new();
        write_varint(u64::MAX, &mut len);
        assert_eq!(script_of(&len), Err(FormatError::ScriptLen(u64::MAX - SPECIAL)));
        for form in 0..6 {
            assert_eq!(script_of(&[form, 1, 2, 3]), Err(FormatError::Truncated));
        }
    }

    /// Scripts of every kind, whole and with something wrong.
    fn scripts() -> impl Strategy<Value = Vec<u8>> {
        let key = prop::array::uniform32(any::<u8>());
        let keys = key.prop_filter_map("no key", |bytes| {
            bitcoin::secp256k1::SecretKey::from_slice(&bytes).ok()
        });
        let secp = bitcoin::secp256k1::Secp256k1::signing_only();
        let key = keys.prop_map(move |key| key.public_key(&secp));
        let hash = || prop::array::uniform20(any::<u8>());
        let whole = prop_oneof![
            hash().prop_map(|hash| [&P2PKH.0[..], &hash, &P2PKH.1].concat()),
            hash().prop_map(|hash| [&P2SH.0[..], &hash, &P2SH.1].concat()),
            key.clone().prop_map(|key| pay_to(&key.serialize())),
            key.prop_map(|key| pay_to(&key.serialize_uncompressed())),
            prop::collection::vec(any::<u8>(), 0..300),
        ];
        (whole, prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()))).prop_map(
            |(mut script, patch)| {
                if let Some((at, value)) = patch.filter(|_| !script.is_empty()) {
                    let at = at.index(script.len());
                    script[at] = value;
                }
                script
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn scripts_come_back(script in scripts()) {
            prop_assert_eq!(script_of(&bytes_of(&script)), Ok(script));
        }

        #[test]
        fn what_decodes_is_what_encodes(
            kind in 0_u8..40,
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let bytes = [&[kind], &rest[..]].concat();
            let mut input = Input::new(&bytes[..]);
            if let Ok(script) = read_script(&mut input) {
                prop_assert_eq!(&bytes[..input.offset() as usize], bytes_of(script.as_bytes()));
            }
        }
    }
}
