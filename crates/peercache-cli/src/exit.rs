//! Exit codes, and how a failure is told.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::process::ExitCode;

use peercache::config::redacted;
use serde_json::json;

use crate::plain;

/// How a command that worked ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Ok,
    /// 1: there is no such entry, or a check failed.
    Miss,
    /// That of the command that was run.
    Code(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ok => Self::SUCCESS,
            Exit::Miss => Self::from(1),
            Exit::Code(code) => Self::from(code),
        }
    }
}

/// Why a command did not do what it was asked. One line, without credentials.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// 2: a setting or an argument is wrong; only the user can mend it.
    pub(crate) fn config(message: impl std::fmt::Display) -> Self {
        Self::new(2, message)
    }

    /// 3: it should have worked and did not.
    pub(crate) fn failed(message: impl std::fmt::Display) -> Self {
        Self::new(3, message)
    }

    /// What users gave may hold a password or a token, whichever message repeats it.
    fn new(code: u8, message: impl std::fmt::Display) -> Self {
        Self { code, message: plain::on_one_line(&redacted(&message.to_string())) }
    }

    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if json {
            plain::error_line(json!({ "error": self.message, "exit_code": self.code }));
        } else {
            plain::error_line(format_args!("peercache: {}", self.message));
        }
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<peercache::ConfigError> for Failure {
    fn from(error: peercache::ConfigError) -> Self {
        Self::config(error)
    }
}

/// Help and version go to standard output with code 0; a wrong argument is code 2. `arguments` are
/// those that could not be parsed: with `--json` among them, the error is JSON like every other.
pub(crate) fn from_clap(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if !error.use_stderr() {
        // If standard output is gone there is nobody left to tell.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // What stands behind `--` is another command's.
    if arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json") {
        return Failure::config(without_usage(&error.render().to_string())).report(true);
    }
    let text = match stderr().is_terminal() {
        true => error.render().ansi().to_string(),
        false => error.render().to_string(),
    };
    let _ = stderr().lock().write_all(redacted(&text).as_bytes());
    ExitCode::from(2)
}

/// What is wrong and what is meant, on one line, of an error that clap wrote for a terminal.
fn without_usage(text: &str) -> String {
    let is_usage = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more information");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<_> = lines.take_while(|line| !is_usage(line)).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_the_command_line_is_one_line_without_the_usage() {
        let text = "error: unexpected argument '--frob' found\n\n  tip: a similar argument exists: '--form'\n\n\
                    Usage: peercache get [OPTIONS] <KEY>\n\nFor more information, try '--help'.\n";
        let line = "unexpected argument '--frob' found tip: a similar argument exists: '--form'";
        assert_eq!(without_usage(text), line);
    }
}
