//! The names of keys and channels on the server.

use std::fmt;
use std::io::Write as _;

use peercache_api::{Error, ErrorKind, Operation};
use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};

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
    pub(crate) fn blob<'a>(&'a self, name: &'a str) -> BlobKey<'a> {
        BlobKey { prefix: &self.prefix, name, end: "" }
    }

    /// The key of its lease.
    pub(crate) fn lease<'a>(&'a self, name: &'a str) -> BlobKey<'a> {
        BlobKey { end: ":lease", ..self.blob(name) }
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

/// A key, which becomes an argument of a command without a string of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlobKey<'a> {
    prefix: &'a str,
    name: &'a str,
    end: &'static str,
}

impl BlobKey<'_> {
    fn parts(&self) -> [&str; 5] {
        [self.prefix, ":{", self.name, "}", self.end]
    }
}

impl fmt::Display for BlobKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().iter().try_for_each(|part| f.write_str(part))
    }
}

impl ToRedisArgs for BlobKey<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut argument = out.writer_for_next_arg();
        for part in self.parts() {
            // Arguments are written into memory, which cannot fail.
            let _written = argument.write_all(part.as_bytes());
        }
    }
}

impl ToSingleRedisArg for BlobKey<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_blob_share_a_slot_and_begin_with_the_prefix() {
        let keys = Keys::new("team:ci:").unwrap();
        for (key, text) in
            [(keys.blob("ab12"), "team:ci:{ab12}"), (keys.lease("ab12"), "team:ci:{ab12}:lease")]
        {
            assert_eq!(key.to_string(), text);
            assert_eq!(key.to_redis_args(), [text.as_bytes()], "one argument");
        }
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
