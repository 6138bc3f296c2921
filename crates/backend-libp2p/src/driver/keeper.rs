//! Carries what an anchor keeps to its store and back, off the core's lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use peercache_api::{Error, Key, envelope};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::budget::Budget;
use super::engine::Engine;
use crate::anchor_store::AnchorStore;
use crate::core::Event;
use crate::wire::KeyId;

/// The most entries that wait to be stored, and the most bytes of them. Beyond it, entries stay in
/// memory only.
const MAX_WAITING: usize = 16 * 1024;
const MAX_WAITING_BYTES: usize = 64 << 20;
/// The most keys that wait to be looked for. Beyond it, they count as absent.
const MAX_RECALLS: usize = 16 * 1024;
/// How many are looked for at a time.
const RECALLS_AT_ONCE: usize = 16;

/// An entry that is to be stored.
struct Kept {
    envelope: Bytes,
    is_first: bool,
}

/// The store of an anchor, and what is on its way to it.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Arc<dyn AnchorStore>,
    keep: mpsc::Sender<Kept>,
    recall: mpsc::Sender<KeyId>,
    inbox: Mutex<Option<Inbox>>,
    waiting: Budget,
    /// Entries that were not stored: there was no room for them, or the store failed.
    not_kept: AtomicU64,
    fails: AtomicBool,
    loaded: AtomicBool,
}

#[derive(Debug)]
struct Inbox {
    kept: mpsc::Receiver<Kept>,
    recalls: mpsc::Receiver<KeyId>,
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
    fn noted(&self, outcome: &Result<(), Error>) {
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

/// The tasks of `engine`'s keeper, if it has one. To be called once.
pub(crate) async fn tasks(engine: &Arc<Engine>) -> Vec<JoinHandle<()>> {
    let Some(keeper) = engine.keeper.clone() else { return Vec::new() };
    let Some(Inbox { kept, recalls }) = keeper.inbox.lock().await.take() else { return Vec::new() };
    let all = || (Arc::clone(engine), Arc::clone(&keeper));
    let ((one, k1), (two, k2), (three, k3)) = (all(), all(), all());
    vec![
        tokio::spawn(async move { store_all(one, k1, kept).await }),
        tokio::spawn(async move { look_for_all(two, k2, recalls).await }),
        tokio::spawn(async move { load(three, k3).await }),
    ]
}

async fn store_all(engine: Arc<Engine>, keeper: Arc<Keeper>, mut kept: mpsc::Receiver<Kept>) {
    while let Some(Kept { envelope, is_first }) = kept.recv().await {
        let bytes = envelope.len();
        if let Ok((digest, entry)) = envelope::decode_unkeyed(envelope) {
            let (key, version) = (Key::from_digest(digest), entry.version());
            let outcome = keeper.store.put(&key, entry).await;
            keeper.noted(&outcome);
            // What was stored before this process may be newer than what a peer has just brought.
            if outcome.is_ok()
                && is_first
                && let Ok(Some(stored)) = keeper.store.get(&key).await
                && stored.version() > version
            {
                let envelope = Some(envelope::encode(&key, &stored));
                engine.tell(Event::Recalled { key: KeyId::from(&key), envelope });
            }
        }
        keeper.waiting.give_back(bytes);
    }
}

async fn look_for_all(engine: Arc<Engine>, keeper: Arc<Keeper>, mut recalls: mpsc::Receiver<KeyId>) {
    let mut running = JoinSet::new();
    while let Some(id) = recalls.recv().await {
        while running.len() >= RECALLS_AT_ONCE {
            // A task that failed has been answered for by the core's own limit.
            let _ = running.join_next().await;
        }
        while running.try_join_next().is_some() {}
        let (engine, keeper) = (Arc::clone(&engine), Arc::clone(&keeper));
        running.spawn(async move {
            let key = Key::from_digest(id.0);
            let found = keeper.store.get(&key).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the store of this anchor could not be asked");
                None
            });
            let envelope = found.map(|entry| envelope::encode(&key, &entry));
            engine.tell(Event::Recalled { key: id, envelope });
        });
    }
}

/// Takes back what was stored before this process, as far as the memory has room.
async fn load(engine: Arc<Engine>, keeper: Arc<Keeper>) {
    let (mut from, mut count) = (None, 0_u64);
    'all: loop {
        let page = match keeper.store.page(from).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "what this anchor held before could not be read whole");
                break;
            }
        };
        for (key, entry) in page.entries {
            if !engine.restore(envelope::encode(&key, &entry)) {
                // The rest is looked for when somebody asks for it.
                break 'all;
            }
            count += 1;
        }
        from = match page.next {
            Some(next) => Some(next),
            None => break,
        };
    }
    keeper.loaded.store(true, Ordering::Release);
    if count > 0 {
        tracing::info!(entries = count, "this anchor holds again what it held before");
    }
}
