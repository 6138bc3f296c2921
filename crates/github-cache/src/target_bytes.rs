//! Bytes of a request target that URI parsers refuse and servers that are asked directly do not.

/// Whether a parser refuses this byte.
pub(crate) const fn is_refused(byte: u8) -> bool {
    matches!(byte, b'<' | b'>' | b'"' | b'`' | 0x80..)
}

/// The byte, percent-encoded.
pub(crate) fn percent(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// `target` with such bytes encoded, as it is sent upstream.
pub(crate) fn encoded(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len());
    for byte in target.bytes() {
        match is_refused(byte) {
            true => encoded.extend(percent(byte).map(char::from)),
            false => encoded.push(char::from(byte)),
        }
    }
    encoded
}
