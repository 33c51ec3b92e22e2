//! Packed files, which their names tell: `.gz` is gzip, `.zst` is Zstandard, all else is as it is.
//!
//! ```text
//!   unpacked   a file ─► its bytes, of one stream after the other
//!   Packer     bytes ─► packed, into memory ─► whoever writes the file takes them from there
//! ```
//!
//! Both are Rust all the way: nothing in C is built for them. Of Zstandard a file is written in frames of some
//! MiB, which are a file of that format one after the other.

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes of a frame, before they are packed.
const FRAME_BYTES: usize = 4 << 20;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// What is in a file, unpacked if its name says so.
pub(crate) fn unpacked(path: &Path, file: impl Read + Send + 'static) -> Box<dyn BufRead + Send> {
    let buffered = |reader: Box<dyn Read + Send>| -> Box<dyn BufRead + Send> {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, reader))
    };
    match Packing::of(path) {
        None => Box::new(BufReader::with_capacity(BUFFER_BYTES, file)),
        Some(Packing::Gzip) => buffered(Box::new(MultiGzDecoder::new(file))),
        Some(Packing::Zstd) => {
            let file = BufReader::with_capacity(BUFFER_BYTES, file);
            buffered(Box::new(Frames { file, decoder: FrameDecoder::new(), inside: false }))
        }
    }
}

/// Frames of Zstandard, one after the other.
struct Frames<R> {
    file: R,
    decoder: FrameDecoder,
    /// A frame was begun and is not at its end.
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame; `false` at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.file.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.file) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(length.into())?,
                Err(error) => return Err(bad(error)),
            }
        }
    }

    /// Passes over what is for others.
    fn skip(&mut self, len: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.file.by_ref().take(len), &mut io::sink())?;
        if skipped < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn check(&self) -> io::Result<()> {
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(stored), Some(computed)) if stored != computed => {
                Err(bad("a frame whose checksum is another one"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.file, one).map_err(bad)?;
            }
            let read = self.decoder.read(buf)?;
            if read > 0 {
                return Ok(read);
            }
            self.check()?;
            self.inside = false;
        }
    }
}

fn bad(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Packs what is written to it, into memory.
pub(crate) enum Packer {
    /// gzip.
    Gzip(GzEncoder<Vec<u8>>),
    /// Zstandard: what is not packed yet, and what is.
    Zstd { bytes: Vec<u8>, packed: Vec<u8> },
}

impl Packer {
    /// That of a file of this name, if it is to be packed.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Some(match Packing::of(path)? {
            Packing::Gzip => Self::Gzip(GzEncoder::new(vec![], Compression::default())),
            Packing::Zstd => Self::Zstd { bytes: vec![], packed: vec![] },
        })
    }

    /// What is packed by now, which is the caller's.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd { packed, .. } => packed,
        })
    }

    /// The rest.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd { bytes, mut packed } => {
                if !bytes.is_empty() {
                    packed.extend(compress_to_vec(&bytes[..], CompressionLevel::Fastest));
                }
                Ok(packed)
            }
        }
    }
}

impl Write for Packer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(encoder) => encoder.write(buf),
            Self::Zstd { bytes, packed } => {
                bytes.extend_from_slice(buf);
                if bytes.len() >= FRAME_BYTES {
                    packed.extend(compress_to_vec(&bytes[..], CompressionLevel::Fastest));
                    bytes.clear();
                }
                Ok(buf.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some MiB of lines that resemble each other.
    fn text() -> Vec<u8> {
        let line =
            |number: u64| format!("line {number} {}\n", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        (0..300_000).flat_map(|number| line(number).into_bytes()).collect()
    }

    fn packed(name: &str, text: &[u8]) -> Vec<u8> {
        let mut packer = Packer::of(Path::new(name)).unwrap();
        let mut packed = vec![];
        for part in text.chunks(10_000) {
            packer.write_all(part).unwrap();
            packed.extend(packer.take());
        }
        packed.extend(packer.finish().unwrap());
        packed
    }

    fn read(name: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut text = vec![];
        unpacked(Path::new(name), io::Cursor::new(bytes)).read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for name in ["some.gz", "some.zst"] {
            for text in [text(), b"short".to_vec(), vec![]] {
                let packed = packed(name, &text);
                assert!(text.len() < 100 || packed.len() < text.len() * 3 / 4, "{name}");
                assert!(read(name, packed).unwrap() == text, "{name}");
            }
        }
        assert!(Packer::of(Path::new("some.jsonl")).is_none());
        assert_eq!(read("some.jsonl", b"plain".to_vec()).unwrap(), b"plain");
    }

    /// The format has frames that are for others, and its own program writes such files.
    #[test]
    fn frames_follow_each_other_and_some_are_passed_over() {
        let frame = |text: &[u8]| compress_to_vec(text, CompressionLevel::Fastest);
        let skipped = [&0x184D_2A53_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"aside"].concat();
        let all = [&frame(b"one "), &skipped[..], &frame(b""), &frame(b"two")].concat();
        assert_eq!(read("all.zst", all).unwrap(), b"one two");
        assert!(read("cut.zst", skipped[..10].to_vec()).is_err());
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error() {
        let text: Vec<u8> = text()[..20_000].to_vec();
        let whole = packed("some.zst", &text);
        for end in 1..whole.len() {
            assert!(read("some.zst", whole[..end].to_vec()).is_err(), "{end} of {}", whole.len());
        }
        let mut noticed = 0;
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            match read("some.zst", changed) {
                Err(_) => noticed += 1,
                // A bit that says nothing of the content.
                Ok(read) => assert!(read == text, "byte {at}"),
            }
        }
        assert!(noticed + 8 > whole.len(), "{noticed} of {}", whole.len());
    }
}
