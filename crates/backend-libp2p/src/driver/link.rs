//! A connection with a peer that has proved itself, as the rest of the driver knows it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::budget::Budget;
use super::lane::Traffic;
use super::outgoing::SMALL_BYTES;
use super::queue::{Parcel, Queue};
use crate::wire::{Message, PeerKey};

/// A link that has been silent for so long gives way to a new one, whoever dialled it.
const STALE: Duration = Duration::from_secs(3);

/// What may wait for one peer, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    pub(crate) small: usize,
    pub(crate) bulk: usize,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: PeerKey,
    /// Whether this node dialled it.
    pub(crate) dialled: bool,
    /// The process at the other end.
    pub(crate) instance: u64,
    /// Where the other end is.
    pub(crate) remote: String,
    pub(crate) small: Arc<Queue>,
    pub(crate) bulk: Arc<Queue>,
    pub(crate) traffic: Arc<Traffic>,
    /// When something was heard, in milliseconds of the engine's clock.
    heard: AtomicU64,
    closing: Notify,
    why: OnceLock<&'static str>,
}

impl Link {
    pub(crate) fn new(
        (peer, dialled, instance): (PeerKey, bool, u64),
        remote: String,
        limits: QueueLimits,
        total: &Arc<Budget>,
        traffic: Traffic,
    ) -> Self {
        Self {
            peer,
            dialled,
            instance,
            remote,
            small: Arc::new(Queue::new(limits.small, Arc::clone(total))),
            bulk: Arc::new(Queue::new(limits.bulk, Arc::clone(total))),
            traffic: Arc::new(traffic),
            heard: AtomicU64::new(0),
            closing: Notify::new(),
            why: OnceLock::new(),
        }
    }

    /// Queues `message` on the lane for its length; gives it back when there is no room. The lane
    /// is not woken: see [`Link::wake`].
    pub(crate) fn push(&self, message: Message) -> Result<(), Message> {
        let (head, body) = message.encode();
        let parcel = Parcel { head, body };
        let queue = if parcel.len() <= SMALL_BYTES { &self.small } else { &self.bulk };
        if queue.push(parcel) { Ok(()) } else { Err(message) }
    }

    pub(crate) fn wake(&self) {
        self.small.wake();
        self.bulk.wake();
    }

    pub(crate) fn heard_at(&self, now: Duration) {
        self.heard.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// Asks the connection's task to end.
    pub(crate) fn close(&self, why: &'static str) {
        self.why.get_or_init(|| why);
        self.closing.notify_one();
    }

    /// Waits for [`Link::close`]. May be cancelled.
    pub(crate) async fn closed(&self) -> &'static str {
        loop {
            if let Some(why) = self.why.get() {
                return why;
            }
            self.closing.notified().await;
        }
    }

    /// Whether this link stays when another one with the same peer appears, whose other end is
    /// `instance`. Both sides come to the same answer: of two that were dialled crosswise, the one
    /// that the smaller key dialled stays; of two that the same side dialled, the later. But a link
    /// to a process that is gone, or that is silent, never stays.
    pub(crate) fn outlasts(&self, me: PeerKey, dialled: bool, instance: u64, now: Duration) -> bool {
        let wins = self.dialled == (me < self.peer);
        self.instance == instance && self.dialled != dialled && wins && self.silent_for(now) < STALE
    }

    /// Whether this node, having dialled the peer again, has no need of it.
    pub(crate) fn suffices(&self, me: PeerKey, now: Duration) -> bool {
        (self.dialled || self.peer < me) && self.silent_for(now) < STALE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: PeerKey = PeerKey([1; 32]);
    const GREAT: PeerKey = PeerKey([2; 32]);

    fn link(peer: PeerKey, dialled: bool) -> Link {
        let limits = QueueLimits { small: 1 << 20, bulk: 1 << 20 };
        Link::new(
            (peer, dialled, 7),
            String::new(),
            limits,
            &Arc::new(Budget::new(1 << 20)),
            Traffic::default(),
        )
    }

    #[test]
    fn both_sides_keep_the_same_one_of_two_links_dialled_crosswise() {
        let now = Duration::from_secs(1);
        // As the smaller one sees it: its own dial stays. As the greater one sees it: the same.
        assert!(link(GREAT, true).outlasts(SMALL, false, 7, now));
        assert!(!link(GREAT, false).outlasts(SMALL, true, 7, now));
        assert!(link(SMALL, false).outlasts(GREAT, true, 7, now));
        assert!(!link(SMALL, true).outlasts(GREAT, false, 7, now));
    }

    #[test]
    fn a_link_gives_way_to_a_later_one_of_the_same_side_a_new_process_or_when_it_is_silent() {
        let now = Duration::from_secs(1);
        assert!(!link(SMALL, false).outlasts(GREAT, false, 7, now));
        assert!(!link(SMALL, false).outlasts(GREAT, true, 8, now));
        assert!(!link(SMALL, false).outlasts(GREAT, true, 7, STALE));
    }

    #[test]
    fn short_messages_are_small_and_long_ones_are_bulk() {
        let link = link(SMALL, true);
        let hit = |len: usize| Message::Hit { req: 1, envelope: vec![0; len].into() };
        link.push(hit(SMALL_BYTES - 10)).unwrap();
        assert_eq!(link.bulk.bytes(), 0);
        link.push(hit(SMALL_BYTES - 9)).unwrap();
        assert!(link.bulk.bytes() > SMALL_BYTES);
        assert_eq!(link.push(hit(2 << 20)), Err(hit(2 << 20)), "there is no room");
    }
}
