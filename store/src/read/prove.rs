//! Making proofs ([spec 10](hedgerow_types::spec)) from a state that somebody holds.
//!
//! ```text
//!   entries ── published tree ─► TreePath ─┐
//!      │                                   ├─► EntryPath ─┐
//!      └─ twig's record, log ─► left part ─┘   EntryPath ─┼─► assemble ─► Proof
//!         of all of them (`left`)                 ...     ┘
//! ```
//!
//! Who has an entry and a path from elsewhere, of an older state or of one that is not accepted yet, begins
//! in the middle: [`of_paths`].

use crate::Error;
use crate::error::Kept;
use crate::history::cover::Covering;
use crate::history::past::Past;
use crate::read::iter::{ALL_GROUPS, CHUNK};
use crate::read::left::LeafPath;
use crate::read::reader::{Proven, ProvenRange, RangeLimit};
use crate::read::view::View;
use hedgerow_entryfile::StoredEntry;
use hedgerow_hasher_api::hash_message;
use hedgerow_index::GROUPS;
use hedgerow_merkle::{MerkleError, TreePath};
use hedgerow_proof::{EntryPath, Proof, SerialPath};
use hedgerow_state::{is_entry_of, key_hash_of};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, Height, KeyHash, LogPosition, SHARDS, SerialNumber, ShardId};
use std::sync::atomic::Ordering;

/// A proof that `key` has its value, or that it is absent.
pub(crate) fn by_key(view: &View, key: &[u8]) -> Result<Proven, Error> {
    let key_hash = KeyHash(hash_message(key).0);
    view.shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    let entry = view.locate(key, &key_hash)?;
    let proof = of_entries(view, vec![(key_hash.shard(), entry)])?;
    proven(view, proof)
}

/// A proof of what a key had at a height, which is not above that of the view, under the root of the view; and the height
/// at which what says so was replaced, if it was.
pub(crate) fn past_by_key(
    view: &View,
    key: &[u8],
    height: Height,
) -> Result<(Proven, Option<Height>), Error> {
    let shared = &view.shared;
    let key_hash = KeyHash(hash_message(key).0);
    let shard = key_hash.shard();
    shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    if height > view.height() {
        return Err(Error::HeightUnavailable {
            height,
            first: height.min(view.height()),
            last: view.height(),
            kept: Kept::State,
        });
    }
    // Held meanwhile, unless it is the view's own.
    let past = (height < view.height()).then(|| Past::new(shared, height)).transpose()?;
    let entry = view.locate(key, &key_hash)?;
    let covering = match &past {
        Some(past) => past.value_entry(shared, entry, &key_hash)?,
        None => Covering { entry, by: None },
    };
    let mut paths = Vec::with_capacity(2);
    for entry in [Some(&covering.entry), covering.by.as_ref()].into_iter().flatten() {
        let sn = entry.get().serial_number();
        let (path, Some((_, left))) = view.path(shard, sn)? else {
            let reason = format!("entry {sn} of shard {shard} was pruned while it was held");
            return Err(Error::Corrupt(reason));
        };
        paths.push(entry_path(&entry.get(), path, &left));
    }
    let replaced_at = covering.by.as_ref().map(|by| by.get().version().height());
    Ok((proven(view, assemble(&paths)?)?, replaced_at))
}

/// One proof of what the view says about all of these keys, of which there is one at least.
pub(crate) fn by_keys<K: AsRef<[u8]>>(view: &View, keys: &[K]) -> Result<Proven, Error> {
    view.shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    let hash = |key: &K| KeyHash(hash_message(key.as_ref()).0);
    let hashes: Vec<KeyHash> = keys.iter().map(hash).collect();
    // Those that are present, all at once; at a past height each is looked for from its present entry.
    let candidates = match &view.past {
        None => view.shared.published.candidates(&view.state, &hashes)?,
        Some(_) => Vec::new(),
    };
    let positions: Vec<LogPosition> = candidates.iter().map(|&(_, at)| at).collect();
    let mut settled: Vec<Option<StoredEntry>> = vec![None; keys.len()];
    for ((number, _), entry) in candidates.iter().zip(view.shared.log.read_many(&positions)?) {
        let number = *number as usize;
        if is_entry_of(entry.get(), keys[number].as_ref()) {
            settled[number] = Some(entry);
        }
    }
    let mut entries = Vec::with_capacity(keys.len());
    for ((key, key_hash), entry) in keys.iter().zip(&hashes).zip(settled) {
        let entry = match entry {
            Some(entry) => entry,
            None => view.locate(key.as_ref(), key_hash)?,
        };
        entries.push((key_hash.shard(), entry));
    }
    let proof = of_entries(view, entries)?;
    proven(view, proof)
}

/// One proof of these entries of a view, in any order and possibly some more than once.
fn of_entries(view: &View, entries: Vec<(ShardId, StoredEntry)>) -> Result<Proof, Error> {
    of_paths(entries, |places| {
        let (paths, lefts) = view.paths(places)?;
        for (path, left) in paths.iter().zip(&lefts) {
            let (shard, sn, height) = (path.shard, path.sn, view.height());
            if !path.is_active() {
                return Err(Error::Corrupt(format!(
                    "the index leads to entry {sn} of shard {shard}, which is not active at height {height}"
                )));
            }
            if left.is_none() {
                return Err(Error::Corrupt(format!(
                    "entry {sn} of shard {shard} was pruned, and is active at height {height}"
                )));
            }
        }
        Ok((paths, lefts))
    })
}

/// One proof of these entries, in any order and possibly some more than once, whose paths `paths_of` finds: of each
/// shard and serial number one, in the order of these, and none that is pruned.
pub(crate) fn of_paths(
    mut entries: Vec<(ShardId, StoredEntry)>,
    paths_of: impl FnOnce(&[(ShardId, SerialNumber)]) -> Result<Paths, Error>,
) -> Result<Proof, Error> {
    let place = |(shard, entry): &(ShardId, StoredEntry)| (*shard, entry.get().serial_number());
    entries.sort_unstable_by_key(place);
    // Each is read once; the proof would have it once without this too.
    entries.dedup_by_key(|entry| place(entry));
    let places: Vec<_> = entries.iter().map(place).collect();
    let (paths, lefts) = paths_of(&places)?;
    let mut whole = Vec::with_capacity(entries.len());
    for ((path, left), (_, entry)) in paths.into_iter().zip(&lefts).zip(&entries) {
        if let Some((_, left)) = left {
            whole.push(entry_path(&entry.get(), path, left));
        }
    }
    assemble(&whole)
}

/// Paths, and the leaves and their siblings in the left trees.
pub(crate) type Paths = (Vec<TreePath>, Vec<Option<LeafPath>>);

/// A run of entries in key-hash order.
struct Run {
    entries: Vec<(ShardId, StoredEntry)>,
    /// The key hash that the last one leads to.
    until: KeyHash,
}

impl Run {
    /// Adds the next entry of a run from `from` on, and says how many bytes it has.
    fn push(&mut self, entry: StoredEntry, from: KeyHash) -> Result<usize, Error> {
        let own = key_hash_of(entry.get());
        let begins = self.entries.is_empty() && own <= from;
        let next = entry.get().next_key_hash();
        if !(begins || own == self.until) || next <= own || (begins && next <= from) {
            let reason = format!("the entry before key hash {own} does not lead to it");
            return Err(Error::Corrupt(reason));
        }
        let len = entry.get().hashed_bytes().len();
        self.until = next;
        self.entries.push((own.shard(), entry));
        Ok(len)
    }
}

/// A proof of a run of entries from the one that encloses `from` on, which is below [`KeyHash::MAX`].
pub(crate) fn range(view: &View, from: KeyHash, limit: RangeLimit) -> Result<ProvenRange, Error> {
    view.shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    let mut run = run_from(view, from, limit)?;
    fit(view, &mut run, limit.bytes)?;
    let proven = proven(view, of_entries(view, run.entries)?)?;
    Ok(ProvenRange { proven, until: run.until })
}

/// The run from the entry that encloses `from` on, until there are as many as the limit allows, or have more
/// bytes by themselves.
fn run_from(view: &View, from: KeyHash, limit: RangeLimit) -> Result<Run, Error> {
    let View { shared, state, past } = view;
    let wanted = limit.entries.max(1);
    let mut run = Run { entries: Vec::new(), until: from };
    let mut bytes = 0_usize;
    while past.is_some()
        && run.entries.len() < wanted
        && bytes <= limit.bytes
        && run.until < KeyHash::MAX
    {
        bytes = bytes.saturating_add(run.push(view.covering(&run.until)?, from)?);
    }
    if past.is_some() {
        return Ok(run);
    }
    // The group begins with a sentry, which is not above `from`.
    let mut group = usize::from(u16::from_be_bytes([from.0[0], from.0[1]]));
    while group < ALL_GROUPS && run.entries.len() < wanted && bytes <= limit.bytes {
        let (mut positions, mut slots) = (Vec::new(), Vec::new());
        let enough = (wanted - run.entries.len()).min(CHUNK);
        while group < ALL_GROUPS && positions.len() < enough {
            let Some(shard) = ShardId::new(group / GROUPS) else { break };
            slots.clear();
            shared.published.group(state, shard, group % GROUPS, &mut slots)?;
            positions.extend(slots.iter().map(|(_, at)| *at));
            group += 1;
        }
        let read = shared.log.read_many(&positions)?;
        let mut read: Vec<_> =
            read.into_iter().map(|entry| (key_hash_of(entry.get()), entry)).collect();
        read.sort_unstable_by_key(|(own, _)| *own);
        // What lies before the range, but for the last of it.
        let before = match run.entries.is_empty() {
            true => read.partition_point(|(own, _)| *own <= from).saturating_sub(1),
            false => 0,
        };
        for (_, entry) in read.into_iter().skip(before) {
            if run.entries.len() == wanted || bytes > limit.bytes {
                break;
            }
            bytes = bytes.saturating_add(run.push(entry, from)?);
        }
    }
    if run.entries.is_empty() {
        return Err(Error::Corrupt(format!("no entry encloses key hash {from}")));
    }
    Ok(run)
}

/// Leaves as many entries in a run as a proof of `bytes` bytes holds, and one in any case.
fn fit(view: &View, run: &mut Run, bytes: usize) -> Result<(), Error> {
    let mut levels = [0; SHARDS];
    for shard in ShardId::all() {
        // The root of a shard is as high as its youngest twig is far to the right (spec 8.2).
        let youngest = view.next_sn(shard)?.twig().0;
        levels[shard.index()] = (u64::BITS - youngest.leading_zeros()) as u8;
    }
    let fits = |count: usize| {
        let entries = &run.entries[..count];
        let mut places: Vec<_> =
            entries.iter().map(|(shard, entry)| (*shard, entry.get().serial_number())).collect();
        places.sort_unstable();
        let lens = entries.iter().map(|(_, entry)| entry.get().hashed_bytes().len());
        Proof::encoded_len(&places, &levels, lens.sum()) <= bytes
    };
    // Each entry makes a proof longer: it has more bytes than the one sibling that it replaces. So this many fit,
    // and that many do not.
    let (mut fitting, mut too_many) = (1, run.entries.len() + 1);
    if fits(run.entries.len()) {
        fitting = run.entries.len();
        too_many = fitting + 1;
    }
    while too_many - fitting > 1 {
        let middle = fitting + (too_many - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            too_many = middle;
        }
    }
    run.entries.truncate(fitting);
    if let Some((_, last)) = run.entries.last() {
        run.until = last.get().next_key_hash();
    }
    Ok(())
}

/// A proof that is made, with what it was made for.
fn proven(view: &View, proof: Proof) -> Result<Proven, Error> {
    view.shared.check_not_abandoned()?;
    let (height, root) = (view.height(), view.root());
    let durable = view.shared.flow.look(|progress| progress.durable) >= height;
    Ok(Proven { height, root, durable, proof })
}

/// An entry, its path, and the siblings of its leaf in the left tree.
fn entry_path(entry: &EntryRef<'_>, path: TreePath, left: &[Digest; 11]) -> (ShardId, EntryPath) {
    let TreePath { shard, page, right, upper, state, .. } = path;
    let entry = entry.hashed_bytes().to_vec();
    (shard, EntryPath { entry, left: *left, page: page.0, right, upper, state })
}

/// One proof of all of these entries.
///
/// # Errors
/// [`Error::Corrupt`] if it is seen that they are not of one tree.
fn assemble(paths: &[(ShardId, EntryPath)]) -> Result<Proof, Error> {
    Proof::assemble_of_tree(paths)
        .map_err(|error| Error::Corrupt(format!("cannot assemble a proof: {error}")))
}

/// The path of a serial number, active or not, against its shard's root.
pub(crate) fn by_serial(
    view: &View,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<SerialPath, Error> {
    let shared = &view.shared;
    let unavailable = |reason: String| Error::SerialUnavailable { shard, sn, reason };
    let (path, left) = match view.path(shard, sn) {
        Ok(found) => found,
        Err(Error::Merkle(
            error @ (MerkleError::Pruned { .. } | MerkleError::OutOfRange { .. }),
        )) => {
            return Err(unavailable(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let Some((leaf, left)) = left else {
        return Err(unavailable("it is pruned".into()));
    };
    shared.check_not_abandoned()?;
    let (page, right, upper) = (&path.page.0, &path.right, &path.upper);
    SerialPath::assemble(sn, leaf, &left, page, right, upper, path.shard_root)
        .map_err(|error| unavailable(error.to_string()))
}
