//! Digests in hexadecimal.

use std::fmt;

/// 32 bytes as 64 hexadecimal digits, without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hex([u8; 64]);

impl Hex {
    pub(crate) fn as_str(&self) -> &str {
        // Only `hex` makes one, of ASCII digits; the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Writes 32 bytes in hexadecimal.
pub(crate) fn hex(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Hex {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes.as_ref()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    Hex(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_each_byte_stand_in_order() {
        let bytes: [u8; 32] = std::array::from_fn(|at| 0x0f + 0x11 * u8::try_from(at % 15).unwrap());
        let text = hex(&bytes);
        let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text.as_str(), expected);
        assert_eq!(format!("{text:?}"), expected);
    }
}
