//! Iterating over the state of one height.
//!
//! ```text
//!  index   group 7        group 8      group 9   group 10   group 11
//!          │S k k (k k)   │S           │S        │S         │S k
//!                 tie
//!  places   S k k  k k     8, 3 of them                      S k     S: a sentry
//!             └─────┴ read in chunks of some groups, ties whole
//! ```
//!
//! The index knows of a key its stem only: which group, and where in it. That a group begins with its
//! sentry is certain, so where a group has nothing else the sentry is passed over without being read:
//! an iteration costs what is there, not the 65,536 sentries that are always there too.
//!
//! The index is asked group by group as the iterator comes to them; the view that it holds makes all of
//! them groups of the same height.
//!
//! At a past height the entries of the anchor are gone through, sentries included: what was covered then is found
//! in the range of each that is newer than the height, from there back. What such a range held and was deleted since
//! costs a step for each key that was deleted after it.
//!
//! Every entry names the key hash of the next one. The iterator follows these links from entry to entry,
//! and reports a state in which they do not meet as damaged. Of a sentry that is passed over it knows
//! the key hash, to which the entry before has to lead, and takes the index's word that nothing follows;
//! [`Store::check`](crate::Store::check) reads them all.

use crate::Error;
use crate::history::versions::Within;
use crate::read::view::View;
use hedgerow_entryfile::StoredEntry;
use hedgerow_index::{GROUPS, Stem};
use hedgerow_state::key_hash_of;
use hedgerow_types::{Height, KeyHash, LogPosition, SENTRIES_PER_SHARD, SHARDS, ShardId};
use std::collections::VecDeque;
use std::fmt;

/// Entries read at a time; more only where so many keys are in one group.
pub(crate) const CHUNK: usize = 1024;

/// Keys and values of the state of one height, in key-hash order.
///
/// The links between the entries are followed, and a state in which they do not meet is reported as
/// damaged. After an error it ends.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// # let mut block = store.next_block()?;
/// # block.put("alice", "100")?;
/// # block.put("bob", "20")?;
/// # block.commit()?;
/// let mut keys = Vec::new();
/// for pair in store.reader().iter() {
///     let (key, _value) = pair?;
///     keys.push(key);
/// }
/// keys.sort();                                 // they came in the order of their hashes
/// assert_eq!(keys, [b"alice".to_vec(), b"bob".to_vec()]);
/// # Ok(())
/// # }
/// ```
pub struct Iter {
    view: View,
    /// The group to ask for next, counted over all shards.
    group: usize,
    ready: VecDeque<Step>,
    /// The key hash that the last entry leads to.
    next: KeyHash,
    /// At a past height: the range of an entry of the anchor that is gone through.
    within: Option<Within>,
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// What there is of a state, in order.
#[derive(Clone, Copy)]
enum Place {
    /// An entry whose stem is not that of the one before.
    Entry(LogPosition),
    /// An entry with the same stem as the one before: which comes first, only the entries tell.
    Tied(LogPosition),
    /// The sentries of so many groups that have nothing else, the first of them counted over all shards.
    Alone { first: usize, count: usize },
    /// The end of a shard.
    End(ShardId),
}

/// What an iterator goes through.
enum Step {
    Entry(KeyHash, StoredEntry),
    /// Sentries that nobody need read: the key hash of the first, and the one after the last.
    Alone {
        from: KeyHash,
        to: KeyHash,
    },
    End(ShardId),
}

/// All groups of a store.
pub(crate) const ALL_GROUPS: usize = SHARDS * GROUPS;
// What `Place::Alone` relies on.
const _: () = assert!(GROUPS as u64 == SENTRIES_PER_SHARD);

/// Adds the places of a group, whose keys are `slots`. A sentry that is alone is passed over if `pass` says so.
fn places(group: usize, slots: &[(Stem, LogPosition)], pass: bool, places: &mut Vec<Place>) {
    // The one key of a group that has the fragment 0 is its sentry; if there are two, both are read.
    if let [(stem, _)] = slots
        && stem.fragment() == 0
        && pass
    {
        match places.last_mut() {
            Some(Place::Alone { first, count }) if *first + *count == group => *count += 1,
            _ => places.push(Place::Alone { first: group, count: 1 }),
        }
        return;
    }
    let mut last = None;
    for &(stem, at) in slots {
        places.push(if last == Some(stem) { Place::Tied(at) } else { Place::Entry(at) });
        last = Some(stem);
    }
}

/// The key hash of the sentry of a group, counted over all shards.
fn sentry_of(group: usize) -> KeyHash {
    KeyHash::sentry(group as u16) // one of 2^16
}

impl Iter {
    pub(crate) fn new(view: View) -> Self {
        let (ready, next) = (VecDeque::new(), KeyHash::sentry(0));
        Self { view, group: 0, ready, next, within: None }
    }

    /// The height of the state that is iterated over.
    pub fn height(&self) -> Height {
        self.view.height()
    }

    /// The places of the next groups; none at the end.
    fn next_places(&mut self) -> Result<Vec<Place>, Error> {
        let View { shared, state, past } = &self.view;
        let mut chunk = Vec::new();
        let mut slots = Vec::new();
        while chunk.len() < CHUNK && self.group < ALL_GROUPS {
            let Some(shard) = ShardId::new(self.group / GROUPS) else { break };
            if state.keys == 0 && past.is_none() {
                // Every group has its sentry.
                chunk.push(Place::Alone { first: self.group, count: GROUPS });
                self.group += GROUPS;
            } else {
                slots.clear();
                shared.published.group(state, shard, self.group % GROUPS, &mut slots)?;
                places(self.group, &slots, past.is_none(), &mut chunk);
                self.group += 1;
            }
            if self.group.is_multiple_of(GROUPS) {
                chunk.push(Place::End(shard));
            }
        }
        Ok(chunk)
    }

    /// Reads more entries into `ready`; `false` at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        let chunk = self.next_places()?;
        let position = |place: &Place| match place {
            Place::Entry(at) | Place::Tied(at) => Some(*at),
            Place::Alone { .. } | Place::End(_) => None,
        };
        let positions: Vec<_> = chunk.iter().filter_map(position).collect();
        let read = self.view.shared.log.read_many(&positions);
        let shared = &self.view.shared;
        let read = read.map_err(|error| shared.read_for(self.height())(error.into()))?;
        let mut entries = read.into_iter();
        self.view.shared.check_not_abandoned()?;
        let mut tie: Vec<(KeyHash, StoredEntry)> = Vec::new();
        for place in &chunk {
            if !matches!(place, Place::Tied(_)) {
                put_in_order(&mut tie, &mut self.ready);
            }
            match *place {
                Place::Entry(_) | Place::Tied(_) => {
                    tie.extend(entries.next().map(|entry| (key_hash_of(entry.get()), entry)));
                }
                Place::Alone { first, count } => {
                    let last = first + count - 1;
                    let to = match ShardId::new(last / GROUPS) {
                        Some(shard) if (last + 1).is_multiple_of(GROUPS) => KeyHash::end_of(shard),
                        _ => sentry_of(last + 1),
                    };
                    self.ready.push_back(Step::Alone { from: sentry_of(first), to });
                }
                Place::End(shard) => self.ready.push_back(Step::End(shard)),
            }
        }
        put_in_order(&mut tie, &mut self.ready);
        Ok(!self.ready.is_empty())
    }

    /// The next entry that is not a sentry.
    fn step(&mut self) -> Result<Option<Pair>, Error> {
        loop {
            if let Some(within) = &mut self.within {
                match within.next(&self.view)? {
                    Some(entry) if !entry.get().is_sentry() => return Ok(Some(pair(&entry))),
                    Some(_) => continue,
                    None => self.within = None,
                }
            }
            if self.ready.is_empty() && !self.fill()? {
                return Ok(None);
            }
            let Some(step) = self.ready.pop_front() else { return Ok(None) };
            let here = match &step {
                Step::Entry(key_hash, _) => *key_hash,
                Step::Alone { from, .. } => *from,
                Step::End(shard) => KeyHash::end_of(*shard),
            };
            if self.next != here {
                let reason = match step {
                    Step::End(shard) => format!("shard {shard}: its last entry is missing"),
                    _ => format!("the entry before key hash {here} does not lead to it"),
                };
                return Err(Error::Corrupt(reason));
            }
            match step {
                Step::End(shard) => {
                    if let Some(next) = ShardId::new(shard.index() + 1) {
                        self.next = sentry_of(next.index() * GROUPS);
                    }
                }
                Step::Alone { to, .. } => self.next = to,
                Step::Entry(_, entry) => {
                    self.next = entry.get().next_key_hash();
                    let height = entry.get().version().height();
                    if self.view.past.as_ref().is_some_and(|past| past.height < height) {
                        self.within = Some(Within::new(entry));
                    } else if !entry.get().is_sentry() {
                        return Ok(Some(pair(&entry)));
                    }
                }
            }
        }
    }
}

fn pair(entry: &StoredEntry) -> Pair {
    let entry = entry.get();
    (entry.key().to_vec(), entry.value().to_vec())
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
            self.group = ALL_GROUPS;
            self.ready.clear();
            self.within = None;
        }
        item
    }
}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("height", &self.height()).finish_non_exhaustive()
    }
}
