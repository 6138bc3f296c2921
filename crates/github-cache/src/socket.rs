//! A unix socket at a path: made without a moment in which others could connect, and cleaned up.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::error::ServeError;

/// A listening socket that removes its file when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    _file: SocketFile,
}

impl Socket {
    /// Listens at `path` with these permissions. A socket that nobody listens on any more is
    /// replaced.
    ///
    /// The socket is made in a private directory beside `path` and moved into place when its mode
    /// is set.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<Self, ServeError> {
        check(path)?;
        let failed = |source| ServeError::Socket { path: path.to_owned(), source };
        let (listener, file) = place(path, mode).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener: UnixListener::from_std(listener).map_err(failed)?, _file: file })
    }
}

/// Whether the path is free, or holds a socket that is left over.
fn check(path: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServeError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ServeError::SocketInUse { path: path.to_owned() }),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn place(path: &Path, mode: u32) -> io::Result<(StdListener, SocketFile)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let private = private_dir(parent)?;
    let made = private.join("s");
    let moved = (|| {
        let listener = StdListener::bind(&made)?;
        fs::set_permissions(&made, Permissions::from_mode(mode))?;
        let found = fs::symlink_metadata(&made)?;
        fs::rename(&made, path)?;
        let file = SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() };
        Ok((listener, file))
    })();
    if moved.is_err() {
        // It may not have been made; the error that matters is the one above.
        let _absent = fs::remove_file(&made);
    }
    fs::remove_dir(&private)?;
    moved
}

/// A new directory that only this user can enter. Another user's file under its name, or one that
/// is left over, is no reason to fail: there are many names.
fn private_dir(parent: &Path) -> io::Result<PathBuf> {
    let mut attempts = 0;
    loop {
        // Short, because the path of a socket is limited to about 100 bytes.
        let random = RandomState::new().build_hasher().finish() >> 32;
        let private = parent.join(format!(".pc{random:x}"));
        match DirBuilder::new().mode(0o700).create(&private) {
            Ok(()) => return Ok(private),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempts < 16 => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Our socket's file, known by its inode: another process's socket at the same path is left alone.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "the unix socket could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn made_with_its_mode_and_removed_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let socket = Socket::bind(&path, 0o640).unwrap();
        assert_eq!(mode_of(&path), 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        UnixStream::connect(&path).unwrap();
        let error = Socket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, ServeError::SocketInUse { .. }), "{error}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_anything_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists(), "nobody listens, but the file is there");
        let socket = Socket::bind(&path, 0o600).unwrap();
        // Somebody puts something else there: it stays.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "notes").unwrap();
        let error = Socket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, ServeError::NotASocket { .. }), "{error}");
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
        let error = Socket::bind(&dir.path().join("absent/s.sock"), 0o600).unwrap_err();
        assert!(matches!(error, ServeError::Socket { .. }), "{error}");
    }
}
