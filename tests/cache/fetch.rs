//! `get_or_fetch`: one loader at a time, whoever races, gives up or fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peercache::backend::{MAX_LIFETIME, MAX_VALUE_BYTES};
use peercache::chain::Outcome;
use peercache::stream::MAX_WHOLE_BYTES;
use peercache::{FetchError, Ttl};
use tokio::sync::{Notify, oneshot};

use crate::support::{World, key};

#[tokio::test]
async fn a_thousand_callers_load_once() {
    let cache = World::default().cache();
    let (loads, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, loads, gate) = (cache.clone(), Arc::clone(&loads), Arc::clone(&gate));
            tokio::spawn(async move {
                let load = || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    gate.notified().await;
                    Ok::<_, &str>(42)
                };
                cache.get_or_fetch(&key("k"), Ttl::default(), load).await.unwrap()
            })
        })
        .collect();
    while loads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 42);
    }
    let report = cache.report();
    assert_eq!((loads.load(Ordering::SeqCst), report.loads, report.loads_joined), (1, 1, 999));
}

#[tokio::test]
async fn of_a_thousand_callers_those_that_go_away_take_nobody_with_them() {
    let cache = World::default().cache();
    let (loads, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, loads, gate) = (cache.clone(), Arc::clone(&loads), Arc::clone(&gate));
            tokio::spawn(async move {
                let load = || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    gate.notified().await;
                    Ok::<_, &str>(42)
                };
                cache.get_or_fetch(&key("k"), Ttl::default(), load).await.unwrap()
            })
        })
        .collect();
    // The first in line loads; each time it goes away, and some of those that wait with it.
    for round in 0..10 {
        while loads.load(Ordering::SeqCst) == round {
            tokio::task::yield_now().await;
        }
        callers[round * 10..round * 10 + 10].iter().for_each(|caller| caller.abort());
    }
    while loads.load(Ordering::SeqCst) == 10 {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    let mut served = 0;
    for caller in callers {
        match caller.await {
            Ok(value) => {
                assert_eq!(value, 42);
                served += 1;
            }
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
    }
    assert_eq!((served, loads.load(Ordering::SeqCst)), (900, 11));
    assert_eq!(cache.report().loads, 1, "those that were given up are no loads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_threads_race_a_value_is_loaded_once() {
    let cache = World::default().cache();
    for round in 0..100 {
        let key = key(&format!("round {round}"));
        let loads = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..100)
            .map(|caller| {
                let (cache, key, loads) = (cache.clone(), key.clone(), Arc::clone(&loads));
                tokio::spawn(async move {
                    let load = || async move {
                        loads.fetch_add(1, Ordering::SeqCst);
                        for _ in 0..(caller + round) % 4 {
                            tokio::task::yield_now().await;
                        }
                        Ok::<_, &str>(round)
                    };
                    cache.get_or_fetch(&key, Ttl::default(), load).await.unwrap()
                })
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), round);
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1, "round {round}");
    }
    assert_eq!(cache.report().loads, 100);
}

#[tokio::test]
async fn when_the_caller_that_loads_goes_away_the_next_one_loads() {
    let cache = World::default().cache();
    let (started, running) = oneshot::channel();
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move {
            let load = || async move {
                started.send(()).unwrap();
                std::future::pending::<Result<u8, &str>>().await
            };
            cache.get_or_fetch(&key("k"), Ttl::default(), load).await
        }
    });
    running.await.unwrap();
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_fetch(&key("k"), Ttl::default(), async || Ok::<_, &str>(7)).await }
    });
    tokio::task::yield_now().await;
    assert!(!follower.is_finished());
    leader.abort();
    assert_eq!(follower.await.unwrap().unwrap(), 7);
    assert_eq!(cache.get(&key("k")).await, Some(7));
    assert_eq!(cache.report().loads, 1);
}

#[tokio::test]
async fn an_error_is_shared_by_those_who_waited_and_not_kept() {
    let cache = World::default().cache();
    let gate = Arc::new(Notify::new());
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let (cache, gate) = (cache.clone(), Arc::clone(&gate));
            tokio::spawn(async move {
                let load = || async move {
                    gate.notified().await;
                    Err::<u8, _>(std::io::Error::other("the origin is down"))
                };
                cache.get_or_fetch(&key("k"), Ttl::default(), load).await
            })
        })
        .collect();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the value could not be loaded: the origin is down");
        assert_eq!(error.loader().map(std::io::Error::kind), Some(std::io::ErrorKind::Other));
    }
    let report = cache.report();
    assert_eq!((report.loads, report.load_errors, report.loads_joined), (1, 1, 9));
    assert_eq!(cache.lookup(&key("k")).await.outcome, Outcome::Miss);
    let load = async || Ok::<_, &str>(1);
    assert_eq!(
        cache.get_or_fetch(&key("k"), Ttl::default(), load).await.unwrap(),
        1,
        "the next one tries again"
    );
}

/// A loader under way: it says when it runs, and ends when it is told to.
struct Under {
    running: oneshot::Receiver<()>,
    finish: oneshot::Sender<()>,
    caller: tokio::task::JoinHandle<Result<String, FetchError<&'static str>>>,
}

fn load(cache: &peercache::Cache, value: &'static str) -> Under {
    let (started, running) = oneshot::channel();
    let (finish, finished) = oneshot::channel();
    let cache = cache.clone();
    let caller = tokio::spawn(async move {
        let load = || async move {
            started.send(()).unwrap();
            finished.await.unwrap();
            Ok::<_, &str>(value.to_owned())
        };
        cache.get_or_fetch(&key("k"), Ttl::default(), load).await
    });
    Under { running, finish, caller }
}

#[tokio::test]
async fn a_removal_wins_over_a_loader_that_was_running() {
    let cache = World::default().cache();
    let before = load(&cache, "before");
    before.running.await.unwrap();
    cache.remove(&key("k")).await;

    let after = load(&cache, "after");
    after.running.await.unwrap();
    before.finish.send(()).unwrap();
    assert_eq!(before.caller.await.unwrap().unwrap(), "before", "whoever asked before gets it");
    assert_eq!(cache.get::<String>(&key("k")).await, None, "but it is not kept");
    after.finish.send(()).unwrap();
    assert_eq!(after.caller.await.unwrap().unwrap(), "after", "whoever asks after the removal loads anew");
    assert_eq!(cache.get::<String>(&key("k")).await.as_deref(), Some("after"));
}

#[tokio::test]
async fn a_put_wins_over_a_loader_that_was_running() {
    let cache = World::default().cache();
    let before = load(&cache, "loaded");
    before.running.await.unwrap();
    cache.put(&key("k"), "put", Ttl::default()).await.unwrap();
    before.finish.send(()).unwrap();
    assert_eq!(before.caller.await.unwrap().unwrap(), "loaded");
    assert_eq!(cache.get::<String>(&key("k")).await.as_deref(), Some("put"));
}

#[tokio::test]
async fn a_value_too_large_to_keep_is_returned_to_all_who_waited() {
    let world = World::default();
    let cache = world.cache();
    let ttl = Ttl::from_secs(10).with_stale(Duration::from_secs(1000));
    cache.put(&key("k"), "old", ttl).await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    let gate = Arc::new(Notify::new());
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (cache, gate) = (cache.clone(), Arc::clone(&gate));
            tokio::spawn(async move {
                let load = || async move {
                    gate.notified().await;
                    Ok::<_, &str>("x".repeat(MAX_WHOLE_BYTES))
                };
                cache.get_or_fetch(&key("k"), ttl, load).await
            })
        })
        .collect();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().len(), MAX_WHOLE_BYTES);
    }
    let report = cache.report();
    assert_eq!((report.loads, report.loads_not_kept, report.load_errors), (1, 1, 0));
    assert_eq!(cache.lookup(&key("k")).await.outcome, Outcome::Miss, "what it replaces is gone");
}

#[tokio::test]
async fn a_value_above_one_entry_is_loaded_once_and_kept() {
    let cache = World::default().cache();
    let load = async || Ok::<_, &str>("x".repeat(MAX_VALUE_BYTES + 1));
    let again = async || Err::<String, _>("loaded again");
    assert!(cache.get_or_fetch(&key("k"), Ttl::default(), load).await.is_ok());
    let found = cache.get_or_fetch(&key("k"), Ttl::default(), again).await.unwrap();
    assert_eq!(found.len(), MAX_VALUE_BYTES + 1);
}

#[tokio::test]
async fn what_no_entry_can_have_is_an_error_before_anything_is_loaded() {
    let cache = World::default().cache();
    let load = async || -> Result<u8, &str> { panic!("loaded") };
    let long = Ttl::new(MAX_LIFETIME + Duration::from_secs(1));
    let error = cache.get_or_fetch(&key("k"), long, load).await.unwrap_err();
    assert!(matches!(error, FetchError::Invalid(_)), "{error}");
    let error = error.to_string();
    assert!(error.starts_with("nothing was loaded: ") && error.contains("2592001 s, the most is"), "{error}");
    let error = cache.get_or_fetch("", Ttl::default(), load).await.unwrap_err();
    assert!(error.to_string().contains("a key has 1 to 1024 bytes, this one has 0"), "{error}");
    let fetch = cache.fetch("k", Ttl::default()).tag("");
    let error = fetch.load(|_| async { Err::<u8, _>("loaded") }).await.unwrap_err();
    assert!(error.to_string().contains("a tag has 1 to 256 bytes"), "{error}");
    assert_eq!(cache.report().loads, 0);
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_is_given_and_not_kept() {
    let cache = World::default().cache();
    let odd = std::collections::HashMap::from([(vec![1_u8], 1_u8)]);
    let given = cache.get_or_fetch(&key("k"), Ttl::default(), async || Ok::<_, &str>(odd.clone())).await;
    assert_eq!(given.unwrap(), odd);
    assert_eq!(cache.report().loads_not_kept, 1);
    assert_eq!(cache.lookup(&key("k")).await.outcome, Outcome::Miss);
    let error = cache.put(&key("k"), &odd, Ttl::default()).await.unwrap_err();
    assert!(error.to_string().contains("cannot be turned into JSON: key must be a string"), "{error}");
}

#[tokio::test]
async fn one_who_waited_for_a_value_of_another_type_is_told() {
    let cache = World::default().cache();
    let text = load(&cache, "text");
    text.running.await.unwrap();
    let number = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_fetch(&key("k"), Ttl::default(), async || Ok::<_, &str>(1_u8)).await }
    });
    tokio::task::yield_now().await;
    text.finish.send(()).unwrap();
    let error = number.await.unwrap().unwrap_err();
    assert!(matches!(error, FetchError::Decode(_)), "{error}");
    assert!(error.loader().is_none());
}
