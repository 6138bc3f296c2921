//! What a write promises when it is cut short, refused or overtaken.

use std::future::{Future as _, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use peercache::backend::MAX_LIFETIME;
use peercache::chain::TierOptions;
use peercache::stream::{CHUNK_BYTES, PLAIN_BYTES, PutStreamError, SHARED_CHUNK_BYTES, StreamOptions};
use peercache::{Bytes, Cache, ErrorKind, Memory, Ttl};
use peercache_testkit::ManualClock;

use crate::support::{Drawer, bytes, drain, key, pieces, world};

const LARGE: usize = PLAIN_BYTES + CHUNK_BYTES + 1;

#[tokio::test]
async fn a_source_that_fails_leaves_the_old_value() {
    let (cache, _, _) = world();
    cache.put_bytes(&key("k"), "old", Ttl::from_secs(60)).await.unwrap();
    for before in [0, 1, LARGE] {
        let cut = pieces(&bytes(1, before), CHUNK_BYTES)
            .chain(stream::iter([Err(io::Error::other("the line went dead")), Ok(Bytes::from("more"))]));
        let error = cache.put_stream(&key("k"), cut, Ttl::from_secs(60)).await.unwrap_err();
        assert!(matches!(error, PutStreamError::Source(_)));
        assert_eq!(error.to_string(), "the source of the value failed: the line went dead");
        assert_eq!(cache.get_bytes(&key("k")).await.unwrap(), "old");
    }
}

#[tokio::test]
async fn a_write_that_is_dropped_leaves_the_old_value() {
    let (cache, drawer, _) = world();
    cache.put_bytes(&key("k"), "old", Ttl::from_secs(60)).await.unwrap();
    let endless = pieces(&bytes(1, LARGE), CHUNK_BYTES).chain(stream::pending());
    let name = key("k");
    let mut write = Box::pin(cache.put_stream(&name, endless, Ttl::from_secs(60)));
    while drawer.puts() < 5 {
        let waits = poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_pending())).await;
        assert!(waits);
        tokio::task::yield_now().await;
    }
    drop(write);
    assert_eq!(cache.get_bytes(&key("k")).await.unwrap(), "old");
}

#[tokio::test]
async fn a_removal_while_the_source_is_read_wins() {
    let (cache, _, _) = world();
    let value = bytes(1, LARGE);
    let (during, removed) = (cache.clone(), key("k"));
    let source = pieces(&value, CHUNK_BYTES).chain(stream::once(async move {
        during.remove(&removed).await;
        Ok(Bytes::from_static(b"the end"))
    }));
    cache.put_stream(&key("k"), source, Ttl::from_secs(60)).await.unwrap();
    assert!(cache.get_stream(&key("k")).await.is_none());
    // The next write is newer.
    cache.put_bytes(&key("k"), value.clone(), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(cache.get_bytes(&key("k")).await, Some(value));
}

#[tokio::test]
async fn readers_see_the_old_value_until_the_new_one_is_whole() {
    let (cache, _, _) = world();
    let (old, new) = (bytes(1, LARGE), bytes(2, LARGE));
    cache.put_bytes(&key("k"), old.clone(), Ttl::from_secs(60)).await.unwrap();
    let (reader, wanted) = (cache.clone(), old.clone());
    let source = pieces(&new, CHUNK_BYTES / 2).then(move |piece| {
        let (reader, wanted) = (reader.clone(), wanted.clone());
        async move {
            assert!(reader.get_bytes(&key("k")).await.unwrap() == wanted);
            piece
        }
    });
    cache.put_stream(&key("k"), source, Ttl::from_secs(60)).await.unwrap();
    assert_eq!(cache.get_bytes(&key("k")).await, Some(new));
}

#[tokio::test]
async fn nothing_more_is_read_when_no_tier_takes_a_chunk() {
    let (cache, drawer, _) = world();
    cache.put_bytes(&key("k"), "old", Ttl::from_secs(60)).await.unwrap();
    drawer.fail_after(7);
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let endless = stream::repeat_with(move || {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        Ok::<_, io::Error>(Bytes::from(vec![u8::try_from(number % 256).unwrap(); CHUNK_BYTES]))
    });
    let put = cache.put_stream(&key("k"), endless, Ttl::from_secs(60)).await.unwrap();
    assert!(!put.stored && !put.outcome.is_stored());
    assert_eq!(put.outcome.errors().next().unwrap().kind(), ErrorKind::Unavailable);
    // Four are in flight, in any order, so the first that failed is one of the fifth to the eighth.
    assert!((5..=8).contains(&put.chunks) && put.len == put.chunks * CHUNK_BYTES as u64, "{put:?}");
    assert!(read.load(Ordering::SeqCst) <= 8 + 5, "{read:?} chunks were read");
    assert_eq!(cache.get_bytes(&key("k")).await.unwrap(), "old");
}

#[tokio::test]
async fn a_manifest_that_no_tier_takes_is_no_stored_value() {
    let (cache, drawer, _) = world();
    drawer.refuse("k");
    let put = cache.put_stream(&key("k"), pieces(&bytes(1, LARGE), 4096), Ttl::default()).await.unwrap();
    assert!(!put.stored && !put.outcome.is_stored());
    assert!(cache.get_stream(&key("k")).await.is_none());
}

#[tokio::test]
async fn without_a_tier_a_value_is_stored_nowhere() {
    let cache = Cache::builder().build().unwrap();
    for len in [1, LARGE] {
        let put = cache.put_stream(&key("k"), pieces(&bytes(1, len), 4096), Ttl::default()).await.unwrap();
        assert!(!put.stored && put.outcome.tiers.is_empty());
        assert!(cache.get_stream(&key("k")).await.is_none());
    }
}

#[tokio::test]
async fn a_tier_that_misses_one_chunk_does_not_hold_the_value() {
    let (_, small, clock) = world();
    let (_, good, _) = world();
    let cache = Cache::builder().clock(clock).tier(small.clone()).tier(good).build().unwrap();
    small.fail_after(3);
    let value = bytes(1, LARGE);
    let put = cache.put_stream(&key("k"), pieces(&value, 4096), Ttl::from_secs(60)).await.unwrap();
    let stored: Vec<_> =
        put.outcome.tiers.iter().map(|tier| format!("{:.6}", format!("{:?}", tier.put))).collect();
    assert_eq!((put.stored, stored), (true, vec!["Failed".to_owned(), "Stored".to_owned()]));
    assert_eq!(cache.get_bytes(&key("k")).await, Some(value));
}

#[tokio::test]
async fn mistakes_are_found_before_the_source_is_read() {
    let (cache, drawer, _) = world();
    let longer = Ttl::new(MAX_LIFETIME + Duration::from_secs(1));
    let reserved = |name: &str| StreamOptions::new(Ttl::default()).content_type(name);
    for options in [
        longer.into(),
        reserved("application/vnd.peercache.manifest"),
        reserved("Application/Vnd.Peercache.anything"),
        StreamOptions::new(Ttl::default()).tag(""),
    ] {
        let source =
            stream::poll_fn(|_| -> Poll<Option<io::Result<Bytes>>> { panic!("the source was read") });
        let error = cache.put_stream(&key("k"), source, options).await.unwrap_err();
        assert!(
            matches!(&error, PutStreamError::Entry(error) if error.kind() == ErrorKind::Config),
            "{error}"
        );
    }
    assert_eq!(drawer.puts(), 0);
}

#[tokio::test]
async fn nobody_can_pass_off_an_entry_as_a_manifest() {
    let (cache, drawer, _) = world();
    cache.put_bytes(&key("large"), bytes(1, LARGE), Ttl::from_secs(60)).await.unwrap();
    let manifest = cache.lookup(&key("large")).await.hit().unwrap();
    let puts = drawer.puts();
    let outcome = cache.put_entry(&key("k"), manifest.clone()).await;
    assert!(!outcome.is_stored());
    assert_eq!(outcome.errors().next().unwrap().kind(), ErrorKind::Config);
    assert_eq!(drawer.puts(), puts);
    // The same bytes as a value are a value.
    cache.put_bytes(&key("k"), manifest.value().clone(), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(cache.get_bytes(&key("k")).await.as_ref(), Some(manifest.value()));
    let found = cache.get_stream(&key("k")).await.unwrap();
    assert_eq!(drain(found.into_stream()).await, (manifest.value().to_vec(), None));
}

#[tokio::test]
async fn few_chunks_are_in_flight_either_way() {
    let (cache, drawer, _) = world();
    let value = bytes(1, 3 * LARGE);
    cache.put_bytes(&key("k"), value.clone(), Ttl::from_secs(60)).await.unwrap();
    assert!((2..=4).contains(&drawer.most_busy()), "{} at once", drawer.most_busy());
    let found = cache.get_stream(&key("k")).await.unwrap();
    drawer.take_gets();
    let mut stream = found.into_stream();
    stream.next().await.unwrap().unwrap();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(drawer.take_gets().len() <= 4, "nothing runs ahead of a reader that rests");
    let (rest, error) = drain(stream).await;
    assert!(rest == value[CHUNK_BYTES..] && error.is_none());
    assert!(drawer.most_busy() <= 4, "{} at once", drawer.most_busy());
}

/// Writes do not wait for shared tiers, and more than the queue holds does not get lost on its way
/// there.
#[tokio::test]
async fn a_source_is_read_no_faster_than_a_shared_tier_takes_it() {
    /// 96 MiB, more than waits for a tier by default; of these 15 MiB without waiting, and what is
    /// in flight.
    const CHUNKS: usize = (96 << 20) / SHARED_CHUNK_BYTES;
    const AHEAD: usize = (15 << 20) / SHARED_CHUNK_BYTES;
    let clock = Arc::new(ManualClock::default());
    let drawer = Arc::new(Drawer::shared(Arc::clone(&clock)));
    let patient = TierOptions { write_deadline: Some(Duration::from_secs(60)), ..TierOptions::default() };
    let cache = Cache::builder()
        .clock(Arc::clone(&clock) as _)
        // Takes every chunk, so that no write waits for want of a local tier.
        .tier(Memory::builder().capacity(128 << 20).clock(clock).build())
        .tier_with(Arc::clone(&drawer), patient)
        .build()
        .unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let (counted, pattern) = (Arc::clone(&read), bytes(1, SHARED_CHUNK_BYTES));
    let source = stream::iter(0..CHUNKS).map(move |number| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok::<_, io::Error>(Bytes::from([&number.to_le_bytes()[..], &pattern[8..]].concat()))
    });
    drawer.stick(true);
    let name = key("k");
    let mut write = Box::pin(cache.put_stream(&name, source, Ttl::from_secs(60)));
    let (mut seen, mut idle) = (0, 0);
    while idle < 5000 {
        assert!(poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_pending())).await);
        tokio::task::yield_now().await;
        let now = read.load(Ordering::SeqCst);
        idle = if now == seen { idle + 1 } else { 0 };
        seen = now;
    }
    assert!((AHEAD..=AHEAD + 2 + 1).contains(&seen), "{seen} chunks were read while nothing was taken");

    drawer.stick(false);
    let put = write.await.unwrap();
    assert_eq!((put.stored, put.chunks), (true, CHUNKS as u64));
    cache.close().await.unwrap();
    assert_eq!(drawer.entries(), CHUNKS + 1);
    let report = cache.report().chain.tiers[1].queue.clone().unwrap();
    assert_eq!((report.waiting, report.dropped.total()), (0, 0), "{report:?}");
}

#[tokio::test]
async fn every_future_can_be_moved_between_threads() {
    let (cache, _, _) = world();
    let value = bytes(1, LARGE);
    let read = tokio::spawn(async move {
        cache.put_stream(&key("k"), pieces(&value, 4096), Duration::from_secs(60)).await.unwrap();
        cache.put_reader(&key("r"), tokio::io::empty(), Duration::from_secs(60)).await.unwrap();
        let stream = cache.get_stream(&key("k")).await.unwrap().into_stream();
        let read = tokio::spawn(async move { drain(stream).await.0 == value }).await.unwrap();
        read && cache.get_bytes(&key("r")).await.unwrap().is_empty()
    });
    assert!(read.await.unwrap());
}
