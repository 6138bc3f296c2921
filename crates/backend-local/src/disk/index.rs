//! The index file: its schema, its connections, how it is made, and how a damaged one is replaced.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::directory::{Identity, Layout, random};
use super::failure::Failure;
use super::mapped::{self, InUse};

/// "pcdt", so that `file` and others tell what it is.
const APPLICATION_ID: i32 = 0x7063_6474;
/// Of the schema below. An index of another version is left as it is: another release uses it.
const SCHEMA_VERSION: i32 = 1;
/// How long one statement waits for another process's write.
const BUSY: Duration = Duration::from_secs(10);
/// The write-ahead log is checkpointed at this many pages of 4 KiB and truncated to about as much.
const LOG_PAGES: i64 = 512;
/// A damaged index larger than this is removed, not kept for inspection.
const MAX_QUARANTINED_BYTES: u64 = 64 * 1024 * 1024;

/// `body` comes last, so that reading the other columns never touches its overflow pages, and both
/// indexes are narrow. Of the key only its digest is stored.
///
/// `loose` has the files that no entry names: those that a put is writing, and with `dead` those
/// whose entry is gone. So a file that a killed process left is known, counted and removed. In
/// `total`, `files` are the bytes of the files that entries name, `loose` those of the others.
const SCHEMA: &str = "
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        wall INTEGER NOT NULL,
        counter INTEGER NOT NULL,
        node INTEGER NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        size INTEGER NOT NULL,
        used INTEGER NOT NULL,
        file INTEGER,
        body BLOB
    );
    CREATE INDEX entry_used ON entry (used, size);
    CREATE INDEX entry_expires ON entry (expires);
    CREATE TABLE loose (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL,
        file INTEGER NOT NULL,
        size INTEGER NOT NULL,
        since INTEGER NOT NULL,
        dead INTEGER NOT NULL
    );
    CREATE TABLE total (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        entries INTEGER NOT NULL,
        files INTEGER NOT NULL,
        loose INTEGER NOT NULL,
        tick INTEGER NOT NULL
    );
    INSERT INTO total VALUES (0, 0, 0, 0, 0);
";

/// An open index, and which file it is.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) sql: Connection,
    identity: Identity,
    /// Dropped after the connection.
    _in_use: InUse,
}

impl Index {
    /// Opens the index. A missing or damaged one is a failure that names the file, for [`replace`].
    pub(super) fn open(layout: &Layout) -> Result<Self, (Option<Identity>, Failure)> {
        let path = layout.index();
        let [_, shared] = layout.index_companions();
        let mut mappings = mapped::lock();
        // Each round is lost only to another process that replaced the file in between.
        for _ in 0..8 {
            let before = Identity::of(&path).map_err(|error| (None, error.into()))?;
            let Some(before) = before else {
                return Err((None, Failure::Damaged("there is no index".to_owned())));
            };
            let beside = Identity::of(&shared).map_err(|error| (None, error.into()))?;
            let opened = if beside.is_some_and(|file| mappings.belongs_to_another(file, before)) {
                Err(Failure::Damaged("the index was replaced, and the log of the old one left".to_owned()))
            } else if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
                connect(&path)
            } else {
                Err(Failure::Damaged("the index is not a file".to_owned()))
            };
            let after = Identity::of(&path).map_err(|error| (None, error.into()))?;
            let held = layout.index_identity().map_err(|error| (None, error.into()))?;
            if after == Some(before) && held == after {
                let sql = opened.map_err(|failure| (Some(before), failure))?;
                // There now, if it was not before: the connection has read.
                let beside = Identity::of(&shared).map_err(|error| (None, error.into()))?;
                return Ok(Self { sql, identity: before, _in_use: mappings.join(beside, before) });
            }
        }
        Err((None, Failure::Replaced))
    }

    /// Whether the directory still has the file as its index that this connection has open.
    pub(super) fn is_current(&self, layout: &Layout) -> bool {
        matches!(layout.index_identity(), Ok(Some(identity)) if identity == self.identity)
    }

    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let sql = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    )?;
    configure(&sql)?;
    let number = |pragma| sql.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION_ID {
        return Err(Failure::Damaged("the index is another program's database".to_owned()));
    }
    if version != SCHEMA_VERSION {
        return Err(Failure::OtherSchema(version));
    }
    let tables: i64 = sql.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('entry', 'loose', 'total', 'entry_used', 'entry_expires')",
        [],
        |row| row.get(0),
    )?;
    if tables != 5 {
        return Err(Failure::Damaged("tables are missing".to_owned()));
    }
    Ok(sql)
}

fn configure(sql: &Connection) -> Result<(), Failure> {
    sql.busy_timeout(BUSY)?;
    // Closing must leave the log alone: its path may belong to a newer index by then.
    sql.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    sql.pragma_update(None, "mmap_size", 0)?;
    sql.pragma_update(None, "synchronous", "NORMAL")?;
    sql.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    sql.pragma_update(None, "journal_size_limit", LOG_PAGES * 4096)?;
    sql.pragma_update(None, "cache_size", -512)?;
    Ok(())
}

/// Moves the index `damaged` aside, if it is still there, and puts an empty one in its place.
///
/// Only one process does it at a time, and none does what another has done already: the answer says
/// whether this call did. The large values of the old index go with it.
pub(super) fn replace(layout: &Layout, damaged: Option<Identity>) -> Result<bool, Failure> {
    let _lock = layout.lock("lock")?;
    let path = layout.index();
    if layout.index_identity()? != damaged {
        return Ok(false);
    }
    let name = format!("index.sqlite.{:016x}", random()?);
    drop(layout.create(&name)?);
    let fresh = layout.root.join(&name);
    let made = make(&fresh);
    if let Err(failure) = made {
        remove_if_there(&fresh)?;
        return Err(failure);
    }
    if damaged.is_some() {
        quarantine(layout)?;
    }
    // A log that is left from an older index would be played into the new one.
    for companion in layout.index_companions() {
        remove_if_there(&companion)?;
    }
    // Before the new index is in place: a writer that has it open writes its files afterwards.
    match fs::remove_dir_all(layout.blobs()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::rename(&fresh, &path)?;
    Ok(true)
}

/// Makes a whole, closed index of the empty file at `path`, which nobody else knows yet.
fn make(path: &Path) -> Result<(), Failure> {
    let sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    sql.pragma_update(None, "page_size", 4096)?;
    sql.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    sql.execute_batch(SCHEMA)?;
    sql.pragma_update(None, "application_id", APPLICATION_ID)?;
    sql.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    let mode: String = sql.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Failure::Io(io::Error::other(
            "SQLite cannot use a write-ahead log here; a network file system is not supported",
        )));
    }
    sql.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Keeps one damaged index for whoever wants to look at it.
fn quarantine(layout: &Layout) -> Result<(), Failure> {
    let kept = layout.quarantine();
    match fs::remove_dir_all(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    layout.make_below(&["quarantine"])?;
    let [log, shared] = layout.index_companions();
    for path in [log, shared, layout.index()] {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let Some(name) = path.file_name() else { continue };
        if meta.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if meta.len() > MAX_QUARANTINED_BYTES {
            fs::remove_file(&path)?;
        } else {
            fs::rename(&path, kept.join(name))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
