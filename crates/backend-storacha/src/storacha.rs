//! The tier itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use peercache_api::{BackendInfo, CacheBackend, Entry, Error, ErrorKind, Fleet, Key, Operation};

use crate::compaction::Compaction;
use crate::layout::Roots;
use crate::report::StorachaReport;
use crate::store::Store;

/// A space of a UCAN upload service, as a tier.
///
/// - **Requests.** A lookup is one message, and a GET of the bytes; of bytes that another process
///   wrote, three more the first time. A miss is one message. A put is three messages, a PUT and
///   the receipt of it.
/// - **Order.** The newest write wins, whatever the order in which writers arrive. Superseded
///   writes are taken out in the background; a reader never misses a key meanwhile.
/// - **Trust.** Every receipt is verified: who signed it, and of what it is. Bytes are what their
///   SHA-256 names, or a miss.
/// - **Time.** A get, put or probe ends within its deadline
///   ([`request_timeout`](crate::StorachaBuilder::request_timeout)).
/// - **Private entries** are refused with kind `Denied` unless
///   [`allow_private`](crate::StorachaBuilder::allow_private) is set: what is removed from a space
///   can stay readable.
/// - **Memory.** 8,192 writes are remembered, about 300 bytes each; at most 1,024 keys wait to be
///   compacted.
///
/// Needs a tokio runtime. Cheap to open: nothing is sent.
pub struct Storacha {
    info: BackendInfo,
    store: Arc<Store>,
    compaction: Option<Compaction>,
    closed: AtomicBool,
}

impl Storacha {
    /// What an operation may take unless told otherwise.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

    pub(crate) fn new(info: BackendInfo, store: Arc<Store>) -> Self {
        let compaction = info.capabilities.writable.then(|| Compaction::start(Arc::clone(&store))).flatten();
        Self { info, store, compaction, closed: AtomicBool::new(false) }
    }

    /// What the tier has done since it was opened.
    #[must_use]
    pub fn report(&self) -> StorachaReport {
        let service = &self.store.client.service;
        StorachaReport {
            service: service.url.to_string(),
            did: service.did.to_string(),
            space: self.store.client.space(),
            allow_private: self.store.allow_private(),
            writes_disabled: self.store.disabled_reason(),
            counts: self.store.counters.read(),
        }
    }

    fn refuse_closed(&self, operation: Operation) -> Result<(), Error> {
        if !self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, operation, "the Storacha tier is closed")
            .with_backend("storacha")
            .with_temporary(false))
    }
}

impl fmt::Debug for Storacha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storacha").field("store", &self.store).finish_non_exhaustive()
    }
}

#[async_trait]
impl CacheBackend for Storacha {
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
            return Err(Error::new(ErrorKind::Denied, Operation::Put, "the tier is read-only")
                .with_backend("storacha"));
        }
        let crowded = self.store.within(Operation::Put, self.store.write(key, &entry)).await?;
        if crowded && let Some(compaction) = &self.compaction {
            compaction.ask(key);
        }
        Ok(())
    }

    /// Looks up a key that nobody writes.
    async fn probe(&self) -> Result<(), Error> {
        self.refuse_closed(Operation::Probe)?;
        let roots = Roots::of(&self.store.prefix, &Key::from_parts(["peercache", "probe"])?);
        let ask = async {
            self.store.shards(&roots).await.map(drop).map_err(|error| error.into_error(Operation::Probe))
        };
        self.store.within(Operation::Probe, ask).await
    }

    /// A put is acknowledged by the service, so there is nothing to flush.
    async fn close(&self) -> Result<(), Error> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
