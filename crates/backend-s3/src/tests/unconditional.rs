//! Stores that know no conditions on writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use peercache_api::{CacheBackend, envelope};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{Setup, key};
use crate::Finding;
use crate::fake::Told;

/// Counts what is warned of on this thread.
#[derive(Clone, Debug, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_store_without_conditions_is_found_out_and_written_with_looks() {
    let setup = Setup::new().await;
    setup.fake.state().ignores_conditions = true;
    let tier = setup.tier().await;
    let k = key("k");
    tier.put(&k, setup.entry("v", 2)).await.unwrap();
    assert_eq!(setup.log(), "PUT(absent) 200, PUT(absent) 200, GET 404, PUT 200, GET 200");
    assert_eq!(tier.report().conditional, Finding::No);
    // An older write comes between our write and our look.
    setup.fake.state().next.extend([
        Told::Race(envelope::encode(&k, &setup.entry("v", 2))),
        Told::Race(bytes::Bytes::new()),
        Told::Race(envelope::encode(&k, &setup.entry("late", 1))),
    ]);
    tier.put(&k, setup.entry("newest", 3)).await.unwrap();
    assert_eq!(setup.log(), "GET 200, PUT 200, GET 200, PUT 200, GET 200");
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "newest");
    // One that refuses them altogether is the same.
    let other = setup.tier().await;
    setup.fake.next(Told::Answer(501, "NotImplemented", None));
    other.put(&k, setup.entry("more", 4)).await.unwrap();
    assert_eq!(other.report().conditional, Finding::No);
}

#[tokio::test]
async fn a_store_that_knows_conditions_no_more_is_written_all_the_same_and_warned_of_once() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    assert_eq!(tier.report().conditional, Finding::Yes);
    let warnings = Warnings::default();
    let _listening = tracing::subscriber::set_default(warnings.clone());
    setup.fake.next(Told::Answer(501, "NotImplemented", None));
    tier.put(&key("k"), setup.entry("v", 1)).await.unwrap();
    assert_eq!(setup.log(), "PUT(absent) 501, GET 404, PUT 200, GET 200");
    assert_eq!(tier.report().conditional, Finding::No);
    tier.put(&key("k"), setup.entry("w", 2)).await.unwrap();
    assert_eq!(setup.log(), "GET 200, PUT 200, GET 200");
    assert_eq!(warnings.0.load(Ordering::SeqCst), 1);
}
