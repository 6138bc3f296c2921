//! Redis, for tests and as the reference of the benches of peers, from Debian 12.

use std::path::Path;

use crate::failure::Failure;
use crate::fetch::Debian;

/// Names the folder: the version without the epoch, which file names leave off too.
pub(crate) const VERSION: &str = "7.0.15-1~deb12u10";

/// The server's name, the program behind it, and the libraries that a Debian with openssl may lack.
/// The bench tells the linker of their folder.
const PACKAGES: [Debian; 5] = [
    Debian::new(
        "redis-server",
        "5:7.0.15-1~deb12u10",
        "784e17b51024ff878fd7d709a68346658fa9b21f6de740cb75e474f28790971c",
    ),
    Debian::new(
        "redis-tools",
        "5:7.0.15-1~deb12u10",
        "f791cfcbf3054832bd6e786546acb0d4e046888f8e63bcf567c1c65fbfaf69e2",
    ),
    Debian::new(
        "libatomic1",
        "12.2.0-14+deb12u1",
        "fbd4e154a6b444229ea002cc209df099209c0adc09102e5fd21239a3d2b55e2d",
    ),
    Debian::new(
        "libjemalloc2",
        "5.3.0-1",
        "a4117c23c5c8acf6c9678a6cb086f000b79476369da7efe8a78a70826956ad3d",
    ),
    Debian::new("liblzf1", "3.6-3", "9854b0866201b63e04f1e446f45f01ef4a6f72c61f2250b75f944f6046cc7e8c"),
];

/// Unpacks the server into `dir`.
pub(crate) fn unpack(dir: &Path) -> Result<(), Failure> {
    Debian::unpack_all(&PACKAGES, dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::Pin;

    #[test]
    fn the_folder_carries_the_version_of_the_server() {
        assert_eq!(PACKAGES[0].version.split_once(':'), Some(("5", VERSION)));
        assert!(PACKAGES.iter().all(|p| matches!(p.pin, Pin::Sha256(text) if text.len() == 64)));
    }
}
