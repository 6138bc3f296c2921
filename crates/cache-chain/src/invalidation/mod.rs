//! Invalidation: whether an entry that was found somewhere has been removed.
//!
//! A key can be removed by its own tombstone, by one of its tags, or with its whole namespace; by
//! this process, by another one on this machine, or by another machine. [`Invalidation::verdict`]
//! is the one place where a read asks.

mod namespace;
mod notices;
mod removed_keys;
mod tags;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use peercache_api::util::Count;
use peercache_api::{Clock, Entry, Error, Key, RemovalWatcher, Version};
use serde::Serialize;
use tokio::time::timeout;

use self::namespace::Namespace;
use self::notices::Notices;
pub(crate) use self::removed_keys::Removal;
use self::removed_keys::RemovedKeys;
pub use self::tags::TagReport;
use self::tags::{Due, Seen, Tags};
use crate::tier::Call;
use crate::write::slot::Slot;

/// The longest that a hit waits for a look at the namespace's horizon: the first hit in a local
/// tier and the first one in a shared tier wait, and for the local tiers one hit each second.
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// Removals received from other machines, and looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RemovalReport {
    /// Removals that others made and that were news here.
    pub received: u64,
    /// Of those, the ones that every local tier has a tombstone for now.
    pub persisted: u64,
    /// Of those, the ones that a local tier did not take, or that found no room to wait for it.
    /// This process applies them all the same.
    pub not_persisted: u64,
    /// How often the whole namespace was invalidated through this chain.
    pub namespace: u64,
    /// Reads of tiers to see whether the namespace was invalidated elsewhere. They are not among
    /// the lookups.
    pub lookups: u64,
}

/// Why an entry that was found is not to be used.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// One of its tags was invalidated as of this version.
    Tagged(Version),
    /// A local tier further down has this tombstone for it.
    Tombstone(Entry),
}

/// What a chain knows about removals besides what its tiers hold.
#[derive(Debug)]
pub(crate) struct Invalidation {
    myself: Weak<Self>,
    slots: Arc<[Slot]>,
    clock: Arc<dyn Clock>,
    removed: RemovedKeys,
    tags: Tags,
    namespace: Namespace,
    notices: Arc<Notices>,
    listeners: Mutex<Vec<Weak<dyn RemovalWatcher>>>,
    received: Count,
    /// Whether a local tier lies below a shared one, so that what it knows is not seen first.
    local_below_shared: bool,
}

impl Invalidation {
    /// `looks` says whether the tiers are asked for a horizon of the namespace.
    pub(crate) fn new(
        namespace: String,
        looks: bool,
        slots: &Arc<[Slot]>,
        clock: &Arc<dyn Clock>,
    ) -> Arc<Self> {
        let tiers = || slots.iter().map(|slot| &slot.tier);
        let local = tiers().filter(|tier| tier.is_local() && tier.writes()).cloned().collect();
        Arc::new_cyclic(|myself| Self {
            myself: Weak::clone(myself),
            slots: Arc::clone(slots),
            clock: Arc::clone(clock),
            removed: RemovedKeys::default(),
            namespace: Namespace::new(&namespace, looks, slots),
            tags: Tags::new(namespace),
            notices: Notices::new(local, clock),
            listeners: Mutex::default(),
            received: Count::default(),
            local_below_shared: tiers().skip_while(|tier| tier.is_local()).any(|tier| tier.is_local()),
        })
    }

    /// Up to where `key` is known to be removed, by itself or with its namespace. Asks no tier. A
    /// removal that claims to come from the future, because the clock was set back since, does not
    /// count.
    #[inline]
    pub(crate) fn known(&self, key: &Key) -> Option<Removal> {
        let (removed, horizon) = (self.removed.get(key.digest()), self.namespace.horizon());
        if removed.is_none() && horizon.is_none() {
            return None;
        }
        let now = self.clock.now();
        let known = removed.into_iter().chain(horizon);
        known.filter(|removal| !removal.version.is_from_future(now)).max_by_key(|removal| removal.version)
    }

    /// Why `entry`, which was found in the tier at `index` or waits to be written to it, is not to
    /// be used; nothing if it may be. `ask_shared` says whether it is in proportion to ask shared
    /// tiers about its tags.
    pub(crate) async fn verdict(
        &self,
        index: usize,
        key: &Key,
        entry: &Entry,
        ask_shared: bool,
    ) -> Option<Verdict> {
        if !entry.metadata().tags.is_empty()
            && let Some(version) = self.removed_by_tag(entry, ask_shared).await
        {
            return Some(Verdict::Tagged(version));
        }
        if self.local_below_shared
            && !self.slots[index].tier.is_local()
            && let Some(tombstone) = Box::pin(self.tombstone_below(index, key, entry.version())).await
        {
            return Some(Verdict::Tombstone(tombstone));
        }
        None
    }

    /// A tombstone for `version` of `key` in a local tier below `index`.
    async fn tombstone_below(&self, index: usize, key: &Key, version: Version) -> Option<Entry> {
        let now = self.clock.now();
        let below = self.slots[index + 1..].iter().filter(|slot| slot.reads_locally());
        for tier in below.map(|slot| &slot.tier).filter(|tier| tier.breaker.allow()) {
            if let Call::Done(Some(held)) = tier.peek(key).await
                && held.is_tombstone()
                && held.version() >= version
                && !held.is_from_future(now)
            {
                return Some(held);
            }
        }
        None
    }

    /// The newest that any local tier, or any shared one, holds or is to be given under `key`.
    /// Reads are counted in `lookups` alone.
    async fn ask_tiers(&self, key: &Key, local: bool, lookups: &Count) -> Option<Entry> {
        let asked = self.slots.iter().filter(|slot| slot.tier.is_local() == local && slot.tier.reads());
        let held = join_all(asked.map(async |slot| {
            let waiting = slot.pending(key);
            if !slot.tier.breaker.allow() {
                return waiting;
            }
            lookups.add(1);
            let held = match slot.tier.peek(key).await {
                Call::Done(held) => held,
                // Nothing is known, which is what was known before.
                Call::Failed(_) | Call::TimedOut(_) => None,
            };
            waiting.into_iter().chain(held).max_by_key(Entry::version)
        }));
        let now = self.clock.now();
        let newest = held.await.into_iter().flatten().filter(|entry| !entry.is_from_future(now));
        newest.max_by_key(Entry::version)
    }

    /// Writes a removal that the shared tiers know of to the local ones, so that it is still known
    /// here when those are away.
    async fn keep_locally(&self, key: &Key, tombstone: &Entry) {
        let local = self.slots.iter().map(|slot| &slot.tier).filter(|tier| tier.is_local());
        for tier in local.filter(|tier| tier.reads() && tier.writes()) {
            // A failure is in the tier's report.
            let _kept = tier.keep_removal(key, tombstone, &*self.clock).await;
        }
    }

    pub(crate) fn report(&self) -> RemovalReport {
        RemovalReport {
            received: self.received.get(),
            persisted: self.notices.persisted.get(),
            not_persisted: self.notices.not_persisted.get(),
            namespace: self.namespace.invalidated.get(),
            lookups: self.namespace.lookups.get(),
        }
    }

    /// Waits until every removal that was received so far was written to the local tiers, or given
    /// up.
    pub(crate) async fn settle(&self) {
        self.notices.settle().await;
    }
}

/// Tags.
impl Invalidation {
    /// Invalidates `tag` in this process; the answer is what to write so that others know.
    pub(crate) fn invalidate_tag(&self, tag: &str, version: Version) -> Result<(Key, Entry), Error> {
        let key = self.tags.key(tag)?;
        self.tags.invalidated.add(1);
        self.tags.learn(tag, version, self.clock.now());
        Ok((key, Entry::tombstone(version, self.clock.now())))
    }

    pub(crate) fn tag_report(&self) -> TagReport {
        self.tags.report()
    }

    /// If `entry` was removed by one of its tags: as of which version.
    async fn removed_by_tag(&self, entry: &Entry, ask_shared: bool) -> Option<Version> {
        let mut removed = None;
        for tag in &entry.metadata().tags {
            let version = self.tag_version(tag, ask_shared).await;
            if version >= Some(entry.version())
                && version.is_some_and(|version| !version.is_from_future(self.clock.now()))
            {
                removed = removed.max(version);
            }
        }
        removed
    }

    async fn tag_version(&self, tag: &str, ask_shared: bool) -> Option<Version> {
        let now = self.clock.monotonic();
        let (seen, due) = self.tags.consult(tag, now);
        let announced = self.announced_tag(tag, seen);
        if !due.near && !due.far {
            return seen.version.max(announced);
        }
        // Boxed, so that a hit in memory does not carry the room for it.
        Box::pin(self.look_up_tag(tag, ask_shared, due, now)).await
    }

    /// Up to where other machines have announced the invalidation of `tag`.
    fn announced_tag(&self, tag: &str, seen: Seen) -> Option<Version> {
        if !self.removed.any() {
            return None;
        }
        let version = self.removed.get(&self.tags.digest(tag, seen)?)?.version;
        self.tags.learn(tag, version, self.clock.now());
        Some(version)
    }

    async fn look_up_tag(&self, tag: &str, ask_shared: bool, due: Due, now: Duration) -> Option<Version> {
        if due.near {
            self.learn_tag(tag, true).await;
            self.tags.asked(tag, Some(now), None);
        }
        if due.far {
            self.tags.asked(tag, None, Some(now));
            if ask_shared {
                self.look_up_shared_tag(tag).await;
            } else if let Some(myself) = self.myself.upgrade() {
                // A hit on this machine does not wait for another one.
                let tag = tag.to_owned();
                tokio::spawn(async move { myself.look_up_shared_tag(&tag).await });
            }
        }
        self.tags.version(tag)
    }

    /// What the local tiers, or the shared ones, know about `tag`.
    async fn learn_tag(&self, tag: &str, local: bool) -> Option<(Key, Entry)> {
        let key = self.tags.key(tag).ok()?;
        let newest = self.ask_tiers(&key, local, &self.tags.lookups).await?;
        self.tags.learn(tag, newest.version(), self.clock.now());
        Some((key, newest))
    }

    async fn look_up_shared_tag(&self, tag: &str) {
        let before = self.tags.version(tag);
        if let Some((key, newest)) = self.learn_tag(tag, false).await
            && Some(newest.version()) > before
        {
            self.keep_locally(&key, &newest).await;
        }
    }
}

/// The whole namespace.
impl Invalidation {
    /// Invalidates everything in this process; the answer is what to write so that others know.
    pub(crate) fn invalidate_namespace(&self, version: Version) -> (Key, Entry) {
        let tombstone = Entry::tombstone(version, self.clock.now());
        self.namespace.invalidated.add(1);
        self.namespace.learn(Removal::of(&tombstone), self.clock.now());
        (self.namespace.key().clone(), tombstone)
    }

    /// The digest of the key under which the invalidation of the namespace is stored.
    pub(crate) fn namespace_digest(&self) -> [u8; 32] {
        *self.namespace.key().digest()
    }

    /// Whether the tiers are to be asked for a horizon, for the sake of a hit in the tier at
    /// `index`, which has just answered. Reads no clock.
    #[inline]
    pub(crate) fn is_horizon_due(&self, index: usize) -> bool {
        let tier = &self.slots[index].tier;
        self.namespace.is_due(tier.latency.second(), !tier.is_local())
    }

    /// Asks the tiers whose turn it is. The very first hit in a shared tier waits for what the
    /// shared tiers say, and no later one does.
    pub(crate) async fn look_for_horizon(&self, index: usize) {
        let (tier, namespace) = (&self.slots[index].tier, &self.namespace);
        let due = namespace.claim(tier.latency.second());
        if namespace.durable {
            if !namespace.near_first.initialized() {
                namespace.near_first.get_or_init(|| self.look_near()).await;
            } else if due.near {
                self.look_near().await;
            }
        }
        if namespace.shared {
            if !tier.is_local() && !namespace.far_first.initialized() {
                namespace.far_first.get_or_init(|| self.look_far(LONGEST_LOOK)).await;
            } else if due.far {
                self.look_far(Duration::ZERO).await;
            }
        }
    }

    async fn look_near(&self) {
        // A disk that hangs is not waited for; the next look may find it in order.
        let _learnt = timeout(LONGEST_LOOK, self.learn_horizon(true)).await;
    }

    /// Asks the shared tiers in the background, and waits for that for `wait` at most.
    async fn look_far(&self, wait: Duration) {
        let Some(myself) = self.myself.upgrade() else { return };
        let look = tokio::spawn(async move {
            if let Some(newest) = myself.learn_horizon(false).await {
                myself.keep_locally(myself.namespace.key(), &newest).await;
            }
        });
        if !wait.is_zero() {
            let _done = timeout(wait, look).await;
        }
    }

    /// What the local tiers, or the shared ones, know about the namespace, if it is news.
    async fn learn_horizon(&self, local: bool) -> Option<Entry> {
        let newest = self.ask_tiers(self.namespace.key(), local, &self.namespace.lookups).await?;
        self.namespace.learn(Removal::of(&newest), self.clock.now()).then_some(newest)
    }
}

/// Notices from other machines.
impl Invalidation {
    /// Passes every removal that is received from now on to `listener` as well.
    pub(crate) fn listen(&self, listener: Weak<dyn RemovalWatcher>) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(listener);
    }
}

impl RemovalWatcher for Invalidation {
    fn removed(&self, key: &[u8; 32], tombstone: &Entry) {
        let removal = Removal::of(tombstone);
        let now = self.clock.now();
        if !tombstone.is_tombstone() || tombstone.is_from_future(now) {
            return;
        }
        let news = match self.namespace.key().digest() == key {
            true => self.namespace.learn(removal, now),
            false => self.removed.learn(key, removal, now),
        };
        if !news {
            return;
        }
        self.received.add(1);
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        listeners.iter().filter_map(Weak::upgrade).for_each(|listener| listener.removed(key, tombstone));
        self.notices.persist(*key, removal);
    }
}
