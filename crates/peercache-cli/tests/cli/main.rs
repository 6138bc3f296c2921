//! The binary as its users meet it: real processes, real sockets, the real `gh`.

mod completions;
mod concurrency;
mod config;
mod demo;
mod entries;
mod errors;
mod explain;
mod gh;
mod http;
mod keygen;
mod serve;
mod support;
