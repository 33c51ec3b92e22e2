//! How one child lives and when it dies: all of it follows from the seed and a number, so that the
//! child needs to be told no more than that.

use super::blocks::draws;
use hedgerow::disk::{POINTS, Vfs};
use hedgerow::{CompactionRule, Durability, Options, StoreParams};
use hedgerow_testkit::recipe::SplitMix64;
use std::sync::Arc;

/// How blocks are handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `submit`; roots and durability are waited for elsewhere.
    Submit,
    /// `commit`, one after the other.
    Commit,
    /// `submit` some, then `flush`.
    Flush,
}

/// A line after which the clock of a kill runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process was started.
    Spawned,
    /// The store is open.
    Open,
    /// A block was accepted.
    Accepted,
    /// A block was published.
    Published,
    /// A block became durable.
    Durable,
    /// A file is about to be removed by pruning.
    Removing,
    /// Closing began.
    Closing,
}

/// An operation of the disk at which the child stops and waits for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The n-th one that changes something, from the start of the process.
    Change(u64),
    /// The n-th one after the store is open.
    Open(u64),
    /// The n-th removal of a file once the store is open.
    Removal(u64),
    /// The n-th one since closing began.
    Closing(u64),
    /// The n-th arrival at the named point of this number, see [`hedgerow::disk::POINTS`].
    Point(usize, u64),
}

/// When the parent sends SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So many microseconds after the n-th event of a kind.
    After {
        /// The kind.
        event: Event,
        /// Which of them, from 1.
        count: u64,
        /// Microseconds.
        micros: u64,
    },
    /// When the child stands still at an operation of the disk.
    Held(Hold),
}

/// One child.
#[derive(Clone, Debug)]
pub struct Life {
    /// When it is killed, unless it ended before.
    pub moment: Moment,
    /// Blocks that it writes before it closes.
    pub blocks: u64,
    /// How it hands them in.
    pub way: Way,
    /// When its blocks count as done.
    pub durability: Durability,
    /// Whether another thread reads and proves meanwhile.
    pub reads: bool,
    threads: usize,
    in_flight: usize,
    /// Heights that pruning keeps.
    pub keep_heights: Option<u64>,
    /// Heights whose rows are kept.
    pub keep_history: Option<u64>,
    tail: u64,
    cache: u64,
    segment: u64,
}

impl Life {
    /// The life with this number.
    pub fn draw(seed: u64, number: u64) -> Self {
        Self::at(seed, number, moment)
    }

    /// The same for a life that is to end while it creates the store.
    pub fn creating(seed: u64, number: u64) -> Self {
        Self::at(seed, number, moment_of_creation)
    }

    fn at(seed: u64, number: u64, moment: fn(&mut SplitMix64) -> Moment) -> Self {
        let mut draws = draws(seed, "life", number);
        let d = &mut draws;
        let moment = moment(d);
        let ends = moment_is_closing(moment) || d.below(10) == 0;
        Self {
            moment,
            blocks: if ends { d.below(30) } else { 1_000_000 },
            way: [Way::Submit, Way::Submit, Way::Commit, Way::Flush][d.below(4) as usize],
            durability: match d.below(3) {
                0 => Durability::EachBlock,
                _ => Durability::Pipelined,
            },
            reads: d.below(3) == 0,
            threads: d.below(4) as usize,
            in_flight: 1 + d.below(8) as usize,
            keep_heights: (d.below(4) > 0).then(|| 1 + d.below(12)),
            keep_history: (d.below(3) == 0).then(|| 1 + d.below(60)),
            tail: [0, 20_000, 1 << 20][d.below(3) as usize],
            cache: [0, 50_000, 1 << 20][d.below(3) as usize],
            segment: [4_000, 70_000, 300_000, 1 << 20][d.below(4) as usize],
        }
    }

    /// Its options on a disk.
    pub fn options(&self, disk: Arc<dyn Vfs>) -> Options {
        let options = Options::new()
            .disk(disk)
            .durability(self.durability)
            .threads(self.threads)
            .max_in_flight(self.in_flight)
            .tail_bytes(self.tail)
            .entry_cache_bytes(self.cache)
            .segment_bytes(self.segment)
            .keep_all();
        let options = match self.keep_heights {
            Some(heights) => options.keep_heights(heights),
            None => options,
        };
        match self.keep_history {
            Some(heights) => options.keep_history(heights),
            None => options,
        }
    }

    /// The first height whose row is kept when `height` is the last one.
    pub fn kept_from(&self, height: u64) -> u64 {
        // As `keep_history` and `keep_heights` promise: the longer of the two.
        match (self.keep_history, self.keep_heights) {
            (None, _) => 0,
            (Some(rows), None) => (height + 1).saturating_sub(rows),
            (Some(rows), Some(heights)) => (height + 1).saturating_sub(rows.max(heights)),
        }
    }
}

fn moment_is_closing(moment: Moment) -> bool {
    matches!(moment, Moment::Held(Hold::Closing(_)) | Moment::After { event: Event::Closing, .. })
}

fn moment(d: &mut SplitMix64) -> Moment {
    let after = |event, count, micros| Moment::After { event, count, micros };
    match d.below(24) {
        20.. => point(d, |_| true, 20),
        0 => after(Event::Spawned, 1, d.below(150_000)),
        1 => after(Event::Open, 1, d.below(2_000)),
        2..5 => after(Event::Accepted, 1 + d.below(40), d.below(5_000)),
        5..7 => after(Event::Published, 1 + d.below(40), d.below(1_000)),
        7..10 => after(Event::Durable, 1 + d.below(30), d.below(100_000)),
        10 => after(Event::Durable, 1 + d.below(40), 0),
        11 => after(Event::Removing, 1 + d.below(4), d.below(500)),
        12 => after(Event::Closing, 1, d.below(20_000)),
        13 => Moment::Held(Hold::Closing(d.below(6))),
        14 => Moment::Held(Hold::Removal(d.below(4))),
        15 => Moment::Held(Hold::Change(d.below(12))),
        16 => Moment::Held(Hold::Change(d.below(90))),
        _ => Moment::Held(Hold::Open(d.below(400))),
    }
}

fn moment_of_creation(d: &mut SplitMix64) -> Moment {
    match d.below(8) {
        0 => Moment::After { event: Event::Spawned, count: 1, micros: d.below(40_000) },
        1..4 => point(d, |point| point.starts_with("create"), 1),
        _ => Moment::Held(Hold::Change(d.below(60))),
    }
}

/// An arrival, up to so many of them, at one of some named points.
fn point(d: &mut SplitMix64, choose: fn(&str) -> bool, times: u64) -> Moment {
    let of = |(number, point): (usize, &&str)| choose(point).then_some(number);
    let some: Vec<usize> = POINTS.iter().enumerate().filter_map(of).collect();
    let point = some[d.below(some.len() as u64) as usize];
    // What opens a store or creates it comes along once.
    let once = POINTS[point].starts_with("open") || POINTS[point].starts_with("create");
    let nth = if once { 0 } else { d.below(times) };
    Moment::Held(Hold::Point(point, nth))
}

/// The parameters of the store with this number.
pub fn params(seed: u64, store: u64) -> StoreParams {
    let mut draws = draws(seed, "params", store);
    let (ratio, div) = if draws.below(2) == 0 { (1, 1) } else { (4, 5) };
    // Neither is 0, which is all that a rule asks for.
    let rule = CompactionRule::new(1, ratio, div).unwrap_or(CompactionRule::QMDB);
    StoreParams::default().with_compaction(rule)
}
