//! The entries of one cache: a chain, the namespace of its keys, and the clock that makes versions.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend as _, Entry, Key, Scope, Timestamp, Version, VersionClock};
use peercache_chain::{Chain, Lookup, LookupOptions, PutOutcome, WritePolicy};

/// What values, small and large, are stored in. Cloning it gives another handle to the same
/// entries.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chain: Chain,
    versions: VersionClock,
    namespace: String,
    default_ttl: Duration,
}

impl Entries {
    pub(crate) fn new(
        chain: Chain,
        versions: VersionClock,
        namespace: String,
        default_ttl: Duration,
    ) -> Self {
        Self { inner: Arc::new(Inner { chain, versions, namespace, default_ttl }) }
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.inner.chain
    }

    /// How long values are fresh where nothing else is said.
    pub(crate) fn default_ttl(&self) -> Duration {
        self.inner.default_ttl
    }

    /// The key as it is stored.
    pub(crate) fn scope(&self, key: &Key) -> Key {
        if self.inner.namespace.is_empty() { key.clone() } else { key.scoped(&self.inner.namespace) }
    }

    pub(crate) async fn lookup_with(&self, key: &Key, options: LookupOptions) -> Lookup {
        let lookup = self.inner.chain.lookup_with(&self.scope(key), options).await;
        // Also for a removal: what this process loads next is newer than that. What this process
        // wrote itself is known, and the chain has passed over what comes from the future: so a hit
        // in memory neither locks the version clock nor reads the time for it.
        if let Some(newest) = lookup.newest {
            self.observe(newest);
        }
        lookup
    }

    /// Writes what comes above a version that others have made, which the chain has found not to be
    /// from the future.
    pub(crate) fn observe(&self, version: Version) {
        if version.node != self.inner.versions.node() {
            self.inner.versions.observe(version, version.wall);
        }
    }

    /// Stores `entry` under the key as it is stored.
    pub(crate) async fn write_scoped(&self, scoped: &Key, entry: Entry, policy: WritePolicy) -> PutOutcome {
        self.inner.chain.write_with(scoped, entry, policy).await
    }

    pub(crate) async fn write(&self, key: &Key, entry: Entry, policy: WritePolicy) -> PutOutcome {
        self.write_scoped(&self.scope(key), entry, policy).await
    }

    /// Writes a part of a value of at least `whole` bytes, to the tiers that have room for all of
    /// it.
    pub(crate) async fn write_part(
        &self,
        key: &Key,
        entry: Entry,
        policy: WritePolicy,
        whole: u64,
    ) -> PutOutcome {
        self.inner.chain.write_part(&self.scope(key), entry, policy, whole).await
    }

    /// A version above every one that this cache has made or seen.
    pub(crate) fn next_version(&self) -> Version {
        let before = self.inner.versions.corrections();
        let version = self.inner.versions.next(self.now());
        if self.inner.versions.corrections() > before {
            tracing::warn!("the clock was set back: what was written ahead of it is not used any more");
        }
        version
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.chain.clock().now()
    }

    /// Whether a tier is shared with other machines.
    pub(crate) fn is_shared(&self) -> bool {
        self.inner.chain.info().capabilities.scope == Scope::Shared
    }

    /// Which shared tiers a write waits for.
    pub(crate) fn policy(&self) -> WritePolicy {
        self.inner.chain.policy()
    }
}
