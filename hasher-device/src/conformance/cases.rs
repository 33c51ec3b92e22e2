//! Launches with operands.

use crate::{Launch, Limits, Parents, TWIG_INNER};
use hedgerow_types::TWIG_LEAVES;

/// A launch over operands that are named by their index. No kernel changes operand 0 where it is
/// an input.
pub(super) struct Case {
    pub(super) what: String,
    pub(super) operands: Vec<Vec<u8>>,
    pub(super) launch: Launch<'static, usize>,
}

impl Case {
    fn fits(&self, limits: Limits) -> bool {
        self.operands.iter().all(|operand| operand.len() as u64 <= limits.buffer_bytes)
    }
}

const A: &usize = &0;
const B: &usize = &1;
const C: &usize = &2;

/// Counts around the sizes of warps and work groups.
const COUNTS: [usize; 17] =
    [0, 1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000];

/// Digests behind every operand that no launch may touch.
const SLACK: usize = 300;

/// Pseudo-random numbers (SplitMix64).
pub(super) struct Random {
    state: u64,
    limits: Limits,
}

impl Random {
    pub(super) fn new(limits: Limits) -> Self {
        Self { state: 0x6865_6467_6572_6F77, limits }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }

    /// So many digests, and slack.
    fn digests(&mut self, count: usize) -> Vec<u8> {
        self.bytes(32 * (count + SLACK))
    }

    /// `count` different numbers below `end`, in no order.
    fn places(&mut self, count: usize, end: usize) -> Vec<u32> {
        let mut all: Vec<_> = (0..end as u32).collect();
        for i in 0..count {
            all.swap(i, i + self.below(end - i));
        }
        all.truncate(count);
        all
    }

    /// Numbers as an operand, and slack: numbers too, that lie below `end`, so that who reads too
    /// many does something with them.
    fn list(&mut self, numbers: &[u32], end: usize) -> Vec<u8> {
        let slack: Vec<_> = (0..SLACK).map(|_| self.below(end.max(1)) as u32).collect();
        numbers.iter().chain(&slack).flat_map(|number| number.to_le_bytes()).collect()
    }
}

/// Every kernel at every count that the device takes.
pub(super) fn all(random: &mut Random) -> Vec<Case> {
    let most = random.limits.max_count as usize;
    let mut cases = vec![];
    for count in COUNTS.into_iter().filter(|&count| count <= most) {
        cases.extend(of_count(random, count));
    }
    // More work groups than one dimension of a grid has on some devices.
    if most >= 100_000 {
        cases.push(nodes(random, 7, 0, 100_000, (1, 0)));
    }
    for (count, inner) in [(0, true), (1, false), (1, true), (2, true), (5, false), (9, true)] {
        if count <= most {
            cases.push(twigs(random, count, inner));
        }
    }
    cases.retain(|case| case.fits(random.limits));
    cases
}

/// Every kernel at some count.
pub(super) fn mixed(random: &mut Random) -> Vec<Case> {
    let count = 1 + random.below((random.limits.max_count as usize).min(700));
    let mut cases = of_count(random, count);
    cases.push(twigs(random, 1, true));
    cases.retain(|case| case.fits(random.limits));
    cases
}

fn of_count(random: &mut Random, count: usize) -> Vec<Case> {
    vec![
        nodes(random, 0, 0, count, (1, 0)),
        nodes(random, 255, 3, count, (1, 0)),
        nodes(random, 63, 5, count, (3, 2)),
        listed_nodes(random, 11, 0, count, (1, 0)),
        listed_nodes(random, 200, 7, count, (2, 1)),
        messages(random, count, 0),
        messages(random, count, 1),
        messages(random, count, 300),
        scatter(random, count),
        gather(random, count),
        flip(random, count),
    ]
}

fn nodes(
    random: &mut Random,
    level: u8,
    first: usize,
    count: usize,
    (stride, offset): (usize, usize),
) -> Case {
    let end = first + count;
    Case {
        what: format!("{count} nodes of level {level} from {first}, stride {stride} + {offset}"),
        operands: vec![random.digests(2 * end), random.digests(stride * end + offset)],
        launch: Launch::Nodes {
            level,
            children: A,
            parents: Parents::Run { first: first as u32 },
            count: count as u32,
            out: B,
            out_stride: stride as u32,
            out_offset: offset as u32,
        },
    }
}

fn listed_nodes(
    random: &mut Random,
    level: u8,
    first: usize,
    count: usize,
    (stride, offset): (usize, usize),
) -> Case {
    let end = 2 * (first + count) + 1;
    let places = random.places(first + count, end);
    let places = random.list(&places, end);
    let operands = vec![random.digests(2 * end), places, random.digests(stride * end + offset)];
    Case {
        what: format!("{count} listed nodes of level {level}, stride {stride} + {offset}"),
        operands,
        launch: Launch::Nodes {
            level,
            children: A,
            parents: Parents::List { places: B, first: first as u32 },
            count: count as u32,
            out: C,
            out_stride: stride as u32,
            out_offset: offset as u32,
        },
    }
}

/// Messages around the lengths at which their number of blocks changes, up to `spread` bytes
/// longer, neighbours alike; noise between them.
fn messages(random: &mut Random, count: usize, spread: usize) -> Case {
    let edges = [0, 1, 3, 4, 54, 55, 56, 59, 60, 63, 64, 65, 118, 119, 120, 183, 184, 500];
    let mut lens: Vec<_> =
        (0..count).map(|i| edges[(i + count) % edges.len()] + random.below(spread + 1)).collect();
    lens.sort_unstable_by_key(|len| (len + 9) / 64);
    let mut spans = vec![];
    let mut word = random.below(5);
    for len in lens {
        spans.extend([word as u32, len as u32]);
        word += len.div_ceil(4) + random.below(2);
    }
    let spans = random.list(&spans, word.max(1));
    // No slack behind the messages: the last one may end with its buffer.
    let operands = vec![random.bytes((4 * word).max(32)), spans, random.digests(count)];
    Case {
        what: format!("{count} messages, spread {spread}"),
        operands,
        launch: Launch::Messages { bytes: A, spans: B, count: count as u32, out: C },
    }
}

fn twigs(random: &mut Random, count: usize, inner: bool) -> Case {
    let mut operands = vec![random.digests(TWIG_LEAVES * count), random.digests(count)];
    if inner {
        operands.push(random.digests(TWIG_INNER as usize * count));
    }
    Case {
        what: format!("{count} twigs, inner nodes: {inner}"),
        operands,
        launch: Launch::Twigs {
            leaves: A,
            count: count as u32,
            roots: B,
            inner: inner.then_some(C),
        },
    }
}

fn scatter(random: &mut Random, count: usize) -> Case {
    let end = 3 * count + 1;
    let places = random.places(count, end);
    Case {
        what: format!("{count} digests scattered"),
        operands: vec![random.digests(count), random.list(&places, end), random.digests(end)],
        launch: Launch::Scatter { digests: A, places: B, count: count as u32, out: C },
    }
}

fn gather(random: &mut Random, count: usize) -> Case {
    let end = count / 2 + 1;
    let places: Vec<_> = (0..count).map(|_| random.below(end) as u32).collect();
    Case {
        what: format!("{count} digests gathered"),
        operands: vec![random.digests(end), random.list(&places, end), random.digests(count)],
        launch: Launch::Gather { digests: A, places: B, count: count as u32, out: C },
    }
}

fn flip(random: &mut Random, count: usize) -> Case {
    let end = 2 * count + 1;
    let words = random.places(count, end);
    let flips: Vec<_> = words.into_iter().flat_map(|word| [word, random.next() as u32]).collect();
    Case {
        what: format!("{count} words flipped"),
        operands: vec![random.list(&flips, end), random.bytes(4 * end + 32 * SLACK)],
        launch: Launch::Flip { flips: A, count: count as u32, out: B },
    }
}
