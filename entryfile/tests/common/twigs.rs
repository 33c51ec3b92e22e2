//! Records of the twig file that need no log, and the file that holds them.

use hedgerow_entryfile::{SegmentSize, TwigFile, TwigFileOptions, TwigRecord};
use hedgerow_types::{Digest, LogPosition, ShardId, TwigId};
use hedgerow_vfs::Vfs;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn shard(index: u64) -> ShardId {
    ShardId::new(index as usize % 16).unwrap()
}

/// A record, told apart by `salt`; its entries lie below `1_000_000 * (salt + 1)`.
pub(crate) fn record(shard_index: u64, twig: u64, salt: u64) -> Arc<TwigRecord> {
    let base = 1_000_000 * salt;
    Arc::new(TwigRecord {
        shard: shard(shard_index),
        twig: TwigId(twig),
        record: LogPosition(base),
        nodes: Box::new(std::array::from_fn(|i| Digest([(i as u64 + salt) as u8; 32]))),
        groups: Box::new(std::array::from_fn(|i| LogPosition(base + 2400 * i as u64 + 160))),
        breaks: (0..salt % 5).map(|i| (i as u16 + 1, LogPosition(base + 320 + 160 * i))).collect(),
        leaves: None,
    })
}

pub(crate) const EVERYTHING: LogPosition = LogPosition(u64::MAX);

pub(crate) fn options(segment_size: u64, cache_bytes: u64) -> TwigFileOptions {
    TwigFileOptions {
        segment_size: SegmentSize::fixed(segment_size),
        cache_bytes,
        mapped_bytes: 1 << 30,
    }
}

pub(crate) fn open(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    log_end: LogPosition,
) -> (TwigFile, Vec<(ShardId, TwigId)>) {
    TwigFile::open(Arc::clone(vfs), dir, super::ID, options(30_000, 0), log_end).unwrap()
}

pub(crate) fn check(file: &TwigFile, records: &[Arc<TwigRecord>]) {
    for record in records {
        assert_eq!(file.get(record.shard, record.twig).unwrap().as_ref(), Some(record));
    }
}

/// What is said of groups is what the whole record says.
#[allow(dead_code, reason = "not every test that has records asks for groups")]
pub(crate) fn check_groups(file: &TwigFile, records: &[Arc<TwigRecord>]) {
    for record in records {
        // Read from the file, or from the cache, in which the record may be after some of these.
        for leaf in (0..2048).step_by(199).chain([2047]) {
            let group = file.group(record.shard, record.twig, leaf).unwrap();
            assert_eq!(group, record.group_of(leaf), "leaf {leaf}");
            assert!(group.is_some());
        }
        assert!(file.group(record.shard, record.twig, 2048).is_err());
    }
}
