//! Several engines in turns.

use crate::{Error, Load, call, engine, io_of};
use clap::Args;
use hedgerow_compare_stores::{Engine, STORES};
use std::{fs::OpenOptions, io::Write as _, path::PathBuf};

#[derive(Clone, Debug, Args)]
pub(crate) struct RaceArgs {
    /// Rounds: in each, every engine runs once
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Engines, in the order of the first round; in every other one the next of them begins [all]
    #[arg(long, value_parser = engine, value_delimiter = ',')]
    engines: Vec<Engine>,
    /// How many keys are created before the update phase; several numbers make as many runs of each engine in a round
    #[arg(long, value_delimiter = ',', default_value = "1000000")]
    keys: Vec<u64>,
    #[command(flatten)]
    load: Load,
    /// Where the lines go, behind what is there
    #[arg(long)]
    out: PathBuf,
    /// A directory on the disk that is meant; stores are made in it and removed [the system's for temporary files, which may
    /// be in memory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Seconds before each run in which it is seen what others do on this machine
    #[arg(long, default_value_t = 2.0)]
    watch: f64,
}

/// Runs the engines. One that fails is told of, and the others go on.
pub(crate) fn race(args: &RaceArgs) -> Result<(), Error> {
    let mut engines = args.engines.clone();
    if engines.is_empty() {
        engines = STORES.to_vec();
    }
    let within = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&within).map_err(io_of(&within))?;
    let out = OpenOptions::new().create(true).append(true).open(&args.out);
    let mut out = out.map_err(io_of(&args.out))?;
    let mut failed = 0;
    for round in 0..args.rounds {
        for keys in &args.keys {
            for engine in &engines {
                let dir = tempfile::Builder::new().prefix("engines-").tempdir_in(&within);
                let dir = dir.map_err(io_of(&within))?;
                let mut flags = args.load.flags();
                flags.push(format!("--keys={keys}"));
                flags.push(format!("--round={round}"));
                flags.push(format!("--watch={}", args.watch));
                flags.push(format!("--dir={}", dir.path().display()));
                match call("run", engine, &flags) {
                    Ok(line) => out.write_all(&line).map_err(io_of(&args.out))?,
                    Err(error) => {
                        eprintln!("engines: {error}");
                        failed += 1;
                    }
                }
            }
        }
        engines.rotate_left(1);
    }
    if failed > 0 { Err(Error::Failed(failed)) } else { Ok(()) }
}
