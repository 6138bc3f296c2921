//! Tiers whose entries lie on a real server.
//!
//! A chain runs in paused time on a runtime of one thread. Calls take real time, on a runtime of
//! their own; while one is under way the paused time stands still, as tokio has it while a blocking
//! call runs. So to the chain each takes no time, and what chaos adds is all there is to see of
//! time.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use peercache::backend::{BackendInfo, Fleet};
use peercache::{CacheBackend, Clock, Entry, Error, Key};
use peercache_testkit::ManualClock;
#[cfg(feature = "redis")]
use peercache_testkit::servers::RedisServer;
#[cfg(feature = "s3")]
use peercache_testkit::servers::SeaweedFs;
#[cfg(feature = "ipfs")]
use peercache_testkit::servers::{Kubo, KuboOptions};
use tokio::runtime::{Handle, Runtime};

/// Not about deadlines: a machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// The servers of tests that run. A test holds its own, so that the server ends with it.
static STORES: Mutex<Vec<(Server, Weak<Store>)>> = Mutex::new(Vec::new());

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Server {
    #[cfg(feature = "ipfs")]
    Kubo,
    #[cfg(feature = "redis")]
    Redis,
    #[cfg(feature = "s3")]
    SeaweedFs,
}

/// A server that runs.
#[derive(Debug)]
enum Running {
    #[cfg(feature = "ipfs")]
    Kubo(Kubo),
    #[cfg(feature = "redis")]
    Redis(RedisServer),
    #[cfg(feature = "s3")]
    SeaweedFs(SeaweedFs),
}

/// The server, and what its tiers have done together.
#[derive(Debug)]
pub(crate) struct Store {
    server: Running,
    runtime: Runtime,
    tiers: AtomicU64,
    gets: AtomicU64,
    puts: AtomicU64,
    conflicts: AtomicU64,
}

impl Store {
    /// Starts it, for the scenarios that run while it is held. `None` where its program is missing,
    /// which was said.
    pub(crate) fn start(which: Server) -> Option<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let server = match which {
            #[cfg(feature = "ipfs")]
            Server::Kubo => Running::Kubo(runtime.block_on(Kubo::start(KuboOptions::default())).unwrap()?),
            #[cfg(feature = "redis")]
            Server::Redis => Running::Redis(runtime.block_on(RedisServer::start()).unwrap()?),
            #[cfg(feature = "s3")]
            Server::SeaweedFs => Running::SeaweedFs(runtime.block_on(SeaweedFs::start()).unwrap()?),
        };
        let [tiers, gets, puts, conflicts] = [0; 4].map(AtomicU64::new);
        let store = Arc::new(Self { server, runtime, tiers, gets, puts, conflicts });
        STORES.lock().unwrap().push((which, Arc::downgrade(&store)));
        Some(store)
    }

    /// The one that was started.
    pub(crate) fn get(which: Server) -> Arc<Self> {
        let stores = STORES.lock().unwrap();
        let store = stores.iter().rev().find(|(kind, _)| *kind == which);
        store.and_then(|(_, store)| store.upgrade()).expect("no scenario has such a tier without its server")
    }

    /// Two processes with the same entries, under a prefix that nobody else has.
    pub(crate) fn pair(
        self: &Arc<Self>,
        name: &'static str,
        clock: &Arc<ManualClock>,
    ) -> [Arc<dyn CacheBackend>; 2] {
        let prefix = format!("chaos/{}", self.tiers.fetch_add(1, Ordering::Relaxed));
        [(), ()].map(|()| {
            let clock = Arc::clone(clock) as Arc<dyn Clock>;
            let (inner, conflicts) = self.runtime.block_on(self.open(&prefix, clock)).unwrap();
            let info = BackendInfo::new(name, inner.info().capabilities);
            Arc::new(Outside { info, inner, conflicts, store: Arc::clone(self) }) as Arc<dyn CacheBackend>
        })
    }

    /// A tier, and what counts the writes of it that met another one's.
    async fn open(
        &self,
        prefix: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<dyn CacheBackend>, Conflicts), Error> {
        Ok(match &self.server {
            #[cfg(feature = "ipfs")]
            Running::Kubo(node) => {
                let tier = peercache::Ipfs::builder(node.api()).prefix(prefix).allow_private(true);
                // By itself it would do what no step did.
                let tier = Arc::new(tier.maintenance(false).request_timeout(DEADLINE).clock(clock).open()?);
                let counted = Arc::clone(&tier);
                (tier, Conflicts(Box::new(move || counted.report().counts.superseded)))
            }
            #[cfg(feature = "redis")]
            Running::Redis(server) => {
                let tier = peercache::Redis::builder(server.url()).prefix(prefix);
                let tier = Arc::new(tier.request_timeout(DEADLINE).clock(clock).open()?);
                let counted = Arc::clone(&tier);
                (tier, Conflicts(Box::new(move || counted.report().lost_writes)))
            }
            #[cfg(feature = "s3")]
            Running::SeaweedFs(server) => {
                let keys = server.credentials();
                let tier = peercache::S3::builder(server.bucket())
                    .endpoint(server.endpoint())
                    .region("us-east-1")
                    .access_key(keys.id, keys.secret, None)
                    .prefix(prefix)
                    .request_timeout(DEADLINE)
                    .clock(clock);
                let tier = Arc::new(tier.open().await?);
                let counted = Arc::clone(&tier);
                (tier, Conflicts(Box::new(move || counted.report().conflicts)))
            }
        })
    }

    /// Whether everything that a server can meet in such a world was met.
    pub(crate) fn check(&self) {
        for (what, times) in
            [("lookups", &self.gets), ("writes", &self.puts), ("writes that met another", &self.conflicts)]
        {
            let times = times.load(Ordering::Relaxed);
            println!("{what} on the server: {times}");
            assert!(times > 0, "no server met any {what}");
        }
    }
}

/// Counts the writes of a tier that met another one's.
struct Conflicts(Box<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Conflicts").field(&(self.0)()).finish()
    }
}

/// A tier over the server, asked outside of paused time.
///
/// It is no member of a fleet here: a notice of a removal would come at any time, while the model
/// takes one step after the other.
#[derive(Debug)]
struct Outside {
    info: BackendInfo,
    inner: Arc<dyn CacheBackend>,
    conflicts: Conflicts,
    store: Arc<Store>,
}

impl Outside {
    async fn call<T, F, Fut>(&self, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(Arc<dyn CacheBackend>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Error>>,
    {
        let (inner, runtime): (_, Handle) = (Arc::clone(&self.inner), self.store.runtime.handle().clone());
        let call = tokio::task::spawn_blocking(move || runtime.block_on(call(inner)));
        // Also a panic in there is one of this run.
        call.await.unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.store.conflicts.fetch_add((self.conflicts.0)(), Ordering::Relaxed);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Outside {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.store.gets.fetch_add(1, Ordering::Relaxed);
        let key = key.clone();
        self.call(move |tier| async move { tier.get(&key).await }).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.store.puts.fetch_add(1, Ordering::Relaxed);
        let key = key.clone();
        self.call(move |tier| async move { tier.put(&key, entry).await }).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.call(|tier| async move { tier.probe().await }).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.call(|tier| async move { tier.close().await }).await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
