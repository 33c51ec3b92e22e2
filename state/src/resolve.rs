//! Resolving: from a block's operations to what each shard needs to apply them.
//!
//! ```text
//!  BlockOps ──► key hashes, a batch ► 16 lists ──► per shard, in one go:
//!                                        operations sorted (spec 6.1), laid out in that order
//!     index                              candidate positions of every key           (no I/O)
//!     log                                one batched read, settled by comparing keys
//!                                        strict operations checked
//!     index                              candidates before created and deleted keys
//!     log                                one batched read, settled by key hash
//!                                          ▼
//!                                        ShardPlan: keys with their entries as of the block's start
//! ```
//!
//! The index may be in the middle of an earlier block's edits while it is asked: whatever those change, a
//! layer answers. Nothing is changed here: an error refuses the block and leaves the state as it was.

use crate::keys::{is_entry_of, key_hashes_of};
use crate::layer::{Draft, Layer, Now, Walk};
use crate::ops::{BlockOps, Kind};
use crate::{ActiveBits, Error, Links, OpKind, Refused};
use hedgerow_entryfile::{Fill, LogView, StoredEntry, frame_len};
use hedgerow_hasher_api::{BatchHasher, MessageGroup, ScalarHasher};
use hedgerow_index::{Index, IndexError, Place, Stem};
use hedgerow_types::entry;
use hedgerow_types::even::sort_even;
use hedgerow_types::{Digest, KeyHash, LogPosition, SHARDS, SerialNumber, ShardId};

/// What an update or a delete needs of the entry that it replaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub at: LogPosition,
    pub next_key_hash: KeyHash,
    pub sn: SerialNumber,
}

/// An entry with its place and key hash.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub key_hash: KeyHash,
    pub at: LogPosition,
    pub entry: StoredEntry,
}

/// A key that the block names.
#[derive(Clone, Copy, Debug)]
struct KeyState {
    key_hash: KeyHash,
    /// Number of an operation in [`ShardPlan::ops`] that holds the key's bytes.
    op: u32,
    /// Operations on it may create or delete it, so that its predecessor is needed.
    structural: bool,
    /// Then the number of that in [`ShardPlan::befores`].
    before: u32,
}

/// What is known of a key as of the block's start.
#[derive(Clone, Copy)]
pub(crate) struct Known<'p> {
    /// The number of its slot in the plan's [`draft`](ShardPlan::draft).
    pub(crate) slot: usize,
    pub(crate) key_hash: KeyHash,
    /// Its entry, if it is present.
    pub(crate) entry: Option<&'p Link>,
    /// The entry before it, if it was needed.
    pub(crate) before: Option<&'p Found>,
}

/// An operation: 20 bytes, and its key and value in the arena of the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedOp {
    /// Number in [`ShardPlan::keys`].
    pub(crate) key: u32,
    pub(crate) change_set: u32,
    pub(crate) kind: Kind,
    key_len: u8,
    at: u32,
    value_len: u32,
}

/// The operations of one shard in the order in which they apply, and their keys.
///
/// All that is needed of them is laid out here, in that order, in parts that one core's cache holds: the
/// block's own arena and list are many times as large, and what is used of them lies anywhere.
#[derive(Debug, Default)]
pub(crate) struct ShardPlan {
    pub(crate) ops: Vec<PlannedOp>,
    /// Key and value of each operation, one after the other.
    arena: Vec<u8>,
    /// In key-hash order.
    keys: Vec<KeyState>,
    /// The entry of each key, once it is settled.
    links: Vec<Option<Link>>,
    /// The entries before the structural keys, in key-hash order.
    befores: Vec<Found>,
    /// The number of the slot of each key; empty if it is that of the key.
    slots: Vec<u32>,
    /// Has a slot for each key and each entry of `befores`.
    pub(crate) draft: Draft,
}

impl ShardPlan {
    pub(crate) fn key_of(&self, op: &PlannedOp) -> &[u8] {
        let at = op.at as usize;
        self.arena.get(at..at + usize::from(op.key_len)).unwrap_or_default()
    }

    pub(crate) fn value_of(&self, op: &PlannedOp) -> &[u8] {
        let at = op.at as usize + usize::from(op.key_len);
        self.arena.get(at..at + op.value_len as usize).unwrap_or_default()
    }

    pub(crate) fn known(&self, op: &PlannedOp) -> Known<'_> {
        let key = op.key as usize;
        let state = &self.keys[key]; // operations name keys of the plan
        Known {
            slot: self.slots.get(key).map_or(key, |&slot| slot as usize),
            key_hash: state.key_hash,
            entry: self.links.get(key).and_then(Option::as_ref),
            before: if state.structural { self.befores.get(state.before as usize) } else { None },
        }
    }
}

impl ShardPlan {
    /// Bytes of the frames that the plan most likely comes to, compaction's included, no more than a run may have: memory
    /// that is not written to is none, and growing copies.
    pub(crate) fn run_bytes(&self) -> usize {
        let fixed = frame_len(entry::FIXED_LEN + size_of::<SerialNumber>());
        let own = self.arena.len() + self.ops.len() * fixed;
        let again = self.befores.iter().map(|before| before.entry.get().hashed_bytes().len() + 24);
        let both = own + again.sum::<usize>();
        both.saturating_add(both / 2).min(u32::MAX as usize)
    }

    /// Takes what is remembered; the others are to be looked up: their numbers and key hashes.
    fn unknown(&mut self, links: Option<&Links>, active: &ActiveBits) -> (Vec<u32>, Vec<KeyHash>) {
        let numbered = (0..).zip(&self.keys).map(|(number, key)| (number, key.key_hash));
        let Some(links) = links.filter(|links| !links.is_empty()) else {
            return numbered.unzip();
        };
        let most = self.keys.len();
        let (mut numbers, mut hashes) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let keys = self.keys.chunks(WINDOW).zip(self.links.chunks_mut(WINDOW));
        let mut number = 0;
        for (keys, found) in keys {
            links.touch(keys.iter().map(|key| &key.key_hash));
            for (key, found) in keys.iter().zip(found) {
                *found = links.get(&key.key_hash, active);
                if found.is_none() {
                    numbers.push(number);
                    hashes.push(key.key_hash);
                }
                number += 1;
            }
        }
        (numbers, hashes)
    }

    /// Gives a slot to each key and each entry before one, all in key-hash order.
    fn give_slots(&mut self) {
        let Self { keys, links, befores, slots, draft, .. } = self;
        *draft = Draft::with_room(keys.len() + befores.len());
        let mut lower = befores.iter().peekable();
        for (key, link) in keys.iter().zip(links) {
            let place = link.map(|Link { at, sn, .. }| Place { at, sn });
            while let Some(before) = lower.next_if(|before| before.key_hash <= key.key_hash) {
                if before.key_hash < key.key_hash {
                    let sn = before.entry.get().serial_number();
                    draft.add(before.key_hash, Some(Place { at: before.at, sn }));
                }
            }
            let slot = draft.add(key.key_hash, place);
            if !befores.is_empty() {
                slots.push(slot as u32); // as many as entries at most
            }
        }
        if !befores.is_empty() {
            draft.note_present();
        }
    }
}

/// The index of one shard and the layers above it, oldest first.
#[derive(Clone, Copy)]
pub struct ShardView<'a> {
    /// The index of the last published block, or on its way there from the one before.
    pub index: &'a dyn Index,
    /// What the blocks changed that it may not have yet, and what those it has changed, oldest first.
    pub layers: &'a [&'a Layer],
    /// What is remembered of the entries that keys have after the last of these blocks.
    pub links: Option<&'a Links>,
}

impl<'a> ShardView<'a> {
    fn walks(&self) -> Vec<Walk<'a>> {
        self.layers.iter().map(|layer| Walk::of(layer)).collect()
    }
}

/// What the newest of `layers` (oldest first) that names `key` says of it.
fn newest(layers: &mut [Walk<'_>], key: &KeyHash) -> Option<Now> {
    layers.iter_mut().rev().find_map(|layer| layer.get(key))
}

/// The keys of the operations of each shard, with the operation's number in the block.
pub(crate) fn spread_keys(
    ops: &BlockOps,
    hasher: &dyn BatchHasher,
) -> Result<Vec<Vec<(KeyHash, u32)>>, Error> {
    let spans: Vec<_> = ops.ops().iter().map(|op| op.key_span()).collect();
    let mut hashes = vec![Digest::ZERO; spans.len()];
    let group = MessageGroup { arena: ops.arena(), spans: &spans, out: &mut hashes };
    hasher.messages(&mut [group])?;
    // A shard rarely has an eighth more than its part.
    let part = ops.ops().len() / SHARDS;
    let mut shards: Vec<Vec<(KeyHash, u32)>> =
        (0..SHARDS).map(|_| Vec::with_capacity(part + part / 8 + 8)).collect();
    for (number, hash) in hashes.iter().enumerate() {
        let key_hash = KeyHash(hash.0);
        shards[key_hash.shard().index()].push((key_hash, number as u32));
    }
    Ok(shards)
}

/// What a shard needs to apply its operations, found and checked. `active` are the shard's entries as of the block's
/// start.
///
/// # Errors
/// [`Refused::InvalidOp`] if one does not fit the state; a failed read, or what contradicts itself.
pub(crate) fn resolve(
    ops: &BlockOps,
    keys: Vec<(KeyHash, u32)>,
    view: ShardView<'_>,
    (shard, active): (ShardId, &ActiveBits),
    (log, hasher): (LogView<'_>, &dyn BatchHasher),
) -> Result<ShardPlan, Error> {
    let mut plan = plan_shard(ops, &keys);
    let (numbers, hashes) = plan.unknown(view.links, active);
    let mut found = candidates(&hashes, view)?;
    for (number, _) in &mut found {
        *number = numbers[*number as usize];
    }
    settle_keys(&mut plan, &found, log)?;
    validate(&plan)?;
    let structural = plan.keys.iter().enumerate().filter(|(_, key)| key.structural);
    let (numbers, hashes): (Vec<usize>, Vec<KeyHash>) =
        structural.map(|(number, key)| (number, key.key_hash)).unzip();
    for (number, before) in
        numbers.into_iter().zip(predecessors(&hashes, view, shard, (log, hasher))?)
    {
        // Those of neighbours are often one and the same.
        if plan.befores.last().is_none_or(|last| last.key_hash != before.key_hash) {
            plan.befores.push(before);
        }
        plan.keys[number].before = plan.befores.len() as u32 - 1;
    }
    plan.give_slots();
    Ok(plan)
}

/// The order of these by key hash, and by operation among those of one key. The list is by operation.
fn key_order(list: &[(KeyHash, u32)]) -> Vec<(u64, u32)> {
    // Of 16 bytes each: prefixes decide nearly always.
    let numbered = (0_u32..).zip(list);
    let mut order: Vec<(u64, u32)> =
        numbered.map(|(at, (key_hash, _))| (key_hash.prefix_u64(), at)).collect();
    sort_even(&mut order, |&(prefix, _)| prefix);
    for tied in order.chunk_by_mut(|(a, _), (b, _)| a == b).filter(|tied| tied.len() > 1) {
        tied.sort_unstable_by_key(|&(_, at)| list.get(at as usize));
    }
    order
}

/// Keys whose lines are fetched together.
const WINDOW: usize = 32;

fn plan_shard(ops: &BlockOps, list: &[(KeyHash, u32)]) -> ShardPlan {
    // Key by key first, to give every key its number.
    let order = key_order(list);
    let mut keys: Vec<KeyState> = Vec::with_capacity(list.len());
    // With the number of the operation in the block, which orders what nothing else does.
    let mut planned: Vec<(PlannedOp, u32)> = Vec::with_capacity(list.len());
    for window in order.chunks(WINDOW) {
        let of_window = || window.iter().filter_map(|&(_, at)| list.get(at as usize).copied());
        ops.touch(of_window().map(|(_, number)| number));
        for (key_hash, number) in of_window() {
            let op = &ops.ops()[number as usize];
            match keys.last_mut() {
                // More than one operation: whether it is present changes on the way.
                Some(last) if last.key_hash == key_hash => last.structural = true,
                _ => keys.push(KeyState {
                    key_hash,
                    op: 0,
                    before: 0,
                    structural: matches!(op.kind, Kind::Strict(OpKind::Create | OpKind::Delete)),
                }),
            }
            let (key_len, value_len) = (op.key_span().len as u8, ops.value(op).len() as u32);
            let (key, change_set, kind) = (keys.len() as u32 - 1, op.change_set, op.kind);
            planned.push((PlannedOp { key, change_set, kind, key_len, at: 0, value_len }, number));
        }
    }
    // Then in the order in which they apply; keys are numbered in key-hash order.
    let order = |(op, number): &(PlannedOp, u32)| (op.change_set, op.key, op.kind, *number);
    if !planned.is_sorted_by_key(order) {
        planned.sort_unstable_by_key(order);
    }
    let lens = planned.iter().map(|(op, _)| usize::from(op.key_len) + op.value_len as usize);
    let mut arena = Vec::with_capacity(lens.sum()); // part of an arena below 4 GiB
    let mut in_order = Vec::with_capacity(planned.len());
    for (mut op, number) in planned {
        op.at = arena.len() as u32;
        let raw = &ops.ops()[number as usize];
        match ops.key_and_value(raw) {
            Some(both) => arena.extend_from_slice(both),
            None => {
                arena.extend_from_slice(ops.key(raw));
                arena.extend_from_slice(ops.value(raw));
            }
        }
        keys[op.key as usize].op = in_order.len() as u32;
        in_order.push(op);
    }
    let links = vec![None; keys.len()];
    ShardPlan { ops: in_order, arena, keys, links, ..ShardPlan::default() }
}

/// The number of a key, and a position to read for it.
type Candidate = (u32, LogPosition);

/// The positions at which the entries of keys may be, each with the number of the key, whose hashes ascend.
///
/// # Errors
/// The index's.
pub fn candidates(hashes: &[KeyHash], view: ShardView<'_>) -> Result<Vec<Candidate>, IndexError> {
    let mut candidates = Vec::with_capacity(hashes.len());
    let mut numbers = Vec::with_capacity(hashes.len());
    let mut keys = Vec::with_capacity(hashes.len());
    let mut layers = view.walks();
    for (number, key_hash) in (0..).zip(hashes) {
        match newest(&mut layers, key_hash) {
            Some(Now::At(at)) => candidates.push((number, at)),
            Some(_) => {}
            None => {
                numbers.push(number);
                keys.push(*key_hash);
            }
        }
    }
    let in_layers = candidates.len();
    view.index.candidates(&keys, &mut candidates)?;
    for (number, _) in &mut candidates[in_layers..] {
        *number = numbers[*number as usize];
    }
    Ok(candidates)
}

/// The entry of a key, `None` if it is absent.
///
/// # Errors
/// A failed read.
pub fn find_entry(
    key: &[u8],
    key_hash: KeyHash,
    view: ShardView<'_>,
    log: LogView<'_>,
) -> Result<Option<StoredEntry>, Error> {
    for (_, at) in candidates(&[key_hash], view)? {
        let entry = log.read(at)?;
        if is_entry_of(entry.get(), key) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The entry with the greatest key hash below that of an absent key: it leads to one above it.
///
/// # Errors
/// [`Error::Corrupt`] if there is none; a failed read.
pub fn find_enclosing(
    key_hash: KeyHash,
    view: ShardView<'_>,
    log: LogView<'_>,
) -> Result<StoredEntry, Error> {
    let before = predecessors(&[key_hash], view, key_hash.shard(), (log, &ScalarHasher))?.pop();
    let before = before.filter(|found| found.entry.get().next_key_hash() > key_hash);
    let lost = || Error::Corrupt(format!("no entry encloses key hash {key_hash}"));
    before.map(|found| found.entry).ok_or_else(lost)
}

/// Reads the candidates and gives each key its entry.
fn settle_keys(
    plan: &mut ShardPlan,
    candidates: &[Candidate],
    log: LogView<'_>,
) -> Result<(), Error> {
    let positions: Vec<_> = candidates.iter().map(|&(_, at)| at).collect();
    let mut links = std::mem::take(&mut plan.links);
    let visited = log.visit_many(&positions, Fill::Nothing, |number, entry| {
        let (key, at) = candidates[number];
        let op = &plan.ops[plan.keys[key as usize].op as usize];
        if is_entry_of(entry, plan.key_of(op)) {
            let (next_key_hash, sn) = (entry.next_key_hash(), entry.serial_number());
            links[key as usize] = Some(Link { at, next_key_hash, sn });
        }
    });
    plan.links = links;
    visited?;
    for op in &plan.ops {
        let present = plan.links[op.key as usize].is_some();
        plan.keys[op.key as usize].structural |= match op.kind {
            Kind::Put => !present,
            Kind::Remove => present,
            Kind::Strict(_) => false,
        };
    }
    Ok(())
}

/// The positions at which the entries before keys, whose hashes ascend, may be.
fn predecessor_candidates(
    hashes: &[KeyHash],
    view: ShardView<'_>,
) -> Result<Vec<Candidate>, IndexError> {
    let stems: Vec<Stem> = hashes.iter().map(Stem::of).collect();
    let mut candidates = Vec::with_capacity(stems.len());
    let mut found = Vec::with_capacity(stems.len());
    view.index.at_or_below(&stems, &mut found)?;
    // A lower stem lies below the key for certain; at the key's own there may be the key itself and keys
    // above it, so the next one is wanted too.
    let mut lower: Vec<(u32, Stem)> = Vec::new();
    for &(number, stem, at) in &found {
        candidates.push((number, at));
        if let Some(below) = stem.before()
            && stem == stems[number as usize]
            && lower.last().is_none_or(|&(last, _)| last != number)
        {
            lower.push((number, below));
        }
    }
    let (numbers, stems): (Vec<u32>, Vec<Stem>) = lower.into_iter().unzip();
    found.clear();
    view.index.at_or_below(&stems, &mut found)?;
    candidates.extend(found.iter().map(|&(asked, _, at)| (numbers[asked as usize], at)));
    Ok(candidates)
}

/// The entry before each of these keys, whose hashes ascend.
fn predecessors(
    hashes: &[KeyHash],
    view: ShardView<'_>,
    shard: ShardId,
    (log, hasher): (LogView<'_>, &dyn BatchHasher),
) -> Result<Vec<Found>, Error> {
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let candidates = predecessor_candidates(hashes, view)?;
    let mut befores: Vec<Option<Found>> = vec![None; hashes.len()];
    let positions: Vec<_> = candidates.iter().map(|&(_, at)| at).collect();
    let entries = log.read_many(&positions)?;
    let key_hashes = key_hashes_of(&entries, hasher)?;
    for ((&(number, at), entry), key_hash) in candidates.iter().zip(entries).zip(key_hashes) {
        let before = &mut befores[number as usize];
        let nearer = before.as_ref().is_none_or(|found| found.key_hash < key_hash);
        if key_hash < hashes[number as usize] && nearer {
            *before = Some(Found { key_hash, at, entry });
        }
    }
    // The keys ascend, and the entries before them do: each kind of question has its own walks.
    let (mut layers, mut of_before) = (view.walks(), view.walks());
    let mut settle = |(key, before): (&KeyHash, Option<Found>)| {
        let Some(found) = before else {
            return Err(Error::Corrupt(format!("shard {shard}: no entry before {key}")));
        };
        let mut before = found.key_hash;
        for layer in &mut layers {
            before = layer.predecessor(key, before);
        }
        match newest(&mut of_before, &before) {
            Some(Now::At(at)) if at != found.at => {
                Ok(Found { key_hash: before, at, entry: log.read(at)? })
            }
            _ if before == found.key_hash => Ok(found),
            _ => Err(Error::Corrupt(format!("shard {shard}: the entry before {key} is lost"))),
        }
    };
    hashes.iter().zip(befores).map(&mut settle).collect()
}

/// Checks that every strict operation fits the state that it will meet.
///
/// # Errors
/// [`Refused::InvalidOp`] for the first that does not.
fn validate(plan: &ShardPlan) -> Result<(), Error> {
    let mut present: Vec<bool> = plan.links.iter().map(Option::is_some).collect();
    for op in &plan.ops {
        let present = &mut present[op.key as usize];
        let Kind::Strict(kind) = op.kind else { continue };
        let fits = match kind {
            OpKind::Read => true,
            OpKind::Create => !*present,
            OpKind::Update | OpKind::Delete => *present,
        };
        if !fits {
            return Err(Refused::InvalidOp { op: kind, key: plan.key_of(op).to_vec() }.into());
        }
        match kind {
            OpKind::Create => *present = true,
            OpKind::Delete => *present = false,
            OpKind::Read | OpKind::Update => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_whatever_their_first_bytes() {
        for seed in 0_u64..200 {
            let mut state = seed;
            let mut below = |end: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % end
            };
            let count = below(60) as u32;
            let mut key_hash = |_| {
                let mut bytes = [0; 32];
                (bytes[7], bytes[31]) = (below(4) as u8, below(3) as u8);
                KeyHash(bytes)
            };
            let list: Vec<_> = (0..count).map(|number| (key_hash(number), number * 3)).collect();
            let order = key_order(&list);
            let found: Vec<_> = order.iter().map(|&(_, at)| list[at as usize]).collect();
            let mut sorted = list.clone();
            sorted.sort();
            assert_eq!(found, sorted, "seed {seed}");
        }
    }
}
