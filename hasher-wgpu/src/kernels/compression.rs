//! The compression function of SHA-256 as WGSL, every round written out.
//!
//! ```text
//!  round i:   a e of the four rounds before ──► t ──► e{i+4} = a{i} + t      (a{i}: a of 4 rounds ago,
//!             w{i}, K[i]                          └─► a{i+4} = t + Σ0 + maj   which is called d by now)
//! ```
//!
//! As every value has a name of its own and is written once, nothing is an array that a driver
//! might put into memory: several times faster than the same rounds in a loop, on some drivers.

use std::fmt::{self, Write as _};

/// FIPS 180-4, 4.2.2.
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// `compress(s, w0, .., w15)`: the state after the block of the words `w` (FIPS 180-4, 6.2.2).
pub(super) fn source() -> Result<String, fmt::Error> {
    let mut text = String::from("fn compress(s: Digest");
    for i in 0..16 {
        write!(text, ", w{i}: u32")?;
    }
    text += ") -> Digest {\n";
    for i in 16..64 {
        let (a, b, c, d) = (i - 2, i - 7, i - 15, i - 16);
        let late = rotations(&format!("w{a}"), [17, 19], "10");
        let early = rotations(&format!("w{c}"), [7, 18], "3");
        writeln!(text, "let w{i} = {late} + w{b} + {early} + w{d};")?;
    }
    // a3, a2, a1, a0 are a, b, c, d of the text book; e3, e2, e1, e0 are e, f, g, h.
    text += "let a3 = s.a.x; let a2 = s.a.y; let a1 = s.a.z; let a0 = s.a.w;\n";
    text += "let e3 = s.b.x; let e2 = s.b.y; let e1 = s.b.z; let e0 = s.b.w;\n";
    for (i, k) in K.into_iter().enumerate() {
        let (f, e, now, next) = (i + 1, i + 2, i + 3, i + 4);
        let choice = format!("(e{f} ^ (e{now} & (e{e} ^ e{f})))");
        let majority = format!("((a{now} & a{e}) | (a{f} & (a{now} | a{e})))");
        let sum_e = sum(&format!("e{now}"), [6, 11, 25]);
        let sum_a = sum(&format!("a{now}"), [2, 13, 22]);
        writeln!(text, "let t{i} = e{i} + {sum_e} + {choice} + {k:#010x}u + w{i};")?;
        writeln!(text, "let e{next} = a{i} + t{i};")?;
        writeln!(text, "let a{next} = t{i} + {sum_a} + {majority};")?;
    }
    text += "return Digest(s.a + vec4(a67, a66, a65, a64), s.b + vec4(e67, e66, e65, e64));\n}\n";
    Ok(text)
}

fn rotated(x: &str, by: u32) -> String {
    format!("({x} >> {by}u | {x} << {}u)", 32 - by)
}

/// Σ0 and Σ1.
fn sum(x: &str, by: [u32; 3]) -> String {
    let [a, b, c] = by.map(|by| rotated(x, by));
    format!("({a} ^ {b} ^ {c})")
}

/// σ0 and σ1.
fn rotations(x: &str, by: [u32; 2], shift: &str) -> String {
    let [a, b] = by.map(|by| rotated(x, by));
    format!("({a} ^ {b} ^ ({x} >> {shift}u))")
}
