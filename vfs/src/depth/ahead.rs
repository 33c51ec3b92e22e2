//! Telling the system what will be read, so that it begins to.

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::File;

/// Whether this system can be told.
pub(super) const AVAILABLE: bool = true;

/// Says that `len` bytes at `offset` will be read soon. That it cannot be said is no error: they are read
/// all the same.
pub(crate) fn tell(file: &File, offset: u64, len: usize) {
    if let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) {
        let _ = posix_fadvise(file, offset, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}
