//! The rows above the leaves on a device, for blocks that make many nodes dirty.
//!
//! ```text
//!  CPU      rows of all shards (always complete)     top levels, state tree ─► root     all rows
//!             │ changed pages, flipped bits, left roots      ▲ top row            dirty nodes ▲
//!             ▼                                              │                                │
//!  device   pages ─► l1 ─► l2 ─► joins ─► twig roots ─► ... ─► top row, 64 places per shard ──┘
//! ```
//!
//! Where nodes lie is [`ring`]'s affair, what goes up [`mirror`]'s, what comes down and is checked
//! [`hashing`]'s. A tree that outgrows its rings is loaded anew into longer ones.
//!
//! **Invariants:**
//! * The CPU's rows get every node that the device computes: proofs, pruning and publishing know
//!   nothing of the device.
//! * An error of the device or a wrong digest among the samples costs a block that is hashed on the
//!   CPU, never a root; only if the root was announced before, and the CPU comes to another, the
//!   block fails.

mod hashing;
mod mirror;
mod ring;

use crate::MerkleError;
use crate::dirty::Dirty;
use crate::levels::above_pages;
use crate::shard::SharedTree;
use crate::work::ShardWork;
use hashing::OnDevice;
use hedgerow_hasher_api::{BatchHasher, Residency};
use hedgerow_types::SHARDS;
use mirror::Mirror;

pub(crate) use mirror::Block;

/// Told once all shard roots are in their rows, before other nodes are.
pub(crate) type RootKnown<'a> = dyn FnMut(&[SharedTree; SHARDS]) -> Result<(), MerkleError> + 'a;

/// A forest's rows on a device, if there is one. See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Resident {
    mirror: Option<Mirror>,
    /// A device that could not take the rows or failed; it is not asked again.
    refused: Option<u64>,
    /// No device is asked for rows: this is one of many forests of the same tree.
    apart: bool,
}

impl Resident {
    /// For a forest that has no rows on any device, whatever the hasher offers.
    pub(crate) fn apart() -> Self {
        Self { apart: true, ..Self::default() }
    }

    /// For a clone of the forest.
    pub(crate) fn of_clone(&self) -> Self {
        Self { apart: self.apart, ..Self::default() }
    }

    /// Hashes everything above the dirty pages and the new left roots on the device of `hasher`,
    /// if it has one and the block is worth it. Returns whether the rows are done; if not, they are
    /// as they were or hold some of the new nodes, and `works` may be used up.
    pub(crate) fn flush(
        &mut self,
        hasher: &dyn BatchHasher,
        shards: &mut [SharedTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
        block: Block<'_>,
        root_known: &mut RootKnown<'_>,
    ) -> bool {
        let Some(device) = hasher.residency().filter(|_| !self.apart) else {
            self.mirror = None;
            return false;
        };
        let id = device.id();
        self.mirror.take_if(|mirror| mirror.device != id);
        if self.refused == Some(id) {
            return false;
        }
        let pages = block.dirty.shards.iter().map(|shard| shard.pages.len()).sum::<usize>();
        if pages < device.worth_from() {
            self.fall_behind(block.dirty, shards);
            return false;
        }
        let kept = self.mirror.take().filter(|mirror| mirror.ring.holds(shards));
        let fresh = kept.is_none();
        let done = kept.map_or_else(|| Ok(Mirror::open(device, shards)?), Ok).and_then(|mirror| {
            run(mirror, hasher, device, shards, works, (!fresh).then_some(block), root_known)
        });
        match done {
            Ok(mirror) => {
                self.mirror = Some(mirror);
                true
            }
            Err(error) => {
                if let MerkleError::Hash(error) = &error {
                    device.condemn(error);
                }
                self.refused = Some(id);
                false
            }
        }
    }

    /// Notes what changed without the device. What has fallen too far behind is dropped: loading it
    /// anew costs no more.
    pub(crate) fn fall_behind(&mut self, dirty: &Dirty, shards: &[SharedTree; SHARDS]) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.behind.merge(dirty);
        let behind = mirror.behind.shards.iter().map(|shard| shard.pages.len()).sum::<usize>();
        let held = shards.iter().map(|tree| tree.bits.pages.live().len()).sum::<usize>();
        if behind > held / 4 {
            self.mirror = None;
        }
    }
}

/// Brings the device up to date, hashes, calls `root_known` as soon as the shard roots are in
/// their rows, and fetches the other nodes. `block`: what the device has not seen; `None` if the
/// rows were just loaded.
fn run(
    mut mirror: Mirror,
    hasher: &dyn BatchHasher,
    device: &dyn Residency,
    shards: &mut [SharedTree; SHARDS],
    works: &mut [ShardWork; SHARDS],
    block: Option<Block<'_>>,
    root_known: &mut RootKnown<'_>,
) -> Result<Mirror, MerkleError> {
    if let Some(block) = block {
        mirror.follow(shards, works, block)?;
    }
    mirror.note_ends(shards);
    let mut hashing = OnDevice::new(&mut mirror, hasher, device.check_one_of(), shards);
    above_pages(&mut hashing, shards, works)?;
    hashing.top(shards)?;
    root_known(shards)?;
    device.hashed(hashing.finish(shards)?);
    Ok(mirror)
}
