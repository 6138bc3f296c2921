//! A GitHub-like origin.
