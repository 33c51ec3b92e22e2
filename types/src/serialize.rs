//! Digests, key hashes and numbers for `serde` (feature `serde`).
//!
//! ```text
//!   Digest, KeyHash     text formats (JSON)       "64 lower-case hex digits"; either case and 0x are read
//!                       others (postcard)         32 bytes, no length
//!   Height, ...         the number
//!   ShardId             the number, 0 to 15; no other is read
//! ```

use crate::{Digest, KeyHash, ShardId, hex};
use core::fmt;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

struct Hex;

impl Visitor<'_> for Hex {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hex digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<[u8; 32], E> {
        let mut bytes = [0; 32];
        hex::decode_to(text, &mut bytes)
            .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))?;
        Ok(bytes)
    }
}

macro_rules! as_hex {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(Hex).map(Self)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

as_hex!(Digest);
as_hex!(KeyHash);

impl Serialize for ShardId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.index() as u8) // below 16
    }
}

impl<'de> Deserialize<'de> for ShardId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        Self::new(number.into()).ok_or_else(|| {
            D::Error::invalid_value(Unexpected::Unsigned(number.into()), &"a shard, 0 to 15")
        })
    }
}
