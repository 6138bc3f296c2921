//! Everything in a namespace removed by one small write.
//!
//! Its tombstone lies under one reserved key of the namespace. What is not newer than that is
//! removed, wherever it is found: its version is the horizon of every read. It is remembered here,
//! and due to be looked up again in the local tiers after [`NEAR_SECONDS`] and in the shared ones
//! after [`FAR_SECONDS`], like tags; a fleet announces it at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use peercache_api::util::Count;
use peercache_api::{Key, Timestamp};
use tokio::sync::OnceCell;

use super::removed_keys::Removal;
use crate::write::slot::Slot;

/// For how long what the local tiers say is used.
const NEAR_SECONDS: u64 = 1;
/// For how long what the shared tiers say is used.
const FAR_SECONDS: u64 = 30;
/// No key that a program would make by hand is this.
const RESERVED: &str = "\u{1}everything";

/// Up to where everything in a chain's namespace is removed.
#[derive(Debug)]
pub(crate) struct Namespace {
    key: Key,
    /// Whether there is a horizon.
    any: AtomicBool,
    horizon: RwLock<Option<Removal>>,
    /// Whether tiers are asked at all.
    looks: bool,
    /// Whether there are local tiers that another process may write.
    pub(crate) durable: bool,
    /// Whether there are shared tiers.
    pub(crate) shared: bool,
    /// Filled once the local tiers were asked.
    pub(crate) near_first: OnceCell<()>,
    /// Filled once the shared tiers were asked.
    pub(crate) far_first: OnceCell<()>,
    /// When the local tiers are to be asked next, and the shared ones, in whole monotonic seconds.
    near: AtomicU64,
    far: AtomicU64,
    /// How often the namespace was invalidated through this chain.
    pub(crate) invalidated: Count,
    /// Reads of tiers to see whether it was invalidated elsewhere.
    pub(crate) lookups: Count,
}

/// What is to be looked up about the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// In the local tiers.
    pub(crate) near: bool,
    /// In the shared tiers.
    pub(crate) far: bool,
}

impl Namespace {
    pub(crate) fn new(namespace: &str, looks: bool, slots: &[Slot]) -> Self {
        let key = Key::from_parts([RESERVED]).unwrap_or_else(|_| Key::from_digest([0xff; 32]));
        let readable = || slots.iter().map(|slot| &slot.tier).filter(|tier| tier.reads());
        // What is in this process's own memory is what this process has learnt.
        let durable = readable().any(|tier| tier.is_local() && !tier.is_volatile());
        let shared = readable().any(|tier| !tier.is_local());
        Self {
            key: if namespace.is_empty() { key } else { key.scoped(namespace) },
            any: AtomicBool::new(false),
            horizon: RwLock::default(),
            looks: looks && (durable || shared),
            durable,
            shared,
            near_first: OnceCell::new(),
            far_first: OnceCell::new(),
            near: AtomicU64::new(0),
            far: AtomicU64::new(0),
            invalidated: Count::default(),
            lookups: Count::default(),
        }
    }

    /// The key under which the removal of everything is stored.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    #[inline]
    pub(crate) fn horizon(&self) -> Option<Removal> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        *self.horizon.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the horizon up to `removal`. Whether that is news at `now`: a horizon that was learnt
    /// from a clock that was ahead does not stand in the way.
    pub(crate) fn learn(&self, removal: Removal, now: Timestamp) -> bool {
        let mut known = self.horizon.write().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|known| known.version >= removal.version && !known.version.is_from_future(now)) {
            return false;
        }
        *known = Some(removal);
        self.any.store(true, Ordering::Release);
        true
    }

    /// Whether any tier is to be asked at `second`, because of what a tier holds that is `shared`
    /// or not.
    #[inline]
    pub(crate) fn is_due(&self, second: u64, shared: bool) -> bool {
        self.looks && (second >= self.near.load(Ordering::Relaxed) || shared && !self.far_first.initialized())
    }

    /// Which tiers are to be asked at `second`, by the caller alone.
    pub(crate) fn claim(&self, second: u64) -> Due {
        let every = if self.durable { NEAR_SECONDS } else { FAR_SECONDS };
        Due { near: claim(&self.near, second, every), far: claim(&self.far, second, FAR_SECONDS) }
    }
}

/// Whether what was to be done at `next` is to be done by the caller. Only one caller gets that
/// answer within `every` seconds.
fn claim(next: &AtomicU64, second: u64, every: u64) -> bool {
    let due = next.load(Ordering::Relaxed);
    second >= due && next.compare_exchange(due, second + every, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}
