//! Where an anchor keeps what it holds.

use std::fmt;

use async_trait::async_trait;
use peercache_api::{Entry, Error, Key};

/// Keeps the entries that an anchor holds, so that they are there again after a restart; see
/// [`PeersBuilder::store`](crate::PeersBuilder::store).
///
/// Keys are known by their digests alone ([`Key::from_digest`]). It is given whatever members of
/// the network store, so it has to bound what it keeps. Every method may be cancelled.
#[async_trait]
pub trait AnchorStore: fmt::Debug + Send + Sync {
    /// Stores an entry or a tombstone, unless what is there is newer.
    ///
    /// # Errors
    /// The store's. The anchor goes on without, and says so once per outage.
    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error>;

    /// What is stored under `key`. Asked for each key that the node does not hold in memory.
    ///
    /// # Errors
    /// The store's. It then counts as absent.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error>;

    /// Some of what is stored, that which came last first; `from` is [`StoredPage::next`] of the
    /// page before, or nothing to begin.
    ///
    /// # Errors
    /// The store's. The rest is not read then.
    async fn page(&self, from: Option<u64>) -> Result<StoredPage, Error>;

    /// Lets go of the store, once everything has been written.
    ///
    /// # Errors
    /// The store's.
    async fn close(&self) -> Result<(), Error>;
}

/// Some of the entries of an [`AnchorStore`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StoredPage {
    /// The entries, tombstones included. A page should have a few MiB at most.
    pub entries: Vec<(Key, Entry)>,
    /// Where the next page begins; nothing when this was the last one.
    pub next: Option<u64>,
}

impl StoredPage {
    /// A page of these entries.
    #[must_use]
    pub const fn new(entries: Vec<(Key, Entry)>, next: Option<u64>) -> Self {
        Self { entries, next }
    }
}
