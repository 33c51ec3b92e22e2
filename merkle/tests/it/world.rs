//! A forest beside a model of it that recomputes everything by brute force.
//!
//! ```text
//!  World ── block ──► working Forest ── copy, now and then ──► Published, heads and undos of the past
//!            │            │                                        │
//!            ▼            ▼ compared after every step              ▼ paths compared with what was then
//!         naive::ShardTree x 16
//! ```
use hedgerow_hasher_api::{BatchHasher, ScalarHasher, Span};
use hedgerow_merkle::{
    Applied, Dirty, FinishedTwig, Forest, LeftPart, MerkleError, Published, Roots, ShardChange,
    ShardRestore, TreeHead, TreePath, TreeUndo, left_part_as_of, left_path_in,
};
use hedgerow_testkit::naive;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::{Digest, SHARDS, SerialNumber, ShardId, TWIG_LEAVES, TwigId};
use std::collections::BTreeMap;

/// The shard with this index.
pub(crate) fn shard(index: usize) -> ShardId {
    ShardId::new(index).unwrap()
}

/// What one block does to one shard, owned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) arena: Vec<u8>,
    pub(crate) entries: Vec<Span>,
    pub(crate) deactivated: Vec<SerialNumber>,
    pub(crate) oldest_active: SerialNumber,
}

impl Change {
    /// Adds an entry with these hashed bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.entries.push(Span { offset: self.arena.len() as u32, len: bytes.len() as u32 });
        self.arena.extend_from_slice(bytes);
    }

    pub(crate) fn get(&self) -> ShardChange<'_> {
        ShardChange {
            arena: &self.arena,
            entries: &self.entries,
            deactivated: &self.deactivated,
            oldest_active: self.oldest_active,
        }
    }
}

/// Applies one block given as owned changes.
pub(crate) fn apply(
    forest: &mut Forest,
    changes: &[Change; SHARDS],
) -> Result<Applied, MerkleError> {
    apply_with(&ScalarHasher, forest, changes)
}

/// The same with a backend.
pub(crate) fn apply_with(
    hasher: &dyn BatchHasher,
    forest: &mut Forest,
    changes: &[Change; SHARDS],
) -> Result<Applied, MerkleError> {
    forest.apply(hasher, &std::array::from_fn(|i| changes[i].get()))
}

/// The same, telling the roots early.
pub(crate) fn apply_announcing(
    hasher: &dyn BatchHasher,
    forest: &mut Forest,
    changes: &[Change; SHARDS],
    announce: &mut dyn FnMut(&Roots),
) -> Result<Applied, MerkleError> {
    forest.apply_announcing(hasher, &std::array::from_fn(|i| changes[i].get()), announce)
}

/// What to do to one shard in one block, before it is known what is active.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shard: usize,
    pub(crate) appends: usize,
    /// Picks among the active entries, new ones included.
    pub(crate) kill: Vec<u16>,
    /// Kills every active entry in this part (of 256) of what lies between oldest and next.
    pub(crate) kill_below: Option<u8>,
    /// Whether the oldest-active serial number moves up to the first active entry.
    pub(crate) move_oldest: bool,
}

/// A state that was published.
struct Past {
    head: TreeHead,
    model: [naive::ShardTree; SHARDS],
    /// What the publication after this one replaced.
    undo: Option<TreeUndo>,
}

/// A shard of a state as the model has it, and the roots, which were compared when it was made.
struct Expected<'a> {
    model: &'a naive::ShardTree,
    twig_roots: Vec<Digest>,
    roots: &'a Roots,
}

impl<'a> Expected<'a> {
    fn new(model: &'a naive::ShardTree, roots: &'a Roots) -> Self {
        Self { model, twig_roots: model.twig_roots(), roots }
    }
}

/// A forest, its published twin and a model of both.
pub(crate) struct World {
    hasher: Box<dyn BatchHasher>,
    pub(crate) working: Forest,
    pub(crate) published: Published,
    /// The states published so far, and the undo that leads back to each.
    past: Vec<Past>,
    unpublished: Dirty,
    pub(crate) model: [naive::ShardTree; SHARDS],
    pub(crate) oldest: [u64; SHARDS],
    pub(crate) finished: BTreeMap<(usize, u64), FinishedTwig>,
    pub(crate) edges: [Vec<(u8, Digest)>; SHARDS],
    /// Blocks so far.
    blocks: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(Box::new(ScalarHasher))
    }

    /// One whose working forest is hashed by this backend.
    pub(crate) fn on(hasher: Box<dyn BatchHasher>) -> Self {
        Self {
            hasher,
            working: Forest::new(),
            published: Forest::new().publish(),
            past: vec![Past { head: Forest::new().head(), model: Default::default(), undo: None }],
            unpublished: Dirty::default(),
            model: Default::default(),
            oldest: [0; SHARDS],
            finished: BTreeMap::new(),
            edges: Default::default(),
            blocks: 0,
        }
    }

    /// Applies a block to the forest and to the model, and compares the roots.
    pub(crate) fn block(&mut self, plans: &[Plan]) {
        let before: [usize; SHARDS] = std::array::from_fn(|i| self.model[i].twig_count());
        let mut changes: [Change; SHARDS] = Default::default();
        for plan in plans {
            let i = plan.shard;
            let (model, change) = (&mut self.model[i], &mut changes[i]);
            for _ in 0..plan.appends {
                let sn = model.leaves.len() as u64;
                let mut bytes = format!("{i} {sn}").into_bytes();
                bytes.resize(1 + (sn * 37 % 150) as usize, 0xA5);
                change.push(&bytes);
                model.append(naive::sha256(&bytes), &[]);
            }
            let mut kill = |model: &mut naive::ShardTree, sn: usize| {
                model.active[sn] = false;
                change.deactivated.push(SerialNumber(sn as u64));
            };
            let oldest = self.oldest[i] as usize;
            for pick in &plan.kill {
                let range = oldest..model.active.len();
                let active: Vec<usize> = range.filter(|&sn| model.active[sn]).collect();
                if !active.is_empty() {
                    kill(model, active[usize::from(*pick) % active.len()]);
                }
            }
            if let Some(part) = plan.kill_below {
                let end = oldest + (model.active.len() - oldest) * usize::from(part) / 255;
                for sn in oldest..end {
                    if model.active[sn] {
                        kill(model, sn);
                    }
                }
            }
            if plan.move_oldest {
                let first = (oldest..model.active.len()).find(|&sn| model.active[sn]);
                self.oldest[i] = first.unwrap_or(model.active.len()) as u64;
            }
        }
        for (change, oldest) in changes.iter_mut().zip(self.oldest) {
            change.oldest_active = SerialNumber(oldest);
        }

        let applied = self.apply(&changes);
        assert_eq!(&applied.roots, self.working.roots());
        let filled: Vec<_> = (0..SHARDS)
            .flat_map(|i| (before[i]..self.model[i].twig_count()).map(move |t| (i, t as u64 - 1)))
            .collect();
        let emitted: Vec<_> =
            applied.finished.iter().map(|f| (f.shard.index(), f.twig.0)).collect();
        assert_eq!(emitted, filled);
        for finished in applied.finished {
            self.finished.insert((finished.shard.index(), finished.twig.0), finished);
        }
        self.unpublished.merge(&applied.dirty);
        self.check();
    }

    /// Applies a block to the working forest, or now and then to one beside it, from which that one takes it over.
    fn apply(&mut self, changes: &[Change; SHARDS]) -> Applied {
        self.blocks += 1;
        let beside = match self.blocks % 4 {
            0 => Some(self.working.clone()),
            1 => self.published.forest(&self.working.head()),
            _ => None,
        };
        let Some(mut beside) = beside else {
            return apply_with(&*self.hasher, &mut self.working, changes).unwrap();
        };
        assert!(beside == self.working);
        let before = beside.clone();
        assert_eq!(before.heap_bytes_beside(&beside), 0);
        let applied = apply_with(&*self.hasher, &mut beside, changes).unwrap();
        assert!(before == self.working, "what is shared was changed");
        let untouched =
            |i: &usize| changes[*i].entries.is_empty() && changes[*i].deactivated.is_empty();
        let all_untouched = (0..SHARDS).all(|i| untouched(&i));
        assert!(all_untouched || beside.heap_bytes_beside(&before) > 0);
        self.working.take_over(&beside, &applied.dirty);
        assert!(self.working == beside);
        applied
    }

    /// Compares everything but the paths.
    pub(crate) fn check(&self) {
        let roots: [Digest; SHARDS] = std::array::from_fn(|i| self.model[i].root());
        assert_eq!(self.working.roots().shards, roots);
        assert_eq!(self.working.roots().state, naive::state_root(&roots));
        for (i, model) in self.model.iter().enumerate() {
            let forest = &self.working;
            assert_eq!(forest.next_sn(shard(i)).0, model.leaves.len() as u64);
            assert_eq!(forest.oldest_active(shard(i)).0, self.oldest[i]);
            let active = model.active.iter().filter(|&&active| active).count() as u64;
            assert_eq!(forest.active_count(shard(i)), active);
            for (sn, &active) in model.active.iter().enumerate() {
                assert_eq!(forest.is_active(shard(i), SerialNumber(sn as u64)), active);
            }
            let youngest = model.leaves.len() / TWIG_LEAVES * TWIG_LEAVES;
            assert_eq!(forest.youngest_leaves(shard(i)), &model.leaves[youngest..]);
        }
    }

    /// Brings the published forest up to date.
    pub(crate) fn publish(&mut self) {
        let undo = self.published.before(&self.unpublished);
        if let Some(last) = self.past.last_mut() {
            last.undo = Some(undo);
        }
        self.published.copy(&self.working, &self.unpublished);
        self.unpublished = Dirty::default();
        assert!(self.published == self.working, "the published twin differs");
        let (head, model) = (self.working.head(), self.model.clone());
        self.past.push(Past { head, model, undo: None });
    }

    /// Compares the paths of all published states, so many serial numbers of a shard each, with what
    /// they were then.
    pub(crate) fn check_past(&self, i: usize, count: u64, draws: &mut SplitMix64) {
        for (number, past) in self.past.iter().enumerate() {
            let undos = || self.past[number..].iter().filter_map(|past| past.undo.as_ref());
            let end = (past.model[i].twig_count() * TWIG_LEAVES) as u64;
            let of = |sn| self.published.path(&past.head, undos(), shard(i), sn);
            let next = past.head.next_sn(shard(i)).0;
            let mut sns: Vec<_> = (0..count).map(|_| draws.below(end)).collect();
            sns.extend([0, next.saturating_sub(1), next, end - 1]);
            sns.sort_unstable();
            let expected = Expected::new(&past.model[i], past.head.roots());
            let mut twig = None;
            for sn in sns.into_iter().map(SerialNumber) {
                match of(sn) {
                    Err(MerkleError::Pruned { .. }) => {
                        assert!(sn.twig() < self.working.first_kept_twig(shard(i)));
                    }
                    path => self.check_path(&expected, &mut twig, &path.unwrap()),
                }
            }
            let beyond = Err(MerkleError::OutOfRange { shard: shard(i), sn: SerialNumber(end) });
            assert_eq!(of(SerialNumber(end)), beyond);
        }
    }

    /// Prunes a shard up to a part (of 255) of what can be pruned.
    pub(crate) fn prune(&mut self, i: usize, part: u8) {
        let first = self.working.first_kept_twig(shard(i)).0;
        let last = self.oldest[i] / TWIG_LEAVES as u64;
        let kept = TwigId(first + (last - first) * u64::from(part) / 255);
        self.edges[i] = self.working.edges(shard(i), kept).unwrap();
        self.working.prune(shard(i), kept).unwrap();
        assert_eq!(self.working.first_kept_twig(shard(i)), kept);
        self.check();
    }

    /// What the store would restore the working forest from.
    pub(crate) fn restore_parts(&self) -> [ShardRestore; SHARDS] {
        std::array::from_fn(|i| {
            let first_kept = self.working.first_kept_twig(shard(i));
            assert_eq!(self.working.edges(shard(i), first_kept).unwrap(), self.edges[i]);
            let model = &self.model[i];
            let youngest = (model.twig_count() - 1) as u64;
            let first_active = SerialNumber(self.oldest[i]).twig();
            let bits = (first_active.0..=youngest).flat_map(|t| model.active_bits(TwigId(t)));
            let bits = bits.collect::<Vec<_>>();
            let pages = bits.chunks_exact(32).map(|page| Digest(page.try_into().unwrap()));
            let restore = ShardRestore {
                first_kept,
                edges: self.edges[i].clone(),
                left_roots: (first_kept.0..youngest)
                    .map(|t| self.finished[&(i, t)].left_root())
                    .collect(),
                first_active,
                active_pages: pages.collect(),
                youngest_leaves: model.leaves[youngest as usize * TWIG_LEAVES..].to_vec(),
                oldest_active: SerialNumber(self.oldest[i]),
            };
            assert_eq!(self.working.active_pages(shard(i)), restore.active_pages);
            restore
        })
    }

    /// Replaces the working forest by one restored from its parts.
    pub(crate) fn restore(&mut self) {
        let restored = Forest::restore(&ScalarHasher, self.restore_parts()).unwrap();
        assert!(restored == self.working, "the restored forest differs");
        self.working = restored;
    }

    /// Folds the path of every `step`-th serial number of the shard, and compares it with the
    /// brute-force path.
    pub(crate) fn check_paths(&self, i: usize, step: usize) {
        let model = &self.model[i];
        let end = (model.twig_count() * TWIG_LEAVES) as u64;
        let first_kept = self.working.first_kept_twig(shard(i));
        let expected = Expected::new(model, self.working.roots());
        let mut twig = None;
        for sn in (0..end).step_by(step).map(SerialNumber) {
            let path = self.working.path(shard(i), sn);
            if sn.twig() < first_kept {
                let pruned = MerkleError::Pruned { shard: shard(i), twig: sn.twig() };
                assert_eq!(path, Err(pruned));
                continue;
            }
            let path = path.unwrap();
            self.check_path(&expected, &mut twig, &path);
            if let LeftPart::Finished { left_root, .. } = path.left {
                let evicted = sn.twig() < SerialNumber(self.oldest[i]).twig();
                assert_eq!(left_root.is_none(), evicted);
            }
        }
        let beyond = self.working.path(shard(i), SerialNumber(end));
        assert_eq!(beyond, Err(MerkleError::OutOfRange { shard: shard(i), sn: SerialNumber(end) }));
    }

    /// Folds a path of a state, and compares it with the brute-force path.
    fn check_path(
        &self,
        state: &Expected<'_>,
        twig: &mut Option<(TwigId, naive::Twig)>,
        path: &TreePath,
    ) {
        let (sn, i, model) = (path.sn, path.shard.index(), state.model);
        if twig.as_ref().is_none_or(|(id, _)| *id != sn.twig()) {
            *twig = Some((sn.twig(), model.twig(sn.twig())));
        }
        let twig = &twig.as_ref().unwrap().1;
        let expected = naive::ShardPath::new(sn, twig, &state.twig_roots);
        let leaf = model.leaves.get(sn.0 as usize).copied().unwrap_or_else(naive::null_leaf);
        let siblings = match &path.left {
            LeftPart::Here { leaf: here, siblings, left_root } => {
                assert_eq!((*here, *left_root), (leaf, twig.left_root()));
                **siblings
            }
            LeftPart::Finished { twig: id, left_root } => {
                assert_eq!(*id, sn.twig());
                assert!(left_root.is_none_or(|root| root == twig.left_root()));
                let group = sn.leaf() / 16 * 16;
                let group = twig.left[0][group..group + 16].try_into().unwrap();
                left_path_in(&self.finished[&(i, id.0)].nodes, group, sn.leaf()).unwrap()
            }
            LeftPart::Filled { twig: id, leaves } => {
                assert_eq!(*id, sn.twig());
                // What the log has by now.
                let first = id.first().0 as usize;
                let group = |group: usize| -> Result<[Digest; 16], MerkleError> {
                    let first = first + 16 * group;
                    Ok(self.model[i].leaves[first..first + 16].try_into().unwrap())
                };
                let nodes = &self.finished[&(i, id.0)].nodes;
                let (here, siblings) = left_part_as_of(nodes, sn.leaf(), *leaves, group).unwrap();
                assert_eq!(here, leaf);
                siblings
            }
        };
        assert_eq!(siblings, expected.left);
        assert_eq!((path.page.0, path.right), (expected.page, expected.right));
        assert_eq!(path.upper, expected.upper);
        assert_eq!(path.state, naive::state_path(&state.roots.shards, shard(i)));
        let active = model.active.get(sn.0 as usize).copied().unwrap_or(false);
        assert_eq!(path.is_active(), active);
        let folded = path.fold(&leaf, &siblings);
        assert_eq!(folded, (path.shard_root, path.state_root));
        assert_eq!(folded, (state.roots.shards[i], state.roots.state));
    }
}
