//! `torture two`: several processes want one store, and one of them has it.
//!
//! ```text
//!  holder   open ── blocks ── SIGKILL
//!  parent         create, open, open_or_create: in use   │ open at once, or
//!  1 to 4 others           in use, in use, in use, ...   │ one after the other: open, a block, close
//!                                                        ▼
//!                          heights without a gap, the reference's roots and state
//! ```
//!
//! In some rounds there is no holder: then the others race from the start, for a store that does not
//! exist yet every time a new one begins.

use super::blocks::{LIVED, draws};
use super::compare::{self, Extent};
use super::contend::mark;
use super::life::params;
use super::line::Line;
use super::reference::Reference;
use super::talk::{Child, Heard, Program};
use super::{Doing, Failure, Watch, fail};
use hedgerow::{Digest, Error, Options, Store};
use std::fmt;
use std::path::{Path, PathBuf};

/// Rounds with one store.
const ROUNDS: u64 = 8;
/// Every so many rounds the store checks itself.
const CHECK: u64 = 5;

/// What was done and seen.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Rounds.
    pub rounds: u64,
    /// Stores.
    pub stores: u64,
    /// Holders killed.
    pub kills: u64,
    /// Opened in one attempt after a kill.
    pub at_once: u64,
    /// Calls of this process that were told that the store is in use.
    pub refused: u64,
    /// Other processes that were told so.
    pub waited: u64,
    /// Races for a store.
    pub races: u64,
    /// Of these, for one that did not exist.
    pub creations: u64,
    /// Processes that won, one after the other.
    pub winners: u64,
    /// Blocks found in stores, summed.
    pub blocks: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "rounds {}, stores {}, holders killed {}, opened at once afterwards {}",
            self.rounds, self.stores, self.kills, self.at_once
        )?;
        writeln!(f, "in use: {} calls, {} processes that waited", self.refused, self.waited)?;
        write!(
            f,
            "races {} (for a creation {}), winners {}, blocks {}",
            self.races, self.creations, self.winners, self.blocks
        )
    }
}

/// Goes through `rounds` rounds; `dir` holds the stores.
///
/// # Errors
/// Whatever was wrong. The store's directory is kept then.
pub fn run(
    program: &Program,
    dir: &Path,
    seed: u64,
    rounds: u64,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let watch = Watch::start();
    while figures.rounds < rounds {
        let store = figures.stores;
        figures.stores += 1;
        let path = dir.join(format!("two-{seed}-{store}"));
        remove(&path)?;
        let mut saga = Saga::new(program, path.clone(), seed, store);
        for _ in 0..ROUNDS {
            if figures.rounds == rounds {
                break;
            }
            let place =
                format!("seed {seed}, store {store}, round {}: {}", figures.rounds, path.display());
            watch.next(&place);
            saga.round(figures).map_err(|failure| failure.at(&place))?;
            figures.rounds += 1;
        }
        figures.blocks += saga.reference.height();
        remove(&path)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        std::fs::remove_dir_all(path).doing("removing a store")?;
    }
    if mark(path).exists() {
        std::fs::remove_file(mark(path)).doing("removing a mark")?;
    }
    Ok(())
}

/// One store through its rounds.
struct Saga<'p> {
    program: &'p Program,
    path: PathBuf,
    seed: u64,
    store: u64,
    lives: u64,
    reference: Reference,
    /// The height before which nothing is lost.
    durable: u64,
    /// Nothing above this was handed in.
    highest: u64,
}

impl<'p> Saga<'p> {
    fn new(program: &'p Program, path: PathBuf, seed: u64, store: u64) -> Self {
        let blocks = draws(seed, "two", store).next_u64() & !LIVED;
        Self {
            program,
            path,
            seed: blocks,
            store,
            lives: 0,
            reference: Reference::new(blocks, params(blocks, store).compaction()),
            durable: 0,
            highest: 0,
        }
    }

    fn round(&mut self, figures: &mut Figures) -> Result<(), Failure> {
        let mut d = draws(self.seed, "round", figures.rounds);
        // Every other store begins with a race for its creation.
        let race = d.below(4) == 0 || (self.store.is_multiple_of(2) && !self.path.exists());
        let holder = if race { None } else { Some(self.holder(d.below(6))?) };
        let others = if holder.is_some() { d.below(5) } else { 2 + d.below(3) };
        if holder.is_some() {
            self.refused(figures)?;
        } else {
            figures.creations += u64::from(!self.path.exists());
        }
        let mut children = Vec::new();
        for _ in 0..others {
            children.push(self.contend(false)?);
        }
        if let Some(holder) = holder {
            for child in &mut children {
                match child.hear(None)? {
                    Heard::Line(Line::InUse) => figures.waited += 1,
                    other => return fail(format!("TWO AT ONCE: beside the holder: {other:?}")),
                }
            }
            self.refused(figures)?;
            let end = holder.kill()?;
            figures.kills += 1;
            if !end.complaints.is_empty() {
                return fail(format!("the holder complained: {}", end.complaints));
            }
            end.rest.iter().try_for_each(|line| self.note(line))?;
            figures.at_once += u64::from(others == 0);
        }
        figures.races += u64::from(others > 0);
        self.race(children, figures)?;
        self.compare(figures)
    }

    fn contend(&mut self, hold: bool) -> Result<Child, Failure> {
        self.lives += 1;
        let args = [
            "contend".into(),
            "--dir".into(),
            self.path.clone().into_os_string(),
            "--seed".into(),
            self.seed.to_string().into(),
            "--store".into(),
            self.store.to_string().into(),
            "--life".into(),
            self.lives.to_string().into(),
        ];
        let hold = hold.then(|| "--hold".into());
        Child::start(self.program, args.into_iter().chain(hold))
    }

    /// A process that has the store and made some blocks durable.
    fn holder(&mut self, blocks: u64) -> Result<Child, Failure> {
        let mut child = self.contend(true)?;
        let mut durable = 0;
        let mut open = false;
        while !open || durable < blocks {
            match child.hear(None)? {
                Heard::Line(line) => {
                    open |= matches!(line, Line::Open(..));
                    durable += u64::from(matches!(line, Line::Durable(_)));
                    self.note(&line)?;
                }
                other => {
                    drop(child);
                    return fail(format!("the holder of a free store: {other:?}"));
                }
            }
        }
        Ok(child)
    }

    /// Takes note of what a process says that has the store.
    fn note(&mut self, line: &Line) -> Result<(), Failure> {
        match line {
            Line::Open(height, root) => {
                self.found(*height, *root)?;
                (self.durable, self.highest) = (*height, *height);
            }
            Line::Submitting(height) => self.highest = self.highest.max(*height),
            Line::Published(height, root) => self.root(*height, *root)?,
            Line::Durable(height) => self.durable = self.durable.max(*height),
            _ => {}
        }
        Ok(())
    }

    fn found(&mut self, height: u64, root: Digest) -> Result<(), Failure> {
        if !(self.durable..=self.highest).contains(&height) {
            return fail(format!(
                "LOST: height {height} found, {} durable, {} handed in",
                self.durable, self.highest
            ));
        }
        self.root(height, root)
    }

    fn root(&mut self, height: u64, root: Digest) -> Result<(), Failure> {
        if self.reference.root(height).is_none() {
            self.reference.go_to(height);
        }
        if self.reference.root(height) != Some(root) {
            return fail(format!("height {height} has root {root}"));
        }
        Ok(())
    }

    /// Every way to open is refused while somebody else has the store.
    fn refused(&self, figures: &mut Figures) -> Result<(), Failure> {
        let params = params(self.seed, self.store);
        let tries = [
            ("create", Store::create(&self.path, params, Options::new())),
            ("open", Store::open(&self.path, Options::new())),
            ("open_or_create", Store::open_or_create(&self.path, params, Options::new())),
        ];
        for (what, result) in tries {
            match result {
                Err(Error::InUse { dir, .. }) if dir == self.path => figures.refused += 1,
                Err(error) => return fail(format!("{what} beside the holder: {error}")),
                Ok(_) => return fail(format!("TWO AT ONCE: {what} beside the holder")),
            }
        }
        Ok(())
    }

    /// Waits for all of them: everyone had the store once, in some order.
    fn race(&mut self, children: Vec<Child>, figures: &mut Figures) -> Result<(), Failure> {
        let mut winners = Vec::new();
        for child in children {
            let end = child.wait()?;
            let open = end.rest.iter().find_map(|line| match line {
                Line::Open(height, _) => Some(*height),
                _ => None,
            });
            let Some(open) = open.filter(|_| end.status.success()) else {
                return fail(format!("one of the others: {}: {}", end.status, end.complaints));
            };
            figures.waited += u64::from(end.rest.contains(&Line::InUse));
            winners.push((open, end.rest));
        }
        // The order in which they had it.
        winners.sort_by_key(|(height, _)| *height);
        for (place, (height, lines)) in winners.iter().enumerate() {
            if place > 0 && *height != self.durable {
                return fail(format!("height {height} found after {}", self.durable));
            }
            lines.iter().try_for_each(|line| self.note(line))?;
            if self.durable != height + 1 {
                return fail(format!("a winner at height {height} wrote up to {}", self.durable));
            }
            figures.winners += 1;
        }
        Ok(())
    }

    /// Nobody has the store: it opens at the first attempt and is what it should be.
    fn compare(&mut self, figures: &Figures) -> Result<(), Failure> {
        let mut store = Store::open(&self.path, Options::new()).doing("opening a free store")?;
        let (height, root) = store.reader().root();
        self.found(height.0, root)?;
        (self.durable, self.highest) = (height.0, height.0);
        let extent = Extent { kept_from: u64::MAX, seed: self.lives };
        compare::published(&store.reader(), &mut self.reference, extent)?;
        if figures.rounds.is_multiple_of(CHECK) {
            compare::check(&mut store, &mut self.reference)?;
        }
        store.close().doing("closing")
    }
}
