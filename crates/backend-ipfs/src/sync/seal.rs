//! Announcements are sealed by what seals the tier's entries: a backend around a slot.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Class, Clock, Entry, Error, ErrorKind, Fleet, Key, NodeId,
    Operation, VersionClock, envelope,
};

/// How long an announcement can be opened. Longer than clocks may differ, and no longer than a
/// replay would do nothing.
const LIFETIME: Duration = Duration::from_secs(900);
/// The key under which announcements are sealed. No entry of a cache has it.
const KEY: &str = "\u{1}ipfs/announcement";

type Make = dyn Fn(Arc<dyn CacheBackend>) -> Arc<dyn CacheBackend> + Send + std::marker::Sync;

/// Makes what seals the tier's entries, around a backend.
#[derive(Clone)]
pub(crate) struct Seal(Arc<Make>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub(crate) fn new<F>(make: F) -> Self
    where
        F: Fn(Arc<dyn CacheBackend>) -> Arc<dyn CacheBackend> + Send + std::marker::Sync + 'static,
    {
        Self(Arc::new(make))
    }
}

/// Seals and opens announcements.
#[derive(Debug)]
pub(super) struct Sealer {
    sealed: Arc<dyn CacheBackend>,
    slot: Arc<Slot>,
    key: Key,
    versions: VersionClock,
    clock: Arc<dyn Clock>,
    /// The slot holds one announcement at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Sealer {
    pub(super) fn new(seal: &Seal, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let info = BackendInfo::new("ipfs-announcements", Capabilities::shared());
        let slot = Arc::new(Slot { info, held: Mutex::new(None) });
        Ok(Self {
            sealed: (seal.0)(Arc::clone(&slot) as _),
            slot,
            key: Key::new(KEY)?,
            versions: VersionClock::new(NodeId::random()),
            clock,
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Whether this process may make announcements: a read-only secret opens them alone.
    pub(super) fn can_seal(&self) -> bool {
        self.sealed.info().capabilities.writable
    }

    pub(super) async fn seal(&self, text: String) -> Result<Bytes, Error> {
        let now = self.clock.now();
        // Public within the fleet: who may read public entries alone must be able to take those
        // over.
        let entry = Entry::builder(text, self.versions.next(now), now).fresh_for(LIFETIME);
        let entry = entry.class(Class::Public).build()?;
        let _turn = self.turn.lock().await;
        self.sealed.put(&self.key, entry).await?;
        self.slot.take().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, Operation::Encode, "the seal stored no announcement")
                .with_backend("ipfs")
        })
    }

    /// What was announced. `None`: nobody with the secret has sealed it, or too long ago.
    pub(super) async fn open(&self, message: Bytes) -> Option<Bytes> {
        let _turn = self.turn.lock().await;
        self.slot.fill(message);
        let opened = self.sealed.get(&self.key).await;
        self.slot.take();
        opened.ok().flatten().map(Entry::into_value)
    }
}

/// A backend with room for one envelope.
#[derive(Debug)]
struct Slot {
    info: BackendInfo,
    held: Mutex<Option<Bytes>>,
}

impl Slot {
    fn fill(&self, envelope: Bytes) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(envelope);
    }

    fn take(&self) -> Option<Bytes> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl CacheBackend for Slot {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(held) = held else { return Ok(None) };
        // Under a former secret it would lie elsewhere: there is nothing, rather than something
        // wrong.
        let (digest, entry) = envelope::decode_unkeyed(held)?;
        Ok((digest == *key.digest()).then_some(entry))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.fill(envelope::encode(key, &entry));
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
