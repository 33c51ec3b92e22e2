//! SHA-256 as FIPS 180-4 writes it down, one message at a time: for CPUs without any of the
//! instruction sets, and to compare the others with.

use super::{
    Kernel, MessageJob, NodeJob, Row,
    sha256::{INITIAL_STATE, K, Tail, digest_of, node_template, small_sigma0, small_sigma1},
};

/// One message at a time in plain code, whatever the CPU has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Portable;

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn pads(&self) -> bool {
        false
    }

    fn nodes(&self, level: u8, jobs: &mut [NodeJob<'_>], _ahead: &[NodeJob<'_>]) {
        let mut blocks = node_template(level);
        for NodeJob { children: [left, right], out } in jobs {
            let [first, second] = &mut blocks;
            first[1..33].copy_from_slice(&left.0);
            first[33..].copy_from_slice(&right.0[..31]);
            second[0] = right.0[31];
            let mut state = INITIAL_STATE;
            compress(&mut state, &blocks);
            **out = digest_of(state);
        }
    }

    fn messages(&self, jobs: &mut [MessageJob<'_>]) {
        let mut tail = Tail::EMPTY;
        for job in jobs {
            let (whole, rest) = job.message().as_chunks();
            tail.fill(rest, job.message().len());
            let mut state = INITIAL_STATE;
            compress(&mut state, whole);
            compress(&mut state, tail.blocks());
            *job.out = digest_of(state);
        }
    }
}

/// The compression function over `blocks` in turn (FIPS 180-4, 6.2.2).
fn compress(state: &mut [u32; 8], blocks: &[Row]) {
    for block in blocks {
        let mut w = [0_u32; 16];
        for (word, bytes) in w.iter_mut().zip(block.as_chunks().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for constants in &K.0 {
            for (t, k) in constants.iter().enumerate() {
                let t1 = h
                    .wrapping_add(e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25))
                    .wrapping_add((e & f) ^ (!e & g))
                    .wrapping_add(*k)
                    .wrapping_add(w[t]);
                let t2 = (a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22))
                    .wrapping_add((a & b) ^ (a & c) ^ (b & c));
                (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
                (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
                // The word that takes this one's place 16 rounds on.
                w[t] = w[t]
                    .wrapping_add(small_sigma0(w[(t + 1) % 16]))
                    .wrapping_add(w[(t + 9) % 16])
                    .wrapping_add(small_sigma1(w[(t + 14) % 16]));
            }
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(add);
        }
    }
}
