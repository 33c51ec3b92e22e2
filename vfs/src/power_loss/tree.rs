//! Files and directories by number, and the names that lead to them: cached ones, durable ones, and
//! the changes in between.
//!
//! ```text
//!   directory   cached     name ─► number     what every look-up sees
//!               durable    name ─► number     what the medium holds for certain
//!               unsynced   Set, Remove, Move  in order; a crash keeps each or not, whatever became
//!                                             of the others; a Move is one change, never half of it
//! ```

use super::content::{Content, FileState};
use crate::path::{names, split};
use crate::rng::Rng;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// Number of a file or directory.
pub(super) type Number = usize;
const ROOT: Number = 0;

type Names = BTreeMap<OsString, Number>;

enum NameChange {
    Set(OsString, Number),
    Remove(OsString),
    /// A rename within the directory.
    Move {
        from: OsString,
        to: OsString,
        number: Number,
    },
}

#[derive(Default)]
struct Directory {
    cached: Names,
    durable: Names,
    unsynced: Vec<NameChange>,
}

impl Directory {
    fn apply(names: &mut Names, change: &NameChange) {
        match change {
            NameChange::Set(name, number) => drop(names.insert(name.clone(), *number)),
            NameChange::Remove(name) => drop(names.remove(name)),
            NameChange::Move { from, to, number } => {
                names.remove(from);
                names.insert(to.clone(), *number);
            }
        }
    }

    fn change(&mut self, change: NameChange) {
        Self::apply(&mut self.cached, &change);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.cached);
        self.unsynced.clear();
    }

    fn survivors(&self, rng: &mut Rng, chance: u64) -> Names {
        let mut names = self.durable.clone();
        for change in &self.unsynced {
            if rng.chance(chance) {
                Self::apply(&mut names, change);
            }
        }
        names
    }
}

enum Node {
    File(Box<FileState>),
    Directory(Directory),
}

/// All files and directories.
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::Directory(Directory::default())] }
    }

    pub(super) fn file(&mut self, number: Number) -> io::Result<&mut FileState> {
        match self.nodes.get_mut(number) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn directory(&self, number: Number) -> io::Result<&Directory> {
        match self.nodes.get(number) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn directory_mut(&mut self, number: Number) -> io::Result<&mut Directory> {
        match self.nodes.get_mut(number) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn is_file(&self, number: Number) -> bool {
        matches!(self.nodes.get(number), Some(Node::File(_)))
    }

    fn add(&mut self, node: Node) -> Number {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn walk(&self, names: &[&OsStr]) -> io::Result<Number> {
        names.iter().try_fold(ROOT, |at, &name| {
            let child = self.directory(at)?.cached.get(name);
            child.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    /// The directory that holds the last name of `path`, and that name.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(Number, &'p OsStr)> {
        let names = names(path);
        let (name, parents) = split(&names)?;
        let at = self.walk(parents)?;
        self.directory(at)?;
        Ok((at, name))
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<Number> {
        let number = self.walk(&names(path))?;
        if self.is_file(number) { Ok(number) } else { Err(io::ErrorKind::IsADirectory.into()) }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Number> {
        if names(path).is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (at, name) = self.parent(path)?;
        if self.directory(at)?.cached.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = self.add(Node::File(Box::default()));
        self.directory_mut(at)?.change(NameChange::Set(name.to_owned(), number));
        Ok(number)
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let number = self.open(from)?;
        let (at, name) = self.parent(to)?;
        if self.directory(at)?.cached.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.directory_mut(at)?.change(NameChange::Set(name.to_owned(), number));
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let names = names(path);
        let mut at = ROOT;
        for (i, &name) in names.iter().enumerate() {
            at = match self.directory(at)?.cached.get(name).copied() {
                Some(child) if !self.is_file(child) => child,
                Some(_) if i + 1 == names.len() => return Err(io::ErrorKind::AlreadyExists.into()),
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let child = self.add(Node::Directory(Directory::default()));
                    self.directory_mut(at)?.change(NameChange::Set(name.to_owned(), child));
                    child
                }
            };
        }
        Ok(())
    }

    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let at = self.walk(&names(path))?;
        Ok(self.directory(at)?.cached.keys().cloned().collect())
    }

    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.walk(&names(path)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let (at, name) = self.parent(path)?;
        let found = self.directory(at)?.cached.get(name).copied();
        match found {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(number) if !self.is_file(number) => Err(io::ErrorKind::IsADirectory.into()),
            Some(_) => {
                self.directory_mut(at)?.change(NameChange::Remove(name.to_owned()));
                Ok(())
            }
        }
    }

    /// Names go one by one, from the leaves up, as a program removes a tree.
    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let (at, name) = self.parent(path)?;
        let found = self.directory(at)?.cached.get(name).copied();
        let Some(number) = found else { return Err(io::ErrorKind::NotFound.into()) };
        self.directory(number)?;
        self.clear(number)?;
        self.directory_mut(at)?.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn clear(&mut self, number: Number) -> io::Result<()> {
        for (name, child) in self.directory(number)?.cached.clone() {
            if !self.is_file(child) {
                self.clear(child)?;
            }
            self.directory_mut(number)?.change(NameChange::Remove(name));
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_at, from_name) = self.parent(from)?;
        let (to_at, to_name) = self.parent(to)?;
        let moved = self.directory(from_at)?.cached.get(from_name).copied();
        let Some(moved) = moved else { return Err(io::ErrorKind::NotFound.into()) };
        let (from_names, to_names) = (names(from), names(to));
        if from_names == to_names {
            return Ok(());
        }
        if to_names.starts_with(&from_names) {
            let text = "a directory cannot become part of itself";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let target = self.directory(to_at)?.cached.get(to_name).copied();
        if let Some(target) = target {
            match (self.is_file(moved), self.is_file(target)) {
                (true, true) => {}
                (false, true) => return Err(io::ErrorKind::NotADirectory.into()),
                (true, false) if !from_names.starts_with(&to_names) => {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                _ if self.directory(target)?.cached.is_empty() => {}
                _ => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            }
        }
        let (from, to) = (from_name.to_owned(), to_name.to_owned());
        if from_at == to_at {
            self.directory_mut(to_at)?.change(NameChange::Move { from, to, number: moved });
        } else {
            self.directory_mut(to_at)?.change(NameChange::Set(to, moved));
            self.directory_mut(from_at)?.change(NameChange::Remove(from));
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let at = self.walk(&names(path))?;
        self.directory_mut(at)?.sync();
        Ok(())
    }

    /// The medium failed: some names are on it, and the system forgets that others are not.
    pub(super) fn fail_sync_dir(&mut self, path: &Path, rng: &mut Rng) -> io::Result<()> {
        let at = self.walk(&names(path))?;
        let directory = self.directory_mut(at)?;
        directory.durable = directory.survivors(rng, 128);
        directory.unsynced.clear();
        Ok(())
    }

    /// A file or directory whose path contains `part` and which would lose something if the power
    /// went now: bytes, or the name of something in it. (A removed name that comes back is no loss.)
    pub(super) fn unsettled(&self, part: &str) -> Option<String> {
        let mut left = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, number)) = left.pop() {
            let wanted = path.to_string_lossy().contains(part);
            match &self.nodes[number] {
                Node::File(file) if wanted => {
                    if let Some(what) = file.unsettled() {
                        return Some(format!("{}: {what}", path.display()));
                    }
                }
                Node::File(_) => {}
                Node::Directory(directory) => {
                    let lost = |change: &NameChange| !matches!(change, NameChange::Remove(_));
                    if wanted && directory.unsynced.iter().any(lost) {
                        return Some(format!("{}: names", path.display()));
                    }
                    let names = directory.cached.iter();
                    left.extend(names.map(|(name, &child)| (path.join(name), child)));
                }
            }
        }
        None
    }

    /// What a crash leaves; `chance` in 256 is that of each unsynced sector or name.
    pub(super) fn survivor(&self, rng: &mut Rng, chance: u64) -> Self {
        let names = |directory: &Directory, rng: &mut Rng| directory.survivors(rng, chance);
        self.rebuild(rng, names, |file, rng| file.survivor(rng, chance))
    }

    /// A copy of what reads see, all of it durable.
    pub(super) fn settled(&self) -> Self {
        let names = |directory: &Directory, _: &mut Rng| directory.cached.clone();
        self.rebuild(&mut Rng::new(0), names, |file, _| file.cached().clone())
    }

    fn rebuild(
        &self,
        rng: &mut Rng,
        names: impl Fn(&Directory, &mut Rng) -> Names,
        content: impl Fn(&FileState, &mut Rng) -> Content,
    ) -> Self {
        let mut tree = Self::new();
        let mut new_numbers = HashMap::from([(ROOT, ROOT)]);
        let mut left = vec![ROOT];
        while let Some(number) = left.pop() {
            let Ok(directory) = self.directory(number) else { continue };
            let mut kept = Names::new();
            for (name, child) in names(directory, rng) {
                let new = match new_numbers.get(&child) {
                    Some(&new) => new,
                    None => {
                        let node = match &self.nodes[child] {
                            Node::File(file) => {
                                Node::File(Box::new(FileState::settled(content(file, rng))))
                            }
                            Node::Directory(_) => {
                                left.push(child);
                                Node::Directory(Directory::default())
                            }
                        };
                        let new = tree.add(node);
                        new_numbers.insert(child, new);
                        new
                    }
                };
                kept.insert(name, new);
            }
            if let Node::Directory(directory) = &mut tree.nodes[new_numbers[&number]] {
                directory.cached.clone_from(&kept);
                directory.durable = kept;
            }
        }
        tree
    }
}
