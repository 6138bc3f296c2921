//! Fleets as their users run them: containers on a real Docker engine, and hosts behind address
//! translation.
//!
//! Everything happens in namespaces that the test made. Where no engine can be had, namespaces
//! stand in for containers, and the tests say so.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed unwrap is a failed test")]

mod command;
mod cut_off;
mod doctor;
mod engine;
mod fixtures;
mod fleet;
mod image;
mod job;
mod lan;
mod layouts;
mod means;
mod member;
mod multicast;
mod namespace;
mod nat;
mod node;
#[path = "../shared/part.rs"]
mod part;
mod tools;
