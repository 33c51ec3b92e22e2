//! Input with a seed, and outputs with guards around them.

use hedgerow_types::Digest;
use std::ops::Range;

/// Batch sizes around the lane counts of SIMD kernels, GPU warps and work groups.
pub(super) fn sizes() -> impl Iterator<Item = usize> {
    (0..=70).chain([100, 127, 128, 129, 255, 256, 257, 333, 1023, 1024, 1025])
}

/// A batch that any backend spreads over its cores.
pub(super) const LARGE: usize = 20_011;

/// Pseudo-random numbers (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    pub(super) fn digest(&mut self) -> Digest {
        let mut bytes = [0; 32];
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        Digest(bytes)
    }

    pub(super) fn digests(&mut self, count: usize) -> Vec<Digest> {
        (0..count).map(|_| self.digest()).collect()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// Ways to cut `count` items into groups: one group, one between empty ones, one item per group,
/// two, and 16 uneven ones of which some are empty.
pub(super) fn groupings(random: &mut Random, count: usize) -> Vec<Vec<usize>> {
    let mut uneven = vec![0; 16];
    let mut left = count;
    for (i, size) in uneven.iter_mut().enumerate() {
        let last = i == 15;
        *size = if last { left } else { random.below(left + 1) };
        if !last && random.below(4) == 0 {
            *size = 0;
        }
        left -= *size;
    }
    random.shuffle(&mut uneven);

    let mut all = vec![vec![count], vec![0, count, 0], vec![count / 2, count - count / 2], uneven];
    if count <= 70 {
        all.push(vec![1; count]);
    }
    all
}

/// One output slice per group, painted, with painted guards before, between and after them.
pub(super) struct Outputs {
    cells: Vec<Digest>,
    paint: Vec<Digest>,
    groups: Vec<Range<usize>>,
}

impl Outputs {
    const GUARD: usize = 2;

    pub(super) fn new(random: &mut Random, lens: &[usize]) -> Self {
        let mut groups = Vec::new();
        let mut end = Self::GUARD;
        for len in lens {
            groups.push(end..end + len);
            end += len + Self::GUARD;
        }
        let paint = random.digests(end);
        Self { cells: paint.clone(), paint, groups }
    }

    /// Puts what `known(group, index)` says into the cells before the call, where it says anything.
    pub(super) fn prepare(&mut self, known: impl Fn(usize, usize) -> Option<Digest>) {
        for (g, group) in self.groups.iter().enumerate() {
            for cell in group.clone() {
                if let Some(digest) = known(g, cell - group.start) {
                    (self.cells[cell], self.paint[cell]) = (digest, digest);
                }
            }
        }
    }

    /// The output of every group.
    pub(super) fn slices(&mut self) -> Vec<&mut [Digest]> {
        let mut rest = &mut self.cells[..];
        let mut slices = Vec::new();
        for group in &self.groups {
            let (slice, after) = rest[Self::GUARD..].split_at_mut(group.len());
            slices.push(slice);
            rest = after;
        }
        slices
    }

    /// Finds the first cell that holds neither what is `expected(group, index)` nor, where that is
    /// `None` and in the guards, its paint.
    pub(super) fn difference(
        &self,
        expected: impl Fn(usize, usize) -> Option<Digest>,
    ) -> Option<String> {
        let mut wanted = self.paint.clone();
        for (g, group) in self.groups.iter().enumerate() {
            for cell in group.clone() {
                if let Some(digest) = expected(g, cell - group.start) {
                    wanted[cell] = digest;
                }
            }
        }
        let cell = (0..wanted.len()).find(|&cell| wanted[cell] != self.cells[cell])?;
        let place = match self.groups.iter().position(|group| group.contains(&cell)) {
            Some(g) => {
                let group = &self.groups[g];
                let (index, len) = (cell - group.start, group.len());
                format!("output {index} of {len} in group {g} of {}", self.groups.len())
            }
            None => "a cell outside the outputs".into(),
        };
        let state = if self.cells[cell] == self.paint[cell] {
            "was not written"
        } else if wanted[cell] == self.paint[cell] {
            "was overwritten"
        } else {
            "is wrong"
        };
        Some(format!("{place} {state}: {}, expected {}", self.cells[cell], wanted[cell]))
    }
}
