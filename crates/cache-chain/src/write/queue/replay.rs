//! Taking over what processes that have ended left in the journal, and ending in good order.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use peercache_api::Error;

use super::WriteQueue;
use super::worker::pump;
use crate::write::journal::{Journal, Orphan};

/// Lets `queues` take over what is in `journal`, unless they are closed. A segment with writes for
/// a tier that has none of them is left to a process that has it, until all of it is too old.
pub(crate) fn replay<'a>(journal: &Journal, queues: impl Iterator<Item = &'a Arc<WriteQueue>>) {
    let queues: HashMap<_, _> = queues.map(|queue| (queue.name(), queue)).collect();
    if queues.values().any(|queue| !queue.is_open()) {
        return;
    }
    let orphans = match journal.orphans() {
        Ok(orphans) => orphans,
        Err(error) => return tracing::warn!(%error, "the journal is not replayed"),
    };
    for orphan in orphans {
        let known = orphan.writes().iter().all(|(tier, ..)| queues.contains_key(tier.as_str()));
        if !known && !is_too_old(&orphan, &queues) {
            continue;
        }
        for (tier, key, entry, queued) in orphan.writes() {
            if let Some(queue) = queues.get(tier.as_str()) {
                queue.replay(key, entry.clone(), *queued);
            }
        }
        if queues.values().any(|queue| !queue.is_open()) {
            // It was closed meanwhile, and has perhaps refused some of them: all stay for the next.
            return;
        }
        if let Err(error) = orphan.remove() {
            // It is replayed once more by the next process, which changes nothing.
            tracing::warn!(%error, "a journal segment that was taken over cannot be removed");
        }
    }
    queues.into_values().for_each(pump);
}

/// Whether no process could deliver any of it, judged by the bounds of any queue there is.
fn is_too_old(orphan: &Orphan, queues: &HashMap<&str, &Arc<WriteQueue>>) -> bool {
    let Some(queue) = queues.values().next() else { return false };
    let now = queue.clock.now();
    orphan.writes().iter().all(|(_, _, entry, queued)| now.saturating_since(*queued) >= queue.age_of(entry))
}

/// Writes what waits for as long as the queues' deadlines allow, then leaves the rest to the
/// journal, or drops it where there is none. From then on the queues take nothing in.
pub(crate) async fn finish(
    queues: Vec<Arc<WriteQueue>>,
    journal: Option<&Arc<Journal>>,
) -> Result<(), Error> {
    join_all(queues.iter().map(async |queue| {
        queue.begin_flush();
        pump(queue);
        // A tier whose breaker is open would only cost the deadline.
        if queue.tier.breaker.allow() {
            // What is left after the deadline is what the next lines are for.
            let _ = tokio::time::timeout(queue.limits.flush_deadline, queue.drained()).await;
        }
    }))
    .await;
    let Some(journal) = journal.cloned() else {
        queues.iter().for_each(|queue| queue.finish());
        return Ok(());
    };
    let work = move || {
        queues.iter().for_each(|queue| queue.finish());
        journal.close()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(closed) => closed,
        // The runtime is shutting down; what is in the journal is in the journal.
        Err(_) => Ok(()),
    }
}

/// Leaves what waits to the journal at once. Does nothing after [`finish`].
pub(crate) fn abandon<'a>(queues: impl Iterator<Item = &'a Arc<WriteQueue>>, journal: &Journal) {
    queues.for_each(|queue| queue.finish());
    if let Err(error) = journal.close() {
        tracing::warn!(%error, "the next process reads the journal as it is");
    }
}
