//! Tests of the whole index: against a model ([`model`]), with fabricated key hashes
//! ([`collisions`]), and of batches ([`batches`]).

mod batches;
mod collisions;
mod model;
