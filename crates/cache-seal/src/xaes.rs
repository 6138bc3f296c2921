//! XAES-256-GCM: AES-256-GCM with a key of its own for every message, derived from a 192-bit nonce.
//!
//! Follows the specification of C2SP, <https://c2sp.org/XAES-256-GCM>. Plain AES-GCM must not see
//! more than 2^32 random nonces under one key; here a fleet may seal 2^80 entries. The derivation
//! is CMAC-AES256 over a single block (NIST SP 800-108r1 in counter mode), two AES calls for a
//! message.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::{AeadInOut, Aes256Gcm};
use zeroize::Zeroizing;

/// Length of the key, in bytes.
pub(crate) const KEY_BYTES: usize = 32;
/// Length of the nonce, in bytes.
pub(crate) const NONCE_BYTES: usize = 24;
/// Length of the tag that follows the ciphertext, in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// The bytes are not what was encrypted under this key, nonce and associated data, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// A key, with what can be computed once for all messages.
pub(crate) struct Xaes256Gcm {
    aes: Aes256,
    /// The CMAC subkey K1 of NIST SP 800-38B; messages are whole blocks, so K2 is never needed.
    subkey: Zeroizing<[u8; 16]>,
}

impl Xaes256Gcm {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        let aes = Aes256::new(key.into());
        let mut block = aes_gcm::aes::Block::default();
        aes.encrypt_block(&mut block);
        let doubled = Zeroizing::new(u128::from_be_bytes(block.into()));
        // Doubling in GF(2^128), with the polynomial of SP 800-38B; a mask instead of a branch,
        // because the bit that decides is secret.
        let reduce = (*doubled >> 127).wrapping_neg() & 0b1000_0111;
        Self { aes, subkey: Zeroizing::new(((*doubled << 1) ^ reduce).to_be_bytes()) }
    }

    /// Encrypts `buffer` in place and returns the tag.
    pub(crate) fn encrypt(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Refused> {
        let (cipher, rest) = self.derive(nonce);
        cipher
            .encrypt_inout_detached(&rest.into(), associated, InOutBuf::from(buffer))
            .map(Into::into)
            .map_err(|_| Refused)
    }

    /// Decrypts `buffer` in place; it is left as it was when the tag does not fit.
    pub(crate) fn decrypt(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Refused> {
        let (cipher, rest) = self.derive(nonce);
        cipher
            .decrypt_inout_detached(&rest.into(), associated, InOutBuf::from(buffer), tag.into())
            .map_err(|_| Refused)
    }

    /// The message's own cipher, and the half of the nonce that is left for it.
    fn derive(&self, nonce: &[u8; NONCE_BYTES]) -> (Aes256Gcm, [u8; 12]) {
        let key = self.message_key(nonce);
        let mut rest = [0; 12];
        rest.copy_from_slice(&nonce[12..]);
        (Aes256Gcm::new((&*key).into()), rest)
    }

    fn message_key(&self, nonce: &[u8; NONCE_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (counter, half) in (1_u8..).zip(key.chunks_exact_mut(16)) {
            let mut block = [0; 16];
            block[1] = counter;
            block[2] = b'X';
            block[4..].copy_from_slice(&nonce[..12]);
            for (byte, mask) in block.iter_mut().zip(self.subkey.iter()) {
                *byte ^= mask;
            }
            let mut block = block.into();
            self.aes.encrypt_block(&mut block);
            half.copy_from_slice(&block);
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::{hex, unhex};
    use shake::Shake128;
    use shake::digest::{ExtendableOutput, Update, XofReader};

    const NONCE: &[u8; 24] = b"ABCDEFGHIJKLMNOPQRSTUVWX";

    /// Both vectors of the specification: with the top bit of L clear, and set.
    #[test]
    fn published_vectors() {
        for (key, subkey, message_key, associated, sealed) in [
            (
                [1; 32],
                "e531954aca063d5b8d9c47a47d4cc6f0",
                "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
                "",
                "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
            ),
            (
                [3; 32],
                "23810ec50edb99f374409466ed1f4b7b",
                "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
                "c2sp.org/XAES-256-GCM",
                "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
            ),
        ] {
            let cipher = Xaes256Gcm::new(&key);
            assert_eq!(hex(&*cipher.subkey), subkey);
            assert_eq!(hex(&*cipher.message_key(NONCE)), message_key);
            let mut buffer = *b"XAES-256-GCM";
            let tag = cipher.encrypt(NONCE, associated.as_bytes(), &mut buffer).unwrap();
            assert_eq!(hex(&[&buffer[..], &tag].concat()), sealed);
            cipher.decrypt(NONCE, associated.as_bytes(), &mut buffer, &tag).unwrap();
            assert_eq!(&buffer, b"XAES-256-GCM");
        }
    }

    /// The specification's randomised test: as many messages as `rounds`, drawn from one SHAKE-128.
    fn accumulated(rounds: u32) -> String {
        let mut random = Shake128::default().finalize_xof();
        let mut sealed = Shake128::default();
        let variable = |random: &mut dyn FnMut(&mut [u8])| {
            let mut length = [0];
            random(&mut length);
            let mut bytes = vec![0; usize::from(length[0])];
            random(&mut bytes);
            bytes
        };
        for _ in 0..rounds {
            let mut draw = |bytes: &mut [u8]| random.read(bytes);
            let (mut key, mut nonce) = ([0; 32], [0; 24]);
            draw(&mut key);
            draw(&mut nonce);
            let plaintext = variable(&mut draw);
            let associated = variable(&mut draw);
            let cipher = Xaes256Gcm::new(&key);
            let mut buffer = plaintext.clone();
            let tag = cipher.encrypt(&nonce, &associated, &mut buffer).unwrap();
            sealed.update(&buffer);
            sealed.update(&tag);
            cipher.decrypt(&nonce, &associated, &mut buffer, &tag).unwrap();
            assert_eq!(buffer, plaintext);
        }
        let mut digest = [0; 32];
        sealed.finalize_xof().read(&mut digest);
        hex(&digest)
    }

    #[test]
    fn published_accumulated_vector_of_ten_thousand() {
        assert_eq!(accumulated(10_000), "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
    }

    #[test]
    #[ignore = "minutes without optimisation; run with --release -- --ignored"]
    fn published_accumulated_vector_of_a_million() {
        assert_eq!(
            accumulated(1_000_000),
            "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"
        );
    }

    #[test]
    fn every_part_is_authenticated_and_a_refusal_leaves_the_buffer_alone() {
        let cipher = Xaes256Gcm::new(&[7; 32]);
        let mut sealed = *b"some bytes";
        let tag = cipher.encrypt(NONCE, b"about", &mut sealed).unwrap();
        let mut other_nonce = *NONCE;
        let mut other_tag = tag;
        other_tag[15] ^= 0x80;
        for byte in 0..24 {
            other_nonce[byte] ^= 1;
            assert_eq!(cipher.decrypt(&other_nonce, b"about", &mut sealed.clone(), &tag), Err(Refused));
            other_nonce[byte] ^= 1;
        }
        let mut buffer = sealed;
        assert_eq!(cipher.decrypt(NONCE, b"about", &mut buffer, &other_tag), Err(Refused));
        assert_eq!(cipher.decrypt(NONCE, b"abouT", &mut buffer, &tag), Err(Refused));
        assert_eq!(Xaes256Gcm::new(&[8; 32]).decrypt(NONCE, b"about", &mut buffer, &tag), Err(Refused));
        assert_eq!(buffer, sealed);
    }

    #[test]
    fn test_helpers_read_what_they_write() {
        assert_eq!(unhex(&hex(&[0, 0x9f, 0xff])), [0, 0x9f, 0xff]);
    }
}
