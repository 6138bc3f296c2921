//! Counters: what became of every request, counted where it is decided.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a response was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// Its status is not 200.
    Status,
    /// `no-store` in the request or the response.
    NoStore,
    /// It sets a cookie.
    SetCookie,
    /// It varies by something that is not part of the key.
    Vary,
    /// It has neither a lifetime nor a validator.
    Unusable,
    /// Its body or its headers exceed their bound.
    TooLarge,
    /// Its body ended early, or its end cannot be told.
    Incomplete,
    /// Its content coding is unknown or its compressed body is damaged.
    Encoding,
    /// No tier took it.
    Refused,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The live counters.
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            $(pub(crate) $name: Count,)*
            not_stored: NotStoredCounts,
        }

        /// The counters of a proxy since it was built. Every request is in exactly one class:
        /// `fresh`, `shared`, `coalesced`, `revalidated`, `stale`, `miss`, `bypass`, `error` or
        /// `local`.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct ProxyStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Responses that were fetched for the cache and not stored, by reason.
            pub not_stored: NotStoredStats,
        }

        impl Stats {
            /// The counters so far.
            pub(crate) fn read(&self) -> ProxyStats {
                ProxyStats { $($name: self.$name.get(),)* not_stored: self.not_stored.read() }
            }
        }
    };
}

counters! {
    /// Requests received.
    requests,
    /// Served from the store; nothing was sent.
    fresh,
    /// Served from what another client's request fetched meanwhile.
    coalesced,
    /// Served from what another token fetched of a public repository; nothing was sent.
    shared,
    /// Served although it is no longer fresh, because GitHub failed or the quota is spent.
    stale,
    /// Stored bytes that the origin confirmed with a 304.
    revalidated,
    /// Fetched from the origin: nothing usable was stored, or it had changed.
    miss,
    /// Passed through: another method, another host, or a request that a cache must not answer.
    bypass,
    /// Answered with an error of the proxy's own.
    error,
    /// Answered by the proxy's own endpoints.
    local,
    /// Requests sent upstream, repeated ones included.
    upstream_requests,
    /// Of those, the ones answered with a 304.
    upstream_not_modified,
    /// Of those, the ones that confirmed for one token what another had fetched.
    confirmed_across_tokens,
    /// Of those, the ones that said that a list is empty which was never asked for before.
    confirmed_empty,
    /// 304s that named another entity tag than one that was sent; each request was sent again
    /// without one.
    contradicted,
    /// Requests that were sent for the proof that a repository is public.
    proofs,
    /// Requests that were not sent because nothing of the rate limit is left for them, or because
    /// GitHub asked for a pause.
    held_back,
    /// Bytes of bodies served from the store.
    bytes_from_cache,
    /// Responses stored.
    stored,
    /// Grants whose validity was extended by a 304.
    extended,
    /// Stored values that were damaged or not what they should be; each was a miss.
    corrupt,
    /// Writes by clients that made stored responses doubtful.
    invalidations,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $reason:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        struct NotStoredCounts {
            $($name: Count,)*
        }

        /// How many responses were not stored, by reason.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct NotStoredStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl NotStoredCounts {
            fn read(&self) -> NotStoredStats {
                NotStoredStats { $($name: self.$name.get(),)* }
            }

            fn of(&self, reason: NotStored) -> &Count {
                match reason {
                    $(NotStored::$reason => &self.$name,)*
                }
            }
        }
    };
}

reasons! {
    /// The status is not 200.
    status = Status,
    /// `no-store` in the request or the response.
    no_store = NoStore,
    /// It sets a cookie.
    set_cookie = SetCookie,
    /// It varies by something that is not part of the key.
    vary = Vary,
    /// It has neither a lifetime nor a validator.
    unusable = Unusable,
    /// Its body or its headers exceed their bound.
    too_large = TooLarge,
    /// Its body ended early, or its end cannot be told.
    incomplete = Incomplete,
    /// Its content coding is unknown or its compressed body is damaged.
    encoding = Encoding,
    /// No tier took it.
    refused = Refused,
}

impl Stats {
    pub(crate) fn count_not_stored(&self, reason: NotStored) {
        self.not_stored.of(reason).add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_they_were_counted() {
        let stats = Stats::default();
        stats.requests.add(2);
        stats.count_not_stored(NotStored::Vary);
        let read = stats.read();
        assert_eq!((read.requests, read.not_stored.vary, read.not_stored.status), (2, 1, 0));
        let json = serde_json::to_value(&read).unwrap();
        assert_eq!(json["not_stored"]["vary"], 1);
    }
}
