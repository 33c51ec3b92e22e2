//! Every kernel that this CPU runs, called directly with any number of jobs, against the reference.

use super::*;
use crate::dispatch;
use hedgerow_hasher_api::{hash_message, hash_node};
use proptest::prelude::*;
use std::sync::LazyLock;

/// The kernels that this CPU runs. Those that it does not are named loudly.
static RUNNABLE: LazyLock<Vec<&'static dyn Kernel>> = LazyLock::new(|| {
    let runnable = |info: dispatch::KernelInfo| match dispatch::kernel(info.name) {
        Ok(kernel) => Some(kernel),
        Err(error) => {
            println!("!!! KERNEL NOT TESTED: {error}");
            None
        }
    };
    dispatch::kernels().into_iter().filter_map(runnable).collect()
});

fn runnable() -> impl Iterator<Item = &'static dyn Kernel> {
    RUNNABLE.iter().copied()
}

fn nodes(kernel: &dyn Kernel, level: u8, children: &[[Digest; 2]], ahead: usize) -> Vec<Digest> {
    let mut out = vec![Digest::ZERO; children.len()];
    let mut jobs: Vec<_> =
        children.iter().zip(&mut out).map(|(children, out)| NodeJob { children, out }).collect();
    let split = jobs.len() - ahead.min(jobs.len());
    let (now, ahead) = jobs.split_at_mut(split);
    kernel.nodes(level, now, ahead);
    assert!(ahead.iter().all(|job| *job.out == Digest::ZERO), "{kernel:?} hashed what is ahead");
    kernel.nodes(level, ahead, &[]);
    drop(jobs);
    out
}

fn messages(kernel: &dyn Kernel, arena: &[u8], spans: &[(usize, u32)]) -> Vec<Digest> {
    let mut out = vec![Digest::ZERO; spans.len()];
    let mut jobs: Vec<_> = (spans.iter().zip(&mut out))
        .map(|(&(offset, len), out)| MessageJob::new(&arena[offset..], len, out).unwrap())
        .collect();
    kernel.messages(&mut jobs);
    drop(jobs);
    out
}

#[test]
fn every_length_in_every_position() {
    let arena: Vec<_> = (0..1000_u32).map(|i| (i * i) as u8).collect();
    for kernel in runnable() {
        // Neighbours differ by a byte, so every lot meets every place of the end in its last words.
        for start in [0, 1, 17] {
            let spans: Vec<_> = (start..400).map(|len| (600 - len as usize, len)).collect();
            for (out, &(offset, len)) in messages(kernel, &arena, &spans).iter().zip(&spans) {
                let expected = hash_message(&arena[offset..][..len as usize]);
                assert_eq!(*out, expected, "{kernel:?}, {len} bytes");
            }
        }
    }
}

#[test]
fn every_last_byte_and_level_of_a_node() {
    let children: Vec<_> = (0..=u8::MAX).map(|b| [Digest([!b; 32]), Digest([b; 32])]).collect();
    for kernel in runnable() {
        for level in (0..=u8::MAX).step_by(15) {
            let expected: Vec<_> = children.iter().map(|[l, r]| hash_node(level, l, r)).collect();
            assert_eq!(nodes(kernel, level, &children, 100), expected, "{kernel:?}");
        }
    }
}

#[test]
fn examples_of_fips_180_4() {
    let million = vec![b'a'; 1_000_000];
    for kernel in runnable() {
        for (message, digest) in [
            (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ] {
            let len = message.len() as u32;
            for count in [1, 2, 7, 33] {
                for out in messages(kernel, message, &vec![(0, len); count]) {
                    assert_eq!(out, digest.parse().unwrap(), "{kernel:?}, {len} bytes");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nodes_equal_the_reference(
        level: u8,
        seeds in prop::collection::vec(any::<[u8; 32]>(), 0..75),
        ahead in 0_usize..75,
    ) {
        let children: Vec<_> =
            seeds.iter().map(|seed| [Digest(*seed), hash_message(seed)]).collect();
        let expected: Vec<_> = children.iter().map(|[l, r]| hash_node(level, l, r)).collect();
        for kernel in runnable() {
            prop_assert_eq!(&nodes(kernel, level, &children, ahead), &expected, "{:?}", kernel);
        }
    }

    #[test]
    fn messages_equal_the_reference(
        arena in prop::collection::vec(any::<u8>(), 1200),
        spans in prop::collection::vec((0_usize..600, 0_u32..600), 0..75),
    ) {
        let expected: Vec<_> = (spans.iter())
            .map(|&(offset, len)| hash_message(&arena[offset..][..len as usize]))
            .collect();
        for kernel in runnable() {
            prop_assert_eq!(&messages(kernel, &arena, &spans), &expected, "{:?}", kernel);
        }
    }
}
