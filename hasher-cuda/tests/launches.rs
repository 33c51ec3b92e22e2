//! Every kind of launch against the host, and copies, on every usable device.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{buffer, bytes_of, contents, digests, driver, words};
use hedgerow_hasher_api::{
    BatchHasher, HashError, ScalarHasher,
    device::{Buffer, Device, Launch, Parents, Queue, TWIG_INNER},
    hash_message, hash_node,
};
use hedgerow_hasher_cuda::{CudaDevice, CudaQueue};
use hedgerow_types::{Digest, TWIG_LEAVES};
use proptest::prelude::*;

/// Runs `test` on a fresh queue of every usable device.
fn on_every_device(test: impl Fn(&mut CudaQueue)) {
    for ordinal in driver().ordinals() {
        test(&mut CudaDevice::new(ordinal).unwrap().queue().unwrap());
    }
}

/// Sizes around warps and blocks.
const SIZES: [u32; 10] = [1, 31, 32, 33, 127, 128, 129, 255, 257, 700];

/// Digests that no kernel writes, to see what was left alone.
fn paint(count: usize) -> Vec<Digest> {
    (0..count as u32).map(|i| hash_message(&(!i).to_le_bytes())).collect()
}

#[test]
fn runs_of_nodes() {
    on_every_device(|queue| {
        for count in SIZES {
            let (first, stride, offset) = (count % 3, 1 + count % 4, count % 5);
            let nodes = digests(2 * (first + count) as usize);
            let mut expected = paint(((first + count) * stride + offset + 2) as usize);
            let children = &buffer(queue, &bytes_of(&nodes));
            let out = &buffer(queue, &bytes_of(&expected));
            let level = count as u8;
            let (parents, out_stride, out_offset) = (Parents::Run { first }, stride, offset);
            let launch =
                Launch::Nodes { level, children, parents, count, out, out_stride, out_offset };
            queue.launch(launch).unwrap();
            for p in first..first + count {
                let [left, right] = nodes.as_chunks().0[p as usize];
                expected[(stride * p + offset) as usize] = hash_node(level, &left, &right);
            }
            assert_eq!(contents(queue, out).unwrap(), bytes_of(&expected), "{count}");
        }
    });
}

#[test]
fn listed_nodes() {
    on_every_device(|queue| {
        for count in SIZES {
            let nodes = digests(6 * count as usize + 2);
            // Every third parent, last first, after some entries that are skipped.
            let listed: Vec<u32> = (0..count).rev().map(|i| 3 * i).collect();
            let list = [vec![u32::MAX; 5], listed.clone()].concat();
            let mut expected = paint(7 * count as usize);
            let children = &buffer(queue, &bytes_of(&nodes));
            let places = &buffer(queue, &words(&list));
            let out = &buffer(queue, &bytes_of(&expected));
            let parents = Parents::List { places, first: 5 };
            let (level, out_stride, out_offset) = (255, 2, 1);
            let launch =
                Launch::Nodes { level, children, parents, count, out, out_stride, out_offset };
            queue.launch(launch).unwrap();
            for p in listed {
                let [left, right] = nodes.as_chunks().0[p as usize];
                expected[2 * p as usize + 1] = hash_node(255, &left, &right);
            }
            assert_eq!(contents(queue, out).unwrap(), bytes_of(&expected), "{count}");
        }
    });
}

/// Packs messages at multiples of 4 bytes with noise after each, and gives their spans.
fn packed(messages: &[Vec<u8>]) -> (Vec<u8>, Vec<u32>) {
    let (mut bytes, mut spans) = (vec![], vec![]);
    for message in messages {
        spans.extend([bytes.len() as u32 / 4, message.len() as u32]);
        bytes.extend(message);
        while !bytes.len().is_multiple_of(4) {
            bytes.push(0xa5);
        }
    }
    bytes.extend([0xa5; 4]);
    (bytes, spans)
}

fn check_messages(queue: &mut CudaQueue, messages: &[Vec<u8>]) {
    let (bytes, spans) = packed(messages);
    let (bytes, spans) = (&buffer(queue, &bytes), &buffer(queue, &words(&spans)));
    let count = messages.len() as u32;
    let out = &queue.allocate(32 * u64::from(count)).unwrap();
    queue.launch(Launch::Messages { bytes, spans, count, out }).unwrap();
    let expected: Vec<_> = messages.iter().map(|message| hash_message(message)).collect();
    assert_eq!(contents(queue, out).unwrap(), bytes_of(&expected));
}

#[test]
fn messages_of_every_length() {
    on_every_device(|queue| {
        let text: Vec<u8> = (0..3000_u32).map(|i| (i * 7 / 3) as u8).collect();
        let lens = (0..=260).chain([511, 512, 513, 2999]);
        let messages: Vec<_> = lens.map(|len: usize| text[..len].to_vec()).collect();
        check_messages(queue, &messages);
        check_messages(queue, &vec![vec![7; 55]; 129]);
        check_messages(queue, &vec![vec![8; 56]; 31]);
    });
}

#[test]
fn twigs_with_and_without_inner_nodes() {
    on_every_device(|queue| {
        let leaves = digests(3 * TWIG_LEAVES);
        let mut inner = vec![];
        for twig in leaves.chunks(TWIG_LEAVES) {
            let mut levels: Vec<_> = (0..11).rev().map(|h| vec![Digest::ZERO; 1 << h]).collect();
            let mut slices: Vec<_> = levels.iter_mut().map(Vec::as_mut_slice).collect();
            ScalarHasher.levels(0, twig, &mut slices).unwrap();
            inner.push(levels.concat());
        }
        let expected: Vec<_> = inner.iter().map(|nodes| nodes[2046]).collect();
        let from = &buffer(queue, &bytes_of(&leaves));
        for count in [1, 3] {
            // One digest more than wanted, which must stay.
            let guard = paint(1);
            let roots = &buffer(queue, &bytes_of(&paint(4)));
            let all = &queue.allocate(32 * (3 * TWIG_INNER + 1)).unwrap();
            queue
                .launch(Launch::Fill { digest: guard[0], out: all, first: 0, count: 6142 })
                .unwrap();
            for inner in [Some(all), None] {
                queue.launch(Launch::Twigs { leaves: from, count, roots, inner }).unwrap();
            }
            let count = count as usize;
            let kept = paint(4)[count..].to_vec();
            let found = contents(queue, roots).unwrap();
            assert_eq!(found, bytes_of(&[&expected[..count], &kept].concat()));
            let left = 3 * TWIG_INNER as usize + 1 - count * TWIG_INNER as usize;
            let wanted = [inner[..count].concat(), vec![guard[0]; left]].concat();
            assert!(contents(queue, all).unwrap() == bytes_of(&wanted), "inner nodes of {count}");
        }
    });
}

#[test]
fn digests_that_only_move() {
    on_every_device(|queue| {
        for count in SIZES {
            let n = count as usize;
            let nodes = digests(3 * n);
            let from = &buffer(queue, &bytes_of(&nodes));
            let list: Vec<u32> = (0..count).rev().map(|i| 3 * i + i % 3).collect();
            let places = &buffer(queue, &words(&list));
            let mut expected = paint(3 * n);
            let out = &buffer(queue, &bytes_of(&expected));

            queue.launch(Launch::Scatter { digests: from, places, count, out }).unwrap();
            for (digest, &place) in nodes.iter().zip(&list) {
                expected[place as usize] = *digest;
            }
            assert_eq!(contents(queue, out).unwrap(), bytes_of(&expected), "scatter {count}");

            let (digest, first) = (nodes[0], 2 * count - 1);
            queue.launch(Launch::Fill { digest, out, first, count }).unwrap();
            expected[2 * n - 1..3 * n - 1].fill(nodes[0]);
            assert_eq!(contents(queue, out).unwrap(), bytes_of(&expected), "fill {count}");

            queue.launch(Launch::Gather { digests: from, places, count, out }).unwrap();
            for (to, &place) in expected.iter_mut().zip(&list) {
                *to = nodes[place as usize];
            }
            assert_eq!(contents(queue, out).unwrap(), bytes_of(&expected), "gather {count}");
        }
    });
}

#[test]
fn bits_that_flip() {
    on_every_device(|queue| {
        for count in SIZES {
            let mut expected: Vec<u32> =
                (0..2 * count + 1).map(|i| i.wrapping_mul(77_777)).collect();
            let out = &buffer(queue, &words(&expected));
            let list: Vec<_> = (0..count).flat_map(|i| [2 * i + 1, 1 << (i % 32) | 1]).collect();
            let flips = &buffer(queue, &words(&list));
            for times in 1..3 {
                queue.launch(Launch::Flip { flips, count, out }).unwrap();
                list.as_chunks().0.iter().for_each(|&[word, mask]| expected[word as usize] ^= mask);
                assert_eq!(contents(queue, out).unwrap(), words(&expected), "{count}, {times}");
            }
        }
    });
}

#[test]
fn copies_and_downloads_happen_in_order() {
    on_every_device(|queue| {
        let a = buffer(queue, &[1; 16]);
        let first = queue.download(&a, 0, 8).unwrap();
        let b = buffer(queue, &[2; 8]);
        queue.copy(&b, 4, &a, 12, 4).unwrap();
        drop(b);
        let second = queue.download(&a, 8, 8).unwrap();
        // Never waited for.
        drop(queue.download(&a, 0, 16).unwrap());
        drop(a);
        for (download, expected) in [(second, [1, 1, 1, 1, 2, 2, 2, 2]), (first, [1; 8])] {
            let mut seen = vec![];
            queue.wait(download, &mut |bytes| seen = bytes.to_vec()).unwrap();
            assert_eq!(seen, expected);
        }
    });
}

#[test]
fn what_cannot_be_right_is_refused() {
    let _driver = driver();
    let device = CudaDevice::new(0).unwrap();
    let (mut queue, mut other) = (device.queue().unwrap(), device.queue().unwrap());
    let a = buffer(&mut queue, &[1; 64]);
    let b = buffer(&mut queue, &[1; 64]);
    let foreign = buffer(&mut other, &[1; 64]);
    let refused = |result: Result<(), HashError>| {
        assert!(matches!(result, Err(HashError::Shape(_))), "{result:?}");
    };
    let digest = Digest::ZERO;
    refused(queue.launch(Launch::Fill { digest, out: &a, first: 1, count: 2 }));
    refused(queue.launch(Launch::Fill { digest, out: &foreign, first: 0, count: 1 }));
    refused(queue.copy(&a, 0, &a, 32, 32));
    refused(queue.copy(&a, 0, &foreign, 0, 32));
    refused(queue.copy(&a, 40, &b, 0, 32));
    refused(queue.copy(&a, 2, &b, 0, 32));
    refused(queue.upload(&a, 60, 8, &mut |_| {}));
    refused(queue.upload(&a, 0, 0, &mut |_| {}));
    refused(queue.download(&foreign, 0, 4).map(|_| ()));
    refused(queue.download(&a, 0, 68).map(|_| ()));
    refused(queue.allocate(0).map(|_| ()));
    refused(queue.allocate(device.limits().buffer_bytes + 4).map(|_| ()));
    let download = other.download(&foreign, 0, 4).unwrap();
    refused(queue.wait(download, &mut |_| {}));
    // Nothing to do is no launch.
    queue.launch(Launch::Fill { digest, out: &a, first: 0, count: 0 }).unwrap();
    assert_eq!(a.bytes(), 64);
}

#[test]
fn two_threads_on_one_device() {
    let _driver = driver();
    let device = CudaDevice::new(0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2_u8 {
            let device = &device;
            scope.spawn(move || {
                let mut queue = device.queue().unwrap();
                for round in 0..20 {
                    let messages: Vec<_> = (0..40).map(|i| vec![thread ^ round; i]).collect();
                    check_messages(&mut queue, &messages);
                }
            });
        }
    });
    // A queue made on one thread, used on another, dropped on a third.
    let mut queue = device.queue().unwrap();
    let (queue, kept) = std::thread::spawn(move || {
        let kept = buffer(&mut queue, &[3; 8]);
        (queue, kept)
    })
    .join()
    .unwrap();
    std::thread::spawn(move || drop((queue, kept))).join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..Default::default() })]

    /// Messages of any lengths, neighbours of any others.
    #[test]
    fn messages_of_any_lengths(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..150),
    ) {
        let _driver = driver();
        check_messages(&mut CudaDevice::new(0).unwrap().queue().unwrap(), &messages);
    }
}
