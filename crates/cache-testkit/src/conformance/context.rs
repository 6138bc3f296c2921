//! What a case works with: the opened store, fresh keys, versions and values, and ways to complain.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Class, Entry, EntryBuilder, Error, Key, NodeId, Timestamp,
    Version, VersionClock,
};

use super::harness::{Harness, Time};

/// Entries of the suite live this long unless a case says otherwise.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Why a case ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It does not apply.
    Skip(String),
    /// The backend is wrong.
    Fail(String),
}

/// How a case ends.
pub(super) type Verdict<T = ()> = Result<T, Stop>;

/// Ends a case with a complaint unless `holds`.
pub(super) fn expect(holds: bool, complaint: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Stop::Fail(complaint())) }
}

/// Ends a case that does not apply.
pub(super) fn skip_unless(applies: bool, reason: &str) -> Verdict {
    if applies { Ok(()) } else { Err(Stop::Skip(reason.to_owned())) }
}

/// One case's own view of the store under test.
pub(super) struct Context {
    pub(super) backend: Arc<dyn CacheBackend>,
    pub(super) info: BackendInfo,
    pub(super) time: Time,
    harness: Arc<dyn Harness>,
    versions: VersionClock,
    prefix: String,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Context {
    pub(super) async fn open(case: &str, harness: Arc<dyn Harness>, time: Time) -> Result<Self, Error> {
        let backend = harness.open().await?;
        let info = backend.info().clone();
        let prefix = format!("conformance/{:016x}/{case}/", NodeId::random().as_u64());
        Ok(Self { backend, info, time, harness, versions: VersionClock::new(NodeId::random()), prefix })
    }

    pub(super) const fn capabilities(&self) -> Capabilities {
        self.info.capabilities
    }

    pub(super) fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// A key that nobody else uses, the same one for the same `name`.
    pub(super) fn key(&self, name: &str) -> Verdict<Key> {
        self.raw_key(format!("{}{name}", self.prefix))
    }

    /// A key of exactly `bytes` bytes that ends in `end`.
    pub(super) fn key_of_length(&self, bytes: usize, end: &str) -> Verdict<Key> {
        let padding = bytes.saturating_sub(self.prefix.len() + end.len());
        self.raw_key(format!("{}{}{end}", self.prefix, "k".repeat(padding)))
    }

    fn raw_key(&self, text: String) -> Verdict<Key> {
        Key::new(text).map_err(|error| Stop::Fail(format!("the suite made a bad key: {error}")))
    }

    /// A version above all that this case made before.
    pub(super) fn version(&self) -> Version {
        self.versions.next(self.now())
    }

    /// A fresh entry with the next version.
    pub(super) fn entry(&self, value: impl Into<Bytes>) -> Verdict<Entry> {
        self.entry_at(value, self.version())
    }

    /// A fresh entry with this version.
    pub(super) fn entry_at(&self, value: impl Into<Bytes>, version: Version) -> Verdict<Entry> {
        built(self.builder(value, version, self.now()).fresh_for(LIFETIME).build())
    }

    /// Starts an entry of a class that the backend takes.
    pub(super) fn builder(
        &self,
        value: impl Into<Bytes>,
        version: Version,
        created: Timestamp,
    ) -> EntryBuilder {
        let class = if self.capabilities().private_entries { Class::Private } else { Class::Public };
        Entry::builder(value, version, created).class(class)
    }

    /// Opens the store once more, as another member of the same fleet.
    pub(super) async fn another_member(&self) -> Verdict<Arc<dyn CacheBackend>> {
        skip_unless(self.harness.opens_members(), "the harness opens one member at a time")?;
        self.harness
            .open()
            .await
            .map_err(|error| Stop::Fail(format!("opening another member failed: {error}")))
    }

    /// Ends the case unless the backend takes writes.
    pub(super) fn needs_writes(&self) -> Verdict {
        skip_unless(self.capabilities().writable, "the backend is read-only")
    }

    /// Ends the case unless the backend orders writes.
    pub(super) fn needs_ordered_writes(&self) -> Verdict {
        self.needs_writes()?;
        skip_unless(self.capabilities().ordered_writes, "the backend does not order writes")
    }

    pub(super) async fn put(&self, key: &Key, entry: &Entry) -> Verdict {
        self.backend
            .put(key, entry.clone())
            .await
            .map_err(|error| Stop::Fail(format!("put of {entry:?} was refused: {error}")))
    }

    pub(super) async fn get(&self, key: &Key) -> Verdict<Option<Entry>> {
        self.backend.get(key).await.map_err(|error| Stop::Fail(format!("get failed: {error}")))
    }

    /// Ends the case unless `get` returns exactly this entry.
    pub(super) async fn expect_entry(&self, key: &Key, expected: &Entry, when: &str) -> Verdict {
        let found = self.get(key).await?;
        expect(found.as_ref() == Some(expected), || difference(expected, found.as_ref(), when))
    }

    /// Ends the case unless `get` returns nothing.
    pub(super) async fn expect_none(&self, key: &Key, when: &str) -> Verdict {
        let found = self.get(key).await?;
        expect(found.is_none(), || format!("{when}: expected nothing, found {found:?}"))
    }

    /// Closes the store and opens it again.
    pub(super) async fn reopen(&self) -> Verdict<Arc<dyn CacheBackend>> {
        self.backend
            .close()
            .await
            .map_err(|error| Stop::Fail(format!("closing the store failed: {error}")))?;
        self.harness
            .open()
            .await
            .map_err(|error| Stop::Fail(format!("opening the store again failed: {error}")))
    }
}

/// The built entry, or a complaint about the suite itself.
pub(super) fn built(entry: Result<Entry, Error>) -> Verdict<Entry> {
    entry.map_err(|error| Stop::Fail(format!("the suite made a bad entry: {error}")))
}

/// `bytes` bytes that look like noise and depend on `seed` alone.
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        // SplitMix64 (Steele, Lea, Flood 2014): any seed will do, zero included.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        noise.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

fn difference(expected: &Entry, found: Option<&Entry>, when: &str) -> String {
    let Some(found) = found else {
        return format!("{when}: expected {expected:?}, found nothing");
    };
    let what = if found.version() != expected.version() {
        "another version"
    } else if found.value().len() != expected.value().len() {
        "a value of another length"
    } else if found.value() != expected.value() {
        "other bytes of the same length"
    } else {
        "other metadata"
    };
    format!("{when}: expected {expected:?}, found {what}: {found:?}")
}
