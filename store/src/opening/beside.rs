//! Looking at a store while another process writes to it.
//!
//! ```text
//!   the writer        log ──── record ─ record ─ record ──►     manifest, commit after commit
//!                      │                    says: h is durable       │
//!   no lock, no write  ▼ opened, held                                ▼ copied
//!   StillDisk    segments, twig file, checkpoint              meta.redb in memory
//!        └───────────────┬──────────────────────────────────────────┘
//!   ReadOnlyDisk         ▼   what opening repairs stays in memory
//!                  opening as ever: checkpoint, log, and of the journal what is known to be durable
//! ```
//!
//! What the files say while they are being written:
//!
//! * **The manifest** is copied (`hedgerow_metadb::copy`). The engine verifies every page of the copy: one
//!   that is torn is noticed, and made again.
//! * **What the manifest names** was synced before it was committed, does not change, and is not deleted
//!   before a later manifest is. Files are opened before the manifest is copied, and once more after it: so
//!   what it names is there, or came after. Once open, a file stays.
//! * **The journal** behind it may hold records that no sync has reached, and one that is half written. A
//!   record says which height was durable when it was made: up to there they count, the rest is left out.
//! * **A rollback** may come between: then the newest height is lower than the one that was shown, and the manifest
//!   says which part of the log is dead.
//! * **A writer that opens the store** cuts what was never durable, and writes the rest once more, the same.
//!
//! So what is seen is a state that survives a loss of power, and it is verified as at any opening: its roots
//! are those of the manifest. What fails is tried again, as long as what is there goes on changing. If it
//! fails twice over the same manifest, it is not the writer's doing.

use crate::commit::checkpoint::CHECKPOINTS;
use crate::hasher::Hashers;
use crate::opening::limits;
use crate::opening::open::{Begun, Files, Parts, begin, end_of_last, live, pool};
use crate::opening::place::{LOG, META, Place, TWIGS, UNDO};
use crate::opening::progress::Meter;
use crate::opening::rebuild::INDEX;
use crate::options::Options;
use crate::read::reader::Reader;
use crate::read::view::View;
use crate::shared::Shared;
use crate::store::{OPENING, Store};
use crate::{Error, Stats};
use hedgerow_entryfile::{EntryLog, LogError, StoreId, TwigFile};
use hedgerow_metadb::{MetaError, StoreParams};
use hedgerow_state::TwigStore;
use hedgerow_types::{Height, LogPosition};
use hedgerow_vfs::{ReadOnlyDisk, StillDisk, Vfs, VfsErrorKind};
use std::path::Path;
use std::sync::Arc;

/// How often a store that goes on changing is looked at before it counts as too fast.
const ATTEMPTS: u32 = 32;

/// A store that is only looked at, whoever has it open for writing meanwhile: another process, or this one.
///
/// It shows the last height of which the files say that it is durable, and stays there until
/// [`ReadOnlyStore::refresh`]. Nothing is written and nothing is locked, so the writer does not notice; the
/// right to read the directory is enough, and so is a read-only medium. There is no way to write through it:
/// it has no blocks.
///
/// While it shows a height, it holds the files open that this height needs. On Unix what the writer prunes
/// meanwhile stays readable so; a quarter of the files that the process may have open are used for that, and
/// what of a large store goes beyond is an [`Error::Pruned`] once it is gone. The room of pruned files is free
/// when they are let go of, with the next refresh.
///
/// What is durable is taken from the files: from the manifest, and from the records behind it, each of which
/// says what was durable when it was made. So the last blocks before a pause, at most
/// [`Options::max_in_flight`] of them, are seen once another block follows, or the store is closed.
///
/// Only for stores whose metadata engine is redb: see [`Engine::can_be_copied`](crate::Engine::can_be_copied).
///
/// ```
/// use hedgerow::{Options, Store, StoreParams};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("state");
/// let mut store = Store::create(&path, StoreParams::default(), Options::new())?;
/// let mut beside = Store::open_read_only(&path, Options::new())?;
/// assert_eq!(beside.height().0, 0);
///
/// let mut block = store.next_block()?;
/// block.put("alice", "100")?;
/// let receipt = block.commit()?;
/// store.close()?;
///
/// assert_eq!(beside.reader().get("alice")?, None);     // still at height 0
/// assert_eq!(beside.refresh()?, receipt.height);
/// assert_eq!(beside.reader().get("alice")?, Some(b"100".to_vec()));
/// assert_eq!(beside.view().root(), receipt.root);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReadOnlyStore {
    shared: Arc<Shared>,
    params: StoreParams,
    store: StoreId,
    /// As they were given.
    options: Options,
    hasher: Hashers,
    place: Place,
}

impl Store {
    /// Opens an existing store to look at it, beside whoever has it open: see [`ReadOnlyStore`]. Of the options
    /// those count that are about reading.
    ///
    /// # Errors
    /// [`Error::NoStore`], [`Error::Unfinished`], [`Error::UnfinishedCopy`], [`Error::Option`]; [`MetaError::NotBeside`] if the metadata
    /// engine is not redb; [`Error::Unsteady`] if the writer was too fast; or what is wrong with the files.
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: Options,
    ) -> Result<ReadOnlyStore, Error> {
        let path = path.as_ref();
        limits::on_own_stack(OPENING, || {
            limits::check(&options)?;
            let hasher = options.check()?;
            let place = Place::new(path, &options)?;
            match look(&place, &options, &hasher, None)? {
                Some(Looked { shared, params, store }) => {
                    Ok(ReadOnlyStore { shared, params, store, options, hasher, place })
                }
                None => Err(Error::NoStore(place.dir)),
            }
        })
    }
}

impl ReadOnlyStore {
    /// Goes to the newest height that is durable now, and returns it. Readers and views that were made before
    /// stay at theirs.
    ///
    /// If there is a newer height, the store is opened anew from its newest checkpoint, which takes as long as
    /// opening does; if there is none, the manifest and the records behind it are read. After an error it
    /// shows what it showed.
    ///
    /// # Errors
    /// As [`Store::open_read_only`]; [`Error::Corrupt`] if the directory holds another store by now, or an
    /// older copy.
    pub fn refresh(&mut self) -> Result<Height, Error> {
        self.look(false)?;
        Ok(self.height())
    }

    /// As [`refresh`](Self::refresh), and opens the store anew even if no height has come: pruning may have.
    pub(crate) fn open_again(&mut self) -> Result<(), Error> {
        self.look(true)
    }

    fn look(&mut self, anew: bool) -> Result<(), Error> {
        let state = self.shared.published.current();
        let (store, height, log_end) = (self.store, state.height, state.log_end);
        let shown = Shown { store, height, log_end, anew };
        let looked = limits::on_own_stack(OPENING, || {
            limits::check(&self.options)?;
            look(&self.place, &self.options, &self.hasher, Some(&shown))
        })?;
        if let Some(looked) = looked {
            self.shared = looked.shared;
        }
        Ok(())
    }

    /// What is shown now.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Where the store lies, on the disk to which the writer writes.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What the store was created with.
    pub fn params(&self) -> &StoreParams {
        &self.params
    }

    /// The height that is shown.
    pub fn height(&self) -> Height {
        self.shared.published.height()
    }

    /// A reader of the height that is shown now.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The state of the height that is shown now.
    pub fn view(&self) -> View {
        View::new(&self.shared)
    }

    /// Figures of the height that is shown; of what was done, what was done here.
    pub fn stats(&self) -> Stats {
        crate::stats::collect(&self.shared)
    }
}

/// What a store shows already.
struct Shown {
    store: StoreId,
    height: Height,
    log_end: LogPosition,
    /// It is to be opened once more even if nothing has come.
    anew: bool,
}

struct Looked {
    shared: Arc<Shared>,
    params: StoreParams,
    store: StoreId,
}

/// Opens the last durable height of the store in `place`, whoever writes there; `None` if it is `shown`.
fn look(
    place: &Place,
    options: &Options,
    hasher: &Hashers,
    shown: Option<&Shown>,
) -> Result<Option<Looked>, Error> {
    let mut before = None;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let (copied, result) = match Copied::new(place, options) {
            Ok(copied) => (Some(copied.crc), copied.open(hasher, shown)),
            Err(error) => (None, Err(error)),
        };
        let error = match result {
            Err(error) if may_be_the_writers_doing(&error) => error,
            other => return other,
        };
        // Nothing that a manifest needs goes while it is the newest.
        if copied.is_some() && copied == before {
            return Err(error);
        }
        tracing::debug!(%error, "looking once more");
        before = copied;
        last = Some(error);
    }
    let source = Arc::new(last.unwrap_or(Error::Closed));
    Err(Error::Unsteady { dir: place.dir.clone(), attempts: ATTEMPTS, source })
}

/// Whether an error can come of files that change while they are read.
fn may_be_the_writers_doing(error: &Error) -> bool {
    match error {
        Error::Meta(error) => !matches!(
            **error,
            MetaError::NotBeside { .. }
                | MetaError::TooLarge { .. }
                | MetaError::OtherEngine { .. }
        ),
        other => other.is_contradiction() || is_of_a_file_that_is_gone(other),
    }
}

/// Whether an error says that a file is not there, or shorter than it was.
pub(crate) fn is_of_a_file_that_is_gone(error: &Error) -> bool {
    let error = match error {
        Error::Log(LogError::Io { source, .. }) => source,
        Error::Disk(error) => error,
        Error::Meta(error) => match &**error {
            MetaError::Disk(error) => error,
            _ => return false,
        },
        _ => return false,
    };
    matches!(error.kind(), VfsErrorKind::NotFound | VfsErrorKind::Eof)
}

/// A store whose files are held, and whose manifest is copied.
struct Copied {
    place: Place,
    options: Options,
    /// Checksum of the database.
    crc: u32,
}

impl Copied {
    fn new(place: &Place, options: &Options) -> Result<Self, Error> {
        let still = StillDisk::new(Arc::clone(&place.vfs));
        let disk: Arc<dyn Vfs> = Arc::new(ReadOnlyDisk::new(Arc::new(still.clone())));
        let options = Options {
            disk: Arc::clone(&disk),
            copies_to: Some(Arc::clone(&place.vfs)),
            read_only: true,
            beside: true,
            ..options.clone()
        };
        let seen = Place { dir: place.dir.clone(), vfs: disk };
        if seen.has_mark()? {
            return Err(Error::Unfinished(seen.dir));
        }
        seen.check_copied()?;
        if !seen.has_database()? {
            return Err(Error::NoStore(seen.dir));
        }
        let engine = seen.engine(&options)?;
        if engine.can_be_copied() {
            // Before the manifest: what it names is among these, or came after them.
            for name in [LOG, TWIGS, UNDO, CHECKPOINTS, INDEX, META] {
                still.hold_all(&seen.path(name))?;
            }
        }
        let crc = hedgerow_metadb::copy(engine, &*place.vfs, &seen.path(META), &*seen.vfs)?;
        Ok(Self { place: seen, options, crc })
    }

    /// Opens what was copied and held; `None` if it is `shown`.
    fn open(self, hasher: &Hashers, shown: Option<&Shown>) -> Result<Option<Looked>, Error> {
        let Self { place, options, .. } = self;
        let (meta, manifest) = place.manifest(&options)?;
        let store = StoreId(manifest.store_id);
        let (vfs, dir) = (|| Arc::clone(&place.vfs), place.path(LOG));
        let (start, end) = (manifest.log_start, manifest.log_end);
        let journal = EntryLog::find_durable(vfs(), &dir, store, start, end, manifest.height)?;
        if let Some(shown) = shown {
            if shown.store != store {
                let dir = place.dir.display();
                return Err(Error::Corrupt(format!("another store has taken the place of {dir}")));
            }
            if !shown.anew && (shown.height, shown.log_end) == (journal.height, journal.end) {
                return Ok(None);
            }
            // Where a rollback took it back, or that was pruned by now.
            let at = shown.log_end;
            let taken_back =
                at < start || manifest.dead.iter().any(|it| it.start < at && at < it.end);
            if journal.height < shown.height && !taken_back {
                let (now, then) = (journal.height, shown.height);
                let reason = format!("height {then} was durable, and now {now} is the last");
                return Err(Error::Corrupt(reason));
            }
        }
        let log_options = Place::log_options(&options);
        let log = EntryLog::open(vfs(), &dir, store, log_options, start, journal.end)?;
        log.set_dead(&manifest.dead);
        let twig_options = Place::twig_options(&options);
        let dir = place.path(TWIGS);
        let (file, _) = TwigFile::open(vfs(), &dir, store, twig_options, live(&manifest))?;
        let pool = pool(options.threads, "hedgerow")?;
        let undo = place.undo(&options, store, manifest.height, end_of_last(&manifest))?;
        let files = Files { log, twigs: TwigStore::new(file), undo, meta, manifest, journal };
        let meter = Meter::new(options.progress.as_ref());
        let (mut rebuilt, checkpointed) =
            files.come_to(&place, &options, hasher, &pool, meter.as_ref())?;
        rebuilt.twigs = files.twigs.different(rebuilt.twigs)?;
        // Into memory.
        files.twigs.write(&rebuilt.twigs)?;
        let Files { log, twigs, undo, meta, .. } = files;
        let hasher = hasher.clone();
        let parts =
            Parts { place, log, twigs, undo, meta, rebuilt, checkpointed, pool, options, hasher };
        let Begun { shared, params, .. } = begin(parts)?;
        Ok(Some(Looked { shared, params, store }))
    }
}
