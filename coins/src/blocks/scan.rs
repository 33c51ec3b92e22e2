//! Looking through a file for blocks.
//!
//! ```text
//!   head ─► form ─┬─ records in a file ──► header read, the rest skipped         place: in the file
//!                 ├─ raw in a file ──────► read whole                            place: in the file
//!                 └─ hex, or unpacked ───► read whole, one block at a time       place: in the temporary file
//! ```

use super::error::{BlockFileDefect, BlockFileError};
use super::form::{Form, HEAD_LEN, named_as_records};
use super::{
    BlockFiles, HEADER_LEN, LEAST_COUNTED, MAX_BLOCK_LEN, MIN_BLOCK_LEN, Place, Source, Spool,
};
use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize;
use bitcoin::hex::FromHex;
use bitcoin::p2p::Magic;
use bitcoin::{BlockHash, Network};
use bzip2::bufread::MultiBzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes of zeros or blanks in a row that are passed over: as many as a file of Bitcoin Core has.
const MAX_FILLING: u64 = 128 << 20;
/// Characters of the longest line.
const MAX_LINE_LEN: usize = 2 * MAX_BLOCK_LEN;

/// Adds the blocks of a file.
pub(super) fn scan(path: &Path, into: &mut BlockFiles) -> Result<(), BlockFileError> {
    let failed = |doing| move |source| BlockFileError::Io { path: path.to_owned(), doing, source };
    let mut file = File::open(path).map_err(failed("opening"))?;
    let mut head = Vec::new();
    (&mut file).take(HEAD_LEN as u64).read_to_end(&mut head).map_err(failed("reading"))?;
    let source = Source::new(path)?;
    let records = named_as_records(path);
    let form = match Form::of(&head, false) {
        Form::Packed => Form::Packed,
        _ => {
            source.unmask(0, &mut head);
            Form::of(&head, records)
        }
    };
    file.seek(SeekFrom::Start(0)).map_err(failed("reading"))?;
    let mut file = BufReader::new(file);
    if form == Form::Packed {
        let mut unpacked = MultiBzDecoder::new(file);
        let mut head = Vec::new();
        let read = (&mut unpacked).take(HEAD_LEN as u64).read_to_end(&mut head);
        read.map_err(failed("unpacking"))?;
        // What is packed twice is not looked into.
        let form = Form::of(&head, false);
        let unpacked = BufReader::new(Cursor::new(head).chain(unpacked));
        return Scan::new(unpacked, source, Bytes::Unpacked, into).run(form);
    }
    let len = file.seek(SeekFrom::End(0)).map_err(failed("reading"))?;
    file.seek(SeekFrom::Start(0)).map_err(failed("reading"))?;
    Scan::new(file, source, Bytes::Here { len }, into).run(form)
}

/// Where the bytes of a scan come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bytes {
    /// From the file as it is, of this length: blocks can be read there again.
    Here { len: u64 },
    /// From what it unpacks to.
    Unpacked,
}

/// One file on its way.
struct Scan<'a, R> {
    input: R,
    offset: u64,
    source: Source,
    bytes: Bytes,
    into: &'a mut BlockFiles,
}

impl<'a, R: Skip> Scan<'a, R> {
    const fn new(input: R, source: Source, bytes: Bytes, into: &'a mut BlockFiles) -> Self {
        Self { input, offset: 0, source, bytes, into }
    }

    fn run(mut self, form: Form) -> Result<(), BlockFileError> {
        match form {
            Form::Records => self.records(),
            Form::Hex => self.lines(),
            Form::Raw | Form::Packed => self.raw(),
        }
    }

    fn defect(&self, offset: u64, what: BlockFileDefect) -> BlockFileError {
        let unpacked = self.bytes == Bytes::Unpacked;
        BlockFileError::Format { path: self.source.path.clone(), offset, unpacked, what }
    }

    fn failed(&self, source: io::Error) -> BlockFileError {
        let doing = match self.bytes {
            Bytes::Here { .. } => "reading",
            Bytes::Unpacked => "unpacking",
        };
        BlockFileError::Io { path: self.source.path.clone(), doing, source }
    }

    /// Fills `into`, unmasked; fewer bytes only at the end.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, BlockFileError> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.source.unmask(self.offset, into.get_mut(..filled).unwrap_or_default());
        self.count(self.offset, filled as u64)?;
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Counts bytes that were read at an offset, if they are unpacked.
    fn count(&mut self, start: u64, bytes: u64) -> Result<(), BlockFileError> {
        match self.bytes {
            Bytes::Here { .. } => Ok(()),
            Bytes::Unpacked => self.take(start, bytes),
        }
    }

    /// Takes bytes from what may be unpacked.
    fn take(&mut self, start: u64, bytes: u64) -> Result<(), BlockFileError> {
        self.into.unpacking.take(bytes).map_err(|what| self.defect(start, what))
    }

    /// Fills `into`, or this block is cut short.
    fn read_whole(&mut self, start: u64, into: &mut [u8]) -> Result<(), BlockFileError> {
        let wanted = into.len();
        match self.read(into)? {
            filled if filled == wanted => Ok(()),
            _ => Err(self.defect(start, BlockFileDefect::Truncated)),
        }
    }

    /// Magic, length, block; zeros between them and at the end.
    fn records(&mut self) -> Result<(), BlockFileError> {
        let mut filling = 0;
        loop {
            let start = self.offset;
            let mut magic = [0; 4];
            if self.read(&mut magic[..1])? == 0 {
                return Ok(());
            }
            if magic[0] == 0 {
                filling += 1;
                if filling > MAX_FILLING {
                    return Err(self.defect(start, BlockFileDefect::Filling(filling)));
                }
                continue;
            }
            filling = 0;
            self.read_whole(start, &mut magic[1..])?;
            let magic = Magic::from_bytes(magic);
            if Network::try_from(magic).is_err() {
                return Err(self.defect(start, BlockFileDefect::Magic));
            }
            if *self.into.magic.get_or_insert(magic) != magic {
                return Err(self.defect(start, BlockFileDefect::Network));
            }
            let mut len = [0; 4];
            self.read_whole(start, &mut len)?;
            let len = u32::from_le_bytes(len);
            if !(MIN_BLOCK_LEN..=MAX_BLOCK_LEN).contains(&(len as usize)) {
                return Err(self.defect(start, BlockFileDefect::Length(len.into())));
            }
            match self.bytes {
                Bytes::Here { len: end } => self.record_here(start, len, end)?,
                Bytes::Unpacked => {
                    let mut block = vec![0; len as usize];
                    self.read_whole(start, &mut block)?;
                    self.keep(start, &block)?;
                }
            }
        }
    }

    /// A block that stays where it is.
    fn record_here(&mut self, start: u64, len: u32, end: u64) -> Result<(), BlockFileError> {
        let offset = self.offset;
        if end.saturating_sub(offset) < u64::from(len) {
            return Err(self.defect(start, BlockFileDefect::Truncated));
        }
        let mut header = [0; HEADER_LEN];
        self.read_whole(start, &mut header)?;
        let (header, hash) = self.header(start, &header)?;
        let rest = len - HEADER_LEN as u32;
        self.input.skip(rest.into()).map_err(|error| self.failed(error))?;
        self.offset += u64::from(rest);
        self.add_here(&header, hash, offset, len);
        Ok(())
    }

    fn add_here(&mut self, header: &Header, hash: BlockHash, offset: u64, len: u32) {
        let is_last = self.into.sources.last().is_some_and(|last| last.path == self.source.path);
        if !is_last {
            self.into.sources.push(self.source.clone());
        }
        let source = Some((self.into.sources.len() - 1) as u32);
        self.into.add(header, hash, Place { source, offset, len });
    }

    /// One block, and nothing else.
    fn raw(&mut self) -> Result<(), BlockFileError> {
        let mut block = Vec::new();
        let read = (&mut self.input).take(MAX_BLOCK_LEN as u64 + 1).read_to_end(&mut block);
        let len = read.map_err(|error| self.failed(error))?;
        self.count(0, len as u64)?;
        self.source.unmask(0, &mut block);
        match (len, self.bytes) {
            (0, _) => Err(self.defect(0, BlockFileDefect::Empty)),
            (..MIN_BLOCK_LEN, _) => Err(self.defect(0, BlockFileDefect::Truncated)),
            (MIN_BLOCK_LEN..=MAX_BLOCK_LEN, Bytes::Here { .. }) => {
                let (header, hash) = self.header(0, &block)?;
                self.add_here(&header, hash, 0, len as u32);
                Ok(())
            }
            (MIN_BLOCK_LEN..=MAX_BLOCK_LEN, Bytes::Unpacked) => self.keep(0, &block),
            // Too long for a block: what it says it is comes first.
            _ => {
                self.header(0, &block)?;
                Err(self.defect(0, BlockFileDefect::Length(len as u64)))
            }
        }
    }

    /// Hex, a block a line.
    fn lines(&mut self) -> Result<(), BlockFileError> {
        let mut line = Vec::new();
        let mut filling = 0;
        loop {
            let start = self.offset;
            line.clear();
            let limit = MAX_LINE_LEN as u64 + 2;
            let read = (&mut self.input).take(limit).read_until(b'\n', &mut line);
            let count = read.map_err(|error| self.failed(error))?;
            if count == 0 {
                return Ok(());
            }
            self.source.unmask(start, &mut line);
            self.count(start, count as u64)?;
            self.offset += count as u64;
            let digits = line.trim_ascii();
            if digits.is_empty() {
                filling += count as u64;
                if filling > MAX_FILLING {
                    return Err(self.defect(start, BlockFileDefect::Filling(filling)));
                }
                continue;
            }
            filling = 0;
            if digits.len() > MAX_LINE_LEN {
                return Err(self.defect(start, BlockFileDefect::Length(digits.len() as u64 / 2)));
            }
            let block = str::from_utf8(digits).ok().and_then(|text| Vec::from_hex(text).ok());
            let block = block.ok_or_else(|| self.defect(start, BlockFileDefect::Hex))?;
            if block.len() < MIN_BLOCK_LEN {
                return Err(self.defect(start, BlockFileDefect::Length(block.len() as u64)));
            }
            self.keep(start, &block)?;
        }
    }

    /// The header of a block that begins there, if it has its proof of work.
    fn header(&self, start: u64, block: &[u8]) -> Result<(Header, BlockHash), BlockFileError> {
        let header: Option<Header> =
            block.get(..HEADER_LEN).and_then(|bytes| deserialize(bytes).ok());
        header
            .and_then(|header| Some((header, proven(&header)?)))
            .ok_or_else(|| self.defect(start, BlockFileDefect::Work))
    }

    /// Puts a block into the temporary file, unless it is known.
    fn keep(&mut self, start: u64, block: &[u8]) -> Result<(), BlockFileError> {
        let (header, hash) = self.header(start, block)?;
        if self.into.by_hash.contains_key(&hash) {
            return Ok(());
        }
        let len = block.len() as u64;
        let counted = match self.bytes {
            Bytes::Here { .. } => 0,
            Bytes::Unpacked => len,
        };
        self.take(start, len.max(LEAST_COUNTED) - counted)?;
        let spool = match &mut self.into.spool {
            Some(spool) => spool,
            none => {
                let file = tempfile::tempfile().map_err(BlockFileError::Temporary)?;
                none.insert(Spool { file, len: 0 })
            }
        };
        spool.file.write_all(block).map_err(BlockFileError::Temporary)?;
        let place = Place { source: None, offset: spool.len, len: block.len() as u32 };
        spool.len += block.len() as u64;
        self.into.add(&header, hash, place);
        Ok(())
    }
}

/// The hash of a header, if it is not above the target that the header names.
fn proven(header: &Header) -> Option<BlockHash> {
    // Above 32 bytes the target would not fit into 256 bits; no network has such a target.
    let fits = header.bits.to_consensus() >> 24 <= 32;
    fits.then(|| header.validate_pow(header.target()).ok()).flatten()
}

/// A reader that can pass over bytes.
trait Skip: BufRead {
    /// Passes over bytes that are there.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

impl Skip for BufReader<File> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.seek_relative(bytes as i64)
    }
}

impl<A: Read, B: Read> Skip for BufReader<io::Chain<A, B>> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        io::copy(&mut self.take(bytes), &mut io::sink()).map(|_| ())
    }
}
