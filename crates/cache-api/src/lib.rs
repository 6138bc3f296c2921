//! The contract of peercache: one small trait that every storage backend implements, and the types
//! that travel through it.
//!
//! - [`CacheBackend`]: six methods. A memory map, a directory, a bucket, a chain of other backends
//!   and a sealing wrapper all are one, so they compose and one conformance suite judges them all.
//! - [`Key`], [`Entry`], [`Version`]: what is stored, under which name, and which of two writes
//!   wins.
//! - [`Fleet`]: what a backend adds that coordinates machines: leases and notices of removals.
//! - [`Error`]: a kind that a caller can act on, whether a retry can help, and what to do next.
//! - [`envelope`]: the bytes that every tier stores, described in `docs/reference/format.md`.
//!
//! This crate does no I/O and knows no backend.
//!
//! ```
//! use std::time::Duration;
//! use peercache_api::{Entry, Freshness, Key, NodeId, Timestamp, VersionClock};
//!
//! let now = Timestamp::from_millis(1_800_000_000_000);
//! let versions = VersionClock::new(NodeId::from_u64(7));
//! let key = Key::from_parts(["repos", "rust-lang/rust"])?;
//! let entry = Entry::builder("{}", versions.next(now), now)
//!     .fresh_for(Duration::from_secs(300))
//!     .content_type("application/json")
//!     .build()?;
//!
//! assert_eq!(entry.freshness(now), Freshness::Fresh);
//! let stored = peercache_api::envelope::encode(&key, &entry);
//! assert_eq!(peercache_api::envelope::decode(&key, stored)?, entry);
//! # Ok::<(), peercache_api::Error>(())
//! ```

mod backend;
mod entry;
pub mod envelope;
mod error;
mod fleet;
mod key;
mod time;
#[doc(hidden)]
pub mod util;
mod version;

pub use async_trait::async_trait;
pub use bytes::Bytes;

pub use backend::{BackendInfo, CacheBackend, CacheBackendExt, Capabilities, Scope};
pub use entry::{
    Class, Entry, EntryBuilder, EntryKind, Freshness, MAX_CONTENT_TYPE_BYTES, MAX_LIFETIME, MAX_PROOF_BYTES,
    MAX_TAG_BYTES, MAX_TAGS, MAX_VALIDATOR_BYTES, MAX_VALUE_BYTES, Metadata, TOMBSTONE_LIFETIME, Validators,
};
pub use error::{Error, ErrorKind, Operation};
pub use fleet::{Fleet, LeaseAnswer, LeaseRequest, LeaseToken, RemovalWatcher};
pub use key::{Key, MAX_KEY_BYTES};
pub use time::{Clock, CorrectedClock, MAX_CLOCK_SKEW, SystemClock, Timestamp};
pub use version::{NodeId, Version, VersionClock};
