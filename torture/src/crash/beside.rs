//! An engine that opens files itself, beside a disk that loses power.
//!
//! ```text
//!   store ──► Both ──┬── what lies in meta/ ──► RealDisk, in a directory of its own
//!                    └── everything else ───► PowerLossDisk
//! ```
//!
//! The engine's files lose nothing: what it calls committed is, and more may be. That is one of the
//! outcomes that a power loss may have, so that the files around it must fit, whatever they lose.

use super::session::dir;
use hedgerow::{Engine, Options};
use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{DirLock, OpenMode, RealDisk, Vfs, VfsError, VfsFile};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// An engine, and where its files lie.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub(crate) engine: Engine,
    real: PathBuf,
}

impl Beside {
    /// Of `engine`, in the directory `real`.
    pub(crate) fn new(engine: Engine, real: PathBuf) -> Self {
        Self { engine, real }
    }

    /// Of the same engine, in a directory beside.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        let name = format!("{}-{name}", self.engine);
        Self { engine: self.engine, real: self.real.with_file_name(name) }
    }

    /// Begins with nothing.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn forget(&self) -> Result<(), VfsError> {
        if RealDisk.exists(&self.real)? {
            RealDisk.remove_dir_all(&self.real)?;
        }
        RealDisk.create_dir_all(&self.real)
    }

    /// Takes the files of `other`, which nobody has open.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn copy_from(&self, other: &Self) -> io::Result<()> {
        self.forget().map_err(io::Error::other)?;
        copy_all(&other.real, &self.real)
    }

    /// Options of a store on `disk`, with the manifest beside it if it is to be.
    pub(crate) fn options(beside: Option<&Self>, disk: &PowerLossDisk) -> Options {
        let disk = disk.clone();
        match beside.cloned() {
            None => Options::new().disk(Arc::new(disk)),
            Some(beside) => {
                Options::new().engine(beside.engine).disk(Arc::new(Both { disk, beside }))
            }
        }
    }

    /// After a power loss: if the engine's directory is gone, so is what lay in it.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn after_power_loss(&self, disk: &PowerLossDisk) -> Result<(), VfsError> {
        if disk.exists(&meta_dir()).unwrap_or(true) { Ok(()) } else { self.forget() }
    }

    /// Where `path` lies if it is the engine's.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(meta_dir()).ok()?;
        below.iter().next().map(|_| self.real.join(below))
    }
}

fn meta_dir() -> PathBuf {
    dir().join("meta")
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Both {
    disk: PowerLossDisk,
    beside: Beside,
}

impl Both {
    /// The disk that has `path`, and what it is called there.
    fn at(&self, path: &Path) -> (&dyn Vfs, PathBuf) {
        match self.beside.real(path) {
            Some(real) => (&RealDisk, real),
            None => (&self.disk, path.to_owned()),
        }
    }
}

impl Vfs for Both {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let (disk, path) = self.at(path);
        disk.open(&path, mode)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        let (disk, path) = self.at(path);
        disk.create_dir_all(&path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        let (disk, at) = self.at(path);
        let mut names = disk.read_dir(&at)?;
        if path == meta_dir() {
            names.extend(RealDisk.read_dir(&self.beside.real)?);
            names.sort();
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        let (disk, path) = self.at(path);
        disk.exists(&path)
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        let (disk, path) = self.at(path);
        disk.remove_file(&path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        let (disk, path) = self.at(path);
        disk.remove_dir_all(&path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let ((disk, from), (_, to)) = (self.at(from), self.at(to));
        disk.rename(&from, &to)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        let (disk, path) = self.at(path);
        disk.sync_dir(&path)
    }

    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        self.disk.lock_dir(path)
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        self.beside.real(path)
    }

    fn at_point(&self, point: &'static str) -> Result<(), VfsError> {
        self.disk.at_point(point)
    }
}
