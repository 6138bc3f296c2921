//! What GitHub says about a rate limit in the headers of an answer.

use http::HeaderMap;

/// A rate limit at one moment, as `x-ratelimit-*` tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    /// Seconds since the Unix epoch.
    pub(crate) reset: u64,
}

impl Quota {
    /// The one that an answer tells; nothing if it tells none.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let limit = number("x-ratelimit-limit")?;
        let remaining = number("x-ratelimit-remaining")?;
        // Less remaining is more used, also where both are told and differ.
        let used = limit.saturating_sub(remaining);
        Some(Self { limit, used, reset: number("x-ratelimit-reset")? })
    }
}

/// The resources that requests are told apart by before they are sent, as `x-ratelimit-resource`
/// names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Resource {
    Core,
    Search,
    CodeSearch,
    Graphql,
}

impl Resource {
    /// The resource that a request for this normalised path counts against.
    pub(crate) fn of(path: &str) -> Self {
        match path {
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

    /// Whether an answer is about this resource. One that names none is about `core`.
    pub(crate) fn is_named(self, headers: &HeaderMap) -> bool {
        headers.get("x-ratelimit-resource").map_or(self == Self::Core, |name| name == self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn quota_is_read_from_the_headers() {
        let all = headers(&[
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", "4990"),
            ("x-ratelimit-reset", "1800003600"),
            ("x-ratelimit-resource", "search"),
        ]);
        assert_eq!(Quota::of(&all), Some(Quota { limit: 5000, used: 10, reset: 1_800_003_600 }));
        assert!(Resource::Search.is_named(&all) && !Resource::Core.is_named(&all));
        assert_eq!(Quota::of(&headers(&[("x-ratelimit-limit", "5000")])), None);
        assert!(Resource::Core.is_named(&HeaderMap::new()));
    }

    #[test]
    fn resource_is_known_by_path() {
        for (path, resource) in [
            ("/graphql", Resource::Graphql),
            ("/search/code", Resource::CodeSearch),
            ("/search/issues", Resource::Search),
            ("/repos/o/r", Resource::Core),
        ] {
            assert_eq!(Resource::of(path), resource, "{path}");
        }
    }
}
