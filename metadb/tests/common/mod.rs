//! States by height, for the tests of every engine.
#![allow(dead_code, reason = "each test file uses its part")]

use hedgerow_metadb::{
    Commit, HistoryRow, Manifest, MetaDb, MetaError, ShardManifest, StoreParams,
};
use hedgerow_types::{CompactionRule, Digest, Height, LogPosition, SerialNumber, TwigId};

/// The manifest of a height; `edges` edge nodes in each shard.
pub(crate) fn manifest(height: u64, edges: usize) -> Manifest {
    let rule = CompactionRule::new(100, 3, 4).unwrap();
    let shard = |i: usize| ShardManifest {
        next_sn: SerialNumber(10_000 + height + i as u64),
        oldest_active: SerialNumber(height),
        active: 4096,
        root: Digest([i as u8 ^ height as u8; 32]),
        first_kept: TwigId(height / 4096),
        edges: (0..edges).map(|level| (level as u8, Digest([level as u8; 32]))).collect(),
    };
    Manifest {
        store_id: [7; 16],
        params: StoreParams::default().with_compaction(rule),
        height: Height(height),
        log_start: LogPosition(height * 8),
        log_end: LogPosition((16 << 20) + height * 1000),
        state_root: Digest([height as u8; 32]),
        history_from: Height(height / 2),
        checkpoint: None,
        shards: std::array::from_fn(shard),
        dead: vec![],
    }
}

pub(crate) fn row(height: u64, extra: usize) -> HistoryRow {
    HistoryRow {
        root: Digest([height as u8; 32]),
        shard_roots: std::array::from_fn(|i| Digest([i as u8 ^ height as u8; 32])),
        oldest_active: std::array::from_fn(|i| SerialNumber(height + i as u64)),
        extra: (0..extra).map(|i| (i as u64 * height) as u8).collect(),
    }
}

pub(crate) fn commit(db: &dyn MetaDb, height: u64, from: u64) -> Result<(), MetaError> {
    let rows = [(Height(height), row(height, 5))];
    db.commit(&Commit { manifest: &manifest(height, 2), rows: &rows, history_from: Height(from) })
}

/// Checks that the state is that of `height` with rows from `first` on.
#[track_caller]
pub(crate) fn assert_state(db: &dyn MetaDb, height: u64, first: u64) {
    assert_eq!(db.manifest().unwrap(), Some(manifest(height, 2)));
    assert_eq!(db.first_history().unwrap(), Some(Height(first)));
    for present in first..=height {
        assert_eq!(db.history(Height(present)).unwrap(), Some(row(present, 5)), "row {present}");
    }
    for absent in [0, first - 1, height + 1] {
        assert_eq!(db.history(Height(absent)).unwrap(), None, "row {absent}");
    }
}
