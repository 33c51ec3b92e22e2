//! The two digests of a set that Bitcoin Core can be asked for (`gettxoutsetinfo`).
//!
//! ```text
//!   coin ──► element:  txid 32 ‖ output u32 ‖ height*2 + coinbase u32 ‖ amount i64 ‖ CompactSize ‖ script
//!               │
//!               ├─ in order ─► SHA-256 of SHA-256 of all of them            SerializedHash   "hash_serialized_3"
//!               │
//!               └─ in any ───► a number of 3,072 bits each, multiplied      MuHash           "muhash"
//! ```
//!
//! Both depend on the set alone. The first has to see every coin whenever it is asked for; the second follows the set by
//! what is put in and taken out.

mod element;
mod muhash;
mod number;
mod serialized;

pub use element::write_element;
pub use muhash::{MUHASH_LEN, MuHash, MuHashError};
pub use serialized::{OutOfOrder, SerializedHash};

use bitcoin::hex::{DisplayHex, FromHex};
use std::fmt;
use std::str::FromStr;

/// A digest of a set, as hashed. It is shown as Bitcoin Core shows it, in hex with the last byte first.
///
/// ```
/// use hedgerow_coins::{MuHash, SetDigest};
///
/// let empty = MuHash::new().digest();
/// let shown = "dd5ad2a105c2d29495f577245c357409002329b9f4d6182c0af3dc2f462555c8";
/// assert_eq!(empty.to_string(), shown);
/// assert_eq!(shown.parse::<SetDigest>()?, empty);
/// assert_eq!(empty.0[31], 0xdd);
/// # Ok::<(), hedgerow_coins::ParseDigestError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetDigest(pub [u8; 32]);

impl fmt::Display for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        bytes.reverse();
        fmt::Display::fmt(&bytes.as_hex(), f)
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetDigest({self})")
    }
}

impl FromStr for SetDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let mut bytes = <[u8; 32]>::from_hex(text).map_err(|_| ParseDigestError)?;
        bytes.reverse();
        Ok(Self(bytes))
    }
}

/// A text is no [`SetDigest`].
///
/// ```
/// use hedgerow_coins::{ParseDigestError, SetDigest};
///
/// assert_eq!("771d773b".parse::<SetDigest>(), Err(ParseDigestError));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest of a set is 64 hex digits")]
pub struct ParseDigestError;
