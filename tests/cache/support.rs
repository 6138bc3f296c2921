//! Caches over memory at a time that stands still, and a tier that is always broken.

use std::sync::Arc;

use peercache::backend::{BackendInfo, Capabilities, NodeId, Operation, async_trait};
use peercache::{Cache, CacheBackend, CacheBuilder, Clock, Entry, Error, ErrorKind, Key, Memory};
use peercache_testkit::ManualClock;

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) fn memory(&self) -> Arc<Memory> {
        Arc::new(Memory::builder().clock(self.shared_clock()).build())
    }

    pub(crate) fn builder(&self) -> CacheBuilder {
        Cache::builder().clock(self.shared_clock()).node(NodeId::from_u64(1))
    }

    /// A cache over memory alone.
    pub(crate) fn cache(&self) -> Cache {
        self.builder().tier(self.memory()).build().unwrap()
    }

    pub(crate) fn shared_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Fails whatever it is asked.
#[derive(Debug)]
pub(crate) struct Broken(BackendInfo);

impl Broken {
    pub(crate) fn new(name: &'static str) -> Self {
        Self(BackendInfo::new(name, Capabilities::local().with_ordered_writes()))
    }

    /// One that is shared with other machines.
    #[cfg(feature = "seal")]
    pub(crate) fn shared(name: &'static str) -> Self {
        Self(BackendInfo::new(name, Capabilities::shared().with_ordered_writes()))
    }

    fn fail<T>(&self, operation: Operation) -> Result<T, Error> {
        Err(Error::new(ErrorKind::Unavailable, operation, "pulled the plug")
            .with_backend(self.0.name.clone()))
    }
}

#[async_trait]
impl CacheBackend for Broken {
    fn info(&self) -> &BackendInfo {
        &self.0
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, Error> {
        self.fail(Operation::Get)
    }

    async fn put(&self, _: &Key, _: Entry) -> Result<(), Error> {
        self.fail(Operation::Put)
    }

    async fn probe(&self) -> Result<(), Error> {
        self.fail(Operation::Probe)
    }

    async fn close(&self) -> Result<(), Error> {
        self.fail(Operation::Close)
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        None
    }
}
