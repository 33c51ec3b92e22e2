//! Stores that have lived for a while: every sentry was moved at least once, old twigs are dead, log
//! was pruned. Made once per rule and process, copied for each session.

use super::beside::Beside;
use hedgerow::{CompactionRule, Error, Height, Store, StoreParams};
use hedgerow_testkit::Model;
use hedgerow_testkit::generate::{BlockGen, GenShape};
use hedgerow_types::{Digest, SENTRIES_PER_SHARD, ShardId};
use hedgerow_vfs::power_loss::PowerLossDisk;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A store at rest, and what it holds.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) disk: PowerLossDisk,
    /// The engine's files, if it keeps them elsewhere.
    pub(crate) beside: Option<Beside>,
    pub(crate) model: Model,
    pub(crate) blocks: BlockGen,
    /// Root of the model's height; older rows were dropped.
    pub(crate) root: Digest,
}

/// Keys of all images.
pub(crate) const KEYS: usize = 600;

/// Engine, and ratio, div and spread of the rule.
type Key = (&'static str, u32, u32, u8);

static MADE: Mutex<BTreeMap<Key, Image>> = Mutex::new(BTreeMap::new());

impl Image {
    /// The image of a rule that always compacts.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) fn of(rule: CompactionRule, beside: Option<&Beside>) -> Result<Self, Error> {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = beside.map_or("", |beside| beside.engine.name());
        let key = (engine, rule.ratio(), rule.div(), rule.spread());
        if let Some(image) = made.get(&key) {
            return Ok(image.clone());
        }
        let beside = beside.map(|beside| beside.sibling(&format!("image-{}", made.len())));
        let image = Self::make(rule, beside)?;
        made.insert(key, image.clone());
        Ok(image)
    }

    fn make(rule: CompactionRule, beside: Option<Beside>) -> Result<Self, Error> {
        let disk = PowerLossDisk::new(1);
        if let Some(beside) = &beside {
            beside.forget()?;
        }
        let options = Beside::options(beside.as_ref(), &disk)
            .threads(1)
            .segment_bytes(150_000)
            .keep_heights(1)
            .keep_history(1);
        let params = StoreParams::default().with_compaction(rule);
        let mut store = Store::create(super::session::dir(), params, options)?;
        let mut model = Model::without_history(rule);
        let shape =
            GenShape { keys: KEYS, keys_per_change_set: 600, change_sets: 4, max_value_len: 300 };
        let mut blocks = BlockGen::new(2, shape);
        let moved = |model: &Model| {
            ShardId::all().all(|shard| model.oldest_active_sn(shard).0 > 2 * SENTRIES_PER_SHARD)
        };
        while !moved(&model) {
            let (height, change_sets) = blocks.net();
            model.apply_net(height, &change_sets);
            super::cycle::submit_net(&mut store, height, &change_sets, b"")?.durable()?;
        }
        let root = store.reader().root_at(Height(model.height()))?;
        store.close()?;
        Ok(Self { disk, beside, model, blocks, root })
    }
}
