//! Counters of reads, which many threads count at once: each thread has its line of memory, as far as there
//! are enough, so that none waits for a line that another has just written.

use hedgerow_vfs::HowRead;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const LINES: usize = 16;

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Reads([Line; LINES]);

/// Two of a CPU's lines, since they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    reads: AtomicU64,
    bytes: AtomicU64,
    tail: AtomicU64,
    cache: AtomicU64,
    disk: AtomicU64,
    batches: AtomicU64,
    in_batches: AtomicU64,
    by_ring: AtomicU64,
    ahead: AtomicU64,
    by_threads: AtomicU64,
    depth: AtomicU64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadCounts {
    /// Reads of files, and their bytes.
    pub(crate) reads: u64,
    pub(crate) bytes: u64,
    /// Entries that were read, by where they were found.
    pub(crate) tail: u64,
    pub(crate) cache: u64,
    pub(crate) disk: u64,
    /// Batches of reads, their reads, and how these were made.
    pub(crate) batches: u64,
    pub(crate) in_batches: u64,
    pub(crate) by_ring: u64,
    pub(crate) ahead: u64,
    pub(crate) by_threads: u64,
    /// Most that were under way at a time.
    pub(crate) depth: u64,
}

impl Reads {
    fn mine(&self) -> &Line {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static LINE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % LINES;
        }
        &self.0[LINE.with(|line| *line)] // below LINES
    }

    /// A read of a file.
    pub(crate) fn count_read(&self, bytes: usize) {
        let mine = self.mine();
        mine.reads.fetch_add(1, Ordering::Relaxed);
        mine.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A batch of reads, of which `read` were made, with so many bytes.
    pub(crate) fn count_batch(&self, how: HowRead, read: u64, bytes: u64) {
        let mine = self.mine();
        let count = |counter: &AtomicU64, by: u64| {
            if by > 0 {
                counter.fetch_add(by, Ordering::Relaxed);
            }
        };
        count(&mine.reads, read);
        count(&mine.bytes, bytes);
        count(&mine.batches, 1);
        count(&mine.in_batches, how.reads());
        count(&mine.by_ring, how.by_ring);
        count(&mine.ahead, how.ahead);
        count(&mine.by_threads, how.by_threads);
        if mine.depth.load(Ordering::Relaxed) < how.depth {
            mine.depth.fetch_max(how.depth, Ordering::Relaxed);
        }
    }

    /// Entries that were found in memory.
    pub(crate) fn count_tail(&self, entries: usize) {
        self.mine().tail.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Entries that were found in the cache.
    pub(crate) fn count_cache(&self, entries: usize) {
        self.mine().cache.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Entries that were read from disk.
    pub(crate) fn count_disk(&self, entries: usize) {
        self.mine().disk.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Everything that was counted.
    pub(crate) fn counts(&self) -> ReadCounts {
        let sum = |of: fn(&Line) -> &AtomicU64| {
            self.0.iter().map(|line| of(line).load(Ordering::Relaxed)).sum()
        };
        ReadCounts {
            reads: sum(|line| &line.reads),
            bytes: sum(|line| &line.bytes),
            tail: sum(|line| &line.tail),
            cache: sum(|line| &line.cache),
            disk: sum(|line| &line.disk),
            batches: sum(|line| &line.batches),
            in_batches: sum(|line| &line.in_batches),
            by_ring: sum(|line| &line.by_ring),
            ahead: sum(|line| &line.ahead),
            by_threads: sum(|line| &line.by_threads),
            depth: self.0.iter().map(|line| line.depth.load(Ordering::Relaxed)).max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_counted_is_added_up() {
        let reads = Reads::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * LINES {
                scope.spawn(|| {
                    reads.count_read(10);
                    reads.count_tail(2);
                    reads.count_cache(3);
                    reads.count_disk(4);
                    let how = HowRead { by_ring: 1, ahead: 2, by_threads: 3, ..HowRead::default() };
                    reads.count_batch(HowRead { one_by_one: 4, depth: 9, ..how }, 8, 20);
                });
            }
        });
        let n = 2 * LINES as u64;
        let expected = ReadCounts {
            reads: 9 * n,
            bytes: 30 * n,
            tail: 2 * n,
            cache: 3 * n,
            disk: 4 * n,
            batches: n,
            in_batches: 10 * n,
            by_ring: n,
            ahead: 2 * n,
            by_threads: 3 * n,
            depth: 9,
        };
        assert_eq!(reads.counts(), expected);
    }
}
