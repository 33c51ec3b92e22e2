//! Reading a checkpoint: the head and the shards' parts whole, the keys as a stream.

use super::pages::{Follower, PageReader, Salt};
use super::{CheckpointError, HEAD_LEN, Head, KEY_LEN, MAGIC, ShardHead, VERSION};
use crate::{ActiveBits, OpenTwig, TwigBegins};
use hedgerow_index::{Record, SegmentEntry, Stem};
use hedgerow_types::{
    ACTIVE_PAGES_PER_TWIG, Digest, Height, LogPosition, SerialNumber, ShardId, TwigId,
};
use hedgerow_vfs::VfsFile;
use std::sync::Arc;

/// A checkpoint whose head was read.
#[derive(Debug)]
pub struct Checkpoint {
    file: Arc<dyn VfsFile>,
    salt: Salt,
    head: Head,
    follower: Option<Follower>,
}

/// All of a shard but its keys.
#[derive(Clone, Debug)]
pub struct ShardParts {
    /// Nodes left of the twig of the oldest active entry.
    pub edges: Vec<(u8, Digest)>,
    /// Left roots of the twigs from that of the oldest active entry to before the youngest.
    pub left_roots: Vec<Digest>,
    /// Active bits, from the twig of the oldest active entry on.
    pub bits: ActiveBits,
    /// Leaves of the youngest twig.
    pub leaves: Vec<Digest>,
    /// Where the entries of the youngest twig lie.
    pub open: OpenTwig,
    /// Where twigs begin.
    pub begins: TwigBegins,
}

impl Checkpoint {
    /// The checkpoint of `store` at `height` in `file`.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is damaged, another one, or cannot be read.
    pub fn open(
        file: Arc<dyn VfsFile>,
        store: [u8; 16],
        height: Height,
    ) -> Result<Self, CheckpointError> {
        let salt = Salt::new(store, height.0);
        let file_len = file.len()?;
        let mut head = PageReader::new(&file, salt, file_len, 0, HEAD_LEN);
        let head = Head::read(&mut head)?;
        if head.store != store || head.height != height {
            return Err(CheckpointError::Other("of another store or height"));
        }
        if !head.shards.iter().all(ShardHead::is_sound) {
            return Err(CheckpointError::Damaged("a number in its head cannot be"));
        }
        // From here on everything that is allocated is smaller than the file.
        if head.file_len() != file_len {
            return Err(CheckpointError::Damaged("it has another length than its head says"));
        }
        Ok(Self { file, salt, head, follower: None })
    }

    /// From now on `read` is called with the number of bytes that were read, page by page, by each thread
    /// that reads. All parts and all keys together have [`len`](Self::len) bytes.
    #[must_use]
    pub fn on_read(self, read: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { follower: Some(Follower(Arc::new(read))), ..self }
    }

    /// Bytes of the parts and of the keys of all shards: of all but the head.
    #[allow(clippy::len_without_is_empty, reason = "none is empty: every shard has its sentries")]
    pub fn len(&self) -> u64 {
        self.head.stream_len() - HEAD_LEN
    }

    /// What it says of itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    fn reader(&self, at: u64, len: u64) -> PageReader {
        PageReader::new(&self.file, self.salt, self.head.file_len(), at, at + len)
            .followed_by(self.follower.clone())
    }

    /// All of a shard but its keys.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is damaged or cannot be read.
    pub fn shard(&self, shard: ShardId) -> Result<ShardParts, CheckpointError> {
        let said = &self.head.shards[shard.index()];
        let mut part = self.reader(self.head.places(shard.index()).0, said.part_len());
        let mut edges = Vec::with_capacity(said.edges as usize);
        for _ in 0..said.edges {
            let [level] = part.array()?;
            edges.push((level, Digest(part.array()?)));
        }
        let twigs = said.full_twigs();
        let left_roots = digests(&mut part, twigs)?;
        let pages = digests(&mut part, ACTIVE_PAGES_PER_TWIG as u64 * (twigs + 1))?;
        let bits = ActiveBits::from_pages(said.oldest_active.twig(), &pages);
        let leaves = digests(&mut part, said.leaves())?;
        let record = LogPosition(part.u64()?);
        let mut groups = Vec::with_capacity(said.groups() as usize);
        for _ in 0..said.groups() {
            groups.push(LogPosition(part.u64()?));
        }
        let mut breaks = Vec::with_capacity(said.breaks as usize);
        for _ in 0..said.breaks {
            breaks.push((part.u16()?, LogPosition(part.u64()?)));
        }
        let mut begins = Vec::with_capacity(said.begins as usize);
        for _ in 0..said.begins {
            begins.push((TwigId(part.u64()?), part.u64()?));
        }
        let open = OpenTwig::from_parts(record, groups, breaks);
        let begins = TwigBegins::from_iter(begins);
        Ok(ShardParts { edges, left_roots, bits, leaves, open, begins })
    }

    /// The keys of a shard, ascending: what an index holds. None of a checkpoint that has
    /// [tiers](Checkpoint::tiers).
    pub fn keys(&self, shard: ShardId) -> Keys {
        let head = &self.head;
        let len = if head.tiered { 0 } else { head.shards[shard.index()].keys_len(false) };
        Keys { bytes: self.reader(head.places(shard.index()).1, len), last: None }
    }

    /// What the tiered index of a shard is made of, beside its active bits: the segments in its list, and the
    /// records that it had in memory. Nothing if the checkpoint has the keys.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is damaged or cannot be read.
    pub fn tiers(&self, shard: ShardId) -> Result<(Vec<SegmentEntry>, Records), CheckpointError> {
        let head = &self.head;
        let said = &head.shards[shard.index()];
        let len = if head.tiered { said.keys_len(true) } else { 0 };
        let mut part = self.reader(head.places(shard.index()).1, len);
        let count = if head.tiered { said.segments } else { 0 };
        let mut segments = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let number = part.u64()?;
            let [tier] = part.array()?;
            let len = part.u64()?;
            let digest = u32::from_le_bytes(part.array()?);
            let cut = SerialNumber(part.u64()?);
            segments.push(SegmentEntry { number, tier, len, digest, cut });
        }
        Ok((segments, Records { bytes: part, last: None }))
    }
}

/// The records that the tiered index of a shard had in memory, ascending.
#[derive(Debug)]
pub struct Records {
    bytes: PageReader,
    last: Option<Record>,
}

impl Records {
    fn read(&mut self) -> Result<Record, CheckpointError> {
        let (stem, at) = key_of(self.bytes.array()?)?;
        let [s0, s1, s2, s3, s4, s5] = self.bytes.array()?;
        let sn = SerialNumber(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, 0, 0]));
        let record = Record { stem, at, sn };
        if self.last.is_some_and(|last| last >= record) {
            return Err(CheckpointError::Damaged("its records do not ascend"));
        }
        self.last = Some(record);
        Ok(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.bytes.left() > 0).then(|| self.read())
    }
}

/// A key as it is written.
fn key_of(bytes: [u8; KEY_LEN]) -> Result<(Stem, LogPosition), CheckpointError> {
    let [s0, s1, s2, s3, s4, s5, u0, u1, u2, u3, u4, u5] = bytes;
    let stem = Stem::new(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, 0, 0]))
        .ok_or(CheckpointError::Damaged("a key that is none"))?;
    Ok((stem, LogPosition(u64::from_le_bytes([u0, u1, u2, u3, u4, u5, 0, 0]) * 8)))
}

fn digests(from: &mut PageReader, count: u64) -> Result<Vec<Digest>, CheckpointError> {
    let mut digests = vec![Digest::ZERO; count as usize];
    digests.iter_mut().try_for_each(|digest| from.read(&mut digest.0))?;
    Ok(digests)
}

/// The keys of a shard of a checkpoint.
#[derive(Debug)]
pub struct Keys {
    bytes: PageReader,
    last: Option<(Stem, LogPosition)>,
}

impl Keys {
    fn read(&mut self) -> Result<(Stem, LogPosition), CheckpointError> {
        let (stem, at) = key_of(self.bytes.array()?)?;
        if self.last.is_some_and(|last| last >= (stem, at)) {
            return Err(CheckpointError::Damaged("its keys do not ascend"));
        }
        self.last = Some((stem, at));
        Ok((stem, at))
    }
}

impl Iterator for Keys {
    type Item = Result<(Stem, LogPosition), CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.bytes.left() > 0).then(|| self.read())
    }
}

impl Head {
    fn read(from: &mut PageReader) -> Result<Self, CheckpointError> {
        if from.array()? != MAGIC {
            return Err(CheckpointError::Other("not a checkpoint"));
        }
        if from.u16()? != VERSION {
            return Err(CheckpointError::Other("of another version"));
        }
        let tiered = match from.array()? {
            [0, 0, 0, 0, 0, 0] => false,
            [1, 0, 0, 0, 0, 0] => true,
            _ => return Err(CheckpointError::Other("of another kind")),
        };
        let mut head = Self {
            store: from.array()?,
            height: Height(from.u64()?),
            log_end: LogPosition(from.u64()?),
            state_root: Digest(from.array()?),
            tiered,
            shards: Default::default(),
        };
        for shard in &mut head.shards {
            *shard = ShardHead {
                next_sn: SerialNumber(from.u64()?),
                oldest_active: SerialNumber(from.u64()?),
                active: from.u64()?,
                root: Digest(from.array()?),
                edges: from.u64()?,
                breaks: from.u64()?,
                begins: from.u64()?,
                segments: from.u64()?,
                records: from.u64()?,
            };
        }
        Ok(head)
    }
}
