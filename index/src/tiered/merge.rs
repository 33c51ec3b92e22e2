//! Many sorted sources as one, without what is dead.

use super::age::AgeRecords;
use super::bits::Bits;
use super::record::Record;
use super::segment::Scan;
use crate::IndexError;
use parking_lot::RwLock;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Records whose bits are asked for together: blocks of bits come and go between.
const LOT: usize = 256;

/// Where records come from, in order.
pub(super) enum Source {
    Age(AgeRecords),
    Segment(Scan),
}

impl Source {
    fn next(&mut self) -> Result<Option<Record>, IndexError> {
        match self {
            Self::Age(records) => Ok(records.next()),
            Self::Segment(scan) => scan.next(),
        }
    }
}

/// The records of all sources in order, each once. An error is one: nothing of a merge that had one may be used.
pub(super) struct Merge {
    sources: Vec<Source>,
    heads: BinaryHeap<Reverse<(Record, usize)>>,
    last: Option<Record>,
    lot: Vec<Record>,
}

/// What a lot came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lot {
    /// Records that were taken from the sources; none at the end.
    pub(super) taken: usize,
    /// Of these, those that were dead.
    pub(super) dropped: usize,
}

impl Merge {
    pub(super) fn new(mut sources: Vec<Source>) -> Result<Self, IndexError> {
        let mut heads = BinaryHeap::with_capacity(sources.len());
        for (number, source) in sources.iter_mut().enumerate() {
            if let Some(record) = source.next()? {
                heads.push(Reverse((record, number)));
            }
        }
        Ok(Self { sources, heads, last: None, lot: Vec::with_capacity(LOT) })
    }

    pub(super) fn next(&mut self) -> Result<Option<Record>, IndexError> {
        while let Some(mut head) = self.heads.peek_mut() {
            let Reverse((record, number)) = *head;
            match self.sources.get_mut(number).map_or(Ok(None), Source::next)? {
                Some(next) => head.0.0 = next,
                None => {
                    std::collections::binary_heap::PeekMut::pop(head);
                }
            }
            if self.last != Some(record) {
                self.last = Some(record);
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Gives `each` the next records that count, of some hundred.
    pub(super) fn lot(
        &mut self,
        bits: &RwLock<Bits>,
        mut each: impl FnMut(Record) -> Result<(), IndexError>,
    ) -> Result<Lot, IndexError> {
        let mut lot = std::mem::take(&mut self.lot);
        lot.clear();
        while lot.len() < LOT {
            let Some(record) = self.next()? else { break };
            lot.push(record);
        }
        let taken = lot.len();
        {
            let bits = bits.read();
            lot.retain(|record| bits.get(record.sn));
        }
        let dropped = taken - lot.len();
        lot.iter().try_for_each(|record| each(*record))?;
        self.lot = lot;
        Ok(Lot { taken, dropped })
    }
}
