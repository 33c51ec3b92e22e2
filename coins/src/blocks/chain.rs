//! The chain with the most work, and its blocks.

use super::error::{BlockFileDefect, BlockFileError};
use super::{BlockFiles, Found, Source, Spool};
use bitcoin::consensus::encode::deserialize;
use bitcoin::{Block, BlockHash, Target, Work};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::vec;

/// The blocks of [`BlockFiles::chain_after`], an iterator.
///
/// Each block is read when it is asked for, and checked: it is the one whose header was found, and its transactions are
/// those of the header. After an error there are no more.
///
/// ```
/// # use hedgerow_coins::{BlockFiles, regtest, bitcoin::consensus::encode::serialize_hex};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("blocks.hex");
/// # let lines: Vec<String> = regtest::chain().take(5).map(|block| serialize_hex(&block)).collect();
/// # std::fs::write(&path, lines.join("\n"))?;
/// let third = regtest::chain().nth(2).ok_or("no block")?.block_hash();
/// let chain = BlockFiles::open([&path])?.chain_after(third);
/// assert_eq!((chain.blocks(), chain.stale(), chain.others()), (2, 0, 3));
/// for (height, block) in (4..).zip(chain) {
///     println!("{height} {}", block?.block_hash());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BlockChain {
    left: vec::IntoIter<Found>,
    stale: usize,
    others: usize,
    reading: Reading,
}

impl BlockChain {
    pub(super) fn after(files: BlockFiles, tip: BlockHash) -> Self {
        let (path, attached) = most_work(&files, tip);
        let stale = attached - path.len();
        let others = files.blocks.len() - attached;
        let left: Vec<Found> =
            path.iter().filter_map(|number| files.blocks.get(*number)).copied().collect();
        let reading =
            Reading { sources: files.sources, spool: files.spool, open: None, buffer: Vec::new() };
        Self { left: left.into_iter(), stale, others, reading }
    }

    /// How many blocks are to come.
    pub fn blocks(&self) -> usize {
        self.left.len()
    }

    /// How many blocks come after the tip on branches with less work. They are left out.
    pub const fn stale(&self) -> usize {
        self.stale
    }

    /// How many blocks do not come after the tip: those up to it, and those whose predecessors are missing.
    pub const fn others(&self) -> usize {
        self.others
    }
}

impl Iterator for BlockChain {
    type Item = Result<Block, BlockFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.left.next()?;
        let block = self.reading.block(&found);
        if block.is_err() {
            self.left = Vec::new().into_iter();
        }
        Some(block)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // After an error there are no more.
        (self.left.len().min(1), Some(self.left.len()))
    }
}

/// What is known of a block while the chain is looked for.
#[derive(Clone, Copy)]
enum State {
    Unknown,
    /// On the way back from a block that is asked about.
    Asked,
    /// It does not come after the tip.
    Other,
    /// It does, with so much work.
    After(Work),
}

/// The numbers of the blocks of the chain, in order, and how many blocks come after the tip at all.
fn most_work(files: &BlockFiles, tip: BlockHash) -> (Vec<usize>, usize) {
    let mut states = vec![State::Unknown; files.blocks.len()];
    let mut attached = 0;
    let mut best: Option<(Work, usize)> = None;
    let mut way = Vec::new();
    for start in 0..files.blocks.len() {
        // Back to a block of which it is known.
        let mut number = Some(start);
        let mut work = loop {
            let Some((at, block)) = number.and_then(|at| Some((at, files.blocks.get(at)?))) else {
                break None;
            };
            match states.get_mut(at) {
                Some(state @ State::Unknown) => *state = State::Asked,
                Some(State::After(work)) => break Some(*work),
                // A circle would be a break of SHA-256.
                _ => break None,
            }
            way.push((at, block.bits));
            if block.previous == tip {
                break Some(Work::from_be_bytes([0; 32]));
            }
            number = files.by_hash.get(&block.previous).copied();
        };
        // And forth again.
        while let Some((at, bits)) = way.pop() {
            work = work.map(|before| before + Target::from_compact(bits).to_work());
            if let Some(state) = states.get_mut(at) {
                *state = work.map_or(State::Other, State::After);
            }
            if let Some(work) = work {
                attached += 1;
                let better =
                    best.is_none_or(|(most, first)| work > most || work == most && at < first);
                if better {
                    best = Some((work, at));
                }
            }
        }
    }
    let mut path = Vec::new();
    let mut number = best.map(|(_, number)| number);
    while let Some((at, block)) = number.and_then(|at| Some((at, files.blocks.get(at)?))) {
        path.push(at);
        if block.previous == tip {
            break;
        }
        number = files.by_hash.get(&block.previous).copied();
    }
    path.reverse();
    (path, attached)
}

/// The files that blocks are read from.
#[derive(Debug)]
struct Reading {
    sources: Vec<Source>,
    spool: Option<Spool>,
    /// The source that was read last.
    open: Option<(u32, File)>,
    buffer: Vec<u8>,
}

impl Reading {
    fn block(&mut self, found: &Found) -> Result<Block, BlockFileError> {
        self.read(found)?;
        let defect = |what| match self.source(found) {
            Some(source) => BlockFileError::Format {
                path: source.path.clone(),
                offset: found.place.offset,
                unpacked: false,
                what,
            },
            None => BlockFileError::Unpacked { block: found.hash, what },
        };
        let block: Block =
            deserialize(&self.buffer).map_err(|error| defect(BlockFileDefect::Block(error)))?;
        if block.block_hash() != found.hash {
            return Err(defect(BlockFileDefect::Changed));
        }
        if !block.check_merkle_root() {
            return Err(defect(BlockFileDefect::Transactions));
        }
        Ok(block)
    }

    fn source(&self, found: &Found) -> Option<&Source> {
        self.sources.get(found.place.source? as usize)
    }

    /// Reads a block's bytes into the buffer.
    fn read(&mut self, found: &Found) -> Result<(), BlockFileError> {
        let place = found.place;
        self.buffer.clear();
        self.buffer.resize(place.len as usize, 0);
        let Some(number) = place.source else {
            let missing = || io::Error::from(io::ErrorKind::NotFound);
            let spool = self.spool.as_mut().ok_or_else(|| BlockFileError::Temporary(missing()))?;
            return read_at(&mut spool.file, place.offset, &mut self.buffer)
                .map_err(BlockFileError::Temporary);
        };
        let Some(source) = self.sources.get(number as usize) else {
            return Err(BlockFileError::Temporary(io::Error::from(io::ErrorKind::NotFound)));
        };
        let failed = |doing| {
            move |error| BlockFileError::Io { path: source.path.clone(), doing, source: error }
        };
        let file = match &mut self.open {
            Some((open, file)) if *open == number => file,
            other => {
                let file = File::open(&source.path).map_err(failed("opening"))?;
                &mut other.insert((number, file)).1
            }
        };
        read_at(file, place.offset, &mut self.buffer).map_err(failed("reading"))?;
        source.unmask(place.offset, &mut self.buffer);
        Ok(())
    }
}

fn read_at(file: &mut File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(into)
}
