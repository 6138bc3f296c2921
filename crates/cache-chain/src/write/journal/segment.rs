//! One process's journal file: records are appended, and rewritten when most of them have ended.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use peercache_api::{Entry, Key, Timestamp, Version};

use super::record::{FRAME_BYTES, Record, What, decode_frame, is_whole};
use super::seal::{Beginning, CLEAR_HEADER, Coding, JournalSeal, SEALED_HEADER};

/// Ended records are tolerated up to this many bytes beyond as much as the others take.
const SLACK_BYTES: u64 = 1024 * 1024;

/// Where the record of a write that has not ended lies.
#[derive(Debug)]
struct Place {
    at: u64,
    bytes: u64,
    version: Version,
}

/// The file that this process appends to.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    coding: Coding,
    /// Where the next record goes. What lies beyond is the rest of a write that failed.
    end: u64,
    live: HashMap<(String, Key), Place>,
    live_bytes: u64,
    /// Ends that are not in the file yet. They save the next process some work and no more, so they
    /// wait for the next write.
    ends: Vec<u8>,
    max_bytes: u64,
}

/// A file for this user alone that did not exist before.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Segment {
    pub(super) fn create(path: PathBuf, coding: Coding, max_bytes: u64) -> io::Result<Self> {
        let mut file = create_private(&path)?;
        file.write_all(coding.header())?;
        let (end, live, ends) = (coding.header().len() as u64, HashMap::new(), Vec::new());
        Ok(Self { file, path, coding, end, live, live_bytes: 0, ends, max_bytes })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many writes in it have not ended.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// Whether it holds this version or a newer one.
    pub(super) fn holds(&self, tier: &str, key: &Key, version: Version) -> bool {
        self.live.get(&(tier.to_owned(), key.clone())).is_some_and(|place| place.version >= version)
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Appends a write. `false` when there is no room for it within the bound.
    pub(super) fn append(
        &mut self,
        tier: &str,
        key: &Key,
        entry: &Entry,
        queued: Timestamp,
    ) -> io::Result<bool> {
        let name = (tier.to_owned(), key.clone());
        if self.live.get(&name).is_some_and(|place| place.version >= entry.version()) {
            return Ok(true);
        }
        let what = What::Write(entry.clone());
        let record = Record { tier: name.0, key: name.1, queued, what };
        let bytes = self.coding.encode(&record).map_err(io::Error::other)?;
        let length = bytes.len() as u64;
        if self.end + self.ends.len() as u64 + length > self.max_bytes {
            self.compact()?;
        }
        if self.end + self.ends.len() as u64 + length > self.max_bytes {
            return Ok(false);
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        if !self.ends.is_empty() {
            self.file.write_all(&self.ends)?;
            self.end += self.ends.len() as u64;
            self.ends.clear();
        }
        self.file.write_all(&bytes)?;
        let place = Place { at: self.end, bytes: length, version: entry.version() };
        self.end += length;
        self.live_bytes += length;
        if let Some(older) = self.live.insert((record.tier, record.key), place) {
            self.live_bytes -= older.bytes;
        }
        Ok(true)
    }

    /// The write of this version, or of an older one, waits no longer.
    pub(super) fn end(&mut self, tier: &str, key: &Key, version: Version, now: Timestamp) -> io::Result<()> {
        let name = (tier.to_owned(), key.clone());
        if self.live.get(&name).is_none_or(|place| place.version > version) {
            return Ok(());
        }
        if let Some(place) = self.live.remove(&name) {
            self.live_bytes -= place.bytes;
        }
        if self.live.is_empty() {
            self.ends.clear();
            self.end = self.coding.header().len() as u64;
            return self.file.set_len(self.end);
        }
        let (tier, key) = name;
        let record = Record { tier, key, queued: now, what: What::End(version) };
        self.ends.extend_from_slice(&self.coding.encode(&record).map_err(io::Error::other)?);
        if self.end > 2 * self.live_bytes + SLACK_BYTES {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes the ends that wait, for whoever reads the file next.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&self.ends)?;
        self.end += self.ends.len() as u64;
        self.ends.clear();
        Ok(())
    }

    /// Rewrites the file with what has not ended, beside it and then over it: at every moment one
    /// of the two is whole.
    fn compact(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        // A rest of an earlier attempt is of no use to anybody.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut copy = create_private(&beside)?;
        copy.write_all(self.coding.header())?;
        let mut end = self.coding.header().len() as u64;
        let mut places: Vec<_> = self.live.values_mut().collect();
        places.sort_unstable_by_key(|place| place.at);
        let mut moved = Vec::with_capacity(places.len());
        for place in &places {
            self.file.seek(SeekFrom::Start(place.at))?;
            let copied = io::copy(&mut (&self.file).take(place.bytes), &mut copy)?;
            if copied != place.bytes {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            moved.push(end);
            end += copied;
        }
        std::fs::rename(&beside, &self.path)?;
        for (place, at) in places.into_iter().zip(moved) {
            place.at = at;
        }
        self.file = copy;
        self.end = end;
        self.ends.clear();
        Ok(())
    }
}

/// What a file of another process holds.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The writes that have not ended, oldest first.
    pub(super) writes: Vec<(String, Key, Entry, Timestamp)>,
    /// Whether it ended in the middle of a record, or a record was damaged. What comes after that
    /// is not read: it cannot be told where the next record begins.
    pub(super) torn: bool,
    /// Whole records that are none, or do not open. Each is passed over.
    pub(super) refused: u64,
}

/// Reads a segment up to the first damage, and no more than `max_bytes` of it. `None` when it is
/// not for us to read: sealed with a key that is not at hand, or in clear where there is a seal.
pub(super) fn read(
    file: impl Read,
    max_bytes: u64,
    seal: Option<&Arc<dyn JournalSeal>>,
) -> io::Result<Option<Left>> {
    let mut file = io::BufReader::new(file.take(max_bytes));
    let mut left = Left::default();
    let (mut first, mut rest) = ([0; CLEAR_HEADER.len()], [0; 8]);
    let got = fill(&mut file, &mut first)?;
    // Where a sealed segment has the name of its key, one in clear has its first record.
    let named = if first == SEALED_HEADER { fill(&mut file, &mut rest)? } else { 0 };
    let coding = match Coding::begun(&first[..got], &rest[..named], seal) {
        Beginning::Ours(coding) => coding,
        Beginning::Foreign => return Ok(None),
        Beginning::Torn => {
            left.torn = true;
            return Ok(Some(left));
        }
    };
    let mut live: HashMap<(String, Key), (usize, Entry, Timestamp)> = HashMap::new();
    for turn in 0.. {
        let mut frame = [0; FRAME_BYTES];
        let got = fill(&mut file, &mut frame)?;
        if got == 0 {
            break;
        }
        let Some(body) = body(&mut file, &frame[..got], coding.max_body_bytes())? else {
            left.torn = true;
            break;
        };
        let Some(record) = coding.decode(body.into()) else {
            left.refused += 1;
            continue;
        };
        let name = (record.tier, record.key);
        let newest = live.get(&name).map(|(_, entry, _)| entry.version());
        match record.what {
            What::Write(entry) if newest.is_none_or(|newest| newest < entry.version()) => {
                live.insert(name, (turn, entry, record.queued));
            }
            What::End(version) if newest.is_some_and(|newest| newest <= version) => {
                live.remove(&name);
            }
            What::Write(_) | What::End(_) => {}
        }
    }
    let mut writes: Vec<_> = live.into_iter().collect();
    writes.sort_unstable_by_key(|(_, (turn, ..))| *turn);
    left.writes =
        writes.into_iter().map(|((tier, key), (_, entry, queued))| (tier, key, entry, queued)).collect();
    Ok(Some(left))
}

/// The bytes behind a frame, if they are all there and as they were written.
fn body(file: &mut impl Read, frame: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
    let Ok((length, checksum)) = decode_frame(frame, most) else { return Ok(None) };
    // What is read is what is there: an announced length allocates nothing by itself.
    let mut body = Vec::new();
    file.take(length as u64).read_to_end(&mut body)?;
    Ok((body.len() == length && is_whole(&body, checksum)).then_some(body))
}

/// Reads until `buffer` is full or the file ends; how much it was.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut bytes = Vec::with_capacity(buffer.len());
    let got = file.take(buffer.len() as u64).read_to_end(&mut bytes)?;
    buffer[..got].copy_from_slice(&bytes);
    Ok(got)
}
