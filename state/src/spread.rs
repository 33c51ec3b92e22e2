//! Compaction across shards: what any of them needs of the log holds all of it.
//!
//! ```text
//!   log     ▓a▓b▓c▓c▓c▓a▓c▓c▓c▓c▓c▓c▓c▓c▓      entries of 16 shards, block after block
//!             └ b is written to no more: its oldest active entry holds everything behind it
//!   after a block   while more entries lie behind the least of the 16 than the rule's spread allows:
//!                   that shard's oldest active entry is appended again
//! ```
//!
//! What a shard holds begins with the block that began the twig of its oldest active entry, since pruning
//! keeps whole twigs. It is counted in entries of all shards, which follow from the blocks alone.

use crate::Error;
use crate::shard::ShardState;
use crate::update::{Files, HeldWriter, ShardDelta, move_oldest};
use hedgerow_types::{CompactionRule, SerialNumber};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Moves the oldest active entries of all shards while more was written since the oldest of them than
/// the rule's spread allows, one for each entry that the block wrote; `before` entries preceded it.
///
/// # Errors
/// As [`update_shard`](crate::update::update_shard); then every shard is to be taken back.
pub(crate) fn spread<W: HeldWriter>(
    writers: &mut [W],
    deltas: &mut [ShardDelta],
    before: u64,
    rule: &CompactionRule,
    files: Files<'_>,
) -> Result<(), Error> {
    let wrote: usize = deltas.iter().map(|delta| delta.spans.len()).sum();
    if rule.spread() == 0 || wrote == 0 {
        return Ok(());
    }
    let active: u64 = writers.iter().map(|writer| writer.look().state.active()).sum();
    // Only the shard of which an entry is moved needs to be asked again.
    let mut held = BinaryHeap::with_capacity(writers.len());
    for (number, (writer, delta)) in writers.iter().zip(&*deltas).enumerate() {
        let from = log_held(&writer.look().state, delta.first_sn, before)?;
        held.push(Reverse((from, number)));
    }
    for moved in 0..wrote as u64 {
        let Some(mut least) = held.peek_mut() else { break };
        let Reverse((from, number)) = *least;
        if !rule.spreads((before + wrote as u64 + moved).saturating_sub(from), active) {
            break;
        }
        let (writer, delta) = (writers[number].change(), &mut deltas[number]);
        move_oldest(writer, delta, rule, files)?;
        *least = Reverse((log_held(&writer.state, delta.first_sn, before)?, number));
    }
    Ok(())
}

/// Whether [`spread`] would move anything, after the runs were ended.
///
/// # Errors
/// What it would meet with.
pub(crate) fn would_spread<W: HeldWriter>(
    writers: &[W],
    deltas: &[ShardDelta],
    before: u64,
    rule: &CompactionRule,
) -> Result<bool, Error> {
    let wrote: usize = deltas.iter().map(|delta| delta.spans.len()).sum();
    if rule.spread() == 0 || wrote == 0 {
        return Ok(false);
    }
    let active: u64 = writers.iter().map(|writer| writer.look().state.active()).sum();
    for (writer, delta) in writers.iter().zip(deltas) {
        let from = log_held(&writer.look().state, delta.first_sn, before)?;
        if rule.spreads((before + wrote as u64).saturating_sub(from), active) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many entries of all shards precede what a shard needs of the log: the block that wrote the first
/// entry of the twig of its oldest active one.
fn log_held(state: &ShardState, first_sn: SerialNumber, before: u64) -> Result<u64, Error> {
    let Some(sn) = state.first_active() else {
        return Err(Error::Corrupt(format!("shard {}: nothing is active", state.shard())));
    };
    match state.begins().of(sn.twig()) {
        Some(before) => Ok(before),
        // This block has begun the twig.
        None if sn.twig().first() >= first_sn => Ok(before),
        None => Err(Error::Corrupt(format!(
            "shard {}: where twig {} begins is lost",
            state.shard(),
            sn.twig()
        ))),
    }
}
