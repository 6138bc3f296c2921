//! `CACHE_SECRET` in a build without sealing: an error that says what to switch on.

use crate::cache::CacheBuilder;

use super::error::{ConfigError, cargo_line};
use super::name::Name;
use super::value::{Given, Raw};
use super::values::Values;

/// The secrets of a process: this build knows none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ring {}

impl Ring {
    pub(super) fn journal(&self, _: CacheBuilder, _: std::path::PathBuf) -> CacheBuilder {
        match *self {}
    }
}

#[cfg(all(feature = "libp2p", feature = "disk"))]
impl Ring {
    pub(super) fn has_sealed(&self, _: &peercache_api::Entry) -> bool {
        match *self {}
    }
}

#[cfg(feature = "disk")]
impl Ring {
    pub(super) async fn seal(
        &self,
        _: peercache_local::Disk,
        _: &str,
        _: bool,
        _: std::sync::Arc<dyn peercache_api::Clock>,
    ) -> std::sync::Arc<dyn peercache_api::CacheBackend> {
        match *self {}
    }
}

/// Nothing: whoever set a secret was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Secrets;

impl Secrets {
    /// A user who set a secret believes that entries are sealed, so this must not start without.
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let current = values.secret.value.as_ref().map(|_| (Name::Secret, &values.secret.origin));
        let old = values.secret_old.value.as_ref().map(|_| (Name::SecretOld, &values.secret_old.origin));
        match current.or(old) {
            None => Ok(Self),
            Some((name, origin)) => Err(ConfigError::of(
                &Raw { name, given: Given::Text(String::new()), origin: origin.clone() },
                "this build cannot seal entries, its cargo feature `seal` is off",
                format!("in Cargo.toml: {}", cargo_line(env!("CARGO_PKG_VERSION"), "seal")),
            )),
        }
    }

    #[allow(clippy::unused_async, clippy::unnecessary_wraps, reason = "as with the feature")]
    pub(super) async fn ring_off_the_runtime(&self) -> Result<Option<Ring>, ConfigError> {
        Ok(None)
    }

    /// Both settings as they may be shown.
    #[allow(clippy::unnecessary_wraps, reason = "as with the feature, where a secret may be wrong")]
    pub(super) fn show(&self) -> Result<[Option<String>; 2], ConfigError> {
        Ok([None, None])
    }
}
