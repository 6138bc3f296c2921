//! The report of a cache: its chain's, and what its loaders did.

use std::collections::BTreeMap;

use peercache_chain::Report;
use serde::Serialize;

use crate::large::LargeReport;

/// A cache's counters since it was opened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CacheReport {
    /// The chain and its tiers.
    #[serde(flatten)]
    pub chain: Report,
    /// Loaders that [`crate::Cache::get_or_fetch`] ran to the end.
    pub loads: u64,
    /// Of those, the ones that failed.
    pub load_errors: u64,
    /// Of those, the ones whose value was given to its callers and not kept: it is above
    /// [`MAX_WHOLE_BYTES`](crate::stream::MAX_WHOLE_BYTES), cannot be encoded, or its loader gave
    /// it a lifetime or a tag out of bounds. Each is logged as a warning.
    pub loads_not_kept: u64,
    /// Callers that waited for another caller's loader instead of running their own.
    pub loads_joined: u64,
    /// Stale values served, and refreshes in the background.
    pub refresh: RefreshReport,
    /// Reads of keys that no entry can have; each was a miss, and logged as a warning.
    pub invalid_keys: u64,
    /// Values found that were not of the type asked for; each was a miss.
    pub decode_errors: u64,
    /// Large values that could not be served.
    pub large: LargeReport,
    /// What backends tell of themselves, by name: `peers` for the node of the peers tier, as
    /// `peers::PeersReport` has it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub backends: BTreeMap<String, serde_json::Value>,
}

/// Stale values that were served, and refreshes in the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RefreshReport {
    /// Refreshes that were started.
    pub refreshes: u64,
    /// Of those, the ones whose loader failed or panicked.
    pub errors: u64,
    /// Of those, the ones that were ended because the cache was closed.
    pub cancelled: u64,
    /// Refreshes that were not started, because too many run or the cache is closed.
    pub skipped: u64,
    /// Stale values given to a caller while they were to be refreshed.
    pub stale_while_refreshing: u64,
    /// Stale values given to a caller because the loader failed.
    pub stale_on_error: u64,
    /// Loads and refreshes that were not started, because the last one had failed just before
    /// ([`Policy::error_backoff`](crate::Policy::error_backoff)).
    pub backed_off: u64,
}
