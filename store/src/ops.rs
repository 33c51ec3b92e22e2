//! What a block asks for, in one flat form for both interfaces.
//!
//! ```text
//!  user's API       put / delete ─────┐  net effect per key and change set
//!                                     ▼
//!  low level        tasks ─► change sets ─► ops      kinds Create, Update, Delete, Read: strict
//!                                     │
//!                                     ▼
//!  BlockOps         arena ▓key▓value▓key▓key▓value▓…    one buffer for all keys and values
//!                   ops   [(change set, kind, key, value)]   in the order given
//! ```
//!
//! The two interfaces differ in the kinds alone: `Put` and `Remove` become whatever the state asks
//! for, while the strict kinds must fit the state or the block is refused.

use crate::Error;
use hedgerow_types::{MAX_KEY_LEN, Version};

/// What a strict operation does. The discriminants are the peers' op codes, which order the
/// operations on one key within a change set (spec 1, 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OpKind {
    /// Does nothing (spec 6.3).
    Read = 1,
    /// Gives a present key a new value.
    Update = 2,
    /// Gives an absent key a value.
    Create = 3,
    /// Removes a present key.
    Delete = 4,
}

/// One strict operation of the low-level interface (spec 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What to do.
    pub kind: OpKind,
    /// The key, 1 to 255 bytes.
    pub key: Vec<u8>,
    /// The value; not used by `Delete` and `Read`.
    pub value: Vec<u8>,
}

/// Operations that share a version (spec 6.2). They take effect in (shard, key hash, op code)
/// order, whatever order they are given in; ties keep the given order.
pub type ChangeSet = Vec<Op>;

/// A list of change sets, applied in order (spec 6.1).
pub type Task = Vec<ChangeSet>;

/// What one operation of a block does: the strict kinds, and the two of the user's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Strict(OpKind),
    /// Create or update, whichever the state asks for.
    Put,
    /// Delete if present.
    Remove,
}

/// One operation, its bytes in the arena of [`BlockOps`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawOp {
    pub(crate) change_set: u32,
    pub(crate) kind: Kind,
    key_at: u32,
    key_len: u8,
    value_at: u32,
    value_len: u32,
}

/// The operations of a block.
#[derive(Debug, Default)]
pub(crate) struct BlockOps {
    arena: Vec<u8>,
    ops: Vec<RawOp>,
    /// Change sets begun so far, the empty ones included.
    change_sets: u32,
}

impl BlockOps {
    /// Begins the next change set.
    pub(crate) fn begin_change_set(&mut self) -> Result<(), Error> {
        if self.change_sets == Version::CHANGE_SETS_PER_BLOCK {
            return Err(Error::TooManyChangeSets);
        }
        self.change_sets += 1;
        Ok(())
    }

    /// The change sets of `tasks`, numbered over all tasks.
    pub(crate) fn from_tasks(tasks: &[Task], max_value_bytes: usize) -> Result<Self, Error> {
        let mut block = Self::default();
        for change_set in tasks.iter().flatten() {
            block.begin_change_set()?;
            for op in change_set {
                let value = match op.kind {
                    OpKind::Create | OpKind::Update => op.value.as_slice(),
                    OpKind::Read | OpKind::Delete => &[],
                };
                check_key(&op.key)?;
                if matches!(op.kind, OpKind::Create | OpKind::Update) {
                    check_value(&op.key, value, max_value_bytes)?;
                }
                block.push(Kind::Strict(op.kind), &op.key, value)?;
            }
        }
        Ok(block)
    }

    /// Appends an operation to the current change set and returns its number.
    pub(crate) fn push(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<u32, Error> {
        let number = u32::try_from(self.ops.len()).map_err(|_| Error::BlockTooLarge)?;
        let key_len = u8::try_from(key.len()).map_err(|_| Error::KeyLength(key.len()))?;
        let key_at = self.append(key)?;
        let value_at = self.append(value)?;
        self.ops.push(RawOp {
            change_set: self.change_sets.saturating_sub(1),
            kind,
            key_at,
            key_len,
            value_at,
            value_len: value.len() as u32,
        });
        Ok(number)
    }

    /// Replaces what operation `number` does, keeping its key and change set.
    pub(crate) fn replace(&mut self, number: u32, kind: Kind, value: &[u8]) -> Result<(), Error> {
        let Some(op) = self.ops.get(number as usize).copied() else { return Ok(()) };
        let room = op.value_at as usize..op.value_at as usize + value.len();
        let value_at = if value.len() <= op.value_len as usize {
            self.arena[room].copy_from_slice(value);
            op.value_at
        } else {
            self.append(value)?
        };
        self.ops[number as usize] = RawOp { kind, value_at, value_len: value.len() as u32, ..op };
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u32, Error> {
        let at = u32::try_from(self.arena.len()).map_err(|_| Error::BlockTooLarge)?;
        self.arena.extend_from_slice(bytes);
        u32::try_from(self.arena.len()).map_err(|_| Error::BlockTooLarge)?;
        Ok(at)
    }

    pub(crate) fn arena(&self) -> &[u8] {
        &self.arena
    }

    pub(crate) fn ops(&self) -> &[RawOp] {
        &self.ops
    }

    /// Number of the change set that operations are appended to.
    pub(crate) fn current_change_set(&self) -> u32 {
        self.change_sets.saturating_sub(1)
    }

    pub(crate) fn key(&self, op: &RawOp) -> &[u8] {
        &self.arena[op.key_at as usize..][..op.key_len as usize]
    }

    pub(crate) fn value(&self, op: &RawOp) -> &[u8] {
        &self.arena[op.value_at as usize..][..op.value_len as usize]
    }
}

impl RawOp {
    /// Where the key lies in the arena: the span that its hash covers.
    pub(crate) fn key_span(&self) -> hedgerow_hasher_api::Span {
        hedgerow_hasher_api::Span { offset: self.key_at, len: u32::from(self.key_len) }
    }
}

/// A key is 1 to 255 bytes.
pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() || key.len() > MAX_KEY_LEN {
        return Err(Error::KeyLength(key.len()));
    }
    Ok(())
}

/// A value is at most `max_value_bytes` long, and does not make its entry look like a sentry.
pub(crate) fn check_value(key: &[u8], value: &[u8], max_value_bytes: usize) -> Result<(), Error> {
    if value.len() > max_value_bytes {
        return Err(Error::ValueLength { len: value.len(), max: max_value_bytes });
    }
    if value.is_empty() && hedgerow_types::entry::is_sentry_key(key) {
        return Err(Error::SentryShape);
    }
    Ok(())
}
