//! The operations on nodes: `pairs`, `indexed_pairs`, `left_trees`.

use super::{
    Suite,
    input::{LARGE, Outputs, Random, groupings, sizes},
    oracle_node,
};
use crate::{IndexedPairGroup, LEFT_TREE_LEVELS, LeftTreeGroup, PairGroup};
use hedgerow_types::{Digest, TWIG_LEAVES};
use std::ops::Range;

pub(super) fn check(suite: &Suite<'_>) {
    let mut random = suite.random(3);
    for size in sizes() {
        batch(suite, &mut random, size);
    }
    batch(suite, &mut random, LARGE);
    for level in 0..=u8::MAX {
        for count in [1, 33] {
            pairs(suite, &mut random, level, &[count]);
            indexed_pairs(suite, &mut random, level, &[count], Choice::Half);
        }
    }
    pairs(suite, &mut random, 0, &[]);
    indexed_pairs(suite, &mut random, 0, &[], Choice::All);
    left_trees(suite, &mut random);
}

/// `count` parents of random nodes, contiguous and chosen, in all groupings.
pub(super) fn batch(suite: &Suite<'_>, random: &mut Random, count: usize) {
    for lens in groupings(random, count) {
        let level = random.byte();
        pairs(suite, random, level, &lens);
    }
    for choice in Choice::ALL {
        let all = groupings(random, count);
        // Every choice with a single group and with one of the others.
        let other = &all[1 + random.below(all.len() - 1)];
        for lens in [&all[0], other] {
            let level = random.byte();
            indexed_pairs(suite, random, level, lens, choice);
        }
    }
}

fn pairs(suite: &Suite<'_>, random: &mut Random, level: u8, lens: &[usize]) {
    let children: Vec<_> = lens.iter().map(|len| random.digests(2 * len)).collect();
    let mut outputs = Outputs::new(random, lens);
    let mut batch: Vec<_> = children
        .iter()
        .zip(outputs.slices())
        .map(|(children, out)| PairGroup { children, out })
        .collect();
    let what = format!("pairs of level {level} in groups {lens:?}");
    suite.must_succeed(&what, suite.hasher.pairs(level, &mut batch));
    suite.must_hold(&what, &outputs, |group, index| {
        let [left, right] = &children[group].as_chunks().0[index];
        Some(oracle_node(level, left, right))
    });
}

/// Which parents of a level are hashed.
#[derive(Clone, Copy, Debug)]
enum Choice {
    All,
    None,
    First,
    Last,
    Even,
    Half,
    Sparse,
    Run,
}

impl Choice {
    const ALL: [Self; 8] = [
        Self::All,
        Self::None,
        Self::First,
        Self::Last,
        Self::Even,
        Self::Half,
        Self::Sparse,
        Self::Run,
    ];

    fn parents(self, random: &mut Random, level_len: usize) -> Vec<u32> {
        let mut bounds = [random.below(level_len + 1), random.below(level_len + 1)];
        bounds.sort_unstable();
        (0..level_len)
            .filter(|&p| match self {
                Self::All => true,
                Self::None => false,
                Self::First => p == 0,
                Self::Last => p + 1 == level_len,
                Self::Even => p % 2 == 0,
                Self::Half => random.below(2) == 0,
                Self::Sparse => random.below(8) == 0,
                Self::Run => (bounds[0]..bounds[1]).contains(&p),
            })
            .map(|p| p as u32)
            .collect()
    }
}

/// `lens` are the lengths of the levels; each array has some unused nodes at its end.
fn indexed_pairs(
    suite: &Suite<'_>,
    random: &mut Random,
    level: u8,
    lens: &[usize],
    choice: Choice,
) {
    let parents: Vec<_> = lens.iter().map(|&len| choice.parents(random, len)).collect();
    let children: Vec<_> = lens
        .iter()
        .map(|len| {
            let unused = random.below(4);
            random.digests(2 * len + unused)
        })
        .collect();
    let out_lens: Vec<_> = lens.iter().map(|len| len + random.below(3)).collect();
    let mut outputs = Outputs::new(random, &out_lens);
    let mut batch: Vec<_> = (children.iter().zip(&parents))
        .zip(outputs.slices())
        .map(|((children, parents), out)| IndexedPairGroup { children, parents, out })
        .collect();
    let what = format!("indexed pairs ({choice:?}) of level {level} in groups {lens:?}");
    suite.must_succeed(&what, suite.hasher.indexed_pairs(level, &mut batch));
    suite.must_hold(&what, &outputs, |group, index| {
        parents[group].binary_search(&(index as u32)).ok()?;
        let [left, right] = &children[group].as_chunks().0[index];
        Some(oracle_node(level, left, right))
    });
}

/// Runs of changed leaves, by the number of twigs in a group.
fn left_trees(suite: &Suite<'_>, random: &mut Random) {
    const TWIG: usize = TWIG_LEAVES;
    let cases: [&[(usize, Range<usize>)]; 13] = [
        &[],
        &[(0, 0..0)],
        &[(1, 0..0)],
        &[(1, 0..1)],
        &[(1, TWIG - 1..TWIG)],
        &[(1, 0..TWIG)],
        &[(1, 700..1531)],
        &[(2, TWIG - 1..TWIG + 1)],
        &[(3, TWIG..2 * TWIG)],
        &[(4, 2 * TWIG + 5..4 * TWIG - 300)],
        &[(1, 17..18), (2, 0..0), (0, 0..0), (2, 2000..2 * TWIG), (1, 0..2)],
        &[(66, 0..66 * TWIG)],
        &[(3, 1000..3 * TWIG - 1), (40, 5..40 * TWIG - 5), (1, 0..1)],
    ];
    for case in cases {
        left_trees_of(suite, random, case);
    }
    for _ in 0..20 {
        let groups = (0..random.below(4)).map(|_| {
            let twigs = 1 + random.below(3);
            let mut ends = [0; 2].map(|_| random.below(twigs * TWIG + 1));
            ends.sort_unstable();
            (twigs, ends[0]..ends[1])
        });
        let groups = groups.collect::<Vec<_>>();
        left_trees_of(suite, random, &groups);
    }
}

fn left_trees_of(suite: &Suite<'_>, random: &mut Random, case: &[(usize, Range<usize>)]) {
    // By group, level by level.
    let trees = case.iter().map(|(twigs, _)| {
        let mut levels = vec![random.digests(twigs * TWIG_LEAVES)];
        for level in 0..LEFT_TREE_LEVELS {
            levels.push(parents_of(level as u8, &levels[level]));
        }
        levels
    });
    let trees = trees.collect::<Vec<_>>();
    let lens = trees.iter().flat_map(|tree| tree[1..].iter().map(Vec::len)).collect::<Vec<_>>();
    // The places of all nodes that changed, in the order of the outputs.
    let changed = case.iter().flat_map(|(_, leaves)| {
        (1..=LEFT_TREE_LEVELS).map(|level| match leaves {
            Range { start, end } if start < end => start >> level..((end - 1) >> level) + 1,
            _ => 0..0,
        })
    });
    let changed = changed.collect::<Vec<_>>();
    let right = |output: usize, index: usize| {
        trees[output / LEFT_TREE_LEVELS][output % LEFT_TREE_LEVELS + 1][index]
    };
    // Beside changed leaves nodes are right, elsewhere they are not, and nobody may look.
    let mut outputs = Outputs::new(random, &lens);
    outputs.prepare(|output, index| {
        let width = TWIG_LEAVES >> (output % LEFT_TREE_LEVELS + 1);
        let top = &changed[output / LEFT_TREE_LEVELS * LEFT_TREE_LEVELS + LEFT_TREE_LEVELS - 1];
        let beside = top.contains(&(index / width)) && !changed[output].contains(&index);
        beside.then(|| right(output, index))
    });
    let mut slices = outputs.slices().into_iter();
    let groups = trees.iter().zip(case).filter_map(|(tree, (_, changed))| {
        let levels = slices.by_ref().take(LEFT_TREE_LEVELS).collect::<Vec<_>>();
        Some(LeftTreeGroup {
            leaves: &tree[0],
            changed: changed.clone(),
            levels: levels.try_into().ok()?,
        })
    });
    let what = format!("left trees (twigs, changed leaves) {case:?}");
    let mut groups = groups.collect::<Vec<_>>();
    suite.must_succeed(&what, suite.hasher.left_trees(&mut groups));
    suite.must_hold(&what, &outputs, |output, index| {
        changed[output].contains(&index).then(|| right(output, index))
    });
}

fn parents_of(level: u8, children: &[Digest]) -> Vec<Digest> {
    let (pairs, _) = children.as_chunks();
    pairs.iter().map(|[left, right]| oracle_node(level, left, right)).collect()
}
