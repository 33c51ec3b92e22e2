//! Options that could do nothing are refused, or the log says so: nobody believes in a setting that has
//! no effect. One test: what is said is said to the process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::said::listen;
use common::{dir, disk, on, params};
use hedgerow::hasher::{Tuning, by_name};
use hedgerow::{Durability, Error, Options, Store, StoreParams};
use hedgerow_testkit::Limit;
use std::sync::{Arc, Mutex};
use tracing::Level;

/// Keeps what the store says, at info and above.
#[derive(Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    /// What was said with this word in it since the last look.
    fn take(&self, word: &str) -> Vec<String> {
        let said = std::mem::take(&mut *self.0.lock().unwrap());
        said.into_iter().filter(|line| line.contains(word)).collect()
    }
}

/// Writes some blocks over few keys, and returns the store.
fn blocks(params: StoreParams, options: Options, count: u64) -> Store {
    let mut store = Store::create(dir(), params, options).unwrap();
    for _ in 0..count {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for key in 0..500 {
            block.put(format!("key {key}"), format!("{height}")).unwrap();
        }
        block.submit().unwrap();
    }
    store.flush().unwrap();
    store
}

#[test]
fn what_does_nothing_is_refused_or_said() {
    let _limit = Limit::new();
    let said = Said::default();
    let lines = Arc::clone(&said.0);
    listen(Level::INFO, move |line| lines.lock().unwrap().push(line));

    // The tuning of a device, where there is none, or where it was made by somebody else.
    let tuning = Tuning { check_one_of: 10, resident_from: None };
    for options in [
        on(&disk()).device_tuning(tuning),
        on(&disk()).device_tuning(Tuning::default()),
        on(&disk()).hasher_named("scalar").device_tuning(tuning),
        on(&disk()).hasher_named("cpu:portable").device_tuning(tuning),
        on(&disk()).hasher(by_name("cpu").unwrap()).device_tuning(tuning),
        on(&disk()).device_tuning(tuning).hasher(by_name("auto").unwrap()),
    ] {
        let refused = Store::create(dir(), StoreParams::default(), options);
        let Err(Error::Option { option, reason }) = refused else { panic!("{refused:?}") };
        assert_eq!(option, "device_tuning", "{reason}");
    }
    // It is for `auto` to find out whether there is a device.
    let auto = on(&disk()).hasher_named("auto").device_tuning(tuning);
    let store = Store::create(dir(), StoreParams::default(), auto).unwrap();
    let lines = said.take("device_tuning");
    assert_eq!(lines.len(), usize::from(!store.stats().hasher.is_device), "{lines:?}");
    drop(store);

    // Files that a disk cannot map.
    for (options, expected) in
        [(on(&disk()).mapped_bytes(1 << 20), 1), (on(&disk()).mapped_bytes(0), 0), (on(&disk()), 0)]
    {
        said.take("");
        drop(Store::create(dir(), StoreParams::default(), options).unwrap());
        let lines = said.take("mapped_bytes");
        assert_eq!(lines.len(), expected, "{lines:?}");
    }

    // Less history than pruning needs.
    for (options, expected) in [
        (on(&disk()).keep_history(3).keep_heights(5), 1),
        (on(&disk()).keep_history(1).keep_heights(1).max_in_flight(2), 1),
        (on(&disk()).keep_history(6).keep_heights(5), 0),
        (on(&disk()).keep_history(3).max_in_flight(2), 0),
        (on(&disk()).keep_history(5), 0),
        (on(&disk()).keep_heights(5), 0),
        (on(&disk()).keep_heights(5_000), 0),
        (on(&disk()).keep_all(), 0),
        (on(&disk()), 0),
    ] {
        said.take("");
        drop(Store::create(dir(), StoreParams::default(), options).unwrap());
        let lines = said.take("keep_history");
        assert_eq!(lines.len(), expected, "{lines:?}");
    }

    // Pruning under a rule that never compacts: once, however many blocks.
    let small = |heights: u64| on(&disk()).segment_bytes(50_000).keep_heights(heights);
    for (params, options, expected) in [
        (params(1 << 30, 1, 1), small(1), 1),
        (params(1 << 30, 1, 1), small(1).keep_all(), 0),
        (params(1, 1, 1), small(1), 0),
        (StoreParams::default(), small(1), 0),
    ] {
        said.take("");
        let mut store = blocks(params, options, 40);
        store.check().unwrap();
        let lines = said.take("keep_heights");
        assert_eq!(lines.len(), expected, "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with("WARN")), "{lines:?}");
    }

    // Durability of each block, for those who hand blocks in and do not wait: once.
    for (durability, expected) in [(Durability::EachBlock, 1), (Durability::Pipelined, 0)] {
        said.take("");
        let options = on(&disk()).durability(durability);
        let mut store = blocks(StoreParams::default(), options, 3);
        let height = store.height().next();
        store.submit_tasks(height, &[], []).unwrap();
        let height = store.height().next();
        store.begin_block(height).unwrap().commit().unwrap();
        let lines = said.take("durability");
        assert_eq!(lines.len(), expected, "{lines:?}");
    }
    said.take("");
    let options = on(&disk()).durability(Durability::EachBlock);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    for height in 1..4 {
        store.begin_block(hedgerow::Height(height)).unwrap().commit().unwrap();
    }
    assert_eq!(said.take("durability"), Vec::<String>::new(), "commit waits");
}
