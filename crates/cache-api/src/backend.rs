//! The trait that every storage backend implements, and what it declares about itself.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::entry::{Entry, MAX_VALUE_BYTES};
use crate::error::Error;
use crate::fleet::Fleet;
use crate::key::Key;
use crate::time::Timestamp;
use crate::version::Version;

/// A place where entries are kept.
///
/// A memory map, a directory and a bucket implement it, and so do wrappers: a chain of backends, a
/// sealed backend, a backend that injects faults. `peercache-testkit` holds the conformance suite
/// that judges every implementation; it picks its cases by [`Capabilities`].
///
/// # Rules for implementations
/// - **Newest wins.** With [`Capabilities::ordered_writes`], a [`put`](Self::put) takes effect only
///   if [`Entry::supersedes`] says so; otherwise it succeeds and changes nothing. A removal is a
///   put of a tombstone ([`Entry::tombstone`], [`CacheBackendExt::remove`]), and a backend stores
///   and returns it like any entry: that is how a tier that was away is kept from raising the dead.
/// - **Never lie.** `get` returns what was put under this key, whole, or nothing. What cannot be
///   verified is an error of kind `Corrupt`, and better removed than kept.
/// - **Absence is an answer.** `Ok(None)` is for "not here" and "expired"; a failure is an `Err`.
/// - **Cancellation.** Any of these futures may be dropped at any await point. A put may then have
///   happened or not, wholly.
/// - **Bounds.** What a backend queues or remembers is bounded.
///
/// All methods are required: a wrapper that forgot to forward one would otherwise compile.
#[async_trait]
pub trait CacheBackend: fmt::Debug + Send + Sync {
    /// What this backend is called and what it can do. Constant for its lifetime.
    fn info(&self) -> &BackendInfo;

    /// Reads the entry under `key`: a value or a tombstone. `None` when there is none or it has
    /// expired; the caller decides what to do with a stale one.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error>;

    /// Stores `entry` under `key` unless what is there is newer. When this returns `Ok`, a `get` by
    /// this process sees this entry or a newer one, until it expires or is evicted.
    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error>;

    /// Whether the backend is well. Cheap: the breaker and the doctor ask it often.
    async fn probe(&self) -> Result<(), Error>;

    /// Flushes what was accepted, then refuses everything with kind `Unavailable`. Calling it again
    /// is not an error.
    async fn close(&self) -> Result<(), Error>;

    /// What coordinates the machines that share this backend: leases, and notices of removals.
    /// `None` for a backend that coordinates nothing, which is most. Constant for its lifetime.
    fn fleet(&self) -> Option<&dyn Fleet>;
}

/// Sugar over [`CacheBackend`], available on every implementation.
#[async_trait]
pub trait CacheBackendExt: CacheBackend {
    /// Removes what is older than `version` by storing a tombstone.
    ///
    /// # Errors
    /// As [`CacheBackend::put`].
    async fn remove(&self, key: &Key, version: Version, now: Timestamp) -> Result<(), Error> {
        self.put(key, Entry::tombstone(version, now)).await
    }
}

impl<B: CacheBackend + ?Sized> CacheBackendExt for B {}

/// Who can read and write a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Only this machine: memory, a directory.
    Local,
    /// Other machines too: peers, a bucket, a public network.
    Shared,
}

/// What a backend can do. The conformance suite holds it to exactly this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Who can read and write it.
    pub scope: Scope,
    /// Whether `put` compares versions atomically. Without it, the last put wins and the chain
    /// compares before it writes, which is best effort.
    pub ordered_writes: bool,
    /// Whether it drops expired entries by itself, so that `get` never returns one.
    pub native_expiry: bool,
    /// Whether entries survive the end of the process.
    pub durable: bool,
    /// Whether `put` is possible at all. A read-only backend answers it with kind `Denied`.
    pub writable: bool,
    /// The largest value that it takes, in bytes; more is refused with kind `TooLarge`.
    pub max_value_bytes: usize,
    /// Whether it takes private entries ([`Class::Private`](crate::Class)). One that strangers may
    /// reach does not: it answers a put of one with kind `Denied`, and keeps no older value of that
    /// key, so that nothing out of date comes back from it. Removals are always taken.
    pub private_entries: bool,
    /// How many bytes it keeps before it evicts; `None` where there is no such bound, or none that
    /// is known. A value that is stored in parts goes only where all of them together leave room
    /// for others.
    pub capacity_bytes: Option<u64>,
}

impl Capabilities {
    /// A local, writable backend that takes values up to [`MAX_VALUE_BYTES`], and nothing else.
    #[must_use]
    pub const fn local() -> Self {
        Self {
            scope: Scope::Local,
            ordered_writes: false,
            native_expiry: false,
            durable: false,
            writable: true,
            max_value_bytes: MAX_VALUE_BYTES,
            private_entries: true,
            capacity_bytes: None,
        }
    }

    /// As [`Capabilities::local`], for a backend that other machines can reach.
    #[must_use]
    pub const fn shared() -> Self {
        Self { scope: Scope::Shared, ..Self::local() }
    }

    /// Declares that writes are ordered by version.
    #[must_use]
    pub const fn with_ordered_writes(self) -> Self {
        Self { ordered_writes: true, ..self }
    }

    /// Declares that expired entries are never returned.
    #[must_use]
    pub const fn with_native_expiry(self) -> Self {
        Self { native_expiry: true, ..self }
    }

    /// Declares that entries survive the end of the process.
    #[must_use]
    pub const fn with_durable(self) -> Self {
        Self { durable: true, ..self }
    }

    /// Declares that nothing can be written.
    #[must_use]
    pub const fn with_read_only(self) -> Self {
        Self { writable: false, ..self }
    }

    /// Declares that private entries are refused.
    #[must_use]
    pub const fn without_private_entries(self) -> Self {
        Self { private_entries: false, ..self }
    }

    /// Declares the largest value.
    #[must_use]
    pub const fn with_max_value_bytes(self, bytes: usize) -> Self {
        Self { max_value_bytes: bytes, ..self }
    }

    /// Declares how many bytes it keeps before it evicts.
    #[must_use]
    pub const fn with_capacity_bytes(self, bytes: u64) -> Self {
        Self { capacity_bytes: Some(bytes), ..self }
    }

    /// Whether a value of `bytes` in all, stored in parts, fits without taking the place of
    /// everything else: it may have three quarters of what is kept here.
    #[must_use]
    pub const fn has_room_for(&self, bytes: u64) -> bool {
        match self.capacity_bytes {
            Some(capacity) => bytes <= capacity - capacity / 4,
            None => true,
        }
    }
}

/// The name and the capabilities of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendInfo {
    /// A short name for reports: `memory`, `disk`, `s3`.
    pub name: Cow<'static, str>,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl BackendInfo {
    /// Describes a backend.
    pub fn new(name: impl Into<Cow<'static, str>>, capabilities: Capabilities) -> Self {
        Self { name: name.into(), capabilities }
    }
}

macro_rules! forward_through_pointer {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<B: CacheBackend + ?Sized> CacheBackend for $pointer<B> {
            fn info(&self) -> &BackendInfo {
                (**self).info()
            }

            async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
                (**self).get(key).await
            }

            async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
                (**self).put(key, entry).await
            }

            async fn probe(&self) -> Result<(), Error> {
                (**self).probe().await
            }

            async fn close(&self) -> Result<(), Error> {
                (**self).close().await
            }

            fn fleet(&self) -> Option<&dyn Fleet> {
                (**self).fleet()
            }
        }
    )*};
}

forward_through_pointer!(Arc, Box);
