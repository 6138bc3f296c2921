//! Sealed segments: nobody without the key reads them, and nothing that others made is delivered.

use std::time::Duration;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::record::{FRAME_BYTES, framed};
use super::seal::SEALED_HEADER;
use super::tests::{append, end, files, found, key, kill, log};
use super::*;

/// No cipher, but enough of one: what is sealed looks like nothing, and is bound to key and
/// segment.
#[derive(Debug)]
struct Toy {
    key: u8,
    former: Vec<u8>,
}

impl Toy {
    fn tag(key: u8, segment: &[u8], sealed: &[u8]) -> [u8; 8] {
        xxh3_64_with_seed(sealed, xxh3_64(segment) ^ u64::from(key)).to_be_bytes()
    }
}

impl JournalSeal for Toy {
    fn key_id(&self) -> [u8; 8] {
        [self.key; 8]
    }

    fn knows(&self, key_id: [u8; 8]) -> bool {
        key_id == self.key_id() || self.former.iter().any(|key| key_id == [*key; 8])
    }

    fn seal(&self, segment: &[u8], record: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealed: Vec<_> = record.iter().map(|byte| byte ^ self.key).collect();
        sealed.extend(Self::tag(self.key, segment, &sealed));
        Ok(sealed)
    }

    fn open(&self, key_id: [u8; 8], segment: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (record, tag) = sealed.split_last_chunk()?;
        let key = key_id[0];
        (*tag == Self::tag(key, segment, record)).then(|| record.iter().map(|byte| byte ^ key).collect())
    }
}

fn seal(key: u8) -> Arc<dyn JournalSeal> {
    Arc::new(Toy { key, former: Vec::new() })
}

fn sealed(dir: &Path, key: u8) -> Journal {
    Journal::open_sealed(dir, seal(key)).unwrap()
}

/// What a process with this journal takes over, and what it says about the rest.
fn taken(journal: &Journal) -> (Vec<(Key, u32)>, JournalReport) {
    (found(&journal.orphans().unwrap()), journal.report())
}

fn report(torn: u64, refused: u64, foreign: u64) -> JournalReport {
    JournalReport { bytes: 0, sealed: true, torn, refused, foreign }
}

/// The bodies of a sealed segment.
fn bodies(segment: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut bodies) = (&segment[16..], Vec::new());
    while let Some((length, _)) = rest.split_first_chunk() {
        let (body, after) = rest[FRAME_BYTES..].split_at(u32::from_be_bytes(*length) as usize);
        bodies.push(body.to_vec());
        rest = after;
    }
    bodies
}

fn segment(key: u8, bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut segment = [&SEALED_HEADER[..], &[key; 8]].concat();
    bodies.iter().for_each(|body| segment.extend(framed(body)));
    segment
}

#[test]
fn nothing_lies_there_in_clear_and_who_has_the_key_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let dead = sealed(dir.path(), 7);
    assert!(append(&dead, 0, 1, 50) && append(&dead, 1, 1, 50) && append(&dead, 2, 1, 50));
    end(&dead, 1, 1);
    assert!(append(&dead, 3, 1, 50), "the end before it is in the file");
    kill(dead);
    let bytes = std::fs::read(log(dir.path())).unwrap();
    for hidden in [&b"key 0"[..], b"key 1", b"vvvv", b"s3", b"acme"] {
        assert!(!bytes.windows(hidden.len()).any(|window| window == hidden), "{hidden:?}");
    }
    let next = sealed(dir.path(), 7);
    let orphans = next.orphans().unwrap();
    assert_eq!(found(&orphans), [(key(0), 1), (key(2), 1), (key(3), 1)]);
    orphans.into_iter().for_each(|orphan| orphan.remove().unwrap());
    assert_eq!((next.report(), files(dir.path())), (report(0, 0, 0), 2));
}

#[test]
fn what_was_sealed_before_a_rotation_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let dead = sealed(dir.path(), 7);
    assert!(append(&dead, 0, 1, 50));
    kill(dead);
    let rotated = Journal::open_sealed(dir.path(), Arc::new(Toy { key: 8, former: vec![7] })).unwrap();
    assert_eq!(taken(&rotated), (vec![(key(0), 1)], report(0, 0, 0)));
}

#[test]
fn a_segment_that_is_not_ours_is_left_to_who_can_read_it() {
    let open = |dir: &Path, key: Option<u8>| match key {
        Some(key) => sealed(dir, key),
        None => Journal::open(dir).unwrap(),
    };
    for (owner, stranger) in [(Some(7), Some(8)), (None, Some(8)), (Some(7), None)] {
        let dir = tempfile::tempdir().unwrap();
        let dead = open(dir.path(), owner);
        assert!(append(&dead, 0, 1, 50));
        kill(dead);
        let stranger = open(dir.path(), stranger);
        let (taken, found) = taken(&stranger);
        assert!(taken.is_empty(), "what others sealed, or nobody, is not delivered in our name");
        assert_eq!((found.torn, found.refused, found.foreign), (0, 0, 1));
        drop(stranger);
        assert_eq!(files(dir.path()), 2, "it is still there");
        assert_eq!(self::taken(&open(dir.path(), owner)).0, [(key(0), 1)]);
    }
}

#[test]
fn a_later_format_is_left_alone_and_what_nobody_can_use_any_more_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    kill(sealed(dir.path(), 7));
    let path = log(dir.path());
    let mut later = SEALED_HEADER;
    later[7] += 1;
    std::fs::write(&path, [&later[..], b"who knows"].concat()).unwrap();
    for journal in [sealed(dir.path(), 7), Journal::open(dir.path()).unwrap()] {
        let (taken, found) = taken(&journal);
        assert_eq!((taken.len(), found.foreign, path.exists()), (0, 1, true));
    }
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    let age = |age: Duration| {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(written - age).unwrap();
    };
    age(TOMBSTONE_LIFETIME - Duration::from_secs(60));
    assert_eq!((taken(&sealed(dir.path(), 7)), path.exists()), ((vec![], report(0, 0, 1)), true));
    age(TOMBSTONE_LIFETIME + Duration::from_secs(60));
    assert_eq!(taken(&sealed(dir.path(), 7)), (vec![], report(0, 0, 1)));
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn a_record_that_does_not_open_is_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let dead = sealed(dir.path(), 7);
    assert!(append(&dead, 0, 1, 50) && append(&dead, 1, 1, 50) && append(&dead, 2, 1, 50));
    kill(dead);
    let path = log(dir.path());
    let genuine = bodies(&std::fs::read(&path).unwrap());
    assert_eq!(segment(7, &genuine), std::fs::read(&path).unwrap(), "so the test knows the format");

    let mut altered = genuine.clone();
    altered[1][20] ^= 1;
    let mut planted = genuine.clone();
    planted.insert(1, record_in_clear());
    let mut strangers = genuine.clone();
    strangers[1] = seal(8).seal(&segment(8, &[]), &record_in_clear()).unwrap();
    let mut moved = genuine.clone();
    moved[1] = seal(7).seal(&segment(8, &[]), &record_in_clear()).unwrap();
    let mut signed_nonsense = genuine.clone();
    signed_nonsense[1] = seal(7).seal(&segment(7, &[]), b"no record").unwrap();
    for (what, bodies, left) in [
        ("altered, with the checksum put right", altered, vec![0, 2]),
        ("in clear", planted, vec![0, 1, 2]),
        ("of another key", strangers, vec![0, 2]),
        ("for a segment of another key", moved, vec![0, 2]),
        ("not a record", signed_nonsense, vec![0, 2]),
    ] {
        std::fs::write(&path, segment(7, &bodies)).unwrap();
        let left: Vec<_> = left.into_iter().map(|n| (key(n), 1)).collect();
        assert_eq!(taken(&sealed(dir.path(), 7)), (left, report(0, 1, 0)), "{what}");
    }

    // Without the checksum put right it cannot be told where the next record begins.
    let mut whole = segment(7, &genuine);
    let at = whole.len() - 5;
    whole[at] ^= 1;
    std::fs::write(&path, whole).unwrap();
    assert_eq!(taken(&sealed(dir.path(), 7)), (vec![(key(0), 1), (key(1), 1)], report(1, 0, 0)));
}

/// A record as a segment in clear has it.
fn record_in_clear() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let dead = Journal::open(dir.path()).unwrap();
    assert!(append(&dead, 1, 9, 50));
    kill(dead);
    std::fs::read(log(dir.path())).unwrap()[8 + FRAME_BYTES..].to_vec()
}

#[test]
fn it_is_still_sealed_when_it_has_been_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let journal = sealed(dir.path(), 7);
    assert!(append(&journal, 0, 1, 10));
    for n in 1..100 {
        assert!(append(&journal, n, 1, 50_000));
        end(&journal, n, 1);
    }
    assert!(std::fs::metadata(log(dir.path())).unwrap().len() < 1_500_000, "5 MB have passed through");
    assert!(append(&journal, 100, 1, 10));
    kill(journal);
    assert_eq!(taken(&sealed(dir.path(), 7)), (vec![(key(0), 1), (key(100), 1)], report(0, 0, 0)));
}

/// Adds more than it may, or nothing at all because it cannot seal.
#[derive(Debug)]
struct Broken(Option<usize>);

impl JournalSeal for Broken {
    fn key_id(&self) -> [u8; 8] {
        [0; 8]
    }

    fn knows(&self, _: [u8; 8]) -> bool {
        true
    }

    fn seal(&self, _: &[u8], record: &[u8]) -> Result<Vec<u8>, Error> {
        let added = self.0.ok_or_else(|| Error::new(ErrorKind::Unavailable, Operation::Encode, "no dice"))?;
        Ok(vec![0; record.len() + added])
    }

    fn open(&self, _: [u8; 8], _: &[u8], _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[test]
fn what_cannot_be_sealed_is_not_written() {
    for (added, taken) in [(Some(MAX_JOURNAL_SEAL_BYTES), true), (Some(65), false), (None, false)] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open_sealed(dir.path(), Arc::new(Broken(added))).unwrap();
        let entry = super::record::tests::entry(1, "value");
        let noted = journal.append("s3", &key(0), &entry, super::tests::QUEUED);
        assert_eq!(noted.is_ok_and(|noted| noted), taken, "{added:?}");
        assert_eq!(std::fs::metadata(log(dir.path())).unwrap().len() > 16, taken);
    }
}
