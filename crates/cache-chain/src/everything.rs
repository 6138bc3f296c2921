//! Everything in a namespace removed by one small write.
//!
//! Its tombstone lies under one reserved key of the namespace. What is not newer than that is removed,
//! wherever it is found: the version is a floor under every read. It is remembered, and looked up again
//! in the local tiers after [`NEAR_SECONDS`] and in the shared ones after [`FAR_SECONDS`], like tags; a
//! fleet tells of it at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use peercache_api::{Clock, Entry, Key};

use crate::chain::Chain;
use crate::heard::Note;
use crate::lookup::PutOutcome;
use crate::removals::Removals;
use crate::stats::Count;
use crate::tags::ask_tiers;
use crate::tier::{Call, Tier};

/// How long what the local tiers say is believed.
const NEAR_SECONDS: u64 = 1;
/// How long what the shared tiers say is believed.
const FAR_SECONDS: u64 = 30;
/// No key that a program would make by hand is this.
const RESERVED: &str = "\u{1}everything";

/// Up to where everything is removed.
#[derive(Debug)]
pub(crate) struct Floor {
    key: Key,
    /// Whether there is one.
    any: AtomicBool,
    note: RwLock<Option<Note>>,
    /// Whether the tiers were asked once.
    asked: AtomicBool,
    /// When the local tiers are to be asked next, and the shared ones, in whole monotonic seconds.
    near: AtomicU64,
    far: AtomicU64,
    pub(crate) lookups: Count,
}

impl Floor {
    pub(crate) fn new(namespace: &str) -> Self {
        let key = Key::from_parts([RESERVED]).unwrap_or_else(|_| Key::from_digest([0xff; 32]));
        Self {
            key: if namespace.is_empty() { key } else { key.scoped(namespace) },
            any: AtomicBool::new(false),
            note: RwLock::default(),
            asked: AtomicBool::new(false),
            near: AtomicU64::new(0),
            far: AtomicU64::new(0),
            lookups: Count::default(),
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

    /// Whether any tier is to be asked at `second`.
    #[inline]
    pub(crate) fn is_due(&self, second: u64) -> bool {
        second >= self.near.load(Ordering::Relaxed)
    }

    /// Whether the local and the shared tiers are to be asked by the caller. Who is told so is the only
    /// one for a while; but before the first answer, everyone asks.
    fn claim(&self, second: u64) -> (bool, bool) {
        let first = !self.asked.load(Ordering::Acquire);
        let claim = |next: &AtomicU64, every| {
            let due = next.load(Ordering::Relaxed);
            let won = second >= due
                && next.compare_exchange(due, second + every, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            won || first
        };
        (claim(&self.near, NEAR_SECONDS), claim(&self.far, FAR_SECONDS))
    }
}

impl Chain {
    /// Removes everything that is not newer than `version` from every tier, by one small write that goes
    /// to each and lives for [`TOMBSTONE_LIFETIME`](peercache_api::TOMBSTONE_LIFETIME). Only what has this
    /// chain's [namespace](crate::ChainBuilder::tag_namespace) is meant, so a store that is shared with
    /// others keeps theirs.
    ///
    /// In this process at once, and so on every machine that hears of it through a fleet. Another process
    /// on this machine notices within two seconds, another machine without a fleet within 31 s after the
    /// write has reached a tier that both share. What was removed is not erased: it goes when it expires
    /// or is evicted.
    pub async fn invalidate_all(&self, version: peercache_api::Version) -> PutOutcome {
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

    /// Asks the tiers whose turn it is. `shared` says that the caller reads from a shared tier, so that
    /// waiting for another is in proportion.
    pub(crate) async fn look_for_floor(&self, second: u64, shared: bool) {
        let floor = &self.removals.floor;
        let (near, far) = floor.claim(second);
        let readable = |local: bool| {
            let tiers = self.tiers.iter().filter(move |tier| tier.is_local() == local && tier.reads());
            tiers.cloned().collect::<Vec<_>>()
        };
        if near {
            // What is in this process's own memory is what it has learnt.
            let durable = readable(true).into_iter().filter(|tier| !tier.is_volatile()).collect();
            ask(Arc::clone(&self.removals), durable, Arc::clone(&self.clock)).await;
        }
        let others = readable(false);
        if far && !others.is_empty() {
            let ask = ask_far(Arc::clone(&self.removals), others, readable(true), Arc::clone(&self.clock));
            if shared {
                ask.await;
            } else {
                // A hit on this machine does not wait for another one.
                tokio::spawn(ask);
            }
        }
        floor.asked.store(true, Ordering::Release);
    }
}

async fn ask(removals: Arc<Removals>, tiers: Vec<Arc<Tier>>, clock: Arc<dyn Clock>) -> Option<Entry> {
    let floor = &removals.floor;
    let newest = ask_tiers(&floor.key, &tiers, &*clock, &floor.lookups).await?;
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
