//! Each fault while a machine is at work: it answers from what it has, within the deadline of the
//! chain and not of the bucket, says why, and is whole again by itself once the fault is over.

use std::time::Duration;

use peercache::ErrorKind;
use peercache::chain::{Outcome, Skip};
use peercache::seal::Secret;
use peercache_testkit::servers::{Answer, FaultProxy, Mode, SeaweedFs};

use crate::support::{Fleet, Machine, key, large, passed};

/// What a fault looks like from above the bucket.
struct Fault {
    prefix: &'static str,
    /// Why the first lookup that comes to the bucket gets nothing from it.
    first: fn(&Skip) -> bool,
    /// Whether the bucket is left alone then, which costs nothing.
    left_alone: bool,
    /// What the report says about it.
    says: &'static str,
}

/// The chain waits for the bucket for so long.
const READ_DEADLINE: Duration = Duration::from_millis(500);

fn gave_up(skip: &Skip) -> bool {
    matches!(skip, Skip::TimedOut(waited) if *waited <= READ_DEADLINE)
}

fn failed_as(skip: &Skip, kind: ErrorKind) -> bool {
    matches!(skip, Skip::Failed(error) if error.kind() == kind)
}

const REFUSED: Fault = Fault {
    prefix: "killed",
    first: |skip| failed_as(skip, ErrorKind::Unavailable),
    left_alone: true,
    says: "the store did not answer",
};

const TARPIT: Fault =
    Fault { prefix: "tarpit", first: gave_up, left_alone: true, says: "no answer within 500 ms" };

const SLOW: Fault = Fault { prefix: "slow", first: gave_up, left_alone: true, says: "no answer within" };

const THROTTLED: Fault = Fault {
    prefix: "throttled",
    first: |skip| failed_as(skip, ErrorKind::RateLimited),
    left_alone: true,
    says: "the store asks for fewer requests",
};

// An answer, and at once: there is nothing that a breaker would spare.
const EXPIRED: Fault = Fault {
    prefix: "expired",
    first: |skip| failed_as(skip, ErrorKind::Denied),
    left_alone: false,
    says: "the credentials have expired",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_outlives_every_fault_of_its_bucket_and_takes_it_back() {
    let Some(mut server) = SeaweedFs::start().await.unwrap() else { return };

    // Side by side: each waits most of the time.
    let slow_down = Mode::Answer(Answer::slow_down(Some(Duration::from_secs(2))));
    let (tarpit, slow, throttled, expired) = tokio::join!(
        behind_a_proxy(&server, &TARPIT, Mode::Tarpit),
        behind_a_proxy(&server, &SLOW, Mode::Slow(1_000)),
        behind_a_proxy(&server, &THROTTLED, slow_down),
        behind_a_proxy(&server, &EXPIRED, Mode::Answer(Answer::expired_token())),
    );
    for machine in [&tarpit, &slow] {
        assert!(machine.tier().timeouts >= 2, "{:?}", machine.tier());
        assert_eq!(machine.bucket.report().timeouts, 0, "its own deadline is longer than the chain's");
    }
    let (lookups, report) = (throttled.tier().errors, throttled.bucket.report());
    assert!(report.held_back > 0 && (1..lookups).contains(&report.throttled), "{lookups}, {report:?}");
    assert!(expired.bucket.report().held_back > 0, "{:?}", expired.bucket.report());

    let fleet = fleet(&server, &REFUSED);
    let machine = at_work(&fleet, &server.endpoint(), &server).await;
    server.kill();
    degrades(&machine, &REFUSED).await;
    server.restart().await.unwrap();
    returns(&machine, &fleet, &server).await;
}

fn fleet(server: &SeaweedFs, fault: &Fault) -> Fleet {
    Fleet {
        bucket: server.bucket(),
        prefix: fault.prefix.to_owned(),
        credentials: server.credentials(),
        secret: Secret::generate().unwrap(),
    }
}

/// The whole story with a fault of a proxy.
async fn behind_a_proxy(server: &SeaweedFs, fault: &Fault, mode: Mode) -> Machine {
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let fleet = fleet(server, fault);
    let machine = at_work(&fleet, &proxy.endpoint(), server).await;
    proxy.set(mode);
    degrades(&machine, fault).await;
    proxy.set(Mode::Pass);
    returns(&machine, &fleet, server).await;
    machine
}

/// A machine that reads and writes the bucket at `endpoint`, in which another has left something.
async fn at_work(fleet: &Fleet, endpoint: &str, server: &SeaweedFs) -> Machine {
    let other = fleet.machine(&server.endpoint()).await;
    for name in ["kept", "seen", "replaced", "removed"] {
        other.put(name, large()).await;
    }
    other.delivered().await;
    let machine = fleet.machine(endpoint).await;
    machine.find_in_bucket("seen").await;
    machine.put("own", large()).await;
    machine.delivered().await;
    machine
}

/// While the fault lasts.
async fn degrades(machine: &Machine, fault: &Fault) {
    let Fault { prefix, first, left_alone, says } = fault;
    let openings = machine.tier().breaker.openings;
    for name in ["own", "seen"] {
        let lookup = machine.cache.lookup(&key(name)).await;
        assert_eq!(
            (lookup.outcome, lookup.tier.as_deref()),
            (Outcome::Hit, Some("memory")),
            "{prefix}: {name}"
        );
    }
    for attempt in 0.. {
        let lookup = machine.cache.lookup(&key("kept")).await;
        assert_eq!(lookup.outcome, Outcome::Miss, "{prefix}");
        let skip = passed(&lookup).unwrap();
        if attempt == 0 {
            assert!(first(skip), "{prefix}: {skip:?}");
        }
        if matches!(skip, Skip::Open) || (!left_alone && attempt == 3) {
            break;
        }
        assert!(attempt < 20, "{prefix}: it is asked again and again: {:?}", machine.tier());
    }

    // Work goes on: what is written and removed now is seen here, and waits for the bucket.
    machine.put("replaced", b"the new one".repeat(4_000)).await;
    machine.put("late", large()).await;
    machine.cache.remove(&key("removed")).await;
    let lookup = machine.cache.lookup(&key("replaced")).await;
    assert_eq!(lookup.entry.unwrap().value(), &b"the new one".repeat(4_000)[..], "{prefix}");
    assert_eq!(machine.cache.lookup(&key("removed")).await.outcome, Outcome::Miss, "{prefix}");

    let (tier, behind) = (machine.tier(), machine.behind());
    assert!(behind.waiting > 0, "{prefix}: {behind:?}");
    assert_eq!(tier.breaker.openings > openings, *left_alone, "{prefix}: {tier:?}");
    let told = [&tier.last_error, &tier.breaker.last_cause];
    assert!(
        told.iter().any(|told| told.as_ref().is_some_and(|told| told.contains(says))),
        "{prefix}: {tier:?}"
    );
}

/// Once the fault is over: nobody asks for anything, and yet everything arrives.
async fn returns(machine: &Machine, fleet: &Fleet, server: &SeaweedFs) {
    machine.delivered().await;
    let behind = machine.behind();
    assert_eq!(
        (behind.dropped.total(), behind.delivered),
        (0, behind.queued),
        "{}: {behind:?}",
        fleet.prefix
    );
    machine.find_in_bucket("kept").await;
    assert_eq!(machine.tier().breaker.state, "closed", "{}", fleet.prefix);

    let other = fleet.machine(&server.endpoint()).await;
    assert_eq!(other.find_in_bucket("replaced").await, b"the new one".repeat(4_000), "{}", fleet.prefix);
    other.find_in_bucket("late").await;
    other.find_removed("removed").await;
}
