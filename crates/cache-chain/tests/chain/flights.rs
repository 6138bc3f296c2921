//! Single-flight on real threads, with callers that give up at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use peercache_chain::{Flight, SingleFlight};

use crate::support::key;

#[tokio::test]
async fn results_are_not_remembered() {
    let flights = SingleFlight::new();
    assert_eq!(flights.run(&key("k"), async || 1).await, (1, Flight::Led));
    assert_eq!(flights.run(&key("k"), async || 2).await, (2, Flight::Led));
}

#[tokio::test(start_paused = true)]
async fn different_keys_do_not_wait_for_each_other() {
    let flights = Arc::new(SingleFlight::<u32>::new());
    let stuck = tokio::spawn({
        let flights = Arc::clone(&flights);
        async move { flights.run(&key("stuck"), std::future::pending).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(flights.run(&key("free"), async || 1).await, (1, Flight::Led));
    stuck.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_one_loader_runs_whoever_gives_up() {
    let flights = Arc::new(SingleFlight::<usize>::new());
    let (running, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for round in 0..200 {
        let callers: Vec<_> = (0..16)
            .map(|caller| {
                let (flights, running, ran) = (Arc::clone(&flights), Arc::clone(&running), Arc::clone(&ran));
                tokio::spawn(async move {
                    let load = || async {
                        let alone = Alone::enter(&running);
                        for _ in 0..(round + caller) % 7 {
                            tokio::task::yield_now().await;
                        }
                        drop(alone);
                        ran.fetch_add(1, Ordering::SeqCst);
                        round
                    };
                    flights.run(&key("k"), load).await
                })
            })
            .collect();
        for caller in callers.iter().step_by(3) {
            tokio::task::yield_now().await;
            caller.abort();
        }
        let mut finished = 0;
        for caller in callers {
            match caller.await {
                Ok((value, _)) => {
                    assert_eq!(value, round, "a result of an earlier round");
                    finished += 1;
                }
                Err(error) => assert!(error.is_cancelled(), "{error}"),
            }
        }
        assert!(finished >= 10, "only those that were aborted may be missing");
    }
    assert!(ran.load(Ordering::SeqCst) >= 200);
    assert_eq!(format!("{flights:?}"), "SingleFlight { running: 0 }", "nothing is left behind");
}

/// Panics when there are two at a time.
struct Alone<'a>(&'a AtomicUsize);

impl<'a> Alone<'a> {
    fn enter(running: &'a AtomicUsize) -> Self {
        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two loaders at once");
        Self(running)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
