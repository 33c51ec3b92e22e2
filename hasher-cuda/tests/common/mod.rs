//! The driver that the tests run on: the fake one, or with `HEDGEROW_REQUIRE_CUDA=1` the machine's.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, not all used by each"
)]

use hedgerow_fake_cuda::control::FakeCuda;
use hedgerow_hasher_api::{
    BatchHasher, HashError, IndexedPairGroup, LeftTree, MessageGroup, PairGroup, Span, hash_message,
};
use hedgerow_hasher_cuda::devices;
use hedgerow_hasher_device::Queue;
use hedgerow_types::{Digest, TWIG_LEAVES};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The driver, lent to one test at a time. At the end of the test the fake one must have seen
/// nothing forbidden, and nothing may live in it.
#[derive(Debug)]
pub(crate) struct Driver {
    fake: Option<&'static FakeCuda>,
    _alone: MutexGuard<'static, ()>,
}

static FAKE: LazyLock<FakeCuda> = LazyLock::new(|| FakeCuda::load().unwrap());

pub(crate) fn driver() -> Driver {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os("HEDGEROW_REQUIRE_CUDA").is_some_and(|value| value == "1") {
        let usable = devices().unwrap().into_iter().filter(|info| info.why_not.is_none());
        assert!(usable.count() > 0, "HEDGEROW_REQUIRE_CUDA=1, and no device is usable");
        return Driver { fake: None, _alone: alone };
    }
    FAKE.configure(12_080, 3).unwrap();
    FAKE.forget().unwrap();
    Driver { fake: Some(&FAKE), _alone: alone }
}

impl Driver {
    /// The fake driver. `None` on a device: says loudly that the test does not run.
    pub(crate) fn fake(&self, test: &str) -> Option<&'static FakeCuda> {
        if self.fake.is_none() {
            println!("!!! NOT RUN: {test}: it needs the fake driver, not a device");
        }
        self.fake
    }

    pub(crate) fn is_fake(&self) -> bool {
        self.fake.is_some()
    }

    /// Ordinals of all usable devices.
    pub(crate) fn ordinals(&self) -> Vec<u32> {
        let devices = devices().unwrap().into_iter();
        devices.filter(|info| info.why_not.is_none()).map(|info| info.ordinal).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(fake) = self.fake.filter(|_| !std::thread::panicking()) else { return };
        assert_eq!(fake.violations().unwrap(), [""; 0]);
        let live = fake.live().unwrap();
        assert!(live.values().all(|&count| count == 0), "{live:?}");
    }
}

pub(crate) fn digests(count: usize) -> Vec<Digest> {
    (0..count as u32).map(|i| hash_message(&i.to_le_bytes())).collect()
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn bytes_of(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(|digest| digest.0).collect()
}

/// A buffer with these contents.
pub(crate) fn buffer<Q: Queue>(queue: &mut Q, bytes: &[u8]) -> Q::Buffer {
    let buffer = queue.allocate(bytes.len() as u64).unwrap();
    let fill = &mut |staging: &mut [u8]| staging.copy_from_slice(bytes);
    queue.upload(&buffer, 0, bytes.len() as u64, fill).unwrap();
    buffer
}

/// One call of every operation.
pub(crate) fn everything(hasher: &dyn BatchHasher) -> Result<Vec<Digest>, HashError> {
    let nodes = digests(2 * TWIG_LEAVES);
    let arena: Vec<u8> = (0..200_000_u32).map(|i| (i / 3) as u8).collect();
    let mut out = vec![Digest::ZERO; 1100];
    let (pairs, rest) = out.split_at_mut(13);
    let (indexed, rest) = rest.split_at_mut(20);
    let (messages, rest) = rest.split_at_mut(12);
    let (many, _) = rest.split_at_mut(1030);
    hasher.pairs(3, &mut [PairGroup { children: &nodes[..26], out: pairs }])?;
    let parents = &[0, 2, 3, 5, 8, 13, 19];
    hasher.indexed_pairs(4, &mut [IndexedPairGroup { children: &nodes, parents, out: indexed }])?;
    let lens = [0, 3, 64, 130, 2000, 56, 55, 119, 120, 5, 1000, 700];
    let spans = lens.map(|len| Span { offset: len, len });
    hasher.messages(&mut [MessageGroup { arena: &arena, spans: &spans, out: messages }])?;
    // Two chunks of the smallest size.
    hasher.pairs(7, &mut [PairGroup { children: &nodes[..2060], out: many }])?;
    let mut trees = LeftTree::new(2);
    hasher.left_trees(&mut [trees.group(&nodes, 0..nodes.len())])?;
    out.extend(trees.levels().iter().flatten());
    Ok(out)
}
