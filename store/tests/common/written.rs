//! Stores that write, prune and make checkpoints all the time, and what was written to them.

use super::params;
use hedgerow::{Digest, Error, Height, Options, Reader, Store};
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::BTreeMap;
use std::path::Path;

const KEYS: u64 = 600;

/// What the blocks of a test have written: by height, the root and the changes.
#[derive(Clone, Default)]
pub(crate) struct Written(BTreeMap<Height, (Digest, Said)>);

/// Keys with their values.
type Said = Vec<(String, Option<String>)>;

impl Written {
    /// One more block, of random puts and deletes.
    pub(crate) fn block(&mut self, store: &mut Store, rng: &mut SplitMix64) -> Height {
        let mut block = store.next_block().unwrap();
        let mut ops = BTreeMap::new();
        for _ in 0..500 {
            let key = format!("key {}", rng.below(KEYS));
            let value = (rng.below(5) > 0).then(|| format!("{:x}", rng.next_u64()).repeat(3));
            ops.insert(key, value);
        }
        for (key, value) in &ops {
            match value {
                Some(value) => block.put(key, value).unwrap(),
                None => block.delete(key).unwrap(),
            }
        }
        let receipt = block.commit().unwrap();
        self.0.insert(receipt.height, (receipt.root, ops.into_iter().collect()));
        receipt.height
    }

    /// Root, history, and every key of the state at `height`.
    pub(crate) fn check(&self, reader: &Reader, height: Height, history_from: Height) {
        assert_eq!(reader.root(), (height, self.0[&height].0));
        let mut state = BTreeMap::new();
        for (at, (root, ops)) in self.0.range(..=height) {
            if *at >= history_from {
                assert_eq!(reader.root_at(*at).unwrap(), *root, "history of {at}");
            }
            state.extend(ops.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        for (key, value) in &state {
            let found = reader.get(key).unwrap();
            assert_eq!(found, value.clone().map(String::into_bytes), "{key} at {height}");
        }
        assert_eq!(reader.iter().count(), state.values().flatten().count());
        if history_from > Height(1) {
            let before = Height(history_from.0 - 1);
            assert!(matches!(reader.root_at(before), Err(Error::HeightUnavailable { .. })));
        }
    }
}

/// Small segments, little history, a manifest every few blocks, many checkpoints.
pub(crate) fn busy(options: Options) -> Options {
    let options = options.segment_bytes(64 << 10).keep_heights(4).keep_history(6);
    options.manifest_blocks(3).checkpoint_bytes(300 << 10)
}

pub(crate) fn create(path: &Path, options: Options) -> Store {
    Store::create(path, params(1, 2, 1), options).unwrap()
}
