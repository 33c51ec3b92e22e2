//! Asking the tiered index.
//!
//! ```text
//!   1   the list of segments, as it is now            no lock is held
//!       filters, directories ─► pages ─► records of the stems asked for
//!   2   part by part, under its lock                  no file is read
//!       is the shape of the list still that one?      else again from 1, for what is left
//!       records of memory and of 1 whose bits are set
//! ```

use super::Inner;
use super::age::Part;
use super::bits::Bits;
use super::pages::Wanted;
use super::record::Record;
use super::stats::add;
use super::{Tiers, segment::Page};
use crate::shared::{PART_GROUPS, part_of, runs};
use crate::{IndexError, Stem};
use hedgerow_types::{KeyHash, LogPosition};
use std::sync::atomic::Ordering;

/// Keys whose pages are read together: 4 MiB of pages at most for each segment.
const KEYS: usize = 1024;
/// Stems whose neighbours are looked for together.
const STEMS: usize = 256;
/// Records of a page that are taken along when the greatest that counts is looked for: it may cease to meanwhile.
const SPARE: usize = 4;
/// Pages of a group that are kept: more would be the whole index in the end.
const KEPT: usize = 16;

/// A record that a segment has for what was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// Number of what was asked.
    asked: u32,
    record: Record,
    /// Place of the segment in the list.
    segment: u32,
}

impl Found {
    fn counts(&self, tiers: &Tiers, bits: &Bits) -> bool {
        let holds = |it: &std::sync::Arc<super::Segment>| it.holds(&self.record);
        bits.get(self.record.sn) && tiers.segments.get(self.segment as usize).is_some_and(holds)
    }
}

fn of_asked(found: &[Found], asked: u32) -> &[Found] {
    let start = found.partition_point(|it| it.asked < asked);
    let rest = found.get(start..).unwrap_or_default();
    rest.get(..rest.partition_point(|it| it.asked == asked)).unwrap_or_default()
}

/// What a question about one thing needs of which page.
#[derive(Default)]
struct Need {
    wants: Vec<(Wanted, u32)>,
}

impl Need {
    fn add(&mut self, segment: usize, pages: std::ops::Range<u32>, asked: u32) {
        self.wants.extend(pages.map(|page| ((segment as u32, page), asked)));
    }
}

impl Inner {
    /// Whether an answer that was begun with this list can be ended; asked under the lock of a part.
    fn is_current(&self, tiers: &Tiers) -> bool {
        self.shape.load(Ordering::Acquire) == tiers.shape
    }

    /// Reads the pages that are needed, and tells `each` which page is for what.
    fn read_needed(
        &self,
        tiers: &Tiers,
        need: Need,
        keep: bool,
        mut each: impl FnMut(u32, u32, &Page),
    ) -> Result<(), IndexError> {
        let Need { mut wants } = need;
        wants.sort_unstable();
        let mut pages: Vec<Wanted> = wants.iter().map(|(page, _)| *page).collect();
        pages.dedup();
        let mut rest = &wants[..];
        let found = |place: usize, page: &Page| {
            let Some(wanted) = pages.get(place) else { return };
            let same = rest.partition_point(|(other, _)| other <= wanted);
            let (now, later) = rest.split_at(same);
            rest = later;
            now.iter().for_each(|(_, asked)| each(*asked, wanted.0, page));
        };
        self.pages.read_pages(&*self.vfs, &tiers.segments, &pages, keep, &self.counters, found)
    }

    pub(super) fn candidates(
        &self,
        keys: &[KeyHash],
        out: &mut Vec<(u32, LogPosition)>,
    ) -> Result<(), IndexError> {
        let mut first = 0_u32;
        for keys in keys.chunks(KEYS) {
            let mut done = 0;
            while done < keys.len() {
                done += self.candidates_once(&keys[done..], first + done as u32, out)?;
            }
            first = first.wrapping_add(keys.len() as u32);
        }
        add(&self.counters.look_ups, keys.len());
        Ok(())
    }

    /// The candidates of the first of `keys`, whose number is `first`, and of as many after it as can be told from one
    /// list. Returns how many.
    fn candidates_once(
        &self,
        keys: &[KeyHash],
        first: u32,
        out: &mut Vec<(u32, LogPosition)>,
    ) -> Result<usize, IndexError> {
        let tiers = self.tiers();
        let found = self.stored(&tiers, keys)?;
        let mut rest = &found[..];
        let mut asked = 0_u32;
        for (number, run) in runs(keys, |key| Stem::of(key).group()) {
            let part = self.parts[number].read();
            if !self.is_current(&tiers) {
                break;
            }
            let bits = self.bits.read();
            for key in run {
                let from = out.len();
                let number = first.wrapping_add(asked);
                part.ties(Stem::of(key), |record| {
                    if bits.get(record.sn) {
                        out.push((number, record.at));
                    }
                });
                while let Some((head, tail)) = rest.split_first().filter(|it| it.0.asked == asked) {
                    if head.counts(&tiers, &bits) {
                        out.push((number, head.record.at));
                    }
                    rest = tail;
                }
                sort_from(out, from);
                asked += 1;
            }
        }
        Ok(asked as usize)
    }

    /// What the segments have for keys, ascending.
    fn stored(&self, tiers: &Tiers, keys: &[KeyHash]) -> Result<Vec<Found>, IndexError> {
        let (mut need, mut saves, mut misses) = (Need::default(), 0, 0);
        // Segment by segment: the loads of one filter for many keys do not wait for each other.
        for (number, segment) in tiers.segments.iter().enumerate() {
            for (asked, key) in (0..).zip(keys) {
                let stem = Stem::of(key);
                if !segment.spans(stem) {
                    continue;
                }
                if segment.may_have(stem) {
                    need.add(number, segment.pages_of(stem), asked);
                } else {
                    saves += 1;
                }
            }
        }
        let mut found = Vec::new();
        if need.wants.is_empty() {
            add(&self.counters.filter_saves, saves);
            return Ok(found);
        }
        self.read_needed(tiers, need, true, |asked, segment, page| {
            let before = found.len();
            if let Some(key) = keys.get(asked as usize) {
                let ties = page.ties(Stem::of(key));
                found.extend(ties.map(|record| Found { asked, record, segment }));
            }
            let filtered = tiers.segments.get(segment as usize);
            let filtered = filtered.is_some_and(|it| it.filter_bytes() > 0);
            misses += usize::from(filtered && found.len() == before);
        })?;
        add(&self.counters.filter_saves, saves);
        add(&self.counters.filter_misses, misses);
        found.sort_unstable();
        Ok(found)
    }

    pub(super) fn group(
        &self,
        group: usize,
        out: &mut Vec<(Stem, LogPosition)>,
    ) -> Result<(), IndexError> {
        let Some(part) = self.parts.get(part_of(group)) else { return Ok(()) };
        let (low, high) = (Stem::first_of(group), Stem::last_of(group));
        loop {
            let tiers = self.tiers();
            let mut need = Need::default();
            for (number, segment) in tiers.segments.iter().enumerate() {
                if segment.overlaps(low, high) {
                    need.add(number, segment.pages_between(low, high), 0);
                }
            }
            let mut found = Vec::new();
            let keep = need.wants.len() <= KEPT;
            self.read_needed(&tiers, need, keep, |asked, segment, page| {
                let records = page.group_records(group);
                found.extend(records.map(|record| Found { asked, record, segment }));
            })?;
            let part = part.read();
            if !self.is_current(&tiers) {
                continue;
            }
            let bits = self.bits.read();
            let from = out.len();
            part.group(group, |record| {
                if bits.get(record.sn) {
                    out.push((record.stem, record.at));
                }
            });
            let counting = found.iter().filter(|it| it.counts(&tiers, &bits));
            out.extend(counting.map(|it| (it.record.stem, it.record.at)));
            sort_from(out, from);
            return Ok(());
        }
    }

    pub(super) fn at_or_below(
        &self,
        stems: &[Stem],
        out: &mut Vec<(u32, Stem, LogPosition)>,
    ) -> Result<(), IndexError> {
        let mut first = 0_u32;
        for stems in stems.chunks(STEMS) {
            let mut answers: Vec<(u32, Stem, LogPosition)> = Vec::with_capacity(stems.len());
            let mut pending: Vec<(u32, Stem)> = (0..).zip(stems.iter().copied()).collect();
            while !pending.is_empty() {
                pending = self.below_once(&pending, &mut answers)?;
            }
            answers.sort_unstable();
            let numbered = answers.iter().map(|(i, stem, at)| (first.wrapping_add(*i), *stem, *at));
            out.extend(numbered);
            first = first.wrapping_add(stems.len() as u32);
        }
        add(&self.counters.look_ups, stems.len());
        Ok(())
    }

    /// Answers what can be told from one page of each segment, and returns what is to be asked still: numbers, each with
    /// the stem from which on downwards nothing is known yet.
    fn below_once(
        &self,
        pending: &[(u32, Stem)],
        answers: &mut Vec<(u32, Stem, LogPosition)>,
    ) -> Result<Vec<(u32, Stem)>, IndexError> {
        let tiers = self.tiers();
        // From each floor up to what is asked, all records of segments that count will have been found.
        let mut floors = vec![Stem::first_of(0); pending.len()];
        let mut need = Need::default();
        for ((asked, (_, from)), floor) in (0..).zip(pending).zip(&mut floors) {
            for (number, segment) in tiers.segments.iter().enumerate() {
                let pages = segment.pages_down_from(*from);
                if !pages.is_empty() {
                    *floor = segment.first_of(pages.start).max(*floor);
                }
                need.add(number, pages, asked);
            }
        }
        let mut found = Vec::new();
        self.read_needed(&tiers, need, true, |asked, segment, page| {
            let (Some((_, from)), Some(floor)) =
                (pending.get(asked as usize), floors.get_mut(asked as usize))
            else {
                return;
            };
            let (mut taken, mut last) = (0, None);
            let bits = self.bits.read();
            // What does not count now cannot count later, unless it is put into memory again.
            for record in page.downwards(*from).filter(|record| bits.get(record.sn)) {
                if record.stem < *floor {
                    break;
                }
                if taken >= SPARE && last.is_some_and(|last| record.stem < last) {
                    *floor = last.unwrap_or(*floor);
                    break;
                }
                found.push(Found { asked, record, segment });
                (taken, last) = (taken + 1, Some(record.stem));
            }
        })?;
        found.sort_unstable();
        let mut left = Vec::new();
        for ((asked, (number, from)), floor) in (0..).zip(pending).zip(floors) {
            let found = of_asked(&found, asked);
            match self.greatest(&tiers, *from, floor, found, |stem, at| {
                answers.push((*number, stem, at));
            }) {
                Ended::Found => {}
                Ended::Nothing => left.extend(floor.before().map(|below| (*number, below))),
                Ended::Changed => left.push((*number, *from)),
            }
        }
        Ok(left)
    }

    /// Tells `each` the positions of the greatest stem between `floor` and `from` that has keys; `found` is what segments have
    /// there.
    fn greatest(
        &self,
        tiers: &Tiers,
        from: Stem,
        floor: Stem,
        found: &[Found],
        mut each: impl FnMut(Stem, LogPosition),
    ) -> Ended {
        for number in (part_of(floor.group())..=part_of(from.group())).rev() {
            let low = Stem::first_of(number * PART_GROUPS).max(floor);
            let high = Stem::last_of((number + 1) * PART_GROUPS - 1).min(from);
            let part = self.parts[number].read();
            if !self.is_current(tiers) {
                return Ended::Changed;
            }
            let bits = self.bits.read();
            let here = |it: &&Found| (low..=high).contains(&it.record.stem);
            let counting = |it: &&Found| it.counts(tiers, &bits);
            let stored = found.iter().rev().filter(here).find(counting).map(|it| it.record.stem);
            let in_memory = part.last(high, low, |record| bits.get(record.sn));
            let Some(stem) = in_memory.max(stored) else { continue };
            let mut places = Vec::new();
            ties(&part, stem, &bits, &mut places);
            let same = found.iter().filter(|it| it.record.stem == stem).filter(counting);
            places.extend(same.map(|it| it.record.at));
            places.sort_unstable();
            places.dedup();
            places.into_iter().for_each(|at| each(stem, at));
            return Ended::Found;
        }
        Ended::Nothing
    }
}

enum Ended {
    Found,
    Nothing,
    /// The list of segments has another shape.
    Changed,
}

fn ties(part: &Part, stem: Stem, bits: &Bits, places: &mut Vec<LogPosition>) {
    part.ties(stem, |record| {
        if bits.get(record.sn) {
            places.push(record.at);
        }
    });
}

/// Sorts what was appended since, and takes out what is there twice: a record may be held more than once.
fn sort_from<T: Ord + Copy>(out: &mut Vec<T>, from: usize) {
    if out.len() - from < 2 {
        return;
    }
    out[from..].sort_unstable();
    let mut kept = from + 1;
    for place in from + 1..out.len() {
        if out[place] != out[kept - 1] {
            out[kept] = out[place];
            kept += 1;
        }
    }
    out.truncate(kept);
}
