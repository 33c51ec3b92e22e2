//! Slots side by side, without holes: memory that follows how many there are.
//!
//! ```text
//!   chunks   ┌─ 32 slots ─┐ ┌─ 32 slots ─┐ ┌─ 5 ──┐
//!              remove(3): the last slot moves to place 3, and its old place is what `moved` says
//! ```
//!
//! Chunks are allocated once, with all the room that they ever have: growing copies nothing, and between two
//! counts of slots lies at most a chunk that nobody uses.

/// Slots of a chunk.
const CHUNK: usize = 32;
/// The place that no slot has.
pub(crate) const NONE: u32 = u32::MAX;

/// Slots by their place, from 0 on.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Bytes of so many slots. A chunk more than that may be allocated: [`Self::SPARE_BYTES`].
    pub(crate) const fn slot_bytes(slots: u64) -> u64 {
        // A share of the list of chunks, which doubles, and of what the allocator adds to a chunk.
        let share = (2 * size_of::<Vec<T>>() + 16).div_ceil(CHUNK) as u64;
        slots.saturating_mul(size_of::<T>() as u64 + share)
    }

    /// Bytes that may be allocated beyond those of the slots.
    pub(crate) const SPARE_BYTES: u64 = (CHUNK * size_of::<T>()) as u64;

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        let place = place as usize;
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        let place = place as usize;
        self.chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    /// Puts `slot` at the next place; gives it back if there are as many as places have numbers.
    pub(crate) fn push(&mut self, slot: T) -> Result<u32, T> {
        if self.len == NONE {
            return Err(slot);
        }
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(slot),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(slot);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
        Ok(self.len - 1)
    }

    /// Takes the slot at `place` out. If another one was the last, that has moved to `place`, and where it was
    /// is told.
    pub(crate) fn remove(&mut self, place: u32) -> Option<(T, Option<u32>)> {
        if place >= self.len {
            return None;
        }
        let chunk = self.chunks.last_mut()?;
        let last = chunk.pop()?;
        if chunk.is_empty() {
            self.chunks.pop();
        }
        self.len -= 1;
        if place == self.len {
            return Some((last, None));
        }
        let slot = self.get_mut(place)?;
        Some((std::mem::replace(slot, last), Some(self.len)))
    }

    /// Drops all slots.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a vector with `swap_remove`, at numbers of slots around those of chunks.
    #[test]
    fn removes_like_a_vector() {
        for len in [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            for first in 0..len {
                let mut arena = Arena::new();
                let mut model: Vec<usize> = Vec::new();
                for i in 0..len {
                    assert_eq!(arena.push(i), Ok(i as u32));
                    model.push(i);
                }
                let mut place = first;
                while !model.is_empty() {
                    place = (place * 7 + 3) % model.len();
                    let removed = model.swap_remove(place);
                    let moved = (place < model.len()).then_some(model.len() as u32);
                    assert_eq!(arena.remove(place as u32), Some((removed, moved)));
                    assert_eq!(arena.len() as usize, model.len());
                    for (i, expected) in model.iter().enumerate() {
                        assert_eq!(arena.get(i as u32), Some(expected));
                    }
                    assert_eq!(arena.get(arena.len()), None);
                    assert_eq!(arena.remove(arena.len()), None);
                }
                assert_eq!(arena.chunks.len(), 0);
            }
        }
    }
}
