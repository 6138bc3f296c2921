//! The binary as its users meet it: real processes, real sockets, the real `gh`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed unwrap is a failed test")]

mod action;
mod build_cache;
mod clocks;
mod completions;
mod concurrency;
mod config;
mod demo;
mod doctor;
mod documents;
mod entries;
mod errors;
mod exec;
mod explain;
mod files;
mod flood;
mod gh;
mod http;
mod keygen;
mod machine;
mod monitor;
#[path = "../shared/part.rs"]
mod part;
mod peers;
mod restart;
mod rights;
mod s3;
mod serve;
mod stampede;
mod support;
