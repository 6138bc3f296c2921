//! `Sealed` from outside: over a store that obeys, over one that lies, and with several secrets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod conformance;
mod rotation;
mod support;
mod tampering;
