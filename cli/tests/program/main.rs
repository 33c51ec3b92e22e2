//! The program from outside: started as a child, judged by what it prints, how it exits and what it
//! leaves on disk.
//!
//! ```text
//!   commands  every command, its output and its errors
//!   beside    commands that read, beside a writer and without the right to write
//!   backup    backup, restore, salvage, pruning on demand
//!   apply     where it stops, and how it goes on
//!   import    exports, whole and not
//!   coins     sets of coins: blocks, digests, snapshots, proofs
//!   files     what is written: whole, or not at all
//!   looking   list, inspect, and what programs read of an error
//!   help      exit codes, docs/cli.md, completions, manual pages
//!   devices   the list of hashing backends, and that it tells the truth
//!   repair    a store that its recorded root keeps shut
//!   replay    recorded workloads, whole and damaged
//!   kill      kill -9 at random moments
//!   watch     figures again and again, beside a writer; how long steps took
//!   limits    little of everything that a process may have; lines without end
//! ```
#![expect(clippy::expect_used, clippy::panic, reason = "tests: a panic is the failure report")]

#[cfg(unix)]
mod apply;
mod backup;
mod beside;
#[cfg(feature = "coins")]
mod coins;
mod commands;
mod common;
mod devices;
mod files;
mod help;
mod import;
mod index;
mod kill;
mod limits;
mod looking;
mod repair;
mod replay;
mod watch;
