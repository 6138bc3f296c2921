//! What a backend offers that coordinates a fleet: one load per key, and word of every removal.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use async_trait::async_trait;

use crate::entry::Entry;
use crate::error::Error;
use crate::key::Key;
use crate::version::Version;

/// The part of a backend that coordinates the machines that share it: peers, a store with a lock
/// service. [`CacheBackend::fleet`](crate::CacheBackend::fleet) returns it, where there is one.
///
/// # Leases
/// A lease decides which machine loads a missing key, so that a fleet asks the origin once. It is
/// an optimisation and not a lock: it may be granted twice when members disagree, and a member that
/// gets no answer loads.
///
/// - A lease ends with the put of a **value** under its key, whatever its version, with its
///   [release](Self::release), or with its [`ttl`](LeaseRequest::ttl), whichever comes first. A
///   tombstone does not end it.
/// - If it ends with a value that is new enough for a waiting caller, that caller gets the value.
///   Otherwise one of the waiting callers is granted the next lease.
///
/// # Removals
/// Every [watcher](Self::watch) is notified of a removal by another member when its tombstone
/// arrives, and again if it arrives again. Notices are best effort: for a removal that was made
/// while a member was cut off, the notice comes when the member is back, or never.
#[async_trait]
pub trait Fleet: fmt::Debug + Send + Sync {
    /// Asks to be the only one that loads `key`. Returns at once if no other member loads it, and
    /// within [`LeaseRequest::wait`] and one round trip in any case.
    ///
    /// # Errors
    /// Of kind `Timeout` when the wait is over and another one still loads; any other where the
    /// fleet cannot be asked. In each case the caller loads without a lease.
    ///
    /// Cancel-safe in that a lease which was granted to a call that was dropped ends with its ttl.
    async fn lease(&self, key: &Key, request: LeaseRequest) -> Result<LeaseAnswer, Error>;

    /// Gives a lease back without a value, so that the next one loads. Best effort; never blocks.
    /// Does nothing if the lease has ended already or another member holds it.
    fn release(&self, key: &Key, token: LeaseToken);

    /// Notifies `watcher` of every removal that others make from now on, until it is dropped.
    fn watch(&self, watcher: Weak<dyn RemovalWatcher>);
}

/// How long a load may take, and how long its caller would wait for another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseRequest {
    /// After how long the lease ends by itself. A holder that died holds the others up for no
    /// longer.
    pub ttl: Duration,
    /// How long to wait while another one loads. Zero: not at all.
    pub wait: Duration,
    /// Only a value whose version is above this is of use.
    pub newer_than: Version,
}

impl LeaseRequest {
    /// A request for which any value is of use.
    #[must_use]
    pub const fn new(ttl: Duration, wait: Duration) -> Self {
        Self { ttl, wait, newer_than: Version::ZERO }
    }

    /// As this one, but only a value above `version` is of use.
    #[must_use]
    pub const fn newer_than(self, version: Version) -> Self {
        Self { newer_than: version, ..self }
    }
}

/// The answer to a [`LeaseRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The caller is to load: to put a value under the key, or else to release it.
    Granted(LeaseToken),
    /// There is a value now that is newer than asked for: never a tombstone, never expired.
    Found(Entry),
}

/// Proves a lease to who granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken(u64);

impl LeaseToken {
    /// The token with this number.
    #[must_use]
    pub const fn from_u64(token: u64) -> Self {
        Self(token)
    }

    /// The number of this token.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Receives notices of removals that other machines made.
pub trait RemovalWatcher: fmt::Debug + Send + Sync {
    /// The key whose digest is `key` was removed. `tombstone` is what is stored for that: its
    /// version says up to where, and its value may prove who made it.
    ///
    /// Called from the backend's own threads, in a burst when many keys are removed: must not
    /// block.
    fn removed(&self, key: &[u8; 32], tombstone: &Entry);
}
