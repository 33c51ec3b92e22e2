//! What the benches and the `speed` program share: the workload, and measuring a process.
//!
//! ```text
//!   workload   seed ─► KeySet (which keys exist) ─► operations, 8 bytes each ─► keys and values
//!   usage      wall clock, CPU, bytes written, peak memory, disk ─► Cost of a phase
//!   spread     durations ─► median, 99th percentile, maximum
//! ```
//!
//! **Invariant (absence):** nothing here knows a store, so that another engine can be driven with the
//! same keys, values and clocks.
#![forbid(unsafe_code)]

pub mod spread;
pub mod usage;
pub mod workload;
