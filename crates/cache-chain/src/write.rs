//! Writing: local tiers at once, shared ones through their queues, and each says how it took it.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::{join, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use peercache_api::{Entry, Error, Key, NodeId, Operation, Timestamp, Version};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::behind::{Taken, pump};
use crate::chain::Chain;
use crate::lookup::{PutOutcome, PutResult, TierPut};
use crate::stats::CancelGuard;
use crate::tier::{Call, Tier, timeout_error};

/// A write that waits for a shared tier: the tier's place, and who tells how it went.
type Waiting = (usize, oneshot::Receiver<Result<(), Error>>);

impl Chain {
    /// Writes `entry` to every tier that may be written and says how each took it: local tiers before
    /// this returns, shared ones in the background, except for as many as the
    /// [`WritePolicy`](crate::WritePolicy) asks for.
    ///
    /// Cancel-safe in that each tier has stored it wholly or not at all; which ones have is unknown.
    pub async fn write(&self, key: &Key, entry: Entry) -> PutOutcome {
        self.stats.puts.add(1);
        let version = entry.version();
        let (local, shared): (Vec<_>, Vec<_>) =
            self.tiers.iter().enumerate().partition(|(_, tier)| tier.behind.is_none());
        let local = join_all(
            local.iter().map(async |(index, tier)| (*index, self.write_tier(tier, key, &entry).await)),
        );
        let (local, waiting) = if shared.is_empty() {
            (local.await, Vec::new())
        } else {
            let offers = shared.iter().map(async |(index, tier)| (*index, offer(tier, key, &entry).await));
            join(local, join_all(offers)).await
        };

        let mut puts: Vec<_> = self.tiers.iter().map(|_| TierPut::Queued).collect();
        let mut told = Vec::new();
        for (index, put) in local {
            puts[index] = put;
        }
        let held = puts
            .iter()
            .zip(&self.tiers)
            .any(|(put, tier)| tier.behind.is_none() && matches!(put, TierPut::Stored));
        for (index, (put, receiver)) in waiting {
            puts[index] = put;
            told.extend(receiver.map(|receiver| (index, receiver)));
        }
        let wanted = self.policy.acknowledgements(told.len(), held);
        if wanted > 0 {
            self.wait_for(wanted, told, &mut puts).await;
        }
        for (put, tier) in puts.iter().zip(&self.tiers) {
            if matches!(put, TierPut::Failed(_)) {
                tier.missed.note(key, version);
            }
        }
        let outcome =
            PutOutcome { tiers: self.tiers.iter().zip(puts).map(|(tier, put)| result(tier, put)).collect() };
        if outcome.is_stored() {
            self.stats.puts_stored.add(1);
        }
        outcome
    }

    /// Waits until `wanted` of the tiers have the write, or it is known of all how the first attempt
    /// went, or each has had its deadline.
    async fn wait_for(&self, wanted: usize, told: Vec<Waiting>, puts: &mut [TierPut]) {
        let started = Instant::now();
        let mut answers: FuturesUnordered<_> = told
            .into_iter()
            .map(|(index, receiver)| async move {
                let deadline = self.tiers[index].write_deadline;
                let answer = match timeout_at(started + deadline, receiver).await {
                    Ok(Ok(answer)) => answer,
                    // The queue went away without a word: the runtime is shutting down.
                    Ok(Err(_)) => return (index, None),
                    Err(_) => Err(timeout_error(&self.tiers[index], Operation::Put, deadline)),
                };
                (index, Some(answer))
            })
            .collect();
        let mut acknowledged = 0;
        while acknowledged < wanted
            && let Some((index, answer)) = answers.next().await
        {
            puts[index] = match (answer, &puts[index]) {
                (Some(Ok(())), TierPut::TooLarge) => TierPut::TooLarge,
                (Some(Ok(())), _) => {
                    acknowledged += 1;
                    TierPut::Stored
                }
                (Some(Err(error)), _) => TierPut::Failed(error),
                (None, _) => continue,
            };
        }
    }

    async fn write_tier(&self, tier: &Tier, key: &Key, entry: &Entry) -> TierPut {
        if !tier.writes() {
            tier.stats.put_skipped.add(1);
            return TierPut::Mode;
        }
        let (written, too_large) = fitting(tier, entry);
        let bytes = written.value().len() as u64;
        let cancel = CancelGuard::new(&tier.stats.put_cancelled);
        let started = self.clock.monotonic();
        let call = tier.put(key, written, &*self.clock).await;
        cancel.ended();
        tier.stats.put_latency.record(self.clock.monotonic().saturating_sub(started));
        if !matches!(call, Call::Done(())) {
            // At once: the caller may go away before the other tiers have answered.
            tier.missed.note(key, entry.version());
        }
        match call {
            Call::Done(()) if too_large => {
                tier.stats.put_skipped.add(1);
                TierPut::TooLarge
            }
            Call::Done(()) => {
                tier.stats.stored.add(1);
                tier.stats.bytes_written.add(bytes);
                TierPut::Stored
            }
            Call::Failed(error) => {
                tracing::debug!(tier = tier.name(), operation = "put", %error, "tier failed");
                tier.stats.put_errors.add(1);
                tier.stats.note(&error);
                TierPut::Failed(error)
            }
            Call::TimedOut(deadline) => {
                let error = timeout_error(tier, Operation::Put, deadline);
                tier.stats.put_timeouts.add(1);
                tier.stats.note(&error);
                TierPut::Failed(error)
            }
        }
    }
}

/// Puts a write into a shared tier's queue. Nobody is to wait for a tier whose breaker is open.
fn offer<'a>(
    tier: &'a Arc<Tier>,
    key: &'a Key,
    entry: &Entry,
) -> impl Future<Output = (TierPut, Option<oneshot::Receiver<Result<(), Error>>>)> + Send + use<'a> {
    let (written, too_large) = fitting(tier, entry);
    async move {
        let Some(behind) = &tier.behind else { return (TierPut::Mode, None) };
        if too_large {
            tier.stats.put_skipped.add(1);
        }
        let put = if too_large { TierPut::TooLarge } else { TierPut::Queued };
        match behind.offer(key, written).await {
            Taken::Waits(told) => {
                pump(tier);
                (put, tier.breaker.allow().then_some(told))
            }
            Taken::Refused(error) => (TierPut::Failed(error), None),
        }
    }
}

/// `entry`, or what stands for it in a tier that does not take one of its size.
fn fitting(tier: &Tier, entry: &Entry) -> (Entry, bool) {
    let too_large = entry.value().len() > tier.info().capabilities.max_value_bytes;
    (if too_large { burial(entry) } else { entry.clone() }, too_large)
}

fn result(tier: &Tier, put: TierPut) -> PutResult {
    PutResult { tier: tier.info().name.clone(), durable: tier.info().capabilities.durable, put }
}

/// The tombstone for what a tier holds that is older than `entry`, where `entry` itself does not fit there
/// or into what waits for it: an upper tier would otherwise go on serving the value that was replaced. Its version lies just below
/// the entry's, so tiers further down still answer.
pub(crate) fn burial(entry: &Entry) -> Entry {
    Entry::tombstone(just_below(entry.version()), entry.metadata().created)
}

/// The greatest version below `version`; none is below [`Version::ZERO`].
fn just_below(version: Version) -> Version {
    let Version { wall, counter, node } = version;
    if node.as_u64() > 0 {
        return Version { node: NodeId::from_u64(node.as_u64() - 1), ..version };
    }
    let node = NodeId::from_u64(u64::MAX);
    if counter > 0 {
        return Version { wall, counter: counter - 1, node };
    }
    match wall.as_millis() {
        0 => Version::ZERO,
        millis => Version { wall: Timestamp::from_millis(millis - 1), counter: u32::MAX, node },
    }
}
