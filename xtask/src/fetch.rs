//! How parts are fetched: through the ordinary client of each registry, then checked against a pin.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::integrity::Pin;
use crate::run::Run;
use crate::tools::Tools;

/// A package of the npm registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Npm {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    pub(crate) pin: Pin,
}

impl Npm {
    /// Fetches, checks and unpacks it; the folder that is returned holds the package's own files.
    pub(crate) fn install(self, tools: &Tools) -> Result<PathBuf, Failure> {
        let name = self.package.trim_start_matches('@').replace('/', "-");
        let dir = tools.install(&format!("{name}-{}", self.version), |dir| self.unpack(dir))?;
        Ok(dir.join("package"))
    }

    fn unpack(self, dir: &Path) -> Result<(), Failure> {
        self.unpack_only(dir, "package")
    }

    /// Fetches and checks it, and unpacks one file or folder of it into `dir`.
    pub(crate) fn unpack_only(self, dir: &Path, what: &str) -> Result<(), Failure> {
        // Few retries: without a network, a missing part is better known at once.
        Run::new("npm", "install npm, or connect to its registry")
            .args(["pack", "--silent", "--ignore-scripts", "--fetch-retries=1"])
            .args([format!("{}@{}", self.package, self.version)])
            .in_dir(dir)
            .read()?;
        let archive = only_file(dir, "", "tgz")?;
        self.pin.check_file(&archive)?;
        Run::new("tar", "install tar").args(["-xzf"]).args([&archive]).args([what]).in_dir(dir).succeed()?;
        discard(&archive)
    }
}

/// A binary package of Debian 12, for x86-64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Debian {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    pub(crate) pin: Pin,
}

impl Debian {
    /// A package by its name, version and digest (SHA-256 in hexadecimal).
    pub(crate) const fn new(package: &'static str, version: &'static str, sha256: &'static str) -> Self {
        Self { package, version, pin: Pin::Sha256(sha256) }
    }

    /// Fetches, checks and unpacks it into `dir`. Nothing is installed and no right is needed.
    pub(crate) fn unpack(self, dir: &Path) -> Result<(), Failure> {
        Self::unpack_all(&[self], dir)
    }

    /// As [`Debian::unpack`], for packages that need each other: one tree, fetched at once.
    pub(crate) fn unpack_all(packages: &[Self], dir: &Path) -> Result<(), Failure> {
        let names = packages.iter().map(|wanted| wanted.package).collect::<Vec<_>>().join(", ");
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err(Failure::new(
                format!("the pinned {names} is for Linux on x86-64, and this is another machine"),
                format!("install {names} in this system's own way"),
            ));
        }
        refresh_missing_lists()?;
        Run::new("apt-get", format!("this needs Debian 12; elsewhere, install {names} in your way"))
            .args(["--quiet=2", "-o", "APT::Sandbox::User=", "download"])
            .args(packages.iter().map(|wanted| format!("{}={}", wanted.package, wanted.version)))
            .in_dir(dir)
            .succeed()?;
        for wanted in packages {
            let archive = only_file(dir, &format!("{}_", wanted.package), "deb")?;
            wanted.pin.check_file(&archive)?;
            Run::new("dpkg", "install dpkg").args(["-x"]).args([&archive, dir]).succeed()?;
            discard(&archive)?;
        }
        Ok(())
    }
}

/// Fresh containers come without package lists. Only root can fetch them, so others are told to.
fn refresh_missing_lists() -> Result<(), Failure> {
    let lists = match fs::read_dir("/var/lib/apt/lists") {
        Ok(lists) => lists,
        // Not a Debian: the download that follows says so.
        Err(_) => return Ok(()),
    };
    let present = lists.flatten().any(|list| list.file_name().to_string_lossy().contains("_Packages"));
    if present {
        return Ok(());
    }
    let next = "run `apt-get update` as root";
    if Run::new("id", next).args(["-u"]).read()?.trim() != "0" {
        return Err(Failure::new("there are no package lists", next));
    }
    Run::new("apt-get", next).args(["--quiet=2", "update"]).succeed()
}

/// Writes the exchanges of an unpacked fixtures package as JSON lines.
pub(crate) fn convert(fixtures: &Path, out: &Path) -> Result<(), Failure> {
    Run::cargo("look above for what the compiler or fakehub said")
        .args(["run", "--quiet", "--locked", "--package", "peercache-fakehub", "--bin", "fakehub", "--"])
        .args(["--octokit-fixtures"])
        .args([fixtures])
        .args(["--write-corpus"])
        .args([out])
        .succeed()?;
    match fs::metadata(out) {
        Ok(metadata) if metadata.len() > 0 => Ok(()),
        _ => Err(Failure::new(
            "fakehub converted the fixtures into nothing",
            "report this with its output above",
        )),
    }
}

/// Compiles a cargo tool at this version into `dir`.
pub(crate) fn cargo_install(name: &str, version: &str, dir: &Path) -> Result<(), Failure> {
    Run::cargo("connect to a crate registry and run it again")
        .args(["install", "--locked", "--root"])
        .args([dir])
        .args([format!("{name}@{version}")])
        .succeed()
}

/// The one file in `dir` whose name starts and ends like this.
pub(crate) fn only_file(dir: &Path, start: &str, extension: &str) -> Result<PathBuf, Failure> {
    let failed = |what: String| Failure::new(what, "run the same command again");
    let entries =
        fs::read_dir(dir).map_err(|error| failed(format!("{} cannot be read: {error}", dir.display())))?;
    let mut files = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == extension));
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file),
        (None, _) => Err(failed(format!("the download left no {start}*.{extension} file"))),
        (Some(_), Some(_)) => {
            Err(failed(format!("the download left more than one {start}*.{extension} file")))
        }
    }
}

pub(crate) fn discard(file: &Path) -> Result<(), Failure> {
    fs::remove_file(file).map_err(|error| {
        Failure::new(format!("{} cannot be removed: {error}", file.display()), "run the same command again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_download_is_expected() {
        let dir = tempfile::tempdir().unwrap();
        let message = |result: Result<PathBuf, Failure>| result.unwrap_err().to_string();
        assert_eq!(
            message(only_file(dir.path(), "gh_", "deb")),
            "the download left no gh_*.deb file; run the same command again"
        );
        let file = dir.path().join("gh_1.deb");
        fs::write(&file, "").unwrap();
        fs::write(dir.path().join("gh_1.txt"), "").unwrap();
        fs::write(dir.path().join("other_1.deb"), "").unwrap();
        assert_eq!(only_file(dir.path(), "gh_", "deb"), Ok(file));
        fs::write(dir.path().join("gh_2.deb"), "").unwrap();
        assert!(
            message(only_file(dir.path(), "gh_", "deb"))
                .starts_with("the download left more than one gh_*.deb file")
        );
    }
}
