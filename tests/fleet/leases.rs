//! One load for a whole fleet.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use peercache::backend::{LeaseAnswer, LeaseRequest};
use peercache::{CacheBackend, FetchedFrom, LoadContext, Policy, Ttl};
use tokio::time::Instant;

use crate::support::{BOTH, Machine, Origin, Sharing, World, key};

const TTL: Ttl = Ttl::from_secs(60);

/// A loader that asks `origin`.
fn ask(
    origin: &Arc<Origin>,
) -> impl FnOnce(LoadContext<usize>) -> BoxFuture<'static, Result<usize, std::io::Error>> + Send + 'static {
    let origin = Arc::clone(origin);
    |_| async move { origin.ask().await }.boxed()
}

/// All machines ask at once. How many values each got, and how many errors there were.
async fn all_ask(machines: &[Machine], origin: &Arc<Origin>) -> (Vec<usize>, usize) {
    let asking: Vec<_> = machines
        .iter()
        .map(|machine| {
            let (cache, origin) = (machine.cache.clone(), Arc::clone(origin));
            tokio::spawn(
                async move { cache.get_or_fetch(&key("k"), TTL, || async { origin.ask().await }).await },
            )
        })
        .collect();
    let (mut values, mut errors) = (Vec::new(), 0);
    for ask in asking {
        match ask.await.unwrap() {
            Ok(value) => values.push(value),
            Err(_) => errors += 1,
        }
    }
    (values, errors)
}

#[tokio::test(start_paused = true)]
async fn twenty_machines_that_ask_at_once_load_once() {
    for sharing in BOTH {
        let world = World::new(sharing);
        let (machines, origin) = (world.machines(20), Arc::new(Origin::default()));
        let (values, errors) = all_ask(&machines, &origin).await;
        assert_eq!((values, errors), (vec![1; 20], 0), "{sharing:?}");
        assert_eq!(origin.asked(), 1, "{sharing:?}");
        let reports: Vec<_> = machines.iter().map(|machine| machine.cache.report().chain.leases).collect();
        assert_eq!(reports.iter().map(|leases| leases.granted).sum::<u64>(), 1);
        assert_eq!(reports.iter().map(|leases| leases.found).sum::<u64>(), 19);

        // Every machine has it in its own memory now.
        for machine in &machines {
            machine.settle().await;
            machine.member.cut(true);
            assert_eq!(machine.cache.get::<usize>(&key("k")).await, Some(1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_load_fails_the_next_machine_loads() {
    for sharing in BOTH {
        let world = World::new(sharing);
        let (machines, origin) = (world.machines(5), Arc::new(Origin::default()));
        origin.failures.store(1, std::sync::atomic::Ordering::SeqCst);
        let (values, errors) = all_ask(&machines, &origin).await;
        assert_eq!((values, errors, origin.asked()), (vec![2; 4], 1, 2), "{sharing:?}");
        assert_eq!(world.hub.stats().released, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_gives_its_lease_back() {
    let world = World::new(Sharing::Sealed);
    let (one, other) = (world.machine(), world.machine());
    let cache = one.cache.clone();
    let never = tokio::spawn(async move {
        cache.get_or_fetch::<usize, std::io::Error, _, _>(&key("k"), TTL, std::future::pending).await
    });
    while world.hub.stats().granted == 0 {
        tokio::task::yield_now().await;
    }
    let (cache, origin) = (other.cache.clone(), Arc::new(Origin::default()));
    let asked = Arc::clone(&origin);
    let waiting =
        tokio::spawn(
            async move { cache.get_or_fetch(&key("k"), TTL, || async move { asked.ask().await }).await },
        );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(origin.asked(), 0, "it waits for the other machine");
    never.abort();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    let stats = world.hub.stats();
    assert_eq!((stats.granted, stats.released, stats.waited), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_dies_holds_the_others_up_until_its_lease_ends() {
    let world = World::new(Sharing::Plain);
    let holder = world.machine();
    let request = LeaseRequest::new(Duration::from_secs(1), Duration::ZERO);
    let answer = holder.member.fleet().unwrap().lease(&key("k"), request).await;
    assert!(matches!(answer, Ok(LeaseAnswer::Granted(_))));
    drop(holder);

    let (machines, origin) = (world.machines(3), Arc::new(Origin::default()));
    let started = Instant::now();
    let (values, _) = all_ask(&machines, &origin).await;
    assert_eq!((values, origin.asked()), (vec![1; 3], 1), "once it has ended, one of the others loads");
    // On a clock that stands still but for timers.
    let took = started.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_millis(1200)).contains(&took), "{took:?}");
    assert_eq!(world.hub.stats().expired, 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_loading_would_take() {
    let world = World::new(Sharing::Plain);
    let holder = world.machine();
    let request = LeaseRequest::new(Duration::from_secs(600), Duration::ZERO);
    assert!(holder.member.fleet().unwrap().lease(&key("k"), request).await.is_ok());

    let (machine, origin) = (world.machine(), Arc::new(Origin::default()));
    let started = Instant::now();
    let fetched = machine.cache.fetch(key("k"), TTL).load(ask(&origin)).await.unwrap();
    assert!(matches!(fetched.from, FetchedFrom::Loaded));
    let took = started.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_millis(2200)).contains(&took), "{took:?}");
    assert_eq!(machine.cache.report().chain.leases.waited, 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_from_another_machine_says_so_and_a_stale_one_does_not_do() {
    let world = World::new(Sharing::Sealed);
    let (one, other) = (world.machine(), world.machine());
    let policy = Policy::fresh(Duration::from_secs(10)).stale(Duration::from_secs(100));
    let policy = policy.stale_while_refreshing(false);
    let origin = Arc::new(Origin::default());
    one.cache.fetch(key("k"), &policy).load(ask(&origin)).await.unwrap();
    one.settle().await;
    world.pass(20);

    // Both see the stale value and ask for a newer one.
    let k = key("k");
    let (first, second) = tokio::join!(
        one.cache.fetch(&k, &policy).load(ask(&origin)),
        other.cache.fetch(&k, &policy).load(ask(&origin)),
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.value, second.value, origin.asked()), (2, 2, 2));
    let from = [first.from, second.from];
    assert!(from.iter().any(|from| matches!(from, FetchedFrom::Loaded)), "{from:?}");
    assert!(from.iter().any(|from| matches!(from, FetchedFrom::Joined)), "{from:?}");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_too_large_for_the_fleet_gives_the_lease_back() {
    let world = World::new(Sharing::Plain);
    let machine = world.machine();
    let large = "x".repeat(peercache::stream::MAX_WHOLE_BYTES + 1);
    let load = || async { Ok::<_, std::io::Error>(large.clone()) };
    let given = machine.cache.get_or_fetch(&key("k"), TTL, load).await.unwrap();
    assert_eq!(given.len(), large.len());
    let leases = machine.cache.report().chain.leases;
    assert_eq!((leases.granted, leases.released), (1, 1));
}

#[tokio::test]
async fn without_a_fleet_nothing_is_asked() {
    let cache = peercache::Cache::builder().tier(peercache::Memory::with_capacity(1 << 20)).build().unwrap();
    let origin = Origin::default();
    assert_eq!(cache.get_or_fetch(&key("k"), TTL, || origin.ask()).await.unwrap(), 1);
    assert_eq!(cache.report().chain.leases, Default::default());
}
