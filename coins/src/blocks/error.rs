//! What can go wrong with files of blocks.

use bitcoin::BlockHash;
use bitcoin::consensus::encode;
use std::io;
use std::path::PathBuf;

/// Why blocks could not be had from a file.
///
/// ```
/// use hedgerow_coins::{BlockFileError, BlockFiles};
///
/// match BlockFiles::open(["no/such/blk00000.dat"]) {
///     Err(BlockFileError::Io { path, doing, .. }) => println!("{doing} {}", path.display()),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFileError {
    /// The system refused, or what was packed does not unpack.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What was said.
        source: io::Error,
    },
    /// The temporary file for blocks that were unpacked failed.
    #[error("the temporary file of unpacked blocks: {0}")]
    Temporary(#[source] io::Error),
    /// A block that was packed or in hex is damaged: its header alone was looked at before.
    #[error("block {block}: {what}")]
    Unpacked {
        /// The block.
        block: BlockHash,
        /// What is wrong.
        what: BlockFileDefect,
    },
    /// There is something else than blocks.
    #[error("{}, byte {offset}{}: {what}", path.display(), if *unpacked { " of what it unpacks to" } else { "" })]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it was seen: the beginning of the block, in bytes.
        offset: u64,
        /// Whether that counts what the file unpacks to.
        unpacked: bool,
        /// What is wrong.
        what: BlockFileDefect,
    },
}

/// What is wrong with the bytes of a file of blocks.
///
/// ```
/// use hedgerow_coins::{BlockFileDefect, BlockFileError, BlockFiles};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("block.raw");
///
/// std::fs::write(&path, [7; 200])?;
/// let error = BlockFiles::open([&path]).unwrap_err();
/// assert!(matches!(error, BlockFileError::Format { what: BlockFileDefect::Work, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFileDefect {
    /// The file holds nothing.
    #[error("it is empty")]
    Empty,
    /// Neither the magic of a network nor zeros where a block should begin.
    #[error("no block begins here")]
    Magic,
    /// The blocks are of another network than those before.
    #[error("blocks of another network than those before")]
    Network,
    /// A block of a length that none has.
    #[error("a block of {0} bytes")]
    Length(u64),
    /// It ends within a block.
    #[error("it ends within this block")]
    Truncated,
    /// A line is not hex.
    #[error("this line is not a block in hex")]
    Hex,
    /// More zeros or empty lines than any file has.
    #[error("nothing but filling for {0} bytes")]
    Filling(u64),
    /// What is packed or in hex comes to more bytes than may be unpacked
    /// ([`BlockFiles::open_with`](crate::BlockFiles::open_with)).
    #[error("what is packed or in hex comes to more than {0} bytes, which is the limit")]
    Unpacks(u64),
    /// What begins here has no proof of work: it is no header.
    #[error("what begins here is no block: its header has no proof of work")]
    Work,
    /// The block does not decode.
    #[error("this block does not decode: {0}")]
    Block(encode::Error),
    /// The transactions are not those of the header.
    #[error("the transactions of this block are not those of its header")]
    Transactions,
    /// Another block stands where this one was found.
    #[error("the file has changed since it was looked through")]
    Changed,
    /// `xor.dat` does not hold 8 bytes.
    #[error("it has {0} bytes, and a mask has 8")]
    Mask(u64),
}
