//! Blocks from files, in the order of a chain.
//!
//! ```text
//!   blkNNNNN.dat, masked or not ─┐   scan: header, place            chain: the most work after a tip
//!   one raw block ───────────────┼──► hash ► previous, bits, place ──► places in order ──► read, check ──► Block
//!   hex, one block a line ───────┤                         │                                ▲
//!   any of them as .bz2 ─────────┘                         └─ unpacked blocks wait in a     │
//!                                                             temporary file without a name ┘
//! ```
//!
//! Bitcoin Core appends blocks as they arrive, up to a thousand out of order, and stale ones among them. So the files are
//! looked through once for headers, and each block is read when its turn comes.
//!
//! **Memory**: some hundred bytes per block that the files hold, and one block. What cannot be read at any place (packed
//! or hex) goes through a temporary file. Only blocks whose headers have their proof of work count, each once; that is worth
//! nothing on networks where anybody can make one. So what all files together unpack to has a limit: a small file can
//! fill neither the disk nor the memory.
//!
//! **Invariant (absence):** whether a block is valid. That its transactions are those of its header is checked, and that
//! the header follows the one before.

mod chain;
mod error;
mod form;
mod scan;

pub use chain::BlockChain;
pub use error::{BlockFileDefect, BlockFileError};

use bitcoin::block::Header;
use bitcoin::constants::genesis_block;
use bitcoin::p2p::Magic;
use bitcoin::{BlockHash, CompactTarget, Network};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Bytes that a block has at most, witnesses included (BIP 141).
const MAX_BLOCK_LEN: usize = 4_000_000;
/// Bytes of a block's header.
const HEADER_LEN: usize = 80;
/// Bytes that a block has at least: header, number of transactions.
const MIN_BLOCK_LEN: usize = HEADER_LEN + 1;

/// Bytes that a block which is unpacked counts at least: what is kept of it in memory is a few hundred.
const LEAST_COUNTED: u64 = 4 << 10;

/// The networks that there are.
const NETWORKS: [Network; 5] =
    [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];

/// The network whose first block has this hash.
///
/// ```
/// use hedgerow_coins::bitcoin::{Network, constants::genesis_block};
/// use hedgerow_coins::network_of_genesis;
///
/// let first = genesis_block(Network::Signet).block_hash();
/// assert_eq!(network_of_genesis(&first), Some(Network::Signet));
/// ```
pub fn network_of_genesis(block: &BlockHash) -> Option<Network> {
    NETWORKS.into_iter().find(|network| genesis_block(*network).block_hash() == *block)
}

/// The blocks that some files hold.
///
/// ```
/// use hedgerow_coins::{BlockFiles, regtest};
/// use hedgerow_coins::bitcoin::{Network, consensus::encode::serialize_hex, constants::genesis_block};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("blocks.hex");
///
/// // In whatever order they are.
/// let mut lines: Vec<String> = regtest::chain().take(5).map(|block| serialize_hex(&block)).collect();
/// lines.reverse();
/// std::fs::write(&path, lines.join("\n"))?;
///
/// let files = BlockFiles::open([&path])?;
/// assert_eq!((files.len(), files.network()), (5, Some(Network::Regtest)));
/// let blocks: Vec<_> = files.chain_after(genesis_block(Network::Regtest).block_hash()).collect::<Result<_, _>>()?;
/// assert!(blocks.iter().eq(&regtest::chain().take(5).collect::<Vec<_>>()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BlockFiles {
    /// In the order in which they were found.
    blocks: Vec<Found>,
    by_hash: HashMap<BlockHash, usize>,
    sources: Vec<Source>,
    spool: Option<Spool>,
    /// What may still be unpacked, and what at all, bytes.
    unpacking: Limit,
    /// Of the first file that says one.
    magic: Option<Magic>,
}

/// How many bytes may be unpacked.
#[derive(Clone, Copy, Debug)]
struct Limit {
    left: u64,
    all: u64,
}

impl Limit {
    /// Takes some; none are left then if there are not so many.
    fn take(&mut self, bytes: u64) -> Result<(), BlockFileDefect> {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(0);
        left.map(|_| ()).ok_or(BlockFileDefect::Unpacks(self.all))
    }
}

/// What is kept of a block.
#[derive(Clone, Copy, Debug)]
struct Found {
    hash: BlockHash,
    previous: BlockHash,
    bits: CompactTarget,
    place: Place,
}

/// Where a block's bytes are.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Which of the sources; none is the temporary file.
    source: Option<u32>,
    offset: u64,
    len: u32,
}

/// A file in which blocks are read where they stand.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    /// What its bytes were XORed with, by their offset; zeros if with nothing.
    mask: [u8; 8],
}

/// A temporary file without a name, for blocks that are not in a file as they are.
#[derive(Debug)]
struct Spool {
    file: File,
    len: u64,
}

impl BlockFiles {
    /// Most bytes that files unpack to, unless [told otherwise](Self::open_with): 4 GiB.
    pub const UNPACKED_BYTES: u64 = 4 << 30;

    /// Looks through files for blocks. Each may be
    ///
    /// * a `blkNNNNN.dat` of Bitcoin Core: network magic, length, block, again and again, zeros at the end. If there is a
    ///   file `xor.dat` beside one of that name, it holds what the bytes were XORed with;
    /// * one block;
    /// * blocks in hex, one a line;
    /// * any of these packed by bzip2.
    ///
    /// What it is is told by its first bytes. A block that is there twice counts once.
    ///
    /// # Errors
    /// [`BlockFileError`] with file and offset if one cannot be read, holds something else, or unpacks to more than
    /// [`Self::UNPACKED_BYTES`] together with those before it.
    pub fn open<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Self, BlockFileError> {
        Self::open_with(paths, Self::UNPACKED_BYTES)
    }

    /// As [`Self::open`], with another limit of what all files together may unpack to, in bytes. What bzip2 has packed counts
    /// with all its bytes, hex with the bytes of its blocks; a block that goes to the temporary file counts 4 KiB at least, for
    /// the memory that it takes. So it is also the most that the temporary file can have.
    ///
    /// ```
    /// use hedgerow_coins::{BlockFileDefect, BlockFileError, BlockFiles, regtest};
    /// use hedgerow_coins::bitcoin::consensus::encode::serialize_hex;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("blocks.hex");
    ///
    /// let lines: Vec<String> = regtest::chain().take(5).map(|block| serialize_hex(&block)).collect();
    /// std::fs::write(&path, lines.join("\n"))?;
    /// assert_eq!(BlockFiles::open_with([&path], 5 << 12)?.len(), 5);
    /// let error = BlockFiles::open_with([&path], 4 << 12).unwrap_err();
    /// assert!(matches!(error, BlockFileError::Format { what: BlockFileDefect::Unpacks(16_384), .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
        unpacked_bytes: u64,
    ) -> Result<Self, BlockFileError> {
        let mut files = Self {
            blocks: Vec::new(),
            by_hash: HashMap::new(),
            sources: Vec::new(),
            spool: None,
            unpacking: Limit { left: unpacked_bytes, all: unpacked_bytes },
            magic: None,
        };
        for path in paths {
            scan::scan(path.as_ref(), &mut files)?;
        }
        Ok(files)
    }

    /// How many blocks there are.
    pub const fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The network that they are of: by the magic of the files, else by the genesis block that one of them is or follows.
    pub fn network(&self) -> Option<Network> {
        if let Some(network) = self.magic.and_then(|magic| Network::try_from(magic).ok()) {
            return Some(network);
        }
        NETWORKS.into_iter().find(|network| {
            let genesis = genesis_block(*network).block_hash();
            self.blocks.iter().any(|block| block.hash == genesis || block.previous == genesis)
        })
    }

    /// The blocks after this one, in order: the chain with the most work; of two with as much, the one whose last block
    /// was found first.
    pub fn chain_after(self, tip: BlockHash) -> BlockChain {
        BlockChain::after(self, tip)
    }

    /// Notes a block, unless it is known already.
    fn add(&mut self, header: &Header, hash: BlockHash, place: Place) {
        let number = self.blocks.len();
        self.by_hash.entry(hash).or_insert_with(|| {
            let (previous, bits) = (header.prev_blockhash, header.bits);
            self.blocks.push(Found { hash, previous, bits, place });
            number
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::encode::serialize_hex;

    #[test]
    fn a_block_that_is_known_takes_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks");
        let lines: Vec<String> =
            crate::regtest::chain().take(3).map(|block| serialize_hex(&block)).collect();
        std::fs::write(&path, [lines.join("\n"), lines.join("\n")].join("\n")).unwrap();
        let files = BlockFiles::open([&path, &path]).unwrap();
        let bytes: usize = lines.iter().map(|line| line.len() / 2).sum();
        assert_eq!(files.spool.unwrap().len, bytes as u64);
        assert_eq!(files.blocks.len(), 3);
    }
}
