//! `torture kill`: SIGKILL again and again; what was acknowledged as durable is there afterwards.
//!
//! ```text
//!  a store   ──► life 1 ──kill──► (compare) ──► life 2 ──kill──► ... some tens ──► the next store
//!                                  half of the times: else the next life recovers, and may be
//!                                  killed while it does
//!
//!  bounds    durable, the last line read  <=  height found  <=  submitting, the last line read
//! ```
//!
//! Every other store has lived for a while, so that pruning goes on from its first block.
//!
//! A line is written before the child goes on, and what is in the pipe survives the child: so the
//! lower bound is what it had told, and the upper bound holds as well.

use super::blocks::{LIVED, draws};
use super::compare::{self, Extent};
pub use super::figures::Figures;
use super::image::Images;
use super::life::{Event, Life, Moment, params};
use super::line::Line;
use super::reference::Reference;
use super::talk::{Child, Heard, Program};
use super::{Doing, Failure, Watch, copy, fail};
use hedgerow::{Digest, Error, Options, Store};
use hedgerow_vfs::VfsOp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lives of one store before the next begins.
const LIVES: u64 = 30;
/// Lives of one store that are to end while they create it, unless one of them does not.
const CREATIONS: u64 = 4;
/// Every so many comparisons the store checks itself.
const CHECK: u64 = 6;

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// As long as this.
    Time(Duration),
    /// As many kills.
    Kills(u64),
}

/// Kills children until the limit, with so many stores at a time; `dir` holds them.
///
/// # Errors
/// Whatever was lost or wrong. The store's directory is kept then.
pub fn run(
    program: &Program,
    dir: &Path,
    seed: u64,
    limit: Limit,
    stores: usize,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let (began, next, kills) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicBool::new(false);
    let images = Images::new(dir.join(format!("images-{seed}")));
    let run = Run { program, dir, seed, limit, began, next, images, kills, failed };
    let results: Vec<_> = std::thread::scope(|scope| {
        let start = |_| scope.spawn(|| run.stores());
        let threads: Vec<_> = (0..stores).map(start).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut first = Ok(());
    for result in results {
        let Ok((part, result)) = result else { return fail("a thread of the parent panicked") };
        figures.add(part);
        first = first.and(result);
    }
    first.and(run.images.remove())
}

/// What the threads of one run share.
struct Run<'r> {
    program: &'r Program,
    dir: &'r Path,
    seed: u64,
    limit: Limit,
    began: Instant,
    /// The number of the next store.
    next: AtomicU64,
    images: Images,
    kills: AtomicU64,
    failed: AtomicBool,
}

impl Run<'_> {
    fn is_over(&self) -> bool {
        let reached = match self.limit {
            Limit::Time(time) => self.began.elapsed() >= time,
            Limit::Kills(kills) => self.kills.load(Ordering::SeqCst) >= kills,
        };
        reached || self.failed.load(Ordering::SeqCst)
    }

    /// One store after the other.
    fn stores(&self) -> (Figures, Result<(), Failure>) {
        let watch = Watch::start();
        let mut figures = Figures::default();
        while !self.is_over() {
            let store = self.next.fetch_add(1, Ordering::SeqCst);
            let result = self.store(store, &watch, &mut figures);
            if result.is_err() {
                self.failed.store(true, Ordering::SeqCst);
                return (figures, result);
            }
        }
        (figures, Ok(()))
    }

    /// All lives of a store.
    fn store(&self, store: u64, watch: &Watch, figures: &mut Figures) -> Result<(), Failure> {
        let seed = self.seed;
        let path = self.dir.join(format!("store-{seed}-{store}"));
        remove(&path)?;
        figures.stores += 1;
        let mut saga = if store.is_multiple_of(2) {
            Saga::new(path.clone(), seed, store)
        } else {
            watch.next(format!("seed {seed}, store {store}: a store that has lived"));
            Saga::lived(path.clone(), seed, store, &self.images)?
        };
        let mut number = store * LIVES;
        for life in 0..LIVES {
            if self.is_over() {
                break;
            }
            number = store * LIVES + life;
            let place = format!(
                "seed {seed}, store {store}, life {life}, after {} kills, in {}",
                self.kills.load(Ordering::SeqCst),
                path.display()
            );
            watch.next(&place);
            let mut choice = draws(seed, "compare", number);
            saga.creating = !saga.opened && life < CREATIONS;
            let before = figures.kills;
            let lived = saga.live(self.program, number, figures);
            self.kills.fetch_add(figures.kills - before, Ordering::SeqCst);
            lived.map_err(|failure| failure.at(&place))?;
            if life + 1 == LIVES || choice.below(2) == 0 {
                watch.next(format!("{place}: comparing"));
                saga.compare(number, figures).map_err(|failure| failure.at(&place))?;
            }
        }
        watch.next(format!("seed {seed}, store {store}: the last comparison"));
        saga.compare(number, figures)
            .map_err(|failure| failure.at(format!("seed {seed}, store {store}, at its end")))?;
        figures.blocks += saga.reference.height();
        remove(&path)
    }
}

/// Removes a store and the copy of it, if they are there.
fn remove(store: &Path) -> Result<(), Failure> {
    for path in [store.to_path_buf(), as_found(store)] {
        if path.exists() {
            std::fs::remove_dir_all(&path).doing("removing a store")?;
        }
    }
    Ok(())
}

/// One store through all its lives.
struct Saga {
    path: PathBuf,
    seed: u64,
    store: u64,
    reference: Reference,
    /// Whether any life has opened it.
    opened: bool,
    /// Whether the next life is to end in the creation.
    creating: bool,
    /// Acknowledged as durable.
    durable: u64,
    /// The height that was found last: it is in the manifest, there is no way back.
    floor: u64,
    /// Nothing above this was handed in.
    highest: u64,
    /// Last published since it was last opened.
    published: u64,
    /// Roots that were told.
    roots: BTreeMap<u64, Digest>,
    kept_from: u64,
}

impl Saga {
    fn new(path: PathBuf, seed: u64, store: u64) -> Self {
        // Other blocks in every store.
        let blocks = draws(seed, "store", store).next_u64() & !LIVED;
        Self {
            path,
            seed: blocks,
            store,
            reference: Reference::new(blocks, params(blocks, store).compaction()),
            opened: false,
            creating: false,
            durable: 0,
            floor: 0,
            highest: 0,
            published: 0,
            roots: BTreeMap::new(),
            kept_from: 0,
        }
    }

    /// A copy of a store that has lived until pruning began.
    fn lived(path: PathBuf, seed: u64, store: u64, images: &Images) -> Result<Self, Failure> {
        let mut saga = Self::new(path, seed, store);
        saga.seed |= LIVED;
        saga.reference = images.copy(saga.seed, params(saga.seed, store), &saga.path)?;
        let height = saga.reference.height();
        (saga.opened, saga.durable, saga.floor) = (true, height, height);
        (saga.highest, saga.published) = (height, height);
        Ok(saga)
    }

    /// Starts a child and kills it at its moment.
    fn live(
        &mut self,
        program: &Program,
        number: u64,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let draw = if self.creating { Life::creating } else { Life::draw };
        let life = draw(self.seed, number);
        self.keep_as_found()?;
        let args = [
            "child".into(),
            "--dir".into(),
            self.path.clone().into_os_string(),
            "--seed".into(),
            self.seed.to_string().into(),
            "--store".into(),
            self.store.to_string().into(),
            "--life".into(),
            number.to_string().into(),
        ];
        let creating = self.creating.then(|| "--creating".into());
        let mut child = Child::start(program, args.into_iter().chain(creating))?;
        let mut heard =
            Stage { last: if self.opened { "open" } else { "create" }, ..Stage::default() };
        let mut deadline = None;
        let mut events = 0;
        if let Moment::After { event: Event::Spawned, micros, .. } = life.moment {
            deadline = Some(Instant::now() + Duration::from_micros(micros));
        }
        // A moment that does not come: it dies after so many lines at the latest.
        let mut patience = 400_u64;
        loop {
            match child.hear(deadline).map_err(|failure| failure.at(format!("{life:?}")))? {
                Heard::Nothing => break,
                Heard::End => {
                    let end = child.wait()?;
                    if !end.status.success() || heard.last != "closed" {
                        let text = end.complaints;
                        return fail(format!("the child ended, {}: {text} ({life:?})", end.status));
                    }
                    figures.closed += 1;
                    self.note_kept(&life);
                    return Ok(());
                }
                Heard::Line(line) => {
                    self.note(&line, &mut heard, figures)?;
                    patience -= 1;
                    if matches!(line, Line::Held(_)) || patience == 0 {
                        break;
                    }
                    if let Moment::After { event, count, micros } = life.moment {
                        events += u64::from(is(event, &line));
                        if deadline.is_none() && events == count {
                            deadline = Some(Instant::now() + Duration::from_micros(micros));
                        }
                    }
                }
            }
        }
        let end = child.kill()?;
        for line in &end.rest {
            self.note(line, &mut heard, figures)?;
        }
        self.note_kept(&life);
        if !end.complaints.is_empty() {
            return fail(format!("the child complained: {} ({life:?})", end.complaints));
        }
        if end.status.success() {
            figures.closed += 1;
            return Ok(());
        }
        figures.kills += 1;
        *figures.stages.entry(heard.last).or_default() += 1;
        if let Some(held) = heard.held {
            *figures.held.entry(held).or_default() += 1;
        }
        Ok(())
    }

    fn note_kept(&mut self, life: &Life) {
        self.kept_from = self.kept_from.max(life.kept_from(self.highest));
    }

    /// Takes note of a line.
    fn note(
        &mut self,
        line: &Line,
        heard: &mut Stage,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        match line {
            Line::Open(height, root) => {
                heard.last = "write";
                self.found(*height, figures)?;
                self.root(*height, *root)?;
            }
            Line::Submitting(height) => self.highest = self.highest.max(*height),
            Line::Accepted(_) | Line::InUse => {}
            Line::Removing => figures.removals += 1,
            Line::Published(height, root) => {
                self.published = self.published.max(*height);
                self.root(*height, *root)?;
            }
            Line::Durable(height) => {
                figures.durable += height.saturating_sub(self.durable);
                self.durable = self.durable.max(*height);
            }
            Line::Held(what) => {
                if what.starts_with("removing ") && heard.last == "write" {
                    heard.last = "prune";
                }
                heard.held = Some(class(what, &self.path));
            }
            Line::Closing => heard.last = "close",
            Line::Closed => heard.last = "closed",
        }
        Ok(())
    }

    fn root(&mut self, height: u64, root: Digest) -> Result<(), Failure> {
        let known = *self.roots.entry(height).or_insert(root);
        let wanted = self.reference.root(height).unwrap_or(known);
        if known != root || wanted != root {
            return fail(format!("height {height} had root {known}, now {root}; wanted {wanted}"));
        }
        Ok(())
    }

    /// The store was opened at this height.
    fn found(&mut self, height: u64, figures: &mut Figures) -> Result<(), Failure> {
        if !(self.durable.max(self.floor)..=self.highest).contains(&height) {
            return fail(format!(
                "LOST: height {height} found, {} acknowledged as durable, {} found before, {} \
                 handed in",
                self.durable, self.floor, self.highest
            ));
        }
        figures.most_lost = figures.most_lost.max(self.published.saturating_sub(height));
        (self.opened, self.floor) = (true, height);
        self.highest = height;
        self.published = height;
        Ok(())
    }

    /// Keeps the directory as the last life left it: whoever opens the store next changes it, and
    /// a failure is to be looked into.
    fn keep_as_found(&self) -> Result<(), Failure> {
        let kept = as_found(&self.path);
        if kept.exists() {
            std::fs::remove_dir_all(&kept).doing("removing the last copy")?;
        }
        if self.path.exists() {
            copy(&self.path, &kept).doing("copying the store")?;
        }
        Ok(())
    }

    fn compare(&mut self, number: u64, figures: &mut Figures) -> Result<(), Failure> {
        self.keep_as_found()?;
        let mut store = match Store::open(&self.path, Options::new()) {
            Err(Error::NoStore(_) | Error::Unfinished(_)) if !self.opened => return Ok(()),
            other => other.doing("opening")?,
        };
        let (height, root) = store.reader().root();
        self.found(height.0, figures)?;
        self.root(height.0, root)?;
        let extent = Extent { kept_from: self.kept_from, seed: number };
        compare::published(&store.reader(), &mut self.reference, extent)?;
        // Roots that were told before the reference had come so far.
        for (told, root) in self.roots.range(..=height.0) {
            if self.reference.root(*told) != Some(*root) {
                return fail(format!("height {told} was told to have root {root}"));
            }
        }
        figures.compared += 1;
        if figures.compared.is_multiple_of(CHECK) {
            compare::check(&mut store, &mut self.reference)?;
            figures.checks += 1;
        }
        store.close().doing("closing")
    }
}

/// Where the copy lies.
fn as_found(store: &Path) -> PathBuf {
    store.with_extension("as-found")
}

/// What a child was doing.
#[derive(Debug, Default)]
struct Stage {
    last: &'static str,
    held: Option<String>,
}

fn is(event: Event, line: &Line) -> bool {
    match event {
        Event::Spawned => false,
        Event::Open => matches!(line, Line::Open(..)),
        Event::Accepted => matches!(line, Line::Accepted(_)),
        Event::Published => matches!(line, Line::Published(..)),
        Event::Durable => matches!(line, Line::Durable(_)),
        Event::Removing => matches!(line, Line::Removing),
        Event::Closing => matches!(line, Line::Closing),
    }
}

/// The operation and the part of the store: "syncing log".
fn class(held: &str, store: &Path) -> String {
    let store = store.display().to_string();
    match held.split_once(&store) {
        Some((op, path)) => {
            let part = path.trim_start_matches('/').split('/').next().unwrap_or_default();
            let part = if part.is_empty() { "the directory" } else { part };
            format!("{}{part}", op)
        }
        // "arriving at commit: begin".
        None if held.starts_with(&VfsOp::Point.to_string()) => held.to_owned(),
        None => held.split(" /").next().unwrap_or(held).to_owned() + " a parent",
    }
}
