//! Writes while the service or the storage node lies: refused, counted, and nothing is believed
//! stored.

use std::sync::Arc;
use std::time::Duration;

use ipld_core::ipld::Ipld;
use peercache_api::{CacheBackend as _, Error, ErrorKind};

use super::forge::{Signed, reworked, set};
use super::front::{Asked, Front, Lie, Told};
use super::{NODE, World, messages, open, stranger};
use crate::StorachaCounts;

/// What a put of a newer value comes to, and what was counted; afterwards the old value is still
/// there.
async fn put_through(world: &World, lie: Lie, trusted: bool) -> (Error, StorachaCounts) {
    let front = world.front().await;
    front.set(Some(lie));
    let tier = match trusted {
        true => open(world.trusting_tier(&front)),
        false => world.tier(&front),
    };
    let error = tier.put(&world.key, world.newer("a value that is not stored")).await.unwrap_err();
    let honest = world.front().await;
    let found = world.tier(&honest).get(&world.key).await.unwrap();
    assert_eq!(found.as_ref(), Some(&world.entry), "{error}");
    (error, tier.report().counts)
}

/// Everything signed by the liar, and the bytes asked to this address.
fn sent_to(world: &World, url: String) -> Lie {
    let signed = world.by_liar();
    Arc::new(move |asked: &Asked, truth: Told| {
        if asked.method != "POST" && !asked.path.starts_with("/receipt/") {
            return truth;
        }
        truth.map(|body| {
            reworked(&body, &signed, &|value| {
                set(value, &["ocm", "out", "ok", "address", "url"], Ipld::String(url.clone()));
            })
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn forged_receipts_of_a_write_are_refused() {
    let Some(world) = World::start().await else { return };
    let service = world.service.did().to_owned();
    let forged =
        messages(move |body| reworked(body, &Signed::By(Box::new(stranger()), service.clone()), &|_| {}));
    let (error, counts) = put_through(&world, forged, false).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(counts.receipts_refused > 0 && counts.puts == 0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bytes_are_not_sent_where_a_service_must_not_point() {
    let Some(world) = World::start().await else { return };
    for url in ["http://10.0.0.1/x", "http://storage.example.org/x", "ftp://127.0.0.1/x"] {
        let (error, counts) = put_through(&world, sent_to(&world, url.to_owned()), true).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{url}: {error}");
        assert!(counts.locations_refused > 0 && counts.puts == 0, "{url}: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redirected_bytes_are_not_sent_on() {
    let Some(world) = World::start().await else { return };
    let elsewhere = Front::start(world.service.address()).await;
    let node = Front::start(world.service.address()).await;
    let to = format!("{}{NODE}stolen", elsewhere.url());
    node.set(Some(Arc::new(move |_, _| Told::redirect(307, &to))));
    let lie = sent_to(&world, format!("{}{NODE}bytes", node.url()));
    let (error, counts) = put_through(&world, lie, true).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(counts.locations_refused > 0, "{counts:?}");
    assert!(!node.take_asked().is_empty());
    assert!(elsewhere.take_asked().is_empty(), "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn storage_node_that_is_away_fails_the_write() {
    let Some(world) = World::start().await else { return };
    let gone = Front::start(world.service.address()).await;
    let away = format!("{}{NODE}bytes", gone.url());
    drop(gone);
    let (error, counts) = put_through(&world, sent_to(&world, away), true).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("storage node"), "{error}");
    assert_eq!(counts.puts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn receipt_of_a_write_that_never_comes_is_named_and_counted() {
    let Some(world) = World::start().await else { return };
    let front = world.front().await;
    front.set(Some(Arc::new(|asked: &Asked, truth: Told| match asked.path.starts_with("/receipt/") {
        true => Told::status(404),
        false => truth,
    })));
    let token = world.token(front.url(), world.service.did().to_owned());
    let tier = crate::Storacha::builder(token).allow_private(true);
    let tier = tier.request_timeout(Duration::from_secs(6)).open().unwrap();
    let other = peercache_api::Key::new("unacknowledged").unwrap();
    let error = tier.put(&other, world.newer("v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains("receipt"), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("STORACHA_RECEIPTS_URL")), "{error}");
    let counts = tier.report().counts;
    assert_eq!((counts.timeouts, counts.puts), (1, 0));
    front.set(None);
    assert_eq!(tier.get(&other).await.unwrap(), None, "what was not acknowledged is not there");
}
