//! What keys and values hold outside of themselves.
//!
//! ```text
//!   slot   key │ value │ state, links            counted by the cache
//!           │      │
//!           ▼      ▼
//!        allocations                              counted by HeapBytes, with what the allocator adds
//! ```

use std::sync::Arc;

/// What an allocator adds to an allocation: its header, and what rounding up to 16 bytes costs on average.
const ALLOCATION_BYTES: usize = 16;
/// The two counts of an [`Arc`].
const COUNTS_BYTES: usize = 16;

/// The bytes that a key or a value holds on the heap, beside `size_of` of itself.
///
/// It must not change while the cache holds the value, and should not claim less than there is: the
/// bound on memory is kept in these bytes.
///
/// ```
/// use hedgerow_cache::{HeapBytes, allocated};
///
/// struct Coin { amount: u64, script: Box<[u8]> }
///
/// impl HeapBytes for Coin {
///     fn heap_bytes(&self) -> usize {
///         self.script.heap_bytes()
///     }
/// }
///
/// let coin = Coin { amount: 50, script: vec![0; 25].into() };
/// assert_eq!(coin.heap_bytes(), allocated(25));
/// assert_eq!(coin.amount.heap_bytes(), 0);
/// ```
pub trait HeapBytes {
    /// Bytes on the heap, what the allocator adds included ([`allocated`]).
    fn heap_bytes(&self) -> usize;
}

/// What an allocation of `bytes` bytes takes, with an estimate of what the allocator adds; none takes nothing.
#[must_use]
pub const fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes.saturating_add(ALLOCATION_BYTES) }
}

macro_rules! nothing_on_the_heap {
    ($($type:ty),*) => {
        $(impl HeapBytes for $type {
            fn heap_bytes(&self) -> usize {
                0
            }
        })*
    };
}

nothing_on_the_heap!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize
);

impl<const N: usize> HeapBytes for [u8; N] {
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// It holds nothing.
impl<T: ?Sized> HeapBytes for &T {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl HeapBytes for Vec<u8> {
    fn heap_bytes(&self) -> usize {
        allocated(self.capacity())
    }
}

impl HeapBytes for String {
    fn heap_bytes(&self) -> usize {
        allocated(self.capacity())
    }
}

impl HeapBytes for Box<[u8]> {
    fn heap_bytes(&self) -> usize {
        allocated(self.len())
    }
}

/// As if nobody else held it.
impl HeapBytes for Arc<[u8]> {
    fn heap_bytes(&self) -> usize {
        allocated(self.len().saturating_add(COUNTS_BYTES))
    }
}

impl<T: HeapBytes> HeapBytes for Option<T> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::heap_bytes)
    }
}
