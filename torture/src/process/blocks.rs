//! The block of a height: always the same for a seed, whichever process makes it.
//!
//! ```text
//!  all       empty, small, large and manifold blocks; deletes, creations anew, values up to 60,000
//!            bytes, extra data
//!  LIVED     before these, WARM_UP blocks of ten times every key, the same for every seed with this
//!            bit: they move all sentries of the genesis log, so that pruning can begin
//! ```

use super::{Doing, Failure};
use hedgerow::{Block, Error, Height, Store};
use hedgerow_testkit::model::NetChangeSet;
use hedgerow_testkit::recipe::SplitMix64;

/// Keys that the blocks choose from.
pub const KEYS: u64 = 700;

/// The last height of the blocks that only move sentries, where a seed has [`LIVED`].
pub const WARM_UP: u64 = 26;

/// The bit of the seeds of stores that have lived for a while.
pub const LIVED: u64 = 1 << 63;

/// What a block asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its height.
    pub height: u64,
    /// Puts and deletes.
    pub change_sets: Vec<NetChangeSet>,
    /// Extra data.
    pub extra: Vec<u8>,
}

/// A generator for one purpose: numbers that belong to different purposes have nothing in common.
pub fn draws(seed: u64, purpose: &str, number: u64) -> SplitMix64 {
    let word = purpose.bytes().fold(seed, |word, byte| word.rotate_left(9) ^ u64::from(byte));
    let mut first = SplitMix64::new(word);
    SplitMix64::new(first.next_u64() ^ SplitMix64::new(number).next_u64())
}

/// The key with this number, 8 to 40 bytes.
pub fn key(id: u64) -> Vec<u8> {
    id.to_be_bytes().repeat(1 + (id % 5) as usize)
}

impl Plan {
    /// The block at `height`.
    pub fn new(seed: u64, height: u64) -> Self {
        if seed & LIVED > 0 && height <= WARM_UP {
            let all = |set| (0..KEYS).map(|id| (key(id), Some(vec![set; 4]))).collect();
            return Self { height, change_sets: (0..10).map(all).collect(), extra: Vec::new() };
        }
        let mut draws = draws(seed, "block", height);
        let (sets, keys, longest) = match draws.below(16) {
            // Compaction goes on, so that twigs die and pruning has something to free.
            8.. if seed & LIVED > 0 => (4, 700, 20),
            0 => (0, 0, 0),
            1 => (1, 0, 0),
            2 => (1, 400, 120),
            3 => (1, 3, 60_000),
            4..8 => (3, 25, 300),
            _ => (1, 50, 300),
        };
        let change_sets = (0..sets).map(|_| change_set(&mut draws, keys, longest)).collect();
        let extra = match draws.below(8) {
            0 => vec![draws.next_u64() as u8; draws.below(5_000) as usize],
            1..4 => height.to_be_bytes().to_vec(),
            _ => Vec::new(),
        };
        Self { height, change_sets, extra }
    }

    /// Begins the block in a store and enters everything.
    ///
    /// # Errors
    /// Those of the store.
    pub fn begin<'s>(&self, store: &'s mut Store) -> Result<Block<'s>, Error> {
        let mut block = store.begin_block(Height(self.height))?;
        for (number, change_set) in self.change_sets.iter().enumerate() {
            if number > 0 {
                block.next_change_set()?;
            }
            for (key, value) in change_set {
                match value {
                    Some(value) => block.put(key, value)?,
                    None => block.delete(key)?,
                }
            }
        }
        block.set_extra(self.extra.clone())?;
        Ok(block)
    }

    /// Commits the block and waits until it is durable.
    ///
    /// # Errors
    /// Those of the store, as text.
    pub fn write(&self, store: &mut Store) -> Result<(), Failure> {
        let what = format!("block {}", self.height);
        let ticket = self.begin(store).and_then(|mut block| block.submit()).doing(&what)?;
        ticket.durable().doing(&what)
    }
}

fn change_set(draws: &mut SplitMix64, keys: u64, longest: u64) -> NetChangeSet {
    let count = if keys == 0 { 0 } else { 1 + draws.below(keys) };
    let op = |_| {
        let key = key(draws.below(KEYS));
        let len = match draws.below(20) {
            0..3 => 0,
            _ => draws.below(longest + 1),
        };
        let byte = draws.next_u64() as u8;
        (key, (draws.below(5) > 0).then(|| vec![byte; len as usize]))
    };
    (0..count).map(op).collect()
}
