//! Ed25519 signatures and keys in their multiformat.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::Malformed;

/// Varsig header of an Ed25519 signature: multicodec 0xd0ed, then the length, both as varints.
const HEADER: [u8; 4] = [0xed, 0xa1, 0x03, 64];
/// Multicodec `ed25519-priv`, as a varint.
const ED25519_PRIV: [u8; 2] = [0x80, 0x26];
const ED25519_PUB: [u8; 2] = [0xed, 0x01];

pub(crate) fn sign(key: &SigningKey, bytes: &[u8]) -> Vec<u8> {
    [&HEADER[..], &key.sign(bytes).to_bytes()].concat()
}

/// Strict (RFC 8032, section 5.1.7).
pub(crate) fn verify(key: &VerifyingKey, bytes: &[u8], signature: &[u8]) -> Result<(), Malformed> {
    let signature: [u8; 64] = signature
        .strip_prefix(&HEADER)
        .and_then(|signature| signature.try_into().ok())
        .ok_or(Malformed("a signature is not one of Ed25519"))?;
    key.verify_strict(bytes, &Signature::from_bytes(&signature))
        .map_err(|_| Malformed("a signature does not match"))
}

/// A private key from its multiformat: seed and public key, each behind its multicodec.
pub(crate) fn key_from_bytes(bytes: &[u8]) -> Result<SigningKey, Malformed> {
    let rest = bytes.strip_prefix(&ED25519_PRIV).ok_or(Malformed("it is no private Ed25519 key"))?;
    let (seed, rest) = rest.split_first_chunk::<32>().ok_or(Malformed("the private key is cut off"))?;
    let key = SigningKey::from_bytes(seed);
    match rest.strip_prefix(&ED25519_PUB) {
        Some(public) if public == key.verifying_key().as_bytes() => Ok(key),
        _ => Err(Malformed("the two halves of the private key do not belong together")),
    }
}

/// A private key as `storacha key create` prints it: multibase base64 with padding (`Mg…`).
pub(crate) fn key_from_text(text: &str) -> Result<SigningKey, Malformed> {
    let digits = text.strip_prefix('M').ok_or(Malformed("the key does not begin with `Mg`"))?;
    let bytes = Zeroizing::new(STANDARD.decode(digits).map_err(|_| Malformed("the key is no base64"))?);
    key_from_bytes(&bytes)
}

/// The text that [`key_from_text`] reads.
pub(crate) fn key_to_text(key: &SigningKey) -> Zeroizing<String> {
    let bytes = Zeroizing::new(
        [&ED25519_PRIV[..], key.as_bytes(), &ED25519_PUB, key.verifying_key().as_bytes()].concat(),
    );
    Zeroizing::new(format!("M{}", STANDARD.encode(&*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_signatures_survive_and_damage_is_noticed() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let text = key_to_text(&key);
        assert!(text.starts_with("Mg"));
        assert_eq!(key_from_text(&text).unwrap(), key);
        assert!(key_from_text(&text[..40]).is_err());
        let signature = sign(&key, b"text");
        assert_eq!(verify(&key.verifying_key(), b"text", &signature), Ok(()));
        assert!(verify(&key.verifying_key(), b"texu", &signature).is_err());
        assert!(verify(&key.verifying_key(), b"text", &signature[..60]).is_err());
    }
}
