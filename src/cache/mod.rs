//! The cache: typed values over a chain of backends.

mod builder;
mod codec;
mod context;
mod details;
mod engine;
mod failures;
mod fetch;
mod fetch_error;
mod fetch_options;
mod fetch_stream;
mod fetched;
mod form;
mod key;
mod loads;
mod nested;
mod report;
mod stream;
mod tiers;
mod typed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{
    CacheBackend, Clock, Entry, EntryBuilder, Error, ErrorKind, Key, Operation, Timestamp, Version,
};
use peercache_chain::{Chain, Explanation, Leased, Lookup, LookupOptions, Outcome, PutOutcome, WritePolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entries::Entries;
use crate::large::{self, Found, LargeValues, Loaded, MAX_WHOLE_BYTES, StreamOptions};
use details::Details;
use form::{Form, Stored};
use loads::Loads;

pub use builder::CacheBuilder;
pub use codec::{Codec, Json};
pub use context::{LoadContext, LoadReason};
pub use fetch::Fetch;
pub use fetch_error::{FetchError, LoadFailure};
pub use fetch_options::{Policy, Refresh};
pub use fetched::{Fetched, FetchedFrom};
pub use key::IntoKey;
pub use report::{CacheReport, RefreshReport};
pub use typed::Typed;

/// A cache over a chain of backends. Cloning it gives another handle to the same cache.
///
/// No failure of a backend reaches a caller: at worst a read is a miss and a write is stored
/// nowhere, and [`Cache::report`] says why.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: Entries,
    large: LargeValues,
    loads: Loads,
    decode_errors: AtomicU64,
    /// Reads of keys that no entry can have.
    invalid_keys: AtomicU64,
    details: Details,
}

impl Cache {
    /// The value under `key`, if there is a fresh one of type `T`. A value of another type is a
    /// miss, and counted. So is a key that is not valid; see [`IntoKey`].
    pub async fn get<T: DeserializeOwned>(&self, key: impl IntoKey) -> Option<T> {
        let found = self.large().found(self.find(key).await?).await?;
        self.decode(&found)
    }

    /// The bytes under `key`, if there is a fresh value. One above
    /// [`MAX_WHOLE_BYTES`](crate::stream::MAX_WHOLE_BYTES) is a miss here, and counted;
    /// [`Cache::get_stream`] reads it.
    pub async fn get_bytes(&self, key: impl IntoKey) -> Option<Bytes> {
        self.large().whole(self.find(key).await?).await
    }

    /// The value under `key`, a stale one too, with its age and the tier that it was found in.
    /// Loads nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use peercache::{Cache, Memory};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let cache = Cache::builder().tier(Memory::with_capacity(1 << 20)).build()?;
    /// cache.put("answer", &42, Duration::from_secs(60)).await?;
    /// let found = cache.peek::<u8>("answer").await.unwrap();
    /// assert_eq!((found.value, found.is_stale()), (42, false));
    /// assert_eq!(found.tier.as_deref(), Some("memory"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn peek<T: DeserializeOwned>(&self, key: impl IntoKey) -> Option<Fetched<T>> {
        let key = self.readable_key(key.into_key())?;
        let Lookup { outcome, entry, tier, age, .. } = self.lookup(&key).await;
        let from = if outcome == Outcome::Hit { FetchedFrom::Cache } else { FetchedFrom::Stale };
        let found = self.large().found(entry?).await?;
        Some(Fetched { value: self.decode(&found)?, from, age, tier })
    }

    /// Stores `value` as JSON, for the lifetime and with the tags of `policy`, which may be a
    /// [`Ttl`] or a [`Duration`] alone.
    ///
    /// # Errors
    /// When the key, the lifetime or a tag is not valid, the value cannot be turned into JSON, or
    /// the JSON is above [`MAX_WHOLE_BYTES`](crate::stream::MAX_WHOLE_BYTES). Never because a
    /// backend failed: the outcome says which tiers took it.
    pub async fn put<T: Serialize + ?Sized>(
        &self,
        key: impl IntoKey,
        value: &T,
        policy: impl Into<Policy>,
    ) -> Result<PutOutcome, Error> {
        let loaded = form::encode(&Json, value)?;
        self.store_value(&key.into_key()?, loaded, &policy.into()).await
    }

    /// Stores `value` as it is; in chunks where it is above
    /// [`PLAIN_BYTES`](crate::stream::PLAIN_BYTES).
    ///
    /// # Errors
    /// When the key, the lifetime or a tag is not valid, or the value is above
    /// [`MAX_LARGE_BYTES`](crate::stream::MAX_LARGE_BYTES).
    pub async fn put_bytes(
        &self,
        key: impl IntoKey,
        value: impl Into<Bytes>,
        policy: impl Into<Policy>,
    ) -> Result<PutOutcome, Error> {
        let (key, policy) = (key.into_key()?, policy.into());
        let options = policy.all_tags().fold(StreamOptions::new(policy.ttl()), StreamOptions::tag);
        self.large().store_whole(&key, value.into(), options, self.next_version(), false).await
    }

    /// Removes what is under `key`: a tombstone goes to every tier that may be written.
    pub async fn remove(&self, key: impl IntoKey) -> PutOutcome {
        match key.into_key() {
            Ok(key) => self.put_entry(&key, Entry::tombstone(self.next_version(), self.now())).await,
            Err(error) => large::refused(error),
        }
    }

    /// Removes what `by` says and was written before now, by one small write. A value whose loader
    /// began before this is not kept. See [`Chain::invalidate_tag`] and [`Chain::invalidate_all`]
    /// for who notices when.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use peercache::{By, Cache, Memory, Policy};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let cache = Cache::builder().tier(Memory::with_capacity(1 << 20)).build()?;
    /// let policy = Policy::fresh(Duration::from_secs(60)).tags(&["quotes"]);
    /// cache.put(("quotes", "ACME"), &7, &policy).await?;
    /// cache.invalidate(By::Tag("quotes")).await?;
    /// assert_eq!(cache.get::<u8>(("quotes", "ACME")).await, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a tag that no entry can have. Never
    /// because a backend failed: the outcome says which tiers took it.
    pub async fn invalidate(&self, by: By<'_>) -> Result<PutOutcome, Error> {
        match by {
            By::Key(key) => Ok(self.remove(key).await),
            By::Tag(tag) => self.chain().invalidate_tag(tag, self.next_version()).await,
            By::All => {
                let outcome = self.chain().invalidate_all(self.next_version()).await;
                self.inner.loads.forget_all();
                Ok(outcome)
            }
        }
    }

    /// Asks the other machines, where a tier coordinates them, who loads what was not found under
    /// `key`; for loaders that do not go through [`Cache::get_or_fetch`], which does this by
    /// itself. Only a value above `newer_than`, which is the lookup's [`newest`](Lookup::newest),
    /// is of use. Cannot fail; see [`Chain::lease`] for how long it may take.
    pub async fn lease(&self, key: &Key, newer_than: Option<Version>) -> Leased {
        let leased = self.chain().lease(&self.inner.entries.scope(key), newer_than).await;
        if let Leased::Found(entry) = &leased {
            self.inner.entries.observe(entry.version());
        }
        leased
    }

    /// Whether a tier coordinates loads with other machines and did not fail in `lookup`. If none
    /// does, calling [`Cache::lease`] is of no use.
    #[must_use]
    pub fn coordinates_after(&self, lookup: &Lookup) -> bool {
        self.chain().coordinates_after(lookup)
    }

    /// Reads `key` and says where the answer came from. Cannot fail. The entry of a large value is
    /// its manifest; [`Cache::open_entry`] gives the value.
    pub async fn lookup(&self, key: &Key) -> Lookup {
        self.inner.entries.lookup_with(key, LookupOptions::new()).await
    }

    /// As [`Cache::lookup`], for a program that only looks: a hit is promoted to no faster tier.
    pub async fn peek_entry(&self, key: &Key) -> Lookup {
        self.inner.entries.lookup_with(key, LookupOptions::new().look_only()).await
    }

    /// Says tier by tier what a read of `key` would do now and why. Reads every tier, counts and
    /// changes nothing.
    pub async fn explain(&self, key: &Key) -> Explanation {
        self.chain().explain(&self.inner.entries.scope(key)).await
    }

    /// Stores an entry built by hand, with its own version, lifetime and metadata, as one entry
    /// whatever its size. One whose content type begins with `application/vnd.peercache.` is
    /// refused: that is how the cache knows its own.
    pub async fn put_entry(&self, key: &Key, entry: Entry) -> PutOutcome {
        match large::refusal(&entry) {
            Some(refused) => refused,
            None => self.write_entry_with(key, entry, self.inner.entries.policy()).await,
        }
    }

    /// As [`Cache::put_entry`], and says for this entry alone how many shared tiers must have
    /// acknowledged it.
    pub async fn put_entry_with(&self, key: &Key, entry: Entry, policy: WritePolicy) -> PutOutcome {
        match large::refusal(&entry) {
            Some(refused) => refused,
            None => self.write_entry_with(key, entry, policy).await,
        }
    }

    async fn write_entry_with(&self, key: &Key, entry: Entry, policy: WritePolicy) -> PutOutcome {
        let (key, removal) = (&self.inner.entries.scope(key), entry.is_tombstone());
        let outcome = self.inner.entries.write_scoped(key, entry, policy).await;
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
        self.inner.entries.next_version()
    }

    /// The time that this cache goes by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.entries.now()
    }

    /// The clock that this cache goes by.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(self.chain().clock())
    }

    /// How long values are fresh where nothing else is said.
    #[must_use]
    pub fn default_ttl(&self) -> Duration {
        self.inner.entries.default_ttl()
    }

    /// The counters so far.
    #[must_use]
    pub fn report(&self) -> CacheReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheReport {
            chain: self.chain().report(),
            loads: count(&self.inner.loads.ended),
            load_errors: count(&self.inner.loads.errors),
            loads_not_kept: count(&self.inner.loads.not_kept),
            loads_joined: count(&self.inner.loads.joined),
            refresh: self.inner.loads.report(),
            decode_errors: count(&self.inner.decode_errors),
            invalid_keys: count(&self.inner.invalid_keys),
            large: self.inner.large.report(),
            backends: self.inner.details.read(),
        }
    }

    pub(crate) fn chain(&self) -> &Chain {
        self.inner.entries.chain()
    }

    pub(crate) fn loads(&self) -> &Loads {
        &self.inner.loads
    }

    #[cfg(feature = "libp2p")]
    pub(crate) fn details(&self) -> &Details {
        &self.inner.details
    }

    pub(crate) fn entries(&self) -> &Entries {
        &self.inner.entries
    }

    pub(crate) fn large(&self) -> &LargeValues {
        &self.inner.large
    }

    /// Waits until all writes and promotions so far have reached every healthy tier; see
    /// [`Chain::settle`].
    pub async fn settle(&self) {
        self.chain().settle().await;
    }

    /// Takes over the writes that other processes have left in the journal; see
    /// [`Chain::replay_journal`].
    pub async fn replay_journal(&self) {
        self.chain().replay_journal().await;
    }

    /// Ends the refreshes in the background, writes out what is pending, and closes every tier.
    /// From then on reads are misses, writes are stored nowhere, and nothing is refreshed.
    ///
    /// # Errors
    /// The first tier's that could not be closed. All are tried. Otherwise
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when writes that waited for a
    /// shared tier were given up, because neither the tier nor a journal took them in time.
    pub async fn close(&self) -> Result<(), Error> {
        self.inner.loads.close().await;
        let given_up = || {
            let tiers = self.chain().report().tiers.into_iter();
            tiers.map(|tier| (tier.name, tier.queue.map_or(0, |queue| queue.dropped.shutdown)))
        };
        let before: Vec<_> = given_up().map(|(_, writes)| writes).collect();
        self.chain().close().await?;
        for ((tier, after), before) in given_up().zip(before) {
            if after > before {
                let what = format!("{} writes that waited for the tier {tier} were given up", after - before);
                let report = self.chain().report();
                let failed = report.tiers.into_iter().find(|of| of.name == tier);
                let cause = failed.and_then(|of| of.last_error).unwrap_or_default();
                return Err(Error::new(ErrorKind::Unavailable, Operation::Close, what)
                    .with_backend(tier)
                    .with_context("cause", cause)
                    .with_help(
                        "a journal would keep them for the next process: set CACHE_DIR, or call \
                         CacheBuilder::journal",
                    ));
            }
        }
        Ok(())
    }

    /// Stores a value that a form has encoded, for exactly as long as `policy` says.
    async fn store_value(&self, key: &Key, loaded: Loaded, policy: &Policy) -> Result<PutOutcome, Error> {
        let mut options = policy.all_tags().fold(StreamOptions::new(policy.ttl()), StreamOptions::tag);
        options.content_type = loaded.content_type;
        options.decoded = loaded.decoded;
        self.store_own(key, loaded.bytes, options, self.next_version(), loaded.absent).await
    }

    /// Stores a value that was encoded, or an absence.
    async fn store_own(
        &self,
        key: &Key,
        value: Bytes,
        options: StreamOptions,
        version: Version,
        absent: bool,
    ) -> Result<PutOutcome, Error> {
        if value.len() > MAX_WHOLE_BYTES {
            let what = format!("the encoded value has {} bytes, the most is {MAX_WHOLE_BYTES}", value.len());
            return Err(Error::new(ErrorKind::TooLarge, Operation::Encode, what)
                .with_help("store it with put_stream"));
        }
        self.large().store_whole(key, value, options, version, absent).await
    }

    /// The fresh entry under `key`.
    async fn find(&self, key: impl IntoKey) -> Option<Entry> {
        let key = self.readable_key(key.into_key())?;
        self.lookup(&key).await.hit()
    }

    /// A key to read. One that no entry can have is counted, and a miss.
    fn readable_key(&self, key: Result<Key, Error>) -> Option<Key> {
        key.inspect_err(|error| {
            self.inner.invalid_keys.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a read of a key that no entry can have is a miss");
        })
        .ok()
    }

    fn decode<T: DeserializeOwned>(&self, found: &Found) -> Option<T> {
        self.counted(form::decode(&Json, &Stored::found(found)), found)
    }

    /// What was found, as a value of this form; counted if it is none.
    fn decoded<F: Form>(&self, form: &F, found: &Found) -> Option<F::Value> {
        let value = self.counted(form.decode(Stored::found(found)), found)?;
        form.remember(&value, found);
        Some(value)
    }

    fn counted<T>(&self, decoded: Result<T, Error>, found: &Found) -> Option<T> {
        decoded
            .inspect_err(|error| {
                // An absence is no value of another type.
                if !found.is_absent() {
                    self.inner.decode_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, "a value is not of the type that was asked for");
                }
            })
            .ok()
    }
}

/// What [`Cache::invalidate`] removes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum By<'a> {
    /// What is under this key.
    Key(&'a Key),
    /// Every entry that carries this tag.
    Tag(&'a str),
    /// Everything in the cache's namespace. Without a namespace that is everything which was stored
    /// without one.
    All,
}
