//! Undoes gzip while a body passes, a bounded step at a time.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzDecoder;

/// How much is fed to the decoder at a time. Deflate expands at most about 1,032 times, so no step
/// makes more than about 1 MiB.
pub(crate) const STEP_BYTES: usize = 1024;

/// The compressed body is damaged or ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A decoder for one body.
#[derive(Debug)]
pub(crate) struct Gunzip {
    decoder: GzDecoder<Vec<u8>>,
    began: bool,
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self { decoder: GzDecoder::new(Vec::new()), began: false }
    }

    /// Decodes at most [`STEP_BYTES`] of compressed bytes.
    pub(crate) fn step(&mut self, compressed: &[u8]) -> Result<Bytes, Damaged> {
        self.began |= !compressed.is_empty();
        self.decoder.write_all(compressed).map_err(|_| Damaged)?;
        self.decoder.flush().map_err(|_| Damaged)?;
        Ok(Bytes::from(std::mem::take(self.decoder.get_mut())))
    }

    /// The rest. An error unless the stream is complete and its checksum right. No bytes at all are an
    /// empty body.
    pub(crate) fn finish(mut self) -> Result<Bytes, Damaged> {
        if !self.began {
            return Ok(Bytes::new());
        }
        self.decoder.try_finish().map_err(|_| Damaged)?;
        Ok(Bytes::from(std::mem::take(self.decoder.get_mut())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    fn compress(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(compressed: &[u8], step: usize) -> Result<Vec<u8>, Damaged> {
        let mut gunzip = Gunzip::new();
        let mut out = Vec::new();
        for piece in compressed.chunks(step) {
            out.extend_from_slice(&gunzip.step(piece)?);
        }
        out.extend_from_slice(&gunzip.finish()?);
        Ok(out)
    }

    #[test]
    fn a_step_of_a_bomb_stays_small() {
        let bomb = compress(&vec![0; 16 * 1024 * 1024]);
        let mut gunzip = Gunzip::new();
        let largest = bomb.chunks(STEP_BYTES).map(|piece| gunzip.step(piece).unwrap().len()).max().unwrap();
        assert!(largest <= 1100 * STEP_BYTES, "{largest}");
    }

    #[test]
    fn damage_and_truncation_are_noticed() {
        let whole = compress(b"hello hello hello");
        assert_eq!(decode(&whole, 3).unwrap(), b"hello hello hello");
        assert_eq!(decode(b"", 3).unwrap(), b"");
        for cut in 1..whole.len() {
            assert_eq!(decode(&whole[..cut], 5), Err(Damaged), "{cut}");
        }
        let mut wrong = whole.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(decode(&wrong, 5), Err(Damaged));
        assert_eq!(decode(&[&whole[..], b"trailing"].concat(), 5), Err(Damaged));
    }

    proptest! {
        #[test]
        fn any_body_in_any_steps(body in prop::collection::vec(any::<u8>(), 0..3000), step in 1_usize..700) {
            prop_assert_eq!(decode(&compress(&body), step), Ok(body));
        }
    }
}
