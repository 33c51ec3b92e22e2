//! Damage at rest, the quick run: every 151st byte of what must be whole, and some at random.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow_testkit::Limit;
use hedgerow_torture::flips::{Memory, Plan, run};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[test]
fn damage_is_reported_or_does_not_matter() {
    let _limit = Limit::new();
    let memory = Memory {
        now: || ALLOCATOR.current_usage(),
        peak: || ALLOCATOR.peak_usage(),
        reset: || ALLOCATOR.reset_peak_usage(),
    };
    let plan = Plan { seed: 10, count: 150, stride: 151, workers: 2, only_index: false };
    let report = run(plan, memory).unwrap();
    println!("{report}");
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    // It tries what it says: of both kinds there are many.
    assert!(report.cases > 200 && report.unaffected > 30, "{report}");
    assert!(report.cases - report.unaffected > 100, "{report}");
}
