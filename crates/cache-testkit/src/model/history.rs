//! What happened to one key.

use std::collections::{HashMap, HashSet};

use peercache_api::{Entry, Freshness, Timestamp, Version};

use super::spec::{Queue, Taken, TierSpec};

/// The least that a tier holds: a version itself, or a removal of all that is older than it.
pub(super) type Floor = (Version, Held);

/// Ordered: a removal of what is older than a version lies just below that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    Burial,
    Entry,
}

/// What is known about one key.
#[derive(Debug)]
pub(super) struct History {
    /// Everything that was ever put, by version.
    pub(super) writes: HashMap<Version, Entry>,
    /// Puts whose end was not seen, perhaps never will be.
    open: HashSet<Version>,
    /// Versions whose value was, or may have been, too large for some tier or a part of one: until
    /// a put has ended, and for ever if it was given up, some may have buried what is older and
    /// none hold it yet.
    pub(super) buried: Vec<Version>,
    /// By tier: the least that it holds, or that waits for it in a roomy queue, while that has not
    /// expired.
    pub(super) floors: Vec<Option<Floor>>,
    /// By tier: the greatest version that it failed to take.
    pub(super) missed: Vec<Option<Version>>,
    /// By tier: the greatest that was to be written to it through its queue, whatever became of it.
    pub(super) offered: Vec<Option<Floor>>,
    /// By tier: the greatest that waits in its queue for certain, since the tier is down.
    waiting: Vec<Option<Floor>>,
}

impl History {
    pub(super) fn new(tiers: usize) -> Self {
        Self {
            writes: HashMap::new(),
            open: HashSet::new(),
            buried: Vec::new(),
            floors: vec![None; tiers],
            missed: vec![None; tiers],
            offered: vec![None; tiers],
            waiting: vec![None; tiers],
        }
    }

    pub(super) fn begin(&mut self, entry: &Entry) {
        self.writes.insert(entry.version(), entry.clone());
        self.open.insert(entry.version());
        self.buried.push(entry.version());
    }

    /// `tiers` says of each what is known of it and whether it is up.
    pub(super) fn end(&mut self, version: Version, taken: &[Taken], tiers: &[(TierSpec, bool)]) {
        self.open.remove(&version);
        // Of a tier that keeps what it takes it is known how it took this. Any other may be made of
        // parts.
        let may_bury = |(taken, (spec, _)): (&Taken, &(TierSpec, bool))| match taken {
            Taken::Buried | Taken::Partly => true,
            Taken::Queued | Taken::Delayed => !spec.keeps,
            Taken::Stored | Taken::Failed | Taken::NotAsked => false,
        };
        if !taken.iter().zip(tiers).any(may_bury) {
            self.buried.retain(|buried| *buried != version);
        }
        for (index, (taken, (spec, up))) in taken.iter().zip(tiers).enumerate() {
            let offered = match taken {
                Taken::Buried => (version, Held::Burial),
                Taken::NotAsked => continue,
                _ => (version, Held::Entry),
            };
            if matches!(taken, Taken::Failed | Taken::Partly | Taken::Delayed) {
                raise(&mut self.missed[index], version);
            }
            let failed = matches!(taken, Taken::Failed | Taken::Partly);
            let is_certain = !failed && (spec.queue != Queue::Bounded || *taken == Taken::Stored);
            if is_certain {
                raise(&mut self.floors[index], offered);
            }
            if spec.queue != Queue::None {
                raise(&mut self.offered[index], offered);
                if is_certain && !up {
                    raise(&mut self.waiting[index], offered);
                }
            }
        }
    }

    /// `tier` was given `version` by somebody else, past every queue.
    pub(super) fn end_elsewhere(&mut self, version: Version, tier: Option<usize>) {
        self.open.remove(&version);
        self.buried.retain(|buried| *buried != version);
        if let Some(floor) = tier.and_then(|tier| self.floors.get_mut(tier)) {
            raise(floor, (version, Held::Entry));
        }
    }

    /// What waited for this tier has perhaps arrived there.
    pub(super) fn arrives(&mut self, tier: usize) {
        if let Some(waiting) = self.waiting.get_mut(tier) {
            *waiting = None;
        }
    }

    /// What waits for certain for tier `index`.
    pub(super) fn waiting(&self, index: usize, now: Timestamp) -> Option<Floor> {
        self.kept(self.waiting[index]?, now)
    }

    /// Whether `version` itself may wait for tier `index`, which has a queue.
    pub(super) fn may_wait(&self, version: Version, index: usize) -> bool {
        let this = Some((version, Held::Entry));
        self.offered[index] == this || (self.open.contains(&version) && self.offered[index] < this)
    }

    /// `floor`, unless it has expired: then it may be dropped, and hides nothing any more. A burial
    /// outlives every value that it can bury.
    pub(super) fn kept(&self, floor: Floor, now: Timestamp) -> Option<Floor> {
        let (version, held) = floor;
        let entry = self.writes.get(&version)?;
        (held == Held::Burial || entry.freshness(now) != Freshness::Expired).then_some(floor)
    }
}

fn raise<T: Ord>(least: &mut Option<T>, to: T) {
    if least.as_ref().is_none_or(|least| *least < to) {
        *least = Some(to);
    }
}
