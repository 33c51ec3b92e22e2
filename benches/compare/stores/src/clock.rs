//! What a call costs: CPU time of the whole process, as an engine may work on threads of its own, and time on the wall.

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::{
    io,
    time::{Duration, Instant},
};

/// Microseconds, each.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Cost {
    /// CPU time of all threads of the process, kernel included.
    pub cpu: f64,
    /// Time on the wall.
    pub wall: f64,
}

impl Cost {
    /// Runs `run` once; what it cost, divided by `calls`, the number of equal things that it did.
    ///
    /// # Errors
    /// The first of `run`, or the clock cannot be read.
    pub fn of<T, E: From<io::Error>>(
        calls: usize,
        run: impl FnOnce() -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let (cpu, wall) = (cpu_time()?, Instant::now());
        let done = run()?;
        let wall = wall.elapsed();
        let cpu = cpu_time()?.saturating_sub(cpu);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / calls.max(1) as f64;
        Ok((Self { cpu: each(cpu), wall: each(wall) }, done))
    }
}

fn cpu_time() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// The quartiles of some figures, by nearest rank: each is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles {
    /// A quarter of the figures are at most this.
    pub low: f64,
    /// The median.
    pub mid: f64,
    /// Three quarters of the figures are at most this.
    pub high: f64,
}

impl Quartiles {
    /// Those of `figures`; `None` of no figures.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<_> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let rank = |quarters: usize| {
            figures.get((figures.len() * quarters).div_ceil(4).saturating_sub(1)).copied()
        };
        Some(Self { low: rank(1)?, mid: rank(2)?, high: rank(3)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_by_nearest_rank() {
        let of = |figures: &[f64]| {
            Quartiles::of(figures.iter().copied()).map(|it| [it.low, it.mid, it.high])
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7.0]), Some([7.0; 3]));
        assert_eq!(of(&[3.0, 1.0, 2.0, 4.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(of(&[5.0, 4.0, 3.0, 2.0, 1.0]), Some([2.0, 3.0, 4.0]));
    }

    #[test]
    fn work_on_another_thread_counts_and_is_divided() {
        let spin = || {
            let begin = cpu_time()?;
            while cpu_time()?.saturating_sub(begin) < Duration::from_millis(2) {}
            Ok::<_, io::Error>(())
        };
        let on_another =
            || std::thread::spawn(spin).join().map_err(|_| io::Error::other("panic"))?;
        let (cost, ()) = Cost::of(2, on_another).unwrap();
        assert!(cost.cpu >= 1000.0, "{cost:?}");
    }
}
