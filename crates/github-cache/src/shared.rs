//! What every request shares: the store, the upstream, and what is counted and remembered.

use std::sync::Arc;

use peercache::Cache;
use tokio_util::task::TaskTracker;

use crate::build_cache::BuildCache;
use crate::coalesce::Flights;
use crate::hosts::Hosts;
use crate::limits::RateLimits;
use crate::stats::Stats;
use crate::store::Store;
use crate::token::TokenHasher;
use crate::upstream::Upstream;

/// The state of a proxy. Requests run in tasks of their own, which hold it.
pub(crate) struct Shared {
    pub(crate) hosts: Hosts,
    pub(crate) hasher: TokenHasher,
    pub(crate) store: Store,
    pub(crate) upstream: Upstream,
    pub(crate) flights: Flights,
    pub(crate) rate_limits: RateLimits,
    pub(crate) tasks: TaskTracker,
    pub(crate) stats: Arc<Stats>,
    pub(crate) build_cache: BuildCache,
}

impl Shared {
    pub(crate) fn new(
        cache: Cache,
        hosts: Hosts,
        hasher: TokenHasher,
        upstream: Upstream,
        stats: Arc<Stats>,
        build_cache: BuildCache,
    ) -> Self {
        Self {
            hosts,
            hasher,
            store: Store::new(cache, Arc::clone(&stats)),
            upstream,
            flights: Flights::default(),
            rate_limits: RateLimits::new(),
            tasks: TaskTracker::new(),
            stats,
            build_cache,
        }
    }
}
