//! Everything removed by one small write.

use std::sync::Arc;

use peercache::{By, Cache, Disk, Ttl};

use crate::support::{BOTH, Machine, Origin, Sharing, World, key};

async fn fill(machine: &Machine, names: &[&str]) {
    for name in names {
        machine.put(&key(name), "v").await;
    }
}

#[tokio::test]
async fn everything_that_was_written_before_is_a_miss_on_every_machine_at_once() {
    for sharing in BOTH {
        let world = World::new(sharing);
        let (one, other) = (world.machine(), world.machine());
        fill(&one, &["a", "b"]).await;
        assert_eq!(other.get(&key("a")).await.as_deref(), Some("v"));
        assert_eq!(other.get(&key("b")).await.as_deref(), Some("v"));

        let outcome = one.cache.invalidate(By::All).await.unwrap();
        assert!(outcome.is_stored() && outcome.is_queued(), "{outcome:?}");
        assert_eq!(one.cache.get::<String>(&key("a")).await, None, "here before the write has arrived");
        one.settle().await;
        other.member.cut(true);
        for name in ["a", "b"] {
            assert_eq!(other.get(&key(name)).await, None, "{sharing:?} {name}");
        }
        other.member.cut(false);

        // From then on it is a cache like any other.
        other.put(&key("a"), "new").await;
        assert_eq!(one.get(&key("a")).await.as_deref(), Some("new"));
        assert_eq!(one.get(&key("b")).await, None);
        let reports = [&one, &other].map(|machine| machine.cache.report().chain.removals);
        assert_eq!((reports[0].namespace, reports[1].received), (1, 1), "{reports:?}");
    }
}

#[tokio::test]
async fn a_machine_that_was_cut_off_learns_of_it_when_it_looks() {
    let world = World::new(Sharing::Sealed);
    let (one, other) = (world.machine(), world.machine());
    fill(&one, &["a"]).await;
    assert_eq!(other.get(&key("a")).await.as_deref(), Some("v"));
    other.member.cut(true);
    one.cache.invalidate(By::All).await.unwrap();
    one.settle().await;
    other.member.cut(false);
    assert_eq!(other.get(&key("a")).await.as_deref(), Some("v"), "nobody has told it");
    world.pass(31);
    // A hit on this machine does not wait for another one: the look goes on in the background.
    let _either = other.get(&key("a")).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(other.get(&key("a")).await, None);
}

#[tokio::test]
async fn another_process_on_the_same_disk_notices_within_two_seconds() {
    let world = World::new(Sharing::Plain);
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let disk = Disk::builder(dir.path()).clock(world.clock()).open().unwrap();
        Cache::builder().clock(world.clock()).tier(world.memory()).tier(disk).build().unwrap()
    };
    let (one, other) = (open(), open());
    one.put(&key("k"), "v", Ttl::from_secs(300)).await.unwrap();
    assert_eq!(other.get::<String>(&key("k")).await.as_deref(), Some("v"));
    one.invalidate(By::All).await.unwrap();
    world.pass(2);
    // The first hit tells it that time has passed, the second one looks.
    let _either = other.get::<String>(&key("k")).await;
    assert_eq!(other.get::<String>(&key("k")).await, None);

    // And whoever comes later finds it there before anything else.
    assert_eq!(open().get::<String>(&key("k")).await, None);
}

#[tokio::test]
async fn other_namespaces_in_the_same_stores_keep_theirs() {
    let world = World::new(Sharing::Plain);
    let memory = Arc::new(world.memory());
    let cache = |namespace: &str| {
        let builder = Cache::builder().clock(world.clock()).namespace(namespace);
        builder.tier(Arc::clone(&memory)).build().unwrap()
    };
    let caches = ["", "a", "b"].map(cache);
    for cache in &caches {
        cache.put(&key("k"), "v", Ttl::from_secs(300)).await.unwrap();
    }
    caches[1].invalidate(By::All).await.unwrap();
    let [none, a, b] = &caches;
    assert_eq!(none.get::<String>(&key("k")).await.as_deref(), Some("v"));
    assert_eq!(a.get::<String>(&key("k")).await, None);
    assert_eq!(b.get::<String>(&key("k")).await.as_deref(), Some("v"));
}

#[tokio::test(start_paused = true)]
async fn what_was_being_loaded_is_not_kept_and_not_handed_to_who_asks_later() {
    let world = World::new(Sharing::Plain);
    let (one, other) = (world.machine(), world.machine());
    let origin = Arc::new(Origin::default());
    let ask = || {
        let (cache, origin) = (other.cache.clone(), Arc::clone(&origin));
        tokio::spawn(async move {
            cache.get_or_fetch(&key("k"), Ttl::from_secs(60), || async move { origin.ask().await }).await
        })
    };
    let before = ask();
    while origin.asked() == 0 {
        tokio::task::yield_now().await;
    }
    // A moment later: of two writes in the same millisecond either may win.
    world.pass(1);
    one.cache.invalidate(By::All).await.unwrap();
    one.settle().await;
    let after = ask();
    assert_eq!((before.await.unwrap().unwrap(), after.await.unwrap().unwrap()), (1, 2));
    assert_eq!(other.cache.get::<usize>(&key("k")).await, Some(2));
}

#[tokio::test]
async fn stale_values_go_with_everything_else() {
    let world = World::new(Sharing::Plain);
    let machine = world.machine();
    let ttl = Ttl::from_secs(1).with_stale(std::time::Duration::from_secs(100));
    machine.cache.put(&key("k"), "v", ttl).await.unwrap();
    world.pass(5);
    machine.cache.invalidate(By::All).await.unwrap();
    let down = || async { Err::<String, _>(std::io::Error::other("down")) };
    assert!(machine.cache.get_or_fetch(&key("k"), ttl, down).await.is_err());
}
