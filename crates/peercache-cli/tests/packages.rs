//! The packages of `cargo xtask dist`, installed as users install them, without a network.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
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
fn command(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
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

/// Packs `binary` into `out`; false where the test has to be skipped.
fn pack(binary: impl AsRef<OsStr>, out: &Path) -> bool {
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
    read(pack.args(["dist", "--fast", "--binary"]).arg(binary).arg("--out").arg(out));
    true
}

/// `binary` without its symbols, which are half of it: they would be packed and copied many times.
fn stripped(binary: impl AsRef<OsStr>, dir: &Path) -> PathBuf {
    let small = dir.join("stripped");
    let strip = Command::new("strip").arg("-o").arg(&small).arg(binary.as_ref()).status();
    if strip.is_ok_and(|status| status.success()) { small } else { binary.as_ref().into() }
}

/// What is made once for all tests.
struct Packed {
    binary: PathBuf,
    packages: PathBuf,
}

/// The binary of this test, packed; nothing where the tests are to be skipped.
fn packed() -> Option<&'static Packed> {
    static PACKED: OnceLock<Option<Packed>> = OnceLock::new();
    let made = PACKED.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        // What an earlier run made.
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::create_dir_all(&dir).unwrap();
        let (binary, packages) = (stripped(BINARY, &dir), dir.join("dist"));
        pack(&binary, &packages).then_some(Packed { binary, packages })
    });
    made.as_ref()
}

/// The folder with the packages.
fn packages() -> Option<&'static Path> {
    packed().map(|packed| packed.packages.as_path())
}

/// The commands of the section `heading` of the page on ways to get it. Packing is done already,
/// and the demo has a test of its own.
fn commands_of_page(heading: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/how-to/install.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let commands: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .filter(|line| *line != "cargo xtask dist")
        .map(|line| line.replace("peercache demo", "peercache --version"))
        .collect();
    assert!(commands.len() > 1, "{heading}: {commands:?}");
    commands.join("\n")
}

/// A home with a checkout's `target/dist`, which is `packages`.
fn checkout(packages: &Path) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("target")).unwrap();
    std::os::unix::fs::symlink(packages, home.path().join("target/dist")).unwrap();
    home
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
    let Some(Packed { binary, packages: first }) = packed() else { return };
    let again = tempfile::tempdir().unwrap();
    assert!(pack(binary, again.path()));
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
    let Some(Packed { binary, packages }) = packed() else { return };
    let bill = std::fs::read(package(packages, ".cdx.json")).unwrap();
    let bill: serde_json::Value = serde_json::from_slice(&bill).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let sum = read(command("sha256sum", packages).arg(binary));
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

/// Runs the lines of the page that begin with `uvx`, where it is there.
fn run_uvx(lines: &str, home: &Path) {
    let named = std::env::var_os("PEERCACHE_TEST_UVX").filter(|path| !path.is_empty());
    let Some(program) = named.map(PathBuf::from) else {
        part::missing("PEERCACHE_TEST_UVX is not set", "run the tests with `cargo xtask test`");
        return;
    };
    let mut path = vec![program.parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let said = read(
        command("sh", home)
            .args(["-ec", lines])
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("UV_OFFLINE", "1"),
    );
    assert_eq!(said, format!("peercache {VERSION}\n"));
}

/// Whether python3 makes virtual environments; what is missing is said.
fn has_python(home: &Path) -> bool {
    match command("python3", home).args(["-m", "ensurepip", "--version"]).output() {
        Ok(checked) if checked.status.success() => return true,
        Ok(checked) => {
            let said = String::from_utf8_lossy(&checked.stderr).trim().to_owned();
            let what = format!("python3 makes no virtual environments with pip: {said}");
            part::missing(&what, "on Debian, install python3-venv");
        }
        Err(error) => {
            part::missing(&format!("python3 cannot be started: {error}"), "install Python 3.8 or later");
        }
    }
    false
}

#[test]
fn wheel_is_installed_as_the_page_says_and_its_command_runs_the_demo() {
    let Some(packages) = packages() else { return };
    let home = checkout(packages);
    if !has_python(home.path()) {
        return;
    }
    let commands = commands_of_page("pip and uvx");
    let (uvx, pip): (Vec<_>, Vec<_>) = commands.lines().partition(|line| line.starts_with("uvx "));
    let said = read(command("sh", home.path()).args(["-ec", &pip.join("\n")]));
    assert!(said.ends_with(&format!("peercache {VERSION}\n")), "{said}");
    run_uvx(&uvx.join("\n"), home.path());
    let environment = home.path().join("venv");
    assert!(environment.join("share/man/man1/peercache-serve.1").is_file());
    let python = || command(environment.join("bin/python"), home.path());
    let shown = read(python().args(["-m", "pip", "show", "peercache"]));
    assert!(shown.contains(&format!("Version: {VERSION}\n")), "{shown}");
    run_demo(&mut command(environment.join("bin/peercache"), home.path()), home.path());
}

/// Into a folder of the test's, as a user who owns `/usr/local`.
fn install_archive_as_the_page_says(packages: &Path) {
    let home = checkout(packages);
    std::fs::create_dir(home.path().join("local")).unwrap();
    let commands = commands_of_page("A static binary")
        .replace("sudo ", "")
        .replace("/usr/local", "\"$HOME/local\"")
        .replace("x86_64", std::env::consts::ARCH)
        // Shows a page until a key is pressed.
        .replace("man peercache-serve", "test -s \"$HOME/local/share/man/man1/peercache-serve.1\"");
    let said = read(command("sh", home.path()).args(["-ec", &commands]));
    assert!(said.contains("tar.gz: OK\n"), "{said}");
    let said = read(command(home.path().join("local/bin/peercache"), home.path()).arg("--version"));
    assert_eq!(said, format!("peercache {VERSION}\n"));
}

#[test]
fn packages_of_a_static_binary_are_for_every_linux() {
    let named = std::env::var_os("PEERCACHE_TEST_STATIC_BINARY").filter(|path| !path.is_empty());
    let Some(binary) = named else {
        part::missing("PEERCACHE_TEST_STATIC_BINARY is not set", "run the tests with `cargo xtask test`");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let binary = stripped(binary, scratch.path());
    let out = TempDir::new_in(scratch.path()).unwrap();
    if !pack(binary, out.path()) {
        return;
    }
    install_archive_as_the_page_says(out.path());
    if !has_python(out.path()) {
        return;
    }
    let arch = std::env::consts::ARCH;
    let wheel = out.path().join(format!(
        "peercache-{VERSION}-py3-none-manylinux_2_17_{arch}.manylinux2014_{arch}.musllinux_1_1_{arch}.whl"
    ));
    assert!(wheel.is_file(), "{:?}", files(out.path()).keys());
    let described = read(
        command("tar", out.path()).arg("-xzOf").arg(package(out.path(), ".tgz")).arg("package/package.json"),
    );
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert!(described["libc"].is_null() && described["os"][0] == "linux", "{described}");
    // pip takes it for machines like this one, and for those with musl.
    for platform in [format!("manylinux2014_{arch}"), format!("musllinux_1_1_{arch}")] {
        let target = out.path().join(&platform);
        read(
            command("python3", out.path())
                .args(["-m", "pip", "install", "--no-index", "--no-deps", "--only-binary=:all:"])
                .args(["--platform", &platform, "--target"])
                .args([&target, &wheel]),
        );
        let said = read(command(target.join("bin/peercache"), out.path()).arg("--version"));
        assert_eq!(said, format!("peercache {VERSION}\n"));
    }
}

/// Whether there is npm; what is missing is said.
fn has_npm(home: &Path) -> bool {
    if let Err(error) = command("npm", home).arg("--version").output() {
        part::missing(&format!("npm cannot be started: {error}"), "install Node.js 18 or later with npm");
        return false;
    }
    true
}

/// `program` in an environment where npm asks nothing of the network.
fn npm(program: &str, home: &Path) -> Command {
    let mut command = command(program, home);
    // It asks the registry for a newer npm, also when it is to be offline.
    for name in ["audit", "fund", "update_notifier"] {
        command.env(format!("npm_config_{name}"), "false");
    }
    // Where `--global` installs to.
    let global = home.join("global");
    command.env("npm_config_offline", "true").env("npm_config_prefix", &global);
    let mut path = vec![global.join("bin")];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    command.env("PATH", std::env::join_paths(path).unwrap());
    command
}

#[test]
fn npm_package_is_installed_as_the_page_says_and_npx_runs_the_demo() {
    let Some(packages) = packages() else { return };
    let project = checkout(packages);
    if !has_npm(project.path()) {
        return;
    }
    std::fs::write(project.path().join("package.json"), "{ \"private\": true }\n").unwrap();
    let said = read(npm("sh", project.path()).args(["-ec", &commands_of_page("npm and npx")]));
    // Once from the global installation and once by npx.
    assert_eq!(said.matches(&format!("peercache {VERSION}\n")).count(), 2, "{said}");
    assert!(project.path().join("global/bin/peercache").exists());
    assert!(project.path().join("global/share/man/man1/peercache-serve.1").exists());
    let npx = || {
        let mut npx = npm("npx", project.path());
        npx.arg("peercache");
        npx
    };
    // The exit code is that of the command.
    let refused = npx().arg("no-such-command").output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    run_demo(&mut npx(), project.path());
}

#[test]
fn signal_to_the_npm_launcher_ends_the_server() {
    let Some(packages) = packages() else { return };
    let home = tempfile::tempdir().unwrap();
    if !has_npm(home.path()) {
        return;
    }
    // As npm does, without its cache.
    read(command("tar", home.path()).arg("-xzf").arg(package(packages, ".tgz")));
    let launcher = home.path().join("package/bin/peercache.js");
    let mut serve = command(launcher, home.path());
    serve.env("CACHE_DIR", home.path().join("cache")).stdout(Stdio::piped());
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
