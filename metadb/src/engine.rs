//! Which engines there are, and opening one: the only place that knows which were compiled in.
//!
//! ```text
//!   directory of the store
//!     meta.redb            a database has the name of its engine, so that another engine
//!     meta.redb.new        notices it; this one is being made, and means nothing after a crash
//!     history-....rows     rows that have left the database, see `sealed`
//! ```

use crate::{
    MetaDb, MetaError,
    database::Database,
    engines::{Driver, Failure, Guarded, Place, guard},
    sealed::Sealed,
};
use hedgerow_vfs::Vfs;
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

/// A database engine that was compiled in.
///
/// ```
/// use hedgerow_metadb::Engine;
/// let default = Engine::available()[0];        // of those that were compiled in
/// assert_eq!(default.name().parse(), Ok(default));
/// let none = "abacus".parse::<Engine>().unwrap_err();
/// assert!(none.to_string().contains("not a database engine"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// [redb](https://www.redb.org), on any [`Vfs`].
    #[cfg(feature = "redb")]
    Redb,
    /// [RocksDB](https://rocksdb.org), on a real disk.
    #[cfg(feature = "rocksdb")]
    RocksDb,
    /// [sled](https://sled.rs) 0.34, on a real disk. It is there for compatibility, for whoever runs on it
    /// already. A new store does not want it: it needs a lock, a second sync and a wait that the others do
    /// without, and 0.34 has been the last stable version since 2021.
    #[cfg(feature = "sled")]
    Sled,
}

/// Every engine, compiled in or not: its name and that of its database.
const ALL: [(&str, &str); 3] =
    [("redb", "meta.redb"), ("rocksdb", "meta.rocksdb"), ("sled", "meta.sled")];
/// Appended to the name of a database that is being made.
pub(crate) const NEW_SUFFIX: &str = ".new";

impl Engine {
    /// The engines that were compiled in; the first is the one to take unless told otherwise.
    pub const fn available() -> &'static [Self] {
        &[
            #[cfg(feature = "redb")]
            Self::Redb,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb,
            #[cfg(feature = "sled")]
            Self::Sled,
        ]
    }

    /// The name by which options and the command line select the engine.
    pub fn name(self) -> &'static str {
        self.driver().name
    }

    /// Whether its database can be [copied](crate::copy) while another process writes to it.
    pub fn can_be_copied(self) -> bool {
        !self.driver().needs_real_disk
    }

    pub(crate) fn driver(self) -> &'static Driver {
        match self {
            #[cfg(feature = "redb")]
            Self::Redb => &crate::engines::redb::DRIVER,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => &crate::engines::rocksdb::DRIVER,
            #[cfg(feature = "sled")]
            Self::Sled => &crate::engines::sled::DRIVER,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not that of an engine that was compiled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is {}; available: {}",
    if ALL.iter().any(|(known, _)| known == name) {
        "a database engine that was not compiled in (it is a cargo feature)"
    } else {
        "not a database engine"
    },
    Engine::available().iter().map(|engine| engine.name()).collect::<Vec<_>>().join(", ")
)]
pub struct UnknownEngine {
    /// The name.
    pub name: String,
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        let found = Self::available().iter().find(|engine| engine.name() == name);
        found.copied().ok_or_else(|| UnknownEngine { name: name.to_owned() })
    }
}

/// Whether `dir` holds a database of `engine`.
///
/// # Errors
/// [`MetaError::Disk`] if that cannot be found out.
pub fn exists(engine: Engine, vfs: &dyn Vfs, dir: &Path) -> Result<bool, MetaError> {
    crate::renew::settle(engine.driver(), vfs, dir)?;
    Ok(vfs.exists(&dir.join(engine.driver().file))?)
}

/// Opens the database of `engine` in the existing directory `dir`, which the caller has locked.
/// With `create` a database that is not there is made; one that is there is never touched.
///
/// # Errors
/// [`MetaError::Missing`] if it is not there and `create` is false; [`MetaError::OtherEngine`] if
/// another engine's is; [`MetaError::NeedsRealDisk`] if the engine cannot work on `vfs`; otherwise
/// that of the engine or the disk.
pub fn open(
    engine: Engine,
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    create: bool,
) -> Result<Box<dyn MetaDb>, MetaError> {
    let driver = engine.driver();
    crate::renew::settle(driver, &*vfs, dir)?;
    for (found, file) in ALL {
        let path = dir.join(file);
        if found != driver.name && vfs.exists(&path)? {
            return Err(MetaError::OtherEngine { engine: driver.name, found, path });
        }
    }
    let path = dir.join(driver.file);
    let place = place(driver, &vfs, path.clone())?;
    if !vfs.exists(&path)? {
        if !create {
            return Err(MetaError::Missing { engine: driver.name, path });
        }
        make(driver, &vfs, dir)?;
    }
    let backend = open_backend(driver, &place)?;
    Ok(Box::new(Database::new(driver.name, path, backend, Sealed::new(vfs, dir))))
}

/// Opens what is there.
pub(crate) fn open_backend(driver: &Driver, place: &Place) -> Result<Guarded, MetaError> {
    let failed = |failure: Failure| failure.within(driver.name, &place.path);
    let backend = guard("opening", || (driver.open)(place)).map_err(failed)?;
    Ok(Guarded::new(backend))
}

pub(crate) fn place(
    driver: &Driver,
    vfs: &Arc<dyn Vfs>,
    path: PathBuf,
) -> Result<Place, MetaError> {
    let real = if driver.needs_real_disk { vfs.real_path(&path) } else { Some(path.clone()) };
    match real {
        Some(real) => Ok(Place { vfs: Arc::clone(vfs), path, real }),
        None => Err(MetaError::NeedsRealDisk { engine: driver.name, path }),
    }
}

/// Makes an empty database under a temporary name and gives it its own.
fn make(driver: &Driver, vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<(), MetaError> {
    let temp = dir.join(format!("{}{NEW_SUFFIX}", driver.file));
    // If a crash left it, it means nothing.
    crate::renew::remove(driver, &**vfs, &temp)?;
    let place = place(driver, vfs, temp.clone())?;
    let created = guard("creating", || (driver.create)(&place));
    created.map_err(|failure| failure.within(driver.name, &temp))?;
    vfs.rename(&temp, &dir.join(driver.file))?;
    Ok(vfs.sync_dir(dir)?)
}
