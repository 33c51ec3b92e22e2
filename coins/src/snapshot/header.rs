//! The first bytes of a snapshot.

use super::{SnapshotDefect, SnapshotError};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoin::p2p::Magic;

/// Bytes of a snapshot's header.
pub const SNAPSHOT_HEADER_LEN: usize = 51;

const MAGIC: [u8; 5] = *b"utxo\xff";
const VERSION: u16 = 2;

/// What a snapshot says of itself.
///
/// ```
/// use hedgerow_coins::{SNAPSHOT_HEADER_LEN, SnapshotHeader};
/// use hedgerow_coins::bitcoin::{constants::genesis_block, Network, p2p::Magic};
///
/// let block = genesis_block(Network::Regtest).block_hash();
/// let header = SnapshotHeader { network: Magic::REGTEST, block, coins: 0 };
/// let bytes = header.encode();
/// assert_eq!((bytes.len(), &bytes[..5]), (SNAPSHOT_HEADER_LEN, &b"utxo\xff"[..]));
/// assert_eq!(SnapshotHeader::decode(&bytes)?, header);
/// # Ok::<(), hedgerow_coins::SnapshotError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The network, by the bytes that begin its messages.
    pub network: Magic,
    /// The block after which the set is this.
    pub block: BlockHash,
    /// How many coins follow.
    pub coins: u64,
}

impl SnapshotHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; SNAPSHOT_HEADER_LEN] {
        let parts: [&[u8]; 5] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &self.network.to_bytes(),
            self.block.as_byte_array(),
            &self.coins.to_le_bytes(),
        ];
        let mut bytes = [0; SNAPSHOT_HEADER_LEN];
        for (into, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *into = *byte;
        }
        bytes
    }

    /// A header from its bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Format`] if these are not the first bytes of a snapshot of version 2.
    pub fn decode(bytes: &[u8; SNAPSHOT_HEADER_LEN]) -> Result<Self, SnapshotError> {
        let mut rest = &bytes[..];
        let magic: [u8; 5] = field(&mut rest);
        let version = u16::from_le_bytes(field(&mut rest));
        if magic != MAGIC {
            return Err(SnapshotError::Format { offset: 0, what: SnapshotDefect::Magic });
        }
        if version != VERSION {
            return Err(SnapshotError::Format {
                offset: 5,
                what: SnapshotDefect::Version(version),
            });
        }
        Ok(Self {
            network: Magic::from_bytes(field(&mut rest)),
            block: BlockHash::from_byte_array(field(&mut rest)),
            coins: u64::from_le_bytes(field(&mut rest)),
        })
    }
}

/// The next bytes of the header, which has them all.
fn field<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    if let Some((first, others)) = rest.split_first_chunk() {
        (bytes, *rest) = (*first, others);
    }
    bytes
}
