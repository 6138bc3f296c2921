//! What backends tell of themselves, beyond what the chain counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "libp2p")]
use peercache_libp2p::Peers;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cache::{Cache, CacheBuilder};

type Report = Arc<dyn Fn() -> Value + Send + Sync>;

/// Reports by name, made when they are asked for, and handles on the backends of this workspace.
#[derive(Clone, Default)]
pub(crate) struct Details {
    reports: BTreeMap<String, Report>,
    #[cfg(feature = "libp2p")]
    peers: Option<Peers>,
}

impl Details {
    pub(crate) fn read(&self) -> BTreeMap<String, Value> {
        self.reports.iter().map(|(name, report)| (name.clone(), report())).collect()
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.reports.keys()).finish()
    }
}

impl CacheBuilder {
    /// Makes what `report` gives part of the cache's report, under `name`: for a backend that can tell more
    /// than the chain counts. It is called whenever somebody asks for the report, and must not block.
    pub fn backend_report<R: Serialize>(
        mut self,
        name: impl Into<String>,
        report: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self {
        let report = move || {
            serde_json::to_value(report()).unwrap_or_else(|error| json!({ "error": error.to_string() }))
        };
        self.details.reports.insert(name.into(), Arc::new(report));
        self
    }

    /// Makes the node's report part of the cache's, under `peers`, and the node what [`Cache::peers`]
    /// gives. It adds no tier: that is the node itself, or a seal around it.
    #[cfg(feature = "libp2p")]
    pub fn peers(mut self, peers: Peers) -> Self {
        let node = peers.clone();
        self.details.peers = Some(peers);
        self.backend_report("peers", move || node.report())
    }
}

impl Cache {
    /// The node of this process, if there are peers in the chain.
    #[cfg(feature = "libp2p")]
    #[must_use]
    pub fn peers(&self) -> Option<&Peers> {
        self.details().peers.as_ref()
    }
}

#[cfg(feature = "s3")]
impl CacheBuilder {
    /// Makes the report of the bucket part of the cache's, under `s3`. The tier itself is given by
    /// [`CacheBuilder::tier`], as always.
    pub fn s3(self, bucket: Arc<peercache_s3::S3>) -> Self {
        self.backend_report("s3", move || bucket.report())
    }
}
