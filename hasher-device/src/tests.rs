//! The device hasher on the pretended device: with every call cut, with none cut, and with every
//! call failing in turn.

mod hooks;

use crate::{conformance as kernels, *};
use hedgerow_hasher_api::{
    BatchHasher, IndexedPairGroup, LeftTree, MessageGroup, PairGroup, ScalarHasher, Span,
    conformance, hash_message, hash_node,
};
use hedgerow_types::{Digest, TWIG_LEAVES};
use proptest::prelude::*;

/// Every call is cut: few items, small buffers.
const TINY: Limits = Limits { buffer_bytes: Limits::LEAST_BUFFER, max_count: 5 };
/// Nothing but the bytes cuts.
const SMALL: Limits = Limits { buffer_bytes: Limits::LEAST_BUFFER, max_count: u32::MAX };
const ROOMY: Limits = Limits { buffer_bytes: 1 << 30, max_count: u32::MAX };

fn hasher(limits: Limits) -> DeviceHasher<HostDevice> {
    DeviceHasher::new(HostDevice::new(limits)).unwrap()
}

#[test]
fn conforms_with_every_call_cut() {
    conformance::run(&hasher(TINY));
}

#[test]
fn conforms_with_calls_cut_by_bytes() {
    conformance::run(&hasher(SMALL));
}

#[test]
fn conforms() {
    conformance::run(&hasher(ROOMY));
}

#[test]
fn conforms_with_one_item_per_launch() {
    conformance::run(&hasher(Limits { max_count: 1, ..TINY }));
}

#[test]
fn a_device_of_no_use_is_refused() {
    for limits in [
        Limits { buffer_bytes: Limits::LEAST_BUFFER - 1, ..ROOMY },
        Limits { max_count: 0, ..ROOMY },
    ] {
        let refused = DeviceHasher::new(HostDevice::new(limits));
        assert!(matches!(refused, Err(HashError::Device { .. })));
    }
}

#[test]
fn nothing_to_do_asks_the_device_for_nothing() {
    let hasher = hasher(ROOMY);
    hasher.messages(&mut []).unwrap();
    hasher.pairs(0, &mut [PairGroup { children: &[], out: &mut [] }]).unwrap();
    hasher.indexed_pairs(0, &mut []).unwrap();
    hasher.left_trees(&mut []).unwrap();
    let mut trees = LeftTree::new(1);
    hasher.left_trees(&mut [trees.group(&digests(TWIG_LEAVES), 7..7)]).unwrap();
    assert_eq!(hasher.device().calls(), 0);
}

#[test]
fn queues_and_buffers_are_used_again() {
    let hasher = hasher(ROOMY);
    let children = digests(64);
    let mut calls = vec![];
    for _ in 0..3 {
        let before = hasher.device().calls();
        let mut out = vec![Digest::ZERO; 32];
        hasher.pairs(0, &mut [PairGroup { children: &children, out: &mut out }]).unwrap();
        calls.push(hasher.device().calls() - before);
    }
    // A queue and two buffers more at first; then upload, launch, download, flush, wait and the
    // three deferred ones.
    assert_eq!(calls, [11, 8, 8]);
}

/// One round trip, however many groups and levels.
#[test]
fn left_trees_of_many_groups_are_one_chunk() {
    let hasher = hasher(ROOMY);
    let leaves = digests(3 * TWIG_LEAVES);
    let mut calls = vec![];
    for groups in [1, 2, 16, 16] {
        let before = hasher.device().calls();
        let mut trees = (0..groups).map(|_| LeftTree::new(3)).collect::<Vec<_>>();
        let groups = trees.iter_mut().map(|tree| tree.group(&leaves, 2000..2 * TWIG_LEAVES + 1));
        hasher.left_trees(&mut groups.collect::<Vec<_>>()).unwrap();
        calls.push(hasher.device().calls() - before);
    }
    // As for any other chunk, and three buffers when they must grow.
    assert_eq!(calls, [12, 10, 11, 8]);
}

fn digests(count: usize) -> Vec<Digest> {
    (0..count as u32).map(|i| hash_message(&i.to_le_bytes())).collect()
}

/// One call of every operation, each large enough for several chunks of [`TINY`].
fn everything(hasher: &dyn BatchHasher) -> Result<Vec<Digest>, HashError> {
    let nodes = digests(2 * TWIG_LEAVES);
    let arena: Vec<u8> = (0..200_000_u32).map(|i| (i / 3) as u8).collect();
    let mut out = vec![Digest::ZERO; 45];
    let (a, rest) = out.split_at_mut(13);
    let (b, rest) = rest.split_at_mut(20);
    let (c, _) = rest.split_at_mut(12);
    hasher.pairs(3, &mut [PairGroup { children: &nodes[..26], out: a }])?;
    hasher.indexed_pairs(
        4,
        &mut [IndexedPairGroup { children: &nodes, parents: &[0, 2, 3, 5, 8, 13, 19], out: b }],
    )?;
    let lens = [0, 3, 64, 130, 70_000, 56, 55, 119, 120, 5, 1000, 65_536];
    let spans = lens.map(|len| Span { offset: len, len });
    hasher.messages(&mut [MessageGroup { arena: &arena, spans: &spans, out: c }])?;
    let mut tree = LeftTree::new(2);
    hasher.left_trees(&mut [tree.group(&nodes, 0..2 * TWIG_LEAVES)])?;
    out.extend(tree.levels().iter().flatten());
    Ok(out)
}

#[test]
fn a_failure_at_any_call_is_an_error_and_the_next_batch_is_right() {
    let expected = everything(&ScalarHasher).unwrap();
    let hasher = hasher(TINY);
    let mut failures = 0;
    loop {
        hasher.device().fail_at(failures, Failure::Once);
        let result = everything(&hasher);
        if hasher.device().failure_pending() {
            assert_eq!(result.unwrap(), expected);
            break;
        }
        assert!(matches!(result, Err(HashError::Device { .. })), "call {failures}: {result:?}");
        assert_eq!(everything(&hasher).unwrap(), expected, "after call {failures}");
        failures += 1;
    }
    // Every operation has some chunks of eight calls or more.
    assert!(failures > 80, "{failures}");
}

#[test]
fn a_lost_device_says_so_from_then_on() {
    let expected = everything(&ScalarHasher).unwrap();
    let mut call = 0;
    loop {
        let hasher = hasher(TINY);
        hasher.device().fail_at(call, Failure::Lost);
        let result = everything(&hasher);
        if hasher.device().failure_pending() {
            assert_eq!(result.unwrap(), expected);
            break;
        }
        for result in [result, everything(&hasher)] {
            assert!(matches!(result, Err(HashError::DeviceLost { .. })), "{call}: {result:?}");
        }
        call += 7;
    }
}

fn queue() -> HostQueue {
    HostDevice::new(ROOMY).queue().unwrap()
}

fn buffer(queue: &mut HostQueue, bytes: &[u8]) -> HostBuffer {
    let buffer = queue.allocate(bytes.len() as u64).unwrap();
    let fill = &mut |staging: &mut [u8]| staging.copy_from_slice(bytes);
    queue.upload(&buffer, 0, bytes.len() as u64, fill).unwrap();
    buffer
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn bytes_of(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(|digest| digest.0).collect()
}

fn contents(queue: &mut HostQueue, buffer: &HostBuffer) -> Result<Vec<u8>, HashError> {
    let download = queue.download(buffer, 0, buffer.bytes())?;
    let mut contents = vec![];
    queue.wait(download, &mut |bytes| contents = bytes.to_vec())?;
    Ok(contents)
}

#[test]
fn the_pretended_device_waits_until_it_must() {
    let mut queue = queue();
    let a = buffer(&mut queue, &[1; 8]);
    let first = queue.download(&a, 0, 8).unwrap();
    queue.upload(&a, 0, 4, &mut |staging| staging.fill(2)).unwrap();
    let second = queue.download(&a, 0, 8).unwrap();
    for (download, expected) in [(second, [2, 2, 2, 2, 1, 1, 1, 1]), (first, [1; 8])] {
        let mut seen = vec![];
        queue.wait(download, &mut |bytes| seen = bytes.to_vec()).unwrap();
        assert_eq!(seen, expected);
    }
}

#[test]
fn the_pretended_device_refuses_what_a_kernel_must_not_do() {
    let nodes = bytes_of(&digests(4));
    for (places, why) in [(&[0, 4][..], "outside"), (&[1, 1][..], "twice")] {
        let mut queue = queue();
        let (digests, out) = (buffer(&mut queue, &nodes), buffer(&mut queue, &nodes));
        let places = &buffer(&mut queue, &words(places));
        let scatter = Launch::Scatter { digests: &digests, places, count: 2, out: &out };
        queue.launch(scatter).unwrap();
        let error = contents(&mut queue, &out).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn the_pretended_device_is_a_device() {
    kernels::run(&HostDevice::new(ROOMY));
    kernels::run(&HostDevice::new(Limits { max_count: 40, ..TINY }));
}

#[test]
fn launches_that_cannot_be_right_are_refused() {
    let mut queue = queue();
    let nodes = buffer(&mut queue, &[7; 4 * 32]);
    let out = buffer(&mut queue, &[7; 2 * 32]);
    let list = buffer(&mut queue, &words(&[0, 1]));
    let node = |parents, count, children, out, out_stride, out_offset| Launch::Nodes {
        level: 0,
        children,
        parents,
        count,
        out,
        out_stride,
        out_offset,
    };
    let run = |first| Parents::Run { first };
    let in_list = |first| Parents::List { places: &list, first };
    let (digests, places, leaves) = (&nodes, &list, &nodes);
    for wrong in [
        node(run(0), 3, &nodes, &out, 1, 0),
        node(run(1), 2, &nodes, &out, 1, 0),
        node(run(0), 2, &nodes, &out, 2, 0),
        node(run(0), 2, &nodes, &out, 1, 1),
        node(run(0), 2, &nodes, &out, 0, 0),
        node(run(0), 1, &nodes, &nodes, 1, 0),
        node(run(u32::MAX), u32::MAX, &nodes, &out, u32::MAX, u32::MAX),
        node(in_list(1), 2, &nodes, &out, 1, 0),
        node(in_list(0), 2, &list, &list, 1, 0),
        Launch::Messages { bytes: &nodes, spans: &list, count: 2, out: &out },
        Launch::Messages { bytes: &nodes, spans: &nodes, count: 3, out: &out },
        Launch::Twigs { leaves, count: 1, roots: &out, inner: None },
        Launch::Scatter { digests, places, count: 3, out: &out },
        Launch::Scatter { digests, places, count: 2, out: &nodes },
        Launch::Gather { digests, places, count: 3, out: &out },
        Launch::Flip { flips: &list, count: 2, out: &out },
        Launch::Flip { flips: &list, count: 1, out: &list },
    ] {
        assert!(matches!(queue.launch(wrong), Err(HashError::Shape(_))), "{wrong:?}");
    }
    let few = Limits { max_count: 1, ..ROOMY };
    assert!(node(run(0), 2, &nodes, &out, 1, 0).check(few).is_err());
    for right in [
        node(run(0), 2, &nodes, &out, 1, 0),
        node(run(1), 1, &nodes, &out, 1, 0),
        node(in_list(0), 2, &nodes, &out, 1, 0),
        node(run(u32::MAX), 0, &nodes, &out, 1, 0),
        Launch::Gather { digests, places, count: 2, out: &out },
    ] {
        right.check(ROOMY).unwrap();
    }
}

#[test]
fn the_kernels_that_only_move_digests() {
    let nodes = digests(6);
    let mut queue = queue();
    let from = buffer(&mut queue, &bytes_of(&nodes));
    let out = buffer(&mut queue, &bytes_of(&nodes));
    let places = &buffer(&mut queue, &words(&[5, 0, 3]));
    let flips = &buffer(&mut queue, &words(&[8, 0x0100_0080]));
    queue.launch(Launch::Scatter { digests: &from, places, count: 2, out: &out }).unwrap();
    queue.launch(Launch::Flip { flips, count: 1, out: &out }).unwrap();
    let mut flipped = nodes[1];
    flipped.0[0] ^= 0x80;
    flipped.0[3] ^= 0x01;
    let expected = [nodes[1], flipped, nodes[2], nodes[3], nodes[4], nodes[0]];
    assert_eq!(contents(&mut queue, &out).unwrap(), bytes_of(&expected));
    queue.launch(Launch::Gather { digests: &from, places, count: 3, out: &out }).unwrap();
    let expected = [nodes[5], nodes[0], nodes[3], nodes[3], nodes[4], nodes[0]];
    assert_eq!(contents(&mut queue, &out).unwrap(), bytes_of(&expected));
}

#[test]
fn nodes_go_where_the_stride_says() {
    let nodes = digests(8);
    let mut queue = queue();
    let children = buffer(&mut queue, &bytes_of(&nodes));
    let out = buffer(&mut queue, &[0; 8 * 32]);
    let places = &buffer(&mut queue, &words(&[9, 2, 0]));
    let parents = Parents::List { places, first: 1 };
    let nodes_launch = Launch::Nodes {
        level: 9,
        children: &children,
        parents,
        count: 2,
        out: &out,
        out_stride: 3,
        out_offset: 1,
    };
    queue.launch(nodes_launch).unwrap();
    let mut expected = [Digest::ZERO; 8];
    expected[1] = hash_node(9, &nodes[0], &nodes[1]);
    expected[7] = hash_node(9, &nodes[4], &nodes[5]);
    assert_eq!(contents(&mut queue, &out).unwrap(), bytes_of(&expected));
}

#[test]
fn twigs_give_their_inner_nodes_level_by_level() {
    let leaves = digests(2 * TWIG_LEAVES);
    let mut queue = queue();
    let from = buffer(&mut queue, &bytes_of(&leaves));
    let roots = buffer(&mut queue, &[0; 64]);
    let inner = buffer(&mut queue, &vec![0; 2 * 32 * TWIG_INNER as usize]);
    let launch = Launch::Twigs { leaves: &from, count: 2, roots: &roots, inner: Some(&inner) };
    queue.launch(launch).unwrap();
    let mut expected = vec![];
    for twig in leaves.chunks(TWIG_LEAVES) {
        let mut tree = LeftTree::new(1);
        ScalarHasher.left_trees(&mut [tree.group(twig, 0..TWIG_LEAVES)]).unwrap();
        expected.extend(tree.levels().concat());
    }
    assert_eq!(contents(&mut queue, &inner).unwrap(), bytes_of(&expected));
    let tops = [expected[2046], expected[4093]];
    assert_eq!(contents(&mut queue, &roots).unwrap(), bytes_of(&tops));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    /// Messages of any lengths in any order, cut by items and by bytes.
    #[test]
    fn messages_of_any_lengths(
        lens in prop::collection::vec(prop_oneof![0_u32..300, 0_u32..40_000, 65_500_u32..65_600], 0..40),
        max_count in 1_u32..20,
    ) {
        let arena: Vec<u8> = (0..66_000_u32).map(|i| (i * 7 / 3) as u8).collect();
        let spans: Vec<_> = lens.iter().map(|&len| Span { offset: len % 11, len }).collect();
        let hasher = hasher(Limits { max_count, ..TINY });
        let mut out = vec![Digest::ZERO; spans.len()];
        hasher.messages(&mut [MessageGroup { arena: &arena, spans: &spans, out: &mut out }]).unwrap();
        for (span, out) in spans.iter().zip(out) {
            prop_assert_eq!(out, hash_message(span.of(&arena).unwrap()));
        }
    }
}
