//! Clients as programs have them, in front of the binary: go-github, `@octokit/rest`,
//! `@actions/github`, and sccache.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed unwrap is a failed test")]

mod api;
mod compiler;
mod origin;
#[path = "../shared/part.rs"]
mod part;
mod server;
