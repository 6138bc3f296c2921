//! What is on its way between an anchor and its store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use peercache_api::Error;
use tokio::sync::{Mutex, mpsc};

use super::budget::Budget;
use crate::anchor_store::AnchorStore;
use crate::wire::KeyId;

/// The most entries that wait to be stored, and the most bytes of them. Beyond it, entries stay in
/// memory only.
const MAX_WAITING: usize = 16 * 1024;
const MAX_WAITING_BYTES: usize = 64 << 20;
/// The most keys that wait to be looked for. Beyond it, they count as absent.
const MAX_RECALLS: usize = 16 * 1024;

/// An entry that is to be stored.
pub(super) struct Kept {
    pub(super) envelope: Bytes,
    pub(super) is_first: bool,
}

/// The store of an anchor, and what is on its way to it.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) store: Arc<dyn AnchorStore>,
    keep: mpsc::Sender<Kept>,
    recall: mpsc::Sender<KeyId>,
    pub(super) inbox: Mutex<Option<Inbox>>,
    pub(super) waiting: Budget,
    /// Entries that were not stored: there was no room for them, or the store failed.
    not_kept: AtomicU64,
    fails: AtomicBool,
    pub(super) loaded: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) kept: mpsc::Receiver<Kept>,
    pub(super) recalls: mpsc::Receiver<KeyId>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.envelope.len()).finish_non_exhaustive()
    }
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn AnchorStore>) -> Self {
        let ((keep, kept), (recall, recalls)) = (mpsc::channel(MAX_WAITING), mpsc::channel(MAX_RECALLS));
        Self {
            store,
            keep,
            recall,
            inbox: Mutex::new(Some(Inbox { kept, recalls })),
            waiting: Budget::new(MAX_WAITING_BYTES),
            not_kept: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
        }
    }

    /// Takes an entry to be stored soon.
    pub(crate) fn keep(&self, envelope: Bytes, is_first: bool) {
        let bytes = envelope.len();
        if !self.waiting.take(bytes) {
            self.not_kept.fetch_add(1, Ordering::Relaxed);
        } else if self.keep.try_send(Kept { envelope, is_first }).is_err() {
            self.waiting.give_back(bytes);
            self.not_kept.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a key to be looked for. Says whether there was room.
    pub(crate) fn recall(&self, key: KeyId) -> bool {
        self.recall.try_send(key).is_ok()
    }

    /// Bytes that are not stored yet.
    pub(crate) fn unkept(&self) -> usize {
        self.waiting.used()
    }

    pub(crate) fn not_kept(&self) -> u64 {
        self.not_kept.load(Ordering::Relaxed)
    }

    /// Whether everything that was stored before this process has been looked at.
    pub(crate) fn has_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    pub(crate) async fn close(&self) -> Result<(), Error> {
        self.store.close().await
    }

    /// The outcome of a write, told once when it begins to fail and once when it works again.
    pub(super) fn noted(&self, outcome: &Result<(), Error>) {
        match outcome {
            Ok(()) => {
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!("what this anchor holds is stored again");
                }
            }
            Err(error) => {
                self.not_kept.fetch_add(1, Ordering::Relaxed);
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "what this anchor holds is not stored and would be lost at a restart"
                    );
                }
            }
        }
    }
}
