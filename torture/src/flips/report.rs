//! What all cases came to.

use super::Plan;
use super::cases::Case;
use super::panics::Panic;
use super::probe::{CALLS, Verdict};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What all cases came to; prints as a table.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Cases that were run.
    pub cases: u64,
    /// Cases after which every answer was right and `check` found nothing.
    pub unaffected: u64,
    /// Errors that did not name a file.
    pub without_file: u64,
    /// Panics inside the metadata engine that came back as errors.
    pub engine_panics: u64,
    /// Most bytes in use at once, by all cases that run at the same time.
    pub peak: usize,
    /// The same for one undamaged store.
    pub peak_undamaged: usize,
    /// Bytes of the store's files.
    pub size: usize,
    /// What went wrong: number of the case, what, and the command that replays it.
    pub failures: Vec<String>,
    /// Cases after which the last blocks were gone as after a crash, and nothing else.
    pub cut: u64,
    /// How long it took.
    pub time: Duration,
    classes: BTreeMap<String, [u64; 3]>,
    by: BTreeMap<&'static str, u64>,
    /// Texts without a file, one of each beginning.
    texts: BTreeMap<String, u64>,
    seed: u64,
}

impl Report {
    pub(super) fn new(plan: Plan, size: usize, peak_undamaged: usize) -> Self {
        Self { seed: plan.seed, size, peak_undamaged, ..Self::default() }
    }

    pub(super) fn note(&mut self, number: usize, case: &Case, verdict: Verdict) {
        self.cases += 1;
        let class = self.classes.entry(case.class.clone()).or_default();
        class[0] += 1;
        match verdict {
            Verdict::Unaffected if case.must_report => self.fail(number, case, "nobody noticed"),
            Verdict::Unaffected => {
                class[1] += 1;
                self.unaffected += 1;
            }
            Verdict::Reported { by, names_a_file, text } => {
                class[2] += 1;
                *self.by.entry(by).or_default() += 1;
                if !names_a_file {
                    self.without_file += 1;
                    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
                    let kind: String = text.chars().map(digits).take(60).collect();
                    *self.texts.entry(kind).or_default() += 1;
                }
            }
            Verdict::Cut => self.cut += 1,
            Verdict::Wrong(what) => self.fail(number, case, &what),
        }
    }

    pub(super) fn note_panic(&mut self, number: usize, case: &Case, panic: &Panic) {
        if panic.in_redb {
            self.engine_panics += 1;
        } else {
            self.fail(
                number,
                case,
                &format!("a panic, in this case or one beside it: {}", panic.text),
            );
        }
    }

    /// Notes a case that took more memory, alone, than the files can be the reason for.
    pub(super) fn note_memory(&mut self, number: usize, case: &Case, peak: usize) {
        self.fail(number, case, &format!("{peak} bytes in use at once"));
    }

    fn fail(&mut self, number: usize, case: &Case, what: &str) {
        let what: String = what.chars().take(600).collect();
        self.failures.push(format!(
            "case {number}, {}: {what}\nreplay: {}",
            case.class,
            case.command(self.seed)
        ));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<62} cases  unaffected  reported", "class")?;
        for (class, [cases, unaffected, reported]) in &self.classes {
            writeln!(f, "{class:<62} {cases:>5}  {unaffected:>10}  {reported:>8}")?;
        }
        for call in CALLS {
            let count = self.by.get(call).copied().unwrap_or_default();
            writeln!(f, "first reported by {call:<8} {count:>6}")?;
        }
        writeln!(f, "last blocks gone as after a crash: {}", self.cut)?;
        writeln!(f, "errors without a file's name: {}", self.without_file)?;
        for (text, count) in &self.texts {
            writeln!(f, "  {count:>5}  {text}")?;
        }
        writeln!(f, "panics of the metadata engine that became errors: {}", self.engine_panics)?;
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "most memory at once: {:.1} MiB (one undamaged store: {:.1} MiB; its files: {:.1} MiB)",
            mib(self.peak),
            mib(self.peak_undamaged),
            mib(self.size)
        )?;
        writeln!(
            f,
            "{} cases, {} unaffected, {} failed, {:.0} s; seed {}",
            self.cases,
            self.unaffected,
            self.failures.len(),
            self.time.as_secs_f64(),
            self.seed
        )
    }
}
