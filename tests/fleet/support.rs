//! Machines over one hub.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peercache::seal::{Sealed, Secret};
use peercache::{Cache, CacheBuilder, Clock, Disk, Key, Memory, Ttl};
use peercache_testkit::ManualClock;
use peercache_testkit::fleet::{Hub, Member};

/// How the machines share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Plain,
    Sealed,
}

pub(crate) const BOTH: [Sharing; 2] = [Sharing::Plain, Sharing::Sealed];

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) hub: Hub,
    pub(crate) secret: Secret,
    sharing: Sharing,
}

/// One machine: its cache, and its handle to the hub.
pub(crate) struct Machine {
    pub(crate) cache: Cache,
    pub(crate) member: Arc<Member>,
}

impl World {
    pub(crate) fn new(sharing: Sharing) -> Self {
        let clock = Arc::new(ManualClock::default());
        let hub = Hub::new(clock.clone());
        Self { clock, hub, secret: Secret::generate().unwrap(), sharing }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::builder().clock(self.clock()).build()
    }

    /// A machine with a memory tier.
    pub(crate) fn machine(&self) -> Machine {
        self.machine_with(|builder| builder.tier(self.memory()))
    }

    /// A machine with a disk below its memory.
    pub(crate) fn machine_at(&self, dir: &Path) -> Machine {
        let disk = Disk::builder(dir).clock(self.clock()).open().unwrap();
        self.machine_with(|builder| builder.tier(self.memory()).tier(disk))
    }

    /// A machine whose local tiers are `local`.
    pub(crate) fn machine_with(&self, local: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Machine {
        let member = Arc::new(self.hub.member("hub"));
        let builder = local(Cache::builder().clock(self.clock()));
        let builder = match self.sharing {
            Sharing::Plain => builder.tier(Arc::clone(&member)),
            Sharing::Sealed => builder.tier(self.sealed(&self.secret, &member)),
        };
        Machine { cache: builder.build().unwrap(), member }
    }

    pub(crate) fn sealed(&self, secret: &Secret, member: &Arc<Member>) -> Sealed<Arc<Member>> {
        Sealed::builder(secret.clone(), Arc::clone(member)).clock(self.clock()).build()
    }

    pub(crate) fn machines(&self, number: usize) -> Vec<Machine> {
        (0..number).map(|_| self.machine()).collect()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

impl Machine {
    /// Waits until what was put has reached the hub, and what was heard the local tiers.
    pub(crate) async fn settle(&self) {
        self.cache.settle().await;
    }

    pub(crate) async fn put(&self, key: &Key, value: &str) {
        self.cache.put(key, value, Ttl::from_secs(300)).await.unwrap();
        self.settle().await;
    }

    pub(crate) async fn get(&self, key: &Key) -> Option<String> {
        let value = self.cache.get(key).await;
        self.settle().await;
        value
    }
}

pub(crate) fn key(name: impl std::fmt::Display) -> Key {
    Key::new(name.to_string()).unwrap()
}

/// An origin that takes a while, counts what it is asked, and fails as often as it is told to.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) asked: AtomicUsize,
    pub(crate) failures: AtomicUsize,
}

impl Origin {
    /// The number of the question. Takes 100 ms on tokio's clock.
    pub(crate) async fn ask(&self) -> Result<usize, io::Error> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let fails =
            self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if fails.is_ok() { Err(io::Error::other("the origin is busy")) } else { Ok(number) }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
