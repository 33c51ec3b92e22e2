//! What the store says through `tracing`, to somebody who asks back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk};
use hedgerow::{Height, Options, Reader, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_vfs::{Hook, HookedDisk, VfsCall, VfsOp};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Asks the store how far it is whenever it says something.
#[derive(Clone, Default)]
struct AsksBack {
    reader: Arc<OnceLock<Reader>>,
    asked: Arc<AtomicUsize>,
}

impl Subscriber for AsksBack {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("hedgerow")
    }
    fn event(&self, _: &Event<'_>) {
        if let Some(reader) = self.reader.get() {
            assert!(reader.durable_height() <= reader.height());
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_subscriber_may_ask_the_store() {
    let _limit = Limit::new();
    let subscriber = AsksBack::default();
    tracing::subscriber::set_global_default(subscriber.clone()).unwrap();
    let fail = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fail);
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        if flag.load(Ordering::SeqCst) && call.op == VfsOp::Sync {
            return Err(call.error(std::io::Error::other("the disk is gone")));
        }
        Ok(())
    });
    let options = Options::default().disk(Arc::new(HookedDisk::new(disk(), hook)));
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    subscriber.reader.set(store.reader()).unwrap();
    fail.store(true, Ordering::SeqCst);
    let ticket = store.begin_block(Height(1)).unwrap().submit().unwrap();
    assert!(ticket.durable().unwrap_err().to_string().contains("the disk is gone"));
    drop(store);
    assert!(subscriber.asked.load(Ordering::SeqCst) > 0, "the store said nothing");
}
