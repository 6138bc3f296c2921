//! Sharing with the tiers of other nodes.

use std::fmt;
use std::sync::Arc;

use peercache_api::{CacheBackend, Error};

use crate::report::SyncCounts;
use crate::store::{Store, Written};

/// Makes what seals the tier's entries, around a backend.
#[derive(Clone)]
pub(crate) struct Seal(
    Arc<dyn Fn(Arc<dyn CacheBackend>) -> Arc<dyn CacheBackend> + Send + std::marker::Sync>,
);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub(crate) fn new<F>(make: F) -> Self
    where
        F: Fn(Arc<dyn CacheBackend>) -> Arc<dyn CacheBackend> + Send + std::marker::Sync + 'static,
    {
        Self(Arc::new(make))
    }
}

/// The running exchange with other nodes.
#[derive(Debug)]
pub(crate) struct Sync;

impl Sync {
    pub(crate) fn start(_: &Arc<Store>, _: Seal, _: bool) -> Result<Self, Error> {
        Ok(Self)
    }
    pub(crate) fn counts(&self) -> SyncCounts {
        SyncCounts::default()
    }
    pub(crate) fn error(&self) -> Option<String> {
        None
    }
    pub(crate) fn announce(&self, _: Written) {}
    pub(crate) async fn flush(&self) {}
    pub(crate) fn stop(&self) {}
}
