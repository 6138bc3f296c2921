//! The blocking half: connections, repair and retry. Everything here runs on blocking threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peercache_api::{Clock, Entry, Error, ErrorKind, Key, Operation};
use rusqlite::Connection;

use super::directory::{self, Identity, Layout};
use super::failure::Failure;
use super::index::{self, Index};
use super::store::{self, Found, Totals};

/// How often an operation is tried again after a repair or a replacement by another process.
const ROUNDS: usize = 4;
/// Reads that are remembered for the order of eviction until the next write stores them.
const MAX_TOUCHED: usize = 256;
/// Every so many puts, some expired rows are removed.
const SWEEP_EVERY: u64 = 32;

/// What happened since the store was opened by this process.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) evicted: AtomicU64,
    pub(super) corrupt_dropped: AtomicU64,
    pub(super) healed: AtomicU64,
    pub(super) orphans_removed: AtomicU64,
    puts: AtomicU64,
}

/// Shared by the handle and its blocking jobs.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) layout: Layout,
    pub(super) capacity: u64,
    pub(super) counters: Counters,
    pub(super) clock: Arc<dyn Clock>,
    writer: Mutex<Option<Index>>,
    /// Idle connections; never more than there are permits to read.
    readers: Mutex<Vec<Index>>,
    touched: Mutex<Touched>,
}

/// Rows that were read since the last write; at most [`MAX_TOUCHED`].
#[derive(Debug, Default)]
struct Touched {
    /// Row id to the number of its last read.
    rows: HashMap<i64, u64>,
    reads: u64,
}

impl Touched {
    /// Says whether there was room for it.
    fn note(&mut self, row: i64) -> bool {
        self.reads += 1;
        let room = self.rows.len() < MAX_TOUCHED || self.rows.contains_key(&row);
        if room {
            self.rows.insert(row, self.reads);
        }
        room
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half done by a panic: what counts is in SQLite's transactions.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    pub(super) fn open(layout: Layout, capacity: u64, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        directory::prepare(&layout.root)?;
        let engine = Self {
            layout,
            capacity,
            counters: Counters::default(),
            clock,
            writer: Mutex::new(None),
            readers: Mutex::new(Vec::new()),
            touched: Mutex::default(),
        };
        engine.start().map_err(|failure| {
            failure.into_error(Operation::Open).with_context("dir", engine.layout.root.display())
        })?;
        Ok(engine)
    }

    fn start(&self) -> Result<(), Failure> {
        if Identity::of(&self.layout.index())?.is_none() {
            // The first of all to come here: nothing is being repaired.
            index::replace(&self.layout, None)?;
        }
        let (evicted, orphans) = self.with_writer(|sql| {
            let evicted = store::settle(sql, &self.layout, self.capacity)?;
            let known = |digest: &_, number| store::names_file(sql, digest, number);
            Ok((evicted, self.layout.sweep_orphans(&*self.clock, known)?))
        })?;
        self.counters.evicted.fetch_add(evicted, Ordering::Relaxed);
        self.counters.orphans_removed.fetch_add(orphans, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let now = self.clock.now();
        let found = self
            .with_reader(|sql| store::read(sql, &self.layout, key, now))
            .map_err(|failure| failure.into_error(Operation::Get))?;
        match found {
            Found::Nothing => Ok(None),
            Found::Entry(row, entry) => {
                self.touch(row.id);
                Ok(Some(entry))
            }
            Found::FileLost(row) => {
                self.forget(key, row);
                Ok(None)
            }
            Found::Corrupt(row, error) => {
                self.forget(key, row);
                Err(Error::new(
                    ErrorKind::Corrupt,
                    Operation::Get,
                    "the stored entry was damaged and has been removed",
                )
                .with_backend("disk")
                .with_source(error))
            }
        }
    }

    fn forget(&self, key: &Key, row: store::RowId) {
        match self.with_writer(|sql| store::forget(sql, &self.layout, key, row)) {
            Ok(true) => {
                self.counters.corrupt_dropped.fetch_add(1, Ordering::Relaxed);
            }
            Ok(false) => {}
            // The caller gets its miss or error anyway; the row is met, and tried, again.
            Err(failure) => {
                let error = failure.into_error(Operation::Get);
                tracing::warn!(%error, "a damaged entry of the disk tier could not be removed");
            }
        }
    }

    pub(super) fn put(&self, key: &Key, entry: &Entry) -> Result<(), Error> {
        let now = self.clock.now();
        let touched = self.take_touched();
        let written = self
            .with_writer(|sql| store::write(sql, &self.layout, key, entry, now, self.capacity, &touched))
            .map_err(|failure| failure.into_error(Operation::Put))?;
        self.counters.evicted.fetch_add(written.evicted, Ordering::Relaxed);
        self.counters.corrupt_dropped.fetch_add(written.dropped, Ordering::Relaxed);
        if self.counters.puts.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            // The put is done and stays so, whatever becomes of the sweep.
            if let Err(failure) = self.with_writer(|sql| store::sweep_expired(sql, &self.layout, now)) {
                let error = failure.into_error(Operation::Put);
                tracing::warn!(%error, "expired entries of the disk tier could not be swept");
            }
        }
        Ok(())
    }

    pub(super) fn probe(&self) -> Result<(), Error> {
        self.with_reader(|sql| store::totals(sql))
            .and_then(|_| Ok(directory::probe_write(&self.layout.root)?))
            .map_err(|failure| failure.into_error(Operation::Probe))
    }

    pub(super) fn totals(&self) -> Result<Totals, Error> {
        self.with_reader(|sql| store::totals(sql)).map_err(|failure| failure.into_error(Operation::Probe))
    }

    /// Writes back what is only in memory and closes every connection.
    pub(super) fn close(&self) -> Result<(), Error> {
        lock(&self.readers).clear();
        let touched = self.take_touched();
        // A closed engine has no connection, so a second close does nothing.
        let Some(mut index) = lock(&self.writer).take() else { return Ok(()) };
        if !index.is_current(&self.layout) {
            return Ok(());
        }
        let flushed = store::flush_touched(&mut index.sql, &touched).and_then(|()| {
            // Others may be reading: then the log stays as long as it is, which costs only space.
            index.sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(())
        });
        match flushed {
            Ok(()) => Ok(()),
            // Every put has long been committed. What is lost is the order of eviction.
            Err(failure) => {
                let error = failure.into_error(Operation::Close);
                tracing::warn!(%error, "the disk tier could not write back its log");
                Ok(())
            }
        }
    }

    fn touch(&self, row: i64) {
        if lock(&self.touched).note(row) {
            return;
        }
        // Full. Store it if nobody writes just now, else forget it: it only orders evictions.
        let rows = self.take_touched();
        if let Ok(mut slot) = self.writer.try_lock()
            && let Err(failure) = self.attempt(&mut slot, true, |sql| store::flush_touched(sql, &rows))
        {
            let error = failure.into_error(Operation::Get);
            tracing::debug!(%error, "the order of eviction could not be stored");
        }
    }

    /// The rows read since the last call, oldest first.
    fn take_touched(&self) -> Vec<i64> {
        let mut rows: Vec<_> = lock(&self.touched).rows.drain().collect();
        rows.sort_unstable_by_key(|(_, order)| *order);
        rows.into_iter().map(|(row, _)| row).collect()
    }

    fn with_writer<T>(&self, job: impl FnMut(&mut Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        self.attempt(&mut lock(&self.writer), true, job)
    }

    fn with_reader<T>(&self, job: impl FnMut(&mut Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut slot = lock(&self.readers).pop();
        let done = self.attempt(&mut slot, false, job);
        if let Some(index) = slot {
            lock(&self.readers).push(index);
        }
        done
    }

    /// Runs `job` on the connection in `slot`, opening, repairing and retrying as needed.
    ///
    /// A write counts only if the index was still in place after it: one that was committed to an
    /// index that another process had just moved aside is done again, on the new one.
    fn attempt<T>(
        &self,
        slot: &mut Option<Index>,
        writes: bool,
        mut job: impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut last = Failure::Replaced;
        for _ in 0..ROUNDS {
            let index = match slot.take().filter(|index| index.is_current(&self.layout)) {
                Some(index) => index,
                None => match Index::open(&self.layout) {
                    Ok(index) => index,
                    Err((identity, Failure::Damaged(cause))) => {
                        self.heal(identity, &cause)?;
                        last = Failure::Damaged(cause);
                        continue;
                    }
                    Err((_, Failure::Replaced)) => continue,
                    Err((_, failure)) => return Err(failure),
                },
            };
            let index = slot.insert(index);
            match job(&mut index.sql) {
                Ok(done) if !writes || index.is_current(&self.layout) => return Ok(done),
                Ok(_) | Err(Failure::Replaced) => {}
                Err(Failure::Damaged(cause)) => {
                    let identity = index.identity();
                    *slot = None;
                    self.heal(Some(identity), &cause)?;
                    last = Failure::Damaged(cause);
                }
                // An error on an index that is no longer there says nothing about the one that is.
                Err(_) if !index.is_current(&self.layout) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    fn heal(&self, damaged: Option<Identity>, cause: &str) -> Result<(), Failure> {
        if damaged.is_none() {
            // The whole directory may be gone, and whoever made it again may not be us.
            directory::prepare(&self.layout.root)?;
        }
        if index::replace(&self.layout, damaged)? {
            self.counters.healed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(cause, "the index of the disk tier was damaged; it starts empty");
        }
        Ok(())
    }
}
