//! The Docker engine of container tests.
//!
//! The engine is unpacked, not installed. Tests run it in network, process and mount namespaces of
//! its own, so it leaves no trace on the machine; making those needs root.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::failure::Failure;
use crate::fetch::Debian;
use crate::run::Run;

/// Names the folder: the version of the engine itself.
pub(crate) const VERSION: &str = "20.10.24+dfsg1-1+deb12u1+b6";

/// The engine, what it starts, and the libraries that a slim Debian 12 may lack.
pub(crate) const PACKAGES: [Debian; 13] = [
    Debian::new("docker.io", VERSION, "daf8ff8f7aa53e8533d38e386fcc2a11e8f3891210776fb78a84b98feb4eea0e"),
    Debian::new(
        "containerd",
        "1.6.20~ds1-1+deb12u3",
        "8669d264eeb0fcdb4a0b1ba436ab88ec5dafde4a66e1278ec279d830db4c2216",
    ),
    Debian::new(
        "runc",
        "1.1.5+ds1-1+deb12u1",
        "a00351f8c0318de0b424ecf5cd0fdb69880a89f3511cae4f6fff7de3e57881c5",
    ),
    Debian::new("iptables", "1.8.9-2", "2928d3ca6ca8a3dc3f423f6752822b1f3614a5ba609ff7806bcba4449ffe90e1"),
    Debian::new("iproute2", "6.1.0-3", "1204b29e916e836267096d0b9d778106752f821ebde0d281539008b4386d9070"),
    Debian::new(
        "libxtables12",
        "1.8.9-2",
        "cb841d66950a43af4a398625313d2f3da9065299c9738538de6c2c3495857040",
    ),
    Debian::new("libnftnl11", "1.2.4-2", "9e619e1470a1915264e906020f3bfc046fd8458043b1342686d997b5078213af"),
    Debian::new("libmnl0", "1.0.4-3", "4581f42e3373cb72f9ea4e88163b17873afca614a6c6f54637e95aa75983ea7c"),
    Debian::new(
        "libdevmapper1.02.1",
        "2:1.02.185-2",
        "aaa78ca236055fedccf637eacf7bda02bf1980b2db668dccd202b04d0d2cfe04",
    ),
    Debian::new(
        "libseccomp2",
        "2.5.4-1+deb12u1",
        "108fe67957ca7cf9ba51d801118a1b37d404bea7b6e365025cd00779e9eca38d",
    ),
    Debian::new(
        "libbpf1",
        "1:1.1.2-0+deb12u1",
        "5e7505ef77ebc84ad0203411e4afdeb8a98f40fb7f78f013aa4dd8710e49f8ed",
    ),
    Debian::new("libelf1", "0.188-2.1", "619add379c606b3ac6c1a175853b918e6939598a83d8ebadf3bdfd50d10b3c8c"),
    Debian::new("libbsd0", "0.11.7-2", "bb31cc8b40f962a85b2cec970f7f79cc704a1ae4bad24257a822055404b2c60b"),
];

/// What stands in `bin/` beside `ip`, and where the packages put it. On a system, Debian's
/// alternatives make the names of iptables.
const PROGRAMS: [(&str, &str); 9] = [
    ("dockerd", "usr/sbin/dockerd"),
    ("docker-proxy", "usr/sbin/docker-proxy"),
    ("runc", "usr/sbin/runc"),
    ("docker", "usr/bin/docker"),
    ("containerd", "usr/bin/containerd"),
    ("containerd-shim-runc-v2", "usr/bin/containerd-shim-runc-v2"),
    ("iptables", "usr/sbin/xtables-nft-multi"),
    ("ip6tables", "usr/sbin/xtables-nft-multi"),
    ("iptables-restore", "usr/sbin/xtables-nft-multi"),
];

/// Unpacks the engine into `dir`, every program beside `bin/dockerd`.
pub(crate) fn unpack(dir: &Path) -> Result<(), Failure> {
    Debian::unpack_all(&PACKAGES, dir)?;
    for (name, file) in PROGRAMS {
        let link = dir.join("bin").join(name);
        if !dir.join(file).is_file() {
            return Err(Failure::new(
                format!("the packages hold no {file}"),
                "report this: the pinned versions are wrong",
            ));
        }
        // Relative, because the folder is renamed when it is whole.
        symlink(Path::new("..").join(file), &link).map_err(|error| {
            Failure::new(format!("{} cannot be made: {error}", link.display()), "run the same command again")
        })?;
    }
    Ok(())
}

/// Fails where tests could not use an engine: it needs namespaces and cgroups, hence root.
pub(crate) fn require_root() -> Result<(), Failure> {
    if !cfg!(target_os = "linux") {
        return Err(Failure::new("containers and network namespaces are Linux's", "run the tests on Linux"));
    }
    let next = "run as root";
    match Run::new("id", next).args(["-u"]).read()?.trim() {
        "0" => Ok(()),
        _ => Err(Failure::new("namespaces, which it is run in, need root", next)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::Pin;

    #[test]
    fn the_folder_carries_the_version_of_the_engine() {
        assert_eq!((PACKAGES[0].package, PACKAGES[0].version), ("docker.io", VERSION));
        assert!(PACKAGES.iter().all(|p| matches!(p.pin, Pin::Sha256(text) if text.len() == 64)));
    }
}
