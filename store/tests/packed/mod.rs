//! Stores that are checked in: their files in one, compressed.
//!
//! ```text
//!   per file: length of the name u16 ‖ name ‖ length u64 ‖ bytes          all of it compressed
//! ```
//!
//! To keep it small, what is the same in every store is left out: the genesis record (6 MB), which is
//! put together here from the spec, all but four of the twig records, and the checkpoint.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use hedgerow::disk::{OpenMode, Vfs};
use hedgerow_types::ShardId;
use hedgerow_types::entry::encode_sentry;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

/// Twig records that are kept: the first ones, which have no breaks.
pub(crate) const KEPT_TWIGS: usize = 4;

/// All files in these folders of a directory.
pub(crate) fn pack(disk: &Arc<dyn Vfs>, dir: &Path, folders: &[&str]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    for folder in folders {
        let mut names = disk.read_dir(&dir.join(folder)).unwrap();
        names.sort();
        for path in names.into_iter().map(|name| dir.join(folder).join(name)) {
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().as_bytes();
            let mut bytes = hedgerow_vfs::read_file(&**disk, &path, 1 << 30).unwrap();
            if is_in(&path, "log") {
                let genesis = genesis_record(&bytes[16..32]);
                assert!(bytes[64..][..genesis.len()] == genesis);
                bytes.drain(64..64 + genesis.len());
            } else if is_in(&path, "twigs") {
                bytes.truncate(64 + KEPT_TWIGS * (32 + 9_192));
            }
            out.write_all(&(name.len() as u16).to_le_bytes()).unwrap();
            out.write_all(name).unwrap();
            out.write_all(&(bytes.len() as u64).to_le_bytes()).unwrap();
            out.write_all(&bytes).unwrap();
        }
    }
    out.finish().unwrap()
}

/// Puts the files back into a directory.
pub(crate) fn unpack(disk: &Arc<dyn Vfs>, dir: &Path, packed: &[u8]) {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    let mut rest = &bytes[..];
    while let Some((len, after)) = rest.split_first_chunk() {
        let (name, after) = after.split_at(usize::from(u16::from_le_bytes(*len)));
        let (len, after) = after.split_first_chunk().unwrap();
        let (bytes, after) = after.split_at(u64::from_le_bytes(*len) as usize);
        let mut bytes = bytes.to_vec();
        let path = dir.join(std::str::from_utf8(name).unwrap());
        if is_in(&path, "log") {
            let genesis = genesis_record(&bytes[16..32]);
            bytes.splice(64..64, genesis);
        }
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.open(&path, OpenMode::CreateNew).unwrap().write_all_at(&bytes, 0).unwrap();
        rest = after;
    }
}

fn is_in(path: &Path, folder: &str) -> bool {
    path.parent().and_then(Path::file_name) == Some(OsStr::new(folder))
}

/// The record of height 0 as docs/format.md and the spec (4.3) have it, at position 64.
fn genesis_record(id: &[u8]) -> Vec<u8> {
    let frame_len = 85_u32 + 4 + 7;
    let mut record = b"HgrwRec3".to_vec();
    record.extend([0; 8]);
    record.extend(64_u64.to_le_bytes());
    // Nothing precedes it, nothing was durable or published.
    record.extend([0; 8 + 8 + 8 + 32]);
    for _ in 0..16 {
        record.extend((4096 * frame_len).to_le_bytes());
        record.extend(4096_u32.to_le_bytes());
        record.extend([0; 8]);
    }
    // No extra bytes, and their checksum.
    record.extend([0; 8]);
    let crc = crc32c::crc32c(&record) ^ crc32c::crc32c(id);
    record.extend(u64::from(crc).to_le_bytes());
    for shard in ShardId::all() {
        for index in 0..4096 {
            let start = record.len();
            encode_sentry(shard, index, &mut record);
            let position = 64 + start as u64;
            let place = crc32c::crc32c(&position.to_le_bytes());
            let crc = crc32c::crc32c(&record[start..]) ^ place;
            record.extend(crc.to_le_bytes());
            record.extend([0; 7]);
        }
    }
    record
}
