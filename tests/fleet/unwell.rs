//! A fleet that cannot be asked changes nothing but who loads.

use std::sync::Arc;
use std::time::Duration;

use peercache::backend::Operation;
use peercache::{Cache, ErrorKind, Ttl};
use peercache_testkit::chaos::{Chaos, Fault, Plan};
use tokio::time::Instant;

use crate::support::{Origin, Sharing, World, key};

const TTL: Ttl = Ttl::from_secs(60);

fn cache_over(world: &World, plan: Plan) -> Cache {
    let shared = Chaos::new(Arc::new(world.hub.member("hub")), 1, plan);
    Cache::builder().clock(world.clock()).tier(world.memory()).tier(shared).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_fails_or_hangs_ends_in_a_load() {
    for (fault, most) in [
        (Fault::Fail(ErrorKind::Unavailable), Duration::from_millis(200)),
        (Fault::Hang, Duration::from_millis(2700)),
    ] {
        let world = World::new(Sharing::Plain);
        let cache = cache_over(&world, Plan::none().script(Operation::Lease, [Some(fault)]));
        let (origin, started) = (Origin::default(), Instant::now());
        assert_eq!(cache.get_or_fetch(&key("k"), TTL, || origin.ask()).await.unwrap(), 1);
        assert!(started.elapsed() <= most, "{fault:?}: {:?}", started.elapsed());
        let leases = cache.report().chain.leases;
        assert_eq!((leases.granted, leases.failed), (0, 1), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_for_the_fleet_once_does_not_wait_again() {
    let world = World::new(Sharing::Plain);
    let cache = cache_over(&world, Plan::tarpit());
    let (origin, started) = (Origin::default(), Instant::now());
    assert_eq!(cache.get_or_fetch(&key("k"), TTL, || origin.ask()).await.unwrap(), 1);
    // The read's own deadline, 500 ms, and the load.
    assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
    assert_eq!(cache.report().chain.leases, Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_fails_now_and_then_never_fails_a_caller() {
    let world = World::new(Sharing::Plain);
    let caches: Vec<_> = (0..4).map(|_| cache_over(&world, Plan::hostile())).collect();
    let origin = Arc::new(Origin::default());
    let asking: Vec<_> = (0..200)
        .map(|n| {
            let (cache, origin) = (caches[n % 4].clone(), Arc::clone(&origin));
            tokio::spawn(async move {
                cache.get_or_fetch(&key(n / 4 % 10), TTL, || async move { origin.ask().await }).await
            })
        })
        .collect();
    for ask in asking {
        ask.await.unwrap().unwrap();
    }
    for cache in &caches {
        let leases = cache.report().chain.leases;
        assert!(leases.released <= leases.granted, "{leases:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_must_not_write_takes_no_lease() {
    let world = World::new(Sharing::Sealed);
    let member = Arc::new(world.hub.member("reader"));
    let sealed = world.sealed(&world.secret.read_only(), &member);
    let reader = Cache::builder().clock(world.clock()).tier(world.memory()).tier(sealed).build().unwrap();
    let frozen = world.machine_with(|builder| builder.tier(world.memory()).read_only(true));
    let origin = Origin::default();
    reader.get_or_fetch(&key("k"), TTL, || origin.ask()).await.unwrap();
    frozen.cache.get_or_fetch(&key("k"), TTL, || origin.ask()).await.unwrap();
    assert_eq!(origin.asked(), 2);
    assert_eq!(world.hub.stats().granted, 0);

    // But it hears of removals like any other.
    let writer = world.machine();
    writer.put(&key("other"), "v").await;
    assert_eq!(reader.get::<String>(&key("other")).await.as_deref(), Some("v"));
    writer.cache.remove(&key("other")).await;
    writer.settle().await;
    member.cut(true);
    assert_eq!(reader.get::<String>(&key("other")).await, None);
}
