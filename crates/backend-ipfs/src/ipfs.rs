//! The tier itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use peercache_api::{BackendInfo, CacheBackend, Entry, Error, ErrorKind, Fleet, Key, Operation};
use tokio::task::AbortHandle;

use crate::cleaner;
use crate::eviction::{self, Swept};
use crate::report::IpfsReport;
use crate::rpc::RepoSize;
use crate::store::Store;
use crate::sync::Sync;

/// One Kubo node's own files, as a tier.
///
/// - **Files.** Each write is a file of its own in the node's MFS, named by key, version and
///   expiry; the greatest version counts. Nothing is pinned and nothing is replaced in place.
/// - **Calls.** A lookup is two calls, a miss one, a put two; then one, and one for each older
///   write that goes.
/// - **Order.** The newest write wins, whatever the order in which writers arrive. A link onto a
///   free name is the node's one atomic operation, and it is all that is needed.
/// - **Time.** A get, put or probe ends within its deadline
///   ([`IpfsBuilder::request_timeout`](crate::IpfsBuilder::request_timeout)).
/// - **Room.** Entries take at most [`IpfsBuilder::max_bytes`](crate::IpfsBuilder::max_bytes) on
///   the node; the oldest writes go first. What is no longer linked is the node's own to collect:
///   see [`Ipfs::collect_garbage`].
/// - **Private entries** are refused with kind `Denied` unless
///   [`IpfsBuilder::allow_private`](crate::IpfsBuilder::allow_private) is set.
/// - **Memory.** At most 64 operations at once, each with at most two envelopes.
///
/// Needs a tokio runtime. Cheap to open: nothing is sent.
pub struct Ipfs {
    info: BackendInfo,
    store: Arc<Store>,
    sync: Option<Sync>,
    maintenance: Option<AbortHandle>,
    cleaner: Option<AbortHandle>,
    closed: AtomicBool,
}

/// What `repo/gc` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Blocks that were dropped.
    pub blocks: u64,
    /// Bytes of the repository before.
    pub bytes_before: u64,
    /// Bytes of the repository now.
    pub bytes_now: u64,
    /// The node's own limit, `Datastore.StorageMax`. It holds only with `--enable-gc`.
    pub storage_max: u64,
}

impl Ipfs {
    /// Where a node listens unless it is told otherwise.
    pub const DEFAULT_API: &'static str = "/ip4/127.0.0.1/tcp/5001";
    /// What an operation may take unless told otherwise.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
    /// What entries may take on the node unless told otherwise: 1 GiB.
    pub const DEFAULT_MAX_BYTES: u64 = 1024 * 1024 * 1024;
    /// The smallest such limit.
    pub const MIN_MAX_BYTES: u64 = 1024 * 1024;

    pub(crate) fn new(info: BackendInfo, store: Arc<Store>, sync: Option<Sync>, maintenance: bool) -> Self {
        let maintenance = maintenance.then(|| eviction::start(&store));
        let cleaner = cleaner::start(&store);
        let maintenance = maintenance.flatten();
        Self { info, store, sync, maintenance, cleaner, closed: AtomicBool::new(false) }
    }

    /// What the tier has done since it was opened.
    #[must_use]
    pub fn report(&self) -> IpfsReport {
        let mut report = self.store.report();
        if let Some(sync) = &self.sync {
            report.sync = Some(sync.counts());
            report.sync_error = sync.error();
        }
        report
    }

    /// Removes what has expired, what was superseded and left behind, and the oldest writes above
    /// the byte limit. It runs by itself once in a while; this is for tests and for `peercache ipfs
    /// gc`.
    ///
    /// # Errors
    /// As for [`CacheBackend::get`]. What was removed until then stays removed.
    pub async fn sweep(&self) -> Result<Swept, Error> {
        self.refuse_closed(Operation::Put)?;
        self.store.check_version(Operation::Put).await?;
        eviction::sweep(&self.store).await.map_err(|trouble| self.store.fail(trouble, Operation::Put))
    }

    /// Lets the node drop every block that nothing links and nothing pins, **those of others too**:
    /// what somebody added to the node and neither pinned nor put into MFS is gone. Writes wait
    /// meanwhile.
    ///
    /// # Errors
    /// As for [`CacheBackend::get`].
    pub async fn collect_garbage(&self) -> Result<Collected, Error> {
        self.refuse_closed(Operation::Put)?;
        self.store.check_version(Operation::Put).await?;
        let work = async {
            let before = self.store.node.repo_size().await?;
            let blocks = self.store.node.collect().await?;
            let RepoSize { repo_size, storage_max } = self.store.node.repo_size().await?;
            Ok(Collected { blocks, bytes_before: before.repo_size, bytes_now: repo_size, storage_max })
        };
        work.await.map_err(|trouble| self.store.fail(trouble, Operation::Put))
    }

    fn refuse_closed(&self, operation: Operation) -> Result<(), Error> {
        if !self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, operation, "the IPFS tier is closed")
            .with_backend("ipfs")
            .with_temporary(false))
    }

    fn stop(&self) {
        for task in [&self.maintenance, &self.cleaner].into_iter().flatten() {
            task.abort();
        }
        if let Some(sync) = &self.sync {
            sync.stop();
        }
    }
}

impl Drop for Ipfs {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Ipfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ipfs")
            .field("api", &self.store.settings.api)
            .field("prefix", &self.store.layout.prefix())
            .field("sync", &self.sync.is_some())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl CacheBackend for Ipfs {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.refuse_closed(Operation::Get)?;
        self.store.within(Operation::Get, self.store.read(key)).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.refuse_closed(Operation::Put)?;
        if !self.info.capabilities.writable {
            return Err(
                Error::new(ErrorKind::Denied, Operation::Put, "the tier is read-only").with_backend("ipfs")
            );
        }
        let written = self.store.within(Operation::Put, self.store.write(key, &entry)).await?;
        if let Some(sync) = &self.sync {
            sync.announce(written);
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        self.refuse_closed(Operation::Probe)?;
        let root = self.store.layout.root();
        let ask = async {
            self.store.check_version(Operation::Probe).await?;
            match self.store.node.folder(&root).await {
                Ok(_) => Ok(()),
                Err(trouble) => Err(self.store.fail(trouble, Operation::Probe)),
            }
        };
        self.store.within(Operation::Probe, ask).await
    }

    /// A put is acknowledged by the node, so nothing that was stored waits. What it has superseded
    /// is removed, for at most five seconds, and announcements that wait are published, for at most
    /// one.
    async fn close(&self) -> Result<(), Error> {
        if !self.closed.swap(true, Ordering::AcqRel) {
            if let Some(sync) = &self.sync {
                sync.flush().await;
            }
            self.store.cleaning.flush().await;
            self.stop();
        }
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
