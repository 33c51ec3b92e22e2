//! What the store says through `tracing`, to somebody who asks back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::dir;
use common::disks::{GONE, gone_for};
use common::said::listen;
use hedgerow::{Height, Options, Reader, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_vfs::VfsOp;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tracing::Level;

#[test]
fn a_subscriber_may_ask_the_store() {
    let _limit = Limit::new();
    let reader = Arc::new(OnceLock::<Reader>::new());
    let asked = Arc::new(AtomicUsize::new(0));
    let (reader_of, count) = (Arc::clone(&reader), Arc::clone(&asked));
    listen(Level::TRACE, move |_| {
        if let Some(reader) = reader_of.get() {
            assert!(reader.durable_height() <= reader.height());
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (disk, gone) = gone_for(&[VfsOp::Sync]);
    let options = Options::default().disk(disk);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    reader.set(store.reader()).unwrap();
    gone.store(true, Ordering::SeqCst);
    let ticket = store.begin_block(Height(1)).unwrap().submit().unwrap();
    assert!(ticket.durable().unwrap_err().to_string().contains(GONE));
    drop(store);
    assert!(asked.load(Ordering::SeqCst) > 0, "the store said nothing");
}
