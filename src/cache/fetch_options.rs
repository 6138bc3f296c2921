//! How a value is kept, and what happens when its origin is slow or down.

use std::time::Duration;

use peercache_api::{Error, ErrorKind, Key, MAX_LIFETIME, MAX_TAG_BYTES, MAX_TAGS, Operation, Version};

use crate::ttl::Ttl;

/// How long the absence of a value is kept, unless it is set.
const NEGATIVE: Duration = Duration::from_secs(10);
/// By how much of its fresh time a loaded value lives shorter at most, unless it is set.
const JITTER: f64 = 0.05;
/// The longest pause between loads that fail.
const MAX_ERROR_BACKOFF: Duration = Duration::from_secs(3600);

/// How values are kept: lifetime, tags, and what happens when the loader fails.
///
/// It can be a constant, and is then shared by every call:
///
/// ```
/// use std::time::Duration;
/// use peercache::Policy;
///
/// static QUOTES: Policy = Policy::fresh(Duration::from_secs(60))
///     .stale(Duration::from_secs(600))
///     .negative(Duration::from_secs(5))
///     .error_backoff(Duration::from_secs(2));
/// # let _ = QUOTES.tag("quotes");
/// ```
///
/// A value out of bounds is an error of the call that uses the policy, before anything is loaded.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Policy {
    ttl: Ttl,
    negative: Duration,
    negative_stale: Option<Duration>,
    error_backoff: Duration,
    jitter: f64,
    early: Option<f64>,
    stale_if_error: bool,
    stale_while_refreshing: bool,
    fixed_tags: &'static [&'static str],
    tags: Vec<String>,
}

impl Policy {
    /// Fresh for the cache's default TTL, never stale.
    pub const fn new() -> Self {
        Self::of(Ttl::of_the_cache())
    }

    /// Fresh for `fresh`, never stale. Fresh and stale time together are at most 30 days.
    pub const fn fresh(fresh: Duration) -> Self {
        Self::of(Ttl::new(fresh))
    }

    const fn of(ttl: Ttl) -> Self {
        Self {
            ttl,
            negative: NEGATIVE,
            negative_stale: None,
            error_backoff: Duration::ZERO,
            jitter: JITTER,
            early: None,
            stale_if_error: true,
            stale_while_refreshing: true,
            fixed_tags: &[],
            tags: Vec::new(),
        }
    }

    /// And stale for `stale` after that: given at once while it is refreshed in the background, and
    /// when the loader fails. Default: zero.
    pub const fn stale(mut self, stale: Duration) -> Self {
        self.ttl = self.ttl.with_stale(stale);
        self
    }

    /// How long "there is none" is fresh; see
    /// [`Fetch::load_optional`](crate::fetch::Fetch::load_optional). Default: 10 s.
    pub const fn negative(mut self, fresh: Duration) -> Self {
        self.negative = fresh;
        self
    }

    /// How long "there is none" is stale after that. Default: as long as a value is.
    pub const fn negative_stale(mut self, stale: Duration) -> Self {
        self.negative_stale = Some(stale);
        self
    }

    /// For how long after a load that failed no other one is started for the key by this process:
    /// callers get the stale value, or the same error. At most 1 h. Default: zero.
    pub const fn error_backoff(mut self, pause: Duration) -> Self {
        self.error_backoff = pause;
        self
    }

    /// The most by which a loaded value's fresh time is shortened, as a part of it from 0 to 0.5,
    /// so that what was loaded together does not expire together. By how much follows from the key
    /// and the version. Never longer: a TTL is a promise. What is stored by
    /// [`put`](crate::Cache::put) lives exactly as long as said. Default: 0.05.
    pub const fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// Refreshes a value that is still fresh once this part of its fresh time has passed, from 0 to
    /// 1, in the background. Default: never.
    pub const fn refresh_early_at(mut self, part: f64) -> Self {
        self.early = Some(part);
        self
    }

    /// Whether a stale value is given when the loader fails. Default: yes.
    pub const fn stale_if_error(mut self, serve: bool) -> Self {
        self.stale_if_error = serve;
        self
    }

    /// Whether a stale value is given at once and refreshed in the background. Without, the caller
    /// waits for the loader, and gets the stale value only if that fails. Default: yes.
    pub const fn stale_while_refreshing(mut self, serve: bool) -> Self {
        self.stale_while_refreshing = serve;
        self
    }

    /// Groups that each value belongs to, for [`By::Tag`](crate::By::Tag).
    pub const fn tags(mut self, tags: &'static [&'static str]) -> Self {
        self.fixed_tags = tags;
        self
    }

    /// The same policy with one more tag.
    pub fn tag(&self, tag: impl Into<String>) -> Self {
        let mut policy = self.clone();
        policy.tags.push(tag.into());
        policy
    }

    /// The same policy with another lifetime.
    pub(crate) fn with_ttl(&self, ttl: Ttl) -> Self {
        Self { ttl, ..self.clone() }
    }

    pub(crate) fn ttl(&self) -> Ttl {
        self.ttl
    }

    pub(crate) fn backoff(&self) -> Duration {
        self.error_backoff
    }

    pub(crate) fn serves_stale_if_error(&self) -> bool {
        self.stale_if_error
    }

    pub(crate) fn serves_stale_while_refreshing(&self) -> bool {
        self.stale_while_refreshing
    }

    pub(crate) fn all_tags(&self) -> impl Iterator<Item = &str> {
        self.fixed_tags.iter().copied().chain(self.tags.iter().map(String::as_str))
    }

    /// Adds a tag in place.
    pub(crate) fn push_tag(&mut self, tag: String) {
        self.tags.push(tag);
    }

    /// Whether a value of this age is to be refreshed although it is fresh.
    pub(crate) fn is_early(&self, age: Duration, fresh_for: Duration) -> bool {
        self.early.is_some_and(|part| age >= fresh_for.mul_f64(part))
    }

    /// Looks at every bound, so that nothing is loaded that cannot be kept. `default` is the
    /// cache's TTL.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the value, what is accepted and what to do.
    pub(crate) fn check(&self, default: Duration) -> Result<(), Error> {
        let refused = |what: String| {
            Err(Error::new(ErrorKind::Config, Operation::Configure, what).with_help("change the policy"))
        };
        let most = MAX_LIFETIME.as_secs();
        let lifetime = self.ttl.fresh_or(default).saturating_add(self.ttl.stale());
        if lifetime > MAX_LIFETIME {
            return refused(format!("a value would live {} s, the most is {most} s", lifetime.as_secs()));
        }
        let negative = self.negative.saturating_add(self.negative_stale.unwrap_or(self.ttl.stale()));
        if negative > MAX_LIFETIME {
            return refused(format!("an absence would live {} s, the most is {most} s", negative.as_secs()));
        }
        if self.error_backoff > MAX_ERROR_BACKOFF {
            let (given, most) = (self.error_backoff.as_secs(), MAX_ERROR_BACKOFF.as_secs());
            return refused(format!("error_backoff is {given} s, the most is {most} s"));
        }
        if !(0.0..=0.5).contains(&self.jitter) {
            return refused(format!("jitter is {}, it is from 0 to 0.5", self.jitter));
        }
        if let Some(part) = self.early
            && !(0.0..=1.0).contains(&part)
        {
            return refused(format!("refresh_early_at is {part}, it is from 0 to 1"));
        }
        check_tags(self.all_tags())
    }

    /// The lifetime of what was loaded under `key` as `version`; `default` is the cache's TTL.
    pub(crate) fn lifetime(&self, absent: bool, default: Duration, key: &Key, version: Version) -> Ttl {
        let (fresh, stale) = match absent {
            true => (self.negative, self.negative_stale.unwrap_or(self.ttl.stale())),
            false => (self.ttl.fresh_or(default), self.ttl.stale()),
        };
        let shorter = fresh.mul_f64(self.jitter * draw(key, version));
        Ttl::new(fresh.saturating_sub(shorter)).with_stale(stale)
    }
}

/// Looks at the number and the length of tags.
pub(crate) fn check_tags<'t>(tags: impl Iterator<Item = &'t str>) -> Result<(), Error> {
    let mut count = 0;
    for tag in tags {
        count += 1;
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES {
            let what = format!("a tag has 1 to {MAX_TAG_BYTES} bytes, one has {}", tag.len());
            return Err(Error::new(ErrorKind::Config, Operation::Configure, what)
                .with_help("tag with a digest of the long name"));
        }
    }
    if count > MAX_TAGS {
        let what = format!("there are {count} tags, the most is {MAX_TAGS}");
        return Err(Error::new(ErrorKind::Config, Operation::Configure, what).with_help("leave some out"));
    }
    Ok(())
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&Policy> for Policy {
    fn from(policy: &Policy) -> Self {
        policy.clone()
    }
}

impl From<Ttl> for Policy {
    fn from(ttl: Ttl) -> Self {
        Self::of(ttl)
    }
}

impl From<Duration> for Policy {
    fn from(fresh: Duration) -> Self {
        Self::fresh(fresh)
    }
}

/// Whether the cache or the loader is asked; see [`Fetch::refresh`](crate::fetch::Fetch::refresh).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refresh {
    /// The cache, and the loader when there is nothing to serve.
    #[default]
    Normal,
    /// The loader, whatever the cache has. Concurrent forced calls share one load. A load that was
    /// running already for other callers is not waited for.
    Force,
    /// The cache alone: a fresh value, else a stale one, else
    /// [`FetchError::NotCached`](crate::FetchError::NotCached).
    CacheOnly,
}

/// A number from 0 to 1 that follows from a key and a version: another on every node and for every
/// load.
fn draw(key: &Key, version: Version) -> f64 {
    let digest = key.digest();
    let start = u64::from_le_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    let mut state = start ^ version.node.as_u64() ^ version.wall.as_millis().rotate_left(32);
    state ^= u64::from(version.counter).rotate_left(16);
    // The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every
    // other.
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from((state ^ (state >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(high) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::{NodeId, Timestamp};

    const DEFAULT: Duration = Duration::from_secs(300);

    #[test]
    fn jitter_only_shortens_spreads_evenly_and_is_repeatable() {
        let policy = Policy::fresh(Duration::from_secs(1000)).jitter(0.1);
        let lifetime = |n: u32| {
            let version = Version { wall: Timestamp::EPOCH, counter: n, node: NodeId::from_u64(7) };
            policy.lifetime(false, Duration::ZERO, &Key::new("k").unwrap(), version).fresh_or(Duration::ZERO)
        };
        let all: Vec<_> = (0..1000).map(|n| lifetime(n).as_secs_f64()).collect();
        assert!(all.iter().all(|fresh| (900.0..=1000.0).contains(fresh)));
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!((945.0..955.0).contains(&mean), "{mean}");
        assert_eq!(lifetime(3), lifetime(3));
        assert_ne!(lifetime(3), lifetime(4));
    }

    #[test]
    fn a_policy_within_its_bounds_is_accepted() {
        static POLICY: Policy = Policy::fresh(Duration::from_secs(60))
            .stale(Duration::from_secs(600))
            .jitter(0.5)
            .refresh_early_at(1.0)
            .tags(&["a", "b"]);
        POLICY.check(DEFAULT).unwrap();
        POLICY.tag("c").check(DEFAULT).unwrap();
        assert!(POLICY.tag("c").all_tags().eq(["a", "b", "c"]));
        Policy::fresh(MAX_LIFETIME).check(DEFAULT).unwrap();
    }

    #[test]
    fn a_policy_out_of_bounds_is_refused_with_the_value_and_the_bound() {
        let minute = Policy::fresh(Duration::from_secs(60));
        let second = Duration::from_secs(1);
        for (policy, says) in [
            (minute.clone().jitter(7.0), "jitter is 7, it is from 0 to 0.5"),
            (minute.clone().jitter(f64::NAN), "jitter is NaN"),
            (minute.clone().refresh_early_at(-3.0), "refresh_early_at is -3, it is from 0 to 1"),
            (minute.clone().error_backoff(MAX_ERROR_BACKOFF + second), "error_backoff is 3601 s"),
            (minute.clone().stale(MAX_LIFETIME), "a value would live 2592060 s, the most is 2592000 s"),
            (minute.clone().negative(MAX_LIFETIME + second), "an absence would live 2592001 s"),
            (minute.tag(""), "a tag has 1 to 256 bytes, one has 0"),
            (
                (0..33).fold(minute, |policy, n| policy.tag(n.to_string())),
                "there are 33 tags, the most is 32",
            ),
        ] {
            let error = policy.check(DEFAULT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn an_absence_is_stale_as_long_as_a_value_unless_it_is_set() {
        let policy = Policy::fresh(Duration::from_secs(60)).stale(Duration::from_secs(9)).jitter(0.0);
        let absence =
            |policy: &Policy| policy.lifetime(true, DEFAULT, &Key::new("k").unwrap(), Version::ZERO);
        assert_eq!(absence(&policy), Ttl::from_secs(10).with_stale(Duration::from_secs(9)));
        let policy = policy.negative(Duration::from_secs(5)).negative_stale(Duration::ZERO);
        assert_eq!(absence(&policy), Ttl::from_secs(5));
    }
}
