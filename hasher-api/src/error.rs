//! Why a batch could not be hashed.

/// Why a batch could not be hashed. The caller discards the outputs.
///
/// ```
/// use hedgerow_hasher_api::{BatchHasher, HashError, PairGroup, ScalarHasher};
/// let odd = PairGroup { children: &[], out: &mut [hedgerow_types::Digest::ZERO] };
/// match ScalarHasher.pairs(0, &mut [odd]) {
///     Err(HashError::Shape(rule)) => assert_eq!(rule, "two children per parent"),   // our mistake
///     Err(error) => println!("the device's: {error}"),
///     Ok(()) => unreachable!(),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The lengths or indexes of a batch contradict each other: a bug of the caller, found before
    /// anything was written.
    #[error("malformed hash batch: {0}")]
    Shape(&'static str),
    /// A device failed, is gone, or could not take the batch.
    #[error("hash backend {backend} failed: {reason}")]
    Device {
        /// Name of the backend.
        backend: String,
        /// What it said.
        reason: String,
    },
    /// What should stay on a device is larger than it takes. Nothing is wrong with the device.
    #[error("hash backend {backend} cannot hold it: {reason}")]
    DoesNotFit {
        /// Name of the backend.
        backend: String,
        /// What exceeds what.
        reason: String,
    },
    /// A device is gone for good: removed, reset or its driver crashed. Every later call to the
    /// same backend answers this too; one made anew may work.
    #[error("hash backend {backend} lost its device: {reason}")]
    DeviceLost {
        /// Name of the backend.
        backend: String,
        /// What it said.
        reason: String,
    },
}

impl HashError {
    /// A span reaches beyond its arena.
    pub(crate) const MESSAGE_OUTSIDE: Self = Self::Shape("a message leaves its arena");
}
