//! The packages of `cargo xtask dist`, installed as users install them, without a network.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

#[path = "shared/part.rs"]
mod part;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const BINARY: &str = env!("CARGO_BIN_EXE_peercache");

/// `program` with the search path of the tests and a home of its own, and nothing else set.
fn command(program: impl AsRef<std::ffi::OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    // npm asks the registry for a newer npm, also when it is told to be offline.
    command.env("npm_config_update_notifier", "false");
    command.current_dir(home).stdin(Stdio::null());
    command
}

/// What `command` prints; it has to succeed.
fn read(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}: {printed}{said}", output.status);
    printed.into_owned()
}

/// Packs the binary of this test into `out`; false where the test has to be skipped.
fn pack(out: &Path) -> bool {
    if !cfg!(target_os = "linux") {
        part::missing("packages are made for Linux", "run the tests on Linux");
        return false;
    }
    let Some(xtask) = std::env::var_os("PEERCACHE_TEST_XTASK").filter(|path| !path.is_empty()) else {
        part::missing("PEERCACHE_TEST_XTASK is not set", "run the tests with `cargo xtask test`");
        return false;
    };
    let mut pack = Command::new(xtask);
    // Cargo describes this package to us, and xtask would take it for its own.
    pack.env_remove("CARGO_MANIFEST_DIR").stdin(Stdio::null());
    read(pack.args(["dist", "--fast", "--binary", BINARY, "--out"]).arg(out));
    true
}

/// The folder with the packages, made once for all tests; nothing where they are to be skipped.
fn packages() -> Option<&'static Path> {
    static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = PACKAGES.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        // Those of an earlier run.
        if out.exists() {
            std::fs::remove_dir_all(&out).unwrap();
        }
        pack(&out).then_some(out)
    });
    made.as_deref()
}

/// Files of a folder by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect()
}

/// The package in `dir` whose name ends like this.
fn package(dir: &Path, end: &str) -> PathBuf {
    let mut found = files(dir).into_keys().filter(|name| name.ends_with(end));
    let name = found.next().unwrap_or_else(|| panic!("there is no *{end}"));
    assert_eq!(found.next(), None);
    dir.join(name)
}

/// Runs a small fleet of the demo with an installed command.
fn run_demo(installed: &mut Command, home: &Path) {
    let corpus = home.join("corpus.jsonl");
    peercache_fakehub::Corpus::generated(1).write(std::fs::File::create(&corpus).unwrap()).unwrap();
    let demo = ["--json", "demo", "--jobs", "3", "--seconds", "5", "--corpus", corpus.to_str().unwrap()];
    let results: serde_json::Value = serde_json::from_str(&read(installed.args(demo))).unwrap();
    assert_eq!(results["jobs"], 3, "{results}");
    assert_eq!((&results["with"]["leaks"], &results["with"]["wrong"]), (&0.into(), &0.into()), "{results}");
    let charged = |side: &str| results[side]["charged"].as_u64().unwrap();
    assert!(charged("with") < charged("without"), "{results}");
}

#[test]
fn packages_of_one_binary_are_the_same_bytes_twice_and_match_their_checksums() {
    let Some(first) = packages() else { return };
    let again = tempfile::tempdir().unwrap();
    assert!(pack(again.path()));
    let (first_files, again_files) = (files(first), files(again.path()));
    let names: Vec<_> = first_files.keys().collect();
    assert_eq!(names, again_files.keys().collect::<Vec<_>>());
    for (name, bytes) in &first_files {
        assert!(*bytes == again_files[name], "{name} is not the same twice");
    }
    // An archive, a wheel, an npm package and a bill of materials.
    assert_eq!(names.len(), 5, "{names:?}");
    let checked = read(command("sha256sum", first).args(["--check", "--strict", "SHA256SUMS"]));
    assert_eq!(checked.matches(": OK\n").count(), 4, "{checked}");
}

#[test]
fn unpacked_archive_has_a_command_that_runs_with_its_pages_and_completions() {
    let Some(packages) = packages() else { return };
    let prefix = tempfile::tempdir().unwrap();
    read(
        command("tar", prefix.path())
            .args(["--strip-components=1", "-xzf"])
            .arg(package(packages, ".tar.gz")),
    );
    let said = read(command(prefix.path().join("bin/peercache"), prefix.path()).arg("--version"));
    assert_eq!(said, format!("peercache {VERSION}\n"));
    for file in [
        "share/man/man1/peercache.1",
        "share/man/man1/peercache-serve.1",
        "share/man/man1/peercache-s3-lifecycle.1",
        "share/bash-completion/completions/peercache",
        "share/fish/vendor_completions.d/peercache.fish",
        "share/zsh/site-functions/_peercache",
        "share/doc/peercache/README.md",
        "share/doc/peercache/LICENSE-APACHE",
        "share/doc/peercache/LICENSE-MIT",
    ] {
        assert!(prefix.path().join(file).metadata().unwrap().len() > 500, "{file}");
    }
}

#[test]
fn bill_of_materials_names_what_is_linked_with_licence_and_checksum() {
    let Some(packages) = packages() else { return };
    let bill = std::fs::read(package(packages, ".cdx.json")).unwrap();
    let bill: serde_json::Value = serde_json::from_slice(&bill).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let sum = read(command("sha256sum", packages).arg(BINARY));
    assert_eq!(bill["metadata"]["component"]["hashes"][0]["content"], sum.split(' ').next().unwrap());
    let components = bill["components"].as_array().unwrap();
    let named = |name: &str| components.iter().find(|component| component["name"] == name);
    for name in ["libp2p", "aws-sdk-s3", "rusqlite", "tokio"] {
        let component = named(name).unwrap_or_else(|| panic!("{name} is not in the bill"));
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        assert_eq!(component["hashes"][0]["content"].as_str().unwrap().len(), 64, "{component}");
    }
    assert!(named("peercache-github").is_some() && named("peercache-testkit").is_none());
    assert!(named("insta").is_none(), "what tests alone need is not in the binary");
    // Whatever comes from the registry has a checksum.
    let ours = |name: &str| name.starts_with("peercache");
    for component in components.iter().filter(|component| !ours(component["name"].as_str().unwrap())) {
        assert!(component["hashes"].is_array(), "{component}");
    }
}

#[test]
fn wheel_is_installed_without_an_index_and_its_command_runs_the_demo() {
    let Some(packages) = packages() else { return };
    let home = tempfile::tempdir().unwrap();
    let environment = home.path().join("venv");
    match command("python3", home.path()).args(["-m", "venv"]).arg(&environment).output() {
        Ok(made) if made.status.success() => {}
        Ok(made) => {
            let said = String::from_utf8_lossy(&made.stdout).trim().to_owned();
            part::missing(
                &format!("python3 makes no virtual environment: {said}"),
                "on Debian, install python3-venv",
            );
            return;
        }
        Err(error) => {
            part::missing(&format!("python3 cannot be started: {error}"), "install Python 3.8 or later");
            return;
        }
    }
    read(
        command(environment.join("bin/python"), home.path())
            .args(["-m", "pip", "install", "--no-index", "--disable-pip-version-check"])
            .arg(package(packages, ".whl")),
    );
    let installed = || command(environment.join("bin/peercache"), home.path());
    assert_eq!(read(installed().arg("--version")), format!("peercache {VERSION}\n"));
    assert!(environment.join("share/man/man1/peercache-serve.1").is_file());
    let shown =
        read(command(environment.join("bin/python"), home.path()).args(["-m", "pip", "show", "peercache"]));
    assert!(shown.contains(&format!("Version: {VERSION}\n")), "{shown}");
    run_demo(&mut installed(), home.path());
}

/// A project with the npm package, installed without a network; nothing where there is no npm.
fn npm_project(packages: &Path) -> Option<TempDir> {
    let home = tempfile::tempdir().unwrap();
    if let Err(error) = command("npm", home.path()).arg("--version").output() {
        part::missing(&format!("npm cannot be started: {error}"), "install Node.js 18 or later with npm");
        return None;
    }
    std::fs::write(home.path().join("package.json"), "{ \"private\": true }\n").unwrap();
    read(
        command("npm", home.path())
            .args(["install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts"])
            .arg(package(packages, ".tgz")),
    );
    Some(home)
}

#[test]
fn npm_package_is_installed_offline_and_npx_runs_the_demo() {
    let Some(packages) = packages() else { return };
    let Some(project) = npm_project(packages) else { return };
    let npx = || {
        let mut npx = command("npx", project.path());
        npx.args(["--offline", "--no-install", "peercache"]);
        npx
    };
    assert_eq!(read(npx().arg("--version")), format!("peercache {VERSION}\n"));
    // The exit code is that of the command.
    let refused = npx().arg("no-such-command").output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    run_demo(&mut npx(), project.path());
}

#[test]
fn signal_to_the_npm_launcher_ends_the_server() {
    let Some(packages) = packages() else { return };
    let Some(project) = npm_project(packages) else { return };
    let launcher = project.path().join("node_modules/.bin/peercache");
    let mut serve = command(launcher, project.path());
    serve.env("CACHE_DIR", project.path().join("cache")).stdout(Stdio::piped());
    let mut serve = serve.args(["serve", "--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    let listens = lines.by_ref().map(Result::unwrap).any(|line| line.contains("http://"));
    let pid = rustix::process::Pid::from_raw(serve.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // Standard output is closed by the last process that has it: the server itself.
    lines.for_each(drop);
    assert!(listens);
    assert_eq!(serve.wait().unwrap().code(), Some(0));
}
