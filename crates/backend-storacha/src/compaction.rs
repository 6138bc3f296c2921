//! Takes superseded writes out of a crowded root, without a moment in which a reader finds nothing.
//!
//! Every write is in both roots of its key, and a root is compacted in its own slots alone. So
//! while one root is empty, between its removal and what is added after it, the other one is whole.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ipld_core::ipld::Ipld;
use peercache_api::Key;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::{Task, multihash};
use crate::layout::Roots;
use crate::report::count;
use crate::request_error::RequestError;
use crate::slots::{next_slot, slot_now};
use crate::store::{CROWDED, Store, add, digests, remove};
use crate::ucan::map;

/// A compaction begins in the first part of its slot, so that it ends well before the next one.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
/// How long the removal and the addition after it may take each.
const STEP_TIMEOUT: Duration = Duration::from_millis(1200);
/// The most keys that wait to be compacted; a key that finds no room is compacted after a later
/// write.
const MAX_WAITING: usize = 1024;

/// The task that compacts, and the keys that it is given.
#[derive(Debug)]
pub(crate) struct Compaction {
    keys: mpsc::Sender<Key>,
    task: JoinHandle<()>,
}

impl Compaction {
    /// Starts on the runtime of the caller; `None` where there is none.
    pub(crate) fn start(store: Arc<Store>) -> Option<Self> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let (keys, waiting) = mpsc::channel(MAX_WAITING);
        Some(Self { keys, task: runtime.spawn(run(store, waiting)) })
    }

    /// Has this key compacted when its time comes.
    pub(crate) fn ask(&self, key: &Key) {
        // A full queue is no loss: the next write of the key asks again.
        if self.keys.try_send(key.clone()).is_err() {
            tracing::debug!("too many keys wait to be compacted");
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[allow(clippy::mutable_key_type, reason = "a key's bytes are never changed; `Bytes` counts its owners")]
async fn run(store: Arc<Store>, mut waiting: mpsc::Receiver<Key>) {
    let mut keys = HashSet::new();
    while let Some(key) = waiting.recv().await {
        keys.insert(key);
        while let Ok(key) = waiting.try_recv() {
            keys.insert(key);
        }
        // Each root has its turn once.
        for _ in 0..2 {
            let which = next_slot().await;
            for key in &keys {
                if slot_now().1 > BEGIN_WITHIN {
                    break;
                }
                match compact(&store, key, which).await {
                    Ok(()) => {}
                    Err(error) => {
                        count(&store.counters.compactions_missed);
                        tracing::debug!(?error, "a root could not be compacted");
                    }
                }
            }
        }
        keys.clear();
    }
}

async fn compact(store: &Store, key: &Key, which: usize) -> Result<(), RequestError> {
    let roots = Roots::of(&store.prefix, key);
    let shards = store.shards(&roots).await?;
    let crowded = &shards.0[which];
    if crowded.len() < CROWDED {
        return Ok(());
    }
    let all = shards.all();
    let Some((newest, _)) = store.newest_head(key, &all).await? else { return Ok(()) };
    let (root, other) = (roots.0[which], roots.0[1 - which]);
    if !shards.0[1 - which].contains(&newest) {
        store.client.invoke(&[add(other, &[newest])]).await?.remove(0).ok()?;
    }
    if slot_now().0 != which || slot_now().1 > BEGIN_WITHIN {
        return Ok(());
    }
    let removed = within_step(store.client.invoke(&[remove(root)])).await?.remove(0);
    // Writes that came in between are not known yet and stay.
    let mut kept = vec![newest];
    if let Ok(ok) = removed.ok() {
        kept.extend(digests(ok).into_iter().filter(|digest| !all.contains(digest)));
    }
    within_step(store.client.invoke(&[add(root, &kept)])).await?.remove(0).ok()?;
    count(&store.counters.compactions);
    let gone: Vec<_> = crowded
        .iter()
        .filter(|digest| !kept.contains(digest) && !shards.0[1 - which].contains(digest))
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let tasks: Vec<_> = gone
        .iter()
        .map(|digest| Task {
            can: "space/blob/remove",
            nb: map([("digest", Ipld::Bytes(multihash(**digest)))]),
        })
        .collect();
    for (outcome, digest) in store.client.invoke(&tasks).await?.iter().zip(gone) {
        if outcome.ok().is_ok() {
            store.forget(digest);
            count(&store.counters.superseded);
        }
    }
    Ok(())
}

async fn within_step<T>(step: impl Future<Output = Result<T, RequestError>>) -> Result<T, RequestError> {
    tokio::time::timeout(STEP_TIMEOUT, step)
        .await
        .unwrap_or_else(|_| Err(RequestError::BrokenOff("it did not come in time".into())))
}
