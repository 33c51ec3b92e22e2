//! The frame that every entry lies in: what makes a single entry, read by position, verify itself.
//!
//! ```text
//!          ┌──────────────────────────┬─────────────────────────────────┬──────────────┐
//!  entry   │ hashed bytes, P of them  │ crc32c of them ^ of the position │ zero padding │
//!          └──────────────────────────┴─────────────────────────────────┴──────────────┘
//!            P >= 54 (spec 4.1)         4, LE                             0..7, to a multiple of 8
//!            first byte 1..255: the length of the key
//!
//!          ┌──────────────────────────┬─────────────────────────────────┬──────────────┐
//!  stub    │ serial number and hash   │ crc32c of them ^ of the position │ zero padding │
//!          └──────────────────────────┴─────────────────────────────────┴──────────────┘
//!            40                         4, LE                             4
//!            first byte 0
//! ```
//!
//! The hashed bytes come first and unbroken, so that the run which holds the frames is at the same
//! time the arena that a batch hasher reads ([`EntrySpan`] says where). Their length is not stored:
//! the entry's own header says it, and a header that was damaged leads to a checksum that does not
//! match. Nor is the kind of a frame: an entry never begins with 0, and a [`Stub`] does.
//!
//! A frame is bound to its place: what is read at a position is the frame that was written there, and
//! not another one, however whole, that a disk or somebody put in its place. Two positions less than
//! 32 GiB apart never have the same checksum. The position is known only when all runs of a block
//! are: so a frame is sealed with the checksum of its bytes, and the position is added when its run
//! gets its place ([`place_run`]).

use crate::record::stub::{FrameRef, STUB_KIND, STUB_LEN, Stub, stub_serial_number};
use crate::{Damage, LogError};
use hedgerow_types::entry::{self, EntryError, EntryFields, EntryRef};
use hedgerow_types::{LogPosition, SerialNumber};

/// Frames, and so everything in the log, begin at multiples of this.
pub const ALIGN: usize = 8;
/// Bytes of the checksum after the hashed bytes.
const CRC_LEN: usize = 4;
/// Length of the shortest frame: a stub.
pub(crate) const MIN_FRAME_LEN: usize = frame_len(STUB_LEN);

const _: () = assert!(MIN_FRAME_LEN as u64 == hedgerow_types::MIN_FRAME_LEN);
const _: () = assert!(MIN_FRAME_LEN < frame_len(entry::FIXED_LEN + 1));

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
    /// The stub is of an entry that cannot be.
    #[error("a stub without a hash, or of a serial number that no shard has")]
    Stub,
}

/// Appends the entry to a run that is being built, frame and all, and says where its hashed bytes
/// lie. It has no place yet: see [`place_run`]. On an error nothing was appended.
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

/// Appends a stub to a run that is being built, frame and all, and says where the frame begins. It has
/// no place yet: see [`place_run`]. On an error nothing was appended.
///
/// # Errors
/// [`FrameError`] if the stub is not a legal one or the run is full.
pub fn push_stub(run: &mut Vec<u8>, stub: &Stub) -> Result<u32, FrameError> {
    let start = run.len();
    if start.saturating_add(MIN_FRAME_LEN) > u32::MAX as usize {
        return Err(FrameError::RunTooLong);
    }
    run.extend_from_slice(&stub.encode().ok_or(FrameError::Stub)?);
    seal_frame(run, start);
    Ok(start as u32)
}

/// Completes a frame: the hashed bytes of one entry were appended to `run` from `start` on; this
/// appends checksum and padding. It has no place yet: see [`place_run`].
pub fn seal_frame(run: &mut Vec<u8>, start: usize) {
    let hashed = run.get(start..).unwrap_or_default();
    let crc = crc32c::crc32c(hashed);
    let end = run.len() - hashed.len() + frame_len(hashed.len());
    run.extend_from_slice(&crc.to_le_bytes());
    run.resize(end, 0);
}

/// Binds every frame of a run to its place: the run will begin at `at`. Once for each run. Returns how
/// many frames there are.
///
/// # Errors
/// [`Damage`] if the run is not one of frames without a place; some may have been bound to theirs.
pub fn place_run(run: &mut [u8], at: LogPosition) -> Result<u32, Damage> {
    let (mut rest, mut at, mut frames) = (run, at.0, 0);
    while !rest.is_empty() {
        let covered = covered_len(rest)?;
        let (need, have) = (frame_len(covered), rest.len());
        let (frame, others) = rest
            .split_at_mut_checked(need)
            .ok_or(Damage::Length { need: need as u64, have: have as u64 })?;
        if let Some(crc) = frame.get_mut(covered..).and_then(|rest| rest.first_chunk_mut()) {
            *crc = (u32::from_le_bytes(*crc) ^ crc_of_place(at)).to_le_bytes();
        }
        rest = others;
        at = at.saturating_add(need as u64);
        frames += 1;
    }
    Ok(frames)
}

/// What its place adds to a frame's checksum.
fn crc_of_place(at: u64) -> u32 {
    crc32c::crc32c(&at.to_le_bytes())
}

/// How many bytes are under the checksum of the frame that begins with `bytes`, from its first bytes
/// alone: those of a stub, or the hashed bytes of an entry.
///
/// # Errors
/// [`Damage`] if they are too few to tell.
pub(crate) fn covered_len(bytes: &[u8]) -> Result<usize, Damage> {
    let Some(header) = bytes.first_chunk::<{ entry::HEADER_LEN }>() else {
        let have = bytes.len() as u64;
        return Err(Damage::Length { need: entry::HEADER_LEN as u64, have });
    };
    Ok(if header[0] == STUB_KIND { STUB_LEN } else { entry::len_from_header(header) })
}

/// Checks the frame at the start of `bytes`, which were read at `at`: whole, the one that belongs
/// there, checksum, padding, and an entry or a stub in it.
///
/// # Errors
/// [`Damage`].
pub(crate) fn check(bytes: &[u8], at: u64) -> Result<FrameRef<'_>, Damage> {
    let covered_len = covered_len(bytes)?;
    let need = frame_len(covered_len);
    let too_short = Damage::Length { need: need as u64, have: bytes.len() as u64 };
    let (covered, rest) =
        bytes.get(..need).and_then(|frame| frame.split_at_checked(covered_len)).ok_or(too_short)?;
    let (crc, padding) = rest.split_first_chunk::<CRC_LEN>().ok_or(too_short)?;
    let stored = u32::from_le_bytes(*crc);
    let computed = crc32c::crc32c(covered) ^ crc_of_place(at);
    if stored != computed {
        return Err(Damage::Checksum { stored, computed });
    }
    if padding.iter().any(|&byte| byte != 0) {
        return Err(Damage::Padding);
    }
    parse(covered)
}

/// As [`check`], where only an entry will do.
///
/// # Errors
/// [`NoEntry`].
pub(crate) fn check_entry(bytes: &[u8], at: u64) -> Result<EntryRef<'_>, NoEntry> {
    match check(bytes, at)? {
        FrameRef::Entry(entry) => Ok(entry),
        FrameRef::Stub(stub) => Err(NoEntry::Stub(stub)),
    }
}

/// What is in a frame with exactly these bytes under its checksum.
fn parse(covered: &[u8]) -> Result<FrameRef<'_>, Damage> {
    match covered.first_chunk::<STUB_LEN>() {
        Some(stub) if stub[0] == STUB_KIND => Ok(FrameRef::Stub(Stub::decode(stub)?)),
        _ => Ok(FrameRef::Entry(EntryRef::parse(covered)?)),
    }
}

/// What is in the frame at the start of `bytes`, and the frame's length. Its checksum is not looked at.
/// `None` if `bytes` does not hold the whole frame.
pub(crate) fn peek(bytes: &[u8]) -> Option<(FrameRef<'_>, usize)> {
    let covered_len = covered_len(bytes).ok()?;
    let covered = bytes.get(..covered_len)?;
    Some((parse(covered).ok()?, frame_len(covered_len)))
}

/// Serial number in the frame at the start of `bytes`, unverified: for stepping over it. `None` if
/// `bytes` does not hold the whole frame.
pub(crate) fn peek_serial_number(bytes: &[u8]) -> Option<SerialNumber> {
    match bytes.first_chunk::<STUB_LEN>() {
        Some(stub) if stub[0] == STUB_KIND => Some(stub_serial_number(stub)),
        _ => Some(EntryRef::parse_prefix(bytes).ok()?.0.serial_number()),
    }
}

/// Why there is no entry to be had where one was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// No intact frame begins there.
    Damage(Damage),
    /// One that holds a stub.
    Stub(Stub),
}

impl NoEntry {
    /// The error of whoever asked at `at`; `damaged` makes that of damage.
    pub(crate) fn at(self, at: u64, damaged: impl FnOnce(Damage) -> LogError) -> LogError {
        match self {
            Self::Damage(what) => damaged(what),
            Self::Stub(stub) => LogError::NotKept { at: LogPosition(at), stub },
        }
    }
}

impl From<Damage> for NoEntry {
    fn from(what: Damage) -> Self {
        Self::Damage(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_types::{Digest, KeyHash, Version};

    const AT: u64 = 5 << 32 | 4096;

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

    const STUB: Stub = Stub { serial_number: SerialNumber(77), hash: Digest([8; 32]) };

    #[test]
    fn frames_follow_each_other_aligned() {
        let mut run = vec![];
        let mut spans = vec![];
        for value_len in 0..40 {
            spans.push(push_frame(&mut run, &fields(b"key", &vec![9; value_len])).unwrap());
            assert_eq!(run.len() % ALIGN, 0);
        }
        assert_eq!(place_run(&mut run, LogPosition(AT)), Ok(spans.len() as u32));
        let mut rest = &run[..];
        for span in spans {
            assert_eq!(run.len() - rest.len(), span.offset as usize);
            let entry = check_entry(rest, AT + u64::from(span.offset)).unwrap();
            assert_eq!(peek(rest), Some((FrameRef::Entry(entry), frame_len(span.len as usize))));
            assert_eq!(entry.hashed_bytes().len(), span.len as usize);
            assert_eq!(peek_serial_number(rest), Some(SerialNumber(77)));
            rest = &rest[frame_len(span.len as usize)..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn the_shortest_frame_is_a_stub() {
        let mut run = vec![];
        push_stub(&mut run, &STUB).unwrap();
        assert_eq!(run.len(), MIN_FRAME_LEN);
        let fields = EntryFields { deactivated: &[], ..fields(b"k", b"") };
        push_frame(&mut run, &fields).unwrap();
        assert_eq!(run.len() - MIN_FRAME_LEN, 64);
    }

    #[test]
    fn stubs_and_entries_follow_each_other() {
        let mut run = vec![];
        assert_eq!(push_stub(&mut run, &STUB), Ok(0));
        let span = push_frame(&mut run, &fields(b"some key", b"some value")).unwrap();
        let last = push_stub(&mut run, &STUB).unwrap();
        assert_eq!(place_run(&mut run, LogPosition(AT)), Ok(3));
        for at in [0, last] {
            let (rest, position) = (&run[at as usize..], AT + u64::from(at));
            assert_eq!(check(rest, position), Ok(FrameRef::Stub(STUB)));
            assert_eq!(check_entry(rest, position), Err(NoEntry::Stub(STUB)));
            assert_eq!(peek(rest), Some((FrameRef::Stub(STUB), MIN_FRAME_LEN)));
            assert_eq!(peek_serial_number(rest), Some(STUB.serial_number));
        }
        check_entry(&run[span.offset as usize..], AT + u64::from(span.offset)).unwrap();
        for (rest, cut) in [(&run[..40], 39), (&run[48..], 9)] {
            assert_eq!(peek(&rest[..cut]), None);
            assert_eq!(peek_serial_number(&rest[..cut]), None);
        }
        let before = run.clone();
        let none = Stub { hash: Digest::ZERO, ..STUB };
        assert_eq!(push_stub(&mut run, &none), Err(FrameError::Stub));
        assert_eq!(run, before);
    }

    /// Also with a checksum that happens to fit.
    #[test]
    fn zeros_are_never_a_frame() {
        let mut run = vec![0; STUB_LEN];
        seal_frame(&mut run, 0);
        place_run(&mut run, LogPosition(AT)).unwrap();
        assert_eq!(check(&run, AT), Err(Damage::Hash));
        assert!(matches!(check(&[0; 512], AT), Err(Damage::Checksum { .. })));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (mut entry, mut stub) = (vec![], vec![]);
        push_frame(&mut entry, &fields(b"some key", b"some value")).unwrap();
        push_stub(&mut stub, &STUB).unwrap();
        for run in [entry, stub] {
            flip_and_cut(run);
        }
    }

    fn flip_and_cut(mut run: Vec<u8>) {
        place_run(&mut run, LogPosition(AT)).unwrap();
        for bit in 0..run.len() * 8 {
            run[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&run, AT).is_err(), "bit {bit}");
            run[bit / 8] ^= 1 << (bit % 8);
        }
        for byte in 0..run.len() {
            run[byte] ^= 0xFF;
            assert!(check(&run, AT).is_err(), "byte {byte}");
            run[byte] ^= 0xFF;
        }
        for cut in 0..run.len() {
            assert!(check(&run[..cut], AT).is_err(), "cut at {cut}");
        }
        // What follows a frame is the next one: it changes nothing, whatever it is.
        let frame = check(&run, AT);
        for fill in [0, 1, 0xFF] {
            let longer = [&run[..], &[fill; 40]].concat();
            assert_eq!(check(&longer, AT), frame);
        }
    }

    /// The lengths in an entry's header lead to the checksum; one that leads elsewhere finds none.
    #[test]
    fn every_other_length_is_noticed() {
        let mut run = vec![];
        push_frame(&mut run, &fields(b"some key", &[7; 300])).unwrap();
        place_run(&mut run, LogPosition(AT)).unwrap();
        let len = run.len();
        run.resize(len + 100_000, 7);
        for key_len in 0..=255 {
            for (value_len, dsns) in [(0, 0), (299, 1), (300, 1), (301, 1), (90_000, 2)] {
                let mut other = run.clone();
                other[0] = key_len;
                other[1..4].copy_from_slice(&u32::to_le_bytes(value_len)[..3]);
                other[4] = dsns;
                let same = other[..5] == run[..5];
                assert_eq!(check(&other, AT).is_ok(), same, "{key_len} {value_len} {dsns}");
            }
        }
    }

    /// Of places less than 32 GiB apart no two have the same checksum; further apart hardly any.
    #[test]
    fn a_frame_is_good_in_its_place_and_in_no_other() {
        let (mut entry, mut stub) = (vec![], vec![]);
        push_frame(&mut entry, &fields(b"some key", b"some value")).unwrap();
        push_stub(&mut stub, &STUB).unwrap();
        for run in [entry, stub] {
            good_in_its_place(run);
        }
    }

    fn good_in_its_place(mut run: Vec<u8>) {
        assert!(check(&run, AT).is_err(), "without a place");
        place_run(&mut run, LogPosition(AT)).unwrap();
        check(&run, AT).unwrap();
        let near = (1..20_000).flat_map(|n| [AT + 8 * n, AT - 8 * n]);
        let far = (3..35).map(|bit| AT ^ 1 << bit);
        let both = (3..35).flat_map(|one| (3..35).map(move |two| AT ^ 1 << one ^ 7 << two));
        for at in near.chain(far).chain(both).chain([0, 64, i64::MAX as u64 - 7]) {
            assert!(matches!(check(&run, at), Err(Damage::Checksum { .. })), "{at}");
        }
        // In pairs, by what they add.
        let places: std::collections::BTreeSet<_> =
            (0..100_000).map(|n| crc_of_place(8 * n)).collect();
        assert_eq!(places.len(), 100_000);
    }

    #[test]
    fn a_run_that_is_none_gets_no_place() {
        let mut run = vec![];
        push_frame(&mut run, &fields(b"some key", b"some value")).unwrap();
        let whole = run.len();
        push_frame(&mut run, &fields(b"some key", b"some value")).unwrap();
        assert_eq!(place_run(&mut [], LogPosition(AT)), Ok(0));
        for cut in (1..run.len()).filter(|&cut| cut != whole) {
            assert!(place_run(&mut run[..cut].to_vec(), LogPosition(AT)).is_err(), "{cut}");
        }
        assert!(place_run(&mut vec![0; 800], LogPosition(AT)).is_err(), "16 stubs and a part");
        let last = LogPosition(u64::MAX - 7);
        assert_eq!(place_run(&mut run, last), Ok(2));
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
