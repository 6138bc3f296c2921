//! Every message survives its bytes; bytes that are no message are refused, and nothing panics.

use bytes::Bytes;
use peercache_api::{NodeId, Timestamp, Version};
use proptest::prelude::*;

use super::message::BUCKETS;
use super::*;

fn whole(message: &Message) -> Bytes {
    let (head, body) = message.encode();
    [head, body].concat().into()
}

fn digest() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn key() -> impl Strategy<Value = KeyId> {
    digest().prop_map(KeyId)
}

fn version() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(wall, counter, node)| Version {
        wall: Timestamp::from_millis(wall),
        counter,
        node: NodeId::from_u64(node),
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn anchor() -> impl Strategy<Value = AnchorInfo> {
    (digest(), prop::collection::vec("[ -~]{0,60}", 0..=MAX_ADDRESSES))
        .prop_map(|(peer, addresses)| AnchorInfo { peer: PeerKey(peer), addresses })
}

fn message() -> impl Strategy<Value = Message> {
    let put_reply = prop::sample::select(vec![PutReply::Stored, PutReply::Refused, PutReply::NotAnAnchor]);
    prop_oneof![
        (any::<u64>(), key(), any::<u32>(), any::<bool>())
            .prop_map(|(req, key, deadline_ms, forwarded)| Message::Get { req, key, deadline_ms, forwarded }),
        any::<u64>().prop_map(|req| Message::Cancel { req }),
        (any::<u64>(), bytes()).prop_map(|(req, envelope)| Message::Hit { req, envelope }),
        (any::<u64>(), any::<bool>()).prop_map(|(req, sure)| Message::Miss { req, sure }),
        (any::<u64>(), any::<u32>()).prop_map(|(req, retry_ms)| Message::Busy { req, retry_ms }),
        (any::<u64>(), bytes(), any::<bool>()).prop_map(|(req, envelope, relay)| Message::Put {
            req,
            envelope,
            relay
        }),
        (any::<u64>(), put_reply).prop_map(|(req, reply)| Message::PutDone { req, reply }),
        (key(), version()).prop_map(|(key, version)| Message::Announce { key, version }),
        (bytes(), any::<bool>()).prop_map(|(envelope, forwarded)| Message::Removal { envelope, forwarded }),
        (any::<bool>(), prop::collection::vec(anchor(), 0..5), prop::collection::vec(digest(), 0..5))
            .prop_map(|(full, anchors, gone)| Message::View {
                full,
                anchors,
                gone: gone.into_iter().map(PeerKey).collect()
            }),
        (any::<u64>(), key(), any::<u32>(), any::<u32>(), version()).prop_map(
            |(req, key, ttl_ms, wait_ms, newer_than)| Message::Lease {
                req,
                key,
                ttl_ms,
                wait_ms,
                newer_than
            }
        ),
        (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(req, token, ttl_ms)| Message::Granted {
            req,
            token,
            ttl_ms
        }),
        (key(), any::<u64>()).prop_map(|(key, token)| Message::Release { key, token }),
        (any::<u64>(), prop::collection::vec(any::<u64>(), BUCKETS))
            .prop_map(|(req, buckets)| Message::Summary { req, buckets }),
        (any::<u64>(), any::<u8>(), any::<bool>(), prop::collection::vec((key(), version()), 0..20))
            .prop_map(|(req, bucket, more, listed)| Message::Versions { req, bucket, more, listed }),
        (any::<u64>(), any::<u16>()).prop_map(|(req, differing)| Message::Compared { req, differing }),
        (any::<u64>(), prop::collection::vec((key(), version()), 0..20))
            .prop_map(|(req, listed)| Message::Offer { req, listed }),
        (any::<u64>(), prop::collection::vec(key(), 0..20))
            .prop_map(|(req, keys)| Message::Wanted { req, keys }),
        any::<u64>().prop_map(|nonce| Message::Ping { nonce }),
        (any::<u64>(), any::<u64>(), any::<i64>()).prop_map(|(nonce, machine, correction)| Message::Pong {
            nonce,
            clock: ClockReading { machine: Timestamp::from_millis(machine), correction },
        }),
        Just(Message::Vouched),
        Just(Message::Leaving),
    ]
}

proptest! {
    #[test]
    fn a_message_survives_its_bytes(message in message()) {
        prop_assert_eq!(Message::decode(whole(&message)), Ok(Some(message)));
    }

    #[test]
    fn a_message_that_is_cut_short_is_never_another_of_the_same_length(message in message(), cut in 1usize..40) {
        let bytes = whole(&message);
        prop_assume!(cut <= bytes.len());
        let short = bytes.slice(..bytes.len() - cut);
        // An envelope has no length here: its own header says whether it is whole.
        if let Ok(Some(read)) = Message::decode(short.clone()) {
            prop_assert_eq!(whole(&read), short);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        if let Ok(Some(message)) = Message::decode(bytes.clone()) {
            // Flags that a kind does not use are not kept.
            prop_assert_eq!(whole(&message).len(), bytes.len());
        }
    }
}

/// Found by the fuzzer `peers`: what a kind has no use for is ignored, and a later release can use
/// it.
#[test]
fn a_number_that_a_kind_does_not_have_is_ignored() {
    let removal = [40, 254, 254, 247, 41, 40, 255, 254, 247, 41];
    let read = Message::decode(Bytes::copy_from_slice(&removal));
    assert_eq!(read, Ok(Some(Message::Removal { envelope: Bytes::new(), forwarded: false })));
}

#[test]
fn a_kind_of_a_later_version_is_passed_over() {
    let mut bytes = vec![250, 0];
    bytes.extend_from_slice(&[0; 40]);
    assert_eq!(Message::decode(bytes.into()), Ok(None));
}

#[test]
fn counts_beyond_their_bound_are_refused() {
    let mut view = vec![48, 0];
    view.extend_from_slice(&[0; 8]);
    view.extend_from_slice(&u16::MAX.to_be_bytes());
    assert_eq!(Message::decode(view.into()), Err(WireError::OutOfBounds));
    assert_eq!(Message::decode(Bytes::new()), Err(WireError::Short));
    let long = [whole(&Message::Leaving), Bytes::from_static(b"x")].concat();
    assert_eq!(Message::decode(long.into()), Err(WireError::Long));
}
