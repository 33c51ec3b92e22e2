//! Opening a store: what is believed is read, what is not is written once more, and the state is built
//! from it.

use crate::commit::checkpoint::{self, Checkpoints};
use crate::commit::copies::Copies;
use crate::commit::flow::Flow;
use crate::commit::pipeline::Unsettled;
use crate::commit::prune::Prunings;
use crate::commit::tiers::Tiers;
use crate::commit::writer::Writer;
use crate::hasher::Hashers;
use crate::history::pins::Pins;
use crate::history::undo::UndoStore;
use crate::opening::limits::{STACK_BYTES, no_thread};
use crate::opening::missing_undo::MissingUndo;
use crate::opening::place::{LOG, Locks, Place, TWIGS};
use crate::opening::progress::Meter;
use crate::opening::rebuild::{INDEX, IndexPlace, Indexed, Rebuilt, Source, rebuild};
use crate::options::Options;
use crate::read::given_up::{MARK, Mark, Part};
use crate::read::published::Published;
use crate::shared::{Counters, Shared, per_shard};
use crate::speculate::Speculation;
use crate::steps::{Emitter, StepTimes};
use crate::store::Store;
use crate::{Error, points};
use hedgerow_entryfile::{EntryLog, Journal, LiveLog, StoreId, TwigFile};
use hedgerow_merkle::Forest;
use hedgerow_metadb::{Manifest, MetaDb, StoreParams};
use hedgerow_state::checkpoint::Checkpoint;
use hedgerow_state::{OpenTwig, ShardWriter, TwigStore};
use hedgerow_types::{Height, LogPosition, ShardId};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl Place {
    pub(crate) fn open(
        self,
        expected: Option<StoreParams>,
        options: Options,
        hasher: Hashers,
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
        log.set_dead(&manifest.dead);
        self.vfs.at_point(points::OPEN_LOG_CUT)?;
        let twig_options = Self::twig_options(&options);
        let dir = self.path(TWIGS);
        let (file, _) = TwigFile::open(vfs(), &dir, id, twig_options, live(&manifest))?;
        let twigs = TwigStore::new(file);
        self.vfs.at_point(points::OPEN_TWIG_FILE_CUT)?;
        let pool = pool(options.threads, "hedgerow")?;
        let undo = self.undo(&options, id, manifest.height, end_of_last(&manifest))?;
        let mut files = Files { log, twigs, undo, meta, manifest, journal };
        let meter = Meter::new(options.progress.as_ref());
        let (mut rebuilt, checkpointed) =
            files.come_to(&self, &options, &hasher, &pool, meter.as_ref())?;
        rebuilt.twigs = files.twigs.different(rebuilt.twigs)?;
        self.vfs.at_point(points::OPEN_REBUILT)?;
        files.twigs.write(&rebuilt.twigs)?;
        self.vfs.at_point(points::OPEN_TWIGS_WRITTEN)?;
        let missing = MissingUndo {
            place: &self,
            files: &mut files,
            rebuilt: &rebuilt,
            hasher: &hasher,
            meter: meter.as_deref(),
        };
        pool.install(|| missing.make(&options))?;
        self.vfs.at_point(points::OPEN_UNDO_MADE)?;
        let Files { log, twigs, undo, meta, .. } = files;
        let place = self;
        let parts =
            Parts { place, log, twigs, undo, meta, rebuilt, checkpointed, pool, options, hasher };
        let store = start(parts, lock)?;
        store.place.vfs.at_point(points::OPEN_DONE)?;
        Ok(store)
    }
}

/// What of the log the twigs can be of that a manifest knows.
pub(crate) fn live(manifest: &Manifest) -> LiveLog<'_> {
    LiveLog { start: manifest.log_start, end: manifest.log_end, dead: &manifest.dead }
}

/// Where the record of the height of a manifest ends: the log may end with what was taken back after it.
pub(crate) fn end_of_last(manifest: &Manifest) -> LogPosition {
    let dead = manifest.dead.last().filter(|span| span.end == manifest.log_end);
    dead.map_or(manifest.log_end, |span| span.start)
}

/// The files of a store, open, and what of them counts.
pub(crate) struct Files {
    pub(crate) log: EntryLog,
    pub(crate) twigs: TwigStore,
    pub(crate) undo: UndoStore,
    pub(crate) meta: Box<dyn MetaDb>,
    pub(crate) manifest: Manifest,
    pub(crate) journal: Journal,
}

impl Files {
    /// The state that they lead to, and where the log of the checkpoint ended that it was made from, if it
    /// was.
    pub(crate) fn come_to(
        &self,
        place: &Place,
        options: &Options,
        hasher: &Hashers,
        pool: &rayon::ThreadPool,
        meter: Option<&Arc<Meter>>,
    ) -> Result<(Rebuilt, Option<LogPosition>), Error> {
        let Self { log, twigs, undo, manifest, journal, .. } = self;
        let undo = Some(undo);
        let attempt = |twigs, checkpoint: Option<&Checkpoint>| {
            let (journal, progress) = (*journal, meter.map(|meter| &**meter));
            let index = &IndexPlace::new(&place.dir, options, manifest.store_id, checkpoint);
            let compared = None;
            let source = Source {
                log,
                twigs,
                manifest,
                journal,
                hasher,
                progress,
                checkpoint,
                index,
                undo,
                compared,
            };
            pool.install(|| rebuild(&source))
        };
        let given_up = Part::Index.is_given_up(&*place.vfs, &place.dir)?;
        if given_up {
            tracing::warn!("the index is damaged and made anew: opening reads the log");
        }
        let checkpoint = checkpoint::find(&*place.vfs, &place.dir, manifest);
        let checkpoint = checkpoint.filter(|it| !(given_up && it.head().tiered));
        let checkpoint = checkpoint.filter(|checkpoint| {
            let index = IndexPlace::new(&place.dir, options, manifest.store_id, Some(checkpoint));
            if !index.suits(checkpoint) {
                tracing::info!("the index was elsewhere before: opening reads the log");
            }
            index.suits(checkpoint)
        });
        let checkpoint = checkpoint.map(|checkpoint| match meter.cloned() {
            Some(meter) => checkpoint.on_read(move |bytes| meter.checkpoint(bytes)),
            None => checkpoint,
        });
        // What is derived from the log is believed first, and left out where it contradicts the log: a
        // checkpoint or a twig record may be whole and yet wrong. What counts is whether the log, without
        // them, leads to the manifest's roots.
        let with = [(Some(twigs), checkpoint.as_ref()), (Some(twigs), None), (None, None)];
        let mut with = with.iter().skip(usize::from(checkpoint.is_none()));
        loop {
            let &(twigs, checkpoint) = with.next().unwrap_or(&(None, None));
            match attempt(twigs, checkpoint) {
                Err(error) if error.is_contradiction() && with.len() > 0 => {
                    let without = if checkpoint.is_some() { "checkpoint" } else { "twig file" };
                    tracing::warn!(%error, "opening once more, without the {without}: that takes longer");
                }
                other => {
                    return Ok((other?, checkpoint.map(|checkpoint| checkpoint.head().log_end)));
                }
            }
        }
    }
}

/// Everything that an open store is put together from.
pub(crate) struct Parts {
    pub(crate) place: Place,
    pub(crate) log: EntryLog,
    pub(crate) twigs: TwigStore,
    pub(crate) undo: UndoStore,
    pub(crate) meta: Box<dyn MetaDb>,
    pub(crate) rebuilt: Rebuilt,
    /// Where the log of the checkpoint ended that it was made from, if it was.
    pub(crate) checkpointed: Option<LogPosition>,
    pub(crate) pool: rayon::ThreadPool,
    pub(crate) options: Options,
    pub(crate) hasher: Hashers,
}

/// What readers share, and what a writer needs beside.
pub(crate) struct Begun {
    pub(crate) place: Place,
    pub(crate) shared: Arc<Shared>,
    pub(crate) params: StoreParams,
    forest: Forest,
    open: Vec<OpenTwig>,
    writers: Vec<ShardWriter>,
    behind: Unsettled,
    log_bytes: u64,
}

/// Puts together what readers need.
pub(crate) fn begin(parts: Parts) -> Result<Begun, Error> {
    let Parts { place, log, twigs, undo, meta, rebuilt, checkpointed, pool, options, hasher } =
        parts;
    let behind = rebuilt.behind;
    let (height, manifest) = (behind.manifest.height, &behind.manifest);
    // The manifest on disk is older by the rows that are to follow it.
    let settled = Height(height.0 - behind.rows.len() as u64);
    let checkpoints = Checkpoints::new(&place.dir, &options, manifest, checkpointed);
    let log_bytes = checkpoints.figures().2;
    // Who only reads hashes nothing.
    let threads = if options.read_only { 1 } else { options.threads };
    let tiers: Option<Vec<_>> = rebuilt.index.iter().map(Indexed::tiered).collect();
    if !options.read_only {
        if tiers.is_none() {
            remove_index(&place)?;
        }
        // What it was about is gone.
        Part::Index.forget(&*place.vfs, &place.dir)?;
    }
    let mark = Mark::new(Part::Index, &place.dir, &options);
    let tiers = tiers.map(|index| {
        let budget = index.iter().map(|it| it.stats().memory.budget as u64).sum();
        Tiers::new(index, budget, &options, mark.clone())
    });
    let first_kept = per_shard(|shard| manifest.shards[shard.index()].first_kept);
    for (shard, open) in ShardId::all().zip(&rebuilt.open) {
        twigs.set_open(shard, rebuilt.forest.next_sn(shard), open.clone());
    }
    let steps = StepTimes::new(Emitter::new(&place.dir));
    let shared = Arc::new(Shared {
        log,
        twigs,
        meta: RwLock::new(Some(meta)),
        published: Published::new(
            height,
            manifest.log_end,
            rebuilt.index,
            mark.as_ref(),
            &rebuilt.forest,
            rebuilt.published,
        ),
        flow: Arc::new(Flow::new(height, settled)),
        recent: Mutex::new(behind.rows.iter().cloned().collect()),
        hasher,
        pool,
        hash_pool: self::pool(threads, "hedgerow-hash")?,
        options,
        first_kept: Mutex::new(first_kept),
        prune_hold: Mutex::new(None),
        abandoned: AtomicBool::new(false),
        counters: Counters::default(),
        steps,
        checkpoints,
        copies: Copies::default(),
        prunings: Prunings::default(),
        undo,
        pins: Pins::new(first_kept),
        speculation: Speculation::default(),
        tiers,
    });
    if !shared.options.read_only {
        shared.undo.let_go(height, &shared.pins);
    }
    let params = manifest.params;
    let Rebuilt { forest, open, writers, .. } = rebuilt;
    Ok(Begun { place, shared, params, forest, open, writers, behind, log_bytes })
}

/// Starts the stages behind what readers need.
pub(crate) fn start(parts: Parts, locks: Locks) -> Result<Store, Error> {
    let Begun { place, shared, params, forest, open, writers, behind, log_bytes } = begin(parts)?;
    let height = behind.manifest.height;
    if let Some(tiers) = &shared.tiers
        && !shared.options.read_only
    {
        tiers.start()?;
    }
    let pipeline = crate::commit::pipeline::start(&shared, forest, open, behind)?;
    let rule = params.compaction();
    let writer = Writer::new(Arc::clone(&shared), pipeline, rule, height, writers, log_bytes);
    Ok(Store { writer, shared, params, place, spare: None, unwanted: false, locks })
}

pub(crate) fn pool(threads: usize, name: &'static str) -> Result<rayon::ThreadPool, Error> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |number| format!("{name}-{number}"))
        .stack_size(STACK_BYTES)
        .build()
        .map_err(|error| no_thread(name, error))
}

/// Removes the files of an index that is in memory now. The directory stays: it is locked.
fn remove_index(place: &Place) -> Result<(), Error> {
    let dir = place.path(INDEX);
    if place.vfs.exists(&dir)? {
        for name in place.vfs.read_dir(&dir)?.iter().filter(|name| *name != MARK) {
            place.vfs.remove_file(&dir.join(name))?;
        }
    }
    Ok(())
}
