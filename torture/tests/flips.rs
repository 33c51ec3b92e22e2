//! Damage at rest, the quick run: every 47th byte of what must be whole, and some hundred at random.
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
    let plan = Plan { seed: 10, count: 300, stride: 47, workers: 2 };
    let report = run(plan, memory).unwrap();
    println!("{report}");
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    // It tries what it says: of both kinds there are many.
    assert!(report.cases > 450 && report.unaffected > 50, "{report}");
    assert!(report.cases - report.unaffected > 250, "{report}");
}
