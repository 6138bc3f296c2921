//! Segments on a real disk: what survives, who may take it over, and how large they become.

use super::record::FRAME_BYTES;
use super::record::tests::entry;
use super::*;

pub(super) const QUEUED: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(super) fn key(n: u32) -> Key {
    Key::new(format!("key {n}")).unwrap()
}

pub(super) fn append(journal: &Journal, n: u32, version: u32, bytes: usize) -> bool {
    journal.append("s3", &key(n), &entry(version, vec![b'v'; bytes]), QUEUED).unwrap()
}

pub(super) fn end(journal: &Journal, n: u32, version: u32) {
    journal.end("s3", &key(n), entry(version, "").version(), QUEUED).unwrap();
}

/// What the orphans in `journal`'s directory hold: key and counter of the version.
pub(super) fn found(orphans: &[Orphan]) -> Vec<(Key, u32)> {
    orphans
        .iter()
        .flat_map(Orphan::writes)
        .map(|(_, key, entry, _)| (key.clone(), entry.version().counter))
        .collect()
}

/// Lets go of the journal as `kill -9` would: nothing is written out, but the locks fall.
pub(super) fn kill(journal: Journal) {
    journal.lock.unlock().unwrap();
    std::mem::forget(journal);
}

pub(super) fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

pub(super) fn log(dir: &Path) -> PathBuf {
    let mut paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|extension| extension == "log")).unwrap()
}

#[test]
fn what_has_not_ended_is_found_by_the_next_process_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let dead = Journal::open(dir.path()).unwrap();
    for n in 0..4 {
        assert!(append(&dead, n, 1, 10));
    }
    assert!(append(&dead, 0, 2, 10), "a newer one of the same key");
    assert!(append(&dead, 3, 0, 10), "an older one changes nothing");
    end(&dead, 1, 1);
    end(&dead, 2, 0);
    assert!(append(&dead, 5, 1, 10));
    kill(dead);

    let journal = Journal::open(dir.path()).unwrap();
    let orphans = journal.orphans().unwrap();
    assert_eq!(found(&orphans), [(key(2), 1), (key(3), 1), (key(0), 2), (key(5), 1)]);
    assert_eq!(orphans[0].writes()[0].3, QUEUED);
    assert!(!orphans[0].left.torn);
    orphans.into_iter().for_each(|orphan| orphan.remove().unwrap());
    assert_eq!(files(dir.path()), 2, "ours");
    drop(journal);
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn a_live_segment_is_left_alone_and_a_dead_one_goes_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let live = Journal::open(dir.path()).unwrap();
    assert!(append(&live, 0, 1, 10));
    let (first, second) = (Journal::open(dir.path()).unwrap(), Journal::open(dir.path()).unwrap());
    assert!(first.orphans().unwrap().is_empty());
    kill(live);
    let orphans = first.orphans().unwrap();
    assert_eq!(found(&orphans), [(key(0), 1)]);
    assert!(second.orphans().unwrap().is_empty(), "the first one has it");
    drop(orphans);
    assert_eq!(second.orphans().unwrap().len(), 1, "what was not removed is there for the next");
}

#[test]
fn closing_leaves_what_waits_and_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    assert!(append(&journal, 0, 1, 10) && append(&journal, 1, 1, 10));
    end(&journal, 0, 1);
    journal.close().unwrap();
    journal.close().unwrap();
    assert!(!append(&journal, 2, 1, 10));
    let next = Journal::open(dir.path()).unwrap();
    assert_eq!(found(&next.orphans().unwrap()), [(key(1), 1)]);
    drop(journal);
    assert_eq!(found(&next.orphans().unwrap()), [(key(1), 1)], "it is not ours any more to remove");
}

#[test]
fn a_torn_or_damaged_end_loses_itself_only() {
    for cut in [1, FRAME_BYTES as u64 - 1, FRAME_BYTES as u64, 50] {
        let dir = tempfile::tempdir().unwrap();
        let dead = Journal::open(dir.path()).unwrap();
        assert!(append(&dead, 0, 1, 10) && append(&dead, 1, 1, 10));
        kill(dead);
        let whole = std::fs::read(log(dir.path())).unwrap();
        let torn = whole.len() - usize::try_from(cut).unwrap();
        std::fs::write(log(dir.path()), &whole[..torn]).unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let orphans = journal.orphans().unwrap();
        assert_eq!((found(&orphans), orphans[0].left.torn), (vec![(key(0), 1)], true), "{cut}");
        assert_eq!((journal.report().torn, journal.report().refused), (1, 0));
    }
    let dir = tempfile::tempdir().unwrap();
    kill(Journal::open(dir.path()).unwrap());
    std::fs::write(log(dir.path()), "something else").unwrap();
    let orphans = Journal::open(dir.path()).unwrap().orphans().unwrap();
    assert!(orphans[0].writes().is_empty() && orphans[0].left.torn);
}

#[test]
fn it_stays_within_its_bound_whatever_passes_through() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::with_max_bytes(dir.path(), 100_000).unwrap();
    let size = || std::fs::metadata(log(dir.path())).unwrap().len();
    for n in 0..8 {
        assert!(append(&journal, n, 1, 10_000));
    }
    assert!(!append(&journal, 8, 1, 30_000), "everything in it still waits");
    for version in 2..50 {
        assert!(append(&journal, version % 8, version, 10_000));
        assert!(size() <= 100_000);
    }
    for n in 1..8 {
        end(&journal, n, 99);
    }
    assert!(append(&journal, 9, 1, 30_000), "there is room once others have ended");
    assert!(size() <= 100_000);
    kill(journal);
    let next = Journal::open(dir.path()).unwrap();
    assert_eq!(found(&next.orphans().unwrap()), [(key(0), 48), (key(9), 1)]);
}

#[test]
fn ended_writes_do_not_pile_up_between_waiting_ones() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    assert!(append(&journal, 0, 1, 10));
    for n in 1..100 {
        assert!(append(&journal, n, 1, 50_000));
        end(&journal, n, 1);
    }
    assert!(std::fs::metadata(log(dir.path())).unwrap().len() < 1_500_000, "5 MB have passed through");
    end(&journal, 0, 1);
    assert!(std::fs::metadata(log(dir.path())).unwrap().len() < 10, "nothing waits");
    kill(journal);
    assert!(found(&Journal::open(dir.path()).unwrap().orphans().unwrap()).is_empty());
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_it_and_a_directory_of_all_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let place = dir.path().join("new/journal");
    let journal = Journal::open(&place).unwrap();
    assert!(append(&journal, 0, 1, 10));
    assert_eq!((mode(&place), mode(&log(&place)), mode(&journal.lock_path)), (0o700, 0o600, 0o600));

    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Journal::open(&open).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("mode=0777"), "{error}");
    assert_eq!(error.help(), Some("give a directory of this user alone, with mode 0700"));
}

#[test]
fn a_place_that_cannot_be_made_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Journal::open(file.join("journal")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("file/journal"), "{error}");
}

#[test]
fn locks_hold_against_processes_that_open_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let dir = dir.path().to_owned();
            std::thread::spawn(move || {
                let mut taken = 0;
                for round in 0..20 {
                    let journal = Journal::open(&dir).unwrap();
                    for orphan in journal.orphans().unwrap() {
                        taken += orphan.writes().len();
                        orphan.remove().unwrap();
                    }
                    assert!(append(&journal, 100 * n + round, 1, 10));
                    kill(journal);
                }
                taken
            })
        })
        .collect();
    let mut taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let last = Journal::open(dir.path()).unwrap();
    for orphan in last.orphans().unwrap() {
        taken += orphan.writes().len();
    }
    assert_eq!(taken, 160, "each write is taken over once");
}
