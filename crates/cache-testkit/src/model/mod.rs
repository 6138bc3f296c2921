//! What a read of a chain may answer, given all that happened to its tiers.
//!
//! A [`Model`] is told the history of a chain as plain data, and then says of every lookup whether its
//! answer was right, or lists all the [`Answer`]s that would be. It knows nothing about any chain, so it
//! can judge ours, yours, or one in another process.
//!
//! What it holds a chain to, whatever its tiers do:
//!
//! - A value is served only under the key that it was put under, unchanged, and only while it lives:
//!   never once expired, never before its time, never a removal as a value, and labelled fresh or
//!   stale as it is.
//! - A tier that said that it holds a version, and that is known to keep and show what it holds
//!   ([`TierSpec::keeps`]), is believed: what a lookup takes from it, or from a tier below it, is not
//!   older; a stale answer is not older than what any such tier holds.
//! - A tier that failed to take a version is from then on not believed for anything older, whatever it
//!   says later, so a tier that was away cannot bring back what was replaced or removed meanwhile.
//! - What such a tier holds, and nothing newer can have hidden, is found.
//!
//! ```
//! use std::time::Duration;
//! use peercache_api::{Entry, Key, NodeId, Timestamp, VersionClock};
//! use peercache_testkit::model::{Answer, Model, Taken, TierSpec};
//!
//! let now = Timestamp::from_millis(1_800_000_000_000);
//! let versions = VersionClock::new(NodeId::from_u64(1));
//! let key = Key::new("k")?;
//! let old = Entry::builder("old", versions.next(now), now).fresh_for(Duration::from_secs(60)).build()?;
//! let new = Entry::builder("new", versions.next(now), now).fresh_for(Duration::from_secs(60)).build()?;
//!
//! // A memory that keeps what it takes, above a bucket that may do anything.
//! let mut model = Model::new([TierSpec::keeper(), TierSpec::doubtful()], now);
//! model.begin_put(&key, &old);
//! model.end_put(&key, old.version(), &[Taken::Stored, Taken::Stored]);
//! model.begin_put(&key, &new);
//! model.end_put(&key, new.version(), &[Taken::Stored, Taken::Failed]);
//!
//! let answer = |entry: &Entry| Answer::Hit { tier: 1, entry: entry.clone() };
//! assert!(model.judge(&key, &answer(&new), &[]).is_ok());
//! assert!(model.judge(&key, &answer(&old), &[]).is_err());
//! assert!(model.judge(&key, &Answer::Miss, &[]).is_err());
//! # Ok::<(), peercache_api::Error>(())
//! ```

mod answer;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use peercache_api::{Entry, Freshness, Key, Timestamp, Version};

pub use answer::{Answer, Violation};

/// What the model may rely on in one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierSpec {
    /// Whether lookups ask it at all.
    pub reads: bool,
    /// Whether it keeps what it says that it holds, until that expires or something newer comes, and
    /// shows it whenever it is asked and up. True for a memory or disk with room to spare; not for what
    /// evicts, loses, replays, or sits behind a network.
    pub keeps: bool,
}

impl TierSpec {
    /// A tier that is read, and keeps what it takes.
    #[must_use]
    pub const fn keeper() -> Self {
        Self { reads: true, keeps: true }
    }

    /// A tier that is read, and may do anything.
    #[must_use]
    pub const fn doubtful() -> Self {
        Self { reads: true, keeps: false }
    }

    /// The same tier, never asked by a lookup.
    #[must_use]
    pub const fn write_only(self) -> Self {
        Self { reads: false, ..self }
    }
}

/// How one tier took a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It said that it holds this version now, or a newer one.
    Stored,
    /// It holds a removal of everything older instead, because the value was too large for it.
    Buried,
    /// It failed, or did not answer in time: it may hold the version or not.
    Failed,
    /// It is made of several stores, as a chain is, and failed as a whole: parts of it may hold the
    /// version, and others a removal of everything older, because the value was too large for them.
    Partly,
    /// It was not asked.
    NotAsked,
}

/// The least that a tier holds: a version itself, or a removal of all that is older than it.
type Floor = (Version, Held);

/// Ordered: a removal of what is older than a version lies just below that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Burial,
    Entry,
}

#[derive(Debug)]
struct Tier {
    spec: TierSpec,
    up: bool,
    /// Whether it was down at any time, so that it may still be passed over when it is up again.
    was_down: bool,
}

/// What is known about one key.
#[derive(Debug)]
struct History {
    /// Everything that was ever put, by version.
    writes: HashMap<Version, Entry>,
    /// Versions whose value was, or may have been, too large for some tier or a part of one: until a put
    /// has ended, and for ever if it was given up, some may have buried what is older and none hold it yet.
    buried: Vec<Version>,
    /// By tier: the least that it holds, while that has not expired.
    floors: Vec<Option<Floor>>,
    /// By tier: the greatest version that it failed to take.
    missed: Vec<Option<Version>>,
}

/// The history of a chain, and what follows from it for its next lookup.
///
/// Its memory grows with the number of puts: it is for tests of bounded length.
#[derive(Debug)]
pub struct Model {
    tiers: Vec<Tier>,
    now: Timestamp,
    keys: HashMap<Key, History>,
    forgetful: bool,
}

impl Model {
    /// A chain of these tiers, from the one that is asked first to the last, all up and empty.
    pub fn new(tiers: impl IntoIterator<Item = TierSpec>, now: Timestamp) -> Self {
        let tiers = tiers.into_iter().map(|spec| Tier { spec, up: true, was_down: false }).collect();
        Self { tiers, now, keys: HashMap::new(), forgetful: false }
    }

    /// Judges a chain that does not remember which writes a tier failed to take: it may believe that
    /// tier again, whatever it shows. All else holds.
    #[must_use]
    pub fn forgetful(self) -> Self {
        Self { forgetful: true, ..self }
    }

    /// Lets time pass.
    pub fn advance(&mut self, duration: Duration) {
        self.now = self.now.saturating_add(duration);
    }

    /// Takes note that tier `tier`, counted from 0, went down or came up.
    pub fn set_up(&mut self, tier: usize, up: bool) {
        if let Some(tier) = self.tiers.get_mut(tier) {
            tier.up = up;
            tier.was_down |= !up;
        }
    }

    /// Takes note that somebody began to put `entry`, a value or a tombstone. Until
    /// [`end_put`](Self::end_put), for ever if its caller goes away, any tier may hold it or not.
    pub fn begin_put(&mut self, key: &Key, entry: &Entry) {
        let history = self.history(key);
        history.writes.insert(entry.version(), entry.clone());
        history.buried.push(entry.version());
    }

    /// Takes note of how each tier took the put that was begun with this version, in order; tiers that
    /// are left out were not asked.
    pub fn end_put(&mut self, key: &Key, version: Version, taken: &[Taken]) {
        let history = self.history(key);
        if !taken.iter().any(|taken| matches!(taken, Taken::Buried | Taken::Partly)) {
            history.buried.retain(|buried| *buried != version);
        }
        for (index, taken) in taken.iter().enumerate().take(history.floors.len()) {
            let floor = match taken {
                Taken::Stored => (version, Held::Entry),
                Taken::Buried => (version, Held::Burial),
                Taken::Failed | Taken::Partly => {
                    history.missed[index] = history.missed[index].max(Some(version));
                    continue;
                }
                Taken::NotAsked => continue,
            };
            history.floors[index] = history.floors[index].max(Some(floor));
        }
    }

    /// Every right answer to a lookup of `key` now. `silent` are the tiers that the lookup did not hear,
    /// because they failed or were passed over.
    #[must_use]
    pub fn acceptable(&self, key: &Key, silent: &[usize]) -> Vec<Answer> {
        let writes = self.keys.get(key).into_iter().flat_map(|history| history.writes.values());
        let mut answers: Vec<_> = writes
            .flat_map(|entry| {
                (0..self.tiers.len()).flat_map(|tier| {
                    let entry = entry.clone();
                    [Answer::Hit { tier, entry: entry.clone() }, Answer::Stale { tier, entry }]
                })
            })
            .chain([Answer::Miss])
            .filter(|answer| self.judge(key, answer, silent).is_ok())
            .collect();
        answers.sort_by_key(Answer::order);
        answers
    }

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
                self.judge_age(history, entry.version(), 0..=*tier, silent)
            }
            Answer::Stale { tier, entry } => {
                self.judge_entry(history, *tier, entry, Freshness::Stale, silent)?;
                self.judge_age(history, entry.version(), 0..=self.tiers.len(), silent)
            }
        }
    }

    /// Whether a lookup may fail to hear `tier`: not if it is read, keeps what it takes, and was always up.
    ///
    /// Apart from [`Model::judge`], because a chain may have reasons of its own to leave a tier alone that
    /// is well, such as a budget that is spent.
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

    fn history(&mut self, key: &Key) -> &mut History {
        let tiers = self.tiers.len();
        self.keys.entry(key.clone()).or_insert_with(|| History {
            writes: HashMap::new(),
            buried: Vec::new(),
            floors: vec![None; tiers],
            missed: vec![None; tiers],
        })
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
        if !tier.spec.reads || !tier.up || silent.contains(&index) {
            return Err(Violation::NotAsked { tier: index });
        }
        let put = history.writes.get(&version).ok_or(Violation::NeverPut { version })?;
        if put != entry {
            return Err(Violation::Altered { version });
        }
        if entry.is_tombstone() {
            return Err(Violation::Removal { version });
        }
        if entry.is_from_future(self.now) {
            return Err(Violation::FromFuture { version });
        }
        let is = entry.freshness(self.now);
        if is != said {
            return Err(Violation::Mislabelled { version, said, is });
        }
        match history.missed[index] {
            Some(missed) if version < missed && !self.forgetful => {
                Err(Violation::Resurrected { version, missed, tier: index })
            }
            _ => Ok(()),
        }
    }

    /// Whether `version` is at least what the tiers in `asked` hold.
    fn judge_age(
        &self,
        history: &History,
        version: Version,
        asked: std::ops::RangeInclusive<usize>,
        silent: &[usize],
    ) -> Result<(), Violation> {
        let older = asked.into_iter().find_map(|tier| {
            let (holds, held) = self.believed(history, tier, silent)?;
            ((version, Held::Entry) < (holds, held)).then_some((tier, holds))
        });
        older.map_or(Ok(()), |(tier, holds)| Err(Violation::Outdated { version, holds, tier }))
    }

    /// Nothing may be found unless a tier holds something that must be.
    fn judge_miss(&self, history: &History, silent: &[usize]) -> Result<(), Violation> {
        let lost = (0..self.tiers.len()).find_map(|tier| {
            let (version, held) = self.believed(history, tier, silent)?;
            let hides = |(other, entry): (&Version, &Entry)| {
                *other > version && (entry.is_tombstone() || entry.freshness(self.now) == Freshness::Expired)
            };
            let entry = history.writes.get(&version)?;
            let found = held == Held::Entry
                && !entry.is_tombstone()
                && !entry.is_from_future(self.now)
                && history.missed[tier].is_none_or(|missed| missed <= version)
                && !history.writes.iter().any(hides)
                && !history.buried.iter().any(|buried| *buried > version);
            found.then_some((tier, version))
        });
        lost.map_or(Ok(()), |(tier, version)| Err(Violation::Lost { version, tier }))
    }

    /// The least that `tier` showed in a lookup that did not hear the silent ones, if it is known.
    fn believed(&self, history: &History, index: usize, silent: &[usize]) -> Option<Floor> {
        let tier = self.tiers.get(index)?;
        if !tier.spec.reads || !tier.spec.keeps || !tier.up || silent.contains(&index) {
            return None;
        }
        let (version, held) = history.floors[index]?;
        let entry = history.writes.get(&version)?;
        // What has expired may be dropped, and then hides nothing any more. A burial outlives every
        // value that it can bury.
        let kept = held == Held::Burial || entry.freshness(self.now) != Freshness::Expired;
        kept.then_some((version, held))
    }
}
