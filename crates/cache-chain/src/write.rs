//! Writing: to every writable tier at once, and each says how it took it.

use futures_util::future::join_all;
use peercache_api::{Entry, Key, NodeId, Operation, Timestamp, Version};

use crate::chain::Chain;
use crate::lookup::{PutOutcome, PutResult, TierPut};
use crate::stats::CancelGuard;
use crate::tier::{Call, Tier, timeout_error};

impl Chain {
    /// Writes `entry` to every tier that may be written, all at once, and says how each took it.
    ///
    /// Cancel-safe in that each tier has stored it wholly or not at all; which ones have is unknown.
    pub async fn write(&self, key: &Key, entry: Entry) -> PutOutcome {
        self.stats.puts.add(1);
        let tiers = join_all(self.tiers.iter().map(|tier| self.write_tier(tier, key, &entry))).await;
        let outcome = PutOutcome { tiers };
        if outcome.is_stored() {
            self.stats.puts_stored.add(1);
        }
        outcome
    }

    async fn write_tier(&self, tier: &Tier, key: &Key, entry: &Entry) -> PutResult {
        let bytes = entry.value().len();
        let put = if !tier.writes() {
            tier.stats.put_skipped.add(1);
            TierPut::Mode
        } else {
            let too_large = bytes > tier.info().capabilities.max_value_bytes;
            let written = if too_large { burial(entry) } else { entry.clone() };
            let cancel = CancelGuard::new(&tier.stats.put_cancelled);
            let started = self.clock.monotonic();
            let call = tier.put(key, written, &*self.clock).await;
            cancel.ended();
            tier.stats.put_latency.record(self.clock.monotonic().saturating_sub(started));
            match call {
                Call::Done(()) if too_large => {
                    tier.stats.put_skipped.add(1);
                    TierPut::TooLarge
                }
                Call::Done(()) => {
                    tier.stats.stored.add(1);
                    tier.stats.bytes_written.add(bytes as u64);
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
        };
        PutResult { tier: tier.info().name.clone(), durable: tier.info().capabilities.durable, put }
    }
}

/// The tombstone for what a tier holds that is older than `entry`, where `entry` itself does not fit:
/// an upper tier would otherwise go on serving the value that was replaced. Its version lies just below
/// the entry's, so tiers further down still answer.
fn burial(entry: &Entry) -> Entry {
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
