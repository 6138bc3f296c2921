//! The directory itself: who may use it, and where in it everything lies.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use peercache_api::{Error, ErrorKind, Operation};

/// Read and write for the owner, nothing for anybody else.
pub(super) const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// Bits that let somebody else than the owner put files into a directory.
const OTHERS_WRITE: u32 = 0o022;

/// Where things are in the directory of a disk tier.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.sqlite")
    }

    /// The files that SQLite keeps beside the index.
    pub(super) fn index_companions(&self) -> [PathBuf; 2] {
        [self.root.join("index.sqlite-wal"), self.root.join("index.sqlite-shm")]
    }

    /// Held exclusively while an index is made or moved aside.
    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
}

/// Which file a path names: it changes when the file is replaced, not when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The file at `path`, or `None` if there is none. Only asks; it never opens the file, because
    /// closing it again would drop the locks that this process holds on it (POSIX `fcntl`).
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(Self::from(&meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<&fs::Metadata> for Identity {
    fn from(meta: &fs::Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino() }
    }
}

/// Makes `path` and what is above it, private to this user.
pub(super) fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
}

/// A new, empty, private file.
pub(super) fn create_private_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Makes the directory if it is not there, and refuses one that cannot be used or trusted.
pub(super) fn prepare(dir: &Path) -> Result<(), Error> {
    let refuse = |kind, message: &'static str, help: String| {
        Error::new(kind, Operation::Open, message)
            .with_backend("disk")
            .with_context("dir", dir.display())
            .with_help(help)
    };
    let elsewhere = "set CACHE_DIR to a directory that this user owns and can write";
    match fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            return Err(refuse(
                ErrorKind::Config,
                "the cache directory is a file",
                format!("remove it, or {elsewhere}"),
            ));
        }
        Ok(meta) => {
            let mode = meta.mode() & 0o7777;
            let me = rustix::process::geteuid();
            if meta.uid() != me.as_raw() && !me.is_root() {
                return Err(refuse(
                    ErrorKind::Denied,
                    "the cache directory belongs to another user, who could change what is cached",
                    elsewhere.to_owned(),
                )
                .with_context("mode", format!("{mode:04o}"))
                .with_context("owner", meta.uid())
                .with_context("user", me.as_raw()));
            }
            if mode & OTHERS_WRITE != 0 {
                return Err(refuse(
                    ErrorKind::Denied,
                    "the cache directory is writable by others, who could change what is cached",
                    format!("run `chmod go-w {}`, or {elsewhere}", dir.display()),
                )
                .with_context("mode", format!("{mode:04o}")));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_private_dir(dir).map_err(|error| {
                refuse(kind_of(&error), "the cache directory cannot be made", elsewhere.to_owned())
                    .with_source(error)
            })?;
        }
        Err(error) => {
            return Err(refuse(kind_of(&error), "the cache directory cannot be read", elsewhere.to_owned())
                .with_source(error));
        }
    }
    probe_write(dir).map_err(|error| {
        let mode = fs::metadata(dir)
            .map_or_else(|_| "unknown".to_owned(), |meta| format!("{:04o}", meta.mode() & 0o7777));
        refuse(kind_of(&error), "the cache directory is not writable", elsewhere.to_owned())
            .with_context("mode", mode)
            .with_source(error)
    })
}

/// Mode bits say little on a read-only file system or as root, so a file is really written.
pub(super) fn probe_write(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".probe-{:016x}", random()?));
    let written = create_private_file(&path).and_then(|mut file| file.write_all(b"peercache"));
    // What cannot be made need not be removed.
    match (written, fs::remove_file(&path)) {
        (Ok(()), removed) => removed,
        (Err(error), _) => Err(error),
    }
}

/// A number for a file name that no other process uses.
pub(super) fn random() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

/// What an I/O error means to a caller. A full disk may be freed, a forbidden one stays so.
pub(super) fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => {
            ErrorKind::Config
        }
        _ => ErrorKind::Unavailable,
    }
}
