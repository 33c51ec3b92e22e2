//! Hedgerow beside other people's engines.
//!
//! ```text
//!   contender       one way to hash a batch: ours, or the best call of another crate
//!   nodes, messages what all of them hash, and who can
//!   single          the crates that hash one message at a time
//!   race            contenders timed on one input, interleaved; their digests checked before
//! ```
//!
//! The program `hash-goals` prints the hashing goals and whether they are met; the criterion bench
//! `hash` has the same contenders for a closer look.

pub mod contender;
#[allow(unsafe_code, reason = "a C function that its crate does not offer")]
mod hashtree;
pub mod messages;
pub mod nodes;
pub mod race;
pub mod single;

pub use contender::{Contender, Failure};
pub use race::Race;
