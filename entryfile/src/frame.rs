//! The frame that every entry lies in: what makes a single entry, read by position, verify itself.
//!
//! ```text
//!          ┌──────────────────────────┬────────────────────┬──────────────┐
//!  frame   │ hashed bytes, P of them  │ crc32c of them, LE │ zero padding │
//!          └──────────────────────────┴────────────────────┴──────────────┘
//!            P >= 54 (spec 4.1)         4                    0..7, to a multiple of 8
//! ```
//!
//! The hashed bytes come first and unbroken, so that the run which holds the frames is at the same
//! time the arena that a batch hasher reads ([`EntrySpan`] says where). Their length is not stored:
//! the entry's own header says it, and a header that was damaged leads to a checksum that does not
//! match.

use crate::Damage;
use hedgerow_types::SerialNumber;
use hedgerow_types::entry::{self, EntryError, EntryFields, EntryRef};

/// Frames, and so everything in the log, begin at multiples of this.
pub const ALIGN: usize = 8;
/// Bytes of the checksum after the hashed bytes.
const CRC_LEN: usize = 4;
/// Length of the shortest frame: an entry of a 1-byte key and no value.
pub(crate) const MIN_FRAME_LEN: usize = frame_len(entry::FIXED_LEN + 1);

/// Length in bytes of the frame around an entry of `hashed_len` hashed bytes.
pub const fn frame_len(hashed_len: usize) -> usize {
    (hashed_len + CRC_LEN).next_multiple_of(ALIGN)
}

/// Where the hashed bytes of an entry lie in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySpan {
    /// First byte, also the first byte of the frame.
    pub offset: u32,
    /// Hashed length.
    pub len: u32,
}

/// Why an entry could not be added to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The entry cannot be encoded.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The run would exceed 4 GiB.
    #[error("a run of more than 4 GiB")]
    RunTooLong,
}

/// Appends the entry to a run that is being built, frame and all, and says where its hashed bytes
/// lie. On an error nothing was appended.
///
/// # Errors
/// [`FrameError`] if the entry is not a legal one or the run is full.
pub fn push_frame(run: &mut Vec<u8>, fields: &EntryFields<'_>) -> Result<EntrySpan, FrameError> {
    let start = run.len();
    let hashed_len = fields.hashed_len();
    if start.saturating_add(frame_len(hashed_len)) > u32::MAX as usize {
        return Err(FrameError::RunTooLong);
    }
    run.reserve(frame_len(hashed_len));
    fields.encode(run)?;
    seal_frame(run, start);
    Ok(EntrySpan { offset: start as u32, len: hashed_len as u32 })
}

/// Completes a frame: the hashed bytes of one entry were appended to `run` from `start` on; this
/// appends checksum and padding.
pub fn seal_frame(run: &mut Vec<u8>, start: usize) {
    let hashed = run.get(start..).unwrap_or_default();
    let crc = crc32c::crc32c(hashed);
    let end = run.len() - hashed.len() + frame_len(hashed.len());
    run.extend_from_slice(&crc.to_le_bytes());
    run.resize(end, 0);
}

/// Hashed length of the entry that begins with `bytes`, from its header alone.
///
/// # Errors
/// [`Damage`] if there is no whole header, or it cannot be one.
pub(crate) fn hashed_len(bytes: &[u8]) -> Result<usize, Damage> {
    let Some(header) = bytes.first_chunk::<{ entry::HEADER_LEN }>() else {
        let have = bytes.len() as u64;
        return Err(Damage::Length { need: entry::HEADER_LEN as u64, have });
    };
    if header[0] == 0 {
        return Err(Damage::Entry(EntryError::KeyLength(0)));
    }
    Ok(entry::len_from_header(header))
}

/// Checks the frame at the start of `bytes`: whole, checksum, padding, and an entry in it.
///
/// # Errors
/// [`Damage`].
pub(crate) fn check(bytes: &[u8]) -> Result<EntryRef<'_>, Damage> {
    let hashed_len = hashed_len(bytes)?;
    let need = frame_len(hashed_len);
    let too_short = Damage::Length { need: need as u64, have: bytes.len() as u64 };
    let (hashed, rest) =
        bytes.get(..need).and_then(|frame| frame.split_at_checked(hashed_len)).ok_or(too_short)?;
    let (crc, padding) = rest.split_first_chunk::<CRC_LEN>().ok_or(too_short)?;
    let (stored, computed) = (u32::from_le_bytes(*crc), crc32c::crc32c(hashed));
    if stored != computed {
        return Err(Damage::Checksum { stored, computed });
    }
    if padding.iter().any(|&byte| byte != 0) {
        return Err(Damage::Padding);
    }
    Ok(EntryRef::parse(hashed)?)
}

/// Serial number of the entry at the start of `bytes`, unverified: for stepping over it. `None` if
/// `bytes` does not hold the whole entry.
pub(crate) fn peek_serial_number(bytes: &[u8]) -> Option<SerialNumber> {
    let (entry, _) = EntryRef::parse_prefix(bytes).ok()?;
    Some(entry.serial_number())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_types::{KeyHash, Version};

    fn fields<'a>(key: &'a [u8], value: &'a [u8]) -> EntryFields<'a> {
        EntryFields {
            key,
            value,
            next_key_hash: KeyHash([3; 32]),
            version: Version(1),
            serial_number: SerialNumber(77),
            deactivated: &[SerialNumber(1)],
        }
    }

    #[test]
    fn frames_follow_each_other_aligned() {
        let mut run = vec![];
        let mut spans = vec![];
        for value_len in 0..40 {
            spans.push(push_frame(&mut run, &fields(b"key", &vec![9; value_len])).unwrap());
            assert_eq!(run.len() % ALIGN, 0);
        }
        let mut rest = &run[..];
        for span in spans {
            assert_eq!(run.len() - rest.len(), span.offset as usize);
            let entry = check(rest).unwrap();
            assert_eq!(entry.hashed_bytes().len(), span.len as usize);
            assert_eq!(peek_serial_number(rest), Some(SerialNumber(77)));
            rest = &rest[frame_len(span.len as usize)..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn the_shortest_frame_is_that_of_a_one_byte_key() {
        let mut run = vec![];
        let fields = EntryFields { deactivated: &[], ..fields(b"k", b"") };
        push_frame(&mut run, &fields).unwrap();
        assert_eq!(run.len(), MIN_FRAME_LEN);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut run = vec![];
        push_frame(&mut run, &fields(b"some key", b"some value")).unwrap();
        for bit in 0..run.len() * 8 {
            run[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&run).is_err(), "bit {bit}");
            run[bit / 8] ^= 1 << (bit % 8);
        }
        for byte in 0..run.len() {
            run[byte] ^= 0xFF;
            assert!(check(&run).is_err(), "byte {byte}");
            run[byte] ^= 0xFF;
        }
        for cut in 0..run.len() {
            assert!(check(&run[..cut]).is_err(), "cut at {cut}");
        }
        // What follows a frame is the next one: it changes nothing, whatever it is.
        let entry = check(&run).unwrap().hashed_bytes().to_vec();
        for fill in [0, 1, 0xFF] {
            let longer = [&run[..], &[fill; 40]].concat();
            assert_eq!(check(&longer).unwrap().hashed_bytes(), entry);
        }
    }

    /// The lengths in an entry's header lead to the checksum; one that leads elsewhere finds none.
    #[test]
    fn every_other_length_is_noticed() {
        let mut run = vec![];
        push_frame(&mut run, &fields(b"some key", &[7; 300])).unwrap();
        let len = run.len();
        run.resize(len + 100_000, 7);
        for key_len in 0..=255 {
            for (value_len, dsns) in [(0, 0), (299, 1), (300, 1), (301, 1), (90_000, 2)] {
                let mut other = run.clone();
                other[0] = key_len;
                other[1..4].copy_from_slice(&u32::to_le_bytes(value_len)[..3]);
                other[4] = dsns;
                let same = other[..5] == run[..5];
                assert_eq!(check(&other).is_ok(), same, "{key_len} {value_len} {dsns}");
            }
        }
    }

    #[test]
    fn an_illegal_entry_leaves_the_run_as_it_was() {
        let mut run = vec![1; 8];
        assert!(matches!(
            push_frame(&mut run, &fields(b"", b"v")),
            Err(FrameError::Entry(EntryError::KeyLength(0)))
        ));
        assert_eq!(run, [1; 8]);
    }
}
