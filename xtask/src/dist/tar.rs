//! Archives for `tar`, compressed by gzip, whose bytes depend on their files alone.
//!
//! The format is ustar of POSIX.1-1988, which every tar and npm read. The `tar` command of the
//! system would do, if only it was GNU's: others have no option for owners and order.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};

use super::files::{File, Files};
use crate::failure::Failure;

/// When every file was changed last: 1985-10-26 08:15 UTC, the time that npm uses for the same
/// purpose. Some tars warn of the year 1970.
const MODIFIED: u64 = 499_162_500;
const BLOCK: usize = 512;
/// The longest path without a prefix field, which we have no use for.
const LONGEST_PATH: usize = 100;

/// The archive of `files`. Folders have no entries: whoever unpacks makes them.
pub(crate) fn tar_gz(files: &Files, level: Compression) -> Result<Vec<u8>, Failure> {
    // Without a time, and "unknown" for the operating system.
    let mut out = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), level);
    let failed = |error: std::io::Error| Failure::new(format!("cannot compress: {error}"), "report this");
    for (path, file) in files.iter() {
        out.write_all(&header(path, file)?).map_err(failed)?;
        out.write_all(&file.bytes).map_err(failed)?;
        let rest = file.bytes.len() % BLOCK;
        if rest > 0 {
            out.write_all(&[0; BLOCK][rest..]).map_err(failed)?;
        }
    }
    // Two empty blocks are the end.
    out.write_all(&[0; 2 * BLOCK]).map_err(failed)?;
    out.finish().map_err(failed)
}

fn header(path: &str, file: &File) -> Result<[u8; BLOCK], Failure> {
    if path.is_empty() || path.len() > LONGEST_PATH {
        return Err(Failure::new(
            format!(
                "the path {path} has {} bytes, and an archive of ours at most {LONGEST_PATH}",
                path.len()
            ),
            "shorten the path in xtask/src/dist",
        ));
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, format!("{:07o}\0", file.mode()).as_bytes());
    // User and group 0.
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", file.bytes.len()).as_bytes());
    put(136, format!("{MODIFIED:011o}\0").as_bytes());
    // The sum is made with blanks in its own place.
    put(148, b"        ");
    // A regular file.
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;

    fn samples() -> Files {
        let mut files = Files::default();
        files.add("a/z.txt", *b"last");
        files.add_program("a/bin/run", vec![7; 1000]);
        files.add("a/empty", []);
        files
    }

    #[test]
    fn archive_is_unpacked_by_tar_with_modes_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar.gz");
        std::fs::write(&archive, tar_gz(&samples(), Compression::fast()).unwrap()).unwrap();
        let tar = || Run::new("tar", "install tar");
        let listed = tar().args(["-tvzf"]).args([&archive]).env("TZ", "UTC").read().unwrap();
        let lines: Vec<_> = listed.lines().collect();
        assert!(lines[0].starts_with("-rwxr-xr-x") && lines[0].ends_with("a/bin/run"), "{listed}");
        assert!(lines[1].starts_with("-rw-r--r--") && lines[1].ends_with("a/empty"), "{listed}");
        assert!(lines.iter().all(|line| line.contains("1985")), "{listed}");
        tar().args(["-xzf"]).args([&archive]).in_dir(dir.path()).succeed().unwrap();
        assert_eq!(std::fs::read(dir.path().join("a/z.txt")).unwrap(), b"last");
        assert_eq!(std::fs::read(dir.path().join("a/bin/run")).unwrap(), vec![7; 1000]);
    }

    #[test]
    fn archive_depends_on_its_files_alone() {
        let one = tar_gz(&samples(), Compression::best()).unwrap();
        let mut files = Files::default();
        files.add("a/empty", []);
        files.add_program("a/bin/run", vec![7; 1000]);
        files.add("a/z.txt", *b"last");
        assert_eq!(tar_gz(&files, Compression::best()).unwrap(), one);
        files.add("a/z.txt", *b"next");
        assert_ne!(tar_gz(&files, Compression::best()).unwrap(), one);
    }

    #[test]
    fn path_that_does_not_fit_is_named() {
        let mut files = Files::default();
        files.add("x".repeat(101), []);
        let message = tar_gz(&files, Compression::fast()).unwrap_err().to_string();
        assert!(message.contains("has 101 bytes, and an archive of ours at most 100"), "{message}");
    }
}
