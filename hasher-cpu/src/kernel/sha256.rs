//! What all kernels share: the constants of SHA-256 (FIPS 180-4) and its padding.

use super::Row;
use hedgerow_types::{Digest, node::NODE_PREIMAGE_LEN};

/// Bytes of a block.
pub(crate) const BLOCK_LEN: usize = 64;
/// Bytes that the padding needs at least: the end byte and the length in bits.
pub(crate) const MIN_PADDING: usize = 1 + 8;
/// The byte after the message (FIPS 180-4, 5.1.1).
pub(crate) const END_OF_MESSAGE: u8 = 0x80;

/// Initial hash value (FIPS 180-4, 5.3.3).
pub(crate) const INITIAL_STATE: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Round constants (FIPS 180-4, 4.2.2), 16 rounds per row.
#[rustfmt::skip]
pub(crate) static K: Rounds = Rounds([
    [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4,
        0xab1c_5ed5, 0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe,
        0x9bdc_06a7, 0xc19b_f174,
    ],
    [
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc,
        0x76f9_88da, 0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147,
        0x06ca_6351, 0x1429_2967,
    ],
    [
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e,
        0x9272_2c85, 0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624,
        0xf40e_3585, 0x106a_a070,
    ],
    [
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f,
        0x682e_6ff3, 0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb,
        0xbef9_a3f7, 0xc671_78f2,
    ],
]);

/// A word for every round of a block, aligned for vector loads.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Rounds(pub(crate) [[u32; 16]; 4]);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
/// Length of a node's preimage in bits, the last word of its second block.
pub(crate) const NODE_BITS: u32 = 8 * NODE_PREIMAGE_LEN as u32;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
/// First word of a node's second block: the last byte of the preimage and the end of the message.
pub(crate) const fn node_tail_word(last: u8) -> u32 {
    u32::from_be_bytes([last, END_OF_MESSAGE, 0, 0])
}

/// `σ0` of the message schedule (FIPS 180-4, 4.1.2).
pub(crate) const fn small_sigma0(x: u32) -> u32 {
    x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3)
}

/// `σ1` of the message schedule (FIPS 180-4, 4.1.2).
pub(crate) const fn small_sigma1(x: u32) -> u32 {
    x.rotate_right(17) ^ x.rotate_right(19) ^ (x >> 10)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
/// Round constant plus message word for every round of the second block of a node, by the last
/// byte of the node's preimage: that block holds nothing else that varies, so its whole schedule is
/// a table of 64 KiB.
pub(crate) static NODE_TAIL: [Rounds; 256] = {
    let mut table = [Rounds([[0; 16]; 4]); 256];
    let mut last = 0;
    while last < 256 {
        table[last] = node_tail(last as u8);
        last += 1;
    }
    table
};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const fn node_tail(last: u8) -> Rounds {
    let mut w = [0_u32; 64];
    w[0] = node_tail_word(last);
    w[15] = NODE_BITS;
    let mut t = 16;
    while t < 64 {
        w[t] = small_sigma1(w[t - 2])
            .wrapping_add(w[t - 7])
            .wrapping_add(small_sigma0(w[t - 15]))
            .wrapping_add(w[t - 16]);
        t += 1;
    }
    let mut rounds = [[0; 16]; 4];
    let mut t = 0;
    while t < 64 {
        rounds[t / 16][t % 16] = w[t].wrapping_add(K.0[t / 16][t % 16]);
        t += 1;
    }
    Rounds(rounds)
}

/// The two blocks of a node without its children.
pub(crate) fn node_template(level: u8) -> [Row; 2] {
    let mut blocks = [[0; BLOCK_LEN]; 2];
    let [first, second] = &mut blocks;
    first[0] = level;
    second[NODE_PREIMAGE_LEN - BLOCK_LEN] = END_OF_MESSAGE;
    put_bit_length(second, NODE_PREIMAGE_LEN);
    blocks
}

/// What follows the last whole block of a message: its rest and the padding, one block or two.
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    blocks: [Row; 2],
    /// Whether the padding needs the second block.
    long: bool,
}

impl Tail {
    pub(crate) const EMPTY: Self = Self { blocks: [[0; BLOCK_LEN]; 2], long: false };

    /// `rest` is shorter than a block; the message has `len` bytes in all.
    pub(crate) fn fill(&mut self, rest: &[u8], len: usize) {
        self.blocks = [[0; BLOCK_LEN]; 2];
        self.long = rest.len() + MIN_PADDING > BLOCK_LEN;
        let [first, second] = &mut self.blocks;
        first[..rest.len()].copy_from_slice(rest);
        first[rest.len()] = END_OF_MESSAGE;
        put_bit_length(if self.long { second } else { first }, len);
    }

    pub(crate) fn blocks(&self) -> &[Row] {
        if self.long { &self.blocks } else { &self.blocks[..1] }
    }
}

/// Writes the length of a message of `bytes` bytes, in bits, at the end of its last block.
fn put_bit_length(block: &mut Row, bytes: usize) {
    block[BLOCK_LEN - 8..].copy_from_slice(&(8 * bytes as u64).to_be_bytes());
}

/// The digest of a final state.
pub(crate) fn digest_of(state: [u32; 8]) -> Digest {
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    Digest(digest)
}
