//! How long a value may be served.

use std::time::Duration;

/// How long a value may be served: fresh for a while, then stale for a while.
///
/// `Ttl::default()` stands for the default of the cache that it is given to
/// ([`crate::CacheBuilder::default_ttl`], `CACHE_DEFAULT_TTL`). Fresh and stale time together are
/// at most [`crate::backend::MAX_LIFETIME`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ttl {
    fresh: Option<Duration>,
    stale: Duration,
}

impl Ttl {
    /// Fresh for this many seconds, never stale.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self::new(Duration::from_secs(seconds))
    }

    /// Fresh for the default of the cache, never stale.
    pub(crate) const fn of_the_cache() -> Self {
        Self { fresh: None, stale: Duration::ZERO }
    }

    /// Fresh for `fresh`, never stale.
    #[must_use]
    pub const fn new(fresh: Duration) -> Self {
        Self { fresh: Some(fresh), stale: Duration::ZERO }
    }

    /// And stale for `stale` after that: found by [`crate::Cache::lookup`], not by
    /// [`crate::Cache::get`].
    #[must_use]
    pub const fn with_stale(self, stale: Duration) -> Self {
        Self { stale, ..self }
    }

    /// The fresh time, or `default` where none was given.
    #[must_use]
    pub fn fresh_or(self, default: Duration) -> Duration {
        self.fresh.unwrap_or(default)
    }

    /// The stale time.
    #[must_use]
    pub const fn stale(self) -> Duration {
        self.stale
    }
}

impl From<Duration> for Ttl {
    fn from(fresh: Duration) -> Self {
        Self::new(fresh)
    }
}
