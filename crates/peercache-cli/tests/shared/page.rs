//! The shell commands of a page of the documentation, as a test runs them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A page of `docs/`.
pub(crate) fn page(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    std::fs::read_to_string(root.join("docs").join(name)).unwrap()
}

/// The blocks of shell commands of a page.
pub(crate) fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in page.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(text), line) => writeln!(text, "{line}").unwrap(),
            (None, _) => {}
        }
    }
    blocks
}

/// A folder for the programs of a page, with `peercache` in it.
pub(crate) fn programs(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_peercache"), bin.join("peercache")).unwrap();
    bin
}

/// Runs a script with the programs of `bin` and nothing of this environment but the search path.
pub(crate) fn run(script: &str, dir: &Path, bin: &Path) -> Output {
    let mut path = vec![bin.to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", dir)
        .output()
        .unwrap()
}
