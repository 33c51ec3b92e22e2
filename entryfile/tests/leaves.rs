//! The twig file with records of which some have the hashes of their entries. Nobody writes these yet; they
//! are found, and what is damaged is missing, as for records without.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::twigs::{EVERYTHING, check, check_groups, open, options, record, shard};
use common::{copy_dir, files, flip, hooked, mem};
use hedgerow_entryfile::{LogError, TwigFile, TwigRecord};
use hedgerow_types::{Digest, TwigId};
use hedgerow_vfs::OpenMode;
use std::sync::Arc;

/// [`record`] with the hashes of all entries.
fn with_leaves(shard_index: u64, twig: u64, salt: u64) -> Arc<TwigRecord> {
    let mut record = Arc::unwrap_or_clone(record(shard_index, twig, salt));
    let leaf = |leaf: u64| Digest(std::array::from_fn(|i| (leaf * 3 + salt + i as u64) as u8));
    record.leaves = Some((0..2048).map(leaf).collect::<Box<[_]>>().try_into().unwrap());
    Arc::new(record)
}

/// Records with and without leaves, side by side and one in the place of the other.
#[test]
fn records_with_leaves_are_found_like_others() {
    for cache_bytes in [0, 300_000] {
        let (inner, dir) = mem();
        let (vfs, control) = hooked(inner);
        let options = options(100_000, cache_bytes);
        let file = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options.clone()).unwrap();
        let mut records: Vec<_> = (0..12)
            .map(|i| if i % 3 == 0 { with_leaves(i, i, i) } else { record(i, i, i) })
            .collect();
        file.append(&records).unwrap();
        check(&file, &records);
        assert!(file.stats().segments > 2);
        // Header and body, as ever.
        control.take_reads();
        check(&file, &records[..1]);
        assert!(control.take_reads() <= 2);
        for i in 0..4 {
            records[i as usize] = if i % 2 == 0 { record(i, i, i) } else { with_leaves(i, i, i) };
        }
        file.append(&records[..4]).unwrap();
        check_groups(&file, &records);
        check(&file, &records);
        drop(file);
        let (file, found) = TwigFile::open(vfs, &dir, common::ID, options, EVERYTHING).unwrap();
        assert_eq!((found.len(), file.stats().damaged), (12, 0));
        check(&file, &records);
        check(&file, &records);
    }
}

/// Leaves count in the cache: 64 KiB each.
#[test]
fn the_cache_of_records_with_leaves_stays_within_its_bytes() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let file = TwigFile::create(vfs, &dir, common::ID, options(1 << 30, 2_000_000)).unwrap();
    let records: Vec<_> = (0..60).map(|i| with_leaves(i, i, i)).collect();
    file.append(&records).unwrap();
    check(&file, &records);
    // In the other order: what is there is asked for before it goes.
    control.take_reads();
    records.iter().rev().for_each(|record| check(&file, std::slice::from_ref(record)));
    let held = 60 - control.take_reads() / 2;
    assert!((1..=26).contains(&held), "{held} of more than 74 KB each");
}

/// Every byte of a record with leaves: the record is missing, and those beside it are not, unless it is in
/// the header, which costs those behind it.
#[test]
fn every_flipped_byte_of_a_record_with_leaves_is_noticed() {
    let (vfs, dir) = mem();
    let file = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options(1 << 20, 0)).unwrap();
    let records = [record(0, 0, 0), with_leaves(1, 1, 2), record(2, 2, 0)];
    file.append(&records).unwrap();
    let path = files(&*vfs, &dir)[0].0.clone();
    let start = 64 + 32 + 9_192;
    let end = start + 32 + 9_192 + 20 + 65_536;
    assert_eq!(files(&*vfs, &dir)[0].1, end + 32 + 9_192);
    // All of the header and around every border; a part of the rest, each by its checksum.
    let head = start..start + 600;
    let borders = (start + 9_000..start + 9_400).chain(end - 100..end);
    let parts = (start + 600..end).step_by(61);
    for byte in head.chain(borders).chain(parts) {
        flip(&*vfs, &path, byte, (byte % 8) as u8);
        assert_eq!(file.get(shard(1), TwigId(1)).unwrap(), None, "byte {byte}");
        check(&file, &records[..1]);
        check(&file, &records[2..]);
        flip(&*vfs, &path, byte, (byte % 8) as u8);
        if byte < start + 64 || byte % 997 == 0 {
            let (vfs, dir) = copy_dir(&*vfs, &dir);
            flip(&*vfs, &files(&*vfs, &dir)[0].0, byte, (byte % 8) as u8);
            let (reopened, found) = open(&vfs, &dir, EVERYTHING);
            assert_eq!(found.len(), if byte < start + 32 { 1 } else { 2 }, "byte {byte}");
            reopened.append(&records).unwrap();
            check(&reopened, &records);
        }
    }
    check(&file, &records);
    // Torn among the leaves: what is before stays.
    for cut in [end - 1, end - 65_536, end - 40_000] {
        let (vfs, dir) = copy_dir(&*vfs, &dir);
        let path = &files(&*vfs, &dir)[0].0;
        vfs.open(path, OpenMode::ReadWrite).unwrap().set_len(cut).unwrap();
        let (file, found) = open(&vfs, &dir, EVERYTHING);
        assert_eq!(found.len(), 1);
        check(&file, &records[..1]);
        assert_eq!(files(&*vfs, &dir)[0].1, start);
    }
}

/// Flags that this version does not know: another made the record, and it is not made again in its place.
#[test]
fn a_record_of_a_newer_version_is_refused_and_stays() {
    for (byte, bit) in [(18, 1), (18, 7), (19, 0), (19, 7)] {
        let (vfs, dir) = mem();
        let file =
            TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options(1 << 20, 0)).unwrap();
        file.append(&[record(0, 0, 0), record(1, 1, 1)]).unwrap();
        drop(file);
        let (path, len) = files(&*vfs, &dir)[0].clone();
        let at = 64 + 32 + 9_192;
        flip(&*vfs, &path, at + byte, bit);
        let disk = vfs.open(&path, OpenMode::ReadWrite).unwrap();
        let mut header = [0; 28];
        disk.read_exact_at(&mut header, at).unwrap();
        disk.write_all_at(&crc32c::crc32c(&header).to_le_bytes(), at + 28).unwrap();
        let before = hedgerow_vfs::read_file(&*vfs, &path, len).unwrap();
        let options = options(1 << 20, 0);
        let error = TwigFile::open(Arc::clone(&vfs), &dir, common::ID, options, EVERYTHING);
        let error = error.unwrap_err();
        assert!(
            matches!(&error, LogError::Corrupt { path: found, offset, .. }
                if *found == path && *offset == at),
            "{error}"
        );
        assert!(error.to_string().contains("its set of flags is"), "{error}");
        assert_eq!(hedgerow_vfs::read_file(&*vfs, &path, len).unwrap(), before);
    }
}
