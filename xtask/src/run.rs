//! Runs other programs: each is printed before it runs, and none of them can wait for the keyboard.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::failure::Failure;

/// One external command.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    /// What to do when it fails.
    next: String,
}

impl Run {
    /// A command that starts in the checkout, and the advice for when it fails.
    pub(crate) fn new(program: impl AsRef<OsStr>, next: impl Into<String>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(checkout());
        Self { command, next: next.into() }
    }

    /// The cargo that runs us.
    pub(crate) fn cargo(next: impl Into<String>) -> Self {
        Self::as_typed(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), next)
    }

    /// A program that works on the workspace as if typed in a shell, and not started by `cargo
    /// run`.
    pub(crate) fn as_typed(program: impl AsRef<OsStr>, next: impl Into<String>) -> Self {
        let mut run = Self::new(program, next);
        // `cargo run` describes our own package to us. Build scripts that watch these variables
        // would take the difference to a plain `cargo test` for a change, and build themselves
        // anew.
        for (name, _) in std::env::vars_os() {
            if describes_this_package(&name.to_string_lossy()) {
                run.command.env_remove(name);
            }
        }
        run
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn in_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it and reports how it ended; only a program that cannot be started is a failure.
    pub(crate) fn status(mut self) -> Result<ExitStatus, Failure> {
        eprintln!("$ {}", self.shown());
        self.command.status().map_err(|error| self.not_started(&error))
    }

    /// Runs it; anything but success is a failure.
    pub(crate) fn succeed(self) -> Result<(), Failure> {
        let (shown, next) = (self.shown(), self.next.clone());
        let status = self.status()?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(format!("`{shown}` ended with {status}"), next))
        }
    }

    /// Runs it and returns what it wrote to its standard output; anything but success is a failure.
    pub(crate) fn read(mut self) -> Result<String, Failure> {
        let shown = self.shown();
        eprintln!("$ {shown}");
        let output =
            self.command.stderr(Stdio::inherit()).output().map_err(|error| self.not_started(&error))?;
        if !output.status.success() {
            return Err(Failure::new(format!("`{shown}` ended with {}", output.status), self.next));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| Failure::new(format!("`{shown}` did not write UTF-8"), self.next.clone()))
    }

    fn not_started(&self, error: &std::io::Error) -> Failure {
        let program = self.command.get_program().to_string_lossy();
        Failure::new(format!("`{program}` cannot be started: {error}"), self.next.clone())
    }

    /// The command as a reader would type it, variables in front.
    fn shown(&self) -> String {
        let set = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let variables = set.map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(value)));
        let program = Path::new(self.command.get_program()).file_name().unwrap_or_default();
        let words = std::iter::once(program).chain(self.command.get_args()).map(quoted);
        variables.chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// The first file called `program` in the search path.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, program)
}

fn find_in(path: &OsString, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The root of the checkout: the folder above our own package.
pub(crate) fn checkout() -> PathBuf {
    let ours = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    ours.parent().map(Path::to_owned).unwrap_or(ours)
}

fn describes_this_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| variable.starts_with(start))
        || ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"].contains(&variable)
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let run =
            Run::new("/some/where/tool", "").args(["a b", "--x=1", "it's", ""]).env("FLAG", "-D warnings");
        assert_eq!(run.shown(), r"FLAG='-D warnings' tool 'a b' --x=1 'it'\''s' ''");
    }

    #[test]
    fn failing_and_missing_programs_say_what_to_do() {
        let failed = Run::new("false", "look above").succeed().unwrap_err().to_string();
        assert!(failed.starts_with("`false` ended with exit status: 1; look above"), "{failed}");
        let missing = Run::new("no-such-program-here", "install it").succeed().unwrap_err().to_string();
        assert!(missing.starts_with("`no-such-program-here` cannot be started"), "{missing}");
        assert!(missing.ends_with("; install it"), "{missing}");
    }

    #[test]
    fn output_is_read_whole() {
        assert_eq!(Run::new("printf", "").args([r"one\ntwo"]).read().unwrap(), "one\ntwo");
        assert!(Run::new("false", "").read().is_err());
    }

    #[test]
    fn what_cargo_tells_about_us_is_not_passed_on() {
        assert!(describes_this_package("CARGO_PKG_NAME") && describes_this_package("CARGO_MANIFEST_DIR"));
        assert!(!describes_this_package("CARGO_TARGET_DIR") && !describes_this_package("CARGO_HOME"));
    }

    #[test]
    fn the_search_path_is_searched_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        for folder in [&first, &second] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("tool"), "").unwrap();
        }
        let path = std::env::join_paths([&first, &second]).unwrap();
        assert_eq!(find_in(&path, "tool"), Some(first.join("tool")));
        assert_eq!(find_in(&path, "other"), None);
    }
}
