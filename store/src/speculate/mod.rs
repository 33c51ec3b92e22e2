//! Speculative blocks: made, hashed and read before it is decided whether they will be.
//!
//! ```text
//!   last accepted state          draft      a speculative block being collected
//!      │                         block      a speculative block, finished
//!      ├─► A ─► C ─┬─► E         stand      the state after one of these, which others follow
//!      │           └─► F         prove      proofs from such a state
//!      └─► B ─► D
//!
//!   accept(A): A is the next block as it is. C, E and F stay good, B and D are stale.
//! ```
//!
//! A speculative block is made in the one way in which blocks are made ([`making`](crate::commit::making)) and hashed
//! in the one way in which they are hashed ([`pass`](crate::commit::pipeline::pass)), on a state of its own, which
//! shares with that before it the shards that the block does not touch. Its record has its place in the log already,
//! above the log's end, so that whatever reads entries by position reads those of speculative blocks too
//! ([`LogView`](hedgerow_entryfile::LogView)).
//!
//! Accepting one hands its record to the log and what hashing came to to the hash stage. Nothing is computed again.
//!
//! Every accepted state has a [`Token`]. A speculative block is good as long as the last accepted state is the one
//! that it follows, itself, or one between the two; it is stale from the moment in which any other is accepted.
//! Readers look before they read and after.

pub(crate) mod block;
mod draft;
mod prove;
mod stand;

pub use block::Speculative;
pub use draft::SpeculativeBlock;
pub(crate) use stand::Stand;

use crate::Error;
use crate::shared::Shared;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names a state: that after an accepted block, or after a speculative one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

/// Which state is the last accepted one, and what speculative blocks take. One of an open store.
#[derive(Debug, Default)]
pub(crate) struct Speculation {
    /// The token of the last accepted state.
    tip: AtomicU64,
    /// The last token that was given out.
    last: AtomicU64,
    /// Bytes of memory of the speculative blocks that there are.
    bytes: AtomicU64,
}

impl Speculation {
    /// A token that no state has.
    pub(crate) fn new_token(&self) -> Token {
        Token(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The last accepted state is another one from now on.
    pub(crate) fn move_to(&self, token: Token) {
        self.tip.store(token.0, Ordering::SeqCst);
    }

    /// The last accepted state.
    fn tip(&self) -> Token {
        Token(self.tip.load(Ordering::SeqCst))
    }

    /// Bytes of memory of the speculative blocks that there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Bytes of memory that are counted as long as this lives.
#[derive(Debug)]
struct Charge {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Charge {
    /// Counts `bytes`.
    ///
    /// # Errors
    /// [`Error::SpeculationFull`] if it is more than there may be with those that are counted already.
    fn new(shared: &Arc<Shared>, bytes: u64) -> Result<Self, Error> {
        let limit = shared.options.speculation_bytes;
        let more = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= limit);
        let counted = &shared.speculation.bytes;
        match counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self { shared: Arc::clone(shared), bytes }),
            Err(used) => Err(Error::SpeculationFull { used, needed: bytes, limit }),
        }
    }

    /// How many are counted.
    fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives a part of this away, to be counted as long as that lives.
    fn split_off(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { shared: Arc::clone(&self.shared), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shared.speculation.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
