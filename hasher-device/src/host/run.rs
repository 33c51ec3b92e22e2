//! The kernels of the pretended device: the definition of [`Launch`], item by item.

use super::{HostBuffer, failed, memory::Memory};
use crate::{Launch, Parents, TWIG_INNER};
use hedgerow_hasher_api::{HashError, hash_message, hash_node};
use hedgerow_types::{Digest, TWIG_LEAVES};
use std::collections::HashSet;

/// A launch that waits, with its buffers.
#[derive(Debug)]
pub(super) struct Owned {
    /// Over indexes into `buffers`.
    launch: Launch<'static, usize>,
    buffers: Vec<HostBuffer>,
}

/// Places in `buffers`.
static INDEXES: [usize; 3] = [0, 1, 2];

impl Owned {
    pub(super) fn new(launch: &Launch<'_, HostBuffer>) -> Self {
        let mut buffers = vec![];
        let launch = launch.map(|buffer| {
            buffers.push(buffer.clone());
            &INDEXES[buffers.len() - 1]
        });
        Self { launch, buffers }
    }

    pub(super) fn buffers(&self) -> impl Iterator<Item = &HostBuffer> {
        self.buffers.iter()
    }
}

/// Runs a launch, the last item first: an order that no kernel may rely on.
pub(super) fn run(owned: &Owned) -> Result<(), HashError> {
    let launch = owned.launch.map(|&index| &owned.buffers[index].memory);
    let items = (0..u64::from(launch.count())).rev();
    match launch {
        Launch::Nodes { level, children, parents, out, out_stride, out_offset, .. } => {
            let place = |i| match parents {
                Parents::Run { first } => Ok(u64::from(first) + i),
                Parents::List { places, first } => places.word(u64::from(first) + i).map(u64::from),
            };
            distinct(items.clone().map(place))?;
            for i in items {
                let p = place(i)?;
                let (left, right) = (children.digest(2 * p)?, children.digest(2 * p + 1)?);
                let to = u64::from(out_stride) * p + u64::from(out_offset);
                out.set_digest(to, &hash_node(level, &left, &right))?;
            }
        }
        Launch::Messages { bytes, spans, out, .. } => {
            for i in items {
                let (word, len) = (spans.word(2 * i)?, spans.word(2 * i + 1)?);
                let message = bytes.read(4 * u64::from(word), u64::from(len))?;
                out.set_digest(i, &hash_message(&message))?;
            }
        }
        Launch::Twigs { leaves, roots, inner, .. } => {
            for t in items {
                twig(leaves, t, roots, inner)?;
            }
        }
        Launch::Scatter { digests, places, out, .. } => {
            distinct(items.clone().map(|i| places.word(i).map(u64::from)))?;
            for i in items {
                out.set_digest(u64::from(places.word(i)?), &digests.digest(i)?)?;
            }
        }
        Launch::Gather { digests, places, out, .. } => {
            for i in items {
                out.set_digest(i, &digests.digest(u64::from(places.word(i)?))?)?;
            }
        }
        Launch::Flip { flips, out, .. } => {
            distinct(items.clone().map(|i| flips.word(2 * i).map(u64::from)))?;
            for i in items {
                let (word, mask) = (u64::from(flips.word(2 * i)?), flips.word(2 * i + 1)?);
                out.write(4 * word, &(out.word(word)? ^ mask).to_le_bytes())?;
            }
        }
    }
    Ok(())
}

fn twig(leaves: &Memory, t: u64, roots: &Memory, inner: Option<&Memory>) -> Result<(), HashError> {
    let first = t * TWIG_LEAVES as u64;
    let mut nodes =
        (0..TWIG_LEAVES as u64).map(|i| leaves.digest(first + i)).collect::<Result<Vec<_>, _>>()?;
    let mut place = t * TWIG_INNER;
    for level in 0..11 {
        let pairs = nodes.as_chunks().0.iter();
        nodes = pairs.map(|[left, right]| hash_node(level, left, right)).collect();
        for node in &nodes {
            if let Some(inner) = inner {
                inner.set_digest(place, node)?;
            }
            place += 1;
        }
    }
    roots.set_digest(t, nodes.first().unwrap_or(&Digest::ZERO))
}

fn distinct(places: impl Iterator<Item = Result<u64, HashError>>) -> Result<(), HashError> {
    let mut seen = HashSet::new();
    for place in places {
        if !seen.insert(place?) {
            return Err(failed("a launch writes a place twice"));
        }
    }
    Ok(())
}
