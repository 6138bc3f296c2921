//! Removals by others: heard of through a tier that coordinates a fleet, believed at once, and written to
//! the local tiers in the background.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use peercache_api::{Clock, Entry, Key, RemovalWatcher};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::chain::Chain;
use crate::everything::Floor;
use crate::heard::{Heard, Note};
use crate::read::Scan;
use crate::stats::Count;
use crate::tier::{Call, Tier};

/// The most removals that wait to be written to the local tiers: about 6 MiB. What finds no room is
/// believed by this process all the same, and counted.
const MAX_WAITING: usize = 65_536;

/// Removals heard of and written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RemovalReport {
    /// Removals that others made and that were news here.
    pub heard: u64,
    /// Of those, the ones that every local tier has a tombstone for now.
    pub buried: u64,
    /// Of those, the ones that a local tier did not take, or that found no room to wait for it. This
    /// process believes them all the same.
    pub unburied: u64,
    /// How often everything was removed through this chain.
    pub everything: u64,
    /// Reads of tiers to see whether everything was removed elsewhere. They are not among the lookups.
    pub lookups: u64,
}

/// What a chain knows about removals besides what its tiers hold.
#[derive(Debug)]
pub(crate) struct Removals {
    myself: Weak<Self>,
    clock: Arc<dyn Clock>,
    local: Vec<Arc<Tier>>,
    heard: Heard,
    pub(crate) floor: Floor,
    pub(crate) floor_lookups: Count,
    waiting: Mutex<Waiting>,
    /// Told when nothing waits any more.
    rest: Notify,
    /// Of the thread that built the chain: notices may come from one that has none.
    runtime: Option<Handle>,
    listeners: Mutex<Vec<Weak<dyn RemovalWatcher>>>,
    counted: Count,
    buried: Count,
    unburied: Count,
    pub(crate) everything: Count,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<([u8; 32], Note)>,
    /// Whether a task works the queue off.
    worked: bool,
}

impl Removals {
    pub(crate) fn new(
        namespace: &str,
        looks: bool,
        tiers: &[Arc<Tier>],
        clock: &Arc<dyn Clock>,
    ) -> Arc<Self> {
        let local = tiers.iter().filter(|tier| tier.is_local() && tier.writes()).cloned().collect();
        Arc::new_cyclic(|myself| Self {
            myself: Weak::clone(myself),
            clock: Arc::clone(clock),
            local,
            heard: Heard::default(),
            floor: Floor::new(namespace, looks, tiers),
            floor_lookups: Count::default(),
            waiting: Mutex::default(),
            rest: Notify::new(),
            runtime: Handle::try_current().ok(),
            listeners: Mutex::default(),
            counted: Count::default(),
            buried: Count::default(),
            unburied: Count::default(),
            everything: Count::default(),
        })
    }

    /// Up to where `key` is known to be removed, from elsewhere or with everything.
    #[inline]
    pub(crate) fn of(&self, key: &Key) -> Option<Note> {
        match (self.heard.get(key.digest()), self.floor.get()) {
            (Some(heard), Some(floor)) if floor.version > heard.version => Some(floor),
            (Some(heard), _) => Some(heard),
            (None, floor) => floor,
        }
    }

    /// Up to where the key with this digest was heard to be removed.
    pub(crate) fn heard(&self, digest: &[u8; 32]) -> Option<Note> {
        self.heard.get(digest)
    }

    /// Whether anything was ever heard of.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard.any()
    }

    /// Tells `listener` of every removal that is heard from now on.
    pub(crate) fn listen(&self, listener: Weak<dyn RemovalWatcher>) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(listener);
    }

    pub(crate) fn report(&self) -> RemovalReport {
        RemovalReport {
            heard: self.counted.get(),
            buried: self.buried.get(),
            unburied: self.unburied.get(),
            everything: self.everything.get(),
            lookups: self.floor_lookups.get(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bury_later(&self, digest: [u8; 32], note: Note) {
        let runtime = Handle::try_current().ok().or_else(|| self.runtime.clone());
        let (Some(runtime), Some(myself)) = (runtime, self.myself.upgrade()) else {
            return self.unburied.add(1);
        };
        let mut waiting = self.waiting();
        if waiting.queue.len() >= MAX_WAITING {
            drop(waiting);
            return self.unburied.add(1);
        }
        waiting.queue.push_back((digest, note));
        if !std::mem::replace(&mut waiting.worked, true) {
            drop(waiting);
            runtime.spawn(async move { myself.work().await });
        }
    }

    async fn work(&self) {
        loop {
            let next = {
                let mut waiting = self.waiting();
                let next = waiting.queue.pop_front();
                waiting.worked = next.is_some();
                next
            };
            let Some((digest, note)) = next else { return self.rest.notify_waiters() };
            let whole = self.bury(&Key::from_digest(digest), &note.tombstone()).await;
            (if whole { &self.buried } else { &self.unburied }).add(1);
        }
    }

    /// Waits until the local tiers have been told of every removal that was heard of so far.
    pub(crate) async fn settle(&self) {
        loop {
            let rest = self.rest.notified();
            tokio::pin!(rest);
            // Before the look, so that nothing is missed between the two.
            rest.as_mut().enable();
            if !self.waiting().worked {
                return;
            }
            rest.await;
        }
    }

    /// Whether every local tier took it.
    async fn bury(&self, key: &Key, tombstone: &Entry) -> bool {
        let mut whole = true;
        for tier in &self.local {
            match tier.put(key, tombstone.clone(), &*self.clock).await {
                Call::Done(()) => {}
                failed => {
                    whole = false;
                    tier.missed.note(key, tombstone.version());
                    if let Call::Failed(error) = failed {
                        tracing::debug!(tier = tier.name(), operation = "put", %error, "a removal was not taken");
                        tier.stats.note(&error);
                    }
                }
            }
        }
        whole
    }
}

impl RemovalWatcher for Removals {
    fn removed(&self, key: &[u8; 32], tombstone: &Entry) {
        let note = Note::of(tombstone);
        if !tombstone.is_tombstone() || tombstone.is_from_future(self.clock.now()) {
            return;
        }
        let news = if self.floor.is_at(key) { self.floor.learn(note) } else { self.heard.note(key, note) };
        if !news {
            return;
        }
        self.counted.add(1);
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        listeners.iter().filter_map(Weak::upgrade).for_each(|listener| listener.removed(key, tombstone));
        self.bury_later(*key, note);
    }
}

impl Chain {
    /// What a read of `key` knows before any tier is asked.
    #[inline]
    pub(crate) fn begin(&self, key: &Key) -> Scan {
        let mut scan = Scan::default();
        self.recall(key, &mut scan);
        scan
    }

    /// Lets `scan` know what was removed, so that nothing older is the answer, from whichever tier.
    #[inline]
    pub(crate) fn recall(&self, key: &Key, scan: &mut Scan) {
        if let Some(note) = self.removals.of(key)
            && scan.newest < Some(note.version)
        {
            scan.newest = Some(note.version);
            scan.tombstone = Some(note.tombstone());
            scan.stale = None;
        }
    }
}
