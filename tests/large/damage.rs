//! Chunks that are gone or altered, and manifests that are damaged: misses, never wrong bytes.

use std::io;
use std::sync::Arc;

use peercache::stream::{CHUNK_BYTES, LargeError, PLAIN_BYTES};
use peercache::{Bytes, Cache, Ttl};
use tokio::io::AsyncReadExt as _;

use crate::support::{Drawer, bytes, drain, key, world};

/// Six chunks, the last one of 9 bytes.
async fn stored() -> (Cache, Arc<Drawer>, Bytes, Vec<String>) {
    let (cache, drawer, _) = world();
    let value = bytes(1, PLAIN_BYTES + CHUNK_BYTES + 9);
    cache.put_bytes(&key("k"), value.clone(), Ttl::from_secs(60)).await.unwrap();
    let keys = drawer.chunk_keys(&key("k"));
    assert_eq!(keys.len(), 6);
    (cache, drawer, value, keys)
}

#[tokio::test]
async fn a_missing_chunk_is_an_error_in_its_place() {
    for index in [1, 3, 5] {
        let (cache, drawer, value, keys) = stored().await;
        drawer.lose(&keys[index]);
        let (read, error) = drain(cache.get_stream(&key("k")).await.unwrap().into_stream()).await;
        assert!(read == value[..index * CHUNK_BYTES], "what came before it is right");
        assert_eq!(error, Some(LargeError::ChunkMissing { index: index as u64, chunks: 6 }));
        assert_eq!(cache.report().large.chunks_missing, 1);
        assert_eq!(cache.get_bytes(&key("k")).await, None, "a miss as a whole");
        assert_eq!(cache.report().large.chunks_missing, 2);
    }
}

#[tokio::test]
async fn without_its_first_chunk_a_value_is_a_miss() {
    let (cache, drawer, _, keys) = stored().await;
    drawer.lose(&keys[0]);
    assert!(cache.get_stream(&key("k")).await.is_none());
    assert_eq!(cache.get_bytes(&key("k")).await, None);
    assert_eq!(cache.report().large.chunks_missing, 2);
}

#[tokio::test]
async fn an_altered_chunk_gives_none_of_its_bytes() {
    let flipped = |value: &Bytes| {
        let mut value = value.to_vec();
        value[CHUNK_BYTES / 2] ^= 1;
        Bytes::from(value)
    };
    let (_, drawer, _, keys) = stored().await;
    let [second, third] = [1, 2].map(|index| drawer.entry(&keys[index]).into_value());
    // Another chunk's bytes, one bit, one byte too few, one too many, nothing.
    let longer = Bytes::from([&third[..], b"!"].concat());
    for lie in [second, flipped(&third), third.slice(1..), longer, Bytes::new()] {
        let (cache, drawer, value, keys) = stored().await;
        drawer.alter(&keys[2], lie);
        let (read, error) = drain(cache.get_stream(&key("k")).await.unwrap().into_stream()).await;
        assert!(read == value[..2 * CHUNK_BYTES]);
        assert_eq!(error, Some(LargeError::ChunkCorrupt { index: 2, chunks: 6 }));
        assert_eq!(cache.get_bytes(&key("k")).await, None);
        let report = cache.report().large;
        assert_eq!((report.chunks_corrupt, report.chunks_missing), (2, 0));
    }
}

#[tokio::test]
async fn ranges_beside_the_damage_are_served() {
    let (cache, drawer, value, keys) = stored().await;
    drawer.lose(&keys[2]);
    drawer.alter(&keys[4], "something else");
    let found = cache.get_stream(&key("k")).await.unwrap();
    let chunk = CHUNK_BYTES as u64;
    for range in [0..2 * chunk, 3 * chunk..4 * chunk, 5 * chunk..5 * chunk + 9] {
        let wanted = &value[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        let (read, error) = drain(found.range(range)).await;
        assert!(read == wanted && error.is_none());
    }
    for (range, error) in [
        (2 * chunk - 1..2 * chunk + 1, LargeError::ChunkMissing { index: 2, chunks: 6 }),
        (4 * chunk..4 * chunk + 1, LargeError::ChunkCorrupt { index: 4, chunks: 6 }),
    ] {
        assert_eq!(drain(found.range(range)).await.1, Some(error));
    }
}

#[tokio::test]
async fn a_reader_fails_and_does_not_end() {
    for (kind, alter) in [(io::ErrorKind::UnexpectedEof, false), (io::ErrorKind::InvalidData, true)] {
        let (cache, drawer, _, keys) = stored().await;
        match alter {
            true => drawer.alter(&keys[5], "123456789"),
            false => drawer.lose(&keys[5]),
        }
        let mut reader = cache.get_stream(&key("k")).await.unwrap().into_stream().into_reader();
        let error = reader.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.get_ref().unwrap().downcast_ref::<LargeError>().is_some());
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_a_miss_and_counted() {
    let (cache, drawer, _, _) = stored().await;
    let manifest = drawer.entry("k").into_value();
    let mut newer = manifest.to_vec();
    newer[4] = 3;
    let mut claim = manifest.to_vec();
    claim[7] ^= 0x40;
    let cases = [
        Bytes::new(),
        manifest.slice(..manifest.len() - 1),
        manifest.slice(1..),
        newer.into(),
        claim.into(),
        Bytes::from_static(b"no manifest at all"),
    ];
    for (number, case) in (1..).zip(cases) {
        drawer.alter("k", case);
        assert!(cache.get_stream(&key("k")).await.is_none());
        assert_eq!(cache.get_bytes(&key("k")).await, None);
        assert_eq!(cache.report().large.manifests_unreadable, 2 * number);
    }
    drawer.alter("k", manifest);
    assert!(cache.get_bytes(&key("k")).await.is_some());
}

#[tokio::test]
async fn loading_anew_heals_a_value() {
    let (cache, drawer, value, keys) = stored().await;
    drawer.lose(&keys[0]);
    drawer.alter(&keys[3], "rot");
    cache.put_bytes(&key("k"), value.clone(), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(cache.get_bytes(&key("k")).await, Some(value));
}

#[test]
fn errors_say_which_chunk_and_what_to_do() {
    let missing = LargeError::ChunkMissing { index: 4, chunks: 9 };
    assert_eq!(
        missing.to_string(),
        "chunk 5 of 9 is in no tier: treat the value as a miss, load it anew and store it again"
    );
    let corrupt = LargeError::ChunkCorrupt { index: 0, chunks: 1 };
    assert_eq!(
        corrupt.to_string(),
        "chunk 1 of 1 is not what was stored: treat the value as a miss, load it anew and store it again"
    );
}
