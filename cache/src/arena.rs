//! Slots by their place, in chunks: memory that follows how many there are.
//!
//! ```text
//!   chunks   ┌─ 32 slots ─┐ ┌─ 32 slots ─┐ ┌─ 5 ──┐
//!                  ▲ hole ◄──► hole ◄── the next slot comes here
//!              remove(3): one more hole; settle(): the last slot moves into one, while there are too many
//! ```
//!
//! Chunks are allocated once, with all the room that they ever have: growing copies nothing. Places are stable as long as there
//! are few holes, which saves whoever takes out and puts in by turns from moving anything. There is at most one hole for
//! 32 slots, and some more.

/// Slots of a chunk.
const CHUNK: usize = 32;
/// Slots for which there may be a hole.
const SLOTS_OF_A_HOLE: u32 = 32;
/// The place that no slot has.
pub(crate) const NONE: u32 = u32::MAX;

/// What is at a place.
#[derive(Debug)]
enum Place<T> {
    Slot(T),
    /// Its neighbours in the list of holes.
    Hole {
        before: u32,
        after: u32,
    },
}

/// Slots by their place, from 0 on.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    chunks: Vec<Vec<Place<T>>>,
    /// Places, holes included.
    places: u32,
    holes: u32,
    /// The hole that was made last.
    hole: u32,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), places: 0, holes: 0, hole: NONE }
    }

    /// Places, holes included.
    pub(crate) const fn places(&self) -> u32 {
        self.places
    }

    /// Places that are free.
    pub(crate) const fn holes(&self) -> u32 {
        self.holes
    }

    /// Bytes of so many places. A chunk more than that may be allocated: [`Self::SPARE_BYTES`].
    pub(crate) const fn place_bytes(places: u64) -> u64 {
        // A share of the list of chunks, which doubles, and of what the allocator adds to a chunk.
        let share = (2 * size_of::<Vec<Place<T>>>() + 16).div_ceil(CHUNK) as u64;
        places.saturating_mul(size_of::<Place<T>>() as u64 + share)
    }

    /// Bytes that may be allocated beyond those of the places.
    pub(crate) const SPARE_BYTES: u64 = (CHUNK * size_of::<Place<T>>()) as u64;

    fn place(&mut self, place: u32) -> Option<&mut Place<T>> {
        let place = place as usize;
        self.chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        let place = place as usize;
        match self.chunks.get(place / CHUNK)?.get(place % CHUNK)? {
            Place::Slot(slot) => Some(slot),
            Place::Hole { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        match self.place(place)? {
            Place::Slot(slot) => Some(slot),
            Place::Hole { .. } => None,
        }
    }

    /// Puts `slot` into the newest hole, or at the next place; gives it back if there are as many as places have numbers.
    pub(crate) fn push(&mut self, slot: T) -> Result<u32, T> {
        let hole = self.hole;
        if let Some(&mut Place::Hole { before, after }) = self.place(hole) {
            self.unlink(before, after);
            if let Some(place) = self.place(hole) {
                *place = Place::Slot(slot);
            }
            return Ok(hole);
        }
        if self.places == NONE {
            return Err(slot);
        }
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(Place::Slot(slot)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Place::Slot(slot));
                self.chunks.push(chunk);
            }
        }
        self.places += 1;
        Ok(self.places - 1)
    }

    /// Takes the slot at `place` out. [`Self::settle`] must be asked afterwards until it has nothing more to say.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        self.get(place)?;
        if place + 1 == self.places {
            let last = self.drop_last();
            self.drop_holes();
            return match last {
                Some(Place::Slot(slot)) => Some(slot),
                _ => None,
            };
        }
        let hole = Place::Hole { before: NONE, after: self.hole };
        let Place::Slot(slot) = std::mem::replace(self.place(place)?, hole) else { return None };
        if let Some(Place::Hole { before, .. }) = self.place(self.hole) {
            *before = place;
        }
        self.hole = place;
        self.holes += 1;
        Some(slot)
    }

    /// If there are too many holes, moves the last slot into one; tells from where, and to where.
    pub(crate) fn settle(&mut self) -> Option<(u32, u32)> {
        if self.holes <= CHUNK as u32 + self.places / SLOTS_OF_A_HOLE {
            return None;
        }
        let to = self.hole;
        let Some(&mut Place::Hole { before, after }) = self.place(to) else { return None };
        let last = self.drop_last()?;
        self.unlink(before, after);
        *self.place(to)? = last;
        let from = self.places;
        self.drop_holes();
        Some((from, to))
    }

    /// Takes holes at the end away, so that none is the last.
    fn drop_holes(&mut self) {
        while let Some(&mut Place::Hole { before, after }) =
            self.places.checked_sub(1).and_then(|last| self.place(last))
        {
            self.unlink(before, after);
            self.drop_last();
        }
    }

    /// Takes a hole with these neighbours out of the list.
    fn unlink(&mut self, hole_before: u32, hole_after: u32) {
        match self.place(hole_before) {
            Some(Place::Hole { after, .. }) => *after = hole_after,
            _ => self.hole = hole_after,
        }
        if let Some(Place::Hole { before, .. }) = self.place(hole_after) {
            *before = hole_before;
        }
        self.holes -= 1;
    }

    /// Takes the last place away.
    fn drop_last(&mut self) -> Option<Place<T>> {
        let chunk = self.chunks.last_mut()?;
        let last = chunk.pop()?;
        if chunk.is_empty() {
            self.chunks.pop();
        }
        self.places -= 1;
        Some(last)
    }

    /// Drops all slots.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Removes, then lets slots move; returns how many did.
    fn remove(arena: &mut Arena<usize>, model: &mut BTreeMap<u32, usize>, place: u32) -> usize {
        assert_eq!(arena.remove(place), model.remove(&place));
        let mut moves = 0;
        while let Some((from, to)) = arena.settle() {
            let last = model.remove(&from).unwrap();
            assert!(model.keys().all(|other| *other < from) && to < from);
            assert_eq!(model.insert(to, last), None);
            moves += 1;
        }
        moves
    }

    /// Against a map from places to numbers, at numbers of slots around those of chunks: slots are where they were, but for
    /// those that are said to have moved; holes are few, and are filled first.
    #[test]
    fn slots_are_where_a_map_has_them() {
        for len in [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, 40 * CHUNK] {
            for (first, pushed) in [(0, 0), (len / 2, 0), (len - 1, 0), (0, 3), (5, 7)] {
                let mut arena = Arena::new();
                let mut model: BTreeMap<u32, usize> = BTreeMap::new();
                for number in 0..len {
                    model.insert(arena.push(number).unwrap(), number);
                }
                let (mut at, mut moves) = (first, 0);
                for turn in 0..3_000 {
                    let Some((&place, _)) = model.iter().nth(at % model.len().max(1)) else {
                        break;
                    };
                    at = at * 7 % 10_007 + 3;
                    moves += remove(&mut arena, &mut model, place);
                    if turn % 10 < pushed {
                        let (holes, places) = (arena.holes(), arena.places());
                        assert_eq!(model.insert(arena.push(turn).unwrap(), turn), None);
                        assert_eq!(arena.places() - places, u32::from(holes == 0));
                    }
                    let places = arena.places();
                    assert_eq!(places as usize, model.len() + arena.holes() as usize);
                    assert!(arena.holes() as usize <= CHUNK + places as usize / 32);
                    assert_eq!(places, model.keys().last().map_or(0, |last| last + 1));
                    if turn % 8 == 0 {
                        for place in 0..=places {
                            assert_eq!(arena.get(place), model.get(&place));
                        }
                    }
                    assert_eq!(arena.remove(places), None);
                }
                assert_eq!(moves > 0, len > 2 * CHUNK, "{len} {first} {pushed}");
                while let Some((&place, _)) = model.iter().next() {
                    remove(&mut arena, &mut model, place);
                }
                assert_eq!((arena.chunks.len(), arena.places(), arena.holes()), (0, 0, 0));
            }
        }
    }
}
