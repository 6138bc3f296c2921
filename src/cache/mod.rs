//! The cache: typed values over a chain of backends.

mod builder;
mod fetch;
mod fetch_error;
mod fetch_options;
mod loads;
mod report;
mod ttl;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{
    CacheBackend, Clock, Entry, EntryBuilder, Error, ErrorKind, Key, Operation, Scope, Timestamp, Version,
    VersionClock,
};
use peercache_chain::{Chain, Explanation, Leased, Lookup, LookupOptions, PutOutcome, WritePolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::large::{self, LargeStats, MAX_WHOLE_BYTES, StreamOptions};
use builder::Details;
use loads::Loads;

pub use builder::CacheBuilder;
pub use fetch_error::FetchError;
pub use fetch_options::{FetchOptions, Fetched, FetchedFrom};
pub use report::{CacheReport, RefreshReport};
pub use ttl::Ttl;

/// A cache over a chain of backends. Cloning it gives another handle to the same cache.
///
/// No failure of a backend reaches a caller: at worst a read is a miss and a write is stored nowhere,
/// and [`Cache::report`] says why.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chain: Chain,
    versions: VersionClock,
    namespace: String,
    default_ttl: Duration,
    loads: Loads,
    decode_errors: AtomicU64,
    large: LargeStats,
    details: Details,
}

impl Cache {
    /// The value under `key`, if there is a fresh one of type `T`. A value of another type is a miss,
    /// and counted.
    pub async fn get<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        self.decode(&self.get_bytes(key).await?)
    }

    /// The bytes under `key`, if there is a fresh value. One above
    /// [`MAX_WHOLE_BYTES`](crate::MAX_WHOLE_BYTES) is a miss here, and counted;
    /// [`Cache::get_stream`] reads it.
    pub async fn get_bytes(&self, key: &Key) -> Option<Bytes> {
        self.whole(self.lookup(key).await.hit()?).await
    }

    /// Stores `value` as JSON.
    ///
    /// # Errors
    /// When the value cannot be turned into JSON, the JSON is above
    /// [`MAX_WHOLE_BYTES`](crate::MAX_WHOLE_BYTES), or the TTL exceeds a bound of an entry. Never
    /// because a backend failed: the outcome says which tiers took it.
    pub async fn put<T: Serialize + ?Sized>(
        &self,
        key: &Key,
        value: &T,
        ttl: Ttl,
    ) -> Result<PutOutcome, Error> {
        self.store_json(key, to_json(value)?, ttl, &[], self.next_version()).await
    }

    /// Stores `value` as it is; in chunks where it is above [`PLAIN_BYTES`](crate::PLAIN_BYTES).
    ///
    /// # Errors
    /// When the value is above [`MAX_LARGE_BYTES`](crate::MAX_LARGE_BYTES), or the TTL exceeds a bound
    /// of an entry.
    pub async fn put_bytes(&self, key: &Key, value: impl Into<Bytes>, ttl: Ttl) -> Result<PutOutcome, Error> {
        self.store_whole(key, value.into(), StreamOptions::new(ttl), self.next_version()).await
    }

    /// Removes what is under `key`: a tombstone goes to every tier that may be written.
    pub async fn remove(&self, key: &Key) -> PutOutcome {
        self.put_entry(key, Entry::tombstone(self.next_version(), self.now())).await
    }

    /// Removes every entry that carries `tag` and was written before now, by one small write; see
    /// [`Chain::invalidate_tag`] for who notices when. A value whose loader began before this is not
    /// kept.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a tag that no entry can have. Never because a backend failed.
    pub async fn invalidate_tag(&self, tag: &str) -> Result<PutOutcome, Error> {
        self.inner.chain.invalidate_tag(tag, self.next_version()).await
    }

    /// Removes everything in this cache's namespace that was written before now, by one small write; see
    /// [`Chain::invalidate_all`] for who notices when. A value whose loader began before this is not kept.
    ///
    /// Without a namespace that is everything which was stored without one.
    pub async fn invalidate_all(&self) -> PutOutcome {
        let outcome = self.inner.chain.invalidate_all(self.next_version()).await;
        self.inner.loads.forget_all();
        outcome
    }

    /// Asks the other machines, where a tier coordinates them, who loads what was not found under `key`;
    /// for loaders that do not go through [`Cache::get_or_fetch`], which does this by itself. Only a value
    /// above `newer_than`, which is the lookup's [`newest`](Lookup::newest), is of use. Cannot fail; see
    /// [`Chain::lease`] for how long it may take.
    pub async fn lease(&self, key: &Key, newer_than: Option<Version>) -> Leased {
        let leased = self.inner.chain.lease(&self.scope(key), newer_than).await;
        if let Leased::Found(entry) = &leased {
            self.observe(entry.version());
        }
        leased
    }

    /// Whether a tier coordinates loads with other machines and was not found unwell by `lookup`. Where
    /// none does, [`Cache::lease`] need not be asked.
    #[must_use]
    pub fn coordinates_after(&self, lookup: &Lookup) -> bool {
        self.inner.chain.coordinates_after(lookup)
    }

    /// Reads `key` and says where the answer came from. Cannot fail. The entry of a large value is its
    /// manifest; [`Cache::open_entry`] gives the value.
    pub async fn lookup(&self, key: &Key) -> Lookup {
        self.lookup_with(key, LookupOptions::new()).await
    }

    /// As [`Cache::lookup`], where each tier and the whole may take `more` than usual.
    pub(crate) async fn lookup_with(&self, key: &Key, options: LookupOptions) -> Lookup {
        let lookup = self.inner.chain.lookup_with(&self.scope(key), options).await;
        // Also for a removal: what this process loads next is newer than that. What this process wrote
        // itself is known, and the chain has passed over what comes from the future: so a hit in
        // memory neither locks the version clock nor reads the time for it.
        if let Some(newest) = lookup.newest {
            self.observe(newest);
        }
        lookup
    }

    /// Writes what comes above a version that others have made, which the chain has found not to be from the
    /// future.
    fn observe(&self, version: Version) {
        if version.node != self.inner.versions.node() {
            self.inner.versions.observe(version, version.wall);
        }
    }

    /// Says tier by tier what a read of `key` would do now and why. Reads every tier, counts and changes
    /// nothing.
    pub async fn explain(&self, key: &Key) -> Explanation {
        self.inner.chain.explain(&self.scope(key)).await
    }

    /// Stores an entry built by hand, with its own version, lifetime and metadata, as one entry
    /// whatever its size. One whose content type begins with `application/vnd.peercache.` is refused:
    /// that is how the cache knows its own.
    pub async fn put_entry(&self, key: &Key, entry: Entry) -> PutOutcome {
        match large::refusal(&entry) {
            Some(refused) => refused,
            None => self.write_entry(key, entry).await,
        }
    }

    /// As [`Cache::put_entry`], and says for this entry alone how many shared tiers must have acknowledged it.
    pub async fn put_entry_with(&self, key: &Key, entry: Entry, policy: WritePolicy) -> PutOutcome {
        match large::refusal(&entry) {
            Some(refused) => refused,
            None => self.write_entry_with(key, entry, policy).await,
        }
    }

    /// As [`Cache::put_entry`], for the cache's own entries too.
    pub(crate) async fn write_entry(&self, key: &Key, entry: Entry) -> PutOutcome {
        self.write_entry_with(key, entry, self.policy()).await
    }

    /// Whether a tier is shared with other machines.
    pub(crate) fn is_shared(&self) -> bool {
        self.inner.chain.info().capabilities.scope == Scope::Shared
    }

    /// Which shared tiers a write waits for.
    pub(crate) fn policy(&self) -> WritePolicy {
        self.inner.chain.policy()
    }

    async fn write_entry_with(&self, key: &Key, entry: Entry, policy: WritePolicy) -> PutOutcome {
        let (key, removal) = (&self.scope(key), entry.is_tombstone());
        let outcome = self.inner.chain.write_with(key, entry, policy).await;
        if removal {
            // Who asks from now on must not be given what was loaded before.
            self.inner.loads.forget(key);
        }
        outcome
    }

    /// Starts an entry that was true at its origin just now.
    pub fn new_entry(&self, value: impl Into<Bytes>) -> EntryBuilder {
        Entry::builder(value, self.next_version(), self.now())
    }

    /// A version above every one that this cache has made or seen.
    #[must_use]
    pub fn next_version(&self) -> Version {
        self.inner.versions.next(self.now())
    }

    /// The time that this cache goes by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.chain.clock().now()
    }

    /// The clock that this cache goes by.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(self.inner.chain.clock())
    }

    /// How long values are fresh where nothing else is said.
    #[must_use]
    pub fn default_ttl(&self) -> Duration {
        self.inner.default_ttl
    }

    /// The counters so far.
    #[must_use]
    pub fn report(&self) -> CacheReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheReport {
            chain: self.inner.chain.report(),
            loads: count(&self.inner.loads.ended),
            load_errors: count(&self.inner.loads.errors),
            loads_too_large: count(&self.inner.loads.too_large),
            loads_joined: count(&self.inner.loads.joined),
            refresh: self.inner.loads.report(),
            decode_errors: count(&self.inner.decode_errors),
            large: self.inner.large.report(),
            backends: self.inner.details.read(),
        }
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.inner.chain
    }

    pub(crate) fn loads(&self) -> &Loads {
        &self.inner.loads
    }

    #[cfg(feature = "libp2p")]
    pub(crate) fn details(&self) -> &Details {
        &self.inner.details
    }

    pub(crate) fn large_stats(&self) -> &LargeStats {
        &self.inner.large
    }

    /// Waits until what was written and carried up so far has reached every tier that is well; see
    /// [`Chain::settle`].
    pub async fn settle(&self) {
        self.inner.chain.settle().await;
    }

    /// Writes out what is pending and closes every tier; from then on reads are misses and writes are
    /// stored nowhere.
    ///
    /// # Errors
    /// The first tier's that could not be closed. All are tried.
    pub async fn close(&self) -> Result<(), Error> {
        self.inner.chain.close().await
    }

    pub(crate) fn scope(&self, key: &Key) -> Key {
        if self.inner.namespace.is_empty() { key.clone() } else { key.scoped(&self.inner.namespace) }
    }

    pub(crate) async fn store_json(
        &self,
        key: &Key,
        json: Bytes,
        ttl: Ttl,
        tags: &[String],
        version: Version,
    ) -> Result<PutOutcome, Error> {
        if json.len() > MAX_WHOLE_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                Operation::Encode,
                format!("the value's JSON has {} bytes, the most is {MAX_WHOLE_BYTES}", json.len()),
            )
            .with_help("store it with put_stream"));
        }
        let options = StreamOptions::new(ttl).content_type("application/json");
        let options = tags.iter().fold(options, StreamOptions::tag);
        self.store_whole(key, json, options, version).await
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, json: &[u8]) -> Option<T> {
        serde_json::from_slice(json)
            .inspect_err(|_| {
                self.inner.decode_errors.fetch_add(1, Ordering::Relaxed);
            })
            .ok()
    }
}

pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        Error::new(ErrorKind::Config, Operation::Encode, "the value cannot be turned into JSON")
            .with_source(error)
    })
}
