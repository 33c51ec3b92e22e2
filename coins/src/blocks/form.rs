//! What kind of file it is, by its first bytes and its name.

use super::Source;
use super::error::{BlockFileDefect, BlockFileError};
use bitcoin::Network;
use bitcoin::p2p::Magic;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes that are looked at: a header in hex.
pub(super) const HEAD_LEN: usize = 2 * super::HEADER_LEN;

/// How blocks stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Magic, length, block.
    Records,
    /// One block, as it is.
    Raw,
    /// Hex, one block a line.
    Hex,
    /// One of the others, packed by bzip2.
    Packed,
}

impl Form {
    /// By the first bytes; a name as of Bitcoin Core's files says more than bytes that may be filling.
    pub(super) fn of(head: &[u8], named_as_records: bool) -> Self {
        let magic = head.first_chunk().map(|first| Magic::from_bytes(*first));
        let digits = head.trim_ascii_start();
        match head {
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Self::Packed,
            _ if named_as_records => Self::Records,
            _ if magic.is_some_and(|magic| Network::try_from(magic).is_ok()) => Self::Records,
            _ if !digits.is_empty() && digits.iter().all(is_hex_or_blank) => Self::Hex,
            _ => Self::Raw,
        }
    }
}

fn is_hex_or_blank(byte: &u8) -> bool {
    byte.is_ascii_hexdigit() || byte.is_ascii_whitespace()
}

/// Whether a file has a name like `blk01234.dat`.
pub(super) fn named_as_records(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.strip_prefix("blk")?.strip_suffix(".dat"));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

impl Source {
    /// A file, with the mask of Bitcoin Core's files if it is one and there is a mask.
    pub(super) fn new(path: &Path) -> Result<Self, BlockFileError> {
        let mut mask = [0; 8];
        if named_as_records(path) {
            let beside = path.with_file_name("xor.dat");
            match File::open(&beside) {
                Ok(file) => {
                    let mut bytes = Vec::new();
                    file.take(9).read_to_end(&mut bytes).map_err(|source| BlockFileError::Io {
                        path: beside.clone(),
                        doing: "reading",
                        source,
                    })?;
                    mask = *bytes.first_chunk().filter(|_| bytes.len() == 8).ok_or(
                        BlockFileError::Format {
                            path: beside,
                            offset: 0,
                            unpacked: false,
                            what: BlockFileDefect::Mask(bytes.len() as u64),
                        },
                    )?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(BlockFileError::Io { path: beside, doing: "opening", source });
                }
            }
        }
        Ok(Self { path: path.to_owned(), mask })
    }

    /// Takes the mask off bytes that stand at this offset.
    pub(super) fn unmask(&self, offset: u64, bytes: &mut [u8]) {
        if self.mask == [0; 8] {
            return;
        }
        let key = self.mask.iter().cycle().skip((offset % 8) as usize);
        for (byte, key) in bytes.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}
