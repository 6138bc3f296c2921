//! Loading what is not in the cache, as callers see it.

use std::fmt::Display;

use bytes::Bytes;
use peercache_api::{Error, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cache;
use super::codec::{Codec, Json};
use super::context::LoadContext;
use super::engine::{Job, refresh};
use super::fetch_error::FetchError;
use super::fetch_options::{Policy, Refresh};
use super::fetched::Fetched;
use super::form::{Coded, Form, Optional, Raw};
use super::key::IntoKey;
use crate::ttl::Ttl;

/// A value that is wanted: from the cache, or from a loader. [`Cache::fetch`] starts it, one of the
/// `load` methods ends it.
///
/// - **One loader** runs for each key at a time. Others who ask wait for it and get its value, or
///   its error. Where a tier coordinates a fleet, this holds for all its machines, as far as it
///   takes no longer than loading.
/// - **A stale value** ([`Policy::stale`]) is given at once and refreshed in the background: one
///   refresh for each key, at most 64 in all. It is also given when the loader fails.
/// - **A removal wins** over a loader that was running already: its value is given to those who
///   waited and not kept, and who asks after the removal loads anew.
/// - **A loader that waits for its own key** is an error and not a deadlock, also through other
///   loaders of this cache. It is not noticed through a task that a loader spawned.
/// - **Cancel-safe**: dropping the future of the caller whose loader runs makes the next caller
///   that waits run its own. A refresh in the background goes on until [`Cache::close`].
///
/// [`Fetched`] has the value and says where it came from.
#[must_use = "nothing is fetched until one of the `load` methods is called"]
#[derive(Debug)]
pub struct Fetch<'c, C = Json> {
    cache: &'c Cache,
    key: Result<Key, Error>,
    policy: Policy,
    refresh: Refresh,
    codec: C,
}

impl Cache {
    /// Starts to fetch what is under `key`, kept as `policy` says. A [`Ttl`] or a
    /// [`Duration`](std::time::Duration) is a policy with every default.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use peercache::{Cache, FetchedFrom, Memory, Policy};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let cache = Cache::builder().tier(Memory::with_capacity(1 << 20)).build()?;
    /// static QUOTES: Policy = Policy::fresh(Duration::from_secs(60))
    ///     .stale(Duration::from_secs(600))
    ///     .error_backoff(Duration::from_secs(2));
    ///
    /// let load = |symbol: &'static str| async move {
    ///     Ok::<_, std::io::Error>(symbol.len() as f64)
    /// };
    /// let fetch = cache.fetch(("quotes", "ACME"), &QUOTES).tag("quotes");
    /// let quote = fetch.load(move |_| load("ACME")).await?;
    /// assert!(matches!(quote.from, FetchedFrom::Loaded) && quote.value == 4.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fetch(&self, key: impl IntoKey, policy: impl Into<Policy>) -> Fetch<'_> {
        self.fetch_key(key.into_key(), policy.into())
    }

    pub(super) fn fetch_key(&self, key: Result<Key, Error>, policy: Policy) -> Fetch<'_> {
        Fetch { cache: self, key, policy, refresh: Refresh::Normal, codec: Json }
    }

    /// The short form of [`Cache::fetch`]: the fresh value under `key`, or what `load` gives, which
    /// is then stored for `ttl`.
    ///
    /// The loader may borrow, so it never runs in the background: a stale value is given only when
    /// the loader fails. Everything else is as for [`Fetch`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use peercache::{Cache, Memory, Ttl};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let cache = Cache::builder().tier(Memory::with_capacity(1 << 20)).build()?;
    /// let name = String::from("ferris");
    /// let load = || async { Ok::<_, std::io::Error>(name.len()) };
    /// let length: usize = cache.get_or_fetch("length", Ttl::from_secs(60), load).await?;
    /// assert_eq!(length, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Fetch::load`].
    pub async fn get_or_fetch<T, E, F, Fut>(
        &self,
        key: impl IntoKey,
        ttl: Ttl,
        load: F,
    ) -> Result<T, FetchError<E>>
    where
        T: Serialize + DeserializeOwned + 'static,
        E: Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let key = key.into_key().map_err(FetchError::Invalid)?;
        let job = Job::new(self, key, ttl.into(), Refresh::Normal).map_err(FetchError::Invalid)?;
        let form = Coded::new(Json);
        let fetched = self.serve_or_load(job, form, |_: LoadContext<T>| load(), None).await?;
        Ok(fetched.value)
    }
}

impl<'c, C: Codec> Fetch<'c, C> {
    /// Adds a tag to those of the policy.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.policy.push_tag(tag.into());
        self
    }

    /// Whether the cache or the loader is asked. Default: [`Refresh::Normal`].
    pub fn refresh(mut self, refresh: Refresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// Writes and reads the value with `codec`. Default: [`Json`].
    pub fn codec<D: Codec>(self, codec: D) -> Fetch<'c, D> {
        let Self { cache, key, policy, refresh, .. } = self;
        Fetch { cache, key, policy, refresh, codec }
    }

    /// The value from the cache, or what `load` gives, which is then stored.
    ///
    /// A value that cannot be kept, as one above
    /// [`MAX_WHOLE_BYTES`](crate::stream::MAX_WHOLE_BYTES), is given all the same, counted and
    /// logged.
    ///
    /// # Errors
    /// The loader's own; a key, tag or bound that is not valid, before anything is loaded; and the
    /// other cases of [`FetchError`]. None because a backend failed.
    pub async fn load<T, E, F, Fut>(self, load: F) -> Result<Fetched<T>, FetchError<E>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Display + Send + Sync + 'static,
        F: FnOnce(LoadContext<T>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let form = Coded::new(self.codec.clone());
        self.run(form, load).await
    }

    /// As [`Fetch::load`], for what may not exist: that there is none is kept as well, for
    /// [`Policy::negative`].
    ///
    /// # Errors
    /// As [`Fetch::load`].
    pub async fn load_optional<T, E, F, Fut>(self, load: F) -> Result<Fetched<Option<T>>, FetchError<E>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Display + Send + Sync + 'static,
        F: FnOnce(LoadContext<Option<T>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        let form = Optional(Coded::new(self.codec.clone()));
        self.run(form, load).await
    }

    /// As [`Fetch::load`], for bytes, which are stored as they are.
    ///
    /// # Errors
    /// As [`Fetch::load`].
    pub async fn load_bytes<E, F, Fut>(self, load: F) -> Result<Fetched<Bytes>, FetchError<E>>
    where
        E: Display + Send + Sync + 'static,
        F: FnOnce(LoadContext<Bytes>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        self.run(Raw, load).await
    }

    /// As [`Fetch::load`], in any form.
    pub(super) async fn run<V, E, F, Fut>(self, form: V, load: F) -> Result<Fetched<V::Value>, FetchError<E>>
    where
        V: Form,
        V::Value: Send + 'static,
        E: Display + Send + Sync + 'static,
        F: FnOnce(LoadContext<V::Value>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V::Value, E>> + Send + 'static,
    {
        let Self { cache, key, policy, refresh: how, .. } = self;
        let key = key.map_err(FetchError::Invalid)?;
        let job = Job::new(cache, key, policy, how).map_err(FetchError::Invalid)?;
        cache.serve_or_load(job, form, load, Some(refresh)).await
    }
}
