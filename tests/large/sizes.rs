//! Round trips at the boundaries, and ranges.

use peercache::backend::MAX_VALUE_BYTES;
use peercache::stream::{CHUNK_BYTES, MAX_WHOLE_BYTES, PLAIN_BYTES, StreamOptions};
use peercache::{Key, Lookup, Ttl};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::AsyncReadExt as _;

use crate::support::{bytes, drain, key, pieces, repeated, world};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn every_size_comes_out_as_it_went_in() {
    let sizes = [0, 1, CHUNK_BYTES, PLAIN_BYTES - 1, PLAIN_BYTES, PLAIN_BYTES + 1, 5 * MIB - 1, 5 * MIB];
    for (seed, len) in sizes.into_iter().enumerate() {
        let (cache, drawer, _) = world();
        let value = bytes(seed as u64, len);
        // A prime, so that pieces and chunks hardly ever end together.
        let stored = cache.put_stream(&key("k"), pieces(&value, 99_991), Ttl::from_secs(60)).await.unwrap();
        assert!(stored.stored && stored.outcome.is_stored());
        assert_eq!(stored.len, len as u64);
        let chunks = if len <= PLAIN_BYTES { 0 } else { len.div_ceil(CHUNK_BYTES) };
        assert_eq!(stored.chunks, chunks as u64, "{len}");
        assert_eq!(drawer.entries(), chunks + 1);
        assert!(drawer.largest() <= if chunks == 0 { PLAIN_BYTES } else { CHUNK_BYTES });

        assert_eq!(cache.get_bytes(&key("k")).await.unwrap(), value, "{len}");
        let found = cache.get_stream(&key("k")).await.unwrap();
        assert_eq!((found.len(), found.is_empty()), (len as u64, len == 0));
        assert_eq!(drain(found.into_stream()).await, (value.to_vec(), None), "{len}");
    }
}

#[tokio::test]
async fn a_value_in_memory_is_chunked_like_a_stream() {
    let (cache, drawer, _) = world();
    for len in [PLAIN_BYTES, PLAIN_BYTES + 1, MAX_VALUE_BYTES + 1] {
        let value = bytes(3, len);
        assert!(cache.put_bytes(&key("k"), value.clone(), Ttl::default()).await.unwrap().is_stored());
        assert!(drawer.largest() <= PLAIN_BYTES);
        assert_eq!(cache.get_bytes(&key("k")).await.unwrap(), value);
    }
    // The same chunks, whichever way they came.
    let (entries, value) = (drawer.entries(), bytes(3, MAX_VALUE_BYTES + 1));
    cache.put_stream(&key("k"), pieces(&value, 70_001), Ttl::default()).await.unwrap();
    assert_eq!(drawer.entries(), entries);
}

#[tokio::test]
async fn typed_values_may_be_large() {
    let (cache, drawer, _) = world();
    let text = "x".repeat(MAX_VALUE_BYTES);
    assert!(cache.put(&key("k"), &text, Ttl::default()).await.unwrap().is_stored());
    assert_eq!(cache.get::<String>(&key("k")).await.as_ref(), Some(&text));
    let loaded = cache.get_or_fetch(&key("l"), Ttl::default(), async || Ok::<_, &str>(text.clone())).await;
    assert_eq!(loaded.unwrap(), text);
    assert_eq!(cache.get::<String>(&key("l")).await, Some(text));
    assert!(drawer.largest() <= CHUNK_BYTES);
    let report = cache.report();
    assert_eq!((report.loads, report.loads_not_kept, report.decode_errors), (1, 0, 0));
}

#[tokio::test]
async fn what_is_too_large_for_memory_is_only_streamed() {
    let (cache, drawer, _) = world();
    let chunk = bytes(0, CHUNK_BYTES);
    let five = bytes::Bytes::from(chunk.repeat(5));
    cache.put_bytes(&key("k"), five, Ttl::default()).await.unwrap();
    assert_eq!(drawer.entries(), 2, "equal chunks are stored once");
    let manifest = drawer.entry("k").into_value();

    drawer.alter("k", repeated(&manifest, MAX_WHOLE_BYTES));
    assert!(cache.get_bytes(&key("k")).await.unwrap() == chunk.repeat(MAX_WHOLE_BYTES / CHUNK_BYTES));
    assert_eq!(cache.report().large.values_too_large, 0);

    drawer.alter("k", repeated(&manifest, MAX_WHOLE_BYTES + CHUNK_BYTES));
    assert_eq!(cache.get_bytes(&key("k")).await, None);
    assert_eq!(cache.report().large.values_too_large, 1);
    let found = cache.get_stream(&key("k")).await.unwrap();
    assert_eq!(found.len(), (MAX_WHOLE_BYTES + CHUNK_BYTES) as u64);
    let end = found.len();
    assert_eq!(drain(found.range(end - 9..end)).await, (chunk[CHUNK_BYTES - 9..].to_vec(), None));

    let error = cache.put(&key("t"), &"x".repeat(MAX_WHOLE_BYTES), Ttl::default()).await.unwrap_err();
    assert_eq!(error.kind(), peercache::ErrorKind::TooLarge);
    assert!(error.to_string().contains("put_stream"), "{error}");
}

#[tokio::test]
async fn readers_work_both_ways() {
    let (cache, _, _) = world();
    let value = bytes(4, PLAIN_BYTES + 77);
    let stored = cache.put_reader(&key("k"), &value[..], Ttl::from_secs(60)).await.unwrap();
    assert_eq!((stored.len, stored.chunks), (value.len() as u64, 5));
    let mut read = Vec::new();
    let found = cache.get_stream(&key("k")).await.unwrap();
    found.into_stream().into_reader().read_to_end(&mut read).await.unwrap();
    assert_eq!(read, value);
}

#[tokio::test]
async fn what_is_said_about_a_value_stays_with_it() {
    let options = || {
        StreamOptions::new(Ttl::from_secs(60))
            .content_type("application/zip")
            .etag("\"1\"")
            .last_modified("Fri, 15 Jan 2027 08:00:00 GMT")
            .tag("release")
    };
    for len in [3, PLAIN_BYTES + 1] {
        let (cache, _, _) = world();
        cache.put_stream(&key("k"), pieces(&bytes(5, len), MIB), options()).await.unwrap();
        let found = cache.get_stream(&key("k")).await.unwrap();
        assert_eq!(found.content_type(), Some("application/zip"));
        let meta = found.metadata();
        assert_eq!(meta.validators.etag.as_deref(), Some("\"1\""));
        assert_eq!(meta.validators.last_modified.as_deref(), Some("Fri, 15 Jan 2027 08:00:00 GMT"));
        assert_eq!(meta.tags, ["release"]);
        let Lookup { entry, .. } = cache.lookup(&key("k")).await;
        assert_eq!(entry.unwrap().metadata().tags, ["release"], "where invalidation by tag looks");
    }
}

#[test]
fn any_range_is_that_part_of_the_value_and_reads_no_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cache, drawer, _) = runtime.block_on(async { world() });
    let value = bytes(6, PLAIN_BYTES + 12_345);
    let large: Key = key("k");
    let found = runtime.block_on(async {
        cache.put_bytes(&large, value.clone(), Ttl::from_secs(60)).await.unwrap();
        cache.get_stream(&large).await.unwrap()
    });
    let keys = drawer.chunk_keys(&large);
    let edge =
        (0..=5_usize, 0..3_usize).prop_map(|(chunk, off)| (chunk * CHUNK_BYTES + off).saturating_sub(1));
    let position = prop_oneof![edge, 0..value.len() + 10];
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(position.clone(), position), |(start, end)| {
            drawer.take_gets();
            let range = start as u64..end as u64;
            let stream = found.range(range);
            let clamped = start.min(end).min(value.len())..end.min(value.len());
            let clamped = clamped.start.max(start.min(clamped.end))..clamped.end;
            prop_assert_eq!(stream.remaining(), clamped.len() as u64);
            let (read, error) = runtime.block_on(drain(stream));
            prop_assert_eq!(error, None);
            prop_assert!(read == value[clamped.clone()], "other bytes for {:?}", clamped);
            // The first chunk was read with the value itself.
            let touched = match clamped.is_empty() {
                true => Vec::new(),
                false => ((clamped.start / CHUNK_BYTES).max(1)..clamped.end.div_ceil(CHUNK_BYTES)).collect(),
            };
            let wanted: Vec<_> = touched.into_iter().map(|index| keys[index].clone()).collect();
            let mut gets = drawer.take_gets();
            gets.sort_by_key(|key| keys.iter().position(|known| known == key));
            prop_assert_eq!(gets, wanted);
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn ranges_of_a_plain_value() {
    let (cache, drawer, _) = world();
    cache.put_bytes(&key("k"), "0123456789", Ttl::from_secs(60)).await.unwrap();
    let found = cache.get_stream(&key("k")).await.unwrap();
    drawer.take_gets();
    for (range, expected) in [(2..5, "234"), (7..99, "789"), (99..100, ""), (0..10, "0123456789")] {
        assert_eq!(drain(found.range(range)).await, (expected.into(), None));
    }
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is tried")]
    let reversed = found.range(5..2);
    assert_eq!(drain(reversed).await, (Vec::new(), None));
    assert!(drawer.take_gets().is_empty());
}
