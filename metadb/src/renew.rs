//! Writing a database once more, as a whole: for one of which nobody knows whether the medium has what
//! the system shows, and for one that has grown far beyond what it holds.
//!
//! ```text
//!   meta.redb ── manifest, rows ──► meta.redb.new     all of it committed, closed
//!                                        │
//!                    rename (a file)     ▼            a directory: meta.rocksdb ► meta.rocksdb.old,
//!                                    meta.redb        meta.rocksdb.new ► meta.rocksdb, .old is removed
//! ```
//!
//! A process whose commit failed leaves its pages in the cache of the system, which has forgotten that
//! they are not on the medium. The next process reads them as if they were. What it adopts must not
//! rest on them: the rows are copied as bytes into a database of which every page is written and
//! synced. A crash leaves the old database or the new one under the name.
//!
//! Rows in files of their own (`sealed`) are not written again: a process that met a failed sync there
//! never got to the commit that relies on the file. So this costs the rows in the database, a few
//! thousand, however many heights are kept.

use crate::MetaError;
use crate::engine::{Engine, NEW_SUFFIX, open_backend, place};
use crate::engines::{Backend, Driver, Failure, guard};
use crate::history::MIN_ROW_LEN;
use crate::manifest::Manifest;
use hedgerow_types::Height;
use hedgerow_vfs::{OpenMode, Vfs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Appended to the name of a database that another one takes the place of, if it is a directory.
const OLD_SUFFIX: &str = ".old";
/// Rows that are copied in one commit, and bytes of them.
const ROWS: usize = 256;
const ROW_BYTES: usize = 4 << 20;
/// A file below this length is never called bloated.
const SMALL: u64 = 8 << 20;

/// When to write a database once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renew {
    /// In any case.
    Always,
    /// If its file is several times as large as what it holds. Engines that keep a directory see to
    /// that themselves.
    IfBloated,
}

/// Writes the database of `engine` in `dir` once more. It must not be open. Nothing happens if nothing
/// was ever committed to it.
///
/// # Errors
/// As [`open`](crate::open); then the database is what it was.
pub fn renew(engine: Engine, vfs: &Arc<dyn Vfs>, dir: &Path, when: Renew) -> Result<(), MetaError> {
    let driver = engine.driver();
    settle(driver, &**vfs, dir)?;
    let path = dir.join(driver.file);
    if when == Renew::IfBloated && (driver.is_dir || file_len(&**vfs, &path)? < SMALL) {
        return Ok(());
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |failure: Failure| failure.within(driver.name, &path)
    };
    let old = open_backend(driver, &place(driver, vfs, path.clone())?)?;
    let Some(manifest) = old.manifest().map_err(failed(&path))? else { return Ok(()) };
    let decoded = Manifest::decode(&manifest)
        .map_err(|reason| MetaError::Manifest { path: path.clone(), reason })?;
    let first = old.first_history().map_err(failed(&path))?.unwrap_or(decoded.height);
    let heights = || (first.0..=decoded.height.0).map(Height);
    if when == Renew::IfBloated {
        // Rows are as long as this at least, if they are all there: then none need be read.
        let least = MIN_ROW_LEN as u64 * (decoded.height.next().0.saturating_sub(first.0));
        if file_len(&**vfs, &path)? < SMALL + 4 * least {
            return Ok(());
        }
        let mut held = 0;
        for height in heights() {
            let row = old.history(height).map_err(failed(&path))?;
            held += row.map_or(0, |row| row.len() as u64);
        }
        if file_len(&**vfs, &path)? < SMALL + 4 * held {
            return Ok(());
        }
    }
    let temp = named(dir, driver, NEW_SUFFIX);
    remove(driver, &**vfs, &temp)?;
    {
        let place = place(driver, vfs, temp.clone())?;
        guard("creating", || (driver.create)(&place)).map_err(failed(&temp))?;
        let new = open_backend(driver, &place)?;
        let copy = |rows: &[(Height, Vec<u8>)]| {
            let kept = decoded.history_from..=decoded.height;
            new.commit(&manifest, rows, &kept).map_err(failed(&temp))
        };
        let (mut rows, mut bytes) = (vec![], 0);
        for height in heights().filter(|height| *height >= decoded.history_from) {
            // A row that is missing is damage, which is not for us to find.
            let Some(row) = old.history(height).map_err(failed(&path))? else { continue };
            bytes += row.len();
            rows.push((height, row));
            if rows.len() == ROWS || bytes >= ROW_BYTES {
                copy(&rows)?;
                (rows, bytes) = (vec![], 0);
            }
        }
        copy(&rows)?;
    }
    drop(old);
    if driver.is_dir {
        let aside = named(dir, driver, OLD_SUFFIX);
        vfs.rename(&path, &aside)?;
        vfs.rename(&temp, &path)?;
        vfs.sync_dir(dir)?;
        vfs.remove_dir_all(&aside)?;
    } else {
        vfs.rename(&temp, &path)?;
    }
    Ok(vfs.sync_dir(dir)?)
}

/// Ends a renewal that a crash cut short.
pub(crate) fn settle(driver: &Driver, vfs: &dyn Vfs, dir: &Path) -> Result<(), MetaError> {
    let aside = named(dir, driver, OLD_SUFFIX);
    if !driver.is_dir || !vfs.exists(&aside)? {
        return Ok(());
    }
    let path = dir.join(driver.file);
    if vfs.exists(&path)? {
        vfs.remove_dir_all(&aside)?;
    } else {
        vfs.rename(&aside, &path)?;
    }
    Ok(vfs.sync_dir(dir)?)
}

fn named(dir: &Path, driver: &Driver, suffix: &str) -> PathBuf {
    dir.join(format!("{}{suffix}", driver.file))
}

/// Removes a database that means nothing.
pub(crate) fn remove(driver: &Driver, vfs: &dyn Vfs, path: &Path) -> Result<(), MetaError> {
    if vfs.exists(path)? {
        if driver.is_dir { vfs.remove_dir_all(path)? } else { vfs.remove_file(path)? }
    }
    Ok(())
}

fn file_len(vfs: &dyn Vfs, path: &Path) -> Result<u64, MetaError> {
    Ok(vfs.open(path, OpenMode::Read)?.len()?)
}
