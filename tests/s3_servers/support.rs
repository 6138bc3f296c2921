//! Machines that share a bucket and a secret, each with a memory of its own above it.

use std::sync::Arc;
use std::time::Duration;

use peercache::chain::{BreakerOptions, Skip, TierOptions, WriteBehind};
use peercache::report::{QueueReport, TierReport};
use peercache::seal::{Sealed, Secret};
use peercache::{Cache, Key, Lookup, Memory, S3, Ttl};
use peercache_testkit::servers::Credentials;

/// How the bucket's tier is called, behind its seal.
pub(crate) const BUCKET_TIER: &str = "sealed(s3)";
/// What never happens on a machine however busy, so that a test that waits in vain ends.
const FOR_EVER: Duration = Duration::from_secs(120);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes that no seal makes shorter: at 1 KB a second they take most of a minute.
pub(crate) fn large() -> Vec<u8> {
    let mut bytes = vec![0; 40_000];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Waits until `done` holds.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(FOR_EVER, waiting).await.is_ok(), "this never came: {what}");
}

/// A bucket, and the secret of those who share it.
pub(crate) struct Fleet {
    pub(crate) bucket: &'static str,
    pub(crate) prefix: String,
    pub(crate) credentials: Credentials,
    pub(crate) secret: Secret,
}

impl Fleet {
    /// A machine that knows nothing yet and reaches the store at `endpoint`. The deadlines are the
    /// default ones; what is shorter is only how soon it looks again.
    pub(crate) async fn machine(&self, endpoint: &str) -> Machine {
        let bucket = S3::builder(self.bucket).endpoint(endpoint).prefix(&self.prefix).region("us-east-1");
        let bucket = bucket.access_key(self.credentials.id, self.credentials.secret, None).open().await;
        let bucket = Arc::new(bucket.unwrap());
        let soon = Duration::from_secs(1);
        let breaker = BreakerOptions { max_backoff: soon, ..BreakerOptions::default() };
        let cache = Cache::builder()
            .tier(Memory::with_capacity(1 << 24))
            .tier_with(
                Sealed::new(self.secret.clone(), Arc::clone(&bucket)),
                TierOptions { breaker, ..TierOptions::default() },
            )
            .write_behind(WriteBehind { max_backoff: soon, ..WriteBehind::default() })
            .s3(Arc::clone(&bucket))
            .build()
            .unwrap();
        Machine { cache, bucket }
    }
}

pub(crate) struct Machine {
    pub(crate) cache: Cache,
    pub(crate) bucket: Arc<S3>,
}

impl Machine {
    /// What the report says of the bucket's tier.
    pub(crate) fn tier(&self) -> TierReport {
        let tiers = self.cache.report().chain.tiers;
        tiers.into_iter().find(|tier| tier.name == BUCKET_TIER).unwrap()
    }

    /// What the report says of the writes that wait for it.
    pub(crate) fn behind(&self) -> QueueReport {
        self.tier().queue.unwrap()
    }

    /// Writes; the memory has it at once, and the bucket gets it behind.
    pub(crate) async fn put(&self, name: &str, value: Vec<u8>) {
        let outcome = self.cache.put_bytes(&key(name), value, Ttl::from_secs(600)).await.unwrap();
        assert!(outcome.is_stored() && outcome.is_queued(), "{outcome:?}");
    }

    /// Waits until the bucket has everything that was written, without asking for anything.
    pub(crate) async fn delivered(&self) {
        until("the delivery of what waits", async || self.behind().waiting == 0).await;
    }

    /// Waits until the bucket answers with what lies under `name`, and gives the value. Not at
    /// once: a busy machine may miss a deadline.
    pub(crate) async fn find_in_bucket(&self, name: &str) -> Vec<u8> {
        let mut value = None;
        until("an answer of the bucket", async || {
            let lookup = self.cache.lookup(&key(name)).await;
            let found = lookup.tier.as_deref() == Some(BUCKET_TIER);
            value = lookup.hit().filter(|_| found).map(|entry| entry.value().to_vec());
            found
        })
        .await;
        value.unwrap()
    }

    /// Waits until the bucket says that what lies under `name` was removed.
    pub(crate) async fn find_removed(&self, name: &str) {
        until("the removal in the bucket", async || {
            let lookup = self.cache.lookup(&key(name)).await;
            assert!(lookup.entry.is_none(), "it is there: {lookup:?}");
            matches!(passed(&lookup), Some(Skip::Removed))
        })
        .await;
    }
}

/// Why a lookup passed over the bucket, if it did.
pub(crate) fn passed(lookup: &Lookup) -> Option<&Skip> {
    lookup.trace.iter().find(|trace| trace.tier == BUCKET_TIER).map(|trace| &trace.skip)
}
