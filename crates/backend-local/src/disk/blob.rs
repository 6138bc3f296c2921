//! Envelopes too large for the index: one file each, never changed once it has its name.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::envelope::MAX_ENVELOPE_BYTES;
use peercache_api::{Clock, Timestamp};

use super::directory::{Layout, create_private_file, make_private_dir, random};

/// Files without a row that are younger may belong to a put that is about to commit.
pub(super) const ORPHAN_AGE: Duration = Duration::from_secs(3600);

type Digest = [u8; 32];

fn hex(digest: &Digest) -> String {
    use std::fmt::Write;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Layout {
    /// The file of one write: the number is random, so no two writes ever share a name.
    pub(super) fn blob(&self, digest: &Digest, number: i64) -> PathBuf {
        let name = hex(digest);
        self.blobs().join(&name[..2]).join(format!("{name}-{number:016x}"))
    }

    /// Writes `parts` one after the other into a new file, and returns its number.
    pub(super) fn write_blob(&self, digest: &Digest, parts: [&[u8]; 2]) -> io::Result<i64> {
        let number = random()?.cast_signed();
        let path = self.blob(digest, number);
        let unfinished = path.with_extension("tmp");
        let write = || {
            let mut file = create(&unfinished)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            drop(file);
            fs::rename(&unfinished, &path)
        };
        match write() {
            Ok(()) => Ok(number),
            Err(error) => {
                // The first error is the one to tell; what is left is swept as an orphan.
                let _ = fs::remove_file(&unfinished);
                Err(error)
            }
        }
    }

    /// The file's bytes; `None` if it is gone. Never reads more than an envelope can have.
    pub(super) fn read_blob(&self, digest: &Digest, number: i64) -> io::Result<Option<Bytes>> {
        let file = match File::open(self.blob(digest, number)) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let most = MAX_ENVELOPE_BYTES as u64 + 1;
        let length = file.metadata()?.len().min(most);
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(most).read_to_end(&mut bytes)?;
        Ok(Some(bytes.into()))
    }

    /// Removes a file that no row names any more. If that fails, it is swept as an orphan later.
    pub(super) fn remove_blob(&self, digest: &Digest, number: i64) {
        if let Err(error) = fs::remove_file(self.blob(digest, number))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a replaced file of the disk tier could not be removed");
        }
    }

    /// Removes files older than [`ORPHAN_AGE`] for which `is_known` says that no row names them.
    pub(super) fn sweep_orphans<E: From<io::Error>>(
        &self,
        clock: &dyn Clock,
        mut is_known: impl FnMut(&Digest, i64) -> Result<bool, E>,
    ) -> Result<u64, E> {
        let latest = clock.now().saturating_sub(ORPHAN_AGE);
        let mut removed = 0;
        for fan in read_dir(self.blobs())? {
            for file in read_dir(fan?.path())? {
                let file = file?;
                if modified(&file).is_none_or(|time| time > latest) {
                    continue;
                }
                let known = match parse(&file.file_name().to_string_lossy()) {
                    Some((digest, number)) => is_known(&digest, number)?,
                    None => false,
                };
                if !known && fs::remove_file(file.path()).is_ok() {
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

fn create(path: &std::path::Path) -> io::Result<File> {
    match create_private_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), make_private_dir)?;
            create_private_file(path)
        }
        other => other,
    }
}

/// The entries of a directory; none if it is gone or is no directory.
fn read_dir(path: PathBuf) -> io::Result<Box<dyn Iterator<Item = io::Result<fs::DirEntry>>>> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(Box::new(entries)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Box::new(std::iter::empty()))
        }
        Err(error) => Err(error),
    }
}

fn parse(name: &str) -> Option<(Digest, i64)> {
    let (digest, number) = name.split_once('-')?;
    let number = u64::from_str_radix(number, 16).ok()?.cast_signed();
    if digest.len() != 64 || !digest.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digest[2 * index..2 * index + 2], 16).ok()?;
    }
    Some((bytes, number))
}

fn modified(file: &fs::DirEntry) -> Option<Timestamp> {
    let since = file.metadata().ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::EPOCH.saturating_add(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_entry_it_belongs_to() {
        let layout = Layout { root: PathBuf::from("/cache") };
        let digest: Digest = std::array::from_fn(|n| (n * 7) as u8);
        for number in [0, 1, -1, i64::MIN, i64::MAX] {
            let path = layout.blob(&digest, number);
            assert_eq!(parse(path.file_name().unwrap().to_str().unwrap()), Some((digest, number)));
        }
        assert_eq!(parse("readme"), None);
        assert_eq!(parse(&format!("{}-0.tmp", hex(&digest))), None);
    }
}
