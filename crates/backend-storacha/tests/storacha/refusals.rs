//! What the service refuses, and a service that lies.

use peercache_api::{CacheBackend as _, Class, Entry, ErrorKind};
use peercache_storacha::{Storacha, Token};

use crate::support::{FOR_EVER, Space, Writer, key};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_service_without_writes_makes_a_read_only_tier_that_says_so_and_comes_back() {
    let Some(space) = Space::start().await else { return };
    let tier = space.tier().open().unwrap();
    let writer = Writer::new(1);
    let entry = writer.entry("before");
    tier.put(&key("k"), entry.clone()).await.unwrap();
    space.service.take_writes(false).await.unwrap();
    let error = tier.put(&key("k"), writer.entry("after")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("disabled writes"), "{error}");
    assert!(tier.report().writes_disabled.is_some());
    assert_eq!(tier.get(&key("k")).await.unwrap(), Some(entry));
    space.service.take_writes(true).await.unwrap();
    // A tier that has not heard of it tries.
    let other = space.tier().open().unwrap();
    other.put(&key("k"), writer.entry("again")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_space_without_a_provider_is_named() {
    let Some(space) = Space::without_provider().await else { return };
    let error = space.tier().open().unwrap().put(&key("k"), Writer::new(1).entry("v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("no provider"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_service_did_and_a_wrong_key_are_named() {
    let Some(space) = Space::start().await else { return };
    let printed = &space.printed;
    let with = |did: &str| {
        let token = Token::new(&printed.key, &printed.proof, Some(space.service.url()), Some(did.into()));
        Storacha::builder(token.unwrap()).allow_private(true).request_timeout(FOR_EVER).open().unwrap()
    };
    // The service signs for another name than the one that was asked for.
    let error = with("did:web:other.example.org").get(&key("k")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Denied | ErrorKind::Corrupt), "{error}");
    // The right name and another key: nothing that it says is believed.
    let stranger = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
    let tier = with(&format!("{}={stranger}", space.service.did()));
    let error = tier.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(tier.report().counts.receipts_refused > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn private_entries_stay_away_unless_they_are_allowed() {
    let Some(space) = Space::start().await else { return };
    let tier = space.tier().allow_private(false).open().unwrap();
    let entry = Writer::new(1).entry("hidden");
    let error = tier.put(&key("k"), entry.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.help().unwrap().contains("STORACHA_ALLOW_PRIVATE"), "{error}");
    let meta = entry.metadata();
    let public = Entry::builder("shown", meta.version, meta.created).fresh_for(meta.fresh_for);
    let public = public.class(Class::Public).build().unwrap();
    tier.put(&key("k"), public.clone()).await.unwrap();
    assert_eq!(tier.get(&key("k")).await.unwrap(), Some(public));
    assert_eq!(tier.report().counts.private_refused, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_service_that_is_away_is_unavailable() {
    let Some(mut space) = Space::start().await else { return };
    let tier = space.tier().open().unwrap();
    space.service.kill();
    assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(tier.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
}
