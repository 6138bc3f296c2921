//! The chain: a thin face over the reader, the writer and the invalidation.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use peercache_api::{
    BackendInfo, CacheBackend, Clock, Entry, Error, ErrorKind, Fleet, Key, LeaseAnswer, LeaseRequest,
    LeaseToken, Operation, RemovalWatcher, Version, async_trait,
};
use tokio::time::timeout;

use crate::invalidation::Invalidation;
use crate::lease::{Leased, Leases};
use crate::outcome::{Lookup, LookupOptions, PutOutcome, TierPut};
use crate::read::Reader;
use crate::read::explain::{self, Explanation};
use crate::report::{Report, tier_report};
use crate::write::journal::Journal;
use crate::write::queue::{replay, worker};
use crate::write::slot::{Slot, queues};
use crate::write::{WritePolicy, Writer};

/// Several backends that answer as one.
///
/// - A **read** asks the tiers in order, each within its deadline, and stops at the first fresh
///   value. A tombstone or a stale value hides everything older further down.
/// - A **hit** further down is promoted: written to the tiers above it with the same bytes, to
///   memory at once, to slower local tiers in the background (bounded to 64 MiB of values), and to
///   shared tiers through their queues.
/// - A **write** goes to the local tiers at once and to the shared ones through a bounded queue for
///   each ([`WriteBehind`]), and answers tier by tier. What waits is seen by reads of this chain.
/// - **No failure reaches the caller**: [`Chain::lookup`] and [`Chain::write`] cannot fail.
///   Failures are in the trace, the counters and the [`Report`].
///
/// As a [`CacheBackend`] a chain is a tier of another chain; there, a read that found nothing while
/// a tier failed is an error, because absence was not established.
#[derive(Debug)]
pub struct Chain {
    pub(crate) info: BackendInfo,
    pub(crate) slots: Arc<[Slot]>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) writer: Writer,
    pub(crate) invalidation: Arc<Invalidation>,
    pub(crate) leases: Leases,
    pub(crate) journal: Option<Arc<Journal>>,
}

impl Chain {
    /// The clock that this chain goes by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// How many shared tiers must have acknowledged a write before it returns, unless the write
    /// says so itself.
    #[must_use]
    pub fn policy(&self) -> WritePolicy {
        self.writer.policy
    }

    /// Reads `key`. Cannot fail: a tier that fails is passed over, and the trace says why.
    ///
    /// Cancel-safe; a lookup that is dropped is counted as cancelled.
    pub async fn lookup(&self, key: &Key) -> Lookup {
        self.reader.lookup(key, LookupOptions::new()).await
    }

    /// As [`Chain::lookup`], with options of its own.
    pub async fn lookup_with(&self, key: &Key, options: LookupOptions) -> Lookup {
        self.reader.lookup(key, options).await
    }

    /// A fresh value from a local tier, if there is one. Nothing is counted or promoted: this is
    /// for a second look just before something expensive.
    pub async fn peek_local(&self, key: &Key) -> Option<Entry> {
        self.reader.peek_local(key).await
    }

    /// Says tier by tier what a read of `key` would do and why.
    ///
    /// Every tier that may be read is asked once, one after the other, those below a hit included,
    /// each within its own deadline. Nothing is counted, promoted or reported to a breaker; a tier
    /// that is itself a chain does count the read. Races are left out of account.
    ///
    /// Cancel-safe.
    pub async fn explain(&self, key: &Key) -> Explanation {
        explain::explain(&self.reader.sources, key, self.reader.budget).await
    }

    /// Writes `entry` to every tier that may be written and says how each took it: local tiers
    /// before this returns, shared ones in the background, except for as many as the
    /// [`WritePolicy`](crate::WritePolicy) asks for.
    ///
    /// Cancel-safe in that each tier has stored it wholly or not at all; which ones have is
    /// unknown.
    pub async fn write(&self, key: &Key, entry: Entry) -> PutOutcome {
        self.writer.write(key, entry, self.writer.policy, 0).await
    }

    /// As [`Chain::write`], with a policy of its own.
    pub async fn write_with(&self, key: &Key, entry: Entry, policy: WritePolicy) -> PutOutcome {
        self.writer.write(key, entry, policy, 0).await
    }

    /// As [`Chain::write_with`], for one part of a value of `whole` bytes: a tier that has no room
    /// for all of them ([`Capabilities::has_room_for`](peercache_api::Capabilities::has_room_for))
    /// is left out as [`TierPut::TooLarge`], so that the value does not push everything else out of
    /// it for nothing.
    pub async fn write_part(&self, key: &Key, entry: Entry, policy: WritePolicy, whole: u64) -> PutOutcome {
        self.writer.write(key, entry, policy, whole).await
    }

    /// Removes every entry that carries `tag` and is not newer than `version`, by one small write
    /// that goes to every tier and lives for
    /// [`TOMBSTONE_LIFETIME`](peercache_api::TOMBSTONE_LIFETIME).
    ///
    /// In this process at once, and so on every machine that a fleet announces it to. Another
    /// process on this machine notices within a second, another machine without a fleet within 30 s
    /// after the write has reached a tier that both share.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a tag that no entry can have. Never because a tier failed.
    pub async fn invalidate_tag(&self, tag: &str, version: Version) -> Result<PutOutcome, Error> {
        let (key, tombstone) = self.invalidation.invalidate_tag(tag, version)?;
        Ok(self.write(&key, tombstone).await)
    }

    /// Removes everything that is not newer than `version` from every tier, by one small write that
    /// goes to each and lives for [`TOMBSTONE_LIFETIME`](peercache_api::TOMBSTONE_LIFETIME). Only
    /// what has this chain's [namespace](crate::ChainBuilder::namespace) is meant, so a store that
    /// is shared with others keeps theirs.
    ///
    /// In this process at once, and so on every machine that a fleet announces it to. Others notice
    /// if they were built with
    /// [`ChainBuilder::watch_namespace`](crate::ChainBuilder::watch_namespace): a process that
    /// starts, with its first hit; another process on this machine within two seconds; another
    /// machine within 31 s after the write has reached a tier that both share. What was removed is
    /// not erased: it goes when it expires or is evicted.
    pub async fn invalidate_all(&self, version: Version) -> PutOutcome {
        let (key, tombstone) = self.invalidation.invalidate_namespace(version);
        self.write(&key, tombstone).await
    }

    /// The digest of the key under which [`Chain::invalidate_all`] is stored. A notice of its
    /// removal means that everything was removed.
    #[must_use]
    pub fn namespace_digest(&self) -> [u8; 32] {
        self.invalidation.namespace_digest()
    }

    /// Whether a tier coordinates loads with other machines. Where none does, [`Chain::lease`]
    /// answers [`Leased::Alone`] at once.
    #[must_use]
    pub fn coordinates(&self) -> bool {
        self.leases.coordinates()
    }

    /// As [`Chain::coordinates`], unless `lookup` found that tier unhealthy: a caller who has
    /// waited for it once is not to wait again.
    #[must_use]
    pub fn coordinates_after(&self, lookup: &Lookup) -> bool {
        self.leases.coordinates_after(lookup)
    }

    /// Asks the fleet, if there is one, to be the only one that loads `key`, after a lookup that
    /// found nothing; only a value above `newer_than` is of use, which is that lookup's
    /// [`newest`](crate::Lookup::newest).
    ///
    /// Waits for another one's load about as long as loads take
    /// ([`LEASE_WAIT`](crate::LEASE_WAIT) while that is not known, [`LEASE_TTL`](crate::LEASE_TTL)
    /// at most), and for an answer no longer than the tier's deadline for reads beyond that. Cannot
    /// fail: whatever goes wrong is an answer of [`Leased::Alone`], and counted.
    ///
    /// Cancel-safe; a lease that is granted to a call that was dropped ends with
    /// [`LEASE_TTL`](crate::LEASE_TTL).
    pub async fn lease(&self, key: &Key, newer_than: Option<Version>) -> Leased {
        self.leases.lease(key, newer_than).await
    }

    /// Waits until every copy that is being promoted has been written or given up, and every write
    /// that waits for a shared tier has been written or waits for a tier that is unhealthy.
    pub async fn settle(&self) {
        self.invalidation.settle().await;
        self.reader.settle().await;
        for queue in queues(&self.slots) {
            worker::pump(queue);
            queue.settle().await;
        }
    }

    /// Takes over the writes that other processes have left in the journal since they ended, and
    /// begins to deliver them, as building the chain does. Does nothing without a journal. For a
    /// process that runs long beside others that do not.
    ///
    /// Takes effect even if the returned future is dropped.
    pub async fn replay_journal(&self) {
        let Some(journal) = self.journal.clone() else { return };
        let slots = Arc::clone(&self.slots);
        let replayed = tokio::task::spawn_blocking(move || replay::replay(&journal, queues(&slots))).await;
        if let Err(error) = replayed {
            tracing::warn!(%error, "the journal is not replayed");
        }
    }

    /// The counters so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let stats = self.reader.stats();
        let (hits, stale) = (stats.hits.get(), stats.stale.get());
        let (misses, cancelled) = (stats.misses.get(), stats.cancelled.get());
        Report {
            lookups: hits + stale + misses + cancelled,
            hits,
            stale,
            misses,
            cancelled,
            puts: self.writer.puts.get(),
            puts_stored: self.writer.puts_stored.get(),
            promotions: self.reader.promotions(),
            tags: self.invalidation.tag_report(),
            journal: self.journal.as_ref().map(|journal| journal.report()),
            removals: self.invalidation.report(),
            leases: self.leases.report(),
            tiers: self.slots.iter().map(tier_report).collect(),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Chain {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let (_, answer, scan) = self.reader.read(key, LookupOptions::new()).await;
        match answer {
            Some((_, entry)) => Ok(Some(entry)),
            None => scan.without_value(&self.info),
        }
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        let bytes = entry.value().len();
        let outcome = self.write(key, entry).await;
        if outcome.is_stored() || self.slots.is_empty() {
            return Ok(());
        }
        if let Some(error) = outcome.errors().next() {
            return Err(error.clone());
        }
        if outcome.is_queued() {
            let waits = "no tier of the chain has taken it yet; it waits for one that is unhealthy";
            return Err(Error::new(ErrorKind::Unavailable, Operation::Put, waits)
                .with_backend(self.info.name.clone()));
        }
        let too_large = outcome.tiers.iter().any(|tier| matches!(tier.put, TierPut::TooLarge));
        Err(if too_large {
            Error::new(ErrorKind::TooLarge, Operation::Put, "no tier of the chain takes a value of this size")
                .with_context("bytes", bytes)
        } else {
            Error::new(ErrorKind::Denied, Operation::Put, "no tier of the chain may be written")
        }
        .with_backend(self.info.name.clone()))
    }

    /// Healthy while any tier is.
    async fn probe(&self) -> Result<(), Error> {
        let mut first = None;
        for slot in self.slots.iter() {
            match slot.tier.probe().await {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Writes what waits for shared tiers, within
    /// [`WriteBehind::flush_deadline`](crate::WriteBehind::flush_deadline), and leaves the rest to
    /// the journal; closes every tier, each within its deadline for writes, whatever the others
    /// answer; then gives the first error.
    async fn close(&self) -> Result<(), Error> {
        self.reader.settle().await;
        // Local writes, and so quick; a disk that hangs is not waited for.
        let _settled = timeout(Duration::from_secs(1), self.invalidation.settle()).await;
        let waiting = queues(&self.slots).cloned().collect();
        let flushed = replay::finish(waiting, self.journal.as_ref()).await;
        // Not before: what is written goes by them, and one that is stopped is closed.
        self.slots.iter().for_each(|slot| slot.tier.breaker.stop());
        let closed = join_all(self.slots.iter().map(|slot| slot.tier.close())).await;
        closed.into_iter().chain([flushed]).collect()
    }

    /// Where a tier coordinates a fleet, the chain does too.
    fn fleet(&self) -> Option<&dyn Fleet> {
        self.leases.tier().map(|_| self as &dyn Fleet)
    }
}

/// A chain within a chain passes on what its own tier coordinates.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Fleet for Chain {
    async fn lease(&self, key: &Key, request: LeaseRequest) -> Result<LeaseAnswer, Error> {
        self.leases.forward(key, request).await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unsupported, Operation::Lease, "no tier coordinates a fleet")
                .with_backend(self.info.name.clone()))
        })
    }

    fn release(&self, key: &Key, token: LeaseToken) {
        if let Some(tier) = self.leases.tier() {
            tier.notify_fleet(|fleet| fleet.release(key, token));
        }
    }

    /// Removals that any tier announces, once this chain has applied them itself.
    fn watch(&self, watcher: Weak<dyn RemovalWatcher>) {
        self.invalidation.listen(watcher);
    }
}

impl Drop for Chain {
    /// Ends the probing of tiers that are unhealthy, and leaves what waits to the journal if there
    /// is one; everything else ends by itself.
    fn drop(&mut self) {
        self.slots.iter().for_each(|slot| slot.tier.breaker.stop());
        if let Some(journal) = &self.journal {
            replay::abandon(queues(&self.slots), journal);
        }
    }
}
