//! The stored format, held from outside: golden files, damage of every kind, bounds, and the page
//! that describes it (`docs/reference/format.md`).
#![allow(clippy::unwrap_used, reason = "this is a test: a panic is the report")]

mod bounds;
mod damage;
mod forge;
mod golden;
mod metadata;
mod page;
mod roundtrip;
mod samples;
mod texts;
