//! What hashes on one thread.
//!
//! A kernel is one instruction set's way to run SHA-256 over a stream of messages. It owns padding,
//! lanes and the order of work; it knows neither groups nor threads. Streams come as iterators that
//! a kernel drives with `for_each`, so that walking from group to group costs nothing per message.
//!
//! **Invariant:** every job of the stream is done when the call returns, whatever its length, and
//! each writes its own `out` only.

mod sha2;

pub(crate) use sha2::Sha2Kernel;

use hedgerow_types::Digest;

/// `out = node(level, children[0], children[1])` (spec 2).
pub(crate) struct NodeJob<'a> {
    pub(crate) children: &'a [Digest; 2],
    pub(crate) out: &'a mut Digest,
}

/// `out = SHA-256(message)`.
pub(crate) struct MessageJob<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) out: &'a mut Digest,
}

/// SHA-256 with one instruction set.
pub(crate) trait Kernel {
    /// The instruction set, for a person.
    fn device(&self) -> String;

    /// Messages hashed side by side.
    fn lanes(&self) -> usize;

    /// Hashes nodes whose children have level `level`.
    fn nodes<'a>(&self, level: u8, jobs: impl Iterator<Item = NodeJob<'a>>);

    /// Hashes messages of any length.
    fn messages<'a>(&self, jobs: impl Iterator<Item = MessageJob<'a>>);
}
