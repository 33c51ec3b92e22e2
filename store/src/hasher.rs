//! The hashing backends that this build has, and the choice among them: the crate `hedgerow-hashers`,
//! with the errors of this one.
//!
//! ```
//! use hedgerow::{Options, hasher};
//!
//! let options = Options::new().hasher(hasher::auto());
//! # drop(options);
//! ```
//!
//! What enters the log and the index of hashes are those of keys: they choose shard, order and
//! neighbour, an entry names its neighbour's, and no root covers the index. The CPU hashes them,
//! whatever backend the options name, with the kernel that they pin if they name one; single keys are hashed by `sha2`. All other digests are leaves and nodes of the tree. A device may
//! compute those, and a sample of them is checked ([`CHECK_ONE_OF`]). A wrong one among the others is in a
//! root, or in the record of a finished twig. It contradicts the log, which
//! [`Store::check`](crate::Store::check) hashes on the CPU, and a proof that is made from it does not verify.

use crate::Error;
use std::sync::Arc;

/// What a backend of one's own takes: batches in arenas of bytes, and where their digests go.
pub use hedgerow_hasher_api::{
    IndexedPairGroup, LeftTree, LeftTreeGroup, MessageGroup, PairGroup, Residency, ResidentRows,
    Span, Target,
};
use hedgerow_hashers::CpuHasher;
pub use hedgerow_hashers::{
    Backend, BatchHasher, CHECK_ONE_OF, Capabilities, Cost, DEFAULT, Guarded, HashError, Health,
    Measured, PlannedRange, Thresholds, Tuning, Work, auto, available, names,
};

/// What a store hashes with.
#[derive(Clone, Debug)]
pub(crate) struct Hashers {
    /// Leaves and nodes of the tree: the backend of the options.
    pub(crate) tree: Arc<dyn BatchHasher>,
    /// What a device must not decide, keys above all. It uses the pool that it is called from.
    pub(crate) cpu: CpuHasher,
    /// As `cpu`, on the calling thread alone: for who answers one question, beside others who do.
    pub(crate) here: CpuHasher,
}

impl Hashers {
    pub(crate) fn new(tree: Arc<dyn BatchHasher>, cpu: CpuHasher) -> Self {
        Self { tree, here: cpu.clone().on_this_thread(), cpu }
    }

    /// The CPU for all of it.
    pub(crate) fn all_cpu(cpu: CpuHasher) -> Self {
        Self::new(Arc::new(cpu.clone()), cpu)
    }
}

/// The backend with this name: one of [`names`], or a name of the other forms that
/// [`hedgerow_hashers::by_name`] explains.
///
/// # Errors
/// [`Error::Option`] if there is no backend of this name, or it cannot be used on this machine.
pub fn by_name(name: &str) -> Result<Arc<dyn BatchHasher>, Error> {
    Ok(hedgerow_hashers::by_name(name)?)
}

/// As [`by_name`], with a device used as `tuning` says.
///
/// # Errors
/// As [`by_name`].
pub fn by_name_tuned(name: &str, tuning: Tuning) -> Result<Arc<dyn BatchHasher>, Error> {
    Ok(hedgerow_hashers::by_name_tuned(name, tuning)?)
}

#[cfg(test)]
mod tests {
    use super::BatchHasher;
    use crate::Options;

    #[test]
    fn a_kernel_that_is_named_hashes_keys_and_proofs_too() {
        let found = |options: Options| {
            let chosen = options.check().expect("a CPU");
            let hashers: [&dyn BatchHasher; 3] = [&*chosen.tree, &chosen.cpu, &chosen.here];
            hashers.map(|hasher| hasher.capabilities().name)
        };
        assert_eq!(found(Options::new().hasher_named("cpu:portable")), ["cpu:portable"; 3]);
        assert_eq!(found(Options::new()), ["cpu"; 3]);
        // What stands beside another backend is the CPU as it is fastest.
        assert_eq!(found(Options::new().hasher_named("scalar")), ["scalar", "cpu", "cpu"]);
    }
}
