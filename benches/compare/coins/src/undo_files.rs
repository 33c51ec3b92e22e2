//! What a node keeps to disconnect the last blocks: the coins that they spent, one record a block, as Bitcoin Core's `rev` files.
//!
//! ```text
//!   000000001.rev   block 1 │ block 2 │ ..          a record: height u32, length u32, then coins: length u8, stored form
//!   000000129.rev   block 129 │ ..                  a file is deleted when all its blocks are older than is kept
//! ```
//!
//! Numbers are little-endian. A record ends before the block's epoch does: [`UndoFiles::sync`] comes first.

use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Blocks of a file.
const BLOCKS: u32 = 128;

/// See the [module documentation](self).
#[derive(Debug)]
pub struct UndoFiles {
    dir: PathBuf,
    kept: u32,
    /// The first height of each file, and its path.
    files: VecDeque<(u32, PathBuf)>,
    newest: Option<File>,
    /// Files that are written and not synced, but for the newest.
    unsynced: SmallVec<[File; 4]>,
    record: Vec<u8>,
    bytes: u64,
}

impl UndoFiles {
    /// Files in a directory, which is made, of the last `kept` blocks.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(dir: &Path, kept: u32) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let dir = dir.to_path_buf();
        let (files, unsynced) = (VecDeque::new(), SmallVec::new());
        Ok(Self { dir, kept, files, newest: None, unsynced, record: Vec::new(), bytes: 0 })
    }

    /// Bytes written.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the record of a block: the stored forms of the coins that it spent, at most 255 bytes each here.
    ///
    /// # Errors
    /// A failed write; a longer coin.
    pub fn append<'a>(
        &mut self,
        height: u32,
        spent: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        self.record.clear();
        self.record.extend_from_slice(&height.to_le_bytes());
        self.record.extend_from_slice(&[0; 4]);
        for coin in spent {
            let len = u8::try_from(coin.len())
                .map_err(|_| io::Error::other("a coin of more than 255 bytes"))?;
            self.record.push(len);
            self.record.extend_from_slice(coin);
        }
        let len = (self.record.len() - 8) as u32;
        self.record.iter_mut().skip(4).zip(len.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        let begins =
            self.files.back().is_none_or(|(first, _)| height.saturating_sub(*first) >= BLOCKS);
        if begins {
            let path = self.dir.join(format!("{height:09}.rev"));
            self.unsynced.extend(self.newest.replace(File::create(&path)?));
            self.files.push_back((height, path));
        }
        if let Some(newest) = &mut self.newest {
            newest.write_all(&self.record)?;
            self.bytes += self.record.len() as u64;
        }
        Ok(())
    }

    /// Makes all records durable, and deletes what is too old.
    ///
    /// # Errors
    /// A failed sync or deletion.
    pub fn sync(&mut self, height: u32) -> io::Result<()> {
        for file in self.unsynced.drain(..) {
            file.sync_data()?;
        }
        if let Some(newest) = &self.newest {
            newest.sync_data()?;
        }
        File::open(&self.dir)?.sync_all()?;
        let least = height.saturating_sub(self.kept);
        while self.files.get(1).is_some_and(|(next, _)| *next <= least + 1) {
            if let Some((_, path)) = self.files.pop_front() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records in all files: heights and coins.
    fn read(dir: &Path) -> Vec<(u32, Vec<Vec<u8>>)> {
        let mut paths: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
        paths.sort();
        let mut records = Vec::new();
        for path in paths {
            let bytes = std::fs::read(path).unwrap();
            let mut rest = &bytes[..];
            while let Some((head, tail)) = rest.split_first_chunk::<8>() {
                let [height, len] =
                    [0, 4].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()));
                let (mut record, tail) = tail.split_at(len as usize);
                let mut coins = Vec::new();
                while let Some((len, after)) = record.split_first() {
                    coins.push(after[..usize::from(*len)].to_vec());
                    record = &after[usize::from(*len)..];
                }
                records.push((height, coins));
                rest = tail;
            }
        }
        records
    }

    #[test]
    fn the_last_blocks_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = UndoFiles::new(dir.path(), 288).unwrap();
        let coins = |height: u32| -> Vec<Vec<u8>> {
            (0..height % 4).map(|n| vec![n as u8; height as usize % 60 + 1]).collect()
        };
        for height in 1..=1_000 {
            files.append(height, coins(height).iter().map(Vec::as_slice)).unwrap();
            if height % 70 == 0 {
                files.sync(height).unwrap();
                let records = read(dir.path());
                let first = records[0].0;
                assert!(
                    first <= height.saturating_sub(288) + 1 && first + 288 + BLOCKS > height,
                    "{first} {height}"
                );
                assert!(records.iter().map(|(height, _)| *height).eq(first..=height));
                assert!(records.iter().all(|(height, found)| *found == coins(*height)));
            }
        }
        assert!(files.append(1_001, [&[0; 256][..]].into_iter()).is_err());
    }
}
