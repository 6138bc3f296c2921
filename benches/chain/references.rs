//! What the chain is compared with: the libraries below it, used as one would without it.

use std::cell::RefCell;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use peercache::{Bytes, Key};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rusqlite::{Connection, OptionalExtension, params};

use crate::runner::Side;
use crate::spread;

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Bytes> for ByBytes {
    fn weight(&self, _: &Key, value: &Bytes) -> u64 {
        value.len() as u64
    }
}

/// `quick_cache`, bounded in bytes.
pub(crate) struct Direct(Arc<Cache<Key, Bytes, ByBytes>>);

impl Direct {
    pub(crate) fn filled(capacity: u64, values: &[(Key, Bytes)]) -> Self {
        let cache = Cache::with_weighter(values.len(), capacity, ByBytes);
        for (key, value) in values {
            cache.insert(key.clone(), value.clone());
        }
        assert!(values.iter().all(|(key, _)| cache.get(key).is_some()), "every read must be a hit");
        Self(Arc::new(cache))
    }

    pub(crate) fn reading(&self, values: &Arc<[(Key, Bytes)]>) -> Side {
        let (cache, values) = (Arc::clone(&self.0), Arc::clone(values));
        Side::new(move |steps| {
            for step in steps {
                assert!(black_box(cache.get(&spread(step, &values).0)).is_some());
            }
        })
    }

    pub(crate) fn writing(&self, values: &Arc<[(Key, Bytes)]>) -> Side {
        let (cache, values) = (Arc::clone(&self.0), Arc::clone(values));
        Side::new(move |steps| {
            for step in steps {
                let (key, value) = spread(step, &values);
                cache.insert(key.clone(), value.clone());
            }
        })
    }
}

/// SQLite with one table, in a file.
pub(crate) struct Sqlite(PathBuf);

const READ: &str = "SELECT value FROM entry WHERE key = ?1";
const WRITE: &str =
    "INSERT INTO entry (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

thread_local! {
    /// A connection is opened by the first batch of a thread and kept for those after it.
    static CONNECTION: RefCell<Option<(PathBuf, Connection)>> = const { RefCell::new(None) };
}

fn connect(path: &Path) -> Connection {
    let sql = Connection::open(path).unwrap();
    sql.busy_timeout(Duration::from_secs(10)).unwrap();
    sql.pragma_update(None, "journal_mode", "WAL").unwrap();
    sql.pragma_update(None, "synchronous", "NORMAL").unwrap();
    sql
}

fn connected(path: &Path, work: impl FnOnce(&Connection)) {
    CONNECTION.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(of, _)| of != path) {
            *kept = Some((path.to_owned(), connect(path)));
        }
        if let Some((_, sql)) = kept {
            work(sql);
        }
    });
}

impl Sqlite {
    pub(crate) fn filled(path: &Path, values: &[(Key, Bytes)]) -> Self {
        let sql = connect(path);
        sql.execute_batch(
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL)",
        )
        .unwrap();
        let mut write = sql.prepare(WRITE).unwrap();
        for (key, value) in values {
            write.execute(params![key.digest(), &value[..]]).unwrap();
        }
        Self(path.to_owned())
    }

    pub(crate) fn reading(&self, values: &Arc<[(Key, Bytes)]>) -> Side {
        let (path, values) = (self.0.clone(), Arc::clone(values));
        Side::new(move |steps| {
            connected(&path, |sql| {
                let mut read = sql.prepare_cached(READ).unwrap();
                for step in steps {
                    let key = &spread(step, &values).0;
                    let value: Option<Vec<u8>> =
                        read.query_row(params![key.digest()], |row| row.get(0)).optional().unwrap();
                    assert!(black_box(value.map(Bytes::from)).is_some());
                }
            });
        })
    }

    pub(crate) fn writing(&self, values: &Arc<[(Key, Bytes)]>) -> Side {
        let (path, values) = (self.0.clone(), Arc::clone(values));
        Side::new(move |steps| {
            connected(&path, |sql| {
                let mut write = sql.prepare_cached(WRITE).unwrap();
                for step in steps {
                    let (key, value) = spread(step, &values);
                    write.execute(params![key.digest(), &value[..]]).unwrap();
                }
            });
        })
    }
}
