//! One block hashed on the device: what is asked for, in which order it comes back, what is checked.
//!
//! ```text
//!  device   hash ... hash │ samples │ roots and top row │ all other dirty nodes
//!                         └────┬────┴─────────┬─────────┴──────────┬──────────
//!  CPU                      check        top levels,          into the rows,
//!                        by hashing   state tree ─► ROOT   compared with the samples
//! ```
//!
//! The root needs few nodes: where a shard's tree leaves the device, its dirty nodes of that row.
//! The samples come before it, so that nobody hears of a root that a check would have refused; and
//! those nodes are samples themselves, whatever the rate.
//!
//! A sample is a parent and its children as they lie on the device. It is hashed again; children that
//! were not hashed in the block must be the CPU's (so what went wrong on its way up shows); and what
//! has come into the CPU's rows in its place must be equal (so what went wrong on its way down does).

use super::mirror::{Mirror, rows};
use super::ring::{Ring, ends_of, index_of, row_of, row_of_mut};
use crate::MerkleError;
use crate::levels::{Batches, Hashing, Step};
use crate::shard::SharedTree;
use crate::work::ShardWork;
use hedgerow_hasher_api::{BatchHasher, HashError, ResidentRows, Target, hash_node};
use hedgerow_types::{Digest, SHARDS};

/// Parents that the device was asked to hash.
struct Hashed {
    level: u8,
    children: usize,
    to: Target,
    /// (shard, index of the parent), increasing.
    parents: Vec<(u8, u64)>,
}

/// One of the parents, as it lies on the device, with its children.
struct Sample {
    /// Which of [`OnDevice::hashed`].
    step: usize,
    shard: u8,
    parent: u64,
    digest: Digest,
    children: [Digest; 2],
}

/// Rows hashed on the device up to where a shard's tree leaves it, on the CPU above.
pub(super) struct OnDevice<'a> {
    mirror: &'a mut Mirror,
    cpu: Batches<'a>,
    /// One parent of so many becomes a sample; 0: none.
    check_one_of: u32,
    /// By step, from below.
    hashed: Vec<Hashed>,
    /// The highest row on the device that the shard has.
    last_rows: [usize; SHARDS],
    samples: Vec<Sample>,
    /// Whether the last rows are in memory, and all others on their way.
    topped: bool,
}

impl<'a> OnDevice<'a> {
    pub(super) fn new(
        mirror: &'a mut Mirror,
        hasher: &'a dyn BatchHasher,
        check_one_of: u32,
        shards: &[SharedTree; SHARDS],
    ) -> Self {
        let last_rows = std::array::from_fn(|shard| mirror.ring.last_row(&shards[shard]));
        let (hashed, samples) = (vec![], vec![]);
        Self {
            mirror,
            cpu: Batches(hasher),
            check_one_of,
            hashed,
            last_rows,
            samples,
            topped: false,
        }
    }

    /// Places on the device of some parents of a step.
    fn places<'b>(
        &self,
        hashed: &Hashed,
        parents: impl Iterator<Item = &'b (u8, u64)>,
    ) -> Vec<u32> {
        let place = |&(shard, parent): &(u8, u64)| {
            self.mirror.ring.place(hashed.to.row, shard.into(), index_of(hashed.to, parent))
        };
        parents.map(place).collect()
    }

    /// The parents of a step in a shard's last row, or all others.
    fn part<'b>(&self, hashed: &'b Hashed, last: bool) -> impl Iterator<Item = &'b (u8, u64)> {
        let last_rows = self.last_rows;
        let is_last = move |shard: u8| hashed.to.row == last_rows[usize::from(shard)];
        hashed.parents.iter().filter(move |(shard, _)| is_last(*shard) == last)
    }

    /// Asks for the parents in last rows, or for all others.
    fn ask(&mut self, last: bool) -> Result<(), HashError> {
        for step in 0..self.hashed.len() {
            let hashed = &self.hashed[step];
            let places = self.places(hashed, self.part(hashed, last));
            let row = hashed.to.row;
            if !places.is_empty() {
                self.rows().read(row, &places)?;
            }
        }
        Ok(())
    }

    fn rows(&mut self) -> &mut dyn ResidentRows {
        rows(&mut self.mirror.rows)
    }

    /// Takes what [`ask`](Self::ask) asked for into the rows.
    fn take(&mut self, last: bool, shards: &mut [SharedTree; SHARDS]) -> Result<(), HashError> {
        for step in 0..self.hashed.len() {
            let count = self.part(&self.hashed[step], last).count();
            if count == 0 {
                continue;
            }
            let mut digests = vec![Digest::ZERO; count];
            self.rows().take(&mut digests)?;
            let hashed = &self.hashed[step];
            for (&(shard, parent), digest) in self.part(hashed, last).zip(digests) {
                if let Some(row) = row_of_mut(&mut shards[usize::from(shard)], hashed.to.row) {
                    row.set(index_of(hashed.to, parent), digest);
                }
            }
        }
        Ok(())
    }

    /// Chooses the samples and asks for them and their children.
    fn ask_samples(&mut self) -> Result<(), HashError> {
        let one_of = u64::from(self.check_one_of);
        if one_of == 0 {
            return Ok(());
        }
        for step in 0..self.hashed.len() {
            let hashed = &self.hashed[step];
            let before = self.mirror.computed;
            self.mirror.computed += hashed.parents.len() as u64;
            // Those whose number, counted over all blocks, is a multiple; and what the root needs.
            let chosen = (before..).zip(&hashed.parents).filter(|&(number, &(shard, _))| {
                number.is_multiple_of(one_of) || hashed.to.row == self.last_rows[usize::from(shard)]
            });
            let chosen = chosen.map(|(_, &parent)| parent).collect::<Vec<_>>();
            if chosen.is_empty() {
                continue;
            }
            let places = self.places(hashed, chosen.iter());
            let (to, children) = (hashed.to.row, hashed.children);
            let pairs = chosen.iter().flat_map(|&(shard, parent)| {
                [2 * parent, 2 * parent + 1]
                    .map(|child| self.mirror.ring.place(children, shard.into(), child))
            });
            let pairs = pairs.collect::<Vec<_>>();
            self.rows().read(to, &places)?;
            self.rows().read(children, &pairs)?;
            let sample = |(shard, parent)| Sample {
                step,
                shard,
                parent,
                digest: Digest::ZERO,
                children: [Digest::ZERO; 2],
            };
            self.samples.extend(chosen.into_iter().map(sample));
        }
        Ok(())
    }

    /// Takes the samples and hashes them again.
    fn check_samples(&mut self, shards: &[SharedTree; SHARDS]) -> Result<(), HashError> {
        let rows = rows(&mut self.mirror.rows);
        for samples in self.samples.chunk_by_mut(|a, b| a.step == b.step) {
            let mut digests = vec![Digest::ZERO; samples.len()];
            rows.take(&mut digests)?;
            let mut children = vec![Digest::ZERO; 2 * samples.len()];
            rows.take(&mut children)?;
            let taken = digests.into_iter().zip(children.as_chunks().0);
            for (sample, (digest, children)) in samples.iter_mut().zip(taken) {
                (sample.digest, sample.children) = (digest, *children);
            }
        }
        for sample in &self.samples {
            let Hashed { level, children: row, .. } = self.hashed[sample.step];
            let [left, right] = &sample.children;
            if hash_node(level, left, right) != sample.digest {
                return Err(wrong(level + 1));
            }
            let tree = &shards[usize::from(sample.shard)];
            for (child, digest) in (2 * sample.parent..).zip(&sample.children) {
                let known = row_of(tree, row).and_then(|row| row.get(child));
                if !self.is_hashed(sample.shard, row, child) && known != Some(digest) {
                    return Err(wrong(level));
                }
            }
        }
        Ok(())
    }

    /// Whether the node comes from the device in this block, and is checked by itself.
    fn is_hashed(&self, shard: u8, row: usize, index: u64) -> bool {
        let mut steps = self.hashed.iter().filter(|hashed| hashed.to.row == row);
        steps.any(|Hashed { to, parents, .. }| {
            let stride = u64::from(to.stride);
            index % stride == u64::from(to.offset)
                && parents.binary_search(&(shard, index / stride)).is_ok()
        })
    }

    /// Compares the samples with what has come into the rows: in the last rows, or in all others.
    fn compare(&self, shards: &[SharedTree; SHARDS], last: bool) -> Result<(), HashError> {
        for sample in &self.samples {
            let Hashed { level, to, .. } = self.hashed[sample.step];
            let shard = usize::from(sample.shard);
            let row = row_of(&shards[shard], to.row);
            let here = row.and_then(|row| row.get(index_of(to, sample.parent)));
            if (to.row == self.last_rows[shard]) == last && here != Some(&sample.digest) {
                return Err(wrong(level + 1));
            }
        }
        Ok(())
    }

    /// Compares the children of the samples with what lies in the rows, once all nodes are there.
    fn compare_children(&self, shards: &[SharedTree; SHARDS]) -> Result<(), HashError> {
        for sample in &self.samples {
            let Hashed { level, children, .. } = self.hashed[sample.step];
            let row = row_of(&shards[usize::from(sample.shard)], children);
            for (child, digest) in (2 * sample.parent..).zip(&sample.children) {
                if row.and_then(|row| row.get(child)) != Some(digest) {
                    return Err(wrong(level));
                }
            }
        }
        Ok(())
    }

    /// Fetches the last rows, once, so that the CPU can hash on above them, and asks for all others.
    pub(super) fn top(&mut self, shards: &mut [SharedTree; SHARDS]) -> Result<(), HashError> {
        if std::mem::replace(&mut self.topped, true) {
            return Ok(());
        }
        self.ask_samples()?;
        self.ask(true)?;
        self.rows().flush()?;
        self.ask(false)?;
        self.rows().flush()?;
        self.check_samples(shards)?;
        self.take(true, shards)?;
        self.compare(shards, true)
    }

    /// Fetches all nodes that are not in their rows yet; returns how many were checked.
    pub(super) fn finish(mut self, shards: &mut [SharedTree; SHARDS]) -> Result<u64, HashError> {
        self.top(shards)?;
        self.take(false, shards)?;
        self.compare(shards, false)?;
        self.compare_children(shards)?;
        Ok(self.samples.len() as u64)
    }
}

fn wrong(level: u8) -> HashError {
    HashError::Device {
        backend: "resident".into(),
        reason: format!("a wrong digest at level {level}"),
    }
}

impl Hashing for OnDevice<'_> {
    fn hash(
        &mut self,
        step: Step,
        shards: &mut [SharedTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
    ) -> Result<(), MerkleError> {
        let (children, level, to) = ends_of(step);
        if to.row >= self.mirror.ring.rows() {
            self.top(shards)?;
            return self.cpu.hash(step, shards, works);
        }
        let len = self.mirror.ring.len(children) / 2;
        let mut parents = vec![];
        let mut places = vec![];
        for (shard, (tree, work)) in shards.iter().zip(&*works).enumerate() {
            let Some(row) = row_of(tree, children) else { continue };
            if row_of(tree, to.row).is_none() {
                continue; // the root was the row before
            }
            for &dirty in &work.dirty {
                let parent = row.base() / 2 + u64::from(dirty);
                parents.push((shard as u8, parent));
                places.push(Ring::place_in(len, shard, parent));
            }
        }
        if !places.is_empty() {
            self.rows().hash(level, children, &places, to)?;
            self.hashed.push(Hashed { level, children, to, parents });
        }
        Ok(())
    }
}
