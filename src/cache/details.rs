//! What backends report about themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "libp2p")]
use peercache_libp2p::Peers;
use serde::Serialize;
use serde_json::{Value, json};

type Report = Arc<dyn Fn() -> Value + Send + Sync>;

/// Reports by name, made when they are asked for, and handles on the backends of this workspace.
#[derive(Clone, Default)]
pub(crate) struct Details {
    reports: BTreeMap<String, Report>,
    /// The node of this process.
    #[cfg(feature = "libp2p")]
    pub(crate) peers: Option<Peers>,
}

impl Details {
    pub(crate) fn add<R: Serialize>(&mut self, name: String, report: impl Fn() -> R + Send + Sync + 'static) {
        let report = move || {
            serde_json::to_value(report()).unwrap_or_else(|error| json!({ "error": error.to_string() }))
        };
        self.reports.insert(name, Arc::new(report));
    }

    pub(crate) fn read(&self) -> BTreeMap<String, Value> {
        self.reports.iter().map(|(name, report)| (name.clone(), report())).collect()
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.reports.keys()).finish()
    }
}
