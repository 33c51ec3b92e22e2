//! Many orders of events, and each of them again.
//!
//! `HEDGEROW_SCHEDULES` says how many schedules each test tries, `HEDGEROW_SEED` which. A failure prints
//! its schedule; with that in `HEDGEROW_SCHEDULE` the test that failed runs it and nothing else.

use crate::Limit;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `body` under many schedules of two kinds: any, and those that change threads at few points.
pub fn explore(body: fn()) {
    let _limit = Limit::new();
    if let Ok(schedule) = std::env::var("HEDGEROW_SCHEDULE") {
        return shuttle::replay(body, &schedule);
    }
    let given = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let schedules = given("HEDGEROW_SCHEDULES").unwrap_or(10_000) as usize;
    let seed = given("HEDGEROW_SEED").unwrap_or_else(random_seed);
    let tried = Tried { seed, number: Arc::default() };
    let number = &tried.number;
    run_with(RandomScheduler::new_from_seed(seed, schedules / 2), number, body);
    run_with(PctScheduler::new_from_seed(seed, 3, schedules - schedules / 2), number, body);
    assert_eq!(number.load(Ordering::SeqCst), schedules);
    println!("{schedules} schedules of seed {seed}");
}

fn run_with(scheduler: impl Scheduler + 'static, number: &Arc<AtomicUsize>, body: fn()) {
    let mut config = Config::new();
    // A loop that waits without letting others go on would be a defect of ours.
    config.max_steps = shuttle::MaxSteps::FailAfter(100_000);
    let number = Arc::clone(number);
    Runner::new(scheduler, config).run(move || {
        number.fetch_add(1, Ordering::SeqCst);
        body();
    });
}

/// Says, beside the schedule that shuttle prints, which one failed.
struct Tried {
    seed: u64,
    number: Arc<AtomicUsize>,
}

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let number = self.number.load(Ordering::SeqCst);
            eprintln!("failed in schedule {number} of HEDGEROW_SEED={}", self.seed);
        }
    }
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("random bytes");
    u64::from_le_bytes(bytes)
}
