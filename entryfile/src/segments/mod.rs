//! Append-only files that together make one space of byte positions: what the entry log and the twig
//! file have in common.
//!
//! ```text
//!   header    the 64 bytes that a segment begins with, and the name of its file
//!   segment   one segment: how long it gets, what it covers, how its file is made and opened
//!   files     all segments of a directory, open: read, append, sync, remove   ◄── begin here
//!     ├─ batch     what is on its way into the last segment, and into new ones
//!     ├─ table     which bytes lie in which segment, read without a lock
//!     ├─ handles   which files are open for reading
//!     ├─ counters  how much was read, counted without a line of memory that threads share
//!     ├─ parts     which files a copy has, and which of them are never changed again
//!     └─ listing   how the segments of a directory are found when it is opened
//! ```
//!
//! Nothing here knows what lies between the headers.

pub(crate) mod batch;
pub(crate) mod counters;
pub(crate) mod files;
pub(crate) mod handles;
pub(crate) mod header;
pub(crate) mod listing;
pub(crate) mod parts;
pub(crate) mod segment;
pub(crate) mod table;
