//! Taking over what processes that have ended left in the journal, and ending in good order.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use peercache_api::Error;

use super::{Behind, pump};
use crate::journal::{Journal, Orphan};
use crate::tier::Tier;

/// Lets the queues of `tiers` take over what is in `journal`. A segment with writes for a tier that is
/// not among them is left to a process that has it, until all of it is too old.
pub(crate) fn replay(journal: &Journal, tiers: &[Arc<Tier>]) {
    let queues: HashMap<_, _> =
        tiers.iter().filter_map(|tier| tier.behind.as_ref()).map(|behind| (behind.name(), behind)).collect();
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
            if let Some(behind) = queues.get(tier.as_str()) {
                behind.replay(key, entry.clone(), *queued);
            }
        }
        if let Err(error) = orphan.remove() {
            // It is replayed once more by the next process, which changes nothing.
            tracing::warn!(%error, "a journal segment that was taken over cannot be removed");
        }
    }
    tiers.iter().for_each(pump);
}

/// Whether no process could deliver any of it, judged by the bounds of any queue there is.
fn is_too_old(orphan: &Orphan, queues: &HashMap<&str, &Arc<Behind>>) -> bool {
    let Some(behind) = queues.values().next() else { return false };
    orphan
        .writes()
        .iter()
        .all(|(_, _, entry, queued)| behind.clock.now().saturating_since(*queued) >= behind.age_of(entry))
}

/// Writes what waits for as long as the queues' deadlines allow, then leaves the rest to the journal, or
/// drops it where there is none. From then on the queues take nothing in.
pub(crate) async fn finish(tiers: &[Arc<Tier>], journal: Option<&Arc<Journal>>) -> Result<(), Error> {
    join_all(tiers.iter().filter_map(|tier| Some((tier, tier.behind.as_ref()?))).map(
        async |(tier, behind)| {
            behind.begin_flush();
            pump(tier);
            // A tier that is left alone would only cost the deadline.
            if tier.breaker.allow() {
                // What is left after the deadline is what the next lines are for.
                let _ = tokio::time::timeout(behind.limits.flush_deadline, behind.drained()).await;
            }
        },
    ))
    .await;
    let queues: Vec<_> = tiers.iter().filter_map(|tier| tier.behind.clone()).collect();
    let Some(journal) = journal.cloned() else {
        queues.iter().for_each(|behind| behind.finish());
        return Ok(());
    };
    let work = move || {
        queues.iter().for_each(|behind| behind.finish());
        journal.close()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(closed) => closed,
        // The runtime is shutting down; what is in the journal is in the journal.
        Err(_) => Ok(()),
    }
}

/// Leaves what waits to the journal at once. Does nothing after [`finish`].
pub(crate) fn abandon(tiers: &[Arc<Tier>], journal: &Journal) {
    tiers.iter().filter_map(|tier| tier.behind.as_ref()).for_each(|behind| behind.finish());
    if let Err(error) = journal.close() {
        tracing::warn!(%error, "the next process reads the journal as it is");
    }
}
