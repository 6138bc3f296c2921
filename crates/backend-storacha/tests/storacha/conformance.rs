//! The conformance suite, alone and sealed.

use std::sync::Arc;

use peercache_api::CacheBackend;
use peercache_seal::{Sealed, Secret};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

use crate::support::{FOR_EVER, Space};

async fn conforms(space: &Space, prefix: &str, secret: Option<Secret>) {
    let clock = Arc::new(ManualClock::default());
    let (token, prefix, time) = (space.token(), prefix.to_owned(), Arc::clone(&clock));
    let open = move || {
        let tier = peercache_storacha::Storacha::builder(token.clone())
            .prefix(&*prefix)
            .allow_private(true)
            .request_timeout(FOR_EVER)
            .clock(Arc::clone(&time) as _)
            .open();
        let (secret, time) = (secret.clone(), Arc::clone(&time));
        async move {
            let tier = tier?;
            Ok(match secret {
                Some(secret) => {
                    Arc::new(Sealed::builder(secret, tier).clock(time).build()) as Arc<dyn CacheBackend>
                }
                None => Arc::new(tier),
            })
        }
    };
    conformance::assert_conforms(conformance::from_fn(Time::Manual(clock), open)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn upload_service_conforms() {
    let Some(space) = Space::start().await else { return };
    conforms(&space, "plain", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn upload_service_sealed_conforms() {
    let Some(space) = Space::start().await else { return };
    conforms(&space, "sealed", Some(Secret::generate().unwrap())).await;
}
