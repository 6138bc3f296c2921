//! Proxies on several machines, over a tier that coordinates them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use peercache::{Cache, Memory};
use peercache_github::GitHubCache;
use peercache_testkit::ManualClock;
use peercache_testkit::fleet::Hub as Fleet;

use crate::support::{COLLAPSED, HIT, Hub, Origin, REVALIDATED, Rig, STORED, quick};

struct Machines {
    origin: Origin,
    fleet: Fleet,
    rigs: Vec<Arc<Rig>>,
}

async fn machines(
    number: usize,
    answer: impl Fn(&crate::support::Seen) -> Response<Bytes> + Send + Sync + 'static,
) -> Machines {
    let origin = Origin::start(answer).await;
    let clock = Arc::new(ManualClock::default());
    let fleet = Fleet::new(clock.clone());
    let rig = |_| {
        let memory = Memory::builder().capacity(8 << 20).clock(clock.clone()).build();
        let cache = Cache::builder().tier(memory).tier(fleet.member("peers")).clock(clock.clone());
        let cache = cache.build().unwrap();
        let proxy = GitHubCache::builder(cache.clone())
            .upstream(origin.url())
            .install_key([7; 32])
            .host("proxy.test")
            .system_proxy(false)
            .limits(quick());
        Arc::new(Rig { clock: clock.clone(), cache, proxy: proxy.build().unwrap() })
    };
    let rigs = (0..number).map(rig).collect();
    Machines { origin, fleet, rigs }
}

async fn github(number: usize) -> Machines {
    let hub = Hub::default();
    machines(number, move |seen| hub.answer(seen)).await
}

impl Machines {
    /// All ask at once with these tokens, and the origin answers once as many as are `expected`
    /// have arrived. The statuses of the answers.
    async fn all_ask(&self, tokens: &[&str], expected: usize) -> Vec<String> {
        self.origin.hold();
        let asking: Vec<_> = self
            .rigs
            .iter()
            .zip(tokens.iter().cycle())
            .map(|(rig, token)| {
                let (rig, token) = (Arc::clone(rig), (*token).to_owned());
                tokio::spawn(async move { rig.get("/x", &[("authorization", &token)]).await })
            })
            .collect();
        self.origin.arrived(expected).await;
        self.origin.release();
        let answers = join_all(asking).await.into_iter().map(|got| got.unwrap());
        answers
            .map(|got| {
                assert_eq!(got.status, 200, "{got:?}");
                assert_eq!(got.body, "{\"path\":\"/x\",\"version\":0}");
                got.cache_status().to_owned()
            })
            .collect()
    }
}

fn count(statuses: &[String], wanted: &str) -> usize {
    statuses.iter().filter(|status| *status == wanted).count()
}

#[tokio::test]
async fn twenty_machines_that_miss_the_same_request_ask_github_once() {
    let machines = github(20).await;
    let statuses = machines.all_ask(&["token a"], 1).await;
    assert_eq!(machines.origin.count(), 1, "{statuses:?}");
    assert_eq!((count(&statuses, STORED), count(&statuses, COLLAPSED)), (1, 19), "{statuses:?}");
    assert_eq!(machines.fleet.stats().granted, 1);

    // And each has it in its own memory now.
    for rig in &machines.rigs {
        rig.get("/x", &[("authorization", "token a")]).await.expect(200, HIT);
    }
    assert_eq!(machines.origin.count(), 1);
}

#[tokio::test]
async fn nobody_waits_for_another_token() {
    let machines = github(4).await;
    let statuses = machines.all_ask(&["token a", "token b", "token c", "token d"], 4).await;
    assert_eq!((machines.origin.count(), count(&statuses, STORED)), (4, 4), "{statuses:?}");
    assert_eq!(machines.fleet.stats().granted, 4);
}

#[tokio::test]
async fn a_grant_that_is_no_longer_fresh_is_confirmed_once_for_all() {
    let machines = github(3).await;
    machines.rigs[0].get("/x", &[("authorization", "token a")]).await.expect(200, STORED);
    machines.rigs[0].cache.settle().await;
    machines.rigs[0].pass(61);
    let statuses = machines.all_ask(&["token a"], 2).await;
    assert_eq!(machines.origin.count(), 2, "{statuses:?}");
    let waited = "peercache; fwd=stale; collapsed";
    assert_eq!((count(&statuses, REVALIDATED), count(&statuses, waited)), (1, 2), "{statuses:?}");
}

#[tokio::test]
async fn an_answer_that_is_for_nobody_else_lets_the_next_machine_ask() {
    let machines = machines(3, |_| {
        let response = Response::builder().header("cache-control", "no-store");
        response.body(Bytes::from_static(b"{\"path\":\"/x\",\"version\":0}")).unwrap()
    })
    .await;
    let statuses = machines.all_ask(&["token a"], 1).await;
    assert_eq!(machines.origin.count(), 3, "{statuses:?}");
    let stats = machines.fleet.stats();
    assert_eq!((stats.granted, stats.released, stats.waited), (3, 3, 0));
}

#[tokio::test]
async fn an_origin_that_fails_lets_the_next_machine_ask() {
    let machines = github(1).await;
    let clock = machines.rigs[0].clock.clone();
    let cache = Cache::builder().tier(machines.fleet.member("peers")).clock(clock.clone()).build().unwrap();
    // Nobody listens there.
    let proxy = GitHubCache::builder(cache.clone())
        .upstream("http://127.0.0.1:1")
        .host("proxy.test")
        .install_key([7; 32]);
    let broken = Rig { clock, cache, proxy: proxy.system_proxy(false).limits(quick()).build().unwrap() };
    let failed = broken.get("/x", &[("authorization", "token a")]).await;
    assert_eq!(failed.status, 502, "{failed:?}");
    assert_eq!(machines.fleet.stats().released, 1);
    machines.rigs[0].get("/x", &[("authorization", "token a")]).await.expect(200, STORED);
    assert_eq!(machines.fleet.stats().waited, 0);
}
