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
//! whatever backend the options name. All other digests are leaves and nodes of the tree. A device may
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
pub use hedgerow_hashers::{
    Backend, BatchHasher, CHECK_ONE_OF, Capabilities, Cost, DEFAULT, Guarded, HashError, Health,
    Measured, PlannedRange, Thresholds, Tuning, Work, auto, available, names,
};
pub(crate) use hedgerow_hashers::{hash_keys, trusted};

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
