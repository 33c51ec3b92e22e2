//! The bytes of a segment. A change here is a change of the format: docs and version follow.

use crate::world::{create, files, key, options};
use hedgerow_index::{Edit, Index, Place};
use hedgerow_types::{LogPosition, SerialNumber};
use hedgerow_vfs::{MemDisk, Vfs};
use std::sync::Arc;

#[test]
fn a_segment_has_these_bytes() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    // 300 keys in one group, then 100 in a group each.
    let dense = (0..300_u64).map(|i| (9 << 32) + i * 1_000_003);
    let sparse = (0..100_u64).map(|i| ((100 + i) << 32) + 7);
    let edits: Vec<Edit> = (0..)
        .zip(dense.chain(sparse))
        .map(|(i, stem)| {
            let new = Place { at: LogPosition(8 * (1000 + i)), sn: SerialNumber(50 + i) };
            Edit { key: key(stem, 0), old: None, new: Some(new) }
        })
        .collect();
    index.apply(&edits).unwrap();
    drop(index.snapshot()); // all is frozen
    index.install(index.work().unwrap().run().unwrap());
    assert_eq!(files(&vfs), ["03-00000000.idx"]);
    let path = options(0).folder.join("03-00000000.idx");
    let bytes = hedgerow_vfs::read_file(&*vfs, &path, 1 << 20).unwrap();
    // A head, two pages: 255 records of one group, then 45 of it and 100 of others; a directory of two; a filter
    // of 400 times 12 bits in blocks of 512.
    assert_eq!(bytes.len(), 3 * 4096 + 2 * 8 + (400 * 12_usize).div_ceil(512) * 64);
    assert_eq!(&bytes[..12], b"HgrwIdx1\x01\x00\x03\x07");
    assert_eq!(bytes[4096 + 4..][..8], [1, 0, 255, 0, 9, 0, 255, 0]);
    let entry = &index.snapshot().segments[0];
    assert_eq!(entry.digest.to_le_bytes(), bytes[4092..4096]);
    assert_eq!(entry.len, bytes.len() as u64);
    assert_eq!(crc32c::crc32c(&bytes), 3_510_220_752, "the digest of the file changed");
}
