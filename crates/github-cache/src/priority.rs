//! What a client says about the urgency of a request (RFC 9218).

use http::{HeaderMap, HeaderName};

use crate::cache_control::list_items;

const PRIORITY: HeaderName = HeaderName::from_static("priority");

/// Whether a request is of the highest urgency: `Priority: u=0`. The last member of that name
/// counts (RFC 8941, section 3.2), and what is no number of one digit says nothing.
pub(crate) fn is_urgent(headers: &HeaderMap) -> bool {
    let mut urgent = false;
    for value in headers.get_all(PRIORITY) {
        for item in list_items(value.as_bytes()) {
            if let Some(urgency) = item.strip_prefix(b"u=") {
                let number = urgency.split(|byte| *byte == b';').next().unwrap_or_default();
                urgent = number.trim_ascii() == b"0";
            }
        }
    }
    urgent
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn urgency_zero_is_urgent_and_nothing_else() {
        let urgent = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PRIORITY, HeaderValue::from_static(value));
            }
            is_urgent(&headers)
        };
        for yes in [&["u=0"][..], &["i, u=0"], &["u=0;x=1, i"], &["u=5", "u=0"]] {
            assert!(urgent(yes), "{yes:?}");
        }
        for no in [&[][..], &["u=1"], &["i"], &["u=00"], &["u=0, u=3"], &["xu=0"], &["u = 0"]] {
            assert!(!urgent(no), "{no:?}");
        }
    }
}
