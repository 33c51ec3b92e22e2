//! A few hashes of every shape with every kernel: little enough for an interpreter that watches
//! every access (Miri), which needs some milliseconds per compression. What it cannot interpret it
//! does not detect, so that there the list of kernels is shorter.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use hedgerow_hasher_api::{
    BatchHasher, IndexedPairGroup, MessageGroup, PairGroup, Span, hash_message, hash_node,
};
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_types::Digest;

/// One more than the widest kernel has lanes.
const COUNT: usize = 33;
/// Around every change in padding: none, a byte, one block or two, whole blocks.
const LENGTHS: [u32; 8] = [64, 0, 55, 1, 56, 119, 63, 32];

/// Runs `check` with every kernel that can run here. `.ci/kernels` reads what this prints.
fn with_every_kernel(check: impl Fn(&CpuHasher)) {
    for info in CpuHasher::kernels() {
        if let Some(why_not) = info.why_not {
            println!("!!! KERNEL NOT TESTED: {}: {why_not}", info.name);
            continue;
        }
        check(&CpuHasher::pinned(info.name).unwrap());
        println!("KERNEL TESTED: {}", info.name);
    }
}

fn digests(count: usize) -> Vec<Digest> {
    (0..count).map(|i| Digest(std::array::from_fn(|j| (i * 31 + j * 7) as u8))).collect()
}

fn parent(children: &[Digest], p: usize) -> Digest {
    hash_node(3, &children[2 * p], &children[2 * p + 1])
}

#[test]
fn messages() {
    // The last message ends where its arena ends.
    let mut arena = vec![];
    let mut spans = vec![];
    for (i, len) in (0..COUNT).zip(LENGTHS.into_iter().cycle()) {
        spans.push(Span { offset: arena.len() as u32, len });
        arena.extend((0..len).map(|j| (i as u32 * 17 + j) as u8));
    }
    let expected: Vec<_> =
        spans.iter().map(|span| hash_message(span.of(&arena).unwrap())).collect();
    with_every_kernel(|hasher| {
        let mut out = vec![Digest::ZERO; COUNT];
        let mut group = [MessageGroup { arena: &arena, spans: &spans, out: &mut out }];
        hasher.messages(&mut group).unwrap();
        assert_eq!(out, expected, "{hasher:?}");
    });
}

#[test]
fn pairs() {
    let children = digests(2 * COUNT);
    let expected: Vec<_> = (0..COUNT).map(|p| parent(&children, p)).collect();
    with_every_kernel(|hasher| {
        let mut out = vec![Digest::ZERO; COUNT];
        hasher.pairs(3, &mut [PairGroup { children: &children, out: &mut out }]).unwrap();
        assert_eq!(out, expected, "{hasher:?}");
    });
}

#[test]
fn indexed_pairs() {
    let children = digests(2 * COUNT);
    let parents: Vec<_> = (0..COUNT as u32).filter(|p| p % 3 != 1).collect();
    let mut expected = vec![Digest::ZERO; COUNT];
    for &p in &parents {
        expected[p as usize] = parent(&children, p as usize);
    }
    with_every_kernel(|hasher| {
        let mut out = vec![Digest::ZERO; COUNT];
        let group = IndexedPairGroup { children: &children, parents: &parents, out: &mut out };
        hasher.indexed_pairs(3, &mut [group]).unwrap();
        assert_eq!(out, expected, "{hasher:?}");
    });
}
