//! Random chains of random stores on bad days, and random histories: no panic, no wrong answer, no
//! count that does not add up. All in paused time.
//!
//! `PEERCACHE_CHAOS_SEEDS=100000` tries more seeds, `PEERCACHE_CHAOS_SEED=42` one alone, and
//! `PEERCACHE_CHAOS_S3_SEEDS=1000` or `PEERCACHE_CHAOS_STORACHA_SEEDS=100` more of those that write
//! to a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed unwrap is a failed test")]

#[path = "chaos/coverage.rs"]
mod coverage;
#[cfg(feature = "storacha")]
#[path = "chaos/outside.rs"]
mod outside;
#[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
#[path = "chaos/real_server.rs"]
mod real_server;
#[path = "chaos/rng.rs"]
mod rng;
#[path = "chaos/run.rs"]
mod run;
#[path = "chaos/scenario.rs"]
mod scenario;
#[cfg(feature = "storacha")]
#[path = "chaos/space.rs"]
mod space;
#[path = "chaos/step.rs"]
mod step;
#[path = "chaos/tally.rs"]
mod tally;
#[path = "chaos/world.rs"]
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use coverage::Coverage;
use run::{PANICS, run};
use scenario::{Scenario, World};

/// How many seeds are tried of each world unless `PEERCACHE_CHAOS_SEEDS` says otherwise.
const SEEDS: u64 = 10_000;
/// The same of those with a real server, of which each takes half a second:
/// `PEERCACHE_CHAOS_S3_SEEDS`. Seed 132 is the first that notices a bucket which lets an older
/// write replace a newer one.
#[cfg(feature = "s3")]
const S3_SEEDS: u64 = 150;
/// The same over Redis, with `PEERCACHE_CHAOS_REDIS_SEEDS`: a call takes less than a millisecond.
#[cfg(feature = "redis")]
const REDIS_SEEDS: u64 = 300;
/// The same over an IPFS node, with `PEERCACHE_CHAOS_IPFS_SEEDS`: each takes about a second.
#[cfg(feature = "ipfs")]
const KUBO_SEEDS: u64 = 50;
/// The same over the real upload service, with `PEERCACHE_CHAOS_STORACHA_SEEDS`: each takes some
/// seconds.
#[cfg(feature = "storacha")]
const SPACE_SEEDS: u64 = 4;
/// From so many seeds on, everything that can happen must have happened.
const ENOUGH_SEEDS: u64 = 1_000;
/// How many failures are worth reading.
const MOST_FAILURES: usize = 3;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`, and should be a whole number")))
}

/// What is wrong with this seed, how to see it again, and the shortest way there.
fn explain(seed: u64, world: World, wrong: &str) -> String {
    let short = Scenario::of(seed, world).cut_down(|scenario| run(scenario).is_err());
    let why = run(&short).err().unwrap_or_default();
    let test = match world {
        World::Local => "local_tiers",
        World::Shared => "shared_tiers",
        #[cfg(feature = "ipfs")]
        World::Server(real_server::Server::Kubo) => "kubo",
        #[cfg(feature = "redis")]
        World::Server(real_server::Server::Redis) => "on_redis",
        #[cfg(feature = "s3")]
        World::Server(real_server::Server::SeaweedFs) => "seaweedfs",
        #[cfg(feature = "storacha")]
        World::Space => "upload_service",
    };
    format!(
        "seed {seed}: {wrong}\n  reproduce: PEERCACHE_CHAOS_SEED={seed} cargo test -p peercache --test chaos {test}\n  \
         shortest: {short:?}\n  which ends in {why}"
    )
}

#[test]
fn local_tiers_never_give_a_wrong_answer_or_a_wrong_count() {
    try_seeds(World::Local);
}

#[test]
fn shared_tiers_never_give_a_wrong_answer_or_a_wrong_count() {
    try_seeds(World::Shared);
}

#[cfg(feature = "s3")]
#[test]
fn buckets_on_seaweedfs_never_give_a_wrong_answer_or_a_wrong_count() {
    try_seeds_on(real_server::Server::SeaweedFs);
}

#[cfg(feature = "redis")]
#[test]
fn tiers_on_redis_never_give_a_wrong_answer_or_a_wrong_count() {
    try_seeds_on(real_server::Server::Redis);
}

#[cfg(feature = "ipfs")]
#[test]
fn tiers_on_kubo_never_give_a_wrong_answer_or_a_wrong_count() {
    try_seeds_on(real_server::Server::Kubo);
}

#[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
fn try_seeds_on(server: real_server::Server) {
    let Some(store) = real_server::Store::start(server) else { return };
    try_seeds(World::Server(server));
    store.check();
}

#[cfg(feature = "storacha")]
#[test]
fn spaces_of_an_upload_service_never_give_a_wrong_answer_or_a_wrong_count() {
    let Some(service) = space::Service::start() else { return };
    try_seeds(World::Space);
    service.check();
}

/// How many seeds are tried of this world.
fn seeds(world: World) -> u64 {
    match world {
        World::Local | World::Shared => number_from("PEERCACHE_CHAOS_SEEDS").unwrap_or(SEEDS),
        #[cfg(feature = "ipfs")]
        World::Server(real_server::Server::Kubo) => {
            number_from("PEERCACHE_CHAOS_IPFS_SEEDS").unwrap_or(KUBO_SEEDS)
        }
        #[cfg(feature = "redis")]
        World::Server(real_server::Server::Redis) => {
            number_from("PEERCACHE_CHAOS_REDIS_SEEDS").unwrap_or(REDIS_SEEDS)
        }
        #[cfg(feature = "s3")]
        World::Server(real_server::Server::SeaweedFs) => {
            number_from("PEERCACHE_CHAOS_S3_SEEDS").unwrap_or(S3_SEEDS)
        }
        #[cfg(feature = "storacha")]
        World::Space => number_from("PEERCACHE_CHAOS_STORACHA_SEEDS").unwrap_or(SPACE_SEEDS),
    }
}

/// A chain as a tier that cannot place a newer value buries the older one in the parts for which it
/// is too large, and then a miss is right: seeds that were once taken for losses.
#[test]
fn what_a_nested_chain_could_not_place_may_hide_what_it_replaces() {
    for seed in [9926, 10786, 22508] {
        run(&Scenario::of(seed, World::Local)).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

fn try_seeds(world: World) {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.set(PANICS.get() + 1);
        previous(info);
    }));
    let (first, end) = match number_from("PEERCACHE_CHAOS_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, seeds(world)),
    };
    let (next, failures, coverage) =
        (AtomicU64::new(first), Mutex::new(Vec::new()), Mutex::new(Coverage::default()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failures.lock().unwrap().len() >= MOST_FAILURES {
                        return;
                    }
                    match run(&Scenario::of(seed, world)) {
                        Ok((reports, _)) => coverage.lock().unwrap().add(&reports[0], world),
                        Err(wrong) => failures.lock().unwrap().push(explain(seed, world, &wrong)),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let coverage = coverage.into_inner().unwrap();
    if end - first >= ENOUGH_SEEDS {
        assert!(coverage.missing().is_empty(), "never happened: {:?} in {coverage:#?}", coverage.missing());
    }
    println!("{world:?}: {coverage:#?}");
}

#[test]
fn the_same_seed_twice_gives_the_same_trace_and_the_same_report() {
    for world in [World::Local, World::Shared] {
        let mut different = 0;
        for seed in 0..40 {
            let record = run(&Scenario::of(seed, world)).unwrap();
            assert!(record == run(&Scenario::of(seed, world)).unwrap(), "seed {seed} went two ways");
            different += usize::from(record != run(&Scenario::of(seed + 1, world)).unwrap());
        }
        assert_eq!(different, 40, "seeds that follow each other should not do the same");
    }
}
