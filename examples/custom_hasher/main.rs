//! A hashing backend of one's own: SHA-256 one message after the other with the crate `sha2`, counted.
//!
//! ```text
//!   tree ── all messages of a block, or all dirty nodes of a level, in one call ──► BatchHasher
//!              messages        out[i] = SHA-256(arena[spans[i]])                      yours
//!              pairs           out[i] = node(level, children[2i], children[2i+1])
//!              indexed_pairs   the same for chosen parents
//! ```
//!
//! What to copy: [`OneByOne`], all that a backend has to have. A real one would hash a whole batch at a time: in
//! SIMD lanes, on a device, by an accelerator. Whatever it is, roots are the same, and that is checked here. A
//! backend that can be wrong or go away is put behind `hedgerow::hasher::Guarded`. The hashes of keys are never
//! asked of it: they are the CPU's.
//!
//! Run it with `cargo run --release -p hedgerow-examples --bin custom_hasher`.

use hedgerow::hasher::{
    BatchHasher, Capabilities, HashError, IndexedPairGroup, MessageGroup, PairGroup,
};
use hedgerow::{Digest, Height, Options, Store, StoreParams};
use sha2::{Digest as _, Sha256};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The backend. Threads call it at the same time, so what it counts is atomic.
#[derive(Debug, Default)]
struct OneByOne {
    messages: AtomicU64,
    nodes: AtomicU64,
}

impl OneByOne {
    /// A node of the tree: SHA-256 of the children's level, the left and the right child.
    fn node(&self, level: u8, children: &[Digest; 2]) -> Digest {
        self.nodes.fetch_add(1, Ordering::Relaxed);
        let [left, right] = children;
        let hash = Sha256::new().chain_update([level]).chain_update(left).chain_update(right);
        Digest(hash.finalize().into())
    }
}

impl BatchHasher for OneByOne {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "one-by-one".into(),
            device: "sha2 crate".into(),
            lanes: 1,
            full_speed_batch: 1,
            is_device: false,
        }
    }

    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        // Shapes first: a malformed batch is an error before anything is written, never a panic.
        groups.iter().try_for_each(MessageGroup::check)?;
        for group in groups {
            for (span, out) in group.spans.iter().zip(&mut *group.out) {
                let message = span.of(group.arena).ok_or(HashError::Shape("outside its arena"))?;
                self.messages.fetch_add(1, Ordering::Relaxed);
                *out = Digest(Sha256::digest(message).into());
            }
        }
        Ok(())
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        groups.iter().try_for_each(PairGroup::check)?;
        for group in groups {
            for (children, out) in group.children.as_chunks().0.iter().zip(&mut *group.out) {
                *out = self.node(level, children);
            }
        }
        Ok(())
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        groups.iter().try_for_each(IndexedPairGroup::check)?;
        for group in groups {
            let (children, _) = group.children.as_chunks();
            for &parent in group.parents {
                // `check` has seen that it is inside. The other elements of `out` stay as they are.
                group.out[parent as usize] = self.node(level, &children[parent as usize]);
            }
        }
        Ok(())
    }
}

/// The roots after some blocks, which are always the same.
fn roots(path: &Path, options: Options) -> Result<Vec<Digest>, Box<dyn Error>> {
    let mut store = Store::create(path, StoreParams::default(), options)?;
    println!("hashing with {}", store.stats().hasher.name);
    let mut roots = vec![];
    for number in 0..20_u32 {
        let mut block = store.next_block()?;
        for key in 0..300 {
            block.put(format!("key {}", (number * 97 + key) % 1000), number.to_le_bytes())?;
        }
        block.delete(format!("key {}", number * 53))?;
        roots.push(block.commit()?.root);
    }
    store.check()?; // every hash once more, by the store's own backend
    store.close()?;
    Ok(roots)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let ours = Arc::new(OneByOne::default());
    let path = dir.path().join("ours");
    let by_us = roots(&path, Options::new().hasher(Arc::clone(&ours) as Arc<dyn BatchHasher>))?;
    let by_cpu = roots(&dir.path().join("cpu"), Options::new().hasher_named("cpu"))?;
    assert_eq!(by_us, by_cpu, "a root depends on the blocks alone");

    let messages = ours.messages.load(Ordering::Relaxed);
    let nodes = ours.nodes.load(Ordering::Relaxed);
    assert!(messages > 20 * 300 && nodes > messages, "it was asked: {messages}, {nodes}");
    println!("{} blocks, the same roots; {messages} entries and {nodes} nodes hashed", by_us.len());

    // Options may differ at every open: the CPU goes on where the other backend left off.
    let store = Store::open(&path, Options::default())?;
    assert_eq!(store.reader().root(), (Height(20), by_cpu[19]));
    println!("root {}", by_cpu[19]);
    Ok(store.close()?)
}
