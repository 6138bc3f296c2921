//! A map that a test can look into and tamper with, and entries to put into it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peercache_api::{
    BackendInfo, Bytes, CacheBackend, Capabilities, Clock, Entry, EntryKind, Error, ErrorKind, Freshness,
    Key, NodeId, Operation, Timestamp, Version, async_trait,
};
use peercache_testkit::ManualClock;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

#[derive(Debug)]
pub(crate) struct Map {
    info: BackendInfo,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Entry>,
    closed: bool,
    /// Answers every get under this name with this error.
    failing: HashMap<String, ErrorKind>,
}

impl Map {
    pub(crate) fn new(clock: Arc<dyn Clock>, max_value_bytes: usize) -> Self {
        let capabilities = Capabilities::shared()
            .with_ordered_writes()
            .with_native_expiry()
            .with_max_value_bytes(max_value_bytes);
        Self { info: BackendInfo::new("map", capabilities), clock, state: Mutex::default() }
    }

    pub(crate) fn shared() -> Arc<Self> {
        Arc::new(Self::new(Arc::new(ManualClock::new(NOW)), peercache_api::MAX_VALUE_BYTES))
    }

    /// Everything that a thief of the store gets.
    pub(crate) fn dump(&self) -> Vec<(String, Entry)> {
        let entries = &self.state.lock().unwrap().entries;
        entries.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    /// The only entry, and under which name.
    pub(crate) fn only(&self) -> (String, Entry) {
        let mut all = self.dump();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// Puts an entry past every rule.
    pub(crate) fn plant(&self, name: &str, entry: Entry) {
        self.state.lock().unwrap().entries.insert(name.to_owned(), entry);
    }

    pub(crate) fn fail(&self, name: &str, kind: ErrorKind) {
        self.state.lock().unwrap().failing.insert(name.to_owned(), kind);
    }

    fn check(&self, operation: Operation) -> Result<(), Error> {
        match self.state.lock().unwrap().closed {
            true => Err(Error::new(ErrorKind::Unavailable, operation, "closed").with_backend("map")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl CacheBackend for Map {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.check(Operation::Get)?;
        let state = self.state.lock().unwrap();
        if let Some(kind) = state.failing.get(key.as_str()) {
            return Err(Error::new(*kind, Operation::Get, "as the test wants it"));
        }
        let found = state.entries.get(key.as_str()).cloned();
        Ok(found.filter(|entry| entry.freshness(self.clock.now()) != Freshness::Expired))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.check(Operation::Put)?;
        let bytes = entry.value().len();
        if bytes > self.info.capabilities.max_value_bytes {
            return Err(Error::new(ErrorKind::TooLarge, Operation::Put, "too large"));
        }
        let mut state = self.state.lock().unwrap();
        let stored = state.entries.get(key.as_str());
        if stored.is_none_or(|stored| entry.supersedes(stored, self.clock.now())) {
            state.entries.insert(key.as_str().to_owned(), entry);
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        self.check(Operation::Probe)
    }

    async fn close(&self) -> Result<(), Error> {
        self.state.lock().unwrap().closed = true;
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
        None
    }
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn version(counter: u32) -> Version {
    Version { wall: NOW, counter, node: NodeId::from_u64(1) }
}

pub(crate) fn entry(value: impl Into<Bytes>, counter: u32) -> Entry {
    Entry::builder(value, version(counter), NOW)
        .fresh_for(Duration::from_secs(300))
        .stale_for(Duration::from_secs(60))
        .content_type("application/json")
        .tag("repo:acme/rocket")
        .build()
        .unwrap()
}

/// `entry` with other bytes in it, everything else the same.
pub(crate) fn with_value(entry: &Entry, value: impl Into<Bytes>) -> Entry {
    let meta = entry.metadata();
    match meta.kind {
        EntryKind::Value => Entry::builder(value, meta.version, meta.created)
            .fresh_for(meta.fresh_for)
            .stale_for(meta.stale_for)
            .build()
            .unwrap(),
        EntryKind::Tombstone => Entry::tombstone_with_proof(meta.version, meta.created, value).unwrap(),
    }
}
