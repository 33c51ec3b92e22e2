//! SHA-256 with word `j` of many messages in one vector: the steps that all such kernels share.
//!
//! ```text
//!  rows      a row per lane, where it lies            16 loads of 16 bytes per 4 lanes
//!  w[j]      word j of all lanes                      16 vectors per stream, in memory
//!  v[0..8]   a b c d e f g h of all lanes             8 vectors per stream, in registers
//!
//!  node      block 1   level ‖ left ‖ right[..31]     16 words, all vary
//!            block 2   right[31] ‖ 80 0 .. 0 520      one byte varies: written out by hand
//! ```
//!
//! A file per instruction set says what a vector is and how to add, rotate, load and store it; the
//! macros `lanes!` and `streams!`, used in it, make the kernel out of that. (Functions that use
//! instructions beyond the target's name them in an attribute, which generics cannot.) The file
//! has in scope:
//!
//! | item | is |
//! |---|---|
//! | `Vector`, `LANES` | a word of `LANES` messages |
//! | `add`, `xor3`, `choose`, `majority` | lane by lane; `choose(x, y, z)` is `Ch`, `majority` is `Maj` |
//! | `rotate::<R, L>`, `shift::<R>` | to the right by `R = 32 - L` bits |
//! | `all`, `load` | the same word in all lanes; a word each |
//! | `top_byte_of(x, y)` | the top byte of `x`, the others of `y` |
//! | `transposed` | a quarter of the rows to four words |
//! | `pad`, `add_live` | the end of a message; the state after a block, where it has not ended |
//! | `store` | a state to digests |
//! | `pin` | its argument, hidden from the compiler |
//!
//! The children of a node lie one byte before the words of its preimage, `level ‖ left ‖ right`.
//! The load therefore turns words around *and* by one byte, so that word `j` of the preimage is one
//! blend of two neighbours. The first rounds of the second block and its first 16 schedule words
//! take 1494 instead of 1624 vector operations (with three-operand logic and rotation).
//!
//! IMPLEMENTATION NOTES
//! * Left alone, the compiler keeps words in registers and spills them again, 100 times per 16
//!   rounds of two streams. An empty `asm!` after every round of a stream, which might change
//!   memory, makes it leave them there.
//! * One stream alone waits for its own results where an operation takes 2 cycles (Zen 5): it gets
//!   the short way from `e` to the next `e` (one more addition per round, one fewer in the way).
//!   The compiler would undo that by reassociating; an empty `asm!` in the middle of the sum forbids
//!   it. Two streams have always something to do and take the way with the fewest additions.
//! * The rounds are a loop over 16 of them, shared by both blocks: unrolled, they outgrow the
//!   instruction cache.
//! * What comes next is fetched a few rows per 16 rounds, not in a burst.

use super::sha256::{K, NODE_BITS, small_sigma0, small_sigma1};
use std::arch::asm;

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

/// Tells the compiler that memory may have changed, so that it leaves words there.
#[inline(always)]
pub(super) fn fence() {
    // SAFETY: no instruction at all.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// One round. `$short`: the short way from `e` to the next `e`.
macro_rules! round {
    ($v:expr, $kw:expr, $short:literal, [$a:literal $b:literal $c:literal $d:literal
     $e:literal $f:literal $g:literal $h:literal]) => {{
        let early = add(add($v[$h], $kw), choose($v[$e], $v[$f], $v[$g]));
        let sigma = big_sigma1($v[$e]);
        let top = add(big_sigma0($v[$a]), majority($v[$a], $v[$b], $v[$c]));
        if $short {
            $v[$d] = add(pin(add($v[$d], early)), sigma);
            $v[$h] = add(pin(add(early, top)), sigma);
        } else {
            let t1 = add(early, sigma);
            $v[$d] = add($v[$d], t1);
            $v[$h] = add(t1, top);
        }
    }};
}

/// A round of every stream with words that are there, and the words 16 rounds on.
macro_rules! scheduling_round {
    (($v:ident $w:ident $k:ident $short:literal $fenced:literal [$($s:literal)*]) $t:literal $registers:tt) => {
        $(
            let word = $w[$s][$t];
            round!($v[$s], add(word, all($k[$t])), $short, $registers);
            let far = add(word, $w[$s][($t + 9) % 16]);
            let near = add(sigma0($w[$s][($t + 1) % 16]), sigma1($w[$s][($t + 14) % 16]));
            $w[$s][$t] = add(far, near);
            if $fenced {
                fence();
            }
        )*
    };
}

/// A round of every stream with words that are there.
macro_rules! last_round {
    (($v:ident $w:ident $k:ident $short:literal $fenced:literal [$($s:literal)*]) $t:literal $registers:tt) => {
        $(
            round!($v[$s], add($w[$s][$t], all($k[$t])), $short, $registers);
            if $fenced {
                fence();
            }
        )*
    };
}

/// A round of every stream in the second block of a node, where only the first word varies.
macro_rules! node_tail_round {
    (($v:ident $w:ident $k:ident $short:literal $fenced:literal [$($s:literal)*]) $t:literal $registers:tt) => {
        $(
            let kw = all($k[$t]);
            round!($v[$s], if $t == 0 { add(kw, $w[$s][0]) } else { kw }, $short, $registers);
            if $fenced {
                fence();
            }
        )*
    };
}

/// What does not depend on the number of streams.
macro_rules! lanes {
    ($features:literal) => {
        /// `a` to `h` of one stream.
        type State = [Vector; 8];
        /// 16 words of one stream.
        type Words = [Vector; 16];

        /// `Σ0` (FIPS 180-4, 4.1.2).
        #[inline]
        #[target_feature(enable = $features)]
        fn big_sigma0(x: Vector) -> Vector {
            xor3(rotate::<2, 30>(x), rotate::<13, 19>(x), rotate::<22, 10>(x))
        }

        /// `Σ1`.
        #[inline]
        #[target_feature(enable = $features)]
        fn big_sigma1(x: Vector) -> Vector {
            xor3(rotate::<6, 26>(x), rotate::<11, 21>(x), rotate::<25, 7>(x))
        }

        /// `σ0`.
        #[inline]
        #[target_feature(enable = $features)]
        fn sigma0(x: Vector) -> Vector {
            xor3(rotate::<7, 25>(x), rotate::<18, 14>(x), shift::<3>(x))
        }

        /// `σ1`.
        #[inline]
        #[target_feature(enable = $features)]
        fn sigma1(x: Vector) -> Vector {
            xor3(rotate::<17, 15>(x), rotate::<19, 13>(x), shift::<10>(x))
        }

        /// The words 16 to 31 of a node's second block, which is `w0, 0, .., 0, NODE_BITS`.
        #[inline]
        #[target_feature(enable = $features)]
        fn node_tail_schedule(w: &mut Words) {
            use $crate::kernel::lanes::NODE_TAIL_SCHEDULE as W;
            let w0 = w[0];
            w[1] = all(W[1]);
            w[2] = sigma1(w0);
            w[3] = all(W[3]);
            w[4] = sigma1(w[2]);
            w[5] = all(W[5]);
            w[6] = add(sigma1(w[4]), all(W[6]));
            w[7] = add(all(W[7]), w0);
            w[8] = add(sigma1(w[6]), all(W[1]));
            w[9] = add(sigma1(w[7]), w[2]);
            w[10] = add(sigma1(w[8]), all(W[3]));
            w[11] = add(sigma1(w[9]), w[4]);
            w[12] = add(sigma1(w[10]), all(W[5]));
            w[13] = add(sigma1(w[11]), w[6]);
            w[14] = add(add(sigma1(w[12]), w[7]), all(W[14]));
            w[15] = add(add(sigma1(w[13]), w[8]), add(sigma0(w0), all(W[15])));
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn initial_state() -> State {
            let mut state = [all(0); 8];
            for (vector, word) in state.iter_mut().zip($crate::kernel::sha256::INITIAL_STATE) {
                *vector = all(word);
            }
            state
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn add_states(a: &State, b: &State) -> State {
            let mut sum = *a;
            for (sum, b) in sum.iter_mut().zip(b) {
                *sum = add(*sum, *b);
            }
            sum
        }

        /// The words of the first block of nodes. Returns the first word of their second.
        #[inline]
        #[target_feature(enable = $features)]
        fn node_words(level: u8, rows: &[&Row; LANES], w: &mut Words) -> Vector {
            use $crate::kernel::{lanes::BIG_ENDIAN_ROTATED, sha256::node_tail_word};
            let mut before = all(u32::from(level) << 24);
            for (quarter, words) in w.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let turned = transposed(rows, quarter, &BIG_ENDIAN_ROTATED);
                for (word, turned) in words.iter_mut().zip(turned) {
                    *word = top_byte_of(before, turned);
                    before = turned;
                }
            }
            top_byte_of(before, all(node_tail_word(0)))
        }
    };
}

/// A module with the kernel of a number of streams side by side, called `nodes` and `messages`.
/// `$list` counts them, `$lanes` is what they have together.
macro_rules! streams {
    ($module:ident, $features:literal, $n:literal, $lanes:literal, $short:literal, $fenced:literal, $list:tt) => {
        mod $module {
            use super::*;
            use $crate::kernel::{
                MessageJob, NodeJob,
                lanes::{BIG_ENDIAN, NODE_TAIL_K, fence},
                rows::{Copies, Fetch, Lengths, node_rows},
                sha256::K,
            };

            /// The rounds with the constants `k`, the last 16 without a schedule after them, and
            /// without the addition at the end.
            #[inline(never)]
            #[target_feature(enable = $features)]
            fn rounds(
                state: &mut [State; $n],
                w: &mut [Words; $n],
                k: &[[u32; 16]],
                ahead: &mut Fetch<'_>,
            ) {
                let mut v = *state;
                let Some((last, scheduling)) = k.split_last() else { return };
                for k in scheduling {
                    ahead.some($lanes / 4);
                    sixteen!(scheduling_round (v w k $short $fenced $list));
                }
                sixteen!(last_round (v w last $short $fenced $list));
                *state = v;
            }

            /// The first 16 rounds of the second block of nodes.
            #[inline(never)]
            #[target_feature(enable = $features)]
            fn tail_rounds(state: &mut [State; $n], w: &mut [Words; $n]) {
                let mut v = *state;
                let k = &NODE_TAIL_K;
                sixteen!(node_tail_round (v w k $short $fenced $list));
                *state = v;
                for w in w {
                    node_tail_schedule(w);
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn nodes(level: u8, jobs: &mut [NodeJob<'_>], ahead: &[NodeJob<'_>]) {
                let initial = initial_state();
                let mut w = [[all(0); 16]; $n];
                let mut jobs = jobs;
                while !jobs.is_empty() {
                    let (lot, later) = jobs.split_at_mut(jobs.len().min($lanes));
                    let next = if later.is_empty() { ahead } else { &*later };
                    let mut next = Fetch(&next[..next.len().min($lanes)]);

                    let rows: [&Row; $lanes] = node_rows(lot);
                    let mut last = [all(0); $n];
                    for ((w, last), rows) in w.iter_mut().zip(&mut last).zip(rows.as_chunks().0) {
                        *last = node_words(level, rows, w);
                    }
                    let mut state = [initial; $n];
                    rounds(&mut state, &mut w, &K.0, &mut next);
                    for s in &mut state {
                        *s = add_states(s, &initial);
                    }
                    let middle = state;
                    for (w, last) in w.iter_mut().zip(last) {
                        w[0] = last;
                    }
                    tail_rounds(&mut state, &mut w);
                    rounds(&mut state, &mut w, &K.0[1..], &mut next);
                    let outs = lot.chunks_mut(LANES);
                    for ((state, middle), lot) in state.iter().zip(&middle).zip(outs) {
                        let sum = add_states(state, middle);
                        store(&sum, lot.iter_mut().map(|job| &mut *job.out));
                    }
                    jobs = later;
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn messages(jobs: &mut [MessageJob<'_>]) {
                let mut copies = Copies::<$lanes>::EMPTY;
                let mut w = [[all(0); 16]; $n];
                for lot in jobs.chunks_mut($lanes) {
                    let lengths = Lengths::<$lanes>::of(lot);
                    let most = lengths.most();
                    let mut state = [initial_state(); $n];
                    for block in 0..most {
                        let rows: [&Row; $lanes] = copies.rows(lot, block);
                        for (s, (w, rows)) in w.iter_mut().zip(rows.as_chunks().0).enumerate() {
                            for (quarter, words) in w.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                                *words = transposed(rows, quarter, &BIG_ENDIAN);
                            }
                            if block >= lengths.whole() {
                                let bytes = load(&lengths.bytes.as_chunks().0[s]);
                                let blocks = load(&lengths.blocks.as_chunks().0[s]);
                                pad(w, block, bytes, blocks);
                            }
                        }
                        let before = state;
                        rounds(&mut state, &mut w, &K.0, &mut Fetch(&[]));
                        for s in 0..$n {
                            let blocks = load(&lengths.blocks.as_chunks().0[s]);
                            state[s] = add_live(&before[s], &state[s], block, blocks);
                        }
                    }
                    for (state, lot) in state.iter().zip(lot.chunks_mut(LANES)) {
                        store(state, lot.iter_mut().map(|job| &mut *job.out));
                    }
                }
            }
        }
    };
}

/// The kernel `$kernel`, called `$name`, out of a module of `streams!`.
macro_rules! many_lanes_kernel {
    ($kernel:ty, $name:literal, $lanes:literal, $module:ident) => {
        impl $crate::kernel::Kernel for $kernel {
            fn name(&self) -> &'static str {
                $name
            }

            fn lanes(&self) -> usize {
                $lanes
            }

            fn pads(&self) -> bool {
                true
            }

            fn nodes(
                &self,
                level: u8,
                jobs: &mut [$crate::kernel::NodeJob<'_>],
                ahead: &[$crate::kernel::NodeJob<'_>],
            ) {
                // SAFETY: the token proves that this CPU has the instructions.
                unsafe { $module::nodes(level, jobs, ahead) }
            }

            fn messages(&self, jobs: &mut [$crate::kernel::MessageJob<'_>]) {
                // SAFETY: the token proves that this CPU has the instructions.
                unsafe { $module::messages(jobs) }
            }
        }
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
