//! The steps and heights of blocks for the recorder of the crate `metrics` that the program has installed, if any.
//!
//! ```text
//!   a step ends, a block is accepted, published, durable ─► Emitter: keys made when the store was opened
//!                                                              │ counters, gauges, histograms
//!                                                              ▼
//!                          metrics::with_recorder ─► the exporter that the program has chosen
//! ```
//!
//! Which recorder it is, is asked each time: one that is installed after the store was opened is told as well, but has
//! missed the descriptions. docs/operations.md lists the names.

use super::{STEPS, Step};
use hedgerow_state::Counts;
use hedgerow_types::Height;
use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Unit, with_recorder};
use std::path::Path;
use std::time::Duration;

const ABOUT: Metadata<'static> = Metadata::new("hedgerow", Level::INFO, Some("hedgerow"));

/// What kind of metric a name is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const STEP_SECONDS: &str = "hedgerow_step_seconds";
const STEP_FAILURES: &str = "hedgerow_step_failures_total";
const BLOCKS: &str = "hedgerow_blocks_total";
const OPERATIONS: &str = "hedgerow_operations_total";
const LOG_BYTES: &str = "hedgerow_log_bytes_total";
const ACCEPTED: &str = "hedgerow_accepted_height";
const PUBLISHED: &str = "hedgerow_published_height";
const DURABLE: &str = "hedgerow_durable_height";
const KEYS: &str = "hedgerow_keys";

/// All metrics: name, kind, unit, and what they are.
const ALL: [(&str, Kind, Unit, &str); 9] = [
    (STEP_SECONDS, Kind::Histogram, Unit::Seconds, "How long a step of blocks took"),
    (STEP_FAILURES, Kind::Counter, Unit::Count, "Steps that ended with an error"),
    (BLOCKS, Kind::Counter, Unit::Count, "Blocks accepted"),
    (OPERATIONS, Kind::Counter, Unit::Count, "Keys that blocks created, updated, deleted"),
    (LOG_BYTES, Kind::Counter, Unit::Bytes, "Bytes of log of accepted blocks"),
    (ACCEPTED, Kind::Gauge, Unit::Count, "Height of the last accepted block"),
    (PUBLISHED, Kind::Gauge, Unit::Count, "Height that readers see"),
    (DURABLE, Kind::Gauge, Unit::Count, "Height that survives power loss"),
    (KEYS, Kind::Gauge, Unit::Count, "Keys that have a value"),
];

/// Tells the recorder, about one store.
#[derive(Debug)]
pub(crate) struct Emitter {
    seconds: [Key; STEPS],
    failures: [Key; STEPS],
    blocks: Key,
    /// Created, updated, deleted.
    operations: [Key; 3],
    log_bytes: Key,
    accepted: Key,
    published: Key,
    durable: Key,
    keys: Key,
}

impl Emitter {
    /// For the store in this directory, whose name is the label `store` of all its metrics.
    pub(crate) fn new(dir: &Path) -> Self {
        with_recorder(|recorder| {
            for (name, kind, unit, what) in ALL {
                let unit = Some(unit);
                match kind {
                    Kind::Counter => recorder.describe_counter(name.into(), unit, what.into()),
                    Kind::Gauge => recorder.describe_gauge(name.into(), unit, what.into()),
                    Kind::Histogram => recorder.describe_histogram(name.into(), unit, what.into()),
                }
            }
        });
        let store = Label::new("store", dir.display().to_string());
        let key = |name: &'static str| Key::from_parts(name, vec![store.clone()]);
        let labelled = |name: &'static str, label: &'static str, value: &'static str| {
            Key::from_parts(name, vec![store.clone(), Label::from_static_parts(label, value)])
        };
        let of_step = |name| Step::ALL.map(|step| labelled(name, "step", step.name()));
        let outcomes = ["created", "updated", "deleted"];
        Self {
            seconds: of_step(STEP_SECONDS),
            failures: of_step(STEP_FAILURES),
            blocks: key(BLOCKS),
            operations: outcomes.map(|outcome| labelled(OPERATIONS, "outcome", outcome)),
            log_bytes: key(LOG_BYTES),
            accepted: key(ACCEPTED),
            published: key(PUBLISHED),
            durable: key(DURABLE),
            keys: key(KEYS),
        }
    }

    pub(super) fn step(&self, step: Step, took: Duration, failed: bool) {
        let seconds = &self.seconds[step as usize];
        with_recorder(|recorder| recorder.register_histogram(seconds, &ABOUT)).record(took);
        if failed {
            counter(&self.failures[step as usize]).increment(1);
        }
    }

    pub(crate) fn accepted(&self, height: Height, counts: &Counts, log_bytes: u64) {
        counter(&self.blocks).increment(1);
        counter(&self.log_bytes).increment(log_bytes);
        let operations = [counts.created, counts.updated, counts.deleted];
        for (key, operations) in self.operations.iter().zip(operations) {
            counter(key).increment(operations);
        }
        gauge(&self.accepted).set(height.0 as f64);
    }

    pub(crate) fn published(&self, height: Height, keys: u64) {
        gauge(&self.published).set(height.0 as f64);
        gauge(&self.keys).set(keys as f64);
    }

    pub(crate) fn durable(&self, height: Height) {
        gauge(&self.durable).set(height.0 as f64);
    }

    /// Everything is back at this height.
    pub(crate) fn rolled_back(&self, height: Height, keys: u64) {
        gauge(&self.accepted).set(height.0 as f64);
        self.published(height, keys);
        self.durable(height);
    }
}

fn counter(key: &Key) -> Counter {
    with_recorder(|recorder| recorder.register_counter(key, &ABOUT))
}

fn gauge(key: &Key) -> Gauge {
    with_recorder(|recorder| recorder.register_gauge(key, &ABOUT))
}
