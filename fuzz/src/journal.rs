//! Journals: a segment gives what was written up to the first damage, and nothing else. A sealed
//! one gives nothing that was not sealed for it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use peercache_api::{Entry, Error, Key, Timestamp, Version};
use peercache_chain::fuzzing::{FRAME_BYTES, HEADER, Record, SEALED_HEADER, read};
use peercache_chain::JournalSeal;
use peercache_seal::{KeyId, LocalSeal, Secret};
use xxhash_rust::xxh3::xxh3_64;

use crate::damage::Damage;
use crate::entry::{Parts, version};

/// The longest name of a tier that is journalled, in bytes.
const MAX_TIER_BYTES: usize = 256;

/// The secret of the golden files.
const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";

static SEAL: LazyLock<Arc<dyn JournalSeal>> = LazyLock::new(|| {
    let secret = Secret::parse(SECRET).expect("a valid secret");
    Arc::new(Seal(LocalSeal::new(&secret.into(), "fuzz").expect("a full secret")))
});

/// As the facade seals its journal.
#[derive(Debug)]
struct Seal(LocalSeal);

impl JournalSeal for Seal {
    fn key_id(&self) -> [u8; 8] {
        *self.0.key_id().as_bytes()
    }

    fn knows(&self, key_id: [u8; 8]) -> bool {
        self.0.knows(KeyId::from_bytes(key_id))
    }

    fn seal(&self, segment: &[u8], record: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.seal(segment, record)
    }

    fn open(&self, key_id: [u8; 8], segment: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(KeyId::from_bytes(key_id), segment, sealed)
    }
}

type Seals = Option<&'static Arc<dyn JournalSeal>>;
type Writes = Vec<(String, Key, Entry, Timestamp)>;

#[derive(Arbitrary, Debug)]
struct Step {
    tier: Tier,
    /// Few keys, so that records are about each other.
    key: u8,
    queued: u64,
    what: What,
}

#[derive(Arbitrary, Debug)]
enum Tier {
    Shared,
    Bucket,
    Named(String),
}

#[derive(Arbitrary, Debug)]
enum What {
    Write(Parts),
    End((u64, u32, u64)),
    /// The end of the write that went before under this name, if there was one.
    EndLast,
}

/// Any bytes as a record, as a segment, and as a course of events.
pub fn journal(data: &[u8]) {
    record(&Bytes::copy_from_slice(data));
    segment(data);
    segment(&[&HEADER, data].concat());
    segment(&[&HEADER[..], &framed(data)].concat());
    strangers(data);
    let mut recipe = Unstructured::new(data);
    if let (Ok(damage), Ok(at)) = (Damage::arbitrary(&mut recipe), u32::arbitrary(&mut recipe)) {
        let steps = recipe.arbitrary_iter::<Step>().map(|steps| steps.flatten().take(32));
        let events = events(steps.into_iter().flatten());
        course(&events, &damage, at as usize, None);
        course(&events, &damage, at as usize, Some(&SEAL));
    }
}

fn record(body: &Bytes) {
    let record = match Record::decode(body) {
        Ok(record) => record,
        Err(error) => return assert!(!error.to_string().contains('\n'), "an error is one line"),
    };
    let written = record.encode(None).expect("nothing is sealed").slice(FRAME_BYTES..);
    assert_eq!(Record::decode(&written).expect("we read what we write"), record);
    if record.is_end() {
        assert_eq!(written, body, "the end of a write has one form");
    }
    assert!(written.len() <= body.len());
}

/// The writes in a segment, whether it is torn, and how many records were refused.
fn found(bytes: &[u8], most: u64, seal: Seals) -> (Writes, bool, u64) {
    let found = read(bytes, most, seal).expect("memory can be read");
    // Another's segment gives nothing, as a torn one does.
    found.map_or((Writes::new(), true, 0), |found| (found.writes, found.torn, found.refused))
}

fn segment(bytes: &[u8]) -> Writes {
    let (writes, torn, refused) = found(bytes, u64::MAX, None);
    let least = FRAME_BYTES + peercache_api::envelope::HEADER_BYTES;
    assert!(writes.len() * least <= bytes.len(), "nothing is read that is not there");
    let mut names: Vec<_> = writes.iter().map(|(tier, key, ..)| (tier, key.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), writes.len(), "one write waits under a name");
    if !torn {
        let more = [bytes, &[0]].concat();
        let (same, torn, _) = found(&more, u64::MAX, None);
        assert!(torn && same == writes, "a torn end costs nothing that went before");
        let again = found(&more, bytes.len() as u64, None);
        assert!(again == (writes.clone(), false, refused), "nothing is read beyond the bound");
    }
    writes
}

/// Bytes that nobody sealed give nothing to who seals, whatever they claim to be.
fn strangers(data: &[u8]) {
    let id = SEAL.key_id();
    for bytes in [
        data.to_vec(),
        [&HEADER[..], &framed(data)].concat(),
        [&SEALED_HEADER[..], data].concat(),
        [&SEALED_HEADER[..], &id, data].concat(),
        [&SEALED_HEADER[..], &id, &framed(data)].concat(),
    ] {
        assert!(found(&bytes, u64::MAX, Some(&SEAL)).0.is_empty(), "a forgery was believed");
        if bytes.starts_with(&SEALED_HEADER) {
            assert!(found(&bytes, u64::MAX, None).0.is_empty(), "sealed bytes were read in clear");
        }
    }
}

/// The bodies in `data`, each with a frame that belongs to it. A body is as long as two bytes
/// before it say.
fn framed(mut data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (body, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        bytes.extend_from_slice(&u32::try_from(body.len()).expect("at most 64 KiB").to_be_bytes());
        bytes.extend_from_slice(&xxh3_64(body).to_be_bytes());
        bytes.extend_from_slice(body);
        data = rest;
    }
    bytes
}

/// What waits, as a list that is searched: not the way the reader does it.
#[derive(Clone, Default)]
struct Waiting(Writes);

impl Waiting {
    fn find(&self, tier: &str, key: &Key) -> Option<usize> {
        self.0.iter().position(|(known, name, ..)| known == tier && name == key)
    }

    fn write(&mut self, tier: &str, key: &Key, entry: &Entry, queued: Timestamp) {
        if let Some(at) = self.find(tier, key) {
            if self.0[at].2.version() >= entry.version() {
                return;
            }
            self.0.remove(at);
        }
        self.0.push((tier.to_owned(), key.clone(), entry.clone(), queued));
    }

    fn end(&mut self, tier: &str, key: &Key, version: Version) {
        if let Some(at) = self.find(tier, key)
            && self.0[at].2.version() <= version
        {
            self.0.remove(at);
        }
    }
}

/// What is noted in the journal, in order.
struct Event {
    tier: String,
    key: Key,
    queued: Timestamp,
    what: Noted,
}

enum Noted {
    Write(Entry),
    End(Version),
}

impl Event {
    fn record(&self) -> Record {
        let (tier, key) = (self.tier.clone(), self.key.clone());
        match &self.what {
            Noted::Write(entry) => Record::write(tier, key, self.queued, entry.clone()),
            Noted::End(version) => Record::end(tier, key, self.queued, *version),
        }
    }

    fn happen(&self, waiting: &mut Waiting) {
        match &self.what {
            Noted::Write(entry) => waiting.write(&self.tier, &self.key, entry, self.queued),
            Noted::End(version) => waiting.end(&self.tier, &self.key, *version),
        }
    }
}

fn events(steps: impl Iterator<Item = Step>) -> Vec<Event> {
    let mut last: HashMap<(String, u8), Version> = HashMap::new();
    let mut events = Vec::new();
    for Step { tier, key: number, queued, what } in steps {
        let tier = match tier {
            Tier::Shared => "s3".to_owned(),
            Tier::Bucket => "sealed(chain)".to_owned(),
            Tier::Named(name) if name.len() > MAX_TIER_BYTES => continue,
            Tier::Named(name) => name,
        };
        let number = number % 4;
        let key = Key::new(format!("repos/acme/{number}")).expect("a valid key");
        let name = (tier.clone(), number);
        let what = match what {
            What::Write(parts) => {
                let Some(entry) = parts.build() else { continue };
                last.insert(name, entry.version());
                Noted::Write(entry)
            }
            What::End(parts) => Noted::End(version(parts)),
            What::EndLast => {
                let Some(version) = last.get(&name) else { continue };
                Noted::End(*version)
            }
        };
        events.push(Event { tier, key, queued: Timestamp::from_millis(queued), what });
    }
    events
}

/// What waits after these.
fn waiting<'a>(events: impl Iterator<Item = &'a Event>) -> Writes {
    let mut waiting = Waiting::default();
    events.for_each(|event| event.happen(&mut waiting));
    waiting.0
}

fn course(events: &[Event], damage: &Damage, at: usize, seal: Seals) {
    let mut bytes = match seal {
        Some(seal) => [SEALED_HEADER, seal.key_id()].concat(),
        None => HEADER.to_vec(),
    };
    // Where each record ends.
    let mut ends = vec![bytes.len()];
    for event in events {
        let record = event.record();
        let plain = record.encode(None).expect("nothing is sealed").slice(FRAME_BYTES..);
        assert_eq!(Record::decode(&plain).expect("we read what we write"), record);
        bytes.extend_from_slice(&record.encode(seal).expect("it can be sealed"));
        ends.push(bytes.len());
    }
    let whole = (waiting(events.iter()), false, 0);
    assert!(found(&bytes, u64::MAX, seal) == whole, "a whole segment gives what waits");

    let at = at % bytes.len();
    // The header counts as the first record.
    let before = ends.iter().take_while(|end| **end <= at).count();
    let expected = waiting(events.iter().take(before.saturating_sub(1)));
    let (writes, torn, refused) = found(&bytes[..at], u64::MAX, seal);
    assert!(writes == expected && refused == 0, "a torn segment gives what waited before the tear");
    assert_eq!(torn, !ends.contains(&at));

    if let (Some(_), Some(index)) = (seal, before.checked_sub(1)) {
        altered(events, &bytes, &ends, index, at, seal);
    }
    let within = ends.get(before).copied().unwrap_or(bytes.len());
    damage.inflict(&mut bytes, at..within);
    let (writes, torn, _) = found(&bytes, u64::MAX, seal);
    assert!(torn && writes == expected, "a damaged record ends the reading");
}

/// A record that somebody altered who can make checksums is passed over, alone.
fn altered(events: &[Event], bytes: &[u8], ends: &[usize], index: usize, at: usize, seal: Seals) {
    let Some(body) = ends.get(index + 1).map(|end| ends[index] + FRAME_BYTES..*end) else { return };
    let mut bytes = bytes.to_vec();
    bytes[body.start + at % body.len()] ^= 1 << (at % 8);
    let checksum = xxh3_64(&bytes[body.clone()]).to_be_bytes();
    bytes[body.start - checksum.len()..body.start].copy_from_slice(&checksum);
    let others = events[..index].iter().chain(&events[index + 1..]);
    assert!(found(&bytes, u64::MAX, seal) == (waiting(others), false, 1), "an altered record was believed");
}
