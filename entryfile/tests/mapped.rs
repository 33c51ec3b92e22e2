//! Segments that are mapped: which, how many, and that what is read from them is checked as ever.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is the failure report")]

mod common;

use common::{Model, disk_only, files, flip, shape};
use hedgerow_entryfile::{EntryLog, LogError, LogOptions};
use hedgerow_types::LogPosition;
use hedgerow_vfs::{MemDisk, OpenMode, RealDisk, Vfs};
use std::path::Path;
use std::sync::Arc;

/// A log on the real disk of which `mapped_bytes` may be mapped.
fn log(dir: &Path, mapped_bytes: u64) -> EntryLog {
    let options = LogOptions { mapped_bytes, ..disk_only(3000) };
    EntryLog::create(Arc::new(RealDisk), &dir.join("log"), common::ID, options).unwrap()
}

fn blocks(model: &mut Model, log: &EntryLog, count: u8) {
    for block in 0..count {
        model.commit(
            log,
            &[shape(usize::from(block % 16), 300), shape(3, 500 + usize::from(block))],
        );
    }
}

/// Lengths of the segments that grow no more, the newest first.
fn sealed(dir: &Path) -> Vec<u64> {
    let mut files = files(&RealDisk, &dir.join("log"));
    files.sort();
    files.pop();
    files.iter().rev().map(|(_, len)| *len).collect()
}

/// As many of the newest as have room together.
fn fitting(sealed: &[u64], most: u64) -> u64 {
    let sums = sealed.iter().scan(0, |sum, len| {
        *sum += len;
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= most).last().unwrap_or(0)
}

#[test]
fn the_newest_segments_are_mapped_within_the_bound_and_their_share_comes_back() {
    for seed in 0..6 {
        let mut state: u64 = seed;
        let mut below = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % end
        };
        let dir = tempfile::tempdir().unwrap();
        let most = [0, 2000, 9000, 20_000, 60_000, u64::MAX][seed as usize];
        let log = log(dir.path(), most);
        let mut model = Model::default();
        for round in 0..8 {
            blocks(&mut model, &log, 1 + below(20) as u8);
            // Those that lost their room are no longer mapped, and none of the others need be yet.
            assert!(log.stats().mapped_bytes <= most, "seed {seed}");
            model.check(&log);
            let mapped = log.stats().mapped_bytes;
            assert_eq!(mapped, fitting(&sealed(dir.path()), most), "seed {seed} round {round}");
            if below(3) == 0 {
                let places: Vec<_> = model.records.iter().map(|record| record.position()).collect();
                let upto = places[below(places.len() as u64) as usize];
                log.prune_head(upto).unwrap();
                assert!(
                    log.stats().mapped_bytes <= fitting(&sealed(dir.path()), most),
                    "seed {seed}"
                );
                model.check(&log);
                let mapped = log.stats().mapped_bytes;
                assert_eq!(mapped, fitting(&sealed(dir.path()), most), "seed {seed} pruned");
            }
        }
    }
}

#[test]
fn a_disk_that_maps_nothing_reads_as_ever() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let log = EntryLog::create(vfs, Path::new("/log"), common::ID, disk_only(3000)).unwrap();
    let mut model = Model::default();
    blocks(&mut model, &log, 30);
    model.check(&log);
    assert_eq!(log.stats().mapped_bytes, 0);
}

#[test]
fn a_changed_byte_of_a_mapped_segment_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), u64::MAX);
    let mut model = Model::default();
    blocks(&mut model, &log, 12);
    model.check(&log);
    let mapped = log.stats().mapped_bytes;
    assert!(mapped > 3000);
    for entry in model.entries.iter().filter(|entry| entry.at < LogPosition(mapped)) {
        let all = files(&RealDisk, &dir.path().join("log"));
        let mut base = 0;
        let (path, offset) = all
            .iter()
            .find_map(|(path, len)| {
                let offset = entry.at.0.checked_sub(base).filter(|offset| offset < len);
                base += len;
                Some((path, offset?))
            })
            .unwrap();
        // The fourth lies beyond what is read before the length is known; the last changes the length, of an entry at
        // the end of a segment to one that ends beyond it.
        let bits = [(0, 3), (9, 3), (40, 3), (200, 3), (1, 7)];
        for (byte, bit) in bits.into_iter().filter(|(byte, _)| *byte < entry.hashed.len() as u64) {
            flip(&RealDisk, path, offset + byte, bit);
            for error in [log.read(entry.at).unwrap_err(), log.read_many(&[entry.at]).unwrap_err()]
            {
                assert!(
                    matches!(error, LogError::Corrupt { .. } | LogError::NotAnEntry { .. }),
                    "{error}"
                );
            }
            flip(&RealDisk, path, offset + byte, bit);
        }
    }
    assert_eq!(log.stats().mapped_bytes, mapped);
    model.check(&log);
}

/// Opening cuts what lies beyond the end before anything is mapped, and what is cut was mapped by nobody.
#[test]
fn what_is_cut_when_it_is_opened_is_mapped_up_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let first = log(dir.path(), u64::MAX);
    let mut model = Model::default();
    blocks(&mut model, &first, 40);
    model.check(&first);
    drop(first);
    for keep in [33, 20, 9, 2] {
        let end = model.records[keep].position();
        model.cut(end);
        let vfs: Arc<dyn Vfs> = Arc::new(RealDisk);
        let end = model.records.last().unwrap().end();
        let log = EntryLog::open(
            vfs,
            &dir.path().join("log"),
            common::ID,
            disk_only(3000),
            LogPosition(0),
            end,
        )
        .unwrap();
        model.check(&log);
        assert_eq!(log.stats().mapped_bytes, sealed(dir.path()).iter().sum::<u64>());
        // And it is written on from there.
        blocks(&mut model, &log, 3);
        model.check(&log);
    }
}

/// A file that somebody cuts before it was read is an error and no signal.
#[test]
fn a_segment_that_was_cut_before_it_was_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), u64::MAX);
    let mut model = Model::default();
    blocks(&mut model, &log, 12);
    let (path, len) = files(&RealDisk, &dir.path().join("log")).into_iter().min().unwrap();
    RealDisk.open(&path, OpenMode::ReadWrite).unwrap().set_len(len / 2).unwrap();
    let (mut fine, mut failed) = (0, 0);
    for entry in model.entries.iter().filter(|entry| entry.at.0 < len) {
        match log.read(entry.at) {
            Ok(found) => {
                common::assert_same(entry, &found);
                fine += 1;
            }
            Err(LogError::Io { .. }) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(fine > 0 && failed > 0, "{fine} read, {failed} errors");
}
