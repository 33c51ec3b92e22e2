//! What an engine is given and asked: a function of the plan and its seed, drawn before any clock starts.
//!
//! ```text
//!   ids 0..keys        created in blocks            turn 0..keys: each value tells its id and turn
//!   blocks of changes  update, mixed or create      turn keys..
//!   sample             some ids and what they have in the end, computed from the changes alone
//!   reads, proofs      random ids that exist in the end
//! ```
//!
//! Invariant: no block has a key twice. Engines differ in what they make of that, and how much of it they merge. Where the
//! draw hits a key of the block again, the later change counts, and another one is drawn.

use crate::engine::Failure;
use hedgerow_benches::workload::{KeySet, MAX_KEYS, Mix, Op, Random};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The changes of the update phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changes {
    /// Updates of random keys, all equally likely.
    Update,
    /// 90 % updates, 5 % creates, 5 % deletes.
    Mixed,
    /// Creates alone.
    Create,
}

/// What an engine is given and asked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Keys that are created before the update phase.
    pub keys: u64,
    /// Creates of a block.
    pub populate_block_ops: u64,
    /// Blocks of the update phase.
    pub blocks: u64,
    /// Changes of each.
    pub block_ops: u64,
    /// Which.
    pub changes: Changes,
    /// Keys that are read in the end.
    pub reads: u64,
    /// Keys that are proved in the end.
    pub proofs: u64,
    /// Decides all of it.
    pub seed: u64,
}

/// A key that is looked at in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The key.
    pub id: u32,
    /// The turn of its value; `None` if it is absent.
    pub turn: Option<u64>,
}

/// The changes and questions of a plan.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The changes of the update phase, block after block.
    pub ops: Vec<Op>,
    /// Keys that exist in the end.
    pub keys: u64,
    /// Keys of the last block and random ones.
    pub sample: Vec<Expected>,
    /// Keys that are read; all exist.
    pub reads: Vec<u32>,
    /// Keys that are proved; all exist.
    pub proofs: Vec<u32>,
}

/// Keys that are looked at in the end: as many of the last block, and as many random ones.
const SAMPLE: usize = 1000;

impl Workload {
    /// Draws the workload of `plan`.
    ///
    /// # Errors
    /// The plan cannot be carried out.
    pub fn draw(plan: &Plan) -> Result<Self, Failure> {
        let too_many = Failure::Plan("at least one key, and at most 2^32 - 1 keys in all");
        let count = plan.blocks.checked_mul(plan.block_ops).filter(|&count| count <= MAX_KEYS);
        let (Some(count), Ok(first @ 1..)) = (count, u32::try_from(plan.keys)) else {
            return Err(too_many);
        };
        if plan.block_ops == 0 || plan.populate_block_ops == 0 {
            return Err(Failure::Plan("blocks of no change"));
        }
        if plan.changes != Changes::Create && plan.blocks > 0 && plan.block_ops > plan.keys / 2 {
            return Err(Failure::Plan("a block changes more than half of all keys"));
        }
        if plan.changes == Changes::Create && plan.keys.saturating_add(count) > MAX_KEYS {
            return Err(too_many);
        }
        let mut random = Random::new(plan.seed);
        let mut ops = Vec::with_capacity(count as usize);
        let keys = match plan.changes {
            Changes::Create => {
                let end = plan.keys.saturating_add(count);
                let end = u32::try_from(end).map_err(|_| too_many)?;
                ops.extend((first..end).map(|id| Op { id, delete: false }));
                KeySet::new(end)
            }
            Changes::Update | Changes::Mixed => {
                let mix = if plan.changes == Changes::Mixed { Mix::Mixed } else { Mix::Update };
                let (mut keys, mut unused) = (KeySet::new(first), first);
                for _ in 0..plan.blocks {
                    let count = plan.block_ops as usize;
                    draw_block(&mut keys, mix, count, &mut random, &mut ops, &mut unused)?;
                }
                keys
            }
        };
        let mut pick = |count: u64| -> Result<Vec<u32>, Failure> {
            let picks = (0..count).map(|_| keys.pick(&mut random));
            picks.collect::<Option<_>>().ok_or(Failure::Plan("no key is left"))
        };
        let (reads, proofs, some) = (pick(plan.reads)?, pick(plan.proofs)?, pick(SAMPLE as u64)?);
        let last = ops.len().saturating_sub(SAMPLE.min(plan.block_ops as usize));
        let last = ops.get(last..).unwrap_or_default().iter().map(|op| op.id);
        let sample = expected(plan.keys, &ops, some.into_iter().chain(last));
        Ok(Self { keys: keys.len() as u64, sample, reads, proofs, ops })
    }
}

/// Appends `count` changes of distinct keys. Ids from `unused` on were never used.
fn draw_block(
    keys: &mut KeySet,
    mix: Mix,
    count: usize,
    random: &mut Random,
    ops: &mut Vec<Op>,
    unused: &mut u32,
) -> Result<(), Failure> {
    let (begin, first_new) = (ops.len(), *unused);
    // Where each key's change is; creates are marked, as what is created and deleted at once is no change.
    let mut places: HashMap<u32, (usize, bool)> = HashMap::with_capacity(count);
    while ops.len() < begin + count {
        let op = keys.draw(mix, random).ok_or(Failure::Plan("no key is left"))?;
        let created = op.id >= first_new;
        *unused = (*unused).max(op.id.saturating_add(1));
        match places.get(&op.id).copied() {
            None => {
                places.insert(op.id, (ops.len(), created));
                ops.push(op);
            }
            Some((at, true)) if op.delete => {
                places.remove(&op.id);
                ops.swap_remove(at);
                if let Some(moved) = ops.get(at) {
                    places.entry(moved.id).and_modify(|place| place.0 = at);
                }
            }
            Some((at, _)) => {
                if let Some(earlier) = ops.get_mut(at) {
                    *earlier = op;
                }
            }
        }
    }
    Ok(())
}

/// What the ids have after all changes.
fn expected(keys: u64, ops: &[Op], ids: impl Iterator<Item = u32>) -> Vec<Expected> {
    let created = |id: u32| (u64::from(id) < keys).then_some(u64::from(id));
    let mut turns: HashMap<u32, Option<u64>> = ids.map(|id| (id, created(id))).collect();
    for (turn, op) in (keys..).zip(ops) {
        if let Some(last) = turns.get_mut(&op.id) {
            *last = (!op.delete).then_some(turn);
        }
    }
    let mut sample: Vec<_> = turns.into_iter().map(|(id, turn)| Expected { id, turn }).collect();
    sample.sort_unstable_by_key(|expected| expected.id);
    sample
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn plan(changes: Changes) -> Plan {
        Plan {
            keys: 1000,
            populate_block_ops: 300,
            blocks: 40,
            block_ops: 400,
            changes,
            reads: 500,
            proofs: 50,
            seed: 5,
        }
    }

    /// The turn of each key's value, from the changes alone.
    fn model(plan: &Plan, ops: &[Op]) -> HashMap<u32, u64> {
        let mut model: HashMap<u32, u64> = (0..plan.keys).map(|id| (id as u32, id)).collect();
        for (turn, op) in (plan.keys..).zip(ops) {
            let known = model.contains_key(&op.id);
            match plan.changes {
                Changes::Update => assert!(known && !op.delete),
                Changes::Mixed => assert!(known || !op.delete, "deletes an absent key"),
                Changes::Create => assert!(!known && !op.delete),
            }
            match op.delete {
                true => model.remove(&op.id),
                false => model.insert(op.id, turn),
            };
        }
        model
    }

    #[test]
    fn blocks_have_no_key_twice_and_the_sample_is_what_the_changes_say() {
        for changes in [Changes::Update, Changes::Mixed, Changes::Create] {
            let plan = plan(changes);
            let workload = Workload::draw(&plan).unwrap();
            assert_eq!(workload.ops.len(), 16_000);
            for block in workload.ops.chunks(400) {
                let ids: HashSet<u32> = block.iter().map(|op| op.id).collect();
                assert_eq!(ids.len(), 400, "{changes:?}");
            }
            let model = model(&plan, &workload.ops);
            assert_eq!(workload.keys, model.len() as u64);
            for Expected { id, turn } in &workload.sample {
                assert_eq!(model.get(id), turn.as_ref(), "{changes:?}, key {id}");
            }
            let mut asked = workload.reads.iter().chain(&workload.proofs);
            assert!(asked.all(|id| model.contains_key(id)), "{changes:?}");
            assert!(workload.reads.len() == 500 && workload.proofs.len() == 50);
            assert!(workload.sample.len() >= 400, "{}", workload.sample.len());
            if changes == Changes::Mixed {
                let absent = workload.sample.iter().filter(|known| known.turn.is_none()).count();
                let deletes = workload.ops.iter().filter(|op| op.delete).count();
                assert!(absent > 0 && (600..1000).contains(&deletes), "{absent}, {deletes}");
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let refused = |change: fn(&mut Plan)| {
            let mut plan = plan(Changes::Mixed);
            change(&mut plan);
            assert!(matches!(Workload::draw(&plan), Err(Failure::Plan(_))), "{plan:?}");
        };
        refused(|plan| plan.keys = 0);
        refused(|plan| plan.keys = 1 << 32);
        refused(|plan| plan.block_ops = 501);
        refused(|plan| plan.block_ops = 0);
        refused(|plan| plan.populate_block_ops = 0);
        refused(|plan| plan.blocks = u64::MAX);
        refused(|plan| {
            plan.changes = Changes::Create;
            plan.blocks = (1 << 32) / 400;
        });
    }
}
