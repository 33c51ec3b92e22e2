//! Coins in order, into a snapshot.

use super::{MAX_OUTPUTS, SnapshotError, SnapshotHeader, order};
use crate::codec::write_compact_size;
use crate::coin::Coin;
use crate::digest::OutOfOrder;
use bitcoin::OutPoint;
use bitcoin::hashes::Hash;
use std::io::Write;
use std::ops::Range;

/// Bytes that are handed on at once.
const BUFFER: usize = 64 << 10;

/// Writes a snapshot: coins as they come, ordered by transaction id (as hashed) and number of the output.
///
/// ```
/// use hedgerow_coins::{Coin, SnapshotHeader, SnapshotReader, SnapshotWriter};
/// use hedgerow_coins::bitcoin::{Amount, OutPoint, ScriptBuf, p2p::Magic};
/// # use hedgerow_coins::bitcoin::{BlockHash, hashes::Hash};
/// # let block = BlockHash::all_zeros();
///
/// let coin = Coin::new(1, false, Amount::ONE_BTC, ScriptBuf::new())?;
/// let header = SnapshotHeader { network: Magic::REGTEST, block, coins: 2 };
/// let mut writer = SnapshotWriter::new(Vec::new(), header)?;
/// for vout in [3, 4] {
///     writer.push(&OutPoint { vout, ..OutPoint::default() }, &coin)?;
/// }
/// let bytes = writer.finish()?;
///
/// let reader = SnapshotReader::new(&bytes[..])?;
/// assert_eq!(reader.header(), header);
/// let outputs: Vec<u32> = reader.map(|read| read.map(|(outpoint, _)| outpoint.vout)).collect::<Result<_, _>>()?;
/// assert_eq!(outputs, [3, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SnapshotWriter<W: Write> {
    out: W,
    header: SnapshotHeader,
    /// Coins that were pushed.
    pushed: u64,
    last: Option<OutPoint>,
    /// The coins of the last transaction: number, and place in `bytes`.
    group: Vec<(u32, Range<usize>)>,
    /// Their stored forms.
    bytes: Vec<u8>,
    /// What is to be written, and how much was.
    buffer: Vec<u8>,
    written: u64,
    failed: bool,
}

impl<W: Write> SnapshotWriter<W> {
    /// Begins a snapshot that will have as many coins as the header says. It is written in large pieces: `out` needs no
    /// buffer.
    ///
    /// # Errors
    /// None yet: nothing is written before there is enough of it.
    pub fn new(out: W, header: SnapshotHeader) -> Result<Self, SnapshotError> {
        Ok(Self {
            out,
            header,
            pushed: 0,
            last: None,
            group: Vec::new(),
            bytes: Vec::new(),
            buffer: header.encode().to_vec(),
            written: 0,
            failed: false,
        })
    }

    /// The next coin.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfOrder`], [`SnapshotError::Count`] and [`SnapshotError::Outputs`] if it cannot come here:
    /// nothing has happened then. [`SnapshotError::Io`] if it could not be written: then all that follows fails.
    pub fn push(&mut self, outpoint: &OutPoint, coin: &Coin) -> Result<(), SnapshotError> {
        if self.failed {
            return Err(SnapshotError::Failed);
        }
        if self.pushed == self.header.coins {
            let promised = self.header.coins;
            return Err(SnapshotError::Count { promised, found: promised.saturating_add(1) });
        }
        if outpoint.vout >= MAX_OUTPUTS {
            return Err(SnapshotError::Outputs(outpoint.txid));
        }
        let before = self.last;
        OutOfOrder::check(&mut self.last, outpoint)?;
        if let Some(before) = before.filter(|before| before.txid != outpoint.txid) {
            self.end_group(&before)?;
        }
        let from = self.bytes.len();
        coin.encode(&mut self.bytes);
        self.group.push((outpoint.vout, from..self.bytes.len()));
        self.pushed += 1;
        Ok(())
    }

    /// Writes what is left, flushes, and gives back what was written to.
    ///
    /// # Errors
    /// [`SnapshotError::Count`] if there were fewer coins than promised; [`SnapshotError::Io`] if it could not be written.
    pub fn finish(mut self) -> Result<W, SnapshotError> {
        if self.failed {
            return Err(SnapshotError::Failed);
        }
        if self.pushed != self.header.coins {
            return Err(SnapshotError::Count { promised: self.header.coins, found: self.pushed });
        }
        if let Some(last) = self.last {
            self.end_group(&last)?;
        }
        self.write_out()?;
        match self.out.flush() {
            Ok(()) => Ok(self.out),
            Err(source) => Err(SnapshotError::Io { offset: self.written, source }),
        }
    }

    /// The coins of a transaction are complete.
    fn end_group(&mut self, outpoint: &OutPoint) -> Result<(), SnapshotError> {
        order::sort(&mut self.group);
        self.buffer.extend_from_slice(outpoint.txid.as_byte_array());
        write_compact_size(self.group.len() as u64, &mut self.buffer);
        for (vout, place) in self.group.drain(..) {
            write_compact_size(u64::from(vout), &mut self.buffer);
            self.buffer.extend_from_slice(self.bytes.get(place).unwrap_or_default());
        }
        self.bytes.clear();
        if self.buffer.len() >= BUFFER { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<(), SnapshotError> {
        if let Err(source) = self.out.write_all(&self.buffer) {
            self.failed = true;
            return Err(SnapshotError::Io { offset: self.written, source });
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
