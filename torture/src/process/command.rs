//! The commands of this module, for the program.

use super::kill::{self, Figures, Limit};
use super::talk::Program;
use super::{Doing, Failure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `torture kill`.
#[derive(Clone, Debug, clap::Args)]
pub struct KillArgs {
    /// How long to go on.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Seed of blocks, options and moments; default: another one every time.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the stores are made; default: below the system's directory for such things.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs `torture kill`.
pub fn kill(args: &KillArgs) -> ExitCode {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let dir = place(args.dir.as_deref());
    println!("kill: seed {seed}, in {}", dir.display());
    let mut figures = Figures::default();
    let limit = Limit::Time(Duration::from_secs_f64(args.minutes.clamp(0.0, 1e6) * 60.0));
    let result = Program::this().and_then(|program| {
        std::fs::create_dir_all(&dir).doing("making the directory")?;
        kill::run(&program, &dir, seed, limit, &mut figures)
    });
    println!("{figures}");
    let again = format!("torture kill --seed {seed} --minutes {}", args.minutes);
    verdict(result, &again)
}

fn place(dir: Option<&Path>) -> PathBuf {
    let fresh = || std::env::temp_dir().join(format!("hedgerow-torture-{}", std::process::id()));
    dir.map_or_else(fresh, Path::to_path_buf)
}

fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |time| time.as_nanos() as u64 % 1_000_000_000)
}

fn verdict(result: Result<(), Failure>, again: &str) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("!!! FAILED: {failure}\n    again: {again}   (the directory is kept)");
            ExitCode::FAILURE
        }
    }
}
