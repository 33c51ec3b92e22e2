//! Resident rows on any device: a buffer per row, and buffers for what goes up and comes down.
//!
//! ```text
//!  write   digests, places ─► staging ─► [Scatter] ─► row
//!  flip    (word, mask)    ─► staging ─► [Flip]    ─► row
//!  hash    parents         ─► staging ─► [Nodes]   row ─► row
//!  read    places          ─► staging ─► [Gather]  row ─► gathered ─► download ... take
//! ```
//!
//! The buffers are used again by the next call: the queue works in order.

use crate::{
    Device, DeviceHasher, Launch, Limits, Parents, Queue,
    cut::runs,
    pipeline::{Grown, pack, unpack},
};
use hedgerow_hasher_api::{HashError, Residency, ResidentRows, Target};
use hedgerow_types::Digest;
use std::collections::VecDeque;

/// Most places of one upload: what bounds the buffers.
const AT_ONCE: u32 = 1 << 18;

impl<D: Device> Residency for DeviceHasher<D> {
    fn id(&self) -> u64 {
        self.id
    }

    fn worth_from(&self) -> usize {
        self.resident_from
    }

    fn check_one_of(&self) -> u32 {
        0
    }

    fn open(&self, lens: &[u32]) -> Result<Box<dyn ResidentRows>, HashError> {
        let limits = self.device().limits();
        let mut queue = self.device().queue()?;
        let mut rows = Vec::with_capacity(lens.len());
        for &len in lens {
            let bytes = 32 * u64::from(len.max(1));
            if bytes > limits.buffer_bytes {
                let reason = format!("a row of {bytes} bytes exceeds {limits:?}");
                return Err(HashError::DoesNotFit {
                    backend: self.device().capabilities().name,
                    reason,
                });
            }
            // As a rule there is not enough memory left.
            let buffer = queue.allocate(bytes).map_err(does_not_fit)?;
            rows.push(Row { buffer, len });
        }
        Ok(Box::new(DeviceRows::<D::Queue> {
            queue,
            rows,
            limits,
            places: Grown::new(limits.buffer_bytes),
            digests: Grown::new(limits.buffer_bytes),
            reads: VecDeque::new(),
        }))
    }

    fn condemn(&self, _: &HashError) {}
}

fn does_not_fit(error: HashError) -> HashError {
    match error {
        HashError::Device { backend, reason } => HashError::DoesNotFit { backend, reason },
        other => other,
    }
}

#[derive(Debug)]
struct Row<B> {
    buffer: B,
    len: u32,
}

/// See the [module documentation](self).
#[derive(Debug)]
struct DeviceRows<Q: Queue> {
    queue: Q,
    rows: Vec<Row<Q::Buffer>>,
    limits: Limits,
    places: Grown<Q::Buffer>,
    digests: Grown<Q::Buffer>,
    /// The downloads of every read, each with its number of digests.
    reads: VecDeque<Vec<(Q::Download, usize)>>,
}

fn row<B>(rows: &[Row<B>], row: usize) -> Result<&Row<B>, HashError> {
    rows.get(row).ok_or(HashError::Shape("there is no such row"))
}

fn check_places(places: &[u32], len: u32) -> Result<(), HashError> {
    if places.iter().all(|&place| place < len) {
        Ok(())
    } else {
        Err(HashError::Shape("a place outside its row"))
    }
}

/// Writes numbers one after the other.
fn pack_numbers(numbers: impl IntoIterator<Item = u32>, staging: &mut [u8]) {
    let (places, _) = staging.as_chunks_mut();
    for (place, number) in places.iter_mut().zip(numbers) {
        *place = number.to_le_bytes();
    }
}

impl<Q: Queue> DeviceRows<Q> {
    fn at_once(&self) -> u32 {
        let fit = u32::try_from(self.limits.buffer_bytes / 32).unwrap_or(u32::MAX);
        self.limits.max_count.min(AT_ONCE).min(fit)
    }

    /// `items` in runs that go up in one upload.
    fn runs<'a, T>(&self, items: &'a [T]) -> Result<Vec<&'a [T]>, HashError> {
        let count = u32::try_from(items.len())
            .map_err(|_| HashError::Shape("more places than a row has"))?;
        let runs = runs(count, self.at_once());
        Ok(runs.map(|(first, count)| &items[first as usize..][..count as usize]).collect())
    }
}

/// The numbers, uploaded.
fn upload_numbers<'a, Q: Queue>(
    queue: &mut Q,
    to: &'a mut Grown<Q::Buffer>,
    numbers: &[u32],
) -> Result<&'a Q::Buffer, HashError> {
    let bytes = 4 * numbers.len() as u64;
    let buffer = to.at_least(queue, bytes)?;
    queue.upload(buffer, 0, bytes, &mut |staging| {
        pack_numbers(numbers.iter().copied(), staging);
    })?;
    Ok(buffer)
}

impl<Q: Queue> ResidentRows for DeviceRows<Q> {
    fn write_run(&mut self, to: usize, first: u32, digests: &[Digest]) -> Result<(), HashError> {
        let to = row(&self.rows, to)?;
        if u64::from(first) + digests.len() as u64 > u64::from(to.len) {
            return Err(HashError::Shape("a place outside its row"));
        }
        let mut offset = 32 * u64::from(first);
        for digests in digests.chunks(AT_ONCE as usize) {
            let bytes = 32 * digests.len() as u64;
            self.queue.upload(&to.buffer, offset, bytes, &mut |staging| pack(digests, staging))?;
            offset += bytes;
        }
        Ok(())
    }

    fn write(&mut self, to: usize, places: &[u32], digests: &[Digest]) -> Result<(), HashError> {
        if places.len() != digests.len() {
            return Err(HashError::Shape("one digest per place"));
        }
        check_places(places, row(&self.rows, to)?.len)?;
        let runs = self.runs(places)?.into_iter().zip(self.runs(digests)?);
        for (run, digests) in runs {
            let places = upload_numbers(&mut self.queue, &mut self.places, run)?;
            let bytes = 32 * digests.len() as u64;
            let source = self.digests.at_least(&mut self.queue, bytes)?;
            self.queue.upload(source, 0, bytes, &mut |staging| pack(digests, staging))?;
            self.queue.launch(Launch::Scatter {
                digests: source,
                places,
                count: run.len() as u32,
                out: &row(&self.rows, to)?.buffer,
            })?;
        }
        Ok(())
    }

    fn flip(&mut self, to: usize, flips: &[(u32, u32)]) -> Result<(), HashError> {
        let words = 8 * u64::from(row(&self.rows, to)?.len);
        if flips.iter().any(|&(word, _)| u64::from(word) >= words) {
            return Err(HashError::Shape("a place outside its row"));
        }
        for run in self.runs(flips)? {
            let bytes = 8 * run.len() as u64;
            let source = self.places.at_least(&mut self.queue, bytes)?;
            self.queue.upload(source, 0, bytes, &mut |staging| {
                pack_numbers(run.iter().flat_map(|&(word, mask)| [word, mask]), staging);
            })?;
            self.queue.launch(Launch::Flip {
                flips: source,
                count: run.len() as u32,
                out: &row(&self.rows, to)?.buffer,
            })?;
        }
        Ok(())
    }

    fn hash(
        &mut self,
        level: u8,
        children: usize,
        parents: &[u32],
        to: Target,
    ) -> Result<(), HashError> {
        check_places(parents, row(&self.rows, children)?.len / 2)?;
        let beyond =
            row(&self.rows, to.row)?.len.saturating_sub(to.offset).div_ceil(to.stride.max(1));
        check_places(parents, beyond)?;
        for run in self.runs(parents)? {
            let places = upload_numbers(&mut self.queue, &mut self.places, run)?;
            self.queue.launch(Launch::Nodes {
                level,
                children: &row(&self.rows, children)?.buffer,
                parents: Parents::List { places, first: 0 },
                count: run.len() as u32,
                out: &row(&self.rows, to.row)?.buffer,
                out_stride: to.stride,
                out_offset: to.offset,
            })?;
        }
        Ok(())
    }

    fn read(&mut self, from: usize, places: &[u32]) -> Result<(), HashError> {
        check_places(places, row(&self.rows, from)?.len)?;
        let mut downloads = vec![];
        for run in self.runs(places)? {
            let places = upload_numbers(&mut self.queue, &mut self.places, run)?;
            let bytes = 32 * run.len() as u64;
            let gathered = self.digests.at_least(&mut self.queue, bytes)?;
            self.queue.launch(Launch::Gather {
                digests: &row(&self.rows, from)?.buffer,
                places,
                count: run.len() as u32,
                out: gathered,
            })?;
            downloads.push((self.queue.download(gathered, 0, bytes)?, run.len()));
        }
        self.reads.push_back(downloads);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), HashError> {
        self.queue.flush()
    }

    fn take(&mut self, out: &mut [Digest]) -> Result<(), HashError> {
        let downloads = self.reads.pop_front().ok_or(HashError::Shape("nothing was read"))?;
        if downloads.iter().map(|(_, count)| count).sum::<usize>() != out.len() {
            return Err(HashError::Shape("one digest per place"));
        }
        let mut rest = out;
        for (download, count) in downloads {
            let Some((now, later)) = rest.split_at_mut_checked(count) else { break };
            self.queue.wait(download, &mut |bytes| {
                now.iter_mut().zip(unpack(bytes)).for_each(|(out, digest)| *out = digest);
            })?;
            rest = later;
        }
        Ok(())
    }
}
