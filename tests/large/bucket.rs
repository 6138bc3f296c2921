//! Values of any size through a bucket of a real SeaweedFS: what comes back, what it costs in
//! requests, and in memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use peercache::chain::{WriteBehind, WritePolicy};
use peercache::seal::{Sealed, Secret};
use peercache::stream::{PLAIN_BYTES, SHARED_CHUNK_BYTES};
use peercache::{Cache, CacheBackend, Memory, S3, Ttl};
use peercache_testkit::servers::{Credentials, FaultProxy, Log, SeaweedFs};

use crate::memory_use::{alone, in_and_out, mib};
use crate::support::{bytes, drain, key, patient};

const MIB: usize = 1 << 20;
/// What is sealed; `PEERCACHE_LARGE_MIB=1024` takes a gibibyte.
const DEFAULT_MIB: u64 = 256;
/// What is not.
const CLEAR_MIB: u64 = 96;
const MEMORY: usize = 8 << 20;
const TTL: u64 = 3600;
const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";
/// A machine that is busy with other things is not what is tried here.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tier of one more machine: it knows of the others what is in the bucket.
async fn bucket(endpoint: &str, name: &str, Credentials { id, secret }: Credentials) -> S3 {
    let builder = S3::builder(name).prefix("large").endpoint(endpoint).region("us-east-1");
    builder.access_key(id, secret, None).request_timeout(PATIENCE).open().await.unwrap()
}

/// A cache over the bucket, below memory if asked for, which waits for the bucket when it writes.
fn cache(memory: bool, tier: impl CacheBackend + 'static) -> Cache {
    let mut builder = Cache::builder().read_budget(PATIENCE);
    if memory {
        builder = builder.tier(Memory::with_capacity(MEMORY));
    }
    builder
        .tier_with(tier, patient(PATIENCE))
        .write_policy(WritePolicy::All)
        .write_behind(WriteBehind { max_bytes: 16 << 20, ..WriteBehind::default() })
        .build()
        .unwrap()
}

/// One server for both: it takes seconds to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_size_over_a_bucket() {
    let Some(server) = SeaweedFs::start().await.unwrap() else { return };
    every_size_comes_out_of_the_bucket_elsewhere(&server).await;
    a_request_for_each_part_and_none_for_what_memory_has(&server).await;
}

async fn every_size_comes_out_of_the_bucket_elsewhere(server: &SeaweedFs) {
    let machine =
        async || cache(true, bucket(&server.endpoint(), server.bucket(), server.credentials()).await);
    let one = machine().await;
    let around = |edge: usize| [edge - 1, edge, edge + 1];
    // Plain, then in chunks: the last one short, whole, and of one byte.
    let edges = [MIB, PLAIN_BYTES, PLAIN_BYTES + SHARED_CHUNK_BYTES, 6 * SHARED_CHUNK_BYTES]
        .into_iter()
        .flat_map(around);
    for (seed, len) in [1, 1 << 10].into_iter().chain(edges).chain([9 * MIB, 64 * MIB]).enumerate() {
        let (key, value) = (key(&format!("{len} bytes")), bytes(seed as u64, len));
        let put = one.put_bytes(&key, value.clone(), Ttl::from_secs(TTL)).await.unwrap();
        assert!(put.is_durable(), "{len}: {put:?}");
        let two = machine().await;
        let found = two.lookup(&key).await;
        assert_eq!(found.tier.as_deref(), Some("s3"), "{len}: this machine had it not");
        assert!(two.get_bytes(&key).await.unwrap() == value, "{len}: other bytes");
        two.close().await.unwrap();
    }
    one.close().await.unwrap();
}

/// GETs, PUTs and all requests that reached the server, but for those of the object at `floor`.
fn counted(log: &Log, floor: &str) -> (usize, usize, usize) {
    let others = || log.requests.iter().filter(|seen| seen.path != floor);
    let of = |method: &str| others().filter(|seen| seen.method == method).count();
    (of("GET"), of("PUT"), others().count())
}

/// The path of the one object that was asked for and is not there. The hit may not have waited for
/// it.
async fn floor(proxy: &FaultProxy) -> String {
    for _ in 0..1000 {
        if let Some(absent) = proxy.log().requests.into_iter().find(|seen| seen.status == Some(404)) {
            return absent.path;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing that is absent was asked for: {:?}", proxy.log());
}

async fn a_request_for_each_part_and_none_for_what_memory_has(server: &SeaweedFs) {
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let open = async || bucket(&proxy.endpoint(), server.bucket(), server.credentials()).await;
    let (one, two, small) = (cache(true, open().await), cache(true, open().await), key("counted"));
    for (cache, name) in [(&one, "warm 1"), (&two, "warm 2")] {
        cache.put_bytes(&key(name), "up", Ttl::from_secs(TTL)).await.unwrap();
    }
    assert!(counted(&proxy.take_log(), "").1 > 2, "they found out what the store can do");
    // A process asks with its first hit, and every 30 s while it is read, whether everything was
    // removed.
    assert_eq!(two.get_bytes(&key("warm 1")).await.unwrap(), "up");
    let floor = floor(&proxy).await;
    assert_eq!(counted(&proxy.take_log(), &floor), (1, 0, 1));
    let seen = || counted(&proxy.take_log(), &floor);

    one.put_bytes(&small, "of one", Ttl::from_secs(TTL)).await.unwrap();
    assert_eq!(seen(), (0, 1, 1), "a put");
    assert_eq!(one.get_bytes(&small).await.unwrap(), "of one");
    assert_eq!(seen(), (0, 0, 0), "a hit in memory");
    assert_eq!(two.get_bytes(&small).await.unwrap(), "of one");
    assert_eq!(seen(), (1, 0, 1), "a hit in the bucket");
    assert_eq!(two.get_bytes(&small).await.unwrap(), "of one");
    assert_eq!(seen(), (0, 0, 0), "it was carried up, and not written back");
    two.put_bytes(&small, "of two", Ttl::from_secs(TTL)).await.unwrap();
    assert_eq!(seen(), (0, 1, 1), "a put over what was read");
    assert_eq!(two.get_bytes(&key("absent")).await, None);
    assert_eq!(seen(), (1, 0, 1), "a miss");
    let load = async || Ok::<_, io::Error>("loaded".to_owned());
    assert_eq!(two.get_or_fetch(&key("loaded"), Ttl::from_secs(TTL), load).await.unwrap(), "loaded");
    assert_eq!(seen(), (1, 1, 2), "a miss, and what was loaded");

    // Chunks and the manifest; memory has room for all of them.
    let parts = (PLAIN_BYTES + 1).div_ceil(SHARED_CHUNK_BYTES) + 1;
    let (large, value) = (key("counted, large"), bytes(99, PLAIN_BYTES + 1));
    one.put_bytes(&large, value.clone(), Ttl::from_secs(TTL)).await.unwrap();
    assert_eq!(seen(), (0, parts, parts), "a value in chunks");
    assert!(two.get_bytes(&large).await.unwrap() == value);
    assert_eq!(seen(), (parts, 0, parts), "read elsewhere");
    let last = async |cache: &Cache| {
        let found = cache.get_stream(&large).await.unwrap();
        drain(found.range(found.len() - 1..found.len())).await
    };
    let expected = (value[PLAIN_BYTES..].to_vec(), None);
    assert_eq!(last(&two).await, expected);
    assert_eq!(seen(), (0, 0, 0), "memory has it");
    assert_eq!(last(&cache(false, open().await)).await, expected);
    assert_eq!(seen(), (3, 0, 3), "the manifest, the first chunk and the one that the range touches");
}

#[test]
fn memory_is_bounded_over_a_bucket() {
    alone("bucket::memory_is_bounded_over_a_bucket", "after reading", async || {
        let Some(server) = SeaweedFs::start().await.unwrap() else { return };
        let tier = bucket(&server.endpoint(), server.bucket(), server.credentials()).await;
        in_and_out(cache(true, tier), mib(CLEAR_MIB), SHARED_CHUNK_BYTES, "memory and S3").await;
    });
}

/// As settings compose it.
#[test]
fn memory_is_bounded_over_a_sealed_bucket() {
    alone("bucket::memory_is_bounded_over_a_sealed_bucket", "after reading", async || {
        let Some(server) = SeaweedFs::start().await.unwrap() else { return };
        let tier = bucket(&server.endpoint(), server.bucket(), server.credentials()).await;
        let sealed = Sealed::builder(Secret::parse(SECRET).unwrap(), tier).build();
        in_and_out(
            cache(true, Arc::new(sealed)),
            mib(DEFAULT_MIB),
            SHARED_CHUNK_BYTES,
            "memory and sealed S3",
        )
        .await;
    });
}
