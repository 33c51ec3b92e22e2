//! The twig file: what is kept of a twig that is full. Derived from the log, and made again from it if
//! it is missing or damaged.
//!
//! ```text
//!   record    one twig: nodes of its left tree, and where its entries lie
//!   file      the records of all shards, in segments                            ◄── begin here
//! ```

pub(crate) mod file;
pub(crate) mod record;
