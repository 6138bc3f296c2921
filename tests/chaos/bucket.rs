//! Tiers whose entries lie in a bucket of a real server.
//!
//! A chain runs in paused time on a runtime of one thread. Requests take real time, on a runtime of
//! their own; while one is under way the paused time stands still, as tokio has it while a blocking
//! call runs. So to the chain each takes no time, and what chaos adds is all there is to see of
//! time.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use peercache::{BackendInfo, CacheBackend, Clock, Entry, Error, Fleet, Key, S3};
use peercache_testkit::ManualClock;
use peercache_testkit::servers::SeaweedFs;
use tokio::runtime::{Handle, Runtime};

/// The store of the test that runs. The test holds it, so that the server ends with it.
static STORE: Mutex<Weak<Store>> = Mutex::new(Weak::new());

/// The server, and what its tiers have done together.
#[derive(Debug)]
pub(crate) struct Store {
    server: SeaweedFs,
    runtime: Runtime,
    tiers: AtomicU64,
    gets: AtomicU64,
    puts: AtomicU64,
    conflicts: AtomicU64,
}

impl Store {
    /// Starts it, for the scenarios that run while it is held. `None` where its program is missing,
    /// which was said.
    pub(crate) fn start() -> Option<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let server = runtime.block_on(SeaweedFs::start()).unwrap()?;
        let [tiers, gets, puts, conflicts] = [0; 4].map(AtomicU64::new);
        let store = Arc::new(Self { server, runtime, tiers, gets, puts, conflicts });
        *STORE.lock().unwrap() = Arc::downgrade(&store);
        Some(store)
    }

    /// The one that was started.
    pub(crate) fn get() -> Arc<Self> {
        STORE.lock().unwrap().upgrade().expect("no scenario has a bucket where there is no server")
    }

    /// Two processes with one bucket, under a prefix that nobody else has.
    pub(crate) fn pair(
        self: &Arc<Self>,
        name: &'static str,
        clock: &Arc<ManualClock>,
    ) -> [Arc<dyn CacheBackend>; 2] {
        let prefix = format!("chaos/{}", self.tiers.fetch_add(1, Ordering::Relaxed));
        let keys = self.server.credentials();
        let builder = S3::builder(self.server.bucket())
            .endpoint(self.server.endpoint())
            .region("us-east-1")
            .access_key(keys.id, keys.secret, None)
            .prefix(prefix)
            // Not about deadlines: a machine may be busy.
            .request_timeout(Duration::from_secs(60))
            .clock(Arc::clone(clock) as Arc<dyn Clock>);
        [builder.clone(), builder].map(|builder| {
            let inner = Arc::new(self.runtime.block_on(builder.open()).unwrap());
            let info = BackendInfo::new(name, inner.info().capabilities);
            Arc::new(Bucket { info, inner, store: Arc::clone(self) }) as Arc<dyn CacheBackend>
        })
    }

    /// Whether everything that a bucket can meet in such a world was met.
    pub(crate) fn check(&self) {
        for (what, times) in
            [("lookups", &self.gets), ("writes", &self.puts), ("writes by both at once", &self.conflicts)]
        {
            let times = times.load(Ordering::Relaxed);
            println!("{what} in buckets: {times}");
            assert!(times > 0, "no bucket met any {what}");
        }
    }
}

/// A bucket, asked outside of paused time.
#[derive(Debug)]
struct Bucket {
    info: BackendInfo,
    inner: Arc<S3>,
    store: Arc<Store>,
}

impl Bucket {
    async fn outside<T, F, Fut>(&self, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(Arc<S3>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Error>>,
    {
        let (inner, runtime): (_, Handle) = (Arc::clone(&self.inner), self.store.runtime.handle().clone());
        let call = tokio::task::spawn_blocking(move || runtime.block_on(call(inner)));
        // Also a panic in there is one of this run.
        call.await.unwrap()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let report = self.inner.report();
        self.store.gets.fetch_add(report.requests.get, Ordering::Relaxed);
        self.store.puts.fetch_add(report.requests.put, Ordering::Relaxed);
        self.store.conflicts.fetch_add(report.conflicts, Ordering::Relaxed);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Bucket {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let key = key.clone();
        self.outside(move |bucket| async move { bucket.get(&key).await }).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        let key = key.clone();
        self.outside(move |bucket| async move { bucket.put(&key, entry).await }).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.outside(|bucket| async move { bucket.probe().await }).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        self.inner.fleet()
    }
}
