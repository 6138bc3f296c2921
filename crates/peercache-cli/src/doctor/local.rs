//! The local store: where it is, on what, how much room there is, and whether a value survives in
//! it.

use std::path::Path;

use peercache::Config;
use peercache::config::BackendName;

use super::finding::Finding;
use super::{settings, tiers};
use crate::output;

/// The least room that is enough, in bytes.
const LEAST_ROOM: u64 = 64 << 20;

pub(super) async fn check(config: &Config, findings: &mut Vec<Finding>) {
    if !config.backends().contains(&BackendName::Disk) {
        findings.push(Finding::skipped("disk", "the chain has no disk tier"));
        return;
    }
    match tiers::exercise(config, BackendName::Disk).await {
        Ok(tiers::Worked { read_only: true }) => {
            findings.push(Finding::ok("disk", "it is read, and not written by this process"));
        }
        Ok(tiers::Worked { read_only: false }) => {
            findings.push(Finding::ok("disk", "a value was stored, found by another opening, and removed"));
        }
        Err(broken) => {
            let finding = match broken {
                tiers::Broken::Mistake(error) => settings::mistake(&error),
                tiers::Broken::Failed { found, remedy } => Finding::failed("disk", found, remedy),
            };
            findings.push(if config.dir().is_some_and(is_full) { full(finding) } else { finding });
            return;
        }
    }
    let Some(dir) = config.dir() else { return };
    if let Some(room) = room(dir) {
        if room.free < LEAST_ROOM {
            findings.push(Finding::warning(
                "disk room",
                format!("{} are free at {}", output::bytes(room.free), dir.display()),
                "make room there, or set CACHE_DIR to a directory on another file system",
            ));
        }
        if let Some(kind) = room.network {
            findings.push(Finding::warning(
                "disk kind",
                format!(
                    "{} is on {kind}, where locks of several processes do not hold everywhere",
                    dir.display()
                ),
                "set CACHE_DIR to a directory on a local file system",
            ));
        }
    }
}

fn is_full(dir: &Path) -> bool {
    room(dir).is_some_and(|room| room.has_blocks && (room.free < LEAST_ROOM || room.files_free == Some(0)))
}

/// The finding of a tier that fails on a file system without room.
fn full(finding: Finding) -> Finding {
    Finding::failed(
        "disk",
        "the file system of CACHE_DIR is full",
        "make room there, or set CACHE_DIR to a directory on another file system",
    )
    .because(finding.found)
}

struct Room {
    /// Whether it holds files at all: `/proc` does not.
    has_blocks: bool,
    free: u64,
    /// Files that can still be made, where the file system counts them.
    files_free: Option<u64>,
    /// What kind of network or virtual file system it is, if it is one.
    network: Option<&'static str>,
}

/// The file system of the directory, or of the nearest that exists above it.
fn room(dir: &Path) -> Option<Room> {
    /// Types of file systems, from statfs(2).
    const NETWORK: [(u64, &str); 7] = [
        (0x6969, "NFS"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
        (0x6573_5546, "FUSE or virtiofs"),
        (0x0102_1997, "9p"),
        (0x00c3_6400, "Ceph"),
        (0x0bd0_0bd0, "Lustre"),
    ];
    let dir = dir.ancestors().find(|dir| dir.exists())?;
    let found = rustix::fs::statfs(dir).ok()?;
    let unit = u64::try_from(found.f_bsize).ok()?;
    // The type is a number of 32 bits in a field whose sign differs between machines.
    let kind = (found.f_type as u64) & 0xffff_ffff;
    Some(Room {
        has_blocks: found.f_blocks > 0,
        free: found.f_bavail.saturating_mul(unit),
        files_free: (found.f_files > 0).then_some(found.f_ffree),
        network: NETWORK.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name),
    })
}
