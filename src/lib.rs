#![doc = include_str!("../README.md")]

mod cache;
pub mod config;
mod large;
#[cfg(feature = "libp2p")]
mod network;

pub use cache::{
    By, Cache, CacheBuilder, CacheReport, Codec, Fetch, FetchError, Fetched, FetchedFrom, IntoKey, Json,
    LoadContext, LoadFailure, LoadReason, Policy, Refresh, RefreshReport, Ttl, Typed,
};
pub use config::{BackendName, Config, ConfigBuilder, ConfigError};
pub use large::{
    CHUNK_BYTES, LargeError, LargeReader, LargeReport, LargeStream, LargeValue, MAX_CHUNK_BYTES,
    MAX_LARGE_BYTES, MAX_WHOLE_BYTES, PLAIN_BYTES, PutStreamError, PutStreamOutcome, SHARED_CHUNK_BYTES,
    StreamOptions,
};
#[cfg(feature = "libp2p")]
pub use network::network_key;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use large::fuzzing;

pub use peercache_api::{
    BackendInfo, Bytes, CacheBackend, CacheBackendExt, Capabilities, Class, Clock, Entry, EntryBuilder,
    EntryKind, Error, ErrorKind, Fleet, Freshness, Key, LeaseAnswer, LeaseRequest, LeaseToken,
    MAX_CLOCK_SKEW, MAX_KEY_BYTES, MAX_LIFETIME, MAX_VALUE_BYTES, Metadata, NodeId, Operation,
    RemovalWatcher, Scope, SystemClock, Timestamp, Validators, Version, VersionClock, async_trait, envelope,
};
pub use peercache_blob::{
    Blob, BlobBackend, BlobBackendBuilder, BlobReport, BlobStore, BlobStoreInfo, Condition, Conditions,
    Naming, Revision, Written,
};
pub use peercache_chain::{
    BehindReport, BreakerOptions, BreakerReport, Chain, ChainBuilder, DroppedReport, Explanation, Flight,
    Held, Journal, JournalReport, JournalSeal, LEASE_TTL, LEASE_WAIT, LatencyReport, Lease, LeaseReport,
    Leased, Lookup, MAX_JOURNAL_SEAL_BYTES, Mode, Outcome, PromotionReport, PutOutcome, PutResult,
    RemovalReport, Report, SingleFlight, Skip, TagReport, TierExplanation, TierOptions, TierPut, TierReport,
    TierTrace, WriteBehind, WritePolicy,
};

/// The local tiers.
#[cfg(any(feature = "memory", feature = "disk"))]
pub use peercache_local as local;

/// The peers tier: nodes, identities, addresses, reports.
#[cfg(feature = "libp2p")]
pub use peercache_libp2p as peers;

/// Sealed entries: secrets, and a backend around any other.
#[cfg(feature = "seal")]
pub use peercache_seal as seal;

/// The IPFS tier: its builder and its report.
#[cfg(feature = "ipfs")]
pub use peercache_ipfs as ipfs;

/// The S3 tier: its builder and its report.
#[cfg(feature = "s3")]
pub use peercache_s3 as s3;

#[cfg(feature = "ipfs")]
pub use peercache_ipfs::Ipfs;
#[cfg(feature = "libp2p")]
pub use peercache_libp2p::Peers;
#[cfg(feature = "disk")]
pub use peercache_local::Disk;
#[cfg(feature = "memory")]
pub use peercache_local::Memory;
#[cfg(feature = "s3")]
pub use peercache_s3::S3;
