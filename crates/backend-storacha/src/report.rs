//! What the tier has done, counted where it is done.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)+
        }

        impl Counters {
            pub(crate) fn read(&self) -> StorachaCounts {
                StorachaCounts { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }

        /// What this process did with the space since it opened the tier.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct StorachaCounts {
            $($(#[$doc])* pub $name: u64,)+
        }
    };
}

counters! {
    /// Lookups that found an entry.
    hits,
    /// Lookups that found none.
    misses,
    /// Writes that the service acknowledged.
    puts,
    /// Messages that were sent to the service.
    messages,
    /// Other requests: receipts, and bytes in either direction.
    requests,
    /// Bytes of envelopes that were read.
    bytes_in,
    /// Bytes of envelopes that were sent.
    bytes_out,
    /// Receipts whose signature, issuer or invocation was not the right one, and damaged messages.
    receipts_refused,
    /// Addresses of bytes that were refused: another scheme, a redirect, or not the bytes that were
    /// named.
    locations_refused,
    /// Entries that were not what was written.
    corrupt,
    /// Entries that were refused because they are private.
    private_refused,
    /// Roots that were compacted.
    compactions,
    /// Compactions that were given up because the service did not answer in time; they are made
    /// later.
    compactions_missed,
    /// Superseded writes that were removed from the space.
    superseded,
    /// Operations that did not end within their deadline, and receipts of uploads that did not
    /// come.
    timeouts,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What the tier has done since this process opened it, and what it is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StorachaReport {
    /// The service.
    pub service: String,
    /// The service's DID.
    pub did: String,
    /// The space.
    pub space: String,
    /// Whether private entries may be stored.
    pub allow_private: bool,
    /// Why writes are refused at the moment, if the service says so.
    pub writes_disabled: Option<String>,
    /// Counters.
    pub counts: StorachaCounts,
}
