//! The commands of this module, for the program.

use super::kill::{self, Figures, Limit};
use super::talk::Program;
use super::{Doing, Failure, child, copy, fail, full, two};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
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
    /// Stores at a time; default: as many as there are cores.
    #[arg(long)]
    stores: Option<usize>,
}

/// Runs `torture kill`.
pub fn kill(args: &KillArgs) -> ExitCode {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let dir = place(args.dir.as_deref());
    println!("kill: seed {seed}, in {}", dir.display());
    let mut figures = Figures::default();
    // While one waits for the disk, another goes on.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let stores = args.stores.unwrap_or(cores).clamp(1, 64);
    let limit = Limit::Time(Duration::from_secs_f64(args.minutes.clamp(0.0, 1e6) * 60.0));
    let result = Program::this().and_then(|program| {
        std::fs::create_dir_all(&dir).doing("making the directory")?;
        kill::run(&program, &dir, seed, limit, stores, &mut figures)
    });
    println!("{figures}");
    leave(&dir, &result);
    let again = format!("torture kill --seed {seed} --minutes {}", args.minutes);
    verdict(result, &again)
}

/// Arguments of `torture full`.
#[derive(Clone, Debug, clap::Args)]
pub struct FullArgs {
    /// Times that the file system is full.
    #[arg(long, default_value_t = 30)]
    rounds: u64,
    /// Seed of blocks, options and sizes; default: another one every time.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the small file system is mounted; default: below the system's directory for such
    /// things.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Fail if nothing may be mounted here.
    #[arg(long)]
    require: bool,
}

/// Arguments of `torture two`.
#[derive(Clone, Debug, clap::Args)]
pub struct TwoArgs {
    /// Rounds.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Seed of blocks, options and rounds; default: another one every time.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the stores are made; default: below the system's directory for such things.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs `torture two`.
pub fn two(args: &TwoArgs) -> ExitCode {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let dir = place(args.dir.as_deref());
    println!("two: seed {seed}, in {}", dir.display());
    let mut figures = two::Figures::default();
    let result = Program::this().and_then(|program| {
        std::fs::create_dir_all(&dir).doing("making the directory")?;
        two::run(&program, &dir, seed, args.rounds, &mut figures)
    });
    println!("{figures}");
    leave(&dir, &result);
    verdict(result, &format!("torture two --seed {seed} --rounds {}", args.rounds))
}

/// After a success nothing is left in the directory; then it goes, unless others use it too.
fn leave(dir: &Path, result: &Result<(), Failure>) {
    if result.is_ok() {
        // It fails if there is something in it, which is not ours then.
        let _ = std::fs::remove_dir(dir);
    }
}

/// Arguments of `torture full-inside`: what `torture full` runs where the file system is mounted.
#[derive(Clone, Debug, clap::Args)]
pub struct InsideArgs {
    #[arg(long)]
    rounds: u64,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    dir: PathBuf,
}

/// Runs `torture full`: this program again, where a small file system is mounted that nobody else
/// sees and that goes with the process.
pub fn full(args: &FullArgs) -> ExitCode {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let dir = place(args.dir.as_deref());
    let mut why = String::new();
    let ways = ["-m", "-rm"];
    let way = ways.into_iter().find(|way| match mounted(way, &dir, ["true".into()]) {
        Ok(()) => true,
        Err(failure) => {
            why = failure.to_string();
            false
        }
    });
    let Some(way) = way else {
        leave(&dir, &Ok(()));
        println!("!!! NOT RUN: torture full: no small file system can be mounted here: {why}");
        return if args.require { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    println!("full: seed {seed}, in {}", dir.display());
    let result = std::env::current_exe().doing("finding this program").and_then(|program| {
        let inside = [
            program.into_os_string(),
            "full-inside".into(),
            "--rounds".into(),
            args.rounds.to_string().into(),
            "--seed".into(),
            seed.to_string().into(),
            "--dir".into(),
            dir.clone().into_os_string(),
        ];
        mounted(way, &dir, inside)
    });
    leave(&dir, &result);
    verdict(result, &format!("torture full --seed {seed} --rounds {}", args.rounds))
}

/// Runs a program in a mount namespace of its own, with a small file system at `dir`.
fn mounted(
    way: &str,
    dir: &Path,
    program: impl IntoIterator<Item = OsString>,
) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).doing("making the directory")?;
    let script = r#"mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args([way, "sh", "-c", script, "sh"]).arg(full::ROOM.to_string()).arg(dir);
    // Its end tells the program inside that nobody is left.
    let child = command.args(program).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.doing("running unshare")?;
    let stdin = child.stdin.take();
    let output = child.wait_with_output().doing("waiting for unshare")?;
    drop(stdin);
    if output.status.success() {
        return Ok(());
    }
    fail(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

/// Runs `torture full-inside`.
///
/// # Errors
/// Whatever was lost or wrong.
pub fn full_inside(args: &InsideArgs) -> Result<(), Failure> {
    child::end_with_the_parent();
    let mut figures = full::Figures::default();
    let result = full::run(&args.dir, args.seed, args.rounds, &mut figures);
    println!("{figures}");
    let Err(failure) = result else { return Ok(()) };
    // The file system goes with this process.
    let kept = args.dir.with_extension("failed");
    copy(&args.dir, &kept).doing(format!("keeping a copy after {failure}"))?;
    Err(failure.at(format!("a copy is in {}", kept.display())))
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
            println!("!!! FAILED: {failure}\n    again: {again}   (what was found is kept)");
            ExitCode::FAILURE
        }
    }
}
