//! Repair, at the operator's word: what can be derived from the log is derived again, by the CPU.
//!
//! ```text
//!   log ─────────────► entries, active bits, left trees ─┐
//!   manifest           counts, serial numbers: must agree│
//!            edges of pruned twigs: believed ────────────┤
//!                                                        ▼
//!                                             roots ─► manifest, its history row      ┐ only with
//!                                             records of finished twigs ─► twig file  ┘ a word
//! ```
//!
//! A device whose wrong digest no sample met leaves a wrong root behind, which the log contradicts for
//! ever: such a store does not open. Nobody but its operator can say what is to become of it, for the
//! wrong root may have been told to others.
//!
//! **Invariant:** the log is read and never written, and what it says is never guessed: an entry that is
//! damaged, or a manifest that contradicts it in anything but roots, is an error and changes nothing.
//! History rows of earlier heights stay: they say what was committed then.

use crate::hasher::Hashers;
use crate::opening::limits;
use crate::opening::open::{live, pool};
use crate::opening::place::{LOG, Locks, Place, TWIGS};
use crate::opening::progress::Meter;
use crate::opening::rebuild::{IndexPlace, Rebuilt, Source, derive};
use crate::shared::missing_row;
use crate::{Error, Options, Store};
use hedgerow_entryfile::{EntryLog, StoreId, TwigFile, TwigRecord};
use hedgerow_metadb::{Commit, HistoryRow, Manifest, MetaDb};
use hedgerow_state::TwigStore;
use hedgerow_types::{Digest, Height, ShardId};
use std::path::Path;
use std::sync::Arc;

/// What a repair may do.
///
/// ```
/// # fn main() -> Result<(), hedgerow::Error> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let disk = std::sync::Arc::new(MemDisk::new());
/// # let options = || Options::new().disk(disk.clone());
/// # Store::create("/state", StoreParams::default(), options())?.close()?;
/// use hedgerow::{Digest, Error, RepairWord};
/// // Only if the log leads to the root that the network agreed on.
/// let agreed = Digest::ZERO;
/// let refused = Store::repair("/state", options(), RepairWord::Root(agreed));
/// assert!(matches!(refused, Err(Error::UnexpectedRoot { .. })));   // nothing was changed
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairWord {
    /// Say what it would change, and change nothing that the store says. With
    /// [`Options::read_only`] nothing is written at all.
    Look,
    /// Change whatever the log contradicts.
    Yes,
    /// The same, if the log leads to this state root.
    Root(Digest),
}

/// What [`Store::repair`] found, and repaired if it was allowed to.
///
/// ```
/// # fn main() -> Result<(), hedgerow::Error> {
/// # use hedgerow::{Options, RepairWord, Store, StoreParams, disk::MemDisk};
/// # let disk = std::sync::Arc::new(MemDisk::new());
/// # let options = || Options::new().disk(disk.clone());
/// # Store::create("/state", StoreParams::default(), options())?.close()?;
/// let report = Store::repair("/state", options(), RepairWord::Look)?;
/// assert!(!report.is_needed());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// The first height with a wrong recorded root, as far as is known; the manifest's if none was.
    pub height: Height,
    /// The state root that was recorded for it.
    pub recorded: Digest,
    /// The state root that the log leads to.
    pub derived: Digest,
    /// The durable height, which the manifest need not know yet.
    pub durable: Height,
    /// Its state root, as the log leads to it.
    pub root: Digest,
    /// Shards for which the manifest had another root.
    pub shards: Vec<ShardId>,
    /// Whether the history row of the height had other roots.
    pub row: bool,
    /// Twig records that are missing or differ from their entries.
    pub twigs: u64,
    /// Twig records that agree with their entries.
    pub twigs_right: u64,
    /// Nodes that stand for pruned entries: the log has nothing left to derive them from, so they are
    /// believed. If one of them is wrong, so is the derived root.
    pub edges: u64,
    /// Whether it was repaired.
    pub repaired: bool,
}

impl RepairReport {
    /// Whether the log contradicts anything that was derived from it.
    pub fn is_needed(&self) -> bool {
        self.recorded != self.derived || !self.shards.is_empty() || self.row || self.twigs > 0
    }
}

impl Store {
    /// Derives again what can be derived from the log of a store that is not open: the roots in the
    /// manifest and in the history row of the durable height, and the twig file. The CPU hashes,
    /// whatever hasher the options name; all of the log is read.
    ///
    /// For a store that [`Store::open`] refuses with [`Error::RootMismatch`]. The old root was wrong
    /// for everyone who used it.
    ///
    /// # Errors
    /// [`Error::UnexpectedRoot`] if `word` names another root; [`Error::ReadOnly`] if the options are read
    /// only and `word` asks for more than a look; as [`Store::open`] if the log is damaged, or contradicts
    /// the manifest in anything but roots. Nothing is changed then.
    pub fn repair(
        path: impl AsRef<Path>,
        options: Options,
        word: RepairWord,
    ) -> Result<RepairReport, Error> {
        let path = path.as_ref();
        limits::on_own_stack("hedgerow-repair", || Self::repair_here(path, options, word))
    }

    fn repair_here(path: &Path, options: Options, word: RepairWord) -> Result<RepairReport, Error> {
        limits::check(&options)?;
        options.check()?;
        if options.read_only && word != RepairWord::Look {
            return Err(Error::ReadOnly);
        }
        let options = options.for_opening();
        let (place, locks) = Place::existing(path, &options)?;
        let found = Found::read(&place, &options, locks)?;
        let mut report = found.report();
        match word {
            RepairWord::Look => return Ok(report),
            RepairWord::Root(expected) if expected != report.root => {
                return Err(Error::UnexpectedRoot { computed: report.root, expected });
            }
            RepairWord::Yes | RepairWord::Root(_) => {}
        }
        if report.is_needed() {
            found.make_right()?;
            report.repaired = true;
        }
        Ok(report)
    }
}

/// A store's files, and what the log says about them.
struct Found {
    meta: Box<dyn MetaDb>,
    manifest: Manifest,
    row: HistoryRow,
    twig_file: TwigStore,
    derived: Rebuilt,
    /// Records of the derived twigs that the twig file has not, or has otherwise.
    different: Vec<Arc<TwigRecord>>,
    _locks: Locks,
}

impl Found {
    fn read(place: &Place, options: &Options, locks: Locks) -> Result<Self, Error> {
        place.renew_metadata(options)?;
        let (meta, manifest) = place.manifest(options)?;
        let id = StoreId(manifest.store_id);
        let (start, end) = (manifest.log_start, manifest.log_end);
        let (vfs, dir) = (|| Arc::clone(&place.vfs), place.path(LOG));
        let journal = EntryLog::find_journal(vfs(), &dir, id, start, end, manifest.height)?;
        EntryLog::renew_journal(&*place.vfs, &dir, start, end, &journal)?;
        let log_options = Place::log_options(options);
        let log = EntryLog::open(vfs(), &dir, id, log_options, start, journal.end)?;
        log.set_dead(&manifest.dead);
        let progress = Meter::new(options.progress.as_ref());
        let hashers = Hashers::all_cpu(options.cpu()?);
        let derived = pool(options.threads, "hedgerow")?.install(|| {
            derive(&Source {
                log: &log,
                twigs: None,
                manifest: &manifest,
                journal,
                hasher: &hashers,
                progress: progress.as_deref(),
                checkpoint: None,
                index: &IndexPlace::Memory,
                undo: None,
                compared: None,
            })
        })?;
        let row = meta.history(manifest.height)?;
        let kept = manifest.history_from..=manifest.height;
        let row = row.ok_or_else(|| Error::Corrupt(missing_row(manifest.height, &kept)))?;
        let says = manifest.shards.iter().map(|shard| shard.oldest_active);
        if !says.eq(row.oldest_active) {
            return Err(Error::Corrupt(format!(
                "the history row of height {} and the manifest tell different states",
                manifest.height
            )));
        }
        let dir = place.path(TWIGS);
        let (file, _) =
            TwigFile::open(vfs(), &dir, id, Place::twig_options(options), live(&manifest))?;
        let twig_file = TwigStore::new(file);
        let different = twig_file.different(derived.twigs.clone())?;
        Ok(Self { meta, manifest, row, twig_file, derived, different, _locks: locks })
    }

    fn report(&self) -> RepairReport {
        let Self { manifest, row, derived, different, .. } = self;
        let roots = &derived.settled;
        let differs =
            |shard: &ShardId| manifest.shards[shard.index()].root != roots.shards[shard.index()];
        let edges = manifest.shards.iter().map(|shard| shard.edges.len() as u64);
        let (mut height, mut recorded, mut derived_root) =
            (manifest.height, manifest.state_root, roots.state);
        if let Some(told) = derived.contradicted.filter(|_| recorded == derived_root) {
            (height, recorded, derived_root) = (told.height, told.recorded, told.derived);
        }
        RepairReport {
            height,
            recorded,
            derived: derived_root,
            durable: derived.behind.manifest.height,
            root: derived.behind.manifest.state_root,
            shards: ShardId::all().filter(differs).collect(),
            row: row.root != roots.state || row.shard_roots != roots.shards,
            twigs: different.len() as u64,
            twigs_right: (derived.twigs.len() - different.len()) as u64,
            edges: edges.sum(),
            repaired: false,
        }
    }

    /// The twig file first: with the old roots beside it the store does not open, and this is done
    /// again.
    fn make_right(self) -> Result<(), Error> {
        let Self { meta, manifest, mut row, twig_file, derived, different, .. } = self;
        twig_file.write(&different)?;
        twig_file.file.sync()?;
        (row.root, row.shard_roots) = (derived.settled.state, derived.settled.shards);
        let mut rows = vec![(manifest.height, row)];
        rows.extend(derived.behind.rows.iter().map(|(height, row)| (*height, (**row).clone())));
        let (manifest, history_from) = (&derived.behind.manifest, manifest.history_from);
        Ok(meta.commit(&Commit { manifest, rows: &rows, history_from })?)
    }
}
