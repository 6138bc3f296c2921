//! What tests use beyond the toolchain, as `cargo xtask test` hands it over.

/// Says that a test is skipped, or fails it where everything is required.
pub(crate) fn missing(what: &str, install: &str) {
    let required = std::env::var_os("PEERCACHE_TEST_REQUIRE").is_some_and(|value| value == "all");
    assert!(!required, "{what} and nothing stands in for it; {install}");
    eprintln!("skipped: {what}; {install}");
}
