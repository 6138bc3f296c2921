//! What the parts of the chain cost: a seal, a flight that callers share, a tier that is left
//! alone, a write that waits. Each beside the same without it, or the least that could do it.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aes_gcm::aead::KeyInit;
use aes_gcm::{AeadInOut, Aes256Gcm};
use futures_util::future::join_all;
use peercache::backend::Fleet;
use peercache::backend::{BackendInfo, Capabilities, Operation, async_trait};
use peercache::chain::{BreakerOptions, SingleFlight, TierOptions, WriteBehind};
use peercache::seal::{Sealed, Secret};
use peercache::{Bytes, Cache, CacheBackend, Entry, Error, ErrorKind, Key, Memory};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::OnceCell;

use crate::runner::{Runner, Side};
use crate::{CAPACITY, TTL, fill, getting, looking_up, putting, spread};

const LOADED: Bytes = Bytes::from_static(b"loaded");
/// How many ask for one key at once.
const CALLERS: usize = 16;

/// A hit in a sealed tier, beside the same chain unsealed, and beside the decryption alone.
pub(crate) fn sealed(
    runner: &mut Runner,
    runtime: &Runtime,
    size: &'static str,
    values: &Arc<[(Key, Bytes)]>,
) {
    let handle = runtime.handle();
    let open = Cache::builder().tier(Memory::with_capacity(CAPACITY)).build().unwrap();
    let tier = Sealed::new(Secret::generate().unwrap(), Memory::with_capacity(CAPACITY));
    let sealed = Cache::builder().tier(tier).build().unwrap();
    fill(runtime, &open, values);
    fill(runtime, &sealed, values);
    let ours = || getting(handle, &sealed, values);
    runner.pair("sealed hit / unsealed", size, 1, ours(), getting(handle, &open, values), false);
    runner.pair("sealed hit / AES-GCM", size, 1, ours(), decrypting(values), false);
}

/// Copies a ciphertext and decrypts it, which is what there is to do at least.
fn decrypting(values: &Arc<[(Key, Bytes)]>) -> Side {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let nonce = [1; 12].into();
    let texts: Vec<_> = values
        .iter()
        .map(|(_, value)| {
            let mut text = value.to_vec();
            let tag = cipher.encrypt_inout_detached(&nonce, b"", text.as_mut_slice().into()).unwrap();
            (text, tag)
        })
        .collect();
    Side::new(move |steps| {
        for step in steps {
            let (text, tag) = &texts[step.wrapping_mul(0x9E37_79B1) % texts.len()];
            let mut text = text.clone();
            cipher.decrypt_inout_detached(&nonce, b"", text.as_mut_slice().into(), tag).unwrap();
            black_box(text);
        }
    })
}

/// One load that [`CALLERS`] ask for at once, beside a cell for each key in a map behind a lock. A
/// step is all of them.
pub(crate) fn flights(runner: &mut Runner, runtime: &Runtime) {
    let handle = runtime.handle();
    for threads in [1, 2] {
        let flights = Arc::new(SingleFlight::<Bytes>::new());
        let ours = rounds(handle, move |key| {
            let flights = Arc::clone(&flights);
            async move { flights.run(&key, load).await.0 }
        });
        runner.pair("16 callers, one load", "–", threads, ours, rounds(handle, cells()), false);
        let cache = Cache::builder().tier(Memory::with_capacity(64 << 20)).build().unwrap();
        let ours = rounds(handle, move |key| {
            let cache = cache.clone();
            async move {
                let load = async || Ok::<_, Error>(load().await.len());
                let loaded = cache.get_or_fetch(&key, TTL, load).await.unwrap();
                assert_eq!(loaded, LOADED.len());
                LOADED
            }
        });
        runner.pair("16 x get_or_fetch, miss", "–", threads, ours, rounds(handle, cells()), false);
    }
}

/// Takes a turn of the runtime, so that the others arrive before it has ended.
async fn load() -> Bytes {
    tokio::task::yield_now().await;
    LOADED
}

/// The same by hand: whoever comes first makes the cell, and whoever is done first takes it away.
fn cells() -> impl Fn(Key) -> std::pin::Pin<Box<dyn Future<Output = Bytes> + Send>> + Send + Sync + 'static {
    type Cells = Mutex<HashMap<Key, Arc<OnceCell<Bytes>>>>;
    let cells = Arc::new(Cells::default());
    move |key| {
        let cells = Arc::clone(&cells);
        Box::pin(async move {
            let cell = Arc::clone(cells.lock().unwrap().entry(key.clone()).or_default());
            let loaded = cell.get_or_init(load).await.clone();
            let mut cells = cells.lock().unwrap();
            if cells.get(&key).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
                cells.remove(&key);
            }
            loaded
        })
    }
}

/// Rounds of callers on one key, which nobody has asked for before, all at once on one thread.
fn rounds<F>(handle: &Handle, ask: impl Fn(Key) -> F + Send + Sync + 'static) -> Side
where
    F: Future<Output = Bytes> + Send + 'static,
{
    let (handle, next) = (handle.clone(), AtomicU64::new(0));
    Side::new(move |steps| {
        handle.block_on(async {
            for _ in steps {
                let number = next.fetch_add(1, Ordering::Relaxed).to_string();
                let key = Key::from_parts(["load", &number]).unwrap();
                black_box(join_all((0..CALLERS).map(|_| ask(key.clone()))).await);
            }
        });
    })
}

/// A hit below a tier whose breaker is open, beside the same chain without that tier.
pub(crate) fn breaker(runner: &mut Runner, runtime: &Runtime, values: &Arc<[(Key, Bytes)]>) {
    let handle = runtime.handle();
    let without = Cache::builder().tier(Memory::with_capacity(CAPACITY)).build().unwrap();
    // Looked at so rarely that the looking is not part of the number.
    let rare = Duration::from_secs(600);
    let breaker = BreakerOptions { backoff: rare, max_backoff: rare, ..BreakerOptions::default() };
    let options = TierOptions { breaker, ..TierOptions::default() };
    let with = Cache::builder()
        .tier_with(Broken(BackendInfo::new("broken", Capabilities::local())), options)
        .tier(Memory::with_capacity(CAPACITY))
        .build()
        .unwrap();
    fill(runtime, &without, values);
    fill(runtime, &with, values);
    assert_eq!(with.report().chain.tiers[0].breaker.state, "open");
    for threads in [1, 2] {
        let (ours, theirs) = (looking_up(handle, &with, values), looking_up(handle, &without, values));
        runner.pair("hit below an open tier", "1 KiB", threads, ours, theirs, false);
    }
}

/// A put with a write that waits for a shared tier, beside the same put without, and beside one
/// that is followed by a push into a bounded queue behind a lock.
pub(crate) fn write_behind(runner: &mut Runner, runtime: &Runtime, values: &Arc<[(Key, Bytes)]>) {
    let handle = runtime.handle();
    let memory = || Memory::with_capacity(CAPACITY);
    let without = Cache::builder().tier(memory()).build().unwrap();
    let limits = WriteBehind::default();
    let most = limits.max_entries;
    let with = Cache::builder()
        .tier(memory())
        // It is away, and after five failures left alone: what comes waits.
        .tier(Broken(BackendInfo::new("broken", Capabilities::shared())))
        .write_behind(limits)
        .build()
        .unwrap();
    fill(runtime, &without, values);
    fill(runtime, &with, values);
    let waiting = with.report().chain.tiers[1].queue.as_ref().unwrap().waiting;
    assert_eq!(waiting, values.len() as u64, "each of them waits");
    for threads in [1, 2] {
        let ours = || putting(handle, &with, values);
        runner.pair(
            "put, enqueued / put",
            "1 KiB",
            threads,
            ours(),
            putting(handle, &without, values),
            false,
        );
        let pushing = pushing(handle, &without, values, most);
        runner.pair("put, enqueued / pushed", "1 KiB", threads, ours(), pushing, false);
    }
}

fn pushing(handle: &Handle, cache: &Cache, values: &Arc<[(Key, Bytes)]>, most: usize) -> Side {
    let (handle, cache, values) = (handle.clone(), cache.clone(), Arc::clone(values));
    let queue = Mutex::new(VecDeque::with_capacity(most));
    Side::new(move |steps| {
        handle.block_on(async {
            for step in steps {
                let (key, value) = spread(step, &values);
                assert!(cache.put_bytes(key, value.clone(), TTL).await.unwrap().is_stored());
                let mut queue = queue.lock().unwrap();
                if queue.len() == most {
                    queue.pop_front();
                }
                queue.push_back((key.clone(), value.clone()));
            }
        });
    })
}

/// Fails whatever it is asked.
#[derive(Debug)]
struct Broken(BackendInfo);

impl Broken {
    fn fail<T>(operation: Operation) -> Result<T, Error> {
        Err(Error::new(ErrorKind::Unavailable, operation, "pulled the plug"))
    }
}

#[async_trait]
impl CacheBackend for Broken {
    fn info(&self) -> &BackendInfo {
        &self.0
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, Error> {
        Self::fail(Operation::Get)
    }

    async fn put(&self, _: &Key, _: Entry) -> Result<(), Error> {
        Self::fail(Operation::Put)
    }

    async fn probe(&self) -> Result<(), Error> {
        Self::fail(Operation::Probe)
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
