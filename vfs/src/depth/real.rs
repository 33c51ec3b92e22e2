//! How the real disk reads a batch: one by one as long as that is fast, and the rest at once.
//!
//! ```text
//!   ▓▓▓▓▓▓▓▓ ▓▓▓▓▓▓▓▓ ▓▓▓▓▓▓▓▓ ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
//!   8 reads  8 reads  8 reads  ▲ the last eight took too long for memory: the rest at once
//!
//!   ░░░░░░░░░░░░░░░░░░░░░░░░░░  the next batch of such a file: at once from the beginning,
//!                               until one is as fast as memory
//! ```
//!
//! A file remembers whether it was slow. What the clock says of a thread that lost its processor is wrong,
//! and does no harm but for one batch: a ring takes as long as single reads for what is in memory.

use super::ring::{LONGEST, Wanted};
use super::{HowRead, ManyReads, ReadAt, ReadWay, ahead, one_by_one, rings, threads};
use crate::real::RealFile;
use std::time::{Duration, Instant};

/// Reads between two looks at the clock.
const LOOK: usize = 8;
/// Reads for which the processor fetches memory ahead, where files are mapped.
const FETCHED: usize = 16;
/// What reads from memory may take: in any case, each, and for every byte; in nanoseconds. One read from a
/// fast device takes 60 us and more, from memory 1 us.
const FAST_ONCE: u64 = 30_000;
const FAST_EACH: u64 = 2_000;
const FAST_BYTE: u64 = 1;
/// The system is told of as many reads at a time, and as many bytes.
const TOLD: usize = 256;
const TOLD_BYTES: usize = 4 << 20;

/// The best way that this system has.
pub(crate) fn best() -> ManyReads {
    choose(rings::refused())
}

/// The best way if rings are `refused` for a reason, or are not.
pub(crate) fn choose(refused: Option<String>) -> ManyReads {
    let way = match refused {
        None => ReadWay::Ring,
        Some(_) if ahead::AVAILABLE => ReadWay::Ahead,
        Some(_) => ReadWay::Threads,
    };
    ManyReads { way, why: refused }
}

/// Reads one by one as long as that is fast, and the rest by the best way.
pub(crate) fn read(reads: &mut [ReadAt<'_>]) -> HowRead {
    if reads.len() < 2 {
        return one_by_one(reads);
    }
    let fast = read_while_fast(reads);
    let (fast, rest) = reads.split_at_mut(fast);
    let mut how = HowRead { one_by_one: fast.len() as u64, ..HowRead::default() };
    how.depth = u64::from(!fast.is_empty());
    if rest.is_empty() { how } else { how.and(read_at_once(rest, best().way)) }
}

/// Reads all of them by `way`.
pub(crate) fn read_at_once(reads: &mut [ReadAt<'_>], way: ReadWay) -> HowRead {
    if reads.len() < 2 {
        return one_by_one(reads);
    }
    reads.iter_mut().for_each(|read| read.result = None);
    let began = Instant::now();
    let (how, slow) = match way {
        ReadWay::Ring => by_ring(reads),
        ReadWay::Ahead => (by_ahead(reads), None),
        ReadWay::Threads => (threads::read(reads), None),
        ReadWay::OneByOne => (one_by_one(reads), None),
    };
    let slow = slow.unwrap_or_else(|| is_slow(began.elapsed(), reads, 1));
    note(reads, slow);
    how
}

/// How many times as long as from memory reads must take before `way` is worth the risk that it was not the
/// device.
fn patience(way: ReadWay) -> u64 {
    match way {
        ReadWay::OneByOne | ReadWay::Ring => 1,
        ReadWay::Ahead => 2,
        ReadWay::Threads => 8,
    }
}

/// Returns how many were read.
fn read_while_fast(reads: &mut [ReadAt<'_>]) -> usize {
    let (mut done, mut fetched) = (0, 0);
    let mut then = Instant::now();
    while done < reads.len() {
        let upto = (done + LOOK).min(reads.len());
        let ahead = (upto + FETCHED).min(reads.len());
        for read in reads.get(fetched..ahead).unwrap_or_default() {
            if let Some(file) = real(read) {
                file.fetch(read.offset(), read.len());
            }
        }
        fetched = ahead;
        let Some(some) = reads.get_mut(done..upto) else { break };
        if some.iter().filter_map(real).any(RealFile::is_slow) {
            break;
        }
        some.iter_mut().for_each(ReadAt::read_alone);
        done = upto;
        let now = Instant::now();
        let took = now.saturating_duration_since(then);
        // The way is looked for when it is wanted: whoever never waits for a device needs no ring.
        if is_slow(took, some, 1) && is_slow(took, some, patience(best().way)) {
            note(some, true);
            break;
        }
        then = now;
    }
    done
}

fn real<'a>(read: &ReadAt<'a>) -> Option<&'a RealFile> {
    read.file().own()?.downcast_ref()
}

/// Whether reads that took this long came from a device.
fn is_slow(took: Duration, reads: &[ReadAt<'_>], patience: u64) -> bool {
    let bytes: u64 = reads.iter().map(|read| read.len() as u64).sum();
    let fast = FAST_ONCE + FAST_EACH * reads.len() as u64 + FAST_BYTE.saturating_mul(bytes);
    took > Duration::from_nanos(fast.saturating_mul(patience))
}

/// Has their files remember it.
fn note(reads: &[ReadAt<'_>], slow: bool) {
    reads.iter().filter_map(real).for_each(|file| file.set_slow(slow));
}

/// Whether any of them came from a device, too, if that is known.
fn by_ring(reads: &mut [ReadAt<'_>]) -> (HowRead, Option<bool>) {
    let mut how = HowRead::default();
    // Bytes that no ring would take, or that are none, are read as ever.
    let fits = |read: &ReadAt<'_>| {
        (1..=LONGEST).contains(&read.len()) && i64::try_from(read.offset()).is_ok()
    };
    let mut wanted: Vec<Wanted<'_, '_>> = reads
        .iter_mut()
        .filter(|read| fits(read))
        .filter_map(|read| Some(Wanted { file: real(read)?, read, done: false }))
        .collect();
    let answered = rings::with_ring(|ring| {
        let mut rest = &mut wanted[..];
        while !rest.is_empty() {
            let wave = ring.read(rest)?;
            how.depth = how.depth.max(wave.depth as u64);
            if wave.taken == 0 {
                break;
            }
            rest = rest.get_mut(wave.taken..).unwrap_or_default();
        }
        Ok(())
    });
    for want in wanted {
        if want.done {
            want.read.set_result(Ok(()));
            how.by_ring += 1;
        }
    }
    let slow = how.depth > 0;
    if answered.is_some() {
        // Too long, a short answer, an error: by itself, and what that says counts.
        for read in reads.iter_mut().filter(|read| read.result().is_none()) {
            read.read_alone();
            how.one_by_one += 1;
        }
        how.depth = how.depth.max(1);
        return (how, Some(slow));
    }
    // There was no ring left, or it broke.
    let mut rest: Vec<_> = reads.iter_mut().filter(|read| read.result().is_none()).collect();
    (how.and(told(&mut rest)), None)
}

fn by_ahead(reads: &mut [ReadAt<'_>]) -> HowRead {
    let mut reads: Vec<&mut ReadAt<'_>> = reads.iter_mut().collect();
    told(&mut reads)
}

/// Tells the system of them, and reads them.
fn told(reads: &mut [&mut ReadAt<'_>]) -> HowRead {
    let mut how = HowRead::default();
    let mut rest = reads;
    while !rest.is_empty() {
        let mut bytes = 0;
        let within = rest.iter().take(TOLD).take_while(|read| {
            bytes += read.len();
            bytes <= TOLD_BYTES
        });
        let count = within.count().max(1);
        let (now, later) = rest.split_at_mut(count);
        let mut depth = 0;
        for read in &*now {
            if let Some(file) = real(read) {
                ahead::tell(file.file(), read.offset(), read.len());
                depth += u64::from(ahead::AVAILABLE);
            }
        }
        now.iter_mut().for_each(|read| read.read_alone());
        how.ahead += depth;
        how.one_by_one += now.len() as u64 - depth;
        how.depth = how.depth.max(depth).max(1);
        rest = later;
    }
    how
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{OpenMode, RealDisk, Vfs, VfsFile};
    use std::sync::Arc;

    fn file(dir: &std::path::Path, name: &str) -> Arc<dyn VfsFile> {
        let file = RealDisk.open(&dir.join(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(&[7; 4096], 0).unwrap();
        file
    }

    fn own(file: &Arc<dyn VfsFile>) -> &RealFile {
        file.own().unwrap().downcast_ref().unwrap()
    }

    #[test]
    fn what_is_slow() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path(), "file");
        let mut bufs = [[0; 100]; 8];
        let reads: Vec<ReadAt<'_>> =
            bufs.iter_mut().map(|buf| ReadAt::new(&*file, 0, buf)).collect();
        let us = Duration::from_micros;
        assert!(!is_slow(us(46), &reads, 1));
        assert!(is_slow(us(47), &reads, 1));
        assert!(!is_slow(us(93), &reads, 2));
        assert!(is_slow(us(94), &reads, 2));
        // Long ones may take longer.
        let mut long = vec![0; 1 << 20];
        let long = [ReadAt::new(&*file, 0, &mut long)];
        assert!(!is_slow(us(1000), &long, 1));
        assert!(is_slow(us(1100), &long, 1));
    }

    /// Of two files one was slow: its reads, and what comes after them, are made at once.
    #[test]
    fn a_slow_file_is_read_at_once_from_the_first_read_on() {
        let dir = tempfile::tempdir().unwrap();
        let (fast, slow) = (file(dir.path(), "fast"), file(dir.path(), "slow"));
        own(&slow).set_slow(true);
        let mut bufs = vec![[0; 64]; 40];
        let reads = bufs.iter_mut().enumerate();
        let mut reads: Vec<ReadAt<'_>> =
            reads.map(|(i, buf)| ReadAt::new(&**[&fast, &slow][i / 16 % 2], 64, buf)).collect();
        let how = read(&mut reads);
        let at_once = how.by_ring + how.ahead + how.by_threads;
        // The first 16 may have been called slow by the clock, too.
        assert!(at_once >= 24, "{how:?}");
        assert_eq!(at_once + how.one_by_one, 40, "{how:?}");
        for read in reads {
            read.into_result().unwrap();
        }
        assert!(bufs.iter().flatten().all(|&byte| byte == 7));
    }

    #[test]
    fn the_way_is_what_there_is() {
        let none = choose(Some("a reason".into()));
        let next = if ahead::AVAILABLE { ReadWay::Ahead } else { ReadWay::Threads };
        assert_eq!((none.way, none.why.as_deref()), (next, Some("a reason")));
        assert_eq!(choose(None), ManyReads { way: ReadWay::Ring, why: None });
        let best = best();
        assert_eq!(best.way == ReadWay::Ring, best.why.is_none(), "{best:?}");
        if let Some(why) = best.why {
            println!("!!! NOT RUN: the tests of rings: {why}");
        }
    }
}
