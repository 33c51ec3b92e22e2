//! Plans from invented measurements, and what a real one must hold.

use super::*;
use std::collections::HashMap;

/// A kernel that is only a name and a number of lanes.
#[derive(Debug)]
struct Paper(&'static str, usize, bool);

impl Kernel for Paper {
    fn name(&self) -> &'static str {
        self.0
    }
    fn lanes(&self) -> usize {
        self.1
    }
    fn pads(&self) -> bool {
        self.2
    }
    fn nodes(&self, _: u8, _: &mut [NodeJob<'_>], _: &[NodeJob<'_>]) {}
    fn messages(&self, _: &mut [MessageJob<'_>]) {}
}

static X32: Paper = Paper("x32", 32, true);
static X16: Paper = Paper("x16", 16, true);
static X8: Paper = Paper("x8", 8, true);
static N4: Paper = Paper("n4", 4, false);
static N2: Paper = Paper("n2", 2, false);
static N1: Paper = Paper("n1", 1, false);

fn plan(costs: &[(&'static Paper, f64)]) -> Plan {
    let choices: Vec<_> =
        costs.iter().map(|&(kernel, nanoseconds)| Choice { kernel, nanoseconds }).collect();
    Plan::cheapest(&choices)
}

#[test]
fn zen_5_gets_the_measured_thresholds() {
    // Cycles per lot on a Zen 5.
    let plan = plan(&[(&X32, 1890.0), (&X16, 1240.0), (&N4, 565.0), (&N2, 315.0), (&N1, 180.0)]);
    let kernel = |n: usize| plan.choice(n).kernel.name();
    assert_eq!(kernel(1), "n1");
    assert_eq!((kernel(2), kernel(3)), ("n2", "n2"));
    assert!((4..=8).all(|n| kernel(n) == "n4"));
    assert!((9..=20).all(|n| kernel(n) == "x16"));
    assert!((21..=100).all(|n| kernel(n) == "x32"));
    assert_eq!(plan.description(), "1: n1, 2-3: n2, 4-8: n4, 9-20: x16, 21 and more: x32");
    let range = |from, to, kernel| PlannedRange { from, to, kernel };
    let ranges = [
        range(1, Some(1), "n1"),
        range(2, Some(3), "n2"),
        range(4, Some(8), "n4"),
        range(9, Some(20), "x16"),
        range(21, None, "x32"),
    ];
    assert_eq!(plan.ranges(), ranges);
    let x16 = KernelSpeed { kernel: "x16", nanoseconds_per_node: 77.5 };
    assert_eq!((plan.measured().len(), plan.measured()[1]), (5, x16));
}

#[test]
fn narrow_kernels_win_where_they_are_faster() {
    // A CPU whose wide vectors are slow (Zen 4).
    let plan = plan(&[(&X32, 4800.0), (&X16, 2500.0), (&N4, 560.0), (&N2, 310.0), (&N1, 180.0)]);
    assert_eq!(plan.description(), "1: n1, 2-3: n2, 4 and more: n4");
    assert_eq!(plan.lanes(), 4);
}

#[test]
fn without_hardware_hashing_lanes_start_early() {
    let plan = plan(&[(&X8, 2100.0), (&N1, 1000.0)]);
    assert_eq!(plan.description(), "1-2: n1, 3 and more: x8");
}

#[test]
fn nothing_measured_is_still_a_plan() {
    let plan = Plan::cheapest(&[]);
    assert_eq!(plan.description(), "1 and more: sha2");
    assert!(plan.measured().is_empty());
}

#[test]
fn the_catalog_names_every_kernel_once() {
    let mut names = HashMap::new();
    for entry in CATALOG.iter() {
        assert!(names.insert(entry.name, ()).is_none(), "{}", entry.name);
        match &entry.kernel {
            Ok(kernel) => assert_eq!(kernel.name(), entry.name),
            Err(why_not) => println!("!!! CANNOT RUN HERE: {}: {why_not}", entry.name),
        }
    }
    assert!(names.contains_key("sha2") && names.contains_key("portable"));
}

#[test]
fn calibration_measures_every_kernel_but_the_portable_one() {
    let measured: Vec<_> = Plan::calibrated().measured().iter().map(|m| m.kernel).collect();
    let runnable = kernels().into_iter().filter(|info| info.available && info.name != "portable");
    assert_eq!(measured, runnable.map(|info| info.name).collect::<Vec<_>>());
    for speed in Plan::calibrated().measured() {
        assert!(speed.nanoseconds_per_node > 0.0, "{speed:?}");
    }
    // How long it took is for whoever reads along. Other tests run at the same time, so the least
    // of a few.
    let least = (0..10)
        .map(|_| {
            let start = Instant::now();
            calibrate();
            start.elapsed()
        })
        .min();
    println!("calibration: {least:?}; {}", Plan::calibrated().description());
}

#[test]
fn pinning_says_what_is_wrong() {
    let error = Plan::pinned("sha3").unwrap_err();
    assert!(error.to_string().contains("portable"), "{error}");
    for info in kernels() {
        match Plan::pinned(info.name) {
            Ok(plan) => {
                assert!(info.available && info.why_not.is_none());
                let everything = PlannedRange { from: 1, to: None, kernel: info.name };
                assert_eq!((plan.ranges(), plan.measured()), (&[everything][..], &[][..]));
            }
            Err(error) => {
                assert!(!info.available);
                assert!(error.to_string().contains(info.why_not.unwrap()), "{error}");
            }
        }
    }
}
