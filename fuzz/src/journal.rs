//! Journals: a segment gives what was written up to the first damage, and nothing else.

use std::collections::HashMap;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use peercache_api::{Entry, Key, Timestamp, Version};
use peercache_chain::fuzzing::{FRAME_BYTES, HEADER, Record, read};
use xxhash_rust::xxh3::xxh3_64;

use crate::damage::Damage;
use crate::entry::{Parts, version};

/// The longest name of a tier that is journalled, in bytes.
const MAX_TIER_BYTES: usize = 256;

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
    let mut recipe = Unstructured::new(data);
    if let (Ok(damage), Ok(at)) = (Damage::arbitrary(&mut recipe), u32::arbitrary(&mut recipe)) {
        let steps = recipe.arbitrary_iter::<Step>().map(|steps| steps.flatten().take(32));
        course(steps.into_iter().flatten(), &damage, at as usize);
    }
}

fn record(body: &Bytes) {
    let record = match Record::decode(body) {
        Ok(record) => record,
        Err(error) => return assert!(!error.to_string().contains('\n'), "an error is one line"),
    };
    let written = record.encode().slice(FRAME_BYTES..);
    assert_eq!(Record::decode(&written).expect("we read what we write"), record);
    if record.is_end() {
        assert_eq!(written, body, "the end of a write has one form");
    }
    assert!(written.len() <= body.len());
}

fn segment(bytes: &[u8]) -> Writes {
    let (writes, torn) = read(bytes, u64::MAX).expect("memory can be read");
    let least = FRAME_BYTES + peercache_api::envelope::HEADER_BYTES;
    assert!(writes.len() * least <= bytes.len(), "nothing is read that is not there");
    let mut names: Vec<_> = writes.iter().map(|(tier, key, ..)| (tier, key.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), writes.len(), "one write waits under a name");
    if !torn {
        let more = [bytes, &[0]].concat();
        let (same, torn) = read(&more[..], u64::MAX).expect("memory can be read");
        assert!(torn && same == writes, "a torn end costs nothing that went before");
        let (same, torn) = read(&more[..], bytes.len() as u64).expect("memory can be read");
        assert!(!torn && same == writes, "nothing is read beyond the bound");
    }
    writes
}

/// The bodies in `data`, each with a frame that belongs to it. A body is as long as two bytes before it say.
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

fn course(steps: impl Iterator<Item = Step>, damage: &Damage, at: usize) {
    let mut bytes = HEADER.to_vec();
    let mut waiting = Waiting::default();
    let mut last: HashMap<(String, u8), Version> = HashMap::new();
    // Where each record ends, and what waits then.
    let mut past = vec![(bytes.len(), waiting.clone())];
    for Step { tier, key: number, queued, what } in steps {
        let tier = match tier {
            Tier::Shared => "s3".to_owned(),
            Tier::Bucket => "sealed(chain)".to_owned(),
            Tier::Named(name) if name.len() > MAX_TIER_BYTES => continue,
            Tier::Named(name) => name,
        };
        let number = number % 4;
        let key = Key::new(format!("repos/acme/{number}")).expect("a valid key");
        let queued = Timestamp::from_millis(queued);
        let name = (tier.clone(), number);
        let record = match what {
            What::Write(parts) => {
                let Some(entry) = parts.build() else { continue };
                waiting.write(&tier, &key, &entry, queued);
                last.insert(name, entry.version());
                Record::write(tier, key, queued, entry)
            }
            What::End(parts) => {
                waiting.end(&tier, &key, version(parts));
                Record::end(tier, key, queued, version(parts))
            }
            What::EndLast => {
                let Some(version) = last.get(&name) else { continue };
                waiting.end(&tier, &key, *version);
                Record::end(tier, key, queued, *version)
            }
        };
        let written = record.encode();
        assert_eq!(Record::decode(&written.slice(FRAME_BYTES..)).expect("we read what we write"), record);
        bytes.extend_from_slice(&written);
        past.push((bytes.len(), waiting.clone()));
    }
    assert!(segment(&bytes) == waiting.0, "a whole segment gives what waits");

    let at = at % bytes.len();
    let before = past.iter().rev().find(|(end, _)| *end <= at);
    let expected = before.map(|(_, waiting)| waiting.0.clone()).unwrap_or_default();
    let (writes, torn) = read(&bytes[..at], u64::MAX).expect("memory can be read");
    assert!(writes == expected, "a torn segment gives what waited before the tear");
    assert_eq!(torn, before.is_none_or(|(end, _)| *end != at));

    let within = past.iter().find(|(end, _)| *end > at).map_or(bytes.len(), |(end, _)| *end);
    damage.inflict(&mut bytes, at..within);
    let (writes, torn) = read(&bytes[..], u64::MAX).expect("memory can be read");
    assert!(torn && writes == expected, "a damaged record ends the reading");
}
