//! Tests of the whole index: against a model ([`model`]), with fabricated key hashes
//! ([`collisions`]), of batches ([`batches`]), and of one that is shared ([`shared`]). Keys are looked up
//! through [`lookup`].

mod batches;
mod collisions;
mod lookup;
mod model;
mod shared;
