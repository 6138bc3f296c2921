//! The list of tiers.

use super::kind::{AnyKind, Kind};
use crate::config::backend_name::{BackendList, BackendName, accepted_backends, read_backends};
use crate::config::env::Env;
use crate::config::error::ConfigError;
use crate::config::value::{Given, Raw};

/// The list of tiers.
pub(in crate::config) struct Backends;

impl Backends {
    pub(in crate::config) fn given(backends: impl IntoIterator<Item = BackendName>) -> Given {
        let names: Vec<_> = backends.into_iter().map(|name| name.as_str().to_owned()).collect();
        if names.is_empty() { Given::Text("none".to_owned()) } else { Given::List(names) }
    }
}

impl AnyKind for Backends {
    fn accepted(&self, _: Option<&str>) -> String {
        accepted_backends()
    }

    fn described(&self) -> String {
        "list of backends, `auto` or `none`".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Backends {
    type Value = BackendList;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<BackendList, ConfigError> {
        read_backends(raw)
    }

    fn show(&self, list: &BackendList) -> Option<String> {
        Some(list.to_string())
    }
}
