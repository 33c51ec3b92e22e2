//! A store beside the keys and values that it must have.

use hedgerow::Store;
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::BTreeMap;

pub(crate) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store beside the keys and values that it must have.
pub(crate) struct Twin {
    rng: SplitMix64,
    pub(crate) pairs: Pairs,
    pub(crate) keys: u64,
}

impl Twin {
    pub(crate) fn new(seed: u64, keys: u64) -> Self {
        println!("seed {seed}");
        Self { rng: SplitMix64::new(seed), pairs: Pairs::new(), keys }
    }

    /// Keys that come, change and go.
    pub(crate) fn block(&mut self, stores: &mut [&mut Store], ops: u64) {
        let changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = (0..ops)
            .map(|_| {
                let key = format!("key {}", self.rng.below(self.keys)).into_bytes();
                let gone = self.rng.below(5) == 0;
                (key, (!gone).then(|| self.rng.next_u64().to_le_bytes().to_vec()))
            })
            .collect();
        let mut roots = Vec::new();
        for store in stores {
            let mut block = store.next_block().unwrap();
            for (key, value) in &changes {
                match value {
                    Some(value) => block.put(key, value).unwrap(),
                    None => block.delete(key).unwrap(),
                }
            }
            roots.push(block.commit().unwrap().root);
        }
        assert!(roots.windows(2).all(|two| two[0] == two[1]));
        for (key, value) in changes {
            match value {
                Some(value) => drop(self.pairs.insert(key, value)),
                None => drop(self.pairs.remove(&key)),
            }
        }
    }

    pub(crate) fn compare(&self, store: &Store) {
        let reader = store.reader();
        for number in 0..self.keys {
            let key = format!("key {number}").into_bytes();
            assert_eq!(reader.get(&key).unwrap(), self.pairs.get(&key).cloned(), "key {number}");
        }
        let mut all = Pairs::new();
        for pair in reader.iter() {
            let (key, value) = pair.unwrap();
            assert!(all.insert(key, value).is_none(), "a key twice");
        }
        assert!(all == self.pairs);
    }
}
