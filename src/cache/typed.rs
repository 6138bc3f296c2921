//! A handle on the values of one type: decoded once, and shared from then on.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::sync::Arc;

use peercache_api::{Error, Key};
use peercache_chain::PutOutcome;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cache;
use super::codec::{Codec, Json};
use super::context::LoadContext;
use super::fetch::Fetch;
use super::fetch_error::FetchError;
use super::fetch_options::{Policy, Refresh};
use super::fetched::Fetched;
use super::form::{Form as _, Optional, Shared};
use super::key::IntoKey;
use crate::large;

/// The values of type `T` under one prefix, kept as one [`Policy`] says. [`Cache::typed`] makes it.
///
/// A value is encoded when it is stored and decoded when it is first read; from then on the memory
/// tier has the decoded value beside the bytes, and a hit costs one more reference to it. Decoded
/// values live as long as their entries do in memory. They are not part of what the memory tier
/// charges: count with about the same again.
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// # use peercache::{Cache, Memory, Policy, Typed};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let cache = Cache::builder().tier(Memory::with_capacity(1 << 20)).build()?;
/// static USERS: Policy = Policy::fresh(Duration::from_secs(60));
///
/// let users: Typed<String> = cache.typed("users", &USERS);
/// users.put(7, "ferris".to_owned()).await?;
/// let (one, other) = (users.get(7).await.unwrap(), users.get(7).await.unwrap());
/// assert!(Arc::ptr_eq(&one, &other));
/// assert_eq!(cache.get::<String>(("users", 7)).await.as_ref(), Some(&*one));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Typed<T, C = Json> {
    cache: Cache,
    prefix: Arc<str>,
    policy: Policy,
    codec: C,
    value: PhantomData<fn() -> T>,
}

impl Cache {
    /// A handle on the values of type `T` under `prefix`, kept as `policy` says. The key `7` of the
    /// prefix `users` is the key `("users", 7)` of the cache.
    #[must_use]
    pub fn typed<T>(&self, prefix: impl Into<Arc<str>>, policy: impl Into<Policy>) -> Typed<T> {
        let (prefix, policy) = (prefix.into(), policy.into());
        Typed { cache: self.clone(), prefix, policy, codec: Json, value: PhantomData }
    }
}

impl<T, C: Codec> Typed<T, C>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Writes and reads the values with `codec`. Default: [`Json`].
    #[must_use]
    pub fn codec<D: Codec>(self, codec: D) -> Typed<T, D> {
        let Self { cache, prefix, policy, .. } = self;
        Typed { cache, prefix, policy, codec, value: PhantomData }
    }

    /// The fresh value under `key`.
    pub async fn get(&self, key: impl IntoKey) -> Option<Arc<T>> {
        let key = self.cache.readable_key(self.key(key))?;
        self.get_at(&key).await
    }

    /// The fresh value under a key that [`Typed::key`] made.
    pub async fn get_at(&self, key: &Key) -> Option<Arc<T>> {
        let entry = self.cache.lookup(key).await.hit()?;
        // As it was decoded before, which is the usual case.
        if let Some(decoded) = entry.decoded()
            && let Ok(value) = Arc::clone(decoded).downcast()
        {
            return Some(value);
        }
        let found = self.cache.large().found(entry).await?;
        self.cache.decoded(&Shared::new(self.codec.clone()), &found)
    }

    /// Stores `value`.
    ///
    /// # Errors
    /// As [`Cache::put`].
    pub async fn put(&self, key: impl IntoKey, value: impl Into<Arc<T>>) -> Result<PutOutcome, Error> {
        let (key, value) = (self.key(key)?, value.into());
        let loaded = Shared::new(self.codec.clone()).encode(&value)?;
        self.cache.store_value(&key, loaded, &self.policy).await
    }

    /// Removes what is under `key`.
    pub async fn remove(&self, key: impl IntoKey) -> PutOutcome {
        match self.key(key) {
            Ok(key) => self.cache.remove(key).await,
            Err(error) => large::refused(error),
        }
    }

    /// The value from the cache, or what `load` gives; as [`Fetch::load`].
    ///
    /// # Errors
    /// As [`Fetch::load`].
    pub async fn load<E, F, Fut>(&self, key: impl IntoKey, load: F) -> Result<Fetched<Arc<T>>, FetchError<E>>
    where
        E: Display + Send + Sync + 'static,
        F: FnOnce(LoadContext<Arc<T>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.load_with(key, Refresh::Normal, load).await
    }

    /// As [`Typed::load`], and says whether the cache or the loader is asked.
    ///
    /// # Errors
    /// As [`Fetch::load`].
    pub async fn load_with<E, F, Fut>(
        &self,
        key: impl IntoKey,
        refresh: Refresh,
        load: F,
    ) -> Result<Fetched<Arc<T>>, FetchError<E>>
    where
        E: Display + Send + Sync + 'static,
        F: FnOnce(LoadContext<Arc<T>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let load = move |context| {
            let loading = load(context);
            async move { loading.await.map(Arc::new) }
        };
        self.fetch(key).refresh(refresh).run(Shared::new(self.codec.clone()), load).await
    }

    /// As [`Typed::load`], for what may not exist; as [`Fetch::load_optional`].
    ///
    /// # Errors
    /// As [`Fetch::load`].
    pub async fn load_optional<E, F, Fut>(
        &self,
        key: impl IntoKey,
        load: F,
    ) -> Result<Fetched<Option<Arc<T>>>, FetchError<E>>
    where
        E: Display + Send + Sync + 'static,
        F: FnOnce(LoadContext<Option<Arc<T>>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        let load = move |context| {
            let loading = load(context);
            async move { loading.await.map(|value| value.map(Arc::new)) }
        };
        self.fetch(key).run(Optional(Shared::new(self.codec.clone())), load).await
    }

    fn fetch(&self, key: impl IntoKey) -> Fetch<'_> {
        self.cache.fetch_key(self.key(key), self.policy.clone())
    }

    /// The key of the cache that `key` stands for: make it once where it is read often, for
    /// [`Typed::get_at`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is not valid; see [`IntoKey`].
    pub fn key(&self, key: impl IntoKey) -> Result<Key, Error> {
        key.into_key_below(&self.prefix)
    }
}

impl<T, C: Clone> Clone for Typed<T, C> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            prefix: Arc::clone(&self.prefix),
            policy: self.policy.clone(),
            codec: self.codec.clone(),
            value: PhantomData,
        }
    }
}

impl<T, C: fmt::Debug> fmt::Debug for Typed<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed")
            .field("codec", &self.codec)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
