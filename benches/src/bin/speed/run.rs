//! A run: the phases, their clocks, and the thread that watches blocks.

use crate::Failure;
use crate::args::{Args, DurabilityArg, IndexArg};
use crate::check;
use crate::past;
use crate::report::{Cpu, CpuPhases, IndexFigures, Milliseconds, Report, Speculated};
use hedgerow::{
    Digest, Height, IndexStats, Options, Proven, Reader, Store, StoreParams, Ticket, hasher,
};
use hedgerow_benches::spread::Spread;
use hedgerow_benches::usage::{Cost, Meter, disk_bytes, memory, peak_memory};
use hedgerow_benches::workload::{Generator, KeySet, MAX_KEYS, Op, Random};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Reads and proofs that are checked.
const SAMPLES: usize = 1000;

/// Carries out what the command line asks for.
pub(crate) fn run(args: &Args) -> Result<Report, Failure> {
    let generator = Generator::new(args.seed, args.key_len, args.value_len);
    let drawn = Drawn::new(args)?;
    let driver = memory();
    let place = Place::new(args.dir.as_deref())?;

    let mut writer = Driver::new(args, &place)?;
    let populate = writer.populate(args)?;
    drop_caches(args)?;
    let (index_before, log_before) = (writer.index(), writer.store.stats().log_end.0);
    writer.index_peak = 0;
    let first_turn = writer.turn;
    let ops = drawn.ops.len() as u64;
    let update = writer.update(args, &drawn)?;
    let (index_after, log_after) = (writer.index(), writer.store.stats().log_end.0);
    let index_peak = writer.index_peak;
    let speculated = writer.speculated.filter(|_| ops > 0).map(|all| all.per(ops));
    let mut store = writer.store;
    drop_caches(args)?;

    let reader = store.reader();
    let last_block = ops.saturating_sub(1) / args.block_ops * args.block_ops;
    let last = &drawn.ops[last_block as usize..];
    check::written(&reader, &generator, last, first_turn + last_block, SAMPLES)?;
    let index_then = store.stats().index.unwrap_or_default();
    let reads = reads(&reader, &generator, &drawn.reads, args.read_threads as usize)?;
    let index_read = store.stats().index.unwrap_or_default();
    let proofs = proofs(&reader, &generator, &drawn.proofs, args.read_threads as usize)?;
    let past =
        (args.past > 0).then(|| past::measure(&reader, &generator, &drawn.proofs, args.past));
    let past = past.transpose()?;
    let stats = store.stats();
    drop(reader);
    if stats.keys != drawn.keys.len() as u64 {
        let expected = drawn.keys.len();
        return Err(Failure::Wrong(format!("{} keys, not {expected}", stats.keys)));
    }

    let rss_peak = peak_memory();
    let back = (args.roll_back > 0).then(|| past::roll_back(&mut store, args.roll_back));
    let roll_back_s = back.transpose()?;
    let (_, root) = store.reader().root();
    let start = Instant::now();
    store.close()?;
    let close = start.elapsed();
    let disk = disk_bytes(place.path())
        .map_err(|error| Failure::Io { what: "measuring the files".into(), error })?;
    let start = Instant::now();
    let store = Store::open(place.path(), options(args))?;
    let reopen = start.elapsed();
    let (_, reopened) = store.reader().root();
    if reopened != root {
        return Err(Failure::Wrong(format!("the root {root} is {reopened} after reopening")));
    }
    store.close()?;

    let mb = |bytes: u64| bytes as f64 / 1e6;
    let keys = stats.keys;
    let per_op = |pick: fn(hedgerow_benches::usage::Written) -> u64| {
        let written = update.cost.written.filter(|_| ops > 0)?;
        Some(pick(written) as f64 / ops as f64)
    };
    let index = stats.index.as_ref().map(|now| IndexFigures {
        budget_mb: mb(now.budget),
        index_peak_mb: mb(index_peak),
        fixed_mb: mb(now.fixed_bytes),
        page_reads_per_look_up_update: per(
            index_after.page_reads - index_before.page_reads,
            index_after.look_ups - index_before.look_ups,
        ),
        page_reads_per_look_up_read: per(
            index_read.page_reads - index_then.page_reads,
            index_read.look_ups - index_then.look_ups,
        ),
        index_write_bytes_per_op: per(index_after.bytes_written - index_before.bytes_written, ops),
        log_bytes_per_op: per(log_after - log_before, ops),
        merges: now.merges,
        spills: now.spills,
        files: now.files,
        file_mb: mb(now.file_bytes),
        waits: now.waits.times(),
        index_read_depth: now.read_depth,
        log_read_depth: stats.log.read_depth,
    });
    Ok(Report {
        engine: "hedgerow",
        keys: args.keys,
        blocks: args.blocks,
        block_ops: args.block_ops,
        populate_block_ops: args.populate_block_ops,
        mix: lower_case(args.mix),
        key_len: args.key_len,
        value_len: args.value_len,
        skew: args.skew,
        durability: lower_case(args.durability),
        compaction: args.compaction.to_string(),
        threads: args.threads,
        hasher: args.hasher.clone(),
        meta_engine: stats.engine,
        seed: args.seed,
        populate_ops_s: rate(&populate.cost, args.keys),
        update_ops_s: rate(&update.cost, ops),
        cpu_us_per_create: micros_per(&populate.cost, args.keys),
        cpu_us_per_update: micros_per(&update.cost, ops),
        speculate: speculated,
        cpu: CpuPhases {
            populate: Cpu::of(&populate.cost),
            update: Cpu::of(&update.cost),
            reads: Cpu::of(&reads),
            proofs: Cpu::of(&proofs.cost),
        },
        block_ms: Milliseconds::of(update.published),
        durable_ms: Milliseconds::of(update.durable),
        reads_s: rate(&reads, args.reads),
        proofs_s: rate(&proofs.cost, args.proofs),
        proof_bytes: (args.proofs > 0).then(|| proofs.bytes as f64 / args.proofs as f64),
        rss_peak_mb: rss_peak.map(mb),
        driver_mb: driver.map(mb),
        rss_peak_reopen_mb: peak_memory().map(mb),
        past,
        roll_back_s,
        index,
        index_mb: mb(stats.index_bytes as u64),
        tree_mb: mb(stats.tree_bytes as u64),
        disk_bytes_per_key: (keys > 0).then(|| disk as f64 / keys as f64),
        write_bytes_per_op: per_op(|written| written.pages),
        wchar_per_op: per_op(|written| written.calls),
        entries: stats.entries,
        commits: stats.commits,
        close_s: close.as_secs_f64(),
        reopen_s: reopen.as_secs_f64(),
        root: root.to_string(),
    })
}

/// A store after all blocks of both phases.
pub(crate) fn written(args: &Args, place: &Place) -> Result<Store, Failure> {
    let drawn = Drawn::new(args)?;
    let mut driver = Driver::new(args, place)?;
    driver.populate(args)?;
    driver.update(args, &drawn)?;
    Ok(driver.store)
}

fn params(args: &Args) -> StoreParams {
    StoreParams::default().with_compaction(args.compaction.0)
}

pub(crate) fn options(args: &Args) -> Options {
    let mut options = Options::new().threads(args.threads).durability(args.durability.durability());
    if args.value_len > 64 << 10 {
        options = options.max_value_bytes(args.value_len);
    }
    if let Ok(hasher) = hasher::by_name(&args.hasher) {
        options = options.hasher(hasher);
    }
    if let Some(blocks) = args.in_flight {
        options = options.max_in_flight(blocks as usize);
    }
    if let Some(bytes) = args.entry_cache {
        options = options.entry_cache_bytes(bytes);
    }
    if let Some(bytes) = args.link_cache {
        options = options.link_cache_bytes(bytes);
    }
    if let Some(bytes) = args.mapped_bytes {
        options = options.mapped_bytes(bytes);
    }
    options = options.index(args.index_mode());
    if let Some(heights) = args.window {
        options = options.proof_window(heights).rollback_window(heights);
    }
    if let Some(engine) = args.engine {
        options = options.engine(engine);
    }
    options
}

fn per(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// Makes the system forget files that it has cached, all but what was not written yet.
fn drop_caches(args: &Args) -> Result<(), Failure> {
    if !args.drop_caches {
        return Ok(());
    }
    let path = "/proc/sys/vm/drop_caches";
    std::fs::write(path, "1").map_err(|error| Failure::Io { what: path.into(), error })
}

fn lower_case(value: impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn rate(cost: &Cost, count: u64) -> Option<f64> {
    (count > 0).then(|| cost.rate(count))
}

pub(crate) fn micros_per(cost: &Cost, count: u64) -> Option<f64> {
    (count > 0).then(|| cost.cpu().as_secs_f64() * 1e6 / count as f64)
}

/// Everything random, drawn before any clock starts.
struct Drawn {
    ops: Vec<Op>,
    /// The keys that exist after the operations.
    keys: KeySet,
    reads: Vec<u32>,
    proofs: Vec<u32>,
}

impl Drawn {
    fn new(args: &Args) -> Result<Self, Failure> {
        let too_many = Failure::Keys { max: MAX_KEYS };
        let ops = args.blocks.checked_mul(args.block_ops).filter(|&ops| ops <= MAX_KEYS);
        let (Some(ops), Ok(keys @ 1..)) = (ops, u32::try_from(args.keys)) else {
            return Err(too_many);
        };
        let mut keys = KeySet::new(keys).skewed(args.skew);
        let mut random = Random::new(args.seed);
        let mix = args.mix.mix();
        let ops = (0..ops)
            .map(|done| keys.draw(mix, &mut random).ok_or(Failure::OutOfKeys(done)))
            .collect::<Result<_, _>>()?;
        let mut some = |count: u64| -> Result<Vec<u32>, Failure> {
            let picks = (0..count).map(|_| keys.pick(&mut random));
            picks.collect::<Option<_>>().ok_or(Failure::OutOfKeys(args.blocks * args.block_ops))
        };
        let (mut reads, proofs) = (some(args.reads)?, some(args.proofs)?);
        if args.read_keys > 0 {
            reads.iter_mut().for_each(|id| *id %= args.read_keys);
        }
        Ok(Self { ops, keys, reads, proofs })
    }
}

/// Where the store lives.
pub(crate) enum Place {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    pub(crate) fn new(dir: Option<&Path>) -> Result<Self, Failure> {
        let Some(dir) = dir else {
            let temporary =
                tempfile::Builder::new().prefix("hedgerow-speed-").tempdir().map_err(|error| {
                    Failure::Io { what: "making a temporary directory".into(), error }
                })?;
            return Ok(Self::Temporary(temporary));
        };
        let io = |error| Failure::Io { what: dir.display().to_string(), error };
        std::fs::create_dir_all(dir).map_err(io)?;
        if std::fs::read_dir(dir).map_err(io)?.next().is_some() {
            return Err(Failure::NotEmpty(dir.to_path_buf()));
        }
        Ok(Self::Given(dir.to_path_buf()))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// What a phase of blocks cost, and how long each block took.
struct Blocks {
    cost: Cost,
    published: Vec<Duration>,
    durable: Vec<Duration>,
}

/// Drives the store block by block.
struct Driver {
    store: Store,
    generator: Generator,
    /// Wait for each block before the next one begins.
    wait_durable: bool,
    /// Operations done.
    turn: u64,
    /// Most memory that the index took after a block.
    index_peak: u64,
    /// What speculative blocks cost so far, if blocks are made as such.
    speculated: Option<Speculating>,
}

/// CPU time of speculative blocks.
#[derive(Clone, Copy, Default)]
struct Speculating {
    made: Duration,
    accepted: Duration,
    /// Most bytes of memory that one took.
    most: u64,
}

impl Speculating {
    /// Per operation.
    fn per(self, ops: u64) -> Speculated {
        let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / ops as f64;
        Speculated {
            made_cpu_us: micros(self.made),
            accepted_cpu_us: micros(self.accepted),
            block_mb: self.most as f64 / 1e6,
        }
    }
}

impl Driver {
    fn new(args: &Args, place: &Place) -> Result<Self, Failure> {
        Ok(Self {
            store: Store::create(place.path(), params(args), options(args))?,
            generator: Generator::new(args.seed, args.key_len, args.value_len),
            wait_durable: args.durability == DurabilityArg::Block,
            turn: 0,
            index_peak: 0,
            speculated: None,
        })
    }

    fn index(&self) -> IndexStats {
        self.store.stats().index.unwrap_or_default()
    }

    fn populate(&mut self, args: &Args) -> Result<Blocks, Failure> {
        let create = |id| Op { id: id as u32, delete: false };
        self.phase(args, args.keys, args.populate_block_ops, create)
    }

    fn update(&mut self, args: &Args, drawn: &Drawn) -> Result<Blocks, Failure> {
        let ops = drawn.ops.len() as u64;
        self.speculated = args.speculate.then(Speculating::default);
        self.phase(args, ops, args.block_ops, |number| drawn.ops[number as usize])
    }

    /// Runs the operations `0..count` in blocks.
    fn phase(
        &mut self,
        args: &Args,
        count: u64,
        block_ops: u64,
        op: impl Fn(u64) -> Op,
    ) -> Result<Blocks, Failure> {
        let (to_published, tickets) = mpsc::channel();
        let (to_durable, published_tickets) = mpsc::channel();
        thread::scope(|scope| {
            let published = scope.spawn(move || {
                wait(tickets, |(start, ticket): &(Instant, Ticket)| {
                    ticket.root()?;
                    let elapsed = start.elapsed();
                    // Hung up: waiting failed there.
                    to_durable.send((*start, ticket.clone())).ok();
                    Ok(elapsed)
                })
            });
            let durable = scope.spawn(move || {
                wait(published_tickets, |(start, ticket): &(Instant, Ticket)| {
                    ticket.durable()?;
                    Ok(start.elapsed())
                })
            });
            let meter = Meter::read().map_err(Failure::Meter)?;
            let mut done = 0;
            while done < count {
                let end = count.min(done + block_ops);
                let (start, ticket) = self.block((done..end).map(&op))?;
                if args.index == IndexArg::Tiered {
                    self.index_peak = self.index_peak.max(self.index().memory_bytes);
                }
                // Failing, a watcher hangs up; joining it tells why.
                to_published.send((start, ticket.clone())).ok();
                if self.wait_durable {
                    ticket.durable()?;
                }
                done = end;
            }
            self.store.flush()?;
            let cost = meter.since().map_err(Failure::Meter)?;
            drop(to_published);
            let published = published.join().map_err(|_| Failure::Thread)??;
            let durable = durable.join().map_err(|_| Failure::Thread)??;
            Ok(Blocks { cost, published, durable })
        })
    }

    /// Submits one block; says when that began.
    fn block(&mut self, ops: impl Iterator<Item = Op>) -> Result<(Instant, Ticket), Failure> {
        if let Some(mut speculated) = self.speculated {
            let block = self.speculative_block(ops, &mut speculated)?;
            self.speculated = Some(speculated);
            return Ok(block);
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut block = self.store.begin_block(Height(self.store.height().0 + 1))?;
        for op in ops {
            self.generator.key(op.id, &mut key);
            if op.delete {
                block.delete(&key)?;
            } else {
                self.generator.value(op.id, self.turn, &mut value);
                block.put(&key, &value)?;
            }
            self.turn += 1;
        }
        let start = Instant::now();
        Ok((start, block.submit()?))
    }
}

impl Driver {
    /// Makes one block as a speculative one and accepts it; says when accepting it began.
    fn speculative_block(
        &mut self,
        ops: impl Iterator<Item = Op>,
        cost: &mut Speculating,
    ) -> Result<(Instant, Ticket), Failure> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let meter = Meter::read().map_err(Failure::Meter)?;
        let mut block = self.store.speculate(None)?;
        for op in ops {
            self.generator.key(op.id, &mut key);
            if op.delete {
                block.delete(&key)?;
            } else {
                self.generator.value(op.id, self.turn, &mut value);
                block.put(&key, &value)?;
            }
            self.turn += 1;
        }
        let finished = block.finish()?;
        drop(block);
        cost.made += meter.since().map_err(Failure::Meter)?.cpu();
        cost.most = cost.most.max(finished.bytes());
        let meter = Meter::read().map_err(Failure::Meter)?;
        let start = Instant::now();
        let ticket = self.store.accept(finished)?;
        self.store.flush()?;
        cost.accepted += meter.since().map_err(Failure::Meter)?.cpu();
        Ok((start, ticket))
    }
}

/// Waits for tickets as they come, and says how long each took.
fn wait<T>(
    tickets: mpsc::Receiver<T>,
    each: impl Fn(&T) -> Result<Duration, hedgerow::Error>,
) -> Result<Vec<Duration>, Failure> {
    tickets.iter().map(|ticket| Ok(each(&ticket)?)).collect()
}

/// Reads keys that exist; a sample of the values is checked beside the clock.
fn reads(
    reader: &Reader,
    generator: &Generator,
    ids: &[u32],
    threads: usize,
) -> Result<Cost, Failure> {
    let shares = ids.chunks(ids.len().div_ceil(threads).max(1));
    let meter = Meter::read().map_err(Failure::Meter)?;
    let samples = thread::scope(|scope| {
        let mut shares = shares.into_iter();
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> =
            shares.map(|ids| scope.spawn(|| read_some(reader, generator, ids))).collect();
        let mut samples = read_some(reader, generator, own)?;
        for other in others {
            samples.extend(other.join().map_err(|_| Failure::Thread)??);
        }
        Ok::<_, Failure>(samples)
    })?;
    let cost = meter.since().map_err(Failure::Meter)?;
    for (id, value) in samples {
        check::value(generator, id, value.as_deref())?;
    }
    Ok(cost)
}

/// Reads these keys, and returns some of the values, and those that are missing.
fn read_some(reader: &Reader, generator: &Generator, ids: &[u32]) -> Result<Samples, Failure> {
    let mut key = Vec::new();
    let mut samples = Vec::with_capacity(ids.len().min(SAMPLES));
    for &id in ids {
        generator.key(id, &mut key);
        let value = reader.get(&key)?;
        if samples.len() < SAMPLES || value.is_none() {
            samples.push((id, value));
        }
    }
    Ok(samples)
}

/// Keys and what was read of them.
type Samples = Vec<(u32, Option<Vec<u8>>)>;

struct Proofs {
    cost: Cost,
    bytes: u64,
}

/// Proves keys that exist, each thread its share; a sample of the proofs is verified beside the clock.
fn proofs(
    reader: &Reader,
    generator: &Generator,
    ids: &[u32],
    threads: usize,
) -> Result<Proofs, Failure> {
    let (_, root): (_, Digest) = reader.root();
    let every = ids.len().div_ceil(SAMPLES).max(1);
    let prove = |ids: &[u32]| prove_some(reader, generator, ids, every);
    let meter = Meter::read().map_err(Failure::Meter)?;
    let (bytes, samples) = thread::scope(|scope| {
        let mut shares = ids.chunks(ids.len().div_ceil(threads).max(1));
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|ids| scope.spawn(move || prove(ids))).collect();
        let (mut bytes, mut samples) = prove(own)?;
        for other in others {
            let (more, of_other) = other.join().map_err(|_| Failure::Thread)??;
            bytes += more;
            samples.extend(of_other);
        }
        Ok::<_, Failure>((bytes, samples))
    })?;
    let cost = meter.since().map_err(Failure::Meter)?;
    for (id, proven) in samples {
        check::proof(generator, id, &proven, &root)?;
    }
    Ok(Proofs { cost, bytes })
}

/// Proves these keys, and returns the bytes of all proofs and some of them.
fn prove_some(
    reader: &Reader,
    generator: &Generator,
    ids: &[u32],
    every: usize,
) -> Result<(u64, Vec<(u32, Proven)>), Failure> {
    let (mut key, mut bytes) = (Vec::new(), 0);
    let mut samples = Vec::with_capacity(ids.len().min(SAMPLES));
    for (number, &id) in ids.iter().enumerate() {
        generator.key(id, &mut key);
        let proven = reader.prove(&key)?;
        bytes += proven.proof.as_bytes().len() as u64;
        if number % every == 0 {
            samples.push((id, proven));
        }
    }
    Ok((bytes, samples))
}

impl Cpu {
    fn of(cost: &Cost) -> Self {
        Self { user_s: cost.user.as_secs_f64(), system_s: cost.system.as_secs_f64() }
    }
}

impl Milliseconds {
    fn of(durations: Vec<Duration>) -> Option<Self> {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Spread::of(durations).map(|Spread { p50, p99, max }| Self {
            p50: ms(p50),
            p99: ms(p99),
            max: ms(max),
        })
    }
}
