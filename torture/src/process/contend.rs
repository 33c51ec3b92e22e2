//! The hidden command `contend`: a process that wants the store that others want too.
//!
//! ```text
//!  open_or_create ──InUse──► says so once, tries again ──► open ──► the mark, made by nobody else
//!                                                                    │ one block, durable
//!                                                                    ▼
//!                                                    the mark is removed ──► close ──► end
//! ```
//!
//! The mark is a file beside the store that must not exist before: two that had the store open at the
//! same time would meet there. A holder has no mark, for it will be killed; nobody comes past it.

use super::blocks::Plan;
use super::child::{end_with_the_parent, say};
use super::life::{Life, params};
use super::line::Line;
use super::{Doing, Failure};
use hedgerow::disk::RealDisk;
use hedgerow::{Error, Height, Store};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Blocks that a holder writes before it only holds.
const HELD: u64 = 20;

/// Arguments of `torture contend`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The store's directory.
    #[arg(long)]
    pub dir: PathBuf,
    /// Seed of blocks and options.
    #[arg(long)]
    pub seed: u64,
    /// Which store: decides its parameters.
    #[arg(long)]
    pub store: u64,
    /// Which life: decides the options.
    #[arg(long)]
    pub life: u64,
    /// Writes some blocks and keeps the store until it is killed.
    #[arg(long)]
    pub hold: bool,
}

/// Where the mark is.
pub(crate) fn mark(store: &Path) -> PathBuf {
    store.with_extension("owned")
}

/// Opens the store as soon as nobody else has it, and writes.
///
/// # Errors
/// Any error of the store but `InUse`; somebody else's mark.
pub fn run(args: &Args) -> Result<(), Failure> {
    end_with_the_parent();
    let mut store = open(args)?;
    let (Height(height), root) = store.reader().root();
    if args.hold {
        say(&Line::Open(height, root));
        for height in height + 1..=height + HELD {
            write(&mut store, args.seed, height)?;
        }
        loop {
            std::thread::park();
        }
    }
    let mark = mark(&args.dir);
    let marked = OpenOptions::new().write(true).create_new(true).open(&mark);
    marked.doing("TWO AT ONCE: the mark of another one that has the store")?;
    say(&Line::Open(height, root));
    write(&mut store, args.seed, height + 1)?;
    std::fs::remove_file(&mark).doing("TWO AT ONCE: the mark went")?;
    store.close().doing("closing")?;
    say(&Line::Closed);
    Ok(())
}

fn open(args: &Args) -> Result<Store, Failure> {
    let life = Life::draw(args.seed, args.life);
    let mut told = false;
    loop {
        let params = params(args.seed, args.store);
        match Store::open_or_create(&args.dir, params, life.options(Arc::new(RealDisk))) {
            Err(Error::InUse { .. }) => {
                if !told {
                    say(&Line::InUse);
                    told = true;
                }
                // Nobody tells when the store is free.
                std::thread::park_timeout(Duration::from_micros(500));
            }
            other => return other.doing("opening"),
        }
    }
}

fn write(store: &mut Store, seed: u64, height: u64) -> Result<(), Failure> {
    say(&Line::Submitting(height));
    Plan::new(seed, height).write(store)?;
    let (height, root) = store.reader().root();
    say(&Line::Published(height.0, root));
    say(&Line::Durable(height.0));
    Ok(())
}
