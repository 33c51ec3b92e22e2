//! `torture full`: the file system is full, again and again, at another call each time.
//!
//! ```text
//!  a small file system   [ store ........... | ballast ............... | a little room ]
//!
//!  blocks ──► no space ──► stopped, read ──► opened while still full, some times ──► ballast gone
//!                                                                                       │
//!     the next filling ◄── closed ◄── check, compare ◄── some blocks ◄── opened, compared
//! ```
//!
//! A file of ballast leaves a random number of bytes free, or takes all that is left before some call,
//! so that another call finds no space: of the log, the twig file, the database, in a creation, an
//! opening or a commit. It must say so; what was published stays readable, and nothing that was durable
//! is lost or damaged.

use super::blocks::{LIVED, Plan, draws};
use super::compare::{self, Extent};
use super::life::{Life, Way, params};
use super::reference::Reference;
use super::{Doing, Failure, Watch, fail};
use hedgerow::disk::{RealDisk, Vfs};
use hedgerow::{Error, Height, Store, Ticket};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::{HookedDisk, VfsCall, VfsOp};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the file system.
pub const ROOM: u64 = 16 << 20;

/// Times that one store meets no space.
const FILLINGS: u64 = 3;
/// Blocks that may fit into what the ballast left; after them it grows.
const PATIENCE: u64 = 40;

/// What was done and seen.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Times that there was no space.
    pub fillings: u64,
    /// Stores.
    pub stores: u64,
    /// Blocks found in stores, summed.
    pub blocks: u64,
    /// Where there was no space, by the error's path.
    pub hits: BTreeMap<String, u64>,
    /// Stores opened while there was still no space.
    pub opened: u64,
    /// Stores not opened for that reason.
    pub refused: u64,
    /// Blocks made durable while there was hardly any space.
    pub squeezed: u64,
    /// Most blocks lost that were published, not durable.
    pub most_lost: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "times full {}, stores {}, blocks {}",
            self.fillings, self.stores, self.blocks
        )?;
        writeln!(
            f,
            "opened while full {}, refused {}, blocks made durable then {}",
            self.opened, self.refused, self.squeezed
        )?;
        writeln!(f, "most blocks lost that were published, not durable: {}", self.most_lost)?;
        write!(f, "no space while: {:?}", self.hits)?;
        let reached = |what: &str| self.hits.keys().any(|hit| hit.contains(what));
        let missing =
            ["creating", "log", "meta", "twigs"].into_iter().filter(|what| !reached(what));
        missing.into_iter().try_for_each(|what| write!(f, "\n!!! NOT REACHED: {what}"))
    }
}

/// Fills the file system at `room`, which has [`ROOM`] bytes and nothing else in it, `rounds` times.
///
/// # Errors
/// Whatever was lost or wrong, or an error that does not say what happened.
pub fn run(room: &Path, seed: u64, rounds: u64, figures: &mut Figures) -> Result<(), Failure> {
    let watch = Watch::start();
    while figures.fillings < rounds {
        let store = figures.stores;
        figures.stores += 1;
        let mut saga = Saga::new(room, seed, store);
        for filling in 0..FILLINGS {
            let number = store * FILLINGS + filling;
            let place = format!("seed {seed}, store {store}, filling {number}");
            watch.next(&place);
            saga.fill(number, figures).map_err(|failure| failure.at(&place))?;
        }
        figures.blocks += saga.reference.height();
        std::fs::remove_dir_all(&saga.path).doing("removing a store")?;
    }
    Ok(())
}

/// One store through its fillings.
struct Saga {
    path: PathBuf,
    ballast: Ballast,
    seed: u64,
    store: u64,
    reference: Reference,
    /// Whether it was ever opened.
    opened: bool,
    /// Durable, or found by an opening.
    durable: u64,
    /// Nothing above this was handed in.
    highest: u64,
    /// Last published since it was last opened.
    published: u64,
    kept_from: u64,
}

impl Saga {
    fn new(room: &Path, seed: u64, store: u64) -> Self {
        let blocks = draws(seed, "full", store).next_u64() & !LIVED;
        Self {
            path: room.join(format!("store-{store}")),
            ballast: Ballast(room.join("ballast")),
            seed: blocks,
            store,
            reference: Reference::new(blocks, params(blocks, store).compaction()),
            opened: false,
            durable: 0,
            highest: 0,
            published: 0,
            kept_from: 0,
        }
    }

    /// Fills the file system once and frees it again.
    fn fill(&mut self, number: u64, figures: &mut Figures) -> Result<(), Failure> {
        let mut d = draws(self.seed, "filling", number);
        // When the space goes: before the store is opened, after some blocks, at some call.
        let when = d.below(4);
        let mut disk: Arc<dyn Vfs> = Arc::new(RealDisk);
        match when {
            // What a creation writes is not much more than this.
            0 => self.ballast.leave(d.below(2 << 20))?,
            1 => {}
            _ => disk = self.ballast.grows_at(moment(&mut d, self.opened)),
        }
        let life = Life::draw(self.seed, number * 10);
        match self.open(&life, disk, figures) {
            Err(error) => {
                self.hit("opening", &error, figures)?;
            }
            Ok(mut store) => {
                self.found(&store)?;
                if when == 1 {
                    for _ in 0..d.below(16) {
                        self.write(&mut store)?;
                    }
                    self.ballast.leave(room(&mut d))?;
                }
                let few = [d.below(4), d.below(12), PATIENCE][d.below(3) as usize];
                let patience = if when > 1 { PATIENCE } else { few };
                self.until_full(store, &life, patience, d.below(2) == 0, figures)?;
            }
        }
        figures.fillings += 1;
        for attempt in 0..d.below(4) {
            self.while_full(&Life::draw(self.seed, number * 10 + 1 + attempt), figures)
                .map_err(|failure| failure.at("while still full"))?;
        }
        self.ballast.remove()?;
        self.go_on(&Life::draw(self.seed, number * 10 + 9), &mut d, figures)
            .map_err(|failure| failure.at("with space again"))
    }

    fn open(
        &mut self,
        life: &Life,
        disk: Arc<dyn Vfs>,
        figures: &mut Figures,
    ) -> Result<Store, Error> {
        let params = params(self.seed, self.store);
        let store = Store::open_or_create(&self.path, params, life.options(disk))?;
        self.kept_from = self.kept_from.max(life.kept_from(self.highest));
        let lost = self.published.saturating_sub(store.height().0);
        figures.most_lost = figures.most_lost.max(lost);
        Ok(store)
    }

    /// The opened store is at a height that it may have, and holds what the reference does.
    fn found(&mut self, store: &Store) -> Result<(), Failure> {
        let height = store.height().0;
        if !(self.durable..=self.highest).contains(&height) {
            return fail(format!(
                "LOST: height {height} found, {} durable, {} handed in",
                self.durable, self.highest
            ));
        }
        (self.opened, self.durable) = (true, height);
        (self.published, self.highest) = (height, height);
        self.compare(store)
    }

    fn compare(&mut self, store: &Store) -> Result<(), Failure> {
        let extent = Extent { kept_from: self.kept_from, seed: self.highest };
        compare::published(&store.reader(), &mut self.reference, extent).map(drop)
    }

    /// Compares a store of which one half may have stopped: the other half still publishes the
    /// blocks that it has, which are few.
    fn compare_stopped(&mut self, store: &Store) -> Result<(), Failure> {
        let reader = store.reader();
        loop {
            let before = reader.root();
            let result = self.compare(store);
            let (height, _) = reader.root();
            if result.is_ok() || reader.root() == before {
                self.published = self.published.max(height.0);
                return result.map_err(|failure| failure.at("reading from the stopped store"));
            }
        }
    }

    /// Writes one block and waits until it is durable.
    fn write(&mut self, store: &mut Store) -> Result<(), Failure> {
        self.highest += 1;
        Plan::new(self.seed, self.highest).write(store)?;
        (self.durable, self.published) = (self.highest, self.highest);
        Ok(())
    }

    /// Writes blocks until the store stops, which must be for want of space.
    fn until_full(
        &mut self,
        mut store: Store,
        life: &Life,
        patience: u64,
        close: bool,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let mut tickets = Vec::new();
        let mut blocks = 0;
        let error = loop {
            if blocks >= patience {
                self.ballast.leave(0)?;
            }
            if blocks >= 4 * PATIENCE {
                return fail(format!("{blocks} blocks written where there was no space"));
            }
            blocks += 1;
            self.highest += 1;
            let plan = Plan::new(self.seed, self.highest);
            let submitted = plan.begin(&mut store).and_then(|mut block| block.submit());
            let done = submitted.and_then(|ticket| {
                tickets.push(ticket.clone());
                match life.way {
                    Way::Commit => ticket.durable(),
                    Way::Flush if blocks % 5 == 0 => store.flush(),
                    _ => Ok(()),
                }
            });
            if let Err(error) = done {
                break error;
            }
        };
        self.kept_from = self.kept_from.max(life.kept_from(self.highest));
        self.stopped(&mut store, &tickets, figures)?;
        self.hit("writing", &error, figures)?;
        self.compare_stopped(&store)?;
        if close {
            match store.close() {
                Err(error) => says_no_space("closing", &error)?,
                Ok(()) => return fail("closing a store that stopped went well"),
            }
        }
        Ok(())
    }

    /// A stopped store says so everywhere; its tickets say how far it had come.
    fn stopped(
        &mut self,
        store: &mut Store,
        tickets: &[Ticket],
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let flushed = store.flush();
        let begun = store.begin_block(Height(self.highest)).map(drop);
        for (what, result) in [("flush", flushed), ("begin_block", begun)] {
            match result {
                Err(error @ Error::Poisoned { .. }) => says_no_space(what, &error)?,
                other => return fail(format!("{what} of a store that stopped: {other:?}")),
            }
        }
        for ticket in tickets {
            let height = ticket.height().0;
            match ticket.root() {
                Ok(root) => {
                    self.reference.go_to(height);
                    if self.reference.root(height) != Some(root) {
                        return fail(format!("height {height} was published with root {root}"));
                    }
                    self.published = self.published.max(height);
                }
                Err(error) => says_no_space("a root", &error)?,
            }
            match ticket.durable() {
                Ok(()) => {
                    self.durable = self.durable.max(height);
                    figures.squeezed += 1;
                }
                Err(error) => says_no_space("durability", &error)?,
            }
        }
        Ok(())
    }

    /// Opens the store while there is still no space: that works, or says why not.
    fn while_full(&mut self, life: &Life, figures: &mut Figures) -> Result<(), Failure> {
        let mut store = match self.open(life, Arc::new(RealDisk), figures) {
            Ok(store) => store,
            Err(error) => {
                figures.refused += 1;
                return says_no_space("opening", &error);
            }
        };
        figures.opened += 1;
        self.found(&store)?;
        self.highest += 1;
        self.kept_from = self.kept_from.max(life.kept_from(self.highest));
        let plan = Plan::new(self.seed, self.highest);
        let ticket = plan.begin(&mut store).and_then(|mut block| block.submit());
        match ticket.and_then(|ticket| ticket.durable()) {
            Ok(()) => {
                (self.durable, self.published) = (self.highest, self.highest);
                figures.squeezed += 1;
            }
            Err(error) => says_no_space("a block", &error)?,
        }
        self.compare_stopped(&store)?;
        match store.close() {
            Ok(()) => Ok(()),
            Err(error) => says_no_space("closing", &error),
        }
    }

    /// Opens the store where there is space again, and goes on with it.
    fn go_on(
        &mut self,
        life: &Life,
        d: &mut SplitMix64,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let mut store = self.open(life, Arc::new(RealDisk), figures).doing("opening")?;
        self.found(&store)?;
        self.check(&mut store)?;
        for _ in 0..2 + d.below(8) {
            self.write(&mut store)?;
        }
        self.kept_from = self.kept_from.max(life.kept_from(self.highest));
        self.compare(&store)?;
        self.check(&mut store)?;
        store.close().doing("closing")
    }

    fn check(&mut self, store: &mut Store) -> Result<(), Failure> {
        compare::check(store, &mut self.reference)
    }

    /// Counts where there was no space.
    fn hit(&self, doing: &str, error: &Error, figures: &mut Figures) -> Result<(), Failure> {
        says_no_space(doing, error)?;
        let doing = if self.opened { doing } else { "creating" };
        let (text, path) = (error.to_string(), self.path.display().to_string());
        let part = text.split_once(&path).map_or("?", |(_, rest)| {
            let word = rest.trim_start_matches('/').split(['/', ' ', ':', ',']).next();
            word.filter(|word| !word.is_empty()).unwrap_or("the directory")
        });
        *figures.hits.entry(format!("{doing}: {part}")).or_default() += 1;
        Ok(())
    }
}

/// Bytes to leave: mostly little, where also what is small finds no space.
fn room(d: &mut SplitMix64) -> u64 {
    let pages = [4, 16, 64, 256][d.below(4) as usize];
    d.below(pages) * 4096
}

/// The error, or one behind it, says that there is no space.
fn says_no_space(what: &str, error: &Error) -> Result<(), Failure> {
    let mut at: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = at {
        // What the system says for ENOSPC.
        if error.to_string().contains("No space left on device") {
            return Ok(());
        }
        at = error.source();
    }
    fail(format!("{what}: not a word of no space: {error} ({error:?})"))
}

/// A call before which the space goes: the n-th arrival at a named point, or the n-th write below a
/// part of the store.
#[derive(Clone, Copy, Debug)]
struct Moment(VfsOp, &'static str, u64);

fn moment(d: &mut SplitMix64, created: bool) -> Moment {
    let commit = [
        "commit: log written",
        "commit: log synced",
        "commit: twigs written",
        "prune: planned",
        "commit: manifest written",
    ];
    let create = ["create: marked", "create: log synced", "create: twigs synced"];
    match d.below(4) {
        0 => Moment(VfsOp::Write, "twigs", d.below(4)),
        1 => Moment(VfsOp::Write, "meta", d.below(40)),
        2 if !created => Moment(VfsOp::Point, create[d.below(3) as usize], 0),
        _ => Moment(VfsOp::Point, commit[d.below(5) as usize], d.below(12)),
    }
}

/// A file that takes the space away.
#[derive(Clone)]
struct Ballast(PathBuf);

impl Ballast {
    /// The real disk, on which this takes all that is left at a moment.
    fn grows_at(&self, Moment(op, name, nth): Moment) -> Arc<dyn Vfs> {
        let (ballast, came) = (self.clone(), AtomicU64::new(0));
        let hook = move |call: &VfsCall<'_>| {
            let here = call.op == op && call.path.iter().any(|part| part == name);
            if here && came.fetch_add(1, Ordering::SeqCst) == nth {
                ballast.leave(0).map_err(|failure| call.error(std::io::Error::other(failure)))?;
            }
            Ok(())
        };
        Arc::new(HookedDisk::new(Arc::new(RealDisk), Arc::new(hook)))
    }

    /// Takes everything but `free` bytes, in whole pages.
    fn leave(&self, free: u64) -> Result<(), Failure> {
        let open = || OpenOptions::new().create(true).append(true).open(&self.0);
        let mut file = open().doing("opening the ballast")?;
        let page = [0x5a; 4096];
        let mut len = file.metadata().doing("the ballast's length")?.len();
        loop {
            match file.write(&page) {
                Ok(written) => len += written as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return fail(format!("writing ballast: {error}")),
            }
            if len > 2 * ROOM {
                return fail(format!("{} is in no small file system", self.0.display()));
            }
        }
        file.set_len(len.saturating_sub(free)).doing("cutting the ballast")
    }

    fn remove(&self) -> Result<(), Failure> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                fail(format!("removing the ballast: {error}"))
            }
            _ => Ok(()),
        }
    }
}
