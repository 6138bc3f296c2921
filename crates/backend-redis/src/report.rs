//! What the tier has done.

use peercache_blob::Finding;
use serde::Serialize;

/// What the tier has done since this process opened it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RedisReport {
    /// The servers as `REDIS_URL` names them, without a login.
    pub servers: String,
    /// The start of every key and channel.
    pub prefix: String,
    /// Commands that were sent, repeated ones included.
    pub commands: u64,
    /// Connections that were made; of a cluster, sets of connections.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub failed_connections: u64,
    /// Connections that were given up because they answered nothing.
    pub stalled_connections: u64,
    /// Commands that were sent again over a new connection.
    pub retries: u64,
    /// Whether removals made on other machines arrive at the moment.
    pub subscribed: bool,
    /// Removals that other machines have made.
    pub removals_heard: u64,
    /// Messages on the channel of removals that are none.
    pub bad_messages: u64,
    /// Leases that this process was granted.
    pub leases_granted: u64,
    /// Questions for a lease that were answered with a value.
    pub leases_found: u64,
    /// Questions for a lease whose wait ended while another member still loaded.
    pub leases_timed_out: u64,
    /// Bytes of values that were read.
    pub bytes_in: u64,
    /// Bytes of values that were sent, those of lost writes included.
    pub bytes_out: u64,
    /// Writes that found a newer entry.
    pub lost_writes: u64,
    /// Values that are not what was written.
    pub corrupt: u64,
    /// Calls that did not end within their deadline.
    pub timeouts: u64,
    /// Whether this user may write. Found out at the first write.
    pub writable: Finding,
}
