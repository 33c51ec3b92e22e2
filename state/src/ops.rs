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

use crate::Refused;
use hedgerow_types::{MAX_KEY_LEN, Version};
use std::hint::black_box;

/// What a strict operation does. The discriminants are the peers' op codes, which order the
/// operations on one key within a change set ([spec 1](hedgerow_types::spec), 6.1).
///
/// ```
/// use hedgerow_state::OpKind;
/// // A change set deletes a key last, in whatever order its operations are given.
/// let mut kinds = [OpKind::Delete, OpKind::Create];
/// kinds.sort();
/// assert_eq!(kinds, [OpKind::Create, OpKind::Delete]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OpKind {
    /// Does nothing ([spec 6.3](hedgerow_types::spec)).
    Read = 1,
    /// Gives a present key a new value.
    Update = 2,
    /// Gives an absent key a value.
    Create = 3,
    /// Removes a present key.
    Delete = 4,
}

/// One strict operation of the low-level interface ([spec 6](hedgerow_types::spec)).
///
/// ```
/// use hedgerow_state::{Op, OpKind, Task};
/// let create = Op { kind: OpKind::Create, key: b"alice".to_vec(), value: b"100".to_vec() };
/// let task: Task = vec![vec![create]];         // one change set of one operation
/// assert_eq!(task[0][0].kind, OpKind::Create);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What to do.
    pub kind: OpKind,
    /// The key, 1 to 255 bytes.
    pub key: Vec<u8>,
    /// The value; not used by `Delete` and `Read`.
    pub value: Vec<u8>,
}

/// Operations that share a version ([spec 6.2](hedgerow_types::spec)). They take effect in (shard, key hash, op code)
/// order, whatever order they are given in; ties keep the given order.
pub type ChangeSet = Vec<Op>;

/// A list of change sets, applied in order ([spec 6.1](hedgerow_types::spec)).
pub type Task = Vec<ChangeSet>;

/// What one operation of a block does: the strict kinds, and the two of the user's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A kind that must fit the state.
    Strict(OpKind),
    /// Create or update, whichever the state asks for.
    Put,
    /// Delete if present.
    Remove,
}

/// One operation, its bytes in the arena of [`BlockOps`].
#[derive(Clone, Copy, Debug)]
pub struct RawOp {
    /// Number of its change set in the block.
    pub change_set: u32,
    /// What it does.
    pub kind: Kind,
    key_at: u32,
    key_len: u8,
    value_at: u32,
    value_len: u32,
}

/// Bytes of replaced values that may stay in the arena, however small the rest is.
const MAX_DEAD: usize = 64 << 10;

/// The operations of a block.
#[derive(Debug)]
pub struct BlockOps {
    arena: Vec<u8>,
    /// Bytes that the arena may have.
    limit: u32,
    /// Bytes of the arena that no operation uses any more.
    dead: usize,
    ops: Vec<RawOp>,
    /// Change sets begun so far, the empty ones included.
    change_sets: u32,
}

impl Default for BlockOps {
    fn default() -> Self {
        Self { arena: vec![], limit: u32::MAX, dead: 0, ops: vec![], change_sets: 0 }
    }
}

impl BlockOps {
    /// Forgets all operations and change sets, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.ops.clear();
        (self.dead, self.change_sets) = (0, 0);
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.ops.capacity() * size_of::<RawOp>()
    }

    /// Begins the next change set.
    pub fn begin_change_set(&mut self) -> Result<(), Refused> {
        if self.change_sets == Version::CHANGE_SETS_PER_BLOCK {
            return Err(Refused::TooManyChangeSets);
        }
        self.change_sets += 1;
        Ok(())
    }

    /// The change sets of `tasks`, numbered over all tasks.
    pub fn from_tasks(tasks: &[Task], max_value_bytes: usize) -> Result<Self, Refused> {
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
    pub fn push(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<u32, Refused> {
        let number = u32::try_from(self.ops.len()).map_err(|_| Refused::BlockTooLarge)?;
        let key_len = u8::try_from(key.len()).map_err(|_| Refused::KeyLength(key.len()))?;
        if !self.fits(key.len() + value.len(), 0) {
            return Err(Refused::BlockTooLarge);
        }
        self.make_room(key.len() + value.len());
        let (key_at, value_at) = (self.append(key), self.append(value));
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
    pub fn replace(&mut self, number: u32, kind: Kind, value: &[u8]) -> Result<(), Refused> {
        let Some(op) = self.ops.get(number as usize).copied() else { return Ok(()) };
        let (old_len, value_len) = (op.value_len as usize, value.len() as u32);
        if value.len() <= old_len {
            self.arena[op.value_at as usize..][..value.len()].copy_from_slice(value);
            self.ops[number as usize] = RawOp { kind, value_len, ..op };
            self.dead += old_len - value.len();
        } else {
            if !self.fits(value.len(), old_len) {
                return Err(Refused::BlockTooLarge);
            }
            self.ops[number as usize] = RawOp { kind, value_len: 0, ..op };
            self.dead += old_len;
            self.make_room(value.len());
            let value_at = self.append(value);
            let op = &mut self.ops[number as usize];
            (op.value_at, op.value_len) = (value_at, value_len);
        }
        Ok(())
    }

    /// Whether `more` bytes fit once `fewer` of those in use are given up.
    fn fits(&self, more: usize, fewer: usize) -> bool {
        (self.arena.len() - self.dead - fewer).saturating_add(more) <= self.limit as usize
    }

    /// Makes room for `more` bytes, which [fit](Self::fits): bytes that no operation uses go when they
    /// are in the way, or most of all.
    fn make_room(&mut self, more: usize) {
        let in_the_way = self.arena.len().saturating_add(more) > self.limit as usize;
        let most = self.dead > MAX_DEAD.max(self.arena.len() / 2);
        if !in_the_way && !most {
            return;
        }
        let mut arena = Vec::with_capacity(self.arena.len() - self.dead + more);
        let mut moved = |at: u32, len: usize| {
            let to = arena.len() as u32; // no further on than before
            arena.extend_from_slice(&self.arena[at as usize..][..len]);
            to
        };
        for op in &mut self.ops {
            op.key_at = moved(op.key_at, usize::from(op.key_len));
            op.value_at = moved(op.value_at, op.value_len as usize);
        }
        (self.arena, self.dead) = (arena, 0);
    }

    /// Appends bytes for which there is room.
    fn append(&mut self, bytes: &[u8]) -> u32 {
        let at = self.arena.len() as u32; // within the limit
        self.arena.extend_from_slice(bytes);
        at
    }

    /// The bytes of all keys and values.
    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// The operations in the order given.
    pub fn ops(&self) -> &[RawOp] {
        &self.ops
    }

    /// Number of the change set that operations are appended to.
    pub fn current_change_set(&self) -> u32 {
        self.change_sets.saturating_sub(1)
    }

    /// Loads the lines of operations, and of their keys and values, which lie anywhere: see `hedgerow_index::batch` for
    /// why.
    pub(crate) fn touch(&self, numbers: impl Iterator<Item = u32> + Clone) {
        let mut seen = 0;
        for number in numbers.clone() {
            seen ^= self.ops.get(number as usize).map_or(0, |op| op.key_at);
        }
        black_box(seen);
        for number in numbers {
            let Some(op) = self.ops.get(number as usize) else { continue };
            let byte = |at: u32| self.arena.get(at as usize).copied().map_or(0, u32::from);
            // Most lie within two lines, next to each other.
            let end = op.value_at.saturating_add(op.value_len).saturating_sub(1);
            seen ^= byte(op.key_at) ^ byte(end);
        }
        black_box(seen);
    }

    /// The key of one of the operations.
    pub fn key(&self, op: &RawOp) -> &[u8] {
        &self.arena[op.key_at as usize..][..op.key_len as usize]
    }

    /// The key and the value of one of the operations, one behind the other, if they lie so: most do.
    pub(crate) fn key_and_value(&self, op: &RawOp) -> Option<&[u8]> {
        let len = usize::from(op.key_len) + op.value_len as usize;
        let behind = op.value_at == op.key_at + u32::from(op.key_len);
        behind.then(|| &self.arena[op.key_at as usize..][..len])
    }

    /// The value of one of the operations; empty if its kind has none.
    pub fn value(&self, op: &RawOp) -> &[u8] {
        &self.arena[op.value_at as usize..][..op.value_len as usize]
    }
}

impl RawOp {
    /// Where the key lies in the arena: the span that its hash covers.
    pub fn key_span(&self) -> hedgerow_hasher_api::Span {
        hedgerow_hasher_api::Span { offset: self.key_at, len: u32::from(self.key_len) }
    }
}

/// A key is 1 to 255 bytes.
pub fn check_key(key: &[u8]) -> Result<(), Refused> {
    if key.is_empty() || key.len() > MAX_KEY_LEN {
        return Err(Refused::KeyLength(key.len()));
    }
    Ok(())
}

/// A value is at most `max_value_bytes` long, and does not make its entry look like a sentry.
pub fn check_value(key: &[u8], value: &[u8], max_value_bytes: usize) -> Result<(), Refused> {
    if value.len() > max_value_bytes {
        return Err(Refused::ValueLength { len: value.len(), max: max_value_bytes });
    }
    if value.is_empty() && hedgerow_types::entry::is_sentry_key(key) {
        return Err(Refused::SentryShape);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(limit: u32) -> BlockOps {
        let mut ops = BlockOps { limit, ..BlockOps::default() };
        ops.begin_change_set().unwrap();
        ops
    }

    /// C13: what is refused for its length leaves the block as it was, so that what fits still does.
    #[test]
    fn what_is_too_long_takes_no_room() {
        let mut ops = limited(1_000);
        let first = ops.push(Kind::Put, b"first", &[1; 500]).unwrap();
        for _ in 0..3 {
            assert!(matches!(ops.push(Kind::Put, b"k", &[2; 495]), Err(Refused::BlockTooLarge)));
            assert!(matches!(
                ops.replace(first, Kind::Put, &[3; 996]),
                Err(Refused::BlockTooLarge)
            ));
        }
        let second = ops.push(Kind::Put, b"k", &[4; 494]).unwrap();
        assert_eq!(ops.arena().len(), 1_000);
        assert_eq!((ops.value(&ops.ops()[0]), ops.ops().len()), (&[1; 500][..], 2));
        // A shorter value leaves room for another operation.
        ops.replace(second, Kind::Remove, &[]).unwrap();
        ops.push(Kind::Put, b"third", &[5; 480]).unwrap();
        let all: Vec<_> = ops.ops().iter().map(|op| (ops.key(op), ops.value(op))).collect();
        let expected =
            [(&b"first"[..], &[1; 500][..]), (&b"k"[..], &[][..]), (&b"third"[..], &[5; 480][..])];
        assert_eq!(all, expected);
    }

    /// C13: the values that a key had before, within one block, take no memory.
    #[test]
    fn a_key_that_is_put_again_and_again_has_one_value() {
        let mut ops = limited(u32::MAX);
        let mut others = Vec::new();
        for number in 0..100_u32 {
            let key = number.to_be_bytes();
            others.push(ops.push(Kind::Put, &key, &[number as u8; 1_000]).unwrap());
        }
        let hot = ops.push(Kind::Put, b"hot", &[]).unwrap();
        let mut most = 0;
        for len in 0..50_000 {
            ops.replace(hot, Kind::Put, &vec![7; len % 40_000]).unwrap();
            most = most.max(ops.arena().len());
        }
        // All that is in use and as much again, and what one value adds before it is noticed.
        assert!(most < 2 * (100 * 1_004 + 40_000) + 64 * 1_024 + 40_000, "{most} bytes");
        for (number, op) in others.iter().enumerate() {
            let op = &ops.ops()[*op as usize];
            assert_eq!(ops.key(op), (number as u32).to_be_bytes());
            assert_eq!(ops.value(op), [number as u8; 1_000]);
        }
        assert_eq!(ops.value(&ops.ops()[hot as usize]), vec![7; 9_999]);
    }
}
