//! What can go wrong in a blocking job, and what each failure of SQLite means.

use std::io;

use peercache_api::{Error, ErrorKind, Operation};
use rusqlite::ErrorCode;

use super::directory::{is_full, kind_of};

/// SQLite's `IOERR_SHORT_READ`: a page lies beyond the end of the file, which was truncated.
const SHORT_READ: i32 = 522;

/// Why a job did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The index is not what we wrote: it is to be moved aside and made anew.
    Damaged(String),
    /// The index was replaced since it was opened: it is to be opened again.
    Replaced,
    /// The index is another release's, of this schema version: it is left as it is.
    OtherSchema(i32),
    /// Anything else; the caller gets the error.
    Sqlite(rusqlite::Error),
    /// A file could not be read or written.
    Io(io::Error),
    /// An answer for the caller.
    Answer(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(cause, text) => match cause.code {
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::SchemaChanged => Self::Damaged(error.to_string()),
                // A missing table or column: the schema is checked at opening, so it broke since.
                ErrorCode::Unknown if text.as_deref().is_some_and(|text| text.starts_with("no such")) => {
                    Self::Damaged(error.to_string())
                }
                _ if cause.extended_code == SHORT_READ => Self::Damaged(error.to_string()),
                _ => Self::Sqlite(error),
            },
            // Statements are ours and fixed: only a damaged schema or row makes them wrong.
            rusqlite::Error::SqlInputError { .. }
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::QueryReturnedNoRows => Self::Damaged(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Answer(error)
    }
}

impl Failure {
    /// Whether the file system has no room, for bytes or for files.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Io(error) => is_full(error),
            Self::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            _ => false,
        }
    }

    /// The error for the caller.
    pub(super) fn into_error(self, operation: Operation) -> Error {
        let new = |kind, message: &'static str| Error::new(kind, operation, message).with_backend("disk");
        match self {
            Self::Answer(error) => error,
            Self::Damaged(cause) => new(ErrorKind::Corrupt, "the index is damaged and could not be repaired")
                .with_context("cause", cause),
            Self::Replaced => new(ErrorKind::Unavailable, "the index is being replaced over and over")
                .with_help("see which other process removes or damages the cache directory"),
            Self::OtherSchema(version) => {
                new(ErrorKind::Unsupported, "the index belongs to another release of peercache")
                    .with_context("schema", version)
                    .with_help("give each release a CACHE_DIR of its own")
            }
            Self::Io(error) if is_full(&error) => {
                full(new(ErrorKind::Unavailable, "the disk is full").with_source(error))
            }
            Self::Io(error) => new(kind_of(&error), "a file could not be read or written").with_source(error),
            Self::Sqlite(error) => {
                let told = match error.sqlite_error_code() {
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                        new(ErrorKind::Timeout, "another process held the index for too long")
                    }
                    Some(ErrorCode::DiskFull) => full(new(ErrorKind::Unavailable, "the disk is full")),
                    Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                        new(ErrorKind::Denied, "the index cannot be written")
                            .with_help("set CACHE_DIR to a directory that this user owns and can write")
                    }
                    _ => new(ErrorKind::Unavailable, "the index could not be used"),
                };
                told.with_source(error)
            }
        }
    }
}

fn full(error: Error) -> Error {
    error.with_help("free some space, or lower CACHE_DISK_BYTES")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> Failure {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into()
    }

    fn told(failure: Failure) -> (ErrorKind, String) {
        let error = failure.into_error(Operation::Put);
        (error.kind(), error.to_string())
    }

    #[test]
    fn damage_is_told_from_trouble() {
        for code in [11, 26, 522, 19, 20, 17] {
            assert!(matches!(sqlite(code), Failure::Damaged(_)), "{code}");
        }
        for code in [5, 6, 8, 10, 13, 14, 266, 778] {
            assert!(matches!(sqlite(code), Failure::Sqlite(_)), "{code}");
        }
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let expected = "disk: put failed (unavailable): the disk is full";
        for failure in [sqlite(13), io::Error::from(io::ErrorKind::StorageFull).into()] {
            let (kind, text) = told(failure);
            assert_eq!(kind, ErrorKind::Unavailable);
            assert!(text.starts_with(expected), "{text}");
            assert!(text.ends_with("free some space, or lower CACHE_DISK_BYTES"), "{text}");
        }
    }

    #[test]
    fn what_may_pass_is_temporary_and_what_may_not_is_not() {
        assert_eq!(told(sqlite(5)).0, ErrorKind::Timeout);
        assert_eq!(told(sqlite(8)).0, ErrorKind::Denied);
        assert_eq!(told(io::Error::from(io::ErrorKind::ReadOnlyFilesystem).into()).0, ErrorKind::Denied);
        assert_eq!(told(sqlite(10)).0, ErrorKind::Unavailable);
        assert_eq!(told(Failure::Replaced).0, ErrorKind::Unavailable);
    }
}
