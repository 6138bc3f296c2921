//! Commands of the documents for scripts, run as they are printed.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::{run, stderr};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A user with `peercache` in the search path, and nothing set.
struct User(TempDir);

impl User {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_peercache"), home.path().join("bin/peercache")).unwrap();
        Self(home)
    }

    /// Runs lines of a shell in the user's home.
    fn shell(&self, lines: &str) -> Output {
        let home = self.0.path();
        let search = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", lines]).current_dir(home).env_clear().env("HOME", home);
        command.env("PATH", format!("{}:{search}", home.join("bin").display()));
        run(command, b"")
    }
}

fn page(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// The first block of code in `language` behind `heading`.
fn block<'p>(page: &'p str, heading: &str, language: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).expect(heading);
    let (_, rest) = rest.split_once(&format!("```{language}\n")).expect(language);
    rest.split_once("```").expect("the end of the block").0
}

/// Runs what stands behind `$ ` and compares what it prints with what stands below.
fn runs_as_printed(block: &str) {
    let commands: Vec<_> = block.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    let printed: String =
        block.lines().filter(|line| !line.starts_with("$ ")).map(|line| format!("{line}\n")).collect();
    assert!(commands.len() > 1 && !printed.is_empty(), "{block}");
    let output = User::new().shell(&commands.join("\n"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), printed, "{}", stderr(&output));
}

#[test]
fn commands_of_the_readme_for_scripts_print_what_it_says() {
    runs_as_printed(block(&page("README.md"), "## 2. From a script", "console"));
}

#[test]
fn first_step_of_the_tutorial_for_scripts_prints_what_it_says() {
    runs_as_printed(block(&page("docs/start/script.md"), "## 1. Store and read", "console"));
}

#[test]
fn script_of_the_tutorial_computes_once() {
    let page = page("docs/start/script.md");
    let script = block(&page, "## 2. Compute on a miss", "sh");
    let user = User::new();
    // Stands for the expensive step, and counts how often it is taken.
    let cargo = "#!/bin/sh\necho run >> \"$HOME/runs\"\nmkdir -p vendor && echo code > vendor/lib.rs\n";
    let file = user.0.path().join("bin/cargo");
    std::fs::write(&file, cargo).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(user.0.path().join("Cargo.lock"), "version = 4\n").unwrap();
    for _ in 0..3 {
        let output = user.shell(&format!("rm -rf vendor deps.tar\n{script}\ntar tf deps.tar"));
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "vendor/\nvendor/lib.rs\n");
    }
    assert_eq!(std::fs::read_to_string(user.0.path().join("runs")).unwrap(), "run\n");
}
