//! Making a checkpoint: the small parts at once, the keys as a stream.

use super::pages::{PageWriter, Salt};
use super::{CheckpointError, Head, KEY_LEN, MAGIC, RECORD_LEN, SEGMENT_LEN, ShardHead, VERSION};
use crate::{OpenTwig, TwigBegins};
use hedgerow_index::{GROUPS, Record, SegmentEntry, Snapshot, Stem};
use hedgerow_merkle::Forest;
use hedgerow_types::{Digest, Height, LogPosition, SHARDS, ShardId};
use hedgerow_vfs::VfsFile;

/// A copy of all of a state but its keys.
#[derive(Debug)]
pub struct Frozen {
    head: Head,
    /// Of every shard.
    parts: Vec<Vec<u8>>,
}

impl Frozen {
    /// Copies what the tree, the youngest twigs and the beginnings of twigs are at `height`, all of one
    /// state. Bytes: 32 and 256 per twig from the oldest active one on, and 64 KiB per shard at most.
    ///
    /// # Errors
    /// [`CheckpointError::Tree`] if the tree contradicts itself.
    pub fn new(
        store: [u8; 16],
        height: Height,
        log_end: LogPosition,
        forest: &Forest,
        open: &[OpenTwig],
        begins: &[TwigBegins],
    ) -> Result<Self, CheckpointError> {
        let mut shards: [ShardHead; SHARDS] = Default::default();
        let mut parts = Vec::with_capacity(SHARDS);
        let lists = open.iter().zip(begins);
        for ((shard, head), (open, begins)) in ShardId::all().zip(&mut shards).zip(lists) {
            let edges = forest.edges(shard, forest.oldest_active(shard).twig())?;
            let begins: Vec<_> = begins.iter().collect();
            let (record, groups, breaks) = open.parts();
            *head = ShardHead {
                next_sn: forest.next_sn(shard),
                oldest_active: forest.oldest_active(shard),
                active: forest.active_count(shard),
                root: forest.roots().shards[shard.index()],
                edges: edges.len() as u64,
                breaks: breaks.len() as u64,
                begins: begins.len() as u64,
                segments: 0,
                records: 0,
            };
            let mut part = Vec::with_capacity(head.part_len() as usize);
            for (level, node) in &edges {
                part.push(*level);
                part.extend_from_slice(&node.0);
            }
            let mut digests = |digests: &mut dyn Iterator<Item = &Digest>| {
                digests.for_each(|digest| part.extend_from_slice(&digest.0));
            };
            digests(&mut forest.left_roots(shard));
            digests(&mut forest.active_pages(shard).iter());
            digests(&mut forest.youngest_leaves(shard).iter());
            part.extend_from_slice(&record.0.to_le_bytes());
            groups.iter().for_each(|at| part.extend_from_slice(&at.0.to_le_bytes()));
            for (leaf, at) in breaks {
                part.extend_from_slice(&leaf.to_le_bytes());
                part.extend_from_slice(&at.0.to_le_bytes());
            }
            for (twig, before) in begins {
                part.extend_from_slice(&twig.0.to_le_bytes());
                part.extend_from_slice(&before.to_le_bytes());
            }
            if !head.is_sound() || part.len() as u64 != head.part_len() {
                return Err(CheckpointError::Damaged("the state that it is to hold is none"));
            }
            parts.push(part);
        }
        let state_root = forest.roots().state;
        let head = Head { store, height, log_end, state_root, tiered: false, shards };
        Ok(Self { head, parts })
    }

    /// What it says of itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Writes the checkpoint to an empty file and syncs that. `keys` appends the keys of a group of a
    /// shard in this state, ascending, to an empty list. Returns the length of the file.
    ///
    /// # Errors
    /// Those of the disk and of `keys`; [`CheckpointError::Damaged`] if the keys are not as many as there
    /// are active entries.
    pub fn write<E: From<CheckpointError>>(
        &self,
        file: &dyn VfsFile,
        mut keys: impl FnMut(ShardId, usize, &mut Vec<(Stem, LogPosition)>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let head = &self.head;
        let mut out = self.begin(file, head)?;
        let (mut group_keys, mut bytes) = (Vec::new(), Vec::new());
        for (shard, said) in ShardId::all().zip(&head.shards) {
            let mut count = 0;
            for group in 0..GROUPS {
                group_keys.clear();
                bytes.clear();
                keys(shard, group, &mut group_keys)?;
                count += group_keys.len() as u64;
                for (stem, at) in &group_keys {
                    bytes.extend_from_slice(&encode_key(*stem, *at));
                }
                out.write(&bytes)?;
            }
            if count != said.active {
                Err(CheckpointError::Damaged("there are other keys than active entries"))?;
            }
        }
        out.finish()?;
        Ok(head.file_len())
    }

    /// The same for tiered indexes: instead of the keys it writes what their snapshots name, one of each
    /// shard, taken in this state.
    ///
    /// # Errors
    /// Those of the disk; [`CheckpointError::Damaged`] if there are fewer snapshots than shards, or more segments
    /// than one has.
    pub fn write_tiers(
        &self,
        file: &dyn VfsFile,
        snapshots: &[Snapshot],
    ) -> Result<u64, CheckpointError> {
        let mut head = Head { tiered: true, ..self.head.clone() };
        for (number, shard) in head.shards.iter_mut().enumerate() {
            let Some(snapshot) = snapshots.get(number) else {
                return Err(CheckpointError::Damaged("a shard has no snapshot"));
            };
            shard.segments = snapshot.segments.len() as u64;
            shard.records = snapshot.records().count() as u64;
            if !shard.is_sound() {
                return Err(CheckpointError::Damaged("the state that it is to hold is none"));
            }
        }
        let mut out = self.begin(file, &head)?;
        for snapshot in snapshots.iter().take(head.shards.len()) {
            for segment in &snapshot.segments {
                out.write(&encode_segment(segment))?;
            }
            for record in snapshot.records() {
                out.write(&encode_record(record))?;
            }
        }
        out.finish()?;
        Ok(head.file_len())
    }

    /// Writes all but the keys.
    fn begin<'a>(
        &self,
        file: &'a dyn VfsFile,
        head: &Head,
    ) -> Result<PageWriter<'a>, CheckpointError> {
        let mut out = PageWriter::new(file, Salt::new(head.store, head.height.0));
        out.write(&head.encode())?;
        self.parts.iter().try_for_each(|part| out.write(part))?;
        Ok(out)
    }
}

fn encode_segment(segment: &SegmentEntry) -> [u8; SEGMENT_LEN] {
    let mut bytes = [0; SEGMENT_LEN];
    bytes[..8].copy_from_slice(&segment.number.to_le_bytes());
    bytes[8] = segment.tier;
    bytes[9..17].copy_from_slice(&segment.len.to_le_bytes());
    bytes[17..21].copy_from_slice(&segment.digest.to_le_bytes());
    bytes[21..].copy_from_slice(&segment.cut.0.to_le_bytes());
    bytes
}

fn encode_record(record: Record) -> [u8; RECORD_LEN] {
    let mut bytes = [0; RECORD_LEN];
    bytes[..KEY_LEN].copy_from_slice(&encode_key(record.stem, record.at));
    bytes[KEY_LEN..].copy_from_slice(&record.sn.0.to_le_bytes()[..6]);
    bytes
}

fn encode_key(stem: Stem, at: LogPosition) -> [u8; KEY_LEN] {
    let mut bytes = [0; KEY_LEN];
    bytes[..6].copy_from_slice(&stem.get().to_le_bytes()[..6]);
    bytes[6..].copy_from_slice(&(at.0 / 8).to_le_bytes()[..6]);
    bytes
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(super::HEAD_LEN as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.push(u8::from(self.tiered));
        out.extend_from_slice(&[0; 5]);
        out.extend_from_slice(&self.store);
        out.extend_from_slice(&self.height.0.to_le_bytes());
        out.extend_from_slice(&self.log_end.0.to_le_bytes());
        out.extend_from_slice(&self.state_root.0);
        for shard in &self.shards {
            for number in [shard.next_sn.0, shard.oldest_active.0, shard.active] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&shard.root.0);
            for number in [shard.edges, shard.breaks, shard.begins, shard.segments, shard.records] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out
    }
}
