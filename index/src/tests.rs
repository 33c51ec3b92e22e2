//! Tests of the whole index: against a model ([`model`]), with fabricated key hashes
//! ([`collisions`]), of batches ([`batches`]), and of one that is shared ([`shared`]). Keys are looked up
//! through [`lookup`].

use crate::Place;
use hedgerow_types::{LogPosition, SerialNumber};

mod batches;
mod collisions;
mod lookup;
mod model;
mod shared;

/// What lies at a position, its serial number made up: an index in memory does not look at it.
fn place(at: LogPosition) -> Place {
    Place { at, sn: SerialNumber(at.0 ^ 0x5A5A) }
}
