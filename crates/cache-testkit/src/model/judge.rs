//! Judging an answer by the history.

use std::ops::Range;

use peercache_api::{Entry, Freshness, Key, Version};

use super::history::{Floor, Held, History};
use super::{Answer, Model, Queue, Tier, Violation};

impl Model {
    /// Whether `answer` is right for a lookup of `key` now; see [`Model::acceptable`].
    ///
    /// # Errors
    /// With what is wrong about it.
    pub fn judge(&self, key: &Key, answer: &Answer, silent: &[usize]) -> Result<(), Violation> {
        let Some(history) = self.keys.get(key) else {
            return answer
                .entry()
                .map_or(Ok(()), |entry| Err(Violation::NeverPut { version: entry.version() }));
        };
        match answer {
            Answer::Miss => self.judge_miss(history, silent),
            Answer::Hit { tier, entry } => {
                self.judge_entry(history, *tier, entry, Freshness::Fresh, silent)?;
                // What waits is an answer before the tier itself is asked.
                let end = tier + usize::from(!self.may_come_from_a_queue(history, entry.version(), *tier));
                self.judge_age(history, entry.version(), (0..end, *tier), silent)
            }
            Answer::Stale { tier, entry } => {
                self.judge_entry(history, *tier, entry, Freshness::Stale, silent)?;
                self.judge_age(history, entry.version(), (0..self.tiers.len(), self.tiers.len()), silent)
            }
        }
    }

    /// Whether a lookup may fail to hear `tier`: not if it is read, keeps what it takes, and was
    /// always up.
    ///
    /// Apart from [`Model::judge`], because a chain may have reasons of its own to leave a tier
    /// alone that is well, such as a budget that is spent.
    ///
    /// # Errors
    /// [`Violation::PassedOver`], or [`Violation::NoSuchTier`].
    pub fn judge_silence(&self, tier: usize) -> Result<(), Violation> {
        let Tier { spec, was_down, .. } = self.tiers.get(tier).ok_or(Violation::NoSuchTier { tier })?;
        match spec.reads && spec.keeps && !was_down {
            true => Err(Violation::PassedOver { tier }),
            false => Ok(()),
        }
    }

    /// Whether `tier` could give this entry, and says what it is.
    fn judge_entry(
        &self,
        history: &History,
        index: usize,
        entry: &Entry,
        said: Freshness,
        silent: &[usize],
    ) -> Result<(), Violation> {
        let version = entry.version();
        let tier = self.tiers.get(index).ok_or(Violation::NoSuchTier { tier: index })?;
        let heard = tier.up && !silent.contains(&index);
        if !tier.spec.reads || !(heard || self.may_come_from_a_queue(history, version, index)) {
            return Err(Violation::NotAsked { tier: index });
        }
        let put = history.writes.get(&version).ok_or(Violation::NeverPut { version })?;
        if put != entry {
            return Err(Violation::Altered { version });
        }
        if entry.is_tombstone() {
            return Err(Violation::Removal { version });
        }
        if let Some(removal) = self.removed_by_tag(entry) {
            return Err(Violation::Invalidated { version, removal });
        }
        if entry.is_from_future(self.now) {
            return Err(Violation::FromFuture { version });
        }
        let is = entry.freshness(self.now);
        if is != said {
            return Err(Violation::Mislabelled { version, said, is });
        }
        let missed = history.missed[index].max(self.replaced(history, index));
        match missed {
            Some(missed) if version < missed && !self.forgetful => {
                Err(Violation::Resurrected { version, missed, tier: index })
            }
            _ => Ok(()),
        }
    }

    /// Whether an answer that is said to come from tier `index` may have waited to be written there
    /// or to another tier: what waits is looked at before the tier is asked.
    ///
    /// A copy of what another tier answered waits there too, on its way up: of it no more is known
    /// than that it was put, and that another tier is read.
    fn may_come_from_a_queue(&self, history: &History, version: Version, index: usize) -> bool {
        let others = || (0..self.tiers.len()).filter(|tier| *tier != index);
        let written =
            || (0..self.tiers.len()).any(|tier| self.is_behind(tier) && history.may_wait(version, tier));
        let promoted =
            || history.writes.contains_key(&version) && others().any(|tier| self.tiers[tier].spec.reads);
        self.is_behind(index) && (written() || promoted())
    }

    fn is_behind(&self, index: usize) -> bool {
        self.tiers.get(index).is_some_and(|tier| tier.spec.queue != Queue::None)
    }

    /// The greatest version that a tier which keeps what it takes was to get through its queue: it
    /// waits, or has arrived, or was given up, and in no case does the tier show again what it
    /// replaced.
    fn replaced(&self, history: &History, index: usize) -> Option<Version> {
        let offered = history.offered[index].filter(|_| self.tiers[index].spec.keeps)?;
        history.kept(offered, self.now).map(|(version, _)| version)
    }

    /// Whether `version` is at least what the tiers in `asked` hold, and what was known to wait
    /// when the read came to tier `end`.
    fn judge_age(
        &self,
        history: &History,
        version: Version,
        (asked, end): (Range<usize>, usize),
        silent: &[usize],
    ) -> Result<(), Violation> {
        // What waits for any tier is known from the first on that has a queue.
        let queues = (0..=end).any(|tier| self.is_behind(tier));
        let older = (0..self.tiers.len()).find_map(|tier| {
            let believed = asked.contains(&tier).then(|| self.believed(history, tier, silent)).flatten();
            let waiting = queues.then(|| history.waiting(tier, self.now)).flatten();
            let (holds, held) = believed.max(waiting)?;
            ((version, Held::Entry) < (holds, held)).then_some((tier, holds))
        });
        older.map_or(Ok(()), |(tier, holds)| Err(Violation::Outdated { version, holds, tier }))
    }

    /// Nothing may be found unless a tier holds something that must be.
    fn judge_miss(&self, history: &History, silent: &[usize]) -> Result<(), Violation> {
        let serves = |tier| self.is_behind(tier) && self.tiers[tier].spec.reads;
        let queues = (0..self.tiers.len()).any(serves);
        let lost = (0..self.tiers.len()).find_map(|tier| {
            // Not if something newer was given up on the way to it: then it is not believed.
            let missed = history.missed[tier].max(history.offered[tier].map(|(offered, _)| offered));
            let believed = self.believed(history, tier, silent);
            let believed = believed.filter(|(version, _)| missed.is_none_or(|missed| missed <= *version));
            let waiting = queues.then(|| history.waiting(tier, self.now)).flatten();
            let (version, held) = believed.max(waiting)?;
            let entry = history.writes.get(&version)?;
            let found = held == Held::Entry
                && !entry.is_tombstone()
                && self.removed_by_tag(entry).is_none()
                && !entry.is_from_future(self.now)
                && !self.may_be_hidden(history, version);
            found.then_some((tier, version))
        });
        lost.map_or(Ok(()), |(tier, version)| Err(Violation::Lost { version, tier }))
    }

    /// As of which version `entry` was removed by one of its tags.
    fn removed_by_tag(&self, entry: &Entry) -> Option<Version> {
        let removals = entry.metadata().tags.iter().filter_map(|tag| self.tags.get(tag).copied());
        removals.filter(|removal| *removal >= entry.version()).max()
    }

    /// Whether something newer than `version` may be known that is not itself an answer.
    fn may_be_hidden(&self, history: &History, version: Version) -> bool {
        let hides = |(other, entry): (&Version, &Entry)| {
            *other > version
                && (entry.is_tombstone()
                    || self.removed_by_tag(entry).is_some()
                    || entry.freshness(self.now) == Freshness::Expired
                    || self.may_be_disbelieved(history, *other))
        };
        history.writes.iter().any(hides) || history.buried.iter().any(|buried| *buried > version)
    }

    /// Whether a tier may show `version` and not be believed, because it missed a newer write.
    fn may_be_disbelieved(&self, history: &History, version: Version) -> bool {
        self.tiers.iter().enumerate().any(|(index, Tier { spec, was_down, .. })| {
            // What a tier that keeps what it takes, and was never away, is to get it gets.
            let offered = history.offered[index].filter(|_| !spec.keeps || *was_down);
            let missed = history.missed[index].max(offered.map(|(offered, _)| offered));
            spec.reads && missed.is_some_and(|missed| version < missed)
        })
    }

    /// The least that `tier` showed in a lookup that did not hear the silent ones, if it is known.
    fn believed(&self, history: &History, index: usize, silent: &[usize]) -> Option<Floor> {
        let tier = self.tiers.get(index)?;
        if !tier.spec.reads || !tier.spec.keeps || !tier.up || silent.contains(&index) {
            return None;
        }
        history.kept(history.floors[index]?, self.now)
    }
}
