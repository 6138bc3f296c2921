//! The command `peercache` without shared libraries: it runs on any Linux, in images FROM scratch
//! too.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::run::{Run, checkout};

/// The target whose standard library can be linked into the binary.
#[cfg(target_arch = "aarch64")]
const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The target whose standard library can be linked into the binary.
#[cfg(not(target_arch = "aarch64"))]
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    /// For the images of tests, from the objects of a plain `cargo build`: without the demo and its
    /// origin, as images have it.
    Tests { offline: bool },
    /// What is packed: optimised, with everything that the command can do.
    Dist,
}

/// Builds it for the images of tests; cargo knows when there is nothing to do.
pub(crate) fn for_tests(offline: bool) -> Result<PathBuf, Failure> {
    build(
        Build::Tests { offline },
        "name one of your own with PEERCACHE_TEST_STATIC_BINARY=/path/to/peercache",
    )
}

/// Builds it as it is packed.
pub(crate) fn for_dist() -> Result<PathBuf, Failure> {
    build(Build::Dist, "build it there, and pack it with `cargo xtask dist --binary FILE`")
}

/// Its objects are below the target folder under the name of the target, so the normal build stays,
/// and what runs on the build's side (macros, build scripts) is compiled once for both.
fn build(build: Build, elsewhere: &str) -> Result<PathBuf, Failure> {
    if !cfg!(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )) {
        return Err(Failure::new(
            format!("static binaries are made for {TARGET}, and this is another machine"),
            elsewhere,
        ));
    }
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", TARGET.to_uppercase().replace('-', "_"));
    let run = Run::cargo("look above for what the compiler said").args([
        "build",
        "--locked",
        "--package",
        "peercache-cli",
        "--bin",
        "peercache",
        "--target",
        TARGET,
    ]);
    let (run, folder) = match build {
        // Without the symbols of a debugger, the image is a quarter of the size.
        Build::Tests { offline } => {
            let run = run
                .args(["--no-default-features"])
                .env(&flags, "-C target-feature=+crt-static -C strip=debuginfo")
                .env("CARGO_PROFILE_DEV_DEBUG", "none");
            (if offline { run.args(["--offline"]) } else { run }, "debug")
        }
        Build::Dist => (run.args(["--profile", "dist"]).env(&flags, dist_flags()), "dist"),
    };
    run.succeed()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    let target = checkout().join(target.map_or_else(|| "target".into(), PathBuf::from));
    let file = target.join(TARGET).join(folder).join("peercache");
    if file.is_file() {
        return Ok(file);
    }
    Err(Failure::new(
        format!("the binary was built, and {} does not exist", file.display()),
        "unset build.target-dir in cargo's configuration, or set CARGO_TARGET_DIR to the same folder",
    ))
}

/// Static, and without the folders of the machine that builds it: panics print paths of sources.
fn dist_flags() -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    flags_without(&[(Some(checkout()), "/peercache"), (home, "/cargo")])
}

fn flags_without(folders: &[(Option<PathBuf>, &str)]) -> String {
    let mut flags = "-C target-feature=+crt-static".to_owned();
    for (folder, instead) in folders {
        let Some(folder) = folder else { continue };
        let folder = folder.display().to_string();
        // Cargo splits flags at blanks.
        if folder.contains(char::is_whitespace) {
            eprintln!("xtask: warning: the binary will name {folder}, since flags cannot hold blanks");
            continue;
        }
        flags.push_str(&format!(" --remap-path-prefix={folder}={instead}"));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_dist_build_hide_the_folders_of_this_machine() {
        let folder = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            flags_without(&[(folder("/home/me/peercache"), "/peercache"), (None, "/cargo")]),
            "-C target-feature=+crt-static --remap-path-prefix=/home/me/peercache=/peercache"
        );
        // A part of it would be taken for a file to compile.
        assert_eq!(flags_without(&[(folder("/my code"), "/x")]), "-C target-feature=+crt-static");
        assert!(dist_flags().starts_with("-C target-feature=+crt-static"));
    }
}
