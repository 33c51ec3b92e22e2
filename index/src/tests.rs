//! Tests of the whole index: against a model ([`model`]), with fabricated key hashes
//! ([`collisions`]), of batches ([`batches`]), and of one that is shared ([`shared`]).

mod batches;
mod collisions;
mod model;
mod shared;
