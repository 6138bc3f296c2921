//! From messages to bytes.

use bytes::{BufMut, Bytes, BytesMut};
use peercache_api::Version;

use super::message::{KeyId, Message, PutReply};

pub(super) const GET: u8 = 16;
pub(super) const CANCEL: u8 = 17;
pub(super) const HIT: u8 = 18;
pub(super) const MISS: u8 = 19;
pub(super) const BUSY: u8 = 20;
pub(super) const PUT: u8 = 24;
pub(super) const PUT_DONE: u8 = 25;
pub(super) const ANNOUNCE: u8 = 32;
pub(super) const REMOVAL: u8 = 40;
pub(super) const VIEW: u8 = 48;
pub(super) const LEASE: u8 = 56;
pub(super) const GRANTED: u8 = 57;
pub(super) const RELEASE: u8 = 58;
pub(super) const SUMMARY: u8 = 64;
pub(super) const VERSIONS: u8 = 65;
pub(super) const COMPARED: u8 = 66;
pub(super) const OFFER: u8 = 67;
pub(super) const WANTED: u8 = 68;
pub(super) const PING: u8 = 72;
pub(super) const PONG: u8 = 73;
pub(super) const VOUCHED: u8 = 80;
pub(super) const LEAVING: u8 = 81;

/// Forwarded, sure, relay, full or more, by kind.
pub(super) const FLAG: u8 = 1;

impl Message {
    /// The bytes of this message in two parts, of which the second may be empty: an envelope is not
    /// copied.
    #[must_use]
    pub(crate) fn encode(&self) -> (Bytes, Bytes) {
        let mut head = BytesMut::with_capacity(64);
        let mut body = Bytes::new();
        let mut start = |kind: u8, flag: bool, req: u64| {
            head.put_u8(kind);
            head.put_u8(if flag { FLAG } else { 0 });
            head.put_u64(req);
        };
        match self {
            Self::Get { req, key, deadline_ms, forwarded } => {
                start(GET, *forwarded, *req);
                head.put_slice(&key.0);
                head.put_u32(*deadline_ms);
            }
            Self::Cancel { req } => start(CANCEL, false, *req),
            Self::Hit { req, envelope } => {
                start(HIT, false, *req);
                body = envelope.clone();
            }
            Self::Miss { req, sure } => start(MISS, *sure, *req),
            Self::Busy { req, retry_ms } => {
                start(BUSY, false, *req);
                head.put_u32(*retry_ms);
            }
            Self::Put { req, envelope, relay } => {
                start(PUT, *relay, *req);
                body = envelope.clone();
            }
            Self::PutDone { req, reply } => {
                start(PUT_DONE, false, *req);
                head.put_u8(match reply {
                    PutReply::Stored => 0,
                    PutReply::Refused => 1,
                    PutReply::NotAnAnchor => 2,
                });
            }
            Self::Announce { key, version } => {
                start(ANNOUNCE, false, 0);
                head.put_slice(&key.0);
                put_version(&mut head, *version);
            }
            Self::Removal { envelope, forwarded } => {
                start(REMOVAL, *forwarded, 0);
                body = envelope.clone();
            }
            Self::View { full, anchors, gone } => {
                start(VIEW, *full, 0);
                head.put_u16(short(anchors.len()));
                for anchor in anchors {
                    head.put_slice(&anchor.peer.0);
                    head.put_u8(u8::try_from(anchor.addresses.len()).unwrap_or(u8::MAX));
                    for address in &anchor.addresses {
                        head.put_u16(short(address.len()));
                        head.put_slice(address.as_bytes());
                    }
                }
                head.put_u16(short(gone.len()));
                gone.iter().for_each(|peer| head.put_slice(&peer.0));
            }
            Self::Lease { req, key, ttl_ms, wait_ms, newer_than } => {
                start(LEASE, false, *req);
                head.put_slice(&key.0);
                head.put_u32(*ttl_ms);
                head.put_u32(*wait_ms);
                put_version(&mut head, *newer_than);
            }
            Self::Granted { req, token, ttl_ms } => {
                start(GRANTED, false, *req);
                head.put_u64(*token);
                head.put_u32(*ttl_ms);
            }
            Self::Release { key, token } => {
                start(RELEASE, false, 0);
                head.put_slice(&key.0);
                head.put_u64(*token);
            }
            Self::Summary { req, buckets } => {
                start(SUMMARY, false, *req);
                buckets.iter().for_each(|digest| head.put_u64(*digest));
            }
            Self::Compared { req, differing } => {
                start(COMPARED, false, *req);
                head.put_u16(*differing);
            }
            Self::Versions { req, bucket, more, listed } => {
                start(VERSIONS, *more, *req);
                head.put_u8(*bucket);
                put_list(&mut head, listed);
            }
            Self::Offer { req, listed } => {
                start(OFFER, false, *req);
                put_list(&mut head, listed);
            }
            Self::Wanted { req, keys } => {
                start(WANTED, false, *req);
                head.put_u16(short(keys.len()));
                keys.iter().for_each(|key| head.put_slice(&key.0));
            }
            Self::Ping { nonce } => start(PING, false, *nonce),
            Self::Pong { nonce, clock } => {
                start(PONG, false, *nonce);
                head.put_u64(clock.machine.as_millis());
                head.put_i64(clock.correction);
            }
            Self::Vouched => start(VOUCHED, false, 0),
            Self::Leaving => start(LEAVING, false, 0),
        }
        (head.freeze(), body)
    }
}

/// What is counted here is bounded far below; a message beyond its bounds is refused by its reader.
fn short(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn put_list(head: &mut BytesMut, listed: &[(KeyId, Version)]) {
    head.put_u16(short(listed.len()));
    for (key, version) in listed {
        head.put_slice(&key.0);
        put_version(head, *version);
    }
}

fn put_version(head: &mut BytesMut, version: Version) {
    head.put_u64(version.wall.as_millis());
    head.put_u32(version.counter);
    head.put_u64(version.node.as_u64());
}
