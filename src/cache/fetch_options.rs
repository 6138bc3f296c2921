//! How a value is loaded, how long it is kept, and what happens when its origin is slow or down.

use std::time::Duration;

use peercache_api::{Key, MAX_LIFETIME, Version};

use super::fetch_error::FetchError;
use super::ttl::Ttl;

/// How long the absence of a value is kept, unless it is set.
const NEGATIVE: Duration = Duration::from_secs(10);
/// By how much of its fresh time a loaded value lives shorter at most, unless it is set.
const JITTER: f64 = 0.05;

/// How `get_or_fetch` and its relatives load and keep a value. A [`Ttl`] alone is one with every default.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct FetchOptions {
    ttl: Ttl,
    tags: Vec<String>,
    negative: Duration,
    jitter: f64,
    eager: Option<f64>,
    stale_if_error: bool,
}

impl FetchOptions {
    /// Kept for `ttl`, and nothing else said.
    pub fn new(ttl: impl Into<Ttl>) -> Self {
        Self {
            ttl: ttl.into(),
            tags: Vec::new(),
            negative: NEGATIVE,
            jitter: JITTER,
            eager: None,
            stale_if_error: true,
        }
    }

    /// Adds a group that the value belongs to; see [`crate::Cache::invalidate_tag`].
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// How long "there is none" is fresh, for [`crate::Cache::get_or_fetch_optional`]. Default: 10 s.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative = ttl;
        self
    }

    /// The most by which a loaded value's fresh time is shortened, as a part of it from 0 to 0.5, so that
    /// what was loaded together does not expire together. By how much follows from the key and the
    /// version. Never longer: a TTL is a promise. What is stored by `put` lives exactly as long as said.
    /// Default: 0.05.
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = if part.is_nan() { 0.0 } else { part.clamp(0.0, 0.5) };
        self
    }

    /// Refreshes a value that is still fresh once this part of its fresh time has passed, from 0 to 1, in
    /// the background; [`crate::Cache::get_or_refresh`] alone does. Default: never.
    pub fn eager_at(mut self, part: f64) -> Self {
        self.eager = (!part.is_nan()).then(|| part.clamp(0.0, 1.0));
        self
    }

    /// Whether a stale value is served when the loader fails. Default: yes, within the stale time that
    /// the value was stored with, which is zero unless [`Ttl::with_stale`] says otherwise.
    pub fn stale_if_error(mut self, serve: bool) -> Self {
        self.stale_if_error = serve;
        self
    }

    pub(crate) fn serves_stale_if_error(&self) -> bool {
        self.stale_if_error
    }

    pub(crate) fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Whether a value of this age is to be refreshed although it is fresh.
    pub(crate) fn is_eager(&self, age: Duration, fresh_for: Duration) -> bool {
        self.eager.is_some_and(|part| age >= fresh_for.mul_f64(part))
    }

    /// The lifetime of what was loaded under `key` as `version`; `default` is the cache's TTL.
    pub(crate) fn lifetime(&self, absent: bool, default: Duration, key: &Key, version: Version) -> Ttl {
        let (fresh, stale) = match absent {
            true => (self.negative, Duration::ZERO),
            false => (self.ttl.fresh_or(default), self.ttl.stale()),
        };
        // What is beyond the bound is a mistake each time, not only when chance does not mend it.
        let jitter = if fresh.saturating_add(stale) > MAX_LIFETIME { 0.0 } else { self.jitter };
        let shorter = fresh.mul_f64(jitter * draw(key, version));
        Ttl::new(fresh.saturating_sub(shorter)).with_stale(stale)
    }
}

impl From<Ttl> for FetchOptions {
    fn from(ttl: Ttl) -> Self {
        Self::new(ttl)
    }
}

impl From<Duration> for FetchOptions {
    fn from(fresh: Duration) -> Self {
        Self::new(fresh)
    }
}

/// A number from 0 to 1 that follows from a key and a version: another on every node and for every load.
fn draw(key: &Key, version: Version) -> f64 {
    let digest = key.digest();
    let start = u64::from_le_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    let mut state = start ^ version.node.as_u64() ^ version.wall.as_millis().rotate_left(32);
    state ^= u64::from(version.counter).rotate_left(16);
    // The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every other.
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from((state ^ (state >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(high) / f64::from(u32::MAX)
}

/// A value, and how it was come by.
#[derive(Clone, Debug)]
pub struct Fetched<T> {
    /// The value.
    pub value: T,
    /// How it was come by.
    pub from: FetchedFrom,
}

/// How [`crate::Cache::get_or_fetch_with`] and [`crate::Cache::get_or_refresh`] came by a value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FetchedFrom {
    /// It was in the cache and fresh.
    Cache,
    /// This caller's loader gave it.
    Loaded,
    /// Another caller's loader gave it, and this caller waited for that.
    Joined,
    /// It was in the cache and stale; it is being refreshed in the background.
    StaleWhileRevalidating,
    /// It was in the cache and stale, and the loader failed with this.
    StaleOnError(FetchError),
}

impl FetchedFrom {
    /// Whether the value is stale.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        matches!(self, Self::StaleWhileRevalidating | Self::StaleOnError(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::{NodeId, Timestamp};

    #[test]
    fn jitter_only_shortens_spreads_evenly_and_is_repeatable() {
        let options = FetchOptions::new(Duration::from_secs(1000)).jitter(0.1);
        let lifetime = |n: u32| {
            let version = Version { wall: Timestamp::EPOCH, counter: n, node: NodeId::from_u64(7) };
            options.lifetime(false, Duration::ZERO, &Key::new("k").unwrap(), version).fresh_or(Duration::ZERO)
        };
        let all: Vec<_> = (0..1000).map(|n| lifetime(n).as_secs_f64()).collect();
        assert!(all.iter().all(|fresh| (900.0..=1000.0).contains(fresh)));
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!((945.0..955.0).contains(&mean), "{mean}");
        assert_eq!(lifetime(3), lifetime(3));
        assert_ne!(lifetime(3), lifetime(4));
    }

    #[test]
    fn parts_out_of_range_are_brought_into_it() {
        let options = FetchOptions::new(Duration::from_secs(10)).jitter(f64::NAN).eager_at(7.0);
        assert!(!options.is_eager(Duration::from_secs(9), Duration::from_secs(10)));
        assert!(options.is_eager(Duration::from_secs(10), Duration::from_secs(10)));
        let key = Key::new("k").unwrap();
        let ttl = options.lifetime(false, Duration::ZERO, &key, Version::ZERO);
        assert_eq!(ttl.fresh_or(Duration::ZERO), Duration::from_secs(10));
        assert!(!FetchOptions::new(Ttl::default()).is_eager(Duration::MAX, Duration::ZERO));
    }
}
