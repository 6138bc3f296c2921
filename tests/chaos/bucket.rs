//! Tiers whose entries lie in a bucket of a real server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use peercache::{CacheBackend, Clock, S3};
use peercache_testkit::ManualClock;
use peercache_testkit::servers::SeaweedFs;
use tokio::runtime::Runtime;

use crate::outside::Outside;

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
            let bucket = self.runtime.block_on(builder.open()).unwrap();
            let store = Arc::clone(self);
            let ended = Box::new(move |bucket: &S3| {
                let report = bucket.report();
                store.gets.fetch_add(report.requests.get, Ordering::Relaxed);
                store.puts.fetch_add(report.requests.put, Ordering::Relaxed);
                store.conflicts.fetch_add(report.conflicts, Ordering::Relaxed);
            });
            let runtime = self.runtime.handle().clone();
            Arc::new(Outside::new(name, bucket, runtime, ended)) as Arc<dyn CacheBackend>
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
