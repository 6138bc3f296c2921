//! BLAKE3 of chunks, without holding up the thread that runs everybody's futures.

use bytes::Bytes;

/// A chunk's BLAKE3, of the usual 32 bytes.
pub(super) type Digest = [u8; 32];

/// What is hashed without a break: well below a millisecond on every processor.
const STRIDE: usize = 128 * 1024;

/// The BLAKE3 of `bytes`, with a break after every stride so that others get their turn. No thread
/// of the blocking pool is used: the more of them there are, the more memory the allocator keeps
/// for them. Cancel-safe.
pub(super) async fn digest(bytes: &Bytes) -> Digest {
    let mut hash = blake3::Hasher::new();
    let mut strides = bytes.chunks(STRIDE).peekable();
    while let Some(stride) = strides.next() {
        hash.update(stride);
        if strides.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The input of BLAKE3's published test vectors: 0, 1, 2, … 250, and again.
    #[tokio::test]
    async fn published_vectors_and_any_number_of_strides() {
        let input = |len: usize| -> Bytes { (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect() };
        let hex = |digest: Digest| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for (len, expected) in [
            (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
        ] {
            assert_eq!(hex(digest(&input(len)).await), expected, "{len}");
        }
        for len in [STRIDE - 1, STRIDE, 3 * STRIDE + 5] {
            assert_eq!(digest(&input(len)).await, *blake3::hash(&input(len)).as_bytes(), "{len}");
        }
    }
}
