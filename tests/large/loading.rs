//! `load_stream`: a loader's stream is stored as it comes and read by everyone who waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, future, stream};
use peercache::stream::{CHUNK_BYTES, LargeValue, PLAIN_BYTES};
use peercache::{Bytes, Cache, FetchError, Fetched, FetchedFrom, LoadContext, Memory, Policy, Refresh};
use tokio::sync::Notify;

use crate::support::{bytes, drain, key, pieces, world};

const LARGE: usize = PLAIN_BYTES + CHUNK_BYTES + 7;
const PIECE: usize = 100_000;

static POLICY: Policy = Policy::fresh(Duration::from_secs(10))
    .stale(Duration::from_secs(100))
    .error_backoff(Duration::from_secs(2))
    .jitter(0.0);

type Answer = Result<Fetched<LargeValue>, FetchError<io::Error>>;

/// An origin of one value after another, which counts how often it was asked.
#[derive(Clone, Default)]
struct Origin(Arc<AtomicUsize>);

impl Origin {
    fn value(number: usize) -> Bytes {
        bytes(number as u64, LARGE)
    }

    fn asked(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    async fn fetch(&self, cache: &Cache, refresh: Refresh) -> Answer {
        let asked = Arc::clone(&self.0);
        let load = move |_: LoadContext<LargeValue>| {
            let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
            future::ready(Ok(pieces(&Self::value(number), PIECE)))
        };
        cache.fetch(key("k"), &POLICY).refresh(refresh).load_stream(load).await
    }
}

async fn whole(fetched: Fetched<LargeValue>) -> Vec<u8> {
    let (all, error) = drain(fetched.value.into_stream()).await;
    assert!(error.is_none(), "{error:?}");
    all
}

/// Pieces of `value`, and then an error in the middle.
fn broken(value: &Bytes) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let lost = io::Error::new(io::ErrorKind::ConnectionReset, "the origin hung up");
    pieces(value, PIECE).take(20).chain(stream::iter([Err(lost)]))
}

async fn fail(cache: &Cache) -> Answer {
    let load = |_: LoadContext<LargeValue>| future::ready(Ok(broken(&bytes(9, LARGE))));
    cache.fetch(key("k"), &POLICY).load_stream(load).await
}

#[tokio::test]
async fn stream_is_loaded_once_and_then_found() {
    let ((cache, _, _), origin) = (world(), Origin::default());
    let loaded = origin.fetch(&cache, Refresh::Normal).await.unwrap();
    assert!(matches!(loaded.from, FetchedFrom::Loaded));
    assert_eq!(whole(loaded).await, Origin::value(1));
    let found = origin.fetch(&cache, Refresh::Normal).await.unwrap();
    assert!(matches!(found.from, FetchedFrom::Cache));
    assert_eq!(whole(found).await, Origin::value(1));
    assert_eq!(origin.asked(), 1);
    assert_eq!(cache.get_bytes(&key("k")).await, Some(Origin::value(1)));

    let forced = origin.fetch(&cache, Refresh::Force).await.unwrap();
    assert_eq!(whole(forced).await, Origin::value(2));
}

#[tokio::test]
async fn loader_says_type_and_validators_and_a_small_value_is_one_entry() {
    let (cache, drawer, _) = world();
    let load = |cx: LoadContext<LargeValue>| {
        assert!(cx.stale().is_none());
        cx.content_type("text/plain");
        cx.etag("\"1\"");
        cx.tag("files");
        future::ready(Ok::<_, io::Error>(pieces(&Bytes::from("short"), 2)))
    };
    let loaded = cache.fetch(key("k"), &POLICY).load_stream(load).await.unwrap().value;
    assert_eq!((loaded.content_type(), loaded.len()), (Some("text/plain"), 5));
    assert_eq!(drawer.entries(), 1);
    let found = cache.get_stream(&key("k")).await.unwrap();
    assert_eq!(found.metadata().validators.etag.as_deref(), Some("\"1\""));
    cache.invalidate(peercache::By::Tag("files")).await.unwrap();
    assert!(cache.get_stream(&key("k")).await.is_none());
}

#[tokio::test]
async fn callers_at_once_share_one_loader() {
    let ((cache, _, _), origin) = (world(), Origin::default());
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = {
        let (origin, begun, go) = (origin.clone(), Arc::clone(&begun), Arc::clone(&go));
        let load = move |_: LoadContext<LargeValue>| async move {
            begun.notify_one();
            go.notified().await;
            origin.0.fetch_add(1, Ordering::SeqCst);
            Ok::<_, io::Error>(pieces(&Origin::value(1), PIECE))
        };
        let cache = cache.clone();
        tokio::spawn(async move { cache.fetch(key("k"), &POLICY).load_stream(load).await })
    };
    begun.notified().await;
    let second = async {
        go.notify_one();
        origin.fetch(&cache, Refresh::Normal).await
    };
    let second = second.await.unwrap();
    assert_eq!(whole(first.await.unwrap().unwrap()).await, Origin::value(1));
    assert!(!matches!(second.from, FetchedFrom::Loaded));
    assert_eq!(whole(second).await, Origin::value(1));
    assert_eq!(origin.asked(), 1);
}

#[tokio::test]
async fn stream_that_breaks_is_the_loaders_error_and_the_stale_value_is_served() {
    let ((cache, _, clock), origin) = (world(), Origin::default());
    let error = fail(&cache).await.unwrap_err();
    assert_eq!(error.loader().unwrap().kind(), io::ErrorKind::ConnectionReset);
    assert!(cache.get_stream(&key("k")).await.is_none(), "nothing is under the key");
    // The next caller does not ask the origin at once.
    assert!(matches!(origin.fetch(&cache, Refresh::Normal).await, Err(FetchError::Load(_))));
    assert_eq!((origin.asked(), cache.report().refresh.backed_off), (0, 1));

    clock.advance(Duration::from_secs(3));
    origin.fetch(&cache, Refresh::Normal).await.unwrap();
    clock.advance(Duration::from_secs(11));
    let stale = fail(&cache).await.unwrap();
    assert!(matches!(stale.from, FetchedFrom::StaleWhileRefreshing));
    assert_eq!(whole(stale).await, Origin::value(1));
}

#[tokio::test]
async fn stale_stream_is_served_and_refreshed_in_the_background() {
    let ((cache, _, clock), origin) = (world(), Origin::default());
    origin.fetch(&cache, Refresh::Normal).await.unwrap();
    clock.advance(Duration::from_secs(11));
    let stale = origin.fetch(&cache, Refresh::Normal).await.unwrap();
    assert!(stale.is_stale());
    assert_eq!(whole(stale).await, Origin::value(1));
    let refreshed = async {
        while cache.get_bytes(&key("k")).await != Some(Origin::value(2)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), refreshed).await.unwrap();
    assert_eq!((origin.asked(), cache.report().refresh.refreshes), (2, 1));
}

#[tokio::test]
async fn value_without_room_is_an_error_that_says_so() {
    let cache = Cache::builder().tier(Memory::with_capacity(5 << 20)).build().unwrap();
    let origin = Origin::default();
    let error = origin.fetch(&cache, Refresh::Normal).await.unwrap_err();
    let FetchError::Encode(error) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("no tier holds the value that was streamed"), "{error}");
    assert_eq!(cache.report().loads_not_kept, 1);
}

#[tokio::test]
async fn value_that_is_not_to_be_stored_is_given_and_not_found() {
    let (cache, _, _) = world();
    let load = |cx: LoadContext<LargeValue>| {
        cx.do_not_store();
        future::ready(Ok::<_, io::Error>(pieces(&Origin::value(1), PIECE)))
    };
    let loaded = cache.fetch(key("k"), &POLICY).load_stream(load).await.unwrap();
    assert_eq!(whole(loaded).await, Origin::value(1));
    assert!(cache.get_stream(&key("k")).await.is_none());
}

#[tokio::test]
async fn removal_while_the_stream_runs_wins_and_the_caller_has_its_value() {
    let (cache, _, _) = world();
    let handle = cache.clone();
    let load = move |_: LoadContext<LargeValue>| async move {
        handle.remove(&key("k")).await;
        Ok::<_, io::Error>(pieces(&Origin::value(1), PIECE))
    };
    let loaded = cache.fetch(key("k"), &POLICY).load_stream(load).await.unwrap();
    assert_eq!(whole(loaded).await, Origin::value(1));
    assert!(cache.get_stream(&key("k")).await.is_none());
}
