//! The bytes of a journal: what each record holds, and how a damaged one is told from a whole one.
//!
//! A segment is a header and then records, each `length u32, checksum u64, body`, integers big
//! endian. The checksum is XXH3 of the body, sealed where the segment is. A body is `kind u8,
//! queued u64, tier length u16, tier, key length u16, key`, then for a write its envelope
//! (`docs/reference/format.md`), for the end of a write the version that ended (`wall u64, node
//! u64, counter u32`).

use bytes::{Buf, BufMut, Bytes};
use peercache_api::envelope::{self, MAX_ENVELOPE_BYTES};
use peercache_api::{Entry, Error, ErrorKind, Key, MAX_KEY_BYTES, NodeId, Operation, Timestamp, Version};
use xxhash_rust::xxh3::xxh3_64;

/// The length and the checksum in front of each body.
pub(super) const FRAME_BYTES: usize = 12;
/// The longest name of a tier, in bytes; longer ones are not journalled.
pub(super) const MAX_TIER_BYTES: usize = 256;
/// The longest body in clear, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 1 + 8 + 2 + MAX_TIER_BYTES + 2 + MAX_KEY_BYTES + MAX_ENVELOPE_BYTES;

const WRITE: u8 = 1;
const END: u8 = 2;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) tier: String,
    pub(super) key: Key,
    /// When the write was queued.
    pub(super) queued: Timestamp,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// This entry waits to be written.
    Write(Entry),
    /// It does not wait any more, nor does any older one.
    End(Version),
}

/// The body of a record.
pub(super) fn encode_body(record: &Record) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u8(match record.what {
        What::Write(_) => WRITE,
        What::End(_) => END,
    });
    body.put_u64(record.queued.as_millis());
    for text in [record.tier.as_str(), record.key.as_str()] {
        // Both are bounded far below 64 KiB: a key by its type, a tier's name by the journal.
        body.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
        body.put_slice(text.as_bytes());
    }
    match &record.what {
        What::Write(entry) => {
            body.put_slice(&envelope::encode_head(&record.key, entry));
            body.put_slice(entry.value());
        }
        What::End(version) => {
            body.put_u64(version.wall.as_millis());
            body.put_u64(version.node.as_u64());
            body.put_u32(version.counter);
        }
    }
    body
}

/// `body` behind its frame.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &xxh3_64(body).to_be_bytes(), body].concat()
}

/// The length of the body that this frame announces, and its checksum.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is longer than `most`: nothing is allocated for it.
pub(super) fn decode_frame(mut frame: &[u8], most: usize) -> Result<(usize, u64), Error> {
    if frame.len() != FRAME_BYTES {
        return Err(corrupt("the journal ends within a record"));
    }
    let (length, checksum) = (frame.get_u32() as usize, frame.get_u64());
    if length > most {
        return Err(corrupt("the journal announces a record beyond its bound"));
    }
    Ok((length, checksum))
}

/// Whether `body` is what was written behind its frame.
pub(super) fn is_whole(body: &[u8], checksum: u64) -> bool {
    xxh3_64(body) == checksum
}

/// The record in a body in clear. The value of an entry is a slice of `body`.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for anything that is not exactly a record; those of the envelope.
pub(super) fn decode_body(mut body: Bytes) -> Result<Record, Error> {
    if body.remaining() < 9 {
        return Err(corrupt("a journal record is too short"));
    }
    let (kind, queued) = (body.get_u8(), Timestamp::from_millis(body.get_u64()));
    let tier = text(&mut body, MAX_TIER_BYTES)?;
    let key = Key::new(text(&mut body, MAX_KEY_BYTES)?)?;
    let what = match kind {
        WRITE => What::Write(envelope::decode(&key, body)?),
        END if body.remaining() == 20 => What::End(Version {
            wall: Timestamp::from_millis(body.get_u64()),
            node: NodeId::from_u64(body.get_u64()),
            counter: body.get_u32(),
        }),
        _ => return Err(corrupt("a journal record is of no known kind")),
    };
    Ok(Record { tier, key, queued, what })
}

fn text(body: &mut Bytes, most: usize) -> Result<String, Error> {
    if body.remaining() < 2 {
        return Err(corrupt("a journal record is too short"));
    }
    let length = usize::from(body.get_u16());
    if length > most || length > body.remaining() {
        return Err(corrupt("a journal record announces a text beyond its bound"));
    }
    String::from_utf8(body.split_to(length).into()).map_err(|_| corrupt("a text in the journal is not UTF-8"))
}

fn corrupt(message: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, Operation::Decode, message)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use peercache_api::MAX_VALUE_BYTES;
    use proptest::prelude::*;
    use std::time::Duration;

    pub(crate) fn entry(counter: u32, value: impl Into<Bytes>) -> Entry {
        let wall = Timestamp::from_millis(1_800_000_000_000);
        Entry::builder(value, Version { wall, counter, node: NodeId::from_u64(3) }, wall)
            .fresh_for(Duration::from_secs(60))
            .tag("acme")
            .build()
            .unwrap()
    }

    fn encode(record: &Record) -> Bytes {
        framed(&encode_body(record)).into()
    }

    fn decode(bytes: &Bytes) -> Result<Record, Error> {
        let frame = bytes.get(..FRAME_BYTES).unwrap_or(bytes);
        let (length, checksum) = decode_frame(frame, MAX_BODY_BYTES)?;
        if bytes.len() < FRAME_BYTES + length || !is_whole(&bytes[FRAME_BYTES..][..length], checksum) {
            return Err(corrupt("torn"));
        }
        decode_body(bytes.slice(FRAME_BYTES..FRAME_BYTES + length))
    }

    fn record() -> impl Strategy<Value = Record> {
        let what = prop_oneof![
            (any::<u32>(), prop::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(counter, value)| What::Write(entry(counter, value))),
            (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(wall, counter, node)| {
                let wall = Timestamp::from_millis(wall);
                What::End(Version { wall, counter, node: NodeId::from_u64(node) })
            }),
        ];
        ("[a-z]{0,9}", "\\PC{1,200}", any::<u64>(), what).prop_map(|(tier, key, queued, what)| {
            let (key, queued) = (Key::new(key).unwrap(), Timestamp::from_millis(queued));
            Record { tier, key, queued, what }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in record()) {
            prop_assert_eq!(decode(&encode(&record)).unwrap(), record);
        }

        #[test]
        fn no_flipped_bit_and_no_torn_end_passes(record in record(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let whole = encode(&record);
            let at = at.index(whole.len());
            prop_assert!(decode(&whole.slice(..at)).is_err());
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1_u8 << bit;
            prop_assert!(decode(&flipped.into()).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let bytes = Bytes::from(bytes);
            let _ = decode(&bytes);
            // Past the checksum as well, where an accident cannot lead but malice can.
            let _ = decode_body(bytes);
        }
    }

    #[test]
    fn the_largest_record_fits_its_bound() {
        let record = Record {
            tier: "t".repeat(MAX_TIER_BYTES),
            key: Key::new("k".repeat(MAX_KEY_BYTES)).unwrap(),
            queued: Timestamp::EPOCH,
            what: What::Write(entry(0, vec![7; MAX_VALUE_BYTES])),
        };
        let bytes = encode(&record);
        assert!(bytes.len() <= FRAME_BYTES + MAX_BODY_BYTES);
        assert_eq!(decode(&bytes).unwrap(), record);
        let huge = [&u32::MAX.to_be_bytes()[..], &[0; 8]].concat();
        assert_eq!(decode_frame(&huge, MAX_BODY_BYTES).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
