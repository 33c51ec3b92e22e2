//! What does not hash starts no threads. Alone in its process: the threads are the process's.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use hedgerow_hasher_api::BatchHasher;
use hedgerow_hasher_cpu::CpuHasher;
use std::sync::Arc;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// C22: asking what a hasher can do started a thread per core, those of rayon's global pool.
#[test]
fn asking_what_it_can_do_starts_no_threads() {
    let hasher = CpuHasher::new();
    let before = threads();
    let alone = hasher.capabilities();
    assert_eq!(threads(), before);
    // What it says is of the pool that it is given, or is asked in.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let pool = Arc::new(pool);
    let single = CpuHasher::with_pool(Arc::clone(&pool)).capabilities();
    assert_eq!(pool.install(|| hasher.capabilities()), single);
    assert_eq!(single.full_speed_batch, single.lanes);
    assert_eq!(alone.lanes, single.lanes);
}
