//! Iterating over the state of one height.
//!
//! ```text
//!  index   group 7        group 8      group 9   group 10   group 11
//!          │S k k (k k)   │S           │S        │S         │S k
//!                 tie
//!  places   S k k  k k     8, 3 of them                      S k     what is remembered: 8 bytes each
//!             └─────┴ read in chunks, ties whole                     S: a sentry
//! ```
//!
//! The index knows of a key its stem only: which group, and where in it. That a group begins with its
//! sentry is certain, so where a group has nothing else the sentry is passed over without being read:
//! an iteration costs what is there, not the 65,536 sentries that are always there too.
//!
//! Every entry names the key hash of the next one. The iterator follows these links from entry to entry,
//! and reports a state in which they do not meet as damaged. Of a sentry that is passed over it knows
//! the key hash, to which the entry before has to lead, and takes the index's word that nothing follows;
//! [`Store::check`](crate::Store::check) reads them all.

use crate::Error;
use crate::shared::{Pin, Shared};
use crate::update::key_hash_of;
use hedgerow_entryfile::StoredEntry;
use hedgerow_index::ShardIndex;
use hedgerow_types::{Height, KeyHash, LogPosition, SENTRIES_PER_SHARD, ShardId};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Entries read at a time; more only where so many keys tie.
const CHUNK: usize = 1024;

/// Keys and values of the state of one height, in key-hash order.
///
/// The links between the entries are followed, and a state in which they do not meet is reported as
/// damaged. After an error it ends.
pub struct Iter {
    shared: Arc<Shared>,
    _pin: Pin,
    height: Height,
    /// What each shard has, in the order of the index's stems.
    shards: VecDeque<(ShardId, Vec<Place>)>,
    /// Places of the first shard that were gone through.
    read: usize,
    ready: VecDeque<Step>,
    /// The key hash that the last entry leads to.
    next: KeyHash,
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// What is remembered of an entry, or of sentries in a row. Positions are multiples of 8; the low bits
/// say which.
#[derive(Clone, Copy)]
struct Place(u64);

/// A [`Place`], unpacked.
enum Kind {
    /// An entry whose stem is not that of the one before.
    Entry(LogPosition),
    /// An entry with the same stem as the one before: which comes first, only the entries tell.
    Tied(LogPosition),
    /// The sentries of so many groups that have nothing else.
    Alone { first: u16, count: u16 },
}

impl Place {
    const TIED: u64 = 1;
    const ALONE: u64 = 2;

    const fn entry(at: LogPosition) -> Self {
        Self(at.0)
    }

    const fn tied(at: LogPosition) -> Self {
        Self(at.0 | Self::TIED)
    }

    const fn alone(first: u16, count: u16) -> Self {
        Self((first as u64) << 32 | (count as u64) << 16 | Self::ALONE)
    }

    const fn kind(self) -> Kind {
        match self.0 & 7 {
            Self::TIED => Kind::Tied(LogPosition(self.0 & !7)),
            Self::ALONE => {
                Kind::Alone { first: (self.0 >> 32) as u16, count: (self.0 >> 16) as u16 }
            }
            _ => Kind::Entry(LogPosition(self.0)),
        }
    }
}

/// What an iterator goes through.
enum Step {
    Entry(KeyHash, StoredEntry),
    /// Sentries that nobody need read: the key hash of the first, and the one after the last.
    Alone {
        from: KeyHash,
        to: KeyHash,
    },
}

/// The places of a shard.
fn places(index: &ShardIndex) -> Vec<Place> {
    if index.len() as u64 == SENTRIES_PER_SHARD {
        return vec![Place::alone(0, SENTRIES_PER_SHARD as u16)]; // every group has its sentry
    }
    let mut places = Vec::with_capacity(index.len());
    // The sentries alone in their groups that were met last, and one that may turn out to be.
    let mut alone: Option<(u16, u16)> = None;
    let mut sentry: Option<(u16, LogPosition)> = None;
    for ties in index.groups() {
        let group = ties.group();
        if let Some((of, at)) = sentry.take() {
            if of == group {
                places.extend(alone.take().map(|(first, count)| Place::alone(first, count)));
                places.push(Place::entry(at));
            } else {
                more_alone(&mut alone, of, &mut places);
            }
        }
        // The one key of a group that has the fragment 0 is its sentry; if there are two, both are read.
        match ties.only() {
            Some(at) if ties.fragment() == 0 => sentry = Some((group, at)),
            _ => {
                places.extend(alone.take().map(|(first, count)| Place::alone(first, count)));
                let mut positions = ties.positions();
                places.extend(positions.next().map(Place::entry));
                places.extend(positions.map(Place::tied));
            }
        }
    }
    if let Some((group, _)) = sentry {
        more_alone(&mut alone, group, &mut places);
    }
    places.extend(alone.map(|(first, count)| Place::alone(first, count)));
    places
}

/// Notes that the sentry of `group` is alone.
fn more_alone(alone: &mut Option<(u16, u16)>, group: u16, places: &mut Vec<Place>) {
    match alone {
        Some((first, count)) if *first + *count == group => *count += 1,
        _ => {
            // A group without a sentry lies between, which the links will show.
            places.extend(alone.take().map(|(first, count)| Place::alone(first, count)));
            *alone = Some((group, 1));
        }
    }
}

/// The key hash of the sentry of a shard's group; after the last group, where the shard's list ends.
fn sentry_of(shard: ShardId, group: u16) -> KeyHash {
    if u64::from(group) < SENTRIES_PER_SHARD {
        KeyHash::sentry((shard.index() as u16) << 12 | group)
    } else {
        KeyHash::end_of(shard)
    }
}

impl Iter {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let pin = Pin::new(shared);
        let published = shared.published.read();
        let shards = ShardId::all().zip(&published.index);
        let shards = shards.map(|(shard, index)| (shard, places(index))).collect();
        Self {
            shared: Arc::clone(shared),
            _pin: pin,
            height: published.height,
            shards,
            read: 0,
            ready: VecDeque::new(),
            next: KeyHash::sentry(0),
        }
    }

    /// The height of the state that is iterated over.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Reads more entries into `ready`; `false` at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        while self.ready.is_empty() {
            let Some((shard, places)) = self.shards.front() else { return Ok(false) };
            let shard = *shard;
            let rest = places.get(self.read..).unwrap_or_default();
            if rest.is_empty() {
                if self.next != KeyHash::end_of(shard) {
                    return Err(Error::Corrupt(format!(
                        "shard {shard}: its last entry is missing"
                    )));
                }
                self.shards.pop_front();
                self.read = 0;
                continue;
            }
            // The order within a tie comes from the key hashes, so a tie is read as a whole.
            let tied = |place: &&Place| matches!(place.kind(), Kind::Tied(_));
            let count = rest.len().min(CHUNK);
            let count = count + rest.iter().skip(count).take_while(tied).count();
            let chunk = rest.get(..count).unwrap_or(rest);
            let position = |place: &Place| match place.kind() {
                Kind::Entry(at) | Kind::Tied(at) => Some(at),
                Kind::Alone { .. } => None,
            };
            let positions: Vec<_> = chunk.iter().filter_map(position).collect();
            let mut entries = self.shared.log.read_many(&positions)?.into_iter();
            self.shared.check_not_abandoned()?;
            let mut tie: Vec<(KeyHash, StoredEntry)> = Vec::new();
            for place in chunk {
                if !matches!(place.kind(), Kind::Tied(_)) {
                    put_in_order(&mut tie, &mut self.ready);
                }
                if let Kind::Alone { first, count } = place.kind() {
                    let (from, to) = (sentry_of(shard, first), sentry_of(shard, first + count));
                    self.ready.push_back(Step::Alone { from, to });
                } else if let Some(entry) = entries.next() {
                    tie.push((key_hash_of(entry.get()), entry));
                }
            }
            put_in_order(&mut tie, &mut self.ready);
            self.read += count;
        }
        Ok(true)
    }

    /// The next entry that is not a sentry.
    fn step(&mut self) -> Result<Option<Pair>, Error> {
        loop {
            if self.ready.is_empty() && !self.fill()? {
                return Ok(None);
            }
            let Some(step) = self.ready.pop_front() else { return Ok(None) };
            let here = match &step {
                Step::Entry(key_hash, _) => *key_hash,
                Step::Alone { from, .. } => *from,
            };
            if self.next != here {
                let reason = format!("the entry before key hash {here} does not lead to it");
                return Err(Error::Corrupt(reason));
            }
            match step {
                Step::Alone { to, .. } => self.next = to,
                Step::Entry(_, entry) => {
                    let entry = entry.get();
                    self.next = entry.next_key_hash();
                    if !entry.is_sentry() {
                        return Ok(Some((entry.key().to_vec(), entry.value().to_vec())));
                    }
                }
            }
        }
    }
}

/// Moves the entries of a tie to `ready`, in the order of their key hashes.
fn put_in_order(tie: &mut Vec<(KeyHash, StoredEntry)>, ready: &mut VecDeque<Step>) {
    tie.sort_unstable_by_key(|(key_hash, _)| *key_hash);
    ready.extend(tie.drain(..).map(|(key_hash, entry)| Step::Entry(key_hash, entry)));
}

impl Iterator for Iter {
    type Item = Result<Pair, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if matches!(item, Some(Err(_))) {
            self.shards.clear();
            self.ready.clear();
        }
        item
    }
}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("height", &self.height).finish_non_exhaustive()
    }
}
