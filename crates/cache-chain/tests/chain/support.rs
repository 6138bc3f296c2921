//! A backend that does what a test tells it, and short ways to build entries and chains.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Key, NodeId, Operation,
    Timestamp, Version, async_trait,
};
use peercache_chain::{Chain, ChainBuilder, Lookup, Report, Skip, TierOptions};
use peercache_testkit::ManualClock;

/// What a [`Scripted`] backend does when it is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// What it should.
    #[default]
    Well,
    /// Fails at once.
    Fail(ErrorKind),
    /// Never answers.
    Hang,
    /// Answers after this long; half of it passes before it takes effect.
    Slow(Duration),
}

/// A map that counts its calls, keeps expired entries, and fails as told.
#[derive(Debug)]
pub(crate) struct Scripted {
    info: BackendInfo,
    clock: Arc<ManualClock>,
    entries: Mutex<HashMap<Key, Entry>>,
    moods: Mutex<[Mood; 3]>,
    pub(crate) gets: AtomicUsize,
    pub(crate) puts: AtomicUsize,
    pub(crate) probes: AtomicUsize,
    pub(crate) closes: AtomicUsize,
    closed: AtomicBool,
}

impl Scripted {
    pub(crate) fn new(name: &'static str, capabilities: Capabilities, clock: &Arc<ManualClock>) -> Arc<Self> {
        Arc::new(Self {
            info: BackendInfo::new(name, capabilities),
            clock: Arc::clone(clock),
            entries: Mutex::default(),
            moods: Mutex::default(),
            gets: AtomicUsize::new(0),
            puts: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            closes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn reads(&self, mood: Mood) {
        self.moods.lock().unwrap()[0] = mood;
    }

    pub(crate) fn writes(&self, mood: Mood) {
        self.moods.lock().unwrap()[1] = mood;
    }

    /// For `close` and `probe`.
    pub(crate) fn rest(&self, mood: Mood) {
        self.moods.lock().unwrap()[2] = mood;
    }

    /// Puts `entry` there behind the chain's back.
    pub(crate) fn plant(&self, key: &Key, entry: Entry) {
        self.entries.lock().unwrap().insert(key.clone(), entry);
    }

    /// What is there, behind the chain's back.
    pub(crate) fn held(&self, key: &Key) -> Option<Entry> {
        self.entries.lock().unwrap().get(key).cloned()
    }

    pub(crate) fn calls(&self) -> (usize, usize) {
        (self.gets.load(Ordering::SeqCst), self.puts.load(Ordering::SeqCst))
    }

    async fn act<T>(
        &self,
        which: usize,
        operation: Operation,
        effect: impl FnOnce() -> T,
    ) -> Result<T, Error> {
        let closed = operation != Operation::Close && self.closed.load(Ordering::SeqCst);
        let mood = self.moods.lock().unwrap()[which];
        match mood {
            _ if closed => Err(Error::new(ErrorKind::Unavailable, operation, "closed")),
            Mood::Well => Ok(effect()),
            Mood::Fail(kind) => {
                Err(Error::new(kind, operation, "told to fail").with_backend(self.info.name.clone()))
            }
            Mood::Hang => std::future::pending().await,
            Mood::Slow(duration) => {
                tokio::time::sleep(duration / 2).await;
                let result = effect();
                tokio::time::sleep(duration / 2).await;
                Ok(result)
            }
        }
    }
}

#[async_trait]
impl CacheBackend for Scripted {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.act(0, Operation::Get, || self.held(key)).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.act(1, Operation::Put, || {
            let mut entries = self.entries.lock().unwrap();
            let ordered = self.info.capabilities.ordered_writes;
            let keeps = entries.get(key).is_some_and(|held| !entry.supersedes(held, self.clock.now()));
            if !(ordered && keeps) {
                entries.insert(key.clone(), entry);
            }
        })
        .await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        self.act(2, Operation::Probe, || ()).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.closes.fetch_add(1, Ordering::SeqCst);
        self.act(2, Operation::Close, || self.closed.store(true, Ordering::SeqCst)).await
    }

    fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
        None
    }
}

/// Lets tasks in the background go on; with time standing still, nothing else moves.
pub(crate) async fn breathe() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A clock, and entries whose version and birth lie some seconds from its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
}

pub(crate) const VOLATILE: Capabilities = Capabilities::local().with_ordered_writes();
pub(crate) const DURABLE: Capabilities = VOLATILE.with_durable();
pub(crate) const SHARED: Capabilities = Capabilities::shared().with_ordered_writes().with_durable();

impl World {
    pub(crate) fn tier(&self, name: &'static str, capabilities: Capabilities) -> Arc<Scripted> {
        Scripted::new(name, capabilities, &self.clock)
    }

    /// Three well tiers, `memory`, `disk` and `shared`, and the chain over them.
    pub(crate) fn usual(&self) -> ([Arc<Scripted>; 3], Chain) {
        let tiers = [("memory", VOLATILE), ("disk", DURABLE), ("shared", SHARED)]
            .map(|(name, capabilities)| self.tier(name, capabilities));
        let chain = self.chain(&tiers);
        (tiers, chain)
    }

    pub(crate) fn chain(&self, tiers: &[Arc<Scripted>]) -> Chain {
        self.chain_with(tiers.iter().map(|tier| (Arc::clone(tier), TierOptions::default())))
    }

    pub(crate) fn chain_with(&self, tiers: impl IntoIterator<Item = (Arc<Scripted>, TierOptions)>) -> Chain {
        self.builder_with(tiers).build()
    }

    pub(crate) fn builder_with(
        &self,
        tiers: impl IntoIterator<Item = (Arc<Scripted>, TierOptions)>,
    ) -> ChainBuilder {
        let builder = Chain::builder().clock(Arc::clone(&self.clock) as Arc<dyn Clock>);
        tiers.into_iter().fold(builder, |builder, (tier, options)| {
            builder.tier_with(tier as Arc<dyn CacheBackend>, options)
        })
    }

    /// Lets time pass on both clocks, the one that stamps and the one that is waited by.
    pub(crate) async fn pass(&self, duration: Duration) {
        breathe().await;
        self.clock.advance(duration);
        tokio::time::advance(duration).await;
        breathe().await;
    }

    pub(crate) fn at(&self, seconds: i64) -> Timestamp {
        let start = ManualClock::default().now().as_millis();
        Timestamp::from_millis(start.checked_add_signed(seconds * 1000).unwrap())
    }

    pub(crate) fn version(&self, seconds: i64) -> Version {
        Version { wall: self.at(seconds), counter: 1, node: NodeId::from_u64(1) }
    }

    /// Written at `seconds`, fresh for 100 s and then stale for 100 s.
    pub(crate) fn entry(&self, seconds: i64, value: &'static str) -> Entry {
        Entry::builder(value, self.version(seconds), self.at(seconds))
            .fresh_for(Duration::from_secs(100))
            .stale_for(Duration::from_secs(100))
            .build()
            .unwrap()
    }

    pub(crate) fn tombstone(&self, seconds: i64) -> Entry {
        Entry::tombstone(self.version(seconds), self.at(seconds))
    }
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// The tier and the reason of each step, as short words.
pub(crate) fn steps(lookup: &Lookup) -> Vec<String> {
    let word = |skip: &Skip| match skip {
        Skip::Failed(error) => format!("failed:{}", error.kind()),
        Skip::TimedOut(deadline) => format!("timed out:{}", deadline.as_millis()),
        other => format!("{other:?}").to_lowercase(),
    };
    lookup.trace.iter().map(|step| format!("{} {}", step.tier, word(&step.skip))).collect()
}

/// The value found, as text.
pub(crate) fn text(lookup: &Lookup) -> Option<&str> {
    lookup.entry.as_ref().map(|entry| std::str::from_utf8(entry.value()).unwrap())
}

/// Panics unless every lookup of this report is accounted for.
#[track_caller]
pub(crate) fn assert_adds_up(report: &Report) {
    let Report { lookups, hits, stale, misses, cancelled, .. } = report;
    assert_eq!(*lookups, hits + stale + misses + cancelled, "{report:#?}");
    assert!(report.puts_stored <= report.puts, "{report:#?}");
    for queue in report.tiers.iter().filter_map(|tier| tier.queue.as_ref()) {
        let ended = queue.delivered + queue.coalesced + queue.dropped.total() + queue.journalled;
        assert_eq!(queue.queued + queue.promoted + queue.replayed, ended + queue.waiting, "{queue:#?}");
    }
    let mut reaching = *lookups;
    for tier in &report.tiers {
        let parts =
            [tier.hits, tier.stale, tier.misses, tier.errors, tier.timeouts, tier.skipped, tier.cancelled];
        assert_eq!(tier.lookups, parts.iter().sum::<u64>(), "{report:#?}");
        assert!(tier.open + tier.too_slow + tier.overtaken + tier.spare <= tier.skipped, "{report:#?}");
        let reached = tier.lookups - tier.spare;
        assert_eq!(reached, reaching, "what one tier does not answer reaches the next: {report:#?}");
        assert!(
            tier.corrupt <= tier.errors && tier.from_future + tier.superseded <= tier.misses,
            "{report:#?}"
        );
        reaching -= tier.hits + tier.cancelled;
    }
    assert_eq!(*hits, report.tiers.iter().map(|tier| tier.hits).sum::<u64>(), "{report:#?}");
    assert_eq!(reaching, stale + misses, "{report:#?}");
}
