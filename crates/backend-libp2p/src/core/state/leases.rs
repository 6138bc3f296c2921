//! Leases that this node has granted, and who waits for them.

use std::collections::VecDeque;
use std::time::Duration;

use peercache_api::Version;

use super::lookups::Origin;

#[derive(Debug)]
pub(in crate::core) struct Lease {
    pub(in crate::core) holder: Origin,
    pub(in crate::core) token: u64,
    pub(in crate::core) waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
pub(in crate::core) struct Waiter {
    pub(in crate::core) origin: Origin,
    pub(in crate::core) until: Duration,
    pub(in crate::core) ttl: Duration,
    pub(in crate::core) newer_than: Version,
}
