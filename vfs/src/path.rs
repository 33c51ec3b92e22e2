//! Paths of disks that are not the system's: relative ones and absolute ones start at the same root,
//! and `..` is resolved by name.

use std::{
    ffi::OsStr,
    io,
    path::{Component, Path},
};

/// The names that lead from the root to `path`.
pub(crate) fn names(path: &Path) -> Vec<&OsStr> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    names
}

/// The last name of a path and those before it; an error for the root.
pub(crate) fn split<'a, 'p>(names: &'a [&'p OsStr]) -> io::Result<(&'p OsStr, &'a [&'p OsStr])> {
    match names {
        [parents @ .., name] => Ok((*name, parents)),
        [] => Err(io::Error::new(io::ErrorKind::ResourceBusy, "the root directory")),
    }
}
