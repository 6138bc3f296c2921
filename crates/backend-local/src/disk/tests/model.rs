//! Against a model: the newest write is there or evicted, and the bound holds at every step.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, version: u64, bytes: usize },
    Bury { key: u8, version: u64 },
    Get { key: u8 },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![0..300_usize, 4000..70_000_usize, 100_000..400_000_usize];
    let put =
        (0..16_u8, 0..30_u64, bytes).prop_map(|(key, version, bytes)| Step::Put { key, version, bytes });
    let bury = (0..16_u8, 0..30_u64).prop_map(|(key, version)| Step::Bury { key, version });
    let get = (0..16_u8).prop_map(|key| Step::Get { key });
    prop::collection::vec(prop_oneof![8 => put, 2 => bury, 4 => get, 1 => Just(Step::Reopen)], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn newest_wins_within_the_bound(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let mut disk = open_with(dir.path(), MIB, &clock);
        let mut model: HashMap<u8, Entry> = HashMap::new();
        for step in steps {
            let put = match step {
                Step::Put { key: name, version, bytes } => Some((name, entry(version, bytes))),
                Step::Bury { key: name, version: n } => Some((name, Entry::tombstone(version(n), clock.now()))),
                Step::Get { key: name } => {
                    let found = runtime.block_on(disk.get(&key(name))).unwrap();
                    prop_assert!(found.is_none() || found.as_ref() == model.get(&name));
                    None
                }
                Step::Reopen => {
                    runtime.block_on(disk.close()).unwrap();
                    disk = open_with(dir.path(), MIB, &clock);
                    None
                }
            };
            if let Some((name, new)) = put {
                let held = runtime.block_on(disk.get(&key(name))).unwrap();
                runtime.block_on(disk.put(&key(name), new.clone())).unwrap();
                let winner = held.filter(|held| held.version() >= new.version()).unwrap_or(new);
                let found = runtime.block_on(disk.get(&key(name))).unwrap();
                prop_assert_eq!(found.as_ref(), Some(&winner), "an accepted entry is there at once");
                model.insert(name, winner);
            }
            let stats = runtime.block_on(disk.stats()).unwrap();
            prop_assert!(stats.bytes <= stats.capacity, "{:?}", stats);
            prop_assert!(stats.entries <= model.len() as u64);
            prop_assert_eq!((stats.corrupt_dropped, stats.healed), (0, 0));
        }
        // What the books say is what the rows and the files are.
        let before = runtime.block_on(disk.stats()).unwrap();
        runtime.block_on(disk.close()).unwrap();
        let disk = open_with(dir.path(), MIB, &clock);
        let after = runtime.block_on(disk.stats()).unwrap();
        prop_assert_eq!((after.entries, after.bytes), (before.entries, before.bytes));
        prop_assert_eq!(after.orphans_removed, 0);
    }
}

#[tokio::test]
async fn the_least_recently_used_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open_with(dir.path(), MIB, &Arc::new(ManualClock::default()));
    for n in 0..15 {
        disk.put(&key(n), entry(n, 60_000)).await.unwrap();
    }
    for n in [0, 2, 4] {
        assert!(disk.get(&key(n)).await.unwrap().is_some());
    }
    for n in 100..110 {
        disk.put(&key(n), entry(n, 60_000)).await.unwrap();
    }
    let mut left = Vec::new();
    for n in 0..15 {
        if disk.get(&key(n)).await.unwrap().is_some() {
            left.push(n);
        }
    }
    let newest: Vec<u64> = (15 - (left.len() as u64 - 3)..15).collect();
    assert_eq!((&left[..3], &left[3..]), (&[0, 2, 4][..], &newest[..]), "what was read outlives the rest");
    assert!(left.len() > 3, "as much is kept as fits");
    assert!(disk.stats().await.unwrap().evicted > 0);
}

#[tokio::test]
async fn lower_capacity_is_kept_from_the_first_put_and_not_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let disk = open_with(dir.path(), 16 * MIB, &clock);
    for n in 0..60 {
        disk.put(&key(n), entry(n, 100_000)).await.unwrap();
    }
    disk.close().await.unwrap();
    let disk = open_with(dir.path(), 2 * MIB, &clock);
    assert!(disk.get(&key(59)).await.unwrap().is_some());
    let stats = disk.stats().await.unwrap();
    assert_eq!((stats.entries, stats.evicted), (60, 0), "who only looks evicts nothing");
    disk.put(&key(60), entry(60, 100_000)).await.unwrap();
    let stats = disk.stats().await.unwrap();
    assert!(stats.bytes <= 2 * MIB && stats.entries > 10, "{stats:?}");
    assert_eq!(stats.evicted, 61 - stats.entries);
    assert_eq!(blob_files(dir.path()) as u64, stats.entries);
}

#[tokio::test]
async fn the_directory_is_really_about_as_large_as_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let capacity = 4 * MIB;
    let disk = open_with(dir.path(), capacity, &Arc::new(ManualClock::default()));
    for n in 0..1500_u64 {
        let bytes = [0, 100, 3000, 5000, 20_000, 60_000, 90_000][n as usize % 7];
        disk.put(&key(n % 900), entry(n, bytes)).await.unwrap();
    }
    let size: u64 = files(dir.path()).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    // Beside the entries: the log, and pages that are not quite full.
    assert!(size < capacity + capacity / 4 + 5 * MIB, "{size} bytes on disk for a capacity of {capacity}");
}
