//! Loading what is not in the cache: one loader for each key at a time, stale values where they help.

use std::error::Error as StdError;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use peercache_api::{Entry, Error, ErrorKind, Key, Version};
use peercache_chain::{Flight, Lease, Leased, Lookup, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fetch_error::FetchError;
use super::fetch_options::{FetchOptions, Fetched, FetchedFrom};
use super::loads::{Refreshing, add_one};
use super::ttl::Ttl;
use super::{Cache, to_json};

/// What a load needs to know besides its loader.
struct Order<'a, T> {
    key: &'a Key,
    options: &'a FetchOptions,
    /// The version of what is to be replaced: a value that is newer than it is as good as loaded.
    seen: Option<Version>,
    /// What the lookup before says about asking other machines.
    fleet: Ask,
    /// Whether a value says that there is none.
    is_absent: fn(&T) -> bool,
}

/// Whether other machines are asked who loads, and which value of theirs would do.
#[derive(Clone, Copy)]
struct Ask {
    lease: bool,
    newer_than: Option<Version>,
}

impl Ask {
    fn after(cache: &Cache, lookup: &Lookup) -> Self {
        Self { lease: cache.chain().coordinates_after(lookup), newer_than: lookup.newest }
    }
}

impl Cache {
    /// The fresh value under `key`, or what `load` gives, which is then stored.
    ///
    /// Concurrent calls for one key run one loader: the others wait and get its result, or its error. Where
    /// a tier coordinates a fleet, so do concurrent calls on all its machines, as far as that takes no longer
    /// than loading; see [`Cache::lease`].
    /// Cancel-safe: dropping the future of the caller whose loader runs makes the next caller that
    /// waits run its own. A removal wins over a loader that was running already: its value is not
    /// kept, and who asks after the removal loads anew.
    ///
    /// When the loader fails and the cache holds a value that is stale ([`Ttl::with_stale`]), that value
    /// is given; [`Cache::get_or_fetch_with`] says so. What was loaded is kept up to 5 % shorter than
    /// `ttl` says ([`FetchOptions::jitter`]).
    ///
    /// # Errors
    /// Only the loader's own, or a value or TTL that no entry can have. See [`FetchError`]. A value
    /// above [`MAX_WHOLE_BYTES`](crate::MAX_WHOLE_BYTES) is returned, and not kept.
    pub async fn get_or_fetch<T, E, F, Fut>(&self, key: &Key, ttl: Ttl, load: F) -> Result<T, FetchError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.fetch(key, &FetchOptions::new(ttl), never, load).await.map(|fetched| fetched.value)
    }

    /// As [`Cache::get_or_fetch`], and says how it came by the value.
    ///
    /// # Errors
    /// As [`Cache::get_or_fetch`].
    pub async fn get_or_fetch_with<T, E, F, Fut>(
        &self,
        key: &Key,
        options: impl Into<FetchOptions>,
        load: F,
    ) -> Result<Fetched<T>, FetchError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.fetch(key, &options.into(), never, load).await
    }

    /// As [`Cache::get_or_fetch_with`], for what may not exist: that there is none is kept as well, as
    /// JSON `null`, for the shorter [`FetchOptions::negative_ttl`].
    ///
    /// # Errors
    /// As [`Cache::get_or_fetch`].
    pub async fn get_or_fetch_optional<T, E, F, Fut>(
        &self,
        key: &Key,
        options: impl Into<FetchOptions>,
        load: F,
    ) -> Result<Option<T>, FetchError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        self.fetch(key, &options.into(), Option::is_none, load).await.map(|fetched| fetched.value)
    }

    /// As [`Cache::get_or_fetch_with`], but a stale value is given at once and refreshed in the
    /// background, and so is a fresh one that is past [`FetchOptions::eager_at`].
    ///
    /// One refresh runs for each key, and at most 64 in all; a caller that finds no room gets the value as
    /// it is. A refresh that fails changes nothing but a counter. A value that is not in the cache is
    /// loaded while the caller waits.
    ///
    /// # Errors
    /// As [`Cache::get_or_fetch`].
    pub async fn get_or_refresh<T, E, F, Fut>(
        &self,
        key: &Key,
        options: impl Into<FetchOptions>,
        load: F,
    ) -> Result<Fetched<T>, FetchError>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let options = options.into();
        let lookup = self.lookup(key).await;
        let (outcome, age) = (lookup.outcome, lookup.age);
        let fleet = Ask::after(self, &lookup);
        let order = || Order { key, options: &options, seen: None, fleet, is_absent: never };
        let Some(entry) = lookup.entry else {
            return self.load(order(), load).await;
        };
        let (version, fresh_for) = (entry.version(), entry.metadata().fresh_for);
        let Some(value) = self.value_of::<T>(entry).await else {
            return self.load(order(), load).await;
        };
        let from = match outcome {
            Outcome::Hit if !options.is_eager(age, fresh_for) => {
                return Ok(Fetched { value, from: FetchedFrom::Cache });
            }
            Outcome::Hit => FetchedFrom::Cache,
            Outcome::Stale | Outcome::Miss => {
                add_one(&self.loads().stale_while_revalidating);
                FetchedFrom::StaleWhileRevalidating
            }
        };
        self.refresh(key, options, version, fleet, load);
        Ok(Fetched { value, from })
    }

    /// Loads in the background what is under `key` as `version`, unless that is being done already.
    fn refresh<T, E, F, Fut>(&self, key: &Key, options: FetchOptions, version: Version, fleet: Ask, load: F)
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let loads = self.loads();
        let Ok(room) = Arc::clone(&loads.room).try_acquire_owned() else {
            return add_one(&loads.refreshes_skipped);
        };
        if !loads.refreshing.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return;
        }
        add_one(&loads.refreshes);
        let guard = Refreshing { cache: self.clone(), key: key.clone() };
        tokio::spawn(async move {
            let order =
                Order { key: &guard.key, options: &options, seen: Some(version), fleet, is_absent: never };
            if let Err(error) = guard.cache.load::<T, E, F, Fut>(order, load).await {
                tracing::debug!(%error, "a value could not be refreshed");
                add_one(&guard.cache.loads().refresh_errors);
            }
            drop(room);
        });
    }

    async fn fetch<T, E, F, Fut>(
        &self,
        key: &Key,
        options: &FetchOptions,
        is_absent: fn(&T) -> bool,
        load: F,
    ) -> Result<Fetched<T>, FetchError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let lookup = self.lookup(key).await;
        let fleet = Ask::after(self, &lookup);
        let mut stale = None;
        match (lookup.outcome, lookup.entry) {
            (Outcome::Hit, Some(entry)) => {
                if let Some(value) = self.value_of(entry).await {
                    return Ok(Fetched { value, from: FetchedFrom::Cache });
                }
            }
            (_, entry) => stale = entry.filter(|_| options.serves_stale_if_error()),
        }
        let seen = stale.as_ref().map(Entry::version);
        let error = match self.load(Order { key, options, seen, fleet, is_absent }, load).await {
            Err(error @ FetchError::Load(_)) => error,
            ended => return ended,
        };
        match stale {
            Some(entry) => match self.value_of(entry).await {
                Some(value) => {
                    add_one(&self.loads().stale_on_error);
                    Ok(Fetched { value, from: FetchedFrom::StaleOnError(error) })
                }
                None => Err(error),
            },
            None => Err(error),
        }
    }

    /// Runs `load`, or waits for the loader of this key that runs already.
    async fn load<T, E, F, Fut>(&self, order: Order<'_, T>, load: F) -> Result<Fetched<T>, FetchError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Box<dyn StdError + Send + Sync>>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let loads = self.loads();
        let scoped = &self.scope(order.key);
        let mut own = None;
        let loaded = &mut own;
        let (result, flight) = loads
            .flights
            .running
            .run(scoped, || async move {
                // A flight may have landed between this caller's lookup and its own start.
                if let Some(entry) = self.chain().peek_local(scoped).await
                    && order.seen.is_none_or(|seen| entry.version() > seen)
                    && let Some(json) = self.whole(entry).await
                    && let Ok(value) = serde_json::from_slice(&json)
                {
                    *loaded = Some((value, FetchedFrom::Cache));
                    return Ok(json);
                }
                let lease = match order.fleet.lease {
                    // Boxed, so that a load that nobody coordinates does not carry the room for it.
                    true => Box::pin(self.lease(order.key, order.fleet.newer_than)).await,
                    false => Leased::Alone,
                };
                let lease = match lease {
                    Leased::Granted(lease) => Some(lease),
                    Leased::Alone => None,
                    Leased::Found(entry) => {
                        if let Some(json) = self.whole(entry).await
                            && let Ok(value) = serde_json::from_slice(&json)
                        {
                            *loaded = Some((value, FetchedFrom::Joined));
                            return Ok(json);
                        }
                        None
                    }
                };
                // As of now: what is removed while the loader runs stays removed.
                let version = self.next_version();
                let value = load().await;
                add_one(&loads.ended);
                let stored = match value {
                    Ok(value) => {
                        let json = to_json(&value);
                        let absent = (order.is_absent)(&value);
                        // Before the first wait, so that a value need not be `Sync`.
                        *loaded = Some((value, FetchedFrom::Loaded));
                        self.store_loaded(&order, json, absent, version, lease).await
                    }
                    Err(error) => Err(FetchError::Load(Arc::from(error.into()))),
                };
                if stored.is_err() {
                    add_one(&loads.errors);
                }
                stored
            })
            .await;
        if flight == Flight::Joined {
            add_one(&loads.joined);
        }
        match (own, result) {
            (_, Err(error)) => Err(error),
            (Some((value, from)), Ok(_)) => Ok(Fetched { value, from }),
            (None, Ok(json)) => match serde_json::from_slice(&json) {
                Ok(value) => Ok(Fetched { value, from: FetchedFrom::Joined }),
                Err(error) => Err(FetchError::Decode(Arc::new(error))),
            },
        }
    }

    /// Stores a value that a loader gave, and returns its JSON for those who waited. A value that is
    /// too large for an entry is handed out all the same; what it replaces is removed.
    ///
    /// Ends the lease, with the value if it is for other machines too.
    async fn store_loaded<T>(
        &self,
        order: &Order<'_, T>,
        json: Result<Bytes, Error>,
        absent: bool,
        version: Version,
        lease: Option<Lease>,
    ) -> Result<Bytes, FetchError> {
        let (key, options) = (order.key, order.options);
        let failed = |error| FetchError::Encode(Arc::new(error));
        let json = json.map_err(failed)?;
        let ttl = options.lifetime(absent, self.default_ttl(), key, version);
        match self.store_json(key, json.clone(), ttl, options.tags(), version).await {
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                add_one(&self.loads().too_large);
                drop(self.put_entry(key, Entry::tombstone(version, self.now())).await);
            }
            stored => {
                let outcome = stored.map_err(failed)?;
                if let Some(lease) = lease {
                    lease.resolve(&outcome);
                }
            }
        }
        Ok(json)
    }

    async fn value_of<T: DeserializeOwned>(&self, entry: Entry) -> Option<T> {
        self.decode(&self.whole(entry).await?)
    }
}

/// A value of a type that has no word for "none".
fn never<T>(_: &T) -> bool {
    false
}
