//! What one block adds to the log, from the bytes of one entry to the journal of the store.
//!
//! ```text
//!   frame     one entry with its checksum
//!   stub      what a frame holds if the entry is not kept: its hash
//!   block     the record: a header and the runs of frames of all shards       ◄── begin here
//!   header    that header
//!   tail      the youngest records, in memory
//!   rollback  what takes blocks back
//!   journal   the records behind the end that the manifest names, when the store opens
//! ```

pub(crate) mod block;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod journal;
pub(crate) mod rollback;
pub(crate) mod stub;
pub(crate) mod tail;
