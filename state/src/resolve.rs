//! The resolve stage: from a block's operations to what each shard needs to apply them.
//!
//! ```text
//!  BlockOps ──► key hashes, CPU, a batch ► 16 ShardPlans, operations sorted (spec 6.1)
//!                                            │
//!     index                                  │  candidate positions of every key      (no I/O)
//!     log                                    │  one batched read, settled by comparing keys
//!     index                                  │  candidates before created and deleted keys
//!     log                                    │  one batched read, settled by key hash
//!                                            ▼
//!                                         keys with their entries as of the block's start
//! ```
//!
//! Every step runs over the shards in parallel. The index may be in the middle of a block's edits while
//! it is asked (see `published.rs`): whatever those change, a layer answers.
//!
//! Nothing is changed here: an error refuses the block and leaves the store as it was.

use crate::keys::{is_entry_of, key_hash_of};
use crate::layer::{Layer, Now, newest};
use crate::ops::{BlockOps, Kind};
use crate::{Error, OpKind};
use hedgerow_entryfile::{EntryLog, Fill, StoredEntry};
use hedgerow_hasher_api::{BatchHasher, MessageGroup};
use hedgerow_index::{Index, IndexError, Stem};
use hedgerow_types::{Digest, KeyHash, LogPosition, SHARDS, SerialNumber, ShardId};
use rayon::prelude::*;

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

/// A key that the block names, as of the block's start.
#[derive(Clone, Debug)]
pub(crate) struct KeyState {
    pub key_hash: KeyHash,
    /// An operation that holds the key's bytes.
    op: u32,
    /// Operations on it may create or delete it, so that its predecessor is needed.
    structural: bool,
    /// Its entry, if it is present.
    pub entry: Option<Link>,
    /// The entry before it, if it was needed.
    pub before: Option<Found>,
}

/// An operation and the key it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedOp {
    /// Number in [`BlockOps::ops`].
    pub op: u32,
    /// Number in [`ShardPlan::keys`].
    pub key: u32,
}

/// The operations of one shard in the order in which they apply, and their keys.
#[derive(Debug, Default)]
pub struct ShardPlan {
    pub(crate) ops: Vec<PlannedOp>,
    pub(crate) keys: Vec<KeyState>,
}

/// The index of one shard and the layers above it, oldest first.
#[derive(Clone, Copy)]
pub struct ShardView<'a> {
    /// The index of the last published block, or on its way there from the one before.
    pub index: &'a dyn Index,
    /// What the blocks changed that it may not have yet, and what those it has changed, oldest first.
    pub layers: &'a [&'a Layer],
}

/// Hashes the keys and sorts the operations into shards.
pub fn plan(ops: &BlockOps, hasher: &dyn BatchHasher) -> Result<Vec<ShardPlan>, Error> {
    let spans: Vec<_> = ops.ops().iter().map(|op| op.key_span()).collect();
    let mut hashes = vec![Digest::ZERO; spans.len()];
    let group = MessageGroup { arena: ops.arena(), spans: &spans, out: &mut hashes };
    hasher.messages(&mut [group])?;

    let mut shards: Vec<Vec<(KeyHash, u32)>> = (0..SHARDS).map(|_| Vec::new()).collect();
    for (number, hash) in hashes.iter().enumerate() {
        let key_hash = KeyHash(hash.0);
        shards[key_hash.shard().index()].push((key_hash, number as u32));
    }
    Ok(shards.into_par_iter().map(|list| plan_shard(ops, list)).collect())
}

fn plan_shard(ops: &BlockOps, mut list: Vec<(KeyHash, u32)>) -> ShardPlan {
    // Key by key first, to give every key its number. Prefixes decide nearly always.
    list.sort_unstable_by(|(a, i), (b, j)| {
        a.prefix_u64().cmp(&b.prefix_u64()).then_with(|| (a, i).cmp(&(b, j)))
    });
    let mut keys: Vec<KeyState> = Vec::with_capacity(list.len());
    let mut planned = Vec::with_capacity(list.len());
    for (key_hash, op) in list {
        let kind = ops.ops()[op as usize].kind;
        match keys.last_mut() {
            // More than one operation: whether it is present changes on the way.
            Some(last) if last.key_hash == key_hash => last.structural = true,
            _ => keys.push(KeyState {
                key_hash,
                op,
                structural: matches!(kind, Kind::Strict(OpKind::Create | OpKind::Delete)),
                entry: None,
                before: None,
            }),
        }
        planned.push(PlannedOp { op, key: keys.len() as u32 - 1 });
    }
    // Then in the order in which they apply; keys are numbered in key-hash order.
    let order = |planned: &PlannedOp| {
        let op = &ops.ops()[planned.op as usize];
        (op.change_set, planned.key, op.kind, planned.op)
    };
    if !planned.is_sorted_by_key(order) {
        planned.sort_unstable_by_key(order);
    }
    ShardPlan { ops: planned, keys }
}

/// A position to read, and the number of the key that it is a candidate for.
type Candidate = (u32, LogPosition);

/// The positions at which the keys of `plan` may be, from memory alone.
pub fn key_candidates(plan: &ShardPlan, view: ShardView<'_>) -> Result<Vec<Candidate>, IndexError> {
    let mut candidates = Vec::with_capacity(plan.keys.len());
    let mut numbers = Vec::with_capacity(plan.keys.len());
    let mut keys = Vec::with_capacity(plan.keys.len());
    for (number, key) in (0..).zip(&plan.keys) {
        match newest(view.layers.iter().copied(), &key.key_hash) {
            Some(Now::At(at)) => candidates.push((number, at)),
            Some(_) => {}
            None => {
                numbers.push(number);
                keys.push(key.key_hash);
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

/// Reads the candidates and gives each key its entry.
pub fn settle_keys(
    plan: &mut ShardPlan,
    candidates: &[Candidate],
    ops: &BlockOps,
    log: &EntryLog,
) -> Result<(), Error> {
    let positions: Vec<_> = candidates.iter().map(|&(_, at)| at).collect();
    log.visit_many(&positions, Fill::Nothing, |number, entry| {
        let (key, at) = candidates[number];
        let key = &mut plan.keys[key as usize];
        if is_entry_of(entry, ops.key(&ops.ops()[key.op as usize])) {
            let (next_key_hash, sn) = (entry.next_key_hash(), entry.serial_number());
            key.entry = Some(Link { at, next_key_hash, sn });
        }
    })?;
    for planned in &plan.ops {
        let key = &mut plan.keys[planned.key as usize];
        key.structural |= match ops.ops()[planned.op as usize].kind {
            Kind::Put => key.entry.is_none(),
            Kind::Remove => key.entry.is_some(),
            Kind::Strict(_) => false,
        };
    }
    Ok(())
}

/// The positions at which the predecessors of the structural keys may be, from memory alone.
pub fn predecessor_candidates(
    plan: &ShardPlan,
    view: ShardView<'_>,
) -> Result<Vec<Candidate>, IndexError> {
    let structural = plan.keys.iter().enumerate().filter(|(_, key)| key.structural);
    let (numbers, stems): (Vec<u32>, Vec<Stem>) =
        structural.map(|(number, key)| (number as u32, Stem::of(&key.key_hash))).unzip();
    let mut candidates = Vec::with_capacity(stems.len());
    let mut found = Vec::with_capacity(stems.len());
    view.index.at_or_below(&stems, &mut found)?;
    // A lower stem lies below the key for certain; at the key's own there may be the key itself and keys
    // above it, so the next one is wanted too.
    let mut lower: Vec<(u32, Stem)> = Vec::new();
    for &(asked, stem, at) in &found {
        let number = numbers[asked as usize];
        candidates.push((number, at));
        if let Some(below) = stem.before()
            && stem == stems[asked as usize]
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

/// Reads the candidates and gives each structural key the entry before it.
pub fn settle_predecessors(
    plan: &mut ShardPlan,
    candidates: &[Candidate],
    layers: &[&Layer],
    shard: ShardId,
    log: &EntryLog,
) -> Result<(), Error> {
    for (number, at, entry) in read(candidates, log)? {
        let key = &mut plan.keys[number as usize];
        let key_hash = key_hash_of(entry.get());
        let nearer = key.before.as_ref().is_none_or(|found| found.key_hash < key_hash);
        if key_hash < key.key_hash && nearer {
            key.before = Some(Found { key_hash, at, entry });
        }
    }
    for key in plan.keys.iter_mut().filter(|key| key.structural) {
        let Some(found) = &mut key.before else {
            let reason = format!("shard {shard}: no entry before {}", key.key_hash);
            return Err(Error::Corrupt(reason));
        };
        let mut before = found.key_hash;
        for layer in layers {
            before = layer.predecessor(&key.key_hash, before);
        }
        match newest(layers.iter().copied(), &before) {
            Some(Now::At(at)) if at != found.at => {
                *found = Found { key_hash: before, at, entry: log.read(at)? };
            }
            _ if before == found.key_hash => {}
            _ => {
                let reason = format!("shard {shard}: the entry before {} is lost", key.key_hash);
                return Err(Error::Corrupt(reason));
            }
        }
    }
    Ok(())
}

fn read(
    candidates: &[Candidate],
    log: &EntryLog,
) -> Result<impl Iterator<Item = (u32, LogPosition, StoredEntry)>, Error> {
    let positions: Vec<_> = candidates.iter().map(|&(_, at)| at).collect();
    let entries = log.read_many(&positions)?;
    Ok(candidates.iter().zip(entries).map(|(&(number, at), entry)| (number, at, entry)))
}

/// Checks that every strict operation fits the state that it will meet.
///
/// # Errors
/// [`Error::InvalidOp`] for the first that does not.
pub fn validate(plan: &ShardPlan, ops: &BlockOps) -> Result<(), Error> {
    let mut present: Vec<bool> = plan.keys.iter().map(|key| key.entry.is_some()).collect();
    for planned in &plan.ops {
        let op = &ops.ops()[planned.op as usize];
        let present = &mut present[planned.key as usize];
        let Kind::Strict(kind) = op.kind else { continue };
        let fits = match kind {
            OpKind::Read => true,
            OpKind::Create => !*present,
            OpKind::Update | OpKind::Delete => *present,
        };
        if !fits {
            return Err(Error::InvalidOp { op: kind, key: ops.key(op).to_vec() });
        }
        match kind {
            OpKind::Create => *present = true,
            OpKind::Delete => *present = false,
            OpKind::Read | OpKind::Update => {}
        }
    }
    Ok(())
}
