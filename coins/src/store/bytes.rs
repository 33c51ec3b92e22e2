//! The stored form of a coin, as the cache holds it.
//!
//! ```text
//!   short   │ 0 │ length │ up to 46 bytes: nearly all coins          │   48 bytes, nothing elsewhere
//!   long    │ 1 │        │ ──► allocation                            │
//! ```

use hedgerow_cache::{HeapBytes, allocated};
use std::fmt;
use std::ops::Deref;

/// Bytes that are held without an allocation: height and amount, and the script of every standard output but bare multisig.
const SHORT: usize = 46;

/// Bytes, most of the time without an allocation.
#[derive(Clone)]
pub(crate) enum Bytes {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Bytes {
    fn from(from: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..from.len()) {
            Some(into) => {
                into.copy_from_slice(from);
                Self::Short { len: from.len() as u8, bytes }
            }
            None => Self::Long(from.into()),
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(from: Vec<u8>) -> Self {
        if from.len() > SHORT {
            Self::Long(from.into_boxed_slice())
        } else {
            from.as_slice().into()
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Short { len: 0, bytes: [0; SHORT] }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl HeapBytes for Bytes {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => allocated(bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_what_they_were() {
        assert_eq!((size_of::<Bytes>(), size_of::<Option<Bytes>>()), (48, 48));
        for len in 0..100 {
            let from: Vec<u8> = (0..len).collect();
            let bytes = Bytes::from(from.as_slice());
            assert_eq!(*bytes, *from);
            assert_eq!(Bytes::from(from.clone()), bytes);
            assert_eq!(bytes.heap_bytes() > 0, from.len() > SHORT);
            assert_eq!(bytes == Bytes::from(&[7; 50][..from.len().min(50)]), from.is_empty());
        }
    }
}
