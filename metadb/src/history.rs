//! A history row: what was true at one height.
//!
//! ```text
//!   offset  bytes
//!        0      8   magic "HgrwHis1"
//!        8      2   format version, 1
//!       10      2   number of shards, 16
//!       12      4   length of the extra bytes, x, at most 1 MiB
//!       16      8   height
//!       24     32   state root
//!       56   16 ×   shard: root (32), oldest active serial number (8)
//!      696      x   extra bytes, the application's
//!    696+x      4   CRC32C of everything before
//! ```
//!
//! All numbers are little-endian.

use crate::codec::{CRC_LEN, DecodeError, FRAME_HEAD_LEN, InvalidField, Reader, Writer};
use hedgerow_types::{Digest, Height, SHARDS, SerialNumber};

const MAGIC: [u8; 8] = *b"HgrwHis1";
const VERSION: u16 = 1;

const FIXED_LEN: usize = FRAME_HEAD_LEN + 2 + 4 + 8 + 32 + SHARDS * (32 + 8);
const _: () = assert!(FIXED_LEN == 696);

/// Most extra bytes of a row, 1 MiB.
pub const MAX_EXTRA_LEN: usize = 1 << 20;
/// Bytes of a row without extra bytes.
pub(crate) const MIN_ROW_LEN: usize = FIXED_LEN + CRC_LEN;
/// Bytes of the longest row.
pub(crate) const MAX_ROW_LEN: usize = MIN_ROW_LEN + MAX_EXTRA_LEN;

/// What was true after the block at one height.
///
/// ```
/// use hedgerow_metadb::HistoryRow;
/// # use hedgerow_types::{Digest, Height, SerialNumber};
/// # let (shard_roots, oldest_active) = ([Digest::ZERO; 16], [SerialNumber(0); 16]);
/// # let row = HistoryRow { root: Digest([7; 32]), shard_roots, oldest_active, extra: b"time 12:00".to_vec() };
/// // In a store it is asked of a reader: `reader.history(height)`.
/// let bytes = row.encode(Height(41))?;
/// let read = HistoryRow::decode(&bytes, Height(41))?;
/// assert_eq!((read.root, read.extra), (row.root, b"time 12:00".to_vec()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Root of all shards.
    pub root: Digest,
    /// Roots of the shards, in order.
    pub shard_roots: [Digest; SHARDS],
    /// Oldest active serial number of each shard: what pruning must keep for this height.
    pub oldest_active: [SerialNumber; SHARDS],
    /// Whatever the application stores with the block; at most [`MAX_EXTRA_LEN`] bytes.
    pub extra: Vec<u8>,
}

fn extra_fits(len: usize) -> Result<(), InvalidField> {
    let rule = "at most 1 MiB is allowed";
    InvalidField::unless(len <= MAX_EXTRA_LEN, "the length of the extra bytes", len as u64, rule)
}

impl HistoryRow {
    /// The row as bytes, with the height it is for, in the layout that the module's comment draws.
    ///
    /// # Errors
    /// [`InvalidField`] if there are more extra bytes than allowed.
    pub fn encode(&self, height: Height) -> Result<Vec<u8>, InvalidField> {
        extra_fits(self.extra.len())?;
        let mut out = Writer::new(MAGIC, VERSION, FIXED_LEN + self.extra.len() + CRC_LEN);
        out.u16(SHARDS as u16);
        out.u32(self.extra.len() as u32); // at most MAX_EXTRA_LEN, see `extra_fits`
        out.u64(height.0);
        out.digest(&self.root);
        for (root, oldest) in self.shard_roots.iter().zip(&self.oldest_active) {
            out.digest(root);
            out.u64(oldest.0);
        }
        out.raw(&self.extra);
        Ok(out.finish())
    }

    /// Reads what [`encode`](Self::encode) wrote for this height, and nothing else.
    ///
    /// # Errors
    /// [`DecodeError`] if a bit is wrong, a byte is missing or left over, or the row is for another
    /// height.
    pub fn decode(bytes: &[u8], height: Height) -> Result<Self, DecodeError> {
        let is = InvalidField::unless;
        let mut fields = Reader::new(bytes, MAGIC, VERSION)?;
        let shards = fields.u16("the number of shards")?;
        let rule = "this build of Hedgerow knows 16 only";
        is(usize::from(shards) == SHARDS, "the number of shards", shards.into(), rule)?;
        let extra_len = fields.u32("the length of the extra bytes")? as usize;
        extra_fits(extra_len)?;
        let found = fields.u64("the height")?;
        is(found == height.0, "the row's height", found, "it was found under another")?;

        let root = fields.digest("the state root")?;
        let mut shard_roots = [Digest::ZERO; SHARDS];
        let mut oldest_active = [SerialNumber(0); SHARDS];
        for (root, oldest) in shard_roots.iter_mut().zip(&mut oldest_active) {
            *root = fields.digest("a shard's root")?;
            *oldest = SerialNumber(fields.u64("a shard's oldest active serial number")?);
        }
        let extra = fields.take(extra_len, "the extra bytes")?.to_vec();
        fields.finish()?;
        Ok(Self { root, shard_roots, oldest_active, extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::damage;

    const HEIGHT: Height = Height(0x0102_0304);

    fn sample(extra: Vec<u8>) -> HistoryRow {
        HistoryRow {
            root: Digest([99; 32]),
            shard_roots: std::array::from_fn(|i| Digest([i as u8 + 1; 32])),
            oldest_active: std::array::from_fn(|i| SerialNumber(i as u64 + 4096)),
            extra,
        }
    }

    #[test]
    fn what_is_encoded_decodes() {
        for len in [0, 1, 300, MAX_EXTRA_LEN] {
            let row = sample((0..len).map(|i| i as u8).collect());
            let bytes = row.encode(HEIGHT).unwrap();
            assert_eq!(bytes.len(), 700 + len);
            assert_eq!(HistoryRow::decode(&bytes, HEIGHT).unwrap(), row);
        }
        let error = sample(vec![0; MAX_EXTRA_LEN + 1]).encode(HEIGHT).unwrap_err();
        assert_eq!(error.found, MAX_EXTRA_LEN as u64 + 1);
    }

    #[test]
    fn the_layout_is_the_one_that_is_drawn() {
        let bytes = sample(b"extra".to_vec()).encode(HEIGHT).unwrap();
        assert_eq!(bytes[..16], *b"HgrwHis1\x01\x00\x10\x00\x05\x00\x00\x00");
        assert_eq!(bytes[16..24], HEIGHT.0.to_le_bytes());
        assert_eq!(bytes[24..56], [99; 32]);
        assert_eq!(bytes[56..88], [1; 32]);
        assert_eq!(bytes[656..688], [16; 32]);
        assert_eq!(bytes[688..696], (4096u64 + 15).to_le_bytes());
        assert_eq!(bytes[696..701], *b"extra");
    }

    #[test]
    fn damage_is_refused() {
        let bytes = sample(b"extra".to_vec()).encode(HEIGHT).unwrap();
        damage::assert_refused(&bytes, |bytes| HistoryRow::decode(bytes, HEIGHT));
    }

    #[test]
    fn a_row_of_another_height_or_shape_is_refused() {
        let bytes = sample(Vec::new()).encode(HEIGHT).unwrap();
        let error = HistoryRow::decode(&bytes, HEIGHT.next()).unwrap_err();
        assert!(matches!(error, DecodeError::Field(field) if field.found == HEIGHT.0), "{error}");
        let decode = |at, value| HistoryRow::decode(&damage::patched(&bytes, at, value), HEIGHT);
        assert!(matches!(decode(10, 8), Err(DecodeError::Field(_))));
        // A length that the bytes do not have, and one that may not be.
        assert!(matches!(decode(12, 1), Err(DecodeError::Truncated { wanted: 1, left: 0, .. })));
        assert!(matches!(decode(15, 0x80), Err(DecodeError::Field(_))));
    }
}
