//! Which kernel hashes what.
//!
//! ```text
//!  messages left    1   2   3   4 .. 8   9 .. 16   17 .. 20   21 .. 32   more
//!  next kernel      x1  x2  x2     x4       x16       x16        x32      x32 for whole lots
//!                   └──────────── a plan: here one measured on a Zen 5 ────────────────────┘
//! ```
//!
//! How kernels compare differs by CPU generation, so the plan is measured: every kernel that the
//! CPU can run hashes a few lots of nodes a few times, in turns, and the least times are what a lot
//! costs. The plan is then the cheapest way to hash any number of messages as a sequence of lots
//! (a lot of a kernel that pads costs the same however few messages are in it). This happens once
//! per process and takes about a third of a millisecond.
//!
//! **Invariant:** the choice changes how long hashing takes, never a digest.

use crate::{
    kernel::{Kernel, MessageJob, NodeJob, Portable, Sha2Kernel},
    stream,
};
use hedgerow_types::Digest;
use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// A kernel that this version knows, and whether this CPU runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// The name to pin it by, see [`CpuHasher::pinned`](crate::CpuHasher::pinned).
    pub name: &'static str,
    /// The instructions that it is made of, for a person.
    pub instructions: &'static str,
    /// Whether this CPU runs it.
    pub available: bool,
    /// What this CPU lacks, if it does not.
    pub why_not: Option<&'static str>,
}

/// Batches of some sizes, and the kernel that hashes them, or the first of them.
///
/// In words: `2-3: shani2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRange {
    /// Nodes, or messages of equal length, in the smallest of these batches.
    pub from: usize,
    /// In the largest; `None` if there is none.
    pub to: Option<usize>,
    /// Name of the kernel.
    pub kernel: &'static str,
}

impl fmt::Display for PlannedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, kernel } = self;
        match to {
            None => write!(f, "{from} and more: {kernel}"),
            Some(to) if to == from => write!(f, "{from}: {kernel}"),
            Some(to) => write!(f, "{from}-{to}: {kernel}"),
        }
    }
}

/// How fast the calibration found a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelSpeed {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Time per node, on one thread, in lots that fill all lanes.
    pub nanoseconds_per_node: f64,
}

/// A kernel was asked for that does not exist or that this CPU cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownOrMissingKernel {
    /// No kernel has this name.
    #[error("no CPU kernel is called {name:?}; there are {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// The kernel needs instructions that this CPU does not have.
    #[error("the CPU kernel {name} cannot run here: {why_not}")]
    Missing {
        /// The name of the kernel.
        name: &'static str,
        /// What is missing.
        why_not: &'static str,
    },
}

/// All kernels, those first that usually win: the order in which equals are chosen.
static CATALOG: LazyLock<Vec<Entry>> = LazyLock::new(catalog);

static CALIBRATED: LazyLock<Plan> = LazyLock::new(|| Plan::cheapest(&calibrate()));

struct Entry {
    name: &'static str,
    instructions: &'static str,
    kernel: Result<Box<dyn Kernel>, &'static str>,
}

fn entry<T, K: Kernel + 'static>(
    name: &'static str,
    instructions: &'static str,
    token: Result<T, &'static str>,
    kernel: impl FnOnce(T) -> K,
) -> Entry {
    let kernel = token.map(|token| Box::new(kernel(token)) as Box<dyn Kernel>);
    Entry { name, instructions, kernel }
}

/// The entry of a kernel of another architecture. Every build lacks one at least.
fn missing((name, instructions): (&'static str, &'static str), why_not: &'static str) -> Entry {
    Entry { name, instructions, kernel: Err(why_not) }
}

fn catalog() -> Vec<Entry> {
    let mut entries = x86_64();
    entries.extend(aarch64());
    entries.push(entry("sha2", "what the sha2 crate finds", Ok(()), |()| Sha2Kernel));
    entries.push(entry("portable", "none in particular", Ok(()), |()| Portable));
    entries
}

const AVX512: &str = "AVX-512 F and BW";
const AVX512_VL: &str = "AVX-512 F and VL";
const SHA_NI: &str = "SHA-NI";
const AVX2: &str = "AVX2";
const SHA2_EXTENSION: &str = "SHA2 extension of aarch64";

#[cfg(target_arch = "x86_64")]
fn x86_64() -> Vec<Entry> {
    use crate::detect::{Avx2, Avx512, Avx512Vl, ShaNi};
    use crate::kernel::{Avx2Kernel, Avx512Kernel, Avx512VlKernel, ShaNiKernel};
    let (avx512, sha_ni) = (Avx512::detect(), ShaNi::detect());
    vec![
        entry("avx512x32", AVX512, avx512, Avx512Kernel::<2>),
        entry("avx512x16", AVX512, avx512, Avx512Kernel::<1>),
        entry("avx512x8", AVX512_VL, Avx512Vl::detect(), Avx512VlKernel),
        entry("shani4", SHA_NI, sha_ni, ShaNiKernel::<4>),
        entry("shani2", SHA_NI, sha_ni, ShaNiKernel::<2>),
        entry("shani1", SHA_NI, sha_ni, ShaNiKernel::<1>),
        entry("avx2", AVX2, Avx2::detect(), Avx2Kernel),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn x86_64() -> Vec<Entry> {
    let avx512 = ["avx512x32", "avx512x16"].map(|name| (name, AVX512));
    let sha_ni = ["shani4", "shani2", "shani1"].map(|name| (name, SHA_NI));
    let kernels = avx512.into_iter().chain([("avx512x8", AVX512_VL)]);
    let kernels = kernels.chain(sha_ni).chain([("avx2", AVX2)]);
    kernels.map(|kernel| missing(kernel, "this program is not built for x86_64")).collect()
}

#[cfg(target_arch = "aarch64")]
fn aarch64() -> Vec<Entry> {
    use crate::{detect::Sha2Extension, kernel::Armv8Kernel};
    let sha2 = Sha2Extension::detect();
    vec![
        entry("armv8x4", SHA2_EXTENSION, sha2, Armv8Kernel::<4>),
        entry("armv8x2", SHA2_EXTENSION, sha2, Armv8Kernel::<2>),
        entry("armv8x1", SHA2_EXTENSION, sha2, Armv8Kernel::<1>),
    ]
}

#[cfg(not(target_arch = "aarch64"))]
fn aarch64() -> Vec<Entry> {
    let kernels = ["armv8x4", "armv8x2", "armv8x1"].map(|name| (name, SHA2_EXTENSION));
    kernels.map(|kernel| missing(kernel, "this program is not built for aarch64")).into()
}

/// All kernels, whether this CPU runs them or not.
pub(crate) fn kernels() -> Vec<KernelInfo> {
    let info = |entry: &Entry| KernelInfo {
        name: entry.name,
        instructions: entry.instructions,
        available: entry.kernel.is_ok(),
        why_not: entry.kernel.as_ref().err().copied(),
    };
    CATALOG.iter().map(info).collect()
}

/// The kernel called `name`.
///
/// # Errors
/// [`UnknownOrMissingKernel`].
pub(crate) fn kernel(name: &str) -> Result<&'static dyn Kernel, UnknownOrMissingKernel> {
    let Some(entry) = CATALOG.iter().find(|entry| entry.name == name) else {
        let known: Vec<_> = CATALOG.iter().map(|entry| entry.name).collect();
        let known = known.join(", ");
        return Err(UnknownOrMissingKernel::Unknown { name: name.into(), known });
    };
    entry
        .kernel
        .as_deref()
        .map_err(|&why_not| UnknownOrMissingKernel::Missing { name: entry.name, why_not })
}

/// A batch of this many messages or more begins with whole lots of the best kernel for many.
const MANY: usize = 32;

/// For every number of messages, the kernel that hashes the first of them.
pub(crate) struct Plan {
    /// Element `n`: for `n` messages, up to [`MANY`].
    first: [Choice; MANY + 1],
    /// Beyond.
    many: Choice,
    /// For a message that has no equals to share a lot with.
    single: Choice,
    /// The first two, for whoever asks.
    ranges: Vec<PlannedRange>,
    /// What the plan was made from.
    measured: Vec<KernelSpeed>,
    /// For a person.
    description: String,
}

#[derive(Clone, Copy, Debug)]
struct Choice {
    kernel: &'static dyn Kernel,
    /// Of a lot of the kernel over nodes.
    nanoseconds: f64,
}

impl Choice {
    fn lanes(&self) -> usize {
        self.kernel.lanes()
    }

    fn nanoseconds_per_lane(&self) -> f64 {
        self.nanoseconds / self.lanes() as f64
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({})", self.description)
    }
}

impl Plan {
    /// The plan that this CPU was measured to be fastest with. The first call measures.
    pub(crate) fn calibrated() -> &'static Self {
        &CALIBRATED
    }

    /// Everything with the kernel `name`.
    ///
    /// # Errors
    /// [`UnknownOrMissingKernel`].
    pub(crate) fn pinned(name: &str) -> Result<Self, UnknownOrMissingKernel> {
        let choice = Choice { kernel: kernel(name)?, nanoseconds: 1.0 };
        Ok(Self::only(choice, format!("{name} (pinned)")))
    }

    fn only(choice: Choice, description: String) -> Self {
        Self {
            first: [choice; MANY + 1],
            many: choice,
            single: choice,
            ranges: ranges([choice]),
            measured: vec![],
            description,
        }
    }

    /// The cheapest sequence of lots for every number of messages.
    fn cheapest(choices: &[Choice]) -> Self {
        // `cheapest[n]`: what `n` messages cost together, and the kernel to begin with.
        let fallback = Choice { kernel: &Sha2Kernel, nanoseconds: f64::INFINITY };
        let mut cheapest = [(0.0, fallback); MANY + 1];
        for n in 1..=MANY {
            let mut best = (f64::INFINITY, fallback);
            for choice in choices {
                if choice.lanes() > n && !choice.kernel.pads() {
                    continue;
                }
                let rest = n - choice.lanes().min(n);
                let cost = choice.nanoseconds + cheapest[rest].0;
                if cost < best.0 {
                    best = (cost, *choice);
                }
            }
            cheapest[n] = best;
        }
        let first = cheapest.map(|(_, choice)| choice);
        let many = choices.iter().copied().reduce(|best, choice| {
            let better = choice.nanoseconds_per_lane() < best.nanoseconds_per_lane();
            if better { choice } else { best }
        });
        let many = many.unwrap_or(fallback);
        let ranges = ranges(first[1..].iter().copied().chain([many]));
        let measured = choices.iter().map(|choice| KernelSpeed {
            kernel: choice.kernel.name(),
            nanoseconds_per_node: choice.nanoseconds_per_lane(),
        });
        let description = ranges.iter().map(PlannedRange::to_string).collect::<Vec<_>>().join(", ");
        let (measured, single) = (measured.collect(), first[1]);
        Self { first, many, single, ranges, measured, description }
    }

    /// The kernel to begin with if `count` messages are left.
    fn choice(&self, count: usize) -> &Choice {
        self.first.get(count).unwrap_or(&self.many)
    }

    /// Messages that the kernel for many hashes side by side.
    pub(crate) fn lanes(&self) -> usize {
        self.many.lanes()
    }

    /// Name of the kernel for many messages; of the only one, if it is pinned.
    pub(crate) fn kernel_for_many(&self) -> &'static str {
        self.many.kernel.name()
    }

    /// Which kernel hashes batches of which size: all sizes from 1 on, in order.
    pub(crate) fn ranges(&self) -> &[PlannedRange] {
        &self.ranges
    }

    /// What the plan was made from; nothing if it was pinned.
    pub(crate) fn measured(&self) -> &[KernelSpeed] {
        &self.measured
    }

    /// What was chosen, for a person.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Hashes nodes; `ahead` is what the next call begins with.
    pub(crate) fn nodes(&self, level: u8, mut jobs: &mut [NodeJob<'_>], ahead: &[NodeJob<'_>]) {
        while !jobs.is_empty() {
            let choice = self.choice(jobs.len());
            let lanes = choice.lanes();
            let whole_lots = jobs.len() - jobs.len() % lanes;
            // Up to MANY the plan speaks of one lot at a time.
            let taken = if jobs.len() > MANY { whole_lots } else { lanes.min(jobs.len()) };
            let (now, later) = jobs.split_at_mut(taken);
            choice.kernel.nodes(level, now, if later.is_empty() { ahead } else { later });
            jobs = later;
        }
    }

    /// Hashes messages, which come in decreasing order of their blocks.
    pub(crate) fn messages(&self, mut jobs: &mut [MessageJob<'_>]) {
        while let Some(longest) = jobs.first() {
            let most = longest.blocks();
            let mut choice = self.choice(jobs.len());
            let mut taken = choice.lanes().min(jobs.len());
            // A lot takes as long as its longest message. If that has little company, it goes alone.
            let total: u32 = jobs[..taken].iter().map(MessageJob::blocks).sum();
            let together = choice.nanoseconds * f64::from(most);
            if together > self.single.nanoseconds * f64::from(total) {
                choice = &self.single;
                taken = 1;
            }
            let (now, later) = jobs.split_at_mut(taken);
            choice.kernel.messages(now);
            jobs = later;
        }
    }
}

/// The choices for 1, 2, 3 ... messages, those in a row with the same kernel as one range. The last
/// one is that of all larger batches too.
fn ranges(choices: impl IntoIterator<Item = Choice>) -> Vec<PlannedRange> {
    let mut ranges: Vec<PlannedRange> = vec![];
    for (n, choice) in (1..).zip(choices) {
        let kernel = choice.kernel.name();
        match ranges.last_mut() {
            Some(last) if last.kernel == kernel => last.to = Some(n),
            _ => ranges.push(PlannedRange { from: n, to: Some(n), kernel }),
        }
    }
    if let Some(last) = ranges.last_mut() {
        last.to = None;
    }
    ranges
}

/// Times that every kernel has its turn, so that a disturbance meets all of them, and calls in a
/// row per turn: the first ones bring the code into the caches and wake wide vector units. The
/// fastest call counts, as a disturbance only ever adds time.
const TURNS: usize = 2;
/// See [`TURNS`].
const CALLS: usize = 10;

/// Measures all kernels that this CPU runs. The portable one, which is hopeless and slow to
/// measure, only if there is no other; as `sha2` runs everywhere, it never is.
fn calibrate() -> Vec<Choice> {
    let kernels: Vec<&'static dyn Kernel> = CATALOG
        .iter()
        .filter_map(|entry| entry.kernel.as_deref().ok())
        .filter(|kernel| kernel.name() != Portable.name())
        .collect();
    let mut least = vec![Duration::MAX; kernels.len()];
    for _ in 0..TURNS {
        for (kernel, least) in kernels.iter().zip(&mut least) {
            *least = time(*kernel).min(*least);
        }
    }
    let choices = kernels.iter().zip(least).map(|(kernel, least)| Choice {
        kernel: *kernel,
        nanoseconds: least.as_nanos() as f64 / sample_lots(*kernel) as f64,
    });
    choices.collect()
}

/// Lots that a sample hashes: some, because the end of one overlaps with the beginning of the next,
/// and so many nodes that the clock's resolution does not matter.
fn sample_lots(kernel: &dyn Kernel) -> usize {
    16_usize.div_ceil(kernel.lanes()).max(3)
}

/// How long `kernel` takes to hash [`sample_lots`] as a caller would have it.
fn time(kernel: &'static dyn Kernel) -> Duration {
    let nodes = kernel.lanes() * sample_lots(kernel);
    let plan = Plan::only(Choice { kernel, nanoseconds: 1.0 }, String::new());
    let children = vec![[Digest([0x5a; 32]); 2]; nodes];
    let mut out = vec![Digest::ZERO; nodes];
    let mut run = || {
        let jobs = children.iter().zip(&mut out);
        let jobs = jobs.map(|(children, out)| NodeJob { children, out });
        let start = Instant::now();
        stream::nodes(&plan, 1, std::hint::black_box(jobs));
        start.elapsed()
    };
    (0..CALLS).map(|_| run()).min().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
