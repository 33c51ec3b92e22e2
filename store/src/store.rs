//! The store: its single writer, and what may be asked of it. Its directory is in `place`, what makes and
//! opens one in `create` and `open`.

use crate::Error;
use crate::block::{Block, Collected};
use crate::commit::flow::{Milestone, Progress};
use crate::commit::prune::PruneReport;
use crate::commit::writer::Writer;
use crate::opening::limits;
use crate::opening::place::{Locks, META, Place, name_a_database};
use crate::options::{LEAST_INDEX_BYTES, Options};
use crate::read::reader::Reader;
use crate::shared::Shared;
use crate::speculate::{Speculative, SpeculativeBlock};
use crate::ticket::Ticket;
use hedgerow_metadb::StoreParams;
use hedgerow_state::{BlockOps, Task};
use hedgerow_types::Height;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The thread on which stores are opened.
pub(crate) const OPENING: &str = "hedgerow-open";

/// A verifiable key-value store, open. It is the single writer; [`Store::reader`] gives readers.
///
/// Dropping it finishes the blocks that were submitted; [`Store::close`] also says whether that
/// went well. Readers that outlive it answer from the last published state.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let mut block = store.next_block()?;
/// block.put("alice", "100")?;
/// let receipt = block.commit()?;
/// assert_eq!((store.height(), receipt.created), (receipt.height, 1));
/// store.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Store {
    pub(crate) writer: Writer,
    pub(crate) shared: Arc<Shared>,
    pub(crate) params: StoreParams,
    pub(crate) place: Place,
    /// Memory of the last block, for the next one.
    pub(crate) spare: Option<Collected>,
    /// It was thrown away: nothing more is written.
    pub(crate) unwanted: bool,
    /// Given back last.
    pub(crate) locks: Locks,
}

impl Store {
    /// Creates a store in an empty directory, which is made if it does not exist.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::InUse`], [`Error::NotWritable`], [`Error::Option`], or a failed
    /// write.
    pub fn create(
        path: impl AsRef<Path>,
        params: StoreParams,
        options: Options,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        limits::on_own_stack(OPENING, || Self::create_here(path, params, options))
    }

    fn create_here(path: &Path, params: StoreParams, options: Options) -> Result<Self, Error> {
        limits::check(&options)?;
        let hasher = options.check()?;
        let (place, locks) = Place::to_be_filled(path, &options, |_| Ok(false))?;
        if !place.is_empty()? {
            return Err(Error::NotEmpty(place.dir));
        }
        place.create(params, options, hasher, locks)
    }

    /// Opens an existing store.
    ///
    /// # Errors
    /// [`Error::NoStore`], [`Error::Unfinished`], [`Error::UnfinishedCopy`], [`Error::InUse`],
    /// [`Error::NotWritable`],
    /// [`Error::Option`]; or what is wrong with the files: nothing is repaired except by cutting what
    /// was never durable.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let path = path.as_ref();
        limits::on_own_stack(OPENING, || Self::open_here(path, options))
    }

    fn open_here(path: &Path, options: Options) -> Result<Self, Error> {
        limits::check(&options)?;
        let hasher = options.check()?;
        let options = options.for_opening();
        let (place, locks) = Place::existing(path, &options)?;
        place.open(None, options, hasher, locks)
    }

    /// Opens the store in `path` if there is one, with these parameters; else creates it, in an
    /// empty directory or over its own unfinished creation. Never deletes anything else.
    ///
    /// # Errors
    /// [`Error::Params`] if the store has other parameters; as [`Store::open`] and
    /// [`Store::create`].
    pub fn open_or_create(
        path: impl AsRef<Path>,
        params: StoreParams,
        options: Options,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        limits::on_own_stack(OPENING, || Self::open_or_create_here(path, params, options))
    }

    fn open_or_create_here(
        path: &Path,
        params: StoreParams,
        options: Options,
    ) -> Result<Self, Error> {
        limits::check(&options)?;
        let hasher = options.check()?;
        let ours = |place: &Place| {
            Ok(place.has_mark()? || place.has_copy_mark()? || place.has_database()?)
        };
        let (place, mut locks) = Place::to_be_filled(path, &options, ours)?;
        place.check_copied()?;
        if place.has_mark()? {
            place.remove_unfinished()?;
        }
        if place.is_empty()? {
            return place.create(params, options, hasher, locks);
        }
        if !place.has_database()? {
            return Err(Error::NotEmpty(place.dir));
        }
        locks.parts = place.hold_parts(&options)?;
        place.open(Some(params), options, hasher, locks)
    }

    /// What the store was created with.
    pub fn params(&self) -> &StoreParams {
        &self.params
    }

    /// A reader of the published state.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The last accepted height: the next block has the height after it.
    pub fn height(&self) -> Height {
        self.writer.height()
    }

    /// Begins the next block, whatever its height is.
    ///
    /// # Errors
    /// As [`Store::begin_block`]; [`Error::WrongHeight`] only after [`Height::MAX`].
    pub fn next_block(&mut self) -> Result<Block<'_>, Error> {
        self.begin_block(self.height().next())
    }

    /// Begins the next block, and makes sure that it is the one which the caller means.
    ///
    /// # Errors
    /// [`Error::WrongHeight`] unless `height` is the one after the last block's;
    /// [`Error::Poisoned`]; [`Error::ReadOnly`] if the store was opened so; [`Error::Forked`];
    /// [`Error::Disk`] if the store's directories are no longer where they were.
    pub fn begin_block(&mut self, height: Height) -> Result<Block<'_>, Error> {
        self.check_may_write()?;
        Block::begin(self, height)
    }

    /// The low-level interface: hands in a block of strict operations, exactly as [spec 6](hedgerow_types::spec) and 7 have
    /// it. They are all checked against the state that they will meet before anything changes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
    /// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
    /// # let mut store = Store::create("/state", StoreParams::default(), options)?;
    /// use hedgerow::{Error, Op, OpKind, Refused};
    /// let op = |kind| Op { kind, key: b"alice".to_vec(), value: b"100".to_vec() };
    /// let height = store.height().next();
    /// let refused = store.submit_tasks(height, &[vec![vec![op(OpKind::Update)]]], []);
    /// assert!(matches!(refused, Err(Error::Refused(Refused::InvalidOp { .. }))));   // it is absent
    /// let ticket = store.submit_tasks(height, &[vec![vec![op(OpKind::Create)]]], [])?;
    /// assert_eq!(ticket.receipt()?.created, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongHeight`]; [`Error::Refused`] for what an operation, a key or a value is, after which
    /// the height is still free; a failed read; [`Error::Poisoned`]; as
    /// [`Store::begin_block`].
    pub fn submit_tasks(
        &mut self,
        height: Height,
        tasks: &[Task],
        extra: impl Into<Vec<u8>>,
    ) -> Result<Ticket, Error> {
        self.check_may_write()?;
        self.writer.check_begin(height)?;
        self.writer.say_that_nobody_waits();
        let ops = BlockOps::from_tasks(tasks, self.writer.max_value_bytes())?;
        self.writer.submit(&ops, &mut extra.into())
    }

    /// Begins a block that is made, hashed and read before it is decided whether it will be: on the last accepted
    /// state, of `None`, for which it waits until that is published; or on another [speculative block](Speculative).
    /// The store can go on meanwhile; a store that was opened for reading only can do this too.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
    /// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
    /// # let mut store = Store::create("/state", StoreParams::default(), options)?;
    /// let mut block = store.speculate(None)?;
    /// block.put("alice", "100")?;
    /// let proposed = block.finish()?;
    /// let root = proposed.root();                  // to be agreed on; the store is as it was
    /// assert_eq!(store.reader().get("alice")?, None);
    /// assert_eq!(store.accept(proposed)?.receipt()?.root, root);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Stale`] if `parent` is so; [`Error::Poisoned`]; [`Error::Forked`].
    pub fn speculate<'p>(
        &self,
        parent: impl Into<Option<&'p Speculative>>,
    ) -> Result<SpeculativeBlock, Error> {
        self.locks.check_process()?;
        // Before anything else: what was accepted may be published and its store have failed.
        self.shared.flow.check()?;
        match parent.into() {
            Some(parent) => {
                parent.check_of(&self.shared)?;
                parent.next_block()
            }
            None => SpeculativeBlock::new(self.writer.stand()?),
        }
    }

    /// The low-level interface of speculation: a finished speculative block of strict operations, as
    /// [`submit_tasks`](Self::submit_tasks) takes them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{Op, OpKind, Options, Store, StoreParams, disk::MemDisk};
    /// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
    /// # let mut store = Store::create("/state", StoreParams::default(), options)?;
    /// let create = Op { kind: OpKind::Create, key: b"alice".to_vec(), value: b"100".to_vec() };
    /// let block = store.speculate_tasks(None, &[vec![vec![create]]], [])?;
    /// assert_eq!(block.get("alice")?, Some(b"100".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] for what an operation, a key or a value is; as [`Store::speculate`] and
    /// [`SpeculativeBlock::finish`].
    pub fn speculate_tasks<'p>(
        &self,
        parent: impl Into<Option<&'p Speculative>>,
        tasks: &[Task],
        extra: impl Into<Vec<u8>>,
    ) -> Result<Speculative, Error> {
        self.speculate(parent)?.of_tasks(tasks, &extra.into())
    }

    /// Makes a speculative block the next one, at the cost of writing it: nothing is resolved, updated or hashed
    /// again. Waits no longer than [`Block::submit`]. Its [`early_root`](Ticket::early_root) is there at once, and
    /// readers see it as soon as index and tree are brought to it.
    ///
    /// Those that follow it stay good, all others are stale.
    ///
    /// # Errors
    /// [`Error::Stale`]; [`Error::WrongHeight`] if one that it follows is to be accepted before it;
    /// [`Error::Poisoned`]; [`Error::ReadOnly`]; as [`Store::begin_block`].
    pub fn accept(&mut self, block: Speculative) -> Result<Ticket, Error> {
        self.check_may_write()?;
        self.writer.say_that_nobody_waits();
        self.writer.accept(&block)
    }

    /// Whether this process may write to these directories still.
    pub(crate) fn check_may_write(&self) -> Result<(), Error> {
        self.locks.check_process()?;
        if self.shared.options.read_only {
            return Err(Error::ReadOnly);
        }
        self.locks.check_places()
    }

    /// Waits until everything that was submitted is durable, what follows the log is written as far as it
    /// has to be, and files that became needless are deleted: until the next block comes, the store then does
    /// nothing but perhaps write a checkpoint.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed; [`Error::Forked`].
    pub fn flush(&self) -> Result<(), Error> {
        self.locks.check_process()?;
        self.shared.flow.wait_for(Milestone::Tidied, |at| (at.tidied >= at.accepted).then_some(()))
    }

    /// Prunes now as far as the [options](Options::keep_heights) allow, and says what keeps the rest. The
    /// store does the same whenever it commits a manifest: this is for one that takes no blocks, or that
    /// was opened with fewer heights to keep.
    ///
    /// # Errors
    /// As [`Store::flush`]; [`Error::ReadOnly`].
    pub fn prune(&mut self) -> Result<PruneReport, Error> {
        self.check_may_write()?;
        let shared = &self.shared;
        let pruned = || shared.counters.pruned_bytes.load(Ordering::Relaxed);
        let (log, twigs) = (pruned(), shared.twigs.file.stats().bytes);
        let number = shared.prunings.ask();
        self.writer.settle()?;
        shared
            .flow
            .wait_for(Milestone::Settled, |_| shared.prunings.is_done(number).then_some(()))?;
        let twigs_left = shared.twigs.file.stats().bytes;
        Ok(PruneReport {
            log_freed: pruned().saturating_sub(log),
            twigs_freed: twigs.saturating_sub(twigs_left),
            log_left: shared.log.stats().bytes,
            twigs_left,
            hold: *shared.prune_hold.lock(),
        })
    }

    /// Takes blocks back: the store goes to an earlier height and on from there, and is then as if it had never had the
    /// blocks above, in every root, proof and answer. It is durable when this returns, and whole: a crash leaves the
    /// store at the one height or the other.
    ///
    /// How far it can go back says [`Options::rollback_window`]. Everything that was submitted is finished first, and
    /// backups that are being made. Readers see one height or the other meanwhile; [views](crate::View) of heights that
    /// are taken back answer [`Error::RolledBack`] from then on, others stay as they are. The log of the blocks that
    /// are taken back stays on the disk until it is pruned ([`LogStats::dead_bytes`](crate::LogStats)).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
    /// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
    /// # let mut store = Store::create("/state", StoreParams::default(), options)?;
    /// let mut block = store.next_block()?;
    /// block.put("alice", "100")?;
    /// let first = block.commit()?;
    /// let mut block = store.next_block()?;
    /// block.put("alice", "50")?;
    /// block.commit()?;
    ///
    /// store.rollback(first.height)?;               // the chain goes another way
    /// assert_eq!(store.reader().root(), (first.height, first.root));
    /// assert_eq!(store.reader().get("alice")?, Some(b"100".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`] with the heights that it can go back to; [`Error::TooManyRollbacks`];
    /// [`Error::Corrupt`] and [`Error::RootMismatch`] if what the log says of that height is damaged, or a failed read:
    /// then the store goes on as it was. What fails later stops the store ([`Error::Poisoned`]). [`Error::ReadOnly`],
    /// [`Error::Forked`].
    pub fn rollback(&mut self, height: Height) -> Result<(), Error> {
        self.check_may_write()?;
        let Self { writer, .. } = self;
        limits::on_own_stack("hedgerow-rollback", || writer.roll_back(height))
    }

    /// Waits until everything is durable, then recomputes every hash, the index and the twig records
    /// from the log and compares. What counts is what the names on the disk lead to now, not what the
    /// store has open or remembers.
    ///
    /// # Errors
    /// The first difference found, or a failed read.
    pub fn check(&mut self) -> Result<crate::CheckReport, Error> {
        self.locks.check_process()?;
        // Before a manifest is written, and what belongs to it, and before anything is read.
        self.locks.check_places()?;
        self.writer.settle()?;
        self.locks.check_places()?;
        let meta = self.locks.root.path().join(META);
        if !name_a_database(&self.shared.options.disk.read_dir(&meta)?) {
            return Err(Error::Corrupt("the database below meta/ is gone".into()));
        }
        limits::on_own_stack("hedgerow-check", || crate::opening::check::check(&self.shared))
    }

    /// Gives a [tiered index](crate::IndexMode::Tiered) another budget of memory, in bytes. Pages that are kept go
    /// at once, the rest as it is written.
    ///
    /// # Errors
    /// [`Error::Option`] if the index is in memory, or `bytes` are fewer than 4 MiB; [`Error::Forked`].
    pub fn set_index_memory(&self, bytes: u64) -> Result<(), Error> {
        self.locks.check_process()?;
        let refuse = |reason: &str| Err(Error::Option { option: "index", reason: reason.into() });
        let Some(tiers) = &self.shared.tiers else {
            return refuse("the index is in memory and takes what it needs");
        };
        if bytes < LEAST_INDEX_BYTES {
            return refuse("a tiered index needs 4 MiB of memory");
        }
        tiers.set_memory(bytes);
        Ok(())
    }

    /// Figures of the open store.
    pub fn stats(&self) -> crate::Stats {
        crate::stats::collect(&self.shared)
    }

    /// Finishes what was submitted and closes the store.
    ///
    /// # Errors
    /// What stopped the store, if something did; [`Error::Forked`].
    pub fn close(mut self) -> Result<(), Error> {
        self.locks.check_process()?;
        self.shared.copies.end();
        self.writer.stop()?;
        self.shared.flow.check()
    }
}

impl Store {
    /// Ends all threads, after what they have; returns whether all of that is settled.
    fn stop(&mut self) -> bool {
        // Nobody else is to have the directory while it is copied.
        self.shared.copies.end();
        if let Err(error) = self.writer.stop() {
            tracing::error!(%error, "while closing");
        }
        if self.shared.flow.look(|progress| progress.published > progress.durable) {
            // What readers saw will be cut from the log by whoever opens it next.
            self.shared.abandoned.store(true, Ordering::SeqCst);
        }
        self.shared.checkpoints.wait();
        if let Some(tiers) = &self.shared.tiers {
            tiers.stop();
        }
        self.shared.flow.look(Progress::is_settled)
    }

    /// Ends a store that is not to be, and removes what there is of it; whatever stays is marked.
    pub(crate) fn discard(mut self) -> Result<(), Error> {
        self.unwanted = true;
        self.stop();
        *self.shared.meta.write() = None;
        self.locks.parts.clear();
        self.place.remove_copy()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.locks.check_process().is_err() {
            // A copy in a forked process: the threads are not here, and the files are not ours.
            self.writer.forget();
            if let Some(tiers) = &self.shared.tiers {
                tiers.forget();
            }
            if let Some(mut meta) = self.shared.meta.try_write() {
                std::mem::forget(meta.take());
            }
            return;
        }
        let mut settled = self.stop();
        if self.unwanted {
            *self.shared.meta.write() = None;
            return;
        }
        if settled && let Err(error) = self.writer.checkpoint_at_close() {
            tracing::error!(%error, "while closing");
            settled = false;
        }
        // Readers and tickets may live on; the database is closed before the lock is given back.
        *self.shared.meta.write() = None;
        if settled && let Err(error) = self.place.mark_closed() {
            // Then the next opening does more than it would have to.
            tracing::warn!(%error, "could not mark the store as closed");
        }
    }
}
