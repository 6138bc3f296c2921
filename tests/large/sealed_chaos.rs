//! Large values through a sealed tier whose store fails, stalls and lies: whole and verified, or a
//! miss.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use peercache::backend::{BackendInfo, NodeId, Operation, Scope, async_trait};
use peercache::chain::{WriteBehind, WritePolicy};
use peercache::seal::{Sealed, Secret};
use peercache::stream::{LargeError, SHARED_CHUNK_BYTES};
use peercache::{Bytes, Cache, CacheBackend, Clock, Disk, Entry, Error, ErrorKind, Key, Memory, Ttl};
use peercache_testkit::ManualClock;
use peercache_testkit::chaos::{Chaos, Fault, Plan};
use tokio::io::AsyncReadExt as _;

use crate::memory_use::{MOST_KIB, PIECE, alone_with, mib, peak, piece, resident};
use crate::support::{bytes, drain, key, patient};

const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";
const SEED: u64 = 20;
/// `PEERCACHE_LARGE_MIB=1024` takes the full gibibyte.
const DEFAULT_MIB: u64 = 160;
const MEMORY: usize = 8 << 20;
/// A machine that is busy with other things is not among the faults.
const PATIENCE: Duration = Duration::from_secs(20);

/// A backend that other machines could reach, as far as the chain knows.
#[derive(Debug)]
struct Remote<B> {
    inner: B,
    info: BackendInfo,
}

impl<B: CacheBackend> Remote<B> {
    fn new(inner: B) -> Self {
        let mut info = inner.info().clone();
        info.capabilities.scope = Scope::Shared;
        Self { inner, info }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for Remote<B> {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        self.inner.fleet()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.inner.put(key, entry).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.inner.probe().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

/// A bucket on a bad day: what fails can be tried again, and what it gives is not always what it
/// was given, in ways that only the seal can notice.
fn bad_day() -> Plan {
    let ms = Duration::from_millis;
    Plan::none()
        .undetected()
        .with(Operation::Put, 0.03, Fault::Fail(ErrorKind::Unavailable))
        .with(Operation::Put, 0.03, Fault::FailAfter(ErrorKind::Timeout))
        .with(Operation::Get, 0.03, Fault::Fail(ErrorKind::Unavailable))
        .with(Operation::Get, 0.03, Fault::BitFlip)
        .with(Operation::Get, 0.03, Fault::Truncated)
        .with(Operation::Get, 0.03, Fault::StretchedExpiry)
        .latency(Operation::Put, 0.1, ms(1)..=ms(5))
        .latency(Operation::Get, 0.1, ms(1)..=ms(5))
}

struct Store<B> {
    cache: Cache,
    sealed: Arc<Sealed<Remote<Arc<Chaos<B>>>>>,
    chaos: Arc<Chaos<B>>,
}

/// A cache over, if asked for, memory, and a sealed tier over `store`, at a time that stands still:
/// so the keys of the chunks and with them the faults are the same in every run.
fn store<B: CacheBackend + 'static>(
    store: B,
    memory: bool,
    clock: &Arc<ManualClock>,
    plan: Plan,
) -> Store<B> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let chaos = Arc::new(Chaos::new(store, SEED, plan));
    let remote = Remote::new(Arc::clone(&chaos));
    let sealed =
        Arc::new(Sealed::builder(Secret::parse(SECRET).unwrap(), remote).clock(Arc::clone(&clock)).build());
    let mut builder =
        Cache::builder().clock(Arc::clone(&clock)).node(NodeId::from_u64(1)).read_budget(PATIENCE);
    if memory {
        builder = builder.tier(Memory::builder().capacity(MEMORY).clock(Arc::clone(&clock)).build());
    }
    let cache = builder
        .tier_with(Arc::clone(&sealed), patient(PATIENCE))
        // A write waits for the tier's first attempt: what comes faster than the tier takes it does
        // not pile up in the queue.
        .write_policy(WritePolicy::All)
        .write_behind(WriteBehind { max_bytes: 16 << 20, ..WriteBehind::default() })
        .build()
        .unwrap();
    Store { cache, sealed, chaos }
}

/// Reads `range` of the value from wherever it broke off last, until its end. Says how often it
/// broke off.
async fn read_all(cache: &Cache, len: u64, range: Range<u64>, pattern: &[u8]) -> u64 {
    let (mut at, mut misses) = (range.start, 0);
    while at < range.end {
        assert!(misses < 1000, "it breaks off again and again, now at {at}");
        let Some(value) = cache.get_stream(&key("k")).await else {
            misses += 1;
            continue;
        };
        assert_eq!(value.len(), len);
        let mut stream = value.range(at..range.end);
        loop {
            match stream.next().await {
                Some(Ok(part)) => {
                    for (number, given) in (at / PIECE as u64..).zip(part.chunks(PIECE)) {
                        assert!(given == piece(pattern, number), "piece {number} is another");
                    }
                    at += part.len() as u64;
                }
                Some(Err(LargeError::ChunkMissing { index, .. })) => {
                    assert_eq!(index * SHARED_CHUNK_BYTES as u64, at, "the error is not in its place");
                    assert!(stream.next().await.is_none());
                    misses += 1;
                    break;
                }
                Some(Err(error)) => panic!("the seal let through what only the digest noticed: {error}"),
                None => {
                    assert_eq!(at, range.end, "a short read");
                    break;
                }
            }
        }
    }
    misses
}

async fn through_a_sealed_tier(mib: u64) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::default()));
    let disk = Disk::builder(dir.path()).capacity((mib + mib / 2 + 64) << 20).clock(Arc::clone(&clock) as _);
    let Store { cache, sealed, chaos } = store(disk.open().unwrap(), true, &clock, bad_day());
    cache.put_bytes(&key("warm"), "up", Ttl::default()).await.unwrap();
    let idle = resident();

    let (len, pattern) = (mib << 20, bytes(7, PIECE));
    let source = stream::iter(0..len / PIECE as u64)
        .map(|number| Ok::<_, io::Error>(Bytes::from(piece(&pattern, number))));
    let put = cache.put_stream(&key("k"), source, Ttl::from_secs(3600)).await.unwrap();
    assert!(put.stored);
    assert_eq!((put.len, put.chunks), (len, len.div_ceil(SHARED_CHUNK_BYTES as u64)));
    let written = peak();

    let misses = read_all(&cache, len, 0..len, &pattern).await;
    let peak = peak();
    let (report, seal) = (cache.report(), sealed.stats());
    let (far, behind) = (&report.chain.tiers[1], report.chain.tiers[1].queue.clone().unwrap());
    println!(
        "{mib} MiB sealed: idle {idle} KiB, {} KiB above it after writing, {} KiB after reading; {} writes tried \
         again, {misses} reads broken off and taken up again ({} entries refused by the seal, {} failures)",
        written - idle,
        peak - idle,
        behind.retried,
        seal.corrupt(),
        far.errors - far.corrupt,
    );
    assert!(peak - idle < MOST_KIB, "it took {} KiB above the idle {idle} KiB", peak - idle);
    assert!(behind.retried > 0 && misses > 0 && seal.corrupt() > 0, "nothing went wrong");
    assert_eq!(far.corrupt, seal.corrupt(), "what the seal refuses is counted by the chain");
    assert_eq!((report.large.chunks_corrupt, report.large.manifests_unreadable), (0, 0));
    assert_eq!((behind.dropped.total(), behind.unjournalled), (0, 0));

    // Now it lies about everything: what memory does not hold is a miss, and not a byte of it is
    // given.
    chaos.replace_plan(Plan::none().undetected().with(Operation::Get, 1.0, Fault::BitFlip));
    let before = sealed.stats().corrupt();
    if let Some(value) = cache.get_stream(&key("k")).await {
        let mut reader = value.into_stream().into_reader();
        let (mut read, mut number) = (vec![0; PIECE], 0);
        let broken = loop {
            match reader.read_exact(&mut read).await {
                Ok(_) => assert!(read == piece(&pattern, number), "piece {number} is another"),
                Err(error) => break error,
            }
            number += 1;
        };
        assert!(broken.get_ref().is_some_and(|error| error.is::<LargeError>()), "a short read: {broken}");
    }
    assert!(sealed.stats().corrupt() > before);
    chaos.replace_plan(Plan::none());
    cache.close().await.unwrap();
    assert_eq!(cache.report().chain.tiers[1].queue.as_ref().map(|behind| behind.waiting), Some(0));
}

#[test]
fn memory_is_bounded_through_a_sealed_tier_that_fails_and_lies() {
    // The store is a disk that stands for a bucket. A bucket has no reading threads, each of which
    // would keep memory in an arena of its own in glibc's allocator.
    alone_with(
        &[("MALLOC_ARENA_MAX", "2")],
        "sealed_chaos::memory_is_bounded_through_a_sealed_tier_that_fails_and_lies",
        "after reading",
        || through_a_sealed_tier(mib(DEFAULT_MIB)),
    );
}

/// Six chunks, the last one of 9 bytes, in a store that is asked one thing after the other: the
/// manifest is the first read, and so on.
async fn small(puts: Plan) -> (Store<Memory>, Bytes) {
    let clock = Arc::new(ManualClock::default());
    let memory = Memory::builder().capacity(64 << 20).clock(Arc::clone(&clock) as _).build();
    let store = store(memory, false, &clock, puts);
    let value = bytes(1, 5 * SHARED_CHUNK_BYTES + 9);
    let put = store.cache.put_bytes(&key("k"), value.clone(), Ttl::from_secs(60)).await.unwrap();
    assert!(put.is_stored());
    (store, value)
}

#[tokio::test]
async fn a_chunk_that_the_store_altered_is_a_miss_and_counted() {
    for fault in
        [Fault::BitFlip, Fault::Truncated, Fault::OtherKey, Fault::StretchedExpiry, Fault::FromFuture]
    {
        for undetected in [false, true] {
            // `OtherKey` needs a past, which a plan that never lies does not keep.
            let (Store { cache, sealed, chaos }, value) =
                small(Plan::none().script(Operation::Put, [Some(Fault::LateRetry)])).await;
            // The manifest and two chunks come as they are, the next read is a lie.
            let lie = Plan::none().script(Operation::Get, [None, None, None, Some(fault)]);
            chaos.replace_plan(if undetected { lie.undetected() } else { lie });
            let value_found = cache.get_stream(&key("k")).await.unwrap();
            assert_eq!(value_found.len(), value.len() as u64);
            let (read, error) = drain(value_found.into_stream()).await;
            let Some(LargeError::ChunkMissing { index, chunks: 6 }) = error else {
                panic!("{fault}, undetected: {undetected}: {error:?}");
            };
            assert!(
                index > 0 && read == value[..usize::try_from(index).unwrap() * SHARED_CHUNK_BYTES],
                "{fault}"
            );
            let report = cache.report();
            assert_eq!(report.large.chunks_missing, 1, "{fault}");
            assert_eq!(report.chain.tiers[0].corrupt, 1, "{fault}: a counter says so");
            // What the store itself notices never reaches the seal; nothing notices the future but
            // it.
            let caught = u64::from(undetected || fault == Fault::FromFuture);
            assert_eq!(sealed.stats().corrupt(), caught, "{fault}: {:?}", sealed.stats());

            chaos.replace_plan(Plan::none().script(Operation::Get, [None, None, Some(fault)]));
            assert_eq!(cache.get_bytes(&key("k")).await, None, "{fault}: a miss as a whole");
            assert_eq!(cache.get_bytes(&key("k")).await, Some(value), "{fault}: and it is all there");
        }
    }
}

#[tokio::test]
async fn a_chunk_that_the_store_lost_is_a_miss() {
    // Four chunks are on their way at once, in any order; the fifth put is not of the first one.
    let lost = Plan::none().script(Operation::Put, [None, None, None, None, Some(Fault::Lost)]);
    let (Store { cache, sealed, .. }, value) = small(lost).await;
    let (read, error) = drain(cache.get_stream(&key("k")).await.unwrap().into_stream()).await;
    let Some(LargeError::ChunkMissing { index, chunks: 6 }) = error else { panic!("{error:?}") };
    assert!(index > 0 && read == value[..usize::try_from(index).unwrap() * SHARED_CHUNK_BYTES]);
    assert_eq!(cache.get_bytes(&key("k")).await, None, "a miss as a whole");
    assert_eq!((cache.report().large.chunks_missing, sealed.stats().corrupt()), (2, 0));
}
