//! Properties of the two record formats: whatever is encoded decodes to itself, and bytes that
//! nobody encoded never decode, nor make the decoder panic.

use hedgerow_metadb::{HistoryRow, MAX_EDGES, Manifest, ShardManifest, StoreParams};
use hedgerow_types::{
    CompactionRule, Digest, Height, LogPosition, MIN_FRAME_LEN, SENTRIES_PER_SHARD, SerialNumber,
};
use proptest::{collection::vec, prelude::*};

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn shard() -> impl Strategy<Value = ShardManifest> {
    let numbers = (0..1_u64 << 50, 0..1_u64 << 38, 0..1_u64 << 30, any::<u64>());
    let edges = vec((any::<u8>(), digest()), 0..=MAX_EDGES);
    (numbers, digest(), edges).prop_map(|((kept, skipped, dead, active), root, edges)| {
        // Pruned up to `kept`, then entries that are not active, then some that are.
        let first_kept = SerialNumber(kept).twig();
        let oldest_active = SerialNumber(kept + skipped);
        let span = SENTRIES_PER_SHARD + dead;
        ShardManifest {
            next_sn: oldest_active.plus(span),
            oldest_active,
            active: SENTRIES_PER_SHARD + active % (dead + 1),
            root,
            first_kept,
            edges,
        }
    })
}

fn params() -> impl Strategy<Value = StoreParams> {
    (any::<u64>(), 1u32.., 1u32..).prop_filter_map("a legal rule", |(threshold, ratio, div)| {
        let rule = CompactionRule::new(threshold, ratio, div).ok()?;
        Some(StoreParams::default().with_compaction(rule))
    })
}

prop_compose! {
    fn manifest()(
        store_id in any::<[u8; 16]>(),
        params in params(),
        height in 0..=Height::MAX.0,
        start in 0..u64::MAX >> 1,
        state_root in digest(),
        shards in prop::array::uniform16(shard()),
        dead in vec((1_u64..1 << 30, 1_u64..1 << 30), 0..9),
    ) -> Manifest {
        Manifest {
            store_id,
            params,
            height: Height(height),
            log_start: LogPosition(start),
            // At most 2^39 entries in each of the 16 shards.
            log_end: LogPosition(start + (MIN_FRAME_LEN << 43)),
            state_root,
            history_from: Height(height / 2),
            checkpoint: None,
            shards,
            dead: dead.into_iter().scan(start, |end, (skip, len)| {
                let from = (*end + 8 * skip).next_multiple_of(8);
                *end = from + 8 * len;
                Some(LogPosition(from)..LogPosition(*end))
            }).collect(),
        }
    }
}

prop_compose! {
    fn row()(
        root in digest(),
        shard_roots in prop::array::uniform16(digest()),
        oldest in any::<[u64; 16]>(),
        extra in vec(any::<u8>(), 0..2000),
    ) -> HistoryRow {
        HistoryRow { root, shard_roots, oldest_active: oldest.map(SerialNumber), extra }
    }
}

/// `bytes` with a checksum that fits, so that the decoder looks at the fields.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn manifests_decode_to_themselves(manifest in manifest()) {
        let bytes = manifest.encode().unwrap();
        prop_assert!(bytes.len() <= Manifest::MAX_LEN);
        prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
    }

    #[test]
    fn rows_decode_to_themselves_at_their_height(row in row(), height: u64, other: u64) {
        let bytes = row.encode(Height(height)).unwrap();
        prop_assert_eq!(HistoryRow::decode(&bytes, Height(height)).unwrap(), row);
        prop_assert_eq!(HistoryRow::decode(&bytes, Height(other)).is_ok(), other == height);
    }

    /// The encoding is canonical: what decodes at all is the encoding of what it decodes to.
    #[test]
    fn tampering_behind_a_mended_checksum_never_panics(
        manifest in manifest(),
        row in row(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let tamper = |mut body: Vec<u8>| {
            body.truncate(body.len() - 4);
            for (at, value) in &changes {
                let at = at.index(body.len());
                body[at] = *value;
            }
            sealed(body)
        };
        let bytes = tamper(manifest.encode().unwrap());
        if let Ok(decoded) = Manifest::decode(&bytes) {
            prop_assert_eq!(decoded.encode().unwrap(), bytes);
        }
        let bytes = tamper(row.encode(Height(7)).unwrap());
        if let Ok(decoded) = HistoryRow::decode(&bytes, Height(7)) {
            prop_assert_eq!(decoded.encode(Height(7)).unwrap(), bytes);
        }
    }

    #[test]
    fn noise_never_decodes(noise in vec(any::<u8>(), 0..2000)) {
        prop_assert!(Manifest::decode(&noise).is_err());
        prop_assert!(HistoryRow::decode(&sealed(noise), Height(1)).is_err());
    }
}
