//! `engines`: what writing and reading costs in other people's stores and in ours.
//!
//! ```text
//!   race ──► a process `run` for each engine, in turns ──► each a process `reopen` ──► results, a line of JSON a run
//!   table, plot ◄── results
//! ```
#![forbid(unsafe_code)]

mod race;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hedgerow_benches::usage;
use hedgerow_compare_stores::{
    Engine, Failure, STORES, plot, results,
    run::{self, Figures, ReopenFigures},
    table,
    workload::{Changes, Plan},
};
use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

/// What writing and reading costs in other people's stores and in ours. All use the system's allocator, keys and values of
/// 32 bytes, and the same changes in the same blocks.
#[derive(Debug, Parser)]
#[command(name = "engines", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// The engines that this program has
    List,
    /// Run one engine in this process, and print a line of JSON
    Run(RunArgs),
    /// Open what `run` left, and print a line of JSON
    #[command(hide = true)]
    Reopen(RunArgs),
    /// Run several engines in turns, each in a process of its own, and append a line of JSON each to a file
    Race(race::RaceArgs),
    /// Print what a file of results says, in markdown: medians, spreads and ratios to ours
    Table {
        /// Lines of `race` or `run`
        results: PathBuf,
    },
    /// Draw what a file of results says, as SVG
    Plot {
        /// Lines of `race` or `run`
        results: PathBuf,
        /// The directory of the plots, which are replaced
        #[arg(long)]
        into: PathBuf,
    },
}

#[derive(Clone, Debug, Args)]
struct RunArgs {
    /// The engine
    #[arg(long, value_parser = engine)]
    engine: Engine,
    /// Keys that are created before the update phase
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    #[command(flatten)]
    load: Load,
    /// An empty directory, or one that is not there yet, on the disk that is meant; it is kept [a temporary one, which may be
    /// in memory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Seconds before the run in which it is seen what others do on this machine
    #[arg(long, default_value_t = 2.0)]
    watch: f64,
    /// The round of a race that this is
    #[arg(long, default_value_t = 0, hide = true)]
    round: u32,
}

#[derive(Clone, Debug, Args)]
struct Load {
    /// Blocks of the update phase
    #[arg(long, default_value_t = 20)]
    blocks: u64,
    /// Changes of each, of distinct keys
    #[arg(long, default_value_t = 50_000)]
    block_ops: u64,
    /// Creates of a block before
    #[arg(long, default_value_t = 50_000)]
    populate_block_ops: u64,
    /// Changes of the update phase
    #[arg(long, value_enum, default_value_t = Mix::Update)]
    mix: Mix,
    /// Keys to read after it
    #[arg(long, default_value_t = 200_000)]
    reads: u64,
    /// Keys to prove after it
    #[arg(long, default_value_t = 50_000)]
    proofs: u64,
    /// Decides keys, values and changes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mix {
    /// Updates of random keys
    Update,
    /// 90 % updates, 5 % creates, 5 % deletes
    Mixed,
    /// Creates
    Create,
}

impl Load {
    fn plan(&self, keys: u64) -> Plan {
        let changes = match self.mix {
            Mix::Update => Changes::Update,
            Mix::Mixed => Changes::Mixed,
            Mix::Create => Changes::Create,
        };
        let Self { blocks, block_ops, populate_block_ops, reads, proofs, seed, .. } = *self;
        Plan { keys, populate_block_ops, blocks, block_ops, changes, reads, proofs, seed }
    }

    /// The flags that say the same.
    fn flags(&self) -> Vec<String> {
        let mix = self.mix.to_possible_value().map_or(String::new(), |mix| mix.get_name().into());
        let numbers = [
            ("--blocks", self.blocks),
            ("--block-ops", self.block_ops),
            ("--populate-block-ops", self.populate_block_ops),
            ("--reads", self.reads),
            ("--proofs", self.proofs),
            ("--seed", self.seed),
        ];
        let numbers = numbers.map(|(flag, number)| format!("{flag}={number}"));
        numbers.into_iter().chain([format!("--mix={mix}")]).collect()
    }
}

/// An engine by its name.
fn engine(name: &str) -> Result<Engine, String> {
    let names = || STORES.iter().map(|engine| engine.name).collect::<Vec<_>>().join(", ");
    let found = STORES.iter().find(|engine| engine.name == name);
    found.copied().ok_or_else(|| format!("engines are {}", names()))
}

/// Why the program ends without what it was asked for.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Run(#[from] Failure),
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0} is not empty: a run needs a directory of its own")]
    NotEmpty(PathBuf),
    #[error("starting a process: {0}")]
    Start(io::Error),
    #[error("{0} of {1} ended with {2}")]
    Child(&'static str, &'static str, std::process::ExitStatus),
    #[error("a line of results: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0} opens with another root")]
    Root(&'static str),
    #[error("{0} runs failed")]
    Failed(usize),
}

fn io_of(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    |error| Error::File(path, error)
}

/// The same program with other arguments, its output read.
fn call(name: &'static str, engine: &Engine, args: &[String]) -> Result<Vec<u8>, Error> {
    let program = std::env::current_exe().map_err(Error::Start)?;
    let mut command = Command::new(program);
    command.arg(name).arg(format!("--engine={}", engine.name)).args(args);
    let ran = command.stderr(Stdio::inherit()).output().map_err(Error::Start)?;
    if !ran.status.success() {
        return Err(Error::Child(name, engine.name, ran.status));
    }
    Ok(ran.stdout)
}

fn run_one(args: &RunArgs) -> Result<Figures, Error> {
    let temporary = tempfile::tempdir().map_err(Error::Start)?;
    let dir = args.dir.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(dir).map_err(io_of(dir))?;
    if std::fs::read_dir(dir).map_err(io_of(dir))?.next().is_some() {
        return Err(Error::NotEmpty(dir.to_path_buf()));
    }
    let watch = Duration::try_from_secs_f64(args.watch).unwrap_or_default();
    let busy_percent = if watch.is_zero() { None } else { usage::busy_percent(watch) };
    let plan = args.load.plan(args.keys);
    let mut figures = run::run(&args.engine, &plan, dir)?;
    figures.busy_percent = busy_percent;
    figures.round = args.round;

    let mut flags = args.load.flags();
    flags.extend([format!("--keys={}", args.keys), format!("--dir={}", dir.display())]);
    let reopened: ReopenFigures = serde_json::from_slice(&call("reopen", &args.engine, &flags)?)?;
    if reopened.root != figures.root {
        return Err(Error::Root(args.engine.name));
    }
    figures.reopen = Some(reopened);
    Ok(figures)
}

fn list() {
    for engine in STORES {
        println!("{} {}", engine.name, engine.version());
        println!("    {}", engine.durability);
        println!("    {}", engine.tuning);
        match engine.proofs {
            Some(proofs) => println!("    proves {}", proofs.say),
            None => println!("    no proofs by key"),
        }
    }
}

fn read(results: &Path) -> Result<Vec<Figures>, Error> {
    let text = std::fs::read_to_string(results).map_err(io_of(results))?;
    Ok(results::lines(&text)?)
}

fn carry_out(task: &Task) -> Result<(), Error> {
    match task {
        Task::List => list(),
        Task::Run(args) => println!("{}", serde_json::to_string(&run_one(args)?)?),
        Task::Reopen(args) => {
            let dir = args.dir.as_deref().unwrap_or(Path::new("."));
            let figures = run::reopen(&args.engine, &args.load.plan(args.keys), dir)?;
            println!("{}", serde_json::to_string(&figures)?);
        }
        Task::Race(args) => race::race(args)?,
        Task::Table { results } => print!("{}", table::tables(&read(results)?)),
        Task::Plot { results, into } => {
            std::fs::create_dir_all(into).map_err(io_of(into))?;
            for name in plot::plots(&read(results)?, into)? {
                println!("{}", into.join(name).display());
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match carry_out(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engines: {error}");
            ExitCode::FAILURE
        }
    }
}
