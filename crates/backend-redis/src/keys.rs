//! The names of keys and channels on the server.

use peercache_api::{Error, ErrorKind, Operation};

/// The longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 128;

/// `PREFIX:{DIGEST}` for a blob and `PREFIX:{DIGEST}:lease` for its lease: what stands in braces
/// alone decides about the slot in a cluster, so a script may use both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) const DEFAULT_PREFIX: &str = "peercache";

    pub(crate) fn new(prefix: &str) -> Result<Self, Error> {
        let prefix = prefix.trim_end_matches(':');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
        if (1..=MAX_PREFIX_BYTES).contains(&prefix.len()) && prefix.chars().all(plain) {
            return Ok(Self { prefix: prefix.to_owned() });
        }
        Err(Error::new(ErrorKind::Config, Operation::Open, "the prefix of keys cannot be used")
            .with_backend("redis")
            .with_context("variable", "REDIS_PREFIX")
            .with_context("bytes", prefix.len())
            .with_help("choose 1 to 128 letters, digits, `-`, `_`, `.`, `:` or `/`"))
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of the blob called `name`.
    pub(crate) fn blob(&self, name: &str) -> String {
        self.key(name, "")
    }

    fn key(&self, name: &str, end: &str) -> String {
        [self.prefix.as_str(), ":{", name, "}", end].concat()
    }

    /// The key of its lease.
    pub(crate) fn lease(&self, name: &str) -> String {
        self.key(name, ":lease")
    }

    /// The channel of removals.
    pub(crate) fn removals(&self) -> String {
        format!("{}:removed", self.prefix)
    }

    /// The channel of leases that have ended.
    pub(crate) fn leases(&self) -> String {
        format!("{}:lease-ended", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_blob_share_a_slot_and_begin_with_the_prefix() {
        let keys = Keys::new("team:ci:").unwrap();
        assert_eq!(keys.blob("ab12"), "team:ci:{ab12}");
        assert_eq!(keys.lease("ab12"), "team:ci:{ab12}:lease");
        assert_eq!(
            (keys.removals(), keys.leases()),
            ("team:ci:removed".into(), "team:ci:lease-ended".into())
        );
    }

    #[test]
    fn prefix_that_would_change_the_slot_or_the_pattern_is_refused() {
        for prefix in ["", ":", "a{b", "a}b", "a*", "a b", "ä", "a?b", &"x".repeat(129)] {
            let error = Keys::new(prefix).unwrap_err();
            assert_eq!((error.kind(), error.context("variable")), (ErrorKind::Config, Some("REDIS_PREFIX")));
        }
    }
}
