//! Whole reads and writes out of calls that may do less than they were asked for.
//!
//! A system call may stop early: after some of the bytes, or before the first one because a signal
//! came (`Interrupted`). Neither is an error. These two loops are the only place that knows; every
//! [`VfsFile`](crate::VfsFile) with such calls underneath goes through them.

use std::io;

/// Fills as much of `buf` as there is from `offset` on, by calls of `read(rest, at)`, which returns
/// how many bytes it read: 0 at the end of the file. Returns how many there were in all.
///
/// # Errors
/// The first error of `read` but `Interrupted`, with the offset of that call.
pub(crate) fn read(
    buf: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> Result<usize, (u64, io::Error)> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // An offset beyond 2^64 is beyond every file; the system refuses what it cannot seek.
        let at = offset.saturating_add(filled as u64);
        match read(rest, at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(reason) if reason.kind() == io::ErrorKind::Interrupted => {}
            Err(reason) => return Err((at, reason)),
        }
    }
    Ok(filled)
}

/// Writes all of `buf` at `offset`, by calls of `write(rest, at)`, which returns how many bytes it
/// wrote.
///
/// # Errors
/// The first error of `write` but `Interrupted`, with the offset of that call; `WriteZero` if it
/// wrote nothing.
pub(crate) fn write(
    buf: &[u8],
    offset: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> Result<(), (u64, io::Error)> {
    let mut written = 0;
    while let Some(rest) = buf.get(written..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(written as u64);
        match write(rest, at) {
            Ok(0) => return Err((at, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(reason) if reason.kind() == io::ErrorKind::Interrupted => {}
            Err(reason) => return Err((at, reason)),
        }
    }
    Ok(())
}
