//! Where an anchor keeps what it holds for the fleet: a directory of the disk tier's kind, of its
//! own.
//!
//! Not the directory of the disk tier itself: what lies there in clear, or under another secret,
//! would then be given to whoever asks for it.

use std::path::PathBuf;
use std::sync::Arc;

use peercache_api::{CacheBackend, Entry, Error, Key, async_trait};
use peercache_libp2p::{AnchorStore, StoredPage};
use peercache_local::{Disk, DiskPosition};

use super::backend_name::BackendName;
use super::configuration::Config;
use super::error::without_help;
use super::open::opened;
use super::value::Origin;

/// Below `CACHE_DIR`, where `CACHE_PEER_DIR` says nothing else.
const DIR: &str = "peers";
/// The most entries that are read in one go.
const PAGE: usize = 512;

impl Config {
    /// Where an anchor keeps what it holds. `None` for a node that holds nothing for others, for
    /// one that must leave nothing on this disk, and where the directory cannot be used: with a
    /// warning, since the anchor works all the same.
    pub(super) async fn anchor_store(&self) -> Option<Arc<dyn AnchorStore>> {
        if !self.is_anchor() || self.one_shot || self.look_only || self.untrusted || self.alone {
            return None;
        }
        let Some(dir) = self.anchor_dir() else {
            tracing::warn!(
                "this anchor keeps what it holds in memory only, since no directory is known: set CACHE_DIR or \
                 CACHE_PEER_DIR"
            );
            return None;
        };
        let disk = Disk::builder(&dir).capacity(self.values.peer_bytes.value).clock(self.clock.shared());
        match opened(|| disk.open()).await {
            Ok(disk) => Some(Arc::new(AnchorDisk { disk })),
            Err(error) => {
                tracing::warn!(
                    "this anchor keeps what it holds in memory only, and loses it at a restart: {}; set CACHE_PEER_DIR \
                     to a directory that this user can write",
                    without_help(&error)
                );
                None
            }
        }
    }

    /// In the usual directory only where something is kept there anyway.
    fn anchor_dir(&self) -> Option<PathBuf> {
        if let Some(dir) = &self.values.peer_dir.value {
            return Some(dir.clone());
        }
        let chosen =
            self.backends().contains(&BackendName::Disk) || self.values.dir.origin != Origin::Default;
        self.values.dir.value.as_ref().filter(|_| chosen).map(|dir| dir.join(DIR))
    }
}

/// A directory for what an anchor holds.
#[derive(Debug)]
struct AnchorDisk {
    disk: Disk,
}

#[async_trait]
impl AnchorStore for AnchorDisk {
    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.disk.put(key, entry).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.disk.get(key).await
    }

    async fn page(&self, from: Option<u64>) -> Result<StoredPage, Error> {
        let page = self.disk.page(from.map(DiskPosition::from_u64), PAGE).await?;
        Ok(StoredPage::new(page.entries, page.next.map(DiskPosition::as_u64)))
    }

    async fn close(&self) -> Result<(), Error> {
        self.disk.close().await
    }
}
