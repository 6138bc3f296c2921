//! What the tasks of the exchange share.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use peercache_api::Operation;
use tokio::sync::Notify;

use super::peers::Peers;
use super::seal::Sealer;
use super::settled::Settled;
use crate::report::SyncCounters;
use crate::rpc::Trouble;
use crate::store::Store;

/// Beats that ask for the roots of others, unless one comes before: about ten seconds of them.
pub(super) const ASKING: u32 = 20;

/// What the tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) counters: SyncCounters,
    pub(super) sealer: Sealer,
    pub(super) peers: Peers,
    pub(super) settled: Settled,
    pub(super) topic: String,
    /// Announcements that are not published yet.
    pub(super) waiting: AtomicUsize,
    pub(super) published: Notify,
    pub(super) error: Mutex<Option<String>>,
    /// How many more beats ask the other nodes for their roots: the node has just come, or come
    /// back.
    pub(super) asking: AtomicU32,
    /// That somebody asks for our root.
    pub(super) asked: Notify,
    /// Entries that are being taken over.
    pub(super) adopting: AtomicUsize,
    /// Links that the node has not written to its repository.
    pub(super) unflushed: AtomicUsize,
}

impl Shared {
    pub(super) fn new(store: Arc<Store>, sealer: Sealer) -> Self {
        let topic = format!("peercache/{}/1", store.layout.prefix());
        Self {
            store,
            counters: SyncCounters::default(),
            sealer,
            peers: Peers::default(),
            settled: Settled::default(),
            topic,
            waiting: AtomicUsize::new(0),
            published: Notify::new(),
            error: Mutex::new(None),
            asking: AtomicU32::new(ASKING),
            asked: Notify::new(),
            adopting: AtomicUsize::new(0),
            unflushed: AtomicUsize::new(0),
        }
    }

    /// Counts announcements that wait no longer.
    pub(super) fn done(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        self.published.notify_waiters();
    }

    /// Notes that something failed, for the report, and once in the log.
    pub(super) fn failed(&self, trouble: Trouble) {
        let text = trouble.explain(Operation::Open, &self.store.settings.api).to_string();
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if error.as_ref() != Some(&text) {
            tracing::warn!("sharing with other IPFS nodes does not work: {text}");
            *error = Some(text);
        }
    }

    /// Notes that it works.
    pub(super) fn works(&self) {
        if self.error.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("sharing with other IPFS nodes works again");
        }
    }
}
