//! The model of tiers that are written behind.

use peercache_api::{NodeId, VersionClock};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

struct Bench {
    versions: VersionClock,
    model: Model,
    key: Key,
}

use Taken::{Buried, Delayed, Failed, NotAsked, Queued, Stored};

impl Bench {
    fn new(tiers: &[TierSpec]) -> Self {
        let versions = VersionClock::new(NodeId::from_u64(1));
        Self { versions, model: Model::new(tiers.iter().copied(), NOW), key: Key::new("k").unwrap() }
    }

    fn put(&mut self, fresh: u64, taken: &[Taken]) -> Entry {
        let entry = self.begin(fresh);
        self.model.end_put(&self.key, entry.version(), taken);
        entry
    }

    fn begin(&mut self, fresh: u64) -> Entry {
        let version = self.versions.next(self.model.now);
        let fresh = Duration::from_secs(fresh);
        let entry = Entry::builder(format!("{version:?}"), version, self.model.now).fresh_for(fresh);
        let entry = entry.build().unwrap();
        self.model.begin_put(&self.key, &entry);
        entry
    }

    fn remove(&mut self, taken: &[Taken]) -> Entry {
        let entry = Entry::tombstone(self.versions.next(self.model.now), self.model.now);
        self.model.begin_put(&self.key, &entry);
        self.model.end_put(&self.key, entry.version(), taken);
        entry
    }

    fn hit(&self, tier: usize, entry: &Entry, silent: &[usize]) -> Result<(), Violation> {
        self.model.judge(&self.key, &Answer::Hit { tier, entry: entry.clone() }, silent)
    }

    fn miss(&self, silent: &[usize]) -> Result<(), Violation> {
        self.model.judge(&self.key, &Answer::Miss, silent)
    }
}

const ROOMY: TierSpec = TierSpec::keeper().behind(Queue::Roomy);
const BOUNDED: TierSpec = TierSpec::keeper().behind(Queue::Bounded);
const HOSTILE: TierSpec = TierSpec::doubtful().behind(Queue::Roomy);

#[test]
fn what_waits_is_served_also_while_the_tier_is_away() {
    let mut bench = Bench::new(&[ROOMY, ROOMY]);
    let old = bench.put(60, &[Stored, Stored]);
    bench.model.set_up(0, false);
    bench.model.set_up(1, false);
    let new = bench.put(60, &[Delayed, Queued]);
    let (version, holds) = (old.version(), new.version());
    assert_eq!(bench.hit(0, &new, &[0, 1]), Ok(()));
    assert_eq!(bench.miss(&[0, 1]), Err(Violation::Lost { version: holds, tier: 0 }));
    // A copy that was promoted may wait there too, but not one of what the tier has missed since.
    assert_eq!(bench.hit(1, &old, &[0]), Err(Violation::Resurrected { version, missed: holds, tier: 1 }));
    // Once one of them is up, it may have arrived there, or be under way.
    bench.model.set_up(1, true);
    assert_eq!(bench.miss(&[0, 1]), Err(Violation::Lost { version: holds, tier: 0 }));
    assert_eq!(bench.hit(1, &old, &[0]), Err(Violation::Resurrected { version, missed: holds, tier: 1 }));
    bench.model.set_up(0, true);
    assert_eq!((bench.miss(&[0, 1]), bench.hit(0, &new, &[0, 1])), (Ok(()), Ok(())));
    assert_eq!(bench.miss(&[0]), Err(Violation::Lost { version: holds, tier: 1 }));
    assert_eq!(bench.model.must_hold(&bench.key, 0), Some(&new));
}

#[test]
fn only_the_newest_write_can_wait() {
    let mut bench = Bench::new(&[HOSTILE]);
    let old = bench.put(60, &[Queued]);
    let new = bench.put(60, &[Queued]);
    assert_eq!(bench.hit(0, &old, &[0]), Err(Violation::NotAsked { tier: 0 }));
    assert_eq!(bench.hit(0, &old, &[]), Ok(()), "it was delivered and the newer one lost");
    assert_eq!(bench.hit(0, &new, &[0]), Ok(()));
    let open = bench.begin(60);
    assert_eq!((bench.hit(0, &new, &[0]), bench.hit(0, &open, &[0])), (Ok(()), Ok(())));
    let large = bench.put(60, &[Buried]);
    assert_eq!(bench.hit(0, &large, &[0]), Err(Violation::NotAsked { tier: 0 }), "a removal waits for it");
}

#[test]
fn what_waits_for_a_tier_below_hides_what_is_older_above_it_but_not_in_tiers_that_are_written_at_once() {
    let mut bench = Bench::new(&[TierSpec::doubtful(), HOSTILE, ROOMY]);
    let old = bench.put(60, &[Stored, Stored, Stored]);
    bench.model.set_up(2, false);
    let removal = bench.remove(&[Stored, NotAsked, Queued]);
    let (version, holds) = (old.version(), removal.version());
    assert_eq!(bench.hit(0, &old, &[2]), Ok(()), "it lies, and the queues are behind it");
    assert_eq!(bench.hit(1, &old, &[2]), Err(Violation::Outdated { version, holds, tier: 2 }));
    assert_eq!(bench.miss(&[2]), Ok(()));
}

#[test]
fn whatever_becomes_of_a_write_a_tier_never_shows_what_it_replaced() {
    let mut bench = Bench::new(&[BOUNDED, BOUNDED]);
    let old = bench.put(60, &[Stored, Stored]);
    let newer = bench.put(10, &[Queued, Failed]);
    let (version, missed) = (old.version(), newer.version());
    for tier in 0..2 {
        assert_eq!(bench.hit(tier, &old, &[]), Err(Violation::Resurrected { version, missed, tier }));
    }
    assert_eq!(bench.model.must_hold(&bench.key, 0), Some(&old), "the newer one may have been given up");
    assert_eq!((bench.miss(&[]), bench.hit(0, &newer, &[])), (Ok(()), Ok(())));
    bench.model.advance(Duration::from_secs(10));
    assert_eq!(bench.hit(0, &old, &[]), Ok(()), "it may have been carried up from below meanwhile");
    assert_eq!(bench.hit(1, &old, &[]), Err(Violation::Resurrected { version, missed, tier: 1 }));
}

#[test]
fn what_waits_for_a_tier_that_is_not_read_is_served_where_one_is() {
    let mut bench = Bench::new(&[ROOMY.write_only(), ROOMY]);
    bench.model.set_up(0, false);
    let entry = bench.put(60, &[Queued, NotAsked]);
    assert_eq!(bench.hit(0, &entry, &[]), Err(Violation::NotAsked { tier: 0 }));
    assert_eq!(bench.hit(1, &entry, &[]), Ok(()));
    assert_eq!(bench.miss(&[]), Err(Violation::Lost { version: entry.version(), tier: 0 }));
    let mut bench = Bench::new(&[ROOMY.write_only()]);
    bench.model.set_up(0, false);
    bench.put(60, &[Queued]);
    assert_eq!(bench.miss(&[]), Ok(()), "there is none");
}

#[test]
fn what_another_process_wrote_is_found_only_where_it_is_asked_for() {
    let mut bench = Bench::new(&[ROOMY]);
    bench.model.set_up(0, false);
    let waits = bench.put(60, &[Queued]);
    let foreign = bench.begin(60);
    bench.model.end_put_elsewhere(&bench.key, foreign.version(), Some(0));
    bench.model.set_up(0, true);
    assert_eq!((bench.hit(0, &waits, &[]), bench.hit(0, &foreign, &[])), (Ok(()), Ok(())));
    assert_eq!(bench.miss(&[]), Err(Violation::Lost { version: foreign.version(), tier: 0 }));
    assert_eq!(bench.model.must_hold(&bench.key, 0), Some(&foreign));
}
