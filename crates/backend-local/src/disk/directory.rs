//! The directory itself: who may use it, who owns what lies in it, and where in it everything lies.
//!
//! The directory is held open, and files in it are opened relative to that descriptor. So another
//! directory that somebody puts in its place is noticed, checked like any other, and never written
//! because of what the first one was.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use peercache_api::{Error, ErrorKind, Operation};
use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, OFlags, Stat, Uid};

/// Read and write for the owner, nothing for anybody else.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// Bits that let somebody else than the owner put files into a directory.
const OTHERS_WRITE: u32 = 0o022;
/// What to do about a directory that cannot be used.
const ELSEWHERE: &str = "set CACHE_DIR to a directory that this user owns and can write";

/// The directory of a disk tier, held open.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
    dir: OwnedFd,
    identity: Identity,
    /// Who gets the files that this process makes, where that is not the process's own user: root
    /// that uses another user's directory must not lock the user out.
    owner: Option<(Uid, Gid)>,
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
            Ok(meta) => Ok(Some(Self { device: meta.dev(), inode: meta.ino() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[allow(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
    fn from_stat(stat: &Stat) -> Self {
        Self { device: stat.st_dev as u64, inode: stat.st_ino as u64 }
    }
}

impl Layout {
    /// Opens the directory, making it if it is not there, and refuses one that cannot be trusted.
    /// Writes nothing into it.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let refuse = |error: io::Error, message: &'static str| {
            refusal(kind_of(&error), message, root, ELSEWHERE).with_source(error)
        };
        let dir = match open_dir(CWD, root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let owner = heir(root);
                make_dirs(root, owner)
                    .map_err(|error| refuse(error, "the cache directory cannot be made"))?;
                open_dir(CWD, root)
            }
            opened => opened,
        };
        let dir = dir.map_err(|error| match fs::metadata(root) {
            Ok(meta) if !meta.is_dir() => refusal(
                ErrorKind::Config,
                "the cache directory is a file",
                root,
                "remove it, or set CACHE_DIR to a directory that this user owns and can write",
            ),
            _ => refuse(error, "the cache directory cannot be read"),
        })?;
        let stat = rustix::fs::fstat(&dir)
            .map_err(|error| refuse(error.into(), "the cache directory cannot be read"))?;
        let owner = trusted_owner(root, &stat)?;
        Ok(Self { root: root.to_owned(), identity: Identity::from_stat(&stat), dir, owner })
    }

    /// Whether the path still names the directory that is held open, and others still cannot write
    /// it.
    pub(super) fn is_current(&self) -> bool {
        fs::metadata(&self.root).is_ok_and(|meta| {
            let identity = Identity { device: meta.dev(), inode: meta.ino() };
            identity == self.identity && meta.mode() & OTHERS_WRITE == 0
        })
    }

    /// The same layout in a directory of its own below this one, for what must not be mixed with
    /// this.
    pub(super) fn below(&self, name: &str) -> Result<Self, Error> {
        Self::open(&self.root.join(name))
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.sqlite")
    }

    /// The files that SQLite keeps beside the index.
    pub(super) fn index_companions(&self) -> [PathBuf; 2] {
        [self.root.join("index.sqlite-wal"), self.root.join("index.sqlite-shm")]
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Which file the held directory has as its index.
    pub(super) fn index_identity(&self) -> io::Result<Option<Identity>> {
        match rustix::fs::statat(&self.dir, "index.sqlite", AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Identity::from_stat(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this process may write here; a file system that is read-only says no. Writes
    /// nothing, so a full disk says yes.
    pub(super) fn check_access(&self) -> io::Result<()> {
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        Ok(rustix::fs::accessat(&self.dir, ".", access, AtFlags::EACCESS)?)
    }

    /// A new, empty, private file of this name.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.create_in(&self.dir, name)
    }

    /// A new, empty, private file in `dir`, which lies below this directory.
    pub(super) fn create_in(&self, dir: &OwnedFd, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(FILE_MODE))?;
        self.hand_over(&file)?;
        Ok(file.into())
    }

    /// Opens `name`, making an empty private file if there is none. For locks.
    fn open_or_create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => return Ok(file.into()),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match self.create(name) {
            // Another process was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(rustix::fs::openat(&self.dir, name, flags, Mode::empty())?.into())
            }
            made => made,
        }
    }

    /// Waits for the lock `name` of this directory. It is released when the file is closed, or its
    /// process killed; who waits longest gets it next.
    pub(super) fn lock(&self, name: &str) -> io::Result<File> {
        loop {
            let file = self.open_or_create(name)?;
            file.lock()?;
            // It may have been removed and made again while we waited.
            let there = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
            let ours = Identity::from_stat(&rustix::fs::fstat(&file)?);
            match there {
                Ok(stat) if Identity::from_stat(&stat) == ours => return Ok(file),
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As [`Layout::lock`], but nothing if another one holds it.
    pub(super) fn try_lock(&self, name: &str) -> io::Result<Option<File>> {
        let file = self.open_or_create(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// The directory at the end of `path`, below this one. Follows no symbolic link.
    pub(super) fn open_below(&self, path: &[&str]) -> io::Result<OwnedFd> {
        let (first, rest) = path.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = open_dir(&self.dir, Path::new(first))?;
        rest.iter().try_fold(dir, |dir, name| open_dir(&dir, Path::new(name)))
    }

    /// As [`Layout::open_below`], and what is missing of it is made, private.
    pub(super) fn make_below(&self, path: &[&str]) -> io::Result<OwnedFd> {
        let (first, rest) = path.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.make_in(&self.dir, first)?;
        rest.iter().try_fold(dir, |dir, name| self.make_in(&dir, name))
    }

    fn make_in(&self, dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
        let made = match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let below = open_dir(dir, Path::new(name))?;
        if made {
            self.hand_over(&below)?;
        }
        Ok(below)
    }

    /// Gives what this process has just made to the directory's owner.
    fn hand_over(&self, made: impl std::os::fd::AsFd) -> io::Result<()> {
        match self.owner {
            Some((user, group)) => Ok(rustix::fs::fchown(made, Some(user), Some(group))?),
            None => Ok(()),
        }
    }
}

fn refusal(kind: ErrorKind, message: &'static str, dir: &Path, help: impl Into<String>) -> Error {
    Error::new(kind, Operation::Open, message)
        .with_backend("disk")
        .with_context("dir", dir.display())
        .with_help(help.into())
}

fn open_dir(dir: impl std::os::fd::AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Who gets a directory that is made at `path`: for root the owner of what is above it, so that a
/// command of root does not lock the user out of her own cache.
fn heir(path: &Path) -> Option<(Uid, Gid)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let above = path.ancestors().skip(1).find_map(|above| fs::metadata(above).ok())?;
    (above.uid() != 0).then(|| (Uid::from_raw(above.uid()), Gid::from_raw(above.gid())))
}

/// Makes `path` and what is above it, private, for `owner`.
fn make_dirs(path: &Path, owner: Option<(Uid, Gid)>) -> io::Result<()> {
    let Some((user, group)) = owner else {
        return fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path);
    };
    let missing: Vec<_> = path.ancestors().take_while(|above| fs::symlink_metadata(above).is_err()).collect();
    for path in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(DIR_MODE).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        let made = open_dir(CWD, path)?;
        rustix::fs::fchown(&made, Some(user), Some(group))?;
    }
    Ok(())
}

/// Refuses a directory that another user could change; says who is to own the files in it, where
/// that is not this process's user.
fn trusted_owner(root: &Path, stat: &Stat) -> Result<Option<(Uid, Gid)>, Error> {
    let mode = stat.st_mode & 0o7777;
    let me = rustix::process::geteuid();
    if stat.st_uid != me.as_raw() && !me.is_root() {
        let message = "the cache directory belongs to another user, who could change what is cached";
        return Err(refusal(ErrorKind::Denied, message, root, ELSEWHERE)
            .with_context("mode", format!("{mode:04o}"))
            .with_context("owner", stat.st_uid)
            .with_context("user", me.as_raw()));
    }
    if mode & OTHERS_WRITE != 0 {
        let message = "the cache directory is writable by others, who could change what is cached";
        let help = format!(
            "run `chmod go-w {}`, or set CACHE_DIR to a directory that this user owns and can write",
            root.display()
        );
        return Err(
            refusal(ErrorKind::Denied, message, root, help).with_context("mode", format!("{mode:04o}"))
        );
    }
    let foreign = stat.st_uid != me.as_raw();
    Ok(foreign.then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))))
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

/// Whether the file system has no room, for bytes or for files.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
