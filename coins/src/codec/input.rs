//! Bytes that come in, with the place at which they stand; from memory or from a file.

use super::FormatError;
use std::io::{self, Read};

/// A reader that knows how far it has come.
#[derive(Debug)]
pub(crate) struct Input<R> {
    inner: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(crate) const fn new(inner: R) -> Self {
        Self { inner, offset: 0 }
    }

    /// Bytes that were taken from it.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether there is nothing more; a byte that is there is taken.
    pub(crate) fn at_end(&mut self) -> Result<bool, ReadError> {
        match self.array::<1>() {
            Ok(_) => Ok(false),
            Err(ReadError::Format(FormatError::Truncated)) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Why a field could not be had: the reader failed, or what it gave is not a field.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Format(FormatError),
}

impl ReadError {
    /// What it is where the reader is memory.
    pub(crate) fn into_format(self) -> FormatError {
        match self {
            Self::Format(error) => error,
            // A slice has no other error than its end.
            Self::Io(_) => FormatError::Truncated,
        }
    }
}

impl From<FormatError> for ReadError {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Format(FormatError::Truncated),
            _ => Self::Io(error),
        }
    }
}

/// A CompactSize in its shortest form.
pub(crate) fn read_compact_size<R: Read>(input: &mut Input<R>) -> Result<u64, ReadError> {
    let [first] = input.array()?;
    let (number, least) = match first {
        0xfd => (u64::from(u16::from_le_bytes(input.array()?)), 0xfd),
        0xfe => (u64::from(u32::from_le_bytes(input.array()?)), 1 << 16),
        0xff => (u64::from_le_bytes(input.array()?), 1 << 32),
        _ => (u64::from(first), 0),
    };
    if number < least { Err(FormatError::CompactSize.into()) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::write_compact_size;

    #[test]
    fn compact_sizes_have_one_form() {
        for (number, len) in
            [(0, 1), (252, 1), (253, 3), (65_535, 3), (65_536, 5), (1 << 32, 9), (u64::MAX, 9)]
        {
            let mut bytes = Vec::new();
            write_compact_size(number, &mut bytes);
            assert_eq!(bytes.len(), len);
            assert_eq!(read_compact_size(&mut Input::new(&bytes[..])).unwrap(), number);
            let cut = read_compact_size(&mut Input::new(&bytes[..len - 1]));
            assert_eq!(cut.unwrap_err().into_format(), FormatError::Truncated);
        }
        let longs: [&[u8]; 3] = [
            &[0xfd, 252, 0],
            &[0xfe, 0xff, 0xff, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ];
        for long in longs {
            let read = read_compact_size(&mut Input::new(long));
            assert_eq!(read.unwrap_err().into_format(), FormatError::CompactSize);
        }
    }

    #[test]
    fn a_reader_that_fails_is_not_the_end() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("no disk"))
            }
        }
        assert!(matches!(read_compact_size(&mut Input::new(Broken)), Err(ReadError::Io(_))));
        assert!(matches!(Input::new(Broken).at_end(), Err(ReadError::Io(_))));
        assert!(Input::new(&[][..]).at_end().unwrap());
    }
}
