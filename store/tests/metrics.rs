//! Feature `metrics`: what the recorder of a program is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on};
use hedgerow::{Height, Step, Store, StoreParams};
use hedgerow_testkit::Limit;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use std::collections::BTreeMap;

/// Of every metric: its kind and labels, and what it says.
type Told = BTreeMap<String, DebugValue>;

#[test]
fn a_recorder_is_told_what_stats_say() {
    let _limit = Limit::new();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    for height in 1..=3_u8 {
        let mut block = store.next_block().unwrap();
        block.put("alice", [height]).unwrap();
        block.put([height], "x").unwrap();
        block.commit().unwrap();
    }
    store.flush().unwrap();
    store.rollback(Height(2)).unwrap();
    let (stats, log_bytes) = (store.stats(), store.stats().log_end);
    store.close().unwrap();

    let mut told = Told::new();
    let mut described = BTreeMap::new();
    for (key, unit, description, value) in snapshotter.snapshot().into_vec() {
        let (kind, key) = key.into_parts();
        let mut name = format!("{kind:?} {}", key.name());
        described.insert(key.name().to_owned(), (unit, description.unwrap().to_string()));
        for label in key.labels() {
            match (label.key(), label.value()) {
                ("store", store) => assert_eq!(store, dir().to_str().unwrap()),
                (label, value) => name += &format!(" {label}={value}"),
            }
        }
        told.insert(name, value);
    }
    for (step, stats) in stats.steps.iter() {
        let value = told.remove(&format!("Histogram hedgerow_step_seconds step={}", step.name()));
        let Some(DebugValue::Histogram(seconds)) = value else { panic!("{step:?}: {value:?}") };
        // Closing commits the manifest once more.
        let more = usize::from(step == Step::Manifest);
        let count = stats.durations.count() as usize;
        assert!((count..=count + more).contains(&seconds.len()), "{step:?}");
        let sum: f64 = seconds.iter().map(|seconds| seconds.0).sum();
        assert!(sum >= stats.durations.sum().as_secs_f64() * 0.999, "{step:?}");
    }
    let expected = [
        ("Counter hedgerow_blocks_total", DebugValue::Counter(3)),
        ("Counter hedgerow_operations_total outcome=created", DebugValue::Counter(4)),
        ("Counter hedgerow_operations_total outcome=updated", DebugValue::Counter(2)),
        ("Counter hedgerow_operations_total outcome=deleted", DebugValue::Counter(0)),
        ("Gauge hedgerow_accepted_height", DebugValue::Gauge(2.0.into())),
        ("Gauge hedgerow_published_height", DebugValue::Gauge(2.0.into())),
        ("Gauge hedgerow_durable_height", DebugValue::Gauge(2.0.into())),
        ("Gauge hedgerow_keys", DebugValue::Gauge(3.0.into())),
    ];
    for (name, value) in expected {
        assert_eq!(told.remove(name), Some(value), "{name}");
    }
    let Some(DebugValue::Counter(bytes)) = told.remove("Counter hedgerow_log_bytes_total") else {
        panic!("{told:?}")
    };
    assert!((1..log_bytes.0).contains(&bytes), "{bytes} of {log_bytes:?}");
    assert!(told.is_empty(), "not described in docs/operations.md: {told:?}");

    // The document has every name, and what is said of it in the program.
    let document = include_str!("../../docs/operations.md");
    for (name, (unit, description)) in described {
        assert!(unit.is_some() && !description.is_empty());
        assert!(document.contains(&format!("| `{name}")), "{name} is not in docs/operations.md");
    }
}
