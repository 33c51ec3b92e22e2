//! What the benches, the `speed` program and `benches/compare` share: workloads, and measuring a
//! process.
//!
//! ```text
//!   workload   seed ─► KeySet (which keys exist) ─► operations, 8 bytes each ─► keys and values
//!   spending   seed ─► blocks that spend coins and make them, shaped like mainnet's
//!   usage      wall clock, CPU, bytes written, peak memory, disk ─► Cost of a phase
//!   spread     durations ─► median, 99th percentile, maximum
//!   hashing    nodes, messages and trees to hash, and the hashers to compare
//! ```
//!
//! **Invariant (absence):** nothing here knows a store, so that another engine can be driven with the
//! same keys, values and clocks.
#![forbid(unsafe_code)]

pub mod hashing;
pub mod spending;
pub mod spread;
pub mod usage;
pub mod workload;
