//! Heights that somebody holds, for which pruning waits.
//!
//! ```text
//!   at(h)     take ──► is anything planned to go that h needs? ── yes ──► not available
//!               │ no
//!               ▼
//!             a pin, until it is dropped          one lock, so that a height is either held before
//!               ▲                                 something is planned to go, or not to be had
//!   pruning   plan ──► does a pin need any of it? ── yes ──► plan once more
//! ```
//!
//! A state that is [held](crate::read::published) is at least as new as any manifest that is to come; a pin may be
//! much older. What a height needs is known by its oldest active entries: everything from their twigs on.

use hedgerow_types::{Height, SHARDS, SerialNumber, TwigId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Pins(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Twigs before these are gone, or are about to go.
    planned: [TwigId; SHARDS],
    held: BTreeMap<Height, Held>,
    /// The first undo record that is needed, and by how many.
    undo: BTreeMap<Height, usize>,
}

/// A height that is held.
#[derive(Debug)]
struct Held {
    count: usize,
    oldest_active: [SerialNumber; SHARDS],
    /// The height was taken back.
    rolled_back: Arc<AtomicBool>,
}

/// The oldest height that is held, and what it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oldest {
    pub(crate) height: Height,
    pub(crate) oldest_active: [SerialNumber; SHARDS],
}

fn needs_any(oldest_active: &[SerialNumber; SHARDS], before: &[TwigId; SHARDS]) -> bool {
    oldest_active.iter().zip(before).any(|(sn, before)| sn.twig() < *before)
}

impl Pins {
    /// None, of a store whose twigs before `first_kept` are gone.
    pub(crate) fn new(first_kept: [TwigId; SHARDS]) -> Arc<Self> {
        let (held, undo) = (BTreeMap::new(), BTreeMap::new());
        Arc::new(Self(Mutex::new(Inner { planned: first_kept, held, undo })))
    }

    /// Holds a height with these oldest active entries, and the undo records that follow it if `has_undo` says
    /// that they are there; `None` if what it needs is about to go.
    pub(crate) fn take(
        self: &Arc<Self>,
        height: Height,
        oldest_active: &[SerialNumber; SHARDS],
        has_undo: impl FnOnce() -> bool,
    ) -> Option<Pin> {
        let mut inner = self.0.lock();
        if needs_any(oldest_active, &inner.planned) {
            return None;
        }
        let held = inner.held.entry(height).or_insert_with(|| {
            let rolled_back = Arc::default();
            Held { count: 0, oldest_active: *oldest_active, rolled_back }
        });
        held.count += 1;
        let rolled_back = Arc::clone(&held.rolled_back);
        let undo = has_undo();
        if undo {
            *inner.undo.entry(height.next()).or_default() += 1;
        }
        Some(Pin { pins: Arc::clone(self), height, undo, rolled_back })
    }

    /// The heights above this one were taken back: nobody waits for those who hold them.
    pub(crate) fn roll_back(&self, height: Height) {
        let mut inner = self.0.lock();
        let gone = inner.held.split_off(&height.next());
        gone.values().for_each(|held| held.rolled_back.store(true, Ordering::SeqCst));
        // The record that follows the last height that is left stays wanted by those who hold that height.
        drop(inner.undo.split_off(&Height(height.0.saturating_add(2))));
    }

    /// Whether nothing of what a height needs is about to go.
    pub(crate) fn has(&self, oldest_active: &[SerialNumber; SHARDS]) -> bool {
        !needs_any(oldest_active, &self.0.lock().planned)
    }

    /// The oldest height that is held.
    pub(crate) fn oldest(&self) -> Option<Oldest> {
        let inner = self.0.lock();
        let (&height, held) = inner.held.first_key_value()?;
        Some(Oldest { height, oldest_active: held.oldest_active })
    }

    /// How many heights are held.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().held.values().map(|held| held.count).sum()
    }

    /// The twigs before these are to go from now on; `false`, and nothing is planned, if a height that is held
    /// needs one of them.
    pub(crate) fn plan(&self, first_kept: &[TwigId; SHARDS]) -> bool {
        let mut inner = self.0.lock();
        // What an older height needs, reaches back at least as far.
        let oldest = inner.held.first_key_value().map(|(_, held)| held.oldest_active);
        if oldest.is_some_and(|oldest| needs_any(&oldest, first_kept)) {
            return false;
        }
        for (planned, first) in inner.planned.iter_mut().zip(first_kept) {
            *planned = (*planned).max(*first);
        }
        true
    }

    /// Lets go of undo records before `wanted`, but for those that are held: `forget` is told the first that
    /// stays.
    pub(crate) fn let_undo_go(&self, wanted: Height, forget: impl FnOnce(Height)) {
        let inner = self.0.lock();
        let held = inner.undo.first_key_value().map(|(height, _)| *height);
        forget(held.map_or(wanted, |held| held.min(wanted)));
    }
}

/// A height that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    height: Height,
    undo: bool,
    rolled_back: Arc<AtomicBool>,
}

impl Pin {
    /// Whether the height was taken back.
    pub(crate) fn is_rolled_back(&self) -> bool {
        self.rolled_back.load(Ordering::SeqCst)
    }

    /// Whether the undo records that follow are held too.
    pub(crate) fn has_undo(&self) -> bool {
        self.undo
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut inner = self.pins.0.lock();
        if self.is_rolled_back() {
            return; // Its height is another block's by now.
        }
        if let Some(held) = inner.held.get_mut(&self.height) {
            held.count -= 1;
            if held.count == 0 {
                inner.held.remove(&self.height);
            }
        }
        let first = self.height.next();
        if self.undo
            && let Some(count) = inner.undo.get_mut(&first)
        {
            *count -= 1;
            if *count == 0 {
                inner.undo.remove(&first);
            }
        }
    }
}
