//! The figures of a run, for programs and for people.

use serde::Serialize;
use std::fmt;

/// See the program's help for every figure. `null` stands for what was not run or is not known on
/// this system.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) engine: &'static str,
    pub(crate) keys: u64,
    pub(crate) blocks: u64,
    pub(crate) block_ops: u64,
    pub(crate) populate_block_ops: u64,
    pub(crate) mix: String,
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
    pub(crate) skew: f64,
    pub(crate) durability: String,
    pub(crate) compaction: String,
    pub(crate) threads: usize,
    pub(crate) hasher: String,
    pub(crate) meta_engine: &'static str,
    pub(crate) seed: u64,
    pub(crate) populate_ops_s: Option<f64>,
    pub(crate) update_ops_s: Option<f64>,
    pub(crate) cpu_us_per_create: Option<f64>,
    pub(crate) cpu_us_per_update: Option<f64>,
    pub(crate) speculate: Option<Speculated>,
    pub(crate) cpu: CpuPhases,
    pub(crate) block_ms: Option<Milliseconds>,
    pub(crate) durable_ms: Option<Milliseconds>,
    pub(crate) reads_s: Option<f64>,
    pub(crate) proofs_s: Option<f64>,
    pub(crate) proof_bytes: Option<f64>,
    pub(crate) rss_peak_mb: Option<f64>,
    pub(crate) driver_mb: Option<f64>,
    pub(crate) rss_peak_reopen_mb: Option<f64>,
    pub(crate) past: Option<PastFigures>,
    pub(crate) roll_back_s: Option<f64>,
    pub(crate) index: Option<IndexFigures>,
    pub(crate) index_mb: f64,
    pub(crate) tree_mb: f64,
    pub(crate) disk_bytes_per_key: Option<f64>,
    pub(crate) write_bytes_per_op: Option<f64>,
    pub(crate) wchar_per_op: Option<f64>,
    pub(crate) entries: u64,
    pub(crate) commits: u64,
    pub(crate) close_s: f64,
    pub(crate) reopen_s: f64,
    pub(crate) root: String,
}

/// Answers about earlier heights, on one thread.
#[derive(Debug, Serialize)]
pub(crate) struct PastFigures {
    pub(crate) heights: u64,
    pub(crate) reads_s: f64,
    pub(crate) reads_cpu_us: Option<f64>,
    pub(crate) proofs_s: f64,
    pub(crate) proofs_cpu_us: Option<f64>,
    pub(crate) against_newest_s: f64,
    pub(crate) against_newest_cpu_us: Option<f64>,
}

/// What speculative blocks cost, and accepting them.
#[derive(Debug, Serialize)]
pub(crate) struct Speculated {
    pub(crate) made_cpu_us: f64,
    pub(crate) accepted_cpu_us: f64,
    pub(crate) block_mb: f64,
}

/// What an index in files did.
#[derive(Debug, Serialize)]
pub(crate) struct IndexFigures {
    pub(crate) budget_mb: f64,
    pub(crate) index_peak_mb: f64,
    pub(crate) fixed_mb: f64,
    pub(crate) page_reads_per_look_up_update: Option<f64>,
    pub(crate) page_reads_per_look_up_read: Option<f64>,
    pub(crate) index_write_bytes_per_op: Option<f64>,
    pub(crate) log_bytes_per_op: Option<f64>,
    pub(crate) merges: u64,
    pub(crate) spills: u64,
    pub(crate) files: u64,
    pub(crate) file_mb: f64,
    pub(crate) waits: u64,
    pub(crate) index_read_depth: u64,
    pub(crate) log_read_depth: u64,
}

/// CPU time of every phase.
#[derive(Debug, Serialize)]
pub(crate) struct CpuPhases {
    pub(crate) populate: Cpu,
    pub(crate) update: Cpu,
    pub(crate) reads: Cpu,
    pub(crate) proofs: Cpu,
}

/// CPU seconds of the whole process.
#[derive(Debug, Serialize)]
pub(crate) struct Cpu {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

/// A spread of durations, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Milliseconds {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, blocks, block_ops, mix, skew, key_len, value_len, durability, .. } = self;
        writeln!(
            f,
            "{keys} keys of {key_len} bytes, values of {value_len}; then {blocks} blocks of \
             {block_ops} operations ({mix}, skew {skew}), durability {durability}"
        )?;
        writeln!(
            f,
            "compaction {}, metadata {}, hasher {}, threads {}, seed {}",
            self.compaction,
            self.meta_engine,
            self.hasher,
            if self.threads == 0 { "all cores".into() } else { self.threads.to_string() },
            self.seed
        )?;
        writeln!(
            f,
            "\n{:10} {:>14} {:>12} {:>12} {:>12}",
            "", "per second", "us CPU/op", "user s", "system s"
        )?;
        let phases = [
            ("populate", self.populate_ops_s, self.cpu_us_per_create, &self.cpu.populate),
            ("update", self.update_ops_s, self.cpu_us_per_update, &self.cpu.update),
            ("reads", self.reads_s, None, &self.cpu.reads),
            ("proofs", self.proofs_s, None, &self.cpu.proofs),
        ];
        for (name, rate, cpu_us, cpu) in phases {
            let (rate, cpu_us) = (Figure(rate, 0), Figure(cpu_us, 2));
            let (user, system) = (cpu.user_s, cpu.system_s);
            writeln!(f, "{name:10} {rate:>14} {cpu_us:>12} {user:>12.2} {system:>12.2}")?;
        }
        if let Some(Speculated { made_cpu_us, accepted_cpu_us, block_mb }) = &self.speculate {
            let times = made_cpu_us / accepted_cpu_us;
            writeln!(
                f,
                "of update: speculative blocks {made_cpu_us:.2} us CPU/op, {block_mb:.1} MB each at most; \
                 accepting them {accepted_cpu_us:.2} us CPU/op, {times:.1} times less"
            )?;
        }
        writeln!(f, "\n{:22} {:>9} {:>9} {:>9}", "ms", "p50", "p99", "max")?;
        for (name, spread) in
            [("block to root", &self.block_ms), ("block to durable", &self.durable_ms)]
        {
            let figure = |pick: fn(&Milliseconds) -> f64| Figure(spread.as_ref().map(pick), 1);
            let (p50, p99, max) = (figure(|s| s.p50), figure(|s| s.p99), figure(|s| s.max));
            writeln!(f, "{name:22} {p50:>9} {p99:>9} {max:>9}")?;
        }
        writeln!(f)?;
        let rows = [
            ("peak memory", self.rss_peak_mb, 1, "MB, of which"),
            ("  the driver", self.driver_mb, 1, "MB"),
            ("  index", Some(self.index_mb), 1, "MB"),
            ("  tree", Some(self.tree_mb), 1, "MB, twice"),
            ("  after reopening", self.rss_peak_reopen_mb, 1, "MB"),
            ("proof", self.proof_bytes, 1, "bytes"),
            ("disk", self.disk_bytes_per_key, 1, "bytes per key"),
            ("written to disk", self.write_bytes_per_op, 1, "bytes per update"),
            ("handed to write calls", self.wchar_per_op, 1, "bytes per update"),
            ("close", Some(self.close_s), 3, "s"),
            ("reopen", Some(self.reopen_s), 3, "s"),
        ];
        for (name, value, digits, unit) in rows {
            writeln!(f, "{name:22} {:>9} {unit}", Figure(value, digits))?;
        }
        if let Some(past) = &self.past {
            writeln!(f, "at the {} heights before:", past.heights)?;
            let rows = [
                ("  reads", past.reads_s, past.reads_cpu_us),
                ("  proofs", past.proofs_s, past.proofs_cpu_us),
                ("  against the newest root", past.against_newest_s, past.against_newest_cpu_us),
            ];
            for (name, rate, cpu) in rows {
                let (rate, cpu) = (Figure(Some(rate), 0), Figure(cpu, 2));
                writeln!(f, "{name:26} {rate:>9} per second, {cpu:>9} us CPU")?;
            }
        }
        if self.roll_back_s.is_some() {
            writeln!(f, "{:22} {:>9} s", "blocks taken back", Figure(self.roll_back_s, 3))?;
        }
        if let Some(index) = &self.index {
            let rows = [
                ("index, budget", Some(index.budget_mb), 1, "MB"),
                ("  peak", Some(index.index_peak_mb), 1, "MB, of which"),
                ("  below any budget", Some(index.fixed_mb), 1, "MB"),
                ("  update", index.page_reads_per_look_up_update, 3, "page reads per look-up"),
                ("  read", index.page_reads_per_look_up_read, 3, "page reads per look-up"),
                ("  written", index.index_write_bytes_per_op, 1, "bytes per update, and"),
                ("  of log", index.log_bytes_per_op, 1, "bytes per update"),
                ("  files", Some(index.file_mb), 1, "MB"),
            ];
            for (name, value, digits, unit) in rows {
                writeln!(f, "{name:22} {:>9} {unit}", Figure(value, digits))?;
            }
            let IndexFigures { spills, merges, files, waits, .. } = index;
            writeln!(f, "{spills} spills, {merges} merges, {files} files, {waits} waits")?;
            let IndexFigures { index_read_depth: pages, log_read_depth: entries, .. } = index;
            writeln!(f, "most reads under way: {pages} of pages, {entries} of entries")?;
        }
        writeln!(f, "{} entries, {} manifest commits", self.entries, self.commits)?;
        write!(f, "root {}", self.root)
    }
}

/// A figure with this many digits behind the point, or a dash.
struct Figure(Option<f64>, usize);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => f.pad(&format!("{value:.*}", self.1)),
            None => f.pad("-"),
        }
    }
}
