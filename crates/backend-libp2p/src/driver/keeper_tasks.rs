//! The tasks that carry what an anchor keeps to its store and back, off the core's lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use peercache_api::{Key, envelope};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::engine::Engine;
use super::keeper::{Inbox, Keeper, Kept};
use crate::core::Event;
use crate::wire::KeyId;

/// How many keys are looked for at a time.
const RECALLS_AT_ONCE: usize = 16;

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
