//! A sealed tier whose store lies: a miss and a counter, never a value that nobody stored.

use std::sync::Arc;
use std::time::Duration;

use peercache::backend::Operation;
use peercache::seal::{Sealed, Secret};
use peercache::{Cache, Memory, Ttl};
use peercache_testkit::chaos::{Chaos, Fault, Plan};

use crate::support::{World, key};

/// Always the same, and so are the blinded keys and with them the faults.
const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";

type Store = Arc<Chaos<Arc<Memory>>>;

/// A sealed tier over what `store` makes of its memory.
fn sealed(world: &World, store: &Store) -> Arc<Sealed<Store>> {
    let secret = Secret::parse(SECRET).unwrap();
    Arc::new(Sealed::builder(secret, Arc::clone(store)).clock(world.shared_clock()).build())
}

/// A store that remembers what it was given, and is honest so far.
fn store(world: &World) -> Store {
    let honest = Plan::none().script(Operation::Get, [Some(Fault::OlderVersion)]);
    Arc::new(Chaos::new(world.memory(), 1, honest))
}

fn always(fault: Fault) -> Plan {
    Plan::none().undetected().with(Operation::Get, 1.0, fault)
}

/// A process that has just started: nothing above the sealed tier.
fn process(world: &World, sealed: &Arc<Sealed<Store>>) -> Cache {
    world.builder().tier(Arc::clone(sealed)).build().unwrap()
}

#[tokio::test]
async fn whatever_a_store_changes_is_a_miss_and_counted() {
    let world = World::default();
    for fault in
        [Fault::BitFlip, Fault::Truncated, Fault::OtherKey, Fault::StretchedExpiry, Fault::FromFuture]
    {
        let store = store(&world);
        let sealed = sealed(&world, &store);
        let cache = process(&world, &sealed);
        cache.put(&key("other"), "another value", Ttl::from_secs(60)).await.unwrap();
        cache.put(&key("k"), "value", Ttl::from_secs(60)).await.unwrap();
        store.replace_plan(always(fault));
        let lookup = cache.lookup(&key("k")).await;
        assert!(lookup.hit().is_none(), "{fault}");
        let report = cache.report().chain;
        assert_eq!((report.misses, report.tiers[0].errors, report.tiers[0].corrupt), (1, 1, 1), "{fault}");
        assert_eq!(sealed.stats().corrupt(), 1, "{fault}: {:?}", sealed.stats());
        store.replace_plan(Plan::none());
        assert_eq!(cache.get::<String>(&key("k")).await.as_deref(), Some("value"), "{fault}");
    }
}

/// What `docs/design/sealing.md` promises about a store that answers with what it was given before.
#[tokio::test]
async fn an_older_write_is_hidden_by_whoever_knows_a_newer_one_and_ends_with_its_lifetime() {
    let world = World::default();
    let store = store(&world);
    let sealed = sealed(&world, &store);
    let knows = world.builder().tier(world.memory()).tier(Arc::clone(&sealed)).build().unwrap();
    knows.put(&key("k"), "old", Ttl::from_secs(60)).await.unwrap();
    knows.remove(&key("k")).await;
    store.replace_plan(always(Fault::OlderVersion));
    assert_eq!(knows.get::<String>(&key("k")).await, None, "memory knows that it is gone");
    assert_eq!(knows.report().chain.tiers[1].superseded, 1, "and it is counted");

    // Who does not know is given the old one as what it is, which nobody can tell from one answer.
    let new_here = process(&world, &sealed);
    assert_eq!(new_here.get::<String>(&key("k")).await.as_deref(), Some("old"));
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(new_here.get::<String>(&key("k")).await, None, "its lifetime is its own");
    assert_eq!(sealed.stats().corrupt(), 0);
}
