//! The manifest: the one small record that says what is durable.
//!
//! ```text
//!   offset  bytes
//!        0      8   magic "HgrwMan1"
//!        8      2   format version, 4
//!       10      2   number of shards, 16          ┐
//!       12      1   hash function, 1 = SHA-256    │ parameters
//!       13      1   compaction spread             │
//!       14      2   zero                          │
//!       16      8   compaction threshold          │
//!       24      4   compaction ratio              │
//!       28      4   compaction div                │
//!       32      8   first height, at least 1      ┘
//!       40     16   store id
//!       56      8   height
//!       64      8   log start
//!       72      8   log end
//!       80     32   state root
//!      112      8   first height with a history row, at most the height
//!      120      8   height of the newest checkpoint, at most the height; 0 if there is none
//!      128      8   bytes of that checkpoint's file; 0 if there is none
//!      136   16 ×   shard:
//!                     0   8   next serial number
//!                     8   8   oldest active serial number
//!                    16   8   number of active entries
//!                    24   8   first kept twig
//!                    32  32   shard root
//!                    64   2   number of edge nodes, e, at most 64
//!                    66  33e  edge nodes: level (1), digest (32)
//!    -4         4   CRC32C of everything before
//! ```
//!
//! All numbers are little-endian. At least 1198 bytes, at most 39,086.
//!
//! A checksum says that the bytes are those that were written, not that they are true. So what
//! whoever reads a manifest is going to allocate by is bounded here, by [`Manifest::validate`]:
//!
//! ```text
//!   0 ≤ first_kept twig ≤ twig of oldest_active ≤ twig of next_sn      < 2^40, < 2^28 of them kept
//!                         oldest_active < next_sn                      sentries are always active
//!   4096 ≤ active ≤ next_sn - oldest_active
//!   log start < end of a dead span, which lies before the next one; the last ends at log end or before
//!   the entries from first_kept on fit between log start and log end   48 bytes, a stub, at least
//! ```

use crate::{
    HashFunction, StoreParams,
    codec::{CRC_LEN, DecodeError, FRAME_HEAD_LEN, InvalidField, Reader, Writer},
};
use hedgerow_types::{
    CompactionRule, Digest, Height, LogPosition, MAX_TWIGS, MAX_TWIGS_HELD, MIN_FRAME_LEN,
    SENTRIES_PER_SHARD, SHARDS, SerialNumber, TwigId,
};
use std::ops::Range;

const MAGIC: [u8; 8] = *b"HgrwMan1";
const VERSION: u16 = 4;

const PARAMS_LEN: usize = 2 + 1 + 3 + 8 + 4 + 4 + 8;
const FIXED_LEN: usize = FRAME_HEAD_LEN + PARAMS_LEN + 16 + 8 + 8 + 8 + 32 + 8 + 16;
const SHARD_LEN: usize = 8 + 8 + 8 + 8 + 32 + 2;
const EDGE_LEN: usize = 1 + 32;
const _: () = assert!(FIXED_LEN == 136 && SHARD_LEN == 66);

/// Most edge nodes of a shard: one per level.
pub const MAX_EDGES: usize = 64;
/// Most dead spans of the log that a manifest names.
pub const MAX_DEAD_SPANS: usize = 256;
const SPAN_LEN: usize = 16;
/// What is durable, and what the store needs to know to go on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Identifies the store; every file of it carries the same 16 bytes.
    pub store_id: [u8; 16],
    /// What was fixed at creation.
    pub params: StoreParams,
    /// The durable height: everything below describes the state after this block.
    pub height: Height,
    /// Where the log begins: what lies below may be deleted.
    pub log_start: LogPosition,
    /// Where the log ends: what lies beyond is not part of the durable state.
    pub log_end: LogPosition,
    /// Root of all shards.
    pub state_root: Digest,
    /// The first height whose history row is kept: all from here to `height` are there, so that one
    /// which is missing is damage.
    pub history_from: Height,
    /// The newest checkpoint that is whole: where opening may begin. Nothing is lost without it.
    pub checkpoint: Option<CheckpointName>,
    /// The shards, in order.
    pub shards: [ShardManifest; SHARDS],
    /// What of the log was taken back, ascending, apart from each other; at most [`MAX_DEAD_SPANS`].
    pub dead: Vec<Range<LogPosition>>,
}

/// Which file holds a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointName {
    /// The height whose state it holds.
    pub height: Height,
    /// Length of its file, never 0.
    pub bytes: u64,
}

/// The part of a [`Manifest`] that is about one shard.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ShardManifest {
    /// The serial number that the next entry gets.
    pub next_sn: SerialNumber,
    /// No entry below it is active. Below `next_sn`: sentries are never deleted.
    pub oldest_active: SerialNumber,
    /// Number of active entries, the 4096 sentries included.
    pub active: u64,
    /// Root of the shard's tree.
    pub root: Digest,
    /// The first twig of which the tree still holds nodes.
    pub first_kept: TwigId,
    /// The nodes, as (level, digest), that stand for the twigs before `first_kept`; at most
    /// [`MAX_EDGES`].
    pub edges: Vec<(u8, Digest)>,
}

impl Manifest {
    /// Longest manifest in bytes.
    pub const MAX_LEN: usize = FIXED_LEN
        + SHARDS * (SHARD_LEN + MAX_EDGES * EDGE_LEN)
        + (2 + MAX_DEAD_SPANS * SPAN_LEN)
        + CRC_LEN;

    /// Checks what holds for every manifest, whoever made it. A decoded manifest has passed, so that
    /// a store which opens may allocate by its numbers: they are bounded by the length of the log.
    ///
    /// # Errors
    /// [`InvalidField`] names the first number that cannot be.
    pub fn validate(&self) -> Result<(), InvalidField> {
        let is = InvalidField::unless;
        let Self { height, log_start, log_end, .. } = *self;
        is(height <= Height::MAX, "the height", height.0, "heights have 39 bits")?;
        let rule = "the log ends before that";
        is(log_start <= log_end, "the log's start", log_start.0, rule)?;
        let (what, from) = ("the first height with a history row", self.history_from);
        is(from <= height, what, from.0, "the manifest's height is lower")?;
        let (what, first) = ("the first height", self.params.first_height());
        is(first <= height.next(), what, first.0, "the manifest's height lies before it")?;
        if let Some(CheckpointName { height: at, bytes }) = self.checkpoint {
            let what = "the height of the checkpoint";
            is(at <= height, what, at.0, "the manifest's height is lower")?;
            is(bytes > 0, "the length of the checkpoint", bytes, "it is not empty")?;
        }
        self.validate_dead()?;
        let mut kept = 0_u64;
        for shard in &self.shards {
            shard.validate()?;
            kept = kept.saturating_add(shard.next_sn.0 - shard.first_kept.first().0);
        }
        // Of every entry that is kept the log has its frame, or that of a stub.
        let room = log_end.0.saturating_sub(log_start.0) / MIN_FRAME_LEN;
        is(kept <= room, "the number of entries kept", kept, "the log is too short for them")
    }

    /// The part of [`Manifest::validate`] that is about dead spans.
    fn validate_dead(&self) -> Result<(), InvalidField> {
        let is = InvalidField::unless;
        dead_fit(self.dead.len())?;
        let mut before = None;
        for span in &self.dead {
            let Range { start, end } = span;
            let aligned = start.0.is_multiple_of(8) && end.0.is_multiple_of(8);
            let rule = "it is a multiple of 8, and the span is not empty";
            is(aligned && start < end, "where a dead span begins", start.0, rule)?;
            let rule = "the one before it ends before it";
            is(before < Some(*start), "where a dead span begins", start.0, rule)?;
            let rule = "it lies between the start of the log and its end";
            let within = self.log_start < *end && *end <= self.log_end;
            is(within, "where a dead span ends", end.0, rule)?;
            before = Some(*end);
        }
        Ok(())
    }

    /// The manifest as bytes, in the layout that the module's comment draws.
    ///
    /// # Errors
    /// [`InvalidField`] if a field contradicts another or is out of its range.
    pub fn encode(&self) -> Result<Vec<u8>, InvalidField> {
        self.validate()?;
        let edges: usize = self.shards.iter().map(|shard| shard.edges.len()).sum();
        let dead = 2 + self.dead.len() * SPAN_LEN;
        let capacity = FIXED_LEN + SHARDS * SHARD_LEN + edges * EDGE_LEN + dead + CRC_LEN;
        let mut out = Writer::new(MAGIC, VERSION, capacity);
        out.u16(self.params.shards());
        out.u8(self.params.hash().id());
        let rule = self.params.compaction();
        out.u8(rule.spread());
        out.raw(&[0; 2]);
        out.u64(rule.threshold());
        out.u32(rule.ratio());
        out.u32(rule.div());
        out.u64(self.params.first_height().0);
        out.raw(&self.store_id);
        out.u64(self.height.0);
        out.u64(self.log_start.0);
        out.u64(self.log_end.0);
        out.digest(&self.state_root);
        out.u64(self.history_from.0);
        let none = CheckpointName { height: Height(0), bytes: 0 };
        let checkpoint = self.checkpoint.unwrap_or(none);
        out.u64(checkpoint.height.0);
        out.u64(checkpoint.bytes);
        for shard in &self.shards {
            out.u64(shard.next_sn.0);
            out.u64(shard.oldest_active.0);
            out.u64(shard.active);
            out.u64(shard.first_kept.0);
            out.digest(&shard.root);
            out.u16(shard.edges.len() as u16); // at most MAX_EDGES, see `validate`
            for (level, digest) in &shard.edges {
                out.u8(*level);
                out.digest(digest);
            }
        }
        out.u16(self.dead.len() as u16); // at most MAX_DEAD_SPANS, see `validate`
        for span in &self.dead {
            out.u64(span.start.0);
            out.u64(span.end.0);
        }
        Ok(out.finish())
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else.
    ///
    /// # Errors
    /// [`DecodeError`] if a bit is wrong, a byte is missing or left over, or a field contradicts
    /// another.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes, MAGIC, VERSION)?;
        let manifest = Self {
            params: decode_params(&mut fields)?,
            store_id: fields.array("the store id")?,
            height: Height(fields.u64("the height")?),
            log_start: LogPosition(fields.u64("the log's start")?),
            log_end: LogPosition(fields.u64("the log's end")?),
            state_root: fields.digest("the state root")?,
            history_from: Height(fields.u64("the first height with a history row")?),
            checkpoint: decode_checkpoint(&mut fields)?,
            shards: {
                let mut shards: [ShardManifest; SHARDS] = Default::default();
                for shard in &mut shards {
                    *shard = decode_shard(&mut fields)?;
                }
                shards
            },
            dead: decode_dead(&mut fields)?,
        };
        fields.finish()?;
        manifest.validate()?;
        Ok(manifest)
    }
}

impl ShardManifest {
    /// The part of [`Manifest::validate`] that is about one shard.
    fn validate(&self) -> Result<(), InvalidField> {
        let is = InvalidField::unless;
        let Self { next_sn, oldest_active, active, first_kept, .. } = *self;
        let youngest = next_sn.twig().0;
        let rule = "a shard has at most 2^51 entries";
        is(youngest < MAX_TWIGS, "a shard's next serial number", next_sn.0, rule)?;
        let rule = "the shard's next serial number is not above it";
        is(oldest_active < next_sn, "a shard's oldest active", oldest_active.0, rule)?;
        let rule = "the shard's oldest active entry lies before it";
        is(first_kept <= oldest_active.twig(), "a shard's first kept twig", first_kept.0, rule)?;
        let rule = "a store keeps at most 2^28 twigs of a shard";
        let twigs = youngest - first_kept.0;
        is(twigs < MAX_TWIGS_HELD, "a shard's number of kept twigs", twigs, rule)?;
        let what = "a shard's number of active entries";
        let rule = "there are fewer from the oldest active one on";
        is(active <= next_sn.0 - oldest_active.0, what, active, rule)?;
        is(active >= SENTRIES_PER_SHARD, what, active, "its 4096 sentries are always active")?;
        edges_fit(self.edges.len())
    }
}

fn edges_fit(count: usize) -> Result<(), InvalidField> {
    let rule = "at most 64 are possible, one per level";
    InvalidField::unless(count <= MAX_EDGES, "a shard's number of edge nodes", count as u64, rule)
}

fn dead_fit(count: usize) -> Result<(), InvalidField> {
    let rule = "a manifest names at most 256";
    InvalidField::unless(
        count <= MAX_DEAD_SPANS,
        "the number of dead spans of the log",
        count as u64,
        rule,
    )
}

fn decode_dead(fields: &mut Reader<'_>) -> Result<Vec<Range<LogPosition>>, DecodeError> {
    let count = usize::from(fields.u16("the number of dead spans of the log")?);
    dead_fit(count)?;
    let mut dead = Vec::with_capacity(count);
    for _ in 0..count {
        let start = LogPosition(fields.u64("where a dead span begins")?);
        dead.push(start..LogPosition(fields.u64("where a dead span ends")?));
    }
    Ok(dead)
}

fn decode_params(fields: &mut Reader<'_>) -> Result<StoreParams, DecodeError> {
    let is = InvalidField::unless;
    let shards = fields.u16("the number of shards")?;
    let rule = "this build of Hedgerow knows 16 only";
    is(usize::from(shards) == SHARDS, "the number of shards", shards.into(), rule)?;
    let id = fields.u8("the hash function")?;
    let hash = HashFunction::from_id(id).ok_or(InvalidField {
        what: "the hash function",
        found: id.into(),
        rule: "this build of Hedgerow knows 1, SHA-256, only",
    })?;
    let spread = fields.u8("the compaction spread")?;
    for byte in fields.array::<2>("the parameters")? {
        is(byte == 0, "a reserved byte of the parameters", byte.into(), "it must be 0")?;
    }
    let threshold = fields.u64("the compaction threshold")?;
    let ratio = fields.u32("the compaction ratio")?;
    let div = fields.u32("the compaction div")?;
    let rule = CompactionRule::new(threshold, ratio, div).map_err(|_| InvalidField {
        what: "the compaction ratio or div",
        found: 0,
        rule: "both must be at least 1",
    })?;
    let (what, first) = ("the first height", Height(fields.u64("the first height")?));
    is(StoreParams::is_first(first), what, first.0, "it is at least 1 and has 39 bits")?;
    Ok(StoreParams::from_parts(rule.with_spread(spread), shards, hash, first))
}

fn decode_checkpoint(fields: &mut Reader<'_>) -> Result<Option<CheckpointName>, DecodeError> {
    let height = Height(fields.u64("the height of the checkpoint")?);
    let bytes = fields.u64("the length of the checkpoint")?;
    if bytes == 0 {
        let rule = "there is none";
        InvalidField::unless(height.0 == 0, "the height of the checkpoint", height.0, rule)?;
        return Ok(None);
    }
    Ok(Some(CheckpointName { height, bytes }))
}

fn decode_shard(fields: &mut Reader<'_>) -> Result<ShardManifest, DecodeError> {
    let mut shard = ShardManifest {
        next_sn: SerialNumber(fields.u64("a shard's next serial number")?),
        oldest_active: SerialNumber(fields.u64("a shard's oldest active serial number")?),
        active: fields.u64("a shard's number of active entries")?,
        first_kept: TwigId(fields.u64("a shard's first kept twig")?),
        root: fields.digest("a shard's root")?,
        edges: Vec::new(),
    };
    let count = usize::from(fields.u16("a shard's number of edge nodes")?);
    edges_fit(count)?;
    shard.edges.reserve_exact(count);
    for _ in 0..count {
        shard.edges.push((fields.u8("an edge node's level")?, fields.digest("an edge node")?));
    }
    Ok(shard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::damage;

    /// A manifest in which every field differs from every other and from zero.
    fn sample() -> Manifest {
        let digest = |seed: usize| Digest([seed as u8; 32]);
        let shard = |i: usize| ShardManifest {
            next_sn: SerialNumber(1_000_000 + i as u64),
            oldest_active: SerialNumber(400_000 + i as u64),
            active: 5000 + i as u64,
            root: digest(i + 16),
            first_kept: TwigId(7 + i as u64),
            edges: (0..i % 3).map(|level| (level as u8 + 12, digest(100 + level))).collect(),
        };
        Manifest {
            store_id: *b"0123456789abcdef",
            params: StoreParams::default()
                .with_compaction(CompactionRule::new(77, 3, 5).unwrap())
                .with_first_height(Height(100))
                .unwrap(),
            height: Height(123_456),
            log_start: LogPosition(1 << 20),
            log_end: LogPosition(1 << 40),
            state_root: digest(200),
            history_from: Height(123_000),
            checkpoint: Some(CheckpointName { height: Height(122_999), bytes: 77_777 }),
            shards: std::array::from_fn(shard),
            dead: vec![span((1 << 20) - 8, (1 << 20) + 8), span(1 << 30, 1 << 31)],
        }
    }

    fn span(start: u64, end: u64) -> Range<LogPosition> {
        LogPosition(start)..LogPosition(end)
    }

    #[test]
    fn what_is_encoded_decodes() {
        let manifest = sample();
        let bytes = manifest.encode().unwrap();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);

        let mut largest = manifest;
        for shard in &mut largest.shards {
            shard.edges = (0..MAX_EDGES as u8).map(|level| (level, Digest([level; 32]))).collect();
        }
        let spans = 0..MAX_DEAD_SPANS as u64;
        largest.dead = spans.map(|n| span((1 << 30) + 16 * n, (1 << 30) + 16 * n + 8)).collect();
        let bytes = largest.encode().unwrap();
        assert_eq!(bytes.len(), Manifest::MAX_LEN);
        assert_eq!(Manifest::MAX_LEN, 39_086);
        assert_eq!(Manifest::decode(&bytes).unwrap(), largest);
    }

    #[test]
    fn the_layout_is_the_one_that_is_drawn() {
        let mut manifest = sample();
        manifest.shards.iter_mut().for_each(|shard| shard.edges.clear());
        manifest.dead = vec![span(1 << 30, 1 << 31)];
        let bytes = manifest.encode().unwrap();
        assert_eq!(bytes.len(), 1198 + 16);
        assert_eq!(bytes[..13], *b"HgrwMan1\x04\x00\x10\x00\x01");
        assert_eq!(bytes[16..24], 77u64.to_le_bytes());
        assert_eq!(bytes[32..40], 100_u64.to_le_bytes());
        assert_eq!(bytes[40..56], manifest.store_id);
        assert_eq!(bytes[56..64], manifest.height.0.to_le_bytes());
        assert_eq!(bytes[80..112], manifest.state_root.0);
        assert_eq!(bytes[112..120], 123_000_u64.to_le_bytes());
        assert_eq!(bytes[120..128], 122_999_u64.to_le_bytes());
        assert_eq!(bytes[128..136], 77_777_u64.to_le_bytes());
        let second = 136 + 66;
        assert_eq!(bytes[second..second + 8], manifest.shards[1].next_sn.0.to_le_bytes());
        assert_eq!(bytes[second + 32..second + 64], manifest.shards[1].root.0);
        assert_eq!(bytes[1192..1194], [1, 0]);
        assert_eq!(bytes[1194..1202], (1_u64 << 30).to_le_bytes());
        assert_eq!(bytes[1202..1210], (1_u64 << 31).to_le_bytes());
        assert_eq!(bytes[1210..], crc32c::crc32c(&bytes[..1210]).to_le_bytes());
    }

    #[test]
    fn damage_is_refused() {
        damage::assert_refused(&sample().encode().unwrap(), Manifest::decode);
    }

    #[test]
    fn parameters_that_this_build_lacks_are_refused_by_name() {
        let bytes = sample().encode().unwrap();
        for (at, value, what) in [
            (10, 17, "the number of shards is 17"),
            (12, 2, "the hash function is 2"),
            (14, 1, "a reserved byte"),
            (24, 0, "the compaction ratio or div is 0"),
            (28, 0, "the compaction ratio or div is 0"),
            (32, 0, "the first height is 0"),
            (39, 1, "the first height is 72057594037928036"),
        ] {
            let error = Manifest::decode(&damage::patched(&bytes, at, value)).unwrap_err();
            assert!(error.to_string().starts_with(what), "{error}");
        }
    }

    /// The state of a synced node may have little but stubs, whose frames are shorter than any entry's.
    #[test]
    fn a_log_of_stubs_has_room_for_what_it_keeps() {
        let mut manifest = sample();
        manifest.dead.clear();
        let of = |shard: &ShardManifest| shard.next_sn.0 - shard.first_kept.first().0;
        let kept: u64 = manifest.shards.iter().map(of).sum();
        let stub_frame = 48; // docs/format.md
        manifest.log_end.0 = manifest.log_start.0 + kept * stub_frame;
        assert_eq!(Manifest::decode(&manifest.encode().unwrap()).unwrap(), manifest);
        manifest.log_end.0 -= 1;
        let error = manifest.encode().unwrap_err();
        assert_eq!((error.what, error.found), ("the number of entries kept", kept));
    }

    #[test]
    fn contradictions_are_refused_on_the_way_out_and_in() {
        type Spoil = fn(&mut Manifest);
        let spoils: [(Spoil, &str); 24] = [
            (|manifest| manifest.dead[0].start.0 += 16, "where a dead span begins"),
            (|manifest| manifest.dead[0].start.0 += 1, "where a dead span begins"),
            (|manifest| manifest.dead[0].end.0 = 1 << 20, "where a dead span ends"),
            (|manifest| manifest.dead[1].start = manifest.dead[0].end, "where a dead span begins"),
            (|manifest| manifest.dead[1].end.0 = (1 << 40) + 8, "where a dead span ends"),
            (
                |manifest| {
                    let spans = 0..=MAX_DEAD_SPANS as u64;
                    manifest.dead = spans.map(|n| span(16 * n, 16 * n + 8)).collect();
                },
                "the number of dead spans",
            ),
            (
                |manifest| {
                    manifest.checkpoint = Some(CheckpointName { height: Height(0), bytes: 0 })
                },
                "the length of the checkpoint",
            ),
            (
                |manifest| {
                    let height = manifest.height.next();
                    manifest.checkpoint = Some(CheckpointName { height, bytes: 1 });
                },
                "the height of the checkpoint",
            ),
            (
                |manifest| {
                    manifest.height = Height(98);
                    (manifest.history_from, manifest.checkpoint) = (Height(0), None);
                },
                "the first height",
            ),
            (|manifest| manifest.history_from.0 = manifest.height.0 + 1, "the first height with"),
            (|manifest| manifest.height = Height(Height::MAX.0 + 1), "the height"),
            (|manifest| manifest.log_start.0 = manifest.log_end.0 + 1, "the log's start"),
            (|manifest| manifest.shards[3].next_sn.0 = 1 << 51, "a shard's next serial number"),
            (|manifest| manifest.shards[3].next_sn.0 = u64::MAX, "a shard's next serial number"),
            (|manifest| manifest.shards[3].oldest_active.0 = 1_000_003, "a shard's oldest active"),
            (|manifest| manifest.shards[3].oldest_active.0 = u64::MAX, "a shard's oldest active"),
            (|manifest| manifest.shards[3].first_kept.0 = 196, "a shard's first kept twig"),
            (|manifest| manifest.shards[3].first_kept.0 = u64::MAX, "a shard's first kept twig"),
            (
                |manifest| {
                    manifest.log_end.0 = u64::MAX;
                    manifest.shards[3].next_sn.0 = (1 << 39) + (10 << 11);
                },
                "a shard's number of kept twigs",
            ),
            (|manifest| manifest.shards[3].active = 600_001, "a shard's number of active"),
            (|manifest| manifest.shards[3].active = 4095, "a shard's number of active"),
            (
                |manifest| manifest.shards[15].edges = vec![(0, Digest::ZERO); MAX_EDGES + 1],
                "a shard's number of edge",
            ),
            // 2^34 entries in the terabyte of the log, one after the other and all together.
            (|manifest| manifest.shards[3].next_sn.0 = 1 << 35, "the number of entries kept"),
            (
                |manifest| manifest.shards.iter_mut().for_each(|s| s.next_sn.0 = 1 << 31),
                "the number of entries kept",
            ),
        ];
        for (spoil, what) in spoils {
            let mut manifest = sample();
            spoil(&mut manifest);
            let error = manifest.encode().unwrap_err();
            assert!(error.what.starts_with(what), "{error}");
        }
        let bytes = sample().encode().unwrap();
        let top_byte_of_the_height = 63;
        let error = Manifest::decode(&damage::patched(&bytes, top_byte_of_the_height, 1));
        assert!(matches!(error, Err(DecodeError::Field(_))));
        let top_byte_of_a_serial_number = 136 + 7;
        let error = Manifest::decode(&damage::patched(&bytes, top_byte_of_a_serial_number, 1));
        assert!(matches!(error, Err(DecodeError::Field(_))), "{error:?}");
        // The count of edge nodes is checked before it allocates.
        let error = Manifest::decode(&damage::patched(&bytes, 136 + 65, 0xFF)).unwrap_err();
        assert!(error.to_string().contains("edge nodes is 65280"), "{error}");
    }
}
