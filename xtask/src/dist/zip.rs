//! Zip archives, which wheels are, whose bytes depend on their files alone.
//!
//! The format is APPNOTE.TXT 6.3 of PKWARE without its extensions: below 4 GiB, deflated.

use std::io::Write as _;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::files::{File, Files};
use crate::failure::Failure;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// 2.0: deflated files.
const VERSION: u16 = 20;
/// Names are UTF-8.
const FLAGS: u16 = 1 << 11;
const DEFLATED: u16 = 8;
/// 1980-01-01, midnight: the first day that the format knows.
const DAY: u16 = 1 << 5 | 1;
/// The attributes of files are those of Unix.
const UNIX: u16 = 3 << 8;
/// In the attributes of Unix, a regular file.
const REGULAR: u32 = 0o100_000;

/// The archive of `files`.
pub(crate) fn zip(files: &Files, level: Compression) -> Result<Vec<u8>, Failure> {
    let (mut out, mut central, mut count) = (Vec::new(), Vec::new(), 0_u16);
    for (path, file) in files.iter() {
        let offset = small(out.len())?;
        let packed = deflate(&file.bytes, level)?;
        let common = common(path, file, packed.len())?;
        out.extend(LOCAL_HEADER.to_le_bytes());
        out.extend(&common);
        out.extend(path.as_bytes());
        out.extend(packed);

        central.extend(CENTRAL_HEADER.to_le_bytes());
        central.extend((UNIX | VERSION).to_le_bytes());
        central.extend(&common);
        // No comment, the first disk, binary.
        central.extend([0; 6]);
        central.extend(((REGULAR | file.mode()) << 16).to_le_bytes());
        central.extend(offset.to_le_bytes());
        central.extend(path.as_bytes());
        count = count.checked_add(1).ok_or_else(too_large)?;
    }
    let (start, length) = (small(out.len())?, small(central.len())?);
    out.extend(central);
    out.extend(END.to_le_bytes());
    // One disk.
    out.extend([0; 4]);
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(start.to_le_bytes());
    // No comment.
    out.extend([0; 2]);
    Ok(out)
}

/// What both headers of a file have, up to the lengths of its name and of the extra field.
fn common(path: &str, file: &File, packed: usize) -> Result<Vec<u8>, Failure> {
    let name = u16::try_from(path.len()).map_err(|_| too_large())?;
    let mut crc = Crc::new();
    crc.update(&file.bytes);
    let mut common = Vec::new();
    for value in [VERSION, FLAGS, DEFLATED, 0, DAY] {
        common.extend(value.to_le_bytes());
    }
    for value in [crc.sum(), small(packed)?, small(file.bytes.len())?] {
        common.extend(value.to_le_bytes());
    }
    common.extend(name.to_le_bytes());
    common.extend([0; 2]);
    Ok(common)
}

fn deflate(bytes: &[u8], level: Compression) -> Result<Vec<u8>, Failure> {
    let mut out = DeflateEncoder::new(Vec::new(), level);
    out.write_all(bytes)
        .and_then(|()| out.finish())
        .map_err(|error| Failure::new(format!("cannot compress: {error}"), "report this"))
}

/// All 32 bits set would mean that the number stands elsewhere, in an extension.
fn small(length: usize) -> Result<u32, Failure> {
    u32::try_from(length).ok().filter(|length| *length < u32::MAX).ok_or_else(too_large)
}

fn too_large() -> Failure {
    Failure::new(
        "a wheel is limited to 4 GiB and 65,535 files, with names of at most 65,535 bytes",
        "pack a stripped binary",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::missing::missing;
    use crate::run::{Run, on_path};

    fn samples() -> Files {
        let mut files = Files::default();
        files.add("a/text", *b"abc");
        files.add_program("bin/run", vec![9; 5000]);
        files.add("empty", []);
        files
    }

    #[test]
    fn archive_is_what_the_specification_says() {
        let mut files = Files::default();
        files.add_program("run", *b"abc");
        let zip = zip(&files, Compression::best()).unwrap();
        // CRC-32 of "abc"; "abc" is stored in 5 bytes (a fixed block).
        let common = [
            &[20, 0, 0, 8, 8, 0, 0, 0, 33, 0][..],
            &0x3524_41c2_u32.to_le_bytes(),
            &[5, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0],
        ]
        .concat();
        assert_eq!(zip[..4], *b"PK\x03\x04");
        assert_eq!(zip[4..30], common);
        assert_eq!(zip[30..33], *b"run");
        let central = 38;
        assert_eq!(zip[central..central + 6], *b"PK\x01\x02\x14\x03");
        assert_eq!(zip[central + 6..central + 32], common);
        assert_eq!(zip[central + 38..central + 42], (0o100_755_u32 << 16).to_le_bytes());
        assert_eq!(zip[central + 49..][..4], *b"PK\x05\x06");
    }

    #[test]
    fn archive_is_read_by_python() {
        let Some(python) = on_path("python3") else {
            missing("python3 is not installed", "install Python 3.8 or later");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.zip");
        std::fs::write(&archive, zip(&samples(), Compression::default()).unwrap()).unwrap();
        let script = "import sys, zipfile\n\
                      z = zipfile.ZipFile(sys.argv[1])\n\
                      assert z.testzip() is None\n\
                      for i in z.infolist(): print(i.filename, oct(i.external_attr >> 16), len(z.read(i)))\n";
        let read = Run::new(python, "").args(["-c", script]).args([&archive]).read().unwrap();
        assert_eq!(read, "a/text 0o100644 3\nbin/run 0o100755 5000\nempty 0o100644 0\n");
    }

    #[test]
    fn lengths_of_four_gibibytes_are_refused() {
        assert_eq!(small(7), Ok(7));
        assert!(small(u32::MAX as usize).is_err());
    }
}
