//! The thread that flushes: one closed epoch after the other.
//!
//! ```text
//!   next ──► Backing::apply ──► settle the parts, some hundred keys at a time ──► settled ──► next
//!                 │ error
//!                 └──► failed: waits for a retry
//! ```
//!
//! An epoch leaves the queue when its keys are clean: whoever is told that it is durable finds nothing dirty of it.

use crate::backing::{Backing, NetEffect};
use crate::cache::Inner;
use crate::flow::{Closed, Failure};
use crate::stats::add;
use crate::sync::thread;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

/// Keys that become clean before readers get a turn.
const SETTLED_AT_ONCE: usize = 512;

/// Latches the end of a thread that panics.
struct Alarm<'a, B: Backing>(&'a Inner<B>);

impl<B: Backing> Drop for Alarm<'_, B> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.flow.fail(Failure::Stopped);
        }
    }
}

pub(crate) fn run<B: Backing>(inner: &Inner<B>) {
    let _alarm = Alarm(inner);
    while let Some(closed) = inner.flow.next() {
        if let Err(error) = flush(inner, &closed) {
            add(&inner.counters.failed_flushes, 1);
            inner.flow.fail(Failure::Flush(Arc::new(error)));
        }
    }
}

fn flush<B: Backing>(inner: &Inner<B>, closed: &Closed<B::Tag>) -> Result<(), B::Error> {
    let Closed { epoch, tag, len } = closed;
    let start = Instant::now();
    let net =
        NetEffect { parts: &inner.parts, tag, epoch: *epoch, len: *len, backing: PhantomData };
    let applied = inner.backing.apply(&net);
    inner.counters.applying.since(start);
    applied?;
    let start = Instant::now();
    let (mut values, mut deletions) = (0, 0);
    for part in 0..inner.parts.len() {
        // Locked again each time: a closer or a reader may come in between.
        while let Some(settled) =
            inner.parts.lock(part).map(|mut part| part.settle(SETTLED_AT_ONCE))
        {
            values += settled.values;
            deletions += settled.deletions;
            if !settled.more {
                break;
            }
        }
    }
    inner.counters.settling.since(start);
    add(&inner.counters.puts_flushed, values);
    add(&inner.counters.deletes_flushed, deletions);
    inner.parts.evict_over(|gone| add(&inner.counters.evictions, gone));
    inner.flow.settled();
    Ok(())
}
