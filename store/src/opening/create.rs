//! Creating a store.
//!
//! Creation writes the genesis log, syncs it, commits the first manifest and takes `CREATING` away
//! last. Whatever is found without that end is an unfinished creation, which only `open_or_create`
//! replaces: it holds nothing that anybody ever wrote.

use crate::commit::pipeline::Unsettled;
use crate::hasher::Hashers;
use crate::history::undo::UndoStore;
use crate::opening::genesis::genesis;
use crate::opening::open::{Parts, pool, start};
use crate::opening::place::{CREATING, LOG, Locks, META, Place, TWIGS};
use crate::opening::rebuild::{ComparedTwigs, IndexPlace, Indexed, Rebuilt};
use crate::options::Options;
use crate::read::published::in_index;
use crate::shared::per_shard;
use crate::store::Store;
use crate::{Error, points};
use hashbrown::HashMap;
use hedgerow_entryfile::{BlockState, EntryLog, Record, StoreId, TwigFile};
use hedgerow_index::{Record as IndexRecord, ShardIndex, Stem};
use hedgerow_metadb::{Commit, HistoryRow, Manifest, MetaDb, ShardManifest, StoreParams};
use hedgerow_state::{TwigStore, run_position, twig_records};
use hedgerow_types::{Height, LogPosition, SHARDS, SerialNumber, ShardId, TwigId};
use std::sync::Arc;

impl Place {
    /// Creates the store, and locks what was made.
    pub(crate) fn create(
        self,
        params: StoreParams,
        options: Options,
        hasher: Hashers,
        lock: Locks,
    ) -> Result<Store, Error> {
        let id = StoreId(rand_id()?);
        self.sync_names()?;
        hedgerow_vfs::write_atomic(&*self.vfs, &self.path(CREATING), &id.0)?;
        self.vfs.at_point(points::CREATE_MARKED)?;
        let made = self.make(params, &options, id)?;
        let place = &made.place;
        place.vfs.remove_file(&place.path(CREATING))?;
        place.vfs.sync_dir(&place.dir)?;
        place.vfs.at_point(points::CREATE_DONE)?;
        made.start(options, hasher, lock)
    }

    /// Makes a store that is durable, in a directory that is marked as holding none.
    pub(crate) fn make(
        self,
        params: StoreParams,
        options: &Options,
        id: StoreId,
    ) -> Result<Made, Error> {
        let genesis = genesis()?;
        // That of the state before the first block.
        let height = Height(params.first_height().0 - 1);

        let log_options = Self::log_options(options);
        let log = EntryLog::create(Arc::clone(&self.vfs), &self.path(LOG), id, log_options)?;
        let counts = [genesis.spans.len() as u32; SHARDS];
        let at = log.next_position();
        let runs = genesis.runs_at(at)?;
        let record = Record::new(at, height, runs, counts, BlockState::default())?;
        let record = Arc::new(record);
        log.announce(Arc::clone(&record))?;
        log.append_many(&[Arc::clone(&record)])?;
        log.sync()?;
        self.vfs.at_point(points::CREATE_LOG_SYNCED)?;

        let twig_options = Self::twig_options(options);
        let file = TwigFile::create(Arc::clone(&self.vfs), &self.path(TWIGS), id, twig_options)?;
        let twigs = TwigStore::new(file);
        let (mut index, mut open, mut writers) = (vec![], vec![], vec![]);
        let mut places = HashMap::new();
        let place = IndexPlace::new(&self.dir, options, id.0, None);
        for shard in ShardId::all() {
            let start = run_position(&record, shard);
            let entries = genesis.index_entries(shard, start);
            index.push(match place.create(shard)? {
                None => Indexed::Memory(ShardIndex::build(entries).map_err(in_index)?),
                Some(tiered) => {
                    let record = |(sn, (prefix, at))| {
                        let stem = Stem::of_prefix(prefix);
                        IndexRecord { stem, at, sn: SerialNumber(sn) }
                    };
                    let records: Vec<_> = (0..).zip(entries).map(record).collect();
                    tiered.load(&records, &[]).map_err(in_index)?;
                    Indexed::Tiered(tiered)
                }
            });
            let (youngest, filled) = genesis.places(record.position(), start);
            open.push(youngest);
            places.extend(filled.into_iter().map(|filled| ((shard, filled.twig), filled)));
            writers.push(genesis.writer(shard, record.position(), start)?);
        }
        let records = twig_records(genesis.finished.clone(), &mut places)?;
        twigs.take(&records);
        twigs.write(&records)?;
        twigs.file.sync()?;
        self.vfs.at_point(points::CREATE_TWIGS_SYNCED)?;

        let forest = genesis.forest.clone();
        let roots = forest.roots();
        let row = HistoryRow {
            root: roots.state,
            shard_roots: roots.shards,
            oldest_active: [SerialNumber(0); SHARDS],
            extra: Vec::new(),
        };
        let manifest = Manifest {
            store_id: id.0,
            params,
            height,
            log_start: LogPosition(0),
            log_end: record.end(),
            state_root: roots.state,
            history_from: height,
            checkpoint: None,
            shards: std::array::from_fn(|shard| ShardManifest {
                next_sn: SerialNumber(genesis.spans.len() as u64),
                oldest_active: SerialNumber(0),
                active: genesis.spans.len() as u64,
                root: roots.shards[shard],
                first_kept: TwigId(0),
                edges: Vec::new(),
            }),
            dead: Vec::new(),
        };
        self.vfs.create_dir_all(&self.path(META))?;
        let meta = self.meta(options, true)?;
        let rows = [(height, row)];
        let commit =
            Commit { manifest: &manifest, rows: &rows, history_from: manifest.history_from };
        meta.commit(&commit)?;
        self.vfs.at_point(points::CREATE_MANIFEST_WRITTEN)?;
        self.vfs.sync_dir(&self.dir)?;
        let behind = Unsettled { manifest, rows: vec![], bytes: 0 };
        let settled = forest.roots().clone();
        let (twigs_made, contradicted) = (vec![], None);
        let rebuilt = Rebuilt {
            sums: vec![],
            compared: ComparedTwigs::default(),
            forest,
            published: None,
            index,
            writers,
            open,
            twigs: twigs_made,
            behind,
            settled,
            contradicted,
        };
        let sentries = per_shard(|shard| run_position(&record, shard));
        let undo = self.undo(options, id, height, record.end())?;
        Ok(Made { place: self, log, twigs, undo, meta, rebuilt, sentries })
    }
}

/// A store that was made and is not open yet.
pub(crate) struct Made {
    pub(crate) place: Place,
    log: EntryLog,
    twigs: TwigStore,
    undo: UndoStore,
    meta: Box<dyn MetaDb>,
    rebuilt: Rebuilt,
    /// Where the sentries of each shard begin in the log.
    pub(crate) sentries: [LogPosition; SHARDS],
}

impl Made {
    /// Opens it.
    pub(crate) fn start(
        self,
        options: Options,
        hasher: Hashers,
        lock: Locks,
    ) -> Result<Store, Error> {
        let Self { place, log, twigs, undo, meta, rebuilt, .. } = self;
        let pool = pool(options.threads, "hedgerow")?;
        let checkpointed = None;
        let parts =
            Parts { checkpointed, place, log, twigs, undo, meta, rebuilt, pool, options, hasher };
        let mut store = start(parts, lock)?;
        store.locks.parts = store.place.hold_parts(&store.shared.options)?;
        Ok(store)
    }
}

/// 16 random bytes: what tells one store's files from another's.
pub(crate) fn rand_id() -> Result<[u8; 16], Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Error::Random(error.to_string()))?;
    Ok(id)
}
