//! Primary rate limits: buckets that several tokens may share, windows that reset.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peercache_api::Clock;
use serde_json::{Value, json};

use crate::error::FakeHubError;
use crate::log::lock;
use crate::token::Caller;

/// How many windows (bucket and resource) are remembered.
pub const MAX_WINDOWS: usize = 65_536;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const DEFAULT_LIMIT: u64 = 5000;
const ANONYMOUS_LIMIT: u64 = 60;

/// What a request counts against, as `x-ratelimit-resource` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Resource {
    Core,
    Search,
    CodeSearch,
    Graphql,
}

impl Resource {
    pub(crate) const ALL: [Self; 4] = [Self::Core, Self::Search, Self::CodeSearch, Self::Graphql];

    /// The resource of an API path.
    pub(crate) fn of(path: &str) -> Self {
        match path.trim_end_matches('/') {
            "/graphql" => Self::Graphql,
            "/search/code" => Self::CodeSearch,
            path if path.starts_with("/search/") => Self::Search,
            _ => Self::Core,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Search => "search",
            Self::CodeSearch => "code_search",
            Self::Graphql => "graphql",
        }
    }

    const fn window(self) -> Duration {
        match self {
            Self::Core | Self::Graphql => HOUR,
            Self::Search | Self::CodeSearch => MINUTE,
        }
    }
}

/// A bucket as the `x-ratelimit-*` headers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) resource: Resource,
    pub(crate) limit: u64,
    pub(crate) used: u64,
    /// Seconds since the Unix epoch.
    pub(crate) reset: u64,
}

impl Usage {
    pub(crate) const fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    fn json(&self) -> Value {
        json!({ "limit": self.limit, "used": self.used, "remaining": self.remaining(), "reset": self.reset })
    }
}

#[derive(Clone, Copy)]
struct Window {
    used: u64,
    /// Seconds since the Unix epoch.
    reset: u64,
}

/// A bucket's name and its limit of core requests per hour.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    limit: u64,
    anonymous: bool,
}

impl Bucket {
    const fn limit(&self, resource: Resource) -> u64 {
        match (resource, self.anonymous) {
            (Resource::Core, _) => self.limit,
            (Resource::Search, false) => 30,
            (Resource::Search | Resource::CodeSearch, _) => 10,
            (Resource::Graphql, false) => DEFAULT_LIMIT,
            // GitHub takes no anonymous GraphQL.
            (Resource::Graphql, true) => 0,
        }
    }

    /// What all anonymous callers share.
    pub(crate) fn anonymous() -> Self {
        Self { name: "anonymous".to_owned(), limit: ANONYMOUS_LIMIT, anonymous: true }
    }
}

/// All buckets and their windows.
pub(crate) struct Limits {
    by_token: HashMap<String, Bucket>,
    windows: Mutex<HashMap<(String, Resource), Window>>,
    enforced: bool,
    clock: Arc<dyn Clock>,
}

impl Limits {
    /// Buckets from (token, name, limit). Tokens with one name share one bucket; its limit need be
    /// said once.
    pub(crate) fn new(
        given: Vec<(String, String, Option<u64>)>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FakeHubError> {
        let mut limits: HashMap<&str, u64> = HashMap::new();
        for (_, name, limit) in &given {
            let Some(limit) = limit else { continue };
            match limits.insert(name, *limit) {
                Some(other) if other != *limit => {
                    return Err(FakeHubError::Config(format!(
                        "bucket {name:?} is given two limits, {other} and {limit}; say it once, or the same each time"
                    )));
                }
                _ => {}
            }
        }
        let mut by_token: HashMap<String, Bucket> = HashMap::new();
        for (token, name, _) in &given {
            let limit = limits.get(name.as_str()).copied().unwrap_or(DEFAULT_LIMIT);
            let bucket = Bucket { name: name.clone(), limit, anonymous: false };
            match by_token.insert(token.clone(), bucket) {
                Some(other) if other.name != *name => {
                    return Err(FakeHubError::Config(format!(
                        "one token is put into two buckets, {:?} and {name:?}; a token has one",
                        other.name
                    )));
                }
                _ => {}
            }
        }
        Ok(Self { by_token, windows: Mutex::default(), enforced: true, clock })
    }

    /// Counts as before, and refuses nobody: of each limit one is always left.
    pub(crate) fn unlimited(self) -> Self {
        Self { enforced: false, ..self }
    }

    /// The bucket of a caller: the one given, or one of its own.
    pub(crate) fn bucket(&self, caller: &Caller) -> Bucket {
        match caller.token() {
            None => Bucket::anonymous(),
            Some(token) => self.by_token.get(token).cloned().unwrap_or_else(|| Bucket {
                name: format!("user-{}", caller.id()),
                limit: DEFAULT_LIMIT,
                anonymous: false,
            }),
        }
    }

    /// The state of a bucket, nothing taken.
    pub(crate) fn usage(&self, bucket: &Bucket, resource: Resource) -> Usage {
        self.with_window(bucket, resource, |_, _| {})
    }

    /// Takes one request. `Err` when none is left and the limits are enforced.
    pub(crate) fn take(&self, bucket: &Bucket, resource: Resource) -> Result<Usage, Usage> {
        let mut taken = false;
        let usage = self.with_window(bucket, resource, |window, limit| {
            taken = !self.enforced || window.used < limit;
            window.used += u64::from(taken);
        });
        if taken { Ok(usage) } else { Err(usage) }
    }

    /// Gives back what [`Limits::take`] took in the window that resets at `taken.reset`.
    pub(crate) fn give_back(&self, bucket: &Bucket, taken: Usage) -> Usage {
        self.with_window(bucket, taken.resource, |window, _| {
            if window.reset == taken.reset {
                window.used = window.used.saturating_sub(1);
            }
        })
    }

    fn with_window(
        &self,
        bucket: &Bucket,
        resource: Resource,
        change: impl FnOnce(&mut Window, u64),
    ) -> Usage {
        let now = self.clock.now().as_millis() / 1000;
        let limit = bucket.limit(resource);
        let key = (bucket.name.clone(), resource);
        let mut windows = lock(&self.windows);
        if windows.len() >= MAX_WINDOWS && !windows.contains_key(&key) {
            windows.retain(|_, window| window.reset > now);
            if windows.len() >= MAX_WINDOWS {
                let next = windows.iter().min_by_key(|(_, window)| window.reset).map(|(key, _)| key.clone());
                next.and_then(|key| windows.remove(&key));
            }
        }
        let fresh = Window { used: 0, reset: now + resource.window().as_secs() };
        let window = windows.entry(key).or_insert(fresh);
        if window.reset <= now {
            *window = fresh;
        }
        change(window, limit);
        // Who goes on answering does not say that nothing is left.
        let used = if self.enforced { window.used } else { window.used.min(limit.saturating_sub(1)) };
        Usage { resource, limit, used, reset: window.reset }
    }

    /// The body of `GET /rate_limit`.
    pub(crate) fn report(&self, bucket: &Bucket) -> Value {
        let mut resources = serde_json::Map::new();
        for resource in Resource::ALL {
            resources.insert(resource.as_str().to_owned(), self.usage(bucket, resource).json());
        }
        json!({ "resources": resources, "rate": self.usage(bucket, Resource::Core).json() })
    }
}

#[cfg(test)]
mod tests {
    use peercache_api::Timestamp;

    use super::*;
    use peercache_testkit::ManualClock;

    fn limits(given: &[(&str, &str, Option<u64>)]) -> Result<(Limits, Arc<ManualClock>), FakeHubError> {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let given = given.iter().map(|(t, n, l)| ((*t).to_owned(), (*n).to_owned(), *l)).collect();
        Ok((Limits::new(given, clock.clone())?, clock))
    }

    #[test]
    fn a_window_empties_and_resets() {
        let (limits, clock) = limits(&[("t", "b", Some(2))]).unwrap();
        let bucket = limits.by_token["t"].clone();
        let first = limits.take(&bucket, Resource::Core).unwrap();
        assert_eq!((first.limit, first.used, first.remaining(), first.reset), (2, 1, 1, 1000 + 3600));
        limits.take(&bucket, Resource::Core).unwrap();
        let none = limits.take(&bucket, Resource::Core).unwrap_err();
        assert_eq!((none.used, none.remaining()), (2, 0));
        assert_eq!(limits.usage(&bucket, Resource::Search).limit, 30);
        clock.advance(HOUR);
        assert_eq!(limits.take(&bucket, Resource::Core).unwrap().used, 1);
        // What was taken in the window before is not given back in this one.
        assert_eq!(limits.give_back(&bucket, first).used, 1);
    }

    #[test]
    fn contradictions_are_refused_without_naming_the_token() {
        let text = |given: &[_]| limits(given).err().map(|error| error.to_string()).unwrap();
        assert_eq!(
            text(&[("secret", "b", Some(1)), ("other", "b", Some(2))]),
            "bucket \"b\" is given two limits, 1 and 2; say it once, or the same each time"
        );
        assert_eq!(
            text(&[("secret", "a", None), ("secret", "b", None)]),
            "one token is put into two buckets, \"a\" and \"b\"; a token has one"
        );
    }

    #[test]
    fn without_limits_nobody_is_refused_and_one_is_always_left() {
        let (limits, _) = limits(&[("t", "b", Some(3))]).unwrap();
        let limits = limits.unlimited();
        let bucket = limits.by_token["t"].clone();
        for used in [1, 2, 2, 2] {
            let taken = limits.take(&bucket, Resource::Core).unwrap();
            assert_eq!((taken.used, taken.remaining()), (used, 3 - used));
        }
    }

    #[test]
    fn windows_are_bounded() {
        let (limits, _) = limits(&[]).unwrap();
        for n in 0..MAX_WINDOWS + 10 {
            let bucket = Bucket { name: n.to_string(), limit: 1, anonymous: false };
            limits.take(&bucket, Resource::Core).unwrap();
        }
        assert_eq!(lock(&limits.windows).len(), MAX_WINDOWS);
    }
}
