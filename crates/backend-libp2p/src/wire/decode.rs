//! From bytes to messages. What does not fit is refused before anything is allocated for it.

use bytes::{Buf, Bytes};
use peercache_api::{NodeId, Timestamp, Version};

use super::encode::{
    ANNOUNCE, BUSY, CANCEL, COMPARED, FLAG, GET, GRANTED, HIT, LEASE, LEAVING, MISS, OFFER, PING, PONG, PUT,
    PUT_DONE, RELEASE, REMOVAL, SUMMARY, VERSIONS, VIEW, VOUCHED, WANTED,
};
use super::message::{
    AnchorInfo, BUCKETS, ClockReading, KeyId, MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_ANCHORS, MAX_LISTED,
    Message, PeerKey, PutReply,
};

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// It ends too early.
    #[error("the message ends before it is complete")]
    Short,
    /// Bytes follow its end.
    #[error("bytes follow the end of the message")]
    Long,
    /// A count or a text is beyond its bound, or a value has no meaning.
    #[error("a field of the message is out of bounds")]
    OutOfBounds,
}

impl Message {
    /// The message in `bytes`; an envelope in it is a slice of them, and not looked at. `None` for
    /// a kind that this build does not know: a newer peer may say more, and is understood in the
    /// rest.
    ///
    /// # Errors
    /// Anything that is not exactly one message.
    pub(crate) fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        let mut rest = Reader(bytes);
        let (kind, flags, req) = (rest.u8()?, rest.u8()?, rest.u64()?);
        let flag = flags & FLAG != 0;
        let message = match kind {
            GET => Self::Get { req, key: rest.key()?, deadline_ms: rest.u32()?, forwarded: flag },
            CANCEL => Self::Cancel { req },
            HIT => Self::Hit { req, envelope: rest.remainder() },
            MISS => Self::Miss { req, sure: flag },
            BUSY => Self::Busy { req, retry_ms: rest.u32()? },
            PUT => Self::Put { req, envelope: rest.remainder(), relay: flag },
            PUT_DONE => {
                let reply = match rest.u8()? {
                    0 => PutReply::Stored,
                    1 => PutReply::Refused,
                    2 => PutReply::NotAnAnchor,
                    _ => return Err(WireError::OutOfBounds),
                };
                Self::PutDone { req, reply }
            }
            ANNOUNCE => Self::Announce { key: rest.key()?, version: rest.version()? },
            REMOVAL => Self::Removal { envelope: rest.remainder(), forwarded: flag },
            VIEW => Self::View { full: flag, anchors: rest.anchors()?, gone: rest.peers()? },
            LEASE => Self::Lease {
                req,
                key: rest.key()?,
                ttl_ms: rest.u32()?,
                wait_ms: rest.u32()?,
                newer_than: rest.version()?,
            },
            GRANTED => Self::Granted { req, token: rest.u64()?, ttl_ms: rest.u32()? },
            RELEASE => Self::Release { key: rest.key()?, token: rest.u64()? },
            SUMMARY => {
                Self::Summary { req, buckets: (0..BUCKETS).map(|_| rest.u64()).collect::<Result<_, _>>()? }
            }
            COMPARED => Self::Compared { req, differing: rest.u16()? },
            VERSIONS => Self::Versions { req, bucket: rest.u8()?, more: flag, listed: rest.list()? },
            OFFER => Self::Offer { req, listed: rest.list()? },
            WANTED => {
                let count = rest.count(MAX_LISTED)?;
                Self::Wanted { req, keys: (0..count).map(|_| rest.key()).collect::<Result<_, _>>()? }
            }
            PING => Self::Ping { nonce: req },
            PONG => Self::Pong { nonce: req, clock: rest.clock()? },
            VOUCHED => Self::Vouched,
            LEAVING => Self::Leaving,
            _ => return Ok(None),
        };
        if rest.0.has_remaining() { Err(WireError::Long) } else { Ok(Some(message)) }
    }
}

struct Reader(Bytes);

impl Reader {
    fn u8(&mut self) -> Result<u8, WireError> {
        self.0.try_get_u8().map_err(|_| WireError::Short)
    }

    fn clock(&mut self) -> Result<ClockReading, WireError> {
        let machine = Timestamp::from_millis(self.u64()?);
        Ok(ClockReading { machine, correction: self.u64()?.cast_signed() })
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        self.0.try_get_u16().map_err(|_| WireError::Short)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.0.try_get_u32().map_err(|_| WireError::Short)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.0.try_get_u64().map_err(|_| WireError::Short)
    }

    fn digest(&mut self) -> Result<[u8; 32], WireError> {
        let mut digest = [0; 32];
        self.0.try_copy_to_slice(&mut digest).map_err(|_| WireError::Short)?;
        Ok(digest)
    }

    fn key(&mut self) -> Result<KeyId, WireError> {
        self.digest().map(KeyId)
    }

    fn version(&mut self) -> Result<Version, WireError> {
        Ok(Version {
            wall: Timestamp::from_millis(self.u64()?),
            counter: self.u32()?,
            node: NodeId::from_u64(self.u64()?),
        })
    }

    fn list(&mut self) -> Result<Vec<(KeyId, Version)>, WireError> {
        let count = self.count(MAX_LISTED)?;
        (0..count).map(|_| Ok((self.key()?, self.version()?))).collect()
    }

    fn count(&mut self, most: usize) -> Result<usize, WireError> {
        let count = usize::from(self.u16()?);
        if count > most { Err(WireError::OutOfBounds) } else { Ok(count) }
    }

    fn remainder(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    fn anchors(&mut self) -> Result<Vec<AnchorInfo>, WireError> {
        let count = self.count(MAX_ANCHORS)?;
        (0..count).map(|_| self.anchor()).collect()
    }

    fn peers(&mut self) -> Result<Vec<PeerKey>, WireError> {
        let count = self.count(MAX_ANCHORS)?;
        (0..count).map(|_| self.digest().map(PeerKey)).collect()
    }

    fn anchor(&mut self) -> Result<AnchorInfo, WireError> {
        let peer = PeerKey(self.digest()?);
        let count = usize::from(self.u8()?);
        if count > MAX_ADDRESSES {
            return Err(WireError::OutOfBounds);
        }
        let addresses = (0..count).map(|_| self.address()).collect::<Result<_, _>>()?;
        Ok(AnchorInfo { peer, addresses })
    }

    fn address(&mut self) -> Result<String, WireError> {
        let length = self.count(MAX_ADDRESS_BYTES)?;
        if self.0.remaining() < length {
            return Err(WireError::Short);
        }
        let text = self.0.split_to(length);
        std::str::from_utf8(&text).map(str::to_owned).map_err(|_| WireError::OutOfBounds)
    }
}
