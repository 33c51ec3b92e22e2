//! Files with the right checksums and something else in them than any store wrote: what a bug of an
//! earlier version, or somebody with an editor, may leave.

use super::dir;
use hedgerow::disk::Vfs;
use hedgerow_entryfile::{RECORD_HEADER_LEN, SEGMENT_HEADER_LEN, StoreId, frame_len};
use hedgerow_metadb::{Commit, Engine, HistoryRow, Manifest, MetaDb};
use hedgerow_types::SHARDS;
use hedgerow_types::entry::EntryRef;
use hedgerow_vfs::OpenMode;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a folder of the store, by name.
pub(crate) fn files(disk: &Arc<dyn Vfs>, folder: &str) -> Vec<PathBuf> {
    let folder = dir().join(folder);
    let mut files: Vec<_> = disk.read_dir(&folder).unwrap();
    files.sort();
    files.into_iter().map(|name| folder.join(name)).collect()
}

/// All bytes of a file.
pub(crate) fn read(disk: &Arc<dyn Vfs>, path: &Path) -> Vec<u8> {
    hedgerow_vfs::read_file(&**disk, path, 1 << 30).unwrap()
}

/// Puts bytes into a file that is there.
pub(crate) fn write(disk: &Arc<dyn Vfs>, path: &Path, at: u64, bytes: &[u8]) {
    disk.open(path, OpenMode::ReadWrite).unwrap().write_all_at(bytes, at).unwrap();
}

/// The store's id, out of a segment's header.
pub(crate) fn store_id(disk: &Arc<dyn Vfs>) -> StoreId {
    StoreId(read(disk, &files(disk, "log")[0])[16..32].try_into().unwrap())
}

/// An entry in a segment of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Offset in the file.
    pub(crate) at: usize,
    /// Hashed length.
    pub(crate) len: usize,
    /// Shard.
    pub(crate) shard: usize,
    /// Serial number.
    pub(crate) sn: u64,
}

/// Where the records of a segment begin.
pub(crate) fn records(segment: &[u8]) -> Vec<usize> {
    let u32_at = |at: usize| u32::from_le_bytes(segment[at..at + 4].try_into().unwrap()) as usize;
    let mut records = vec![];
    let mut at = SEGMENT_HEADER_LEN;
    while at < segment.len() {
        records.push(at);
        let runs: usize = (0..SHARDS).map(|shard| u32_at(at + 80 + 16 * shard)).sum();
        at += RECORD_HEADER_LEN + runs + u32_at(at + 336).next_multiple_of(8);
    }
    records
}

/// Changes the header of a record of a segment, and gives it the checksum that goes with it.
pub(crate) fn change_header(segment: &mut [u8], record: usize, change: impl FnOnce(&mut [u8])) {
    let id = crc32c::crc32c(&segment[16..32]);
    let header = &mut segment[record..record + RECORD_HEADER_LEN];
    change(header);
    let crc = crc32c::crc32c(&header[..344]) ^ id;
    header[344..348].copy_from_slice(&crc.to_le_bytes());
}

/// Asks the metadata database of a store that nobody has open.
pub(crate) fn with_meta<T>(disk: &Arc<dyn Vfs>, work: impl FnOnce(&dyn MetaDb) -> T) -> T {
    let engine = Engine::Redb;
    work(&*hedgerow_metadb::open(engine, Arc::clone(disk), &dir().join("meta"), false).unwrap())
}

/// Commits what `change` makes of the manifest and the last history row.
pub(crate) fn change_manifest(
    disk: &Arc<dyn Vfs>,
    change: impl Fn(&mut Manifest, &mut HistoryRow),
) {
    with_meta(disk, |db| {
        let mut manifest = db.manifest().unwrap().unwrap();
        let mut row = db.history(manifest.height).unwrap().unwrap();
        change(&mut manifest, &mut row);
        let rows = [(manifest.height, row)];
        let history_from = manifest.history_from;
        db.commit(&Commit { manifest: &manifest, rows: &rows, history_from }).unwrap();
    });
}

/// The entries of a segment, in order.
pub(crate) fn frames(segment: &[u8]) -> Vec<Frame> {
    let mut frames = vec![];
    let mut at = SEGMENT_HEADER_LEN;
    while at < segment.len() {
        let header = &segment[at..at + RECORD_HEADER_LEN];
        at += RECORD_HEADER_LEN;
        for shard in 0..SHARDS {
            let len = header[80 + 16 * shard..][..4].try_into().unwrap();
            let end = at + u32::from_le_bytes(len) as usize;
            while at < end {
                let (entry, _) = EntryRef::parse_prefix(&segment[at..end]).unwrap();
                let (len, sn) = (entry.hashed_bytes().len(), entry.serial_number().0);
                frames.push(Frame { at, len, shard, sn });
                at += frame_len(len);
            }
        }
        let extra = header[336..][..4].try_into().unwrap();
        at += (u32::from_le_bytes(extra) as usize).next_multiple_of(8);
    }
    frames
}

/// Gives an entry another serial number, and the checksum that goes with it.
pub(crate) fn renumber(segment: &[u8], frame: Frame, sn: u64) -> Vec<u8> {
    let mut bytes = segment[frame.at..][..frame.len].to_vec();
    let dsns = usize::from(bytes[4]);
    let at = frame.len - 8 * dsns - 8;
    bytes[at..at + 8].copy_from_slice(&sn.to_le_bytes());
    assert_eq!(EntryRef::parse(&bytes).unwrap().serial_number().0, sn);
    seal(segment, frame.at, &mut bytes);
    bytes
}

/// Appends the checksum that goes with the hashed bytes of an entry at an offset of a segment.
pub(crate) fn seal(segment: &[u8], at: usize, hashed: &mut Vec<u8>) {
    let base = u64::from_le_bytes(segment[32..40].try_into().unwrap());
    let place = crc32c::crc32c(&(base + at as u64).to_le_bytes());
    let crc = crc32c::crc32c(hashed) ^ place;
    hashed.extend(crc.to_le_bytes());
}

/// Bytes of a page of an index segment.
const PAGE: usize = 4096;

/// The pages of records of an index segment.
pub(crate) fn index_pages(segment: &[u8]) -> usize {
    u64::from_le_bytes(segment[48..56].try_into().unwrap()) as usize
}

/// Changes every record (stem's fragment, position / 8, serial number) of a page of an index segment, and sees to
/// it that no checksum tells: 4 bytes behind the records, which nobody reads, make up for the change. `None` if the
/// page has no room for them.
pub(crate) fn change_index_page(
    segment: &[u8],
    number: usize,
    change: impl Fn(&mut [u8; 4], &mut [u8; 6], &mut [u8; 6]),
) -> Option<Vec<u8>> {
    let mut page = segment[PAGE * (1 + number)..][..PAGE].to_vec();
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
    let (from, count) = (8 + 4 * u16_at(4), u16_at(6));
    let end = from + 16 * count;
    if end + 4 > PAGE {
        return None;
    }
    let wanted = crc32c::crc32c(&page[4..]);
    for record in page[from..end].chunks_exact_mut(16) {
        let (fragment, rest) = record.split_first_chunk_mut().unwrap();
        let (at, sn) = rest.split_first_chunk_mut().unwrap();
        change(fragment, at, sn.try_into().unwrap());
    }
    // A checksum of so many bytes is linear: which bits turn over which is found out bit by bit.
    let with = |page: &mut Vec<u8>, bits: u32| {
        page[end..end + 4].copy_from_slice(&bits.to_le_bytes());
        crc32c::crc32c(&page[4..])
    };
    let base = with(&mut page, 0);
    let mut rows: Vec<(u32, u32)> =
        (0..32).map(|bit| (with(&mut page, 1 << bit) ^ base, 1 << bit)).collect();
    let (mut left, mut bits) = (base ^ wanted, 0);
    for place in (0..32).rev() {
        let Some(number) = rows.iter().position(|row| row.0 >> place & 1 == 1) else { continue };
        let pivot = rows.swap_remove(number);
        for row in rows.iter_mut().filter(|row| row.0 >> place & 1 == 1) {
            *row = (row.0 ^ pivot.0, row.1 ^ pivot.1);
        }
        if left >> place & 1 == 1 {
            (left, bits) = (left ^ pivot.0, bits ^ pivot.1);
        }
    }
    assert_eq!(with(&mut page, bits), wanted, "no checksum tells");
    Some(page)
}
