//! How much a block may cost: calls, hashes, memory.

use crate::world::{Change, shard};
use hedgerow_hasher_api::{HookedHasher, ScalarHasher};
use hedgerow_merkle::{Applied, Forest, ShardChange};
use hedgerow_types::{SHARDS, SerialNumber};
use std::sync::{Arc, Mutex};

/// What was asked of a hasher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    calls: u64,
    messages: u64,
    nodes: u64,
}

/// The reference, and what was asked of it since it was last looked at.
struct Counting {
    hasher: HookedHasher,
    asked: Arc<Mutex<Asked>>,
}

impl Counting {
    fn new() -> Self {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let count = Arc::clone(&asked);
        let hasher = HookedHasher::new(Arc::new(ScalarHasher), move |call, inner| {
            let mut digests = 0;
            call.for_each_digest(|_| digests += 1);
            let mut asked = count.lock().unwrap();
            asked.calls += 1;
            *if call.is_tree() { &mut asked.nodes } else { &mut asked.messages } += digests;
            call.hash(inner)
        });
        Self { hasher, asked }
    }

    fn take(&self) -> Asked {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn apply(counting: &Counting, forest: &mut Forest, changes: [Change; SHARDS]) -> Applied {
    forest.apply(&counting.hasher, &std::array::from_fn(|i| changes[i].get())).unwrap()
}

/// A block that appends to every shard as many entries as its number says.
fn appends(forest: &Forest, count: impl Fn(usize) -> usize) -> [Change; SHARDS] {
    std::array::from_fn(|i| {
        let mut change =
            Change { oldest_active: forest.oldest_active(shard(i)), ..Change::default() };
        (0..count(i)).for_each(|n| change.push(&(n as u64 + i as u64).to_le_bytes()));
        change
    })
}

#[test]
fn calls_depend_on_the_deepest_shard_alone() {
    let hasher = Counting::new();
    let mut forest = Forest::new();
    let blocks: [&dyn Fn(usize) -> usize; 6] = [
        &|i| if i == 7 { 1 } else { 0 },
        &|i| i,
        &|i| if i == 3 { 40_000 } else { 10 },
        &|i| 100 * i,
        &|i| 3000 + i,
        &|_| 1,
    ];
    for count in blocks {
        let mut changes = appends(&forest, count);
        for (i, change) in changes.iter_mut().enumerate() {
            let next = forest.next_sn(shard(i)).0;
            let active = (0..next).step_by(97).map(SerialNumber);
            change.deactivated.extend(active.filter(|&sn| forest.is_active(shard(i), sn)));
        }
        apply(&hasher, &mut forest, changes);
        let asked = hasher.take();
        let youngest = (0..SHARDS).map(|i| forest.next_sn(shard(i)).twig().0).max().unwrap();
        let levels_above_twigs = u64::from(u64::BITS - youngest.leading_zeros());
        // leaves; left trees; l1, l2; l3; twig roots; upper levels; state levels
        assert_eq!(asked.calls, 1 + 1 + 2 + 1 + 1 + levels_above_twigs + 4);
    }
}

#[test]
fn only_what_changed_is_hashed() {
    let hasher = Counting::new();
    let mut forest = Forest::new();
    let changes = appends(&forest, |i| if i == 1 { 64 * 2048 } else { 0 });
    apply(&hasher, &mut forest, changes);
    hasher.take();

    // One entry: its leaf, 11 left nodes, 3 right nodes, its twig root, 7 upper nodes (twig 64 is
    // the first one below a new root), 15 nodes above the shards.
    let changes = appends(&forest, |i| usize::from(i == 1));
    apply(&hasher, &mut forest, changes);
    let asked = hasher.take();
    assert_eq!((asked.messages, asked.nodes), (1, 11 + 3 + 1 + 7 + 15));

    // Two bits of one page and one of the neighbour page: no leaf, no left node.
    let mut changes = appends(&forest, |_| 0);
    changes[1].deactivated = [5, 3, 300].map(SerialNumber).to_vec();
    apply(&hasher, &mut forest, changes);
    let asked = hasher.take();
    assert_eq!((asked.messages, asked.nodes), (0, 3 + 1 + 7 + 15));

    // Nothing at all: no call.
    let roots = forest.roots().clone();
    let changes = appends(&forest, |_| 0);
    let applied = apply(&hasher, &mut forest, changes);
    assert_eq!((applied.roots, hasher.take()), (roots, Asked::default()));
    assert!(applied.dirty.is_empty() && applied.finished.is_empty());
}

#[test]
fn memory_is_a_third_of_a_byte_per_entry_and_comes_back_after_a_huge_block() {
    let hasher = Counting::new();
    let mut forest = Forest::new();
    let empty = forest.heap_bytes();
    let changes = appends(&forest, |i| if i == 0 { 1 << 20 } else { 0 });
    apply(&hasher, &mut forest, changes);
    let tree = forest.publish().heap_bytes() - empty;
    assert!(tree < (1 << 20) / 3, "{tree} bytes for a million entries");
    // Left trees of four twigs, and the lists of one block.
    let kept = forest.heap_bytes() - empty;
    assert!(kept < (1 << 20) * 9 / 10, "{kept} bytes kept");

    // Evicted and pruned, nearly nothing is left.
    let mut changes = appends(&forest, |_| 0);
    changes[0].deactivated = (0..1 << 20).map(SerialNumber).collect();
    changes[0].oldest_active = SerialNumber(1 << 20);
    apply(&hasher, &mut forest, changes);
    assert_eq!(forest.active_pages(shard(0)).len(), 8);
    forest.prune(shard(0), SerialNumber(1 << 20).twig()).unwrap();
    let left = forest.publish().heap_bytes();
    assert!(left < empty + 10_000, "{left} bytes");
}

/// `ShardChange::none` is what an untouched shard gets.
#[test]
fn a_block_without_changes_keeps_the_roots() {
    let mut forest = Forest::new();
    let before = forest.clone();
    forest.apply(&ScalarHasher, &[ShardChange::none(SerialNumber(0)); SHARDS]).unwrap();
    assert!(forest == before);
}
