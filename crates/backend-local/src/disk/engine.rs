//! The blocking half: connections, repair and retry. Everything here runs on blocking threads.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peercache_api::{Clock, Entry, Error, ErrorKind, Key, Operation};
use rusqlite::Connection;

use super::directory::{Identity, Layout};
use super::failure::Failure;
use super::index::{self, Index};
use super::store::{self, Found, Terms, Totals};

/// How often an operation is tried again after a repair or a replacement by another process.
const ROUNDS: usize = 4;
/// Reads that are remembered for the order of eviction until the next write stores them.
const MAX_TOUCHED: usize = 256;
/// Every so many puts, some expired rows are removed.
const SWEEP_EVERY: u64 = 32;
/// Held by the process that writes the index. SQLite's own waiting is neither fair nor without a
/// limit.
const WRITER_LOCK: &str = "writer.lock";
/// Where this release keeps its files beside those of one with another schema.
const BESIDE: &str = "schema-1";

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
    pub(super) root: PathBuf,
    /// The directory as it was opened last.
    layout: Mutex<Arc<Layout>>,
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
    /// Opens the directory. Writes nothing unless there is no index yet.
    pub(super) fn open(root: PathBuf, capacity: u64, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let layout = Layout::open(&root)?;
        let engine = Self {
            root,
            layout: Mutex::new(Arc::new(layout)),
            capacity,
            counters: Counters::default(),
            clock,
            writer: Mutex::new(None),
            readers: Mutex::new(Vec::new()),
            touched: Mutex::default(),
        };
        engine.start().map_err(|failure| {
            let error =
                failure.into_error(Operation::Open).with_context("dir", engine.root.display().to_string());
            if error.help().is_some() {
                return error;
            }
            error.with_help("set CACHE_DIR to a directory that this user owns and can write")
        })?;
        Ok(engine)
    }

    fn start(&self) -> Result<(), Failure> {
        let layout = self.layout()?;
        if layout.index_identity()?.is_none() {
            // The first of all to come here: nothing is being repaired.
            index::replace(&layout, None)?;
        }
        // Files that killed processes have left. Where they cannot be removed now, a put tries
        // again.
        let now = self.clock.now();
        let mut found = 0;
        self.with_reader(|sql, layout| {
            found = store::sweep_loose(sql, layout, now).or_else(|failure| match failure {
                Failure::Damaged(_) | Failure::Replaced => Err(failure),
                _ => Ok(0),
            })?;
            Ok(())
        })?;
        self.counters.orphans_removed.fetch_add(found, Ordering::Relaxed);
        Ok(())
    }

    /// The directory, opened anew if another one is in its place by now.
    fn layout(&self) -> Result<Arc<Layout>, Failure> {
        let mut layout = lock(&self.layout);
        if !layout.is_current() {
            *layout = Arc::new(Layout::open(&self.root)?);
        }
        Ok(Arc::clone(&layout))
    }

    /// Keeps to a directory of this release's own from now on, since another release's index is in
    /// the place of ours.
    fn step_aside(&self, schema: i32) -> Result<(), Failure> {
        let mut layout = lock(&self.layout);
        if layout.root != self.root {
            // Even there: then another release has taken it for its own.
            return Err(Failure::OtherSchema(schema));
        }
        let beside = layout.below(BESIDE)?;
        tracing::info!(schema, "another release's cache is in the directory; this one is kept beside it");
        if beside.index_identity()?.is_none() {
            index::replace(&beside, None)?;
        }
        *layout = Arc::new(beside);
        Ok(())
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let now = self.clock.now();
        let found = self
            .with_reader(|sql, layout| store::read(sql, layout, key, now))
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

    /// See [`store::page`].
    pub(super) fn page(&self, from: (Option<i64>, usize)) -> Result<store::Page, Error> {
        let now = self.clock.now();
        self.with_reader(|sql, layout| store::page(sql, layout, from, now))
            .map_err(|failure| failure.into_error(Operation::Get))
    }

    fn forget(&self, key: &Key, row: store::RowId) {
        match self.with_writer(|sql, layout| store::forget(sql, layout, key, row)) {
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
        let terms = Terms { now, capacity: self.capacity, touched: &touched };
        let mut freed = 0;
        let mut written = self.with_writer(|sql, layout| store::write(sql, layout, key, entry, terms));
        if written.as_ref().is_err_and(Failure::is_full) {
            // The file system is full before the bound is reached: what is held makes room.
            freed = self
                .with_writer(|sql, layout| store::shrink(sql, layout, terms))
                .map_err(|failure| failure.into_error(Operation::Put))?;
            written = self.with_writer(|sql, layout| store::write(sql, layout, key, entry, terms));
        }
        let written = written.map_err(|failure| failure.into_error(Operation::Put))?;
        self.counters.evicted.fetch_add(freed, Ordering::Relaxed);
        self.counters.evicted.fetch_add(written.evicted, Ordering::Relaxed);
        self.counters.corrupt_dropped.fetch_add(written.dropped, Ordering::Relaxed);
        if self.counters.puts.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            // The put is done and stays so, whatever becomes of the sweep.
            if let Err(failure) = self.with_writer(|sql, layout| store::sweep_expired(sql, layout, now)) {
                let error = failure.into_error(Operation::Put);
                tracing::warn!(%error, "expired entries of the disk tier could not be swept");
            }
        }
        Ok(())
    }

    pub(super) fn probe(&self) -> Result<(), Error> {
        self.with_reader(|sql, layout| {
            store::totals(sql)?;
            Ok(layout.check_access()?)
        })
        .map_err(|failure| failure.into_error(Operation::Probe))
    }

    pub(super) fn totals(&self) -> Result<Totals, Error> {
        self.with_reader(|sql, _| store::totals(sql)).map_err(|failure| failure.into_error(Operation::Probe))
    }

    /// Writes back the order of eviction, unless another process writes just now, and closes every
    /// connection. The log stays for the next process, which would only have to make it anew.
    pub(super) fn close(&self) -> Result<(), Error> {
        lock(&self.readers).clear();
        let touched = self.take_touched();
        // A closed engine has no connection, so a second close does nothing.
        let index = lock(&self.writer).take();
        let flushed = self.layout().and_then(|layout| {
            let Some(_writer) = layout.try_lock(WRITER_LOCK)? else { return Ok(()) };
            match index {
                Some(mut index) if index.is_current(&layout) => {
                    store::flush_touched(&mut index.sql, &touched)
                }
                Some(_) => Ok(()),
                None if touched.is_empty() => Ok(()),
                None => Index::open(&layout)
                    .map_err(|(_, failure)| failure)
                    .and_then(|mut index| store::flush_touched(&mut index.sql, &touched)),
            }
        });
        if let Err(failure) = flushed {
            // Every put has long been committed. What is lost is the order of eviction.
            let error = failure.into_error(Operation::Close);
            tracing::debug!(%error, "the order of eviction could not be stored");
        }
        Ok(())
    }

    fn touch(&self, row: i64) {
        if lock(&self.touched).note(row) {
            return;
        }
        // Full. Store it if nobody writes just now, else forget it: it only orders evictions.
        let rows = self.take_touched();
        let flush = |slot: &mut Option<Index>| {
            let Some(_writer) = self.layout()?.try_lock(WRITER_LOCK)? else { return Ok(()) };
            self.attempt(slot, true, |sql, _| store::flush_touched(sql, &rows))
        };
        if let Ok(mut slot) = self.writer.try_lock()
            && let Err(failure) = flush(&mut slot)
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

    fn with_writer<T>(
        &self,
        job: impl FnMut(&mut Connection, &Layout) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut slot = lock(&self.writer);
        // Processes take turns in the order in which they came.
        let _writer = self.layout()?.lock(WRITER_LOCK)?;
        self.attempt(&mut slot, true, job)
    }

    fn with_reader<T>(
        &self,
        job: impl FnMut(&mut Connection, &Layout) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
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
        mut job: impl FnMut(&mut Connection, &Layout) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut last = Failure::Replaced;
        for _ in 0..ROUNDS {
            let layout = self.layout()?;
            let index = match slot.take().filter(|index| index.is_current(&layout)) {
                Some(index) => index,
                None => match Index::open(&layout) {
                    Ok(index) => index,
                    Err((identity, Failure::Damaged(cause))) => {
                        self.heal(&layout, identity, &cause)?;
                        last = Failure::Damaged(cause);
                        continue;
                    }
                    Err((_, Failure::OtherSchema(schema))) => {
                        self.step_aside(schema)?;
                        continue;
                    }
                    Err((_, Failure::Replaced)) => continue,
                    Err((_, failure)) => return Err(failure),
                },
            };
            let index = slot.insert(index);
            match job(&mut index.sql, &layout) {
                Ok(done) if !writes || index.is_current(&layout) && layout.is_current() => return Ok(done),
                Ok(_) | Err(Failure::Replaced) => {}
                Err(Failure::Damaged(cause)) => {
                    let identity = index.identity();
                    *slot = None;
                    self.heal(&layout, Some(identity), &cause)?;
                    last = Failure::Damaged(cause);
                }
                // An error on an index that is no longer there says nothing about the one that is.
                Err(_) if !index.is_current(&layout) || !layout.is_current() => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    fn heal(&self, layout: &Layout, damaged: Option<Identity>, cause: &str) -> Result<(), Failure> {
        if index::replace(layout, damaged)? {
            self.counters.healed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(cause, "the index of the disk tier was damaged; it starts empty");
        }
        Ok(())
    }
}
