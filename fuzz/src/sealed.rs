//! Sealed entries: a store that lies is never believed.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{pin::pin, sync::LazyLock};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use peercache_api::envelope::{self, MAX_ENVELOPE_BYTES};
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Freshness, Key, NodeId,
    Timestamp, Version, async_trait,
};
use peercache_seal::{Sealed, Secret};

use crate::damage::Damage;
use crate::entry::Parts;

/// Secret, key and time of the golden files.
const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// From here on the work leaves the runtime, and this fuzzer has none.
const MOST_BYTES: usize = 64 * 1024;

static SEALED: LazyLock<Sealed<Slot>> = LazyLock::new(|| {
    let slot = Slot { info: BackendInfo::new("slot", Capabilities::shared()), held: Mutex::default() };
    Sealed::builder(Secret::parse(SECRET).expect("a valid secret"), slot)
        .clock(std::sync::Arc::new(Stopped))
        .build()
});

/// Holds one entry and gives it for any key.
#[derive(Debug)]
struct Slot {
    info: BackendInfo,
    held: Mutex<Option<Entry>>,
}

impl Slot {
    fn hold(&self, entry: Option<Entry>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = entry;
    }

    fn held(&self) -> Option<Entry> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl CacheBackend for Slot {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, Error> {
        Ok(self.held())
    }

    async fn put(&self, _: &Key, entry: Entry) -> Result<(), Error> {
        self.hold(Some(entry));
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
        None
    }
}

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// What a store may do to an entry.
#[derive(Arbitrary, Debug)]
enum Lie {
    Honest,
    Bytes(Damage),
    Cut(u16),
    Longer(u8),
    Fresh(u32),
    Stale(u32),
    Created(u64),
    Wall(u64),
    Counter(u32),
    Node(u64),
    Kind,
    OtherKey,
}

/// Any bytes as what a store holds, and as a recipe for a lie about an honest entry.
pub fn sealed(data: &[u8]) {
    if data.len() > MOST_BYTES {
        return;
    }
    stranger(data);
    plaintext(data);
    let mut recipe = Unstructured::new(data);
    if let (Ok(lie), Ok(parts)) = (Lie::arbitrary(&mut recipe), Parts::arbitrary(&mut recipe))
        && let Some(entry) = parts.build()
    {
        told(&entry, &lie);
    }
}

/// Bytes that nobody sealed are no value, but for the golden files, which are seeds in hexadecimal.
fn stranger(data: &[u8]) {
    let bytes = unhex(data).unwrap_or_else(|| data.to_vec());
    let version = Version { wall: NOW, counter: 7, node: NodeId::from_u64(0x0123_4567_89ab_cdef) };
    let outer = Entry::builder(bytes, version, NOW)
        .fresh_for(Duration::from_secs(300))
        .stale_for(Duration::from_secs(3600))
        .build()
        .expect("within the bounds");
    SEALED.inner().hold(Some(outer));
    let golden = "{\"full_name\":\"acme/rocket\"}";
    match now(SEALED.get(&key())) {
        Ok(None) => {}
        Ok(Some(entry)) => {
            let repeated = "{\"full_name\":\"acme/rocket\",\"private\":true}\n".repeat(40);
            assert!(entry.value() == golden.as_bytes() || entry.value() == repeated.as_bytes());
        }
        Err(error) => refused(&error),
    }
}

/// What a holder of the full secret could have sealed: bounded, and no panic.
fn plaintext(data: &[u8]) {
    if let Some(bytes) = peercache_seal::fuzzing::unpack(&Bytes::copy_from_slice(data)) {
        assert!(bytes.len() <= MAX_ENVELOPE_BYTES);
        // An error or an entry; the envelope has a fuzzer of its own.
        let _ = envelope::decode(&key(), bytes);
    }
}

/// An honest entry comes back as it was; one that was touched does not come back at all.
fn told(entry: &Entry, lie: &Lie) {
    SEALED.inner().hold(None);
    if now(SEALED.put(&key(), entry.clone())).is_err() {
        // Sealed it would exceed a bound.
        return assert!(SEALED.inner().held().is_none(), "a put that fails stores nothing");
    }
    let honest = SEALED.inner().held().expect("the put succeeded");
    let (asked, outer) = match lie {
        Lie::OtherKey => (Key::new("repos/acme/other").expect("a valid key"), Some(honest.clone())),
        lie => (key(), changed(&honest, lie)),
    };
    // Such an entry cannot even be built, so no store can give it.
    let Some(outer) = outer else { return };
    let same = outer == honest && !matches!(lie, Lie::OtherKey);
    SEALED.inner().hold(Some(outer));
    match now(SEALED.get(&asked)) {
        Ok(Some(opened)) => assert!(same && opened == *entry, "a lie was believed: {lie:?}"),
        Ok(None) => assert!(!same || entry.freshness(NOW) == Freshness::Expired, "it is lost"),
        Err(error) => {
            assert!(!same, "an honest entry is refused: {error}");
            refused(&error);
        }
    }
}

fn changed(honest: &Entry, lie: &Lie) -> Option<Entry> {
    let meta = honest.metadata();
    let (mut value, mut version, mut created) = (honest.value().to_vec(), meta.version, meta.created);
    let (mut fresh, mut stale, mut tombstone) = (meta.fresh_for, meta.stale_for, honest.is_tombstone());
    match lie {
        Lie::Honest | Lie::OtherKey => {}
        Lie::Bytes(damage) => {
            let all = 0..value.len();
            damage.inflict(&mut value, all);
        }
        Lie::Cut(bytes) => value.truncate(value.len().saturating_sub(usize::from(*bytes))),
        Lie::Longer(byte) => value.push(*byte),
        Lie::Fresh(millis) => fresh = Duration::from_millis((*millis).into()),
        Lie::Stale(millis) => stale = Duration::from_millis((*millis).into()),
        Lie::Created(millis) => created = Timestamp::from_millis(*millis),
        Lie::Wall(millis) => version.wall = Timestamp::from_millis(*millis),
        Lie::Counter(counter) => version.counter = *counter,
        Lie::Node(node) => version.node = NodeId::from_u64(*node),
        Lie::Kind => tombstone = !tombstone,
    }
    if tombstone {
        return Entry::tombstone_with_proof(version, created, value).ok();
    }
    Entry::builder(value, version, created).fresh_for(fresh).stale_for(stale).build().ok()
}

fn refused(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!error.to_string().contains('\n'), "an error is one line");
}

fn key() -> Key {
    Key::from_parts(["repos", "acme/rocket"]).expect("a valid key")
}

/// The result of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<_> = text.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    let nibble = |byte: u8| char::from(byte).to_digit(16);
    (digits.len() % 2 == 0).then_some(())?;
    digits.chunks(2).map(|pair| u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok()).collect()
}
