//! What reading many places of a file costs, by each way that the disk has of it (`hedgerow_vfs::ReadWay`).
//!
//! ```text
//!   warm   the file is in the system's memory      CPU per read is what matters
//!   cold   what is known of it is dropped before   time per read, and how many are under way at once
//!
//!   each round: one by one, threads, ahead, ring, as the disk chooses; the same places for all
//! ```
//!
//! `DIR` must be on a disk, not in memory. Other programs that use the disk change every figure.

use clap::Parser;
use hedgerow_benches::usage::Meter;
use hedgerow_vfs::{HowRead, OneWayDisk, OpenMode, ReadAt, ReadWay, RealDisk, Vfs};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::error::Error;
use std::path::{Path, PathBuf};

/// Reads of random places of a file, in batches, by every way.
#[derive(Parser, Debug)]
#[command(name = "read_ways", version)]
struct Args {
    /// Where the file is made, and removed again.
    #[arg(long)]
    dir: PathBuf,
    /// Length of the file in MiB.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..))]
    mib: u64,
    /// Bytes of a read.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..65_536))]
    bytes: u32,
    /// Reads of a batch.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64, 256, 1024])]
    batches: Vec<usize>,
    /// Reads of a round.
    #[arg(long, default_value_t = 4096)]
    reads: usize,
    /// Rounds; the figures are medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Drop what the system has of the file before each round.
    #[arg(long)]
    cold: bool,
}

struct Figures {
    cpu_us: f64,
    system_us: f64,
    wall_us: f64,
    how: HowRead,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let path = args.dir.join("read_ways.data");
    let result = fill(&path, args.mib).and_then(|()| run(&args, &path));
    std::fs::remove_file(&path)?;
    result
}

fn run(args: &Args, path: &Path) -> Result<(), Box<dyn Error>> {
    let ways = [ReadWay::OneByOne, ReadWay::Threads, ReadWay::Ahead, ReadWay::Ring];
    let mut disks: Vec<(String, Box<dyn Vfs>)> = vec![];
    for way in ways {
        disks.push((way.to_string(), Box::new(OneWayDisk::new(way))));
    }
    let chosen = RealDisk.many_reads();
    disks.push((format!("the disk's ({})", chosen.way), Box::new(RealDisk)));
    if let Some(why) = chosen.why {
        println!("no ring: {why}");
    }
    println!("| batch | way | CPU us per read | of it system | us per read | depth | at once |");
    println!("|---|---|---|---|---|---|---|");
    for &batch in &args.batches {
        let mut all: Vec<Vec<Figures>> = disks.iter().map(|_| vec![]).collect();
        for round in 0..args.rounds {
            for ((_, disk), figures) in disks.iter().zip(&mut all) {
                figures.push(measure(args, path, &**disk, batch, round as u64)?);
            }
        }
        for ((name, _), figures) in disks.iter().zip(&all) {
            let median = |of: fn(&Figures) -> f64| {
                let mut values: Vec<f64> = figures.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
            };
            let depth = figures.iter().map(|figures| figures.how.depth).max().unwrap_or(0);
            let at_once = figures.iter().map(|f| f.how.reads() - f.how.one_by_one).max();
            println!(
                "| {batch} | {name} | {:.2} | {:.2} | {:.1} | {depth} | {} |",
                median(|f| f.cpu_us),
                median(|f| f.system_us),
                median(|f| f.wall_us),
                at_once.unwrap_or(0),
            );
        }
    }
    Ok(())
}

/// A file in which no page is like another.
fn fill(path: &Path, mib: u64) -> Result<(), Box<dyn Error>> {
    let file = RealDisk.open(path, OpenMode::CreateNew)?;
    let mut state = 1;
    for i in 0..mib {
        let bytes: Vec<u8> = (0..1 << 17).flat_map(|_| next(&mut state).to_le_bytes()).collect();
        file.write_all_at(&bytes, i << 20)?;
    }
    file.sync()?;
    Ok(())
}

fn measure(
    args: &Args,
    path: &Path,
    disk: &dyn Vfs,
    batch: usize,
    round: u64,
) -> Result<Figures, Box<dyn Error>> {
    let len = u64::from(args.bytes);
    let places = ((args.mib << 20).saturating_sub(len) / 8).max(1);
    let mut state = round + 1;
    if args.cold {
        posix_fadvise(std::fs::File::open(path)?, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    let file = disk.open(path, OpenMode::Read)?;
    let mut buffer = vec![0; batch * args.bytes as usize];
    let (mut how, mut seen, mut done) = (HowRead::default(), 0u64, 0);
    let before = Meter::read()?;
    while done < args.reads {
        let mut offsets: Vec<u64> = (0..batch).map(|_| next(&mut state) % places * 8).collect();
        offsets.sort_unstable();
        let bufs = buffer.chunks_mut(args.bytes as usize);
        let reads = offsets.iter().zip(bufs);
        let mut reads: Vec<_> = reads.map(|(&at, buf)| ReadAt::new(&*file, at, buf)).collect();
        how = how.and(disk.read_batch(&mut reads));
        for read in reads {
            read.into_result()?;
        }
        // As a reader would, look at every byte's line.
        seen = buffer.iter().step_by(64).fold(seen, |sum, &byte| sum + u64::from(byte));
        done += batch;
    }
    std::hint::black_box(seen);
    let cost = before.since()?;
    let us = |time: std::time::Duration| time.as_secs_f64() * 1e6 / done as f64;
    Ok(Figures {
        cpu_us: us(cost.user + cost.system),
        system_us: us(cost.system),
        wall_us: us(cost.wall),
        how,
    })
}

/// xorshift64: it needs no seed of its own, and no quality.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
