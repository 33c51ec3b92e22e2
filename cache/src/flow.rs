//! Who waits for whom: epochs from closed to durable, and the first failure.
//!
//! ```text
//!   close ──► closed: 3 │ 4 ──► flusher: apply(3) ──► settle ──► durable = 3 ──► whoever waits
//!               │ full?             │ error
//!               ▼ waits             ▼
//!             close              failed: every waiter, writer and closer gets it, until retry
//! ```
//!
//! What is closed and not durable is in the queue: nothing counts it beside. Nobody who holds a part's lock waits here;
//! a closer, who holds this lock, takes those of the parts.

use crate::backing::Epoch;
use crate::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// Why nothing is flushed any more.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    Flush(Arc<E>),
    Stopped,
}

impl<E> Clone for Failure<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Flush(error) => Self::Flush(Arc::clone(error)),
            Self::Stopped => Self::Stopped,
        }
    }
}

impl<E: std::error::Error + 'static> From<Failure<E>> for crate::Error<E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Flush(error) => Self::Flush(error),
            Failure::Stopped => Self::Stopped,
        }
    }
}

/// Why an epoch was not closed or waited for.
#[derive(Debug)]
pub(crate) enum Refused<E> {
    Failed(Failure<E>),
    Order,
    NotClosed,
}

/// A closed epoch.
#[derive(Clone, Debug)]
pub(crate) struct Closed<T> {
    pub(crate) epoch: Epoch,
    pub(crate) tag: T,
    /// Keys that it wrote.
    pub(crate) len: u64,
}

#[derive(Debug)]
struct State<T, E> {
    /// Closed and not durable, the oldest first: that is the one being flushed.
    closed: VecDeque<Closed<T>>,
    open: Epoch,
    /// The last epoch that is durable, and its tag.
    durable: Epoch,
    durable_tag: Option<T>,
    /// How often there may have been more room than before.
    rooms: u64,
    failed: Option<Failure<E>>,
    stopping: bool,
}

impl<T, E> State<T, E> {
    fn check(&self) -> Result<(), Failure<E>> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// The tag of the newest epoch that is closed or durable.
    fn last_tag(&self) -> Option<&T> {
        self.closed.back().map(|closed| &closed.tag).or(self.durable_tag.as_ref())
    }
}

#[derive(Debug)]
pub(crate) struct Flow<T, E> {
    state: Mutex<State<T, E>>,
    changed: Condvar,
    /// Most epochs that are closed and not durable.
    most: usize,
}

impl<T: Ord + Clone, E> Flow<T, E> {
    /// Nothing is closed, and the backing stands at `durable_tag`.
    pub(crate) fn new(durable_tag: Option<T>, most: usize) -> Self {
        let state = State {
            closed: VecDeque::new(),
            open: Epoch(1),
            durable: Epoch(0),
            durable_tag,
            rooms: 0,
            failed: None,
            stopping: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), most: most.max(1) }
    }

    /// The first failure, if there is one.
    pub(crate) fn check(&self) -> Result<(), Failure<E>> {
        self.state.lock().check()
    }

    /// Open and durable epoch, the tag of the latter, and the number of closed ones.
    pub(crate) fn look(&self) -> (Epoch, Epoch, Option<T>, usize) {
        let state = self.state.lock();
        (state.open, state.durable, state.durable_tag.clone(), state.closed.len())
    }

    /// Closes the open epoch with `close`, which says how many keys it wrote, as soon as there is a place for it.
    pub(crate) fn close(&self, tag: T, close: impl FnOnce() -> u64) -> Result<Epoch, Refused<E>> {
        let mut state = self.state.lock();
        loop {
            state.check().map_err(Refused::Failed)?;
            if state.last_tag().is_some_and(|last| *last >= tag) {
                return Err(Refused::Order);
            }
            if state.closed.len() < self.most {
                break;
            }
            self.changed.wait(&mut state);
        }
        let epoch = state.open;
        let len = close();
        state.closed.push_back(Closed { epoch, tag, len });
        state.open = Epoch(epoch.0 + 1);
        self.changed.notify_all();
        Ok(epoch)
    }

    /// The oldest closed epoch, as soon as there is one to be flushed; `None` when nothing is to be done any more.
    pub(crate) fn next(&self) -> Option<Closed<T>> {
        let mut state = self.state.lock();
        loop {
            match (&state.failed, state.closed.front(), state.stopping) {
                (None, Some(closed), _) => return Some(closed.clone()),
                (_, _, true) => return None,
                _ => self.changed.wait(&mut state),
            }
        }
    }

    /// The oldest closed epoch is durable, and its keys are clean.
    pub(crate) fn settled(&self) {
        let mut state = self.state.lock();
        if let Some(Closed { epoch, tag, .. }) = state.closed.pop_front() {
            state.durable = epoch;
            state.durable_tag = Some(tag);
        }
        state.rooms += 1;
        self.changed.notify_all();
    }

    /// Latches a failure, if it is the first.
    pub(crate) fn fail(&self, failure: Failure<E>) {
        let mut state = self.state.lock();
        state.failed.get_or_insert(failure);
        self.changed.notify_all();
    }

    /// Forgets a failed flush: it is tried again.
    pub(crate) fn retry(&self) -> Result<(), Failure<E>> {
        let mut state = self.state.lock();
        if matches!(state.failed, Some(Failure::Stopped)) {
            return state.check();
        }
        state.failed = None;
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until that epoch is durable.
    pub(crate) fn wait(&self, epoch: Epoch) -> Result<(), Refused<E>> {
        self.wait_until(|state| state.durable >= epoch, |state| state.open > epoch)
    }

    /// Waits until an epoch of this tag or a greater one is durable.
    pub(crate) fn wait_tag(&self, tag: &T) -> Result<(), Refused<E>> {
        self.wait_until(
            |state| state.durable_tag.as_ref().is_some_and(|durable| durable >= tag),
            |state| state.last_tag().is_some_and(|last| last >= tag),
        )
    }

    fn wait_until(
        &self,
        done: impl Fn(&State<T, E>) -> bool,
        comes: impl Fn(&State<T, E>) -> bool,
    ) -> Result<(), Refused<E>> {
        let mut state = self.state.lock();
        while !done(&state) {
            state.check().map_err(Refused::Failed)?;
            if !comes(&state) {
                return Err(Refused::NotClosed);
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// How often there may have been more room, for [`Self::wait_for_room`].
    pub(crate) fn rooms(&self) -> Result<u64, Failure<E>> {
        let state = self.state.lock();
        state.check().map(|()| state.rooms)
    }

    /// There may be more room than before.
    pub(crate) fn more_room(&self) {
        self.state.lock().rooms += 1;
        self.changed.notify_all();
    }

    /// Waits until there may be more room than when `seen` was; `false` if no flush is under way that could leave any.
    pub(crate) fn wait_for_room(&self, seen: u64) -> Result<bool, Failure<E>> {
        let mut state = self.state.lock();
        loop {
            state.check()?;
            if state.rooms != seen {
                return Ok(true);
            }
            if state.closed.is_empty() {
                return Ok(false);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits until every closed epoch is durable, then calls `reset` while nobody closes one, and has it that the
    /// backing stands at `tag`.
    pub(crate) fn reset(&self, tag: Option<T>, reset: impl FnOnce()) -> Result<(), Failure<E>> {
        let mut state = self.state.lock();
        loop {
            state.check()?;
            if state.closed.is_empty() {
                break;
            }
            self.changed.wait(&mut state);
        }
        reset();
        state.durable_tag = tag;
        state.rooms += 1;
        self.changed.notify_all();
        Ok(())
    }

    /// The flusher ends when it has flushed what is closed.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }
}
