//! Tiers over real servers, asked outside of paused time.
//!
//! A chain runs in paused time on a runtime of one thread. Requests take real time, on a runtime of
//! their own; while one is under way the paused time stands still, as tokio has it while a blocking
//! call runs. So to the chain each takes no time, and what chaos adds is all there is to see of
//! time.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use peercache::backend::{BackendInfo, Fleet};
use peercache::{CacheBackend, Entry, Error, Key};
use tokio::runtime::Handle;

/// A tier on a runtime of its own.
pub(crate) struct Outside<B> {
    info: BackendInfo,
    inner: Arc<B>,
    runtime: Handle,
    /// Takes what the tier has counted, when its scenario ends.
    ended: Box<dyn Fn(&B) + Send + Sync>,
}

impl<B: CacheBackend + 'static> Outside<B> {
    pub(crate) fn new(
        name: &'static str,
        inner: B,
        runtime: Handle,
        ended: Box<dyn Fn(&B) + Send + Sync>,
    ) -> Self {
        let info = BackendInfo::new(name, inner.info().capabilities);
        Self { info, inner: Arc::new(inner), runtime, ended }
    }

    async fn outside<T, F, Fut>(&self, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(Arc<B>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Error>>,
    {
        let (inner, runtime) = (Arc::clone(&self.inner), self.runtime.clone());
        let call = tokio::task::spawn_blocking(move || runtime.block_on(call(inner)));
        // Also a panic in there is one of this run.
        call.await.unwrap()
    }
}

impl<B> fmt::Debug for Outside<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").field("info", &self.info).finish_non_exhaustive()
    }
}

impl<B> Drop for Outside<B> {
    fn drop(&mut self) {
        (self.ended)(&self.inner);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend + 'static> CacheBackend for Outside<B> {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let key = key.clone();
        self.outside(move |tier| async move { tier.get(&key).await }).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        let key = key.clone();
        self.outside(move |tier| async move { tier.put(&key, entry).await }).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.outside(|tier| async move { tier.probe().await }).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        self.inner.fleet()
    }
}
