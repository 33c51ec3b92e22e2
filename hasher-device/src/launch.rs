//! The kernels that every device has, and the bounds that they are launched within.
//!
//! ```text
//!  Nodes      children  a b c d e f ..    ──►  out  at any stride: level arrays, or one array with
//!                       └┬┘ └┬┘ └┬┘                 two kinds of nodes in turn
//!  Messages   bytes     ▓▓▓▓▓░ ▓▓▓▓▓▓▓░   ──►  out[i]     neighbours have equally many blocks
//!  Twigs      leaves    2048 per twig     ──►  roots[t], if wanted all 2047 inner nodes
//!  Scatter    digests   ──► out[places[i]]
//!  Gather     digests[places[i]]  ──►  out[i]
//!  Flip       (word, mask)  ──►  out ^= mask
//! ```

use crate::{Buffer, Limits};
use hedgerow_hasher_api::HashError;
use hedgerow_types::TWIG_LEAVES;

/// Inner nodes of a twig's left tree, levels 1 to 11.
pub const TWIG_INNER: u64 = TWIG_LEAVES as u64 - 1;

/// One run of a kernel. Indexes and strides of digests count digests (32 bytes); places, spans and
/// flips are little-endian `u32`. Inputs and outputs are different buffers.
#[derive(Debug)]
pub enum Launch<'a, B> {
    /// For `i` in `0..count`, with `p` the `i`-th of `parents`:
    /// `out[out_stride * p + out_offset] = node(level, children[2p], children[2p + 1])` (spec 2).
    /// Parents are distinct, `out_stride` is not 0.
    Nodes {
        /// Of the children.
        level: u8,
        /// Nodes of that level.
        children: &'a B,
        /// Which parents.
        parents: Parents<'a, B>,
        /// How many parents.
        count: u32,
        /// Receives the parents.
        out: &'a B,
        /// Distance of one parent's place from the next one's.
        out_stride: u32,
        /// Place of parent 0.
        out_offset: u32,
    },
    /// `out[i]` = SHA-256 of the message that `spans[i]` = (offset in 4-byte words, length in
    /// bytes) names in `bytes`. Neighbours have equally many blocks, or nearly so; that is for
    /// speed only. The bytes after a message's end within its last word are unspecified.
    Messages {
        /// The messages, each at a multiple of 4 bytes.
        bytes: &'a B,
        /// Two numbers per message.
        spans: &'a B,
        /// How many messages.
        count: u32,
        /// Receives one digest per message.
        out: &'a B,
    },
    /// `roots[t]` = the level-11 root over `leaves[2048 t ..][..2048]` (spec 8.1).
    Twigs {
        /// 2048 per twig.
        leaves: &'a B,
        /// How many twigs.
        count: u32,
        /// Receives one digest per twig.
        roots: &'a B,
        /// If wanted, receives all inner nodes of twig `t` at `inner[2047 t ..]`: 1024 of level 1,
        /// then 512 of level 2, up to the root.
        inner: Option<&'a B>,
    },
    /// `out[places[i]] = digests[i]`. Places are distinct.
    Scatter {
        /// What to write.
        digests: &'a B,
        /// Where to.
        places: &'a B,
        /// How many.
        count: u32,
        /// Receives the digests.
        out: &'a B,
    },
    /// `out[i] = digests[places[i]]`.
    Gather {
        /// What to read.
        digests: &'a B,
        /// Where from.
        places: &'a B,
        /// How many.
        count: u32,
        /// Receives the digests.
        out: &'a B,
    },
    /// For every `(word, mask)` in `flips`: the `word`-th 32-bit word of `out`, read as
    /// little-endian, is changed by exclusive or with `mask`. Words are distinct.
    Flip {
        /// Two numbers per flip.
        flips: &'a B,
        /// How many flips.
        count: u32,
        /// Is changed.
        out: &'a B,
    },
}

/// The parents of [`Launch::Nodes`].
#[derive(Debug)]
pub enum Parents<'a, B> {
    /// `first`, `first + 1`, ...
    Run {
        /// The first parent.
        first: u32,
    },
    /// `places[first]`, `places[first + 1]`, ...
    List {
        /// Numbers of parents.
        places: &'a B,
        /// Index of the first number.
        first: u32,
    },
}

impl<B> Clone for Parents<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Parents<'_, B> {}

impl<B> Clone for Launch<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Launch<'_, B> {}

impl<'a, B> Launch<'a, B> {
    /// Number of items.
    pub const fn count(&self) -> u32 {
        match *self {
            Self::Nodes { count, .. }
            | Self::Messages { count, .. }
            | Self::Twigs { count, .. }
            | Self::Scatter { count, .. }
            | Self::Gather { count, .. }
            | Self::Flip { count, .. } => count,
        }
    }

    /// All buffers of the launch.
    pub fn buffers(&self) -> impl Iterator<Item = &'a B> {
        let mut buffers = [None; 3];
        let mut places = buffers.iter_mut();
        self.map(|buffer| {
            if let Some(place) = places.next() {
                *place = Some(buffer);
            }
            buffer
        });
        buffers.into_iter().flatten()
    }

    /// The same launch over other buffers.
    pub fn map<'c, C>(&self, mut map: impl FnMut(&'a B) -> &'c C) -> Launch<'c, C> {
        match *self {
            Self::Nodes { level, children, parents, count, out, out_stride, out_offset } => {
                let (children, out) = (map(children), map(out));
                let parents = match parents {
                    Parents::Run { first } => Parents::Run { first },
                    Parents::List { places, first } => Parents::List { places: map(places), first },
                };
                Launch::Nodes { level, children, parents, count, out, out_stride, out_offset }
            }
            Self::Messages { bytes, spans, count, out } => {
                Launch::Messages { bytes: map(bytes), spans: map(spans), count, out: map(out) }
            }
            Self::Twigs { leaves, count, roots, inner } => {
                let (leaves, roots, inner) = (map(leaves), map(roots), inner.map(map));
                Launch::Twigs { leaves, count, roots, inner }
            }
            Self::Scatter { digests, places, count, out } => {
                let (digests, places, out) = (map(digests), map(places), map(out));
                Launch::Scatter { digests, places, count, out }
            }
            Self::Gather { digests, places, count, out } => {
                let (digests, places, out) = (map(digests), map(places), map(out));
                Launch::Gather { digests, places, count, out }
            }
            Self::Flip { flips, count, out } => {
                Launch::Flip { flips: map(flips), count, out: map(out) }
            }
        }
    }
}

/// Bytes that a kernel reads from or writes to a buffer, at most.
struct Use<'a, B> {
    buffer: &'a B,
    bytes: u64,
    written: bool,
}

impl<'a, B: Buffer> Launch<'a, B> {
    /// Checks everything about a launch that can be known without the contents of its buffers: the
    /// count, that everything fits, and that no output is another operand. Every backend calls this
    /// before it launches.
    ///
    /// # Errors
    /// [`HashError::Shape`].
    pub fn check(&self, limits: Limits) -> Result<(), HashError> {
        if self.count() > limits.max_count {
            return Err(HashError::Shape("a launch has more items than the device takes"));
        }
        let uses = self.uses()?;
        if uses.iter().flatten().any(|used| used.bytes > used.buffer.bytes()) {
            return Err(HashError::Shape("a launch leaves its buffer"));
        }
        for (i, a) in uses.iter().enumerate() {
            for b in &uses[..i] {
                if let (Some(a), Some(b)) = (a, b)
                    && std::ptr::eq(a.buffer, b.buffer)
                    && (a.written || b.written)
                {
                    return Err(HashError::Shape("an output of a launch is its input too"));
                }
            }
        }
        Ok(())
    }

    /// What the launch certainly reads and writes: for operands that a list chooses from, nothing.
    fn uses(&self) -> Result<[Option<Use<'a, B>>; 3], HashError> {
        let n = u64::from(self.count());
        let read = |buffer, bytes| Some(Use { buffer, bytes, written: false });
        let write = |buffer, bytes| Some(Use { buffer, bytes, written: true });
        Ok(match *self {
            Self::Nodes { children, parents, out, out_stride, out_offset, .. } => {
                if out_stride == 0 {
                    return Err(HashError::Shape("all nodes of a launch have one place"));
                }
                match parents {
                    Parents::Run { first } if n > 0 => {
                        let last = u64::from(first) + n - 1;
                        let end = u64::from(out_stride)
                            .saturating_mul(last)
                            .saturating_add(u64::from(out_offset) + 1);
                        [read(children, 64 * (last + 1)), write(out, end.saturating_mul(32)), None]
                    }
                    Parents::Run { .. } => [read(children, 0), write(out, 0), None],
                    Parents::List { places, first } => {
                        let places = read(places, 4 * (u64::from(first) + n));
                        [read(children, 0), write(out, 0), places]
                    }
                }
            }
            Self::Messages { bytes, spans, out, .. } => {
                [read(bytes, 0), read(spans, 8 * n), write(out, 32 * n)]
            }
            Self::Twigs { leaves, roots, inner, .. } => {
                let inner = inner.and_then(|inner| write(inner, 32 * TWIG_INNER * n));
                [read(leaves, 32 * TWIG_LEAVES as u64 * n), write(roots, 32 * n), inner]
            }
            Self::Scatter { digests, places, out, .. } => {
                [read(digests, 32 * n), read(places, 4 * n), write(out, 0)]
            }
            Self::Gather { digests, places, out, .. } => {
                [read(digests, 0), read(places, 4 * n), write(out, 32 * n)]
            }
            Self::Flip { flips, out, .. } => [read(flips, 8 * n), write(out, 0), None],
        })
    }
}

/// Checks that `len` bytes at `offset` lie within a buffer of `bytes` bytes and may be copied: a
/// multiple of 4, more than 0. Every backend calls this for every copy.
///
/// # Errors
/// [`HashError::Shape`].
pub fn check_range(offset: u64, len: u64, bytes: u64) -> Result<(), HashError> {
    if !offset.is_multiple_of(4) || !len.is_multiple_of(4) || len == 0 {
        return Err(HashError::Shape("a copy whose ends are no multiples of 4, or of no bytes"));
    }
    match offset.checked_add(len) {
        Some(end) if end <= bytes => Ok(()),
        _ => Err(HashError::Shape("a copy leaves its buffer")),
    }
}
