//! One suite for every index, and what a tiered one has beside: files, jobs, restarts.
//!
//! ```text
//!   world      random blocks of edits, and the map that knows the answers        the oracle
//!   everyone   the same blocks through each kind of index: memory, tiered        ties, deletions, re-creations
//!   budgets    a budget that changes while there is work
//!   restarts   a snapshot, and an index opened from it
//!   moving     readers while edits and jobs run, and jobs at the very moment of a read
//!   crashes    the power goes at every call of spills, merges and removals
//!   damage     every page of every file flipped, every file cut
//!   depth      pages that are read many at once, in every way
//!   faults     named tests, one for each fault that is known of other indexes of this kind
//!   filling    an index that is filled in key order
//!   format     the bytes of a segment
//! ```
//!
//! Every random test prints the seed of the run that failed; `HEDGEROW_INDEX_SEED` runs that one alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its failure report")]

mod budgets;
mod crashes;
mod damage;
mod depth;
mod everyone;
mod faults;
mod filling;
mod format;
mod moving;
mod restarts;
mod world;
