//! The disk tier under test: conformance, order and bound, damage, several processes.

mod damage;
mod directories;
mod kill;
mod model;
mod sharing;

use std::path::Path;
use std::time::Duration;

use peercache_api::{NodeId, Timestamp, Version};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

use super::*;

pub(super) const MIB: u64 = 1 << 20;

pub(super) fn key(name: impl std::fmt::Display) -> Key {
    Key::new(format!("test/{name}")).unwrap()
}

pub(super) fn version(n: u64) -> Version {
    Version { wall: Timestamp::from_millis(1_800_000_000_000 + n), counter: 0, node: NodeId::from_u64(1) }
}

/// `bytes` bytes that no two seeds share.
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word as u8
        })
        .collect()
}

pub(super) fn entry(n: u64, bytes: usize) -> Entry {
    let created = Timestamp::from_millis(1_800_000_000_000);
    Entry::builder(noise(n, bytes), version(n), created).fresh_for(Duration::from_secs(3600)).build().unwrap()
}

pub(super) fn open_with(dir: &Path, capacity: u64, clock: &Arc<ManualClock>) -> Disk {
    Disk::builder(dir).capacity(capacity).clock(Arc::<ManualClock>::clone(clock)).open().unwrap()
}

pub(super) fn open(dir: &Path) -> Disk {
    open_with(dir, 64 * MIB, &Arc::new(ManualClock::default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let clock = Arc::new(ManualClock::default());
    let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
        let disk = Disk::builder(&path).capacity(128 * MIB).clock(Arc::<ManualClock>::clone(&clock)).open();
        async move { Ok(Arc::new(disk?) as Arc<dyn CacheBackend>) }
    });
    conformance::assert_conforms(harness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_when_the_largest_value_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let clock = Arc::new(ManualClock::default());
    let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
        let disk = Disk::builder(&path).capacity(7 * MIB).clock(Arc::<ManualClock>::clone(&clock)).open();
        async move { Ok(Arc::new(disk?) as Arc<dyn CacheBackend>) }
    });
    conformance::assert_conforms(harness).await;
}

#[tokio::test]
async fn expired_entries_are_swept_by_later_puts() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let disk = open_with(dir.path(), 64 * MIB, &clock);
    for n in 0..20 {
        disk.put(&key(n), entry(n, 100 + 10_000 * n as usize)).await.unwrap();
    }
    clock.advance(Duration::from_secs(3600));
    let later = |n: u64| {
        Entry::builder("v", version(3_600_000 + n), clock.now())
            .fresh_for(Duration::from_secs(60))
            .build()
            .unwrap()
    };
    for n in 0..40 {
        disk.put(&key("same"), later(n)).await.unwrap();
    }
    assert_eq!(disk.stats().await.unwrap().entries, 1);
    assert_eq!(blob_files(dir.path()), 0, "the files of expired entries go with them");
}

#[tokio::test]
async fn cold_start_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    for n in 0..50 {
        disk.put(&key(n), entry(n, 2000 * n as usize)).await.unwrap();
    }
    let before = disk.stats().await.unwrap();
    disk.close().await.unwrap();
    let disk = open(dir.path());
    let after = disk.stats().await.unwrap();
    assert_eq!((after.entries, after.bytes, after.healed), (before.entries, before.bytes, 0));
    for n in 0..50 {
        assert_eq!(disk.get(&key(n)).await.unwrap(), Some(entry(n, 2000 * n as usize)));
    }
}

#[tokio::test]
async fn pages_give_everything_once_and_the_latest_first() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let disk = open_with(dir.path(), 64 * MIB, &clock);
    assert!(disk.page(None, 10).await.unwrap().entries.is_empty());
    let written = |n: u64| {
        Entry::builder(noise(n, 1000 * n as usize), version(n), clock.now())
            .fresh_for(Duration::from_secs(if n == 7 { 1 } else { 3600 }))
            .build()
            .unwrap()
    };
    for n in 0..100 {
        disk.put(&key(n), written(n)).await.unwrap();
    }
    disk.put(&key(5), Entry::tombstone(version(500), clock.now())).await.unwrap();
    disk.put(&key("large"), entry(1, 5 << 20)).await.unwrap();
    clock.advance(Duration::from_secs(2));
    let (mut all, mut next, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = disk.page(next, 40).await.unwrap();
        all.extend(page.entries);
        pages += 1;
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(pages, 4, "a large value ends a page: 1, 40, 40, 20");
    assert_eq!(all[0].0, key("large"));
    assert_eq!(all.len(), 100, "all but the one that is expired");
    assert!(all.iter().all(|(of, _)| *of != key(7)));
    let removed = all.iter().find(|(of, _)| *of == key(5)).unwrap();
    assert!(removed.1.is_tombstone());
    assert_eq!(all[1].1.value(), written(99).value());
}

#[tokio::test]
async fn keys_are_not_on_the_disk_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let name = Key::new("repos/acme/hush-hush").unwrap();
    disk.put(&name, entry(1, 10)).await.unwrap();
    disk.put(&name, entry(2, 100_000)).await.unwrap();
    disk.close().await.unwrap();
    for file in files(dir.path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"hush-hush"), "{}", file.display());
        assert!(!file.to_string_lossy().contains("hush"));
    }
}

/// Every file below `dir`.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

pub(super) fn blob_files(dir: &Path) -> usize {
    let blobs = dir.join("blobs");
    if blobs.exists() { files(&blobs).len() } else { 0 }
}
