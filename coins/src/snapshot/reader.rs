//! A snapshot, coin by coin.

use super::{
    MAX_BLOCK_LEN, MAX_OUTPUTS, SNAPSHOT_HEADER_LEN, SnapshotDefect, SnapshotError, SnapshotHeader,
    order,
};
use crate::codec::{FormatError, Input, ReadError, read_compact_size};
use crate::coin::{Coin, MAX_HEIGHT};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid, VarInt};
use std::io::{BufReader, Read};
use std::vec;

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// Reads a snapshot: an iterator over its coins, ordered by transaction id (as hashed) and number of the output.
///
/// It ends after the last coin of a whole snapshot, or with an error, after which it gives nothing more. Whether the coins are
/// the right ones only a digest tells.
///
/// ```
/// # use hedgerow_coins::{Coin, SnapshotHeader, SnapshotWriter};
/// # use hedgerow_coins::bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, hashes::Hash, p2p::Magic};
/// use hedgerow_coins::{SerializedHash, SnapshotReader};
///
/// # let header = SnapshotHeader { network: Magic::REGTEST, block: BlockHash::all_zeros(), coins: 1 };
/// # let mut writer = SnapshotWriter::new(Vec::new(), header)?;
/// # let outpoint = OutPoint { vout: 0, ..OutPoint::default() };
/// # writer.push(&outpoint, &Coin::new(1, false, Amount::ONE_BTC, ScriptBuf::new())?)?;
/// # let file = std::io::Cursor::new(writer.finish()?);
/// let mut hash = SerializedHash::new();
/// for read in SnapshotReader::new(file)?.up_to(100) {
///     let (outpoint, coin) = read?;
///     hash.push(&outpoint, &coin)?;
/// }
/// println!("hash_serialized_3 {}", hash.digest());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SnapshotReader<R> {
    input: Input<BufReader<R>>,
    header: SnapshotHeader,
    max_height: u32,
    /// Coins that are to come, those in hand aside.
    left: u64,
    txid: Option<Txid>,
    /// The coins of that transaction that were not given yet.
    group: vec::IntoIter<(u32, Coin)>,
    ended: bool,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads the header. The rest is read in large pieces as it is asked for: `input` needs no buffer.
    ///
    /// # Errors
    /// [`SnapshotError`] if it cannot be read, or is none of a snapshot of version 2.
    pub fn new(input: R) -> Result<Self, SnapshotError> {
        let mut input = Input::new(BufReader::with_capacity(BUFFER, input));
        let bytes: Result<[u8; SNAPSHOT_HEADER_LEN], ReadError> = input.array();
        let bytes = bytes.map_err(|error| SnapshotError::reading(input.offset(), error))?;
        let header = SnapshotHeader::decode(&bytes)?;
        Ok(Self {
            input,
            header,
            max_height: MAX_HEIGHT,
            left: header.coins,
            txid: None,
            group: Vec::new().into_iter(),
            ended: false,
        })
    }

    /// Refuses coins of blocks above this height: that of the header's block, if the caller knows it.
    #[must_use]
    pub const fn up_to(mut self, height: u32) -> Self {
        self.max_height = height;
        self
    }

    /// What the snapshot says of itself.
    pub const fn header(&self) -> SnapshotHeader {
        self.header
    }

    /// Bytes that were read.
    pub const fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// Takes in the coins of the next transaction.
    fn read_group(&mut self) -> Result<(), Stop> {
        let txid = Txid::from_byte_array(self.input.array()?);
        if self.txid.is_some_and(|before| before >= txid) {
            return Err(SnapshotDefect::Order(txid).into());
        }
        let count = read_compact_size(&mut self.input)?;
        let left = self.left;
        let fits = count != 0 && count <= left && count <= u64::from(MAX_OUTPUTS);
        self.left = left
            .checked_sub(count)
            .filter(|_| fits)
            .ok_or(SnapshotDefect::Coins { count, left })?;
        let mut group: Vec<(u32, Coin)> = Vec::new();
        let (mut by_number, mut as_stored) = (true, true);
        let mut bytes = 0;
        for _ in 0..count {
            let vout = read_compact_size(&mut self.input)?;
            let defect = SnapshotDefect::Output(vout);
            let vout = u32::try_from(vout).ok().filter(|vout| *vout < MAX_OUTPUTS).ok_or(defect)?;
            if let Some((before, _)) = group.last() {
                by_number &= *before < vout;
                as_stored &= order::comes_after(*before, vout);
            }
            if !by_number && !as_stored {
                return Err(defect.into());
            }
            let coin = Coin::read(&mut self.input)?;
            if coin.height() > self.max_height {
                return Err(SnapshotDefect::Height(coin.height()).into());
            }
            let script = coin.script().len();
            bytes += 8 + VarInt::from(script).size() as u64 + script as u64;
            if bytes > MAX_BLOCK_LEN {
                return Err(SnapshotDefect::Large.into());
            }
            group.push((vout, coin));
        }
        if !by_number {
            group.sort_unstable_by_key(|(vout, _)| *vout);
        }
        self.txid = Some(txid);
        self.group = group.into_iter();
        Ok(())
    }

    /// The next coin, or none at the end of a whole snapshot.
    fn read(&mut self) -> Result<Option<(OutPoint, Coin)>, Stop> {
        loop {
            if let (Some(txid), Some((vout, coin))) = (self.txid, self.group.next()) {
                return Ok(Some((OutPoint { txid, vout }, coin)));
            }
            if self.left == 0 {
                return if self.input.at_end()? {
                    Ok(None)
                } else {
                    Err(SnapshotDefect::Trailing.into())
                };
            }
            self.read_group()?;
        }
    }
}

impl<R: Read> Iterator for SnapshotReader<R> {
    type Item = Result<(OutPoint, Coin), SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.read() {
            Ok(Some(coin)) => Some(Ok(coin)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(stop) => {
                self.ended = true;
                let offset = self.input.offset();
                Some(Err(match stop {
                    Stop::Read(error) => SnapshotError::reading(offset, error),
                    Stop::Defect(what) => SnapshotError::Format { offset, what },
                }))
            }
        }
    }
}

/// Why reading stopped; the offset is the reader's.
enum Stop {
    Read(ReadError),
    Defect(SnapshotDefect),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Self::Read(error.into())
    }
}

impl From<SnapshotDefect> for Stop {
    fn from(what: SnapshotDefect) -> Self {
        Self::Defect(what)
    }
}
