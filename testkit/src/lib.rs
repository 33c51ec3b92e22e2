//! What Hedgerow's tests measure the code against.
//!
//! ```text
//!  vectors  recordings of QMDB and skippydb: entries, nodes, twigs, trees, blocks, proofs
//!  recipe   the op streams `big` and `prune`, re-created from a seed
//!     │
//!     ▼  RecordedBlock: height, tasks, change sets, ops
//!  model    the store, spec 3-7 word by word, in maps and vectors ──► roots, serial numbers, values
//!     │
//!     ▼  entry hashes, active bits
//!  naive    the trees of spec 8 and their paths by brute force
//!
//!  generate random blocks over few keys, chosen to hurt
//!  limit    a test that hangs fails
//!  modelled, schedules   locks whose order shuttle decides, in many orders of events (feature `schedules`)
//! ```
//!
//! The recordings judge the model; the model judges everything else, on inputs that nobody
//! recorded.
//!
//! **Invariant (absence):** of our crates only `hedgerow-types` is used here, and nothing here ships:
//! other crates have it as a dev-dependency. Everything panics when it is misused or a recording is
//! missing, because in a test a panic is the report.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, clippy::panic, reason = "test support: a panic is how a test fails")]

pub mod generate;
pub mod limit;
pub mod model;
#[cfg(feature = "schedules")]
pub mod modelled;
pub mod naive;
pub mod ops;
pub mod recipe;
#[cfg(feature = "schedules")]
pub mod schedules;
pub mod vectors;

pub use limit::Limit;
pub use model::Model;
pub use ops::{Op, OpKind, RecordedBlock};
