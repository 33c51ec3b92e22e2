//! However a run reaches a shard, the shard comes to the same state, and back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use hedgerow_entryfile::{
    BlockState, EntryLog, LogOptions, Record, RunCursor, StoreId, TwigFile, TwigFileOptions,
    place_run, seal_frame,
};
use hedgerow_hasher_api::{ScalarHasher, hash_message};
use hedgerow_index::{Index, Place, ShardIndex, SharedIndex};
use hedgerow_state::{
    BlockOps, Error, Files, Kind, OpKind, Refused, RunChange, ShardState, ShardView, ShardWriter,
    Spent, Tools, TwigStore, Undo, apply, run_position,
};
use hedgerow_types::entry::encode_sentry;
use hedgerow_types::{
    CompactionRule, Height, KeyHash, LogPosition, SENTRIES_PER_SHARD, SHARDS, SerialNumber, ShardId,
};
use hedgerow_vfs::{MemDisk, Vfs};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// The least that blocks can be applied to: a log in memory, an index, and the writer's states.
struct World {
    log: EntryLog,
    twigs: TwigStore,
    index: Vec<SharedIndex>,
    writers: Vec<ShardWriter>,
    height: Height,
}

impl World {
    fn new() -> Self {
        let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let (dir, id) = (Path::new("/log"), StoreId([7; 16]));
        let log = EntryLog::create(Arc::clone(&disk), dir, id, LogOptions::default()).unwrap();
        let options = TwigFileOptions::default();
        let file = TwigFile::create(disk, Path::new("/twigs"), id, options).unwrap();
        let count = SENTRIES_PER_SHARD as u16;
        let mut offsets = vec![];
        let runs: [Vec<u8>; SHARDS] = std::array::from_fn(|shard| {
            let mut run = vec![];
            offsets.clear();
            for index in 0..count {
                let start = run.len();
                offsets.push(start as u64);
                encode_sentry(ShardId::new(shard).unwrap(), index, &mut run);
                seal_frame(&mut run, start);
            }
            run
        });
        let twigs = TwigStore::new(file);
        let mut world = Self { log, twigs, index: vec![], writers: vec![], height: Height(0) };
        let record = world.announce(runs, [count.into(); SHARDS], BlockState::default());
        for shard in ShardId::all() {
            let start = run_position(&record, shard);
            let keys = offsets.iter().zip(0..count).map(|(at, index)| {
                let prefix = ((shard.index() as u16) << 12) | index;
                (KeyHash::sentry(prefix).prefix_u64(), start.plus(*at))
            });
            world.index.push(ShardIndex::build(keys.collect()).unwrap().into());
            let mut state = ShardState::empty(shard);
            let sentries = RunChange {
                first_sn: SerialNumber(0),
                entries: SENTRIES_PER_SHARD,
                deactivated: &[],
                oldest_active: SerialNumber(0),
                entries_before: 0,
            };
            state.take(&sentries).unwrap();
            let cursor = RunCursor::new(shard, record.position(), start);
            world.writers.push(ShardWriter { state, cursor });
        }
        world
    }

    fn announce(
        &self,
        mut runs: [Vec<u8>; SHARDS],
        entries: [u32; SHARDS],
        state: BlockState,
    ) -> Arc<Record> {
        let (at, lens) = (self.log.next_position(), runs.each_ref().map(Vec::len));
        for (shard, run) in ShardId::all().zip(&mut runs) {
            place_run(run, Record::run_start(at, &lens, shard)).unwrap();
        }
        let runs = runs.map(Bytes::from);
        let record = Arc::new(Record::new(at, self.height, runs, entries, state).unwrap());
        self.log.announce(Arc::clone(&record)).unwrap();
        record
    }

    fn states(&self) -> Vec<ShardState> {
        self.writers.iter().map(|writer| writer.state.clone()).collect()
    }

    fn update(&mut self, ops: &BlockOps, rule: &CompactionRule) -> Result<Vec<Taken>, Error> {
        let views: Vec<_> =
            self.index.iter().map(|index| ShardView { index, layers: &[], links: None }).collect();
        let files = Files::of(&self.log, &self.twigs);
        // Both ways come to the same: what follows compares.
        let tools =
            Tools { hasher: &ScalarHasher, files, rule, alone: self.height.0.is_multiple_of(2) };
        let before = self.states();
        let mut deltas = apply(
            &mut self.writers,
            &views,
            ops,
            self.height.next(),
            tools,
            &mut Spent::default(),
        )?;
        self.height = self.height.next();
        let mut taken = vec![];
        for ((delta, old), writer) in deltas.iter().zip(before).zip(&self.writers) {
            let mut copy = old.clone();
            let undo = copy.take(&delta.change()).unwrap();
            assert_eq!(copy, writer.state, "what the delta says is not what update did");
            taken.push(Taken { old, undo, deactivated: delta.deactivated.clone() });
        }
        let runs = std::array::from_fn(|shard| std::mem::take(&mut deltas[shard].run));
        let entries = std::array::from_fn(|shard| deltas[shard].spans.len() as u32);
        let record = self.announce(runs, entries, BlockState::default());
        for (shard, delta) in ShardId::all().zip(&mut deltas) {
            let start = run_position(&record, shard);
            let place = |entry: u32| Place {
                at: start.plus(delta.spans[entry as usize].offset.into()),
                sn: delta.first_sn.plus(entry.into()),
            };
            let layer = std::mem::take(&mut delta.draft).settle(place, |_, _, _| {});
            self.index[shard.index()].apply(&layer.edits()).unwrap();
        }
        Ok(taken)
    }
}

/// A run that was taken into a shard.
struct Taken {
    old: ShardState,
    undo: Undo,
    deactivated: Vec<SerialNumber>,
}

/// The first keys of the first two shards: where few shards have many, twigs come to an end.
fn keys() -> Vec<[u8; 4]> {
    let all = (0u32..).map(u32::to_be_bytes);
    all.filter(|key| KeyHash(hash_message(key).0).shard().index() < 2).take(KEYS).collect()
}

const KEYS: usize = 300;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Creates, updates, removals, compaction inside a shard and across shards.
    #[test]
    fn a_delta_taken_into_the_old_state_is_what_update_came_to(
        blocks in proptest::collection::vec(
            proptest::collection::vec((0..KEYS, 0u8..8), 0..1500), 1..7),
    ) {
        let keys = keys();
        // The oldest entry moves with every write.
        let rule = CompactionRule::new(1, 1, 1).unwrap().with_spread(3);
        let mut world = World::new();
        let mut past = vec![];
        for (number, block) in blocks.iter().enumerate() {
            let mut ops = BlockOps::default();
            ops.begin_change_set().unwrap();
            for &(key, kind) in block {
                let kind = if kind == 0 { Kind::Remove } else { Kind::Put };
                let value: &[u8] = if kind == Kind::Put { b"value" } else { b"" };
                ops.push(kind, &keys[key], value).unwrap();
            }
            past.push(world.update(&ops, &rule).unwrap());
            // A block of which one shard refuses its part changes none.
            let before = world.states();
            ops.push(Kind::Strict(OpKind::Create), &keys[number], b"").unwrap();
            ops.push(Kind::Strict(OpKind::Create), &keys[number], b"").unwrap();
            let refused = matches!(world.update(&ops, &rule), Err(Error::Refused(Refused::InvalidOp { .. })));
            prop_assert!(refused, "an operation that does not fit was taken");
            prop_assert_eq!(world.states(), before);
        }
        // All the way back, past twigs that were forgotten.
        let mut states = world.states();
        for taken in past.into_iter().rev() {
            for (state, Taken { old, undo, deactivated }) in states.iter_mut().zip(taken) {
                state.undo(undo, &deactivated);
                prop_assert_eq!(&*state, &old);
            }
        }
        prop_assert_eq!(states, World::new().states());
    }
}

/// The same with so much that twigs are sure to be forgotten, and the writer itself goes back.
#[test]
fn a_writer_takes_a_block_back_that_made_it_forget_twigs() {
    let rule = CompactionRule::new(1, 1, 1).unwrap();
    let (mut world, mut forgot) = (World::new(), 0);
    for _ in 0..20 {
        let mut ops = BlockOps::default();
        ops.begin_change_set().unwrap();
        for key in keys() {
            ops.push(Kind::Put, &key, b"value").unwrap();
        }
        let old = world.states();
        world.update(&ops, &rule).unwrap();
        forgot += usize::from(
            old[0].oldest_active().twig() < world.writers[0].state.oldest_active().twig(),
        );
    }
    assert!(forgot > 0, "no twig was forgotten");
    // One more, which is not announced.
    let mut ops = BlockOps::default();
    ops.begin_change_set().unwrap();
    for key in keys() {
        ops.push(Kind::Remove, &key, b"").unwrap();
    }
    let views: Vec<_> =
        world.index.iter().map(|index| ShardView { index, layers: &[], links: None }).collect();
    let files = Files::of(&world.log, &world.twigs);
    let tools = Tools { hasher: &ScalarHasher, files, rule: &rule, alone: false };
    let before: Vec<_> = world.writers.iter().map(|writer| writer.state.clone()).collect();
    let cursors: Vec<LogPosition> =
        world.writers.iter().map(|writer| writer.cursor.position()).collect();
    let deltas =
        apply(&mut world.writers, &views, &ops, Height(21), tools, &mut Spent::default()).unwrap();
    assert_ne!(before[0], world.writers[0].state);
    for (writer, delta) in world.writers.iter_mut().zip(deltas) {
        writer.take_back(delta);
    }
    assert_eq!(world.states(), before);
    assert!(world.writers.iter().map(|writer| writer.cursor.position()).eq(cursors));
}
