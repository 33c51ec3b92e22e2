//! Copying a database to which another process may be committing.
//!
//! ```text
//!   first page ─► the others ─► first page again ── the same ──► a copy of one commit
//!       ▲                             │ another
//!       └─────────────────────────────┘ a few times: who commits so often is not waited for
//! ```
//!
//! redb keeps in its first page which commit counts, and writes no page that this commit needs: one that
//! begins meanwhile goes to pages that nothing uses, and the next but one at the earliest may use those of
//! this commit. So if the first page is the same before and after, the copy is of one commit. That is no
//! more than what makes a good copy likely: who opens it verifies every page from the top (`engines/redb`),
//! so that one that is torn is noticed there. What it finds may also be the commit before, whole: older,
//! and as true.

use crate::{Engine, MetaError};
use hedgerow_vfs::{OpenMode, Vfs, VfsErrorKind, VfsFile};
use std::path::Path;

/// What is read first and last.
const FIRST: usize = 4096;
/// Bytes that are copied at a time.
const PART: usize = 1 << 20;
/// Attempts to meet no commit.
const ATTEMPTS: usize = 8;
/// Longest database that is copied. Some 4,200 rows of 1 MiB fit, which none has.
const MAX_LEN: u64 = 4 << 30;

/// Copies the database of `engine` in `dir` to the same place of another disk, where it takes the place of
/// what is there, and returns the copy's checksum. Another process may be committing, or be replacing the
/// database; the copy may be torn, which opening it notices.
///
/// # Errors
/// [`MetaError::NotBeside`] if the engine keeps more than one file; [`MetaError::TooLarge`];
/// [`MetaError::Disk`].
pub fn copy(engine: Engine, vfs: &dyn Vfs, dir: &Path, to: &dyn Vfs) -> Result<u32, MetaError> {
    let path = dir.join(engine.driver().file);
    if !engine.can_be_copied() {
        let able = Engine::available().iter().filter(|engine| engine.can_be_copied());
        let mut able: Vec<_> = able.map(|engine| engine.name()).collect();
        if able.is_empty() {
            able.push("redb (not compiled in)");
        }
        return Err(MetaError::NotBeside { engine: engine.name(), path, able });
    }
    match to.remove_file(&path) {
        Err(error) if error.kind() != VfsErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let into = to.open(&path, OpenMode::CreateNew)?;
    // By its name each time: what it leads to now.
    let open = || vfs.open(&path, OpenMode::Read);
    let mut crc = 0;
    for _ in 0..ATTEMPTS {
        let file = open()?;
        let first = part(&*file, 0, FIRST)?;
        into.set_len(0)?;
        into.write_all_at(&first, 0)?;
        crc = crc32c::crc32c(&first);
        let mut at = first.len() as u64;
        loop {
            let bytes = part(&*file, at, PART)?;
            if bytes.is_empty() {
                break;
            }
            into.write_all_at(&bytes, at)?;
            crc = crc32c::crc32c_append(crc, &bytes);
            at += bytes.len() as u64;
            if at > MAX_LEN {
                return Err(MetaError::TooLarge { path, len: file.len()? });
            }
        }
        if part(&*open()?, 0, FIRST)? == first {
            break;
        }
    }
    Ok(crc)
}

/// The bytes of a file from `at` on, at most `len` of them.
fn part(file: &dyn VfsFile, at: u64, len: usize) -> Result<Vec<u8>, MetaError> {
    let mut bytes = vec![0; len];
    let read = file.read_at_most(&mut bytes, at)?;
    bytes.truncate(read);
    Ok(bytes)
}
