//! The manifest and the history row.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bolero::check;
use common::{Count, Damage, sealed};
use hedgerow_metadb::{HistoryRow, Manifest, ShardManifest, StoreParams};
use hedgerow_types::{Digest, Height, LogPosition, MIN_FRAME_LEN, SerialNumber, TwigId};

const ITERATIONS: usize = 200_000;

#[test]
fn manifest() {
    static COUNT: Count = Count::new("manifest");
    let sample = |edges: usize| {
        let shard = |i: usize| ShardManifest {
            next_sn: SerialNumber(20_000 + i as u64),
            oldest_active: SerialNumber(9_000),
            active: 5_000,
            root: Digest([i as u8; 32]),
            first_kept: TwigId(3),
            edges: (0..edges).map(|level| (level as u8, Digest([9; 32]))).collect(),
        };
        let manifest = Manifest {
            store_id: [7; 16],
            params: StoreParams::default(),
            height: Height(77),
            log_start: LogPosition(1 << 20),
            log_end: LogPosition(1 << 30),
            state_root: Digest([8; 32]),
            history_from: Height(70),
            checkpoint: None,
            shards: std::array::from_fn(shard),
            dead: (0..edges as u64)
                .map(|n| LogPosition((1 << 20) + 64 * n)..LogPosition((1 << 20) + 64 * n + 8))
                .collect(),
        };
        manifest.encode().unwrap()
    };
    let samples = [sample(0), sample(2), sample(64)];
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        let bytes = if damage.mended { sealed(bytes) } else { bytes };
        let decoded = Manifest::decode(&bytes);
        if let Ok(manifest) = &decoded {
            assert_eq!(manifest.encode().unwrap(), bytes);
            manifest.validate().unwrap();
            // The bound that whoever allocates relies on: a kept twig is at least 2048 frames.
            let twigs: u64 = manifest
                .shards
                .iter()
                .map(|shard| shard.next_sn.twig().0 - shard.first_kept.0)
                .sum();
            assert!(twigs * 2048 * MIN_FRAME_LEN <= manifest.log_end.0 - manifest.log_start.0);
        }
        COUNT.note(decoded.is_ok());
    });
    COUNT.finish();
}

#[test]
fn history_row() {
    static COUNT: Count = Count::new("history row");
    let height = Height(77);
    let sample = |extra: usize| {
        let row = HistoryRow {
            root: Digest([1; 32]),
            shard_roots: [Digest([2; 32]); 16],
            oldest_active: [SerialNumber(4096); 16],
            extra: vec![5; extra],
        };
        row.encode(height).unwrap()
    };
    let samples = [sample(0), sample(10), sample(3000)];
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        let bytes = if damage.mended { sealed(bytes) } else { bytes };
        let decoded = HistoryRow::decode(&bytes, height);
        if let Ok(row) = &decoded {
            assert_eq!(row.encode(height).unwrap(), bytes);
            assert!(HistoryRow::decode(&bytes, height.next()).is_err());
        }
        COUNT.note(decoded.is_ok());
    });
    COUNT.finish();
}
