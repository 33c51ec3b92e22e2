//! No kernel touches a byte outside the slices it was given: they end where the next page traps,
//! or begin where the one before does.
//!
//! ```text
//!   trap │ ▓▓▓▓▓▓▓▓▓▓▓▓▓▓                    │ trap      first bytes
//!   trap │                    ▓▓▓▓▓▓▓▓▓▓▓▓▓▓ │ trap      last bytes
//! ```
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use hedgerow_hasher_api::{
    BatchHasher, IndexedPairGroup, MessageGroup, PairGroup, Span, hash_message, hash_node,
};
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_types::Digest;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rayon::ThreadPoolBuilder;
use std::{num::NonZeroUsize, ptr::NonNull, slice, sync::Arc};

const PAGE: usize = 65_536;
const ROOM: usize = 4 * PAGE;

/// Memory between two pages that trap.
struct Guarded(NonNull<u8>);

#[derive(Clone, Copy, Debug)]
enum At {
    Start,
    End,
}

impl Guarded {
    fn new() -> Self {
        let len = NonZeroUsize::new(ROOM + 2 * PAGE).unwrap();
        // SAFETY: a fresh mapping, and its first and last page are no one else's.
        unsafe {
            let flags = MapFlags::MAP_PRIVATE;
            let all = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let base = mmap_anonymous(None, len, all, flags).unwrap();
            mprotect(base, PAGE, ProtFlags::PROT_NONE).unwrap();
            mprotect(base.byte_add(PAGE + ROOM), PAGE, ProtFlags::PROT_NONE).unwrap();
            Self(base.cast())
        }
    }

    /// The first or last `len` bytes.
    fn bytes(&mut self, at: At, len: usize) -> &mut [u8] {
        assert!(len <= ROOM);
        let start = match at {
            At::Start => PAGE,
            At::End => PAGE + ROOM - len,
        };
        // SAFETY: inside the mapping, zeroed when mapped, and borrowed from `self`.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr().add(start), len) }
    }

    fn digests(&mut self, at: At, count: usize) -> &mut [Digest] {
        let bytes = self.bytes(at, 32 * count);
        // SAFETY: a digest is a transparent array of 32 bytes.
        unsafe { slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no borrow is left.
        unsafe { munmap(self.0.cast(), ROOM + 2 * PAGE) }.unwrap();
    }
}

fn paint(bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = (i * 7 + i / 251) as u8;
    }
}

fn hashers() -> Vec<CpuHasher> {
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let mut hashers = vec![CpuHasher::with_pool(Arc::clone(&pool))];
    for info in CpuHasher::kernels() {
        if let Ok(hasher) = CpuHasher::pinned(info.name) {
            hashers.push(hasher.on_pool(Arc::clone(&pool)));
        }
    }
    hashers
}

/// Says which kernels `hashers` were, and which not. `.ci/kernels` reads it.
fn say_what_ran() {
    for info in CpuHasher::kernels() {
        match info.why_not {
            None => println!("KERNEL TESTED: {}", info.name),
            Some(why_not) => println!("!!! KERNEL NOT TESTED: {}: {why_not}", info.name),
        }
    }
}

#[test]
fn messages_stay_inside_their_arena() {
    let (mut arena, mut outs) = (Guarded::new(), Guarded::new());
    let hashers = hashers();
    for at in [At::Start, At::End] {
        // One message that fills its arena, of every length; then several; then a window and more.
        let lone = (0..400).map(|len| (1, len));
        let several =
            [2, 3, 4, 5, 8, 15, 17, 33].into_iter().flat_map(|n| (0..140).map(move |len| (n, len)));
        for (count, len) in lone.chain(several).chain([(1100, 61), (1100, 200)]) {
            let arena = arena.bytes(at, (count * len) as usize);
            paint(arena);
            let spans: Vec<_> = (0..count).map(|i| Span { offset: i * len, len }).collect();
            let out = outs.digests(at, spans.len());
            for hasher in &hashers {
                out.fill(Digest::ZERO);
                hasher.messages(&mut [MessageGroup { arena, spans: &spans, out }]).unwrap();
                for (span, out) in spans.iter().zip(&*out) {
                    let expected = hash_message(span.of(arena).unwrap());
                    assert_eq!(*out, expected, "{hasher:?}, {count} of {len} bytes, {at:?}");
                }
            }
        }
    }
    say_what_ran();
}

#[test]
fn nodes_stay_inside_their_level() {
    let (mut children, mut outs) = (Guarded::new(), Guarded::new());
    let hashers = hashers();
    for at in [At::Start, At::End] {
        for count in (1..70).chain([128, 129, 1000]) {
            paint(children.bytes(at, 64 * count));
            let children = children.digests(at, 2 * count);
            let out = outs.digests(at, count);
            let parents: Vec<_> = (0..count as u32).collect();
            let expected: Vec<_> = (children.as_chunks().0.iter())
                .map(|[left, right]| hash_node(7, left, right))
                .collect();
            for hasher in &hashers {
                out.fill(Digest::ZERO);
                hasher.pairs(7, &mut [PairGroup { children, out }]).unwrap();
                assert_eq!(out, expected, "{hasher:?}, {count} pairs, {at:?}");
                out.fill(Digest::ZERO);
                let mut group = [IndexedPairGroup { children, parents: &parents, out }];
                hasher.indexed_pairs(7, &mut group).unwrap();
                assert_eq!(out, expected, "{hasher:?}, {count} indexed pairs, {at:?}");
            }
        }
    }
    say_what_ran();
}
