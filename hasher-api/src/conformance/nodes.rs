//! The operations on nodes: `pairs`, `indexed_pairs`, `levels`, `twigs`.

use super::{
    Suite,
    input::{LARGE, Outputs, Random, groupings, sizes},
    oracle_node,
};
use crate::{IndexedPairGroup, PairGroup};
use hedgerow_types::{Digest, TWIG_LEAVES};

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
    levels(suite, &mut random);
    twigs(suite, &mut random);
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

/// Level ranges over bottoms of `odd * 2^height` nodes, up to children of level 255.
fn levels(suite: &Suite<'_>, random: &mut Random) {
    for (level, odd, height) in [
        (0, 1, 0),
        (9, 0, 3),
        (0, 1, 1),
        (0, 1, 11),
        (12, 3, 6),
        (8, 35, 3),
        (64, 1, 4),
        (100, 7, 8),
        (247, 1, 9),
        (255, 5, 1),
        (255, 9, 0),
    ] {
        let nodes = random.digests(odd << height);
        let lens: Vec<_> = (0..height).rev().map(|h| odd << h).collect();
        let mut outputs = Outputs::new(random, &lens);
        let what = format!("{height} levels above {} nodes of level {level}", nodes.len());
        suite.must_succeed(&what, suite.hasher.levels(level, &nodes, &mut outputs.slices()));

        let mut expected = vec![];
        let mut children = nodes;
        for child_level in (level..=u8::MAX).take(height) {
            children = parents_of(child_level, &children);
            expected.push(children.clone());
        }
        suite.must_hold(&what, &outputs, |group, index| Some(expected[group][index]));
    }
}

/// Whole twigs, from none to more than the inherited implementation takes at once.
fn twigs(suite: &Suite<'_>, random: &mut Random) {
    for count in [0, 1, 2, 3, 5, 66] {
        let leaves = random.digests(count * TWIG_LEAVES);
        let mut outputs = Outputs::new(random, &[count]);
        let what = format!("{count} twigs");
        let result = match outputs.slices().as_mut_slice() {
            [roots] => suite.hasher.twigs(&leaves, roots),
            _ => Ok(()),
        };
        suite.must_succeed(&what, result);
        let mut roots = leaves;
        for level in 0..11 {
            roots = parents_of(level, &roots);
        }
        suite.must_hold(&what, &outputs, |_, index| Some(roots[index]));
    }
}

fn parents_of(level: u8, children: &[Digest]) -> Vec<Digest> {
    let (pairs, _) = children.as_chunks();
    pairs.iter().map(|[left, right]| oracle_node(level, left, right)).collect()
}
