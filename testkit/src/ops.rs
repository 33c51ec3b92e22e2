//! Blocks as the recorded engines take them: tasks of change sets of strict ops (spec 6.1).

/// What an op does. Ordered as the op codes are: within a change set, the ops of one key run in
/// this order (spec 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// Reads a key: no effect on the state (op code 1).
    Read,
    /// Replaces the value of a present key (op code 2).
    Update,
    /// Adds an absent key (op code 3).
    Create,
    /// Removes a present key (op code 4).
    Delete,
}

/// One strict op on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub kind: OpKind,
    /// The key, 1 to 255 bytes.
    pub key: Vec<u8>,
    /// The value; empty for deletes and reads.
    pub value: Vec<u8>,
}

impl Op {
    /// A read of `key`.
    pub fn read(key: impl Into<Vec<u8>>) -> Self {
        Self { kind: OpKind::Read, key: key.into(), value: Vec::new() }
    }

    /// An update of `key` to `value`.
    pub fn update(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { kind: OpKind::Update, key: key.into(), value: value.into() }
    }

    /// A create of `key` with `value`.
    pub fn create(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { kind: OpKind::Create, key: key.into(), value: value.into() }
    }

    /// A delete of `key`.
    pub fn delete(key: impl Into<Vec<u8>>) -> Self {
        Self { kind: OpKind::Delete, key: key.into(), value: Vec::new() }
    }
}

/// One block of strict ops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedBlock {
    /// Its height, from 1.
    pub height: u64,
    /// Tasks, each a list of change sets, each a list of ops in the order they were given in
    /// (whoever applies a change set sorts it, spec 6.1).
    pub tasks: Vec<Vec<Vec<Op>>>,
}

impl RecordedBlock {
    /// The change sets of all tasks in order: number `n` of them has version
    /// `height << 24 | n` (spec 6.2).
    pub fn change_sets(&self) -> impl Iterator<Item = &Vec<Op>> {
        self.tasks.iter().flatten()
    }

    /// Ops in all change sets.
    pub fn op_count(&self) -> usize {
        self.change_sets().map(Vec::len).sum()
    }
}
