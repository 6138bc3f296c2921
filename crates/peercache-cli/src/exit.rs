//! Exit codes, and how a failure is told.

use std::process::ExitCode;

use serde_json::json;

/// How a command that worked ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Ok,
    /// 1: there is no such entry.
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

/// Why a command did not do what it was asked. One line.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// 2: a setting or an argument is wrong; only the user can mend it.
    pub(crate) fn config(message: impl std::fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// 3: it should have worked and did not.
    pub(crate) fn failed(message: impl std::fmt::Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }

    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if json {
            eprintln!("{}", json!({ "error": self.message, "exit_code": self.code }));
        } else {
            eprintln!("peercache: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

impl From<peercache::ConfigError> for Failure {
    fn from(error: peercache::ConfigError) -> Self {
        Self::config(error)
    }
}

/// Help and version go to standard output with code 0; a wrong argument is code 2.
pub(crate) fn from_clap(error: &clap::Error) -> ExitCode {
    // If standard output is gone there is nobody left to tell.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}
