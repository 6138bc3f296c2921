//! Where an entry lies in the bucket.

use std::fmt::Write as _;

use peercache_api::{Error, ErrorKind, Key, Operation};

/// The longest prefix, in bytes. S3 names have at most 1024; what follows the prefix has 69.
pub(crate) const MAX_PREFIX_BYTES: usize = 512;

/// Names objects: `PREFIX/ab/cd/REST`, the key's digest in hexadecimal.
///
/// Two levels, because S3 scales by prefix and people look at buckets in folders. The prefix is part of
/// every name with exactly one `/` after it, so that a lifecycle rule and an IAM policy can be limited to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    prefix: String,
}

impl Layout {
    /// A layout below `prefix`; slashes at both ends are ignored.
    pub(crate) fn new(prefix: &str) -> Result<Self, Error> {
        let trimmed = prefix.trim_matches('/');
        let bad = |message: &'static str| {
            Err(Error::new(ErrorKind::Config, Operation::Open, message)
                .with_backend("s3")
                .with_context("variable", "S3_PREFIX")
                .with_help("choose a prefix of letters, digits, `-`, `_`, `.` and `/`"))
        };
        if trimmed.len() > MAX_PREFIX_BYTES {
            return bad("the prefix is longer than 512 bytes");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+@!'()*".contains(c);
        if !trimmed.chars().all(plain) {
            return bad("the prefix has a character that is not safe in names of objects");
        }
        // Proxies and clients normalise these away, and then sign another name.
        if !trimmed.is_empty() && trimmed.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return bad("the prefix has an empty part, `.` or `..`");
        }
        let prefix = if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") };
        Ok(Self { prefix })
    }

    /// The prefix of every name: empty, or with a `/` at its end.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the object that holds the entry under `key`.
    pub(crate) fn object(&self, key: &Key) -> String {
        let digest = key.digest();
        let mut name = String::with_capacity(self.prefix.len() + 2 * digest.len() + 2);
        name.push_str(&self.prefix);
        for (index, byte) in digest.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
            if index < 2 {
                name.push('/');
            }
        }
        name
    }

    /// The name of the object that finds out what the store can do; no digest is named like it.
    pub(crate) fn probe(&self) -> String {
        format!("{}peercache-probe", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_prefix_and_the_digest_in_three_parts() {
        let key = Key::new("a").unwrap();
        let digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        let rest = format!("{}/{}/{}", &digest[..2], &digest[2..4], &digest[4..]);
        assert_eq!(Layout::new("").unwrap().object(&key), rest);
        for prefix in ["ci/cache", "/ci/cache/", "ci/cache//"] {
            assert_eq!(Layout::new(prefix).unwrap().object(&key), format!("ci/cache/{rest}"), "{prefix}");
        }
        assert_eq!(Layout::new("x").unwrap().probe(), "x/peercache-probe");
    }

    #[test]
    fn a_key_of_which_only_the_digest_is_known_has_the_same_name() {
        let key = Key::new("acme/hidden").unwrap();
        let layout = Layout::new("p").unwrap();
        assert_eq!(layout.object(&key), layout.object(&Key::from_digest(*key.digest())));
        assert!(!layout.object(&key).contains("acme"));
    }

    #[test]
    fn prefixes_that_would_be_read_differently_are_refused() {
        for prefix in ["a//b", "a/./b", "../a", "a b", "ä", "a?b", "a#b", "a%2Fb", &"x".repeat(513)] {
            assert_eq!(Layout::new(prefix).map_err(|error| error.kind()), Err(ErrorKind::Config), "{prefix}");
        }
    }
}
