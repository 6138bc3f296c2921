//! Pinned digests of what we download, and the check against them.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

use crate::failure::Failure;

/// The digest that a download must have, written as its publisher writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// SHA-256 in lower-case hexadecimal: the notation of Debian and PyPI.
    Sha256(&'static str),
    /// SHA-512 in base64: the npm registry's notation.
    Sha512(&'static str),
}

impl Pin {
    /// The digest of `bytes`, in the same notation as this pin.
    fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Sha256(_) => Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            Self::Sha512(_) => STANDARD.encode(Sha512::digest(bytes)),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Sha256(digest) | Self::Sha512(digest) => digest,
        }
    }

    /// Checks `bytes`, which came as `name`.
    pub(crate) fn check(self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let found = self.of(bytes);
        if found == self.expected() {
            return Ok(());
        }
        Err(Failure::new(
            format!("{name} is not what was published: its {self} is {found}, expected {}", self.expected()),
            "do not use it; try another network, and if it stays so, report it",
        ))
    }

    /// Checks a file.
    pub(crate) fn check_file(self, file: &Path) -> Result<(), Failure> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(file).map_err(|error| {
            Failure::new(format!("{name} cannot be read: {error}"), "run the same command again")
        })?;
        self.check(&name, &bytes)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256(_) => "SHA-256",
            Self::Sha512(_) => "SHA-512",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-2, appendix B.1 and C.1: the digests of "abc".
    const ABC_256: Pin = Pin::Sha256("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const ABC_512: Pin = Pin::Sha512(
        "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==",
    );

    #[test]
    fn the_published_digest_is_accepted_and_nothing_else() {
        for pin in [ABC_256, ABC_512] {
            assert_eq!(pin.check("abc", b"abc"), Ok(()));
            assert!(pin.check("abc", b"abd").is_err());
            assert!(pin.check("abc", b"").is_err());
        }
    }

    #[test]
    fn a_mismatch_names_the_file_and_both_digests() {
        let message = ABC_256.check("gh.deb", b"other").unwrap_err().to_string();
        assert!(message.starts_with("gh.deb is not what was published: its SHA-256 is "), "{message}");
        assert!(message.contains("expected ba7816bf"), "{message}");
    }

    #[test]
    fn a_file_that_is_gone_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ABC_256.check_file(&dir.path().join("none")).is_err());
        let file = dir.path().join("abc");
        std::fs::write(&file, "abc").unwrap();
        assert_eq!(ABC_256.check_file(&file), Ok(()));
    }
}
