//! What readers notice of a block: latencies of single reads and proofs while nothing happens, and while
//! one large block after the other is published; and what publishing notices of an iterator.
//!
//! ```text
//!   idle       reader ─ get, prove, get, prove ...                      p50, p99, max
//!   busy       reader ─ get, prove ...      writer ─ blocks of --block-ops updates, one after the other
//!   elsewhere  somebody ─ goes through all keys of another store        writer ─ blocks, timed
//!   iterating  somebody ─ goes through all keys of this one             writer ─ the same blocks, timed
//!   alone                                                               writer ─ the same blocks, timed
//! ```
//!
//! What `iterating` takes longer than `elsewhere` is what the iterator keeps the writer waiting for; what
//! `elsewhere` takes longer than `alone` is cores, caches and memory that the two share. Those two are
//! measured block by block in turns.
//!
//! On as many cores as there are threads at work, `busy` against `idle` shows waiting alone; on fewer, what
//! the reader's thread loses to the others as well.

use clap::Parser;
use hedgerow::{Height, Options, Reader, Store, StoreParams};
use hedgerow_benches::spread::Spread;
use hedgerow_benches::workload::Generator;
use serde::Serialize;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Latencies of readers beside a writer, and of a writer beside an iterator.
#[derive(Parser, Debug)]
#[command(name = "readers", version)]
struct Args {
    /// Keys in the store.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Updates of a block.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    block_ops: u32,
    /// Blocks of each phase.
    #[arg(long, default_value_t = 6)]
    blocks: u64,
    /// Threads of the store's pool; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Micros {
    count: usize,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Micros {
    fn of(durations: Vec<Duration>) -> Option<Self> {
        let count = durations.len();
        let spread = Spread::of(durations)?;
        let [p50, p99, max] = [spread.p50, spread.p99, spread.max].map(|it| it.as_secs_f64() * 1e6);
        Some(Self { count, p50, p99, max })
    }
}

#[derive(Debug, Serialize)]
struct Report {
    keys: u32,
    block_ops: u32,
    threads: usize,
    get_idle: Option<Micros>,
    get_busy: Option<Micros>,
    prove_idle: Option<Micros>,
    prove_busy: Option<Micros>,
    /// From the begin of `submit` until readers see the block.
    block_alone: Option<Micros>,
    /// The same while somebody iterates over another store with the same keys.
    block_elsewhere: Option<Micros>,
    /// The same while somebody iterates over this one.
    block_iterating: Option<Micros>,
    /// Entries that the iterators visited meanwhile.
    iterated: u64,
}

/// One block of updates; the time from handing it in until readers see it.
fn block(
    store: &mut Store,
    of: &Generator,
    first: u32,
    ops: u32,
    keys: u32,
) -> Result<Duration, hedgerow::Error> {
    let height = store.height().next();
    let mut block = store.begin_block(height)?;
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for op in 0..ops {
        let id = first.wrapping_add(op) % keys;
        of.key(id, &mut key);
        of.value(id, height.0, &mut value);
        block.put(&key, &value)?;
    }
    let begin = Instant::now();
    block.submit()?.root()?;
    Ok(begin.elapsed())
}

/// Reads and proves keys until told to stop, or so many.
fn ask(
    reader: &Reader,
    of: &Generator,
    keys: u32,
    go_on: impl Fn(usize) -> bool,
) -> Result<(Vec<Duration>, Vec<Duration>), hedgerow::Error> {
    let (mut gets, mut proofs) = (Vec::new(), Vec::new());
    let (mut key, mut id) = (Vec::new(), 1_u32);
    while go_on(gets.len()) {
        id = id.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        of.key(id % keys, &mut key);
        let begin = Instant::now();
        let value = reader.get(&key)?;
        let got = Instant::now();
        reader.prove(&key)?;
        proofs.push(got.elapsed());
        gets.push(got - begin);
        assert!(value.is_some(), "a key is missing");
    }
    Ok((gets, proofs))
}

/// A store with all keys.
fn populated(
    dir: &Path,
    options: Options,
    of: &Generator,
    keys: u32,
) -> Result<Store, hedgerow::Error> {
    let mut store = Store::create(dir, StoreParams::default(), options)?;
    for first in (0..keys).step_by(50_000) {
        block(&mut store, of, first, 50_000.min(keys - first), keys)?;
    }
    store.flush()?;
    Ok(store)
}

/// Does `work` while a thread goes through all keys of `reader`, again and again. Also says how many entries
/// it visited.
fn beside_iterating<T>(
    reader: &Reader,
    work: impl FnOnce() -> Result<T, hedgerow::Error>,
) -> Result<(T, u64), Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let iterate = || -> Result<u64, hedgerow::Error> {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                for pair in reader.iter() {
                    pair?;
                    count += 1;
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
            Ok(count)
        };
        let iterating = scope.spawn(iterate);
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let iterated = iterating.join().map_err(|_| "the iterator failed")??;
        Ok((done?, iterated))
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let Args { keys, block_ops, blocks, threads, json } = args;
    let dir = tempfile::tempdir()?;
    let options = || Options::default().threads(threads);
    let of = Generator::new(1, 32, 32);
    let mut store = populated(&dir.path().join("store"), options(), &of, keys)?;
    let reader = store.reader();
    let (get_idle, prove_idle) = ask(&reader, &of, keys, |asked| asked < 100_000)?;

    let stop = AtomicBool::new(false);
    let publish = |store: &mut Store, number: u64| {
        block(store, &of, (number as u32).wrapping_mul(7_919), block_ops, keys)
    };
    let (get_busy, prove_busy) = std::thread::scope(|scope| {
        let (reader, of, stop_asking) = (&reader, &of, &stop);
        let go_on = move |_| !stop_asking.load(Ordering::Relaxed);
        let asker = scope.spawn(move || ask(reader, of, keys, go_on));
        let published = (0..blocks).try_for_each(|number| publish(&mut store, number).map(drop));
        stop.store(true, Ordering::Relaxed);
        let asked = asker.join().map_err(|_| "the reader failed")??;
        published?;
        Ok::<_, Box<dyn Error>>(asked)
    })?;
    store.flush()?;
    let alone: Result<Vec<_>, _> = (0..blocks).map(|number| publish(&mut store, number)).collect();
    let block_alone = alone?;
    store.flush()?;
    let other = populated(&dir.path().join("other"), options(), &of, keys)?;
    let (mut block_elsewhere, mut block_iterating, mut iterated) = (Vec::new(), Vec::new(), 0);
    for number in 0..2 * blocks {
        let other = other.reader();
        let (whose, times) = match number % 2 {
            0 => (&other, &mut block_elsewhere),
            _ => (&reader, &mut block_iterating),
        };
        let (took, visited) = beside_iterating(whose, || publish(&mut store, number / 2))?;
        times.push(took);
        iterated += visited;
        store.flush()?;
    }
    assert!(store.height() > Height(0));
    let report = Report {
        keys,
        block_ops,
        threads,
        get_idle: Micros::of(get_idle),
        get_busy: Micros::of(get_busy),
        prove_idle: Micros::of(prove_idle),
        prove_busy: Micros::of(prove_busy),
        block_alone: Micros::of(block_alone),
        block_elsewhere: Micros::of(block_elsewhere),
        block_iterating: Micros::of(block_iterating),
        iterated,
    };
    if json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!("{keys} keys, blocks of {block_ops} updates; microseconds");
    println!("{:18} {:>9} {:>10} {:>10} {:>10}", "", "count", "p50", "p99", "max");
    for (name, micros) in [
        ("get, idle", report.get_idle),
        ("get, busy", report.get_busy),
        ("prove, idle", report.prove_idle),
        ("prove, busy", report.prove_busy),
        ("block, alone", report.block_alone),
        ("block, elsewhere", report.block_elsewhere),
        ("block, iterating", report.block_iterating),
    ] {
        if let Some(Micros { count, p50, p99, max }) = micros {
            println!("{name:18} {count:>9} {p50:>10.1} {p99:>10.1} {max:>10.1}");
        }
    }
    println!("{iterated} entries iterated over meanwhile");
    Ok(())
}
