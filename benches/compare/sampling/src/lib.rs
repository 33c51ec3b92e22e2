//! Timing candidates against each other on a machine that is not quiet.
//!
//! ```text
//!   repetition 1   B ▓▓  D ▓▓▓  A ▓▓  C ▓▓▓▓     every candidate once, in an order of its own
//!   repetition 2   C ▓▓▓▓  A ▓▓  D ▓▓▓  B ▓▓
//!   ...
//!   ratio A : B    of the two samples of one repetition; the median over the repetitions
//!
//!   sample         chain of additions ► ns per cycle │ (one call that is not counted) │ calls ► ns
//! ```
//!
//! What disturbs one repetition disturbs all its candidates, and the median drops what disturbs one
//! candidate. Time is CPU time of the thread, so that others' turns on the core do not count. Cycles
//! come from a chain of additions, each of which waits for the one before and takes one cycle: right
//! before the sample, as the clock of a core changes.
//!
//! [`remote`] has a candidate that lives in another process.
#![forbid(unsafe_code)]

pub mod remote;

use nix::time::{ClockId, clock_gettime};
use std::{hint::black_box, io, time::Duration};

/// How a candidate is run for one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Runs that are timed together, at least 1.
    pub calls: u32,
    /// One more run before them, so that its input is in the cache.
    pub warm: bool,
}

/// One sample, per call.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Sample {
    /// CPU time of the thread, in nanoseconds.
    pub nanoseconds: f64,
    /// The same in cycles of the core.
    pub cycles: f64,
}

/// Something that is timed against others: takes one sample.
pub type Candidate<'a, E> = Box<dyn FnMut(Pace) -> Result<Sample, E> + 'a>;

/// Takes one sample of `run`.
///
/// # Errors
/// The first of `run`, or the thread's clock cannot be read.
pub fn sample<E: From<io::Error>>(
    pace: Pace,
    mut run: impl FnMut() -> Result<(), E>,
) -> Result<Sample, E> {
    let cycle = nanoseconds_per_cycle()?;
    if pace.warm {
        run()?;
    }
    let calls = pace.calls.max(1);
    let start = cpu_time()?;
    for _ in 0..calls {
        run()?;
    }
    let spent = cpu_time()?.saturating_sub(start);
    let nanoseconds = spent.as_nanos() as f64 / f64::from(calls);
    Ok(Sample { nanoseconds, cycles: nanoseconds / cycle })
}

/// Takes `repetitions` samples of every candidate, interleaved; at least one.
///
/// # Errors
/// The first of a candidate.
pub fn interleaved<E>(
    repetitions: usize,
    pace: Pace,
    candidates: &mut [Candidate<'_, E>],
) -> Result<Measured, E> {
    let mut samples = vec![vec![]; candidates.len()];
    let mut order: Vec<_> = (0..candidates.len()).collect();
    let mut state = 1;
    for _ in 0..repetitions.max(1) {
        shuffle(&mut order, &mut state);
        for &i in &order {
            samples[i].push(candidates[i](pace)?);
        }
    }
    Ok(Measured { samples })
}

/// The samples of some candidates, which are known by their position.
#[derive(Clone, Debug)]
pub struct Measured {
    /// As many of each candidate, at least one.
    samples: Vec<Vec<Sample>>,
}

impl Measured {
    /// The median of a call.
    pub fn median(&self, candidate: usize) -> Sample {
        let of = |part: fn(&Sample) -> f64| median(self.samples[candidate].iter().map(part));
        Sample { nanoseconds: of(|s| s.nanoseconds), cycles: of(|s| s.cycles) }
    }

    /// How many times as long as `candidate` `other` takes: the median of the repetitions' ratios.
    pub fn ratio(&self, other: usize, candidate: usize) -> f64 {
        let pairs = self.samples[other].iter().zip(&self.samples[candidate]);
        median(pairs.map(|(other, candidate)| other.nanoseconds / candidate.nanoseconds))
    }
}

/// The middle one, or the mean of the two in the middle; NaN of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    f64::midpoint(middle(values.len().saturating_sub(1) / 2), middle(values.len() / 2))
}

/// CPU time of this thread.
fn cpu_time() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Length of the chain that calibrates, in cycles: about 30 microseconds, a hundred times what
/// reading the clock costs.
const CHAIN: u32 = 100_000;

fn nanoseconds_per_cycle() -> io::Result<f64> {
    let start = cpu_time()?;
    black_box(chain(black_box(1), black_box(3), black_box(5)));
    Ok(cpu_time()?.saturating_sub(start).as_nanos() as f64 / f64::from(CHAIN))
}

/// Additions of `a`, each of which waits for the one before. The exclusive or between two of them,
/// which takes a cycle too, keeps the compiler from adding all at once.
#[inline(never)]
fn chain(mut x: u64, a: u64, b: u64) -> u64 {
    for _ in 0..CHAIN / 2 {
        x = x.wrapping_add(a) ^ b;
    }
    x
}

/// Fisher and Yates's shuffle, by Marsaglia's xorshift. Which order comes out matters little, only
/// that it changes.
fn shuffle(order: &mut [usize], state: &mut u64) {
    for end in (2..=order.len()).rev() {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        order.swap(end - 1, (*state % end as u64) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { calls: 3, warm: true };

    #[test]
    fn medians() {
        assert!(median([].into_iter()).is_nan());
        assert_eq!(median([7.0].into_iter()), 7.0);
        assert_eq!(median([9.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([9.0, 1.0, 2.0, 4.0].into_iter()), 3.0);
    }

    #[test]
    fn a_sample_is_per_call_and_the_warm_up_does_not_count() {
        let mut runs = 0;
        let pace = Pace { calls: 50, warm: true };
        let sample: io::Result<_> = sample(pace, || {
            runs += 1;
            let start = cpu_time()?;
            let length = Duration::from_micros(if runs == 1 { 100_000 } else { 200 });
            while cpu_time()?.saturating_sub(start) < length {}
            Ok(())
        });
        let sample = sample.unwrap();
        assert_eq!(runs, 51);
        // CPU time that is spent on purpose. Wide bounds: a disturbance only ever adds.
        let milliseconds = sample.nanoseconds / 1e6;
        assert!((0.2..1.5).contains(&milliseconds), "{milliseconds}: warm or all calls counted");
        // Any core that runs this clocks between 0.1 and 20 GHz.
        assert!((0.1..20.0).contains(&(sample.cycles / sample.nanoseconds)), "{sample:?}");
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        // The machine is ten times slower in every other repetition.
        let candidate = |nanoseconds: f64| -> Candidate<'_, io::Error> {
            let mut slow = false;
            Box::new(move |_| {
                slow = !slow;
                let nanoseconds = if slow { 10.0 * nanoseconds } else { nanoseconds };
                Ok(Sample { nanoseconds, cycles: 1.0 })
            })
        };
        let measured = interleaved(8, PACE, &mut [candidate(3.0), candidate(6.0)]).unwrap();
        assert_eq!(measured.ratio(1, 0), 2.0);
        assert_eq!(measured.ratio(0, 1), 0.5);
        assert_eq!(measured.median(0), Sample { nanoseconds: 16.5, cycles: 1.0 });
    }

    #[test]
    fn an_order_is_a_permutation_that_changes() {
        let mut order: Vec<_> = (0..10).collect();
        let mut seen = std::collections::HashSet::new();
        let mut state = 1;
        for _ in 0..50 {
            shuffle(&mut order, &mut state);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..10));
            seen.insert(order.clone());
        }
        assert!(seen.len() > 45, "{} orders", seen.len());
    }

    #[test]
    fn an_error_ends_the_measurement() {
        let mut failing: [Candidate<'_, io::Error>; 1] =
            [Box::new(|pace| sample(pace, || Err(io::Error::other("broken"))))];
        assert_eq!(interleaved(2, PACE, &mut failing).unwrap_err().to_string(), "broken");
    }
}
