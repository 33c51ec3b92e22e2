//! Active bits: which entries of the twigs in memory are current, and the right trees over them.
//!
//! ```text
//!  level 11            l3                       one per twig, kept beside the left root
//!  level 10      l2          l2                 2 per twig
//!  level 9    l1    l1    l1    l1              4 per twig
//!  level 8   p  p  p  p  p  p  p  p             8 pages per twig, 256 bits each, as raw bytes
//!            └─ entry i of the twig: bit i % 8 of byte i / 8, page i / 256 (spec 8.1)
//! ```
//!
//! Rows are indexed by page, and by its parents, counted over the whole shard: twig `t` has the
//! pages `8t .. 8t + 8`. They begin at the first twig that is not evicted.

use crate::row::Row;
use hedgerow_hasher_api::NullTable;
use hedgerow_types::{ACTIVE_PAGES_PER_TWIG, Digest, SerialNumber, TwigId};
use std::ops::Range;

/// Pages per twig, as an index.
pub(crate) const PAGES: u64 = ACTIVE_PAGES_PER_TWIG as u64;
/// log2 of the entries whose bits one page holds.
const PAGE_SHIFT: u32 = 8;

/// The active bits of the twigs not yet evicted. See the [module documentation](self).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ActiveBits {
    pub(crate) pages: Row,
    pub(crate) l1: Row,
    pub(crate) l2: Row,
    /// Number of bits that are set.
    count: u64,
}

/// The page that holds the bit of a serial number.
pub(crate) const fn page_of(sn: u64) -> u64 {
    sn >> PAGE_SHIFT
}

/// The byte of its page, and the mask within it, of the bit of a serial number.
const fn bit_of(sn: u64) -> (usize, u8) {
    (((sn >> 3) & 31) as usize, 1 << (sn & 7))
}

impl ActiveBits {
    /// No twig yet; the first one will be `first`.
    pub(crate) fn new(first: TwigId) -> Self {
        let row = |per_twig: u64| Row::new(first.0 * per_twig);
        Self { pages: row(PAGES), l1: row(PAGES / 2), l2: row(PAGES / 4), count: 0 }
    }

    /// Adds twigs without active entries until `last` is the youngest.
    pub(crate) fn grow_to(&mut self, last: TwigId, null: &NullTable) {
        let end = last.0 + 1;
        self.pages.extend_to(end * PAGES, Digest::ZERO);
        self.l1.extend_to(end * (PAGES / 2), null.active_l1);
        self.l2.extend_to(end * (PAGES / 4), null.active_l2);
    }

    /// Takes the pages of a restored state, `pages` of whole twigs from the first one on.
    pub(crate) fn load(&mut self, pages: &[Digest], null: &NullTable) {
        self.pages.extend(pages);
        let bytes = pages.iter().flat_map(|page| page.0);
        self.count += bytes.map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        if let Some(twigs) = (self.pages.end() / PAGES).checked_sub(1) {
            self.grow_to(TwigId(twigs), null);
        }
    }

    /// The first twig that is not evicted.
    pub(crate) fn first_twig(&self) -> TwigId {
        TwigId(self.pages.base() / PAGES)
    }

    /// Number of active entries.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the entry is active; entries of evicted twigs and those to come are not.
    pub(crate) fn is_active(&self, sn: SerialNumber) -> bool {
        let (byte, mask) = bit_of(sn.0);
        self.pages.get(page_of(sn.0)).is_some_and(|page| page.0[byte] & mask != 0)
    }

    /// Sets the bits of these serial numbers, none of which is set.
    pub(crate) fn activate(&mut self, entries: Range<u64>) {
        let mut sn = entries.start;
        while sn < entries.end {
            let page_end = ((page_of(sn) + 1) << PAGE_SHIFT).min(entries.end);
            if let Some(page) = self.pages.get_mut(page_of(sn)) {
                if page_end - sn == 1 << PAGE_SHIFT {
                    page.0 = [0xFF; 32];
                } else {
                    for (byte, mask) in (sn..page_end).map(bit_of) {
                        page.0[byte] |= mask;
                    }
                }
                self.count += page_end - sn;
            }
            sn = page_end;
        }
    }

    /// Clears the bit of an entry. Returns whether it was set.
    pub(crate) fn deactivate(&mut self, sn: SerialNumber) -> bool {
        let (byte, mask) = bit_of(sn.0);
        match self.pages.get_mut(page_of(sn.0)) {
            Some(page) if page.0[byte] & mask != 0 => {
                page.0[byte] &= !mask;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }

    /// The first active entry among these serial numbers.
    pub(crate) fn first_active(&self, entries: Range<u64>) -> Option<SerialNumber> {
        let start = entries.start.max(self.first_twig().first().0);
        let mut sn = start;
        while sn < entries.end {
            let next_page = (page_of(sn) + 1) << PAGE_SHIFT;
            if self.pages.get(page_of(sn)).is_some_and(|page| *page != Digest::ZERO) {
                let within = sn..next_page.min(entries.end);
                if let Some(active) = within.map(SerialNumber).find(|&sn| self.is_active(sn)) {
                    return Some(active);
                }
            }
            sn = next_page;
        }
        None
    }

    /// Drops the twigs left of `first`, none of which has an active entry.
    pub(crate) fn evict(&mut self, first: TwigId) {
        self.pages.drop_below(first.0 * PAGES);
        self.l1.drop_below(first.0 * (PAGES / 2));
        self.l2.drop_below(first.0 * (PAGES / 4));
    }

    /// Makes these bits equal to `from`, given that they differ, where both hold them, at most in
    /// the pages `pages`.
    pub(crate) fn copy(&mut self, from: &Self, pages: &[u64]) {
        self.count = from.count;
        self.pages.align(&from.pages);
        self.l1.align(&from.l1);
        self.l2.align(&from.l2);
        for &page in pages {
            self.pages.copy(&from.pages, page);
            self.l1.copy(&from.l1, page >> 1);
            self.l2.copy(&from.l2, page >> 2);
        }
    }

    /// Heap bytes, slack included.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.pages.heap_bytes() + self.l1.heap_bytes() + self.l2.heap_bytes()
    }
}
