//! What happens to a block from `submit` until it survives power loss, and what follows from that.
//!
//! ```text
//!   writer      the single writer: resolve, update, record                         ◄── begin here
//!     │           making: from operations to a record, for speculative blocks too
//!     │ block
//!   pipeline    what the three stages do with it: hash, log, commit
//!   stages      the stages as threads and channels, whatever they do
//!   flow        how far blocks have come, and everybody who waits for it
//!   sync        locks, channels and threads of these three, which a test can order
//!     │ beside them
//!   checkpoint  files from which the store opens without reading its log
//!   copies      what keeps files where they are while they are copied
//!   rollback    back to an earlier height, and on from there
//!   prune       what the manifest no longer needs, and when it goes
//!   tiers       the jobs of an index in files
//! ```
//!
//! `ARCHITECTURE.md` draws the way of a block through all of it.

pub(crate) mod checkpoint;
pub(crate) mod copies;
pub(crate) mod flow;
pub(crate) mod making;
pub(crate) mod pipeline;
pub(crate) mod prune;
pub(crate) mod rollback;
pub(crate) mod stages;
pub(crate) mod sync;
pub(crate) mod tiers;
pub(crate) mod waits;
pub(crate) mod writer;
