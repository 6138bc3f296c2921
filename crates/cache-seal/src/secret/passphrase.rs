//! From a passphrase to a root key: Argon2id, made slow on purpose.

use argon2::{Algorithm, Argon2, Params, Version};
use peercache_api::{Error, ErrorKind, Operation};

use super::Bytes32;

/// RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes. These numbers are
/// part of the format: with others the same passphrase is another secret.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// A salt would have to be carried to every runner beside the passphrase, and then it could as well
/// be a generated secret. This one only keeps our keys apart from other programs' that use
/// Argon2id.
const SALT: &[u8] = b"peercache passphrase 1";

/// The root key of this passphrase.
pub(super) fn stretch(passphrase: &str) -> Result<Bytes32, Error> {
    let refuse = |error: argon2::Error| {
        Error::new(ErrorKind::Config, Operation::Configure, "the passphrase cannot be turned into a key")
            .with_context("reason", error)
            .with_help("use a secret from `peercache keygen` instead")
    };
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(refuse)?;
    let mut root = Bytes32::default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), SALT, &mut *root)
        .map_err(refuse)?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use crate::Secret;

    /// One passphrase, one fleet, for ever, with or without white space around it.
    #[test]
    fn a_passphrase_always_gives_the_same_secret() {
        let secret = Secret::parse("\tcorrect horse battery staple\r\n").unwrap();
        insta::assert_snapshot!(secret.id(), @"a60bdbcc8feef9ce");
    }
}
