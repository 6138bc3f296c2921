//! What the tier has done, counted where it is done.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($(#[$doc:meta])* $report:ident, $counters:ident { $($(#[$field_doc:meta])* $field:ident,)+ }) => {
        #[derive(Debug, Default)]
        pub(crate) struct $counters {
            $(pub(crate) $field: AtomicU64,)+
        }

        impl $counters {
            pub(crate) fn read(&self) -> $report {
                $report { $($field: self.$field.load(Ordering::Relaxed),)+ }
            }
        }

        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct $report {
            $($(#[$field_doc])* pub $field: u64,)+
        }
    };
}

/// Adds `amount` to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

counters! {
    /// What this process did with the node's files since it opened the tier.
    IpfsCounts, Counters {
        /// Lookups that found an entry.
        hits,
        /// Lookups that found none.
        misses,
        /// Writes that the node acknowledged.
        puts,
        /// Bytes of envelopes that were read.
        bytes_in,
        /// Bytes of envelopes that were sent.
        bytes_out,
        /// Files that were removed because a newer write of their key had come.
        superseded,
        /// Files that were removed because they had expired, or because their write was never
        /// finished.
        expired,
        /// Files that were removed to stay within the byte limit.
        evicted,
        /// Bytes of those.
        evicted_bytes,
        /// Links that were made again: a collection had taken the block before, or another writer
        /// made the same folder in the same moment.
        repeated,
        /// Lookups that looked again because what they were about to read had been replaced.
        looked_again,
        /// Entries that were not what was written.
        corrupt,
        /// Entries that were refused because they are private.
        private_refused,
        /// Calls that did not end within their deadline.
        timeouts,
    }
}

counters! {
    /// What this process did to share with other nodes.
    SyncCounts, SyncCounters {
        /// Files that were announced to the other nodes.
        announced,
        /// Announcements of files that arrived from other nodes.
        received,
        /// Messages that nobody with the fleet's secret has sealed.
        foreign,
        /// Files that were taken over from other nodes.
        adopted,
        /// Files that others announced and for which there is a newer one here, or which are there
        /// already.
        late,
        /// Files that were announced and are not what an entry is.
        refused,
        /// Files that could not be fetched.
        failed,
        /// Announcements that found the queue full; a comparison of roots finds what they named.
        dropped,
        /// Times that another node's root was compared because it differed.
        walks,
        /// Folders that were read for that.
        folders,
        /// Publications that the node refused and that were repeated.
        repeated,
        /// Connections to other nodes that were made.
        connected,
    }
}

/// What the tier has done since this process opened it, and what it is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IpfsReport {
    /// Where the node's RPC is. Without credentials.
    pub api: String,
    /// The folder of MFS that holds everything.
    pub prefix: String,
    /// The client that sends the calls: `keep-alive`, or `per-call`.
    pub client: &'static str,
    /// The version of Kubo, once it was asked.
    pub version: Option<String>,
    /// The most bytes that entries may take on the node.
    pub max_bytes: u64,
    /// The bytes that they took when it was last looked, folders included.
    pub stored_bytes: Option<u64>,
    /// Whether private entries may be stored.
    pub allow_private: bool,
    /// Counters.
    pub counts: IpfsCounts,
    /// Counters of sharing with other nodes; `None`: it is off.
    pub sync: Option<SyncCounts>,
    /// Why sharing with other nodes does not work at the moment.
    pub sync_error: Option<String>,
}
