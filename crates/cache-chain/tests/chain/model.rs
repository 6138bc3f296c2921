//! Random chains, faults and operations: the counters always add up, and what is served is right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{Bytes, Capabilities, Clock, Entry, ErrorKind, Freshness, Key, NodeId, VersionClock};
use peercache_chain::{Chain, Lookup, Mode, Outcome, TierOptions};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::support::{Mood, Scripted, World, assert_adds_up, key};

const KEYS: usize = 3;

#[derive(Clone, Debug)]
struct TierPlan {
    shared: bool,
    durable: bool,
    ordered: bool,
    writable: bool,
    most: usize,
    mode: Mode,
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        key: usize,
        size: usize,
        fresh: u64,
        stale: u64,
    },
    Remove {
        key: usize,
    },
    Read {
        key: usize,
    },
    /// As the above, but the caller gives up after this many milliseconds.
    DroppedPut {
        key: usize,
        after: u64,
    },
    DroppedRead {
        key: usize,
        after: u64,
    },
    Mood {
        tier: usize,
        reads: Option<Mood>,
        writes: Option<Mood>,
    },
    Wait {
        seconds: u64,
    },
    Settle,
}

fn well_tier() -> impl Strategy<Value = TierPlan> {
    (any::<bool>(), any::<bool>(), prop_oneof![Just(40_usize), Just(400), Just(4000)]).prop_map(
        |(shared, durable, most)| TierPlan {
            shared,
            durable: durable || shared,
            ordered: true,
            writable: true,
            most,
            mode: Mode::ReadWrite,
        },
    )
}

fn any_tier() -> impl Strategy<Value = TierPlan> {
    let mode = prop_oneof![4 => Just(Mode::ReadWrite), 1 => Just(Mode::ReadOnly), 1 => Just(Mode::WriteOnly)];
    (well_tier(), any::<bool>(), prop::bool::weighted(0.8), mode)
        .prop_map(|(plan, ordered, writable, mode)| TierPlan { ordered, writable, mode, ..plan })
}

/// Slow, but within every deadline, even one that is shortened because the tier was quick before.
fn slow() -> impl Strategy<Value = Mood> {
    (1_u64..45).prop_map(|millis| Mood::Slow(Duration::from_millis(millis)))
}

fn any_mood() -> impl Strategy<Value = Mood> {
    let kinds = prop::sample::select(vec![
        ErrorKind::Unavailable,
        ErrorKind::RateLimited,
        ErrorKind::Corrupt,
        ErrorKind::TooLarge,
        ErrorKind::Denied,
    ]);
    prop_oneof![
        3 => Just(Mood::Well),
        3 => kinds.prop_map(Mood::Fail),
        1 => Just(Mood::Hang),
        1 => slow(),
        1 => Just(Mood::Slow(Duration::from_secs(3))),
    ]
}

fn step(mood: BoxedStrategy<Mood>) -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    let size = prop_oneof![Just(24_usize), Just(200), Just(2000)];
    prop_oneof![
        5 => (key.clone(), size, 0_u64..60, 0_u64..60)
            .prop_map(|(key, size, fresh, stale)| Step::Put { key, size, fresh, stale }),
        2 => key.clone().prop_map(|key| Step::Remove { key }),
        8 => key.clone().prop_map(|key| Step::Read { key }),
        1 => (key.clone(), 0_u64..60).prop_map(|(key, after)| Step::DroppedPut { key, after }),
        2 => (key, 0_u64..60).prop_map(|(key, after)| Step::DroppedRead { key, after }),
        3 => (0_usize..4, prop::option::of(mood.clone()), prop::option::of(mood))
            .prop_map(|(tier, reads, writes)| Step::Mood { tier, reads, writes }),
        2 => (1_u64..40).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Settle),
    ]
}

/// What may be under a key: nothing, or one of the writes whose end was not seen since the last
/// that was acknowledged.
type Allowed = Vec<Option<Entry>>;

struct Run {
    world: World,
    versions: VersionClock,
    tiers: Vec<Arc<Scripted>>,
    chain: Chain,
    made: u32,
    /// Every value ever given to the chain, by key.
    written: BTreeMap<usize, BTreeSet<Bytes>>,
    allowed: BTreeMap<usize, Allowed>,
}

impl Run {
    fn new(plans: &[TierPlan]) -> Self {
        let world = World::default();
        let tiers: Vec<_> = plans
            .iter()
            .map(|plan| {
                let capabilities = if plan.shared { Capabilities::shared() } else { Capabilities::local() };
                let mut capabilities = capabilities.with_max_value_bytes(plan.most);
                capabilities.ordered_writes = plan.ordered;
                capabilities.durable = plan.durable;
                capabilities.writable = plan.writable;
                world.tier("tier", capabilities)
            })
            .collect();
        let options = plans.iter().map(|plan| TierOptions { mode: plan.mode, ..TierOptions::default() });
        let chain = world.chain_with(tiers.iter().cloned().zip(options));
        let versions = VersionClock::new(NodeId::from_u64(1));
        Self { world, versions, tiers, chain, made: 0, written: BTreeMap::new(), allowed: BTreeMap::new() }
    }

    fn key(key: usize) -> Key {
        crate::support::key(&format!("key {key}"))
    }

    fn entry(&mut self, key: usize, size: usize, fresh: u64, stale: u64) -> Entry {
        self.made += 1;
        let value = Bytes::from(format!("{key}:{:0size$}", self.made));
        self.written.entry(key).or_default().insert(value.clone());
        let now = self.world.clock.now();
        Entry::builder(value, self.versions.next(now), now)
            .fresh_for(Duration::from_secs(fresh))
            .stale_for(Duration::from_secs(stale))
            .build()
            .unwrap()
    }

    /// Takes one step; `check` sees the answer of every read that was not dropped.
    async fn take(&mut self, step: &Step, check: impl Fn(&Self, usize, &Lookup)) {
        match *step {
            Step::Put { key, size, fresh, stale } => {
                let entry = self.entry(key, size, fresh, stale);
                let stored = self.chain.write(&Self::key(key), entry.clone()).await.is_stored();
                // A value that is too large for every tier replaces the older one by nothing.
                self.allowed.insert(key, vec![stored.then_some(entry)]);
            }
            Step::Remove { key } => {
                let now = self.world.clock.now();
                let tombstone = Entry::tombstone(self.versions.next(now), now);
                let _ = self.chain.write(&Self::key(key), tombstone).await;
                self.allowed.insert(key, vec![None]);
            }
            Step::Read { key } => {
                let lookup = self.chain.lookup(&Self::key(key)).await;
                check(self, key, &lookup);
            }
            Step::DroppedPut { key, after } => {
                let entry = self.entry(key, 24, 30, 30);
                let (name, after) = (Self::key(key), Duration::from_millis(after));
                let _ = tokio::time::timeout(after, self.chain.write(&name, entry.clone())).await;
                self.allowed.entry(key).or_insert_with(|| vec![None]).push(Some(entry));
            }
            Step::DroppedRead { key, after } => {
                let (name, after) = (Self::key(key), Duration::from_millis(after));
                if let Ok(lookup) = tokio::time::timeout(after, self.chain.lookup(&name)).await {
                    check(self, key, &lookup);
                }
            }
            Step::Mood { tier, reads, writes } => {
                if let Some(tier) = self.tiers.get(tier) {
                    reads.into_iter().for_each(|mood| tier.reads(mood));
                    writes.into_iter().for_each(|mood| tier.writes(mood));
                }
            }
            Step::Wait { seconds } => self.world.clock.advance(Duration::from_secs(seconds)),
            Step::Settle => self.chain.settle().await,
        }
    }

    /// Whatever fails: never another key's value, never one that was not written, never past its
    /// end.
    fn check_honest(&self, key: usize, lookup: &Lookup) {
        let Some(entry) = &lookup.entry else {
            assert_eq!(lookup.outcome, Outcome::Miss);
            return;
        };
        assert!(self.written[&key].contains(entry.value()), "a value that nobody wrote under this key");
        let freshness = entry.freshness(self.world.clock.now());
        let expected = match lookup.outcome {
            Outcome::Hit => Freshness::Fresh,
            Outcome::Stale => Freshness::Stale,
            Outcome::Miss => unreachable!("a miss has no entry"),
        };
        assert_eq!(freshness, expected);
    }

    /// With every tier well: exactly what was written last, or one of the writes that were dropped.
    fn check_newest(&self, key: usize, lookup: &Lookup) {
        self.check_honest(key, lookup);
        let nothing = vec![None];
        let now = self.world.clock.now();
        let allowed = self.allowed.get(&key).unwrap_or(&nothing);
        let expected = allowed.iter().map(|entry| {
            entry.as_ref().filter(|entry| entry.freshness(now) != Freshness::Expired).map(Entry::value)
        });
        let found = lookup.entry.as_ref().map(Entry::value);
        assert!(expected.clone().any(|expected| expected == found), "{found:?} is none of {allowed:?}");
    }
}

fn run(plans: &[TierPlan], steps: &[Step], check: impl Fn(&Run, usize, &Lookup)) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new(plans);
        for step in steps {
            run.take(step, &check).await;
            assert_adds_up(&run.chain.report());
        }
        run.chain.settle().await;
        assert_adds_up(&run.chain.report());
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        // Seeds that failed are kept beside this file, to be committed.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn with_every_tier_well_a_read_gives_the_last_write_or_nothing(
        plans in prop::collection::vec(well_tier(), 1..4),
        steps in prop::collection::vec(step(prop_oneof![Just(Mood::Well), slow()].boxed()), 1..60),
    ) {
        run(&plans, &steps, Run::check_newest);
    }

    #[test]
    fn whatever_fails_the_counters_add_up_and_nothing_wrong_is_served(
        plans in prop::collection::vec(any_tier(), 0..5),
        steps in prop::collection::vec(step(any_mood().boxed()), 1..60),
    ) {
        run(&plans, &steps, Run::check_honest);
    }
}

#[test]
fn the_model_notices_a_value_that_was_replaced() {
    let plan = TierPlan {
        shared: false,
        durable: false,
        ordered: true,
        writable: true,
        most: 4000,
        mode: Mode::ReadWrite,
    };
    let caught = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(&[plan]);
            let old = run.entry(0, 24, 50, 0);
            run.take(&Step::Put { key: 0, size: 24, fresh: 50, stale: 0 }, Run::check_newest).await;
            run.tiers[0].plant(&key("key 0"), old);
            run.take(&Step::Read { key: 0 }, Run::check_newest).await;
        });
    });
    assert!(caught.is_err());
}
