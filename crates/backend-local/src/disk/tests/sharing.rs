//! Several handles on one directory at once, and callers that go away.

use tokio::task::JoinSet;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_agree_under_concurrent_writes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    // Opened before anything is written: opening sweeps files, and this clock is far ahead of
    // theirs.
    let handles = [
        Arc::new(open_with(dir.path(), 64 * MIB, &clock)),
        Arc::new(open_with(dir.path(), 64 * MIB, &clock)),
    ];
    let mut tasks = JoinSet::new();
    for (index, disk) in handles.iter().enumerate() {
        for name in 0..6_u64 {
            let disk = Arc::clone(disk);
            tasks.spawn(async move {
                for n in 0..20_u64 {
                    let n = 2 * n + index as u64;
                    disk.put(&key(name), entry(n, [50, 3000, 80_000][n as usize % 3])).await.unwrap();
                    let found = disk.get(&key(name)).await.unwrap().expect("it was put");
                    let seen = found.version().wall.as_millis() - 1_800_000_000_000;
                    assert!(seen >= n);
                    assert_eq!(found, entry(seen, [50, 3000, 80_000][seen as usize % 3]));
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for disk in &handles {
        for name in 0..6 {
            assert_eq!(disk.get(&key(name)).await.unwrap(), Some(entry(39, 50)));
        }
        let stats = disk.stats().await.unwrap();
        assert_eq!((stats.entries, stats.corrupt_dropped, stats.healed), (6, 0, 0));
    }
    assert_eq!(blob_files(dir.path()), 0, "replaced files are removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_across_handles() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let (one, two) = (open_with(dir.path(), 2 * MIB, &clock), open_with(dir.path(), 2 * MIB, &clock));
    for n in 0..100 {
        one.put(&key(format!("one{n}")), entry(n, 70_000)).await.unwrap();
        two.put(&key(format!("two{n}")), entry(n, 30_000)).await.unwrap();
        assert!(one.stats().await.unwrap().bytes <= 2 * MIB);
    }
    assert_eq!(one.stats().await.unwrap().bytes, two.stats().await.unwrap().bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_the_same_new_directory_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new");
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let root = root.clone();
        tasks.spawn_blocking(move || {
            let disk = open(&root);
            (n, disk)
        });
    }
    let handles = tasks.join_all().await;
    for (n, disk) in &handles {
        disk.put(&key(n), entry(*n, 10)).await.unwrap();
    }
    for (_, disk) in &handles {
        let stats = disk.stats().await.unwrap();
        assert_eq!((stats.entries, stats.healed), (8, 0), "one made it, nobody replaced it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_puts_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    for n in 0..60 {
        let name = key(n % 4);
        let put = disk.put(&name, entry(n, 100_000));
        // Zero lets it run until it first waits: the job is then on its way, or was never begun.
        let _ = tokio::time::timeout(Duration::ZERO, put).await;
    }
    disk.close().await.unwrap();
    let disk = open(dir.path());
    let stats = disk.stats().await.unwrap();
    assert_eq!((stats.orphans_removed, stats.corrupt_dropped), (0, 0));
    assert_eq!(blob_files(dir.path()) as u64, stats.entries);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_what_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(open(dir.path()));
    let mut puts = JoinSet::new();
    for n in 0..30 {
        let disk = Arc::clone(&disk);
        puts.spawn(async move { (n, disk.put(&key(n), entry(n, 20_000)).await) });
    }
    tokio::task::yield_now().await;
    disk.close().await.unwrap();
    let again = open(dir.path());
    while let Some(done) = puts.join_next().await {
        let (n, put) = done.unwrap();
        match put {
            Ok(()) => assert_eq!(again.get(&key(n)).await.unwrap(), Some(entry(n, 20_000))),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
    }
}
