//! Every way to die while a store is made: at each call that changes the disk the process goes, the
//! next process makes the store and hands in a block, and then the power goes.
//!
//! ```text
//!   create ──── dies at call k ──► open_or_create ► block 1 durable ► close ──► power loss
//!                (machine on)                                                      │
//!                                            open_or_create finds block 1 ◄────────┘
//! ```
//!
//! What the first attempt did and did not make durable (directories, the mark `CREATING`, its removal)
//! is found by the second and believed: nothing makes it durable but what the second does.

use super::session::dir;
use hedgerow::{Error, Height, Options, Store, StoreParams};
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::sync::Arc;

/// Tries every call; returns how many ways there were, and what was lost.
///
/// # Errors
/// If a store cannot be made without a fault.
pub fn every_creation(seed: u64) -> Result<(u64, Vec<String>), String> {
    let disk = PowerLossDisk::new(seed);
    make(&disk).and_then(Store::close).map_err(|error| error.to_string())?;
    let calls = disk.trace().changes;
    let mut ways = 0;
    let mut lost = Vec::new();
    for after in 0..calls {
        for kind in [FaultKind::PowerOff, FaultKind::Denied] {
            ways += 1;
            if let Err(what) = die_at(after, kind, seed.wrapping_add(after)) {
                lost.push(format!("the first attempt ended ({kind:?}) at change {after}: {what}"));
            }
        }
    }
    Ok((ways, lost))
}

fn make(disk: &PowerLossDisk) -> Result<Store, Error> {
    let options = Options::new().disk(Arc::new(disk.clone())).threads(1).segment_bytes(1 << 20);
    Store::open_or_create(dir(), StoreParams::default(), options)
}

fn die_at(after: u64, kind: FaultKind, seed: u64) -> Result<(), String> {
    let disk = PowerLossDisk::new(seed);
    disk.plan(Fault::once(Calls::Changes, after, kind));
    // Mostly an error; at the last calls the store is there already.
    drop(make(&disk));
    let disk = disk.process_death();
    let mut store = make(&disk).map_err(|error| format!("the second attempt: {error}"))?;
    let root = if store.height() == Height(0) {
        let put = |store: &mut Store| {
            let mut block = store.begin_block(Height(1))?;
            block.put("key", "value")?;
            let ticket = block.submit()?;
            ticket.durable()?;
            ticket.root()
        };
        put(&mut store).map_err(|error| format!("the first block: {error}"))?
    } else {
        return Err(format!("a new store has height {}", store.height()));
    };
    store.close().map_err(|error| format!("closing: {error}"))?;
    let disk = disk.lose_all_unsynced();
    let store = make(&disk).map_err(|error| format!("opening after power loss: {error}"))?;
    match store.reader().root() {
        (Height(1), found) if found == root => Ok(()),
        found => Err(format!("block 1 was durable with root {root}, {found:?} came back")),
    }
}
