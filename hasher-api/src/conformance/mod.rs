//! The behaviour that every [`BatchHasher`] must show, decorators included.
//!
//! ```text
//!            input of a known seed ──┬──► backend under test ──► outputs inside painted guards ──┐
//!                                    └──► oracle: one message at a time ────────────────────────►│ equal?
//! ```
//!
//! A backend's test calls [`run`] and is done: `conformance::run(&MyHasher::new())`. What it covers:
//!
//! * every operation; batch sizes 0, 1 and around every lane count there is or may be, and
//!   batches large enough to be spread over cores;
//! * one group, many groups, empty groups between full ones;
//! * message lengths 0..=400 one by one (every padding case many times over), mixed, equal, and a
//!   million bytes; the examples of FIPS 180-4;
//! * arenas with and without slack, at odd addresses, with bytes after a message that must not
//!   leak into it; spans in any order, overlapping, empty;
//! * child levels 0..=255;
//! * outputs around and between the wanted ones keep their values;
//! * malformed shapes are [`HashError::Shape`] and change nothing;
//! * calls from several threads at once.
//!
//! **Invariant:** the oracle shares no code with any backend; it feeds the pieces of a message to
//! `sha2`'s streaming interface, and the FIPS 180-4 examples tie both to the standard.

mod input;
mod malformed;
mod messages;
mod nodes;
#[cfg(test)]
mod tests;

use crate::{BatchHasher, HashError};
use hedgerow_types::Digest;
use input::{Outputs, Random};
use sha2::{Digest as _, Sha256};

/// Seed of [`run`].
pub const SEED: u64 = 0x4845_4447_4552_4F57;

/// Runs the whole suite on `hasher` with the seed [`SEED`].
///
/// # Panics
/// At the first violation, with a message that names the backend, the seed and the case.
pub fn run(hasher: &dyn BatchHasher) {
    run_seeded(hasher, SEED);
}

/// Runs the whole suite on `hasher` with input made from `seed`.
///
/// # Panics
/// At the first violation, with a message that names the backend, the seed and the case.
pub fn run_seeded(hasher: &dyn BatchHasher, seed: u64) {
    let suite = Suite::new(hasher, seed);
    println!("conformance: {}", suite.name);
    suite.capabilities();
    messages::check(&suite);
    nodes::check(&suite);
    malformed::check(&suite);
    suite.threads();
}

/// One run of the suite.
struct Suite<'a> {
    hasher: &'a dyn BatchHasher,
    /// Backend and seed, for messages.
    name: String,
    seed: u64,
}

impl<'a> Suite<'a> {
    fn new(hasher: &'a dyn BatchHasher, seed: u64) -> Self {
        let name = format!("backend {:?}, seed {seed:#018x}", hasher.capabilities().name);
        Self { hasher, name, seed }
    }

    /// Input for one section: the same whatever the other sections do.
    fn random(&self, section: u64) -> Random {
        Random::new(self.seed ^ section.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn must_succeed(&self, what: &str, result: Result<(), HashError>) {
        assert!(result.is_ok(), "{}: {what}: {result:?}", self.name);
    }

    /// Outputs hold `expected(group, index)`, or what they held before where that is `None`.
    fn must_hold(
        &self,
        what: &str,
        outputs: &Outputs,
        expected: impl Fn(usize, usize) -> Option<Digest>,
    ) {
        let difference = outputs.difference(expected).unwrap_or_default();
        assert!(difference.is_empty(), "{}: {what}: {difference}", self.name);
    }

    fn capabilities(&self) {
        let found = self.hasher.capabilities();
        assert!(!found.name.is_empty() && !found.device.is_empty(), "{}: unnamed", self.name);
        assert!(found.lanes > 0 && found.full_speed_batch > 0, "{}: {found:?}", self.name);
    }

    /// The same backend serves several callers at once.
    fn threads(&self) {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    let mut random = self.random(1000 + thread);
                    for _ in 0..8 {
                        messages::batch(self, &mut random, 333);
                        nodes::batch(self, &mut random, 333);
                    }
                });
            }
        });
    }
}

/// SHA-256 of the concatenation of `parts`.
fn oracle(parts: &[&[u8]]) -> Digest {
    let mut state = Sha256::new();
    for part in parts {
        state.update(part);
    }
    Digest(state.finalize().into())
}

/// A node as spec 2 defines it.
fn oracle_node(level: u8, left: &Digest, right: &Digest) -> Digest {
    oracle(&[&[level], &left.0, &right.0])
}
