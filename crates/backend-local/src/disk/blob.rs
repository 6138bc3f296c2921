//! Envelopes too large for the index: one file each, never changed once a row names it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use peercache_api::Timestamp;
use peercache_api::envelope::MAX_ENVELOPE_BYTES;
use peercache_api::util::hex;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::directory::{Layout, random};

/// A file that is younger may belong to a put that is about to commit.
pub(super) const ORPHAN_AGE: Duration = Duration::from_secs(60);

type Digest = [u8; 32];

/// The name of one write's file: the number is random, so no two writes ever share a name.
fn name(digest: &Digest, number: i64) -> String {
    format!("{}-{number:016x}", hex(digest))
}

/// A number for a new file.
pub(super) fn new_number() -> io::Result<i64> {
    Ok(random()?.cast_signed())
}

impl Layout {
    /// Writes `parts` one after the other into a new file.
    pub(super) fn write_blob(&self, digest: &Digest, number: i64, parts: [&[u8]; 2]) -> io::Result<()> {
        let name = name(digest, number);
        let fan = self.make_below(&["blobs", &name[..2]])?;
        let mut file = self.create_in(&fan, &name)?;
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        if written.is_err() {
            // The first error is the one to report; what is left is removed as an orphan.
            let _ = rustix::fs::unlinkat(&fan, &name, AtFlags::empty());
        }
        written
    }

    /// The file's bytes; `None` if it is gone. Never reads more than an envelope can have.
    pub(super) fn read_blob(&self, digest: &Digest, number: i64) -> io::Result<Option<Bytes>> {
        let name = name(digest, number);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = self
            .open_below(&["blobs", &name[..2]])
            .and_then(|fan| Ok(File::from(rustix::fs::openat(&fan, &name, flags, Mode::empty())?)));
        let file = match opened {
            Ok(file) => file,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let most = MAX_ENVELOPE_BYTES as u64 + 1;
        let length = file.metadata()?.len().min(most);
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(most).read_to_end(&mut bytes)?;
        Ok(Some(bytes.into()))
    }

    /// Removes a file that no row is to name any more. Whether it is gone; if not, its row in
    /// `loose` stays, and another put tries again.
    pub(super) fn remove_blob(&self, digest: &Digest, number: i64) -> bool {
        let name = name(digest, number);
        let removed = self
            .open_below(&["blobs", &name[..2]])
            .and_then(|fan| Ok(rustix::fs::unlinkat(&fan, &name, AtFlags::empty())?));
        match removed {
            Err(error) if !is_gone(&error) => {
                tracing::warn!(%error, "a replaced file of the disk tier could not be removed");
                false
            }
            _ => true,
        }
    }

    /// Whether no put can be writing this file any more: it is older than [`ORPHAN_AGE`], or was
    /// never made although its put began before that.
    pub(super) fn is_abandoned(
        &self,
        digest: &Digest,
        number: i64,
        since: Timestamp,
        now: Timestamp,
    ) -> bool {
        let name = name(digest, number);
        let stat = self
            .open_below(&["blobs", &name[..2]])
            .and_then(|fan| Ok(rustix::fs::statat(&fan, &name, AtFlags::SYMLINK_NOFOLLOW)?));
        let since = stat.map_or(since, |stat| modified(&stat));
        // After a clock was set back, what claims to be of the future is as old as can be.
        now.saturating_since(since) >= ORPHAN_AGE || since > now.saturating_add(ORPHAN_AGE)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn modified(stat: &rustix::fs::Stat) -> Timestamp {
    Timestamp::from_millis(u64::try_from(stat.st_mtime).unwrap_or(0).saturating_mul(1000))
}
