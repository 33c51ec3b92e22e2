//! What kernels with many lanes share: the order of registers, round by round, and constants.

use super::sha256::{K, NODE_BITS, small_sigma0, small_sigma1};

/// Runs `$do!` for rounds 0 to 15 of a stream: what was `a` is `b` in the next.
macro_rules! sixteen {
    ($do:ident $context:tt) => {
        $do!($context  0 [0 1 2 3 4 5 6 7]);
        $do!($context  1 [7 0 1 2 3 4 5 6]);
        $do!($context  2 [6 7 0 1 2 3 4 5]);
        $do!($context  3 [5 6 7 0 1 2 3 4]);
        $do!($context  4 [4 5 6 7 0 1 2 3]);
        $do!($context  5 [3 4 5 6 7 0 1 2]);
        $do!($context  6 [2 3 4 5 6 7 0 1]);
        $do!($context  7 [1 2 3 4 5 6 7 0]);
        $do!($context  8 [0 1 2 3 4 5 6 7]);
        $do!($context  9 [7 0 1 2 3 4 5 6]);
        $do!($context 10 [6 7 0 1 2 3 4 5]);
        $do!($context 11 [5 6 7 0 1 2 3 4]);
        $do!($context 12 [4 5 6 7 0 1 2 3]);
        $do!($context 13 [3 4 5 6 7 0 1 2]);
        $do!($context 14 [2 3 4 5 6 7 0 1]);
        $do!($context 15 [1 2 3 4 5 6 7 0]);
    };
}

/// Round constants of the first 16 rounds of a node's second block, with its words but the first.
pub(crate) static NODE_TAIL_K: [u32; 16] = {
    let mut k = K.0[0];
    k[15] = k[15].wrapping_add(NODE_BITS);
    k
};

/// What is constant in the words 16 to 31 of a node's second block, which is
/// `w0, 0, .., 0, NODE_BITS`: the whole word at 1, 3 and 5, a summand at 6, 7, 14 and 15.
pub(crate) const NODE_TAIL_SCHEDULE: [u32; 16] = {
    let mut w = [0; 16];
    w[1] = small_sigma1(NODE_BITS);
    w[3] = small_sigma1(w[1]);
    w[5] = small_sigma1(w[3]);
    w[6] = NODE_BITS;
    w[7] = small_sigma1(w[5]);
    w[14] = small_sigma0(NODE_BITS);
    w[15] = NODE_BITS;
    w
};

/// Byte shuffle of 16 bytes that turns the bytes of every word around.
pub(crate) const BIG_ENDIAN: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
/// The same and one byte further: the last byte of a word is on top.
pub(crate) const BIG_ENDIAN_ROTATED: [u8; 16] =
    [2, 1, 0, 3, 6, 5, 4, 7, 10, 9, 8, 11, 14, 13, 12, 15];
