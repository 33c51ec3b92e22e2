//! The content of one file: what reads see, what a crash leaves, and what may be either.
//!
//! ```text
//!   cached     what every read sees: the page cache
//!   unsynced   sectors written since the last sync, with what they held in between
//!   durable    what the medium holds for certain
//!   lost       sectors whose sync failed: no longer dirty, cached differs from durable, and only
//!              writing them again can change that (what Linux does after a failed fsync)
//!
//!   crash:  every unsynced sector is, each for itself, the durable one, the cached one, or one of
//!           those in between; the length is one of those that the file had, or between them
//! ```

use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::io;
use std::sync::Arc;

/// Bytes that survive or are lost together.
pub(super) const SECTOR: usize = 512;
const PAGE: usize = 4096;
const SECTORS_PER_PAGE: u64 = (PAGE / SECTOR) as u64;
/// Contents in between that are remembered per sector.
const VERSIONS: usize = 3;
/// Longest file and greatest offset, as on the systems that count in signed 64-bit numbers.
const MAX_LEN: u64 = i64::MAX as u64;

/// Sparse bytes; those at or beyond `len` are zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl Content {
    fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let there = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < there {
            let at = offset + done as u64;
            let in_page = (at % PAGE as u64) as usize;
            let count = (there - done).min(PAGE - in_page);
            let out = &mut buf[done..done + count];
            match self.pages.get(&(at / PAGE as u64)) {
                Some(page) => out.copy_from_slice(&page[in_page..in_page + count]),
                None => out.fill(0),
            }
            done += count;
        }
        there
    }

    /// Writes without a look at the length.
    fn put(&mut self, buf: &[u8], offset: u64) {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let in_page = (at % PAGE as u64) as usize;
            let count = (buf.len() - done).min(PAGE - in_page);
            let page = self.pages.entry(at / PAGE as u64).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[in_page..in_page + count].copy_from_slice(&buf[done..done + count]);
            done += count;
        }
    }

    fn set_len(&mut self, len: u64) {
        drop(self.pages.split_off(&len.div_ceil(PAGE as u64)));
        if let Some(page) = self.pages.get_mut(&(len / PAGE as u64)) {
            let keep = (len % PAGE as u64) as usize;
            if page[keep..].iter().any(|&byte| byte != 0) {
                Arc::make_mut(page)[keep..].fill(0);
            }
        }
        self.len = len;
    }

    /// What lies in a sector, beyond the end too.
    fn sector(&self, sector: u64) -> [u8; SECTOR] {
        let start = (sector % SECTORS_PER_PAGE) as usize * SECTOR;
        let page = self.pages.get(&(sector / SECTORS_PER_PAGE));
        let bytes = page.and_then(|page| page[start..].first_chunk());
        bytes.copied().unwrap_or([0; SECTOR])
    }

    fn set_sector(&mut self, sector: u64, bytes: &[u8; SECTOR]) {
        if self.sector(sector) != *bytes {
            self.put(bytes, sector * SECTOR as u64);
        }
    }

    /// Takes a whole page from `other`.
    fn share_page(&mut self, page: u64, other: &Self) {
        match other.pages.get(&page) {
            Some(bytes) => drop(self.pages.insert(page, Arc::clone(bytes))),
            None => drop(self.pages.remove(&page)),
        }
    }
}

/// See the [module documentation](self).
#[derive(Default)]
pub(super) struct FileState {
    cached: Content,
    durable: Content,
    unsynced: BTreeMap<u64, Vec<[u8; SECTOR]>>,
    /// Lengths that the file had since the last sync.
    lens: Vec<u64>,
    lost: BTreeSet<u64>,
}

impl FileState {
    /// A file that holds `content` for certain.
    pub(super) fn settled(content: Content) -> Self {
        Self { cached: content.clone(), durable: content, ..Self::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.cached.len
    }

    pub(super) fn cached(&self) -> &Content {
        &self.cached
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset > MAX_LEN && !buf.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.cached.read(buf, offset))
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= MAX_LEN);
        let Some(end) = end else { return Err(io::ErrorKind::InvalidInput.into()) };
        if buf.is_empty() {
            return Ok(());
        }
        self.touch(offset, end);
        self.cached.put(buf, offset);
        if end > self.cached.len {
            self.cached.len = end;
            self.lens.push(end);
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len > MAX_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if len < self.cached.len {
            self.touch(len, self.cached.len);
        }
        self.cached.set_len(len);
        self.lens.push(len);
        Ok(())
    }

    /// Notes that the bytes from `start` to `end` are about to change.
    fn touch(&mut self, start: u64, end: u64) {
        for sector in start / SECTOR as u64..end.div_ceil(SECTOR as u64) {
            self.lost.remove(&sector);
            match self.unsynced.entry(sector) {
                Entry::Vacant(vacant) => drop(vacant.insert(Vec::new())),
                Entry::Occupied(mut versions) => {
                    if versions.get().len() < VERSIONS {
                        versions.get_mut().push(self.cached.sector(sector));
                    }
                }
            }
        }
    }

    /// Everything written so far reaches the medium.
    pub(super) fn sync(&mut self) {
        let mut shared = None;
        for &sector in self.unsynced.keys() {
            let page = sector / SECTORS_PER_PAGE;
            if shared == Some(page) {
                continue;
            }
            let sectors = page * SECTORS_PER_PAGE..(page + 1) * SECTORS_PER_PAGE;
            if self.lost.range(sectors).next().is_none() {
                self.durable.share_page(page, &self.cached);
                shared = Some(page);
            } else {
                self.durable.set_sector(sector, &self.cached.sector(sector));
            }
        }
        self.durable.set_len(self.cached.len);
        self.unsynced.clear();
        self.lens.clear();
    }

    /// The medium failed: some of what was to be synced is on it, and the system forgets that the
    /// rest is not.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        for &sector in self.unsynced.keys() {
            if rng.chance(128) {
                self.durable.set_sector(sector, &self.cached.sector(sector));
            } else if self.durable.sector(sector) != self.cached.sector(sector) {
                self.lost.insert(sector);
            }
        }
        self.unsynced.clear();
        if rng.chance(128) {
            self.durable.set_len(self.cached.len);
            self.lens.clear();
        }
    }

    /// What a crash leaves, if each unsynced sector reached the medium with this chance in 256.
    pub(super) fn survivor(&self, rng: &mut Rng, chance: u64) -> Content {
        let mut content = self.durable.clone();
        for (&sector, versions) in &self.unsynced {
            if rng.chance(chance) {
                content.set_sector(sector, &self.cached.sector(sector));
            } else if !versions.is_empty() && rng.chance(128) {
                let version = rng.below(versions.len() as u64) as usize;
                content.set_sector(sector, &versions[version]);
            }
        }
        if !self.lens.is_empty() {
            let all = || self.lens.iter().copied().chain([self.durable.len]);
            let (least, greatest) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
            let len = match rng.below(4) {
                _ if chance == 0 => self.durable.len,
                _ if chance == 256 => self.cached.len,
                0 => self.durable.len,
                1 => self.cached.len,
                2 => self.lens[rng.below(self.lens.len() as u64) as usize],
                _ => least + rng.below(greatest - least + 1),
            };
            content.set_len(len);
        } else {
            content.set_len(self.durable.len);
        }
        content
    }

    /// Changes a byte at rest.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        for content in [&mut self.cached, &mut self.durable] {
            let mut byte = [0];
            if content.read(&mut byte, offset) == 1 {
                content.put(&[byte[0] ^ mask], offset);
            }
        }
    }
}
