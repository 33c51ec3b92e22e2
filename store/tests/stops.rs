//! How a store stops: what is told as the cause, and to whom, while others ask at the same time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on};
use hedgerow::hasher::BatchHasher;
use hedgerow::{Height, Store, StoreParams};
use hedgerow_hasher_api::{HookedHasher, ScalarHasher};
use hedgerow_testkit::Limit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ON_PURPOSE: &str = "this panic is part of the test";

/// A backend that panics in the tree pass, once told to.
fn panics(told: &Arc<AtomicBool>) -> Arc<dyn BatchHasher> {
    let told = Arc::clone(told);
    Arc::new(HookedHasher::new(Arc::new(ScalarHasher), move |call, inner| {
        assert!(!(call.is_tree() && told.load(Ordering::SeqCst)), "{ON_PURPOSE}");
        call.hash(inner)
    }))
}

/// Whoever finds a stage gone is told that it panicked, and not that it is gone.
#[test]
fn the_cause_is_the_panic() {
    let _limit = Limit::new();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(ON_PURPOSE) {
            hook(panic);
        }
    }));
    for round in 0..300 {
        let panic = Arc::new(AtomicBool::new(false));
        let options = on(&disk()).hasher(panics(&panic));
        let options = options.max_in_flight(1000).threads(1);
        let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
        panic.store(true, Ordering::SeqCst);
        for height in 1..5000 {
            let Ok(mut block) = store.begin_block(Height(height)) else { break };
            block.put("key", "value").unwrap();
            if block.submit().is_err() {
                break;
            }
        }
        let error = store.flush().unwrap_err().to_string();
        assert!(error.contains("hedgerow-hash: ended in a panic"), "round {round}: {error}");
    }
}
