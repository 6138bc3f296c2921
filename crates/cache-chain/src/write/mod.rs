//! Writing: local tiers at once, shared ones through their queues, and each says how it took it.

pub(crate) mod journal;
mod policy;
pub(crate) mod queue;
pub(crate) mod slot;

use std::sync::Arc;

use futures_util::future::{join, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use peercache_api::util::Count;
use peercache_api::{Clock, Entry, Error, Key, Operation};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

pub use self::policy::WritePolicy;
use self::queue::worker::pump;
use self::queue::{Offer, WriteQueue};
use self::slot::Slot;
use crate::outcome::{PutOutcome, PutResult, TierPut};
use crate::tier::{Taken, Tier};

/// Gets the result of a write that waits for a shared tier.
type Receiver = oneshot::Receiver<Result<(), Error>>;

/// Writes to the tiers of a chain.
#[derive(Debug)]
pub(crate) struct Writer {
    slots: Arc<[Slot]>,
    clock: Arc<dyn Clock>,
    /// How many shared tiers must have acknowledged a write that does not say so itself.
    pub(crate) policy: WritePolicy,
    pub(crate) puts: Count,
    /// Writes that at least one tier took.
    pub(crate) puts_stored: Count,
}

impl Writer {
    pub(crate) fn new(slots: &Arc<[Slot]>, clock: &Arc<dyn Clock>, policy: WritePolicy) -> Self {
        let (slots, clock) = (Arc::clone(slots), Arc::clone(clock));
        Self { slots, clock, policy, puts: Count::default(), puts_stored: Count::default() }
    }

    /// Writes `entry` to every tier that may be written and says how each took it: local tiers
    /// before this returns, shared ones in the background, except for as many as `policy` asks for.
    /// A tier without room for a value of `whole` bytes, which the entry is a part of, is left out.
    ///
    /// Cancel-safe in that each tier has stored it wholly or not at all; which ones have is
    /// unknown.
    pub(crate) async fn write(&self, key: &Key, entry: Entry, policy: WritePolicy, whole: u64) -> PutOutcome {
        self.puts.add(1);
        let places = || self.slots.iter().enumerate();
        let local = places().filter(|(_, slot)| slot.queue.is_none());
        let local = join_all(
            local.map(async |(index, slot)| (index, self.write_tier(&slot.tier, key, &entry, whole).await)),
        );
        let shared: Vec<_> =
            places().filter_map(|(index, slot)| Some((index, &slot.tier, slot.queue.as_ref()?))).collect();
        let (local, offered) = if shared.is_empty() {
            (local.await, Vec::new())
        } else {
            let offers = shared
                .iter()
                .map(async |(index, tier, queue)| (*index, offer(tier, queue, key, &entry, whole).await));
            join(local, join_all(offers)).await
        };

        let mut puts: Vec<_> = self.slots.iter().map(|_| TierPut::Queued).collect();
        let held = local.iter().any(|(_, put)| matches!(put, TierPut::Stored));
        for (index, put) in local {
            puts[index] = put;
        }
        let mut receivers = Vec::new();
        for (index, (put, receiver)) in offered {
            puts[index] = put;
            receivers.extend(receiver.map(|receiver| (index, receiver)));
        }
        let wanted = policy.acknowledgements(receivers.len(), held);
        if wanted > 0 {
            self.wait_for(wanted, receivers, &mut puts).await;
        }
        for (put, slot) in puts.iter().zip(self.slots.iter()) {
            if matches!(put, TierPut::Failed(_)) {
                slot.tier.missed.note(key, entry.version());
            }
        }
        let tiers = self.slots.iter().zip(puts).map(|(slot, put)| result(&slot.tier, put)).collect();
        let outcome = PutOutcome { tiers };
        if outcome.is_stored() {
            self.puts_stored.add(1);
        }
        outcome
    }

    /// Waits until `wanted` of the tiers have the write, or it is known of all how the first
    /// attempt went, or each has had its deadline.
    async fn wait_for(&self, wanted: usize, receivers: Vec<(usize, Receiver)>, puts: &mut [TierPut]) {
        let started = Instant::now();
        let mut answers: FuturesUnordered<_> = receivers
            .into_iter()
            .map(|(index, receiver)| async move {
                let tier = &self.slots[index].tier;
                let answer = match timeout_at(started + tier.write_deadline, receiver).await {
                    Ok(Ok(answer)) => answer,
                    // The queue is gone without an answer: the runtime is shutting down.
                    Ok(Err(_)) => return (index, None),
                    Err(_) => Err(tier.timeout_error(Operation::Put, tier.write_deadline)),
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

    async fn write_tier(&self, tier: &Tier, key: &Key, entry: &Entry, whole: u64) -> TierPut {
        if !tier.writes() {
            tier.stats.put_skipped.add(1);
            return TierPut::Mode;
        }
        if !tier.info().capabilities.has_room_for(whole) {
            tier.stats.put_skipped.add(1);
            return TierPut::TooLarge;
        }
        match tier.put_counted(key, entry, &*self.clock).await {
            Ok(Taken::Stored) => TierPut::Stored,
            Ok(Taken::TooLarge) => TierPut::TooLarge,
            Err(error) => TierPut::Failed(error),
        }
    }
}

/// Puts a write into a shared tier's queue. No caller waits for a tier whose breaker is open.
async fn offer(
    tier: &Tier,
    queue: &Arc<WriteQueue>,
    key: &Key,
    entry: &Entry,
    whole: u64,
) -> (TierPut, Option<Receiver>) {
    if !tier.info().capabilities.has_room_for(whole) {
        tier.stats.put_skipped.add(1);
        return (TierPut::TooLarge, None);
    }
    let (written, taken) = tier.fitting(entry);
    let put = match taken {
        Taken::Stored => TierPut::Queued,
        Taken::TooLarge => {
            tier.stats.put_skipped.add(1);
            TierPut::TooLarge
        }
    };
    match queue.offer(key, written).await {
        Offer::Waits(receiver) => {
            pump(queue);
            (put, tier.breaker.allow().then_some(receiver))
        }
        Offer::Refused(error) => (TierPut::Failed(error), None),
    }
}

fn result(tier: &Tier, put: TierPut) -> PutResult {
    PutResult { tier: tier.info().name.clone(), durable: tier.info().capabilities.durable, put }
}
