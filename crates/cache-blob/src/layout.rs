//! The name of the blob that holds an entry.

use peercache_api::{Error, ErrorKind, Key, Operation, util};

use crate::store::Naming;

/// The longest prefix, in bytes. S3 allows names of 1,024 bytes; what follows the prefix has 69.
const MAX_PREFIX_BYTES: usize = 512;

/// Names blobs: `PREFIX/ab/cd/REST` or `PREFIX/abcdREST`, the key's digest in hexadecimal.
///
/// The prefix is part of every name with exactly one `/` after it, so that a lifecycle rule and an
/// access policy can be limited to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    prefix: String,
    naming: Naming,
}

impl Layout {
    /// A layout without a prefix.
    pub(crate) fn new(naming: Naming) -> Self {
        Self { prefix: String::new(), naming }
    }

    /// The same below `prefix`; slashes at both ends are ignored.
    pub(crate) fn below(self, prefix: &str) -> Result<Self, Error> {
        let trimmed = prefix.trim_matches('/');
        let bad = |message: &'static str| {
            Err(Error::new(ErrorKind::Config, Operation::Open, message)
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
        Ok(Self { prefix, ..self })
    }

    /// The prefix of every name: empty, or with a `/` at its end.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the blob that holds the entry under `key`.
    pub(crate) fn name(&self, key: &Key) -> String {
        let digits = util::hex(key.digest());
        match self.naming {
            Naming::Folders => {
                format!("{}{}/{}/{}", self.prefix, &digits[..2], &digits[2..4], &digits[4..])
            }
            _ if self.prefix.is_empty() => digits,
            _ => [self.prefix.as_str(), &digits].concat(),
        }
    }

    /// The name of the blob that finds out what the store can do; no digest is named like it.
    pub(crate) fn probe(&self) -> String {
        format!("{}peercache-probe", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(prefix: &str) -> Result<Layout, Error> {
        Layout::new(Naming::Folders).below(prefix)
    }

    #[test]
    fn name_is_prefix_and_digest_in_three_parts() {
        let key = Key::new("a").unwrap();
        let digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        let rest = format!("{}/{}/{}", &digest[..2], &digest[2..4], &digest[4..]);
        assert_eq!(below("").unwrap().name(&key), rest);
        for prefix in ["ci/cache", "/ci/cache/", "ci/cache//"] {
            assert_eq!(below(prefix).unwrap().name(&key), format!("ci/cache/{rest}"), "{prefix}");
        }
        assert_eq!(below("x").unwrap().probe(), "x/peercache-probe");
        assert_eq!(Layout::new(Naming::Flat).below("p").unwrap().name(&key), format!("p/{digest}"));
    }

    #[test]
    fn name_of_a_key_known_by_its_digest_is_the_same() {
        let key = Key::new("acme/hidden").unwrap();
        let layout = below("p").unwrap();
        assert_eq!(layout.name(&key), layout.name(&Key::from_digest(*key.digest())));
        assert!(!layout.name(&key).contains("acme"));
    }

    #[test]
    fn prefix_that_others_would_normalise_is_refused() {
        for prefix in ["a//b", "a/./b", "../a", "a b", "ä", "a?b", "a#b", "a%2Fb", &"x".repeat(513)] {
            assert_eq!(below(prefix).map_err(|error| error.kind()), Err(ErrorKind::Config), "{prefix}");
        }
    }
}
