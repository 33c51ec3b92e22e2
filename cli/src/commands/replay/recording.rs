//! Reading recordings: the operations of each block, and the state after it.
//!
//! ```text
//!   operations  {"h":1,"tasks":[task, ...]}    task = [change set, ...], change set = [op, ...]
//!               op = ["c", key, value] | ["u", key, value] | ["d", key]     keys and values: hex
//!   states      {"h":0,"clean_roots":[..],"next_sn":[..],"oldest_active_sn":[..], ...}
//! ```

use super::compare::Row;
use crate::error::CliError;
use crate::input::{JsonLines, LineArgs};
use crate::recipe::{Blocks, Recipe};
use hedgerow::{Op, OpKind, Task};
use hedgerow_types::hex;
use serde::{Deserialize, Deserializer};
use std::path::Path;

/// A block to replay.
pub(super) struct RecordedBlock {
    pub(super) height: u64,
    pub(super) tasks: Vec<Task>,
}

impl RecordedBlock {
    /// Number of operations.
    pub(super) fn operations(&self) -> u64 {
        self.tasks.iter().flatten().map(|change_set| change_set.len() as u64).sum()
    }
}

/// Where the blocks come from.
pub(super) enum Workload {
    File(JsonLines),
    Recipe(Recipe, Blocks),
}

impl Workload {
    /// A file, or else a recipe; the arguments guarantee that one is given.
    pub(super) fn open(
        ops: Option<&Path>,
        recipe: Option<Recipe>,
        seed: u64,
        limit: LineArgs,
    ) -> Result<Self, CliError> {
        match (ops, recipe) {
            (Some(path), _) => Ok(Self::File(JsonLines::open(path, limit)?)),
            (None, recipe) => {
                let recipe = recipe.unwrap_or(Recipe::Big);
                Ok(Self::Recipe(recipe, Blocks::new(recipe, seed)))
            }
        }
    }

    /// Number of blocks, if it is known in advance.
    pub(super) fn blocks(&self) -> Option<u64> {
        match self {
            Self::File(_) => None,
            Self::Recipe(recipe, _) => Some(recipe.blocks()),
        }
    }

    /// The next block, or `None` at the end.
    pub(super) fn next_block(&mut self) -> Result<Option<RecordedBlock>, CliError> {
        let lines = match self {
            Self::Recipe(_, blocks) => {
                return Ok(blocks.next().map(|(height, tasks)| RecordedBlock { height, tasks }));
            }
            Self::File(lines) => lines,
        };
        let Some(block) = lines.object::<FileBlock>()? else { return Ok(None) };
        let tasks = block.tasks.into_iter().map(|task| {
            task.into_iter().map(|set| set.into_iter().map(|FileOp(op)| op).collect()).collect()
        });
        Ok(Some(RecordedBlock { height: block.h, tasks: tasks.collect() }))
    }
}

#[derive(Deserialize)]
struct FileBlock {
    h: u64,
    tasks: Vec<Vec<Vec<FileOp>>>,
}

struct FileOp(Op);

impl<'de> Deserialize<'de> for FileOp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let fields = Vec::<String>::deserialize(deserializer)?;
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let (kind, key, value) = match fields[..] {
            ["c", key, value] => (OpKind::Create, key, value),
            ["u", key, value] => (OpKind::Update, key, value),
            ["d", key] => (OpKind::Delete, key, ""),
            _ => {
                let expected = r#"["c", key, value], ["u", key, value] or ["d", key]"#;
                return Err(D::Error::custom(format_args!("an operation must be {expected}")));
            }
        };
        let bytes = |text| hex::decode(text).map_err(D::Error::custom);
        Ok(Self(Op { kind, key: bytes(key)?, value: bytes(value)? }))
    }
}

/// The recorded states, in order.
pub(super) struct Expected(JsonLines);

impl Expected {
    pub(super) fn open(path: &Path, limit: LineArgs) -> Result<Self, CliError> {
        Ok(Self(JsonLines::open(path, limit)?))
    }

    /// The next state, which must be that of `height`.
    pub(super) fn row(&mut self, height: u64) -> Result<Row, CliError> {
        match self.0.object::<Row>()? {
            Some(row) if row.h == height => Ok(row),
            Some(row) => {
                Err(self.0.bad(format!("state of height {}, expected that of {height}", row.h)))
            }
            None => Err(self.0.incomplete(format!("ends before the state of height {height}"))),
        }
    }

    /// There is no state beyond the last block's.
    pub(super) fn finish(mut self, last: u64) -> Result<(), CliError> {
        match self.0.object::<Row>()? {
            None => Ok(()),
            Some(row) => Err(self
                .0
                .bad(format!("state of height {}, but the workload ends at height {last}", row.h))),
        }
    }
}
