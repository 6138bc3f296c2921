//! The model itself: it accepts what is right and names what is wrong.

use peercache_api::{MAX_CLOCK_SKEW, NodeId, VersionClock};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

struct Bench {
    versions: VersionClock,
    model: Model,
    key: Key,
}

impl Bench {
    fn new(tiers: &[TierSpec]) -> Self {
        let versions = VersionClock::new(NodeId::from_u64(1));
        Self { versions, model: Model::new(tiers.iter().copied(), NOW), key: Key::new("k").unwrap() }
    }

    fn entry(&self, fresh: u64, stale: u64) -> Entry {
        let version = self.versions.next(self.model.now);
        Entry::builder(format!("{version:?}"), version, self.model.now)
            .fresh_for(Duration::from_secs(fresh))
            .stale_for(Duration::from_secs(stale))
            .build()
            .unwrap()
    }

    fn put(&mut self, fresh: u64, taken: &[Taken]) -> Entry {
        let entry = self.entry(fresh, 0);
        self.put_this(&entry, taken);
        entry
    }

    fn remove(&mut self, taken: &[Taken]) -> Entry {
        let entry = Entry::tombstone(self.versions.next(self.model.now), self.model.now);
        self.put_this(&entry, taken);
        entry
    }

    fn put_this(&mut self, entry: &Entry, taken: &[Taken]) {
        self.model.begin_put(&self.key, entry);
        self.model.end_put(&self.key, entry.version(), taken);
    }

    fn hit(&self, tier: usize, entry: &Entry) -> Result<(), Violation> {
        self.model.judge(&self.key, &Answer::Hit { tier, entry: entry.clone() }, &[])
    }

    fn stale(&self, tier: usize, entry: &Entry) -> Result<(), Violation> {
        self.model.judge(&self.key, &Answer::Stale { tier, entry: entry.clone() }, &[])
    }

    fn miss(&self) -> Result<(), Violation> {
        self.model.judge(&self.key, &Answer::Miss, &[])
    }

    fn wait(&mut self, seconds: u64) {
        self.model.advance(Duration::from_secs(seconds));
    }
}

use Taken::{Buried, Failed, NotAsked, Partly, Stored};

#[test]
fn what_was_not_put_or_was_changed_is_refused() {
    let mut bench = Bench::new(&[TierSpec::doubtful()]);
    let unknown = bench.entry(60, 0);
    assert_eq!(bench.hit(0, &unknown), Err(Violation::NeverPut { version: unknown.version() }));
    assert_eq!(bench.miss(), Ok(()));
    let put = bench.put(60, &[Stored]);
    assert_eq!(bench.hit(0, &put), Ok(()));
    assert_eq!(bench.hit(0, &unknown), Err(Violation::NeverPut { version: unknown.version() }));
    let version = put.version();
    let altered = Entry::builder("x", version, NOW).fresh_for(Duration::from_secs(60)).build().unwrap();
    assert_eq!(bench.hit(0, &altered), Err(Violation::Altered { version }));
    assert_eq!(bench.hit(1, &put), Err(Violation::NoSuchTier { tier: 1 }));
}

#[test]
fn a_value_is_served_for_what_it_is_and_while_it_lives() {
    let mut bench = Bench::new(&[TierSpec::doubtful()]);
    let entry = bench.entry(10, 10);
    bench.put_this(&entry, &[Stored]);
    let version = entry.version();
    let mislabelled = |said, is| Err(Violation::Mislabelled { version, said, is });
    assert_eq!(bench.stale(0, &entry), mislabelled(Freshness::Stale, Freshness::Fresh));
    bench.wait(10);
    assert_eq!(bench.stale(0, &entry), Ok(()));
    assert_eq!(bench.hit(0, &entry), mislabelled(Freshness::Fresh, Freshness::Stale));
    bench.wait(10);
    assert_eq!(bench.stale(0, &entry), mislabelled(Freshness::Stale, Freshness::Expired));

    let removal = bench.remove(&[Stored]);
    assert_eq!(bench.hit(0, &removal), Err(Violation::Removal { version: removal.version() }));

    let ahead = NOW.saturating_add(MAX_CLOCK_SKEW + Duration::from_secs(100));
    let version = Version { wall: ahead, ..Version::ZERO };
    let future = Entry::builder("", version, ahead).fresh_for(MAX_CLOCK_SKEW).build().unwrap();
    bench.put_this(&future, &[Stored]);
    assert_eq!(bench.hit(0, &future), Err(Violation::FromFuture { version }));
}

#[test]
fn a_keeper_is_believed_up_to_where_the_answer_came_from() {
    let mut bench = Bench::new(&[TierSpec::doubtful(), TierSpec::keeper(), TierSpec::doubtful()]);
    let old = bench.put(60, &[Stored; 3]);
    let new = bench.put(60, &[Failed, Stored, Stored]);
    let (version, holds) = (old.version(), new.version());
    assert_eq!(bench.hit(0, &old), Err(Violation::Resurrected { version, missed: holds, tier: 0 }));
    assert_eq!(bench.hit(1, &old), Err(Violation::Outdated { version, holds, tier: 1 }));
    assert_eq!(bench.hit(2, &old), Err(Violation::Outdated { version, holds, tier: 1 }));
    assert_eq!((bench.hit(1, &new), bench.hit(2, &new)), (Ok(()), Ok(())));
    assert_eq!(bench.miss(), Err(Violation::Lost { version: holds, tier: 1 }));

    // A doubtful tier that says that it stored may well hold the older one: it is asked first.
    let newer = bench.put(60, &[Stored, Stored, Stored]);
    assert_eq!(bench.hit(0, &new), Ok(()));
    assert_eq!(bench.hit(1, &newer), Ok(()));
}

#[test]
fn a_tier_that_missed_a_removal_cannot_undo_it() {
    let mut bench = Bench::new(&[TierSpec::keeper(), TierSpec::keeper()]);
    let entry = bench.put(60, &[Stored, Stored]);
    bench.model.set_up(0, false);
    let removal = bench.remove(&[Failed, Stored]);
    bench.model.set_up(0, true);
    let (version, missed) = (entry.version(), removal.version());
    assert_eq!(bench.hit(0, &entry), Err(Violation::Resurrected { version, missed, tier: 0 }));
    assert_eq!(bench.hit(1, &entry), Err(Violation::Outdated { version, holds: missed, tier: 1 }));
    assert_eq!(bench.miss(), Ok(()));
    // What it takes afterwards is another matter.
    let again = bench.put(60, &[Stored, Failed]);
    assert_eq!(bench.hit(0, &again), Ok(()));
    assert_eq!(bench.hit(0, &entry), Err(Violation::Resurrected { version, missed, tier: 0 }));
}

#[test]
fn a_forgetful_chain_may_believe_it_again_unless_another_tier_knows_better() {
    let mut bench = Bench::new(&[TierSpec::doubtful(), TierSpec::keeper(), TierSpec::doubtful()]);
    bench.model =
        Model::new([TierSpec::doubtful(), TierSpec::keeper(), TierSpec::doubtful()], NOW).forgetful();
    let old = bench.put(60, &[Stored; 3]);
    let new = bench.put(60, &[Failed, Stored, Failed]);
    assert_eq!(bench.hit(0, &old), Ok(()));
    let outdated = Violation::Outdated { version: old.version(), holds: new.version(), tier: 1 };
    assert_eq!(bench.hit(2, &old), Err(outdated));
}

#[test]
fn a_stale_answer_means_that_every_tier_was_asked() {
    let mut bench = Bench::new(&[TierSpec::doubtful(), TierSpec::keeper()]);
    let stale = bench.entry(1, 1000);
    bench.put_this(&stale, &[Stored, NotAsked]);
    let newer = bench.put(60, &[NotAsked, Stored]);
    bench.wait(1);
    let (version, holds) = (stale.version(), newer.version());
    assert_eq!(bench.stale(0, &stale), Err(Violation::Outdated { version, holds, tier: 1 }));
    bench.wait(60);
    assert_eq!(bench.stale(0, &stale), Ok(()), "what has expired hides nothing any more");
}

#[test]
fn a_miss_is_right_only_when_nothing_must_be_found() {
    let mut bench = Bench::new(&[TierSpec::doubtful(), TierSpec::keeper()]);
    let entry = bench.put(60, &[Stored, Stored]);
    let lost = Err(Violation::Lost { version: entry.version(), tier: 1 });
    assert_eq!(bench.miss(), lost);
    // Somebody began to remove it: from now on, both answers are right.
    let removal = Entry::tombstone(bench.versions.next(NOW), NOW);
    bench.model.begin_put(&bench.key, &removal);
    assert_eq!((bench.miss(), bench.hit(1, &entry)), (Ok(()), Ok(())));

    let mut bench = Bench::new(&[TierSpec::doubtful(), TierSpec::keeper().write_only()]);
    bench.put(60, &[Stored, Stored]);
    assert_eq!(bench.miss(), Ok(()), "nobody reads the tier that keeps it");
}

#[test]
fn a_burial_hides_what_is_older_and_nothing_else() {
    let mut bench = Bench::new(&[TierSpec::keeper(), TierSpec::keeper()]);
    let old = bench.put(60, &[Stored, Stored]);
    let large = bench.put(60, &[Buried, Stored]);
    let (version, holds) = (old.version(), large.version());
    assert_eq!(bench.hit(0, &old), Err(Violation::Outdated { version, holds, tier: 0 }));
    assert_eq!(bench.hit(1, &large), Ok(()));
    assert_eq!(bench.miss(), Err(Violation::Lost { version: holds, tier: 1 }));
    let larger = bench.put(60, &[Buried, Buried]);
    assert_eq!(bench.miss(), Ok(()));
    assert_eq!(
        bench.hit(1, &large),
        Err(Violation::Outdated { version: holds, holds: larger.version(), tier: 0 })
    );
}

#[test]
fn a_tier_of_many_parts_that_failed_may_have_buried_what_is_older() {
    let mut bench = Bench::new(&[TierSpec::doubtful(), TierSpec::keeper()]);
    let old = bench.put(60, &[Stored, Stored]);
    bench.put(60, &[Failed, NotAsked]);
    assert_eq!(bench.miss(), Err(Violation::Lost { version: old.version(), tier: 1 }));
    bench.put(60, &[Partly, NotAsked]);
    assert_eq!((bench.miss(), bench.hit(1, &old)), (Ok(()), Ok(())));
}

#[test]
fn what_was_removed_with_its_tag_is_not_served_and_hides_what_is_older() {
    let mut bench = Bench::new(&[TierSpec::keeper(), TierSpec::keeper()]);
    let old = bench.put(60, &[NotAsked, Stored]);
    let version = bench.versions.next(NOW);
    let tagged = Entry::builder("v", version, NOW).fresh_for(Duration::from_secs(60)).tag("a").tag("b");
    let tagged = tagged.build().unwrap();
    bench.put_this(&tagged, &[Stored, Failed]);
    bench.model.invalidate_tag("other", bench.versions.next(NOW));
    bench.model.invalidate_tag("b", old.version());
    assert_eq!(bench.hit(0, &tagged), Ok(()));
    let removal = bench.versions.next(NOW);
    bench.model.invalidate_tag("b", removal);
    assert_eq!(bench.hit(0, &tagged), Err(Violation::Invalidated { version, removal }));
    assert_eq!(
        bench.hit(1, &old).unwrap_err(),
        Violation::Resurrected { version: old.version(), missed: version, tier: 1 }
    );
    assert_eq!(bench.miss(), Ok(()));
}

#[test]
fn only_a_tier_that_was_ever_down_may_be_passed_over() {
    let mut bench = Bench::new(&[TierSpec::keeper(), TierSpec::doubtful()]);
    let entry = bench.put(60, &[Stored, Stored]);
    let judge = |bench: &Bench, silent: &[usize]| bench.model.judge(&bench.key, &Answer::Miss, silent);
    assert_eq!(bench.model.judge_silence(0), Err(Violation::PassedOver { tier: 0 }));
    assert_eq!(bench.model.judge_silence(1), Ok(()));
    assert_eq!(bench.model.judge_silence(7), Err(Violation::NoSuchTier { tier: 7 }));
    bench.model.set_up(0, false);
    assert_eq!((bench.model.judge_silence(0), judge(&bench, &[0, 1])), (Ok(()), Ok(())));
    assert_eq!(bench.hit(0, &entry), Err(Violation::NotAsked { tier: 0 }));
    bench.model.set_up(0, true);
    assert_eq!(bench.model.judge_silence(0), Ok(()), "its breaker may still be open");
    assert_eq!(judge(&bench, &[1]), Err(Violation::Lost { version: entry.version(), tier: 0 }));
}

#[test]
fn the_acceptable_answers_are_those_that_are_judged_right() {
    let mut bench = Bench::new(&[TierSpec::doubtful(), TierSpec::keeper()]);
    assert_eq!(bench.model.acceptable(&bench.key, &[]), [Answer::Miss]);
    let old = bench.put(60, &[Stored, Stored]);
    let new = bench.put(60, &[Stored, Stored]);
    let hit = |tier, entry: &Entry| Answer::Hit { tier, entry: entry.clone() };
    assert_eq!(bench.model.acceptable(&bench.key, &[]), [hit(0, &old), hit(0, &new), hit(1, &new)]);
    assert_eq!(bench.model.acceptable(&bench.key, &[0]), [hit(1, &new)]);
}

#[test]
fn violations_say_what_is_wrong_in_one_line() {
    let version = Version { wall: NOW, counter: 1, node: NodeId::from_u64(2) };
    let shown = Violation::Lost { version, tier: 3 }.to_string();
    assert_eq!(shown, "nothing was found although tier 3 holds 1800000000.000+1@0000000000000002");
}
