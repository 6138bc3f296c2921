//! Tiers whose entries lie in a space of the real upload service.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use peercache::backend::storacha::{Storacha, Token};
use peercache::{CacheBackend, Clock};
use peercache_testkit::ManualClock;
use peercache_testkit::servers::{StorachaService, StorachaSpace};
use tokio::runtime::Runtime;

use crate::outside::Outside;

/// The service of the test that runs. The test holds it, so that the server ends with it.
static SERVICE: Mutex<Weak<Service>> = Mutex::new(Weak::new());

/// The server, and what its tiers have done together.
#[derive(Debug)]
pub(crate) struct Service {
    server: StorachaService,
    space: StorachaSpace,
    runtime: Runtime,
    tiers: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    puts: AtomicU64,
}

impl Service {
    /// Starts it, for the scenarios that run while it is held. `None` where its packages are
    /// missing, which was said.
    pub(crate) fn start() -> Option<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let server = runtime.block_on(StorachaService::start()).unwrap()?;
        let space = runtime.block_on(server.space()).unwrap();
        let [tiers, hits, misses, puts] = [0; 4].map(AtomicU64::new);
        let service = Arc::new(Self { server, space, runtime, tiers, hits, misses, puts });
        *SERVICE.lock().unwrap() = Arc::downgrade(&service);
        Some(service)
    }

    /// The one that was started.
    pub(crate) fn get() -> Arc<Self> {
        SERVICE.lock().unwrap().upgrade().expect("no scenario has a space where there is no service")
    }

    /// Two processes with one space, under a prefix that nobody else has.
    pub(crate) fn pair(
        self: &Arc<Self>,
        name: &'static str,
        clock: &Arc<ManualClock>,
    ) -> [Arc<dyn CacheBackend>; 2] {
        let prefix = format!("chaos/{}", self.tiers.fetch_add(1, Ordering::Relaxed));
        let did = self.server.did().to_owned();
        let token = Token::new(&self.space.key, &self.space.proof, Some(self.server.url()), Some(did));
        let builder = Storacha::builder(token.unwrap())
            .prefix(prefix)
            .allow_private(true)
            // Not about deadlines: a machine may be busy.
            .request_timeout(Duration::from_secs(120))
            .clock(Arc::clone(clock) as Arc<dyn Clock>);
        [builder.clone(), builder].map(|builder| {
            let _entered = self.runtime.enter();
            let service = Arc::clone(self);
            let ended = Box::new(move |tier: &Storacha| {
                let counts = tier.report().counts;
                service.hits.fetch_add(counts.hits, Ordering::Relaxed);
                service.misses.fetch_add(counts.misses, Ordering::Relaxed);
                service.puts.fetch_add(counts.puts, Ordering::Relaxed);
            });
            let runtime = self.runtime.handle().clone();
            Arc::new(Outside::new(name, builder.open().unwrap(), runtime, ended)) as Arc<dyn CacheBackend>
        })
    }

    /// Whether everything that a space can meet in such a world was met.
    pub(crate) fn check(&self) {
        for (what, times) in [("hits", &self.hits), ("misses", &self.misses), ("writes", &self.puts)] {
            let times = times.load(Ordering::Relaxed);
            println!("{what} in spaces: {times}");
            assert!(times > 0, "no space met any {what}");
        }
    }
}
