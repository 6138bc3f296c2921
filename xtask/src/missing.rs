//! What our own tests need and may lack.

/// Says that a test is skipped, or fails it where everything is required.
pub(crate) fn missing(what: &str, install: &str) {
    let required = std::env::var_os("PEERCACHE_TEST_REQUIRE").is_some_and(|value| value == "all");
    assert!(!required, "{what}; {install}");
    eprintln!("skipped: {what}; {install}");
}
