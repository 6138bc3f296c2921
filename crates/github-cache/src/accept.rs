//! The forms of `Accept` that mean GitHub's default JSON, as one.
//!
//! Clients name the same media type in many ways. GitHub's entity tags depend on the header as it
//! is sent, so every request with one of these forms is keyed and sent as [`DEFAULT`].

use http::HeaderMap;
use http::header::{ACCEPT, HeaderValue};

use crate::cache_control::list_items;

/// What is sent for every form that means the default.
pub(crate) const DEFAULT: HeaderValue = HeaderValue::from_static("application/vnd.github+json");

/// The media ranges that GitHub answers with its default JSON.
const SYNONYMS: [&str; 4] =
    ["*/*", "application/json", "application/vnd.github+json", "application/vnd.github.v3+json"];

/// Replaces `Accept` by [`DEFAULT`] where it is absent or names nothing but synonyms of the
/// default.
pub(crate) fn make_canonical(headers: &mut HeaderMap) {
    let is_default = headers.get_all(ACCEPT).iter().all(|value| list_items(value.as_bytes()).all(is_synonym));
    if is_default {
        headers.insert(ACCEPT, DEFAULT);
    }
}

/// Whether a media range means the default JSON. Parameters are `q` and `charset`; any other
/// selects.
fn is_synonym(range: &[u8]) -> bool {
    let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().unwrap_or_default();
    SYNONYMS.iter().any(|synonym| name.eq_ignore_ascii_case(synonym.as_bytes()))
        && parts.all(|parameter| {
            let parameter = parameter.to_ascii_lowercase();
            parameter == b"charset=utf-8" || parameter.starts_with(b"q=") && parameter != b"q=0"
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(values: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        make_canonical(&mut headers);
        headers.get_all(ACCEPT).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn forms_of_the_default_become_one() {
        let default = vec![DEFAULT.to_str().unwrap().to_owned()];
        assert_eq!(canonical(&[]), default);
        for form in [
            "*/*",
            "application/json",
            "application/vnd.github+json",
            "Application/vnd.github.v3+JSON; charset=utf-8",
            "application/json, */*;q=0.5",
            "",
        ] {
            assert_eq!(canonical(&[form]), default, "{form}");
        }
        assert_eq!(canonical(&["application/json", "*/*"]), default);
    }

    #[test]
    fn forms_that_select_something_else_stay() {
        for form in [
            "application/vnd.github.raw+json",
            "application/vnd.github.v3.full+json",
            "application/vnd.github.machine-man-preview+json, */*",
            "application/octet-stream",
            "application/json;q=0",
            "application/json;version=2",
            "text/html, */*",
        ] {
            assert_eq!(canonical(&[form]), [form], "{form}");
        }
    }
}
