//! The ways to read the log.
//!
//! ```text
//!   entries   by position, one or many                     what `get` does      ◄── begin here
//!   many      what a batch of these wants from disk
//!   cursor    one shard's entries, in order                what compaction does
//!   group     16 consecutive entries of a finished twig    what a proof does
//!   scan      whole records, in order                      what recovery does
//!   above     all of these, and records that are not in the log yet
//!
//!   stored    an entry that was read
//!   cache     entries that were read and may be wanted again
//!   window    a stretch of frames that are read one after the other
//! ```
//!
//! Whatever is read is checked before anybody sees it.

pub(crate) mod above;
pub(crate) mod cache;
pub(crate) mod cursor;
pub(crate) mod entries;
pub(crate) mod group;
pub(crate) mod many;
pub(crate) mod salvage;
pub(crate) mod scan;
pub(crate) mod stored;
pub(crate) mod window;
