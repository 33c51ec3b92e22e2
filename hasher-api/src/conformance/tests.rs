//! The suite must notice: each backend here is right but for one planted bug.

use super::*;
use crate::{
    Capabilities, HashCall, HookedHasher, IndexedPairGroup, LEFT_TREE_LEVELS, LeftTreeGroup,
    MessageGroup, PairGroup, ScalarHasher, Span, hash_message, hash_node,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    LastMessageOfBatchIgnored,
    LastMessageOfEveryGroupIgnored,
    EmptyMessageIgnored,
    ByteAfterMessageHashed,
    LastByteOfArenaIgnored,
    NoRoomForLengthInLastBlock,
    LongMessagesCut,
    OutputsShiftedByEmptyGroup,
    PairsSwapped,
    PairsOfNextLevel,
    PairsOfSignedLevel,
    PairsOnlyInFirstGroup,
    PairsInFullLanesOnly,
    PairsUpTo1024,
    IndexedSwapped,
    IndexedOfNextLevel,
    IndexedWritesExtra,
    IndexedIgnoresLast,
    IndexedPacked,
    IndexedWholeLevel,
    LeftTreesOnlyFirst,
    LeftTreesOfWrongLevel,
    LeftTreesWhole,
    LeftTreesFirstTwig,
    LeftTreesWithoutLastParent,
    NothingChecked,
    OnlyFirstGroupChecked,
    WritesBeforeChecking,
    UnsortedParentsAccepted,
    PanicsOnBadShape,
    DeviceAlwaysFails,
    Unnamed,
}

const ALL: [Bug; 32] = [
    Bug::LastMessageOfBatchIgnored,
    Bug::LastMessageOfEveryGroupIgnored,
    Bug::EmptyMessageIgnored,
    Bug::ByteAfterMessageHashed,
    Bug::LastByteOfArenaIgnored,
    Bug::NoRoomForLengthInLastBlock,
    Bug::LongMessagesCut,
    Bug::OutputsShiftedByEmptyGroup,
    Bug::PairsSwapped,
    Bug::PairsOfNextLevel,
    Bug::PairsOfSignedLevel,
    Bug::PairsOnlyInFirstGroup,
    Bug::PairsInFullLanesOnly,
    Bug::PairsUpTo1024,
    Bug::IndexedSwapped,
    Bug::IndexedOfNextLevel,
    Bug::IndexedWritesExtra,
    Bug::IndexedIgnoresLast,
    Bug::IndexedPacked,
    Bug::IndexedWholeLevel,
    Bug::LeftTreesOnlyFirst,
    Bug::LeftTreesOfWrongLevel,
    Bug::LeftTreesWhole,
    Bug::LeftTreesFirstTwig,
    Bug::LeftTreesWithoutLastParent,
    Bug::NothingChecked,
    Bug::OnlyFirstGroupChecked,
    Bug::WritesBeforeChecking,
    Bug::UnsortedParentsAccepted,
    Bug::PanicsOnBadShape,
    Bug::DeviceAlwaysFails,
    Bug::Unnamed,
];

#[derive(Debug)]
struct Planted(Bug);

impl Planted {
    fn is(&self, bug: Bug) -> bool {
        self.0 == bug
    }

    /// Checks the groups, as carefully as the bug allows. `Ok(false)`: do nothing, say `Ok`.
    fn check<G>(
        &self,
        groups: &[G],
        check: impl Fn(&G) -> Result<(), HashError>,
    ) -> Result<bool, HashError> {
        let result = crate::check_all(groups, &check);
        match self.0 {
            Bug::NothingChecked => return Ok(result.is_ok()),
            Bug::OnlyFirstGroupChecked if groups.first().is_none_or(|g| check(g).is_ok()) => {
                return Ok(result.is_ok());
            }
            Bug::PanicsOnBadShape => assert!(result.is_ok()),
            Bug::DeviceAlwaysFails => {
                return Err(HashError::Device { backend: "planted".into(), reason: "gone".into() });
            }
            _ => {}
        }
        result.map(|()| true)
    }

    fn message(&self, arena: &[u8], span: Span) -> Option<Digest> {
        let (start, mut len) = (span.offset as usize, span.len as usize);
        match self.0 {
            Bug::EmptyMessageIgnored if len == 0 => return None,
            Bug::ByteAfterMessageHashed if start + len < arena.len() => len += 1,
            Bug::LastByteOfArenaIgnored if start + len == arena.len() => {
                len = len.saturating_sub(1);
            }
            Bug::NoRoomForLengthInLastBlock if len % 64 == 56 => len -= 1,
            Bug::LongMessagesCut => len = len.min(65_536),
            _ => {}
        }
        Some(hash_message(&arena[start..start + len]))
    }

    fn node(&self, level: u8, children: &[Digest], p: usize) -> Digest {
        hash_node(level, &children[2 * p], &children[2 * p + 1])
    }
}

/// A backend with the bug.
fn planted(bug: Bug) -> HookedHasher {
    let name = if bug == Bug::Unnamed { String::new() } else { format!("{bug:?}") };
    let planted = Planted(bug);
    let hooked = HookedHasher::new(Arc::new(ScalarHasher), move |call, _| match call {
        HashCall::Messages(groups) => planted.messages(groups),
        HashCall::Pairs(level, groups) => planted.pairs(*level, groups),
        HashCall::IndexedPairs(level, groups) => planted.indexed_pairs(*level, groups),
        HashCall::LeftTrees(groups) => planted.left_trees(groups),
    });
    hooked.with_capabilities(Capabilities { name, ..ScalarHasher.capabilities() })
}

impl Planted {
    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        if !self.check(groups, MessageGroup::check)? {
            return Ok(());
        }
        let shifted = self.is(Bug::OutputsShiftedByEmptyGroup)
            && groups.windows(2).any(|pair| pair[0].spans.is_empty() && pair[1].spans.len() > 1);
        let batch_end = groups.len();
        for (g, group) in groups.iter_mut().enumerate() {
            let last = group.spans.len().wrapping_sub(1);
            for (i, &span) in group.spans.iter().enumerate() {
                let ignored = self.is(Bug::LastMessageOfEveryGroupIgnored)
                    || (self.is(Bug::LastMessageOfBatchIgnored) && g + 1 == batch_end);
                if i == last && ignored {
                    continue;
                }
                let at = if shifted { (i + 1) % (last + 1) } else { i };
                if let Some(digest) = self.message(group.arena, span) {
                    group.out[at] = digest;
                }
            }
        }
        Ok(())
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        if self.is(Bug::WritesBeforeChecking)
            && let Some(first) = groups.first_mut()
            && first.check().is_ok()
        {
            ScalarHasher.pairs(level, std::slice::from_mut(first))?;
        }
        if !self.check(groups, PairGroup::check)? {
            return Ok(());
        }
        let level = match self.0 {
            Bug::PairsOfNextLevel => level.wrapping_add(1),
            Bug::PairsOfSignedLevel => level.min(127),
            _ => level,
        };
        if self.is(Bug::PairsOnlyInFirstGroup) {
            return ScalarHasher.pairs(level, groups.get_mut(..1).unwrap_or_default());
        }
        for group in groups {
            let count = match self.0 {
                Bug::PairsInFullLanesOnly if group.out.len() > 16 => group.out.len() / 16 * 16,
                Bug::PairsUpTo1024 => group.out.len().min(1024),
                _ => group.out.len(),
            };
            for p in 0..count {
                group.out[p] = if self.is(Bug::PairsSwapped) {
                    hash_node(level, &group.children[2 * p + 1], &group.children[2 * p])
                } else {
                    self.node(level, group.children, p)
                };
            }
        }
        Ok(())
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        let unsorted = |group: &IndexedPairGroup<'_>| {
            let mut parents = group.parents.to_vec();
            parents.sort_unstable();
            parents.dedup();
            let end = parents.last().map_or(0, |&last| last as usize + 1);
            if end <= group.out.len() && end <= group.children.len() / 2 {
                Ok(())
            } else {
                Err(HashError::Shape("outside"))
            }
        };
        let go = if self.is(Bug::UnsortedParentsAccepted) {
            self.check(groups, unsorted)?
        } else {
            self.check(groups, IndexedPairGroup::check)?
        };
        if !go {
            return Ok(());
        }
        let level = if self.is(Bug::IndexedOfNextLevel) { level.wrapping_add(1) } else { level };
        for group in groups {
            let IndexedPairGroup { children, parents, out } = group;
            let count =
                parents.len() - usize::from(self.is(Bug::IndexedIgnoresLast)).min(parents.len());
            for (i, &parent) in parents[..count].iter().enumerate() {
                let p = parent as usize;
                match self.0 {
                    Bug::IndexedSwapped => {
                        out[p] = hash_node(level, &children[2 * p + 1], &children[2 * p]);
                    }
                    Bug::IndexedPacked => out[i] = self.node(level, children, p),
                    Bug::IndexedWritesExtra => {
                        out[p] = self.node(level, children, p);
                        if let Some(extra) = out.get_mut(p + 1) {
                            *extra = Digest::ZERO;
                        }
                    }
                    _ => out[p] = self.node(level, children, p),
                }
            }
            if self.is(Bug::IndexedWholeLevel) {
                for p in 0..out.len().min(children.len() / 2) {
                    out[p] = self.node(level, children, p);
                }
            }
        }
        Ok(())
    }

    fn left_trees(&self, groups: &mut [LeftTreeGroup<'_>]) -> Result<(), HashError> {
        if !self.check(groups, LeftTreeGroup::check)? {
            return Ok(());
        }
        if self.is(Bug::LeftTreesOnlyFirst) {
            let first = groups.get_mut(..1).unwrap_or_default();
            return ScalarHasher.left_trees(first);
        }
        ScalarHasher.left_trees(groups)?;
        for group in groups {
            let (top, root) = (LEFT_TREE_LEVELS - 1, LEFT_TREE_LEVELS);
            match self.0 {
                Bug::LeftTreesOfWrongLevel => {
                    for twig in group.changed_at(root) {
                        let (below, above) = group.levels.split_at_mut(top);
                        let children = &below[top - 1];
                        above[0][twig] = self.node(11, children, twig);
                    }
                }
                Bug::LeftTreesWhole => {
                    let LeftTreeGroup { leaves, levels, .. } = group;
                    let changed = 0..leaves.len();
                    let levels = levels.each_mut().map(|level| &mut **level);
                    ScalarHasher.left_trees(&mut [LeftTreeGroup { leaves, changed, levels }])?;
                }
                Bug::LeftTreesFirstTwig => {
                    for twig in group.changed_at(root).skip(1) {
                        group.levels[top][twig] = Digest::ZERO;
                    }
                }
                Bug::LeftTreesWithoutLastParent if !group.changed.is_empty() => {
                    let last = group.changed_at(1).end - 1;
                    group.levels[0][last] = Digest::ZERO;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[test]
fn the_harness_of_the_bugs_conforms_without_one() {
    run(&planted(Bug::None));
}

#[test]
fn every_planted_bug_is_noticed() {
    for bug in ALL {
        let hasher = planted(bug);
        let result = catch_unwind(AssertUnwindSafe(|| run(&hasher)));
        let Err(panic) = result else { panic!("the suite passes a backend with the bug {bug:?}") };
        // Noticed by the suite, not by an index out of bounds in here.
        if bug != Bug::PanicsOnBadShape {
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.contains(", seed 0x"), "{bug:?}: {message}");
        }
    }
}

#[test]
fn a_failure_names_backend_seed_and_place() {
    let hasher = planted(Bug::LastMessageOfBatchIgnored);
    let error = catch_unwind(AssertUnwindSafe(|| run_seeded(&hasher, 7))).unwrap_err();
    let message = error.downcast_ref::<String>().unwrap();
    assert!(message.contains("LastMessageOfBatchIgnored"), "{message}");
    assert!(message.contains("seed 0x0000000000000007"), "{message}");
    assert!(message.contains("FIPS 180-4 example 4"), "{message}");
}

#[test]
fn other_seeds_pass_too() {
    for seed in 0..3 {
        run_seeded(&ScalarHasher, seed);
    }
}
