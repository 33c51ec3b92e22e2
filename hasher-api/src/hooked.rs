//! A hasher that asks a closure what becomes of every call, and rows that do: for tests and
//! measurements that hold hashing up, let it fail, or falsify it.
//!
//! ```text
//!   caller ──► HookedHasher ──► hook(&mut call, inner) ── call.hash(inner) ──► the hasher underneath
//!                                   │  may wait, panic, refuse,
//!                                   │  change the digests afterwards
//!   caller ◄────────────────────────┘
//! ```
//!
//! The hook runs on the caller's thread and holds nothing, so that a hook that waits holds up that
//! one call.

use crate::{
    BatchHasher, Capabilities, HashError, Health, IndexedPairGroup, LeftTreeGroup, MessageGroup,
    PairGroup, Residency, ResidentRows, Target, left_trees_by_level,
};
use hedgerow_types::Digest;
use std::{fmt, sync::Arc};

/// What a [`BatchHasher`] is asked to hash.
#[derive(Debug)]
pub enum HashCall<'a, 'b> {
    /// [`BatchHasher::messages`].
    Messages(&'a mut [MessageGroup<'b>]),
    /// [`BatchHasher::pairs`] of a level.
    Pairs(u8, &'a mut [PairGroup<'b>]),
    /// [`BatchHasher::indexed_pairs`] of a level.
    IndexedPairs(u8, &'a mut [IndexedPairGroup<'b>]),
    /// [`BatchHasher::left_trees`].
    LeftTrees(&'a mut [LeftTreeGroup<'b>]),
}

impl HashCall<'_, '_> {
    /// Asks `hasher` for it.
    ///
    /// # Errors
    /// The hasher's.
    pub fn hash(&mut self, hasher: &dyn BatchHasher) -> Result<(), HashError> {
        match self {
            Self::Messages(groups) => hasher.messages(groups),
            Self::Pairs(level, groups) => hasher.pairs(*level, groups),
            Self::IndexedPairs(level, groups) => hasher.indexed_pairs(*level, groups),
            Self::LeftTrees(groups) => hasher.left_trees(groups),
        }
    }

    /// Whether nodes of a tree are asked for, and not messages.
    pub const fn is_tree(&self) -> bool {
        !matches!(self, Self::Messages(_))
    }

    /// Shows every digest that was asked for, in order, to be looked at or changed. Those of a
    /// malformed call that do not exist are left out.
    pub fn for_each_digest(&mut self, mut show: impl FnMut(&mut Digest)) {
        match self {
            Self::Messages(groups) => {
                groups.iter_mut().flat_map(|group| group.out.iter_mut()).for_each(show);
            }
            Self::Pairs(_, groups) => {
                groups.iter_mut().flat_map(|group| group.out.iter_mut()).for_each(show);
            }
            Self::IndexedPairs(_, groups) => {
                for IndexedPairGroup { parents, out, .. } in groups.iter_mut() {
                    for parent in *parents {
                        out.get_mut(*parent as usize).into_iter().for_each(&mut show);
                    }
                }
            }
            Self::LeftTrees(groups) => {
                for group in groups.iter_mut() {
                    for level in 0..group.levels.len() {
                        let changed = group.changed_at(level + 1);
                        let nodes = group.levels[level].get_mut(changed).unwrap_or_default();
                        nodes.iter_mut().for_each(&mut show);
                    }
                }
            }
        }
    }
}

/// Decides what becomes of a call to the hasher given with it.
pub type HashHook =
    Arc<dyn Fn(&mut HashCall<'_, '_>, &dyn BatchHasher) -> Result<(), HashError> + Send + Sync>;

/// A decorator that gives every call to a [`HashHook`]. What it is not told otherwise it says of
/// itself as the hasher underneath does.
#[derive(Clone)]
pub struct HookedHasher {
    inner: Arc<dyn BatchHasher>,
    hook: HashHook,
    level_by_level: bool,
    capabilities: Option<Capabilities>,
    health: Option<Arc<dyn Fn() -> Health + Send + Sync>>,
    residency: Option<Option<Arc<dyn Residency>>>,
}

impl HookedHasher {
    /// `inner`, with `hook` in between.
    pub fn new(
        inner: Arc<dyn BatchHasher>,
        hook: impl Fn(&mut HashCall<'_, '_>, &dyn BatchHasher) -> Result<(), HashError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let hook = Arc::new(hook);
        let level_by_level = false;
        Self { inner, hook, level_by_level, capabilities: None, health: None, residency: None }
    }

    /// Left trees come to the hook as pairs, one level after the other: as in a backend that
    /// does nothing special about them.
    #[must_use]
    pub fn level_by_level(self) -> Self {
        Self { level_by_level: true, ..self }
    }

    /// It says that it is this.
    #[must_use]
    pub fn with_capabilities(self, capabilities: Capabilities) -> Self {
        Self { capabilities: Some(capabilities), ..self }
    }

    /// It asks this for its health.
    #[must_use]
    pub fn with_health(self, health: impl Fn() -> Health + Send + Sync + 'static) -> Self {
        Self { health: Some(Arc::new(health)), ..self }
    }

    /// It keeps rows there, or none.
    #[must_use]
    pub fn with_residency(self, residency: Option<Arc<dyn Residency>>) -> Self {
        Self { residency: Some(residency), ..self }
    }

    fn call(&self, mut call: HashCall<'_, '_>) -> Result<(), HashError> {
        (self.hook)(&mut call, &*self.inner)
    }
}

impl fmt::Debug for HookedHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedHasher").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl BatchHasher for HookedHasher {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone().unwrap_or_else(|| self.inner.capabilities())
    }

    fn health(&self) -> Health {
        self.health.as_ref().map_or_else(|| self.inner.health(), |health| health())
    }

    fn residency(&self) -> Option<&dyn Residency> {
        match &self.residency {
            Some(residency) => residency.as_deref(),
            None => self.inner.residency(),
        }
    }

    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        self.call(HashCall::Messages(groups))
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        self.call(HashCall::Pairs(level, groups))
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        self.call(HashCall::IndexedPairs(level, groups))
    }

    fn left_trees(&self, groups: &mut [LeftTreeGroup<'_>]) -> Result<(), HashError> {
        if self.level_by_level {
            return left_trees_by_level(self, groups);
        }
        self.call(HashCall::LeftTrees(groups))
    }
}

/// What [`ResidentRows`] are asked to do.
#[derive(Debug)]
pub enum RowsCall<'a> {
    /// [`ResidentRows::write_run`]: of a row, from a place on.
    WriteRun(usize, u32, &'a [Digest]),
    /// [`ResidentRows::write`]: of a row, at places.
    Write(usize, &'a [u32], &'a [Digest]),
    /// [`ResidentRows::flip`]: of a row, words and masks.
    Flip(usize, &'a [(u32, u32)]),
    /// [`ResidentRows::hash`]: level and row of the children, the parents, where they go.
    Hash(u8, usize, &'a [u32], Target),
    /// [`ResidentRows::read`]: of a row, at places.
    Read(usize, &'a [u32]),
    /// [`ResidentRows::flush`].
    Flush,
    /// [`ResidentRows::take`].
    Take(&'a mut [Digest]),
}

impl RowsCall<'_> {
    /// Asks `rows` for it.
    ///
    /// # Errors
    /// Those of the rows.
    pub fn run(&mut self, rows: &mut dyn ResidentRows) -> Result<(), HashError> {
        match self {
            Self::WriteRun(row, first, digests) => rows.write_run(*row, *first, digests),
            Self::Write(row, places, digests) => rows.write(*row, places, digests),
            Self::Flip(row, flips) => rows.flip(*row, flips),
            Self::Hash(level, children, parents, to) => rows.hash(*level, *children, parents, *to),
            Self::Read(row, places) => rows.read(*row, places),
            Self::Flush => rows.flush(),
            Self::Take(out) => rows.take(out),
        }
    }
}

/// Decides what becomes of a call to the rows given with it.
pub type RowsHook =
    Box<dyn FnMut(&mut RowsCall<'_>, &mut dyn ResidentRows) -> Result<(), HashError> + Send>;

/// Rows that give every call to a [`RowsHook`].
pub struct HookedRows {
    inner: Box<dyn ResidentRows>,
    hook: RowsHook,
}

impl HookedRows {
    /// `inner`, with `hook` in between.
    pub fn new(
        inner: Box<dyn ResidentRows>,
        hook: impl FnMut(&mut RowsCall<'_>, &mut dyn ResidentRows) -> Result<(), HashError>
        + Send
        + 'static,
    ) -> Self {
        Self { inner, hook: Box::new(hook) }
    }

    fn call(&mut self, mut call: RowsCall<'_>) -> Result<(), HashError> {
        (self.hook)(&mut call, &mut *self.inner)
    }
}

impl fmt::Debug for HookedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedRows").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl ResidentRows for HookedRows {
    fn write_run(&mut self, row: usize, first: u32, digests: &[Digest]) -> Result<(), HashError> {
        self.call(RowsCall::WriteRun(row, first, digests))
    }

    fn write(&mut self, row: usize, places: &[u32], digests: &[Digest]) -> Result<(), HashError> {
        self.call(RowsCall::Write(row, places, digests))
    }

    fn flip(&mut self, row: usize, flips: &[(u32, u32)]) -> Result<(), HashError> {
        self.call(RowsCall::Flip(row, flips))
    }

    fn hash(
        &mut self,
        level: u8,
        children: usize,
        parents: &[u32],
        to: Target,
    ) -> Result<(), HashError> {
        self.call(RowsCall::Hash(level, children, parents, to))
    }

    fn read(&mut self, row: usize, places: &[u32]) -> Result<(), HashError> {
        self.call(RowsCall::Read(row, places))
    }

    fn flush(&mut self) -> Result<(), HashError> {
        self.call(RowsCall::Flush)
    }

    fn take(&mut self, out: &mut [Digest]) -> Result<(), HashError> {
        self.call(RowsCall::Take(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LeftTree, ScalarHasher, Span, conformance};
    use hedgerow_types::TWIG_LEAVES;

    fn passing() -> HookedHasher {
        HookedHasher::new(Arc::new(ScalarHasher), |call, inner| call.hash(inner))
    }

    #[test]
    fn a_hook_that_passes_calls_on_changes_no_answer() {
        conformance::run(&passing());
        conformance::run(&passing().level_by_level());
    }

    /// One call of each shape; how many digests the hook was shown in each.
    fn shown(decorate: impl Fn(HookedHasher) -> HookedHasher) -> Vec<usize> {
        let seen = Arc::new(std::sync::Mutex::new(vec![]));
        let log = Arc::clone(&seen);
        let hasher = HookedHasher::new(Arc::new(ScalarHasher), move |call, inner| {
            call.hash(inner)?;
            let mut count = 0;
            call.for_each_digest(|digest| {
                assert_ne!(*digest, Digest::ZERO, "a digest that was not asked for");
                count += 1;
            });
            log.lock().unwrap().push(count);
            Ok(())
        });
        let hasher = decorate(hasher);
        let (spans, children) = ([Span::default(); 3], [Digest::ZERO; 8]);
        let mut out = [Digest::ZERO; 4];
        let group = MessageGroup { arena: &[], spans: &spans, out: &mut out[..3] };
        hasher.messages(&mut [group]).unwrap();
        hasher.pairs(0, &mut [PairGroup { children: &children, out: &mut out }]).unwrap();
        let group = IndexedPairGroup { children: &children, parents: &[0, 3], out: &mut out };
        hasher.indexed_pairs(0, &mut [group]).unwrap();
        let leaves = vec![Digest::ZERO; TWIG_LEAVES];
        hasher.left_trees(&mut [LeftTree::new(1).group(&leaves, 3..7)]).unwrap();
        std::mem::take(&mut *seen.lock().unwrap())
    }

    #[test]
    fn a_hook_is_shown_every_digest_that_was_asked_for() {
        assert_eq!(shown(|hasher| hasher), [3, 4, 2, 3 + 2 + 9]);
        let by_level = [3, 4, 2, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        assert_eq!(shown(HookedHasher::level_by_level), by_level);
    }

    #[test]
    fn what_a_hook_says_is_the_answer() {
        let refused = HashError::Shape("not today");
        let error = refused.clone();
        let hasher = HookedHasher::new(Arc::new(ScalarHasher), move |_, _| Err(error.clone()));
        assert_eq!(hasher.messages(&mut []), Err(refused.clone()));
        assert_eq!(hasher.level_by_level().pairs(0, &mut []), Err(refused));
    }
}
