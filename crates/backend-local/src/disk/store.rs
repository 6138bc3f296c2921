//! What is asked of the index: read one entry, write one in order, make room, keep the books.

use bytes::Bytes;
use peercache_api::{Entry, ErrorKind, Freshness, Key, NodeId, Operation, Timestamp, Version, envelope};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};

use super::directory::Layout;
use super::failure::Failure;

/// Envelopes up to this size lie in the index, larger ones in files.
pub(super) const MAX_INLINE_BYTES: usize = 64 * 1024;
/// What an entry is charged besides its envelope: its row, and its places in three indexes.
pub(super) const ENTRY_OVERHEAD: u64 = 256;
const BLOCK_BYTES: u64 = 4096;
/// Rows that one step of making room looks at.
const EVICTION_BATCH: i64 = 64;
/// Expired rows that one sweep removes at most.
const SWEEP_BATCH: i64 = 128;
/// Free pages that the index may keep for reuse: 4 MiB.
const SPARE_PAGES: i64 = 1024;
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
    /// A row orders writes by its columns, and its envelope says what was written: if they differ, a
    /// flipped bit could pin an old value for ever.
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

/// What a write did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) evicted: u64,
    /// Damaged rows that stood in the way and were removed.
    pub(super) dropped: u64,
}

/// The totals that are kept in the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// A removed row's file, to be removed once the row's end is committed.
type Unlinked = Vec<(Digest, i64)>;

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
///
/// `touched` are the rows that were read since the last call, oldest read first.
pub(super) fn write(
    sql: &mut Connection,
    layout: &Layout,
    key: &Key,
    entry: &Entry,
    now: Timestamp,
    capacity: u64,
    touched: &[i64],
) -> Result<Written, Failure> {
    // Cheap to find out before a large value is written for nothing; decided below, in the transaction.
    let mut dropped = 0;
    if !supersedes(entry, stored(sql, key.digest())?.as_ref(), now)? {
        // Lose to what can be read, not to a damaged row.
        match read(sql, layout, key, now)? {
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
        let size = ENTRY_OVERHEAD + length as u64;
        let (written, _) =
            commit(sql, layout, key, entry, now, capacity, touched, size, Body::Inline(&body))?;
        return Ok(Written { dropped, ..written });
    }
    let number = layout.write_blob(key.digest(), [&head, entry.value()])?;
    let size = ENTRY_OVERHEAD + (length as u64).next_multiple_of(BLOCK_BYTES);
    let done = commit(sql, layout, key, entry, now, capacity, touched, size, Body::File(number));
    if !matches!(done, Ok((_, true))) {
        layout.remove_blob(key.digest(), number);
    }
    Ok(Written { dropped, ..done?.0 })
}

#[derive(Clone, Copy)]
enum Body<'a> {
    Inline(&'a [u8]),
    File(i64),
}

/// Whether it was stored, and what it took. One transaction.
#[allow(
    clippy::too_many_arguments,
    reason = "one private transaction with one caller; a struct would name them twice"
)]
fn commit(
    sql: &mut Connection,
    layout: &Layout,
    key: &Key,
    entry: &Entry,
    now: Timestamp,
    capacity: u64,
    touched: &[i64],
    size: u64,
    body: Body<'_>,
) -> Result<(Written, bool), Failure> {
    let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = stored(&tx, key.digest())?;
    if !supersedes(entry, before.as_ref(), now)? {
        return Ok((Written::default(), false));
    }
    let tick = touch(&tx, touched)?;
    let version = entry.version();
    let (inline, file) = match body {
        Body::Inline(bytes) => (Some(bytes), None),
        Body::File(number) => (None, Some(number)),
    };
    let size = i64::try_from(size).unwrap_or(i64::MAX);
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
    let mut unlinked = Unlinked::new();
    let (entries, bytes) = match &before {
        Some(before) => {
            unlinked.extend(before.file.map(|number| (*key.digest(), number)));
            (0, size.saturating_sub(before.size))
        }
        None => (1, size),
    };
    add(&tx, entries, bytes)?;
    let keep = before.map_or_else(|| tx.last_insert_rowid(), |before| before.id);
    let evicted = make_room(&tx, capacity, Some(keep), &mut unlinked)?;
    // SQLite's pages have no checksums: a flipped bit in an index can hide the old row from the insert
    // and the new one from the next read. One look through the same index finds out.
    if stored(&tx, key.digest())?.is_none_or(|after| after.id != keep || after.version != version) {
        return Err(Failure::Damaged("a row cannot be found where it was just written".to_owned()));
    }
    tx.commit()?;
    for (digest, number) in unlinked {
        layout.remove_blob(&digest, number);
    }
    Ok((Written { evicted, dropped: 0 }, true))
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

fn add(tx: &Transaction<'_>, entries: i64, bytes: i64) -> Result<(), Failure> {
    tx.prepare_cached("UPDATE total SET entries = max(0, entries + ?1), bytes = max(0, bytes + ?2)")?
        .execute([entries, bytes])?;
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
    add(tx, -1, size.saturating_neg())?;
    unlinked.extend(file.map(|number| (*digest, number)));
    Ok(())
}

/// Removes what was used least recently until the total is within `capacity`; never the row `keep`.
fn make_room(
    tx: &Transaction<'_>,
    capacity: u64,
    keep: Option<i64>,
    unlinked: &mut Unlinked,
) -> Result<u64, Failure> {
    let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
    let mut bytes = i64::try_from(totals(tx)?.bytes).unwrap_or(i64::MAX);
    let mut evicted = 0;
    while bytes > capacity {
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
            if bytes <= capacity {
                break;
            }
            delete(tx, row, unlinked)?;
            bytes = bytes.saturating_sub(row.2);
            evicted += 1;
        }
    }
    Ok(evicted)
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
    for (digest, number) in unlinked {
        layout.remove_blob(&digest, number);
    }
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
    for (digest, number) in unlinked {
        layout.remove_blob(&digest, number);
    }
    Ok(true)
}

/// Corrects the totals and fits the store to `capacity`, which may have been lowered.
pub(super) fn settle(sql: &mut Connection, layout: &Layout, capacity: u64) -> Result<u64, Failure> {
    let tx = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    recount(&tx)?;
    let mut unlinked = Unlinked::new();
    let evicted = make_room(&tx, capacity, None, &mut unlinked)?;
    tx.commit()?;
    for (digest, number) in unlinked {
        layout.remove_blob(&digest, number);
    }
    Ok(evicted)
}

fn recount(tx: &Transaction<'_>) -> Result<(), Failure> {
    let changed = tx.execute(
        "INSERT INTO total (id, entries, bytes, tick)
         SELECT 0, count(*), coalesce(sum(size), 0), coalesce(max(used), 0) FROM entry WHERE true
         ON CONFLICT (id) DO UPDATE SET entries = excluded.entries, bytes = excluded.bytes,
             tick = max(tick, excluded.tick)",
        [],
    )?;
    debug_assert_eq!(changed, 1);
    Ok(())
}

/// How much the store holds.
pub(super) fn totals(sql: &Connection) -> Result<Totals, Failure> {
    let mut statement = sql.prepare_cached("SELECT entries, bytes FROM total")?;
    Ok(statement.query_row([], |row| {
        Ok(Totals {
            entries: row.get::<_, i64>(0)?.max(0).cast_unsigned(),
            bytes: row.get::<_, i64>(1)?.max(0).cast_unsigned(),
        })
    })?)
}

/// Whether a row names this file.
pub(super) fn names_file(sql: &Connection, digest: &Digest, number: i64) -> Result<bool, Failure> {
    Ok(stored(sql, digest)?.is_some_and(|row| row.file == Some(number)))
}
