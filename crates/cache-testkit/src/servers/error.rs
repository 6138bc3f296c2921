//! What can go wrong while a server is started or asked.

use std::io;

/// A server could not be started, or did not do what a test needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Its program is not there, and `PEERCACHE_TEST_REQUIRE=all` forbids to skip.
    #[error("{program} is missing and nothing stands in for it; {install}")]
    Missing {
        /// The program.
        program: &'static str,
        /// How to have it.
        install: &'static str,
    },
    /// A variable names a file that does not exist: a typing error is not a missing part.
    #[error("{variable} names {value}, and there is no such file; correct it or unset it")]
    Named {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// It ended, or did not answer in time, each time that it was started.
    #[error("{program} did not start: {why}; the end of its log:\n{log}")]
    Start {
        /// The program.
        program: &'static str,
        /// What was seen.
        why: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// It answered something else than what setting it up needs.
    #[error("{method} {path}: the server answered {status}")]
    Refused {
        /// The method.
        method: http::Method,
        /// The path.
        path: String,
        /// The status.
        status: u16,
    },
    /// It could not be reached, or spoke no HTTP.
    #[error("the server cannot be asked: {0}")]
    Http(#[from] hyper::Error),
    /// A file, a port or a process could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl ServerError {
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
