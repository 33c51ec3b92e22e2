//! Pairs in the order of keys of one length, within a bound of memory.
//!
//! ```text
//!   push ──► buffer ── full: sorted ──► run 1 │ run 2 │ ..  │      a file without a name
//!              │                          │       │
//!              └── the last one, sorted ──┤       │
//!                                         ▼       ▼
//!                                     the least of all ──► next
//! ```

use super::{Bytes, CoinStoreError};
use hedgerow::disk::{OpenMode, Vfs, VfsErrorKind, VfsFile};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::vec;

/// Names of files that are there for a moment only.
const PREFIX: &str = "sort-";
const SUFFIX: &str = ".tmp";
/// Least memory for pairs that are to be ordered.
const LEAST_BYTES: usize = 64 << 10;
/// Bytes of a run that are read at once; half of the memory at most, for all runs together.
const READ_AT_ONCE: usize = 64 << 10;
const LEAST_READ: usize = 4 << 10;
/// Bytes that are written at once.
const WRITTEN_AT_ONCE: usize = 256 << 10;
/// Bytes of a value's length before it in a run.
const LENGTH: usize = size_of::<u16>();

/// What takes pairs in.
pub(super) struct Sorter<'a, const N: usize> {
    memory: usize,
    bytes: Vec<u8>,
    places: Vec<Place<N>>,
    spill: Spill<'a>,
}

/// A pair in a buffer.
#[derive(Clone, Copy, Debug)]
struct Place<const N: usize> {
    key: [u8; N],
    from: usize,
    len: u16,
}

impl<'a, const N: usize> Sorter<'a, N> {
    /// What is more than `memory_bytes` goes to a file in this directory.
    pub(super) fn new(memory_bytes: usize, disk: &'a dyn Vfs, dir: &'a Path) -> Self {
        let memory = memory_bytes.max(LEAST_BYTES);
        let spill = Spill { disk, dir, file: None, len: 0, ends: Vec::new() };
        Self { memory, bytes: Vec::new(), places: Vec::new(), spill }
    }

    /// Takes a pair in; `false` if its value has more than 65,535 bytes.
    ///
    /// # Errors
    /// A failed write.
    pub(super) fn push(&mut self, key: [u8; N], value: &[u8]) -> Result<bool, CoinStoreError> {
        let Ok(len) = u16::try_from(value.len()) else { return Ok(false) };
        let places = (self.places.len() + 1) * size_of::<Place<N>>();
        if self.bytes.len() + value.len() + places > self.memory && !self.places.is_empty() {
            self.spill.write(&self.bytes, &mut self.places)?;
            self.bytes.clear();
        }
        self.places.push(Place { key, from: self.bytes.len(), len });
        self.bytes.extend_from_slice(value);
        Ok(true)
    }

    /// All that was taken in, in order.
    ///
    /// # Errors
    /// A failed read.
    pub(super) fn finish(self) -> Result<Sorted<N>, CoinStoreError> {
        let Self { memory, bytes, mut places, spill } = self;
        places.sort_unstable_by_key(|place| place.key);
        let mut runs = spill.into_runs(memory);
        runs.push(Run::Memory { bytes, places: places.into_iter(), head: None });
        let mut sorted = Sorted { runs, heads: BinaryHeap::new() };
        for run in 0..sorted.runs.len() {
            sorted.advance(run)?;
        }
        Ok(sorted)
    }
}

/// Pairs in order.
#[derive(Debug)]
pub(super) struct Sorted<const N: usize> {
    runs: Vec<Run<N>>,
    /// The next pair of each run, the least first.
    heads: BinaryHeap<Reverse<([u8; N], usize)>>,
}

impl<const N: usize> Sorted<N> {
    /// The key of the next pair.
    pub(super) fn peek(&self) -> Option<&[u8; N]> {
        self.heads.peek().map(|Reverse((key, _))| key)
    }

    /// The next pair.
    ///
    /// # Errors
    /// A failed read.
    pub(super) fn next(&mut self) -> Result<Option<([u8; N], Bytes)>, CoinStoreError> {
        let Some(Reverse((key, run))) = self.heads.pop() else { return Ok(None) };
        let value = self.runs.get(run).map(|from| Bytes::from(from.value())).unwrap_or_default();
        self.advance(run)?;
        Ok(Some((key, value)))
    }

    /// Brings the next pair of a run among the heads.
    fn advance(&mut self, run: usize) -> Result<(), CoinStoreError> {
        if let Some(from) = self.runs.get_mut(run)
            && let Some(key) = from.advance()?
        {
            self.heads.push(Reverse((key, run)));
        }
        Ok(())
    }
}

/// Pairs in order, at one of them.
#[derive(Debug)]
enum Run<const N: usize> {
    /// In memory.
    Memory { bytes: Vec<u8>, places: vec::IntoIter<Place<N>>, head: Option<Place<N>> },
    /// In a file.
    File { file: Arc<dyn VfsFile>, next: u64, end: u64, buffer: Vec<u8>, at: usize, most: usize },
}

impl<const N: usize> Run<N> {
    /// Goes on to the next pair, and says its key; `None` at the end.
    fn advance(&mut self) -> Result<Option<[u8; N]>, CoinStoreError> {
        match self {
            Self::Memory { places, head, .. } => {
                *head = places.next();
                Ok(head.map(|place| place.key))
            }
            Self::File { file, next, end, buffer, at, most } => {
                // Behind the pair that was the head.
                if !buffer.is_empty() {
                    *at += pair_len::<N>(buffer, *at);
                }
                loop {
                    let ready = buffer.len().saturating_sub(*at);
                    if ready >= N + LENGTH && ready >= pair_len::<N>(buffer, *at) {
                        let key = buffer.get(*at..).and_then(|left| left.first_chunk::<N>());
                        return Ok(key.copied());
                    }
                    if *next == *end {
                        return Ok(None);
                    }
                    buffer.drain(..*at);
                    *at = 0;
                    let wanted = usize::try_from(*end - *next).unwrap_or(usize::MAX).min(*most);
                    let had = buffer.len();
                    buffer.resize(had + wanted, 0);
                    let into = buffer.get_mut(had..).unwrap_or_default();
                    file.read_exact_at(into, *next)?;
                    *next += wanted as u64;
                }
            }
        }
    }

    /// The value of the pair to which it came last.
    fn value(&self) -> &[u8] {
        let value = match self {
            Self::Memory { bytes, head, .. } => head.and_then(|place| {
                bytes.get(place.from..place.from.saturating_add(usize::from(place.len)))
            }),
            Self::File { buffer, at, .. } => {
                buffer.get(at + N + LENGTH..at + pair_len::<N>(buffer, *at))
            }
        };
        value.unwrap_or_default()
    }
}

/// Bytes of the pair at a place in a run, its key and length included.
fn pair_len<const N: usize>(buffer: &[u8], at: usize) -> usize {
    let len = buffer.get(at + N..).and_then(|left| left.first_chunk::<LENGTH>());
    N + LENGTH + len.map_or(0, |len| usize::from(u16::from_le_bytes(*len)))
}

/// The file of runs, which has no name as soon as it is open.
struct Spill<'a> {
    disk: &'a dyn Vfs,
    dir: &'a Path,
    file: Option<Arc<dyn VfsFile>>,
    len: u64,
    /// Where each run ends.
    ends: Vec<u64>,
}

impl Spill<'_> {
    /// Writes a run; the places are used up.
    fn write<const N: usize>(
        &mut self,
        bytes: &[u8],
        places: &mut Vec<Place<N>>,
    ) -> Result<(), CoinStoreError> {
        places.sort_unstable_by_key(|place| place.key);
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = nameless(self.disk, self.dir)?;
                self.file = Some(Arc::clone(&file));
                file
            }
        };
        let mut out = Vec::with_capacity(WRITTEN_AT_ONCE + (64 << 10));
        let mut write = |out: &mut Vec<u8>| {
            let written = file.write_all_at(out, self.len);
            self.len += out.len() as u64;
            out.clear();
            written
        };
        for place in places.drain(..) {
            out.extend_from_slice(&place.key);
            out.extend_from_slice(&place.len.to_le_bytes());
            let end = place.from.saturating_add(usize::from(place.len));
            out.extend_from_slice(bytes.get(place.from..end).unwrap_or_default());
            if out.len() >= WRITTEN_AT_ONCE {
                write(&mut out)?;
            }
        }
        write(&mut out)?;
        self.ends.push(self.len);
        Ok(())
    }

    /// The runs, to be read within half of the memory.
    fn into_runs<const N: usize>(self, memory: usize) -> Vec<Run<N>> {
        let Some(file) = self.file else { return Vec::new() };
        let share = memory / 2 / self.ends.len().max(1);
        let most = share.clamp(LEAST_READ, READ_AT_ONCE);
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let run = |(next, &end): (u64, &u64)| Run::File {
            file: Arc::clone(&file),
            next,
            end,
            buffer: Vec::new(),
            at: 0,
            most,
        };
        begins.zip(&self.ends).map(run).collect()
    }
}

/// A new file that is gone when it is closed.
fn nameless(disk: &dyn Vfs, dir: &Path) -> Result<Arc<dyn VfsFile>, CoinStoreError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let path = dir.join(format!("{PREFIX}{number}{SUFFIX}"));
    let file = disk.open(&path, OpenMode::CreateNew)?;
    disk.remove_file(&path)?;
    Ok(file)
}

/// Whether a file has the name of one that sorts.
pub(super) fn is_leftover(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// Removes what a process has left that was killed between making such a file and taking its name away.
pub(super) fn remove_leftovers(disk: &dyn Vfs, dir: &Path) -> Result<(), CoinStoreError> {
    for name in disk.read_dir(dir)?.into_iter().filter(|name| is_leftover(name)) {
        match disk.remove_file(&dir.join(name)) {
            Err(error) if error.kind() != VfsErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
