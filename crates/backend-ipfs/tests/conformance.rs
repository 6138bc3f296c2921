//! The conformance suite over a real Kubo node: by each client, alone and sealed, and across
//! restarts.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use peercache_api::CacheBackend;
use peercache_ipfs::{Ipfs, IpfsClientKind};
use peercache_seal::{Sealed, Secret};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};
use peercache_testkit::servers::{Kubo, KuboOptions};

async fn conforms(node: &Kubo, prefix: &str, client: IpfsClientKind, secret: Option<Secret>) {
    conforms_to(node, prefix, client, secret, true).await;
}

async fn conforms_to(
    node: &Kubo,
    prefix: &str,
    client: IpfsClientKind,
    secret: Option<Secret>,
    private: bool,
) {
    let clock = Arc::new(ManualClock::default());
    let (api, prefix, time) = (node.api(), prefix.to_owned(), Arc::clone(&clock));
    let open = move || {
        let tier = Ipfs::builder(&api).prefix(&prefix).client(client).allow_private(private);
        // Not about deadlines: a machine may be busy, and some cases write 64 keys at once.
        let tier = tier.request_timeout(Duration::from_secs(60)).clock(Arc::clone(&time) as _).open();
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
async fn kubo_by_keep_alive_client_conforms() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    conforms(&node, "plain", IpfsClientKind::KeepAlive, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kubo_by_per_call_client_conforms() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    conforms(&node, "plain", IpfsClientKind::PerCall, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kubo_sealed_conforms() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    conforms(&node, "sealed", IpfsClientKind::KeepAlive, Some(Secret::generate().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kubo_that_takes_public_entries_alone_conforms() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    conforms_to(&node, "public", IpfsClientKind::KeepAlive, None, false).await;
    let secret = Secret::generate().unwrap();
    conforms_to(&node, "sealed", IpfsClientKind::KeepAlive, Some(secret), false).await;
}
