//! Why a name gives no backend.

/// Why a name gives no backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// This build has no backend of this name.
    #[error("{name:?} is none of {}", usable.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names that can be used on this machine.
        usable: Vec<String>,
    },
    /// The backend cannot be used on this machine, or the part of its name after the colon means
    /// nothing to it.
    #[error("{reason}")]
    Unavailable {
        /// The name.
        name: String,
        /// Why, for a person.
        reason: String,
    },
}
