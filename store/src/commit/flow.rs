//! How far blocks have come, and everybody who waits for it.
//!
//! ```text
//!   submit ──accept──┐    accepted >= published >= durable >= tidied >= settled
//!   hash ────────tell┤       first failure       │
//!        ────publish─┼──► Progress (Mutex) ──► reached: one Condvar for each Milestone ──► who waits for it looks again
//!   log ─────persist─┤                           ▲
//!   commit ─────tidy─┤                           │ all of them
//!          ───settle─┤                           │
//!   any failure ─────┴─poison ───────────────────┘
//! ```
//!
//! Invariants:
//! * Heights go back in one way, [`Flow::roll_back`], when nothing is on its way.
//! * It moves only after what it announces is true, under its lock, and tells the waiters after. Whoever waits names the
//!   milestone that what he waits for comes with, and is woken by no other.
//! * The first failure is latched; every waiter sees it.
//! * A waiter that is a future looks and leaves its waker under the lock of the progress, so that no
//!   movement falls between. It leaves one at most, and takes it back when it is dropped.

use crate::Error;
use crate::commit::sync::{Condvar, Mutex};
use hedgerow_types::Height;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How far blocks have come.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) accepted: Height,
    pub(crate) published: Height,
    pub(crate) durable: Height,
    /// Up to here, what follows the log is written as far as it has to be, and what the durable blocks
    /// made needless has been deleted.
    pub(crate) tidied: Height,
    /// What everything that follows the log now and then, the manifest above all, has come to.
    pub(crate) settled: Height,
    /// Log bytes of the blocks that are accepted and not yet durable.
    pub(crate) bytes: BTreeMap<Height, u64>,
    pub(crate) poison: Option<Arc<Error>>,
    /// How often it went back. What was accepted before is settled, whatever the heights say now.
    pub(crate) rollbacks: u64,
}

impl Progress {
    /// Whether a block of `height`, accepted after so many rollbacks, is published.
    pub(crate) fn has_published(&self, height: Height, rollbacks: u64) -> bool {
        self.published >= height || self.rollbacks > rollbacks
    }

    /// The same for durable.
    pub(crate) fn has_persisted(&self, height: Height, rollbacks: u64) -> bool {
        self.durable >= height || self.rollbacks > rollbacks
    }

    /// Whether all that was accepted is settled, and nothing failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.poison.is_none() && self.settled >= self.accepted
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }
}

/// What a block comes to, one after the other but for the first two, and what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Milestone {
    /// Its root is known.
    Root,
    Published,
    Durable,
    Tidied,
    Settled,
}

/// How many there are.
const MILESTONES: usize = Milestone::Settled as usize + 1;

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Flow {
    progress: Mutex<Progress>,
    /// By milestone.
    reached: [Condvar; MILESTONES],
    /// The futures that wait, by the height that they wait for. Locked after `progress`, if both are.
    wakers: Mutex<Wakers>,
}

#[derive(Debug, Default)]
struct Wakers {
    waiting: BTreeMap<(Height, u64), Waker>,
    /// The number of the next future.
    next: u64,
}

impl Flow {
    /// Everything up to `height` is durable, up to `settled` the manifest says so.
    pub(crate) fn new(height: Height, settled: Height) -> Self {
        let progress = Progress {
            accepted: height,
            published: height,
            durable: height,
            tidied: height,
            settled,
            bytes: BTreeMap::new(),
            poison: None,
            rollbacks: 0,
        };
        let wakers = Mutex::new(Wakers::default());
        Self { progress: Mutex::new(progress), reached: Default::default(), wakers }
    }

    /// These were reached: wakes the threads that wait for one of them.
    fn reached(&self, milestones: &[Milestone]) {
        for milestone in milestones {
            self.reached[*milestone as usize].notify_all();
        }
    }

    /// Wakes the futures that wait for a height up to this one: nothing is published beyond it, and nothing durable that
    /// is not published.
    fn wake_up_to(&self, published: Height) {
        let woken = {
            let mut wakers = self.wakers.lock();
            let later = wakers.waiting.split_off(&(published.next(), 0));
            std::mem::replace(&mut wakers.waiting, later)
        };
        // Without the locks: a waker is the caller's code.
        woken.into_values().for_each(Waker::wake);
    }

    /// Wakes everybody, whatever they wait for.
    fn wake_all(&self) {
        for condition in &self.reached {
            condition.notify_all();
        }
        let woken = std::mem::take(&mut self.wakers.lock().waiting);
        woken.into_values().for_each(Waker::wake);
    }

    /// Looks at how far things are. Every waiter waits for the end of `look`.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Progress) -> T) -> T {
        look(&self.progress.lock())
    }

    /// # Errors
    /// [`Error::Poisoned`] if the store failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.look(Progress::check)
    }

    /// A block of so many log bytes was accepted. Nobody waits for that.
    pub(crate) fn accept(&self, height: Height, bytes: u64) {
        let mut progress = self.progress.lock();
        progress.accepted = height;
        progress.bytes.insert(height, bytes);
    }

    /// Readers see the state after `height`. Whoever hands a block on before saying so may be overtaken
    /// by [`persist`](Self::persist).
    pub(crate) fn publish(&self, height: Height) {
        let published = {
            let mut progress = self.progress.lock();
            progress.published = progress.published.max(height);
            progress.published
        };
        self.reached(&[Milestone::Root, Milestone::Published]);
        self.wake_up_to(published);
    }

    /// Everything up to `height` is published and survives power loss.
    pub(crate) fn persist(&self, height: Height) {
        let published = {
            let mut progress = self.progress.lock();
            progress.published = progress.published.max(height);
            progress.durable = height;
            progress.bytes = progress.bytes.split_off(&height.next());
            progress.published
        };
        self.reached(&[Milestone::Root, Milestone::Published, Milestone::Durable]);
        self.wake_up_to(published);
    }

    /// What the blocks up to `height` made needless has been deleted, as far as it could be.
    pub(crate) fn tidy(&self, height: Height) {
        {
            let mut progress = self.progress.lock();
            progress.tidied = height;
        }
        self.reached(&[Milestone::Tidied]);
    }

    /// Everything that is tidied is settled.
    pub(crate) fn settle(&self) {
        {
            let mut progress = self.progress.lock();
            progress.settled = progress.tidied;
        }
        self.reached(&[Milestone::Settled]);
    }

    /// Everything goes back to `height`; all that was accepted was settled.
    pub(crate) fn roll_back(&self, height: Height) {
        {
            let mut progress = self.progress.lock();
            (progress.accepted, progress.published) = (height, height);
            (progress.durable, progress.tidied, progress.settled) = (height, height, height);
            progress.rollbacks += 1;
        }
        // Whoever waits for a height above has it since before.
        self.wake_all();
    }

    /// The root of a block was set, which is not a part of the progress.
    pub(crate) fn tell_root(&self) {
        drop(self.progress.lock()); // nobody is between looking and waiting
        self.reached(&[Milestone::Root]);
    }

    /// Latches the first failure and wakes everybody.
    pub(crate) fn poison(&self, error: Error) {
        let cause = match error {
            Error::Poisoned { cause } => cause,
            other => Arc::new(other),
        };
        let first = {
            let mut progress = self.progress.lock();
            let first = progress.poison.is_none();
            progress.poison.get_or_insert_with(|| Arc::clone(&cause));
            first
        };
        self.wake_all();
        if first {
            // Without the lock: whoever listens may ask how far things are.
            tracing::error!(error = %cause, "the store stops");
        }
    }

    /// Waits until `ready` says so, which is asked again when a block comes to this milestone.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed before.
    pub(crate) fn wait_for<T>(
        &self,
        milestone: Milestone,
        mut ready: impl FnMut(&Progress) -> Option<T>,
    ) -> Result<T, Error> {
        let mut progress = self.progress.lock();
        loop {
            if let Some(value) = ready(&progress) {
                return Ok(value);
            }
            progress.check()?;
            self.reached[milestone as usize].wait(&mut progress);
        }
    }

    /// As [`wait_for`](Self::wait_for), for something that comes when `height` is published or later.
    pub(crate) fn future<T, F>(self: &Arc<Self>, height: Height, ready: F) -> FlowFuture<F>
    where
        F: Fn(&Progress) -> Option<T> + Unpin,
    {
        let number = {
            let mut wakers = self.wakers.lock();
            wakers.next += 1;
            wakers.next
        };
        FlowFuture { flow: Arc::clone(self), place: (height, number), ready }
    }

    /// Waits until fewer than `blocks` blocks of less than `bytes` bytes are on their way, or none.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed.
    pub(crate) fn wait_for_room(&self, blocks: usize, bytes: u64) -> Result<(), Error> {
        self.wait_for(Milestone::Durable, |progress| {
            let in_flight = progress.bytes.len();
            let size: u64 = progress.bytes.values().sum();
            let room = in_flight < blocks && size < bytes;
            (progress.poison.is_none() && (in_flight == 0 || room)).then_some(())
        })
    }
}

/// Waits without a thread. See [`Flow::future`].
pub(crate) struct FlowFuture<F> {
    flow: Arc<Flow>,
    /// Of its waker.
    place: (Height, u64),
    ready: F,
}

impl<T, F: Fn(&Progress) -> Option<T> + Unpin> Future for FlowFuture<F> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.flow.look(|progress| {
            if let Some(value) = (self.ready)(progress) {
                return Poll::Ready(Ok(value));
            }
            if let Err(error) = progress.check() {
                return Poll::Ready(Err(error));
            }
            self.flow.wakers.lock().waiting.insert(self.place, context.waker().clone());
            Poll::Pending
        })
    }
}

impl<F> Drop for FlowFuture<F> {
    fn drop(&mut self) {
        self.flow.wakers.lock().waiting.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One waker per future, however often it is asked; none after it has its answer or is dropped.
    #[test]
    fn futures_leave_nothing_behind() {
        shuttle::check_random(futures_come_and_go, 1);
    }

    fn futures_come_and_go() {
        let flow = Arc::new(Flow::new(Height(0), Height(0)));
        let waiting = || flow.wakers.lock().waiting.len();
        let mut context = Context::from_waker(Waker::noop());
        let durable = |height| {
            let ready = move |at: &Progress| (at.durable >= Height(height)).then_some(());
            Box::pin(flow.future(Height(height), ready))
        };
        let (mut first, mut second, mut third) = (durable(1), durable(2), durable(3));
        for _ in 0..1_000 {
            for future in [&mut first, &mut second, &mut third] {
                assert!(future.as_mut().poll(&mut context).is_pending());
            }
        }
        assert_eq!(waiting(), 3);
        drop(third);
        assert_eq!(waiting(), 2);
        (1..=3).for_each(|height| flow.accept(Height(height), 1));
        flow.persist(Height(1));
        assert_eq!(waiting(), 1, "who waits for a later height is not woken");
        assert!(matches!(first.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
        flow.poison(Error::Closed);
        assert_eq!(waiting(), 0);
        assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Err(_))));
        assert_eq!(waiting(), 0);
    }
}
