//! Tests of the forest from outside, as one program.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod calls;
mod deep;
mod device;
mod mixed;
mod naive_model;
mod recorded;
mod refusals;
mod resident;
mod world;
