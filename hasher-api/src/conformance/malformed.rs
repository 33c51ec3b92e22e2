//! Batches whose lengths or indexes contradict each other: an error, nothing written, no panic.

use super::{
    Suite,
    input::{Outputs, Random},
};
use crate::{
    HashError, IndexedPairGroup, LEFT_TREE_LEVELS, LeftTreeGroup, MessageGroup, PairGroup, Span,
};
use hedgerow_types::TWIG_LEAVES;
use std::ops::Range;

pub(super) fn check(suite: &Suite<'_>) {
    let mut random = suite.random(4);
    messages(suite, &mut random);
    pairs(suite, &mut random);
    indexed_pairs(suite, &mut random);
    left_trees(suite, &mut random);
}

/// Where the bad group stands among good ones.
const PLACES: [usize; 3] = [0, 1, 2];

fn must_refuse(suite: &Suite<'_>, what: &str, result: Result<(), HashError>, outputs: &Outputs) {
    let name = &suite.name;
    assert!(matches!(result, Err(HashError::Shape(_))), "{name}: malformed {what}: {result:?}");
    suite.must_hold(&format!("malformed {what}"), outputs, |_, _| None);
}

fn messages(suite: &Suite<'_>, random: &mut Random) {
    let arena = random.bytes(100);
    let span = |offset, len| Span { offset, len };
    let good = [span(0, 100), span(100, 0)];
    for (what, bad, out_len) in [
        ("message longer than its arena", vec![span(0, 10), span(0, 101)], 2),
        ("message that ends after its arena", vec![span(50, 51)], 1),
        ("empty message beyond its arena", vec![span(101, 0)], 1),
        ("message of the greatest length", vec![span(1, u32::MAX)], 1),
        ("message at the greatest offset", vec![span(u32::MAX, 1)], 1),
        ("message whose end overflows", vec![span(u32::MAX, u32::MAX)], 1),
        ("fewer outputs than messages", vec![span(0, 1); 33], 32),
        ("more outputs than messages", vec![span(0, 1); 33], 34),
        ("outputs without messages", vec![], 1),
    ] {
        for place in PLACES {
            let mut spans: Vec<&[Span]> = vec![&good; 3];
            spans[place] = &bad;
            let mut lens = [2; 3];
            lens[place] = out_len;
            let mut outputs = Outputs::new(random, &lens);
            let mut batch: Vec<_> = (spans.into_iter().zip(outputs.slices()))
                .map(|(spans, out)| MessageGroup { arena: &arena, spans, out })
                .collect();
            let result = suite.hasher.messages(&mut batch);
            must_refuse(suite, what, result, &outputs);
        }
    }
}

fn pairs(suite: &Suite<'_>, random: &mut Random) {
    let nodes = random.digests(200);
    for (what, children, out_len) in [
        ("pairs: an odd child", 65, 32),
        ("pairs: a missing child", 63, 32),
        ("pairs: as many children as parents", 32, 32),
        ("pairs: children without parents", 2, 0),
        ("pairs: parents without children", 0, 1),
    ] {
        for place in PLACES {
            let mut counts = [40; 3];
            counts[place] = children;
            let mut lens = [20; 3];
            lens[place] = out_len;
            let mut outputs = Outputs::new(random, &lens);
            let mut batch: Vec<_> = (counts.into_iter().zip(outputs.slices()))
                .map(|(count, out)| PairGroup { children: &nodes[..count], out })
                .collect();
            must_refuse(suite, what, suite.hasher.pairs(3, &mut batch), &outputs);
        }
    }
}

fn indexed_pairs(suite: &Suite<'_>, random: &mut Random) {
    let nodes = random.digests(200);
    let good = [0, 3, 19];
    for (what, children, bad, out_len) in [
        ("a parent beyond its outputs", 40, vec![1, 10], 10),
        ("a parent beyond its children", 20, vec![1, 10], 20),
        ("a parent with one child", 21, vec![1, 10], 20),
        ("a parent without outputs", 40, vec![0], 0),
        ("a parent without children", 0, vec![0], 1),
        ("the greatest parent", 40, vec![0, u32::MAX], 20),
        ("a parent twice", 40, vec![1, 5, 5, 6], 20),
        ("parents out of order", 40, vec![1, 6, 5, 7], 20),
        ("a far parent before the last", 40, vec![1, 1_000_000, 7], 20),
    ] {
        for place in PLACES {
            let mut counts = [40; 3];
            counts[place] = children;
            let mut parents: [&[u32]; 3] = [&good; 3];
            parents[place] = &bad;
            let mut lens = [20; 3];
            lens[place] = out_len;
            let mut outputs = Outputs::new(random, &lens);
            let mut batch: Vec<_> = (counts.into_iter().zip(parents))
                .zip(outputs.slices())
                .map(|((count, parents), out)| IndexedPairGroup {
                    children: &nodes[..count],
                    parents,
                    out,
                })
                .collect();
            must_refuse(suite, what, suite.hasher.indexed_pairs(3, &mut batch), &outputs);
        }
    }
}

fn left_trees(suite: &Suite<'_>, random: &mut Random) {
    const TWIG: usize = TWIG_LEAVES;
    let right =
        |twigs: usize| (1..=LEFT_TREE_LEVELS).map(|level| (twigs * TWIG) >> level).collect();
    let other = |level: usize, len: usize| {
        let mut lens: Vec<_> = right(2);
        lens[level - 1] = len;
        lens
    };
    let cases: [(_, _, _, Vec<usize>); 14] = [
        ("a missing leaf", 2 * TWIG - 1, 0..1, right(2)),
        ("a leaf too many", 2 * TWIG + 1, 0..1, right(2)),
        ("half a twig", TWIG / 2, 0..1, other(11, 0)),
        ("fewer twigs than roots", TWIG, 0..1, right(2)),
        ("more twigs than roots", 3 * TWIG, 0..1, right(2)),
        ("levels of no leaves", 0, 0..0, right(1)),
        ("a missing root", 2 * TWIG, 0..1, other(11, 1)),
        ("a root too many", 2 * TWIG, 0..1, other(11, 3)),
        ("a missing parent", 2 * TWIG, 0..1, other(1, 2047)),
        ("a level left out", 2 * TWIG, 0..1, other(5, 0)),
        ("a changed leaf after the last", 2 * TWIG, 2 * TWIG - 1..2 * TWIG + 1, right(2)),
        ("more changed leaves than there are numbers", 2 * TWIG, 0..usize::MAX, right(2)),
        ("no changed leaf, after the last", 2 * TWIG, 2 * TWIG + 1..2 * TWIG + 1, right(2)),
        (
            "changed leaves that end before they begin",
            2 * TWIG,
            Range { start: 7, end: 6 },
            right(2),
        ),
    ];
    for (what, leaves, changed, lens) in cases {
        let leaves = random.digests(leaves);
        let good = random.digests(TWIG);
        for place in PLACES {
            let mut all: Vec<usize> = vec![];
            for group in PLACES {
                all.extend(if group == place { lens.clone() } else { right(1) });
            }
            let mut outputs = Outputs::new(random, &all);
            let mut slices = outputs.slices().into_iter();
            let groups = PLACES.iter().filter_map(|&group| {
                let levels = slices.by_ref().take(LEFT_TREE_LEVELS).collect::<Vec<_>>();
                let levels = levels.try_into().ok()?;
                Some(if group == place {
                    LeftTreeGroup { leaves: &leaves, changed: changed.clone(), levels }
                } else {
                    LeftTreeGroup { leaves: &good, changed: 0..TWIG, levels }
                })
            });
            let mut groups = groups.collect::<Vec<_>>();
            let result = suite.hasher.left_trees(&mut groups);
            must_refuse(suite, &format!("left trees: {what}"), result, &outputs);
        }
    }
}
