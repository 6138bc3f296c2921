//! A cache with a space of the real upload service below its memory: a service that goes away and
//! comes back, one that fails at random, settings, and a token of the service that was closed.
#![cfg(all(feature = "memory", feature = "storacha", feature = "config"))]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use peercache::backend::storacha::Token;
use peercache::chain::{BreakerOptions, Outcome, Skip, TierOptions, WriteBehind};
use peercache::report::TierReport;
use peercache::seal::{Sealed, Secret};
use peercache::{Cache, CacheBackend, Config, ConfigError, ErrorKind, Key, Memory, Storacha, Ttl};
use peercache_testkit::chaos::{Chaos, Plan};
use peercache_testkit::servers::{FaultProxy, Mode, StorachaService, StorachaSpace};

const TTL: Ttl = Ttl::from_secs(600);
/// What never happens on a machine however busy, so that a test that waits in vain ends.
const FOR_EVER: Duration = Duration::from_secs(120);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Waits until `done` holds.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(FOR_EVER, waiting).await.is_ok(), "this never came: {what}");
}

fn tier(service: &StorachaService, space: &StorachaSpace, url: String, prefix: &str) -> Arc<Storacha> {
    let did = service.did().to_owned();
    let token = Token::new(&space.key, &space.proof, Some(url), Some(did)).unwrap();
    let tier = Storacha::builder(token).prefix(prefix).allow_private(true).request_timeout(FOR_EVER);
    Arc::new(tier.open().unwrap())
}

/// A machine that shares a space: a memory of its own, and the space below it.
struct Machine {
    cache: Cache,
    tier: &'static str,
}

impl Machine {
    /// Over a space that is wrapped: by a seal if there is a secret, and by what `wrap` makes of
    /// it.
    fn over(
        space: Arc<Storacha>,
        secret: Option<&Secret>,
        wrap: impl FnOnce(Arc<dyn CacheBackend>) -> Arc<dyn CacheBackend>,
    ) -> Self {
        let soon = Duration::from_secs(1);
        let options = TierOptions {
            breaker: BreakerOptions { max_backoff: soon, ..BreakerOptions::default() },
            read_deadline: Some(FOR_EVER),
            write_deadline: Some(FOR_EVER),
            ..TierOptions::default()
        };
        let (tier, backend) = match secret {
            Some(secret) => (
                "sealed(storacha)",
                Arc::new(Sealed::new(secret.clone(), Arc::clone(&space))) as Arc<dyn CacheBackend>,
            ),
            None => ("storacha", Arc::clone(&space) as Arc<dyn CacheBackend>),
        };
        let cache = Cache::builder()
            .tier(Memory::with_capacity(1 << 24))
            .tier_with(wrap(backend), options)
            .write_behind(WriteBehind { max_backoff: soon, ..WriteBehind::default() })
            .read_budget(FOR_EVER)
            .storacha(space)
            .build()
            .unwrap();
        Self { cache, tier }
    }

    fn report(&self) -> TierReport {
        self.cache.report().chain.tiers.into_iter().find(|tier| tier.name == self.tier).unwrap()
    }

    async fn put(&self, name: &str, value: &str) {
        self.cache.put_bytes(&key(name), value.as_bytes().to_vec(), TTL).await.unwrap();
    }

    async fn delivered(&self) {
        until("the delivery of what waits", async || self.report().queue.unwrap().waiting == 0).await;
    }

    /// What the space has under a name, once the service answers.
    async fn find_in_space(&self, name: &str) -> String {
        let mut value = Vec::new();
        until("an answer of the service", async || {
            let lookup = self.cache.lookup(&key(name)).await;
            let found = lookup.tier.as_deref() == Some(self.tier);
            value = lookup.hit().filter(|_| found).map(|entry| entry.value().to_vec()).unwrap_or_default();
            found
        })
        .await;
        String::from_utf8(value).unwrap()
    }
}

/// The story of a service that goes away while a machine is at work.
async fn outlives_its_service(secret: Option<Secret>) {
    let Some(service) = StorachaService::start().await.unwrap() else { return };
    let space = service.space().await.unwrap();
    let proxy = FaultProxy::start(service.address()).await.unwrap();
    let secret = secret.as_ref();
    let machine = || {
        let space = tier(&service, &space, proxy.endpoint(), "life");
        Machine::over(space, secret, |backend| backend)
    };
    let other = machine();
    for name in ["kept", "seen", "replaced", "removed"] {
        other.put(name, "first").await;
    }
    other.delivered().await;
    let machine_one = machine();
    assert_eq!(machine_one.find_in_space("seen").await, "first");

    proxy.set(Mode::Refuse);
    let lookup = machine_one.cache.lookup(&key("seen")).await;
    assert_eq!((lookup.outcome, lookup.tier.as_deref()), (Outcome::Hit, Some("memory")));
    let lookup = machine_one.cache.lookup(&key("kept")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    let skip = lookup.trace.iter().find(|trace| trace.tier == machine_one.tier);
    let skip = skip.map(|trace| trace.skip.clone());
    assert!(matches!(&skip, Some(Skip::Failed(error)) if error.kind() == ErrorKind::Unavailable), "{skip:?}");
    until("an open breaker", async || {
        let _warm = machine_one.cache.lookup(&key("kept")).await;
        machine_one.report().breaker.state != "closed"
    })
    .await;
    machine_one.put("replaced", "second").await;
    machine_one.cache.remove(&key("removed")).await;
    assert_eq!(machine_one.cache.get_bytes(&key("replaced")).await.as_deref(), Some(&b"second"[..]));
    let report = machine_one.report();
    assert!(report.queue.as_ref().unwrap().waiting > 0, "{report:?}");
    let told = [report.last_error.clone(), report.breaker.last_cause.clone()];
    let named = "the upload service cannot be reached";
    assert!(told.iter().flatten().any(|text| text.contains(named)), "{report:?}");

    proxy.set(Mode::Pass);
    // Nobody asks for anything, and yet everything arrives.
    machine_one.delivered().await;
    assert_eq!(machine_one.find_in_space("kept").await, "first");
    assert_eq!(machine_one.report().breaker.state, "closed");
    let late = machine();
    assert_eq!(late.find_in_space("replaced").await, "second");
    let lookup = late.cache.lookup(&key("removed")).await;
    assert!(lookup.entry.is_none(), "{lookup:?}");
    assert!(lookup.trace.iter().any(|trace| matches!(trace.skip, Skip::Removed)), "{lookup:?}");
    assert!(late.cache.report().backends["storacha"]["counts"]["hits"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_outlives_its_service_and_takes_it_back() {
    outlives_its_service(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_outlives_its_sealed_service_and_takes_it_back() {
    outlives_its_service(Some(Secret::generate().unwrap())).await;
}

/// A space that fails, stalls and lies as a seed says: no error to a caller, and no wrong byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_over_a_space_on_a_bad_day_gives_no_error_and_no_wrong_byte() {
    let Some(service) = StorachaService::start().await.unwrap() else { return };
    let space = service.space().await.unwrap();
    let secret = Secret::generate().unwrap();
    for seed in 0..2_u64 {
        let prefix = format!("chaos{seed}");
        let machine = |flaky: bool| {
            let space = tier(&service, &space, service.url(), &prefix);
            Machine::over(space, Some(&secret), |backend| match flaky {
                true => Arc::new(Chaos::new(backend, seed, Plan::flaky())),
                false => backend,
            })
        };
        let (one, two) = (machine(true), machine(true));
        let value = |round: u64| format!("value {round}");
        for round in 0..18_u64 {
            let name = format!("k{}", round % 4);
            one.put(&name, &value(round)).await;
            let own = one.cache.get_bytes(&key(&name)).await;
            assert_eq!(own.as_deref(), Some(value(round).as_bytes()), "seed {seed}, round {round}");
            // Whatever the other one finds was written under this key, and whole.
            if let Some(found) = two.cache.get_bytes(&key(&name)).await {
                let mut written = (0..=round).filter(|made| made % 4 == round % 4);
                assert!(written.any(|made| value(made).as_bytes() == &found[..]), "seed {seed}, {round}");
            }
            if round % 8 == 7 {
                one.cache.remove(&key(&name)).await;
                assert_eq!(one.cache.get_bytes(&key(&name)).await, None, "seed {seed}, round {round}");
            }
        }
        one.delivered().await;
        let third = machine(false);
        for round in 14..18_u64 {
            let name = format!("k{}", round % 4);
            let found = third.cache.get_bytes(&key(&name)).await;
            let expected = (round != 15).then(|| value(round));
            assert_eq!(found.as_deref(), expected.as_ref().map(String::as_bytes), "seed {seed}, {round}");
        }
    }
}

/// What the settings make of these variables, beside those that every one of them has.
fn settings(more: Vec<(&'static str, String)>) -> Result<Config, ConfigError> {
    let secret = Secret::generate().unwrap().to_text().to_string();
    Config::from_vars("peercache", move |name| {
        let given = more.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        given.or_else(|| match name {
            "CACHE_BACKEND" => Some("memory,storacha".to_owned()),
            "CACHE_CONFIG" => Some("none".to_owned()),
            "STORACHA_ALLOW_PRIVATE" => Some("true".to_owned()),
            "CACHE_SECRET" => Some(secret.clone()),
            _ => None,
        })
    })
}

async fn refused(more: Vec<(&'static str, String)>) -> String {
    match settings(more) {
        Ok(config) => config.open().await.map(drop).unwrap_err(),
        Err(error) => error,
    }
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_open_the_tier_and_name_the_one_at_fault() {
    let Some(service) = StorachaService::start().await.unwrap() else { return };
    let space = service.space().await.unwrap();
    let token = Token::new(&space.key, &space.proof, None, None).unwrap();
    let token = ("WEB3_STORAGE_TOKEN", token.to_text(&space.proof).to_string());
    let url = ("STORACHA_SERVICE_URL", service.url());
    let did = ("STORACHA_SERVICE_DID", service.did().to_owned());
    let cache = settings(vec![token.clone(), url.clone(), did.clone()]).unwrap().open().await.unwrap();
    cache.put_bytes(&key("k"), "v", TTL).await.unwrap();
    until("the write", async || {
        let report = cache.report();
        report.backends["storacha"]["counts"]["puts"].as_u64() == Some(1)
    })
    .await;
    cache.close().await.unwrap();

    for (more, variable) in [
        (vec![url.clone(), did.clone()], "WEB3_STORAGE_TOKEN"),
        (vec![token.clone(), did.clone()], "STORACHA_SERVICE_URL"),
        (vec![token.clone(), url.clone()], "STORACHA_SERVICE_DID"),
        (vec![token.clone(), url.clone(), ("STORACHA_SERVICE_DID", "up".into())], "STORACHA_SERVICE_DID"),
        (vec![token.clone(), url, did, ("CACHE_SECRET", String::new())], "CACHE_SECRET"),
        (vec![token, ("STORACHA_PRESET", "hot".into())], "STORACHA_PRESET"),
    ] {
        let error = refused(more).await;
        assert!(error.contains(variable), "{variable}: {error}");
        assert!(!error.contains(&space.key[4..30]), "{error}");
    }
}

/// One sentence says that the service is closed and what to do, and does not repeat the token.
#[tokio::test]
async fn token_of_the_closed_service_says_what_to_do_in_one_sentence() {
    let legacy = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJ3ZWIzLXN0b3JhZ2UifQ.c2lnbmF0dXJl";
    let error = refused(vec![("WEB3_STORAGE_TOKEN", legacy.to_owned())]).await;
    for part in ["WEB3_STORAGE_TOKEN", "closed", "self-host", "peercache storacha token"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains('\n') && !error.contains(". ") && !error.contains("eyJhb"), "{error}");
    println!("{error}");
}
