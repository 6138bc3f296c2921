//! Everything in a namespace removed by one small write.
//!
//! Its tombstone lies under one reserved key of the namespace. What is not newer than that is removed,
//! wherever it is found: the version is a floor under every read. It is remembered, and looked up again
//! in the local tiers after [`NEAR_SECONDS`] and in the shared ones after [`FAR_SECONDS`], like tags; a
//! fleet tells of it at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use peercache_api::{Clock, Entry, Key, Version};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::chain::Chain;
use crate::heard::Note;
use crate::lookup::PutOutcome;
use crate::removals::Removals;
use crate::tags::ask_tiers;
use crate::tier::{Call, Tier};

/// How long what the local tiers say is believed.
const NEAR_SECONDS: u64 = 1;
/// How long what the shared tiers say is believed.
const FAR_SECONDS: u64 = 30;
/// The longest that a hit waits for a look, which is done for the first hit in a local tier and the first
/// one in a shared tier, and for the local tiers now and then.
const PATIENCE: Duration = Duration::from_millis(250);
/// No key that a program would make by hand is this.
const RESERVED: &str = "\u{1}everything";

/// Up to where everything is removed.
#[derive(Debug)]
pub(crate) struct Floor {
    key: Key,
    /// Whether there is one.
    any: AtomicBool,
    note: RwLock<Option<Note>>,
    /// Whether tiers are asked at all.
    looks: bool,
    /// Whether there are local tiers that another process may write, and shared ones.
    durable: bool,
    shared: bool,
    /// Filled once the local tiers were asked, and the shared ones.
    near_first: OnceCell<()>,
    far_first: OnceCell<()>,
    /// When the local tiers are to be asked next, and the shared ones, in whole monotonic seconds.
    near: AtomicU64,
    far: AtomicU64,
}

impl Floor {
    pub(crate) fn new(namespace: &str, looks: bool, tiers: &[Arc<Tier>]) -> Self {
        let key = Key::from_parts([RESERVED]).unwrap_or_else(|_| Key::from_digest([0xff; 32]));
        let readable = || tiers.iter().filter(|tier| tier.reads());
        // What is in this process's own memory is what it has learnt.
        let durable = readable().any(|tier| tier.is_local() && !tier.is_volatile());
        let shared = readable().any(|tier| !tier.is_local());
        Self {
            key: if namespace.is_empty() { key } else { key.scoped(namespace) },
            any: AtomicBool::new(false),
            note: RwLock::default(),
            looks: looks && (durable || shared),
            durable,
            shared,
            near_first: OnceCell::new(),
            far_first: OnceCell::new(),
            near: AtomicU64::new(0),
            far: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_at(&self, digest: &[u8; 32]) -> bool {
        self.key.digest() == digest
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Note> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        *self.note.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that is news.
    pub(crate) fn learn(&self, note: Note) -> bool {
        let mut known = self.note.write().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|known| known.version >= note.version) {
            return false;
        }
        *known = Some(note);
        self.any.store(true, Ordering::Release);
        true
    }

    /// Whether any tier is to be asked at `second`, for the sake of what a tier holds that is `shared` or
    /// not.
    #[inline]
    pub(crate) fn is_due(&self, second: u64, shared: bool) -> bool {
        self.looks && (second >= self.near.load(Ordering::Relaxed) || shared && !self.far_first.initialized())
    }
}

/// Whether what was to be done next at `next` is to be done by the caller. Who is told so is the only one
/// for a while.
fn claim(next: &AtomicU64, second: u64, every: u64) -> bool {
    let due = next.load(Ordering::Relaxed);
    second >= due && next.compare_exchange(due, second + every, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

impl Chain {
    /// Removes everything that is not newer than `version` from every tier, by one small write that goes
    /// to each and lives for [`TOMBSTONE_LIFETIME`](peercache_api::TOMBSTONE_LIFETIME). Only what has this
    /// chain's [namespace](crate::ChainBuilder::tag_namespace) is meant, so a store that is shared with
    /// others keeps theirs.
    ///
    /// In this process at once, and so on every machine that hears of it through a fleet. Others notice if
    /// they were built with [`ChainBuilder::everything`](crate::ChainBuilder::everything): a process that
    /// starts, with its first hit; another process on this machine within two seconds; another machine within
    /// 31 s after the write has reached a tier that both share. What was removed is not erased: it goes when
    /// it expires or is evicted.
    pub async fn invalidate_all(&self, version: Version) -> PutOutcome {
        let tombstone = Entry::tombstone(version, self.clock.now());
        self.removals.everything.add(1);
        self.removals.floor.learn(Note::of(&tombstone));
        self.write(&self.removals.floor.key, tombstone).await
    }

    /// The digest of the key under which the removal of everything is stored: a watcher that is told of it is
    /// told that everything was removed.
    #[must_use]
    pub fn everything(&self) -> [u8; 32] {
        *self.removals.floor.key.digest()
    }

    /// Asks the tiers whose turn it is. `shared` says that the caller has read from a shared tier: the very
    /// first time it then waits for what the shared tiers say, and no hit does so again.
    pub(crate) async fn look_for_floor(&self, second: u64, shared: bool) {
        let floor = &self.removals.floor;
        let near = claim(&floor.near, second, if floor.durable { NEAR_SECONDS } else { FAR_SECONDS });
        let far = claim(&floor.far, second, FAR_SECONDS);
        if floor.durable {
            if !floor.near_first.initialized() {
                floor.near_first.get_or_init(|| self.look_near()).await;
            } else if near {
                self.look_near().await;
            }
        }
        if floor.shared {
            if shared && !floor.far_first.initialized() {
                floor.far_first.get_or_init(|| self.look_far()).await;
            } else if far {
                tokio::spawn(self.ask_far());
            }
        }
    }

    async fn look_near(&self) {
        let durable = |tier: &&Arc<Tier>| tier.is_local() && tier.reads() && !tier.is_volatile();
        let tiers = self.tiers.iter().filter(durable).cloned().collect();
        // A disk that hangs is not waited for; the next look may find it well.
        let _learnt =
            timeout(PATIENCE, ask(Arc::clone(&self.removals), tiers, Arc::clone(&self.clock))).await;
    }

    async fn look_far(&self) {
        // Goes on in the background when it takes too long.
        let _done = timeout(PATIENCE, tokio::spawn(self.ask_far())).await;
    }

    fn ask_far(&self) -> impl Future<Output = ()> + Send + use<> {
        let readable = |local: bool| {
            let tiers = self.tiers.iter().filter(move |tier| tier.is_local() == local && tier.reads());
            tiers.cloned().collect::<Vec<_>>()
        };
        ask_far(Arc::clone(&self.removals), readable(false), readable(true), Arc::clone(&self.clock))
    }
}

async fn ask(removals: Arc<Removals>, tiers: Vec<Arc<Tier>>, clock: Arc<dyn Clock>) -> Option<Entry> {
    let floor = &removals.floor;
    let newest = ask_tiers(&floor.key, &tiers, &*clock, &removals.floor_lookups).await?;
    floor.learn(Note::of(&newest)).then_some(newest)
}

/// Asks the shared tiers, and keeps what is news in the local ones, so that it is still known here when
/// they are away.
async fn ask_far(
    removals: Arc<Removals>,
    shared: Vec<Arc<Tier>>,
    local: Vec<Arc<Tier>>,
    clock: Arc<dyn Clock>,
) {
    let Some(newest) = ask(Arc::clone(&removals), shared, Arc::clone(&clock)).await else { return };
    for tier in local.iter().filter(|tier| tier.writes()) {
        if let Call::Failed(error) = tier.put(&removals.floor.key, newest.clone(), &*clock).await {
            tier.stats.note(&error);
        }
    }
}
