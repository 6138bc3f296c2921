#![doc = include_str!("../README.md")]

mod cache;
#[cfg(feature = "config")]
pub mod config;
mod entries;
mod large;
#[cfg(feature = "libp2p")]
mod network;
mod ttl;

pub use cache::{
    By, Cache, CacheBuilder, CacheReport, FetchError, Fetched, FetchedFrom, IntoKey, LoadContext, Policy,
    Refresh, Typed,
};
#[cfg(feature = "config")]
pub use config::{Config, ConfigError};
pub use peercache_api::{Bytes, CacheBackend, Clock, Entry, Error, ErrorKind, Key};
pub use peercache_blob::BlobStore;
pub use peercache_chain::{Lookup, PutOutcome};
pub use ttl::Ttl;

#[cfg(feature = "ipfs")]
pub use peercache_ipfs::Ipfs;
#[cfg(feature = "libp2p")]
pub use peercache_libp2p::Peers;
#[cfg(feature = "disk")]
pub use peercache_local::Disk;
#[cfg(feature = "memory")]
pub use peercache_local::Memory;
#[cfg(feature = "redis")]
pub use peercache_redis::Redis;
#[cfg(feature = "s3")]
pub use peercache_s3::S3;
#[cfg(feature = "seal")]
pub use peercache_seal as seal;
#[cfg(feature = "storacha")]
pub use peercache_storacha::Storacha;

/// What a backend is made of, and what each backend of this workspace has besides its tier.
///
/// [`BlobStore`](crate::BlobStore) is the short way to write one,
/// [`CacheBackend`](crate::CacheBackend) the whole.
pub mod backend {
    pub use peercache_api::{
        BackendInfo, CacheBackendExt, Capabilities, Class, CorrectedClock, EntryBuilder, EntryKind, Fleet,
        Freshness, LeaseAnswer, LeaseRequest, LeaseToken, MAX_CLOCK_SKEW, MAX_KEY_BYTES, MAX_LIFETIME,
        MAX_VALUE_BYTES, Metadata, NodeId, Operation, RemovalWatcher, Scope, SystemClock, Timestamp,
        Validators, Version, VersionClock, async_trait, envelope,
    };
    pub use peercache_blob::{
        Blob, BlobBackend, BlobBackendBuilder, BlobReport, BlobStoreInfo, Condition, Conditions, Naming,
        Revision, Written,
    };
    /// The IPFS tier: its builder and its report.
    #[cfg(feature = "ipfs")]
    pub use peercache_ipfs as ipfs;
    /// The peers tier: nodes, identities, addresses, reports.
    #[cfg(feature = "libp2p")]
    pub use peercache_libp2p as peers;
    /// The local tiers.
    #[cfg(any(feature = "memory", feature = "disk"))]
    pub use peercache_local as local;
    /// The Redis tier: its builder and its report.
    #[cfg(feature = "redis")]
    pub use peercache_redis as redis;
    /// The S3 tier: its builder and its report.
    #[cfg(feature = "s3")]
    pub use peercache_s3 as s3;
    /// The Storacha tier: its builder, its tokens and its report.
    #[cfg(feature = "storacha")]
    pub use peercache_storacha as storacha;

    #[cfg(feature = "libp2p")]
    pub use crate::network::network_key;
}

/// The chain of tiers: how it is read, written and explained.
pub mod chain {
    pub use peercache_chain::{
        BreakerOptions, Chain, ChainBuilder, Explanation, Flight, Held, Journal, JournalSeal, LEASE_TTL,
        LEASE_WAIT, Lease, Leased, LookupOptions, MAX_JOURNAL_SEAL_BYTES, Mode, Outcome, PutResult,
        SingleFlight, Skip, TierExplanation, TierOptions, TierPut, TierTrace, WriteBehind, WritePolicy,
    };
}

/// Loading: the builder of a fetch, why a loader runs, and how values become bytes.
pub mod fetch {
    pub use crate::cache::{Codec, Fetch, Json, LoadFailure, LoadReason};
}

/// The parts of a [`CacheReport`](crate::CacheReport).
pub mod report {
    pub use crate::cache::RefreshReport;
    pub use crate::large::LargeReport;
    pub use peercache_chain::{
        BreakerReport, DroppedReport, JournalReport, LatencyReport, LeaseReport, PromotionReport,
        QueueReport, RemovalReport, Report, TagReport, TierReport,
    };
}

/// Values of any size, written and read piece by piece.
pub mod stream {
    pub use crate::large::{
        CHUNK_BYTES, LargeError, LargeReader, LargeStream, LargeValue, MAX_CHUNK_BYTES, MAX_LARGE_BYTES,
        MAX_WHOLE_BYTES, PLAIN_BYTES, PutStreamError, PutStreamOutcome, SHARED_CHUNK_BYTES, StreamOptions,
    };
}

#[cfg(fuzzing)]
#[doc(hidden)]
pub use large::fuzzing;
