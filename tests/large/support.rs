//! A tier that a test can look into and tamper with, and bytes that are cheap to make.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use peercache::backend::{BackendInfo, Capabilities, NodeId, Operation, async_trait};
use peercache::chain::TierOptions;
use peercache::stream::{CHUNK_BYTES, LargeError, LargeStream};
use peercache::{Bytes, Cache, CacheBackend, Clock, Entry, Error, ErrorKind, Key};
use peercache_testkit::ManualClock;

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Options of a tier that may take `patience` for each call: the machine may be busy.
pub(crate) fn patient(patience: Duration) -> TierOptions {
    TierOptions { read_deadline: Some(patience), write_deadline: Some(patience), ..TierOptions::default() }
}

/// A cache over one [`Drawer`], at a time that stands still.
pub(crate) fn world() -> (Cache, Arc<Drawer>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let drawer = Arc::new(Drawer::new(Arc::clone(&clock)));
    let cache = Cache::builder()
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .node(NodeId::from_u64(1))
        .tier(Arc::clone(&drawer))
        .build()
        .unwrap();
    (cache, drawer, clock)
}

/// `len` bytes that follow from `seed`, no two chunks alike (xorshift64*).
pub(crate) fn bytes(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        data.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    data.truncate(len);
    data.into()
}

/// `value` in pieces of `piece` bytes.
pub(crate) fn pieces(value: &Bytes, piece: usize) -> impl Stream<Item = std::io::Result<Bytes>> + use<> {
    let value = value.clone();
    let starts = (0..value.len()).step_by(piece.max(1));
    stream::iter(starts.map(move |start| Ok(value.slice(start..(start + piece).min(value.len())))))
}

/// The minutes and the digests in a manifest.
fn manifest(bytes: &[u8]) -> (u32, Vec<u8>) {
    assert_eq!(bytes[..5], *b"\x89PCM\x02");
    let mut cbor = minicbor::Decoder::new(&bytes[5..]);
    let (mut minutes, mut digests) = (0, Vec::new());
    for _ in 0..cbor.map().unwrap().unwrap() {
        match cbor.u32().unwrap() {
            2 => minutes = cbor.u32().unwrap(),
            3 => digests = cbor.bytes().unwrap().to_vec(),
            _ => cbor.skip().unwrap(),
        }
    }
    (minutes, digests)
}

/// The manifest of a value of `len` bytes whose chunks are all the first of `like`, another
/// manifest.
pub(crate) fn repeated(like: &[u8], len: usize) -> Vec<u8> {
    let (minutes, digests) = manifest(like);
    let mut bytes = b"\x89PCM\x02".to_vec();
    let mut cbor = minicbor::Encoder::new(&mut bytes);
    cbor.map(4).unwrap().u8(0).unwrap().u64(len as u64).unwrap();
    cbor.u8(1)
        .unwrap()
        .u32(u32::try_from(CHUNK_BYTES).unwrap())
        .unwrap()
        .u8(2)
        .unwrap()
        .u32(minutes)
        .unwrap();
    cbor.u8(3).unwrap().bytes(&digests[..32].repeat(len.div_ceil(CHUNK_BYTES))).unwrap();
    bytes
}

/// What a stream gives: the bytes, and the error that it ended with. After either there is nothing.
pub(crate) async fn drain(mut stream: LargeStream) -> (Vec<u8>, Option<LargeError>) {
    let mut data = Vec::new();
    while let Some(part) = stream.next().await {
        match part {
            Ok(part) => data.extend_from_slice(&part),
            Err(error) => {
                assert!(stream.next().await.is_none(), "something came after the error");
                return (data, Some(error));
            }
        }
    }
    assert_eq!(stream.remaining(), 0, "it ended before its end");
    (data, None)
}

/// Keeps everything for ever, shows it, and lets a test change it.
#[derive(Debug)]
pub(crate) struct Drawer {
    info: BackendInfo,
    clock: Arc<ManualClock>,
    entries: Mutex<HashMap<String, Entry>>,
    /// Keys whose puts fail.
    refused: Mutex<HashSet<String>>,
    /// How many puts succeed before all fail.
    puts_left: AtomicUsize,
    gets: Mutex<Vec<String>>,
    puts: AtomicUsize,
    busy: AtomicUsize,
    most_busy: AtomicUsize,
    stuck: AtomicBool,
}

impl Drawer {
    fn new(clock: Arc<ManualClock>) -> Self {
        Self::with(Capabilities::local(), clock)
    }

    /// One that other machines could reach, as far as the chain knows.
    pub(crate) fn shared(clock: Arc<ManualClock>) -> Self {
        Self::with(Capabilities::shared(), clock)
    }

    fn with(capabilities: Capabilities, clock: Arc<ManualClock>) -> Self {
        Self {
            info: BackendInfo::new("drawer", capabilities.with_ordered_writes()),
            clock,
            entries: Mutex::default(),
            refused: Mutex::default(),
            puts_left: AtomicUsize::new(usize::MAX),
            gets: Mutex::default(),
            puts: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            most_busy: AtomicUsize::new(0),
            stuck: AtomicBool::new(false),
        }
    }

    /// The keys of the chunks of the value under `key`, in order, read from the manifest as
    /// `docs/design/large-values.md` describes it.
    pub(crate) fn chunk_keys(&self, key: &Key) -> Vec<String> {
        let (minutes, digests) = manifest(&self.entry(key.as_str()).into_value());
        let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        digests.chunks(32).map(|digest| format!("peercache/chunk/{minutes}/{}", hex(digest))).collect()
    }

    pub(crate) fn entry(&self, key: &str) -> Entry {
        self.entries.lock().unwrap().get(key).unwrap().clone()
    }

    /// The bytes of the largest value in it.
    pub(crate) fn largest(&self) -> usize {
        self.entries.lock().unwrap().values().map(|entry| entry.value().len()).max().unwrap_or(0)
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries.lock().unwrap().len()
    }

    pub(crate) fn lose(&self, key: &str) {
        assert!(self.entries.lock().unwrap().remove(key).is_some());
    }

    /// Answers with `value` under `key` from now on; everything else about the entry stays.
    pub(crate) fn alter(&self, key: &str, value: impl Into<Bytes>) {
        let old = self.entry(key);
        let meta = old.metadata();
        let mut entry = Entry::builder(value, meta.version, meta.created)
            .fresh_for(meta.fresh_for)
            .stale_for(meta.stale_for);
        if let Some(content_type) = &meta.content_type {
            entry = entry.content_type(content_type);
        }
        self.entries.lock().unwrap().insert(key.to_owned(), entry.build().unwrap());
    }

    pub(crate) fn refuse(&self, key: &str) {
        self.refused.lock().unwrap().insert(key.to_owned());
    }

    pub(crate) fn fail_after(&self, puts: usize) {
        self.puts_left.store(puts, Ordering::SeqCst);
    }

    /// The keys that were read since this was last asked.
    pub(crate) fn take_gets(&self) -> Vec<String> {
        std::mem::take(&mut self.gets.lock().unwrap())
    }

    pub(crate) fn puts(&self) -> usize {
        self.puts.load(Ordering::SeqCst)
    }

    /// The most calls that it had to answer at once.
    pub(crate) fn most_busy(&self) -> usize {
        self.most_busy.load(Ordering::SeqCst)
    }

    /// Puts wait until it is no longer stuck.
    pub(crate) fn stick(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::SeqCst);
    }

    /// Takes long enough for everything to arrive that will come without waiting for this.
    async fn dawdle(&self) {
        let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_busy.fetch_max(busy, Ordering::SeqCst);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl CacheBackend for Drawer {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.dawdle().await;
        self.gets.lock().unwrap().push(key.as_str().to_owned());
        Ok(self.entries.lock().unwrap().get(key.as_str()).cloned())
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.dawdle().await;
        while self.stuck.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        self.puts.fetch_add(1, Ordering::SeqCst);
        let left =
            self.puts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() || self.refused.lock().unwrap().contains(key.as_str()) {
            return Err(Error::new(ErrorKind::Unavailable, Operation::Put, "the drawer is stuck"));
        }
        let mut entries = self.entries.lock().unwrap();
        let stored = entries.get(key.as_str());
        if stored.is_none_or(|stored| entry.supersedes(stored, self.clock.now())) {
            entries.insert(key.as_str().to_owned(), entry);
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        None
    }
}
