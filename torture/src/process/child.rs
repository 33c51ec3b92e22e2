//! The hidden command `child`: opens a store and writes blocks until it is killed, and says on its
//! standard output what it knows.

use super::blocks::{KEYS, Plan, draws, key};
use super::life::{Hold, Life, Way, params};
use super::line::Line;
use super::{Doing, Failure, fail};
use hedgerow::disk::{POINTS, RealDisk, Vfs};
use hedgerow::{Durability, Error, Height, Reader, Store, Ticket};
use hedgerow_vfs::{HookedDisk, VfsCall, VfsOp};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// Arguments of `torture child`.
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
    /// Whether the life is to end in the store's creation.
    #[arg(long)]
    pub creating: bool,
}

/// Says a line: it is in the pipe when this returns. Without a reader there is nothing left to do.
pub(crate) fn say(line: &Line) {
    let text = format!("{line}\n");
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(4);
    }
}

/// Ends this process when its parent does, whatever it is waiting for.
pub(crate) fn end_with_the_parent() {
    std::thread::spawn(|| {
        // Nothing is ever sent.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(4);
    });
}

/// Counts the disk's operations and stands still at one of them.
#[derive(Debug, Default)]
struct Gate {
    hold: Option<Hold>,
    changes: AtomicU64,
    opened: OnceLock<u64>,
    removals: AtomicU64,
    closing: OnceLock<u64>,
    /// Arrivals at the point where it is to stand still.
    arrivals: AtomicU64,
}

impl Gate {
    /// Called before each operation.
    fn pass(&self, call: &VfsCall<'_>) {
        if call.op == VfsOp::Point {
            return self.arrive(call);
        }
        // A lock is nothing to hold in front of: nobody has opened anything yet.
        if !call.op.changes() || call.op == VfsOp::LockDir {
            return;
        }
        let number = self.changes.fetch_add(1, Ordering::SeqCst);
        let since = |start: &OnceLock<u64>| start.get().map(|start| number.saturating_sub(*start));
        let mut removal = None;
        if call.op == VfsOp::RemoveFile && self.opened.get().is_some() {
            removal = Some(self.removals.fetch_add(1, Ordering::SeqCst));
            say(&Line::Removing);
        }
        let here = match self.hold {
            None | Some(Hold::Point(..)) => false,
            Some(Hold::Change(nth)) => number == nth,
            Some(Hold::Open(nth)) => since(&self.opened) == Some(nth),
            Some(Hold::Removal(nth)) => removal == Some(nth),
            Some(Hold::Closing(nth)) => since(&self.closing) == Some(nth),
        };
        if here {
            Self::stand_still(call);
        }
    }

    /// Called at each named point.
    fn arrive(&self, call: &VfsCall<'_>) {
        let Some(Hold::Point(point, nth)) = self.hold else { return };
        let here = POINTS.get(point).is_some_and(|point| call.path == Path::new(point));
        if here && self.arrivals.fetch_add(1, Ordering::SeqCst) == nth {
            Self::stand_still(call);
        }
    }

    fn stand_still(call: &VfsCall<'_>) -> ! {
        say(&Line::Held(format!("{} {}", call.op, call.path.display())));
        loop {
            std::thread::park();
        }
    }

    /// From here on operations count from 0 for `start`.
    fn begin(&self, start: &OnceLock<u64>) {
        start.get_or_init(|| self.changes.load(Ordering::SeqCst));
    }
}

/// Runs the child until it closes its store.
///
/// # Errors
/// Any error of the store: nothing but a signal may stop it.
pub fn run(args: &Args) -> Result<(), Failure> {
    end_with_the_parent();
    let draw = if args.creating { Life::creating } else { Life::draw };
    let life = draw(args.seed, args.life);
    let hold = match life.moment {
        super::life::Moment::Held(hold) => Some(hold),
        super::life::Moment::After { .. } => None,
    };
    let gate = Arc::new(Gate { hold, ..Gate::default() });
    let hook = {
        let gate = Arc::clone(&gate);
        Arc::new(move |call: &VfsCall<'_>| {
            gate.pass(call);
            Ok(())
        })
    };
    let disk: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::new(RealDisk), hook));
    let params = params(args.seed, args.store);
    let mut store =
        Store::open_or_create(&args.dir, params, life.options(disk)).doing("opening")?;
    gate.begin(&gate.opened);
    let (height, root) = store.reader().root();
    say(&Line::Open(height.0, root));

    let done = Arc::new(AtomicBool::new(false));
    let reader = life.reads.then(|| {
        let (reader, done, seed) = (store.reader(), Arc::clone(&done), args.life);
        std::thread::spawn(move || read(&reader, seed, &done))
    });
    let (to_roots, tickets) = channel();
    let roots = std::thread::spawn(move || roots(&tickets));
    let (to_durable, tickets) = channel();
    let durable = std::thread::spawn(move || durables(&tickets));
    for height in height.0 + 1..=height.0 + life.blocks {
        let plan = Plan::new(args.seed, height);
        say(&Line::Submitting(height));
        if let Some(ticket) = hand_in(&mut store, &life, &plan)? {
            // Its errors are those of the threads, which are asked below.
            let _ = to_roots.send(ticket.clone());
            let _ = to_durable.send(ticket);
        }
    }
    drop((to_roots, to_durable));
    let last = store.height().0;
    say(&Line::Closing);
    gate.begin(&gate.closing);
    done.store(true, Ordering::SeqCst);
    store.close().doing("closing")?;
    join(roots)?;
    join(durable)?;
    reader.map_or(Ok(()), join)?;
    // After a close that went well, everything is durable.
    say(&Line::Durable(last));
    say(&Line::Closed);
    Ok(())
}

fn join(thread: JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    thread.join().unwrap_or_else(|_| fail("a thread of the child panicked"))
}

/// Hands a block in as the life wants it; the ticket if somebody has to wait for it.
fn hand_in(store: &mut Store, life: &Life, plan: &Plan) -> Result<Option<Ticket>, Failure> {
    let height = plan.height;
    let what = format!("block {height}");
    let mut block = plan.begin(store).doing(&what)?;
    if life.way == Way::Commit {
        let receipt = block.commit().doing(&what)?;
        say(&Line::Published(height, receipt.root));
        if life.durability == Durability::EachBlock {
            say(&Line::Durable(height));
        }
        return Ok(None);
    }
    let ticket = block.submit().doing(&what)?;
    say(&Line::Accepted(height));
    if life.way == Way::Flush && height.is_multiple_of(5) {
        store.flush().doing("flush")?;
        say(&Line::Durable(height));
    }
    Ok(Some(ticket))
}

fn roots(tickets: &Receiver<Ticket>) -> Result<(), Failure> {
    for ticket in tickets {
        let root = ticket.root().doing("a root")?;
        say(&Line::Published(ticket.height().0, root));
    }
    Ok(())
}

fn durables(tickets: &Receiver<Ticket>) -> Result<(), Failure> {
    for ticket in tickets {
        ticket.durable().doing("durability")?;
        say(&Line::Durable(ticket.height().0));
    }
    Ok(())
}

/// Reads and proves while blocks are written: every proof must fit its own root.
fn read(reader: &Reader, seed: u64, done: &AtomicBool) -> Result<(), Failure> {
    let mut draws = draws(seed, "reads", 0);
    while !done.load(Ordering::SeqCst) {
        let key = key(draws.below(KEYS));
        let proven = match reader.prove(&key) {
            Err(Error::Closed) => return Ok(()),
            other => other.doing("a proof")?,
        };
        hedgerow_proof::verify(&proven.root, &key, proven.proof.as_bytes())
            .doing("verifying a proof")?;
        if reader.root_at(Height(0)).is_ok() && draws.below(4) == 0 {
            for pair in reader.iter().take(50) {
                pair.doing("iterating")?;
            }
        }
    }
    Ok(())
}
