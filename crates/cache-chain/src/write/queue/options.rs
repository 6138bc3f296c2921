//! How writes to shared tiers wait, are tried again and are given up.

use std::time::Duration;

use peercache_api::TOMBSTONE_LIFETIME;

/// The bounds of write-behind, for each shared tier of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBehind {
    /// The most entries that wait for one tier. Default: 10,000.
    pub max_entries: usize,
    /// The most bytes that wait for one tier, values and metadata. Default: 64 MiB.
    pub max_bytes: usize,
    /// How long a value is tried before it is given up. Default: 10 min.
    pub max_age: Duration,
    /// How long a removal is tried. Default: [`TOMBSTONE_LIFETIME`], as long as there can be
    /// something that it removes: a removal is a few hundred bytes, and a tier that was away for a
    /// day must not bring back what was removed meanwhile.
    pub max_removal_age: Duration,
    /// The most writes under way at one tier. Default: 8.
    pub concurrency: usize,
    /// The pause of a tier after its first failure; it doubles with each further one, and each
    /// pause is drawn from the upper half of that. Default: 200 ms.
    pub backoff: Duration,
    /// The longest pause, and the first one after the tier has asked for fewer requests is a
    /// quarter of it. Default: 60 s.
    pub max_backoff: Duration,
    /// How long [`Chain::close`](peercache_api::CacheBackend::close) goes on writing before it
    /// leaves the rest to the journal, or drops it where there is none. Default: 5 s.
    pub flush_deadline: Duration,
}

impl Default for WriteBehind {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 64 * 1024 * 1024,
            max_age: Duration::from_secs(600),
            max_removal_age: TOMBSTONE_LIFETIME,
            concurrency: 8,
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(60),
            flush_deadline: Duration::from_secs(5),
        }
    }
}
