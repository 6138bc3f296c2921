//! The journal under a chain: what waited when the process ended is delivered by the next one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, ErrorKind};
use peercache_chain::{Chain, Journal, Outcome, QueueReport, TierOptions, WriteBehind, WritePolicy};

use crate::support::{Mood, SHARED, Scripted, VOLATILE, World, assert_adds_up, key, text};

/// Tells the test binary to be the process that is killed, and where its journal is.
const CHILD: &str = "PEERCACHE_TEST_JOURNAL";
/// How many bytes its journal may have.
const CHILD_BYTES: &str = "PEERCACHE_TEST_JOURNAL_BYTES";
const WRITES: usize = 2_000;

fn chain(world: &World, dir: &Path, shared: &Arc<Scripted>) -> Chain {
    chain_with(world, Journal::open(dir).unwrap(), shared)
}

fn chain_with(world: &World, journal: Journal, shared: &Arc<Scripted>) -> Chain {
    let tiers = [world.tier("memory", VOLATILE), Arc::clone(shared)];
    let tiers = tiers.into_iter().map(|tier| (tier, TierOptions::default()));
    let limits = WriteBehind { flush_deadline: Duration::from_secs(1), ..WriteBehind::default() };
    world.builder_with(tiers).write_behind(limits).journal(journal).build()
}

fn behind(chain: &Chain) -> QueueReport {
    assert_adds_up(&chain.report());
    chain.report().tiers[1].queue.clone().unwrap()
}

fn name(n: usize) -> peercache_api::Key {
    key(&format!("key {n}"))
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_before_closing_is_delivered_by_the_next_process() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let shared = world.tier("shared", SHARED);
    let first = chain(&world, dir.path(), &shared);
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    shared.plant(&name(0), world.entry(0, "old"));
    assert!(first.write(&name(0), world.tombstone(1)).await.is_queued());
    assert!(first.write(&name(1), world.entry(1, "value")).await.is_queued());
    first.close().await.unwrap();
    let report = behind(&first);
    assert_eq!((report.journalled, report.dropped.total(), report.waiting), (2, 0, 0));

    // What was closed stays closed, so each process has its own way to the tier.
    let shared = world.tier("shared", SHARED);
    shared.plant(&name(0), world.entry(0, "old"));
    shared.writes(Mood::Hang);
    let second = chain(&world, dir.path(), &shared);
    assert_eq!((behind(&second).replayed, behind(&second).waiting), (2, 2));
    assert_eq!(second.lookup(&name(0)).await.outcome, Outcome::Miss, "the removal counts before it arrives");
    assert_eq!(text(&second.lookup(&name(1)).await), Some("value"));
    drop(second);

    shared.writes(Mood::Well);
    let third = chain(&world, dir.path(), &shared);
    third.settle().await;
    assert_eq!((behind(&third).replayed, behind(&third).delivered), (2, 2));
    assert!(shared.held(&name(0)).unwrap().is_tombstone());
    assert_eq!(shared.held(&name(1)).unwrap().value(), "value");
    third.close().await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_leaves_what_an_unhealthy_tier_does_not_take_to_the_journal_at_once() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let shared = world.tier("shared", SHARED);
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    let chain = chain(&world, dir.path(), &shared);
    for n in 0..40 {
        assert!(chain.write(&name(n), world.entry(0, "value")).await.is_queued());
    }
    let began = tokio::time::Instant::now();
    chain.close().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "before the deadline: {:?}", began.elapsed());
    assert_eq!((behind(&chain).journalled, behind(&chain).dropped.total()), (40, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_goes_on_trying_what_is_not_in_the_journal() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let shared = world.tier("shared", SHARED);
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    let tiers = [world.tier("memory", VOLATILE), Arc::clone(&shared)];
    let tiers = tiers.map(|tier| (tier, TierOptions::default()));
    let limits = WriteBehind { flush_deadline: Duration::from_secs(30), ..WriteBehind::default() };
    // Too small for any record.
    let journal = Journal::with_max_bytes(dir.path(), 64).unwrap();
    let chain = world.builder_with(tiers).write_behind(limits).journal(journal).build();
    assert!(chain.write(&name(0), world.entry(0, "value")).await.is_queued());
    let recovery = async {
        // After three failures in a row.
        tokio::time::sleep(Duration::from_millis(700)).await;
        shared.writes(Mood::Well);
    };
    let (closed, ()) = tokio::join!(chain.close(), recovery);
    closed.unwrap();
    assert_eq!(shared.held(&name(0)).unwrap().value(), "value");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_tier_whose_breaker_opens_meanwhile() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let shared = world.tier("shared", SHARED);
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    let chain = chain(&world, dir.path(), &shared);
    // More than are tried at once, so that the last one is still waiting when the breaker opens.
    for n in 0..40 {
        assert!(chain.write(&name(n), world.entry(0, "value")).await.is_queued());
    }
    let began = tokio::time::Instant::now();
    let outcome = chain.write_with(&name(99), world.entry(0, "value"), WritePolicy::All).await;
    assert!(outcome.is_queued(), "{outcome:?}");
    assert_eq!(chain.report().tiers[1].breaker.state, "open");
    assert!(began.elapsed() < Duration::from_secs(5), "before the deadline: {:?}", began.elapsed());
}

#[tokio::test]
async fn what_a_process_leaves_is_delivered_by_one_that_runs_already() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let shared = world.tier("shared", SHARED);
    let server = chain(&world, dir.path(), &shared);
    let away = world.tier("shared", SHARED);
    away.writes(Mood::Fail(ErrorKind::Unavailable));
    let command = chain(&world, dir.path(), &away);
    assert!(command.write(&name(0), world.entry(0, "value")).await.is_queued());
    server.replay_journal().await;
    assert_eq!(behind(&server).replayed, 0, "its process runs");
    command.close().await.unwrap();

    server.replay_journal().await;
    server.settle().await;
    assert_eq!((behind(&server).replayed, behind(&server).delivered), (1, 1));
    assert_eq!(shared.held(&name(0)).unwrap().value(), "value");
    server.close().await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let last = chain(&world, dir.path(), &world.tier("shared", SHARED));
    let another = world.tier("shared", SHARED);
    another.writes(Mood::Fail(ErrorKind::Unavailable));
    let command = chain(&world, dir.path(), &another);
    assert!(command.write(&name(1), world.entry(0, "value")).await.is_queued());
    last.close().await.unwrap();
    command.close().await.unwrap();
    last.replay_journal().await;
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "one that is closed takes nothing over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closing_waits_until_the_end_of_each_write_is_in_the_journal() {
    let world = World::default();
    for round in 0..300 {
        let dir = tempfile::tempdir().unwrap();
        let chain = chain(&world, dir.path(), &world.tier("shared", SHARED));
        assert!(chain.write(&name(0), world.entry(0, "value")).await.is_queued());
        chain.close().await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_leaves_nothing_behind() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let shared = world.tier("shared", SHARED);
    let chain = chain(&world, dir.path(), &shared);
    for n in 0..100 {
        assert!(chain.write(&name(n), world.entry(0, "value")).await.is_queued());
    }
    chain.settle().await;
    assert_eq!(
        (behind(&chain).delivered, chain.report().journal.map(|journal| journal.bytes)),
        (100, Some(0))
    );
    chain.close().await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_on_disk_is_dropped_and_a_removal_is_not() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let shared = world.tier("shared", SHARED);
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    let first = chain(&world, dir.path(), &shared);
    assert!(first.write(&name(0), world.tombstone(0)).await.is_queued());
    assert!(first.write(&name(1), world.entry(0, "value")).await.is_queued());
    first.close().await.unwrap();
    world.clock.advance(Duration::from_secs(601));
    let shared = world.tier("shared", SHARED);
    let second = chain(&world, dir.path(), &shared);
    second.settle().await;
    let report = behind(&second);
    assert_eq!((report.replayed, report.delivered, report.dropped.too_old), (2, 1, 1));
    assert!(shared.held(&name(0)).unwrap().is_tombstone());
}

#[tokio::test(start_paused = true)]
async fn a_segment_for_a_tier_that_is_not_here_is_left_to_who_has_it() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let (shared, other) = (world.tier("shared", SHARED), world.tier("other", SHARED));
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    let first = chain(&world, dir.path(), &shared);
    assert!(first.write(&name(0), world.entry(0, "value")).await.is_queued());
    first.close().await.unwrap();
    let stranger = chain(&world, dir.path(), &other);
    assert_eq!(behind(&stranger).replayed, 0);
    let shared = world.tier("shared", SHARED);
    let next = chain(&world, dir.path(), &shared);
    next.settle().await;
    assert_eq!(behind(&next).delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_full_journal_does_not_take_is_counted_and_dropped_when_the_process_ends() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let shared = world.tier("shared", SHARED);
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    let first = chain_with(&world, Journal::with_max_bytes(dir.path(), 2_000).unwrap(), &shared);
    for n in 0..50 {
        assert!(first.write(&name(n), world.entry(1, "value")).await.is_queued());
    }
    first.close().await.unwrap();
    let report = behind(&first);
    assert!((1..50).contains(&report.unjournalled), "{report:?}");
    assert_eq!((report.journalled, report.dropped.shutdown), (50 - report.unjournalled, report.unjournalled));

    let shared = world.tier("shared", SHARED);
    let next = chain(&world, dir.path(), &shared);
    next.settle().await;
    assert_eq!((behind(&next).replayed, behind(&next).delivered), (report.journalled, report.journalled));
}

/// Not a test by itself: the process that the tests below kill.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let most = std::env::var(CHILD_BYTES).unwrap().parse().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let world = World::default();
        let shared = world.tier("shared", SHARED);
        shared.writes(Mood::Hang);
        let chain = chain_with(&world, Journal::with_max_bytes(dir, most).unwrap(), &shared);
        for n in 0..WRITES {
            let entry = if n % 10 == 0 { world.tombstone(1) } else { world.entry(1, "written by the dead") };
            assert!(chain.write(&name(n), entry).await.is_queued());
        }
        println!("\nall waits, in memory alone {}", behind(&chain).unjournalled);
        std::future::pending::<()>().await;
    });
}

/// Starts the child on a journal of at most `most` bytes and waits until it has written everything:
/// the process, and how many writes its journal did not take.
fn child(dir: &Path, most: u64) -> (Child, usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::child_that_is_killed", "--nocapture"])
        .env(CHILD, dir)
        .env(CHILD_BYTES, most.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let left_out = lines
        .find_map(|line| line.unwrap().strip_prefix("all waits, in memory alone ")?.parse().ok())
        .unwrap();
    (child, left_out)
}

#[tokio::test]
async fn killed_with_a_full_journal_the_next_process_delivers() {
    for (most, fits_all) in [(1 << 26, true), (1 << 16, false)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, left_out) = child(dir.path(), most);
        assert_eq!(left_out == 0, fits_all);
        let in_journal = WRITES - left_out;
        assert!(in_journal > 0);

        let world = World::default();
        let shared = world.tier("shared", SHARED);
        shared.plant(&name(0), world.entry(0, "old"));
        let early = chain(&world, dir.path(), &shared);
        assert_eq!(behind(&early).replayed, 0, "what a live process waits for is not taken from it");

        // SIGKILL: nothing of the child runs any more.
        child.kill().unwrap();
        child.wait().unwrap();
        let next = chain(&world, dir.path(), &shared);
        next.settle().await;
        let report = behind(&next);
        assert_eq!((report.replayed, report.delivered), (in_journal as u64, in_journal as u64));
        // The first ones fitted.
        for n in 0..in_journal {
            let held = shared.held(&name(n)).unwrap();
            assert_eq!((held.is_tombstone(), held.version()), (n % 10 == 0, world.version(1)));
        }
        next.close().await.unwrap();
        early.close().await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
