//! What was put before: the material of lies about versions and keys.

use std::collections::{HashMap, VecDeque};

use peercache_api::{Entry, Key, Version};

use super::dice::Dice;

/// The most puts that are remembered.
const MAX_PUTS: usize = 256;
/// The most bytes that they occupy together.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The most keys whose latest put is remembered as torn; further puts are not torn.
const MAX_TORN: usize = 1024;

/// The latest puts, bounded in number and bytes, and which of them were torn.
#[derive(Debug, Default)]
pub(super) struct Past {
    puts: VecDeque<(Key, Entry)>,
    bytes: usize,
    torn: HashMap<[u8; 32], Version>,
}

impl Past {
    pub(super) fn remember(&mut self, key: &Key, entry: &Entry) {
        self.bytes += entry.memory_bytes();
        self.puts.push_back((key.clone(), entry.clone()));
        while self.puts.len() > MAX_PUTS || self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.puts.pop_front() else { break };
            self.bytes -= oldest.memory_bytes();
        }
    }

    /// One of the entries of `key` older than `than`, or any of its entries.
    pub(super) fn older(&self, key: &Key, than: Option<Version>, dice: &mut Dice) -> Option<Entry> {
        let older = |entry: &Entry| than.is_none_or(|than| entry.version() < than);
        choose(self.puts.iter().filter(|(of, entry)| of == key && older(entry)), dice)
            .map(|(_, entry)| entry.clone())
    }

    /// The put to `key` before the one of `version`.
    pub(super) fn before(&self, key: &Key, version: Version) -> Option<Entry> {
        let before = self.puts.iter().rev().find(|(of, entry)| of == key && entry.version() != version);
        before.map(|(_, entry)| entry.clone())
    }

    /// One of the entries of another key than `key`.
    pub(super) fn elsewhere(&self, key: &Key, dice: &mut Dice) -> Option<(Key, Entry)> {
        choose(self.puts.iter().filter(|(of, _)| of != key), dice).cloned()
    }

    /// Marks what `version` wrote as torn, if there is room to remember that.
    pub(super) fn tear(&mut self, key: &Key, version: Version) {
        if self.torn.len() < MAX_TORN || self.torn.contains_key(key.digest()) {
            self.torn.insert(*key.digest(), version);
        }
    }

    pub(super) fn is_torn(&self, key: &Key, version: Version) -> bool {
        self.torn.get(key.digest()) == Some(&version)
    }
}

fn choose<'a, T: 'a>(of: impl Iterator<Item = &'a T> + Clone, dice: &mut Dice) -> Option<&'a T> {
    let nth = dice.below(of.clone().count());
    of.into_iter().nth(nth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::{NodeId, Operation, Timestamp, VersionClock};

    #[test]
    fn memory_is_bounded_in_number_and_bytes() {
        let versions = VersionClock::new(NodeId::from_u64(1));
        let now = Timestamp::from_millis(1_800_000_000_000);
        let entry = |bytes: usize| Entry::builder(vec![0; bytes], versions.next(now), now).build().unwrap();
        let key = Key::new("k").unwrap();
        let mut past = Past::default();
        (0..MAX_PUTS + 5).for_each(|_| past.remember(&key, &entry(1)));
        assert_eq!(past.puts.len(), MAX_PUTS);
        (0..10).for_each(|_| past.remember(&key, &entry(MAX_BYTES / 4)));
        assert!(past.bytes <= MAX_BYTES && past.puts.len() == 3, "{} bytes", past.bytes);
        (0..MAX_TORN + 5).for_each(|n| {
            let (key, version) = (Key::new(n.to_string()).unwrap(), versions.next(now));
            past.tear(&key, version);
            assert_eq!(past.is_torn(&key, version), n < MAX_TORN);
        });
    }

    #[test]
    fn only_older_versions_and_other_keys_are_offered() {
        let versions = VersionClock::new(NodeId::from_u64(1));
        let now = Timestamp::from_millis(1_800_000_000_000);
        let entry = || Entry::builder("v", versions.next(now), now).build().unwrap();
        let (here, there) = (Key::new("here").unwrap(), Key::new("there").unwrap());
        let (first, second) = (entry(), entry());
        let mut past = Past::default();
        let mut dice = Dice::new(1, Operation::Get, None, 0);
        past.remember(&here, &first);
        assert_eq!(past.older(&here, Some(first.version()), &mut dice), None);
        assert_eq!(past.elsewhere(&here, &mut dice), None);
        past.remember(&here, &second);
        assert_eq!(past.older(&here, Some(second.version()), &mut dice), Some(first.clone()));
        assert_eq!(past.before(&here, second.version()), Some(first.clone()));
        assert_eq!(past.elsewhere(&there, &mut dice).map(|(key, _)| key), Some(here));
    }
}
