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
use super::secret::Ring;
use super::value::Origin;

/// Below `CACHE_DIR`, where `CACHE_PEER_DIR` says nothing else.
const DIR: &str = "peers";
/// The most entries that are read in one go.
const PAGE: usize = 512;

impl Config {
    /// Where an anchor keeps what it holds. `None` for a node that holds nothing for others, for
    /// one that must leave nothing on this disk, and where the directory cannot be used: with a
    /// warning, since the anchor works all the same.
    pub(super) async fn anchor_store(&self, ring: Option<&Ring>) -> Option<Arc<dyn AnchorStore>> {
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
            Ok(disk) => Some(Arc::new(AnchorDisk { disk, local: self.local_tier(ring).await })),
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

    /// The disk tier of this machine, to be read: what it holds is an answer to peers too, where
    /// the secret has sealed it. Where it cannot be used, the tier itself says so.
    async fn local_tier(&self, ring: Option<&Ring>) -> Option<LocalTier> {
        let (ring, dir) = (ring?.clone(), self.dir()?);
        let disk = Disk::builder(dir).capacity(self.values.disk_bytes.value).clock(self.clock.shared());
        opened(|| disk.open()).await.ok().map(|disk| LocalTier { disk, ring })
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
    local: Option<LocalTier>,
}

/// The disk tier of the same machine, which has entries under the same keys: both are sealed with
/// the same secret.
#[derive(Debug)]
struct LocalTier {
    disk: Disk,
    ring: Ring,
}

impl LocalTier {
    /// What the fleet's secret has sealed. What lies there in clear, or under another secret, is
    /// nobody else's.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let found = self.disk.get(key).await?;
        Ok(found.filter(|entry| self.ring.has_sealed(entry)))
    }
}

#[async_trait]
impl AnchorStore for AnchorDisk {
    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.disk.put(key, entry).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let held = self.disk.get(key).await?;
        match (held, &self.local) {
            (None, Some(local)) => local.get(key).await,
            (held, _) => Ok(held),
        }
    }

    async fn page(&self, from: Option<u64>) -> Result<StoredPage, Error> {
        let page = self.disk.page(from.map(DiskPosition::from_u64), PAGE).await?;
        Ok(StoredPage::new(page.entries, page.next.map(DiskPosition::as_u64)))
    }

    async fn close(&self) -> Result<(), Error> {
        if let Some(local) = &self.local {
            local.disk.close().await?;
        }
        self.disk.close().await
    }
}

#[cfg(all(test, feature = "seal"))]
mod tests {
    use std::time::Duration;

    use peercache_api::{Clock as _, NodeId, SystemClock, VersionClock};

    use crate::config::ConfigBuilder;

    use super::*;

    #[tokio::test]
    async fn peers_are_given_what_the_secret_sealed_on_this_machine_and_nothing_in_clear() {
        let dir = tempfile::tempdir().unwrap();
        let vars = [
            ("CACHE_SECRET", "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug"),
            ("CACHE_ROLE", "anchor"),
            ("CACHE_DIR", dir.path().to_str().unwrap()),
        ];
        let var =
            |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let config = ConfigBuilder::new("peercache").without_file().read_vars(var).unwrap();
        let ring = config.secrets.ring().unwrap().cloned();
        let (versions, now) = (VersionClock::new(NodeId::from_u64(1)), SystemClock::new().now());
        let entry = |text: &'static str| {
            Entry::builder(text, versions.next(now), now).fresh_for(Duration::from_secs(60)).build().unwrap()
        };
        // As another run left it: in clear, and sealed.
        let (clear, sealed) = (Key::new("in clear").unwrap(), Key::new("sealed").unwrap());
        let disk = Arc::new(Disk::open(dir.path()).unwrap());
        disk.put(&clear, entry("private")).await.unwrap();
        let clock = config.clock.shared();
        let tier = ring.as_ref().unwrap().seal_shared(Arc::clone(&disk), clock);
        tier.put(&sealed, entry("private too")).await.unwrap();
        let outer = disk.page(None, 1).await.unwrap().entries.remove(0);

        let store = config.anchor_store(ring.as_ref()).await.unwrap();
        assert_eq!(store.get(&clear).await.unwrap(), None, "whoever guesses its key gets nothing");
        assert_eq!(store.get(&outer.0).await.unwrap(), Some(outer.1.clone()));
        assert_ne!(outer.1.value(), "private too");
        store.put(&outer.0, Entry::tombstone(versions.next(now), now)).await.unwrap();
        assert!(
            store.get(&outer.0).await.unwrap().unwrap().is_tombstone(),
            "what it holds itself comes first"
        );
        assert_eq!(
            store.page(None).await.unwrap().entries.len(),
            1,
            "the tier's entries stay where they are"
        );
        let without = config.anchor_store(None).await.unwrap();
        assert_eq!(without.get(&clear).await.unwrap(), None);
    }
}
