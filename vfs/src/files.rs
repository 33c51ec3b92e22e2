//! Whole files: read with a limit, replace atomically, write again.

use crate::{OpenMode, Vfs, VfsError, VfsErrorKind, VfsFile, VfsOp};
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What [`write_atomic`] appends to a file's name for the copy it prepares. A crash can leave such
/// a file behind; it means nothing and may be removed.
pub const TEMP_SUFFIX: &str = ".tmp";

/// Bytes that are copied at a time.
const COPY: usize = 1 << 20;

/// Replaces the content of the file at `path`, or creates it, such that a crash at any point leaves
/// either the old content or the new, and the new once this has returned `Ok`.
///
/// ```text
///   write path.tmp ─► sync it ─► rename to path ─► sync the directory
/// ```
///
/// One caller at a time per path: two would use the same temporary name.
///
/// # Errors
/// [`VfsError`] of the step that failed. Unless that step is the last one, the old content is in
/// place; the temporary file is removed if possible.
pub fn write_atomic(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), VfsError> {
    let temp = temp_name(path)?;
    let prepared = prepare(vfs, &temp, bytes).and_then(|()| vfs.rename(&temp, path));
    if let Err(error) = prepared {
        // The first error is the one to report; a leftover is harmless and replaced next time.
        let _ = vfs.remove_file(&temp);
        return Err(error);
    }
    vfs.sync_dir(&parent(path))
}

fn prepare(vfs: &dyn Vfs, temp: &Path, bytes: &[u8]) -> Result<(), VfsError> {
    let file = new_file(vfs, temp)?;
    file.write_all_at(bytes, 0)?;
    file.sync()
}

fn new_file(vfs: &dyn Vfs, path: &Path) -> Result<Arc<dyn VfsFile>, VfsError> {
    match vfs.remove_file(path) {
        Err(error) if error.kind() != VfsErrorKind::NotFound => return Err(error),
        _ => {}
    }
    vfs.open(path, OpenMode::CreateNew)
}

/// Writes the first `len` bytes of the file at `path` once more, as a whole, durably, name included:
/// for a file of which nobody knows whether the medium has what the system shows. A crash leaves the
/// one or the other. The rest of the file is dropped.
///
/// # Errors
/// [`VfsError`] of the step that failed, as [`write_atomic`].
pub fn renew_file(vfs: &dyn Vfs, path: &Path, len: u64) -> Result<(), VfsError> {
    let temp = temp_name(path)?;
    let copied = copy(vfs, path, &temp, len).and_then(|()| vfs.rename(&temp, path));
    if let Err(error) = copied {
        let _ = vfs.remove_file(&temp);
        return Err(error);
    }
    vfs.sync_dir(&parent(path))
}

fn copy(vfs: &dyn Vfs, from: &Path, to: &Path, len: u64) -> Result<(), VfsError> {
    let (from, to) = (vfs.open(from, OpenMode::Read)?, new_file(vfs, to)?);
    let mut buf = vec![0; COPY];
    let mut at = 0;
    while at < len {
        let part = (len - at).min(COPY as u64) as usize;
        from.read_exact_at(&mut buf[..part], at)?;
        to.write_all_at(&buf[..part], at)?;
        at += part as u64;
    }
    to.sync()
}

fn temp_name(path: &Path) -> Result<PathBuf, VfsError> {
    let Some(name) = path.file_name() else {
        let reason = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
        return Err(VfsError::new(VfsOp::Create, path, None, reason));
    };
    let mut temp_name = OsString::from(name);
    temp_name.push(TEMP_SUFFIX);
    Ok(path.with_file_name(temp_name))
}

/// The directory that holds `path`'s name; the current one for a bare name.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The whole content of the file at `path`, which must be at most `max_len` bytes long: the limit
/// is checked before anything is allocated.
///
/// # Errors
/// [`VfsError`] if the file cannot be read or is longer than `max_len`.
pub fn read_file(vfs: &dyn Vfs, path: &Path, max_len: u64) -> Result<Vec<u8>, VfsError> {
    let file = vfs.open(path, OpenMode::Read)?;
    let len = file.len()?;
    let refuse = |text: String| {
        let reason = io::Error::new(io::ErrorKind::InvalidData, text);
        VfsError::new(VfsOp::Read, path, Some(0), reason)
    };
    if len > max_len {
        return Err(refuse(format!("the file is {len} bytes long, at most {max_len} are allowed")));
    }
    let mut bytes = Vec::new();
    let fits = usize::try_from(len).ok().filter(|&len| bytes.try_reserve_exact(len).is_ok());
    let Some(len) = fits else {
        return Err(refuse(format!("no memory for {len} bytes")));
    };
    bytes.resize(len, 0);
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
