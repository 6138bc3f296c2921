//! How resources change: on demand, by writes, and by seeded random processes. Every change keeps
//! its time.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::log::lock;
use crate::random::Random;
use crate::target::resource_key;

/// How many resources can have changed; one more is refused.
pub const MAX_TOUCHED: usize = 65_536;

/// Changes of one resource that are remembered by their time; older ones are only counted.
const MAX_REMEMBERED: usize = 4096;

/// A resource as it is after its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) revision: u64,
    /// When it last changed, in milliseconds since the Unix epoch.
    pub(crate) at: u64,
}

struct History {
    /// The times of the changes, ascending.
    times: Vec<u64>,
    /// Changes before the first of `times`.
    before: u64,
    process: Option<Process>,
}

struct Process {
    random: Random,
    mean_millis: u64,
    next: u64,
}

impl History {
    /// Lets the process run up to `now`.
    fn advance(&mut self, now: u64) {
        while let Some(process) = &mut self.process
            && process.next <= now
        {
            let at = process.next;
            process.next = at + process.random.interval(process.mean_millis);
            self.push(at);
        }
    }

    fn push(&mut self, at: u64) {
        if self.times.len() >= MAX_REMEMBERED {
            self.times.remove(0);
            self.before += 1;
        }
        let place = self.times.partition_point(|time| *time <= at);
        self.times.insert(place, at);
    }
}

/// All changes. A change of a path without its query changes the resource with every query.
#[derive(Default)]
pub(crate) struct Changes {
    histories: Mutex<HashMap<String, History>>,
}

impl Changes {
    /// Changes a resource now. Returns how often it has been changed.
    pub(crate) fn touch(&self, host: &str, target: &str, now: u64) -> Result<u64, String> {
        let mut histories = lock(&self.histories);
        let history = entry(&mut histories, resource_key(host, target))?;
        history.advance(now);
        history.push(now);
        Ok(history.before + history.times.len() as u64)
    }

    /// Changes a resource from `start` on at random: a Poisson process that `seed` decides.
    /// Resources with the same seed change at the same moments.
    pub(crate) fn run(
        &self,
        host: &str,
        target: &str,
        seed: u64,
        mean_millis: u64,
        start: u64,
    ) -> Result<(), String> {
        let mut histories = lock(&self.histories);
        let history = entry(&mut histories, resource_key(host, target))?;
        let mut random = Random::of(seed, "change");
        let next = start + random.interval(mean_millis);
        history.process = Some(Process { random, mean_millis, next });
        Ok(())
    }

    /// What has happened to a resource by `now`.
    pub(crate) fn touched(&self, host: &str, target: &str, now: u64) -> Option<Touch> {
        let times = self.times(host, target, now);
        let at = times.last().copied()?;
        Some(Touch { revision: times.len() as u64, at })
    }

    /// The times of all changes of a resource by `now`, ascending. What is no longer remembered
    /// counts as 0.
    pub(crate) fn times(&self, host: &str, target: &str, now: u64) -> Vec<u64> {
        let mut histories = lock(&self.histories);
        if histories.is_empty() {
            return Vec::new();
        }
        let path = target.split('?').next().unwrap_or(target);
        let mut keys = vec![resource_key(host, path)];
        if path.len() < target.len() {
            keys.push(resource_key(host, target));
        }
        let mut times = Vec::new();
        for key in keys {
            let Some(history) = histories.get_mut(&key) else { continue };
            history.advance(now);
            times.extend(std::iter::repeat_n(0, usize::try_from(history.before).unwrap_or_default()));
            times.extend(history.times.iter().copied().filter(|time| *time <= now));
        }
        times.sort_unstable();
        times
    }
}

fn entry(histories: &mut HashMap<String, History>, key: String) -> Result<&mut History, String> {
    if histories.len() >= MAX_TOUCHED && !histories.contains_key(&key) {
        return Err(format!(
            "{MAX_TOUCHED} resources have been touched, the most that is remembered; restart fakehub"
        ));
    }
    Ok(histories.entry(key).or_insert(History { times: Vec::new(), before: 0, process: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_changes_a_resource_as_its_seed_decides() {
        let changes = Changes::default();
        changes.run("h", "/a", 7, 1000, 0).unwrap();
        changes.run("h", "/b?x=1", 7, 1000, 0).unwrap();
        let times = changes.times("h", "/a", 60_000);
        assert!((40..80).contains(&times.len()), "{times:?}");
        assert_eq!(times, changes.times("h", "/b?x=1", 60_000));
        assert_eq!(changes.times("h", "/a", times[3]).len(), 4);
    }

    #[test]
    fn a_change_of_a_path_changes_every_query_of_it() {
        let changes = Changes::default();
        changes.touch("h", "/a", 5).unwrap();
        changes.touch("h", "/a?p=1", 9).unwrap();
        assert_eq!(changes.touched("h", "/a?p=1", 10), Some(Touch { revision: 2, at: 9 }));
        assert_eq!(changes.touched("h", "/a?p=2", 10), Some(Touch { revision: 1, at: 5 }));
        assert_eq!(changes.touched("h", "/c", 10), None);
    }
}
