//! The suite that judges every backend judges the seal around two of them.

use std::sync::Arc;

use peercache_api::{CacheBackend, Error};
use peercache_local::Memory;
use peercache_seal::{Keyring, Sealed, Secret};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

use crate::support::Map;

/// Runs the suite over what `open` makes of a fresh store, a keyring and the clock.
async fn conforms<B: CacheBackend + 'static>(
    keyring: Keyring,
    open: impl Fn(Arc<ManualClock>) -> B + Send + Sync + 'static,
) {
    let clock = Arc::new(ManualClock::default());
    let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
        let inner = open(Arc::clone(&clock));
        let sealed = Sealed::builder(keyring.clone(), inner).clock(Arc::clone(&clock) as _).build();
        async move { Ok::<_, Error>(Arc::new(sealed) as Arc<dyn CacheBackend>) }
    });
    conformance::assert_conforms(harness).await;
}

fn secret() -> Secret {
    Secret::generate().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_map_conforms() {
    conforms(secret().into(), |clock| Map::new(clock, 100_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_memory_conforms() {
    conforms(secret().into(), |clock| Memory::builder().capacity(4 << 20).clock(clock).build()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_fleet_conforms_and_coordinates_as_before() {
    let hub = |clock| peercache_testkit::fleet::Hub::new(clock).member("member");
    conforms(secret().into(), move |clock| hub(clock)).await;
    let ring = Keyring::new(secret()).with_old(secret()).unwrap();
    conforms(ring, move |clock| hub(clock)).await;
    let clock = Arc::new(ManualClock::default());
    assert!(Sealed::new(secret(), hub(clock.clone())).fleet().is_some());
    assert!(Sealed::new(secret(), Map::new(clock, 100_000)).fleet().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_with_old_secrets_conforms() {
    let ring = Keyring::new(secret()).with_old(secret()).unwrap().with_old(secret().read_only()).unwrap();
    conforms(ring, |clock| Map::new(clock, 100_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_seal_conforms() {
    conforms(secret().read_only().into(), |clock| Map::new(clock, 100_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_in_a_seal_conforms() {
    conforms(secret().into(), |clock| {
        Sealed::builder(secret(), Map::new(Arc::clone(&clock) as _, 100_000)).clock(clock).build()
    })
    .await;
}
