//! What is remembered of removals, and of entries that are about to be pushed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::Timestamp;

use crate::wire::PeerKey;

/// Who holds an entry that it has not pushed yet.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Hint {
    pub(in crate::core) peer: PeerKey,
    pub(in crate::core) until: Duration,
}

/// The latest removals, to tell them again. In order of arrival.
#[derive(Debug, Default)]
pub(in crate::core) struct Told {
    pub(in crate::core) order: BTreeMap<u64, (Timestamp, Bytes)>,
}
