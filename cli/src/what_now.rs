//! What to do about damage: a line below every message that tells of some.

use hedgerow::Error;

/// The line for an error of the store, if it tells of damage or of a copy that is not whole.
pub(crate) fn what_now(error: &Error) -> Option<&'static str> {
    match error {
        Error::Poisoned { cause } => what_now(cause),
        Error::RootMismatch { .. } => Some(
            "`hedgerow repair DIR` says what the log leads to, and changes nothing; or restore a \
             backup with `hedgerow restore BACKUP DIR` (docs/operations.md)",
        ),
        Error::UnfinishedCopy(_) => Some(
            "give the same `hedgerow backup` or `hedgerow restore` again, begin the import again, or remove \
             the directory",
        ),
        Error::Index(_) => Some(
            "nothing is lost: the index is made anew from the log when the store is opened again or, where no \
             mark could be left, once its directory index/ is removed (docs/operations.md)",
        ),
        error if error.is_damage() => Some(
            "keep the files as they are; restore a backup with `hedgerow restore BACKUP NEW_DIR`; \
             without one, `hedgerow export --salvage DIR` writes what can be read (docs/operations.md)",
        ),
        _ => None,
    }
}
