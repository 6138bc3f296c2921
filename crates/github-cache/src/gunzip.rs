//! Undoes gzip while a body passes, a bounded step at a time: all members (RFC 1952, section 2.2),
//! and the zeros that some writers pad the last one with.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzDecoder;

/// How much is fed to the decoder at a time. Deflate expands at most about 1,032 times, so no step
/// makes more than about 1 MiB.
pub(crate) const STEP_BYTES: usize = 1024;

/// The most members of one body. A member without bytes has 20, so a small body could have very
/// many.
const MAX_MEMBERS: u32 = 10_000;

/// The compressed body is damaged, ended early, or has too many members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A decoder for one body.
#[derive(Debug)]
pub(crate) struct Gunzip {
    decoder: GzDecoder<Vec<u8>>,
    at: Place,
    members: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first byte.
    Start,
    Member,
    /// Behind a member.
    Between,
    /// In the zeros behind the last member.
    Padding,
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self { decoder: GzDecoder::new(Vec::new()), at: Place::Start, members: 1 }
    }

    /// Decodes at most [`STEP_BYTES`] of compressed bytes.
    pub(crate) fn step(&mut self, compressed: &[u8]) -> Result<Bytes, Damaged> {
        let mut rest = compressed;
        let mut out = Vec::new();
        while let Some(first) = rest.first() {
            match (self.at, first) {
                (Place::Between | Place::Padding, 0) => {
                    self.at = Place::Padding;
                    let zeros = rest.iter().take_while(|byte| **byte == 0).count();
                    rest = &rest[zeros..];
                    continue;
                }
                (Place::Padding, _) => return Err(Damaged),
                (Place::Between, _) => {
                    self.members += 1;
                    if self.members > MAX_MEMBERS {
                        return Err(Damaged);
                    }
                    self.decoder = GzDecoder::new(Vec::new());
                }
                (Place::Start | Place::Member, _) => {}
            }
            self.at = Place::Member;
            let taken = self.decoder.write(rest).map_err(|_| Damaged)?;
            if taken == 0 {
                // The member has ended before these bytes.
                self.end_member(&mut out)?;
            }
            rest = &rest[taken..];
        }
        if self.at == Place::Member {
            self.decoder.flush().map_err(|_| Damaged)?;
            out.append(self.decoder.get_mut());
        }
        Ok(Bytes::from(out))
    }

    fn end_member(&mut self, out: &mut Vec<u8>) -> Result<(), Damaged> {
        self.decoder.try_finish().map_err(|_| Damaged)?;
        out.append(self.decoder.get_mut());
        self.at = Place::Between;
        Ok(())
    }

    /// The rest. An error unless the stream is complete and its checksum right. No bytes at all are
    /// an empty body.
    pub(crate) fn finish(mut self) -> Result<Bytes, Damaged> {
        let mut out = Vec::new();
        if self.at == Place::Member {
            self.end_member(&mut out)?;
        }
        Ok(Bytes::from(out))
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

    #[test]
    fn members_and_padding_are_one_body() {
        let (a, b, empty) = (compress(b"first "), compress(b"second"), compress(b""));
        for (name, stream) in [
            ("two members", [&a[..], &b].concat()),
            ("an empty last member", [&a[..], &b, &empty].concat()),
            ("an empty first member", [&empty[..], &a, &b].concat()),
            ("zeros behind the last", [&a[..], &b, &[0; 700]].concat()),
        ] {
            for step in [1, 2, 7, 1024] {
                assert_eq!(decode(&stream, step).as_deref(), Ok(&b"first second"[..]), "{name}, {step}");
            }
        }
        for (name, stream) in [
            ("zeros between members", [&a[..], &[0; 3], &b].concat()),
            ("a second member that is cut", [&a[..], &b[..b.len() - 1]].concat()),
            ("a second header that is cut", [&a[..], &b[..5]].concat()),
        ] {
            for step in [1, 7, 1024] {
                assert_eq!(decode(&stream, step), Err(Damaged), "{name}, {step}");
            }
        }
    }

    #[test]
    fn members_beyond_the_bound_are_refused() {
        let many = compress(b"").repeat(MAX_MEMBERS as usize + 1);
        assert_eq!(decode(&many, STEP_BYTES), Err(Damaged));
    }

    proptest! {
        #[test]
        fn any_body_in_any_steps(body in prop::collection::vec(any::<u8>(), 0..3000), step in 1_usize..700) {
            prop_assert_eq!(decode(&compress(&body), step), Ok(body));
        }
    }
}
