//! The binary as its users meet it: real processes, real sockets, the real `gh`.

mod completions;
mod concurrency;
mod demo;
mod entries;
mod errors;
mod gh;
mod http;
mod serve;
mod support;
