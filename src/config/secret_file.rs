//! A file that holds a secret: read where nobody else can write it.
//!
//! Who can write the file can choose the secret, and so read and write what this cache stores. Who
//! can only read it is told of in a warning: mounted secrets have mode 0444 or 0440 and belong to
//! root.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// The most that is read, in bytes: one more than any secret has.
const MAX_BYTES: u64 = 4097;

/// Why a file was not used, and what to do.
pub(super) struct Unfit {
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// Who can do what with a file that holds a secret.
pub(super) enum Access {
    /// This user and root alone.
    Private,
    /// Others can read it.
    Read,
    /// Others can write it; this says how.
    Write(String),
}

/// The text of the file without white space around it, and a warning where others can read it.
pub(super) fn read(path: &Path) -> Result<(String, Option<String>), Unfit> {
    let unread = |error: io::Error| Unfit {
        problem: format!("the file cannot be read: {error}"),
        remedy: match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "let this user read it: mount the secret with mode 0444, or with this user as its owner"
                    .to_owned()
            }
            _ => "name a file that holds this value and nothing else".to_owned(),
        },
    };
    // Before it is opened: opening a pipe waits for a writer.
    if !fs::metadata(path).map_err(unread)?.is_file() {
        return Err(Unfit {
            problem: "this is not a regular file".to_owned(),
            remedy: "name a file that holds the secret".to_owned(),
        });
    }
    let file = File::open(path).map_err(unread)?;
    let access = access(path, &file.metadata().map_err(unread)?);
    if let Access::Write(how) = access {
        return Err(Unfit {
            problem: format!("other users can write the file ({how}), so they can choose the secret"),
            remedy: "chmod go-w the file and let it belong to this user or to root; if others are not trusted, make \
                     a new secret with `peercache keygen`"
                .to_owned(),
        });
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(unread)?;
    let unfit = |problem: &str| Unfit {
        problem: problem.to_owned(),
        remedy: "write the value into it on one line, as it was printed, and nothing else".to_owned(),
    };
    let text = String::from_utf8(bytes).map_err(|_| unfit("the file is not UTF-8"))?;
    let text = text.trim();
    match text {
        "" => Err(unfit("the file is empty")),
        _ if text.lines().count() > 1 => Err(unfit("the file has more than one line")),
        _ => Ok((
            text.to_owned(),
            matches!(access, Access::Read).then(|| {
                "other users of this machine can read this secret; `chmod 600` it, or mount it where only this \
                 process can look"
                    .to_owned()
            }),
        )),
    }
}

/// Who can do what with the file at `path`.
#[cfg(unix)]
pub(super) fn access(path: &Path, metadata: &fs::Metadata) -> Access {
    use std::os::unix::fs::MetadataExt as _;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    if is_secret_mount(path) {
        return Access::Private;
    }
    if mode & 0o022 != 0 {
        return Access::Write(format!("mode {:04o}", mode & 0o7777));
    }
    if owner != 0 && owner != this_user(metadata) {
        return Access::Write(format!("it belongs to user {owner}"));
    }
    if mode & 0o044 != 0 { Access::Read } else { Access::Private }
}

#[cfg(not(unix))]
pub(super) fn access(_: &Path, _: &fs::Metadata) -> Access {
    Access::Private
}

/// The user as whom this process acts on files; where that cannot be learned, the file's own.
#[cfg(unix)]
fn this_user(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").map_or_else(|_| metadata.uid(), |process| process.uid())
}

/// Whether `path` is where an engine or systemd mounts secrets for this process, or on a file
/// system that is mounted read-only.
#[cfg(unix)]
fn is_secret_mount(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(std::path::PathBuf::from);
    let usual = [Path::new("/run/secrets"), Path::new("/var/run/secrets")];
    usual.into_iter().chain(credentials.as_deref()).any(|dir| path.starts_with(dir)) || is_read_only(&path)
}

/// Whether the mount that holds `path` is read-only (proc(5), `/proc/self/mountinfo`).
#[cfg(unix)]
fn is_read_only(path: &Path) -> bool {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return false };
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        Some((fields.next()?, fields.next()?))
    });
    let holding = mounts.filter(|(point, _)| path.starts_with(point));
    // Of mounts at one place the last one is what is seen.
    let seen = holding.fold(None, |seen: Option<(&str, &str)>, mount| match seen {
        Some(longer) if longer.0.len() > mount.0.len() => seen,
        _ => Some(mount),
    });
    seen.is_some_and(|(_, options)| options.split(',').any(|option| option == "ro"))
}
