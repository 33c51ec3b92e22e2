//! A block of creates in key-hash order, in a store that has nothing but sentries below what came before.
//!
//! ```text
//!   stream     ... k1 k2 k3 │ k4 k5 ...           key hashes ascend, from block to block too
//!                           └ the last key of the block before: its entry is in hand
//!
//!   group      S ── k1 ── k2 ── k3 ── S+1         the keys between two sentries
//!
//!   run        k1►S+1  S►k1  k2►S+1  k1►k2  k3►S+1  k2►k3        what update would write (spec 6.3):
//!              new     again new     again  new     again        each key, and the one before it again
//! ```
//!
//! What came before a key is known: it is the key before it in the stream, or a sentry that nobody has touched.
//! So nothing is looked up, nothing is read, and a key is found in the block's layer by its place. What it comes
//! to is what `update` comes to with puts of these keys, byte for byte, and goes into the shard through
//! [`ShardState::take`](crate::ShardState::take).
//!
//! Entries that the rule has moved are not where this expects them: as soon as it says so, [`load`] has done
//! nothing and leaves the block to [`apply`](crate::apply), which does any.

use crate::layer::Draft;
use crate::shard::RunChange;
use crate::spread::would_spread;
use crate::update::{Counts, HeldWriter, ShardDelta, ShardWriter};
use crate::{BlockOps, Error, Refused};
use hedgerow_entryfile::{frame_len, push_frame};
use hedgerow_hasher_api::Span;
use hedgerow_index::Place;
use hedgerow_types::entry::{EntryFields, FIXED_LEN, SENTRY_LEN};
use hedgerow_types::{
    CompactionRule, Height, KeyHash, LogPosition, SENTRIES_PER_SHARD, SHARDS, SerialNumber,
    ShardId, Version,
};
use rayon::prelude::*;
use std::ops::Range;

/// A key of the stream with its current entry: what the next block begins behind.
#[derive(Clone, Debug)]
pub struct LastPair {
    /// The hash of the key.
    pub key_hash: KeyHash,
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Where its entry is.
    pub place: Place,
}

/// A block of a stream.
#[derive(Clone, Copy, Debug)]
pub struct LoadBlock<'a> {
    /// Puts, all of one change set.
    pub ops: &'a BlockOps,
    /// The hashes of their keys, which ascend, and are above that of `last`.
    pub key_hashes: &'a [KeyHash],
    /// What the stream had before.
    pub last: Option<&'a LastPair>,
    /// Where the sentries of each shard begin in the log.
    pub sentries: &'a [LogPosition; SHARDS],
}

/// Applies a block of a stream to all shards, in the pool of the caller. `None`, and nothing was changed, if the
/// rule wants entries moved on the way: then `apply` does it, and every later block of the stream.
///
/// # Errors
/// [`Refused::BlockTooLarge`]; [`Error::Corrupt`] if the shards are not what the stream has made of them. Then
/// all of them are as they were.
pub fn load<W: HeldWriter>(
    shards: &mut [W],
    block: LoadBlock<'_>,
    height: Height,
    rule: &CompactionRule,
) -> Result<Option<Vec<ShardDelta>>, Error> {
    let before = shards.iter().map(|writer| writer.look().state.next_sn().0).sum();
    let results: Vec<Result<Option<ShardDelta>, Error>> = shards
        .par_iter_mut()
        .map(|writer| load_shard(writer.change(), block, height, rule, before))
        .collect();
    let failed = results.iter().find_map(|result| result.as_ref().err()).cloned();
    if failed.is_some() || results.iter().any(|result| matches!(result, Ok(None))) {
        for (writer, result) in shards.iter_mut().zip(results) {
            if let Ok(Some(delta)) = result {
                writer.change().take_back(delta);
            }
        }
        return failed.map_or(Ok(None), Err);
    }
    let deltas: Vec<_> = results.into_iter().filter_map(Result::ok).flatten().collect();
    match would_spread(shards, &deltas, before, rule) {
        Ok(false) => Ok(Some(deltas)),
        other => {
            let done = shards.iter_mut().zip(deltas);
            done.for_each(|(writer, delta)| writer.change().take_back(delta));
            other.map(|_| None)
        }
    }
}

/// The numbers of the keys of a shard.
fn keys_of(shard: ShardId, key_hashes: &[KeyHash]) -> Range<usize> {
    let first = key_hashes.partition_point(|it| it.shard().index() < shard.index());
    let end = key_hashes.partition_point(|it| it.shard().index() <= shard.index());
    first..end
}

/// The 16 bits that name the sentry before a key.
const fn prefix_of(key_hash: &KeyHash) -> u16 {
    u16::from_be_bytes([key_hash.0[0], key_hash.0[1]])
}

/// The sentry after one.
fn sentry_after(prefix: u16) -> KeyHash {
    prefix.checked_add(1).map_or(KeyHash::MAX, KeyHash::sentry)
}

/// The entry before the next key.
#[derive(Clone, Copy)]
struct Before<'a> {
    key: &'a [u8],
    value: &'a [u8],
    sn: SerialNumber,
    /// Its key hash and where it is, if no entry of this block is of its key.
    earlier: Option<(KeyHash, Place)>,
}

fn load_shard(
    writer: &mut ShardWriter,
    block: LoadBlock<'_>,
    height: Height,
    rule: &CompactionRule,
    entries_before: u64,
) -> Result<Option<ShardDelta>, Error> {
    let (state, cursor) = (&mut writer.state, writer.cursor.clone());
    let shard = state.shard();
    let LoadBlock { ops, key_hashes, last, sentries } = block;
    let keys = keys_of(shard, key_hashes);
    let first_sn = state.next_sn();
    let version = Version::new(height, 0).ok_or(Refused::TooManyChangeSets)?;
    let pairs = ops.ops().get(keys.clone()).unwrap_or_default();
    let hashes = key_hashes.get(keys).unwrap_or_default();
    let lens = pairs.iter().map(|op| FIXED_LEN + ops.key(op).len() + ops.value(op).len());
    // As it is, but for sentries.
    let room: usize = lens.map(|len| frame_len(len) + frame_len(len + 8)).sum();

    let mut run = Vec::with_capacity(room);
    let mut spans = Vec::with_capacity(2 * pairs.len());
    let mut deactivated = Vec::with_capacity(pairs.len());
    let mut draft =
        Draft::with_room(2 * pairs.len().min(SENTRIES_PER_SHARD as usize) + pairs.len());
    let mut neighbour_bytes = 0;
    let mut group = None;
    let mut before = Before { key: &[], value: &[], sn: first_sn, earlier: None };
    let mut sentry = KeyHash::MAX;
    let mut slot = 0;
    if let Some(last) = last.filter(|last| last.key_hash.shard() == shard) {
        let LastPair { key_hash, key, value, place } = last;
        group = Some(prefix_of(key_hash));
        before = Before { key, value, sn: place.sn, earlier: Some((*key_hash, *place)) };
    }
    for (created, (op, key_hash)) in (1..).zip(pairs.iter().zip(hashes)) {
        let prefix = prefix_of(key_hash);
        if group != Some(prefix) {
            group = Some(prefix);
            sentry = KeyHash::sentry(prefix);
            let number = u64::from(prefix) % SENTRIES_PER_SHARD;
            let start = sentries[shard.index()];
            let at = start.plus(number * frame_len(SENTRY_LEN) as u64);
            let place = Place { at, sn: SerialNumber(number) };
            before = Before { key: &[], value: &[], sn: place.sn, earlier: Some((sentry, place)) };
        }
        let (key, value) = (ops.key(op), ops.value(op));
        let number = spans.len() as u32;
        let sn = first_sn.plus(u64::from(number));
        let next_key_hash = sentry_after(prefix);
        let new =
            EntryFields { key, value, next_key_hash, version, serial_number: sn, deactivated: &[] };
        let again = EntryFields {
            // A sentry has no other key than its hash.
            key: if before.key.is_empty() { &sentry.0 } else { before.key },
            value: before.value,
            next_key_hash: *key_hash,
            version,
            serial_number: sn.plus(1),
            deactivated: &[before.sn],
        };
        for fields in [&new, &again] {
            let span = push_frame(&mut run, fields).map_err(|_| Refused::BlockTooLarge)?;
            spans.push(Span { offset: span.offset, len: span.len });
        }
        neighbour_bytes += frame_len(again.hashed_len()) as u64;
        deactivated.push(before.sn);
        match before.earlier {
            Some((of, place)) if of < *key_hash => {
                let slot = draft.add(of, Some(place));
                draft.moved(slot, number + 1);
            }
            // A key that hashes to a sentry: for `apply` to refuse.
            Some(_) => return Ok(None),
            None => draft.moved(slot, number + 1),
        }
        slot = draft.add(*key_hash, None);
        draft.moved(slot, number);
        before = Before { key, value, sn, earlier: None };
        let next = sn.plus(2);
        if rule.compactible(state.oldest_active(), next, state.active() + created) {
            return Ok(None);
        }
    }
    let change = RunChange {
        first_sn,
        entries: spans.len() as u64,
        deactivated: &deactivated,
        oldest_active: state.oldest_active(),
        entries_before,
    };
    let undo = state.take(&change).map_err(|refused| refused.of(shard))?;
    let counts = Counts { created: pairs.len() as u64, neighbour_bytes, ..Counts::default() };
    Ok(Some(ShardDelta {
        undo,
        cursor,
        run,
        spans,
        first_sn,
        deactivated,
        draft,
        oldest_active: state.oldest_active(),
        active: state.active(),
        entries_before,
        counts,
    }))
}
