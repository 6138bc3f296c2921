//! What waits to be sent on one lane: bounded in bytes, for this peer and over all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use super::budget::Budget;

/// What a queued message costs beyond its bytes.
const OVERHEAD: usize = 128;

/// An encoded message: what is said about an envelope, and the envelope, which is not copied.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
}

impl Parcel {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn cost(&self) -> usize {
        self.len() + OVERHEAD
    }
}

/// The queue of one lane. Whoever pushes calls [`Queue::wake`] when he is done, so that many
/// messages leave in one write.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    reader: AtomicWaker,
    /// Whether anything was pushed since the lane was woken.
    fresh: AtomicBool,
    most: usize,
    total: Arc<Budget>,
}

#[derive(Debug, Default)]
struct Waiting {
    parcels: VecDeque<Parcel>,
    /// Also what was popped and is not released yet.
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Holds at most `most` bytes, which count towards `total`.
    pub(crate) fn new(most: usize, total: Arc<Budget>) -> Self {
        Self {
            waiting: Mutex::default(),
            reader: AtomicWaker::new(),
            fresh: AtomicBool::new(false),
            most,
            total,
        }
    }

    /// False when there is no room: the parcel is not taken.
    pub(crate) fn push(&self, parcel: Parcel) -> bool {
        let mut waiting = self.lock();
        let cost = parcel.cost();
        if waiting.closed || waiting.bytes + cost > self.most || !self.total.take(cost) {
            return false;
        }
        waiting.bytes += cost;
        waiting.parcels.push_back(parcel);
        self.fresh.store(true, Ordering::Release);
        true
    }

    /// Wakes the lane, if anything was pushed since this was called last.
    pub(crate) fn wake(&self) {
        if self.fresh.swap(false, Ordering::AcqRel) {
            self.reader.wake();
        }
    }

    /// Whom [`Queue::wake`] wakes. Register before looking.
    pub(crate) fn register(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    /// Until the next [`Queue::register`] nobody is woken: the lane is about to look anyway.
    pub(crate) fn hush(&self) {
        drop(self.reader.take());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().parcels.is_empty()
    }

    /// The next parcel, if `fits`. Its bytes stay counted until [`Queue::release`].
    pub(crate) fn pop_if(&self, fits: impl FnOnce(usize) -> bool) -> Option<Parcel> {
        let mut waiting = self.lock();
        let next = waiting.parcels.front()?;
        if fits(next.len()) { waiting.parcels.pop_front() } else { None }
    }

    /// A popped parcel of `len` bytes has gone.
    pub(crate) fn release(&self, len: usize) {
        let cost = len + OVERHEAD;
        self.lock().bytes -= cost;
        self.total.give_back(cost);
    }

    /// Bytes that wait, with those being written.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Drops what waits and takes nothing more.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let dropped: usize = waiting.parcels.drain(..).map(|parcel| parcel.cost()).sum();
        waiting.bytes -= dropped;
        self.total.give_back(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let left = self.lock().bytes;
        self.total.give_back(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(len: usize) -> Parcel {
        Parcel { head: Bytes::new(), body: vec![0; len].into() }
    }

    #[test]
    fn a_queue_is_bounded_in_bytes_until_they_are_written() {
        let total = Arc::new(Budget::new(10_000));
        let queue = Queue::new(3 * (1000 + OVERHEAD), Arc::clone(&total));
        assert!((0..3).all(|_| queue.push(parcel(1000))));
        assert!(!queue.push(parcel(0)));
        let popped = queue.pop_if(|_| true).unwrap();
        assert!(!queue.push(parcel(0)), "it is not written yet");
        queue.release(popped.len());
        assert!(queue.push(parcel(1000)));
        assert!(queue.pop_if(|len| len < 1000).is_none());
    }

    #[test]
    fn all_queues_together_are_bounded_and_give_back_what_they_held() {
        let total = Arc::new(Budget::new(2 * (1000 + OVERHEAD)));
        let (one, other) = (Queue::new(1 << 20, Arc::clone(&total)), Queue::new(1 << 20, Arc::clone(&total)));
        assert!(one.push(parcel(1000)) && other.push(parcel(1000)));
        assert!(!one.push(parcel(0)) && !other.push(parcel(0)));
        one.close();
        assert!(!one.push(parcel(0)), "it is closed");
        assert!(other.push(parcel(1000)));
        drop((one, other));
        assert_eq!(total.used(), 0);
    }
}
