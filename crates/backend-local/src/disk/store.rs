//! What is asked of the index: read one entry, write one in order, make room, keep the books.

use bytes::Bytes;
use peercache_api::{Entry, ErrorKind, Freshness, Key, NodeId, Operation, Timestamp, Version, envelope};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};

use super::blob::new_number;
use super::directory::Layout;
use super::failure::Failure;

/// Envelopes up to this size lie in the index, larger ones in files.
pub(super) const MAX_INLINE_BYTES: usize = 64 * 1024;
/// Bytes of one page of the index, and of one block of a file system.
const BLOCK_BYTES: u64 = 4096;
/// Rows that one step of making room looks at.
const EVICTION_BATCH: i64 = 64;
/// Loose files that one put removes at most.
const LOOSE_BATCH: i64 = 64;
/// Expired rows that one sweep removes at most.
const SWEEP_BATCH: i64 = 128;
/// Free pages that the index may keep for reuse: 4 MiB.
const SPARE_PAGES: i64 = 1024;
/// A page of entries ends once its values have so many bytes.
const PAGE_BYTES: usize = 4 << 20;
/// How often a row is read again when its file has been replaced meanwhile.
const READ_ATTEMPTS: usize = 3;

type Digest = [u8; 32];

/// Which row, and which write it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowId {
    pub(super) id: i64,
    version: Version,
}

impl RowId {
    /// A row orders writes by its columns, and its envelope says what was written: if they differ,
    /// a flipped bit could pin an old value for ever.
    fn is_of(&self, created: Timestamp, entry: &Entry) -> bool {
        entry.version() == self.version && entry.metadata().created == created
    }
}

/// What a read found.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing, something expired, or a format that this build does not know.
    Nothing,
    /// A verified entry.
    Entry(RowId, Entry),
    /// A row whose file is gone for good.
    FileLost(RowId),
    /// Bytes that are not what was written.
    Corrupt(RowId, peercache_api::Error),
}

/// Some of what the directory holds, and where the rest begins.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) entries: Vec<(Key, Entry)>,
    /// The row before which the next page begins; nothing when this was the last.
    pub(super) before: Option<i64>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) evicted: u64,
    /// Damaged rows that stood in the way and were removed.
    pub(super) dropped: u64,
}

/// What the directory holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) entries: u64,
    /// Bytes of the index's pages that are in use, and of all files.
    pub(super) bytes: u64,
}

/// A file that no entry names any more, and its row in `loose`. It is removed once that is
/// committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loose {
    id: i64,
    digest: Digest,
    number: i64,
}

type Unlinked = Vec<Loose>;

/// What a write needs to know besides the entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) now: Timestamp,
    pub(super) capacity: u64,
    /// Rows that were read since the last write, oldest read first.
    pub(super) touched: &'a [i64],
}

// SQLite's integers are signed. Casting keeps every bit; only `expires` is compared in SQL, and
// times beyond the signed range are clamped there.
fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn version_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Version> {
    Ok(Version {
        wall: Timestamp::from_millis(row.get::<_, i64>(first)?.cast_unsigned()),
        counter: row.get(first + 1)?,
        node: NodeId::from_u64(row.get::<_, i64>(first + 2)?.cast_unsigned()),
    })
}

/// Reads and verifies the entry under `key`.
pub(super) fn read(sql: &Connection, layout: &Layout, key: &Key, now: Timestamp) -> Result<Found, Failure> {
    let mut lost = None;
    for _ in 0..READ_ATTEMPTS {
        let mut statement = sql.prepare_cached(
            "SELECT id, wall, counter, node, expires, file, created, body FROM entry WHERE digest = ?1",
        )?;
        let row = statement
            .query_row([key.digest()], |row| {
                let body = row.get_ref(7)?.as_blob_or_null()?.map(Bytes::copy_from_slice);
                let row_id = RowId { id: row.get(0)?, version: version_of(row, 1)? };
                let created = Timestamp::from_millis(row.get::<_, i64>(6)?.cast_unsigned());
                Ok((row_id, created, row.get::<_, i64>(4)?, row.get::<_, Option<i64>>(5)?, body))
            })
            .optional()?;
        let Some((row, created, expires, file, body)) = row else {
            return Ok(Found::Nothing);
        };
        if expires <= millis(now) {
            return Ok(Found::Nothing);
        }
        let stored = match (body, file) {
            (Some(body), _) => Some(body),
            (None, Some(number)) => layout.read_blob(key.digest(), number)?,
            (None, None) => None,
        };
        let Some(stored) = stored else {
            // Replaced between the two looks: the row names another file by now.
            lost = Some(row);
            continue;
        };
        return Ok(match envelope::decode(key, stored) {
            Ok(entry) if !row.is_of(created, &entry) => Found::Corrupt(
                row,
                peercache_api::Error::new(
                    ErrorKind::Corrupt,
                    Operation::Decode,
                    "the row and its envelope differ",
                ),
            ),
            Ok(entry) if entry.freshness(now) == Freshness::Expired => Found::Nothing,
            Ok(entry) => Found::Entry(row, entry),
            Err(error) if error.kind() == ErrorKind::Unsupported => Found::Nothing,
            Err(error) => Found::Corrupt(row, error),
        });
    }
    Ok(lost.map_or(Found::Nothing, Found::FileLost))
}

/// Entries of rows before the row `before`, the latest rows first: at most `most` rows, and fewer
/// once they have [`PAGE_BYTES`]. Expired and damaged ones are left out.
pub(super) fn page(
    sql: &Connection,
    layout: &Layout,
    (before, most): (Option<i64>, usize),
    now: Timestamp,
) -> Result<Page, Failure> {
    let mut statement = sql.prepare_cached(
        "SELECT id, digest, expires, file, body FROM entry WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut rows = statement.query([before.unwrap_or(i64::MAX), most])?;
    let mut page = Page { entries: Vec::new(), before: None };
    let (mut seen, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        seen += 1;
        page.before = Some(row.get(0)?);
        let (digest, file): (Digest, Option<i64>) = (row.get(1)?, row.get(3)?);
        if row.get::<_, i64>(2)? <= millis(now) {
            continue;
        }
        let stored = match (row.get::<_, Option<Vec<u8>>>(4)?, file) {
            (Some(body), _) => Some(Bytes::from(body)),
            (None, Some(number)) => layout.read_blob(&digest, number)?,
            (None, None) => None,
        };
        let key = Key::from_digest(digest);
        // What is damaged is counted and removed when it is asked for.
        let Some(entry) = stored.and_then(|stored| envelope::decode(&key, stored).ok()) else { continue };
        bytes += entry.value().len();
        page.entries.push((key, entry));
        if bytes >= PAGE_BYTES {
            return Ok(page);
        }
    }
    if seen < most {
        page.before = None;
    }
    Ok(page)
}

struct Stored {
    id: i64,
    version: Version,
    created: Timestamp,
    size: i64,
    file: Option<i64>,
}

fn stored(sql: &Connection, digest: &Digest) -> Result<Option<Stored>, Failure> {
    let mut statement = sql
        .prepare_cached("SELECT id, wall, counter, node, created, size, file FROM entry WHERE digest = ?1")?;
    let found = statement.query_row([digest], |row| {
        Ok(Stored {
            id: row.get(0)?,
            version: version_of(row, 1)?,
            created: Timestamp::from_millis(row.get::<_, i64>(4)?.cast_unsigned()),
            size: row.get(5)?,
            file: row.get(6)?,
        })
    });
    Ok(found.optional()?)
}

fn supersedes(entry: &Entry, stored: Option<&Stored>, now: Timestamp) -> Result<bool, Failure> {
    let Some(stored) = stored else { return Ok(true) };
    // The one rule is `Entry::supersedes`, which looks at nothing but what the row has in columns.
    let other = Entry::builder("", stored.version, stored.created).build()?;
    Ok(entry.supersedes(&other, now))
}

/// Writes `entry` under `key` unless what is there is newer, and makes room for it.
pub(super) fn write(
    sql: &mut Connection,
    layout: &Layout,
    key: &Key,
    entry: &Entry,
    terms: Terms<'_>,
) -> Result<Written, Failure> {
    // Cheap to find out before a large value is written for nothing; decided below, in the
    // transaction.
    let mut dropped = 0;
    if !supersedes(entry, stored(sql, key.digest())?.as_ref(), terms.now)? {
        // Lose to what can be read, not to a damaged row.
        match read(sql, layout, key, terms.now)? {
            Found::Corrupt(row, _) | Found::FileLost(row) if forget(sql, layout, key, row)? => dropped = 1,
            _ => return Ok(Written::default()),
        }
    }
    let head = envelope::encode_head(key, entry);
    let length = head.len() + entry.value().len();
    if length <= MAX_INLINE_BYTES {
        let mut body = Vec::with_capacity(length);
        body.extend_from_slice(&head);
        body.extend_from_slice(entry.value());
        let evicted = commit(sql, layout, key, entry, terms, Body::Inline(&body))?.unwrap_or(0);
        return Ok(Written { dropped, evicted });
    }
    let bytes = (length as u64).next_multiple_of(BLOCK_BYTES);
    let file = announce(sql, layout, key, bytes, terms)?;
    let written = layout.write_blob(key.digest(), file.loose.number, [&head, entry.value()]);
    let done = written
        .map_err(Failure::from)
        .and_then(|()| commit(sql, layout, key, entry, terms, Body::File(&file)));
    if !matches!(done, Ok(Some(_))) {
        // What cannot be removed now stays in `loose`, for another put to remove.
        unlink(sql, layout, &[file.loose]).unwrap_or_else(|failure| {
            tracing::debug!(?failure, "a file of the disk tier that is not used could not be removed");
        });
    }
    Ok(Written { dropped, evicted: file.evicted + done?.unwrap_or(0) })
}

/// A file that is about to be written.
struct Announced {
    loose: Loose,
    size: i64,
    evicted: u64,
}

#[derive(Clone, Copy)]
enum Body<'a> {
    Inline(&'a [u8]),
    File(&'a Announced),
}

/// Notes a file of this size before it is written, and makes room for it: so the bound holds while
/// it is written, and whatever ends this process, the file is known.
fn announce(
    sql: &mut Connection,
    layout: &Layout,
    key: &Key,
    bytes: u64,
    terms: Terms<'_>,
) -> Result<Announced, Failure> {
    let (number, size) = (new_number()?, i64::try_from(bytes).unwrap_or(i64::MAX));
    let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.prepare_cached("INSERT INTO loose (digest, file, size, since, dead) VALUES (?1, ?2, ?3, ?4, 0)")?
        .execute(rusqlite::params![key.digest(), number, size, millis(terms.now)])?;
    let loose = Loose { id: tx.last_insert_rowid(), digest: *key.digest(), number };
    add(&tx, 0, 0, size)?;
    let mut unlinked = abandoned(&tx, layout, terms.now)?;
    let evicted = make_room(&tx, terms, None, &mut unlinked)?;
    tx.commit()?;
    unlink(sql, layout, &unlinked)?;
    Ok(Announced { loose, size, evicted })
}

/// How much was evicted for it, or nothing if it was not stored. One transaction.
fn commit(
    sql: &mut Connection,
    layout: &Layout,
    key: &Key,
    entry: &Entry,
    terms: Terms<'_>,
    body: Body<'_>,
) -> Result<Option<u64>, Failure> {
    let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = stored(&tx, key.digest())?;
    if !supersedes(entry, before.as_ref(), terms.now)? {
        return Ok(None);
    }
    let tick = touch(&tx, terms.touched)?;
    let version = entry.version();
    let (inline, file, size) = match body {
        Body::Inline(bytes) => (Some(bytes), None, 0),
        Body::File(file) => (None, Some(file.loose.number), file.size),
    };
    if let Body::File(file) = body {
        let mut remove = tx.prepare_cached("DELETE FROM loose WHERE id = ?1 AND file = ?2")?;
        if remove.execute([file.loose.id, file.loose.number])? == 0 {
            // It took so long that another process took the file for abandoned, and removed it.
            return Err(Failure::Replaced);
        }
        add(&tx, 0, size, -size)?;
    }
    tx.prepare_cached(
        "INSERT INTO entry (digest, wall, counter, node, created, expires, size, used, file, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (digest) DO UPDATE SET wall = ?2, counter = ?3, node = ?4, created = ?5, expires = ?6,
             size = ?7, used = ?8, file = ?9, body = ?10",
    )?
    .execute(rusqlite::params![
        key.digest(),
        version.wall.as_millis().cast_signed(),
        version.counter,
        version.node.as_u64().cast_signed(),
        entry.metadata().created.as_millis().cast_signed(),
        millis(entry.expires()),
        size,
        tick,
        file,
        inline,
    ])?;
    let mut unlinked = abandoned(&tx, layout, terms.now)?;
    match &before {
        Some(before) => unlinked.extend(release(&tx, key.digest(), before.file, before.size)?),
        None => add(&tx, 1, 0, 0)?,
    }
    let keep = before.map_or_else(|| tx.last_insert_rowid(), |before| before.id);
    let evicted = make_room(&tx, terms, Some(keep), &mut unlinked)?;
    // SQLite's pages have no checksums: a flipped bit in an index can hide the old row from the
    // insert and the new one from the next read. One look through the same index finds out.
    if stored(&tx, key.digest())?.is_none_or(|after| after.id != keep || after.version != version) {
        return Err(Failure::Damaged("a row cannot be found where it was just written".to_owned()));
    }
    tx.commit()?;
    unlink(sql, layout, &unlinked)?;
    Ok(Some(evicted))
}

/// Notes that no entry names the file `number` any more.
fn release(
    tx: &Transaction<'_>,
    digest: &Digest,
    number: Option<i64>,
    size: i64,
) -> Result<Option<Loose>, Failure> {
    let Some(number) = number else { return Ok(None) };
    tx.prepare_cached("INSERT INTO loose (digest, file, size, since, dead) VALUES (?1, ?2, ?3, 0, 1)")?
        .execute(rusqlite::params![digest, number, size])?;
    let id = tx.last_insert_rowid();
    add(tx, 0, size.saturating_neg(), size)?;
    Ok(Some(Loose { id, digest: *digest, number }))
}

/// Loose files that are to be removed: those whose entry is gone, and those that no put can be
/// writing any more.
fn abandoned(sql: &Connection, layout: &Layout, now: Timestamp) -> Result<Unlinked, Failure> {
    let mut statement =
        sql.prepare_cached("SELECT id, digest, file, since, dead FROM loose ORDER BY id LIMIT ?1")?;
    let rows = statement.query_map([LOOSE_BATCH], |row| {
        let loose = Loose { id: row.get(0)?, digest: row.get(1)?, number: row.get(2)? };
        let since = Timestamp::from_millis(row.get::<_, i64>(3)?.cast_unsigned());
        Ok((loose, since, row.get::<_, bool>(4)?))
    })?;
    let mut unlinked = Unlinked::new();
    for row in rows {
        let (loose, since, dead) = row?;
        if dead || layout.is_abandoned(&loose.digest, loose.number, since, now) {
            unlinked.push(loose);
        }
    }
    Ok(unlinked)
}

/// Removes loose files, and then their rows: who is killed in between leaves rows without a file,
/// which the next put removes.
fn unlink(sql: &mut Connection, layout: &Layout, loose: &[Loose]) -> Result<(), Failure> {
    let gone: Vec<_> = loose.iter().filter(|loose| layout.remove_blob(&loose.digest, loose.number)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for loose in gone {
        let size: Option<i64> = tx
            .prepare_cached("DELETE FROM loose WHERE id = ?1 AND file = ?2 RETURNING size")?
            .query_row([loose.id, loose.number], |row| row.get(0))
            .optional()?;
        add(&tx, 0, 0, size.unwrap_or(0).saturating_neg())?;
    }
    Ok(tx.commit()?)
}

/// Removes loose files that killed processes have left. How many.
pub(super) fn sweep_loose(sql: &mut Connection, layout: &Layout, now: Timestamp) -> Result<u64, Failure> {
    // Most often there is none, and then nothing is locked.
    let unlinked = abandoned(sql, layout, now)?;
    unlink(sql, layout, &unlinked)?;
    Ok(unlinked.len() as u64)
}

/// Marks rows as used, in this order, and returns a tick later than all.
fn touch(tx: &Transaction<'_>, rows: &[i64]) -> Result<i64, Failure> {
    let mut tick: i64 = tx.prepare_cached("SELECT tick FROM total")?.query_row([], |row| row.get(0))?;
    let mut statement = tx.prepare_cached("UPDATE entry SET used = ?2 WHERE id = ?1")?;
    for row in rows {
        tick = tick.saturating_add(1);
        statement.execute([*row, tick])?;
    }
    tick = tick.saturating_add(1);
    tx.prepare_cached("UPDATE total SET tick = ?1")?.execute([tick])?;
    Ok(tick)
}

/// Stores what was read since the last write.
pub(super) fn flush_touched(sql: &mut Connection, rows: &[i64]) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    touch(&tx, rows)?;
    Ok(tx.commit()?)
}

fn add(tx: &Transaction<'_>, entries: i64, files: i64, loose: i64) -> Result<(), Failure> {
    tx.prepare_cached(
        "UPDATE total SET entries = max(0, entries + ?1), files = max(0, files + ?2),
             loose = max(0, loose + ?3)",
    )?
    .execute([entries, files, loose])?;
    Ok(())
}

type Candidate = (i64, Digest, i64, Option<i64>);

fn candidates(tx: &Transaction<'_>, select: &str, numbers: [i64; 2]) -> Result<Vec<Candidate>, Failure> {
    let mut statement = tx.prepare_cached(select)?;
    let rows =
        statement.query_map(numbers, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn delete(tx: &Transaction<'_>, row: &Candidate, unlinked: &mut Unlinked) -> Result<(), Failure> {
    let (id, digest, size, file) = row;
    tx.prepare_cached("DELETE FROM entry WHERE id = ?1")?.execute([id])?;
    add(tx, -1, 0, 0)?;
    unlinked.extend(release(tx, digest, *file, *size)?);
    Ok(())
}

/// Removes what was used least recently until what the directory takes is within `terms.capacity`;
/// never the row `keep`. Files in `unlinked` are as good as gone.
fn make_room(
    tx: &Transaction<'_>,
    terms: Terms<'_>,
    keep: Option<i64>,
    unlinked: &mut Unlinked,
) -> Result<u64, Failure> {
    let mut evicted = 0;
    while occupied(tx, unlinked)? > terms.capacity {
        let batch = candidates(
            tx,
            "SELECT id, digest, size, file FROM entry WHERE id <> ?1 ORDER BY used LIMIT ?2",
            [keep.unwrap_or(-1), EVICTION_BATCH],
        )?;
        if batch.is_empty() {
            // Nothing is left but the newcomer, which fits: the total was wrong.
            recount(tx)?;
            break;
        }
        for row in &batch {
            delete(tx, row, unlinked)?;
            evicted += 1;
            if occupied(tx, unlinked)? <= terms.capacity {
                break;
            }
        }
    }
    Ok(evicted)
}

/// Removes about a sixteenth of what the directory holds, least recently used first, because the
/// file system is full. How many entries.
pub(super) fn shrink(sql: &mut Connection, layout: &Layout, terms: Terms<'_>) -> Result<u64, Failure> {
    let held = totals(sql)?.bytes;
    let terms = Terms { capacity: held - held / 16 - 1, ..terms };
    let shrunk = (|| {
        let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut unlinked = abandoned(&tx, layout, terms.now)?;
        let evicted = make_room(&tx, terms, None, &mut unlinked)?;
        tx.commit()?;
        Ok((evicted, unlinked))
    })();
    match shrunk {
        Ok((evicted, unlinked)) => {
            unlink(sql, layout, &unlinked)?;
            sql.execute_batch("PRAGMA incremental_vacuum(512)")?;
            Ok(evicted)
        }
        Err(failure) if Failure::is_full(&failure) => {
            // There is not even room to note what goes: files go first, and their rows are misses.
            let tx = sql.transaction()?;
            let select = "SELECT id, digest, size, file FROM entry
                          WHERE file IS NOT NULL AND id <> ?1 ORDER BY used LIMIT ?2";
            let rows = candidates(&tx, select, [-1, EVICTION_BATCH])?;
            drop(tx);
            for (_, digest, _, file) in &rows {
                file.map(|number| layout.remove_blob(digest, number));
            }
            sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(rows.len() as u64)
        }
        Err(failure) => Err(failure),
    }
}

/// Removes a bounded number of expired rows, and gives spare pages back to the file system.
pub(super) fn sweep_expired(sql: &mut Connection, layout: &Layout, now: Timestamp) -> Result<(), Failure> {
    let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let select = "SELECT id, digest, size, file FROM entry WHERE expires <= ?1 LIMIT ?2";
    let mut unlinked = Unlinked::new();
    for row in candidates(&tx, select, [millis(now), SWEEP_BATCH])? {
        delete(&tx, &row, &mut unlinked)?;
    }
    tx.commit()?;
    unlink(sql, layout, &unlinked)?;
    let spare: i64 = sql.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if spare > SPARE_PAGES {
        sql.execute_batch("PRAGMA incremental_vacuum(512)")?;
    }
    Ok(())
}

/// Removes a row that is of no use, if it still holds the same write. Says whether it did.
pub(super) fn forget(sql: &mut Connection, layout: &Layout, key: &Key, row: RowId) -> Result<bool, Failure> {
    let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(now) = stored(&tx, key.digest())?.filter(|now| now.id == row.id && now.version == row.version)
    else {
        return Ok(false);
    };
    let mut unlinked = Unlinked::new();
    delete(&tx, &(now.id, *key.digest(), now.size, now.file), &mut unlinked)?;
    tx.commit()?;
    unlink(sql, layout, &unlinked)?;
    Ok(true)
}

/// Corrects the totals, which only damage makes wrong. Reads every row.
fn recount(tx: &Transaction<'_>) -> Result<(), Failure> {
    tx.execute(
        "INSERT INTO total (id, entries, files, loose, tick)
         SELECT 0, count(*), coalesce(sum(size), 0), (SELECT coalesce(sum(size), 0) FROM loose),
             coalesce(max(used), 0) FROM entry WHERE true
         ON CONFLICT (id) DO UPDATE SET entries = excluded.entries, files = excluded.files,
             loose = excluded.loose, tick = max(tick, excluded.tick)",
        [],
    )?;
    Ok(())
}

/// What the directory takes once the files in `unlinked` are gone.
fn occupied(tx: &Transaction<'_>, unlinked: &[Loose]) -> Result<u64, Failure> {
    let mut going = 0_u64;
    let mut size = tx.prepare_cached("SELECT size FROM loose WHERE id = ?1")?;
    for loose in unlinked {
        let size: Option<i64> = size.query_row([loose.id], |row| row.get(0)).optional()?;
        going += size.unwrap_or(0).max(0).cast_unsigned();
    }
    Ok(totals(tx)?.bytes.saturating_sub(going))
}

/// How much the directory holds.
pub(super) fn totals(sql: &Connection) -> Result<Totals, Failure> {
    let mut statement = sql.prepare_cached(
        "SELECT entries, files + loose,
             (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)
         FROM total",
    )?;
    Ok(statement.query_row([], |row| {
        let files = row.get::<_, i64>(1)?.max(0).cast_unsigned();
        let pages = row.get::<_, i64>(2)?.max(0).cast_unsigned();
        Ok(Totals {
            entries: row.get::<_, i64>(0)?.max(0).cast_unsigned(),
            bytes: files.saturating_add(pages.saturating_mul(BLOCK_BYTES)),
        })
    })?)
}
