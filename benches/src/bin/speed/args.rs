//! The command line.

use clap::Parser;
use hedgerow::{CompactionRule, Durability, Engine, IndexMode, hasher};
use hedgerow_benches::workload::{self, MIN_KEY_LEN};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

const FIGURES: &str = "\
Phases: populate creates N keys in blocks; update runs K blocks of B operations; then one thread
(or more) reads and one proves keys of the final state. Updates and deletes hit existing keys, all equally likely;
within a block the last operation on a key counts, and all of them are counted as operations.

What is inside a clock: putting the operations into blocks, every block, and the final wait until all
is durable. Which key each operation hits is drawn before; the bytes of keys and values are made
inside (about 0.01 us per operation of 32 + 32 bytes), so that memory is the store's and not ours.

Figures (JSON names):
  populate_ops_s, update_ops_s   operations per second of wall time
  cpu.<phase>.user_s, .system_s  CPU seconds of the whole process, all threads, in that phase
  cpu_us_per_create, _update     CPU microseconds, user and system, per operation of the phase
  speculate.made_cpu_us          with --speculate, CPU microseconds per operation of the update phase: making and
    .accepted_cpu_us             hashing the blocks as speculative ones, operations put into them included; accepting
    .block_mb                    them, until all is durable and tidy. What the largest took of memory, 10^6 bytes
  block_ms p50, p99, max         update phase: from the begin of submit() until a thread that waits for
                                 the block's root has it. With --durability pipelined this holds the
                                 wait for room in the pipeline; putting operations is outside
  durable_ms p50, p99, max       the same until the block survives power loss
  reads_s, proofs_s              per second, existing keys, all equally likely; proofs on one thread,
                                 reads on --read-threads, the sum of what they do
  proof_bytes                    mean length of the proofs
  rss_peak_mb                    highest resident memory before closing (VmHWM), 10^6 bytes; driver_mb
                                 of it are this program's, rss_peak_reopen_mb includes reopening
  disk_bytes_per_key             disk blocks of the closed store's files, per key that exists
  write_bytes_per_op             update phase: file pages dirtied (/proc/self/io write_bytes), what the
                                 disk takes; wchar_per_op: bytes handed to write calls (wchar)
  index                          with --index tiered: page_reads_per_look_up (pages of 4 KiB that a look-up read
                                 from files, in the update phase and of the reads), index_write_bytes_per_op
                                 (update phase; and all of the log, log_bytes_per_op), index_peak_mb (sampled
                                 after each block), fixed_mb of it that no budget goes below, waits of blocks,
                                 index_read_depth and log_read_depth (most reads under way at a time)
  past                           with --past: at heights spread over the blocks of --past, reads_s and proofs_s of such
                                 a height's state against its root, against_newest_s against the newest root; CPU each
  roll_back_s                    with --roll-back: taking so many blocks back, durable; last, before closing
  close_s, reopen_s              closing; opening again, files still in the page cache
  root                           state root at the end, the same before and after reopening
Results are checked: the last block's keys, 1000 reads and 1000 proofs, and the root after reopening.";

/// Measures the store end to end: creates, updates, roots, reads, proofs, reopening.
#[derive(Parser, Debug)]
#[command(name = "speed", version, args_override_self = true, after_long_help = FIGURES)]
pub(crate) struct Args {
    /// Keys to populate.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u64,
    /// Blocks of the update phase.
    #[arg(long, default_value_t = 20)]
    pub(crate) blocks: u64,
    /// Operations per block of the update phase.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) block_ops: u64,
    /// Creates per block of the populate phase.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) populate_block_ops: u64,
    /// Operations of the update phase.
    #[arg(long, value_enum, default_value_t = MixArg::Update)]
    pub(crate) mix: MixArg,
    /// How much more often some keys are updated, deleted, read and proved than others: the k-th as often as 1 / k^SKEW says (Zipf's
    /// law; YCSB has 0.99); 0: all alike.
    #[arg(long, default_value_t = 0.0, value_parser = skew)]
    pub(crate) skew: f64,
    /// Bytes of a key.
    #[arg(long, default_value_t = 32, value_parser = key_len)]
    pub(crate) key_len: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 32)]
    pub(crate) value_len: usize,
    /// Blocks that may be on their way at a time, if not the store's default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: Option<u32>,
    /// Whether the next block waits until the last one survives power loss.
    #[arg(long, value_enum, default_value_t = DurabilityArg::Pipelined)]
    pub(crate) durability: DurabilityArg,
    /// Compaction rule: `default`, `qmdb`, or THRESHOLD,RATIO,DIV.
    #[arg(long, default_value = "default")]
    pub(crate) compaction: Compaction,
    /// Keys to read after the update phase.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) reads: u64,
    /// Threads that read them and make proofs, each its share.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) read_threads: u32,
    /// Read only the first so many keys, which none may have deleted; 0: all.
    #[arg(long, default_value_t = 0)]
    pub(crate) read_keys: u32,
    /// Bytes of the store's cache of entries, if not its default.
    #[arg(long)]
    pub(crate) entry_cache: Option<u64>,
    /// Bytes of the store's cache of links, if not its default; 0 for none.
    #[arg(long, value_name = "BYTES")]
    pub(crate) link_cache: Option<u64>,
    /// Where the index is.
    #[arg(long, value_enum, default_value_t = IndexArg::Memory)]
    pub(crate) index: IndexArg,
    /// Memory of an index in files, in 10^6 bytes.
    #[arg(long, default_value_t = 64)]
    pub(crate) index_memory_mb: u64,
    /// Most bytes of the store's files that are mapped into memory, if not its default; 0 for none.
    #[arg(long, value_name = "BYTES")]
    pub(crate) mapped_bytes: Option<u64>,

    /// Drop the system's cache of files before the update phase, and before the reads; needs root on Linux.
    #[arg(long)]
    pub(crate) drop_caches: bool,
    /// Keys to prove after the update phase.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) proofs: u64,
    /// Earlier heights that can be proved, and taken back to, if not the store's default.
    #[arg(long)]
    pub(crate) window: Option<u64>,
    /// Read and prove the keys of --proofs at the last so many earlier heights too.
    #[arg(long, default_value_t = 0)]
    pub(crate) past: u64,
    /// Take so many blocks back in the end.
    #[arg(long, default_value_t = 0)]
    pub(crate) roll_back: u64,
    /// Directory for the store, empty or not there yet; what is written stays. Without it, a
    /// temporary directory that is removed.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Decides all keys, values and operations, and so the root.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Threads of the store's pool; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// Hashing backend: cpu, scalar, or cpu:KERNEL for one kernel of the CPU.
    #[arg(long, default_value = "cpu", value_parser = known_hasher)]
    pub(crate) hasher: String,
    /// Metadata engine; the first that was compiled in unless given.
    #[arg(long)]
    pub(crate) engine: Option<Engine>,
    /// Let a child write the store, kill it, and measure nothing but opening what is left. Prints
    /// reopen_kill_s, the log that was taken in again, and peak memory.
    #[arg(long)]
    pub(crate) kill: bool,
    /// What the child of `--kill` does.
    #[arg(long, hide = true, requires = "dir")]
    pub(crate) until_killed: bool,
    /// Make each block of the update phase as a speculative one and accept it then, each when the store is at rest
    /// after what came before, and print the CPU time of both.
    #[arg(long, conflicts_with = "kill")]
    pub(crate) speculate: bool,
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `--mix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MixArg {
    /// Updates of existing keys.
    Update,
    /// 90 % updates, 5 % creates, 5 % deletes.
    Mixed,
}

/// `--index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IndexArg {
    /// In memory.
    Memory,
    /// In files, but for a part that is given.
    Tiered,
}

/// `--durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DurabilityArg {
    /// Each block is durable before the next one begins.
    Block,
    /// Blocks become durable in the background.
    Pipelined,
}

/// `--compaction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compaction(pub(crate) CompactionRule);

impl MixArg {
    pub(crate) fn mix(self) -> workload::Mix {
        match self {
            Self::Update => workload::Mix::Update,
            Self::Mixed => workload::Mix::Mixed,
        }
    }
}

impl Args {
    /// Where the store's index is.
    pub(crate) fn index_mode(&self) -> IndexMode {
        match self.index {
            IndexArg::Memory => IndexMode::Memory,
            IndexArg::Tiered => {
                IndexMode::Tiered { memory_bytes: self.index_memory_mb.saturating_mul(1_000_000) }
            }
        }
    }
}

impl DurabilityArg {
    pub(crate) fn durability(self) -> Durability {
        match self {
            Self::Block => Durability::EachBlock,
            Self::Pipelined => Durability::Pipelined,
        }
    }
}

impl FromStr for Compaction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = match text {
            "default" => CompactionRule::default(),
            "qmdb" => CompactionRule::QMDB,
            _ => {
                let numbers: Vec<&str> = text.split(',').collect();
                let [threshold, ratio, div] = numbers[..] else {
                    return Err("give default, qmdb, or THRESHOLD,RATIO,DIV".into());
                };
                fn number<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
                    text.parse().map_err(|error| format!("{text:?}: {error}"))
                }
                CompactionRule::new(number(threshold)?, number(ratio)?, number(div)?)
                    .map_err(|error| error.to_string())?
            }
        };
        Ok(Self(rule))
    }
}

impl fmt::Display for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.0;
        write!(f, "{},{},{}", rule.threshold(), rule.ratio(), rule.div())
    }
}

fn key_len(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(len @ MIN_KEY_LEN..=255) => Ok(len),
        Ok(_) => Err(format!("keys of this workload have {MIN_KEY_LEN} to 255 bytes")),
        Err(error) => Err(error.to_string()),
    }
}

fn skew(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(skew) if (0.0..=4.0).contains(&skew) => Ok(skew),
        Ok(_) => Err("a skew is 0 to 4".into()),
        Err(error) => Err(format!("{error}")),
    }
}

/// A name that the library knows on this machine.
fn known_hasher(name: &str) -> Result<String, hedgerow::Error> {
    hasher::by_name(name).map(|_| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn compaction_rules() {
        let parse = |text: &str| text.parse::<Compaction>().map(|rule| rule.to_string());
        assert_eq!(parse("qmdb"), Ok("20000000,7,10".into()));
        assert_eq!(parse("5,6,7"), Ok("5,6,7".into()));
        assert_eq!(parse("default"), Ok(Compaction(CompactionRule::default()).to_string()));
        for wrong in ["", "5,6", "5,6,7,8", "5,6,x", "5,0,7", "5,-6,7"] {
            assert!(parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn key_lengths() {
        assert_eq!((key_len("8"), key_len("255")), (Ok(8), Ok(255)));
        assert_eq!((skew("0"), skew("0.99")), (Ok(0.0), Ok(0.99)));
        assert!(["-1", "nan", "5", "x"].iter().all(|text| skew(text).is_err()));
        assert!(key_len("7").is_err() && key_len("256").is_err() && key_len("x").is_err());
    }
}
