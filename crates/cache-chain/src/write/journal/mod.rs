//! The journal: what waits to be written to shared tiers, on disk, so that it outlives the process.
//!
//! Each process appends to a segment of its own and holds a lock beside it, which the operating
//! system releases whatever ends the process, `kill -9` included. Who opens the directory next
//! takes over the segments whose locks are free and delivers what they hold; a live process's
//! segment is left alone. Nothing is synced to the device: the journal survives the process, not
//! the loss of power.
//!
//! With a [`JournalSeal`] every record is sealed. A segment that another key sealed, or none where
//! there is a key, is left to who can read it, and removed once nothing in it could be of use to
//! anybody.

#[cfg(fuzzing)]
pub mod fuzzing;
mod record;
mod seal;
mod segment;

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peercache_api::util::Count;
use peercache_api::{Entry, Error, ErrorKind, Key, Operation, TOMBSTONE_LIFETIME, Timestamp, Version};
use serde::Serialize;

use self::record::MAX_TIER_BYTES;
use self::seal::Coding;
use self::segment::{Left, Segment, create_private, read};

pub use self::seal::{JournalSeal, MAX_JOURNAL_SEAL_BYTES};

/// How large a segment becomes, unless it is set: 64 MiB.
const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The most segments of dead processes that are taken over when a journal is opened. More are left
/// to those who open it later.
const MAX_ADOPTED: usize = 64;

/// A directory in which what waits to be written to shared tiers outlives this process.
///
/// Give it to [`ChainBuilder::journal`](crate::ChainBuilder::journal). Several processes may share
/// the directory; one chain takes one `Journal`. Its files are readable by this user alone. They
/// hold keys and values as they are, unless [`Journal::open_sealed`] opened it: keep it where the
/// disk tier is.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    max_bytes: u64,
    seal: Option<Arc<dyn JournalSeal>>,
    found: Found,
    /// Nothing once the journal is closed: the file may be another process's then.
    segment: Mutex<Option<Segment>>,
    /// Held for as long as the segment is ours.
    lock: File,
    lock_path: PathBuf,
}

/// The journal of this process, and what it found of processes that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JournalReport {
    /// Bytes in it that wait for shared tiers.
    pub bytes: u64,
    /// Whether its records are sealed.
    pub sealed: bool,
    /// Segments that ended within a record, as those of a killed process may. What came before is
    /// delivered.
    pub torn: u64,
    /// Records that do not open, or are none: never delivered.
    pub refused: u64,
    /// Segments that are not for this process to read: sealed with another secret, or in clear
    /// although this process seals, or of a later version. They are left for as long as a removal
    /// lives.
    pub foreign: u64,
}

/// What was found in segments of dead processes that could not be taken over.
#[derive(Debug, Default)]
struct Found {
    torn: Count,
    refused: Count,
    foreign: Count,
}

/// A segment of a dead process, held by its lock until it is let go of.
#[derive(Debug)]
pub(crate) struct Orphan {
    left: Left,
    log: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Orphan {
    /// The writes that it holds, oldest first: tier, key, entry, when it was queued.
    pub(crate) fn writes(&self) -> &[(String, Key, Entry, Timestamp)] {
        &self.left.writes
    }

    /// Removes it: everything in it is delivered, journalled anew or given up.
    pub(crate) fn remove(self) -> Result<(), Error> {
        // The lock goes last, so that what is left after a kill between the two is a lock without a
        // log, which the next one removes.
        remove(&self.log).and_then(|()| remove(&self.lock_path)).map_err(|error| failed(&self.log, error))
    }
}

impl Journal {
    /// Opens the journal in `dir`, which is made if it does not exist, with a segment of at most 64
    /// MiB.
    ///
    /// Blocks for a few file operations.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when other users could write there: they could plant entries.
    /// [`ErrorKind::Unavailable`] when the directory or a file in it cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open_with(dir.into(), DEFAULT_MAX_BYTES, None)
    }

    /// As [`Journal::open`], with every record sealed by `seal`.
    ///
    /// Segments in clear, and those sealed with a key that `seal` does not have, are neither read
    /// nor delivered. They stay for a process that can read them, and are counted in the report.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_sealed(dir: impl Into<PathBuf>, seal: Arc<dyn JournalSeal>) -> Result<Self, Error> {
        Self::open_with(dir.into(), DEFAULT_MAX_BYTES, Some(seal))
    }

    /// As [`Journal::open`], with a segment of at most `max_bytes`. What does not fit waits in
    /// memory alone, and is counted in the report.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn with_max_bytes(dir: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, Error> {
        Self::open_with(dir.into(), max_bytes, None)
    }

    fn open_with(dir: PathBuf, max_bytes: u64, seal: Option<Arc<dyn JournalSeal>>) -> Result<Self, Error> {
        make_private(&dir).map_err(|error| failed(&dir, error))?;
        // Each name is taken by nobody else, except that a process which looks for orphans may have
        // found ours before we locked it, and removed it: then another name is as good.
        for _ in 0..8 {
            let name = format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(0_u8));
            let lock_path = dir.join(format!("{name}.lock"));
            let lock = match create_private(&lock_path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                lock => lock.map_err(|error| failed(&lock_path, error))?,
            };
            check_owner(&dir, &lock)?;
            match lock.try_lock() {
                Ok(()) if lock_path.exists() => {}
                Ok(()) | Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(failed(&lock_path, error)),
            }
            let log = dir.join(format!("{name}.log"));
            let segment = Segment::create(log.clone(), Coding::new(seal.as_ref()), max_bytes)
                .map_err(|error| failed(&log, error))?;
            let (segment, found) = (Mutex::new(Some(segment)), Found::default());
            return Ok(Self { dir, max_bytes, seal, found, segment, lock, lock_path });
        }
        Err(failed(&dir, io::Error::other("no segment could be made in eight attempts")))
    }

    /// The segments of processes that are gone, each locked against others who look.
    pub(crate) fn orphans(&self) -> Result<Vec<Orphan>, Error> {
        let mut orphans = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|error| failed(&self.dir, error))? {
            let path = entry.map_err(|error| failed(&self.dir, error))?.path();
            if orphans.len() == MAX_ADOPTED {
                break;
            }
            if path.extension().is_none_or(|extension| extension != "lock") || path == self.lock_path {
                continue;
            }
            match self.orphan(&path) {
                Ok(Some(orphan)) => orphans.push(orphan),
                Ok(None) => {}
                // One file that cannot be read is no reason to leave the others.
                Err(error) => tracing::warn!(%error, "a journal segment is left alone"),
            }
        }
        Ok(orphans)
    }

    fn orphan(&self, lock_path: &Path) -> Result<Option<Orphan>, Error> {
        let lock = match File::open(lock_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            lock => lock.map_err(|error| failed(lock_path, error))?,
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(lock_path, error)),
        }
        let log = lock_path.with_extension("log");
        // A rest of a rewriting that was interrupted.
        remove(&lock_path.with_extension("new")).map_err(|error| failed(lock_path, error))?;
        let file = match File::open(&log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                remove(lock_path).map_err(|error| failed(lock_path, error))?;
                return Ok(None);
            }
            file => file.map_err(|error| failed(&log, error))?,
        };
        if !same_owner(&file, &self.lock).map_err(|error| failed(&log, error))? {
            return Ok(None);
        }
        let lock_path = lock_path.to_owned();
        let left = read(&file, self.max_bytes, self.seal.as_ref()).map_err(|error| failed(&log, error))?;
        let Some(left) = left else {
            self.found.foreign.add(1);
            if is_of_no_use(&file).map_err(|error| failed(&log, error))? {
                Orphan { left: Left::default(), log, lock_path, _lock: lock }.remove()?;
            }
            return Ok(None);
        };
        self.found.torn.add(left.torn.into());
        self.found.refused.add(left.refused);
        if left.refused > 0 {
            tracing::warn!(
                records = left.refused,
                "a journal segment holds records that nobody with the key has made: they are not delivered"
            );
        }
        Ok(Some(Orphan { left, log, lock_path, _lock: lock }))
    }

    /// Notes a write before it waits. `false` when it is not in the journal, because it does not
    /// fit or the journal is closed.
    pub(crate) fn append(
        &self,
        tier: &str,
        key: &Key,
        entry: &Entry,
        queued: Timestamp,
    ) -> Result<bool, Error> {
        match &mut *self.segment() {
            Some(segment) if tier.len() <= MAX_TIER_BYTES => {
                segment.append(tier, key, entry, queued).map_err(|error| failed(segment.path(), error))
            }
            _ => Ok(false),
        }
    }

    /// Notes that a write of this version waits no longer.
    pub(crate) fn end(&self, tier: &str, key: &Key, version: Version, now: Timestamp) -> Result<(), Error> {
        match &mut *self.segment() {
            Some(segment) => {
                segment.end(tier, key, version, now).map_err(|error| failed(segment.path(), error))
            }
            None => Ok(()),
        }
    }

    /// Whether it holds this version, or a newer one, for the next process.
    pub(crate) fn holds(&self, tier: &str, key: &Key, version: Version) -> bool {
        self.segment().as_ref().is_some_and(|segment| segment.holds(tier, key, version))
    }

    pub(crate) fn report(&self) -> JournalReport {
        JournalReport {
            bytes: self.segment().as_ref().map_or(0, Segment::live_bytes),
            sealed: self.seal.is_some(),
            torn: self.found.torn.get(),
            refused: self.found.refused.get(),
            foreign: self.found.foreign.get(),
        }
    }

    /// Brings the file up to date for the next process that opens the directory. An empty one
    /// is removed.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let Some(mut segment) = self.segment().take() else { return Ok(()) };
        let closed = if segment.live() == 0 {
            remove(segment.path()).and_then(|()| remove(&self.lock_path))
        } else {
            segment.flush()
        };
        // Whatever happened, the lock falls: the next process reads what there is.
        self.lock.unlock().and(closed).map_err(|error| failed(segment.path(), error))
    }

    fn segment(&self) -> MutexGuard<'_, Option<Segment>> {
        self.segment.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::debug!(%error, "the next process reads the journal as it is");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a segment that no process has read can be removed: even a removal is not retried longer.
fn is_of_no_use(log: &File) -> io::Result<bool> {
    // One that claims to be written in the future is as young as can be.
    let age = log.metadata()?.modified()?.elapsed().unwrap_or_default();
    Ok(age > TOMBSTONE_LIFETIME)
}

fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// A directory that others can write is refused. `ours` is a file that this process has just made
/// there.
#[cfg(unix)]
fn check_owner(dir: &Path, ours: &File) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let held = std::fs::metadata(dir).map_err(|error| failed(dir, error))?;
    let us = ours.metadata().map_err(|error| failed(dir, error))?.uid();
    if held.mode() & 0o022 == 0 && (held.uid() == us || held.uid() == 0) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, Operation::Open, "other users can write to the journal's directory")
        .with_context("dir", dir.display())
        .with_context("mode", format_args!("{:04o}", held.mode() & 0o7777))
        .with_help("give a directory of this user alone, with mode 0700"))
}

#[cfg(unix)]
fn same_owner(file: &File, ours: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (file, ours) = (file.metadata()?, ours.metadata()?);
    Ok(file.is_file() && file.uid() == ours.uid())
}

/// Elsewhere the directory's access list is what the user made it.
#[cfg(not(unix))]
fn check_owner(_: &Path, _: &File) -> Result<(), Error> {
    Ok(())
}

#[cfg(not(unix))]
fn same_owner(file: &File, _: &File) -> io::Result<bool> {
    Ok(file.metadata()?.is_file())
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, Operation::Open, "the journal cannot be used")
        .with_context("path", path.display())
        .with_source(error)
        .with_help("give a directory that this user can write, with room for the journal")
}

#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod tests;
