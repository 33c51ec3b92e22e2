//! Opening a store: what is believed is read, what is not is written once more, and the state is built
//! from it.

use crate::checkpoint::{self, Checkpoints};
use crate::copies::Copies;
use crate::flow::Flow;
use crate::hasher::BatchHasher;
use crate::limits::{STACK_BYTES, no_thread};
use crate::options::Options;
use crate::place::{LOG, Locks, Place, TWIGS};
use crate::progress::Meter;
use crate::prune::Prunings;
use crate::published::Published;
use crate::rebuild::{Rebuilt, Source, rebuild};
use crate::shared::{Counters, Shared, per_shard};
use crate::store::Store;
use crate::writer::Writer;
use crate::{Error, points};
use hedgerow_entryfile::{EntryLog, StoreId, TwigFile};
use hedgerow_metadb::{MetaDb, StoreParams};
use hedgerow_state::TwigStore;
use hedgerow_state::checkpoint::Checkpoint;
use hedgerow_types::{Height, LogPosition};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl Place {
    pub(crate) fn open(
        self,
        expected: Option<StoreParams>,
        options: Options,
        hasher: Arc<dyn BatchHasher>,
        lock: Locks,
    ) -> Result<Store, Error> {
        self.vfs.at_point(points::OPEN_LOCKED)?;
        self.renew_metadata(&options)?;
        self.vfs.at_point(points::OPEN_METADATA_RENEWED)?;
        let (meta, manifest) = self.manifest(&options)?;
        if let Some(expected) = expected.filter(|expected| *expected != manifest.params) {
            let found = &manifest.params;
            return Err(Error::Params(format!("asked for {expected:?}, it has {found:?}")));
        }
        self.vfs.at_point(points::OPEN_MANIFEST_READ)?;
        let id = StoreId(manifest.store_id);
        let (vfs, dir) = (|| Arc::clone(&self.vfs), self.path(LOG));
        let (start_at, end) = (manifest.log_start, manifest.log_end);
        let journal = EntryLog::find_journal(vfs(), &dir, id, start_at, end, manifest.height)?;
        self.vfs.at_point(points::OPEN_JOURNAL_FOUND)?;
        EntryLog::renew_journal(&*self.vfs, &dir, start_at, end, &journal)?;
        self.vfs.at_point(points::OPEN_JOURNAL_RENEWED)?;
        let log_options = Self::log_options(&options);
        let log = EntryLog::open(vfs(), &dir, id, log_options, start_at, journal.end)?;
        self.vfs.at_point(points::OPEN_LOG_CUT)?;
        let twig_options = Self::twig_options(&options);
        let dir = self.path(TWIGS);
        let (file, _) = TwigFile::open(vfs(), &dir, id, twig_options, manifest.log_end)?;
        let twigs = TwigStore::new(file);
        self.vfs.at_point(points::OPEN_TWIG_FILE_CUT)?;
        let pool = pool(&options, "hedgerow")?;
        let meter = Meter::new(options.progress.as_ref());
        let attempt = |twigs, checkpoint: Option<&Checkpoint>| {
            let (log, manifest, hasher) = (&log, &manifest, &*hasher);
            let progress = meter.as_deref();
            let source = Source { log, twigs, manifest, journal, hasher, progress, checkpoint };
            pool.install(|| rebuild(&source))
        };
        let checkpoint = checkpoint::find(&*self.vfs, &self.dir, &manifest);
        let checkpoint = checkpoint.map(|checkpoint| match meter.clone() {
            Some(meter) => checkpoint.on_read(move |bytes| meter.checkpoint(bytes)),
            None => checkpoint,
        });
        // What is derived from the log is believed first, and left out where it contradicts the log: a
        // checkpoint or a twig record may be whole and yet wrong. What counts is whether the log, without
        // them, leads to the manifest's roots.
        let with = [(Some(&twigs), checkpoint.as_ref()), (Some(&twigs), None), (None, None)];
        let mut with = with.iter().skip(usize::from(checkpoint.is_none()));
        let (mut rebuilt, checkpointed) = loop {
            let &(twigs, checkpoint) = with.next().unwrap_or(&(None, None));
            match attempt(twigs, checkpoint) {
                Err(error) if error.is_contradiction() && with.len() > 0 => {
                    let without = if checkpoint.is_some() { "checkpoint" } else { "twig file" };
                    tracing::warn!(%error, "opening once more, without the {without}: that takes longer");
                }
                other => break (other?, checkpoint.map(|checkpoint| checkpoint.head().log_end)),
            }
        };
        rebuilt.twigs = twigs.different(rebuilt.twigs)?;
        self.vfs.at_point(points::OPEN_REBUILT)?;
        twigs.write(&rebuilt.twigs)?;
        self.vfs.at_point(points::OPEN_TWIGS_WRITTEN)?;
        let store = start(Parts {
            place: self,
            log,
            twigs,
            meta,
            rebuilt,
            checkpointed,
            pool,
            options,
            hasher,
            lock,
        })?;
        store.place.vfs.at_point(points::OPEN_DONE)?;
        Ok(store)
    }
}

/// Everything that an open store is put together from.
pub(crate) struct Parts {
    pub(crate) place: Place,
    pub(crate) log: EntryLog,
    pub(crate) twigs: TwigStore,
    pub(crate) meta: Box<dyn MetaDb>,
    pub(crate) rebuilt: Rebuilt,
    /// Where the log of the checkpoint ended that it was made from, if it was.
    pub(crate) checkpointed: Option<LogPosition>,
    pub(crate) pool: rayon::ThreadPool,
    pub(crate) options: Options,
    pub(crate) hasher: Arc<dyn BatchHasher>,
    pub(crate) lock: Locks,
}

pub(crate) fn start(parts: Parts) -> Result<Store, Error> {
    let Parts { place, log, twigs, meta, rebuilt, checkpointed, pool, options, hasher, lock } =
        parts;
    let behind = rebuilt.behind;
    let (height, manifest) = (behind.manifest.height, &behind.manifest);
    // The manifest on disk is older by the rows that are to follow it.
    let settled = Height(height.0 - behind.rows.len() as u64);
    let checkpoints = Checkpoints::new(&place.dir, &options, manifest, checkpointed);
    let log_bytes = checkpoints.figures().2;
    let shared = Arc::new(Shared {
        log,
        twigs,
        meta: RwLock::new(Some(meta)),
        published: Published::new(height, manifest.log_end, rebuilt.index, &rebuilt.forest),
        flow: Arc::new(Flow::new(height, settled)),
        recent: Mutex::new(behind.rows.iter().cloned().collect()),
        hasher,
        pool,
        hash_pool: self::pool(&options, "hedgerow-hash")?,
        options,
        first_kept: Mutex::new(per_shard(|shard| manifest.shards[shard.index()].first_kept)),
        prune_hold: Mutex::new(None),
        abandoned: AtomicBool::new(false),
        counters: Counters::default(),
        checkpoints,
        copies: Copies::default(),
        prunings: Prunings::default(),
    });
    let params = manifest.params;
    let pipeline = crate::pipeline::start(&shared, rebuilt.forest, rebuilt.open, behind)?;
    let rule = params.compaction();
    let writers = rebuilt.writers;
    let writer = Writer::new(Arc::clone(&shared), pipeline, rule, height, writers, log_bytes);
    Ok(Store { writer, shared, params, place, locks: lock })
}

pub(crate) fn pool(options: &Options, name: &'static str) -> Result<rayon::ThreadPool, Error> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .thread_name(move |number| format!("{name}-{number}"))
        .stack_size(STACK_BYTES)
        .build()
        .map_err(|error| no_thread(name, error))
}
