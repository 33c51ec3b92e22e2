//! The backend against the conformance suite and against the reference, under several pools and
//! grains.

use super::*;
use hedgerow_hasher_api::{ScalarHasher, Span, conformance};
use hedgerow_types::Digest;
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;
use std::sync::LazyLock;

/// Cuts every batch down to single items.
const FINEST: Grain = Grain { parallel_from: 0, share: 1, shares_per_thread: usize::MAX / 64 };
/// Shares that begin and end inside groups.
const ODD: Grain = Grain { parallel_from: 5, share: 7, shares_per_thread: 3 };

fn pool(threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

/// The kernels that this CPU runs. Those that it does not are named loudly. `.ci/kernels` reads
/// what the tests print.
fn runnable() -> impl Iterator<Item = &'static str> {
    CpuHasher::kernels().into_iter().filter_map(|info| {
        if let Some(why_not) = info.why_not {
            println!("!!! KERNEL NOT TESTED: {}: {why_not}", info.name);
        }
        info.available.then_some(info.name)
    })
}

fn on_one_thread(kernel: &str) -> CpuHasher {
    CpuHasher::pinned(kernel).unwrap().on_pool(pool(1))
}

/// Every kernel; every grain on the current pool and on pools of 1, 2 and 7 threads.
static HASHERS: LazyLock<Vec<CpuHasher>> = LazyLock::new(|| {
    let mut hashers: Vec<_> = runnable().map(on_one_thread).collect();
    for grain in [Grain::default(), ODD, FINEST] {
        hashers.push(CpuHasher { grain, ..CpuHasher::new() });
        for threads in [1, 2, 7] {
            hashers.push(CpuHasher { grain, ..CpuHasher::with_pool(pool(threads)) });
        }
    }
    hashers
});

#[test]
fn every_kernel_conforms() {
    for kernel in runnable() {
        conformance::run(&on_one_thread(kernel));
        println!("KERNEL TESTED: {kernel}");
    }
}

#[test]
fn conforms_on_the_current_pool() {
    conformance::run(&CpuHasher::new());
}

#[test]
fn conforms_inside_a_pool() {
    pool(3).install(|| conformance::run(&CpuHasher::new()));
}

#[test]
fn conforms_on_one_thread() {
    conformance::run(&CpuHasher::with_pool(pool(1)));
}

#[test]
fn conforms_on_two_threads() {
    conformance::run(&CpuHasher::with_pool(pool(2)));
}

#[test]
fn conforms_on_seven_threads() {
    conformance::run(&CpuHasher::with_pool(pool(7)));
}

#[test]
fn conforms_with_every_batch_cut() {
    conformance::run(&CpuHasher { grain: ODD, ..CpuHasher::with_pool(pool(7)) });
}

#[test]
fn conforms_with_every_item_a_share() {
    conformance::run(&CpuHasher { grain: FINEST, ..CpuHasher::with_pool(pool(2)) });
}

#[test]
fn says_what_it_is() {
    let one = CpuHasher::with_pool(pool(1)).capabilities();
    let seven = CpuHasher::with_pool(pool(7)).capabilities();
    assert_eq!((one.name.as_str(), one.is_device), ("cpu", false));
    assert_eq!(one.full_speed_batch, one.lanes);
    assert!(seven.full_speed_batch >= 512);
    let pinned = on_one_thread("portable").capabilities();
    assert_eq!(
        (pinned.name.as_str(), pinned.device.as_str()),
        ("cpu:portable", "portable (pinned)")
    );
}

fn digests(count: usize, seed: u64) -> Vec<Digest> {
    (0..count as u64)
        .map(|i| hedgerow_hasher_api::hash_message(&[seed.to_le_bytes(), i.to_le_bytes()].concat()))
        .collect()
}

/// Groups of messages: an arena and spans inside it.
fn message_groups() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<Span>)>> {
    let group = prop::collection::vec(any::<u8>(), 0..700).prop_flat_map(|arena| {
        let end = arena.len();
        let span = (0..=end, 0..=end)
            .prop_map(|(a, b)| Span { offset: a.min(b) as u32, len: a.abs_diff(b) as u32 });
        (Just(arena), prop::collection::vec(span, 0..40))
    });
    prop::collection::vec(group, 0..6)
}

/// Groups of indexed pairs: which parents of a level are chosen.
fn choices() -> impl Strategy<Value = Vec<Vec<bool>>> {
    prop::collection::vec(prop::collection::vec(any::<bool>(), 0..60), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn messages_equal_the_reference(groups in message_groups()) {
        let run = |hasher: &dyn BatchHasher| {
            let mut outputs: Vec<_> =
                groups.iter().map(|(_, spans)| vec![Digest::ZERO; spans.len()]).collect();
            let mut batch: Vec<_> = (groups.iter().zip(&mut outputs))
                .map(|((arena, spans), out)| MessageGroup { arena, spans, out })
                .collect();
            hasher.messages(&mut batch).unwrap();
            outputs
        };
        let expected = run(&ScalarHasher);
        for hasher in &*HASHERS {
            prop_assert_eq!(&run(hasher), &expected, "{:?}", hasher);
        }
    }

    #[test]
    fn pairs_equal_the_reference(
        level: u8, seed: u64, lens in prop::collection::vec(0_usize..60, 0..6)
    ) {
        let children: Vec<_> = lens.iter().map(|len| digests(2 * len, seed)).collect();
        let run = |hasher: &dyn BatchHasher| {
            let mut outputs: Vec<_> = lens.iter().map(|&len| vec![Digest::ZERO; len]).collect();
            let mut batch: Vec<_> = (children.iter().zip(&mut outputs))
                .map(|(children, out)| PairGroup { children, out })
                .collect();
            hasher.pairs(level, &mut batch).unwrap();
            outputs
        };
        let expected = run(&ScalarHasher);
        for hasher in &*HASHERS {
            prop_assert_eq!(&run(hasher), &expected, "{:?}", hasher);
        }
    }

    #[test]
    fn indexed_pairs_equal_the_reference(level: u8, seed: u64, groups in choices()) {
        let children: Vec<_> = groups.iter().map(|chosen| digests(2 * chosen.len(), seed)).collect();
        let parents: Vec<Vec<u32>> = groups
            .iter()
            .map(|chosen| (0..chosen.len() as u32).filter(|&p| chosen[p as usize]).collect())
            .collect();
        let run = |hasher: &dyn BatchHasher| {
            let mut outputs: Vec<_> =
                groups.iter().map(|chosen| digests(chosen.len(), !seed)).collect();
            let mut batch: Vec<_> = (children.iter().zip(&parents).zip(&mut outputs))
                .map(|((children, parents), out)| IndexedPairGroup { children, parents, out })
                .collect();
            hasher.indexed_pairs(level, &mut batch).unwrap();
            outputs
        };
        let expected = run(&ScalarHasher);
        for hasher in &*HASHERS {
            prop_assert_eq!(&run(hasher), &expected, "{:?}", hasher);
        }
    }
}
