//! A damaged store heals itself, says so in its counters, and never gives out a wrong byte.

use std::fs;

use super::*;

const ENTRIES: u64 = 40;
/// Each damages the index at other places.
const SEEDS: u64 = 16;

fn size(n: u64) -> usize {
    [10, 900, 5000, 30_000, 90_000][n as usize % 5]
}

async fn fill(disk: &Disk) {
    for n in 0..ENTRIES {
        disk.put(&key(n), entry(n, size(n))).await.unwrap();
    }
}

async fn filled(dir: &Path) {
    let disk = open(dir);
    fill(&disk).await;
    disk.close().await.unwrap();
    // Closing leaves the log, which would mend what these tests damage.
    let sql = rusqlite::Connection::open(dir.join("index.sqlite")).unwrap();
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// Reads every key: right, absent or reported. Then the store must work as if nothing had been.
async fn survives(disk: &Disk, what: &str) -> u64 {
    let mut intact = 0;
    for n in 0..ENTRIES {
        match disk.get(&key(n)).await {
            Ok(Some(found)) => {
                let right = found == entry(n, size(n)) || found == entry(n + 1000, size(n));
                assert!(right, "{what}: key {n} holds something else: {found:?}");
                intact += 1;
            }
            Ok(None) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
                let again = disk.get(&key(n)).await;
                assert!(
                    again.as_ref().is_ok_and(Option::is_none),
                    "{what}: damage is met once, then {again:?}"
                );
            }
        }
    }
    for n in 0..ENTRIES {
        let new = entry(n + 1000, size(n));
        disk.put(&key(n), new.clone()).await.unwrap_or_else(|error| panic!("{what}: put {n}: {error}"));
        assert_eq!(disk.get(&key(n)).await.unwrap(), Some(new), "{what}");
    }
    intact
}

#[tokio::test]
async fn flipped_bytes_in_the_index() {
    for seed in 1..=SEEDS {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        let path = dir.path().join("index.sqlite");
        let mut bytes = fs::read(&path).unwrap();
        let spots = noise(seed, 8 * (1 + seed as usize % 12));
        for spot in spots.chunks(8) {
            let at = u64::from_le_bytes(spot.try_into().unwrap()) as usize;
            // Half of the seeds aim at the first pages, where the schema and the roots are.
            let at = if seed % 2 == 0 { at % 20_000 } else { at % bytes.len() };
            bytes[at] ^= 1 << (at % 8);
        }
        fs::write(&path, bytes).unwrap();
        survives(&open(dir.path()), &format!("seed {seed}")).await;
    }
}

#[tokio::test]
async fn flipped_byte_in_a_large_value() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let blobs = files(&dir.path().join("blobs"));
    assert_eq!(blobs.len() as u64, ENTRIES / 5);
    let mut bytes = fs::read(&blobs[0]).unwrap();
    bytes[50_000] ^= 4;
    fs::write(&blobs[0], bytes).unwrap();
    fs::write(&blobs[1], "short").unwrap();
    fs::remove_file(&blobs[2]).unwrap();
    let disk = open(dir.path());
    assert_eq!(survives(&disk, "blobs").await, ENTRIES - 3);
    let stats = disk.stats().await.unwrap();
    assert_eq!((stats.corrupt_dropped, stats.healed), (3, 0), "{stats:?}");
}

#[tokio::test]
async fn a_value_under_the_wrong_row_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let sql = rusqlite::Connection::open(dir.path().join("index.sqlite")).unwrap();
    sql.execute("UPDATE entry SET body = (SELECT body FROM entry WHERE id = 1) WHERE id = 2", []).unwrap();
    drop(sql);
    let disk = open(dir.path());
    assert_eq!(disk.get(&key(0)).await.unwrap(), Some(entry(0, size(0))));
    assert_eq!(disk.get(&key(1)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(disk.get(&key(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_row_that_claims_a_newer_version_does_not_pin_its_value() {
    for column in ["wall = wall + 4096", "counter = 1024", "node = -1", "created = created + 1"] {
        for size in [10, 100_000] {
            let dir = tempfile::tempdir().unwrap();
            let disk = open(dir.path());
            disk.put(&key(1), entry(1, size)).await.unwrap();
            let sql = rusqlite::Connection::open(dir.path().join("index.sqlite")).unwrap();
            sql.execute(&format!("UPDATE entry SET {column}"), []).unwrap();
            drop(sql);
            disk.put(&key(1), entry(2, size)).await.unwrap();
            assert_eq!(disk.get(&key(1)).await.unwrap(), Some(entry(2, size)), "{column}");
        }
    }
}

#[tokio::test]
async fn an_unknown_format_is_a_miss_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let sql = rusqlite::Connection::open(dir.path().join("index.sqlite")).unwrap();
    let mut body: Vec<u8> =
        sql.query_row("SELECT body FROM entry WHERE id = 1", [], |row| row.get(0)).unwrap();
    body[4] = 99;
    sql.execute("UPDATE entry SET body = ?1 WHERE id = 1", [body]).unwrap();
    drop(sql);
    let disk = open(dir.path());
    assert_eq!(disk.get(&key(0)).await.unwrap(), None);
    let stats = disk.stats().await.unwrap();
    assert_eq!((stats.entries, stats.corrupt_dropped), (ENTRIES, 0), "a newer build wrote it: {stats:?}");
}

#[tokio::test]
async fn truncated_and_replaced_indexes() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 6] = [
        ("truncated to nothing", |path| fs::write(path, "").unwrap()),
        ("truncated to a byte", |path| fs::write(path, "S").unwrap()),
        ("garbage", |path| fs::write(path, noise(3, 100_000)).unwrap()),
        ("text", |path| fs::write(path, "not a database\n".repeat(1000)).unwrap()),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("another database", |path| {
            fs::remove_file(path).unwrap();
            rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        }),
    ];
    for (what, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        harm(&dir.path().join("index.sqlite"));
        let disk = open(dir.path());
        assert_eq!(survives(&disk, what).await, 0);
        assert_eq!(disk.stats().await.unwrap().healed, 1, "{what}");
        assert!(dir.path().join("quarantine").exists(), "{what}");
    }
}

#[tokio::test]
async fn half_an_index_is_noticed_when_its_end_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let path = dir.path().join("index.sqlite");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let disk = open(dir.path());
    survives(&disk, "half").await;
    assert!(disk.stats().await.unwrap().healed >= 1);
}

#[tokio::test]
async fn damage_while_open_is_met_by_all_who_have_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()), open(dir.path()));
    fill(&one).await;
    assert!(two.get(&key(1)).await.unwrap().is_some());
    for round in 0..3_u64 {
        // As another program would: a whole other file in its place.
        let other = dir.path().join("other");
        fs::write(&other, noise(round, 50_000)).unwrap();
        fs::rename(&other, dir.path().join("index.sqlite")).unwrap();
        for companion in ["index.sqlite-wal", "index.sqlite-shm"] {
            fs::remove_file(dir.path().join(companion)).unwrap();
        }
        let (first, second) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let new = entry(5000 + round, 70_000);
        first.put(&key("new"), new.clone()).await.unwrap();
        assert_eq!(second.get(&key("new")).await.unwrap(), Some(new));
    }
    let healed = one.stats().await.unwrap().healed + two.stats().await.unwrap().healed;
    assert_eq!(healed, 3, "each damage is repaired once, by one of them");
    assert!(files(&dir.path().join("quarantine")).len() <= 3, "only the last is kept");
    survives(&one, "one").await;
    assert_eq!(survives_reading(&two).await, ENTRIES);
}

async fn survives_reading(disk: &Disk) -> u64 {
    let mut found = 0;
    for n in 0..ENTRIES {
        found += u64::from(disk.get(&key(n)).await.unwrap() == Some(entry(n + 1000, size(n))));
    }
    found
}

/// What restores a directory may leave the log of the old index beside the new one.
#[tokio::test]
async fn an_index_of_another_directory_in_its_place_while_open() {
    let (dir, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (open(dir.path()), open(dir.path()));
    fill(&one).await;
    assert!(two.get(&key(1)).await.unwrap().is_some());
    filled(from.path()).await;
    fs::rename(from.path().join("index.sqlite"), dir.path().join("index.sqlite")).unwrap();
    survives(&one, "who noticed first").await;
    assert_eq!(survives_reading(&two).await, ENTRIES);
    let healed = one.stats().await.unwrap().healed + two.stats().await.unwrap().healed;
    assert_eq!(healed, 1, "the two do not belong together: one of the handles started anew");
}

#[tokio::test]
async fn without_its_log_the_index_is_older_but_whole() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    fill(&disk).await;
    drop(disk);
    for companion in ["index.sqlite-wal", "index.sqlite-shm"] {
        fs::remove_file(dir.path().join(companion)).unwrap();
    }
    survives(&open(dir.path()), "no log").await;
}

#[tokio::test]
async fn the_log_removed_while_open() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()), open(dir.path()));
    fill(&one).await;
    fs::remove_file(dir.path().join("index.sqlite-wal")).unwrap();
    survives(&one, "who had it open").await;
    survives(&open(dir.path()), "who came later").await;
    let last = entry(9000, 10);
    two.put(&key("last"), last.clone()).await.unwrap();
    assert_eq!(two.get(&key("last")).await.unwrap(), Some(last));
}

#[tokio::test]
async fn the_directory_removed_while_open() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cache");
    let disk = open(&root);
    fill(&disk).await;
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(survives(&disk, "removed").await, 0);
    assert_eq!(disk.stats().await.unwrap().healed, 1);
    disk.close().await.unwrap();
    assert_eq!(survives_reading(&open(&root)).await, ENTRIES);
}

#[tokio::test]
async fn a_directory_replaced_by_a_file_is_an_error_and_then_works_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cache");
    let disk = open(&root);
    fs::remove_dir_all(&root).unwrap();
    fs::write(&root, "in the way").unwrap();
    assert!(disk.get(&key(1)).await.is_err());
    assert!(disk.put(&key(1), entry(1, 1)).await.is_err());
    assert!(disk.probe().await.is_err());
    fs::remove_file(&root).unwrap();
    survives(&disk, "back").await;
    disk.probe().await.unwrap();
}

#[tokio::test]
async fn index_of_another_schema_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let theirs = dir.path().join("index.sqlite");
    let version = |path: &Path, set: Option<i32>| -> i32 {
        let sql = rusqlite::Connection::open(path).unwrap();
        if let Some(set) = set {
            sql.pragma_update(None, "user_version", set).unwrap();
        }
        sql.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    version(&theirs, Some(77));
    let files = blob_files(dir.path());
    let disk = open(dir.path());
    assert_eq!(disk.get(&key(0)).await.unwrap(), None);
    disk.put(&key(0), entry(9, 10)).await.unwrap();
    assert_eq!(disk.get(&key(0)).await.unwrap(), Some(entry(9, 10)));
    assert_eq!((disk.stats().await.unwrap().entries, disk.stats().await.unwrap().healed), (1, 0));
    disk.close().await.unwrap();
    let sql = rusqlite::Connection::open(&theirs).unwrap();
    let rows: i64 = sql.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap();
    assert_eq!((version(&theirs, None), rows), (77, ENTRIES as i64));
    assert_eq!(blob_files(dir.path()), files, "nor are the files of the other release touched");
}

#[tokio::test]
async fn file_of_a_killed_put_counts_and_is_removed_when_old_enough() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let digest = [0xab_u8; 32];
    let fan = dir.path().join("blobs/ab");
    fs::create_dir_all(&fan).unwrap();
    let orphan = fan.join(format!("{}-{:016x}", "ab".repeat(32), 5));
    fs::write(&orphan, noise(1, 8192)).unwrap();
    let sql = rusqlite::Connection::open(dir.path().join("index.sqlite")).unwrap();
    sql.execute(
        "INSERT INTO loose (digest, file, size, since, dead) VALUES (?1, 5, 8192, 0, 0)",
        [&digest[..]],
    )
    .unwrap();
    sql.execute("UPDATE total SET loose = loose + 8192", []).unwrap();
    drop(sql);
    let written = fs::metadata(&orphan).unwrap().modified().unwrap();
    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;

    let at = |after: u64| Arc::new(ManualClock::new(Timestamp::from_millis(written + after)));
    let young = open_with(dir.path(), 64 * MIB, &at(1_000));
    let before = young.stats().await.unwrap();
    assert_eq!(before.orphans_removed, 0);
    assert!(orphan.exists(), "it may belong to a put that is about to commit");
    let old = open_with(dir.path(), 64 * MIB, &at(70_000));
    let after = old.stats().await.unwrap();
    assert_eq!((after.orphans_removed, before.bytes - after.bytes), (1, 8192));
    assert!(!orphan.exists());
    assert_eq!(blob_files(dir.path()) as u64, ENTRIES / 5, "what has a row stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_damage_under_load_gives_no_wrong_byte_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let handles: Vec<_> = (0..3).map(|_| Arc::new(open_with(dir.path(), 64 * MIB, &clock))).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for (index, disk) in handles.iter().enumerate() {
        let disk = Arc::clone(disk);
        tasks.spawn(async move {
            for n in 0..150_u64 {
                let name = key(n % 7);
                let n = n * 3 + index as u64;
                let outcome = match disk.put(&name, entry(n, size(n))).await {
                    Ok(()) => disk.get(&name).await.map(|found| {
                        if let Some(found) = found {
                            let n = found.version().wall.as_millis() - 1_800_000_000_000;
                            assert_eq!(found, entry(n, size(n)));
                        }
                    }),
                    Err(error) => Err(error),
                };
                if let Err(error) = outcome {
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::Unavailable | ErrorKind::Corrupt), "{error}");
                }
            }
        });
    }
    for round in 0..12_u64 {
        let other = dir.path().join("other");
        fs::write(&other, noise(round, 20_000 * (1 + round as usize % 4))).unwrap();
        fs::rename(&other, dir.path().join("index.sqlite")).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for (index, disk) in handles.iter().enumerate() {
        for n in 0..ENTRIES {
            let new = entry(10_000 + 100 * index as u64 + n, size(n));
            disk.put(&key(n), new.clone()).await.unwrap();
            for other in &handles {
                assert_eq!(other.get(&key(n)).await.unwrap(), Some(new.clone()), "all see what one wrote");
            }
        }
    }
}
