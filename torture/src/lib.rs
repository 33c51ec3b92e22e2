//! What Hedgerow must survive, tried over and over.
//!
//! ```text
//!  torture crash     a disk that loses power at a random call, against the model      crash
//!  torture faults    every k-th call of a fixed scenario fails                        faults
//!  torture flips     bytes flipped and files cut in a store at rest                   flips
//!  torture kill      a child process writes, the parent sends SIGKILL                 process
//!  torture full      a small file system without space                                process
//!  torture two       several processes want one store                                 process
//! ```
//!
//! Everything random follows from a seed, which a failure prints together with the command that
//! replays it.
//!
//! **Invariant (absence):** nothing here ships; the store is used through its public API, and the
//! disk through its trait.
#![forbid(unsafe_code)]

pub mod crash;
pub mod faults;
pub mod flips;
pub mod process;
