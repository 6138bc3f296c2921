//! What a read of a chain may answer, given all that happened to its tiers.
//!
//! A [`Model`] is told the history of a chain as plain data, and then says of every lookup whether
//! its answer was right, or lists all the [`Answer`]s that would be. It knows nothing about any
//! chain, so it can judge ours, yours, or one in another process.
//!
//! What it holds a chain to, whatever its tiers do:
//!
//! - A value is served only under the key that it was put under, unchanged, and only while it
//!   lives: never once expired, never before its time, never a removal as a value, and labelled
//!   fresh or stale as it is.
//! - A tier that said that it holds a version, and that is known to keep and show what it holds
//!   ([`TierSpec::keeps`]), is believed: what a lookup takes from it, or from a tier below it, is
//!   not older; a stale answer is not older than what any such tier holds.
//! - A tier that failed to take a version is from then on not believed for anything older, whatever
//!   it says later, so a tier that was away cannot bring back what was replaced or removed
//!   meanwhile.
//! - What such a tier holds, and nothing newer can have hidden, is found.
//! - A tier that is written behind ([`Queue`]) counts as holding what waits for it: the writer sees
//!   it before it looks into that tier or any below, whether the tier answers or not; and whatever
//!   becomes of a write that waits, such a tier never again shows what that write replaced.
//! - What was removed with one of its tags is not served again, and hides what is older.
//! - What a tier missed while it was down waits until it is up, and then arrives
//!   ([`Model::must_hold`]).
//!
//! ```
//! use std::time::Duration;
//! use peercache_api::{Entry, Key, NodeId, Timestamp, VersionClock};
//! use peercache_testkit::model::{Answer, Model, Taken, TierSpec};
//!
//! let now = Timestamp::from_millis(1_800_000_000_000);
//! let versions = VersionClock::new(NodeId::from_u64(1));
//! let key = Key::new("k")?;
//! let minute = Duration::from_secs(60);
//! let old = Entry::builder("old", versions.next(now), now).fresh_for(minute).build()?;
//! let new = Entry::builder("new", versions.next(now), now).fresh_for(minute).build()?;
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
mod history;
mod judge;
mod spec;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_behind;

use std::collections::HashMap;
use std::time::Duration;

use peercache_api::{Entry, Freshness, Key, Timestamp, Version};

pub use answer::{Answer, Violation};
use history::{Held, History};
pub use spec::{Queue, Taken, TierSpec};

#[derive(Debug)]
struct Tier {
    spec: TierSpec,
    up: bool,
    /// Whether it was down at any time, so that it may still be passed over when it is up again.
    was_down: bool,
}

/// The history of a chain, and what follows from it for its next lookup.
///
/// Its memory grows with the number of puts: it is for tests of bounded length.
#[derive(Debug)]
pub struct Model {
    tiers: Vec<Tier>,
    now: Timestamp,
    keys: HashMap<Key, History>,
    /// Up to where entries that carry a tag are removed.
    tags: HashMap<String, Version>,
    forgetful: bool,
}

impl Model {
    /// A chain of these tiers, from the one that is asked first to the last, all up and empty.
    pub fn new(tiers: impl IntoIterator<Item = TierSpec>, now: Timestamp) -> Self {
        let tiers = tiers.into_iter().map(|spec| Tier { spec, up: true, was_down: false }).collect();
        Self { tiers, now, keys: HashMap::new(), tags: HashMap::new(), forgetful: false }
    }

    /// Judges a chain that does not remember which writes a tier failed to take: it may believe
    /// that tier again, whatever it shows. All else holds.
    #[must_use]
    pub fn forgetful(self) -> Self {
        Self { forgetful: true, ..self }
    }

    /// Lets time pass.
    pub fn advance(&mut self, duration: Duration) {
        self.now = self.now.saturating_add(duration);
    }

    /// Takes note that tier `tier`, counted from 0, went down or came up. A tier that is down
    /// answers no read and takes no write that begins while it is.
    pub fn set_up(&mut self, tier: usize, up: bool) {
        if let Some(tier) = self.tiers.get_mut(tier) {
            tier.up = up;
            tier.was_down |= !up;
        }
        if up {
            for history in self.keys.values_mut() {
                history.arrives(tier);
            }
        }
    }

    /// Takes note that somebody began to put `entry`, a value or a tombstone. Until
    /// [`end_put`](Self::end_put), for ever if its caller goes away, any tier may hold it or not.
    pub fn begin_put(&mut self, key: &Key, entry: &Entry) {
        self.history(key).begin(entry);
    }

    /// Takes note of how each tier took the put that was begun with this version, in order; tiers
    /// that are left out were not asked. A tier that is down now was down when the put began.
    pub fn end_put(&mut self, key: &Key, version: Version, taken: &[Taken]) {
        let tiers: Vec<_> = self.tiers.iter().map(|tier| (tier.spec, tier.up)).collect();
        self.history(key).end(version, taken, &tiers);
    }

    /// Takes note of the end of a put by somebody else than the writer of the chain, straight to
    /// one tier: the one that holds it now, if one does.
    pub fn end_put_elsewhere(&mut self, key: &Key, version: Version, tier: Option<usize>) {
        self.history(key).end_elsewhere(version, tier);
    }

    /// Takes note that the writer of the chain removed every entry that carries `tag` and is not
    /// newer than `version`.
    pub fn invalidate_tag(&mut self, tag: &str, version: Version) {
        let removed = self.tags.entry(tag.to_owned()).or_insert(version);
        *removed = version.max(*removed);
    }

    /// What tier `tier`, which is up, must show at the least once nothing waits for it any more:
    /// what it holds, or a newer version. Nothing if nothing is known of it, or what is known has
    /// expired.
    #[must_use]
    pub fn must_hold(&self, key: &Key, tier: usize) -> Option<&Entry> {
        let history = self.keys.get(key)?;
        let spec = self.tiers.get(tier)?.spec;
        let (version, held) = history.floors.get(tier).copied().flatten()?;
        let entry = history.writes.get(&version)?;
        // What is newer may have come there by another way, and be gone by now.
        let is_gone =
            |entry: &Entry| entry.version() >= version && entry.freshness(self.now) == Freshness::Expired;
        (spec.keeps && held == Held::Entry && !history.writes.values().any(is_gone)).then_some(entry)
    }

    /// Every right answer to a lookup of `key` now. `silent` are the tiers that the lookup did not
    /// hear, because they failed or were passed over.
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

    fn history(&mut self, key: &Key) -> &mut History {
        let tiers = self.tiers.len();
        self.keys.entry(key.clone()).or_insert_with(|| History::new(tiers))
    }
}
